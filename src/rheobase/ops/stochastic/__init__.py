"""Linear integration and stochastic firing over a whole sequence: checks, types, and the choice of implementation."""

import math
from typing import get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rheobase.ops import kernels
from rheobase.ops.arguments import as_step, check_sequence, state_type
from rheobase.ops.lif.fused import readable
from rheobase.ops.noise import draw_seed
from rheobase.ops.stochastic import fused, reference
from rheobase.ops.stochastic.firing import Firing, Sampler

__all__ = ["Firing", "Sampler", "check_rule", "stochastic_lif"]


def stochastic_lif(
    x: Float[Tensor, "T B *features"],
    synapse_decay: float | Float[Tensor, "*c"],
    decay: float | Float[Tensor, "*d"],
    slope: float | Float[Tensor, "*k"] = 1.0,
    offset: float | Float[Tensor, "*o"] = 0.0,
    initial: tuple[Float[Tensor, "*s"], Float[Tensor, "*i"], Int[Tensor, "2"]] | None = None,
    *,
    firing: Firing = "bernoulli",
    temperature: float = 1.0,
) -> tuple[
    Float[Tensor, "T B *features"],
    tuple[Float[Tensor, "B *features"], Float[Tensor, "B *features"], Int[Tensor, "2"]],
]:
    """Leaky neurons without a reset that fire at random, the more likely the higher their membrane potential.

    With the synaptic current `i` and the membrane potential `v`, both linear in the input,

        i[t] = synapse_decay * i[t-1] + x[t]
        v[t] = decay * v[t-1] + i[t]
        z[t] = slope * v[t] - offset

    and with `p = sigmoid(z)`, the output and its gradient are, according to `firing`,

        "bernoulli"  1 with probability p                d/dz = p * p (1 - p)
        "gumbel"     1 with probability sigmoid(2 z)     d/dz = 2 y (1 - y) / temperature
        "threshold"  1 if z >= 0, else 0                 d/dz = p (1 - p)
        "expected"   p                                   d/dz = p (1 - p)

    where `y = sigmoid((2 z + noise) / temperature)` with the logistic noise that decided the spike. `"bernoulli"` and
    `"gumbel"` are the samplers of Yarga and Wood (arXiv 2306.12666), for which `slope` is `1 - decay` and `offset` 0: the first
    has a straight-through gradient multiplied by the probability, the second goes through the relaxation of two classes with
    the logits z and -z.

    The noise is a function of a seed, the number of the step, and the position of the neuron in its batch: see
    `rheobase.ops.noise`. The seed comes from PyTorch's generator, unless `initial` holds it; so the spikes depend on
    `torch.manual_seed`, but not on the number of threads or where the sequence is cut. (On a GPU, the membrane potential of few
    neurons over a long time is computed in chunks, and rounded differently: where noise and potential are equal to seven
    digits, the spike may differ.)

    The cost is linear in T. For the backward pass `v` is kept, 4 bytes for each neuron, sample and step, 8 if `x` is float64.

    Args:
        x: the input current, `(T, B, *features)`, floating point.
        synapse_decay: what the synaptic current keeps per step, in [0, 1]; 0 is no synapse. A number or anything that
            broadcasts to `(B, *features)`.
        decay: what the membrane potential keeps per step; likewise.
        slope: how steeply the logit of firing rises with the membrane potential; likewise.
        offset: the logit of not firing at rest; likewise.
        initial: the membrane potential `v[-1]`, the current `i[-1]`, and the noise: its seed and the number of the next step,
            int64; as returned by a call for the steps before. None is rest, and a new seed.
        firing: how the logit becomes an output.
        temperature: how smooth the relaxation of "gumbel" is, above 0; without effect on the others.

    Returns:
        The outputs, `(T, B, *features)` in the type of `x`, 0 or 1 except for "expected"; and the state after the last step,
        the membrane potential and the current in float32 where `x` is float16 or bfloat16, else in the type of `x`. A sequence
        cut anywhere gives the same as the whole.

    Raises:
        TypeError: if `x` is not floating point, or `initial` is not a triple.
        ValueError: if a shape does not match, `firing` is unknown, or `temperature` is not above 0.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> spikes, (membrane, current, noise) = stochastic_lif(torch.zeros(1000, 1, 8), 0.9, 0.9)
        >>> round(spikes.mean().item(), 1)  # at rest, with an offset of 0
        0.5
        >>> noise[1]
        tensor(1000)
    """
    check_sequence(x, "stochastic_lif")
    check_rule(firing, temperature, "stochastic_lif")
    if initial is not None and not (isinstance(initial, tuple) and len(initial) == 3):
        raise TypeError(
            "stochastic_lif: initial must be what a call returned, (membrane, current, noise), got "
            f"{type(initial).__name__}"
        )
    membrane, current, noise = initial or (None, None, None)
    noise = draw_seed(x.device) if noise is None else noise
    if noise.shape != (2,) or noise.dtype != torch.int64:
        raise ValueError(
            "stochastic_lif: the noise in initial must be a seed and a step, shape (2,) in int64, got shape "
            f"{tuple(noise.shape)} in {noise.dtype}"
        )
    decays = [
        as_step(decay, "decay", x, "stochastic_lif"),
        as_step(synapse_decay, "synapse_decay", x, "stochastic_lif"),
    ]
    slope, offset = as_step(slope, "slope", x, "stochastic_lif"), as_step(offset, "offset", x, "stochastic_lif")
    if firing == "gumbel":  # the difference of its two logits
        slope, offset = 2 * slope, 2 * offset
    initials = [as_step(state, "initial", x, "stochastic_lif") for state in (membrane, current)]
    if kernels.fused(x):
        compute, given = fused.stochastic_lif, readable(x)
    else:
        compute, given = reference.stochastic_lif, x.to(state_type(x))
    outputs, membrane, current = compute(given, decays, slope, offset, initials, noise, firing, temperature)
    after = torch.stack((noise[0], noise[1] + len(x)))
    return outputs.to(x.dtype), (membrane, current, after)


def check_rule(firing: Firing, temperature: float, what: str) -> None:
    """Refuse an unknown `firing`, or an invalid temperature.

    Raises:
        ValueError: if `firing` is unknown, or `temperature` is not above 0 and finite.
    """
    if firing not in get_args(Firing):
        raise ValueError(f"{what}: firing must be one of {', '.join(map(repr, get_args(Firing)))}, got {firing!r}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"{what}: temperature must be above 0 and finite, got {temperature}")
