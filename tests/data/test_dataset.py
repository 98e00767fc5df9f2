"""Tests of rheobase.data.dataset."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from rheobase.data import ArrayDataset, Dataset, EventDataset, Events, ImageDataset, Images, ShiftChannels, split
from rheobase.data.dataset import check_dataset
from rheobase.encoding import direct
from rheobase.errors import DataError
from rheobase.layers.held import is_held


def arrays(n: int = 10, classes: int = 2) -> ArrayDataset:
    return ArrayDataset(torch.rand(4, n, 3), np.arange(n) % classes)


@pytest.fixture(params=["arrays", "events", "images"])
def dataset(request, events) -> Dataset:
    if request.param == "arrays":
        return arrays(12, 3)
    if request.param == "events":
        return EventDataset(events, dt=0.05, steps=4)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 5, 6)).astype(np.uint8)
    return ImageDataset(Images(pixels, np.arange(12) % 3), steps=4)


def test_every_data_set_keeps_the_contract(dataset):
    assert isinstance(dataset, Dataset)
    x, labels = dataset.batch(np.array([3, 0, 7]))
    assert x.shape == (4, 3, *dataset.features)
    assert x.dtype == torch.float32
    assert x.is_contiguous() or is_held(x)  # nothing that would have to be copied to be computed with
    assert x[0].is_contiguous()
    assert labels.dtype == torch.int64
    assert labels.tolist() == dataset.labels[[3, 0, 7]].tolist() == [0, 0, 1]
    assert len(dataset) == len(dataset.labels) == 12
    assert len(dataset.classes) == 3


def test_a_sample_of_its_own_equals_its_column_in_a_batch(dataset):
    x, labels = dataset.batch(np.arange(12))
    for index, (sample, label) in enumerate(dataset):
        assert torch.equal(sample, x[:, index])
        assert label == labels[index]
    assert torch.equal(dataset[-1][0], x[:, 11])
    with pytest.raises(IndexError, match="sample 12 requested, the data set has 12"):
        dataset[12]


def test_torch_can_load_it_as_a_map_style_data_set(dataset):
    x, labels = next(iter(DataLoader(dataset, batch_size=5)))
    assert x.shape == (5, 4, *dataset.features)  # DataLoader puts the batch first.
    assert labels.tolist() == dataset.labels[:5].tolist()


def test_a_subset_of_a_subset_leads_to_the_full_set(dataset):
    part = dataset.subset(np.array([8, 2, 5])).subset(np.array([2, 0]))
    assert part.labels.tolist() == dataset.labels[[5, 8]].tolist()
    assert torch.equal(part.batch(np.array([0, 1]))[0], dataset.batch(np.array([5, 8]))[0])


@pytest.mark.parametrize("indices", [[-1], [0, 12]])
def test_indices_out_of_range_are_refused(dataset, indices):
    with pytest.raises(IndexError, match=r"indices: got -?\d+, expected 0 to 11"):
        dataset.batch(np.array(indices))
    with pytest.raises(IndexError, match="expected 0 to 11"):
        dataset.subset(np.array(indices))
    with pytest.raises(ValueError, match="at least one sample"):
        dataset.subset(np.array([], dtype=np.int64))


def test_the_fingerprint_tells_other_samples_and_order(dataset):
    assert dataset.fingerprint() == dataset.subset(np.arange(12)).fingerprint()
    parts = [np.array([0, 1]), np.array([1, 0]), np.array([0])]
    prints = {dataset.fingerprint(), *(dataset.subset(part).fingerprint() for part in parts)}
    assert len(prints) == 4


def test_the_fingerprint_tells_other_values_and_labels():
    x, y = torch.rand(4, 6, 3), np.arange(6) % 2
    other = x.clone()
    other[3, 5, 2] += 1
    sets = [ArrayDataset(x, y), ArrayDataset(other, y), ArrayDataset(x, 1 - y), ArrayDataset(x, y, ("a", "b"))]
    sets += [ArrayDataset(x.double(), y), ArrayDataset(x.view(4, 6, 1, 3), y)]
    assert len({data.fingerprint() for data in sets}) == len(sets)


@pytest.mark.usefixtures("as_a_user")
def test_tensors_and_arrays_are_not_mixed_up():
    x, y = torch.rand(4, 6, 3), np.arange(6) % 2
    with pytest.raises(TypeError, match="y: got a list, expected a tensor or a NumPy array; convert it"):
        ArrayDataset(x, y.tolist())
    assert np.array_equal(ArrayDataset(x, torch.from_numpy(y)).labels, ArrayDataset(x, y).labels)
    with pytest.raises(TypeError, match=r"x: got a ndarray, expected a torch.Tensor; convert it"):
        ArrayDataset(x.numpy(), y)


@given(
    counts=st.lists(st.integers(2, 30), min_size=1, max_size=5),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**40),
)
def test_a_split_is_stratified_disjoint_and_complete(counts, fraction, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    data = ArrayDataset(torch.arange(len(labels), dtype=torch.float32).view(1, -1, 1), labels)
    rest, part = split(data, fraction, seed)
    indices = [part.batch(np.arange(len(part)))[0].int().flatten().tolist() for part in (rest, part)]
    assert sorted(indices[0] + indices[1]) == list(range(len(labels)))
    assert indices == [sorted(indices[0]), sorted(indices[1])]
    for label, count in enumerate(counts):
        in_part = int((part.labels == label).sum())
        assert 1 <= in_part <= count - 1
        assert abs(in_part - fraction * count) <= 1


def test_a_split_depends_on_its_seed_alone():
    data = arrays(100)
    chosen = [split(data, 0.2, seed)[1].chosen.tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize(
    ("fraction", "seed", "message"),
    [(0.0, 0, "fraction"), (1.0, 0, "fraction"), (float("nan"), 0, "fraction"), (0.5, -1, "seed")],
)
def test_a_split_refuses_bad_arguments(fraction, seed, message):
    with pytest.raises(ValueError, match=message):
        split(arrays(), fraction, seed)


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([4, 4, 1, 5], "lengths: sample 3 has 5, expected 1 to 4, the steps of the data set; the rest is padding"),
        ([4, 0, 1, 2], "lengths: sample 1 has 0, expected 1 to 4"),
        ([4, 1, 1], "lengths: got 3 for 4 samples, expected one for each"),
        ([4.0, 1.0, 1.0, 2.0], r"lengths: got float64 of shape \(4,\), expected one integer per sample"),
        ([[4, 1, 1, 2]], r"lengths: got int64 of shape \(1, 4\)"),
    ],
)
def test_bad_lengths_are_refused(lengths, message):
    with pytest.raises(DataError, match=message):
        ArrayDataset(torch.rand(4, 4, 3), np.arange(4), lengths=lengths)

    class Own(ArrayDataset):
        """A data set of one's own, whose lengths nobody has checked."""

    own = Own(torch.rand(4, 4, 3), np.arange(4))
    object.__setattr__(own, "lengths", lengths)
    with pytest.raises(DataError, match=f"train: {message}"):
        check_dataset(own, "train")


