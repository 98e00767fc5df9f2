"""Augmentation of event recordings: small changes that preserve the meaning of a recording.

A few thousand recordings are soon memorized. Another speaker says the same word a little higher or lower (channels), earlier or
later, faster or slower (time), and no two inner ears send the same spikes. Each class here is one such change, called as
`augmentation(recording, rng) -> recording`; a data set applies its tuple of them in order.

Events that move beyond the first or last channel, or before the recording's start, are removed: wrapping them around or piling
them up at the border would invent spikes. Those that move beyond the last time step are dropped in binning.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int32, Shaped


class Recording(NamedTuple):
    """The events of one sample, in ascending order of time until an augmentation moves them.

    Attributes:
        times: (events,) seconds.
        units: (events,) the channel of each event, 0 to `channels - 1`.
        channels: the number of channels.
        sensor: (polarities, height, width) of a camera, whose channels are `x + width * (y + height * polarity)`; else None.
    """

    times: Float32[np.ndarray, " events"]
    units: Int32[np.ndarray, " events"]
    channels: int
    sensor: tuple[int, int, int] | None = None

    def keep(self, mask: Shaped[np.ndarray, " events"]) -> "Recording":
        """The recording of the events where `mask` is True."""
        # Indices are computed once and used twice, which is faster than applying the mask to both arrays.
        kept = np.flatnonzero(mask)
        if len(kept) == len(self.times):
            return self
        return self._replace(times=self.times[kept], units=self.units[kept])


@runtime_checkable
class Augmentation(Protocol):
    """A change of a recording: every draw comes from `rng`, so that the same generator makes the same change."""

    def __call__(self, recording: Recording, rng: np.random.Generator) -> Recording:
        """The changed recording."""
        ...


def _within_channels(recording: Recording) -> Recording:
    # As an unsigned number, a channel below 0 is beyond every channel: one comparison for both borders.
    return recording.keep(recording.units.view(np.uint32) < recording.channels)


@dataclass(frozen=True)
class ShiftChannels:
    """Move all events by the same whole number of channels, drawn uniformly from -max to max: a higher or lower voice.

    Args:
        max: the largest shift, in channels of the recording, >= 0.

    Example:
        >>> recording = Recording(np.float32([0.1, 0.2, 0.3]), np.int32([0, 5, 9]), channels=10)
        >>> ShiftChannels(3)(recording, np.random.default_rng(0)).units.tolist()  # Higher by 2: the last one is gone.
        [2, 7]
    """

    max: int

    def __post_init__(self) -> None:
        check_count("ShiftChannels", "max", self.max, "a whole number of channels, at least 0")

    def __call__(self, recording: Recording, rng: np.random.Generator) -> Recording:
        """The shifted recording."""
        shift = np.int32(rng.integers(-self.max, self.max, endpoint=True))
        return _within_channels(recording._replace(units=recording.units + shift))


@dataclass(frozen=True)
class JitterChannels:
    """Move every event by its own number of channels, drawn from a normal distribution and rounded: smeared tuning.

    Args:
        std: standard deviation, in channels of the recording, >= 0.

    Example:
        >>> recording = Recording(np.float32([0.1, 0.2, 0.3]), np.int32([0, 5, 9]), channels=10)
        >>> JitterChannels(1.0)(recording, np.random.default_rng(2)).units.tolist()
        [2, 5, 9]
    """

    std: float | int

    def __post_init__(self) -> None:
        check_setting("JitterChannels", "std", self.std, self.std >= 0, "at least 0 channels")

    def __call__(self, recording: Recording, rng: np.random.Generator) -> Recording:
        """The jittered recording."""
        moves = rng.standard_normal(len(recording.units), dtype=np.float32)
        moves *= np.float32(self.std)
        moved = recording.units + np.rint(moves, out=moves).astype(np.int32)
        return _within_channels(recording._replace(units=moved))


@dataclass(frozen=True)
class ShiftTime:
    """Move all events by the same time, drawn uniformly from -max to max: an earlier or later start.

    Args:
        max: the largest shift, seconds, >= 0.

    Example:
        >>> recording = Recording(np.float32([0.1, 0.2, 0.3]), np.int32([0, 5, 9]), channels=10)
        >>> moved = ShiftTime(0.2)(recording, np.random.default_rng(3))  # Earlier by 0.17: the first one is gone.
        >>> [f"{time:.2f}" for time in moved.times]
        ['0.03', '0.13']
    """

    max: float | int

    def __post_init__(self) -> None:
        check_setting("ShiftTime", "max", self.max, self.max >= 0, "at least 0 seconds")

    def __call__(self, recording: Recording, rng: np.random.Generator) -> Recording:
        """The shifted recording."""
        moved = recording._replace(times=recording.times + np.float32(rng.uniform(-self.max, self.max)))
        return moved.keep(moved.times >= 0)


@dataclass(frozen=True)
class StretchTime:
    """Multiply all times by the same factor, drawn uniformly from low to high: slower or faster speech.

    Args:
        low: the smallest factor, > 0.
        high: the largest factor, >= low.

    Example:
        >>> recording = Recording(np.float32([0.1, 0.2, 0.3]), np.int32([0, 5, 9]), channels=10)
        >>> slower = StretchTime(0.5, 2.0)(recording, np.random.default_rng(1))
        >>> [f"{time:.2f}" for time in slower.times]
        ['0.13', '0.25', '0.38']
    """

    low: float | int
    high: float | int

    def __post_init__(self) -> None:
        check_setting("StretchTime", "low", self.low, self.low > 0, "a factor above 0")
        check_setting("StretchTime", "high", self.high, self.high >= self.low, f"a factor of at least low = {self.low}")

    def __call__(self, recording: Recording, rng: np.random.Generator) -> Recording:
        """The stretched recording."""
        return recording._replace(times=recording.times * np.float32(rng.uniform(self.low, self.high)))


@dataclass(frozen=True)
class DropEvents:
    """Remove each event with a probability that is itself drawn uniformly from 0 to max for every recording.

    Args:
        max: the largest probability, in [0, 1].

    Example:
        >>> recording = Recording(np.float32([0.1, 0.2, 0.3]), np.int32([0, 5, 9]), channels=10)
        >>> DropEvents(0.9)(recording, np.random.default_rng(2)).units.tolist()
        [5, 9]
    """

    max: float | int

    def __post_init__(self) -> None:
        check_setting("DropEvents", "max", self.max, self.max <= 1, "a probability, 0 to 1")

    def __call__(self, recording: Recording, rng: np.random.Generator) -> Recording:
        """The thinned recording."""
        probability = np.float32(rng.uniform(0, self.max))
        return recording.keep(rng.random(len(recording.times), dtype=np.float32) >= probability)


@dataclass(frozen=True)
class DropChannels:
    """Remove one band of neighbouring channels; its width is drawn uniformly from 0 to max, its position wherever it fits.

    A band, because single silent channels can be guessed from their neighbours (Park and others, "SpecAugment", 2019).

    Args:
        max: the widest band, in channels of the recording, >= 0.

    Example:
        >>> recording = Recording(np.float32([0.1, 0.2, 0.3]), np.int32([0, 5, 9]), channels=10)
        >>> DropChannels(6)(recording, np.random.default_rng(3)).units.tolist()
        [5, 9]
    """

    max: int

    def __post_init__(self) -> None:
        check_count("DropChannels", "max", self.max, "a whole number of channels, at least 0")

    def __call__(self, recording: Recording, rng: np.random.Generator) -> Recording:
        """The recording without the band."""
        width = int(rng.integers(0, min(self.max, recording.channels), endpoint=True))
        first = int(rng.integers(0, recording.channels - width, endpoint=True))
        # As unsigned numbers, channels below the band are beyond it: one comparison for both ends.
        return recording.keep((recording.units - np.int32(first)).view(np.uint32) >= width)


@dataclass(frozen=True)
class Zoom:
    """Scale time and channels by the same factor around the middle, and move the channels: the image of a recording, zoomed.

    The factor is drawn uniformly from low to high, the shift from -shift to shift, as a share of all channels; each event goes
    to the nearest channel. The middle of time is halfway to the last event. Events are moved, and their number does not change,
    except for those that leave; where an image of bins is resampled instead, as published, a larger one repeats its pixels.

    Source: the random affine change of Yarga and Wood, arXiv 2306.12666, with the defaults here.

    Args:
        shift: the largest shift, as a share of the channels, in [0, 1].
        low: the smallest factor, > 0.
        high: the largest factor, >= low.

    Example:
        >>> recording = Recording(np.float32([0.1, 0.2, 0.3]), np.int32([0, 5, 9]), channels=10)
        >>> zoomed = Zoom(shift=0.0, low=0.5, high=0.5)(recording, np.random.default_rng(0))
        >>> [f"{time:.3f}" for time in zoomed.times], zoomed.units.tolist()
        (['0.125', '0.175', '0.225'], [2, 5, 7])
    """

    shift: float | int = 0.1
    low: float | int = 0.7
    high: float | int = 1.3

    def __post_init__(self) -> None:
        check_setting("Zoom", "shift", self.shift, self.shift <= 1, "a share of the channels, 0 to 1")
        check_setting("Zoom", "low", self.low, self.low > 0, "a factor above 0")
        check_setting("Zoom", "high", self.high, self.high >= self.low, f"a factor of at least low = {self.low}")

    def __call__(self, recording: Recording, rng: np.random.Generator) -> Recording:
        """The zoomed recording."""
        factor = np.float32(rng.uniform(self.low, self.high))
        shift = np.float32(rng.uniform(-self.shift, self.shift) * recording.channels)
        if len(recording.times) == 0:
            return recording
        middle, centre = recording.times.max() / np.float32(2), np.float32((recording.channels - 1) / 2)
        units = np.rint((recording.units - centre) * factor + (centre + shift)).astype(np.int32)
        times = (recording.times - middle) * factor + middle
        moved = _within_channels(recording._replace(times=times, units=units))
        return moved.keep(moved.times >= 0)


ALONG_CHANNELS = (ShiftChannels, JitterChannels, Zoom)
"""What moves events to channels beside their own; a camera's pixels have other neighbours."""


def check_changes(augment: object) -> None:
    """Refuse an `augment` of a data set that is not a tuple or list of functions.

    Raises:
        TypeError: saying what it is.
    """
    if not isinstance(augment, tuple | list):
        raise TypeError(f"augment: got {augment!r}, expected a tuple of augmentations; a single one is ({augment!r},)")
    if wrong := [change for change in augment if not callable(change) or isinstance(change, type)]:
        raise TypeError(f"augment: got {wrong[0]!r} in it, expected functions, such as ShiftTime(0.02)")


def check_count(owner: str, name: str, value: object, expected: str) -> None:
    """Refuse a setting of an augmentation that is not a whole number, 0 or more.

    Raises:
        ValueError: naming the augmentation, the setting, its value and what was expected.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"{owner}: {name} is {value}, expected {expected}")


def check_setting(owner: str, name: str, value: float | int, holds: bool, expected: str) -> None:
    """Refuse a setting of an augmentation that is negative, not finite, or for which `holds` is false.

    Raises:
        ValueError: naming the augmentation, the setting, its value and what was expected.
    """
    if not (holds and np.isfinite(value) and value >= 0):
        raise ValueError(f"{owner}: {name} is {value}, expected {expected}")
