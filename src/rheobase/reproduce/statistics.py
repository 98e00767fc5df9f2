"""Statistics of a few seeds: means with confidence intervals, and differences between runs that share a seed.

Three to five runs give a mean whose error is itself badly known, so intervals are Student's, not the normal's: with three seeds
they are more than twice as wide. Arms of a comparison start from the same weights and see the samples in the same order, so the
difference is taken seed by seed; its spread is smaller than that of either arm.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""The 97.5 % quantiles of Student's t with 1 to 10 degrees of freedom (W. S. Gosset, 1908; any table of it)."""


WIDE = 0.3
"""For a fraction: an interval with a larger half width says less than the values themselves."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % confidence interval.

    Args:
        mean: of the values.
        half_width: of the interval; NaN for a single value.
        values: what it is estimated from.
    """

    mean: float
    half_width: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """The estimate from independent values, at least one.

        Raises:
            ValueError: if there is no value.

        Example:
            >>> Estimate.of([0.9, 0.92, 0.94]).percent()
            '92.00 ± 4.97'
        """
        if not values:
            raise ValueError("values must hold at least one number, got none")
        count, mean = len(values), math.fsum(values) / len(values)
        if count == 1:
            return cls(mean, math.nan, tuple(values))
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
        quantile = _STUDENT[count - 2] if count - 2 < len(_STUDENT) else 2.2
        return cls(mean, quantile * deviation / math.sqrt(count), tuple(values))

    @property
    def count(self) -> int:
        """The number of values."""
        return len(self.values)

    @property
    def is_positive(self) -> bool:
        """Whether the whole interval lies above 0; False for a single value."""
        return self.mean - self.half_width > 0

    @property
    def is_negative(self) -> bool:
        """Whether the whole interval lies below 0; False for a single value."""
        return self.mean + self.half_width < 0

    def percent(self, digits: int = 2) -> str:
        """The estimate of a fraction, in per cent, as text: the values themselves where the half width is over 30 points.

        Example:
            >>> Estimate.of([0.9, 0.92, 0.94]).percent(), Estimate.of([0.92]).percent(0)
            ('92.00 ± 4.97', '92')
            >>> Estimate.of([0.33, 0.989, 0.991]).percent(1)
            '33.0, 98.9, 99.1'
        """
        if self.half_width > WIDE:
            return ", ".join(f"{100 * value:,.{digits}f}" for value in self.values)
        return self.text(digits, 100.0)

    def text(self, digits: int = 1, unit: float = 1.0) -> str:
        """The estimate as text, times `unit`."""
        text = f"{unit * self.mean:,.{digits}f}"
        return text if math.isnan(self.half_width) else f"{text} ± {unit * self.half_width:,.{digits}f}"


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate | None:
    """The mean of `ours - theirs` over the seeds that both have; None if they share none.

    Example:
        >>> paired({0: 9.0, 1: 8.0}, {0: 7.0, 1: 6.0, 2: 1.0}).mean
        2.0
    """
    shared = sorted(ours.keys() & theirs.keys())
    return Estimate.of([ours[seed] - theirs[seed] for seed in shared]) if shared else None


def epochs_to_reach(accuracy: Sequence[float], target: float) -> int | None:
    """The first epoch, counted from 1, whose accuracy is at least `target`; None if there is none.

    Example:
        >>> epochs_to_reach([0.2, 0.5, 0.4, 0.7], 0.5)
        2
    """
    return next((epoch for epoch, value in enumerate(accuracy, start=1) if value >= target), None)


def smoothed(values: Sequence[float], window: int = 3) -> list[float]:
    """The running mean over the last `window` values: an accuracy on a few hundred samples jumps by a point or two.

    Example:
        >>> smoothed([0.0, 3.0, 6.0, 0.0])
        [0.0, 1.5, 3.0, 3.0]
    """
    return [math.fsum(values[max(k - window + 1, 0) : k + 1]) / min(window, k + 1) for k in range(len(values))]
