"""The adaptive neuron with a refractory period over a whole sequence: checks, types, and the choice of who computes."""

from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from rheobase.ops import kernels
from rheobase.ops.adaptive import fused, reference
from rheobase.ops.adaptive.credit import Credit
from rheobase.ops.arguments import as_count, as_step, check_sequence, state_type
from rheobase.ops.lif.fused import readable
from rheobase.ops.slope import can
from rheobase.surrogate import FastSigmoid, Surrogate

__all__ = ["Credit", "adaptive_lif", "check_adaptive_rule", "recurrent_adaptive_lif"]


def adaptive_lif(
    x: Float[Tensor, "T B *features"],
    decay: float | Float[Tensor, "*d"],
    threshold: float | Float[Tensor, "*t"] = 1.0,
    adaptation_decay: float | Float[Tensor, "*p"] = 0.99,
    adaptation: float | Float[Tensor, "*b"] = 0.1,
    state: tuple[Float[Tensor, "*v"], Float[Tensor, "*a"], Float[Tensor, "*r"]] | None = None,
    *,
    refractory: int = 0,
    credit: Credit = "sequential",
    surrogate: Surrogate | None = None,
) -> tuple[
    Float[Tensor, "T B *features"],
    tuple[Float[Tensor, "B *features"], Float[Tensor, "B *features"], Float[Tensor, "B *features"]],
]:
    """Leaky integrate-and-fire neurons that rest after a spike, and that get tired of firing.

    A spike sets the membrane potential `v` to 0 and raises the threshold; for the `refractory` steps that follow, the neuron
    hears nothing. With `i[t] = 0` in these steps and `i[t] = x[t]` in all others,

        u[t] = decay * v[t-1] + i[t] - (threshold + adaptation * a[t-1])
        s[t] = 1 if u[t] >= 0 else 0
        v[t] = (decay * v[t-1] + i[t]) * (1 - s[t])
        a[t] = adaptation_decay * a[t-1] + s[t]

    **Credit.** The spikes are the same by either rule; the gradients are not. With `f` the surrogate's derivative, `D` the
    gradient of a loss with respect to what is in brackets, and `D[s]` that of the spikes as an output,

    - `"sequential"` is the surrogate gradient of the four lines above, step by step, in which the `s[t]` of the reset and the
      choice of refractory steps are constants, while the `s[t]` in the trace `a` is not:

          D[u[t]] = f(u[t]) * (D[s[t]] + D[a[t]])
          D[v[t-1]] = decay * (D[v[t]] * (1 - s[t]) + D[u[t]])
          D[a[t-1]] = adaptation_decay * D[a[t]] - adaptation * D[u[t]]

    - `"blocks"` is the rule of the block algorithm (see `rheobase.ops.adaptive.reference.blocks`). Time is cut into blocks of
      `L = refractory + 1` steps from the first step on. Within a block, `v` runs on without a reset and the block's own spike
      does not raise the threshold: with these, `u` is another one after a spike, and crosses 0 whenever it likes. The first
      crossing `c[t] = 1` is the spike, by a ramp `z[t] = sum over k <= t of (t - k + 1) c[k]`, that is 1 there alone; in
      the gradient, `s[t]` is `z[t]`:

          D[u[k]] = f(u[k]) * sum over t >= k of (t - k + 1) * D[s[t]]        (both sums within the block)

      A block hands on to the next its last `v`, or a constant 0 if it has fired, and its trace, in which the spike is a
      constant.

    The default is `"sequential"`: it is what every other neuron here does, and at `refractory=0` and `adaptation=0` it is `lif`
    with the reset `"zero"`, gradients included. By `"blocks"`, an early step of a block answers for all that follow; a gradient
    can be `L * (L + 1) / 2` times as large, which asks for an optimizer that does not mind, such as Adam. It reaches neurons
    through their silent steps too, and it is the rule to reproduce its authors' results with. It needs no more time here.

    There are kernels for both rules, on the CPU and on the GPU, whose cost does not grow with `refractory`, and which keep one
    number for each neuron, sample and step for the backward pass (and every 16 steps, on a GPU 8, 3 or 5 more). Where there are
    none, `"blocks"` is computed by the block algorithm in plain PyTorch, in `T / L` rounds, and `"sequential"` in T.

    Args:
        x: the input current, `(T, B, *features)`, floating point.
        decay: what the membrane potential keeps per step, in [0, 1]; a number or anything that broadcasts to `(B, *features)`.
        threshold: where a neuron fires that has not fired before, above 0: at 0 it would fire in refractory steps; likewise.
        adaptation_decay: what the trace `a` keeps per step, in [0, 1]; likewise.
        adaptation: by how much a spike raises the threshold, not below 0; likewise. 0 is a neuron that does not adapt.
        state: the membrane potential `v`, the trace `a` and the number of refractory steps that are left, each broadcasting to
            `(B, *features)`; None is rest: 0.
        refractory: for how many steps after a spike a neuron hears nothing.
        credit: the rule of the gradient.
        surrogate: the shape of the gradient; None is `FastSigmoid()`. The source of the rule "blocks" takes
            `MultiGaussian.published()`.

    Returns:
        The spikes, 0 or 1, `(T, B, *features)` in the type of `x`; and the state after the last step, each part
        `(B, *features)`, in float32 where `x` is float16 or bfloat16, else in the type of `x`. From it the next piece of a
        sequence goes on as if it had not been cut. So do the gradients, by the rule "blocks" if the piece ends where a block
        does: a cut begins a new block.

    Raises:
        TypeError: if `x` is not floating point, or `surrogate` is no `Surrogate` or one whose spikes are not 0 or 1.
        ValueError: if a shape does not fit, `refractory` is no whole number from 0 on, or `credit` is unknown.

    Example:
        >>> import torch
        >>> x = torch.full((8, 1, 1), 1.0)
        >>> spikes, _ = adaptive_lif(x, decay=1.0, threshold=1.0, adaptation_decay=1.0, adaptation=1.0, refractory=1)
        >>> spikes.flatten()  # after a step of rest, two inputs reach the threshold of 2, then three that of 3
        tensor([1., 0., 0., 1., 0., 0., 0., 1.])
    """
    what = "adaptive_lif"
    surrogate = surrogate or FastSigmoid()
    check_sequence(x, what)
    check_adaptive_rule(refractory, credit, surrogate, what)
    parameters = _parameters(x, decay, threshold, adaptation_decay, adaptation, what)
    states = _states(x, state, 3, what)
    if kernels.fused(x) and can(surrogate):
        spikes, after = fused.adaptive_lif(readable(x), parameters, states, credit == "blocks", refractory, surrogate)
    else:
        compute = reference.blocks if credit == "blocks" else reference.sequential
        spikes, after = compute(x.to(state_type(x)), *parameters, states, refractory, surrogate)
    membrane, trace, resting = after
    return spikes.to(x.dtype), (membrane, trace, resting)


