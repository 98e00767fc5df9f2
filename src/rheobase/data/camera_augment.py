"""Augmentation of a camera's events: moved and mirrored pictures of the same scene.

The channels of an event camera are pixels, row by row and one polarity after the other, so that one channel further may be the
other end of the next row. These changes therefore move events in x and y, and never change their polarity. Events that leave
the picture are removed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from rheobase.data.augment import Recording, check_count, check_setting

_Place = Int32[np.ndarray, " events"]
"""x or y of each event."""


@dataclass(frozen=True)
class ShiftView:
    """Move all events of a camera by whole pixels, drawn independently for x and y, uniformly from -max to max.

    Args:
        max: the largest shift, in pixels, >= 0.

    Example:
        >>> recording = Recording(np.float32([0.1, 0.2]), np.int32([0, 5]), channels=12, sensor=(2, 2, 3))
        >>> ShiftView(1)(recording, np.random.default_rng(3)).units.tolist()
        []
    """

    max: int

    def __post_init__(self) -> None:
        check_count("ShiftView", "max", self.max, "a whole number of pixels, at least 0")

    def __call__(self, recording: Recording, rng: np.random.Generator) -> Recording:
        """The shifted recording."""
        right, down = rng.integers(-self.max, self.max, size=2, endpoint=True).astype(np.int32)
        return _moved(recording, "ShiftView", lambda x, y, _width: (x + right, y + down))


@dataclass(frozen=True)
class FlipView:
    """Mirror a camera's events left to right.

    Args:
        probability: that of the change, in [0, 1].

    Example:
        >>> recording = Recording(np.float32([0.1, 0.2]), np.int32([0, 5]), channels=12, sensor=(2, 2, 3))
        >>> FlipView(1.0)(recording, np.random.default_rng(0)).units.tolist()
        [2, 3]
    """

    probability: float | int = 0.5

    def __post_init__(self) -> None:
        check_setting("FlipView", "probability", self.probability, self.probability <= 1, "a probability, 0 to 1")

    def __call__(self, recording: Recording, rng: np.random.Generator) -> Recording:
        """The recording, mirrored or as it is."""
        mirrored = rng.random() < self.probability
        return _moved(recording, "FlipView", lambda x, y, width: (width - 1 - x if mirrored else x, y))


def _moved(
    recording: Recording, who: str, move: Callable[[_Place, _Place, np.int32], tuple[_Place, _Place]]
) -> Recording:
    """The events of a camera at other places, without those that are outside of the picture then."""
    if recording.sensor is None:
        raise ValueError(f"{who}: recording must be a camera's, with a sensor, (polarities, height, width), got None")
    _, height, width = map(np.int32, recording.sensor)
    row, x = np.divmod(recording.units, width)
    polarity, y = np.divmod(row, height)
    x, y = move(x, y, width)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return recording._replace(units=x + width * (y + height * polarity)).keep(inside)


OF_CAMERAS = (ShiftView, FlipView)
"""What needs to know where a channel is in the picture."""
