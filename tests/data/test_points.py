"""Tests of rheobase.data.points: the authors' files come out of the generator, bit for bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheobase.data import draw_yin_yang, published, yin_yang
from rheobase.data.points import _FILES, _draw, yin_yang_classes
from rheobase.errors import DataError

FIXED = {"train": (5000, 42), "validation": (1000, 41), "test": (1000, 40)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The fixed sets as files: the checksums of the published ones say whether each is, byte for byte, the authors'."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "yin_yang").mkdir()
    for name, (samples, seed) in FIXED.items():
        values, labels = _draw(samples, seed, 0.5, 0.1)
        np.save(folder / f"yin_yang/{name}_samples.npy", values)
        np.save(folder / f"yin_yang/{name}_labels.npy", labels)
    return folder


def test_the_published_files_are_those_that_the_generator_draws(folder):
    parts = yin_yang(folder)  # which compares the published checksums
    assert [np.bincount(part.labels).tolist() for part in parts] == [
        [1681, 1702, 1617],
        [316, 336, 348],
        [350, 316, 334],
    ]
    for part, (samples, seed) in zip(parts, FIXED.values(), strict=True):
        drawn = draw_yin_yang(samples, seed)
        assert np.array_equal(part.values, drawn.values)
        assert np.array_equal(part.labels, drawn.labels)
        assert part.classes == ("yin", "yang", "dot")
        assert np.array_equal(yin_yang_classes(part.values[:, 0], part.values[:, 1]), part.labels)
        assert part.values[:, :2] + part.values[:, 2:] == pytest.approx(1.0)


@given(seed=st.integers(0, 2**32 - 1), r_small=st.floats(0.05, 0.2))
def test_points_lie_in_the_disc_in_classes_of_about_one_size(seed, r_small):
    points = draw_yin_yang(60, seed, r_small=r_small)
    x, y = points.values[:, 0].astype(float), points.values[:, 1].astype(float)
    assert np.hypot(x - 0.5, y - 0.5).max() <= 0.5 + 1e-6
    assert np.bincount(points.labels, minlength=3).min() > 4
    dots = points.labels == 2
    nearest = np.minimum(np.hypot(x - 0.25, y - 0.5), np.hypot(x - 0.75, y - 0.5))
    assert np.array_equal(dots, nearest < r_small) or np.abs(nearest - r_small).min() < 1e-6


def test_the_two_halves_are_each_other_turned_around():
    x, y = np.random.default_rng(0).random((2, 5000))
    inside = np.hypot(x - 0.5, y - 0.5) < 0.5
    classes = yin_yang_classes(x[inside], y[inside])
    turned = yin_yang_classes(1 - x[inside], 1 - y[inside])
    assert np.array_equal(turned, np.array([1, 0, 2])[classes])


def test_a_missing_or_changed_file_is_named(folder, tmp_path, monkeypatch):
    with pytest.raises(
        DataError, match=r"yin_yang/train_samples\.npy: there is no such file.*lkriener/yin_yang_data_set"
    ):
        yin_yang(tmp_path)
    (tmp_path / "yin_yang").mkdir()
    for path in (folder / "yin_yang").iterdir():
        (tmp_path / "yin_yang" / path.name).write_bytes(path.read_bytes())
    changed = tmp_path / "yin_yang/test_labels.npy"
    changed.write_bytes(changed.read_bytes()[:-1] + b"\1")
    with pytest.raises(DataError, match=r"test_labels\.npy: the checksum does not match"):
        yin_yang(tmp_path)
    monkeypatch.setattr(published, "_compare", lambda *arguments: None)
    np.save(changed, np.array([{"a": 1}] * 1000), allow_pickle=True)
    with pytest.raises(DataError, match=r"test_labels\.npy: not a NumPy file of numbers"):
        yin_yang(tmp_path)
    np.save(changed, np.zeros(1000))
    with pytest.raises(DataError, match=r"test_labels\.npy: got float64, expected numbers"):
        yin_yang(tmp_path)
    assert len(_FILES) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 0, "seed": 0}, "samples: got 0"),
        ({"samples": 1, "seed": -1}, "seed: got -1"),
        ({"samples": 1, "seed": 0, "r_big": 0.6}, "got r_big 0.6"),
        ({"samples": 1, "seed": 0, "r_small": 0.3}, "r_small 0.3"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_yin_yang(**arguments)
