"""Means, intervals and the epochs that it takes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rheobase.reproduce.statistics import Estimate, epochs_to_reach, paired, smoothed


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=11))
def test_the_interval_is_students(values: list[float]) -> None:
    estimate = Estimate.of(values)
    half_width = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    assert estimate.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert estimate.half_width == pytest.approx(half_width, rel=1e-3, abs=1e-9)


def test_one_value_decides_nothing() -> None:
    estimate = Estimate.of([5.0])
    assert math.isnan(estimate.half_width)
    assert not estimate.is_positive
    assert not estimate.is_negative
    assert estimate.text() == "5.0"


def test_no_value_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Estimate.of([])


@pytest.mark.parametrize(
    ("values", "positive", "negative"),
    [([1.0, 1.1], True, False), ([-1.0, 3.0], False, False), ([-2.0, -2.1], False, True)],
)
def test_signs(values: list[float], positive: bool, negative: bool) -> None:
    assert (Estimate.of(values).is_positive, Estimate.of(values).is_negative) == (positive, negative)


def test_pairs_share_a_seed() -> None:
    estimate = paired({0: 1.0, 1: 5.0, 3: 7.0}, {1: 3.0, 3: 6.0, 4: 100.0})
    assert estimate is not None
    assert estimate.mean == 1.5
    assert estimate.count == 2
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_epochs() -> None:
    assert epochs_to_reach([0.1, 0.2, 0.3], 0.2) == 2
    assert epochs_to_reach([0.1], 0.2) is None
    assert epochs_to_reach([], 0.2) is None
    assert smoothed([1.0, 2.0, 3.0, 4.0], window=2) == [1.0, 1.5, 2.5, 3.5]
