"""Linear integration and stochastic firing: the definition, the gradients, the noise; by kernels and by the reference."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ops.stochastic_cases import F64, leaves, outputs, random
from rheobase.ops import stochastic_lif, synaptic_integrate
from rheobase.ops.noise import logistic, words

FIRINGS = ("bernoulli", "gumbel", "threshold", "expected")


def recursion(x, alpha, beta):
    """I = alpha I + X and V = beta V + (1 - beta) I, as published, one step at a time in float64."""
    current = potential = np.zeros(x.shape[1:])
    potentials = []
    for step in x:
        current = alpha * current + step
        potential = beta * potential + (1 - beta) * current
        potentials.append(potential)
    return np.stack(potentials)


def by_fft(x, alpha, beta, length):
    """The same by spectra: of the input and of both kernels, each over `length` steps."""
    t = np.arange(len(x))
    powers = np.where(t == 0, 1.0, 0.0) if alpha == 0 else alpha**t
    spectra = (np.fft.rfft(kernel, length) for kernel in (powers, (1 - beta) * beta**t))
    product = np.fft.rfft(x, length, axis=0)
    for spectrum in spectra:
        product = product * spectrum[:, None]
    return np.fft.irfft(product, length, axis=0)[: len(x)]


TAU_20 = math.exp(-1 / 20)
DECAYS = [(TAU_20, TAU_20), (0.0, TAU_20), (0.8, 0.9), (TAU_20, 0.0), (0.0, 0.0)]


@pytest.mark.usefixtures("computer")
@pytest.mark.parametrize(("alpha", "beta"), DECAYS)
@pytest.mark.parametrize("steps", [1, 5, 100, 1000])
def test_integration_is_the_recursion_and_the_convolution(steps, alpha, beta):
    x = np.random.default_rng(steps).normal(size=(steps, 3))
    ours = (1 - beta) * synaptic_integrate(torch.from_numpy(x).unsqueeze(1), alpha, beta)[0].squeeze(1).numpy()
    expected = recursion(x, alpha, beta)
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(by_fft(x, alpha, beta, 3 * steps), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("steps", "published"), [(5, 0.90), (10, 0.43), (20, 0.46), (50, 0.13), (100, 0.03), (1000, 5e-16)]
)
def test_the_published_spectra_alias_and_ours_do_not(steps, published):
    # The product of three spectra over 2 T steps wraps its tail around into the first T outputs.
    x = np.random.default_rng(0).normal(size=(steps, 64))
    expected = recursion(x, TAU_20, TAU_20)
    scale = np.abs(expected).max()
    aliased = np.abs(by_fft(x, TAU_20, TAU_20, 2 * steps) - expected).max() / scale
    assert published / 4 < max(aliased, 1e-16) < max(4 * published, 1e-13)
    assert np.abs(by_fft(x, TAU_20, TAU_20, 3 * steps) - expected).max() / scale < 1e-12


@pytest.mark.usefixtures("computer")
def test_golden_impulse_response():
    impulse = torch.zeros(400, 1, 1, dtype=F64)
    impulse[0] = 1
    h = (1 - TAU_20) * synaptic_integrate(impulse, TAU_20, TAU_20)[0].flatten()
    golden = [0.048771, 0.092784, 0.227895, 0.377232, 0.376776, 0.204170, 0.033190]
    torch.testing.assert_close(h[[0, 1, 5, 19, 20, 50, 100]], torch.tensor(golden, dtype=F64), rtol=0, atol=1e-6)
    assert h.sum().item() == pytest.approx(20.504167, abs=1e-4)


@pytest.mark.usefixtures("computer")
def test_golden_probabilities_and_gradients():
    v = torch.tensor([-1.0, 0.0, 0.5, 1.0], dtype=F64)
    sb = torch.tensor([0.268941, 0.5, 0.622459, 0.731059], dtype=F64)
    gs = torch.tensor([0.119203, 0.5, 0.731059, 0.880797], dtype=F64)
    x = v.view(1, 1, 4).requires_grad_()
    torch.testing.assert_close(stochastic_lif(x, 0.0, 0.0, firing="expected")[0].flatten(), sb, rtol=0, atol=1e-6)
    doubled = stochastic_lif(x, 0.0, 0.0, slope=2.0, firing="expected")[0]
    torch.testing.assert_close(doubled.flatten(), gs, rtol=0, atol=1e-6)
    (factor,) = torch.autograd.grad(stochastic_lif(x, 0.0, 0.0)[0].sum(), x)
    golden = torch.tensor([0.052877, 0.125, 0.146280, 0.143735], dtype=F64)
    torch.testing.assert_close(factor.flatten(), golden, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("computer")
@pytest.mark.parametrize(("firing", "scale"), [("bernoulli", 1), ("gumbel", 2)])
def test_neurons_fire_with_their_probability(firing, scale):
    # 10,000 draws for each of 9 membrane potentials; four standard deviations.
    v = torch.linspace(-4, 4, 9)
    spikes, _ = stochastic_lif(v.expand(500, 20, 9), 0.0, 0.0, firing=firing)
    p = (scale * v).sigmoid()
    deviations = (spikes.mean((0, 1)) - p) / (p * (1 - p) / 10_000).sqrt()
    assert deviations.abs().max() < 4
    assert set(spikes.unique().tolist()) == {0.0, 1.0}


@pytest.mark.usefixtures("computer")
def test_gradcheck_of_what_is_deterministic():
    assert torch.autograd.gradcheck(lambda *values: tuple(outputs(list(values), "expected")), leaves(1))
    # The same for the integration alone, whatever is asked of the samplers.
    assert torch.autograd.gradcheck(lambda *values: tuple(outputs(list(values), "bernoulli")[1:]), leaves(1))


@pytest.mark.usefixtures("computer")
@pytest.mark.parametrize("firing", FIRINGS)
def test_gradients_through_the_draws_are_those_of_the_formulas(firing):
    temperature, start = 0.6, 3
    values = leaves(2)
    weights = [random(20, 11, 2, 3), random(21, 2, 3), random(22, 2, 3)]
    mine = outputs(values, firing, start, temperature)
    gradients = torch.autograd.grad(sum((y * w).sum() for y, w in zip(mine, weights, strict=True)), values)
    # By hand: the derivative of each spike with respect to its logit, and autograd for the integration alone.
    x, synapse_decay, decay, slope, offset, membrane, current = values
    potentials, (last, last_current) = synaptic_integrate(x, synapse_decay, decay, (membrane, current))
    v = potentials.detach()
    z = slope.detach() * v - offset.detach()
    p = z.sigmoid()
    if firing == "gumbel":
        drawn = logistic(words(torch.tensor([1 << 60 | 77, start]), 11, 6)).view(11, 2, 3).double()
        y = ((2 * z + drawn) / temperature).sigmoid()
        derivative = 2 * y * (1 - y) / temperature
        assert torch.equal(mine[0], (y >= 0.5).double())
    else:
        derivative = p * p * (1 - p) if firing == "bernoulli" else p * (1 - p)
    surrogate = ((slope * potentials - offset) * derivative * weights[0]).sum()
    total = surrogate + (last * weights[1]).sum() + (last_current * weights[2]).sum()
    for ours, theirs in zip(gradients, torch.autograd.grad(total, values), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)  # the noise is a float32


@pytest.mark.usefixtures("computer")
@pytest.mark.parametrize("firing", ["bernoulli", "gumbel"])
@settings(max_examples=15)
@given(st.lists(st.integers(0, 13), max_size=3))
def test_cut_anywhere_is_the_whole(firing, cuts):
    x = random(6, 13, 2, 3).float()
    torch.manual_seed(1)
    whole, last = stochastic_lif(x, 0.9, 0.8, firing=firing)
    torch.manual_seed(1)
    pieces, state = [], None
    for low, high in zip([0, *sorted(cuts)], [*sorted(cuts), 13], strict=True):
        piece, state = stochastic_lif(x[low:high], 0.9, 0.8, initial=state, firing=firing)
        pieces.append(piece)
    assert torch.equal(torch.cat(pieces), whole)
    assert all(map(torch.equal, state, last))


@pytest.mark.usefixtures("computer")
def test_the_seed_of_pytorch_decides():
    def draw() -> Tensor:
        return stochastic_lif(torch.zeros(50, 2, 10), 0.9, 0.9)[0]

    torch.manual_seed(1)
    first, second = draw(), draw()
    torch.manual_seed(1)
    again = draw()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        forked = draw()
    assert torch.equal(first, again)
    assert torch.equal(first, forked)
    assert torch.equal(draw(), second)  # the block left the generator as it was
    assert not torch.equal(first, second)


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": torch.ones(2, 1, dtype=torch.int32)}, TypeError, "x must be floating point"),
        ({"decay": torch.ones(2)}, ValueError, "decay must broadcast"),
        ({"slope": torch.ones(2)}, ValueError, "slope must broadcast"),
        ({"initial": torch.ones(1)}, TypeError, r"initial must be what a call returned, \(membrane, current, noise\)"),
        (
            {"initial": (None, None, torch.ones(2))},
            ValueError,
            r"shape \(2,\) in int64, got shape \(2,\) in torch.float32",
        ),
        ({"firing": "poisson"}, ValueError, "firing must be one of 'bernoulli', 'gumbel'.*, got 'poisson'"),
        ({"temperature": 0.0}, ValueError, "temperature must be above 0 and finite, got 0.0"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        stochastic_lif(**{"x": torch.ones(2, 1, 3), "synapse_decay": 0.9, "decay": 0.9} | arguments)


@pytest.mark.usefixtures("as_a_user")
def test_errors_of_the_integration():
    with pytest.raises(TypeError, match=r"initial must be a pair \(membrane, current\), got Tensor"):
        synaptic_integrate(torch.ones(2, 1, 3), 0.9, 0.9, torch.ones(1))
    with pytest.raises(ValueError, match="synaptic_integrate: synapse_decay must broadcast"):
        synaptic_integrate(torch.ones(2, 1, 3), torch.ones(2), 0.9)


@pytest.mark.usefixtures("computer")
def test_the_integration_gradcheck_and_pieces():
    x, synapse_decay, decay, _, _, membrane, current = leaves(7)

    def integrate(x, synapse_decay, decay, membrane, current):
        states, last = synaptic_integrate(x, synapse_decay, decay, (membrane, current))
        return states, *last

    assert torch.autograd.gradcheck(integrate, (x, synapse_decay, decay, membrane, current))
    whole, last = synaptic_integrate(x, 0.9, 0.9)
    first, state = synaptic_integrate(x[:4], 0.9, 0.9)
    second, state = synaptic_integrate(x[4:], 0.9, 0.9, state)
    assert torch.equal(torch.cat((first, second)), whole)
    assert all(map(torch.equal, state, last))
