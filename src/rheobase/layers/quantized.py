"""Weights of few bits, as on chips, while a network learns: it finds weights that are good when rounded.

A network that is trained in floating point and rounded afterwards loses more accuracy the fewer bits there are. Here the layer
computes with rounded weights from the start or from some epoch on, and learns the number behind each: the gradient passes the
rounding as if it were not there (straight through).

It is a parametrization of the layer's own weight, or of recurrent ones, as `rheobase.standardize` is, and combines with it:
first standardize, then quantize. The rounding itself is PyTorch's.
"""

from collections.abc import Iterator
from typing import Literal, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rheobase.copies import computed_by_hooks
from rheobase.layers.parametrized import kind_of, rules_of, weight_name
from rheobase.parameters import FeatureParameters

M = TypeVar("M", bound=nn.Module)


class QuantizedWeight(nn.Module):
    """The weight that a layer computes with, from the free one: a whole number of steps.

        w_ij = step_j * round(free_ij / step_j),   step_j = max_i |free_ij| / (2^(bits - 1) - 1)

    with one step for each output unit j, or for the layer. Numbers are symmetric around 0, which stays 0.

    Args:
        bits: of a weight with its sign, 2 to 16.
        over: the weights that share a step: those of an `"output"` unit, or of the `"layer"`.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> QuantizedWeight(3)(torch.tensor([[0.1, -0.25, 0.6]]))
        tensor([[ 0.0000, -0.2000,  0.6000]])
    """

    def __init__(self, bits: int, over: Literal["output", "layer"] = "output") -> None:
        super().__init__()
        if not (isinstance(bits, int) and 2 <= bits <= 16):
            raise ValueError(f"quantize: bits must be a whole number, 2 to 16, got {bits!r}")
        if over not in ("output", "layer"):
            raise ValueError(f"quantize: over must be 'output' or 'layer', got {over!r}")
        self.bits = bits
        self.over: Literal["output", "layer"] = over

    @property
    def largest(self) -> int:
        """The largest whole number; the smallest is its negative."""
        return 2 ** (self.bits - 1) - 1

    def step(self, free: Float[Tensor, "outputs *kernel"]) -> Float[Tensor, " steps"]:
        """The step of each output unit, `(outputs,)`, or of the layer, `(1,)`; 1 where all weights are 0."""
        free = free.detach()
        largest = free.abs().amax().view(1) if self.over == "layer" else free.abs().flatten(1).amax(1)
        return torch.where(largest > 0, largest.float() / self.largest, 1.0)

    def forward(self, free: Float[Tensor, "outputs *kernel"]) -> Float[Tensor, "outputs *kernel"]:
        """The rounded weight."""
        step = self.step(free).expand(len(free))
        middle = torch.zeros(len(free), dtype=torch.int32, device=free.device)
        return torch.fake_quantize_per_channel_affine(free, step, middle, 0, -self.largest, self.largest)

    def extra_repr(self) -> str:
        """The settings, for `print(network)`."""
        return f"bits={self.bits}, over={self.over!r}"