def recurrent_adaptive_lif(
    x: Float[Tensor, "T B N"],
    weight: Float[Tensor, "N N"],
    decay: float | Float[Tensor, "*d"],
    threshold: float | Float[Tensor, "*t"] = 1.0,
    adaptation_decay: float | Float[Tensor, "*p"] = 0.99,
    adaptation: float | Float[Tensor, "*b"] = 0.1,
    state: tuple[Float[Tensor, "B N"], Float[Tensor, "B N"], Float[Tensor, "B N"], Float[Tensor, "L B N"]]
    | None = None,
    *,
    refractory: int = 0,
    credit: Credit = "sequential",
    surrogate: Surrogate | None = None,
    detach_recurrent: bool = True,
) -> tuple[
    Float[Tensor, "T B N"],
    tuple[Float[Tensor, "B N"], Float[Tensor, "B N"], Float[Tensor, "B N"], Float[Tensor, "L B N"]],
]:
    """Adaptive neurons that hear one another, `L = refractory + 1` steps late.

    With everything else as in `adaptive_lif`,

        i[t] = x[t] + weight @ s[t-L],   and 0 in refractory steps

    The delay grows with the refractory period; it is part of the model. It lets the input of L steps be computed by one
    product with the spikes of the L steps before, in `T / L` rounds.

    On the CPU, where few neurons fire, the product is a sum over spike lists, see `rheobase.ops.linear`.

    Args:
        x: the input current, `(T, B, N)`, floating point.
        weight: the recurrent weights, `(N, N)`; `weight[i, j]` is what a spike of neuron j adds to neuron i.
        decay: what the membrane potential keeps per step, in [0, 1]; a number or anything that broadcasts to `(B, N)`.
        threshold: where a neuron fires that has not fired before, above 0; likewise.
        adaptation_decay: what the trace `a` keeps per step, in [0, 1]; likewise.
        adaptation: by how much a spike raises the threshold, not below 0; likewise.
        state: the membrane potential, the trace and the number of refractory steps that are left, each `(B, N)`, and the spikes
            of the last L steps, `(L, B, N)`; None is rest: 0.
        refractory: for how many steps after a spike a neuron hears nothing.
        credit: the rule of the gradient.
        surrogate: the shape of the gradient; None is `FastSigmoid()`.
        detach_recurrent: keep the gradient from going back through the recurrent spikes. The recurrent weights learn all the
            same, from the error of the neurons that they lead to. This is the default here, unlike in `recurrent_lif`, because
            the source of the model found it essential under the rule "blocks".

    Returns:
        The spikes, 0 or 1, `(T, B, N)` in the type of `x`; and the state after the last step. The membrane potential, the trace
        and the refractory steps left are float32 where `x` is float16 or bfloat16, else in the type of `x`.

    Raises:
        TypeError: if `x` is not floating point, or `surrogate` is no `Surrogate` or one whose spikes are not 0 or 1.
        ValueError: if a shape does not fit, `refractory` is no whole number from 0 on, or `credit` is unknown.

    Example:
        >>> import torch
        >>> impulse = torch.zeros(6, 1, 2)
        >>> impulse[0, 0, 0] = 1.0
        >>> ring = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> spikes, _ = recurrent_adaptive_lif(impulse, ring, decay=0.5, adaptation=0.0, refractory=1)
        >>> spikes.squeeze(1).t()
        tensor([[1., 0., 0., 0., 1., 0.],
                [0., 0., 1., 0., 0., 0.]])
    """
    what = "recurrent_adaptive_lif"
    surrogate = surrogate or FastSigmoid()
    check_sequence(x, what)
    check_adaptive_rule(refractory, credit, surrogate, what)
    if x.ndim != 3:
        raise ValueError(f"{what}: x must be (T, B, N), got shape {tuple(x.shape)}")
    batch, neurons = x.shape[1:]
    if weight.shape != (neurons, neurons):
        raise ValueError(f"{what}: weight must be (N, N), {(neurons, neurons)} as x has it, got {tuple(weight.shape)}")
    parameters = _parameters(x, decay, threshold, adaptation_decay, adaptation, what)
    states = _states(x, state, 4, what)
    sent = x.new_zeros(refractory + 1, batch, neurons) if state is None else state[3]
    if sent.shape != (refractory + 1, batch, neurons):
        raise ValueError(
            f"{what}: state must hold the spikes of the last refractory + 1 steps, {(refractory + 1, batch, neurons)}, got "
            f"{tuple(sent.shape)}; it belongs to another batch, layer or refractory period"
        )
    current = x.to(state_type(x))
    weight, before = weight.to(current.dtype), sent.to(current.dtype)
    if kernels.fused(x) and can(surrogate):
        spikes, after = fused.adaptive_lif(
            current, parameters, states, credit == "blocks", refractory, surrogate, weight, before, detach_recurrent
        )
    else:
        compute = reference.blocks if credit == "blocks" else reference.sequential
        rule = refractory, surrogate, weight, before, detach_recurrent
        spikes, after = compute(current, *parameters, states, *rule)
    membrane, trace, resting = after
    spikes = spikes.to(x.dtype)
    return spikes, (membrane, trace, resting, _last(spikes, sent))


