"""Tests of rheobase.data.saccades: what the camera sees, and a simulation that is killed and goes on."""

import json
from functools import partial

import numpy as np
import pytest

from rheobase.data import Images, n_mnist, n_mnist_files, saccades, simulate_n_mnist
from rheobase.data.saccades import Camera, Simulator
from rheobase.errors import DataError

NOISELESS = Camera(noise=0.0, spread=0.0)


def bar(rows: slice, columns: slice) -> np.ndarray:
    image = np.zeros((28, 28), np.uint8)
    image[rows, columns] = 255
    return image


BAR = bar(slice(4, 24), slice(12, 15))
"""A stroke as wide as a pen's."""


def places(units: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    units = units.astype(np.int64)
    return units % 34, units // 34 % 34, units // 1156


def test_a_recording_is_that_of_a_seed_and_a_number():
    times, units = Simulator(3).record(BAR, 5)
    again = Simulator(3)
    again.record(BAR, 4)
    assert all(np.array_equal(*pair) for pair in zip((times, units), again.record(BAR, 5), strict=True))
    assert not np.array_equal(times, again.record(BAR, 6)[0])
    assert not np.array_equal(times, Simulator(4).record(BAR, 5)[0])
    assert times.dtype == np.int64
    assert (np.diff(times) >= 0).all()
    assert 0 <= times.min() <= times.max() < 315_000


def test_nothing_is_seen_where_there_is_nothing():
    times, _ = Simulator(0, NOISELESS).record(np.zeros((28, 28), np.uint8), 0)
    assert len(times) == 0


def test_the_leading_edge_of_a_stroke_is_darker_and_the_trailing_edge_brighter():
    times, units = Simulator(0, NOISELESS).record(BAR, 0)
    x, _, polarity = places(units)
    leftwards = times > 210_000
    middle = (times > 250_000) & (times < 275_000)
    assert x[middle & (polarity == 0)].mean() < x[middle & (polarity == 1)].mean() - 1
    assert polarity[leftwards].mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("begin", "right", "down"), [(0, 3.5, 7), (105_000, 3.5, -7), (210_000, -7, 0)])
def test_the_image_moves_along_the_triangle(begin, right, down):
    dot = bar(slice(12, 15), slice(12, 15))
    times, units = Simulator(0, NOISELESS).record(dot, 0)
    x, y, polarity = places(units)
    dark = polarity == 0
    first = dark & (times > begin) & (times < begin + 40_000)
    last = dark & (times > begin + 65_000) & (times < begin + 105_000)
    # From the middle of the first 40 ms to that of the last, a cosine goes 0.85 of its way.
    assert x[last].mean() - x[first].mean() == pytest.approx(0.85 * right, abs=1.3)
    assert y[last].mean() - y[first].mean() == pytest.approx(0.85 * down, abs=1.3)


def test_a_pixel_is_blind_for_the_refractory_time():
    times, units = Simulator(0, NOISELESS).record(BAR, 0)
    order = np.lexsort((times, units % 1156))
    same = np.diff((units % 1156)[order].astype(np.int64)) == 0
    assert np.diff(times[order])[same].min() >= 1699  # times are whole microseconds
    slow, _ = Simulator(0, Camera(noise=0.0, spread=0.0, refractory=20_000.0)).record(BAR, 0)
    assert len(slow) < len(times) / 2


def test_a_lower_threshold_sends_more_and_thresholds_differ_between_pixels():
    count = {
        threshold: len(Simulator(0, Camera(noise=0.0, threshold=threshold)).record(BAR, 0)[0])
        for threshold in (0.2, 0.4)
    }
    assert count[0.2] > 1.5 * count[0.4]
    rows = [
        np.bincount(places(Simulator(0, Camera(noise=0.0, spread=spread)).record(BAR, 0)[1])[1], minlength=34)
        for spread in (0.0, 0.2)
    ]
    # Inside of the bar all rows see the same.
    assert np.ptp(rows[0][14:20]) == 0 < np.ptp(rows[1][14:20])


def test_noise_has_its_rate_and_polarity():
    camera = Camera(noise=20.0, noise_on=0.75)
    times, units = Simulator(0, camera).record(np.zeros((28, 28), np.uint8), 0)
    expected = 20 * 1156 * 0.315
    assert abs(len(times) - expected) < 5 * expected**0.5
    assert (units >= 1156).mean() == pytest.approx(0.75, abs=0.03)
    assert len(np.unique(units % 1156)) > 1100
    assert np.histogram(times, 3)[0] == pytest.approx(expected / 3, abs=5 * expected**0.5)


