import itertools
import math
import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rheobase as rb
from rheobase.surrogate import (
    DEFAULT,
    Arctan,
    Custom,
    Exponential,
    FastSigmoid,
    Gaussian,
    MultiGaussian,
    QPseudoSpike,
    Rectangular,
    Sigmoid,
    Surrogate,
    Triangular,
)

BUMPS = (FastSigmoid, Arctan, Rectangular, Triangular, Exponential, Gaussian, Sigmoid, QPseudoSpike)
bumps = pytest.mark.parametrize("kind", BUMPS, ids=lambda kind: kind.__name__)
kinds = pytest.mark.parametrize("kind", [*BUMPS, MultiGaussian], ids=lambda kind: kind.__name__)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Rectangular, [1, 1, 0, 0, 0]),
        (Triangular, [1, 0.75, 0.5, 0, 0]),
        (Exponential, [1, 0.606531, 0.367879, 0.135335, 0.002479]),
        (Gaussian, [1, 0.821725, 0.455938, 0.043214, 5.25e-13]),
        (FastSigmoid, [1, 0.444444, 0.25, 0.111111, 0.020408]),
        (Arctan, [1, 0.618486, 0.288400, 0.092000, 0.011133]),
        (Sigmoid, [1, 0.786448, 0.419974, 0.070651, 2.4575e-5]),
        (QPseudoSpike, [1, 0.369570, 0.202255, 0.093394, 0.021518]),
        (partial(QPseudoSpike, tail=5.0), [1, 0.554929, 0.327680, 0.131687, 0.010240]),
    ],
)
def test_published_values(kind, values):
    u = torch.tensor([0.0, 0.25, -0.5, 1.0, 3.0], dtype=torch.float64)
    np.testing.assert_allclose(kind().derivative(u).numpy(), values, atol=6e-7)
    assert kind().derivative(u)[-1].item() == pytest.approx(values[-1], rel=1e-3)


def area(f, power=1, tail=0.0):
    """The integral of `f**power` over the line: Gauss-Legendre on dyadic intervals, and what lies beyond by its formula."""
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(20))
    total, low = 0.0, 0.0
    for high in (2.0**k for k in range(-3, 31)):
        u = low + (high - low) * (nodes + 1) / 2
        total += ((f(u) + 0.0) ** power * weights).sum().item() * (high - low) / 2
        total += ((f(-u) + 0.0) ** power * weights).sum().item() * (high - low) / 2
        low = high
    return total + tail


def beyond(surrogate):
    """The area farther out than 2^30: next to nothing, but for the heavy tail of the q-PseudoSpike."""
    if not isinstance(surrogate, QPseudoSpike):
        return 0.0
    q, far = surrogate.tail, surrogate.sharpness * 2.0**30
    return surrogate.dampening / surrogate.sharpness * (1 + 2 * far / (q - 1)) ** (1 - q)


