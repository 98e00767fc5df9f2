"""Stochastic parallelizable spiking neurons, and their readout."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from computing import computed_by
from rheobase import SPSN, LeakyReadout, Recompute, Sequential, SynapticReadout
from rheobase.ops import stochastic_lif


def potentials(x: Tensor, alpha: float, beta: float) -> Tensor:
    """I = alpha I + X and V = beta V + (1 - beta) I, as published."""
    current = potential = torch.zeros(x.shape[1:], dtype=x.dtype)
    every = []
    for step in x:
        current = alpha * current + step
        potential = beta * potential + (1 - beta) * current
        every.append(potential)
    return torch.stack(every)


@pytest.mark.parametrize(("sampler", "steepness"), [("bernoulli", 1), ("gumbel", 2)])
def test_the_probability_is_that_of_the_published_membrane(sampler, steepness):
    x = torch.randn(60, 2, 3, dtype=torch.float64)
    layer = SPSN(
        3, synapse_decay=0.9, decay=0.8, threshold=0.2, slope=1.5, sampler=sampler, evaluation="expected"
    ).eval()
    z = 1.5 * (potentials(x, 0.9, 0.8) - 0.2)
    torch.testing.assert_close(layer(x), (steepness * z).sigmoid(), rtol=1e-6, atol=1e-6)
    layer.evaluation = "threshold"
    assert torch.equal(layer(x), (z >= 0).double())
    layer.evaluation = "sampled"
    assert layer(x).unique().tolist() == [0, 1]
    mean = torch.stack([layer(x) for _ in range(400)]).mean(0)
    assert (mean - (steepness * z).sigmoid()).abs().max() < 5 * 0.5 / math.sqrt(400)


def test_training_draws_whatever_the_evaluation():
    layer = SPSN(evaluation="expected")
    assert layer(torch.zeros(50, 1, 4)).unique().tolist() == [0, 1]
    assert layer.eval()(torch.zeros(50, 1, 4)).unique().tolist() == [0.5]


def test_the_defaults_are_the_published_values():
    layer = SPSN()
    tau_20 = math.exp(-1 / 20)
    values = [layer.synapse_decay, layer.decay, layer.threshold, layer.slope]
    torch.testing.assert_close(torch.stack(values), torch.tensor([tau_20, tau_20, 0.0, 1.0]))
    assert (layer.sampler, layer.temperature, layer.evaluation) == ("bernoulli", 1.0, "sampled")
    spikes = layer(torch.zeros(2000, 1, 8))
    assert abs(spikes.mean().item() - 0.5) < 4 * 0.5 / math.sqrt(16_000)  # at rest


NAMES = ("synapse_decay", "decay", "threshold", "slope")


def test_what_is_learned_starts_at_the_value_asked_for_and_has_a_gradient():
    values = torch.tensor([[0.3, 0.9], [0.9, 0.99], [-1.0, 2.0], [0.5, 3.0]])
    asked = dict(zip(NAMES, values, strict=True))
    layer = SPSN(2, **asked, learn=NAMES)
    for name, value in asked.items():
        torch.testing.assert_close(getattr(layer, name).detach(), value)
    layer(torch.randn(30, 4, 2)).sum().backward()
    for name in NAMES:
        gradient = getattr(layer, f"raw_{name}").grad
        assert gradient is not None
        assert gradient.abs().min() > 0
    assert SPSN(2).learn == ()
    assert not list(SPSN(2).parameters())


def test_gradients_of_learned_values_are_those_of_the_probability():
    # Where nothing is drawn, finite differences say what is right.
    layer = (
        SPSN(3, synapse_decay=0.7, decay=0.8, threshold=0.1, slope=1.3, evaluation="expected", learn=NAMES)
        .double()
        .eval()
    )
    x = torch.randn(9, 2, 3, dtype=torch.float64, requires_grad=True)
    parameters = tuple(layer.parameters())

    def run(x, *values):
        named = dict(zip((name for name, _ in layer.named_parameters()), values, strict=True))
        return torch.func.functional_call(layer, named, (x,))

    assert torch.autograd.gradcheck(run, (x, *parameters))


def network() -> Sequential:
    torch.manual_seed(0)
    return Sequential(
        nn.Linear(4, 6), SPSN(6, sampler="gumbel"), nn.Linear(6, 6), SPSN(6), nn.Linear(6, 2), SynapticReadout(2)
    )


@settings(max_examples=15)
@given(st.lists(st.integers(0, 12), max_size=3))
def test_a_network_cut_anywhere_is_the_whole(cuts):
    layers, x = network(), torch.linspace(-2, 3, 96).view(12, 2, 4)
    for computer in ("kernels", "reference"):
        with computed_by(computer), torch.no_grad():
            torch.manual_seed(7)
            whole, _ = layers.run(x)
            torch.manual_seed(7)
            assert torch.equal(layers(x), whole)
            torch.manual_seed(7)
            pieces, state = [], None
            for low, high in zip([0, *sorted(cuts)], [*sorted(cuts), 12], strict=True):
                piece, state = layers.run(x[low:high], state)
                pieces.append(piece)
            # A linear layer may round differently for another number of rows.
            torch.testing.assert_close(torch.cat(pieces), whole)


def test_layers_and_calls_draw_apart():
    first, second = SPSN(), SPSN()
    rest = torch.zeros(500, 2, 20)
    spikes = [first(rest), second(rest), first(rest)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        correlation = torch.corrcoef(torch.stack((spikes[a].flatten(), spikes[b].flatten())))[0, 1]
        assert abs(correlation) < 5 / math.sqrt(20_000)
    # So do the samples of a batch.
    correlation = torch.corrcoef(spikes[0].transpose(0, 1).flatten(1))[0, 1]
    assert abs(correlation) < 5 / math.sqrt(10_000)


@pytest.mark.parametrize("steps", [None, 1, 5, 7, 50])
def test_recomputing_changes_neither_spikes_nor_gradients(steps):
    x = torch.randn(40, 2, 4)

    def train(layers: nn.Module) -> list[Tensor]:
        torch.manual_seed(9)
        layers.zero_grad()
        output = layers(x)
        output.square().sum().backward()
        return [output.detach(), *(parameter.grad.clone() for parameter in layers.parameters())]

    layers = network()
    expected = train(layers)
    for ours, theirs in zip(train(Recompute(layers, steps)), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_forward_and_backward_see_the_same_draws():
    # Neurons that fire at 0.02 and not at 0 are those whose noise is between -0.04 and 0. Halfway, at 0.01, just these have a
    # logit within 0.02 of firing, and the gradient, the steeper the colder, tells which they are.
    def draw(x: Tensor) -> Tensor:
        torch.manual_seed(1)
        return stochastic_lif(x, 0.0, 0.0, firing="gumbel", temperature=0.01)[0]

    rest = torch.zeros(200, 1, 50)
    moved = draw(rest + 0.02) - draw(rest)
    between = (rest + 0.01).requires_grad_()
    (gradient,) = torch.autograd.grad(draw(between).sum(), between)
    assert 50 < moved.sum() < 150  # of 10,000, one in a hundred
    assert gradient[moved == 1].min() > gradient[moved == 0].max()


def test_maps_of_features_and_types():
    x = torch.randn(5, 2, 3, 4, 4)
    assert SPSN(3, threshold=torch.tensor([0.0, 1.0, 2.0]))(x).shape == x.shape
    assert SPSN()(x.bfloat16()).dtype == torch.bfloat16
    layer = SPSN(3, learn=NAMES).half()
    assert layer.decay.dtype == torch.float32


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sampler": "poisson"}, ValueError, "SPSN: sampler must be 'bernoulli' or 'gumbel', got 'poisson'"),
        ({"sampler": "threshold"}, ValueError, "SPSN: sampler must be 'bernoulli' or 'gumbel'"),
        (
            {"evaluation": "mean"},
            ValueError,
            "evaluation must be one of 'sampled', 'threshold', 'expected', got 'mean'",
        ),
        ({"temperature": -1.0}, ValueError, "SPSN: temperature must be above 0"),
        ({"decay": 1.5}, ValueError, "decay must be in"),
        ({"slope": 0.0}, ValueError, "slope must be above 0"),
        ({"learn": ("offset",)}, ValueError, "learn may name 'synapse_decay', 'decay', 'threshold', 'slope'"),
        ({"learn": "decay"}, TypeError, "learn must be a collection"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        SPSN(3, **arguments)


@pytest.mark.usefixtures("as_a_user")
def test_a_state_of_another_batch_is_refused():
    _, state = SPSN(3).run(torch.zeros(4, 2, 3))
    with pytest.raises(ValueError, match="state must have the shape of one time step"):
        SPSN(3).run(torch.zeros(4, 5, 3), state)


def test_the_readout_is_the_published_membrane_and_the_neuron_that_does_not_fire():
    x = torch.randn(50, 2, 3, dtype=torch.float64)
    readout = SynapticReadout(3, synapse_decay=0.9, decay=0.9, learn=("synapse_decay", "decay")).double()
    expected = potentials(x, 0.9, 0.9)
    torch.testing.assert_close(readout(x).detach(), expected, rtol=1e-6, atol=1e-6)
    first, state = readout.run(x[:20])
    second, _ = readout.run(x[20:], state)
    assert torch.equal(torch.cat((first, second)), readout(x))
    readout(x).sum().backward()
    assert all(parameter.grad.abs().min() > 0 for parameter in readout.parameters())
    assert not list(SynapticReadout(3).parameters())
    with pytest.raises(ValueError, match="learn may name 'synapse_decay', 'decay'"):
        SynapticReadout(3, learn=("threshold",))


def test_without_a_synapse_the_readout_is_a_leaky_one():
    x = torch.randn(20, 2, 3)
    scaled = 0.5 * LeakyReadout(decay=0.5)(x)
    torch.testing.assert_close(SynapticReadout(synapse_decay=0.0, decay=0.5)(x), scaled)
