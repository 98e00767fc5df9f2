"""Samples of different lengths in training and evaluation: batches are computed under a mask, so padding counts nowhere.

A batch keeps the steps of its data set, even where all of its samples are shorter. Cutting it to the longest of them would be
cheaper, but not the same: random draws for each step would depend on which samples share a batch, and neurons made for a number
of steps, such as `rheobase.PSN`, accept no other.
"""

import inspect
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rheobase.data import Dataset
from rheobase.data.lengths import lengths_of
from rheobase.padding import mask_of, masked, only

Mask = Bool[Tensor, "T B"]


def mask_for(dataset: Dataset, indices: np.ndarray, x: Float[Tensor, "T B *features"]) -> Mask | None:
    """The valid steps of the batch `x` of the samples at `indices`; None if the data set has no lengths.

    Example:
        >>> import torch, rheobase as rb
        >>> data = rb.data.ArrayDataset(torch.rand(3, 2, 4), np.array([0, 1]), lengths=[3, 1])
        >>> mask_for(data, np.array([1]), data.batch(np.array([1]))[0]).flatten()
        tensor([ True, False, False])
    """
    lengths = lengths_of(dataset)
    return None if lengths is None else mask_of(lengths[indices], len(x)).to(x.device)


def under(network: nn.Module, mask: Mask | None) -> AbstractContextManager[None]:
    """`rheobase.masked`, if there is a mask."""
    return nullcontext() if mask is None else masked(network, mask)


def given(function: Callable[..., Any], mask: Mask | None) -> Callable[..., Any]:
    """A loss, a decoder or a penalty, with the mask passed to it if there is one."""
    return function if mask is None else partial(function, mask=mask)


def without_padding(x: Float[Tensor, "T B *features"], mask: Mask | None) -> Float[Tensor, "T B *features"]:
    """A batch with its padding set to zero."""
    return x if mask is None else only(x, mask, "batch")


def check_mask_is_taken(
    dataset: Dataset, name: str, functions: Iterable[tuple[str, Callable[..., Any] | None]]
) -> None:
    """Refuse functions that would count padding as steps, if the data set has lengths.

    Args:
        dataset: the data set they are for.
        name: its name in error messages.
        functions: each with the name of its argument.

    Raises:
        TypeError: if one of them has no parameter `mask`.

    Example:
        >>> import torch, rheobase as rb
        >>> data = rb.data.ArrayDataset(torch.rand(3, 2, 4), np.array([0, 1]), lengths=[3, 1])
        >>> check_mask_is_taken(data, "train", [("decode", rb.decoding.mean), ("loss", None)])
    """
    if lengths_of(dataset) is None:
        return
    for argument, function in functions:
        if function is not None and not _takes_mask(function):
            word = getattr(function, "__name__", type(function).__name__)
            raise TypeError(
                f"{argument} must take mask=, (T, B), True at valid steps, since {name} has samples of different lengths; "
                f"got {word}, which does not: write {_REMEDIES[argument]}"
            )


_REMEDIES = {
    "loss": "lambda output, labels, mask: rheobase.losses.cross_entropy_per_step(output, labels, mask=mask)",
    "decode": "lambda output, mask: rheobase.decoding.max(output, mask)",
    "regularizers": "def penalty(spikes, progress, mask)",
}


def _takes_mask(function: Callable[..., Any]) -> bool:
    try:
        asked = function.forward if isinstance(function, nn.Module) else function  # its call accepts anything
        parameters = inspect.signature(asked).parameters
    except (TypeError, ValueError):  # such as one written in C, whose signature is unknown: it is tried
        return True
    return "mask" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())
