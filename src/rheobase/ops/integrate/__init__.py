"""Leaky integration over a whole sequence, once or twice: checks, types, and the choice of implementation."""

from jaxtyping import Float
from torch import Tensor

from rheobase.ops import kernels
from rheobase.ops.arguments import as_step, check_sequence, state_type
from rheobase.ops.integrate import fused, reference

__all__ = ["integrate", "synaptic_integrate"]


def integrate(
    x: Float[Tensor, "T B *features"],
    decay: float | Float[Tensor, "*d"],
    initial: Float[Tensor, "*s"] | None = None,
) -> tuple[Float[Tensor, "T B *features"], Float[Tensor, "B *features"]]:
    """Leaky integration, `v[t] = decay * v[t-1] + x[t]`: a membrane that never fires.

    Args:
        x: the input current, `(T, B, *features)`, floating point.
        decay: what the state keeps per step, in [0, 1]; a number or anything that broadcasts to `(B, *features)`.
        initial: the state `v[-1]`, broadcasting to `(B, *features)`; None is rest, 0.

    Returns:
        `v`, `(T, B, *features)`, and `v[T-1]`, `(B, *features)`; both in float32 where `x` is float16 or bfloat16, else in the
        type of `x`. (A membrane potential is not a spike: rounding it to bfloat16 would lose what it integrates.)

    Raises:
        TypeError: if `x` is not floating point.
        ValueError: if a shape does not match.

    Example:
        >>> import torch
        >>> states, last = integrate(torch.ones(3, 1, 1), decay=0.5)
        >>> states.flatten()
        tensor([1.0000, 1.5000, 1.7500])
    """
    check_sequence(x, "integrate")
    current = x.to(state_type(x))
    decay, initial = as_step(decay, "decay", x, "integrate"), as_step(initial, "initial", x, "integrate")
    if kernels.fused(x):
        states, last = fused.integrate(current, [decay], [initial])
        return states, last
    return reference.integrate(current, decay, initial)


def synaptic_integrate(
    x: Float[Tensor, "T B *features"],
    synapse_decay: float | Float[Tensor, "*c"],
    decay: float | Float[Tensor, "*d"],
    initial: tuple[Float[Tensor, "*s"], Float[Tensor, "*i"]] | None = None,
) -> tuple[Float[Tensor, "T B *features"], tuple[Float[Tensor, "B *features"], Float[Tensor, "B *features"]]]:
    """Leaky integration behind a synapse, `i[t] = synapse_decay * i[t-1] + x[t]`, `v[t] = decay * v[t-1] + i[t]`.

    The membrane potential of `synaptic_lif` without spikes: the response to an impulse rises before it falls. The two decays
    may be equal.

    Args:
        x: the input current, `(T, B, *features)`, floating point.
        synapse_decay: what the synaptic current keeps per step, in [0, 1]; 0 is no synapse. A number or anything that
            broadcasts to `(B, *features)`.
        decay: what the membrane potential keeps per step; likewise.
        initial: the membrane potential `v[-1]` and the current `i[-1]`, broadcasting to `(B, *features)`; None is rest, 0.

    Returns:
        `v`, `(T, B, *features)`, and the states `(v[T-1], i[T-1])`, each `(B, *features)`; in float32 where `x` is float16 or
        bfloat16, else in the type of `x`.

    Raises:
        TypeError: if `x` is not floating point, or `initial` is not a pair.
        ValueError: if a shape does not match.

    Example:
        >>> import torch
        >>> impulse = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(4, 1, 1)
        >>> synaptic_integrate(impulse, synapse_decay=0.5, decay=0.5)[0].flatten()
        tensor([1.0000, 1.0000, 0.7500, 0.5000])
    """
    check_sequence(x, "synaptic_integrate")
    if initial is not None and not (isinstance(initial, tuple) and len(initial) == 2):
        raise TypeError(f"synaptic_integrate: initial must be a pair (membrane, current), got {type(initial).__name__}")
    given = x.to(state_type(x))
    decays = [
        as_step(value, name, x, "synaptic_integrate")
        for name, value in (("decay", decay), ("synapse_decay", synapse_decay))
    ]
    membrane, current = (as_step(state, "initial", x, "synaptic_integrate") for state in initial or (None, None))
    if kernels.fused(x):
        states, membrane, current = fused.integrate(given, decays, [membrane, current])
        return states, (membrane, current)
    currents, current = reference.integrate(given, decays[1], current)
    states, membrane = reference.integrate(currents, decays[0], membrane)
    return states, (membrane, current)
