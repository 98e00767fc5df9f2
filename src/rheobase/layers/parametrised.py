"""Layers whose weights are computed from others: which layers can be such ones, and by what their weights are computed."""

from typing import TypeGuard

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize


def has_rows(layer: nn.Module) -> TypeGuard[nn.Linear | _ConvNd]:
    """Whether the first axis of the layer's weight is that of its output units: of linear and convolutional layers.

    Example:
        >>> has_rows(nn.Conv2d(1, 2, 3)), has_rows(nn.ConvTranspose2d(1, 2, 3))
        (True, False)
    """
    return isinstance(layer, nn.Linear | _ConvNd) and not isinstance(layer, _ConvTransposeNd)


def rules_of(layer: nn.Module) -> list[nn.Module]:
    """What the weight of `layer` is computed by, in order; nothing if it is a plain one.

    Example:
        >>> rules_of(nn.Linear(3, 2))
        []
    """
    parametrised = parametrize.is_parametrized(layer, "weight")
    return list(layer.get_submodule("parametrizations.weight").children()) if parametrised else []
