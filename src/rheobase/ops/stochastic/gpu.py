"""Linear integration and stochastic firing on a GPU, in Triton: in one pass, or in chunks of time side by side.

As in `rheobase.ops.lif.gpu`, a lane belongs to a thread that goes through all steps, with its states in registers; see
`rheobase.ops.tiles` for how that keeps the memory busy. The noise is computed beside the recurrence, where it costs arithmetic
that a kernel bound by memory has to spare, and no memory.

A few hundred lanes leave most of a GPU idle. But the membrane potential is linear in the input, so for few lanes and many
steps `rheobase.ops.integrate.gpu` computes it in chunks, and firing, which looks at one step at a time, is a second kernel for
all steps at once. Backwards likewise.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from rheobase.ops.integrate import gpu as integration
from rheobase.ops.noise.gpu import logistic, random_word
from rheobase.ops.stochastic.firing import Firing
from rheobase.ops.tiles import at, layout, load_row, load_tile, present, store_row


def forward(
    x: Float[Tensor, "T M"],
    decay: Float[Tensor, "2 M"],
    slope: Float[Tensor, " M"],
    offset: Float[Tensor, " M"],
    initial: Float[Tensor, "2 M"],
    noise: Int[Tensor, "2"],
    firing: Firing,
    save: bool,
) -> tuple[Float[Tensor, "T M"], Float[Tensor, "2 M"], Float[Tensor, "T_or_0 M_or_0"]]:
    """The outputs of M neurons over T steps, and what the backward pass needs; see `rheobase.ops.stochastic.cpu.forward`.

    All tensors are contiguous and on one device; `x` is float16, bfloat16, float32 or float64.
    """
    steps, lanes = x.shape
    outputs = torch.empty_like(x)
    how = layout(lanes, x.device)
    if _in_chunks(steps, lanes, x.device):
        membrane, last = integration.forward(x, decay, initial)
        with torch.cuda.device_of(x):
            _fire[(steps, how.programs(lanes))](
                membrane, slope, offset, noise, outputs, lanes, FIRING=firing, **how.options()
            )
        return outputs, last, membrane if save else membrane.new_empty(0, 0)
    membrane = decay.new_empty((steps, lanes) if save else (0, 0))
    last = torch.empty_like(initial)
    with torch.cuda.device_of(x):
        _forward[(how.programs(lanes),)](
            x, decay, slope, offset, initial, noise, outputs, last, membrane, steps, lanes,
            FIRING=firing, SAVE=save, **how.options(),
        )  # fmt: skip
    return outputs, last, membrane


def backward(
    on_outputs: Float[Tensor, "T M"],
    on_last: Float[Tensor, "2 M"],
    membrane: Float[Tensor, "T M"],
    decay: Float[Tensor, "2 M"],
    slope: Float[Tensor, " M"],
    offset: Float[Tensor, " M"],
    initial: Float[Tensor, "2 M"],
    noise: Int[Tensor, "2"],
    firing: Firing,
    temperature: float,
    learn: bool,
) -> tuple[Float[Tensor, "T M"], Float[Tensor, "2 M"], Float[Tensor, "2 M"], Float[Tensor, " M"], Float[Tensor, " M"]]:
    """The gradients, given those of the outputs and of the states; see `rheobase.ops.stochastic.cpu.backward`."""
    steps, lanes = on_outputs.shape
    new = torch.empty_like if learn else torch.zeros_like
    how = layout(lanes, on_outputs.device)
    if _in_chunks(steps, lanes, on_outputs.device):
        on_logits = torch.empty_like(membrane)
        with torch.cuda.device_of(on_outputs):
            _on_logits[(steps, how.programs(lanes))](
                on_outputs, membrane, slope, offset, noise, on_logits, 1 / temperature, lanes,
                FIRING=firing, **how.options(),
            )  # fmt: skip
        on_x, on_initial, on_decay = integration.backward(on_logits * slope, on_last, membrane, decay, initial, learn)
        on_slope = (on_logits * membrane).sum(0) if learn else new(slope)
        on_offset = -on_logits.sum(0) if learn else new(offset)
        return on_x.to(on_outputs.dtype), on_initial, on_decay, on_slope, on_offset
    on_x, on_initial = torch.empty_like(on_outputs), torch.empty_like(initial)
    on_decay, on_slope, on_offset = new(decay), new(slope), new(offset)
    with torch.cuda.device_of(on_outputs):
        _backward[(how.programs(lanes),)](
            on_outputs, on_last, membrane, decay, slope, offset, initial, noise,
            on_x, on_initial, on_decay, on_slope, on_offset, 1 / temperature, steps, lanes,
            FIRING=firing, LEARN=learn, **how.options(),
        )  # fmt: skip
    return on_x, on_initial, on_decay, on_slope, on_offset


def _in_chunks(steps: int, lanes: int, device: torch.device) -> bool:
    return steps > 0 and lanes > 0 and integration.chunk_length(steps, lanes, device) < steps


@triton.jit(do_not_specialize=["steps", "lanes"])
@no_type_check
def _forward(
    x,  # (T, M)
    decays,  # (2, M)
    slopes,  # (M,)
    offsets,  # (M,)
    initials,  # (2, M)
    noise,  # (2,)
    outputs,  # (T, M), written
    last,  # (2, M), written
    membrane,  # (T, M), written if SAVE
    steps,
    lanes,
    FIRING: tl.constexpr,
    SAVE: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    state = decays.dtype.element_ty
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = lane < lanes
    seed = tl.load(noise)
    start = tl.load(noise + 1)
    decay = load_row(decays, 0, lane, lanes)
    synapse_decay = load_row(decays, 1, lane, lanes)
    slope = load_row(slopes, 0, lane, lanes)
    offset = load_row(offsets, 0, lane, lanes)
    v = load_row(initials, 0, lane, lanes)
    i = load_row(initials, 1, lane, lanes)
    last_v = v
    last_i = i
    tile = load_tile(x, 0, steps, lane, lanes, TILE)
    for position in range(0, steps, TILE):
        next_tile = load_tile(x, position + TILE, steps, lane, lanes, TILE)
        for ahead in tl.static_range(TILE):
            t = position + ahead
            i = synapse_decay * i + tile[ahead].to(state)
            v = decay * v + i
            y = _output(slope * v - offset, start + t, lane, seed, FIRING)
            there_is = present(t, steps, lane, lanes)
            store_row(outputs, t, y, lane, lanes, there_is)
            if SAVE:
                store_row(membrane, t, v, lane, lanes, there_is)
            # The last tile runs on past the end, harmlessly: what to keep is chosen beside the recurrence, not inside it.
            last_v = tl.where(t < steps, v, last_v)
            last_i = tl.where(t < steps, i, last_i)
        tile = next_tile
    store_row(last, 0, last_v, lane, lanes, real)
    store_row(last, 1, last_i, lane, lanes, real)


@triton.jit(do_not_specialize=["steps", "lanes"])
@no_type_check
def _backward(
    on_outputs,  # (T, M)
    on_last,  # (2, M)
    membrane,  # (T, M)
    decays,  # (2, M)
    slopes,  # (M,)
    offsets,  # (M,)
    initials,  # (2, M)
    noise,  # (2,)
    on_x,  # (T, M), written
    on_initials,  # (2, M), written
    on_decays,  # (2, M), written if LEARN
    on_slopes,  # (M,), written if LEARN
    on_offsets,  # (M,), written if LEARN
    coldness: tl.float64,
    steps,
    lanes,
    FIRING: tl.constexpr,
    LEARN: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    state = decays.dtype.element_ty
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = lane < lanes
    seed = tl.load(noise)
    start = tl.load(noise + 1)
    cold = tl.full((BLOCK,), coldness, state)
    decay = load_row(decays, 0, lane, lanes)
    synapse_decay = load_row(decays, 1, lane, lanes)
    slope = load_row(slopes, 0, lane, lanes)
    offset = load_row(offsets, 0, lane, lanes)
    on_v_handed = load_row(on_last, 0, lane, lanes)
    on_i_handed = load_row(on_last, 1, lane, lanes)
    if LEARN:
        first_v = load_row(initials, 0, lane, lanes)
        first_i = load_row(initials, 1, lane, lanes)
        on_decay = tl.full((BLOCK,), 0.0, state)
        on_synapse_decay = tl.full((BLOCK,), 0.0, state)
        on_slope = tl.full((BLOCK,), 0.0, state)
        on_offset = tl.full((BLOCK,), 0.0, state)

    # From here on, position 0 is the last step, and each next position is a step earlier.
    on_outputs = at(on_outputs, steps - 1, lanes)
    membrane = at(membrane, steps - 1, lanes)
    tile = load_tile(on_outputs, 0, steps, lane, lanes, TILE, -1)
    v_tile = load_tile(membrane, 0, steps, lane, lanes, TILE, -1)
    for position in range(0, steps, TILE):
        next_tile = load_tile(on_outputs, position + TILE, steps, lane, lanes, TILE, -1)
        next_v_tile = load_tile(membrane, position + TILE, steps, lane, lanes, TILE, -1)
        v_rows = v_tile + next_v_tile
        for ahead in tl.static_range(TILE):
            t = steps - 1 - position - ahead
            v = v_rows[ahead]
            on_logit = tile[ahead].to(state) * _derivative(slope * v - offset, start + t, lane, seed, cold, FIRING)
            on_v = on_v_handed + slope * on_logit
            on_i = on_i_handed + on_v
            if LEARN:
                v_1 = tl.where(t > 0, v_rows[ahead + 1], first_v)
                v_2 = tl.where(t > 1, v_rows[ahead + 2], first_v)
                i_1 = tl.where(t > 0, v_1 - decay * v_2, first_i)
                on_slope += tl.where(t >= 0, on_logit * v, 0.0)
                on_offset -= tl.where(t >= 0, on_logit, 0.0)
                on_decay += tl.where(t >= 0, on_v * v_1, 0.0)
                on_synapse_decay += tl.where(t >= 0, on_i * i_1, 0.0)
            there_is = present(position + ahead, steps, lane, lanes)
            store_row(on_x, t, on_i, lane, lanes, there_is)
            # Before the first step the gradient stands still: it is that of the initial states.
            on_v_handed = tl.where(t >= 0, decay * on_v, on_v_handed)
            on_i_handed = tl.where(t >= 0, synapse_decay * on_i, on_i_handed)
        tile = next_tile
        v_tile = next_v_tile

    store_row(on_initials, 0, on_v_handed, lane, lanes, real)
    store_row(on_initials, 1, on_i_handed, lane, lanes, real)
    if LEARN:
        store_row(on_decays, 0, on_decay, lane, lanes, real)
        store_row(on_decays, 1, on_synapse_decay, lane, lanes, real)
        store_row(on_slopes, 0, on_slope, lane, lanes, real)
        store_row(on_offsets, 0, on_offset, lane, lanes, real)


@triton.jit(do_not_specialize=["lanes"])
@no_type_check
def _fire(
    membrane,  # (T, M)
    slopes,  # (M,)
    offsets,  # (M,)
    noise,  # (2,)
    outputs,  # (T, M), written
    lanes,
    FIRING: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The outputs of all steps at once, one row of lanes a program."""
    t = tl.program_id(0)
    lane = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = lane < lanes
    seed = tl.load(noise)
    start = tl.load(noise + 1)
    slope = load_row(slopes, 0, lane, lanes)
    offset = load_row(offsets, 0, lane, lanes)
    v = load_row(membrane, t, lane, lanes)
    y = _output(slope * v - offset, start + t, lane, seed, FIRING)
    store_row(outputs, t, y, lane, lanes, real)


