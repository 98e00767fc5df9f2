"""Leaky integration on a GPU, in Triton: sequential in time, or in chunks side by side when lanes are few and T is long.

The integration and its adjoint are the same computation. With S = 2 states the input passes two leaky integrators one after
the other, first the current, then the membrane; backwards in time the gradient passes the same two, first the membrane's,
then the current's. One kernel, `_walk`, serves both directions; see `rheobase.ops.tiles` for how it keeps the memory busy.

A few hundred lanes leave most of a GPU idle, and T steps take T times the latency of one. Since there is no reset, the
recurrence is linear, and time can be cut into chunks of L steps (Blelloch, "Prefix sums and their applications", 1990):

1. `_walk` goes through all chunks at once, each from rest, and keeps only the states at their ends;
2. `_carry` goes from chunk to chunk: what a chunk starts with is the end of the one before, plus what that one started
   with after L steps of decay;
3. `_walk` goes through all chunks again, from where they really start, and writes.

The input is read twice and everything else moves once. Powers of the decay are only ever multiplied, never divided by: they
may underflow to 0, as they should, but nothing overflows.
"""

import math
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from rheobase.ops.tiles import at, layout, load_row, load_tile, multiprocessors, present, store_row


def forward(
    x: Float[Tensor, "T M"], decay: Float[Tensor, "S M"], initial: Float[Tensor, "S M"]
) -> tuple[Float[Tensor, "T M"], Float[Tensor, "S M"]]:
    """The membrane potential of M neurons over T steps, and their states after the last.

    A step is `i = x` for one state, `i = decay[1] * i + x` for two; then `v = decay[0] * v + i`. All tensors are contiguous
    and on one device.

    Args:
        x: the input current, in float16, bfloat16, float32 or float64.
        decay: of the membrane, and of the synaptic current if there is one; float64 for float64 `x`, else float32.
        initial: the states before the first step, in the type of `decay`.

    Returns:
        The membrane potential and the last states, both in the type of `decay`.
    """
    membrane = torch.empty_like(x, dtype=decay.dtype)
    last, _ = _integrate(x, membrane, decay, initial)
    return membrane, last


def backward(
    on_membrane: Float[Tensor, "T M"],
    on_last: Float[Tensor, "S M"],
    membrane: Float[Tensor, "T_or_0 M_or_0"],
    decay: Float[Tensor, "S M"],
    initial: Float[Tensor, "S M"],
    learn: bool,
) -> tuple[Float[Tensor, "T M"], Float[Tensor, "S M"], Float[Tensor, "S M"]]:
    """The gradients, given those of the membrane potential and of the states after the last step.

    Args:
        on_membrane: the gradient of the membrane potential.
        on_last: the gradient of the last states.
        membrane: what `forward` returned; read only with `learn`.
        decay: as for `forward`.
        initial: as for `forward`.
        learn: compute the gradient of the decay.

    Returns:
        The gradients of `x`, in the type of `on_membrane`; of `initial`; and of `decay`, 0 where `learn` is False.
    """
    on_x = torch.empty_like(on_membrane)
    on_initial, parts = _integrate(on_membrane, on_x, decay, on_last, (membrane, initial), learn)
    return on_x, on_initial, parts.sum(1) if learn else torch.zeros_like(decay)


