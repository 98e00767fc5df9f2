"""Tests of rheobase.data.image_augment."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheobase.data import Flip, Perspective, PixelNoise, ShiftPixels
from rheobase.data.image_augment import _sample, _sources


def rngs(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng((seed, index)) for index in range(count)]


def pictures(count: int, channels: int = 1, height: int = 28, width: int = 28) -> np.ndarray:
    return np.random.default_rng(1).random((count, channels, height, width), dtype=np.float32)


ALL = [ShiftPixels(3), Flip(), Perspective(0.4, 0.7), PixelNoise(0.05, 0.5)]


@pytest.mark.parametrize("change", ALL, ids=lambda change: type(change).__name__)
@given(count=st.integers(1, 6), channels=st.integers(1, 3), height=st.integers(2, 9), width=st.integers(2, 9))
def test_any_shape_stays_in_range_and_the_input_is_left_alone(change, count, channels, height, width):
    images = pictures(count, channels, height, width)
    before = images.copy()
    changed = change(images, rngs(count))
    assert changed.shape == images.shape
    assert changed.dtype == np.float32
    assert 0 <= changed.min() <= changed.max() <= 1
    assert np.array_equal(images, before)


@pytest.mark.parametrize("change", ALL, ids=lambda change: type(change).__name__)
def test_a_picture_does_not_depend_on_those_beside_it(change):
    images = pictures(33)
    whole = change(images, rngs(33))
    assert not np.array_equal(whole, images)
    for index in (0, 7, 32):
        alone = change(images[index : index + 1], [np.random.default_rng((0, index))])
        assert np.array_equal(alone[0], whole[index])


def test_a_shift_is_a_crop_out_of_a_black_border():
    images = pictures(1000, height=3, width=4)
    seen = set()
    bordered = np.pad(images, ((0, 0), (0, 0), (5, 5), (5, 5)))
    windows = np.lib.stride_tricks.sliding_window_view(bordered[:, 0], (3, 4), axis=(1, 2))
    for index, moved in enumerate(ShiftPixels(5)(images, rngs(1000))):
        fits = np.argwhere((windows[index] == moved[0]).all((2, 3)))
        assert len(fits) > 0
        if moved.any() and len(fits) == 1:
            seen.add(tuple(fits[0]))
    assert len(seen) > 30  # of 121 places, those with something left to see


def test_probabilities_hold():
    images = pictures(600, height=8, width=8)
    for change, expected in ((Flip(0.3), 0.3), (PixelNoise(0.1, 0.5), 0.5), (Perspective(0.5, 0.7), 0.7 * (1 - 2**-8))):
        share = (change(images, rngs(600)) != images).any((1, 2, 3)).mean()
        assert share == pytest.approx(expected, abs=0.06)


def test_noise_has_the_strength_that_was_drawn():
    grey = np.full((300, 1, 28, 28), 0.5, np.float32)
    strengths = PixelNoise(0.05, 1.0)(grey, rngs(300)).std((1, 2, 3))
    assert strengths.min() < 0.005
    assert 0.045 < strengths.max() < 0.055
    assert strengths.mean() == pytest.approx(0.025, abs=0.003)


CORNERS = np.array([[0, 0], [9, 0], [9, 6], [0, 6]], dtype=np.float64)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=4, max_size=4))
def test_the_projection_takes_the_moved_corners_to_the_old_ones_and_lines_to_lines(inwards):
    moved = CORNERS + np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * np.array(inwards)
    places = _sources(moved[None], CORNERS, 7, 10)[0]
    for (x, y), corner in zip(moved.astype(int), CORNERS, strict=True):
        assert places[y, x] == pytest.approx(corner, abs=1e-9)
    assert np.isfinite(places).all()
    for line in (places[0], places[3], places[:, 0], places[:, 5]):
        ahead, aside = line[-1] - line[0], line - line[0]
        assert np.abs(ahead[0] * aside[:, 1] - ahead[1] * aside[:, 0]).max() < 1e-8


def test_no_move_is_no_change_and_a_square_becomes_smaller_inside_black():
    images = pictures(4)
    assert np.allclose(Perspective(0.0, 1.0)(images, rngs(4)), images, atol=1e-5)
    inside = CORNERS + 2 * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    seen = _sample(np.ones((1, 1, 7, 10), np.float32), _sources(inside[None], CORNERS, 7, 10))[0, 0]
    assert seen[2:5, 2:8] == pytest.approx(1.0, abs=1e-5)
    assert seen[:, 0].max() == seen[0].max() == seen[6].max() == seen[:, 9].max() == 0


def test_brightness_between_pixels_is_linear():
    ramp = np.tile(np.linspace(0, 1, 10, dtype=np.float32), (7, 1))[None, None]
    places = np.stack(np.meshgrid(np.linspace(0, 9, 10) * 0.5, np.arange(7.0)), axis=-1)[None]
    assert _sample(ramp, places)[0, 0, 3] == pytest.approx(np.linspace(0, 0.5, 10), abs=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ShiftPixels(-1), "ShiftPixels: max is -1, expected a whole number of pixels, at least 0"),
        (lambda: Flip(1.5), "Flip: probability is 1.5, expected 0 to 1"),
        (lambda: Perspective(0.6, 0.5), "Perspective: distortion is 0.6, expected a share, 0 to 0.5"),
        (lambda: Perspective(0.5, -0.5), "Perspective: probability is -0.5"),
        (lambda: PixelNoise(float("nan"), 0.5), "PixelNoise: std is nan, expected at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
