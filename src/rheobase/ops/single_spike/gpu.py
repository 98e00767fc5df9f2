"""Neurons that fire once, on a GPU: time inside one kernel, forwards and backwards, in Triton.

As in `rheobase.ops.lif.gpu`, one thread has one lane and keeps its state in registers. What a neuron has done is the step of
its first crossing of the threshold and that of its second, and the latch is comparisons of the step with these. A program
goes through all steps, also where its lanes are over: neighbours in a GPU wait for each other anyway, and a loop that asks
whether it may end cannot load ahead.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from rheobase.ops.single_spike.credit import Credit
from rheobase.ops.slope.gpu import bump
from rheobase.ops.tiles import at, layout, load_row, load_tile, present, store_row


def forward(
    x: Float[Tensor, "T M"],
    decay: Float[Tensor, " M"],
    threshold: Float[Tensor, " M"],
    initial: Float[Tensor, "S S_M"],
    credit: Credit,
    fire_by_end: bool,
    save: bool,
    whole: bool,
) -> tuple[Float[Tensor, "T M"], Float[Tensor, "S S_M"], Float[Tensor, "T_or_0 M_or_0"], Float[Tensor, "2 M"]]:
    """The spikes of M neurons over T steps, and what the backward pass needs; see `rheobase.ops.single_spike.cpu.forward`.

    All tensors are contiguous and on one device; `x` is float16, bfloat16, float32 or float64. The second crossing is found
    whatever the credit.
    """
    steps, lanes = x.shape
    spikes, last = torch.empty_like(x), torch.empty_like(initial)
    membrane = decay.new_empty((steps, lanes) if save else (0, 0))
    crossings = decay.new_empty(2, lanes)
    how = layout(lanes, x.device)
    with torch.cuda.device_of(x):
        _forward[(how.programs(lanes),)](
            x, decay, threshold, initial, spikes, last, membrane, crossings, int(fire_by_end), steps, lanes,
            SAVE=save, WHOLE=whole, **how.options(),
        )  # fmt: skip
    return spikes, last, membrane, crossings


def backward(
    on_spikes: Float[Tensor, "T M"],
    on_last: Float[Tensor, "S S_M"],
    membrane: Float[Tensor, "T M"],
    crossings: Float[Tensor, "2 M"],
    slope: Float[Tensor, "T_or_0 M_or_0"],
    decay: Float[Tensor, " M"],
    threshold: Float[Tensor, " M"],
    initial: Float[Tensor, "S S_M"],
    credit: Credit,
    fire_by_end: bool,
    shape: str,
    dampening: float,
    sharpness: float,
    learn: bool,
    whole: bool,
) -> tuple[Float[Tensor, "T M"], Float[Tensor, "S S_M"], Float[Tensor, " M"], Float[Tensor, " M"]]:
    """The gradients, given those of the spikes and of the state; see `rheobase.ops.single_spike.cpu.backward`."""
    steps, lanes = on_spikes.shape
    on_x, on_initial = torch.empty_like(on_spikes), torch.empty_like(initial)
    new = torch.empty_like if learn else torch.zeros_like
    on_decay, on_threshold = new(decay), new(threshold)
    how = layout(lanes, on_spikes.device)
    with torch.cuda.device_of(on_spikes):
        _backward[(how.programs(lanes),)](
            on_spikes, on_last, membrane, crossings, slope, decay, threshold, initial,
            on_x, on_initial, on_decay, on_threshold, dampening, sharpness, int(fire_by_end), steps, lanes,
            SHAPE=shape, CREDIT=credit, LEARN=learn, WHOLE=whole, **how.options(),
        )  # fmt: skip
    return on_x, on_initial, on_decay, on_threshold


@triton.jit(do_not_specialize=["fire_by_end", "steps", "lanes"])
@no_type_check
def _forward(
    x,  # (T, M)
    decays,  # (M,)
    thresholds,  # (M,)
    initials,  # (3, M) unless WHOLE
    spikes,  # (T, M), written
    last,  # (3, M), written unless WHOLE
    membrane,  # (T, M), written if SAVE
    crossings,  # (2, M), written
    fire_by_end,
    steps,
    lanes,
    SAVE: tl.constexpr,
    WHOLE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    state = decays.dtype.element_ty
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = lane < lanes
    decay = load_row(decays, 0, lane, lanes)
    threshold = load_row(thresholds, 0, lane, lanes)
    v = tl.full((BLOCK,), 0.0, state)
    first = tl.full((BLOCK,), 0, tl.int32) + steps
    second = first
    if not WHOLE:
        v = load_row(initials, 0, lane, lanes)
        fired = load_row(initials, 1, lane, lanes)
        first = tl.where(fired > 0.0, -1, first)
    last_v = v
    last_step = steps - fire_by_end  # the step that is forced, or one that does not come
    tile = load_tile(x, 0, steps, lane, lanes, TILE)
    for position in range(0, steps, TILE):
        next_tile = load_tile(x, position + TILE, steps, lane, lanes, TILE)
        for ahead in tl.static_range(TILE):
            t = position + ahead
            v = decay * v + tile[ahead].to(state)
            above = ((v - threshold >= 0.0) | (t == last_step)) & (t < steps)
            fires = above & (first > t)
            second = tl.where(above & (first < t) & (second > t), t, second)
            first = tl.where(fires, t, first)
            there_is = present(t, steps, lane, lanes)
            store_row(spikes, t, fires.to(state), lane, lanes, there_is)
            if SAVE:
                store_row(membrane, t, v, lane, lanes, there_is)
            last_v = tl.where(t < steps, v, last_v)
        tile = next_tile
    store_row(crossings, 0, first.to(state), lane, lanes, real)
    store_row(crossings, 1, second.to(state), lane, lanes, real)
    if not WHOLE:
        fired = (first < steps).to(state)
        store_row(last, 0, last_v, lane, lanes, real)
        store_row(last, 1, fired, lane, lanes, real)
        store_row(last, 2, fired, lane, lanes, real)


@triton.jit(do_not_specialize=["fire_by_end", "steps", "lanes"])
@no_type_check
def _backward(
    on_spikes,  # (T, M)
    on_last,  # (3, M) unless WHOLE
    membrane,  # (T, M)
    crossings,  # (2, M)
    slope,  # (T, M) if SHAPE is "given"
    decays,  # (M,)
    thresholds,  # (M,)
    initials,  # (3, M) unless WHOLE
    on_x,  # (T, M), written
    on_initials,  # (3, M), written unless WHOLE
    on_decays,  # (M,), written if LEARN
    on_thresholds,  # (M,), written if LEARN
    dampening: tl.float64,
    sharpness: tl.float64,
    fire_by_end,
    steps,
    lanes,
    SHAPE: tl.constexpr,
    CREDIT: tl.constexpr,
    LEARN: tl.constexpr,
    WHOLE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    state = decays.dtype.element_ty
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = lane < lanes
    peak = tl.full((BLOCK,), dampening, state)
    narrowness = tl.full((BLOCK,), sharpness, state)
    zero = tl.full((BLOCK,), 0.0, state)
    decay = load_row(decays, 0, lane, lanes)
    threshold = load_row(thresholds, 0, lane, lanes)
    first = load_row(crossings, 0, lane, lanes).to(tl.int32)
    end = first
    if CREDIT == "product":
        end = load_row(crossings, 1, lane, lanes).to(tl.int32)
    # What flows through the latch: the two sums, or the gradient of having been silent.
    total = zero
    total_of_totals = zero
    on_handed = zero
    first_v = zero
    if not WHOLE:
        on_handed = load_row(on_last, 0, lane, lanes)
        first_v = load_row(initials, 0, lane, lanes)
        if CREDIT == "product":
            total = -load_row(on_last, 1, lane, lanes)
        elif CREDIT != "detached":
            total = load_row(on_last, 2, lane, lanes)
            total_of_totals = load_row(on_last, 1, lane, lanes)
            if CREDIT == "early_ramp":
                total = tl.where(first < steps, 0.0, total)
                total_of_totals = tl.where(first < steps, 0.0, total_of_totals)
    if LEARN:
        on_decay = zero
        on_threshold = zero

    # From here on, position 0 is the last step, and each next position is a step earlier.
    on_spikes = at(on_spikes, steps - 1, lanes)
    membrane = at(membrane, steps - 1, lanes)
    slope = at(slope, steps - 1, lanes)
    on_s_tile = load_tile(on_spikes, 0, steps, lane, lanes, TILE, -1)
    v_tile = load_tile(membrane, 0, steps, lane, lanes, TILE, -1)
    if SHAPE == "given":
        slope_tile = load_tile(slope, 0, steps, lane, lanes, TILE, -1)
    for position in range(0, steps, TILE):
        next_on_s_tile = load_tile(on_spikes, position + TILE, steps, lane, lanes, TILE, -1)
        next_v_tile = load_tile(membrane, position + TILE, steps, lane, lanes, TILE, -1)
        if SHAPE == "given":
            next_slope_tile = load_tile(slope, position + TILE, steps, lane, lanes, TILE, -1)
        v_rows = v_tile + next_v_tile
        for ahead in tl.static_range(TILE):
            t = steps - 1 - position - ahead
            # Before the first step nothing moves any more: what is left is the gradient of the initial state.
            runs = t >= 0
            forced = (fire_by_end == 1) & (t == steps - 1)
            matters = t <= end
            u = v_rows[ahead] - threshold
            v_before = tl.where(t > 0, v_rows[ahead + 1], first_v)
            delta = on_s_tile[ahead].to(state)
            if CREDIT == "product":
                silent = (t <= first).to(state)
                above = ((u >= 0.0) | forced).to(state)
                on_above = delta * silent - total * silent
                total = tl.where(runs & matters, delta * above + total * (1.0 - above), total)
            elif CREDIT == "detached":
                on_above = delta
            else:
                if CREDIT == "early_ramp":
                    delta = tl.where(t < first, delta, 0.0)
                total = tl.where(runs, total + delta, total)
                on_above = total_of_totals + total
                total_of_totals = tl.where(runs, on_above, total_of_totals)
            f = slope_tile[ahead].to(state) if SHAPE == "given" else peak * bump(narrowness * u, SHAPE)
            on_u = on_above * f
            if CREDIT != "ramp":
                on_u = tl.where(matters, on_u, 0.0)
            on_u = tl.where(forced, 0.0, on_u)
            on_v = on_handed + on_u
            if LEARN:
                on_step = on_v * v_before
                if WHOLE and CREDIT != "ramp":  # what is over may have a membrane potential that is not finite
                    on_step = tl.where(matters, on_step, 0.0)
                on_decay += tl.where(runs, on_step, 0.0)
                on_threshold -= tl.where(runs, on_u, 0.0)
            there_is = present(position + ahead, steps, lane, lanes)
            store_row(on_x, t, on_v, lane, lanes, there_is)
            on_handed = tl.where(runs, decay * on_v, on_handed)
        on_s_tile = next_on_s_tile
        v_tile = next_v_tile
        if SHAPE == "given":
            slope_tile = next_slope_tile

    if not WHOLE:
        store_row(on_initials, 0, on_handed, lane, lanes, real)
        on_fired = -total if CREDIT == "product" else total_of_totals
        store_row(on_initials, 1, on_fired, lane, lanes, real)
        on_ramp = zero if CREDIT == "product" else total
        store_row(on_initials, 2, on_ramp, lane, lanes, real)
    if LEARN:
        store_row(on_decays, 0, on_decay, lane, lanes, real)
        store_row(on_thresholds, 0, on_threshold, lane, lanes, real)
