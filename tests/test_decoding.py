import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rheobase import decoding

ALL = (decoding.sum, decoding.mean, decoding.max, decoding.last, decoding.spike_count)


@given(st.integers(1, 9), st.integers(0, 3), st.sampled_from([(), (1,), (4,), (2, 3)]), st.integers(0, 2**32 - 1))
def test_formulas(steps, batch, classes, seed):
    values = np.random.default_rng(seed).normal(size=(steps, batch, *classes))
    x = torch.from_numpy(values)
    for decode, expected in [
        (decoding.sum, values.sum(0)),
        (decoding.mean, values.mean(0)),
        (decoding.max, values.max(0)),
        (decoding.last, values[-1]),
    ]:
        np.testing.assert_allclose(decode(x).numpy(), expected, rtol=1e-12, atol=1e-12)
    spikes = (x > 0).double()
    np.testing.assert_array_equal(decoding.spike_count(spikes).numpy(), (values > 0).sum(0))


@pytest.mark.parametrize("decode", ALL[:4])
def test_gradients(decode):
    x = torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(decode, x)


@pytest.mark.parametrize("masked", [False, True])
def test_of_moments_that_are_as_good_the_first_receives_the_gradient(masked):
    values = [[2.0, 0.0], [2.0, 1.0], [0.0, 1.0], [2.0, 0.0]]  # spikes are alike, and so are potentials at rest
    x = torch.tensor(values).view(4, 1, 2).requires_grad_()
    mask = torch.tensor([False, True, True, True]).view(4, 1) if masked else None
    decoded = decoding.max(x, mask)
    assert decoded.tolist() == [[2.0, 1.0]]
    (on,) = torch.autograd.grad(decoded.sum(), x)
    first = [1, 1] if masked else [0, 1]
    assert on[:, 0].nonzero().tolist() == sorted([step, unit] for unit, step in enumerate(first))
    assert on.sum() == 2


def test_without_a_step_there_is_no_gradient_of_a_maximum():
    x = torch.ones(3, 2, 2, requires_grad=True)
    mask = torch.tensor([[True, False]] * 3)
    decoded = decoding.max(x, mask)
    assert decoded.tolist() == [[1, 1], [0, 0]]
    (on,) = torch.autograd.grad(decoded.sum(), x)
    assert on[:, 1].count_nonzero() == 0
    assert on[:, 0].sum(0).tolist() == [1, 1]


def test_a_count_lets_gradients_through():
    spikes = torch.ones(4, 1, 2, requires_grad=True)
    decoding.spike_count(spikes).sum().backward()
    assert torch.equal(spikes.grad, torch.ones(4, 1, 2))


def test_counts_are_exact_in_half_precision():
    assert decoding.spike_count(torch.ones(259, 1, 1, dtype=torch.bfloat16)).item() == 259
    assert decoding.spike_count(torch.ones(2051, 1, 1, dtype=torch.float16)).item() == 2051


@pytest.mark.parametrize("decode", ALL)
def test_no_time_steps(decode):
    with pytest.raises(ValueError, match=rf"{decode.__name__}: output has no time steps, got shape \(0, 2, 3\)"):
        decode(torch.zeros(0, 2, 3))


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, float("nan")])
def test_a_membrane_potential_is_not_counted(value):
    with pytest.raises(ValueError, match="spikes must be 0 or 1; to decode membrane potentials use"):
        decoding.spike_count(torch.tensor([0.0, 1.0, value]).view(3, 1, 1))
