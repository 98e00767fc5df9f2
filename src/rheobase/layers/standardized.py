"""Weights that keep their variance while they learn: the training normalization of time-to-first-spike networks.

An initialization holds for one step. Here the mean and the variance of the weights of every output unit are built into the
parametrization: what is learned is a direction, whose mean is subtracted and which is scaled to the variance that the
initialization wants, and a gain per output unit. It uses no batch statistics, so after training it folds into plain weights, at
no cost and without changing what is computed.

It is a parametrization (`torch.nn.utils.parametrize`) of the layer's own weight: the layer stays an `nn.Linear` or `nn.Conv2d`
with its spike lists, hooks, state dict and copies.
"""

import math
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rheobase.layers.parametrized import has_rows, rules_of
from rheobase.layers.quantized import quantized

L = TypeVar("L", bound=nn.Module)

_ROUNDING = 16
"""How far the mean of equal weights may be off, in units of the relative spacing of numbers."""


class StandardizedWeight(nn.Module):
    """The weight that a layer computes with, from the learned free one.

        w_ij = gain_j * sqrt(variance) * (free_ij - mean_j) / sqrt(var_j)

    with the mean and the variance over the weights of output unit j, or of the whole layer. However small the free weights
    become, for instance by weight decay, it is the same; only weights that are all equal, up to the rounding of their mean, are
    divided by 1 instead of their deviation: they are 0, and learn.

    Args:
        outputs: the size of the first axis of the weight.
        variance: that of the weights of an output unit, without its gain; above 0.
        gain: whether each output unit learns a gain, initially 1.
        over: the weights that share a mean and a variance: those of an `"output"` unit, or of the `"layer"`.

    Raises:
        ValueError: if `variance` is not above 0 and finite, or `over` is unknown.

    Example:
        >>> StandardizedWeight(1, variance=2.0)(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).detach()
        tensor([[-1.8974, -0.6325,  0.6325,  1.8974]])
    """

    deviation: Tensor

    def __init__(
        self,
        outputs: int,
        variance: float,
        *,
        gain: bool = True,
        over: Literal["output", "layer"] = "output",
    ) -> None:
        super().__init__()
        if not 0 < variance < math.inf:
            raise ValueError(f"StandardizedWeight: variance must be above 0 and finite, got {variance}")
        if over not in ("output", "layer"):
            raise ValueError(f"StandardizedWeight: over must be 'output' or 'layer', got {over!r}")
        self.over = over
        self.register_buffer("deviation", torch.tensor(math.sqrt(variance)))
        self.gain = nn.Parameter(torch.ones(outputs)) if gain else None

    def forward(self, free: Float[Tensor, "outputs *kernel"]) -> Float[Tensor, "outputs *kernel"]:
        """The weight, from the free one."""
        axes = tuple(range(0 if self.over == "layer" else 1, free.ndim))
        mean = free.mean(axes, keepdim=True)
        centred = free - mean
        variance = centred.square().mean(axes, keepdim=True)
        differ = variance > (_ROUNDING * torch.finfo(free.dtype).eps * mean).square()
        weight = self.deviation * centred / torch.where(differ, variance, 1.0).sqrt()
        return weight if self.gain is None else weight * self.gain.view(-1, *[1] * (free.ndim - 1))

    def extra_repr(self) -> str:
        """The settings, for `print(network)`."""
        return f"over={self.over!r}, deviation={self.deviation.item():.4g}, gain={self.gain is not None}"


def standardize(layer: L, variance: float, *, gain: bool = True, over: Literal["output", "layer"] = "output") -> L:
    """Standardize the weights of a linear or convolutional layer from now on.

    The layer's bias, if it has one, is the other half of the affine map: a current at every step.

    Args:
        layer: an `nn.Linear`, `nn.Conv1d`, `nn.Conv2d` or `nn.Conv3d`, or a subclass of these; changed in place.
        variance: that of the weights of an output unit; `rheobase.stability.weight_variance` has that of single-spike networks.
        gain: whether each output unit learns a gain.
        over: the weights that share a mean and a variance: those of an output unit, or of the layer.

    Returns:
        The layer. Its state dict has `parametrizations.weight.original` in place of `weight`.

    Raises:
        TypeError: if the layer is none of these.
        ValueError: if it is already standardized or quantized, a single weight would be a mean of its own, or an argument is
            out of range.

    Source: Che et al., arXiv 2410.23619, as others restate it; Qiao et al., "Micro-Batch Training with Batch-Channel
    Normalization and Weight Standardization", arXiv 1903.10520, for the weights without the gain.

    Example:
        >>> layer = standardize(nn.Linear(400, 10), variance=8 / 400)
        >>> layer.weight.var(1, unbiased=False).allclose(torch.tensor(8 / 400), rtol=1e-5)
        True
        >>> layer.weight.mean(1).abs().max() < 1e-6
        tensor(True)
    """
    if not has_rows(layer):
        raise TypeError(f"standardize: layer must be a linear or a convolutional layer, got {type(layer).__name__}")
    if standardized(layer) is not None:
        raise ValueError(f"standardize: {layer} is already standardized")
    if quantized(layer) is not None:
        raise ValueError(f"standardize: {layer} is already quantized; standardize first, since rounding comes last")
    alike = layer.weight if over == "layer" else layer.weight[0]
    if alike.numel() == 1:  # of which the mean is subtracted: 0 is left, and its gradient is 0
        raise ValueError(
            f"standardize: each {over} of {layer} must have more than one weight, or its weights are 0 for ever; leave the "
            "layer as it is" + ("" if over == "layer" else ', or take over="layer"')
        )
    rule = StandardizedWeight(len(layer.weight), variance, gain=gain, over=over)
    rule.to(device=layer.weight.device, dtype=layer.weight.dtype)
    parametrize.register_parametrization(layer, "weight", rule)
    return layer


def standardized(layer: nn.Module) -> StandardizedWeight | None:
    """How the weight of `layer` is standardized; None if it is not.

    Example:
        >>> standardized(nn.Linear(3, 2)) is None
        True
    """
    return next((rule for rule in rules_of(layer) if isinstance(rule, StandardizedWeight)), None)


def free_weight(layer: nn.Module) -> nn.Parameter:
    """The parameter that a standardized or quantized linear or convolutional layer learns and computes its weight from.

    Raises:
        AttributeError: if the layer is neither.

    Example:
        >>> layer = standardize(nn.Linear(3, 2), variance=0.5)
        >>> free_weight(layer).shape, free_weight(layer) is layer.weight
        (torch.Size([2, 3]), False)
    """
    return layer.get_parameter("parametrizations.weight.original")


def only_standardized(layer: nn.Module) -> bool:
    """Whether the weight of `layer` is standardized, and nothing else is done to it.

    Example:
        >>> layer = standardize(nn.Linear(3, 2), variance=1.0)
        >>> only_standardized(layer), only_standardized(nn.utils.parametrizations.spectral_norm(layer))
        (True, False)
    """
    return standardized(layer) is not None and len(rules_of(layer)) == 1