def _integrate(
    x: Tensor, y: Tensor, decay: Tensor, start: Tensor, saved: tuple[Tensor, Tensor] | None = None, learn: bool = False
) -> tuple[Tensor, Tensor]:
    """Integrate `x` into `y`, or with `saved`, the membrane and the initial states, take the adjoint of it.

    Returns where it ended, `(S, M)`, and what each chunk has of the gradient of the decay, `(S, C, M)`; C is 0 unless `learn`.
    """
    (steps, lanes), states = x.shape, len(decay)
    length = chunk_length(steps, lanes, x.device)
    chunks = max(-(-steps // length), 1)
    how = layout(lanes * chunks, x.device)
    programs = how.programs(lanes)
    end = decay.new_empty(states, chunks, lanes)
    starts = start if chunks == 1 else torch.empty_like(end)
    parts = decay.new_empty(states, chunks if learn else 0, lanes)
    options = {"STATES": states, "BACKWARD": saved is not None, **how.options()}

    def walk(write: bool) -> None:
        _walk[(programs, chunks)](
            x, y, decay, starts, end, *(saved or (y, start)), parts, steps, length, lanes,
            WRITE=write, LEARN=learn and write, **options,
        )  # fmt: skip

    with torch.cuda.device_of(x):
        if chunks > 1:
            walk(write=False)
            _carry[(programs,)](end, starts, decay, start, chunks, length.bit_length() - 1, lanes, **options)
        walk(write=True)
    return end[:, -1].contiguous(), parts


def chunk_length(steps: int, lanes: int, device: torch.device) -> int:
    """Into how many steps a chunk of time is cut: all of them where the lanes fill the GPU, or where steps are few.

    Chunks of L steps cost 2 L + steps / L steps one after another, which is least for `L = sqrt(steps / 2)`. L is a power of
    two, so that the L-th power of a decay takes log2 L multiplications.

    Example:
        >>> chunk_length(10_000, 100, torch.device("cpu"))
        128
        >>> chunk_length(1_000, 100, torch.device("cpu"))
        1000
    """
    if steps < 2048 or lanes >= 128 * multiprocessors(device):
        return max(steps, 1)
    return 1 << math.ceil(math.log2(steps / 2) / 2)


@triton.jit(do_not_specialize=["steps", "length", "lanes"])
@no_type_check
def _walk(
    x,  # (T, M)
    y,  # (T, M), written if WRITE
    decays,  # (S, M)
    start,  # (S, C, M), used if WRITE; else every chunk starts at rest
    end,  # (S, C, M), written
    membrane,  # (T, M), used if LEARN
    initial,  # (S, M), used if LEARN
    on_decays,  # (S, C, M), written if LEARN
    steps,
    length,
    lanes,
    WRITE: tl.constexpr,
    LEARN: tl.constexpr,
    STATES: tl.constexpr,
    BACKWARD: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One chunk: `a = decay_a * a + x`, and with two states `b = decay_b * b + a`; y is the last of them.

    Forwards a is the current and b the membrane, and they start and end as states. Backwards a is the gradient of the
    membrane and b that of the current, and they start and end as what they hand to the step before: times their decay.
    """
    state = decays.dtype.element_ty
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = lane < lanes
    chunk = tl.program_id(1)
    chunks = tl.num_programs(1)
    A: tl.constexpr = 0 if BACKWARD else STATES - 1
    B: tl.constexpr = STATES - 1 - A
    decay_a = load_row(decays, A, lane, lanes)
    handed_a = tl.full((BLOCK,), 0.0, state)
    if WRITE:
        handed_a = load_row(start, A * chunks + chunk, lane, lanes)
    end_a = handed_a
    if not BACKWARD:
        handed_a = decay_a * handed_a
    if STATES == 2:
        decay_b = load_row(decays, B, lane, lanes)
        handed_b = tl.full((BLOCK,), 0.0, state)
        if WRITE:
            handed_b = load_row(start, B * chunks + chunk, lane, lanes)
        end_b = handed_b
        if not BACKWARD:
            handed_b = decay_b * handed_b
    DIRECTION: tl.constexpr = -1 if BACKWARD else 1
    if BACKWARD:  # position 0 is the last step
        x = at(x, steps - 1, lanes)
        y = at(y, steps - 1, lanes)
        membrane = at(membrane, steps - 1, lanes)
    first = chunk * length
    stop = tl.minimum(first + length, steps)
    if LEARN:
        first_v = load_row(initial, 0, lane, lanes)
        on_decay_a = tl.full((BLOCK,), 0.0, state)
        v_tile = load_tile(membrane, first + 1, steps, lane, lanes, TILE, -1)
        if STATES == 2:
            first_i = load_row(initial, 1, lane, lanes)
            on_decay_b = tl.full((BLOCK,), 0.0, state)

    tile = load_tile(x, first, stop, lane, lanes, TILE, DIRECTION)
    for position in range(first, stop, TILE):
        next_tile = load_tile(x, position + TILE, stop, lane, lanes, TILE, DIRECTION)
        if LEARN:
            next_v_tile = load_tile(membrane, position + TILE + 1, steps, lane, lanes, TILE, -1)
            v_rows = v_tile + next_v_tile
        for ahead in tl.static_range(TILE):
            k = position + ahead
            a = handed_a + tile[ahead].to(state)
            handed_a = decay_a * a
            out = a
            if STATES == 2:
                b = handed_b + a
                handed_b = decay_b * b
                out = b
            if WRITE:
                there_is = present(k, stop, lane, lanes)
                store_row(y, k, out, lane, lanes, there_is, DIRECTION)
            # The last tile runs on past the end, harmlessly: what to keep is chosen beside the recurrence, not inside it.
            end_a = tl.where(k < stop, handed_a if BACKWARD else a, end_a)
            if STATES == 2:
                end_b = tl.where(k < stop, handed_b if BACKWARD else b, end_b)
            if LEARN:
                v_1 = tl.where(k < steps - 1, v_rows[ahead], first_v)
                on_decay_a += tl.where(k < stop, a * v_1, 0.0)
                if STATES == 2:
                    v_2 = tl.where(k < steps - 2, v_rows[ahead + 1], first_v)
                    i_1 = tl.where(k < steps - 1, v_1 - decay_a * v_2, first_i)
                    on_decay_b += tl.where(k < stop, b * i_1, 0.0)
        tile = next_tile
        if LEARN:
            v_tile = next_v_tile

    store_row(end, A * chunks + chunk, end_a, lane, lanes, real)
    if STATES == 2:
        store_row(end, B * chunks + chunk, end_b, lane, lanes, real)
    if LEARN:
        store_row(on_decays, A * chunks + chunk, on_decay_a, lane, lanes, real)
        if STATES == 2:
            store_row(on_decays, B * chunks + chunk, on_decay_b, lane, lanes, real)


@triton.jit(do_not_specialize=["chunks", "doublings", "lanes"])
@no_type_check
def _carry(
    end,  # (S, C, M): the ends of chunks that started at rest
    starts,  # (S, C, M), written: what the chunks really start with
    decays,  # (S, M)
    start,  # (S, M): what the first starts with
    chunks,
    doublings,
    lanes,
    STATES: tl.constexpr,
    BACKWARD: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """From chunk to chunk: a chunk of L steps ends with its own end, and with what it started with, decayed.

    After L steps, a start of a is left in a as `decay_a^L`; in b, which it has passed into, as
    `decay_a * sum_j decay_b^(L-1-j) decay_a^j` (backwards, where starts are already times their decay, `decay_b * sum_j ...`).
    For L = 2^doublings the sum is the product of `decay_a^n + decay_b^n` over n = 1, 2, 4, ..., L / 2. In float64, since
    each squaring doubles the relative error.
    """
    state = decays.dtype.element_ty
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    A: tl.constexpr = 0 if BACKWARD else STATES - 1
    B: tl.constexpr = STATES - 1 - A
    power_a = load_row(decays, A, lane, lanes).to(tl.float64)
    a = load_row(start, A, lane, lanes)
    end_a = at(end, A * chunks, lanes)
    starts_a = at(starts, A * chunks, lanes)
    tile_a = load_tile(end_a, 0, chunks, lane, lanes, TILE)
    if STATES == 2:
        power_b = load_row(decays, B, lane, lanes).to(tl.float64)
        passed = power_b if BACKWARD else power_a
        b = load_row(start, B, lane, lanes)
        end_b = at(end, B * chunks, lanes)
        starts_b = at(starts, B * chunks, lanes)
        tile_b = load_tile(end_b, 0, chunks, lane, lanes, TILE)
    for _ in range(doublings):
        if STATES == 2:
            passed = passed * (power_a + power_b)
            power_b = power_b * power_b
        power_a = power_a * power_a
    decayed_a = power_a.to(state)
    if STATES == 2:
        decayed_b = power_b.to(state)
        through = passed.to(state)

    for position in range(0, chunks, TILE):
        next_tile_a = load_tile(end_a, position + TILE, chunks, lane, lanes, TILE)
        if STATES == 2:
            next_tile_b = load_tile(end_b, position + TILE, chunks, lane, lanes, TILE)
        for ahead in tl.static_range(TILE):
            chunk = position + ahead
            there_is = present(chunk, chunks, lane, lanes)
            store_row(starts_a, chunk, a, lane, lanes, there_is)
            if STATES == 2:
                store_row(starts_b, chunk, b, lane, lanes, there_is)
                b = decayed_b * b + through * a + tile_b[ahead]
            a = decayed_a * a + tile_a[ahead]
        tile_a = next_tile_a
        if STATES == 2:
            tile_b = next_tile_b
