"""Recordings of events, as `EventDataset` bins them into the dense steps that a network reads.

A recording of a spiking sensor is a list of (time, channel) pairs. All recordings of a set are stored here one after the other
in flat arrays: a set of 12 million events is then four arrays, not 24 million Python objects, and a batch is cut out by slices.

An event takes 4 bytes for its time and 1 to 4 for its channel, depending on the number of channels: the 250 million events of
N-MNIST's training set are 1.5 GB.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Integer, Shaped

from rheobase.data.augment import Recording
from rheobase.data.dataset import check_labels, digest
from rheobase.data.recordings import Unit, as_row, check_channels, check_sensor, flat
from rheobase.errors import DataError

_ROWS = (
    ("times", "fiu", "numbers, the seconds of each event"),
    ("units", "iu", "integers, the channel of each event"),
    ("offsets", "iu", "integers, where each recording starts"),
    ("labels", "iu", "integers, one per recording"),
    ("speakers", "iu", "integers, one per recording"),
)
"""The arrays of `Events`: name, accepted kinds of type, description."""


@dataclass(frozen=True, eq=False)
class Events:
    """Labelled recordings of events, one after the other in flat arrays, checked when they are made.

    `Events.from_recordings` makes them from a list of recordings. Lists and tensors are accepted as arrays.

    Args:
        times: (events,) seconds, >= 0, ascending within each recording; kept as float32.
        units: (events,) the channel of each event, 0 to `channels - 1`; kept in the smallest unsigned type that holds them.
        offsets: (n + 1,) where each recording starts in `times` and `units`, and the end of the last.
        labels: (n,) the class of each recording, 0 to `len(classes) - 1`.
        channels: the number of channels.
        classes: the names of the classes; by default "0", "1", ... up to the largest label.
        speakers: (n,) who or what was recorded, an index into `speaker_names`; None if unknown.
        speaker_names: the names of the speakers.
        sensor: (polarities, height, width) if a camera made the events: channel = x + width * (y + height * polarity). None if
            channels have no position.
        simulated: whether the events are a simulation that stands in for a sensor's recordings of the same name. Results on
            such data must say so.
        source: the name of these events in error messages, such as the file that they came from.

    Raises:
        TypeError: if an argument is not an array, or has the wrong type: floating point numbers for `units`, for instance.
        DataError: if an argument does not hold what is described above; the message names the recording.

    Example:
        >>> events = Events(np.float32([0.0, 0.01, 0.005]), np.int32([0, 4, 2]), np.array([0, 2, 3]), np.array([1, 0]), 5)
        >>> len(events), events.classes, events.recording(0).units.tolist()
        (2, ('0', '1'), [0, 4])
    """

    times: Float[np.ndarray, " events"]
    units: Integer[np.ndarray, " units"]
    offsets: Integer[np.ndarray, " n_and_1"]
    labels: Integer[np.ndarray, " labels"]
    channels: int
    classes: tuple[str, ...] = ()
    speakers: Integer[np.ndarray, " speakers"] | None = None
    speaker_names: tuple[str, ...] = ()
    sensor: tuple[int, int, int] | None = None
    simulated: bool = False
    source: str = "events"

    def __post_init__(self) -> None:
        for name, kinds, expected in _ROWS:
            if (values := getattr(self, name)) is not None:
                object.__setattr__(self, name, as_row(values, kinds, f"{self.source}: {name}", expected))
        object.__setattr__(self, "offsets", self.offsets.astype(np.int64))
        labels, classes = check_labels(self.labels, self.classes, f"{self.source}: labels")
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "channels", check_channels(self.channels, f"{self.source}: channels"))
        if self.sensor is not None:
            object.__setattr__(self, "sensor", check_sensor(self.sensor, f"{self.source}: sensor"))
            if math.prod(self.sensor) != self.channels:
                raise DataError(
                    f"{self.source}: sensor: got {self.sensor} for {self.channels} channels, expected (polarities, height, "
                    "width) whose product they are"
                )
        if len(self.offsets) != len(labels) + 1:
            raise DataError(
                f"{self.source}: got {len(labels)} labels for {len(self.offsets) - 1} recordings, expected one for each"
            )
        ends_meet = self.offsets[0] == 0 and self.offsets[-1] == len(self.times) == len(self.units)
        if not ends_meet or (np.diff(self.offsets.astype(np.int64)) < 0).any():
            raise DataError(
                f"{self.source}: offsets go from {self.offsets[0]} to {self.offsets[-1]}, expected ascending from 0 to "
                f"the number of events, for {len(self.times)} times and {len(self.units)} units"
            )
        with np.errstate(over="ignore"):  # What float32 cannot represent becomes infinite, and is refused as such.
            times = self.times.astype(np.float32, copy=False)
        expected = "finite seconds from the start of the recording, 0 or more"
        self._refuse(~(np.isfinite(times) & (times >= 0)), "times", self.times, expected)
        self._refuse(
            (self.units < 0) | (self.units >= self.channels), "units", self.units, f"channels 0 to {self.channels - 1}"
        )
        falls = np.zeros(len(self.times), dtype=bool)
        np.less(times[1:], times[:-1], out=falls[1:])
        falls[self.offsets[:-1][self.offsets[:-1] < len(falls)]] = False
        self._refuse(falls, "times", self.times, "ascending times: the event before it is later")
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "units", self.units.astype(np.min_scalar_type(self.channels - 1), copy=False))
        if self.speakers is not None:
            speakers, names = check_labels(self.speakers, self.speaker_names, f"{self.source}: speakers")
            if len(speakers) != len(labels):
                raise DataError(f"{self.source}: got {len(speakers)} speakers for {len(labels)} recordings")
            object.__setattr__(self, "speakers", speakers)
            object.__setattr__(self, "speaker_names", names)

    def _refuse(self, bad: Shaped[np.ndarray, " events"], field: str, values: np.ndarray, expected: str) -> None:
        if bad.any():
            event = int(np.argmax(bad))
            sample = int(np.searchsorted(self.offsets, event, side="right")) - 1
            raise DataError(
                f"{self.source}: {field}: sample {sample} has {values[event]} at event {event - self.offsets[sample]}, "
                f"expected {expected}"
            )

    @classmethod
    def from_recordings(
        cls,
        recordings: Sequence[Any],
        labels: Any = None,
        *,
        unit: Unit,
        channels: int | None = None,
        sensor: Sequence[int] | None = None,
        classes: tuple[str, ...] = (),
        source: str = "recordings",
    ) -> "Events":
        """Make events from a list of recordings. Their events need not be in order: they are sorted by time.

        Args:
            recordings: one entry per recording, of lists, NumPy arrays or tensors: (times, units), with the channel of each
                event; or for a camera (times, x, y, polarity), x from the left, y from the top, polarity 0 or 1. Or structured
                arrays with the fields t and x (the channel), for a camera t, x, y and p, as in tonic.
            labels: (n,) the class of each recording, integers; None for regression targets: see `rheobase.data.TargetDataset`.
            unit: the unit of the times, which count from the start of the recording: "s", "ms" or "us" (microseconds, as most
                cameras).
            channels: the number of channels, for recordings of (times, units).
            sensor: (polarities, height, width), for recordings of a camera, such as (2, 128, 128); `channels` follows from it.
            classes: the names of the classes; by default "0", "1", ... up to the largest label.
            source: the name of these events in error messages.

        Raises:
            TypeError: if a recording is not a tuple of arrays, or an array has the wrong type: floating point x, for instance.
            ValueError: if `unit` is none of the three, or both or neither of `channels` and `sensor` are given.
            DataError: if a value is out of range, arrays of a recording differ in length, or labels are not one per recording;
                the message names the recording, the argument, what was passed and what was expected.

        Example:
            >>> recordings = [([0, 2500, 1000], [3, 0, 1]), ([], []), ([700], [2])]
            >>> events = Events.from_recordings(recordings, [0, 1, 1], unit="us", channels=4)
            >>> events.recording(0).units.tolist(), events.recording(0).times * 1000
            ([3, 1, 0], array([0. , 1. , 2.5], dtype=float32))
            >>> from rheobase.data import EventDataset
            >>> camera = Events.from_recordings([([5, 9], [3, 0], [0, 1], [True, False])], [0], unit="ms", sensor=(2, 2, 4))
            >>> EventDataset(camera, dt=0.005, steps=2, flatten=False)[0][0].nonzero().tolist()  # step, polarity, y, x
            [[1, 0, 1, 0], [1, 1, 0, 3]]
        """
        times, units, offsets, channels = flat(recordings, channels, sensor, unit, source)
        size = None if sensor is None else check_sensor(sensor, f"{source}: sensor")
        numbers = (
            "; for regression targets, leave out the labels, and pass the recordings, binned into steps, to "
            "rheobase.data.TargetDataset(recordings, y)"
        )
        if labels is None:
            labels, classes = np.zeros(len(offsets) - 1, np.int64), ("no label",)
        labels = as_row(labels, "iu", f"{source}: labels", f"integers, one per recording{numbers}")
        return cls(times, units, offsets, labels, channels, classes, sensor=size, source=source)

    def __len__(self) -> int:
        return len(self.labels)

    def recording(self, sample: int) -> Recording:
        """The events of one sample."""
        part = slice(self.offsets[sample], self.offsets[sample + 1])
        return Recording(self.times[part], self.units[part].astype(np.int32), self.channels, self.sensor)

    @cached_property
    def span(self) -> tuple[float, float, float]:
        """The times of the very first event, of the first after time 0, and of the last; zeros if there is none."""
        if len(self.times) == 0 or (last := float(self.times.max())) == 0:
            return 0.0, 0.0, 0.0
        after = self.times.min(where=self.times > 0, initial=np.inf)
        return float(self.times.min()), float(after), last

    @cached_property
    def digest(self) -> str:
        """A SHA-256 over the events, the labels and their names."""
        return digest(
            str((self.channels, self.classes)),
            *(self.times, self.units, self.offsets, self.labels),
        )


def concatenate(*parts: Events) -> Events:
    """The recordings of several sets as one, in order: for example to choose a speaker from training and test data alike.

    Raises:
        DataError: if the parts differ in channels, classes, speakers' names or sensor, or simulated events would be mixed
            with recordings; the message names the two.

    Example:
        >>> one = Events(np.float32([0.0]), np.int32([0]), np.array([0, 1]), np.array([0]), channels=4)
        >>> concatenate(one, one, one).offsets.tolist()
        [0, 1, 2, 3]
    """
    first = parts[0]
    for part in parts[1:]:
        for name in ("channels", "classes", "speaker_names", "sensor", "simulated"):
            if getattr(part, name) != getattr(first, name):
                raise DataError(
                    f"{part.source}: has {name} {getattr(part, name)}, expected {getattr(first, name)} as {first.source}"
                )
    starts = np.cumsum([0] + [len(part.times) for part in parts])
    speakers = [part.speakers for part in parts if part.speakers is not None]
    return replace(
        first,
        times=np.concatenate([part.times for part in parts]),
        units=np.concatenate([part.units for part in parts]),
        offsets=np.concatenate([[0], *(part.offsets[1:] + start for part, start in zip(parts, starts, strict=False))]),
        labels=np.concatenate([part.labels for part in parts]),
        speakers=np.concatenate(speakers) if speakers else None,
        source=" and ".join(part.source for part in parts),
    )
