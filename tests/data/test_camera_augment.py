"""Events of a camera are moved as the pictures that they make."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheobase.data import EventDataset, Events, FlipView, Recording, ShiftView

SENSOR = (2, 5, 7)


def recorded(seed: int, events: int = 40) -> Recording:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.random(events, dtype=np.float32))
    return Recording(times, rng.integers(0, 70, events, dtype=np.int32), 70, SENSOR)


def picture(recording: Recording) -> np.ndarray:
    return np.bincount(recording.units, minlength=70).reshape(SENSOR)


@given(seed=st.integers(0, 999), most=st.integers(0, 8))
def test_a_shift_moves_the_picture_and_loses_what_leaves_it(seed: int, most: int) -> None:
    before = recorded(seed)
    after = ShiftView(most)(before, np.random.default_rng(seed))
    right, down = np.random.default_rng(seed).integers(-most, most, size=2, endpoint=True)
    bordered = np.pad(picture(before), ((0, 0), (most, most), (most, most)))
    expected = bordered[:, most - down : most - down + 5, most - right : most - right + 7]
    assert np.array_equal(picture(after), expected)
    assert after.units.dtype == np.int32
    assert np.isin(after.times, before.times).all()


@pytest.mark.parametrize(("probability", "step"), [(0.0, 1), (1.0, -1)])
def test_a_mirrored_picture(probability: float, step: int) -> None:
    before = recorded(0)
    after = FlipView(probability)(before, np.random.default_rng(0))
    assert np.array_equal(picture(after), picture(before)[:, :, ::step])
    assert np.array_equal(after.times, before.times)


def test_half_of_all_are_mirrored() -> None:
    before = recorded(0)
    rng = np.random.default_rng(0)
    mirrored = sum(not np.array_equal(FlipView()(before, rng).units, before.units) for _ in range(400))
    assert 150 < mirrored < 250


def test_a_data_set_of_a_camera() -> None:
    recording = recorded(1)
    events = Events(recording.times, recording.units, np.array([0, 40]), np.array([0]), 70, sensor=SENSOR)
    data = EventDataset(events, dt=0.5, steps=2, flatten=False, augment=(FlipView(1.0),))
    plain, mirrored = (data.batch(np.array([0]), seed)[0] for seed in (None, (0,)))
    assert mirrored.equal(plain.flip(-1))


def test_what_they_take() -> None:
    line = Events(np.float32([0.1]), np.int32([3]), np.array([0, 1]), np.array([0]), 70)
    for change in (ShiftView(1), FlipView()):
        name = type(change).__name__
        with pytest.raises(ValueError, match=f"augment: got {name}, but these events are no camera's"):
            EventDataset(line, dt=0.1, steps=3, augment=(change,))
        with pytest.raises(ValueError, match=f"{name}: recording must be a camera's"):
            change(line.recording(0), np.random.default_rng(0))
    with pytest.raises(ValueError, match="ShiftView: max is -1, expected a whole number of pixels"):
        ShiftView(-1)
    with pytest.raises(ValueError, match=r"FlipView: probability is 2\.0, expected a probability, 0 to 1"):
        FlipView(2.0)
