"""How a GPU walks along time: what the Triton kernels of all operations share.

A recurrence has to take its steps one after another, so a kernel gives each neuron (a *lane*) to one thread, which keeps the
state in registers and goes through the whole sequence. What it must not do is wait: a load from memory takes about 0.6 us, a
step of a neuron about 0.02 us. But the inputs do not depend on the recurrence. So they are loaded a *tile* of steps at a
time, one tile ahead: while a tile is computed the next is under way.

A tile is a tuple of rows, one register each, and the loop over its rows is unrolled. Triton has two other ways to say it, and
neither fits. A two-dimensional `tl.load` gives a tensor whose rows cannot be taken out again without a reduction each. The
software pipeliner (`tl.range(num_stages=...)`) goes through shared memory, a wait and a barrier at every step, needs 4 bytes
per thread and load (a row of bfloat16 has 2), and is no deeper than its number of stages.

The helpers name a row by its *position* in walking order, and `DIRECTION` says which way memory lies: backwards in time, a
kernel points at the last row and walks with -1. Positions are cut off by masks, for T is whatever the data has.
"""

from typing import Any, NamedTuple, no_type_check

import torch
import triton
import triton.language as tl

# Only functions built into Triton are used in kernels (`tl.where`, not `tl.zeros`): those of its library, written in Triton,
# are tied to the interpreter or to the compiler when Triton is imported, and a test needs both in one process.


@triton.jit
@no_type_check
def at(sequence, position, lanes, DIRECTION: tl.constexpr = 1):
    """A pointer to the row of a position; 64 bits, since a sequence may have more than 2^31 elements."""
    return sequence + DIRECTION * tl.cast(position, tl.int64) * lanes


@triton.jit
@no_type_check
def present(position, stop, lane, lanes):
    """Which lanes have something at a position: all that there are before `stop`, none from there on."""
    return lane < tl.where(position < stop, lanes, 0)


@triton.jit
@no_type_check
def load_row(rows, row, lane, lanes):
    """What each lane has in one row of `rows`, `(R, M)`, or in row 0 of what has but one, `(M,)`; 0 where no lane is."""
    return tl.load(at(rows, row, lanes) + lane, mask=lane < lanes, other=0.0)


@triton.jit
@no_type_check
def store_row(rows, row, values, lane, lanes, where, DIRECTION: tl.constexpr = 1):
    """Write one row, in the type of `rows`, `where` there is something to write."""
    tl.store(at(rows, row, lanes, DIRECTION) + lane, values.to(rows.dtype.element_ty), mask=where)


@triton.jit
@no_type_check
def load_tile(sequence, position, stop, lane, lanes, TILE: tl.constexpr, DIRECTION: tl.constexpr = 1):
    """The rows at `position` and after it, a tuple of TILE tensors; 0 where nothing is."""
    rows = ()
    for ahead in tl.static_range(TILE):
        row = tl.load(
            at(sequence, position + ahead, lanes, DIRECTION) + lane,
            mask=present(position + ahead, stop, lane, lanes),
            other=0.0,
        )
        rows += (row,)
    return rows


class Layout(NamedTuple):
    """How a kernel is laid out: lanes per program, warps per program, steps per tile."""

    block: int
    warps: int
    tile: int

    def programs(self, lanes: int) -> int:
        """The number of programs for this many lanes."""
        return -(-lanes // self.block)

    def options(self) -> dict[str, Any]:
        """What a kernel is launched with.

        Multiplications and additions are not fused: `a * b + c` is rounded twice, as PyTorch rounds it, and the spikes are
        those of the reference, bit for bit, on the CPU as on the GPU. It costs nothing where memory is the limit.
        """
        return {"TILE": self.tile, "BLOCK": self.block, "num_warps": self.warps, "enable_fp_fusion": False}


def layout(lanes: int, device: torch.device) -> Layout:
    """The layout for this many lanes.

    Few lanes must be spread over the whole GPU, one to a thread in programs of a single warp, and each keeps many steps
    under way, since few lanes are all that keeps the memory busy. Many lanes hide the latency for each other, and shorter
    tiles leave registers for more of them. Longer tiles would hide more, but the time that Triton takes to compile them grows
    with the third power of their length: 2 s for the neuron's backward pass with tiles of 16 steps, 14 s with 32.

    The numbers follow from latencies and sizes of registers; `benchmarks/gpu_kernels.py sweep` measures the alternatives.

    Example:
        >>> layout(512, torch.device("cpu"))
        Layout(block=128, warps=4, tile=8)
        >>> layout(100, torch.device("cpu"))
        Layout(block=32, warps=1, tile=16)
    """
    if lanes >= 2 * 256 * multiprocessors(device):
        return Layout(block=128, warps=4, tile=8)
    return Layout(block=32, warps=1, tile=16)


def multiprocessors(device: torch.device) -> int:
    """How many multiprocessors the device has; 1 for the CPU, where Triton's interpreter runs one program at a time."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
