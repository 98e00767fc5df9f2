"""Batches for your own training loop, time first.

PyTorch's `DataLoader` puts the batch first, `(B, T, *features)`, and a network given such a batch silently takes the samples
for time steps. So here are the batches that `rheobase.fit` makes, and a function with which a `DataLoader` assembles them
correctly.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from rheobase import randomness
from rheobase.data.dataset import Dataset, check_dataset, check_seed
from rheobase.data.lengths import lengths_of, padded
from rheobase.ops.arguments import state_type


@overload
def batches(
    dataset: Dataset, batch_size: int, *, seed: int | None = None, epoch: int = 0, lengths: Literal[False] = False
) -> Iterator[tuple[Float[Tensor, "T B *features"], Shaped[Tensor, "..."]]]: ...


@overload
def batches(
    dataset: Dataset, batch_size: int, *, seed: int | None = None, epoch: int = 0, lengths: Literal[True]
) -> Iterator[tuple[Float[Tensor, "T B *features"], Shaped[Tensor, "..."], Int[Tensor, " B"]]]: ...


def batches(
    dataset: Dataset, batch_size: int, *, seed: int | None = None, epoch: int = 0, lengths: bool = False
) -> Iterator[Any]:
    """Go through a data set once, batch by batch; the last batch may be smaller.

    Args:
        dataset: the samples.
        batch_size: samples per batch, >= 1.
        seed: None for all samples in order, unchanged, as for an evaluation. Otherwise an integer >= 0: the samples are
            shuffled, and augmented where the data set augments, as `rheobase.fit` does with this seed in this epoch.
        epoch: >= 0, used with a seed: every epoch has its own order and augmentation. `fit` counts from 1.
        lengths: whether each batch comes with the number of valid steps of its samples, `(B,)`, for `rheobase.mask_of`; T for
            all of them if the data set has no padding.

    Returns:
        An iterator over batches `(T, B, *features)` and their labels `(B,)` or targets, and their lengths `(B,)` if requested.

    Raises:
        TypeError: if `dataset` is not a data set.
        ValueError: if a number is out of range, there is an epoch without a seed, or the samples have different lengths and
            lengths were not requested.

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
                f"epoch: got {epoch} without a seed, which would give the same order in every epoch; give a seed"
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
                "lengths: got False for samples of different lengths, whose padding would count as steps; write "
                "for x, labels, lengths in batches(..., lengths=True), and use rheobase.masked"
            )
        return (dataset.batch(part, augmentation) for part in parts)
    real = np.full(len(dataset), dataset.steps) if known is None else known
    return ((*dataset.batch(part, augmentation), torch.from_numpy(real[part])) for part in parts)


def collate(
    samples: Sequence[tuple[Float[Tensor, "T *features"], Any]], *, every_step: bool | None = None
) -> tuple[Float[Tensor, "T B *features"], Shaped[Tensor, "..."]]:
    """Assemble samples into a batch, time first: for `DataLoader(dataset, batch_size=32, collate_fn=rheobase.data.collate)`.

    A `DataLoader` reads samples unchanged: it does not ask a data set to augment them; `batches` does.

    Args:
        samples: pairs of a sample `(T, *features)` and its label or its targets, `(*K)`, all of one shape. For those of
            different lengths, use `collate_padded`.
        every_step: whether targets are `(T, *K)`, one at each step, in a loader `partial(collate, every_step=True)`; None means
            no, but refuses targets of which there are as many as steps.

    Returns:
        The batch `(T, B, *features)`, and the labels `(B,)`, int64, or the targets, `(B, *K)` or, at every step, `(T, B, *K)`;
        integers as int64, other numbers in the precision of the samples, at least float32.

    Raises:
        TypeError: if a sample is not a tensor, a label or target is neither a number nor a tensor of numbers, or is an integer
            in one sample but not in another.
        ValueError: if there is no sample, or one differs in shape from the first, or has other targets.

    Example:
        >>> x, labels = collate([(torch.rand(5, 3), 1), (torch.rand(5, 3), 0)])
        >>> x.shape, labels
        (torch.Size([5, 2, 3]), tensor([1, 0]))
        >>> x, targets = collate([(torch.rand(5, 3), torch.rand(5, 1)) for _ in range(2)], every_step=True)
        >>> targets.shape
        torch.Size([5, 2, 1])
    """
    targets = _checked(samples, every_step)
    for number, (x, target) in enumerate(zip((x for x, _ in samples), targets, strict=True)):
        if len(x) != len(samples[0][0]):
            raise ValueError(
                f"samples: sample {number} of the batch has shape {tuple(x.shape)}, expected {tuple(samples[0][0].shape)} "
                "like the first, (T, *features); for samples of different lengths, collate_fn=rheobase.data.collate_padded"
            )
        if target.shape != targets[0].shape:
            raise ValueError(
                f"samples: sample {number} of the batch has targets of shape {tuple(target.shape)}, expected "
                f"{tuple(targets[0].shape)} as the first"
            )
    return torch.stack([x for x, _ in samples], dim=1), torch.stack(targets, dim=int(bool(every_step)))


