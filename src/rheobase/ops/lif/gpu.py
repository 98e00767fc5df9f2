"""The leaky integrate-and-fire neuron on a GPU: time inside one kernel, forwards and backwards, in Triton.

Written with PyTorch, a time step is a handful of kernels, each of which reads and writes every neuron: 1000 steps are
thousands of launches. Here a sequence is one launch. The state stays in registers and memory sees each element once: forwards
x in, spikes and membrane out; backwards the gradient of the spikes and the membrane in, the gradient of x out. How a kernel
keeps the memory busy while it waits for itself is argued in `rheobase.ops.tiles`.

One lane belongs to one thread, which sees all of its steps. So the gradients of decay and threshold are sums in registers, in
a fixed order: no atomic operation, and the same bits in every run.

Everything that shapes the code (the reset, the surrogate, one state or two) is known at compile time; T is not, or each length
of sequence would be compiled again. The two kernels run in Triton's interpreter too (`TRITON_INTERPRET=1`, tensors on the CPU),
which is how they are tested where there is no GPU.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from rheobase.ops.lif.reset import Reset
from rheobase.ops.slope.gpu import bump
from rheobase.ops.tiles import at, layout, load_row, load_tile, present, store_row


def forward(
    x: Float[Tensor, "T M"],
    decay: Float[Tensor, "S M"],
    threshold: Float[Tensor, " M"],
    initial: Float[Tensor, "S M"],
    reset: Reset,
    save: bool,
    compact: bool | None = None,
) -> tuple[Float[Tensor, "T M"], Float[Tensor, "S M"], Float[Tensor, "T_or_0 M_or_0"]]:
    """The spikes of M neurons over T steps, and what the backward pass needs.

    A step is `i = x` for one state, `i = decay[1] * i + x` for two; then `v = decay[0] * r + i`, and `r` is `v` after the
    reset. All tensors are contiguous and on one device.

    Args:
        x: the input current, in float16, bfloat16, float32 or float64.
        decay: of the membrane, and of the synaptic current if there is one; float64 for float64 `x`, else float32.
        threshold: where a neuron fires, in the type of `decay`.
        initial: the states before the first step, in the type of `decay`.
        reset: what happens to the membrane potential of a neuron that fired.
        save: whether a backward pass will follow.
        compact: keep `membrane - threshold` in bfloat16 in place of the membrane: half the memory, and rounded where it
            matters least. The distance keeps its sign, so spikes are recovered exactly, and it is precise near the threshold,
            where the surrogate is steep. None: for 16-bit `x`, whose gradients are no more precise,
            and one state (of two, the current is a difference of what is kept).

    Returns:
        The spikes, in the type of `x`; the states after the last step; and the membrane potential before the reset, in the
        type of `decay` (`compact`: its distance from the threshold in bfloat16), or of shape (0, 0) without `save`.
    """
    (steps, lanes), states = x.shape, len(decay)
    compact = x.dtype.itemsize == 2 and states == 1 if compact is None else compact
    spikes, last = torch.empty_like(x), torch.empty_like(initial)
    membrane = decay.new_empty((steps, lanes) if save else (0, 0), dtype=torch.bfloat16 if compact else decay.dtype)
    how = layout(lanes, x.device)
    with torch.cuda.device_of(x):
        _forward[(how.programs(lanes),)](
            x, decay, threshold, initial, spikes, last, membrane, steps, lanes,
            RESET=reset, STATES=states, SAVE=save, COMPACT=compact, **how.options(),
        )  # fmt: skip
    return spikes, last, membrane


def backward(
    on_spikes: Float[Tensor, "T M"],
    on_last: Float[Tensor, "S M"],
    membrane: Float[Tensor, "T M"],
    slope: Float[Tensor, "T_or_0 M_or_0"],
    decay: Float[Tensor, "S M"],
    threshold: Float[Tensor, " M"],
    initial: Float[Tensor, "S M"],
    reset: Reset,
    shape: str,
    dampening: float,
    sharpness: float,
    reset_gradient: str,
    learn: bool,
) -> tuple[Float[Tensor, "T M"], Float[Tensor, "S M"], Float[Tensor, "S M"], Float[Tensor, " M"]]:
    """The gradients, given those of the spikes and of the states after the last step.

    Args:
        on_spikes: the gradient of the spikes, in the type of `x`.
        on_last: the gradient of the states after the last step, in the type of `decay`.
        membrane: what `forward` returned; in bfloat16 it is `membrane - threshold`.
        slope: the derivative of the spikes, where `shape` is "given"; else of shape (0, 0).
        decay: as for `forward`.
        threshold: as for `forward`.
        initial: as for `forward`.
        reset: as for `forward`.
        shape: the surrogate: the name of a class of `rheobase.surrogate`, or "given".
        dampening: the peak of the surrogate.
        sharpness: how narrow the surrogate is.
        reset_gradient: what the gradient sees of the reset.
        learn: compute the gradients of decay and threshold.

    Returns:
        The gradients of `x`, in the type of `on_spikes`; of `initial`; of `decay`; and of `threshold`. The last two are 0
        where `learn` is False.
    """
    (steps, lanes), states = on_spikes.shape, len(decay)
    on_x, on_initial = torch.empty_like(on_spikes), torch.empty_like(initial)
    new = torch.empty_like if learn else torch.zeros_like
    on_decay, on_threshold = new(decay), new(threshold)
    how = layout(lanes, on_spikes.device)
    with torch.cuda.device_of(on_spikes):
        _backward[(how.programs(lanes),)](
            on_spikes, on_last, membrane, slope, decay, threshold, initial, on_x, on_initial, on_decay, on_threshold,
            dampening, sharpness, steps, lanes,
            RESET=reset, SHAPE=shape, RESET_GRADIENT=reset_gradient, LEARN=learn, STATES=states,
            COMPACT=membrane.dtype == torch.bfloat16, **how.options(),
        )  # fmt: skip
    return on_x, on_initial, on_decay, on_threshold


@triton.jit(do_not_specialize=["steps", "lanes"])
@no_type_check
def _forward(
    x,  # (T, M)
    decays,  # (S, M)
    thresholds,  # (M,)
    initials,  # (S, M)
    spikes,  # (T, M), written
    last,  # (S, M), written
    membrane,  # (T, M), written if SAVE
    steps,
    lanes,
    RESET: tl.constexpr,
    STATES: tl.constexpr,
    SAVE: tl.constexpr,
    COMPACT: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    state = decays.dtype.element_ty
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = lane < lanes
    decay = load_row(decays, 0, lane, lanes)
    threshold = load_row(thresholds, 0, lane, lanes)
    r = load_row(initials, 0, lane, lanes)
    last_r = r
    if STATES == 2:
        synapse_decay = load_row(decays, 1, lane, lanes)
        i = load_row(initials, 1, lane, lanes)
        last_i = i
    tile = load_tile(x, 0, steps, lane, lanes, TILE)
    for position in range(0, steps, TILE):
        next_tile = load_tile(x, position + TILE, steps, lane, lanes, TILE)
        for ahead in tl.static_range(TILE):
            t = position + ahead
            current = tile[ahead].to(state)
            i = synapse_decay * i + current if STATES == 2 else current
            v = decay * r + i
            u = v - threshold
            s = _spike(u)
            r = _reset(v, s, threshold, RESET)
            there_is = present(t, steps, lane, lanes)
            store_row(spikes, t, s, lane, lanes, there_is)
            if SAVE:
                saved = u if COMPACT else v
                store_row(membrane, t, saved, lane, lanes, there_is)
            # The last tile runs on past the end, harmlessly: choosing here what to keep, beside the recurrence and not
            # inside it, leaves the chain of dependent operations, which is what a step takes, as short as it is.
            last_r = tl.where(t < steps, r, last_r)
            if STATES == 2:
                last_i = tl.where(t < steps, i, last_i)
        tile = next_tile
    store_row(last, 0, last_r, lane, lanes, real)
    if STATES == 2:
        store_row(last, 1, last_i, lane, lanes, real)


@triton.jit(do_not_specialize=["steps", "lanes"])
@no_type_check
def _backward(
    on_spikes,  # (T, M)
    on_last,  # (S, M)
    membrane,  # (T, M)
    slope,  # (T, M) if SHAPE is "given"
    decays,  # (S, M)
    thresholds,  # (M,)
    initials,  # (S, M)
    on_x,  # (T, M), written
    on_initials,  # (S, M), written
    on_decays,  # (S, M), written if LEARN
    on_thresholds,  # (M,), written if LEARN
    dampening: tl.float64,
    sharpness: tl.float64,
    steps,
    lanes,
    RESET: tl.constexpr,
    SHAPE: tl.constexpr,
    RESET_GRADIENT: tl.constexpr,
    LEARN: tl.constexpr,
    STATES: tl.constexpr,
    COMPACT: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    state = decays.dtype.element_ty
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = lane < lanes
    peak = tl.full((BLOCK,), dampening, state)
    narrowness = tl.full((BLOCK,), sharpness, state)
    decay = load_row(decays, 0, lane, lanes)
    threshold = load_row(thresholds, 0, lane, lanes)
    on_r = load_row(on_last, 0, lane, lanes)
    if STATES == 2:
        synapse_decay = load_row(decays, 1, lane, lanes)
        on_i = load_row(on_last, 1, lane, lanes)
    if LEARN:
        first_r = load_row(initials, 0, lane, lanes)
        on_decay = tl.full((BLOCK,), 0.0, state)
        on_threshold = tl.full((BLOCK,), 0.0, state)
        if STATES == 2:
            first_i = load_row(initials, 1, lane, lanes)
            on_synapse_decay = tl.full((BLOCK,), 0.0, state)

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
            v, u = _membrane(v_rows[ahead], threshold, state, COMPACT)
            s = _spike(u)
            f = slope_tile[ahead].to(state) if SHAPE == "given" else peak * bump(narrowness * u, SHAPE)

            on_s = on_s_tile[ahead].to(state)
            if RESET_GRADIENT == "attached":
                if RESET == "subtract":
                    on_s -= threshold * on_r
                elif RESET == "zero":
                    on_s -= v * on_r
            on_u = on_s * f
            on_v = (on_r * (1.0 - s) if RESET == "zero" and RESET_GRADIENT != "ignored" else on_r) + on_u
            on_current = on_i + on_v if STATES == 2 else on_v

            if LEARN:
                on_minus_threshold = on_u
                if RESET == "subtract" and RESET_GRADIENT != "ignored":
                    on_minus_threshold += s * on_r
                on_threshold -= tl.where(t >= 0, on_minus_threshold, 0.0)
                v_1, u_1 = _membrane(v_rows[ahead + 1], threshold, state, COMPACT)
                r_1 = tl.where(t > 0, _reset(v_1, _spike(u_1), threshold, RESET), first_r)
                on_decay += tl.where(t >= 0, on_v * r_1, 0.0)
                if STATES == 2:
                    v_2, u_2 = _membrane(v_rows[ahead + 2], threshold, state, COMPACT)
                    r_2 = tl.where(t > 1, _reset(v_2, _spike(u_2), threshold, RESET), first_r)
                    i_1 = tl.where(t > 0, v_1 - decay * r_2, first_i)
                    on_synapse_decay += tl.where(t >= 0, on_current * i_1, 0.0)

            there_is = present(position + ahead, steps, lane, lanes)
            store_row(on_x, t, on_current, lane, lanes, there_is)
            # Before the first step the gradient stands still: it is that of the initial states.
            on_r = tl.where(t >= 0, decay * on_v, on_r)
            if STATES == 2:
                on_i = tl.where(t >= 0, synapse_decay * on_current, on_i)
        on_s_tile = next_on_s_tile
        v_tile = next_v_tile
        if SHAPE == "given":
            slope_tile = next_slope_tile

    store_row(on_initials, 0, on_r, lane, lanes, real)
    if STATES == 2:
        store_row(on_initials, 1, on_i, lane, lanes, real)
    if LEARN:
        store_row(on_decays, 0, on_decay, lane, lanes, real)
        store_row(on_thresholds, 0, on_threshold, lane, lanes, real)
        if STATES == 2:
            store_row(on_decays, 1, on_synapse_decay, lane, lanes, real)


@triton.jit
@no_type_check
def _spike(u):
    """1 where the membrane has reached the threshold, else 0; 0 for NaN."""
    return (u >= 0.0).to(u.dtype)


@triton.jit
@no_type_check
def _reset(v, s, threshold, RESET: tl.constexpr):
    """The membrane potential after a spike or none."""
    if RESET == "subtract":
        r = v - threshold * s
    elif RESET == "zero":
        r = v * (1.0 - s)
    else:
        r = v
    return r


@triton.jit
@no_type_check
def _membrane(saved, threshold, state: tl.constexpr, COMPACT: tl.constexpr):
    """The membrane potential and its distance from the threshold, from what the forward pass kept of them."""
    if COMPACT:
        u = saved.to(state)
        v = u + threshold
    else:
        v = saved
        u = v - threshold
    return v, u