def quantize(module: M, bits: int = 8, *, over: Literal["output", "layer"] = "output") -> M:
    """Make linear and convolutional layers and recurrent neurons compute with weights of this many bits, and keep learning.

    Biases, decays, thresholds and delays stay as they are. A network that is already trained needs a few more epochs;
    `rheobase.fold` then turns its weights into plain, rounded ones, and `integer_weights` into whole numbers.

    Args:
        module: such a layer, or a network that holds such layers; changed in place. Scale it first: `rheobase.stabilize`, and
            anything else that computes on weights, needs them plain or standardized. Recurrent weights that have no effect,
            from neurons to themselves without `self_connections`, become 0.
        bits: of a weight with its sign, 2 to 16.
        over: the weights that share a step: those of an `"output"` unit, or of the `"layer"`, as simple chips require.

    Returns:
        The module.

    Raises:
        TypeError: if there is no such layer, or there is another that learns weights, such as an `nn.ConvTranspose2d`.
        ValueError: if a layer is quantized already, or pruned, or an argument is out of range.

    Source: the straight-through estimator of Bengio, Leonard and Courville, arXiv 1308.3432.

    Example:
        >>> import rheobase as rb
        >>> network = quantize(rb.Sequential(nn.Linear(20, 8), rb.LIF(8), nn.Linear(8, 2), rb.LeakyReadout(2)), bits=4)
        >>> len(network[0].weight[3].unique()) <= 15
        True
        >>> [name for name, _ in rb.fold(network).named_parameters()]
        ['0.bias', '0.weight', '2.bias', '2.weight']
    """
    layers = [(layer, name) for layer in module.modules() if (name := weight_name(layer)) is not None]
    for layer, name in layers:
        if any(name == computed for computed, _ in computed_by_hooks(layer)):
            raise ValueError(
                f"quantize: the {name} of a {kind_of(layer)} is computed by a hook, as of pruning; make it plain first: "
                f"torch.nn.utils.prune.remove(layer, {name!r})"
            )
    if not layers:
        raise TypeError(
            "quantize: module must be a linear or a convolutional layer or recurrent neurons, or hold some, got "
            f"{type(module).__name__}"
        )
    if left := next(_others(module), None):
        raise TypeError(
            f"quantize: {left} has weights that cannot be quantized; quantize the other layers one by one, such as "
            "rb.quantize(network[0])"
        )
    if already := next((layer for layer, _ in layers if quantized(layer) is not None), None):
        raise ValueError(f"quantize: {already} is already quantized")
    rules = [QuantizedWeight(bits, over) for _ in layers]  # all of them before any layer is changed
    for (layer, name), rule in zip(layers, rules, strict=True):
        if not getattr(layer, "self_connections", True):
            with torch.no_grad():
                torch.as_tensor(layer.recurrent_weight).fill_diagonal_(0)  # or they would influence the step
        parametrize.register_parametrization(layer, name, rule)
    return module


def _others(module: nn.Module) -> Iterator[str]:
    """The layers with weights of two or more axes whose rows are not those of units."""
    for path, layer in module.named_modules():
        if weight_name(layer) is not None or isinstance(layer, nn.LayerNorm | nn.RMSNorm) or "parametrizations" in path:
            continue
        values = {f"raw_{name}" for name in layer.learn} if isinstance(layer, FeatureParameters) else set()
        for name, parameter in layer.named_parameters(recurse=False):
            if parameter.ndim >= 2 and name not in values:
                yield f"layer {path}, {kind_of(layer)}," if path else kind_of(layer)


def quantized(layer: nn.Module) -> QuantizedWeight | None:
    """How the weight of `layer` is quantized; None if it is not.

    Example:
        >>> quantized(quantize(nn.Linear(3, 2), bits=4)), quantized(nn.Linear(3, 2))
        (QuantizedWeight(bits=4, over='output'), None)
    """
    return next((rule for rule in rules_of(layer) if isinstance(rule, QuantizedWeight)), None)


@torch.no_grad()
def integer_weights(layer: nn.Module) -> tuple[Int[Tensor, "outputs *kernel"], Float[Tensor, " steps"]]:
    """The whole numbers and the steps that make up the weights of a quantized layer, for a chip.

    Args:
        layer: a layer that `quantize` has changed, and nothing else since; for recurrent neurons, their recurrent weights are
            meant.

    Returns:
        Integers between `-(2^(bits - 1) - 1)` and its negative, int16, in the shape of the weight; and the step of each output
        unit, or of the layer. Their product is the weight.

    Raises:
        ValueError: if the layer is not quantized.

    Example:
        >>> layer = quantize(nn.Linear(3, 2), bits=8)
        >>> integers, step = integer_weights(layer)
        >>> int(integers.abs().amax()), torch.allclose(step[:, None] * integers, layer.weight)
        (127, True)
    """
    rule = quantized(layer)
    if rule is None or rule is not rules_of(layer)[-1]:
        raise ValueError(
            f"integer_weights: layer must be one that rheobase.quantize was the last to change, got {layer}"
        )
    weight = torch.as_tensor(getattr(layer, weight_name(layer) or ""))
    step = rule.step(weight)  # the largest weights are whole numbers of steps, so the step is recovered
    return (weight / step.view(-1, *[1] * (weight.ndim - 1))).round().to(torch.int16), step
