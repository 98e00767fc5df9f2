"""The leaky integrate-and-fire neuron over a whole sequence: checks, types, and the choice of implementation."""

from collections.abc import Sequence
from typing import get_args

from jaxtyping import Float
from torch import Tensor

from rheobase.ops import kernels
from rheobase.ops.arguments import as_step, check_sequence, state_type
from rheobase.ops.integrate import reference as integration
from rheobase.ops.lif import fused, reference
from rheobase.ops.lif.reset import Reset, ResetGradient
from rheobase.ops.slope import can
from rheobase.surrogate import FastSigmoid, Surrogate

__all__ = ["Reset", "ResetGradient", "check_rule", "lif", "synaptic_lif"]


def lif(
    x: Float[Tensor, "T B *features"],
    decay: float | Float[Tensor, "*d"],
    threshold: float | Float[Tensor, "*t"] = 1.0,
    initial: Float[Tensor, "*s"] | None = None,
    *,
    reset: Reset = "subtract",
    surrogate: Surrogate | None = None,
    reset_gradient: ResetGradient = "detached",
) -> tuple[Float[Tensor, "T B *features"], Float[Tensor, "B *features"]]:
    """Leaky integrate-and-fire neurons, driven by `x` for T steps.

    With the membrane potential `v` before the reset, and `r` after it,

        v[t] = decay * r[t-1] + x[t]
        s[t] = 1 if v[t] >= threshold else 0
        r[t] = v[t] - threshold * s[t]     (reset "subtract")
               v[t] * (1 - s[t])           (reset "zero")
               v[t]                        (reset "none")

    The gradient of `s[t]` with respect to `v[t] - threshold` is the surrogate's. The `s[t]` of the reset is a constant in the
    backward pass, unless `reset_gradient` says otherwise; the subtracted threshold still receives its gradient (except if the
    reset is "ignored"). For the backward pass, `v` is kept: 4 bytes for each neuron, sample and step, 8 if `x` is float64.

    Args:
        x: the input current, `(T, B, *features)`, floating point.
        decay: what a state keeps per step, in [0, 1]; a number or anything that broadcasts to `(B, *features)`.
        threshold: where a neuron fires; like `decay`.
        initial: the membrane potential `r[-1]`, broadcasting to `(B, *features)`; None is rest, 0.
        reset: what happens to the membrane potential of a neuron that fired.
        surrogate: the shape of the gradient; None is `FastSigmoid()`.
        reset_gradient: how the backward pass treats the reset: its spike is a constant ("detached"), has the surrogate's
            gradient too ("attached"), or there is no reset at all ("ignored").

    Returns:
        The spikes, 0 or 1, `(T, B, *features)` in the type of `x`; and `r[T-1]`, `(B, *features)`, in float32 where `x` is
        float16 or bfloat16, else in the type of `x`.

    Raises:
        TypeError: if `x` is not floating point, or `surrogate` is not a `Surrogate`.
        ValueError: if a shape does not match, or `reset` or `reset_gradient` is unknown.

    Example:
        >>> import torch
        >>> x = torch.full((5, 1, 1), 0.5)
        >>> spikes, membrane = lif(x, decay=1.0, threshold=1.0)
        >>> spikes.flatten()
        tensor([0., 1., 0., 1., 0.])
        >>> membrane
        tensor([[0.5000]])
    """
    surrogate = surrogate or FastSigmoid()
    check_sequence(x, "lif")
    check_rule(reset, reset_gradient, surrogate, "lif")
    decays, initials = [as_step(decay, "decay", x, "lif")], [as_step(initial, "initial", x, "lif")]
    spikes, membrane = _run(
        x, decays, as_step(threshold, "threshold", x, "lif"), initials, reset, surrogate, reset_gradient
    )
    return spikes, membrane


