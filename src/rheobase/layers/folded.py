"""Plain weights from those that are computed from others during training."""

from typing import TypeVar

from torch import nn
from torch.nn.utils import parametrize

from rheobase.copies import copy_of
from rheobase.layers.parametrized import weight_name
from rheobase.layers.quantized import quantized
from rheobase.layers.standardized import standardized

L = TypeVar("L", bound=nn.Module)


def fold(network: L) -> L:
    """A copy of `network` whose standardized and quantized weights are plain ones: it computes the same, bit for bit.

    Args:
        network: any module; it is left unchanged.

    Returns:
        The copy, with ordinary `weight` and `bias` in its layers.

    Example:
        >>> import rheobase as rb
        >>> network = nn.Sequential(rb.standardize(nn.Linear(4, 3), variance=0.5))
        >>> [name for name, _ in fold(network).named_parameters()]
        ['0.bias', '0.weight']
    """
    folded = copy_of(network)
    for layer in list(folded.modules()):
        if standardized(layer) is not None or quantized(layer) is not None:
            # A copy shares its class with the original, and PyTorch takes the parametrized weight out of the class.
            kind = type(layer)
            own = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
            layer.__class__ = type(kind.__name__, kind.__bases__, own)  # pyright: ignore[reportAttributeAccessIssue]
            parametrize.remove_parametrizations(layer, weight_name(layer) or "weight", leave_parametrized=True)
    return folded
