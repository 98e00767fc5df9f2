"""The data set that bins recordings of events into the dense steps that a network reads.

The events of a batch are counted into the steps, time first, without a dense copy per sample.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from rheobase.data.augment import ALONG_CHANNELS, Augmentation, Recording, check_changes
from rheobase.data.camera_augment import OF_CAMERAS
from rheobase.data.dataset import IndexedDataset, check_seed, digest, generator, in_words
from rheobase.data.events import Events
from rheobase.data.lengths import check_lengths
from rheobase.errors import DataError

_AT_THE_EDGE = 1 + 2**-22
"""Four times the rounding of float32: k * dt, rounded to float32, falls into step k."""
_LONG, _FEW = 200, 0.02
"""Steps that see less of the longest recording than one part in so many, and a smaller share of events, are likely a mistake:
the next unit is a factor of 1,000 away."""

_REMEDY = (
    "events that leave the range must be dropped: recording.keep((recording.times >= 0) & (recording.times < numpy.inf)), "
    "and likewise by recording.units"
)


@dataclass(frozen=True, eq=False, repr=False)
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
        lengths: how many steps of each recording are real, 1 to T, one for each recording of this data set; the rest is
            padding. None where all are: that nothing happens is often a part of the recording. See `until_last_event`.

    Raises:
        TypeError: if `steps` is no integer.
        ValueError: if an argument is out of range, or `dt` and `steps` cannot be meant for these recordings: no event of any of
            them lies in the steps (at time 0 aside, where there are several steps), or all of them in the first of several.
            Events that are all at time 0 are taken.
        DataError: if `lengths` are not one for each recording, or out of range.

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
    lengths: Int[np.ndarray, " k"] | Int[Tensor, " k"] | Sequence[int] | None = None  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        if not (np.isfinite(self.dt) and self.dt > 0):
            raise ValueError(f"dt: got {self.dt}, expected seconds per step, above 0")
        if not isinstance(self.steps, int | np.integer):
            raise TypeError(f"steps: got {self.steps!r}, expected an integer, the number of time steps")
        if self.steps < 1:
            raise ValueError(f"steps: got {self.steps}, expected at least 1")
        for name, asked in (("merge_polarities", self.merge_polarities), ("flatten", not self.flatten)):
            if asked and self.events.sensor is None:
                raise ValueError(
                    f"{name}: got {getattr(self, name)}, but these events are no camera's: their channels have no place"
                )
        self._check_augmentation()
        if not isinstance(self.group, int | np.integer) or self.group < 1 or self._places % self.group:
            raise ValueError(f"group: got {self.group}, expected a divisor of the {self._places} channels")
        if self.group > 1 and not self.flatten:
            raise ValueError(f"group: got {self.group} with flatten=False, expected 1: a group of pixels has no shape")
        if self.clip is not None and self.clip < 1:
            raise ValueError(f"clip: got {self.clip}, expected at least 1, or None")
        self._check_duration()
        if self.lengths is not None:
            object.__setattr__(self, "lengths", check_lengths(self.lengths, len(self), self.steps, "lengths"))

    def _check_augmentation(self) -> None:
        check_changes(self.augment)
        along = next((change for change in self.augment if isinstance(change, ALONG_CHANNELS)), None)
        if along is not None and self.events.sensor is not None:
            raise ValueError(
                f"augment: got {type(along).__name__}, which moves events along a line of channels, but these events are a "
                "camera's, whose channels are pixels row by row: they would come to the next row; take ShiftView, FlipView"
            )
        of_camera = next((change for change in self.augment if isinstance(change, OF_CAMERAS)), None)
        if of_camera is not None and self.events.sensor is None:
            raise ValueError(
                f"augment: got {type(of_camera).__name__}, but these events are no camera's: their channels have no place; "
                "take ShiftChannels, or give the events a sensor, (polarities, height, width)"
            )

    def _check_duration(self) -> None:
        """Refuse steps that see nothing of any recording, or all of it at once: times or `dt` are in another unit."""
        first, after, last = self.events.span
        if last == 0:  # which is so in every unit
            return
        # Recordings often begin with an event at time 0. It is in the first step in every unit, so it counts for nothing, but
        # where there is one step alone, for events on a grid as wide as it.
        earliest = first if self.steps == 1 else after
        seen, steps = self.dt * self.steps, f"{self.dt:g} s with steps {self.steps}"
        if earliest * _AT_THE_EDGE >= seen:
            raise ValueError(
                f"dt: got {steps}, so {seen:g} s are seen, but no event {'after time 0 ' if first == 0 else ''}is that early: "
                f"the first is at {earliest:g} s, the longest recording ends at {last:g} s; {_remedy('times are', last / seen)}"
            )
        if self.steps > 1 and last * _AT_THE_EDGE < self.dt:
            raise ValueError(
                f"dt: got {steps}, but all events lie in the first step: the longest recording ends at {last:g} s; "
                f"{_remedy('dt is', seen / last)}"
            )
        times = self.events.times
        if last > _LONG * seen and (share := float(np.mean(times < seen))) < _FEW:
            warnings.warn(
                f"dt: got {steps}, so {seen:g} s are seen, with {100 * share:.2g} % of the events: the longest recording ends "
                f"at {last:g} s; {_remedy('times are', last / seen)}",
                stacklevel=4,
            )

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
            `(T, B, *features)` float32 counts, and `(B,)` int64 labels.

        Raises:
            IndexError: if an index is negative or beyond the last sample.
            ValueError: if a part of the seed is negative, or augmentation makes channels that there are not, or times that are
                not finite or below 0.
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
        stages = [recording := change(recording, rng) for change in self.augment]
        if problem := self._problem(recording):
            # One may make what the next drops: it was the first after which something was wrong until the end.
            at = next(at for at in range(len(stages)) if all(map(self._problem, stages[at:])))
            raise ValueError(f"augment: {problem}, after {_name(self.augment[at])}; {_REMEDY}")
        return recording

    def _problem(self, recording: Recording) -> str | None:
        """What is wrong with a recording, whose events would fall into other samples or steps; None if all is well."""
        times, units, last = recording.times, recording.units, self.events.channels - 1
        if len(units) and not 0 <= units.min() <= units.max() <= last:
            return f"got channels {units.min()} to {units.max()}, expected 0 to {last}"
        if len(times) and not 0 <= times.min() <= times.max() < math.inf:  # a minimum of NaN is NaN
            return f"got times from {times.min():g} to {times.max():g} s, expected finite times from 0 on"
        return None

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
        step = times.astype(np.float64)
        step *= _AT_THE_EDGE / self.dt
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

    def until_last_event(self) -> "EventDataset":
        """The same data set in which a recording ends with the step of its last event, and what follows is padding.

        For recordings of different lengths that are over when nothing happens any more. Lengths are those without augmentation:
        events that it moves behind the end of their recording are not seen.

        Example:
            >>> recordings = [([0.0, 0.02], [0, 1]), ([0.0, 0.05], [1, 1]), ([0.0, 9.0], [0, 0])]
            >>> events = Events.from_recordings(recordings, labels=[0, 1, 1], unit="s", channels=2)
            >>> EventDataset(events, dt=0.01, steps=10).until_last_event().lengths
            array([ 3,  6, 10])
        """
        last = np.zeros(len(self.events))
        ends, filled = self.events.offsets[1:], np.diff(self.events.offsets) > 0
        last[filled] = self.events.times[ends[filled] - 1]
        # Held against the last step before the conversion: a huge time would overflow the integer.
        step = np.minimum(last * (_AT_THE_EDGE / self.dt), self.steps - 1).astype(np.int64)
        return replace(self, lengths=step[self.chosen] + 1)

    def fingerprint(self) -> str:
        """A SHA-256 over the events, the labels, the choice of samples and their lengths, the binning and the augmentation."""
        shape = (self.steps, self.group, self.clip, self.merge_polarities, self.flatten)
        settings = (self.events.digest, self.dt, *shape, in_words(self.augment))
        return digest(str(settings), *self._decisive)


def _name(change: Augmentation) -> str:
    return getattr(change, "__name__", type(change).__name__)


def _remedy(what: str, too_large: float) -> str:
    """What to do about `what`, which is too large by some such factor to be in seconds."""
    for unit, factor in (("milliseconds", 1e3), ("microseconds", 1e6)):
        if factor / 30 < too_large < factor * 30:
            return f"probably {what} in {unit}, expected seconds: divide by {factor:,.0f}"
    return "times are in seconds from the beginning of the recording, dt in seconds per step"
