"""Layers whose weights are computed from others: which layers these can be, and what computes their weights."""

from typing import Literal, TypeGuard

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from rheobase.layers.delayed_linear import DelayedLinear


def has_rows(layer: nn.Module) -> TypeGuard[nn.Linear | _ConvNd]:
    """Whether the first axis of the layer's weight is that of its output units: so for linear and convolutional layers.

    Example:
        >>> has_rows(nn.Conv2d(1, 2, 3)), has_rows(nn.ConvTranspose2d(1, 2, 3))
        (True, False)
    """
    return isinstance(layer, nn.Linear | _ConvNd) and not isinstance(layer, _ConvTransposeNd)


def kind_of(layer: nn.Module) -> str:
    """The name of the layer's class, for messages: PyTorch renames the class of layers whose weights are computed.

    Example:
        >>> import rheobase as rb
        >>> layer = rb.quantize(nn.Linear(3, 2))
        >>> type(layer).__name__, kind_of(layer)
        ('ParametrizedLinear', 'Linear')
    """
    return parametrize.type_before_parametrizations(layer).__name__


def weight_name(layer: nn.Module) -> Literal["weight", "recurrent_weight"] | None:
    """The name of the weight whose first axis is that of the layer's output units, or of recurrent neurons; None if none.

    Example:
        >>> import rheobase as rb
        >>> layers = nn.Linear(3, 2), rb.DelayedLinear(3, 2, longest=4), rb.RecurrentLIF(2), rb.LIF(2)
        >>> [weight_name(layer) for layer in layers]
        ['weight', 'weight', 'recurrent_weight', None]
    """
    if has_rows(layer) or isinstance(layer, DelayedLinear):
        return "weight"
    return "recurrent_weight" if isinstance(getattr(layer, "recurrent_weight", None), Tensor) else None


def rules_of(layer: nn.Module) -> list[nn.Module]:
    """What computes the weight of `layer`, that of `weight_name`, in order; nothing if it is a plain one.

    Example:
        >>> rules_of(nn.Linear(3, 2))
        []
    """
    name = weight_name(layer)
    parametrized = name is not None and parametrize.is_parametrized(layer, name)
    return list(layer.get_submodule(f"parametrizations.{name}").children()) if parametrized else []
