"""Batches for a training loop of one's own, time first.

PyTorch's `DataLoader` puts the batch first, `(B, T, *features)`, and a network that is given such a batch takes the samples for
time steps without an error. So here are the batches that `rheobase.fit` makes, and the function that makes a `DataLoader` put
them together as they must be.
"""

from collections.abc import Iterator, Sequence
from operator import index
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rheobase import randomness
from rheobase.data.dataset import Dataset, check_dataset, check_seed
from rheobase.data.lengths import lengths_of, padded


@overload
def batches(
    dataset: Dataset, batch_size: int, *, seed: int | None = None, epoch: int = 0, lengths: Literal[False] = False
) -> Iterator[tuple[Float[Tensor, "T B *features"], Int[Tensor, " B"]]]: ...


@overload
def batches(
    dataset: Dataset, batch_size: int, *, seed: int | None = None, epoch: int = 0, lengths: Literal[True]
) -> Iterator[tuple[Float[Tensor, "T B *features"], Int[Tensor, " B"], Int[Tensor, " B"]]]: ...


def batches(
    dataset: Dataset, batch_size: int, *, seed: int | None = None, epoch: int = 0, lengths: bool = False
) -> Iterator[Any]:
    """Go through a data set once, batch by batch; the last batch may be smaller.

    Args:
        dataset: the samples.
        batch_size: samples per batch, >= 1.
        seed: None for all samples in order, as they are, as for an evaluation. Otherwise an integer >= 0: the samples are
            shuffled, and augmented where the data set augments, as `rheobase.fit` does with this seed in this epoch.
        epoch: >= 0, goes with a seed: every epoch has an order and an augmentation of its own. `fit` counts from 1.
        lengths: whether each batch comes with the number of real steps of its samples, `(B,)`, for `rheobase.mask_of`; that is
            T for all of them where the data set has no padding.

    Returns:
        An iterator over batches `(T, B, *features)` and their labels `(B,)`, and their lengths `(B,)` if they are asked for.

    Raises:
        TypeError: if `dataset` is no data set.
        ValueError: if a number is out of range, there is an epoch without a seed, or the samples have different lengths, which
            are not asked for.

    Example:
        >>> from rheobase.data import ArrayDataset
        >>> data = ArrayDataset(torch.rand(5, 8, 3), np.arange(8) % 2)
        >>> for epoch in range(2):
        ...     for x, labels in batches(data, 6, seed=0, epoch=epoch):
        ...         print(epoch, tuple(x.shape), tuple(labels.shape))
        0 (5, 6, 3) (6,)
        0 (5, 2, 3) (2,)
        1 (5, 6, 3) (6,)
        1 (5, 2, 3) (2,)
    """
    check_dataset(dataset, "dataset")
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}, expected at least 1")
    if seed is None:
        if epoch != 0:
            raise ValueError(
                f"epoch: got {epoch} without a seed, which would be the same order in every epoch; give a seed"
            )
        order, augmentation = np.arange(len(dataset)), None
    else:
        check_seed((seed, epoch))
        order, augmentation = randomness.order(seed, epoch, len(dataset)), randomness.augmentation(seed, epoch)
    parts = (order[start : start + batch_size] for start in range(0, len(order), batch_size))
    known = lengths_of(dataset)
    if not lengths:
        if known is not None:
            raise ValueError(
                "lengths: got False for samples of different lengths, whose padding would be taken for steps; write "
                "for x, labels, lengths in batches(..., lengths=True), and use rheobase.masked"
            )
        return (dataset.batch(part, augmentation) for part in parts)
    real = np.full(len(dataset), dataset.steps) if known is None else known
    return ((*dataset.batch(part, augmentation), torch.from_numpy(real[part])) for part in parts)