def synaptic_lif(
    x: Float[Tensor, "T B *features"],
    synapse_decay: float | Float[Tensor, "*c"],
    decay: float | Float[Tensor, "*d"],
    threshold: float | Float[Tensor, "*t"] = 1.0,
    initial: tuple[Float[Tensor, "*s"], Float[Tensor, "*i"]] | None = None,
    *,
    reset: Reset = "subtract",
    surrogate: Surrogate | None = None,
    reset_gradient: ResetGradient = "detached",
) -> tuple[Float[Tensor, "T B *features"], tuple[Float[Tensor, "B *features"], Float[Tensor, "B *features"]]]:
    """Leaky integrate-and-fire neurons behind a synapse: `x` drives a current, and the current the membrane potential.

    With the synaptic current `i`, everything else as in `lif`,

        i[t] = synapse_decay * i[t-1] + x[t]
        v[t] = decay * r[t-1] + i[t]

    This is the "current-based" neuron of neuromorphic hardware. It costs hardly more than `lif`, and keeps nothing more: the
    current is recovered from the membrane potential.

    Args:
        x: the input current, `(T, B, *features)`, floating point.
        synapse_decay: what the synaptic current keeps per step, in [0, 1]; a number or anything that broadcasts to
            `(B, *features)`.
        decay: what the membrane potential keeps per step; likewise.
        threshold: where a neuron fires; likewise.
        initial: the membrane potential `r[-1]` and the synaptic current `i[-1]`, each broadcasting to `(B, *features)`; None
            is rest, 0.
        reset: what happens to the membrane potential of a neuron that fired.
        surrogate: the shape of the gradient; None is `FastSigmoid()`.
        reset_gradient: how the backward pass treats the reset: its spike is a constant ("detached"), has the surrogate's
            gradient too ("attached"), or there is no reset at all ("ignored").

    Returns:
        The spikes, 0 or 1, `(T, B, *features)` in the type of `x`; and the states `(r[T-1], i[T-1])`, each `(B, *features)`,
        in float32 where `x` is float16 or bfloat16, else in the type of `x`.

    Raises:
        TypeError: if `x` is not floating point, `initial` is not a pair, or `surrogate` is not a `Surrogate`.
        ValueError: if a shape does not match, or `reset` or `reset_gradient` is unknown.

    Example:
        >>> import torch
        >>> impulse = torch.tensor([0.5, 0.0, 0.0, 0.0]).view(4, 1, 1)
        >>> spikes, (membrane, current) = synaptic_lif(impulse, synapse_decay=0.5, decay=1.0, threshold=0.8)
        >>> spikes.flatten()  # v = 0.5, 0.75, 0.875 fires
        tensor([0., 0., 1., 0.])
        >>> current
        tensor([[0.0625]])
    """
    surrogate = surrogate or FastSigmoid()
    check_sequence(x, "synaptic_lif")
    check_rule(reset, reset_gradient, surrogate, "synaptic_lif")
    if initial is not None and not (isinstance(initial, tuple) and len(initial) == 2):
        raise TypeError(f"synaptic_lif: initial must be a pair (membrane, current), got {type(initial).__name__}")
    membrane, current = initial or (None, None)
    decays = [as_step(decay, "decay", x, "synaptic_lif"), as_step(synapse_decay, "synapse_decay", x, "synaptic_lif")]
    initials = [as_step(state, "initial", x, "synaptic_lif") for state in (membrane, current)]
    spikes, membrane, current = _run(
        x, decays, as_step(threshold, "threshold", x, "synaptic_lif"), initials, reset, surrogate, reset_gradient
    )
    return spikes, (membrane, current)


def _run(
    x: Tensor,
    decays: Sequence[Tensor],
    threshold: Tensor,
    initials: Sequence[Tensor],
    reset: Reset,
    surrogate: Surrogate,
    reset_gradient: ResetGradient,
) -> tuple[Tensor, ...]:
    """The spikes and the states after the last step: of the membrane alone, or of the membrane and its synapse."""
    if kernels.fused(x) and can(surrogate):
        spikes, *last = fused.lif(fused.readable(x), decays, threshold, initials, reset, surrogate, reset_gradient)
        return spikes.to(x.dtype), *last
    current, after = x.to(state_type(x)), []
    if len(decays) == 2:
        current, last_current = integration.integrate(current, decays[1], initials[1])
        after = [last_current]
    spikes, membrane = reference.lif(current, decays[0], threshold, initials[0], reset, surrogate, reset_gradient)
    return spikes.to(x.dtype), membrane, *after


def check_rule(reset: Reset, reset_gradient: ResetGradient, surrogate: Surrogate, what: str) -> None:
    """Refuse an unknown reset or reset gradient, or a surrogate that is not one (most likely its class, or its name).

    Raises:
        ValueError: if `reset` or `reset_gradient` is unknown.
        TypeError: if `surrogate` is not a `Surrogate`.
    """
    for name, value, words in (("reset", reset, Reset), ("reset_gradient", reset_gradient, ResetGradient)):
        if value not in get_args(words):
            raise ValueError(f"{what}: {name} must be one of {', '.join(map(repr, get_args(words)))}, got {value!r}")
    if not isinstance(surrogate, Surrogate):
        raise TypeError(f"{what}: surrogate must be an object such as FastSigmoid(), got {surrogate!r}")