def check_adaptive_rule(refractory: int, credit: Credit, surrogate: Surrogate, what: str) -> None:
    """Refuse a refractory period, a rule of credit or a surrogate that there cannot be.

    Raises:
        TypeError: if `surrogate` is not a `Surrogate`, or its spikes are not 0 or 1.
        ValueError: if `refractory` is no whole number from 0 on, or `credit` is unknown.
    """
    as_count(refractory, "refractory", what, least=0)
    if credit not in get_args(Credit):
        raise ValueError(f"{what}: credit must be one of {', '.join(map(repr, get_args(Credit)))}, got {credit!r}")
    if not isinstance(surrogate, Surrogate):
        raise TypeError(f"{what}: surrogate must be an object such as FastSigmoid(), got {surrogate!r}")
    if type(surrogate).spike is not Surrogate.spike:
        raise TypeError(
            f"{what}: surrogate must fire or not fire, for what follows a spike depends on it; "
            f"{type(surrogate).__name__} has a spike of its own. Override its shape alone"
        )


def _parameters(
    x: Tensor,
    decay: float | Tensor,
    threshold: float | Tensor,
    adaptation_decay: float | Tensor,
    adaptation: float | Tensor,
    what: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The parameters, each as a tensor that broadcasts to a step."""
    return (
        as_step(decay, "decay", x, what),
        as_step(threshold, "threshold", x, what),
        as_step(adaptation_decay, "adaptation_decay", x, what),
        as_step(adaptation, "adaptation", x, what),
    )


def _states(x: Tensor, state: tuple[Tensor, ...] | None, parts: int, what: str) -> list[Tensor]:
    """Membrane potential, trace and refractory steps left, of a state of so many parts."""
    if state is not None and not (isinstance(state, tuple) and len(state) == parts):
        names = "(membrane, trace, resting, sent)" if parts == 4 else "(membrane, trace, resting)"
        got = f"tuple of {len(state)}" if isinstance(state, tuple) else type(state).__name__
        raise TypeError(f"{what}: state must be a tuple {names}, got {got}")
    membrane, trace, resting = (as_step(part, "state", x, what) for part in (state or (None,) * 3)[:3])
    return [membrane, trace, resting.detach()]


def _last(spikes: Tensor, sent: Tensor) -> Tensor:
    """The spikes of the last `len(sent)` steps."""
    if len(spikes) >= len(sent):
        return spikes[len(spikes) - len(sent) :]
    return torch.cat((sent[len(spikes) :], spikes))
