"""One neuron that fires once, one step back in time: what kernels share that keep no sequence for their backward pass.

They compute the membrane potential once more, and ask at each step what a spike there would have been worth. The rule is that
of `rheobase.ops.single_spike.cpu`, which has all states in memory and gradients of them.
"""

# What the branches of a kernel choose between is known when it is compiled, and the one not taken does not exist.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false

from collections.abc import Callable
from functools import cache, partial
from typing import no_type_check

import numpy as np
from numba import njit, types
from torch import Tensor

from rheobase.ops import memory, threads
from rheobase.ops.compiler import compiled
from rheobase.ops.linear.lists import array, type_of
from rheobase.ops.simd import add, load, scale, store
from rheobase.ops.single_spike.credit import Credit
from rheobase.ops.slope.cpu import bump


def worth(on_y: Tensor, dampening: float, credit: Credit) -> Tensor:
    """What is the same for all neurons, done to the few outputs: the factor of the surrogate, and what the ramp sums.

    That is `sum_{s >= t} (s - t + 1) on_y[s]`, two sums over time, from its end.
    """
    if credit != "ramp":
        return dampening * on_y
    found = memory.empty(tuple(on_y.shape), on_y.dtype)
    kernel, given = _sums_kernel(type_of(on_y)), array(on_y.flatten(1))
    threads.split(partial(kernel, given, array(found.flatten(1)), dampening), given.shape[1], given.size)
    return found


@cache
@no_type_check
def _sums_kernel(number: str) -> Callable[..., None]:
    kind, real = getattr(types, number), np.dtype(number).type
    width = 256 // np.dtype(number).itemsize

    def summed_twice(given, found, dampening, low, high):
        (steps, lanes), last = given.shape, np.zeros(2 * width, real)
        source, target = given.reshape(-1), found.reshape(-1)
        for begin in range(low, high - width + 1, width):
            once = twice = load(last, 0, width)
            for t in range(steps - 1, -1, -1):
                once = add(once, load(source, t * lanes + begin, width))
                twice = add(twice, once)
                store(target, t * lanes + begin, scale(twice, dampening))
        rest = low + (high - low) // width * width
        for t in range(steps - 1, -1, -1):
            for j in range(high - rest):
                last[j] += source[t * lanes + rest + j]
                last[width + j] += last[j]
                target[t * lanes + rest + j] = dampening * last[width + j]

    signature = types.void(kind[:, ::1], kind[:, ::1], kind, types.intp, types.intp)
    return compiled(summed_twice, signature, f"summed_twice_{number}")


# Taken into the kernel before it is compiled, where `shape` and `credit` are known, so that what a neuron remembers from step
# to step stays in registers.
@njit(inline="always")
@no_type_check
def step_back(shape, credit, double, sharpness, on_above, v, before, now, there, forced, neuron, remembered):
    """One neuron and step: the gradient of its current, from what its spike is worth, and what it remembers of later steps."""
    number = np.float64 if double else np.float32
    zero, one = number(0), number(1)
    decay, threshold, first, last = neuron
    on_membrane, on_decay, on_threshold, on_bias, sum, sum_of_sums = remembered
    u = v - threshold
    matters = there if credit == "ramp" else now <= last  # which `there` is part of
    if credit == "early_ramp":
        sum += on_above if now < first else zero
        sum_of_sums += sum
        on_above = sum_of_sums
    elif credit == "product":
        silent = one if now <= first else zero
        above = one if (u >= zero) | forced else zero
        on_silent = on_above * above + sum * (one - above) if matters else sum
        on_above = on_above * silent - sum * silent
        sum = on_silent
    on_u = on_above * bump(shape, double, sharpness * u)
    on_u = on_u if matters else zero
    on_u = zero if forced else on_u
    on_v = on_membrane + on_u
    on_step = on_v * before
    on_step = on_step if matters else zero  # what is over may have a membrane potential that is not finite
    return on_v, (decay * on_v, on_decay + on_step, on_threshold - on_u, on_bias + on_v, sum, sum_of_sums)
