"""A pass of adaptive neurons over a whole sequence, piece by piece, whoever has the kernels.

A kernel goes through any number of steps by itself, as long as it knows their input: without recurrent weights a sequence is
one piece. Neurons that hear one another do so after L = R + 1 steps, the length of a block, and so the input of a piece of L
steps is one product with the spikes of the piece before. What is around the kernels is the same on the CPU and on the GPU:
which piece comes next, the products, and what one piece leaves to another.

`kernels` is a module, `cpu` or `gpu`, that has

- `forward` and `backward`, which compute one piece: a state is followed in place, and so is its gradient, and those of the
  parameters are added up;
- `SEGMENT`, how many steps lie between two whole states that are kept for the backward pass;
- `spike_lists` and `gradient_by_spikes`, for the gradient of recurrent weights, see `rheobase.ops.recurrent.cpu`.
"""

from collections.abc import Iterator
from types import ModuleType

import torch
from torch import Tensor

from rheobase.ops import dense, memory
from rheobase.ops.linear import linear

_RESTING = 2
"""The row of the refractory steps left, in a state."""


def kept_states(kernels: ModuleType, steps: int, refractory: int, blocks: bool, recurrent: bool) -> tuple[int, int]:
    """How many whole states are kept, and of how many numbers each."""
    piece = _piece(steps, refractory, recurrent)
    return -(-steps // piece) * -(-piece // kernels.SEGMENT), 5 if blocks else 3


def forward(
    kernels: ModuleType,
    x: Tensor,
    parameters: Tensor,
    initial: Tensor,
    weight: Tensor | None,
    sent: Tensor | None,
    blocks: bool,
    refractory: int,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The neurons' spikes, and what the backward pass needs.

    Args:
        kernels: who computes a piece.
        x: the input current, `(T, M)`, in a type that the kernels read; with recurrent weights, in the type of the states.
        parameters: decay, threshold, the trace's decay, adaptation: `(4, M)`.
        initial: membrane potential, trace, and refractory steps left, before the first step: `(3, M)`.
        weight: recurrent weights, `(N, N)`, or None.
        sent: the spikes of the R + 1 steps before the first, `(R + 1, B, N)`, if there are recurrent weights.
        blocks: whether the backward pass will follow the rule "blocks".
        refractory: R.
        save: whether a backward pass will follow.

    Returns:
        The spikes `(T, M)` in the type of `x`, the state after the last step `(3, M)`, the distance from the threshold
        `(T, M)`, and the whole states, `(kept, states, M)`; the last two of size 0 without `save`.
    """
    steps, lanes = x.shape
    count, states = kept_states(kernels, steps, refractory, blocks, weight is not None)
    spikes = _empty((steps, lanes), x)
    distance = _empty((steps, lanes) if save else (0, 0), parameters)
    kept = _empty((count, states, lanes) if save else (0, 0, 0), parameters)
    last = initial.clone()  # of each piece, in place
    for start, stop, first in _pieces(kernels, steps, refractory, weight):
        current = x[start:stop]
        if weight is not None and sent is not None:
            before = spikes[start - len(sent) : start].view(sent.shape) if start else sent
            current = _hear(current, before[: len(current)], weight)
        saved = distance[start:stop], kept[first:]
        kernels.forward(current, parameters, last, spikes[start:stop], *saved, blocks, refractory, save)
    return spikes, last, distance, kept


def backward(
    kernels: ModuleType,
    on_spikes: Tensor,
    on_last: Tensor,
    distance: Tensor,
    kept: Tensor,
    slope: Tensor,
    parameters: Tensor,
    weight: Tensor | None,
    sent: Tensor | None,
    fired: object | None,
    blocks: bool,
    refractory: int,
    shape: str,
    dampening: float,
    sharpness: float,
    detach_recurrent: bool,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of all that `forward` received.

    Args:
        kernels: as in `forward`.
        on_spikes: the gradient of the spikes, `(T, M)`.
        on_last: the gradient of the state after the last step, `(3, M)`.
        distance: what `forward` saved.
        kept: what `forward` saved.
        slope: the surrogate derivative, `(T, M)`, if `shape` is "given"; else `(0, 0)`.
        parameters: as in `forward`.
        weight: as in `forward`.
        sent: as in `forward`.
        fired: the spikes that `forward` returned, `(T, B, N)`, or what `spike_lists` of the kernels made of them; None if the
            gradient of the weights is not wanted.
        blocks: as in `forward`.
        refractory: as in `forward`.
        shape: the class name of a surrogate that the kernel knows, or "given".
        dampening: the surrogate's peak.
        sharpness: the inverse of the surrogate's width.
        detach_recurrent: keep the gradient from going back through the recurrent spikes.
        learn: whether the gradients of the parameters are wanted.

    Returns:
        The gradients of `x`, `initial`, `parameters` (0 without `learn`), `weight` (0 without `fired`) and `sent`; the last two
        are of size 0 if there are no recurrent weights.
    """
    steps, lanes = on_spikes.shape
    on_x = _empty((steps, lanes), on_spikes)
    on_state, on_parameters = on_last.clone(), torch.zeros_like(parameters)
    on_state[_RESTING] = 0
    rule = blocks, refractory, shape, dampening, sharpness, learn
    for start, stop, first in reversed(list(_pieces(kernels, steps, refractory, weight))):
        on_fired = on_spikes[start:stop]
        if weight is not None and sent is not None and not detach_recurrent and stop < steps:
            on_fired = on_fired.clone()
            # The spikes were part of the input of the steps `stop` and on.
            on_heard = on_x[stop : stop + len(on_fired)].unflatten(1, sent.shape[1:])
            on_fired[: len(on_heard)] += _through(on_heard, weight).flatten(1)
        saved = distance[start:stop], slope[start:stop], kept[first:]
        kernels.backward(on_fired, *saved, parameters, on_x[start:stop], on_state, on_parameters, *rule)
    if weight is None or sent is None:
        return on_x, on_state, on_parameters, on_x.new_empty(0), on_x.new_empty(0)
    on_current = on_x.view(steps, *sent.shape[1:])
    hears_sent = on_current[: len(sent)]
    on_weight, on_sent = torch.zeros_like(weight), torch.zeros_like(sent)
    if not detach_recurrent:
        on_sent[: len(hears_sent)] = _through(hears_sent, weight)
    if fired is not None:
        on_weight += dense.product(hears_sent.flatten(0, 1).t(), sent[: len(hears_sent)].flatten(0, 1))
        if steps > len(sent):
            on_weight += kernels.gradient_by_spikes(fired, on_current[len(sent) :].flatten(0, 1), len(sent))
    return on_x, on_state, on_parameters, on_weight, on_sent


def _empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Memory for a kernel to write to, of the type and on the device of a tensor."""
    return memory.empty(shape, like.dtype) if like.device.type == "cpu" else like.new_empty(shape)


def _piece(steps: int, refractory: int, recurrent: bool) -> int:
    """The steps that a kernel can do in one go."""
    return refractory + 1 if recurrent else max(steps, 1)


def _pieces(kernels: ModuleType, steps: int, refractory: int, weight: Tensor | None) -> Iterator[tuple[int, int, int]]:
    """What a kernel can do in one go: first step, end, and the first of the states that are kept of it."""
    piece = _piece(steps, refractory, weight is not None)
    for index, start in enumerate(range(0, steps, piece)):
        yield start, min(start + piece, steps), index * -(-piece // kernels.SEGMENT)


def _hear(current: Tensor, before: Tensor, weight: Tensor) -> Tensor:
    """The input of a block and what its neurons hear of the spikes of the block before."""
    with torch.no_grad(), torch.autocast(current.device.type, enabled=False):
        return linear(before.flatten(0, 1), weight).view(current.shape).add_(current)


def _through(gradient: Tensor, weight: Tensor) -> Tensor:
    """The gradient of spikes that neurons hear, `(T, B, N)`, from that of the input of these neurons."""
    return dense.product(gradient.flatten(0, 1), weight).view(gradient.shape)