@kinds
def test_the_area_is_one_and_scales(kind):
    for surrogate, expected in ((kind(), 1), (kind(dampening=0.5, sharpness=4.0), 0.125)):
        assert area(surrogate.derivative, tail=beyond(surrogate)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("tail", [1.05, 1.5, 2.0, 5.0, 300.0])
def test_the_area_is_one_for_every_tail(tail):
    surrogate = QPseudoSpike(tail=tail)
    assert area(surrogate.derivative, tail=beyond(surrogate)) == pytest.approx(1, abs=1e-6)


def test_the_tail_goes_from_the_fast_sigmoid_to_the_exponential():
    u = torch.linspace(-5, 5, 101, dtype=torch.float64)
    torch.testing.assert_close(QPseudoSpike(0.5, 3.0, tail=2.0).derivative(u), FastSigmoid(0.5, 3.0).derivative(u))
    torch.testing.assert_close(QPseudoSpike(tail=1e9).derivative(u), Exponential().derivative(u), rtol=1e-6, atol=0)
    far = torch.tensor([1e4, -1e6], dtype=torch.float64)
    assert bool((QPseudoSpike(tail=1.1).shape(far) > QPseudoSpike(tail=1.6).shape(far)).all())


SECOND_MOMENTS = [
    (Rectangular(), 1),
    (Triangular(), 2 / 3),
    (Exponential(), 1 / 2),
    (Gaussian(), 1 / math.sqrt(2)),
    (Sigmoid(), 2 / 3),
    (FastSigmoid(), 1 / 3),
    (QPseudoSpike(tail=1.56), 0.2642),
    (QPseudoSpike(tail=5.0), 0.4444),
    (Arctan(), 1 / 2),
    (MultiGaussian(), 0.8911),
]
moments = pytest.mark.parametrize(("surrogate", "expected"), SECOND_MOMENTS, ids=lambda value: str(value)[:24])


@moments
def test_the_second_moment_is_that_of_the_source(surrogate, expected):
    whole = 2 * surrogate.squared_integral(torch.tensor(1e9, dtype=torch.float64)).item()
    assert whole == pytest.approx(expected, abs=5e-5)
    assert area(surrogate.derivative, power=2) == pytest.approx(whole, abs=1e-6)


@moments
@given(st.floats(-30, 30))
def test_the_integral_of_the_square(surrogate, expected, u):
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(40))
    # Cut where some shape has an edge.
    edges = sorted({0.0, *(edge for edge in (0.05, 0.2, 0.5, 1.0, 2.0, 4.0, 10.0) if edge < abs(u)), abs(u)})
    total = 0.0
    for low, high in itertools.pairwise(edges):
        at = low + (high - low) * (nodes + 1) / 2
        total += (surrogate.shape(at).square() * weights).sum().item() * (high - low) / 2
    found = surrogate.squared_integral(torch.tensor(u, dtype=torch.float64)).item()
    assert found == pytest.approx(math.copysign(total, u), abs=1e-6)


@moments
def test_the_integral_of_the_square_of_any_tensor(surrogate, expected):
    u = torch.tensor([[0.0, -1e4], [1e4, 3e38]])
    found = surrogate.squared_integral(u)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor([[0.0, -expected / 2], [expected / 2] * 2]), atol=2e-4, rtol=0)
    # Dampening and sharpness are the caller's to put in.
    torch.testing.assert_close(replace(surrogate, dampening=3.0, sharpness=2.0).squared_integral(u), found)


def test_a_shape_of_the_users():
    u = torch.linspace(-2, 2, 41, dtype=torch.float64)
    mine = Custom(0.5, 2.0, function=lambda u: (1 - u.abs()).clamp(min=0))
    assert torch.equal(mine.derivative(u), Triangular(0.5, 2.0).derivative(u))
    torch.testing.assert_close(mine.squared_integral(u), Triangular().squared_integral(u), atol=1e-4, rtol=0)
    assert replace(mine, dampening=2.0).function is mine.function
    with pytest.raises(TypeError, match="function"):
        Custom()
    with pytest.raises(ValueError, match=r"Custom: function must return a number for each .* \(41,\), got shape \(\)"):
        Custom(function=lambda u: u.sum()).derivative(u)


def test_what_is_not_a_number_stays_so():
    for kind in (*BUMPS, MultiGaussian):
        assert bool(kind().derivative(torch.tensor(math.nan)).isnan()), kind


@pytest.mark.parametrize("tail", [1.0, 0.5, -2.0, math.inf, math.nan])
def test_a_tail_out_of_range(tail):
    with pytest.raises(ValueError, match="QPseudoSpike: tail must be above 1 and finite"):
        QPseudoSpike(tail=tail)


