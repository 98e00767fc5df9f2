import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rheobase.surrogate import Arctan, Exponential, FastSigmoid, Gaussian, MultiGaussian, Surrogate, Triangular

BUMPS = (FastSigmoid, Arctan, Triangular, Exponential, Gaussian)
bumps = pytest.mark.parametrize("kind", BUMPS, ids=lambda kind: kind.__name__)
kinds = pytest.mark.parametrize("kind", [*BUMPS, MultiGaussian], ids=lambda kind: kind.__name__)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Triangular, [1, 0.75, 0.5, 0, 0]),
        (Exponential, [1, 0.606531, 0.367879, 0.135335, 0.002479]),
        (Gaussian, [1, 0.821725, 0.455938, 0.043214, 5.25e-13]),
        (FastSigmoid, [1, 0.444444, 0.25, 0.111111, 0.020408]),
        (Arctan, [1, 0.618486, 0.288400, 0.092000, 0.011133]),
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


@kinds
def test_the_area_is_one_and_scales(kind):
    # Beyond 2^30 the heaviest tail, that of the arctan, holds less than 1e-9.
    assert area(kind().derivative) == pytest.approx(1, abs=1e-6)
    assert area(kind(dampening=0.5, sharpness=4.0).derivative) == pytest.approx(0.125, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(Triangular, 2 / 3), (Exponential, 1 / 2), (Gaussian, 1 / math.sqrt(2)), (FastSigmoid, 1 / 3), (Arctan, 1 / 2)],
)
def test_the_second_moment_is_that_of_the_source(kind, expected):
    assert area(kind().derivative, power=2) == pytest.approx(expected, abs=1e-6)


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
    # SuperSpike of slope k; the arctan of slope a.
    torch.testing.assert_close(FastSigmoid(sharpness=25 / 2).derivative(u), 1 / (25 * u.abs() + 1) ** 2)
    torch.testing.assert_close(Arctan(3 / 2, 3 / 2).derivative(u), 3 / 2 / (1 + (math.pi / 2 * 3 * u) ** 2))


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
