"""Leaky integration over a whole sequence: checks, types, and the choice of who computes."""

from jaxtyping import Float
from torch import Tensor

from rheobase.ops import kernels
from rheobase.ops.arguments import as_step, check_sequence, state_type
from rheobase.ops.integrate import fused, reference

__all__ = ["integrate"]


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
        `v`, `(T, B, *features)`, and `v[T-1]`, `(B, *features)`; both in float32 where `x` is float16 or bfloat16, else in
        the type of `x`. (A membrane potential is no spike: rounding it to bfloat16 would lose what it integrates.)

    Raises:
        TypeError: if `x` is not floating point.
        ValueError: if a shape does not fit.

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