@pytest.mark.parametrize(
    "wrong",
    [{"contrast": 1.0}, {"threshold": 0.0}, {"spread": 0.5}, {"refractory": 10.0}, {"noise": -1.0}, {"noise_on": 1.5}],
)
def test_a_camera_that_there_cannot_be(wrong):
    with pytest.raises(ValueError, match="expected"):
        Camera(**wrong)


RNG = np.random.default_rng(0)


def digits(count: int) -> Images:
    strokes = [bar(slice(5, 9 + index), slice(10 + index % 3, 14)) for index in range(count)]
    return Images(np.stack(strokes), RNG.integers(0, 10, count), tuple("0123456789"))


@pytest.fixture
def pictures(monkeypatch):
    """MNIST of 7 + 3 pictures, written in blocks of 2."""
    pair = digits(7), digits(3)
    monkeypatch.setattr(saccades, "mnist", lambda data_dir, download: pair)
    monkeypatch.setattr(saccades, "_BLOCK", 2)
    return pair


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_simulation_lies_in_the_official_layout_and_the_loader_reads_it(tmp_path, pictures):
    told = []
    folder = simulate_n_mnist(tmp_path, seed=2, progress=lambda *news: told.append(news))
    assert folder == tmp_path / "n_mnist_simulated"
    assert told == [("Train", 2, 7), ("Train", 4, 7), ("Train", 6, 7), ("Train", 7, 7), ("Test", 2, 3), ("Test", 3, 3)]
    assert (folder / f"Train/{pictures[0].labels[6]}/00007.bin").is_file()
    assert "not the recordings of N-MNIST" in json.loads((folder / "simulation.json").read_text())["what"]
    train, test = n_mnist(tmp_path, simulated=True)
    assert train.simulated
    assert [events.labels.tolist() for events in (train, test)] == [part.labels.tolist() for part in pictures]
    times, units = Simulator(2).record(pictures[0].pixels[3], 3)
    recording = train.recording(3)
    assert np.array_equal(np.rint(recording.times * np.float64(1e6)), times)
    assert np.array_equal(recording.units, units)
    assert not np.array_equal(train.recording(0).times, test.recording(0).times)  # the noise differs


def test_a_simulation_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(tmp_path, pictures):
    whole = contents(simulate_n_mnist(tmp_path / "whole"))

    def interrupt(at, part, done, total):
        if (part, done) == at:
            raise KeyboardInterrupt

    for at in (("Train", 2), ("Train", 6), ("Test", 2)):
        with pytest.raises(KeyboardInterrupt):
            simulate_n_mnist(tmp_path / "cut", progress=partial(interrupt, at))
        with pytest.raises(DataError, match="the simulation is not complete"):
            n_mnist(tmp_path / "cut", simulated=True)
    # Killed in the middle of a block: half a file, of which the record knows nothing.
    half = tmp_path / f"cut/n_mnist_simulated/Test/{pictures[1].labels[2]}/00003.bin"
    half.write_bytes(b"\0\0\0")
    assert contents(simulate_n_mnist(tmp_path / "cut")) == whole
    assert contents(simulate_n_mnist(tmp_path / "cut")) == whole


def test_a_part_of_the_pictures(tmp_path, pictures):
    simulate_n_mnist(tmp_path, samples=5)
    assert [len(events) for events in n_mnist(tmp_path, simulated=True)] == [5, 3]
    assert n_mnist_files.PARTS == {"Train": 60_000, "Test": 10_000}


def test_another_simulation_is_not_mixed_in(tmp_path, pictures):
    simulate_n_mnist(tmp_path, samples=2)
    with pytest.raises(DataError, match="holds a simulation with seed 0, requested is 1; delete the folder"):
        simulate_n_mnist(tmp_path, samples=2, seed=1)
    with pytest.raises(DataError, match="holds a simulation with samples"):
        simulate_n_mnist(tmp_path)
    record = tmp_path / "n_mnist_simulated/simulation.json"
    record.write_text(record.read_text().replace('"Train": 2', '"Train": -2'))
    with pytest.raises(DataError, match="holds a simulation with samples"):
        simulate_n_mnist(tmp_path, samples=2)
    for damaged in ("{}", '{"done": {"Train": Infinity, "Test": 2}}', "[" * 10_000):
        record.write_text(damaged)
        with pytest.raises(DataError, match="holds files, but no record of a simulation"):
            simulate_n_mnist(tmp_path, samples=2)


@pytest.mark.parametrize(("wrong", "message"), [({"seed": -1}, "seed: got -1"), ({"samples": 0}, "samples: got 0")])
def test_wrong_arguments(tmp_path, pictures, wrong, message):
    with pytest.raises(ValueError, match=message):
        simulate_n_mnist(tmp_path, **wrong)
    assert list(tmp_path.iterdir()) == []
