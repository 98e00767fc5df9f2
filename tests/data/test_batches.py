"""Tests of rheobase.data.batches."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from rheobase import mask_of, randomness
from rheobase.data import ArrayDataset, EventDataset, ShiftChannels, TargetDataset, batches, collate, collate_padded


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
    with pytest.raises(
        TypeError, match=r"sample 1 .* label 0\.5, in torch.float32, expected torch.int64 as of the first"
    ):
        collate([(torch.rand(4, 3), torch.tensor(2)), (torch.rand(4, 3), 0.5)])
    with pytest.raises(
        TypeError, match=r"sample 0 of the batch has the label 'cat', expected a number or a tensor of numbers"
    ):
        collate([(torch.rand(4, 3), "cat")])


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


@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("kind", [torch.float32, torch.int64])
@pytest.mark.parametrize("lengths", [None, np.array([4, 1, 2, 3, 1, 4, 2])])
def test_targets_are_put_together_as_the_data_set_does(every_step, kind, lengths):
    torch.manual_seed(0)
    y = (9 * torch.rand(4, 7, 2)).to(kind)
    data = TargetDataset(torch.rand(4, 7, 3), y if every_step else y[0], every_step=every_step, lengths=lengths)
    together = partial(collate if lengths is None else collate_padded, every_step=every_step)
    loader = DataLoader(data, batch_size=3, collate_fn=together)
    for ours, theirs in zip(batches(data, 3, lengths=lengths is not None), loader, strict=True):
        steps = len(theirs[0])
        assert torch.equal(
            theirs[0], (ours[0] * mask_of(ours[2], 4)[..., None] if lengths is not None else ours[0])[:steps]
        )
        assert theirs[1].dtype == kind
        for column in range(theirs[0].shape[1]):
            real = 4 if lengths is None else int(ours[2][column])
            if not every_step:
                assert torch.equal(theirs[1][column], ours[1][column])
                continue
            assert torch.equal(theirs[1][:real, column], ours[1][:real, column])
            assert not theirs[1][real:, column].any()


def test_targets_are_numbers_as_precise_as_the_samples():
    samples = [(torch.rand(4, 3), 0.25), (torch.rand(4, 3), np.float64(0.75))]
    assert collate(samples)[1].tolist() == [0.25, 0.75]
    assert collate(samples)[1].dtype == torch.float32
    of_arrays = [(torch.rand(4, 3).double(), np.zeros((4, 2), np.float32))] * 2
    assert collate(of_arrays, every_step=True)[1].shape == (4, 2, 2)
    assert collate(of_arrays, every_step=False)[1].shape == (2, 4, 2)
    assert collate(of_arrays, every_step=False)[1].dtype == torch.float64


def test_targets_that_cannot_be_put_together_are_refused():
    x = torch.rand(4, 3)
    with pytest.raises(
        ValueError, match=r"sample 1 of the batch has targets of shape \(3,\), expected \(2,\) as the first"
    ):
        collate([(x, torch.rand(2)), (x, torch.rand(3))])
    with pytest.raises(
        ValueError, match=r"sample 1 of the batch has targets of shape \(3,\), expected \(2,\) as the first"
    ):
        collate_padded([(x, torch.rand(2)), (x, torch.rand(3))])
    with pytest.raises(ValueError, match=r"sample 0 .* targets of shape \(3, 2\), expected \(4, 2\), one at each step"):
        collate_padded([(x, torch.rand(3, 2))], every_step=True)
    for together in (collate, collate_padded):
        with pytest.raises(
            ValueError, match=r"sample 0 .* as many targets, of shape \(4, 2\), as steps; .* every_step=True"
        ):
            together([(x, torch.rand(4, 2))])
    with pytest.raises(ValueError, match=r"the label 1, expected a target at every step, .* every_step=False"):
        collate([(x, 1)], every_step=True)


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
