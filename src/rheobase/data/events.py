"""Recordings of events, and the data set that bins them into the dense steps that a network reads.

A recording of a spiking sensor is a list of (time, channel) pairs. All recordings of a set lie here one after the other
in flat arrays: a set of 12 million events is then four arrays, not 24 million Python objects, a batch is cut out by
slices, and counted into the steps, time first, without a dense copy per sample.

An event takes 4 bytes for its time and 1 to 4 for its channel, as many as the number of channels needs: the 250 million
events of N-MNIST's training set are 1.5 GB.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int, Integer, Shaped
from torch import Tensor

from rheobase.data.augment import Augmentation, Recording
from rheobase.data.dataset import IndexedDataset, check_labels, check_seed, digest, generator
from rheobase.errors import DataError


@dataclass(frozen=True, eq=False)
class Events:
    """Labelled recordings of events, one after the other in flat arrays, checked when they are made.

    Args:
        times: (events,) seconds, >= 0, ascending within each recording; kept as float32.
        units: (events,) the channel of each event, 0 to `channels - 1`; kept in the smallest unsigned type that holds them.
        offsets: (n + 1,) where each recording starts in `times` and `units`, and the end of the last.
        labels: (n,) the class of each recording, 0 to `len(classes) - 1`.
        channels: the number of channels.
        classes: the names of the classes; by default "0", "1", ... up to the largest label.
        speakers: (n,) who or what was recorded, an index into `speaker_names`; None where a set does not tell.
        speaker_names: the names of the speakers.
        sensor: (polarities, height, width) where a camera made the events: channel = x + width * (y + height * polarity).
            None where channels have no place.
        simulated: whether the events are a simulation that stands in for a sensor's recordings of the same name. Who shows
            figures of such data says so beside them.
        source: what error messages call these events, such as the file that they came from.

    Raises:
        DataError: if an argument does not hold what is said above; the message names the recording.

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
        labels, classes = check_labels(self.labels, self.classes, f"{self.source}: labels")
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "classes", classes)
        if self.sensor is not None and math.prod(self.sensor) != self.channels:
            raise DataError(
                f"{self.source}: sensor: got {self.sensor} for {self.channels} channels, expected (polarities, height, width) "
                "whose product they are"
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
        with np.errstate(over="ignore"):  # What float32 cannot hold becomes infinite, and is refused as such.
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
        smallest = np.min_scalar_type(max(self.channels - 1, 0))
        object.__setattr__(self, "units", self.units.astype(smallest, copy=False))
        object.__setattr__(self, "offsets", self.offsets.astype(np.int64))
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

    def __len__(self) -> int:
        return len(self.labels)

    def recording(self, sample: int) -> Recording:
        """The events of one sample."""
        part = slice(self.offsets[sample], self.offsets[sample + 1])
        return Recording(self.times[part], self.units[part].astype(np.int32), self.channels)

    @cached_property
    def digest(self) -> str:
        """A SHA-256 over the events, the labels and their names."""
        return digest(
            str((self.channels, self.classes)),
            *(self.times, self.units, self.offsets, self.labels),
        )


def concatenate(*parts: Events) -> Events:
    """The recordings of several sets as one, in order: to choose a speaker from training and test data alike.

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


@dataclass(frozen=True, eq=False)
class EventDataset(IndexedDataset):
    """Recordings of events as dense counts: `steps` bins of `dt` seconds, `group` neighbouring channels summed.

    Events after the last step are left out. A time that lies within float32 rounding below the edge of two steps belongs
    to the later one, so that times on a grid of `dt` fall into the steps that they were made for.

    Args:
        events: the recordings.
        dt: seconds per step, > 0.
        steps: the number of time steps T, >= 1.
        group: neighbouring channels that are summed to one; a divisor of `events.channels`.
        clip: the largest count that a cell keeps; None keeps all counts. 1 makes spikes of the counts.
        merge_polarities: whether the two polarities of a camera's pixel are summed to one channel.
        flatten: whether a step is one row of all channels, or keeps the camera's shape (polarities, height, width), as
            convolutions need it.
        augment: what changes the recordings of a batch that is read with a seed, in this order.
        indices: the recordings chosen from `events`; by default all.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> events = Events(np.float32([0.0, 0.01, 0.01]), np.int32([0, 3, 2]), np.array([0, 3]), np.array([0]), channels=4)
        >>> x, label = EventDataset(events, dt=0.01, steps=2, group=2)[0]
        >>> x
        tensor([[1., 0.],
                [0., 2.]])
    """

    events: Events
    dt: float
    steps: int
    group: int = 1
    clip: int | None = None
    merge_polarities: bool = False
    flatten: bool = True
    augment: tuple[Augmentation, ...] = ()
    indices: Int[np.ndarray, " m"] | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.dt) and self.dt > 0):
            raise ValueError(f"dt: got {self.dt}, expected seconds per step, above 0")
        if self.steps < 1:
            raise ValueError(f"steps: got {self.steps}, expected at least 1")
        for name, asked in (("merge_polarities", self.merge_polarities), ("flatten", not self.flatten)):
            if asked and self.events.sensor is None:
                raise ValueError(
                    f"{name}: got {getattr(self, name)}, but these events are no camera's: their channels have no place"
                )
        if self.group < 1 or self._places % self.group:
            raise ValueError(f"group: got {self.group}, expected a divisor of the {self._places} channels")
        if self.group > 1 and not self.flatten:
            raise ValueError(f"group: got {self.group} with flatten=False, expected 1: a group of pixels has no shape")
        if self.clip is not None and self.clip < 1:
            raise ValueError(f"clip: got {self.clip}, expected at least 1, or None")

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.events.classes

    @property
    def features(self) -> tuple[int, ...]:
        """The shape of one time step: (channels // group,), or (polarities, height, width)."""
        if self.flatten or self.events.sensor is None:
            return (self._places // self.group,)
        polarities, height, width = self.events.sensor
        return (1 if self.merge_polarities else polarities, height, width)

    @property
    def _places(self) -> int:
        """The number of channels before grouping: without the polarities, where these are merged."""
        merged = self.events.sensor[0] if self.merge_polarities and self.events.sensor else 1
        return self.events.channels // merged

    @property
    def _all_labels(self) -> Int[np.ndarray, " all"]:
        return self.events.labels

    def batch(
        self, indices: Int[np.ndarray, " B"], seed: tuple[int, ...] | None = None
    ) -> tuple[Float[Tensor, "T B *features"], Int[Tensor, " B"]]:
        """The counts of the samples at `indices`, and their labels.

        Args:
            indices: (B,) which samples, 0 to `len(self) - 1`.
            seed: None for the recordings as they are; otherwise integers >= 0, such as (seed, epoch), that with a
                sample's index in the full set seed the draws of its augmentation.

        Returns:
            (T, B, *features) float32 counts, and (B,) int64 labels.

        Raises:
            IndexError: if an index is negative or beyond the last sample.
            ValueError: if a part of the seed is negative.
        """
        chosen = self._in_full_set(indices)
        recordings = [self.events.recording(sample) for sample in chosen.tolist()]
        if seed is not None:
            check_seed(seed)
            recordings = [
                self._augmented(recording, generator(seed, sample))
                for recording, sample in zip(recordings, chosen.tolist(), strict=True)
            ]
        return self._binned(recordings), torch.from_numpy(self.events.labels[chosen])

    def _augmented(self, recording: Recording, rng: np.random.Generator) -> Recording:
        for change in self.augment:
            recording = change(recording, rng)
        return recording

    def _binned(self, recordings: list[Recording]) -> Float[Tensor, "T B *features"]:
        shape = (self.steps, len(recordings), *self.features)
        if not recordings:
            return torch.zeros(shape)
        times = np.concatenate([recording.times for recording in recordings])
        units = np.concatenate([recording.units for recording in recordings])
        if self.merge_polarities:
            units %= np.int32(self._places)
        if self.group > 1:
            units //= np.int32(self.group)
        # The factor is four times the rounding of float32: k * dt, rounded to float32, falls into step k.
        step = times.astype(np.float64)
        step *= (1 + 2**-22) / self.dt
        # Clamped before the conversion: a huge time would overflow the integer. Row `steps` collects what is too late.
        cell = np.minimum(step, self.steps, out=step).astype(np.int64)
        cell *= shape[1]
        cell += np.repeat(np.arange(shape[1]), [len(recording.times) for recording in recordings])
        cell *= math.prod(self.features)
        cell += units
        size = math.prod(shape)
        cell = cell[cell < size]
        # Only the cells of events are touched: of the 89 million of a batch of N-MNIST, half a million.
        counts = np.zeros(size, dtype=np.float32)
        np.add.at(counts, cell, np.float32(1))
        if self.clip is not None:
            counts[cell] = np.minimum(counts[cell], np.float32(self.clip))
        return torch.from_numpy(counts).view(shape)

    def where(self, *, speaker: str) -> "EventDataset":
        """The data set of the samples of one speaker.

        Raises:
            DataError: if the set does not tell its speakers, or has none of this name; the message lists the names.
        """
        return self.subset(np.flatnonzero(self._spoken_by(speaker)))

    def without(self, *, speaker: str) -> "EventDataset":
        """The data set of the samples of all other speakers.

        Raises:
            DataError: as for `where`.
        """
        return self.subset(np.flatnonzero(~self._spoken_by(speaker)))

    def _spoken_by(self, speaker: str) -> Shaped[np.ndarray, " n"]:
        if self.events.speakers is None:
            raise DataError(f"{self.events.source}: has no field extra/speaker, so no speaker can be chosen")
        speakers = self.events.speakers[self.chosen]
        present = [self.events.speaker_names[index] for index in np.unique(speakers)]
        if speaker not in present:
            raise DataError(f"speaker: got {speaker!r}, expected one of {', '.join(present)}")
        return speakers == self.events.speaker_names.index(speaker)

    def augmented(self, *augment: Augmentation) -> "EventDataset":
        """The same data set with other augmentation.

        Example:
            >>> from rheobase.data import ShiftChannels, StretchTime
            >>> events = Events(np.float32([0.0]), np.int32([0]), np.array([0, 1]), np.array([0]), channels=4)
            >>> data = EventDataset(events, dt=0.01, steps=2).augmented(ShiftChannels(20), StretchTime(0.9, 1.1))
        """
        return replace(self, augment=augment)

    def fingerprint(self) -> str:
        """A SHA-256 over the events, the labels, the choice of samples, the binning and the augmentation."""
        shape = (self.steps, self.group, self.clip, self.merge_polarities, self.flatten)
        settings = (self.events.digest, self.dt, *shape, self.augment)
        return digest(str(settings), self.chosen)