def collate_padded(
    samples: Sequence[tuple[Float[Tensor, "_ *features"], Any]], *, every_step: bool | None = None
) -> tuple[Float[Tensor, "T B *features"], Shaped[Tensor, "..."], Int[Tensor, " B"]]:
    """Like `collate`, for samples of different lengths: they are padded with zeros at their ends to the longest of the batch.

    Args:
        samples: pairs of a sample `(length, *features)` and its label or its targets, all samples with the same features.
        every_step: as for `collate`, targets at every step are `(length, *K)`, and are padded with zeros too.

    Returns:
        The batch `(T, B, *features)`, the labels `(B,)` or targets, as from `collate`, and the lengths `(B,)`, for
        `rheobase.mask_of(lengths, len(x))`.

    Raises:
        TypeError: as for `collate`, or if a sample's type differs from that of the first.
        ValueError: if there is no sample, one has no step, different features than the first, different targets, or not as many
            of them as steps.

    Example:
        >>> x, labels, lengths = collate_padded([(torch.rand(5, 3), 1), (torch.rand(2, 3), 0)])
        >>> x.shape, lengths
        (torch.Size([5, 2, 3]), tensor([5, 2]))
    """
    targets = _checked(samples, every_step)
    for number, (x, target) in enumerate(zip((x for x, _ in samples), targets, strict=True)):
        if x.dtype != samples[0][0].dtype:
            raise TypeError(
                f"samples: sample {number} of the batch is {x.dtype}, expected {samples[0][0].dtype} as the first"
            )
        if len(x) == 0:
            raise ValueError(
                f"samples: sample {number} of the batch has shape {tuple(x.shape)}, expected at least one step; leave it out"
            )
        expected = (len(x), *targets[0].shape[1:]) if every_step else targets[0].shape
        if target.shape != expected:
            raise ValueError(
                f"samples: sample {number} of the batch has targets of shape {tuple(target.shape)}, expected {tuple(expected)}"
                + (", one at each step and otherwise as the first" if every_step else " as the first")
            )
    lengths = torch.tensor([len(x) for x, _ in samples])
    longest = int(lengths.max())
    together = padded(targets, longest) if every_step else torch.stack(targets)
    return padded([x for x, _ in samples], longest), together, lengths


def _checked(samples: Sequence[tuple[Tensor, Any]], every_step: bool | None) -> list[Tensor]:
    """The labels or targets of samples that have the same features, as tensors of one type."""
    if not samples:
        raise ValueError("samples: got none, expected at least one")
    targets: list[Tensor] = []
    for number, (x, given) in enumerate(samples):
        if not isinstance(x, Tensor):
            raise TypeError(f"samples: sample {number} of the batch is a {type(x).__name__}, expected a torch.Tensor")
        if x.ndim == 0 or x.shape[1:] != samples[0][0].shape[1:]:
            raise ValueError(
                f"samples: sample {number} of the batch has shape {tuple(x.shape)}, expected {tuple(samples[0][0].shape)} "
                "as the first, (T, *features), of which T alone may differ"
            )
        try:
            target = torch.as_tensor(given)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(
                f"samples: sample {number} of the batch has the label {given!r}, expected a number or a tensor of numbers"
            ) from None
        target = target.to(state_type(x)) if target.is_floating_point() else target.long()
        if targets and target.dtype != targets[0].dtype:
            raise TypeError(
                f"samples: sample {number} of the batch has the label {given!r}, in {target.dtype}, expected "
                f"{targets[0].dtype} as of the first"
            )
        if every_step and target.ndim == 0:
            raise ValueError(
                f"samples: sample {number} of the batch has the label {given!r}, expected a target at every step, (T, *K); for "
                "a label of the sample, every_step=False"
            )
        if every_step is None and target.ndim and len(target) == len(x):
            raise ValueError(
                f"samples: sample {number} of the batch has as many targets, of shape {tuple(target.shape)}, as steps; say "
                "whether there is one at every step: functools.partial(rheobase.data.collate, every_step=True), or False"
            )
        targets.append(target)
    return targets
