"""Solving for the positive number at which an increasing quantity has a wanted value."""

import math
from collections.abc import Callable

_DOUBLINGS = 60
_STEPS = 12
_CLOSE = 0.01
_MARGIN = 0.05  # of the interval


def solve(measure: Callable[[float], float], wanted: float, start: float = 1.0) -> float | None:
    """The positive number at which the increasing function `measure` is `wanted`, to a percent; None if it never is.

    Most quantities of a network are proportional to their factor. Others are nearly a power of it between a value that is too
    small and one that is too large, so a straight line on logarithmic scales meets `wanted` after few measurements.
    """
    at, found = start, measure(start)
    if 0 < found < math.inf:
        guess = start * wanted / found
        at_guess = measure(guess)
        if abs(at_guess / wanted - 1) < _CLOSE:
            return guess
        between = (at_guess < wanted) != (found < wanted)
        if between and 0.25 < guess / start < 4:
            return _between(measure, wanted, *sorted(((at, found), (guess, at_guess))))
        if not between:
            at, found = guess, at_guess
    rises = found < wanted
    for _ in range(_DOUBLINGS):
        beyond = at * (2.0 if rises else 0.5)
        at_beyond = measure(beyond)
        if (at_beyond < wanted) != rises:
            return _between(measure, wanted, *sorted(((at, found), (beyond, at_beyond))))
        at, found = beyond, at_beyond
    return None


def _between(
    measure: Callable[[float], float], wanted: float, low: tuple[float, float], high: tuple[float, float]
) -> float:
    """The same between two numbers and the values measured at them, one too small and one too large.

    The line goes through the two points closest to `wanted`, which may both lie on one side. Where it leads out of the interval
    or to one of its ends, as next to a value of 0 or where the quantity bends, the middle is tried. The result is the number
    with the closest measurement: where a quantity rises steeply between two numbers a percent apart, that measurement may be
    anything.
    """
    points = sorted((low, high), key=lambda point: _distance(point[1], wanted))
    for _ in range(_STEPS):
        ends = math.log(low[0]), math.log(high[0])
        if ends[1] - ends[0] < _CLOSE / 10:
            break
        log, margin = _on_line(*points, wanted), _MARGIN * (ends[1] - ends[0])
        at = math.exp(log if ends[0] + margin < log < ends[1] - margin else sum(ends) / 2)
        found = measure(at)
        if abs(found / wanted - 1) < _CLOSE:
            return at
        low, high = ((at, found), high) if found < wanted else (low, (at, found))
        points = sorted([*points, (at, found)], key=lambda point: _distance(point[1], wanted))[:2]
    return points[0][0]


def _on_line(one: tuple[float, float], other: tuple[float, float], wanted: float) -> float:
    """The logarithm of where a power of the number through two points is `wanted`; not a number if no such power is."""
    if not 0 < min(one[1], other[1]) < max(one[1], other[1]) < math.inf:
        return math.nan
    share = math.log(wanted / one[1]) / math.log(other[1] / one[1])
    return math.log(one[0]) + share * math.log(other[0] / one[0])


def _distance(found: float, wanted: float) -> float:
    return abs(math.log(found / wanted)) if 0 < found < math.inf else math.inf
