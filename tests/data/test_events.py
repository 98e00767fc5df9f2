"""Tests of rheobase.data.events and rheobase.data.event_datasets."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rheobase.data import (
    DropChannels,
    DropEvents,
    EventDataset,
    Events,
    JitterChannels,
    ShiftChannels,
    ShiftTime,
    StretchTime,
    Zoom,
    concatenate,
)
from rheobase.data.augment import Recording
from rheobase.errors import DataError

AUGMENT = (
    ShiftChannels(3),
    JitterChannels(1.0),
    StretchTime(0.8, 1.2),
    ShiftTime(0.05),
    DropEvents(0.5),
    DropChannels(4),
)


def counted(events: Events, sample: int, dt: float, steps: int, group: int) -> np.ndarray:
    """The binning again, one event at a time."""
    counts = np.zeros((steps, events.channels // group), np.float32)
    recording = events.recording(sample)
    for time, unit in zip(recording.times, recording.units, strict=True):
        step = int(float(time) / dt + 1e-6)
        if step < steps:
            counts[step, unit // group] += 1
    return counts


@given(
    dt=st.floats(0.003, 0.4),
    steps=st.integers(1, 40),
    group=st.sampled_from([1, 2, 4, 5, 10, 20]),
    indices=st.lists(st.integers(0, 11), min_size=1, max_size=6),
)
def test_binning_equals_counting_one_by_one(dt, steps, group, indices):
    rng = np.random.default_rng(0)
    times = np.sort(rng.random((12, 40)) * 0.5, axis=1).astype(np.float32)
    events = Events(times.ravel(), rng.integers(0, 20, 480), np.arange(0, 481, 40), np.arange(12), 20)
    x, labels = EventDataset(events, dt=dt, steps=steps, group=group).batch(np.array(indices))
    assert x.shape == (steps, len(indices), 20 // group)
    assert x.is_contiguous()
    assert labels.tolist() == indices
    for column, index in enumerate(indices):
        assert np.array_equal(x[:, column].numpy(), counted(events, index, dt, steps, group))


@given(dt=st.sampled_from([0.001, 0.002, 0.005, 0.01, 0.003, 1 / 3, 0.0007]), step=st.integers(0, 100_000))
def test_a_time_on_the_grid_belongs_to_the_step_that_it_begins(dt, step):
    events = Events(np.float32([step * dt]), np.int32([0]), np.array([0, 1]), np.array([0]), 1)
    x, _ = EventDataset(events, dt=dt, steps=step + 1).batch(np.array([0]))
    assert x[step, 0, 0] == 1


def test_empty_recordings_and_empty_batches_are_zeros():
    events = Events(np.float32([0.1]), np.int32([1]), np.array([0, 0, 1, 1]), np.array([0, 1, 0]), 4)
    data = EventDataset(events, dt=0.1, steps=3, augment=AUGMENT)
    x, _ = data.batch(np.arange(3))
    assert x.sum(dim=(0, 2)).tolist() == [0, 1, 0]
    assert data.batch(np.arange(3), seed=(1,))[0].shape == (3, 3, 4)
    assert data.batch(np.array([], dtype=np.int64))[0].shape == (3, 0, 4)


def test_a_time_beyond_all_integers_is_left_out():
    events = Events(np.float32([1e-3, 3e38]), np.int32([0, 0]), np.array([0, 2]), np.array([0]), 1)
    assert EventDataset(events, dt=1e-3, steps=2)[0][0].tolist() == [[0], [1]]


def test_counts_are_clipped():
    events = Events(np.zeros(5, np.float32), np.int32([0, 0, 0, 1, 1]), np.array([0, 5]), np.array([0]), 3)
    assert EventDataset(events, dt=1.0, steps=1)[0][0].tolist() == [[3, 2, 0]]
    assert EventDataset(events, dt=1.0, steps=1, clip=2)[0][0].tolist() == [[2, 2, 0]]


@given(
    order=st.permutations(range(12)),
    cuts=st.lists(st.integers(1, 11), max_size=4),
    seed=st.tuples(st.integers(0, 2**63), st.integers(0, 1000)),
)
def test_augmentation_does_not_depend_on_batches_or_subsets(order, cuts, seed):
    rng = np.random.default_rng(0)
    times = np.sort(rng.random((12, 40)) * 0.5, axis=1).astype(np.float32)
    events = Events(times.ravel(), rng.integers(0, 20, 480), np.arange(0, 481, 40), np.arange(12), 20)
    data = EventDataset(events, dt=0.05, steps=10, augment=AUGMENT)
    whole, _ = data.batch(np.arange(12), seed)
    shuffled = data.subset(np.array(order))
    for part in np.split(np.arange(12), sorted(cuts)):
        x, labels = shuffled.batch(part, seed)
        assert torch.equal(x, whole[:, labels])


def test_seeds_make_different_augmentation_and_none_makes_none(events):
    data = EventDataset(events, dt=0.05, steps=10, augment=AUGMENT)
    plain = EventDataset(events, dt=0.05, steps=10)
    samples = np.arange(12)
    drawn = [data.batch(samples, seed)[0] for seed in [(0, 0), (0, 1), (1, 0)]]
    assert torch.equal(data.batch(samples)[0], plain.batch(samples)[0])
    assert torch.equal(data.batch(samples, (0, 0))[0], drawn[0])
    assert torch.equal(plain.batch(samples, (0, 0))[0], plain.batch(samples)[0])
    assert torch.equal(plain.augmented(*AUGMENT).batch(samples, (0, 0))[0], drawn[0])
    assert not any(torch.equal(a, b) for a, b in [(drawn[0], drawn[1]), (drawn[0], drawn[2]), (drawn[1], drawn[2])])
    with pytest.raises(ValueError, match=r"seed: got \(0, -1\), expected integers >= 0"):
        data.batch(samples, (0, -1))


def test_speakers_are_chosen_and_left_out(events):
    data = EventDataset(events, dt=0.05, steps=10)
    assert data.where(speaker="otto").chosen.tolist() == [6, 7, 8, 9, 10, 11]
    assert data.without(speaker="otto").chosen.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.subset(np.array([11, 0, 7])).where(speaker="otto").chosen.tolist() == [11, 7]
    with pytest.raises(DataError, match="speaker: got 'eve', expected one of anna, otto"):
        data.where(speaker="eve")
    with pytest.raises(DataError, match="speaker: got 'anna', expected one of otto"):
        data.where(speaker="otto").without(speaker="anna")
    with pytest.raises(DataError, match="no field extra/speaker"):
        EventDataset(replace(events, speakers=None), dt=0.05, steps=10).where(speaker="otto")


def test_the_fingerprint_tells_every_setting(events):
    data = EventDataset(events, dt=0.05, steps=10)
    later = replace(events, times=events.times + np.float32(1e-3))
    others = [
        replace(data, **change)
        for change in (
            {"dt": 0.04}, {"steps": 9}, {"group": 2}, {"clip": 1}, {"augment": (ShiftChannels(1),)},
            {"augment": (ShiftChannels(2),)}, {"events": later}, {"events": replace(events, labels=events.labels[::-1])},
        )
    ]  # fmt: skip
    assert len({data.fingerprint(), *(other.fingerprint() for other in others)}) == 9
    assert replace(data, events=replace(events)).fingerprint() == data.fingerprint()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dt": 0.0}, "dt: got 0.0, expected seconds per step"),
        ({"dt": float("nan")}, "dt: got nan"),
        ({"steps": 0}, "steps: got 0, expected at least 1"),
        ({"group": 3}, "group: got 3, expected a divisor of the 20 channels"),
        ({"group": 0}, "group: got 0"),
        ({"clip": 0}, "clip: got 0"),
    ],
)
def test_settings_out_of_range_are_refused(events, settings, message):
    with pytest.raises(ValueError, match=message):
        EventDataset(events, **{"dt": 0.01, "steps": 5} | settings)


def lasting(*ends: float) -> Events:
    """Recordings of an event at half and one at the whole of each of `ends`; with 0, a recording without events."""
    times = np.float32([time for end in ends if end for time in (end / 2, end)])
    offsets = np.cumsum([0, *(2 if end else 0 for end in ends)])
    return Events(times, np.zeros(len(times), np.int64), offsets, np.zeros(len(ends), np.int64), 1)


@pytest.mark.parametrize(
    ("ends", "dt", "steps", "message"),
    [
        (
            (0.0, 0.5e6, 0.8e6), 0.01, 30,
            "dt: got 0.01 s with steps 30, so 0.3 s are seen, but no event is that early: the first is at 250000 s, "
            "the longest recording ends at 800000 s; probably times are in microseconds, expected seconds: divide by 1,000,000",
        ),
        ((0.0, 500.0, 800.0), 0.01, 1, "no event is that early: the first is at 250 s"),
        ((500.0, 800.0), 0.01, 30, "probably times are in milliseconds, expected seconds: divide by 1,000"),
        (
            (0.5, 0.8), 20.0, 30,
            "dt: got 20 s with steps 30, but all events lie in the first step: the longest recording ends at 0.8 s; "
            "probably dt is in milliseconds, expected seconds: divide by 1,000",
        ),
        ((0.5, 0.8), 20_000.0, 30, "probably dt is in microseconds"),
        ((1.0,), 0.01, 30, "the longest recording ends at 1 s; times are in seconds from the beginning of the recording"),
    ],
)  # fmt: skip
def test_steps_that_cannot_be_meant_are_refused(ends, dt, steps, message):
    with pytest.raises(ValueError, match=message):
        EventDataset(lasting(*ends), dt=dt, steps=steps)


def test_an_event_at_time_0_does_not_hide_the_wrong_unit():
    events = Events(np.float32([0, 300_000, 0, 800_000]), np.zeros(4, int), np.array([0, 2, 4]), np.array([0, 0]), 1)
    with pytest.raises(
        ValueError, match=r"no event after time 0 is that early: the first is at 300000 s, .* in microseconds"
    ):
        EventDataset(events, dt=0.01, steps=30)
    assert EventDataset(events, dt=0.01, steps=1)[0][0].sum() == 1


def test_steps_that_may_be_meant_are_taken():
    assert EventDataset(lasting(0.0, 0.0), dt=0.01, steps=3).batch(np.arange(2))[0].sum() == 0
    assert EventDataset(lasting(0.5, 0.8), dt=20.0, steps=1).batch(np.arange(2))[0].sum() == 4
    beginning = EventDataset(lasting(0.05, 40.0), dt=0.01, steps=3)
    assert beginning.batch(np.arange(2))[0].sum() == 1
    assert beginning.subset(np.array([1]))[0][0].sum() == 0  # a recording of which nothing is seen may be chosen
    at_once = Events(np.zeros(2, np.float32), np.array([0, 1]), np.array([0, 2]), np.array([0]), 2)
    assert EventDataset(at_once, dt=0.01, steps=3)[0][0].tolist() == [[1, 1], [0, 0], [0, 0]]


@pytest.mark.usefixtures("as_a_user")
def test_steps_are_an_integer():
    with pytest.raises(TypeError, match=r"steps: got 30.0, expected an integer, the number of time steps"):
        EventDataset(lasting(0.2), dt=0.01, steps=30.0)


@pytest.fixture
def camera() -> Events:
    """Five recordings of 30 events of a camera of 2 polarities, 3 rows and 4 columns."""
    rng = np.random.default_rng(1)
    times = np.sort(rng.random((5, 30)), axis=1).astype(np.float32).ravel()
    return Events(times, rng.integers(0, 24, 150), np.arange(0, 151, 30), np.arange(5), 24, sensor=(2, 3, 4))


@pytest.mark.parametrize("clip", [None, 1, 2])
@pytest.mark.parametrize("merge", [False, True])
def test_a_camera_keeps_its_shape_and_merges_its_polarities_when_asked(camera, merge, clip):
    shaped = EventDataset(camera, dt=0.1, steps=8, merge_polarities=merge, clip=clip, flatten=False)
    expected = np.zeros((8, 5, 2, 3, 4), np.float32)
    for sample in range(5):
        recording = camera.recording(sample)
        for time, unit in zip(recording.times, recording.units.tolist(), strict=True):
            if time < 0.8:
                expected[int(time / 0.1), sample, unit // 12, unit // 4 % 3, unit % 4] += 1
    if merge:
        expected = expected.sum(2, keepdims=True)
    expected = np.minimum(expected, np.inf if clip is None else clip)
    x, _ = shaped.batch(np.arange(5))
    assert shaped.features == ((1 if merge else 2), 3, 4)
    assert np.array_equal(x.numpy(), expected)
    flat = replace(shaped, flatten=True)
    assert flat.features == (12 if merge else 24,)
    assert torch.equal(flat.batch(np.arange(5))[0], x.flatten(2))
    assert shaped.batch(np.arange(0))[0].shape == (8, 0, *shaped.features)
    grouped = replace(flat, group=4, clip=None).batch(np.arange(5))[0]
    if clip is None:
        assert torch.equal(grouped, x.flatten(2).unflatten(2, (-1, 4)).sum(3))


def test_what_a_camera_cannot_do(camera, events):
    plain = {"dt": 0.1, "steps": 4}
    with pytest.raises(ValueError, match="merge_polarities: got True, but these events are no camera's"):
        EventDataset(events, **plain, merge_polarities=True)
    with pytest.raises(ValueError, match="flatten: got False, but these events are no camera's"):
        EventDataset(events, **plain, flatten=False)
    with pytest.raises(ValueError, match="group: got 2 with flatten=False"):
        EventDataset(camera, **plain, flatten=False, group=2)
    with pytest.raises(ValueError, match="group: got 24, expected a divisor of the 12 channels"):
        EventDataset(camera, **plain, merge_polarities=True, group=24)
    with pytest.raises(DataError, match=r"sensor: got \(2, 3, 3\) for 24 channels"):
        replace(camera, sensor=(2, 3, 3))


def test_simulated_events_are_not_mixed_with_recordings(camera):
    simulated = replace(camera, simulated=True, source="simulation")
    assert concatenate(simulated, simulated).simulated
    with pytest.raises(DataError, match="simulation: has simulated True, expected False as events"):
        concatenate(camera, simulated)


@pytest.mark.parametrize(("channels", "bytes_each"), [(256, 1), (257, 2), (65_536, 2), (65_537, 4)])
def test_channels_take_as_few_bytes_as_they_need(channels, bytes_each):
    events = Events(np.float32([0.0]), np.array([channels - 1]), np.array([0, 1]), np.array([0]), channels)
    assert events.units.itemsize == bytes_each
    assert events.recording(0).units.tolist() == [channels - 1]
    assert events.recording(0).units.dtype == np.int32


def changed(values: np.ndarray, position: int, value: float) -> np.ndarray:
    values = values.copy()
    values[position] = value
    return values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: {"times": changed(e.times, 45, np.nan)}, "times: sample 1 has nan at event 5, expected finite"),
        (lambda e: {"times": changed(e.times, 479, np.inf)}, "times: sample 11 has inf at event 39"),
        (
            lambda e: {"times": changed(e.times.astype(np.float64), 479, 1e300)},
            "times: sample 11 has 1e.300 at event 39",
        ),
        (
            lambda e: {"times": changed(e.times, 40, -0.1)},
            "times: sample 1 has -0.1.* at event 0, expected .*0 or more",
        ),
        (lambda e: {"times": changed(e.times, 41, 0.6)}, "times: sample 1 has .* at event 2, expected ascending"),
        (lambda e: {"units": changed(e.units, 80, 20)}, "units: sample 2 has 20 at event 0, expected channels 0 to 19"),
        (lambda e: {"units": changed(e.units.astype(np.int64), 0, -1)}, "units: sample 0 has -1 at event 0"),
        (lambda e: {"units": changed(e.units.astype(np.uint64), 3, 2**63)}, "units: sample 0 has 9223372036854775808"),
        (lambda e: {"labels": changed(e.labels, 4, 3)}, "labels: sample 4 has 3, expected 0 to 2"),
        (lambda e: {"labels": e.labels[:-1]}, "got 11 labels for 12 recordings"),
        (lambda e: {"speakers": changed(e.speakers, 4, 2)}, "speakers: sample 4 has 2, expected 0 to 1"),
        (lambda e: {"speakers": e.speakers[:-1]}, "got 11 speakers for 12 recordings"),
        (lambda e: {"offsets": changed(e.offsets, 12, 470)}, "offsets go from 0 to 470, expected ascending from 0"),
        (lambda e: {"offsets": changed(e.offsets, 3, 300)}, "offsets"),
        (lambda e: {"offsets": changed(e.offsets.astype(np.uint64), 3, 300)}, "offsets"),
        (lambda e: {"units": e.units[:-1]}, "480 times and 479 units"),
    ],
)
def test_bad_events_are_refused_by_name(events, change, message):
    with pytest.raises(DataError, match=message):
        replace(events, source="here", **change(events))


@pytest.mark.usefixtures("as_a_user")
def test_lists_and_tensors_are_taken_for_arrays():
    lists = Events([0.0, 0.5, 0.25], [1, 0, 2], [0, 2, 3], [0, 1], 3)
    tensors = Events(
        *map(torch.tensor, ([0.0, 0.5, 0.25], [1, 0, 2], [0, 2, 3], [0, 1])), np.int64(3), sensor=[1, 1, 3]
    )
    assert lists.digest == tensors.digest
    assert tensors.sensor == (1, 1, 3)
    assert Events([], [], [0, 0], [0], 3).recording(0).units.tolist() == []


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"units": np.float64([1, 0, 2])}, TypeError, r"here: units: got float64 of shape \(3,\), expected integers"),
        ({"times": ["a", "b", "c"]}, TypeError, "here: times: got <U1 of shape .*expected numbers, the seconds"),
        ({"times": [[0.0], [0.0, 1.0]]}, TypeError, "here: times: got a list that is not an array"),
        ({"times": [[0.0, 0.5, 0.25]]}, TypeError, r"here: times: got float64 of shape \(1, 3\)"),
        ({"labels": [0.0, 1.0]}, TypeError, "here: labels: got float64 .*expected integers, one per recording"),
        ({"channels": 3.0}, TypeError, "here: channels: got 3.0, expected an integer"),
        ({"channels": 0}, DataError, "here: channels: got 0, expected at least 1"),
        (
            {"sensor": (-1, -3, 1)},
            DataError,
            r"here: sensor: got \(-1, -3, 1\), expected \(polarities, height, width\), each",
        ),
        ({"offsets": np.array([0, 4, 3], np.uint64)}, DataError, "here: offsets go from 0 to 3, expected ascending"),
    ],
)
def test_what_is_no_array_of_the_kind_is_refused(change, kind, message):
    fields = {"times": [0.0, 0.5, 0.25], "units": [1, 0, 2], "offsets": [0, 2, 3], "labels": [0, 1], "channels": 3}
    with pytest.raises(kind, match=message):
        Events(**(fields | change), source="here")


def test_no_recording_is_refused():
    none = np.array([], np.int64)
    with pytest.raises(DataError, match="the data set is empty"):
        Events(none.astype(np.float32), none, np.array([0]), none, 5)


def test_sets_are_put_together_sample_by_sample(events):
    other = replace(events, times=events.times / 2, labels=events.labels[::-1], speakers=1 - events.speakers)
    both = concatenate(events, other, events)
    assert len(both) == 36
    for sample in range(36):
        source = (events, other, events)[sample // 12]
        assert np.array_equal(both.recording(sample).times, source.recording(sample % 12).times)
        assert np.array_equal(both.recording(sample).units, source.recording(sample % 12).units)
        assert both.labels[sample] == source.labels[sample % 12]
        assert both.speakers[sample] == source.speakers[sample % 12]
    assert len(EventDataset(both, dt=0.1, steps=5).where(speaker="anna")) == 18
    with pytest.raises(DataError, match="there: has channels 21, expected 20 as here"):
        concatenate(replace(events, source="here"), replace(events, channels=21, source="there"))
    with pytest.raises(DataError, match="has speaker_names"):
        concatenate(events, replace(events, speakers=None, speaker_names=()))


def test_equal_recordings_are_augmented_each_in_its_own_way(events):
    same = concatenate(events, events)
    x, _ = EventDataset(same, dt=0.05, steps=10, augment=AUGMENT).batch(np.arange(24), (0, 0))
    assert not any(torch.equal(x[:, sample], x[:, sample + 12]) for sample in range(12))


def test_augmentation_that_leaves_the_channels_is_refused(events):
    data = EventDataset(events, dt=0.05, steps=10).augmented(lambda one, _: one._replace(units=one.units + 10_000))
    with pytest.raises(
        ValueError, match=r"augment: got channels \d+ to \d+, expected 0 to \d+, after <lambda>; events that leave"
    ):
        data.batch(np.arange(4), (0, 0))


def test_steps_that_see_hardly_any_event_are_warned_of() -> None:
    """Microseconds for milliseconds, and a few early events."""
    times = np.concatenate(([0.0, 0.05], np.linspace(200, 1000, 998))).astype(np.float32)
    events = Events(times, np.zeros(1000, np.int32), np.array([0, 1000]), np.array([0]), 1)
    with pytest.warns(UserWarning, match=r"0.1 s are seen, with 0.2 % of the events: .* ends at 1000 s; .* 1,000"):
        EventDataset(events, dt=0.01, steps=10)
    assert EventDataset(events, dt=10.0, steps=10).steps == 10  # a tenth of the recording


class Move:
    """An augmentation of a user's own."""

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, recording: Recording, rng: np.random.Generator) -> Recording:
        return recording._replace(times=recording.times + np.float32(self.by))