def test_parts_keep_their_lengths_and_samples_end_with_them():
    lengths = np.array([4, 1, 2, 3, 1, 4, 2, 2])
    data = ArrayDataset(torch.rand(4, 8, 3), np.arange(8) % 2, lengths=torch.from_numpy(lengths))
    check_dataset(data, "train")
    part = data.subset(np.array([7, 3, 0])).subset(np.array([2, 1]))
    assert part.lengths.tolist() == [4, 3]
    for half in split(data, 0.5, seed=0):
        assert half.lengths.tolist() == lengths[half.chosen].tolist()
    for index in (*range(8), -1):
        assert torch.equal(data[index][0], data.x[: lengths[index], index])


def test_the_fingerprint_tells_other_lengths_and_is_the_old_one_without():
    x = (torch.arange(5 * 4 * 3).view(5, 4, 3) % 7).float()
    data = ArrayDataset(x, np.array([0, 1, 1, 0]), ("a", "b"))
    assert data.fingerprint() == "fe8975a60086bc15ac56d014b24d97c4aec17ffd59f09feee178a5164858d629"
    part = data.subset(np.array([2, 0]))
    assert part.fingerprint() == "a2241e94df8e64a59087546008d5dfa61c1315b317f07ffe5c603555e9693557"
    sets = [data, *(ArrayDataset(x, data.labels, ("a", "b"), lengths=[5, 2, k, 5]) for k in (1, 2, 5))]
    assert len({data.fingerprint() for data in sets}) == 4
    assert sets[1].subset(np.arange(4)).fingerprint() == sets[1].fingerprint()


