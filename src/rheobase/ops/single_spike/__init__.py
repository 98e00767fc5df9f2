"""Neurons that fire at most once, over a whole sequence: checks, types, and the choice of implementation."""

from typing import get_args

from jaxtyping import Float
from torch import Tensor

from rheobase.ops import kernels
from rheobase.ops.arguments import as_step, check_sequence, state_type
from rheobase.ops.single_spike import fused, reference
from rheobase.ops.single_spike.credit import Credit
from rheobase.ops.slope import can
from rheobase.surrogate import FastSigmoid, Surrogate

__all__ = ["Credit", "check_rule", "first_spikes", "single_spike"]


def single_spike(
    x: Float[Tensor, "T B *features"],
    decay: float | Float[Tensor, "*d"],
    threshold: float | Float[Tensor, "*t"] = 1.0,
    initial: tuple[Float[Tensor, "*m"], Float[Tensor, "*f"], Float[Tensor, "*r"]] | None = None,
    *,
    surrogate: Surrogate | None = None,
    credit: Credit = "product",
    fire_by_end: bool = False,
) -> tuple[
    Float[Tensor, "T B *features"],
    tuple[Float[Tensor, "B *features"], Float[Tensor, "B *features"], Float[Tensor, "B *features"]],
]:
    """Leaky neurons without a reset that fire at the first crossing of the threshold, and then never again.

    With the membrane potential `v`, and `f` the first step at which `v >= threshold`,

        v[t] = decay * v[t-1] + x[t]
        s[t] = 1 if t == f else 0

    The gradient, with `delta[t] = dL/ds[t]` and the surrogate's derivative `sigma'`, backwards in time:

        dL/dv[k] = credit[k] * sigma'(v[k] - threshold) + decay * dL/dv[k+1]
        dL/dx = dL/dv,  dL/ddecay = sum_t dL/dv[t] * v[t-1],  dL/dthreshold = -sum_t credit[t] * sigma'(v[t] - threshold)

    A spike that can come only once is not a function of one step alone, so `credit` is a choice:

    - `"ramp"`: `sum_{t >= k} (t-k+1) delta[t]`, whether the neuron fired or not. Crossings pass two cumulative sums, and the
      gradient goes straight through the function that makes a single spike of them: the rule of the block model (Taylor, King,
      Harper, arXiv 2205.15286). Every step of every neuron learns, and the gradient of a late step reaches early ones
      multiplied by up to T: with equal `delta`, up to `T (T+1) / 2`. That requires an optimizer that is insensitive to scale,
      such as Adam.
    - `"early_ramp"`: `sum_{k <= t < f} (t-k+1) delta[t]`, 0 from the spike on: the same two sums behind a smooth function that
      is 0, 1, 0, 0, ... at 0, 1, 2, 3, ..., whose slope is 1 at 0 and 0 elsewhere (FastSNN, the first version of that
      method). The spike itself earns nothing.
    - `"product"`: the gradient of `s[t] = h[t] * prod_{j < t} (1 - h[j])` with `h` the crossings, what autograd gives for a
      loop over time. With `f2` the second step at which `v >= threshold`: `delta[k] - delta[f]` before the spike, since to fire
      there is not to fire at `f`; `delta[f] - delta[f2]` at the spike; 0 after it. A neuron that never fires: `delta[k]`.
    - `"detached"`: `delta[k]` up to the spike, 0 after it: the same with the product a constant.

    With each of them a neuron that never fires has a gradient at all steps, so a network can start without any activity. The
    default is the rule that accounts for the cost of a spike: one that comes earlier does not come later. Its scale does not
    depend on T, so it works with any optimizer and with clipped gradients. `"ramp"` is for results as published.

    The cost is linear in T. For the backward pass `v` is kept, 4 bytes for each neuron, sample and step (8 if `x` is float64),
    and the steps `f` and `f2`. Spikes and the gradients of `x` and the threshold are not affected by what comes when nothing
    can happen any more, not even by NaN: with `"product"` after `f2`, with `"early_ramp"` and `"detached"` after `f`. (The
    membrane potential is, and with it the gradient of the decay, but not in `first_spikes`, unless `torch.compile` computes
    it.)

    Args:
        x: the input current, `(T, B, *features)`, floating point.
        decay: what the membrane potential keeps per step, in [0, 1]; a number or anything that broadcasts to
            `(B, *features)`.
        threshold: where a neuron fires; like `decay`.
        initial: the state, as returned by a call for the steps before; None is rest.
        surrogate: the shape of `sigma'`; None is `FastSigmoid()`.
        credit: what multiplies `sigma'`.
        fire_by_end: a neuron that has not fired before the last step of `x` fires there, whatever its membrane potential. The
            crossing of that step is then the constant 1: it receives no credit, and may be `f` or `f2`. For a sequence in
            pieces, set it only for the last piece.

    Returns:
        The spikes, 0 or 1, `(T, B, *features)` in the type of `x`; and the state `(membrane, fired, ramp)`, each `(B,
        *features)`, in float32 where `x` is float16 or bfloat16, else in the type of `x`. `fired` is 1 for a neuron that has
        fired, and so is `ramp`: the gradient of the ramp rules goes from piece to piece in two sums. A sequence cut anywhere
        gives the spikes and gradients of the whole.

    Raises:
        TypeError: if `x` is not floating point, `initial` is not a triple, or `surrogate` is not a `Surrogate`.
        ValueError: if a shape does not match, or `credit` is unknown.

    Example:
        >>> import torch
        >>> x = torch.tensor([0.4, 0.3, 0.5, -0.6, 1.2]).view(5, 1, 1)
        >>> spikes, (membrane, fired, _) = single_spike(x, decay=1.0)
        >>> spikes.flatten()  # v = 0.4, 0.7, 1.2, 0.6, 1.8
        tensor([0., 0., 1., 0., 0.])
        >>> membrane, fired
        (tensor([[1.8000]]), tensor([[1.]]))
    """
    surrogate = surrogate or FastSigmoid()
    check_sequence(x, "single_spike")
    check_rule(credit, surrogate, "single_spike")
    if initial is not None and not (isinstance(initial, tuple) and len(initial) == 3):
        raise TypeError(
            f"single_spike: initial must be what a call returned, (membrane, fired, ramp), got {type(initial).__name__}"
        )
    states = [as_step(state, "initial", x, "single_spike") for state in initial or (None, None, None)]
    parameters = as_step(decay, "decay", x, "single_spike"), as_step(threshold, "threshold", x, "single_spike")
    return _run(x, *parameters, states, credit, fire_by_end, surrogate, whole=False)