@pytest.mark.parametrize(
    ("by", "got"), [(-0.1, "-0.1 to 0.1"), (float("nan"), "nan to nan"), (float("inf"), "inf to inf")]
)
@pytest.mark.parametrize("others", [0, 1])
def test_augmentation_to_times_that_there_are_not_is_refused(by, got, others):
    """Counted, they would be events of other steps: -1 is the last but one from behind."""
    events = Events(np.float32([0.0, 0.2]), np.int32([0, 1]), np.array([0, 2]), np.array([0]), channels=2)
    other = (StretchTime(1.0, 1.0),) * others
    data = EventDataset(events, dt=0.1, steps=4, augment=(*other, Move(by), *other))
    message = (
        rf"augment: got times from {got} s, expected finite times from 0 on, after Move; events .* recording.keep\("
    )
    with pytest.raises(ValueError, match=message):
        data.batch(np.array([0]), (0,))
    dropping = data.augmented(Move(by), lambda one, _: one.keep((one.times >= 0) & (one.times < np.inf)))
    assert dropping.batch(np.array([0]), (0,))[0].sum() == (1 if by == -0.1 else 0)


@pytest.mark.parametrize("change", [ShiftChannels(1), JitterChannels(1.0), Zoom()])
def test_pixels_of_a_camera_are_no_line_of_channels(camera: Events, change) -> None:
    with pytest.raises(ValueError, match=f"augment: got {type(change).__name__}, .* these events are a camera's"):
        EventDataset(camera, dt=0.1, steps=10, augment=(change,))
    EventDataset(camera, dt=0.1, steps=10, augment=(ShiftTime(0.1),)).batch(np.arange(2), (0,))
    EventDataset(replace(camera, sensor=None), dt=0.1, steps=10, augment=(change,)).batch(np.arange(2), (0,))


@pytest.mark.usefixtures("as_a_user")
def test_augmentations_are_several() -> None:
    with pytest.raises(
        TypeError, match=r"expected a tuple of augmentations; a single one is \(ShiftTime\(max=0.1\),\)"
    ):
        EventDataset(lasting(0.2), dt=0.01, steps=3, augment=ShiftTime(0.1))
    with pytest.raises(TypeError, match="expected functions"):
        EventDataset(lasting(0.2), dt=0.01, steps=3, augment=(ShiftTime,))