def test_recordings_end_with_their_last_event():
    recordings = [([0.0, 0.02], [0, 1]), ([], []), ([0.03], [1]), ([0.0, 0.05], [1, 1]), ([0.0, 9.0], [0, 0])]
    events = Events.from_recordings(recordings, labels=[0, 1, 1, 0, 1], unit="s", channels=2)
    whole = EventDataset(events, dt=0.01, steps=10)
    data = whole.until_last_event()
    assert data.lengths.tolist() == [3, 1, 4, 6, 10]
    x = data.batch(np.arange(5))[0]
    assert torch.equal(x, whole.batch(np.arange(5))[0])
    for column, length in enumerate(data.lengths.tolist()):
        assert x[length:, column].eq(0).all()
        assert column in (1, 4) or x[length - 1, column].any()
    assert whole.subset(np.array([3, 0])).until_last_event().lengths.tolist() == [6, 3]
    assert data.subset(np.array([3, 0])).augmented(ShiftChannels(1)).lengths.tolist() == [6, 3]
    assert len({whole.fingerprint(), data.fingerprint()}) == 2
    few = Events(np.float32([0.0, 0.01, 0.01]), np.int32([0, 3, 2]), np.array([0, 1, 3]), np.array([0, 1]), channels=4)
    digest = EventDataset(few, dt=0.01, steps=2, group=2).fingerprint()
    assert digest == "01578bf5b5d646514c90375d10ed7a8724cd27921f94526d3cbac0a726e36787"  # as it always was


def test_a_split_refuses_a_class_of_one_sample():
    data = ArrayDataset(torch.rand(2, 3, 1), np.array([0, 0, 1]), ("dog", "cat"))
    with pytest.raises(ValueError, match="class 'cat' has 1 sample"):
        split(data, 0.5, 0)


def nan_at(step: int, sample: int) -> torch.Tensor:
    x = torch.rand(4, 3, 2)
    x[step, sample, 1] = float("nan")
    return x


@pytest.mark.parametrize(
    ("x", "labels", "classes", "message"),
    [
        (nan_at(2, 1), [0, 1, 0], (), "x: sample 1 is NaN or infinite at step 2"),
        (torch.full((4, 3, 2), float("inf")), [0, 1, 0], (), "x: sample 0 is NaN or infinite at step 0"),
        (torch.ones(4, 3, 2, dtype=torch.int64), [0, 1, 0], (), r"x: got torch.int64, expected a floating point"),
        (torch.rand(4, 3), [0, 1, 0], (), r"x: got shape \(4, 3\), expected \(T, n, \*features\)"),
        (torch.rand(3, 4, 2), [0, 1, 0], (), "got 3 for 4 samples.*time first"),
        (torch.rand(4, 3, 2), [0, 2, 0], ("a", "b"), "labels: sample 1 has 2, expected 0 to 1"),
        (torch.rand(4, 3, 2), [0, -1, 0], (), "labels: sample 1 has -1"),
        (torch.rand(4, 3, 2), [0.0, 1.0, 0.0], (), "labels: got float64 of shape .*expected one integer per sample"),
        (torch.rand(4, 3, 2), [[0], [1], [0]], (), "expected one integer per sample"),
        (torch.rand(4, 0, 2), np.array([], np.int64), (), "the data set is empty"),
    ],
)
def test_bad_arrays_are_refused(x, labels, classes, message):
    with pytest.raises(DataError, match=message):
        ArrayDataset(x, np.asarray(labels), classes)


@pytest.mark.parametrize(
    "view",
    [lambda x: direct(x[0], 50), lambda x: x.transpose(0, 1), lambda x: x[:, :, :5]],
    ids=["the same at every step", "batch first", "of some features"],
)
def test_a_batch_of_a_view_does_not_copy_all_of_it(view: Callable[[Tensor], Tensor]) -> None:
    x = view(torch.rand(300, 300, 9))
    data, chosen = ArrayDataset(x, np.arange(x.shape[1]) % 2), np.array([3, 1, 200])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        batch, _ = data.batch(chosen)
    assert torch.equal(batch, x[:, chosen])
    assert sum(max(event.self_cpu_memory_usage, 0) for event in profile.events()) < 3 * batch.nbytes


def test_printed_it_is_its_sizes() -> None:
    data = arrays(10)
    assert repr(data) == f"ArrayDataset(10 samples, {data.steps} steps of {data.features}, 2 classes)"
    assert repr(data.subset(np.arange(4))).startswith("ArrayDataset(4 samples, ")
