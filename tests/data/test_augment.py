"""Tests of rheobase.data.augment."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheobase.data import (
    DropChannels,
    DropEvents,
    JitterChannels,
    Recording,
    ShiftChannels,
    ShiftTime,
    StretchTime,
    Zoom,
)

CHANNELS = 30


def recording(n: int = 2000) -> Recording:
    rng = np.random.default_rng(1)
    return Recording(np.sort(rng.random(n, dtype=np.float32)), rng.integers(0, CHANNELS, n, dtype=np.int32), CHANNELS)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


ALL = st.one_of(
    st.builds(ShiftChannels, st.integers(0, 100)),
    st.builds(JitterChannels, st.floats(0, 50)),
    st.builds(ShiftTime, st.floats(0, 2)),
    st.builds(lambda low, more: StretchTime(low, low + more), st.floats(0.1, 3), st.floats(0, 3)),
    st.builds(DropEvents, st.floats(0, 1)),
    st.builds(DropChannels, st.integers(0, 100)),
    st.builds(
        lambda shift, low, more: Zoom(shift, low, low + more), st.floats(0, 1), st.floats(0.1, 3), st.floats(0, 3)
    ),
)


@given(augmentation=ALL, seed=st.integers(0, 2**32), events=st.integers(0, 50))
def test_what_comes_out_is_a_recording(augmentation, seed, events):
    source = recording(events)
    before = source.times.copy(), source.units.copy()
    result = augmentation(source, generator(seed))
    assert result.channels == CHANNELS
    assert len(result.times) == len(result.units) <= events
    assert result.times.dtype == np.float32
    assert result.units.dtype == np.int32
    assert ((result.units >= 0) & (result.units < CHANNELS)).all()
    assert (result.times >= 0).all()
    assert (np.diff(result.times) >= 0).all()
    again = augmentation(source, generator(seed))
    assert np.array_equal(result.times, again.times)
    assert np.array_equal(result.units, again.units)
    assert np.array_equal(source.times, before[0])
    assert np.array_equal(source.units, before[1])


@given(seed=st.integers(0, 2**32))
def test_channels_shift_together_and_fall_off_the_border(seed):
    source = recording()
    result = ShiftChannels(12)(source, generator(seed))
    shift = int(generator(seed).integers(-12, 12, endpoint=True))
    stays = (source.units + shift >= 0) & (source.units + shift < CHANNELS)
    assert np.array_equal(result.units, source.units[stays] + shift)
    assert np.array_equal(result.times, source.times[stays])


def test_channel_shifts_reach_both_ends():
    one = Recording(np.float32([0.5]), np.int32([15]), CHANNELS)
    shifts = {int(ShiftChannels(2)(one, generator(seed)).units[0]) - 15 for seed in range(100)}
    assert shifts == {-2, -1, 0, 1, 2}


def test_jitter_has_the_spread_asked_for():
    middle = Recording(np.zeros(20_000, np.float32), np.full(20_000, 500, np.int32), 1000)
    moves = JitterChannels(3.0)(middle, generator()).units - 500
    assert moves.mean() == pytest.approx(0, abs=0.1)
    assert moves.std() == pytest.approx(np.sqrt(9 + 1 / 12), rel=0.03)  # Rounding adds 1/12 to the variance.


@given(seed=st.integers(0, 2**32))
def test_times_shift_together_and_none_becomes_negative(seed):
    source = recording()
    result = ShiftTime(0.3)(source, generator(seed))
    shift = np.float32(generator(seed).uniform(-0.3, 0.3))
    stays = source.times + shift >= 0
    assert np.array_equal(result.times, source.times[stays] + shift)
    assert np.array_equal(result.units, source.units[stays])


def test_times_stretch_within_the_range():
    source = recording()
    factors = [
        float(StretchTime(0.8, 1.5)(source, generator(seed)).times[-1] / source.times[-1]) for seed in range(200)
    ]
    assert 0.8 <= min(factors) < 0.85
    assert 1.45 < max(factors) <= 1.5 + 1e-6


def test_events_drop_with_a_probability_of_each_recordings_own():
    source = recording()
    shares = [1 - len(DropEvents(0.4)(source, generator(seed)).times) / 2000 for seed in range(200)]
    assert min(shares) < 0.03
    assert 0.35 < max(shares) < 0.45
    assert np.mean(shares) == pytest.approx(0.2, abs=0.03)


@given(seed=st.integers(0, 2**32), widest=st.integers(0, 40))
def test_a_band_of_neighbouring_channels_drops(seed, widest):
    every = Recording(np.zeros(CHANNELS, np.float32), np.arange(CHANNELS, dtype=np.int32), CHANNELS)
    gone = np.setdiff1d(every.units, DropChannels(widest)(every, generator(seed)).units)
    assert len(gone) <= widest
    assert len(gone) == 0 or gone[-1] - gone[0] == len(gone) - 1


def test_zero_changes_nothing():
    source = recording()
    for augmentation in (
        ShiftChannels(0), JitterChannels(0), ShiftTime(0), StretchTime(1, 1), DropEvents(0), DropChannels(0),
    ):  # fmt: skip
        result = augmentation(source, generator())
        assert np.array_equal(result.times, source.times), augmentation
        assert np.array_equal(result.units, source.units), augmentation


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ShiftChannels(-1), "ShiftChannels: max is -1, expected a whole number of channels, at least 0"),
        (lambda: JitterChannels(-0.5), "JitterChannels: std is -0.5, expected at least 0 channels"),
        (lambda: JitterChannels(float("nan")), "JitterChannels: std is nan"),
        (lambda: ShiftTime(-0.1), "ShiftTime: max is -0.1, expected at least 0 seconds"),
        (lambda: ShiftTime(float("inf")), "ShiftTime: max is inf"),
        (lambda: StretchTime(0.0, 1.0), "StretchTime: low is 0.0, expected a factor above 0"),
        (lambda: StretchTime(1.2, 1.1), "StretchTime: high is 1.1, expected a factor of at least low = 1.2"),
        (lambda: DropEvents(1.1), "DropEvents: max is 1.1, expected a probability, 0 to 1"),
        (lambda: DropEvents(-0.1), "DropEvents: max is -0.1"),
        (lambda: DropChannels(-2), "DropChannels: max is -2"),
        (lambda: ShiftChannels(2.5), "ShiftChannels: max is 2.5, expected a whole number"),
        (lambda: DropChannels(2.5), "DropChannels: max is 2.5, expected a whole number"),
    ],
)
@pytest.mark.usefixtures("as_a_user")
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_zooming_moves_every_event_away_from_the_middle():
    source = recording()
    middle, centre = source.times.max() / 2, (CHANNELS - 1) / 2
    smaller = Zoom(0.0, 0.5, 0.5)(source, generator())
    np.testing.assert_allclose(smaller.times, (source.times - middle) / 2 + middle, rtol=1e-5)
    assert (np.abs(smaller.units - ((source.units - centre) / 2 + centre)) <= 0.5).all()
    larger = Zoom(0.0, 2.0, 2.0)(source, generator())
    inner = (np.rint((source.units - centre) * 2 + centre) >= 0) & (
        np.rint((source.units - centre) * 2 + centre) < CHANNELS
    )
    early = (source.times - middle) * 2 + middle >= 0
    assert len(larger.times) == (inner & early).sum() < len(source.times)


def test_zooming_shifts_by_a_share_of_the_channels():
    source = Recording(np.linspace(0, 1, 5, dtype=np.float32), np.full(5, 50, np.int32), 100)
    shifts = []
    for seed in range(300):
        moved = Zoom(0.1, 1.0, 1.0)(source, generator(seed))
        np.testing.assert_allclose(moved.times, source.times, atol=1e-6)
        assert len(set(moved.units.tolist())) == 1
        shifts.append(int(moved.units[0]) - 50)
    assert {min(shifts), max(shifts)} == {-10, 10}
    assert abs(np.mean(shifts)) < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((1.5,), "Zoom: shift is 1.5"), ((0.1, 0.0), "Zoom: low is 0.0"), ((0.1, 1.0, 0.9), "Zoom: high is 0.9")],
)
def test_what_zoom_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Zoom(*arguments)
