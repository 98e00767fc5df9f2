"""Neurons in steps, and neurons in continuous time, as NIR describes them.

NIR has no steps: a membrane potential obeys `tau dv/dt = -v + r x`, and each program discretizes it in its own way. By Euler's
rule, as in most programs that train networks (snnTorch, Norse),

    v[t] = (1 - dt / tau) v[t-1] + (r dt / tau) x[t],

it is our `v[t] = decay v[t-1] + x[t]` for `tau = dt / (1 - decay)` and `r = tau / dt`; and for a decay of 1, where there is no
leak and no time constant, that of `dv/dt = r x` with `r = 1 / dt`. A program that discretizes differently, such as by `exp(-dt
/ tau)`, computes something similar, the closer the smaller `dt` is relative to `tau`.
"""

from types import ModuleType
from typing import Any

import numpy as np
from torch import Tensor

from rheobase.errors import InteropError

Array = np.ndarray[Any, np.dtype[Any]]


def nir_package(what: str) -> ModuleType:
    """The package `nir`, an optional dependency.

    Raises:
        InteropError: if it is not installed; the message says how to install it.
    """
    try:
        import nir
    except ImportError as error:
        raise InteropError(f"{what} needs the package nir: pip install 'rheobase[nir]' ({error})") from error
    return nir


def numbers(value: Any, name: str) -> Array:
    """An array from a graph, in float64.

    Raises:
        InteropError: if it does not hold real numbers, or holds one that is not finite in float32, in which networks compute.
    """
    found = np.asarray(value)
    if found.dtype.kind not in "fiub":
        raise InteropError(f"{name} must be numbers, got {found.dtype}")
    found = found.astype(np.float64)
    if found.size and not np.abs(found).max() < np.finfo(np.float32).max:  # false for NaN, too
        raise InteropError(f"{name} must be finite numbers")
    return found


def as_array(value: Tensor | Array) -> Array:
    """In float32, as other libraries write arrays."""
    return np.ascontiguousarray(value.numpy() if isinstance(value, Tensor) else value, dtype=np.float32)


def time_constant(decay: Array, dt: float) -> Array:
    """`tau` of a state that keeps `decay`, below 1, per step of `dt`.

    Example:
        >>> time_constant(np.array([0.0, 0.75]), dt=0.001)
        array([0.001, 0.004])
    """
    return dt / (1 - decay)


def decay_and_gain(tau: Array, r: Array, dt: float) -> tuple[Array, Array]:
    """What a state with this `tau` keeps per step of `dt`, and the factor of its input.

    A gain that is 1 up to rounding (files are in float32) is 1.

    Raises:
        InteropError: if a time constant is shorter than a step, or a value is not a finite number.

    Example:
        >>> decay_and_gain(np.array([0.004]), np.array([2.0]), dt=0.001)
        (array([0.75]), array([0.5]))
    """
    tau, r = numbers(tau, "its time constant"), numbers(r, "its resistance")
    # One that is as long as a step may come out slightly shorter in float32.
    if (tau < dt * (1 - 1e-6)).any():
        raise InteropError(
            f"its time constants must be at least dt = {dt:g} s, got {tau.min():g} s; take smaller steps"
        )
    return np.maximum(1 - dt / tau, 0.0), near_one(r * dt / tau)


def check_dt(dt: Any, what: str) -> float:
    """The duration of a step, in seconds.

    Raises:
        ValueError: if it is not a number from a nanosecond to 1000 seconds: beyond that, time constants would not fit into
            float32.
    """
    try:
        seconds = float(dt)
    except (TypeError, ValueError, OverflowError):
        seconds = 0.0
    if not 1e-9 <= seconds <= 1e3:
        raise ValueError(f"{what}: dt must be the seconds of a step, from 1e-9 to 1000, got {dt!r}")
    return seconds


def near_one(gain: Array) -> Array:
    """`gain`, with values that are 1 up to rounding set to 1."""
    return np.where(np.abs(gain - 1) < 1e-6, 1.0, gain)
