"""Recordings as users have them, a list with one entry each, converted to the flat arrays that `Events` keeps.

Foreign data is checked value by value: polarities of -1 and 1, or x and y swapped on a sensor that is not square, would
otherwise show only, if at all, in a network that does not learn.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int, Integer, Shaped
from torch import Tensor

from rheobase.errors import DataError

Unit = Literal["s", "ms", "us"]
"""The unit of times: seconds, milliseconds, microseconds."""

_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6}
_FIELDS = {"times": "t", "units": "x", "x": "x", "y": "y", "polarity": "p"}
"""Their names in structured arrays of tonic and others. A channel is an x there, for a cochlea without a y."""


def as_row(values: Any, kinds: str, name: str, expected: str) -> Shaped[np.ndarray, " n"]:
    """A list, an array or a tensor as a one-dimensional array whose type is one of NumPy's `kinds`.

    Raises:
        TypeError: if it is not; `name` is its name in the message, `expected` what it should be.

    Example:
        >>> as_row([3, 1], "iu", "units", "integers")
        array([3, 1])
    """
    try:
        row = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    except (TypeError, ValueError):  # rows of different lengths; bfloat16
        raise TypeError(f"{name}: got a {type(values).__name__} that is not an array, expected {expected}") from None
    if row.shape == (0,):
        return row.astype(np.float32 if "f" in kinds else np.int64)  # NumPy cannot know the type of an empty list
    if row.ndim != 1 or row.dtype.kind not in kinds:
        raise TypeError(f"{name}: got {row.dtype} of shape {row.shape}, expected {expected}")
    return row


def check_sensor(sensor: Sequence[int], name: str) -> tuple[int, int, int]:
    """The size of a camera's sensor, checked.

    Raises:
        DataError: if it is not three integers of at least 1.
    """
    sizes = tuple(sensor)
    if len(sizes) != 3 or not all(isinstance(size, int | np.integer) and size >= 1 for size in sizes):
        raise DataError(f"{name}: got {sensor}, expected (polarities, height, width), each at least 1")
    return int(sizes[0]), int(sizes[1]), int(sizes[2])


def check_channels(channels: int, name: str) -> int:
    """The number of channels, checked.

    Raises:
        TypeError: if it is not an integer.
        DataError: if it is below 1.
    """
    if not isinstance(channels, int | np.integer):
        raise TypeError(f"{name}: got {channels!r}, expected an integer, the number of channels")
    if channels < 1:
        raise DataError(f"{name}: got {channels}, expected at least 1")
    return int(channels)


def flat(
    recordings: Sequence[Any], channels: int | None, sensor: Sequence[int] | None, unit: Unit, source: str
) -> tuple[Float32[np.ndarray, " events"], Integer[np.ndarray, " events"], Int[np.ndarray, " n_and_1"], int]:
    """Times in seconds, ascending in each recording, channels, offsets, and the number of channels: see `Events`.

    Args:
        recordings: one entry per recording: (times, units), or with a sensor (times, x, y, polarity); or a structured array.
        channels: the number of channels, if there is no sensor.
        sensor: the (polarities, height, width) of a camera.
        unit: the unit of the times.
        source: the name of the recordings in error messages.

    Raises:
        TypeError, ValueError, DataError: as `Events.from_recordings`.
    """
    if unit not in _PER_SECOND:
        raise ValueError(f"unit: got {unit!r}, expected 's', 'ms' or 'us', the unit of the times")
    if (channels is None) == (sensor is None):
        got = "neither" if channels is None else "both"
        raise ValueError(
            f"channels, sensor: got {got}, expected channels for recordings (times, units), or sensor=(polarities, height, "
            "width) for recordings (times, x, y, polarity)"
        )
    if sensor is not None:
        polarities, height, width = check_sensor(sensor, f"{source}: sensor")
        limits = {"x": width, "y": height, "polarity": polarities}
    else:
        limits = {"units": check_channels(0 if channels is None else channels, f"{source}: channels")}
    channels = math.prod(limits.values())
    smallest = np.min_scalar_type(channels - 1)
    times, units, ends = [np.empty(0, np.float32)], [np.empty(0, smallest)], [0]
    for number, recording in enumerate(recordings):
        name = f"{source}: recording {number}"
        parts = _parts(recording, ("times", *limits), name)
        seconds = _seconds(parts["times"], unit, name)
        channel, stride = np.zeros(len(seconds), np.int64), 1
        for axis, limit in limits.items():
            channel += stride * _below(parts[axis], limit, f"{name}: {axis}")
            stride *= limit
        order = np.argsort(seconds, kind="stable")
        times.append(seconds[order].astype(np.float32))
        units.append(channel[order].astype(smallest))
        ends.append(ends[-1] + len(order))
    return np.concatenate(times), np.concatenate(units), np.array(ends), channels


def _parts(recording: Any, names: tuple[str, ...], source: str) -> dict[str, Shaped[np.ndarray, " events"]]:
    """The arrays of one recording by name, all of one length."""
    expected = f"({', '.join(names)})"
    if isinstance(recording, np.ndarray) and recording.dtype.names:
        fields = [_FIELDS[name] for name in names]
        if missing := [field for field in fields if field not in recording.dtype.names]:
            raise DataError(
                f"{source}: got a structured array with the fields {', '.join(recording.dtype.names)}, expected "
                f"{', '.join(fields)} among them; there is no {', '.join(missing)}"
            )
        recording = tuple(recording[field] for field in fields)
    if not isinstance(recording, tuple | list):
        raise TypeError(f"{source}: got a {type(recording).__name__}, expected {expected}, a tuple of arrays")
    if len(recording) != len(names):
        other = "; for (times, x, y, polarity), give sensor=(polarities, height, width)" if len(names) == 2 else ""
        raise DataError(f"{source}: got {len(recording)} values, expected {expected}{other}")
    kinds = {"times": ("fiu", "numbers, one per event"), "polarity": ("iub", "integers or booleans, one per event")}
    parts = {}
    for name, values in zip(names, recording, strict=True):
        kind, wanted = kinds.get(name, ("iu", "integers, one per event"))
        parts[name] = as_row(values, kind, f"{source}: {name}", wanted)
        if len(parts[name]) != len(parts["times"]):
            raise DataError(
                f"{source}: {name}: got {len(parts[name])} for {len(parts['times'])} times, expected as many"
            )
    return parts


def _seconds(times: Shaped[np.ndarray, " events"], unit: Unit, source: str) -> Shaped[np.ndarray, " events"]:
    seconds = times.astype(np.float64) / _PER_SECOND[unit]
    bad = ~(np.isfinite(seconds) & (seconds >= 0) & (seconds <= np.finfo(np.float32).max))
    if bad.any():
        event = int(np.argmax(bad))
        raise DataError(
            f"{source}: times: got {times[event]} at event {event}, expected finite times from the start of the recording, "
            "0 or more"
        )
    return seconds


def _below(places: Shaped[np.ndarray, " events"], limit: int, name: str) -> Int[np.ndarray, " events"]:
    bad = (places < 0) | (places >= limit)
    if bad.any():
        event = int(np.argmax(bad))
        remedy = "; for polarities -1 and 1, pass polarity > 0" if name.endswith("polarity") else ""
        raise DataError(f"{name}: got {places[event]} at event {event}, expected 0 to {limit - 1}{remedy}")
    return places.astype(np.int64)
