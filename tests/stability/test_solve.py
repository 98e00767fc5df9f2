"""The number at which something that rises is as wanted, with few measurements."""

import math

import pytest

from rheobase.stability.solve import solve

RISING = {
    "proportional": (lambda x: 3 * x, lambda y: y / 3, 2),
    "power": (lambda x: x**3, lambda y: y ** (1 / 3), 8),
    "exponential": (lambda x: math.exp(5 * x) - 1, lambda y: math.log(1 + y) / 5, 10),
    "nothing at first": (lambda x: max(x - 40, 0.0), lambda y: y + 40, 22),
    "explodes": (lambda x: x**2 if x < 2 else math.inf, math.sqrt, 8),
    "bends": (lambda x: 0.01 * x if x < 2 else 0.02 * (x / 2) ** 40, lambda y: 2 * (y / 0.02) ** (1 / 40), 16),
    "saturates": (lambda x: x / (x + 1), lambda y: y / (1 - y), 8),
}
"""A function, where it has a value, and with how many measurements that is to be found."""


@pytest.mark.parametrize("kind", RISING)
@pytest.mark.parametrize("wanted", [0.05, 0.9])
@pytest.mark.parametrize("start", [0.1, 1.0])
def test_found_to_a_percent(kind, wanted, start):
    function, inverse, most = RISING[kind]
    tried = []

    def measure(x):
        tried.append(x)
        return function(x)

    found = solve(measure, wanted, start)
    assert found is not None
    assert abs(function(found) / wanted - 1) < 0.01 or found == pytest.approx(inverse(wanted), rel=0.01)
    assert len(tried) <= most, tried


def test_none_where_it_never_is():
    assert solve(lambda x: x / (x + 1), 2.0) is None
    assert solve(lambda _: 0.0, 1.0) is None
    assert solve(lambda x: 1 + x, 0.5) is None
    assert solve(lambda _: math.nan, 1.0) is None
