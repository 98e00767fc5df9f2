"""Copies of networks, also of pruned ones.

`torch.nn.utils.prune`, and PyTorch's older `weight_norm` and `spectral_norm`, keep a weight as a plain attribute, which a hook
computes from the parameters before every call. It is a tensor with a history, which `copy.deepcopy` refuses. A copy needs its
value alone: the hooks are copied, too, and compute it again.
"""

import copy
from collections.abc import Iterator
from typing import TypeVar

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def copy_of(network: M) -> M:
    """A deep copy of `network`.

    Example:
        >>> from torch.nn.utils import prune
        >>> layer = prune.l1_unstructured(nn.Linear(4, 4), "weight", amount=0.5)
        >>> copy_of(layer).weight.count_nonzero()
        tensor(8)
    """
    computed = (value for module in network.modules() for _, value in computed_by_hooks(module))
    return copy.deepcopy(network, {id(value): value.detach() for value in computed})


def computed_by_hooks(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The names and values of the weights that a hook of `module` computes before every call."""
    for name, value in vars(module).items():
        if isinstance(value, Tensor) and value.grad_fn is not None:
            yield name, value
