"""Tests of rheobase.data.recordings, through Events.from_recordings."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rheobase.data import EventDataset, Events
from rheobase.errors import DataError


@given(
    recordings=st.lists(
        st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 6)), max_size=9), min_size=1, max_size=5
    ),
    unit=st.sampled_from(["s", "ms", "us"]),
    make=st.sampled_from([list, np.array, torch.tensor, lambda values: np.array(values, np.float64)]),
)
def test_events_are_sorted_and_in_seconds(recordings, unit, make):
    pairs = [(make([t for t, _ in recording]), [u for _, u in recording]) for recording in recordings]
    events = Events.from_recordings(pairs, [0] * len(pairs), unit=unit, channels=7)
    assert len(events) == len(recordings)
    for sample, recording in enumerate(recordings):
        got, expected = events.recording(sample), sorted(recording, key=lambda event: event[0])
        seconds = np.array([t for t, _ in expected], np.float64) / {"s": 1, "ms": 1e3, "us": 1e6}[unit]
        assert got.times.tolist() == seconds.astype(np.float32).tolist()
        assert got.units.tolist() == [u for _, u in expected]


@pytest.mark.parametrize("polarity", [np.uint8, bool, np.int64])
def test_pixels_of_a_camera_are_where_they_were(polarity):
    rng = np.random.default_rng(0)
    p, y, x = (rng.integers(0, size, 50) for size in (2, 3, 4))
    times = rng.integers(0, 1000, 50)
    small = (times, x.astype(np.uint8), torch.from_numpy(y), p.astype(polarity))
    both = [([], [], [], []), small]
    events = Events.from_recordings(both, np.array([0, 1]), unit="us", sensor=(2, 3, 4), classes=("a", "b"))
    assert (events.channels, events.sensor, events.classes) == (24, (2, 3, 4), ("a", "b"))
    expected = np.zeros((10, 2, 3, 4), np.float32)
    np.add.at(expected, (times // 100, p, y, x), 1)
    assert np.array_equal(EventDataset(events, dt=1e-4, steps=10, flatten=False)[1][0], expected)


@pytest.mark.parametrize(
    ("names", "options"),
    [(("x", "y", "t", "p"), {"sensor": (2, 3, 4)}), (("t", "x", "p"), {"channels": 4}), (("t", "x"), {"channels": 4})],
)
def test_structured_arrays_are_what_their_fields_say(names, options):
    rng = np.random.default_rng(0)
    columns = {"t": rng.integers(0, 10**6, 50), "x": rng.integers(0, 4, 50)}
    columns |= {"y": rng.integers(0, 3, 50), "p": rng.integers(0, 2, 50)}
    recording = np.zeros(50, [(name, np.int64) for name in names])
    for name in names:
        recording[name] = columns[name]
    plain = tuple(columns[name] for name in ("txyp" if "sensor" in options else "tx"))
    ours, theirs = (Events.from_recordings([one], [0], unit="us", **options) for one in (recording, plain))
    assert np.array_equal(ours.times, theirs.times)
    assert np.array_equal(ours.units, theirs.units)


fine = ([0.5, 0.2], [1, 0])


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("recordings", "options", "kind", "message"),
    [
        (
            [np.zeros(3, [("ts", np.int64), ("x", np.int64)])],
            {"sensor": (2, 3, 4)},
            DataError,
            "recording 0: got a structured array with the fields ts, x, expected t, x, y, p among them; there is no t, y, p",
        ),
        ([fine], {"unit": "ns", "channels": 2}, ValueError, "unit: got 'ns', expected 's', 'ms' or 'us'"),
        ([fine], {}, ValueError, "channels, sensor: got neither, expected channels for recordings"),
        ([fine], {"channels": 2, "sensor": (1, 1, 2)}, ValueError, "channels, sensor: got both"),
        ([fine], {"channels": -2}, DataError, "recordings: channels: got -2"),
        (
            [fine],
            {"sensor": (1, 2)},
            DataError,
            r"recordings: sensor: got \(1, 2\), expected \(polarities, height, width\)",
        ),
        ([], {"channels": 2}, DataError, "got 1 labels for 0 recordings"),
        ([fine, fine], {"channels": 2}, DataError, "got 1 labels for 2 recordings"),
        (
            [np.zeros((2, 2))],
            {"channels": 2},
            TypeError,
            r"recording 0: got a ndarray, expected \(times, units\), a tuple",
        ),
        (
            [fine, (*fine, [0, 0], [1, 1])],
            {"channels": 2},
            DataError,
            r"recording 1: got 4 values.*give sensor=\(polarities",
        ),
        ([fine], {"sensor": (2, 3, 4)}, DataError, r"recording 0: got 2 values, expected \(times, x, y, polarity\)"),
        ([fine, ([1], [1, 0])], {"channels": 2}, DataError, "recording 1: units: got 2 for 1 times, expected as many"),
        (
            [([0.5], [1.0])],
            {"channels": 2},
            TypeError,
            r"recording 0: units: got float64 of shape \(1,\), expected integers",
        ),
        ([(["a"], [1])], {"channels": 2}, TypeError, "recording 0: times: got <U1 .*expected numbers"),
        (
            [([0.5, np.nan], [1, 0])],
            {"channels": 2},
            DataError,
            "recording 0: times: got nan at event 1, expected finite",
        ),
        (
            [([-3, 5], [1, 0])],
            {"channels": 2},
            DataError,
            "recording 0: times: got -3 at event 0, expected .*0 or more",
        ),
        (
            [fine, fine, ([1, 2], [1, 2])],
            {"channels": 2},
            DataError,
            "recording 2: units: got 2 at event 1, expected 0 to 1",
        ),
        ([([1], [4], [0], [0])], {"sensor": (2, 3, 4)}, DataError, "recording 0: x: got 4 at event 0, expected 0 to 3"),
        ([([1], [0], [3], [0])], {"sensor": (2, 3, 4)}, DataError, "recording 0: y: got 3 at event 0, expected 0 to 2"),
        (
            [([1], [0], [0], [-1])],
            {"sensor": (2, 3, 4)},
            DataError,
            "polarity: got -1 at event 0, expected 0 to 1; for pol",
        ),
        ([([1], [True], [0], [0])], {"sensor": (2, 3, 4)}, TypeError, "recording 0: x: got bool"),
    ],
)
def test_wrong_recordings_are_refused_by_name(recordings, options, kind, message):
    with pytest.raises(kind, match=message):
        Events.from_recordings(recordings, [0], **{"unit": "s", **options})
