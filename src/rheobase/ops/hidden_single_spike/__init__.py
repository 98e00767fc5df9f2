"""A hidden layer of neurons that fire once, between two linear layers: checks, and the choice of who computes.

What a neuron that fires once tells the next layer is a single number, when. A linear layer, the neurons and the linear layer
behind them, one after another, write it down as T numbers and read it again, and so they do with currents, membrane
potentials, and the gradients of all three: ten sequences of the size of the layer for a training step. Taken together, none of
them is needed: a spike adds its weights to the outputs of its step, and the gradient that a neuron sees at a step is made of
those of a few outputs when it is asked for.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rheobase.ops.arguments import as_step, check_sequence
from rheobase.ops.hidden_single_spike import fused
from rheobase.ops.linear import linear, why_no_lists
from rheobase.ops.single_spike import Credit, check_rule, first_spikes
from rheobase.ops.slope import known_by_name
from rheobase.surrogate import FastSigmoid, Surrogate

__all__ = ["hidden_single_spike", "in_one", "worthwhile"]

# Measured against the three layers one after another, of 300 and 800 neurons: they broke even at 40 outputs and, since sums
# over lists cost a little more here, at a density of 7 % of 700 inputs.
_MOST_OUTPUTS = 32
_MOST_EVENTS = 40
"""Inputs that are not zero, in a step of a sample, on average."""

_LEAST_WORK = 1 << 17
"""Neurons times samples times steps; fewer pass through the layers one by one in as little time."""


def hidden_single_spike(
    x: Float[Tensor, "T B inputs"],
    weight: Float[Tensor, "neurons inputs"],
    bias: Float[Tensor, " neurons"] | None,
    decay: float | Float[Tensor, "*d"],
    threshold: float | Float[Tensor, "*t"],
    weight_out: Float[Tensor, "outputs neurons"],
    bias_out: Float[Tensor, " outputs"] | None,
    *,
    surrogate: Surrogate | None = None,
    credit: Credit = "product",
    fire_by_end: bool = False,
) -> Float[Tensor, "T B outputs"]:
    """A linear layer, neurons that fire once, and a linear layer behind them, from rest.

        y = first_spikes(x @ weight.T + bias, decay, threshold) @ weight_out.T + bias_out

    with the gradients that this has, `credit` and all, see `rheobase.ops.single_spike.first_spikes`. Where that can be, and
    few inputs are not zero (40 in a step of a sample, on average), currents, membrane potentials and spikes of the layer are
    never in memory, but for one sample and a block of neurons. Kept for the backward pass are the list of what is not zero in
    `x`, and two numbers for each neuron and sample. Sums are in another order than in a product of matrices, the same for
    every number of threads. There is no second derivative then; it is refused.

    Args:
        x: the input, mostly spikes, `(T, B, inputs)`.
        weight: in front of the neurons, `(neurons, inputs)`.
        bias: `(neurons,)`.
        decay: what the membrane potential keeps per step, in [0, 1]; a number or `(neurons,)`.
        threshold: where a neuron fires; likewise.
        weight_out: behind the neurons, `(outputs, neurons)`.
        bias_out: `(outputs,)`.
        surrogate: the shape of the gradient of a crossing; None is `FastSigmoid()`.
        credit: the rule of the gradient.
        fire_by_end: a neuron that has not fired before the last step fires there.

    Raises:
        TypeError: if `x` is not floating point, or `surrogate` is not a `Surrogate`.
        ValueError: if `credit` is unknown, or a decay or threshold does not fit.
        RuntimeError: if weights do not fit, from PyTorch.

    Example:
        >>> import torch
        >>> x = torch.tensor([0.4, 0.8, 0.0]).view(3, 1, 1)
        >>> one = torch.ones(1, 1)
        >>> hidden_single_spike(x, one, None, 1.0, 1.0, 5 * one, None).flatten()  # v = 0.4, 1.2, 1.2
        tensor([0., 5., 0.])
    """
    surrogate = surrogate or FastSigmoid()
    check_sequence(x, "hidden_single_spike")
    check_rule(credit, surrogate, "hidden_single_spike")
    lane = x.new_empty(1, len(weight))
    decay = as_step(decay, "decay", lane, "hidden_single_spike")
    threshold = as_step(threshold, "threshold", lane, "hidden_single_spike")
    y = in_one(x, weight, bias, decay, threshold, weight_out, bias_out, credit, fire_by_end, surrogate)
    if y is not None:
        return y
    rule = {"surrogate": surrogate, "credit": credit, "fire_by_end": fire_by_end}
    return linear(first_spikes(linear(x, weight, bias), decay, threshold, **rule), weight_out, bias_out)


def in_one(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    decay: Tensor,
    threshold: Tensor,
    weight_out: Tensor,
    bias_out: Tensor | None,
    credit: Credit,
    fire_by_end: bool,
    surrogate: Surrogate,
) -> Tensor | None:
    """What `hidden_single_spike` computes, by its kernels; None where they cannot, or the layers are as fast one by one.

    They can on the CPU, in float32 and float64, with a surrogate that kernels know by name, where no gradient is needed of `x`,
    which would be that of every current.
    """
    layers = weight, bias, decay, threshold, weight_out, bias_out
    if not worthwhile(x, len(weight), len(weight_out)) or weight_out.shape[1:] != weight.shape[:1]:
        return None
    if len(x) >= 1 << 24 or not known_by_name(surrogate):  # steps are counted in float32
        return None
    if (bias_out is not None and bias_out.shape != weight_out.shape[:1]) or why_no_lists(x, *layers) is not None:
        return None
    limit = min(1.0, _MOST_EVENTS / max(x.shape[2], 1))
    return fused.hidden_single_spike(x, limit, *layers, credit, fire_by_end, surrogate)


def worthwhile(x: Tensor, neurons: int, outputs: int) -> bool:
    """Whether the kernels of `in_one` may be faster for this many neurons and outputs, and no gradient of `x` is needed."""
    if x.ndim != 3 or outputs > _MOST_OUTPUTS or x.shape[:2].numel() * neurons < _LEAST_WORK:
        return False
    return not torch.compiler.is_compiling() and not (x.requires_grad and torch.is_grad_enabled())
