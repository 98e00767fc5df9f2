"""Tests of rheobase.data.batches."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from rheobase import randomness
from rheobase.data import ArrayDataset, EventDataset, ShiftChannels, batches, collate, collate_padded


def arrays(n: int = 10) -> ArrayDataset:
    return ArrayDataset(torch.rand(4, n, 3), np.arange(n) % 3)


def test_batches_and_a_data_loader_are_time_first_and_the_same():
    data = arrays()
    ours, theirs = list(batches(data, 4)), list(DataLoader(data, batch_size=4, collate_fn=collate))
    assert [tuple(x.shape) for x, _ in ours] == [(4, 4, 3), (4, 4, 3), (4, 2, 3)]
    for (x, labels), (other, other_labels) in zip(ours, theirs, strict=True):
        assert torch.equal(x, other)
        assert x.is_contiguous()
        assert other.is_contiguous()
        assert torch.equal(labels, other_labels)
        assert labels.dtype == other_labels.dtype == torch.int64
    assert torch.equal(torch.cat([x for x, _ in ours], dim=1), data.x)


def test_with_a_seed_batches_are_shuffled_and_augmented_as_in_training(events):
    data = EventDataset(events, dt=0.05, steps=10).augmented(ShiftChannels(3))
    for epoch in (1, 2):
        order, seed = randomness.order(5, epoch, 12), randomness.augmentation(5, epoch)
        got = list(batches(data, 8, seed=5, epoch=epoch))
        for (x, labels), indices in zip(got, (order[:8], order[8:]), strict=True):
            expected, expected_labels = data.batch(indices, seed)
            assert torch.equal(x, expected)
            assert torch.equal(labels, expected_labels)
        assert not torch.equal(got[0][0], data.batch(order[:8])[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size: got 0, expected at least 1"),
        ({"batch_size": 2, "epoch": 3}, "epoch: got 3 without a seed"),
        ({"batch_size": 2, "seed": -1}, r"seed: got \(-1, 0\), expected integers >= 0"),
    ],
)
def test_wrong_arguments_are_refused_before_the_first_batch(arguments, message):
    with pytest.raises(ValueError, match=message):
        batches(arrays(), **arguments)


@pytest.mark.usefixtures("as_a_user")
def test_what_is_no_data_set_is_refused():
    with pytest.raises(TypeError, match="dataset must be a data set, got a Tensor"):
        batches(torch.rand(4, 10, 3), 2)


@pytest.mark.usefixtures("as_a_user")
def test_what_is_no_sample_is_refused():
    with pytest.raises(TypeError, match=r"sample 0 of the batch is a ndarray, expected a torch.Tensor"):
        collate([(np.zeros((4, 3)), 0)])
    with pytest.raises(TypeError, match=r"sample 1 of the batch has the label 0.5, expected an integer"):
        collate([(torch.rand(4, 3), torch.tensor(2)), (torch.rand(4, 3), 0.5)])


def test_batches_and_a_data_loader_give_the_lengths():
    lengths = np.array([4, 1, 2, 3, 1, 4, 2])
    data = ArrayDataset(torch.rand(4, 7, 3), np.arange(7) % 3, lengths=lengths)
    ours = list(batches(data, 3, lengths=True))
    assert torch.cat([got for *_, got in ours]).tolist() == lengths.tolist()
    theirs = DataLoader(data, batch_size=3, collate_fn=collate_padded)
    for (x, labels, real), (other, other_labels, other_real) in zip(ours, theirs, strict=True):
        assert labels.equal(other_labels)
        assert real.equal(other_real)
        assert len(other) == real.max()
        for column, length in enumerate(real.tolist()):
            assert torch.equal(other[:length, column], x[:length, column])
            assert other[length:, column].eq(0).all()
    for (x, labels, real), indices in zip(batches(data, 5, seed=3, lengths=True), (slice(5), slice(5, 7)), strict=True):
        order = randomness.order(3, 0, 7)[indices]
        assert real.tolist() == lengths[order].tolist()
        assert labels.equal(data.batch(order)[1])
        assert torch.equal(x, data.batch(order)[0])
    assert [real.tolist() for *_, real in batches(arrays(3), 2, lengths=True)] == [[4, 4], [4]]
    with pytest.raises(ValueError, match=r"lengths: got False for samples of different lengths, .* lengths=True"):
        batches(data, 3)


def test_samples_that_cannot_be_put_together_are_refused():
    with pytest.raises(
        ValueError, match=r"sample 1 of the batch has shape \(5, 3\), .* collate_fn=rheobase.data.collate_padded"
    ):
        collate([(torch.rand(4, 3), 0), (torch.rand(5, 3), 1)])
    with pytest.raises(TypeError, match=r"sample 1 of the batch is torch.float64, expected torch.float32 as the first"):
        collate_padded([(torch.rand(4, 3), 0), (torch.rand(5, 3).double(), 1)])
    with pytest.raises(
        ValueError, match=r"sample 1 of the batch has shape \(0, 3\), expected at least one step; leave it out"
    ):
        collate_padded([(torch.rand(4, 3), 0), (torch.rand(0, 3), 1)])
    with pytest.raises(ValueError, match="samples: got none"):
        collate([])
