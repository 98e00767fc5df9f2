"""The leaky integrate-and-fire neuron over a whole sequence: checks, types, and the choice of who computes."""

from typing import get_args

from jaxtyping import Float
from torch import Tensor

from rheobase.ops.arguments import as_step, check_sequence, state_type
from rheobase.ops.lif import reference
from rheobase.ops.lif.reset import Reset
from rheobase.surrogate import FastSigmoid, Surrogate

__all__ = ["Reset", "check_rule", "lif"]


def lif(
    x: Float[Tensor, "T B *features"],
    decay: float | Float[Tensor, "*d"],
    threshold: float | Float[Tensor, "*t"] = 1.0,
    initial: Float[Tensor, "*s"] | None = None,
    *,
    reset: Reset = "subtract",
    surrogate: Surrogate | None = None,
    detach_reset: bool = True,
) -> tuple[Float[Tensor, "T B *features"], Float[Tensor, "B *features"]]:
    """Leaky integrate-and-fire neurons, driven by `x` for T steps.

    With the membrane potential `v` before the reset, and `r` after it,

        v[t] = decay * r[t-1] + x[t]
        s[t] = 1 if v[t] >= threshold else 0
        r[t] = v[t] - threshold * s[t]     (reset "subtract")
               v[t] * (1 - s[t])           (reset "zero")
               v[t]                        (reset "none")

    The gradient of `s[t]` with respect to `v[t] - threshold` is the surrogate's. With `detach_reset`, the `s[t]` of the reset
    is a constant in the backward pass; the threshold that is subtracted still receives its gradient.

    Args:
        x: the input current, `(T, B, *features)`, floating point.
        decay: what a state keeps per step, in [0, 1]; a number or anything that broadcasts to `(B, *features)`.
        threshold: where a neuron fires; like `decay`.
        initial: the membrane potential `r[-1]`, broadcasting to `(B, *features)`; None is rest, 0.
        reset: what happens to the membrane potential of a neuron that fired.
        surrogate: the shape of the gradient; None is `FastSigmoid()`.
        detach_reset: keep the reset out of the gradient, as is usual.

    Returns:
        The spikes, 0 or 1, `(T, B, *features)` in the type of `x`; and `r[T-1]`, `(B, *features)`, in float32 where `x` is
        float16 or bfloat16, else in the type of `x`.

    Raises:
        TypeError: if `x` is not floating point, or `surrogate` is no `Surrogate`.
        ValueError: if a shape does not fit, or `reset` is unknown.

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
    check_rule(reset, surrogate, "lif")
    spikes, membrane = reference.lif(
        x.to(state_type(x)),
        as_step(decay, "decay", x, "lif"),
        as_step(threshold, "threshold", x, "lif"),
        as_step(initial, "initial", x, "lif"),
        reset,
        surrogate,
        detach_reset,
    )
    return spikes.to(x.dtype), membrane


def check_rule(reset: Reset, surrogate: Surrogate, what: str) -> None:
    """Refuse an unknown reset, and a surrogate that is none (its class, or its name, most likely).

    Raises:
        ValueError: if `reset` is unknown.
        TypeError: if `surrogate` is not a `Surrogate`.
    """
    if reset not in get_args(Reset):
        raise ValueError(f"{what}: reset must be one of {', '.join(map(repr, get_args(Reset)))}, got {reset!r}")
    if not isinstance(surrogate, Surrogate):
        raise TypeError(f"{what}: surrogate must be an object such as FastSigmoid(), got {surrogate!r}")