@triton.jit(do_not_specialize=["lanes"])
@no_type_check
def _on_logits(
    on_outputs,  # (T, M)
    membrane,  # (T, M)
    slopes,  # (M,)
    offsets,  # (M,)
    noise,  # (2,)
    on_logits,  # (T, M), written
    coldness: tl.float64,
    lanes,
    FIRING: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The gradients of the logits of all steps at once, one row of lanes a program."""
    state = slopes.dtype.element_ty
    t = tl.program_id(0)
    lane = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = lane < lanes
    seed = tl.load(noise)
    start = tl.load(noise + 1)
    cold = tl.full((BLOCK,), coldness, state)
    slope = load_row(slopes, 0, lane, lanes)
    offset = load_row(offsets, 0, lane, lanes)
    v = load_row(membrane, t, lane, lanes)
    on_output = load_row(on_outputs, t, lane, lanes).to(state)
    on_logit = on_output * _derivative(slope * v - offset, start + t, lane, seed, cold, FIRING)
    store_row(on_logits, t, on_logit, lane, lanes, real)


@triton.jit
@no_type_check
def _output(logit, step, lane, seed, FIRING: tl.constexpr):
    """The output of a step: a spike or none, or the probability of one."""
    if FIRING == "expected":
        small = tl.exp(-tl.abs(logit))
        y = tl.where(logit >= 0.0, 1.0, small) / (1.0 + small)
    else:
        if FIRING != "threshold":
            logit = logit + logistic(random_word(step, lane, seed)).to(logit.dtype)
        y = (logit >= 0.0).to(logit.dtype)
    return y


@triton.jit
@no_type_check
def _derivative(logit, step, lane, seed, coldness, FIRING: tl.constexpr):
    """The derivative of the output of a step with respect to its logit."""
    if FIRING == "gumbel":
        logit = (logit + logistic(random_word(step, lane, seed)).to(logit.dtype)) * coldness
    # The sigmoid and its derivative, of a number that does not overflow.
    small = tl.exp(-tl.abs(logit))
    whole = 1.0 + small
    derivative = small / (whole * whole)
    if FIRING == "bernoulli":
        derivative = derivative * (tl.where(logit >= 0.0, 1.0, small) / whole)
    elif FIRING == "gumbel":
        derivative = derivative * coldness
    return derivative