def collate(
    samples: Sequence[tuple[Float[Tensor, "T *features"], int | Int[Tensor, ""]]],
) -> tuple[Float[Tensor, "T B *features"], Int[Tensor, " B"]]:
    """Put samples together to a batch, time first: for `DataLoader(dataset, batch_size=32, collate_fn=rheobase.data.collate)`.

    A `DataLoader` reads samples as they are: it does not ask a data set to augment them, `batches` does.

    Args:
        samples: pairs of a sample `(T, *features)` and its label, all samples of one shape. Those of different lengths are put
            together by `collate_padded`.

    Returns:
        The batch `(T, B, *features)`, and the labels `(B,)`, int64.

    Raises:
        TypeError: if a sample is no tensor or a label no integer.
        ValueError: if there is no sample, or one has another shape than the first.

    Example:
        >>> x, labels = collate([(torch.rand(5, 3), 1), (torch.rand(5, 3), 0)])
        >>> x.shape, labels
        (torch.Size([5, 2, 3]), tensor([1, 0]))
    """
    labels = _checked(samples)
    for number, (x, _) in enumerate(samples):
        if len(x) != len(samples[0][0]):
            raise ValueError(
                f"samples: sample {number} of the batch has shape {tuple(x.shape)}, expected {tuple(samples[0][0].shape)} "
                "as the first, (T, *features); for samples of different lengths, collate_fn=rheobase.data.collate_padded"
            )
    return torch.stack([x for x, _ in samples], dim=1), labels


def collate_padded(
    samples: Sequence[tuple[Float[Tensor, "_ *features"], int | Int[Tensor, ""]]],
) -> tuple[Float[Tensor, "T B *features"], Int[Tensor, " B"], Int[Tensor, " B"]]:
    """As `collate`, of samples of different lengths: zeros are put at their ends, up to the longest of the batch.

    Args:
        samples: pairs of a sample `(length, *features)` and its label, all samples with the same features.

    Returns:
        The batch `(T, B, *features)`, the labels `(B,)`, and the lengths `(B,)`, for `rheobase.mask_of(lengths, len(x))`.

    Raises:
        TypeError: if a sample is no tensor, or of another type than the first, or a label no integer.
        ValueError: if there is no sample, one has no step, or other features than the first.

    Example:
        >>> x, labels, lengths = collate_padded([(torch.rand(5, 3), 1), (torch.rand(2, 3), 0)])
        >>> x.shape, lengths
        (torch.Size([5, 2, 3]), tensor([5, 2]))
    """
    labels = _checked(samples)
    for number, (x, _) in enumerate(samples):
        if x.dtype != samples[0][0].dtype:
            raise TypeError(
                f"samples: sample {number} of the batch is {x.dtype}, expected {samples[0][0].dtype} as the first"
            )
        if len(x) == 0:
            raise ValueError(
                f"samples: sample {number} of the batch has shape {tuple(x.shape)}, expected at least one step; leave it out"
            )
    lengths = torch.tensor([len(x) for x, _ in samples])
    return padded([x for x, _ in samples], int(lengths.max())), labels, lengths


def _checked(samples: Sequence[tuple[Tensor, int | Tensor]]) -> Int[Tensor, " B"]:
    """The labels of samples that have the same features and labels as they must be."""
    if not samples:
        raise ValueError("samples: got none, expected at least one")
    labels = []
    for number, (x, label) in enumerate(samples):
        if not isinstance(x, Tensor):
            raise TypeError(f"samples: sample {number} of the batch is a {type(x).__name__}, expected a torch.Tensor")
        if x.ndim == 0 or x.shape[1:] != samples[0][0].shape[1:]:
            raise ValueError(
                f"samples: sample {number} of the batch has shape {tuple(x.shape)}, expected {tuple(samples[0][0].shape)} "
                "as the first, (T, *features), of which T alone may differ"
            )
        try:
            labels.append(index(label))
        except TypeError:
            raise TypeError(
                f"samples: sample {number} of the batch has the label {label!r}, expected an integer"
            ) from None
    return torch.tensor(labels)