def first_spikes(
    x: Float[Tensor, "T B *features"],
    decay: float | Float[Tensor, "*d"],
    threshold: float | Float[Tensor, "*t"] = 1.0,
    *,
    surrogate: Surrogate | None = None,
    credit: Credit = "product",
    fire_by_end: bool = False,
) -> Float[Tensor, "T B *features"]:
    """The spikes of `single_spike` for whole sequences, from rest, without the state after them.

    The membrane potential after the last step is not needed here, so computing ends, for a block of neurons at a time, with the
    last step that matters: when all have fired, or with `"product"` and a gradient, when all would have fired twice. The one
    exception is `"ramp"` with a gradient, for which every step matters. (`torch.compile` computes all steps.)

    Args:
        x: as for `single_spike`.
        decay: as for `single_spike`.
        threshold: as for `single_spike`.
        surrogate: as for `single_spike`.
        credit: as for `single_spike`.
        fire_by_end: as for `single_spike`.

    Returns:
        The spikes, 0 or 1, `(T, B, *features)` in the type of `x`.

    Raises:
        TypeError: if `x` is not floating point, or `surrogate` is not a `Surrogate`.
        ValueError: if a shape does not match, or `credit` is unknown.

    Example:
        >>> import torch
        >>> first_spikes(torch.ones(4, 1, 1), decay=0.5, threshold=1.5, fire_by_end=True).flatten()
        tensor([0., 1., 0., 0.])
        >>> first_spikes(torch.ones(4, 1, 1), decay=0.5, threshold=5.0, fire_by_end=True).flatten()
        tensor([0., 0., 0., 1.])
    """
    surrogate = surrogate or FastSigmoid()
    check_sequence(x, "first_spikes")
    check_rule(credit, surrogate, "first_spikes")
    rest = as_step(None, "initial", x, "first_spikes")
    parameters = as_step(decay, "decay", x, "first_spikes"), as_step(threshold, "threshold", x, "first_spikes")
    return _run(x, *parameters, [rest] * 3, credit, fire_by_end, surrogate, whole=True)[0]


def _run(
    x: Tensor,
    decay: Tensor,
    threshold: Tensor,
    initial: list[Tensor],
    credit: Credit,
    fire_by_end: bool,
    surrogate: Surrogate,
    whole: bool,
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Spikes and state; for whole sequences, the state is meaningless."""
    # Kernels count steps in the type of the membrane potential: in float32 up to 2^24 of them.
    if kernels.fused(x) and can(surrogate) and len(x) < 1 << 24:
        compute, current = fused.single_spike, fused.readable(x)
    else:
        compute, current = reference.single_spike, x.to(state_type(x))
    spikes, membrane, fired, ramp = compute(current, decay, threshold, initial, credit, fire_by_end, surrogate, whole)
    return spikes.to(x.dtype), (membrane, fired, ramp)


def check_rule(credit: Credit, surrogate: Surrogate, what: str) -> None:
    """Refuse an unknown credit, or a surrogate that is not one (most likely its class, or its name).

    Raises:
        ValueError: if `credit` is unknown.
        TypeError: if `surrogate` is not a `Surrogate`.
    """
    if credit not in get_args(Credit):
        raise ValueError(f"{what}: credit must be one of {', '.join(map(repr, get_args(Credit)))}, got {credit!r}")
    if not isinstance(surrogate, Surrogate):
        raise TypeError(f"{what}: surrogate must be an object such as FastSigmoid(), got {surrogate!r}")
