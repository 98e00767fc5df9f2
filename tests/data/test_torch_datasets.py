"""Tests of rheobase.data.torch_datasets, and of what is said where PyTorch's data sets are handed over as they are."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

import rheobase as rb
from rheobase.data import ArrayDataset, Dataset, TargetDataset, batches, from_torch, split
from rheobase.data.dataset import check_dataset
from rheobase.errors import DataError


def tensors(seed: int = 0) -> TensorDataset:
    return TensorDataset(torch.rand(12, 4, 3, generator=torch.Generator().manual_seed(seed)), torch.arange(12) % 3)


class Samples:
    """A map-style data set of such samples."""

    def __init__(self, *samples: Any) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


def test_it_is_a_data_set_of_the_same_samples():
    theirs = tensors()
    data = from_torch(theirs)
    assert isinstance(data, Dataset)
    assert (data.steps, data.features, data.classes, len(data)) == (4, (3,), ("0", "1", "2"), 12)
    same = ArrayDataset(theirs.tensors[0].transpose(0, 1), theirs.tensors[1])
    for (x, labels), (other, other_labels) in zip(batches(data, 5, seed=3), batches(same, 5, seed=3), strict=True):
        assert torch.equal(x, other)
        assert torch.equal(labels, other_labels)
    part = split(data, 0.5, seed=0)[1]
    assert torch.equal(part[1][0], theirs[int(part.chosen[1])][0])
    assert data.batch(np.array([], np.int64))[0].shape == (4, 0, 3)


def test_samples_of_numpy_and_names_of_classes():
    data = from_torch(Samples(*((np.float32([[k, 0], [0, k]]), np.int32(k)) for k in range(2))), ("no", "yes"))
    assert data.classes == ("no", "yes")
    assert data[1][0].tolist() == [[1, 0], [0, 1]]
    assert data[1][1] == 1


def test_the_fingerprint_tells_samples_labels_classes_and_choice():
    x, y = tensors().tensors
    last = x.clone()
    last[11, 3, 2] += 1
    sets = [from_torch(TensorDataset(*pair)) for pair in ((x, y), (last, y), (x, 2 - y), (x.double(), y))]
    sets += [from_torch(tensors(), ("a", "b", "c")), sets[0].subset(np.arange(11))]
    assert len({data.fingerprint() for data in sets}) == 6
    assert from_torch(tensors()).fingerprint() == sets[0].fingerprint() == sets[0].subset(np.arange(12)).fingerprint()


def test_samples_of_different_lengths_are_padded_and_keep_their_lengths():
    rng = torch.Generator().manual_seed(0)
    samples = [(torch.rand(length, 3, generator=rng), k % 2) for k, length in enumerate((2, 5, 1, 4))]
    data = from_torch(Samples(*samples))
    assert data.steps == 5
    assert data.lengths.tolist() == [2, 5, 1, 4]
    x = data.batch(np.arange(4))[0]
    assert x.shape == (5, 4, 3)
    for column, (sample, _) in enumerate(samples):
        assert torch.equal(x[: len(sample), column], sample)
        assert x[len(sample) :, column].eq(0).all()
        assert torch.equal(data[column][0], sample)
    part = data.subset(np.array([2, 0])).subset(np.array([1]))
    assert part.lengths.tolist() == [2]
    assert part.steps == 5
    assert [data.subset(half.chosen).lengths.tolist() for half in split(data, 0.5, seed=0)] == [
        data.lengths[half.chosen].tolist() for half in split(data, 0.5, seed=0)
    ]
    assert from_torch(Samples(*samples[:1])).lengths is None
    # The same numbers, cut into samples elsewhere, are other data.
    whole, moved = torch.cat([x for x, _ in samples]), [2, 4, 2, 4]
    other = from_torch(Samples(*((x, k % 2) for k, x in enumerate(whole.split(moved)))))
    assert other.content == data.content
    assert other.fingerprint() != data.fingerprint()


def test_samples_of_one_length_have_the_fingerprint_that_they_always_had():
    x = (torch.arange(5 * 4 * 3).view(5, 4, 3) % 7).float()
    data = from_torch(Samples(*((x[:, k], (0, 1, 1, 0)[k]) for k in range(4))))
    assert data.fingerprint() == "839be3508af650ed6887df621db5f10b4dc4757546a32d47b269820263bad73c"


good = (torch.zeros(4, 3), 0)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ((), "the data set is empty"),
        ((torch.zeros(4, 3),), r"sample 0 is a Tensor, expected a pair \(x, label\)"),
        ((good, (*good, 1)), "sample 1 is 3 values, expected a pair"),
        ((good, ([0.0], 1)), r"sample 1 is a list, expected a tensor \(T, \*features\)"),
        (((torch.zeros(4), 0),), r"sample 0 has shape \(4,\), expected \(T, \*features\); encode it over time"),
        (((torch.zeros(4, 3, dtype=torch.uint8), 0),), "sample 0 is torch.uint8, expected floating point"),
        ((good, (torch.zeros(4, 5), 0)), r"sample 1 is torch.float32 of shape \(4, 5\), expected .* of shape \(4, 3\)"),
        (((torch.full((4, 3), torch.nan), 0),), "sample 0 is NaN or infinite"),
        ((good, (torch.full((4, 3), torch.inf), 0)), "sample 1 is NaN or infinite"),
        (
            (good, (torch.zeros(4, 3), 0.5)),
            r"sample 1 has a target of torch.float32 and shape \(\), expected .* first, the label 0",
        ),
        (
            (good, (torch.zeros(4, 3), "yes")),
            r"sample 1 has the label 'yes', expected an integer, or a regression target",
        ),
        (
            ((torch.zeros(4, 3), [0.5]),),
            r"sample 0 has the label \[0\.5\], expected an integer, or a regression target",
        ),
        (((torch.zeros(4, 3), np.array(["a"])),), r"sample 0 has the label array\(\['a'\].*, expected an integer"),
        (
            ((torch.zeros(4, 3), torch.zeros(2)), (torch.zeros(4, 3), torch.zeros(3))),
            r"sample 1 .* shape \(3,\), .*\(2,\)",
        ),
        (((torch.zeros(4, 3), torch.zeros(4).long()),), r"sample 0 .*torch.int64 and shape \(4,\), .*every_step=True"),
        (((torch.zeros(4, 3), float("nan")),), "sample 0 has a target that is NaN or infinite"),
        ((good, (torch.zeros(4, 3), -1)), "labels: sample 1 has -1, expected 0 to"),
    ],
)
def test_wrong_samples_are_refused_by_their_number(samples, message):
    with pytest.raises(DataError, match=message):
        from_torch(Samples(*samples))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (((torch.zeros(4, 3), 0),), r"sample 0 has the label 0, expected a target at every step, \(4, \*K\)"),
        (((torch.zeros(4, 3), torch.zeros(3, 2)),), r"sample 0 has .*shape \(3, 2\), expected .* \(4, \*K\)"),
        (((torch.zeros(4, 3), torch.arange(4)), (torch.zeros(4, 3), torch.rand(4))), "sample 1 .*float32 .*int64"),
        (
            ((torch.zeros(4, 3), torch.zeros(4, 2)), (torch.zeros(5, 3), torch.zeros(5))),
            r"sample 1 .*\(5,\), .*\(4, 2\)",
        ),
    ],
)
def test_wrong_targets_at_every_step_are_refused_by_their_number(samples, message):
    with pytest.raises(DataError, match=message):
        from_torch(Samples(*samples), every_step=True)


def test_classes_have_names_and_targets_have_not():
    with pytest.raises(DataError, match=r"sample 0 has .*shape \(\), expected an integer, since classes are named"):
        from_torch(Samples((torch.zeros(4, 3), 0.5)), ("a",))


@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("differ", [False, True])
def test_targets_are_those_of_a_target_data_set(every_step, differ):
    rng = torch.Generator().manual_seed(0)
    lengths = [2, 5, 1, 4] if differ else [5] * 4
    samples = [(torch.rand(length, 3, generator=rng), torch.rand(length, 2, generator=rng)) for length in lengths]
    if not every_step:
        samples = [(x, y.mean(0)) for x, y in samples]
    data = from_torch(Samples(*samples), every_step=every_step)
    assert isinstance(data, Dataset)
    x = torch.nn.utils.rnn.pad_sequence([x for x, _ in samples])
    targets = [y for _, y in samples]
    y = torch.nn.utils.rnn.pad_sequence(targets) if every_step else torch.stack(targets)
    same = TargetDataset(x, y, every_step=every_step, lengths=lengths if differ else None)
    for ours, theirs in zip(data.batch(np.array([2, 0])), same.batch(np.array([2, 0])), strict=True):
        assert torch.equal(ours, theirs)
    for k in range(4):
        assert all(torch.equal(one, other) for one, other in zip(data[k], same[k], strict=True))
    assert data.classes == ()
    assert np.array_equal(data.labels, same.labels)
    part = split(data, 0.5, seed=0)[1]
    assert np.array_equal(part.labels, split(same, 0.5, seed=0)[1].labels)
    network = rb.Sequential(torch.nn.Linear(3, 8), rb.LIF(8), torch.nn.Linear(8, 2), rb.LeakyReadout(2))
    assert rb.evaluate(network, data).loss == rb.evaluate(network, same).loss


def test_a_class_at_every_step_is_a_target():
    samples = [(torch.rand(length, 3), torch.arange(length) % 2) for length in (4, 2)]
    data = from_torch(Samples(*samples), every_step=True)
    assert data.batch(np.array([1, 0]))[1].tolist() == [[0, 0], [1, 1], [0, 0], [0, 1]]
    assert all(torch.equal(data[k][1], y) for k, (_, y) in enumerate(samples))


def test_the_fingerprint_tells_targets():
    x, y = torch.rand(4, 5, 3), torch.rand(4, 5)
    of = lambda y, **how: from_torch(Samples(*zip(x, y, strict=True)), **how).fingerprint()  # noqa: E731
    assert len({of(y), of(y, every_step=True), of(y + 1), of([0, 1, 0, 1]), of([0.0, 1.0, 0.0, 1.0])}) == 5
    assert of(y) == of(y.clone())


def test_samples_that_change_are_refused():
    class Random(Samples):
        def __getitem__(self, index: int) -> Any:
            return torch.rand(4, 3), 0

    with pytest.raises(DataError, match="sample 0 changed when it was read again"):
        from_torch(Random(good))


class Stream(IterableDataset):
    """Not map-style, but with a length."""

    def __iter__(self) -> Any:
        return iter([good])

    def __len__(self) -> int:
        return 1


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (DataLoader(tensors()), r"got a DataLoader, expected its data set; write from_torch\(loader.dataset\)"),
        (Stream(), "got a Stream, expected a map-style data set of PyTorch"),
        (object(), "got a object, expected a map-style"),
        (ArrayDataset(torch.rand(2, 3, 1), torch.zeros(3).long()), "a ArrayDataset already is a data set for training"),
    ],
)
def test_what_is_not_map_style_is_refused(dataset, message):
    with pytest.raises(TypeError, match=message):
        from_torch(dataset)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Samples(good), r"train must be a data set, got a Samples, which lacks classes, features, steps, labels, batch, "
                        r"subset, fingerprint, see rheobase.data.Dataset; .*rheobase.data.from_torch\(dataset\)"),
        (tensors(), r"got a TensorDataset, which lacks .*from_torch\(dataset\)"),
        (Subset(tensors(), [1, 2]), r"got a Subset, which lacks .*from_torch\(dataset\)"),
        (Subset(from_torch(tensors()), [1, 2]), r"got a Subset; write dataset.subset\(indices\), or .*split"),
        (DataLoader(tensors()), r"got a DataLoader; training makes its own batches: .*from_torch\(loader.dataset\)"),
        (torch.zeros(3), r"got a Tensor; for tensors, rheobase.data.ArrayDataset\(x, labels\)"),
    ],
)  # fmt: skip
def test_what_is_no_data_set_is_refused_with_the_remedy(dataset, message):
    with pytest.raises(TypeError, match=message):
        check_dataset(dataset, "train")


def test_the_members_that_are_named_are_those_of_the_protocol():
    class Whole(Samples):
        classes, features, steps, labels = ("a",), (3,), 4, np.zeros(1, np.int64)
        batch = subset = fingerprint = lambda self: None

    check_dataset(Whole(good), "train")
    for member in ("classes", "features", "steps", "labels", "batch", "subset", "fingerprint"):
        partial = type("Partial", (Samples,), {k: v for k, v in vars(Whole).items() if k != member and k[0] != "_"})
        with pytest.raises(TypeError, match=f"got a Partial, which lacks {member}, see"):
            check_dataset(partial(good), "train")


def test_samples_of_a_single_feature_with_any_stride() -> None:
    odd = torch.rand(1, 5).T
    assert odd.stride(1) != 1
    plain = from_torch([(odd.clone(memory_format=torch.contiguous_format), 0)])
    assert from_torch([(odd, 0)]).fingerprint() == plain.fingerprint()
