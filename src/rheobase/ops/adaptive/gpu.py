"""Adaptive neurons with a refractory period on a GPU: one launch for all steps forwards, one backwards, in Triton.

Built as the kernels of `rheobase.ops.lif.gpu`: a lane belongs to one thread, which goes through all steps with the neuron's
state in registers, and loads are a tile ahead (see `rheobase.ops.tiles`). Step by step is the fast way here too: T / L rounds
of the block algorithm are thousands of launches, and each goes through memory several times.

What is kept for the backward pass is what the CPU keeps, the distance `u` of the membrane potential from the threshold for
every step, and now and then the neuron's whole state. The steps between two of these are a tile of the backward pass, which
goes through it twice, all within registers: forwards, to learn who was refractory and what the traces were, and then
backwards. To keep all that for every step would, where parameters learn, take twice the memory, and memory is the limit.

Which rule of credit it is, is known at compile time; T and the refractory period are not, or each would be compiled anew.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from rheobase.ops import dense
from rheobase.ops.slope.gpu import bump
from rheobase.ops.tiles import layout, load_row, load_tile, present, store_row

SEGMENT = 8
"""Steps between two whole states that are kept, and in a tile of the backward pass. Twice as many take Triton ten times as long
to compile; and as each step is gone through twice, a tile takes as long as one of 16 steps elsewhere, and hides as much. The
tiles of the forward pass are a multiple of it."""


def forward(
    x: Float[Tensor, "T M"],
    parameters: Float[Tensor, "4 M"],
    last: Float[Tensor, "3 M"],
    spikes: Float[Tensor, "T M"],
    distance: Float[Tensor, "T_or_0 M_or_0"],
    kept: Float[Tensor, "K S M_or_0"],
    blocks: bool,
    refractory: int,
    save: bool,
) -> None:
    """One piece of a forward pass. All tensors are contiguous and on one device.

    Args:
        x: the input current, in float16, bfloat16, float32 or float64.
        parameters: decay, threshold, the trace's decay, adaptation; float64 for float64 `x`, else float32, as all states.
        last: membrane potential, trace, and refractory steps left, before the piece; those after it are written over them.
        spikes: the spikes, in the type of `x`, are written here.
        distance: with `save`, the distance from the threshold is written here.
        kept: with `save`, a whole state is written to its beginning for each segment: three numbers, by the rule "blocks" five.
        blocks: whether the backward pass will follow the rule "blocks".
        refractory: for how many steps after a spike a neuron hears nothing.
        save: whether a backward pass will follow.
    """
    steps, lanes = x.shape
    how = layout(lanes, x.device)
    with torch.cuda.device_of(x):
        _forward[(how.programs(lanes),)](
            x, parameters, last, spikes, distance, kept, float(refractory), _block_length(refractory, steps), steps, lanes,
            BLOCKS=blocks, STATES=5 if blocks else 3, SAVE=save, SEGMENT=SEGMENT, **how.options(),
        )  # fmt: skip


def backward(
    on_spikes: Float[Tensor, "T M"],
    distance: Float[Tensor, "T M"],
    slope: Float[Tensor, "T_or_0 M_or_0"],
    kept: Float[Tensor, "K S M"],
    parameters: Float[Tensor, "4 M"],
    on_x: Float[Tensor, "T M"],
    on_state: Float[Tensor, "3 M"],
    on_parameters: Float[Tensor, "4 M"],
    blocks: bool,
    refractory: int,
    shape: str,
    dampening: float,
    sharpness: float,
    learn: bool,
) -> None:
    """The same piece of the backward pass.

    Args:
        on_spikes: the gradient of the spikes, in the type of `x`.
        distance: what `forward` has written.
        slope: the derivative of the spikes, where `shape` is "given"; else of shape (0, 0).
        kept: what `forward` has written.
        parameters: as for `forward`.
        on_x: the gradient of `x`, in its type, is written here.
        on_state: the gradient of the state after the piece; that of the state before it is written over it, but for the
            refractory steps, which have none.
        on_parameters: with `learn`, the gradient of the parameters is added to this.
        blocks: as for `forward`.
        refractory: as for `forward`.
        shape: the surrogate: the name of a class of `rheobase.surrogate`, or "given".
        dampening: the peak of the surrogate.
        sharpness: how narrow the surrogate is.
        learn: compute the gradients of the parameters.
    """
    steps, lanes = on_spikes.shape
    how = layout(lanes, on_spikes.device)._replace(tile=SEGMENT)
    with torch.cuda.device_of(on_spikes):
        _backward[(how.programs(lanes),)](
            on_spikes, distance, slope, kept, parameters, on_x, on_state, on_parameters,
            dampening, sharpness, float(refractory), _block_length(refractory, steps), steps, lanes,
            BLOCKS=blocks, STATES=5 if blocks else 3, SHAPE=shape, LEARN=learn, **how.options(),
        )  # fmt: skip


def spike_lists(_fired: Tensor, _delay: int) -> None:
    """No lists: a GPU multiplies with all spikes sooner than it finds the few that are there."""


def gradient_by_spikes(fired: Float[Tensor, "T B N"], on_x: Float[Tensor, "R N"], delay: int) -> Float[Tensor, "N N"]:
    """The gradient of recurrent weights; see `rheobase.ops.recurrent.cpu.gradient_by_spikes`."""
    return dense.product(on_x.t(), fired[:-delay].view(on_x.shape))


def _block_length(refractory: int, steps: int) -> int:
    """The steps of a block; one longer than the piece ends where that does, and an int32 holds its length."""
    return min(refractory + 1, max(steps, 1))


@triton.jit(do_not_specialize=["length", "steps", "lanes"])
@no_type_check
def _forward(
    x,  # (T, M)
    parameters,  # (4, M)
    last,  # (3, M), read and written
    spikes,  # (T, M), written
    distance,  # (T, M), written if SAVE
    kept,  # (segments, STATES, M), written if SAVE
    refractory: tl.float64,
    length,
    steps,
    lanes,
    BLOCKS: tl.constexpr,
    STATES: tl.constexpr,
    SAVE: tl.constexpr,
    SEGMENT: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    state = parameters.dtype.element_ty
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = lane < lanes
    rest = tl.full((BLOCK,), refractory, state)
    decay = load_row(parameters, 0, lane, lanes)
    threshold = load_row(parameters, 1, lane, lanes)
    trace_decay = load_row(parameters, 2, lane, lanes)
    adaptation = load_row(parameters, 3, lane, lanes)
    membrane, trace, resting, block_trace, fired = _whole(last, 0, lane, lanes, 3, BLOCK)
    last_membrane = membrane
    last_trace = trace
    last_resting = resting
    tile = load_tile(x, 0, steps, lane, lanes, TILE)
    for position in range(0, steps, TILE):
        next_tile = load_tile(x, position + TILE, steps, lane, lanes, TILE)
        offset = position % length  # within the block
        for ahead in tl.static_range(TILE):
            t = position + ahead
            there_is = present(t, steps, lane, lanes)
            if SAVE and ahead % SEGMENT == 0:
                whole = (membrane, trace, resting, block_trace, fired)
                for row in tl.static_range(STATES):
                    store_row(kept, t // SEGMENT * STATES + row, whole[row], lane, lanes, there_is)
            ends = (offset + 1 == length) | (t + 1 == steps)
            offset = tl.where(ends, 0, offset + 1)
            current = tl.where(resting <= 0.0, tile[ahead].to(state), 0.0)
            v = decay * membrane + current
            u = v - (threshold + adaptation * (block_trace if BLOCKS else trace))
            store_row(spikes, t, _fires(u, fired, BLOCKS).to(state), lane, lanes, there_is)
            if SAVE:
                store_row(distance, t, u, lane, lanes, there_is)
            membrane, trace, resting, block_trace, fired, _ = _after(
                v, u, trace, resting, block_trace, fired, ends, trace_decay, rest, BLOCKS
            )
            # The last tile runs on past the end, harmlessly: what to keep is chosen beside the recurrence, not inside it.
            last_membrane = tl.where(t < steps, membrane, last_membrane)
            last_trace = tl.where(t < steps, trace, last_trace)
            last_resting = tl.where(t < steps, resting, last_resting)
        tile = next_tile
    store_row(last, 0, last_membrane, lane, lanes, real)
    store_row(last, 1, last_trace, lane, lanes, real)
    store_row(last, 2, last_resting, lane, lanes, real)


@triton.jit(do_not_specialize=["length", "steps", "lanes"])
@no_type_check
def _backward(
    on_spikes,  # (T, M)
    distance,  # (T, M)
    slope,  # (T, M) if SHAPE is "given"
    kept,  # (segments, STATES, M)
    parameters,  # (4, M)
    on_x,  # (T, M), written
    on_state,  # (3, M), the first two read and written
    on_parameters,  # (4, M), added to if LEARN
    dampening: tl.float64,
    sharpness: tl.float64,
    refractory: tl.float64,
    length,
    steps,
    lanes,
    BLOCKS: tl.constexpr,
    STATES: tl.constexpr,
    SHAPE: tl.constexpr,
    LEARN: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    state = parameters.dtype.element_ty
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = lane < lanes
    peak = tl.full((BLOCK,), dampening, state)
    narrowness = tl.full((BLOCK,), sharpness, state)
    rest = tl.full((BLOCK,), refractory, state)
    decay = load_row(parameters, 0, lane, lanes)
    threshold = load_row(parameters, 1, lane, lanes)
    trace_decay = load_row(parameters, 2, lane, lanes)
    adaptation = load_row(parameters, 3, lane, lanes)
    on_membrane = load_row(on_state, 0, lane, lanes)
    on_trace = load_row(on_state, 1, lane, lanes)
    on_block_trace = tl.full((BLOCK,), 0.0, state)
    total = tl.full((BLOCK,), 0.0, state)  # of the gradients of a block's spikes, ...
    total_of_totals = tl.full((BLOCK,), 0.0, state)  # ... and what the ramp makes of them
    if LEARN:
        on_decay = load_row(on_parameters, 0, lane, lanes)
        on_threshold = load_row(on_parameters, 1, lane, lanes)
        on_trace_decay = load_row(on_parameters, 2, lane, lanes)
        on_adaptation = load_row(on_parameters, 3, lane, lanes)

    # From the last tile to the first. It is the last that may run on past the end: tiles begin where states are kept.
    final = (steps - 1) // TILE * TILE
    on_s_tile = load_tile(on_spikes, final, steps, lane, lanes, TILE)
    u_tile = load_tile(distance, final, steps, lane, lanes, TILE)
    whole = _whole(kept, final // TILE * STATES, lane, lanes, STATES, BLOCK)
    if SHAPE == "given":
        slope_tile = load_tile(slope, final, steps, lane, lanes, TILE)
    for passed in range(0, steps, TILE):
        position = final - passed
        earlier = tl.where(position > TILE, position - TILE, 0)  # with no tile before it, the first comes again, unused
        next_on_s_tile = load_tile(on_spikes, earlier, steps, lane, lanes, TILE)
        next_u_tile = load_tile(distance, earlier, steps, lane, lanes, TILE)
        next_whole = _whole(kept, earlier // TILE * STATES, lane, lanes, STATES, BLOCK)
        if SHAPE == "given":
            next_slope_tile = load_tile(slope, earlier, steps, lane, lanes, TILE)

        # As the forward pass went: what was before each step, and what happened in it.
        membrane, trace, resting, block_trace, fired = whole
        membranes = ()
        traces = ()
        compared = ()  # the traces that raised the threshold
        hearing = ()
        restarting = ()
        ending = ()
        offset = position % length
        for ahead in tl.static_range(TILE):
            ends = (offset + 1 == length) | (position + ahead + 1 == steps)
            offset = tl.where(ends, 0, offset + 1)
            raising = block_trace if BLOCKS else trace
            membranes += (membrane,)
            traces += (trace,)
            compared += (raising,)
            hearing += (resting <= 0.0,)
            u = u_tile[ahead]
            v = u + (threshold + adaptation * raising)
            membrane, trace, resting, block_trace, fired, restarts = _after(
                v, u, trace, resting, block_trace, fired, ends, trace_decay, rest, BLOCKS
            )
            restarting += (restarts,)
            ending += (ends,)

        for ahead in tl.static_range(TILE - 1, -1, -1):
            t = position + ahead
            there = t < steps
            on_s = on_s_tile[ahead].to(state)
            if BLOCKS:
                ends = ending[ahead]
                on_trace = tl.where(ends, on_trace + on_block_trace, on_trace)
                on_block_trace = tl.where(ends, 0.0, on_block_trace)
                total = tl.where(ends, 0.0, total) + on_s
                total_of_totals = tl.where(ends, 0.0, total_of_totals) + total
                on_s = total_of_totals
            else:
                on_s += on_trace
            on_u = on_s * (slope_tile[ahead] if SHAPE == "given" else peak * bump(narrowness * u_tile[ahead], SHAPE))
            on_v = tl.where(restarting[ahead], 0.0, on_membrane) + on_u
            on_current = tl.where(hearing[ahead], on_v, 0.0)
            store_row(on_x, t, on_current, lane, lanes, present(t, steps, lane, lanes))
            if LEARN:
                by_trace_decay = on_trace * traces[ahead]
                if BLOCKS:
                    by_trace_decay += on_block_trace * compared[ahead]
                on_decay += tl.where(there, on_v * membranes[ahead], 0.0)
                on_threshold -= tl.where(there, on_u, 0.0)
                on_trace_decay += tl.where(there, by_trace_decay, 0.0)
                on_adaptation -= tl.where(there, on_u * compared[ahead], 0.0)
            # After the last step the gradient stands still: it is that of the last state.
            on_membrane = tl.where(there, decay * on_v, on_membrane)
            on_trace_before = trace_decay * on_trace
            if BLOCKS:
                on_block_trace = tl.where(there, trace_decay * on_block_trace - adaptation * on_u, on_block_trace)
            else:
                on_trace_before -= adaptation * on_u
            on_trace = tl.where(there, on_trace_before, on_trace)
        on_s_tile = next_on_s_tile
        u_tile = next_u_tile
        whole = next_whole
        if SHAPE == "given":
            slope_tile = next_slope_tile

    store_row(on_state, 0, on_membrane, lane, lanes, real)
    store_row(on_state, 1, on_trace + on_block_trace, lane, lanes, real)
    if LEARN:
        store_row(on_parameters, 0, on_decay, lane, lanes, real)
        store_row(on_parameters, 1, on_threshold, lane, lanes, real)
        store_row(on_parameters, 2, on_trace_decay, lane, lanes, real)
        store_row(on_parameters, 3, on_adaptation, lane, lanes, real)


@triton.jit
@no_type_check
def _whole(rows, row, lane, lanes, STATES: tl.constexpr, BLOCK: tl.constexpr):
    """A neuron's whole state: membrane potential, trace, refractory steps left, the block's trace, and whether it has fired.

    The last two are those of the rule "blocks": the trace without the block's own spike, and the steps of the block from that
    on, with its own, 0 before. Where they are not kept, it is the state between two blocks.
    """
    membrane = load_row(rows, row, lane, lanes)
    trace = load_row(rows, row + 1, lane, lanes)
    resting = load_row(rows, row + 2, lane, lanes)
    if STATES == 5:
        block_trace = load_row(rows, row + 3, lane, lanes)
        fired = load_row(rows, row + 4, lane, lanes)
    else:
        block_trace = trace
        fired = tl.full((BLOCK,), 0.0, rows.dtype.element_ty)
    return membrane, trace, resting, block_trace, fired


@triton.jit
@no_type_check
def _fires(u, fired, BLOCKS: tl.constexpr):
    """Whether there is a spike: where the threshold is reached, in a block for the first time; none for NaN."""
    fires = u >= 0.0
    if BLOCKS:
        fires = fires & (fired <= 0.0)
    return fires


@triton.jit
@no_type_check
def _after(v, u, trace, resting, block_trace, fired, ends, trace_decay, rest, BLOCKS: tl.constexpr):
    """The whole state after a step, from the membrane potential `v` in it, and whether that starts anew, from 0."""
    fires = _fires(u, fired, BLOCKS)
    left = resting - 1.0
    resting = tl.where(left > 0.0, left, 0.0)
    trace = trace_decay * trace + fires.to(v.dtype)
    if BLOCKS:
        # Within a block the membrane potential runs on, and hears what comes after the block's own spike.
        fired = tl.where(fires | (fired > 0.0), fired + 1.0, fired)
        restarts = ends & (fired > 0.0)
        resting = tl.where(restarts, rest + 1.0 - fired, resting)
        block_trace = tl.where(ends, trace, trace_decay * block_trace)
        fired = tl.where(ends, 0.0, fired)
    else:
        restarts = fires
        resting = tl.where(fires, rest, resting)
        block_trace = trace
    return tl.where(restarts, 0.0, v), trace, resting, block_trace, fired, restarts
