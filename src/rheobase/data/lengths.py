"""Samples of different lengths: padded at the end to one number of steps, with the number of valid steps of each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped
from torch import Tensor

from rheobase.errors import DataError


def lengths_of(dataset: Any) -> Int[np.ndarray, " n"] | None:
    """The number of valid steps of every sample of a data set; None if it has no lengths, so that all steps are valid.

    Example:
        >>> import torch
        >>> from rheobase.data import ArrayDataset
        >>> lengths_of(ArrayDataset(torch.rand(5, 2, 3), np.array([0, 1]), lengths=[5, 2]))
        array([5, 2])
    """
    lengths = getattr(dataset, "lengths", None)
    return None if lengths is None else np.asarray(lengths)


def check_lengths(lengths: Any, samples: int, steps: int, source: str) -> Int[np.ndarray, " n"]:
    """Lengths as int64, one for each sample; `source` is their name in error messages.

    Raises:
        DataError: if they are not one row of integers, one for each of the `samples`, from 1 to `steps`.

    Example:
        >>> check_lengths([3, 5], 2, 4, "lengths")
        Traceback (most recent call last):
        rheobase.errors.DataError: lengths: sample 1 has 5, expected 1 to 4, the steps of the data set; the rest is padding
    """
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
        raise DataError(
            f"{source}: got {lengths.dtype} of shape {lengths.shape}, expected one integer per sample, its number of steps"
        )
    if len(lengths) != samples:
        raise DataError(f"{source}: got {len(lengths)} for {samples} samples, expected one for each")
    outside = np.flatnonzero((lengths < 1) | (lengths > steps))
    if len(outside):
        raise DataError(
            f"{source}: sample {outside[0]} has {lengths[outside[0]]}, expected 1 to {steps}, the steps of the data set; the "
            "rest is padding"
        )
    return lengths.astype(np.int64)


def padded(samples: Sequence[Tensor], steps: int) -> Shaped[Tensor, "T B *features"]:
    """Samples `(length, *features)`, or targets, stacked, each padded with zeros at its end to `steps`.

    Example:
        >>> import torch
        >>> padded([torch.ones(1, 1), torch.ones(2, 1)], 2).squeeze(-1)
        tensor([[1., 1.],
                [0., 1.]])
    """
    x = samples[0].new_zeros(steps, len(samples), *samples[0].shape[1:])
    for column, sample in enumerate(samples):
        x[: len(sample), column] = sample
    return x