@bumps
@given(
    st.floats(0, 2.0**100, width=32),
    st.floats(0.01, 100),
    st.floats(0.01, 100),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
def test_symmetric_finite_and_between_zero_and_the_peak(kind, distance, dampening, sharpness, dtype):
    surrogate = kind(dampening, sharpness)
    u = torch.tensor([distance, -distance, 0.0]).to(dtype).clamp(*(s * torch.finfo(dtype).max for s in (-1, 1)))
    right, left, peak = surrogate.derivative(u).double()
    assert right == left
    assert 0 <= right <= peak
    assert peak == pytest.approx(dampening, rel=1e-2)


@bumps
def test_falls_with_the_distance(kind):
    values = kind().derivative(torch.linspace(0, 1e4, 100_000, dtype=torch.float64))
    assert bool((values.diff() <= 0).all())


@kinds
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_spike_is_a_step_forwards_and_the_bump_backwards(kind, dtype):
    u = torch.tensor([-1e4, -0.3, -1e-7, -0.0, 0.0, 0.4, 1e4]).to(dtype).requires_grad_()
    surrogate = kind(0.7, 1.3)
    spikes = surrogate.spike(u)
    assert spikes.dtype == dtype
    assert spikes.tolist() == [0, 0, 0, 1, 1, 1, 1]
    weights = torch.arange(7, dtype=dtype)
    (spikes * weights).sum().backward()
    assert torch.equal(u.grad, weights * surrogate.derivative(u.detach()))


def test_settings_carried_over_from_elsewhere():
    u = torch.linspace(-3, 3, 61, dtype=torch.float64)
    # SuperSpike of slope k; the arctan and the logistic function of slope a.
    torch.testing.assert_close(FastSigmoid(sharpness=25 / 2).derivative(u), 1 / (25 * u.abs() + 1) ** 2)
    torch.testing.assert_close(Arctan(3 / 2, 3 / 2).derivative(u), 3 / 2 / (1 + (math.pi / 2 * 3 * u) ** 2))
    logistic = torch.sigmoid(5 * u)
    torch.testing.assert_close(Sigmoid(5 / 4, 5 / 4).derivative(u), 5 * logistic * (1 - logistic))


def normal(u, mean, deviation):
    return torch.exp(-((u - mean) ** 2) / (2 * deviation**2)) / (deviation * math.sqrt(2 * math.pi))


def test_the_multi_gaussian_is_that_of_its_source():
    u = torch.linspace(-6, 6, 121, dtype=torch.float64)
    published = 0.5 * (1.15 * normal(u, 0, 0.5) - 0.15 * normal(u, 0.5, 3) - 0.15 * normal(u, -0.5, 3))
    surrogate = MultiGaussian.published()
    torch.testing.assert_close(surrogate.derivative(u), published, rtol=1e-12, atol=1e-15)
    at = torch.tensor([0.0, 1.25, 1.29, 2.0], dtype=torch.float64)
    peak, inside, outside, flank = surrogate.derivative(at).tolist()
    assert peak == surrogate.dampening == pytest.approx(0.439, abs=5e-4)
    assert inside > 0 > outside
    assert flank == pytest.approx(-0.016, abs=5e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_multi_gaussian_is_symmetric_and_finite(dtype):
    u = torch.cat((torch.linspace(0, 20, 100), torch.tensor([1e4, torch.finfo(dtype).max]))).to(dtype)
    right, left = MultiGaussian(2.0, 0.5).derivative(u), MultiGaussian(2.0, 0.5).derivative(-u)
    assert torch.equal(right, left)
    assert bool(right.isfinite().all())
    assert right.max() == right[0]
    assert right[-1] == 0


def test_surrogates_are_values():
    assert FastSigmoid(1.0, 2.0) == FastSigmoid(1.0, 2.0) != FastSigmoid()
    assert FastSigmoid() != Arctan()
    assert len({FastSigmoid(), FastSigmoid(), Arctan()}) == 2
    with pytest.raises(AttributeError):
        FastSigmoid().sharpness = 3.0


def test_the_base_has_no_shape():
    with pytest.raises(NotImplementedError):
        Surrogate().derivative(torch.zeros(1))


@kinds
@pytest.mark.parametrize("name", ["dampening", "sharpness"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_numbers_out_of_range(kind, name, value):
    with pytest.raises(ValueError, match=f"{kind.__name__}: {name} must be positive and finite, got {value}"):
        kind(**{name: value})


def test_a_pickled_neuron_knows_whether_a_surrogate_was_chosen():
    found = pickle.loads(pickle.dumps(rb.LIF(4)))  # noqa: S301
    assert found.surrogate is DEFAULT
    chosen = pickle.loads(pickle.dumps(rb.LIF(4, surrogate=FastSigmoid())))  # noqa: S301
    assert chosen.surrogate is not DEFAULT
    assert chosen.surrogate == DEFAULT
