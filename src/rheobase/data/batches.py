"""Batches for a training loop of one's own, time first.

PyTorch's `DataLoader` puts the batch first, `(B, T, *features)`, and a network that is given such a batch takes the samples for
time steps without an error. So here are the batches that `rheobase.fit` makes, and the function that makes a `DataLoader` put
them together as they must be.
"""

from collections.abc import Iterator, Sequence
from operator import index

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rheobase import randomness
from rheobase.data.dataset import Dataset, check_dataset, check_seed


def batches(
    dataset: Dataset, batch_size: int, *, seed: int | None = None, epoch: int = 0
) -> Iterator[tuple[Float[Tensor, "T B *features"], Int[Tensor, " B"]]]:
    """Go through a data set once, batch by batch; the last batch may be smaller.

    Args:
        dataset: the samples.
        batch_size: samples per batch, >= 1.
        seed: None for all samples in order, as they are, as for an evaluation. Otherwise an integer >= 0: the samples are
            shuffled, and augmented where the data set augments, as `rheobase.fit` does with this seed in this epoch.
        epoch: >= 0, goes with a seed: every epoch has an order and an augmentation of its own. `fit` counts from 1.

    Returns:
        An iterator over batches `(T, B, *features)` and their labels `(B,)`.

    Raises:
        TypeError: if `dataset` is no data set.
        ValueError: if a number is out of range, or there is an epoch without a seed.

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
    return (dataset.batch(part, augmentation) for part in parts)


def collate(
    samples: Sequence[tuple[Float[Tensor, "T *features"], int | Int[Tensor, ""]]],
) -> tuple[Float[Tensor, "T B *features"], Int[Tensor, " B"]]:
    """Put samples together to a batch, time first: for `DataLoader(dataset, batch_size=32, collate_fn=rheobase.data.collate)`.

    A `DataLoader` reads samples as they are: it does not ask a data set to augment them, `batches` does.

    Args:
        samples: pairs of a sample `(T, *features)` and its label, all samples of one shape.

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
    if not samples:
        raise ValueError("samples: got none, expected at least one")
    labels = []
    for number, (x, label) in enumerate(samples):
        if not isinstance(x, Tensor):
            raise TypeError(f"samples: sample {number} of the batch is a {type(x).__name__}, expected a torch.Tensor")
        if x.shape != samples[0][0].shape:
            raise ValueError(
                f"samples: sample {number} of the batch has shape {tuple(x.shape)}, expected {tuple(samples[0][0].shape)} "
                "as the first, (T, *features); pad or cut samples to one length"
            )
        try:
            labels.append(index(label))
        except TypeError:
            raise TypeError(
                f"samples: sample {number} of the batch has the label {label!r}, expected an integer"
            ) from None
    return torch.stack([x for x, _ in samples], dim=1), torch.tensor(labels)
