"""Recurrent leaky integrate-and-fire neurons over a whole sequence: checks, types, and the choice of implementation."""

from jaxtyping import Float
from torch import Tensor

from rheobase.ops import kernels
from rheobase.ops.arguments import as_step, check_sequence, state_type
from rheobase.ops.lif import check_rule
from rheobase.ops.lif.reset import Reset, ResetGradient
from rheobase.ops.recurrent import fused, reference
from rheobase.ops.slope import can
from rheobase.surrogate import FastSigmoid, Surrogate

__all__ = ["recurrent_lif"]


def recurrent_lif(
    x: Float[Tensor, "T B N"],
    weight: Float[Tensor, "N N"],
    decay: float | Float[Tensor, "*d"],
    threshold: float | Float[Tensor, "*t"] = 1.0,
    initial: tuple[Float[Tensor, "B N"], Float[Tensor, "B N"]] | None = None,
    *,
    reset: Reset = "subtract",
    surrogate: Surrogate | None = None,
    reset_gradient: ResetGradient = "detached",
    detach_recurrent: bool = False,
) -> tuple[Float[Tensor, "T B N"], tuple[Float[Tensor, "B N"], Float[Tensor, "B N"]]]:
    """Leaky integrate-and-fire neurons with recurrent connections: the spikes of a step arrive at the next.

    With `v`, `s` and `r` as in `rheobase.ops.lif.lif`,

        v[t] = decay * r[t-1] + x[t] + weight @ s[t-1]

    On the CPU the product with the spikes is a sum of the rows of those that fired: a weight of a neuron that did not fire is
    not looked at, even if it is infinite. For the backward pass `v` is kept: 4 bytes for each neuron, sample and step, 8 if `x`
    is float64; and the spikes themselves.

    Args:
        x: the input current, `(T, B, N)`, floating point.
        weight: the recurrent weights, `(N, N)`; `weight[i, j]` is what a spike of neuron j adds to neuron i.
        decay: what the membrane potential keeps per step, in [0, 1]; a number or anything that broadcasts to `(B, N)`.
        threshold: where a neuron fires; like `decay`.
        initial: the membrane potential `r[-1]` and the spikes `s[-1]`, each `(B, N)`; None is rest, 0.
        reset: what happens to the membrane potential of a neuron that fired.
        surrogate: the shape of the gradient; None is `FastSigmoid()`.
        reset_gradient: how the backward pass treats the reset: its spike is a constant ("detached"), has the surrogate's
            gradient too ("attached"), or there is no reset at all ("ignored").
        detach_recurrent: keep the gradient from going back through the recurrent spikes. The recurrent weights learn all the
            same, from the error of the neurons that they lead to.

    Returns:
        The spikes, 0 or 1, `(T, B, N)` in the type of `x`; and the states `(r[T-1], s[T-1])`, each `(B, N)`, the membrane
        potential in float32 where `x` is float16 or bfloat16, else in the type of `x`.

    Raises:
        TypeError: if `x` is not floating point, or `surrogate` is not a `Surrogate`.
        ValueError: if a shape does not match, or `reset` or `reset_gradient` is unknown.

    Example:
        >>> import torch
        >>> impulse = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]])
        >>> ring = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> spikes, _ = recurrent_lif(impulse, ring, decay=0.5)
        >>> spikes.squeeze(1)
        tensor([[1., 0.],
                [0., 1.],
                [1., 0.]])
    """
    what = "recurrent_lif"
    surrogate = surrogate or FastSigmoid()
    check_sequence(x, what)
    check_rule(reset, reset_gradient, surrogate, what)
    if x.ndim != 3:
        raise ValueError(f"{what}: x must be (T, B, N), got shape {tuple(x.shape)}")
    neurons = x.shape[2]
    if weight.shape != (neurons, neurons):
        raise ValueError(f"{what}: weight must be (N, N), {(neurons, neurons)} as x has it, got {tuple(weight.shape)}")
    membrane, sent = initial or (None, None)
    state = state_type(x)
    parameters = (
        weight.to(state),
        as_step(decay, "decay", x, what),
        as_step(threshold, "threshold", x, what),
        as_step(membrane, "initial", x, what),
        as_step(sent, "initial", x, what),
    )
    compute = fused if x.device.type == "cpu" and kernels.fused(x) and can(surrogate) else reference
    spikes, membrane, sent = compute.recurrent_lif(
        x.to(state), *parameters, reset, surrogate, reset_gradient, detach_recurrent
    )
    return spikes.to(x.dtype), (membrane, sent.to(x.dtype))
