"""Both layers of adaptive neurons: what they pass on, what they learn, and what they can be built into."""

import itertools

import pytest
import torch
from torch import nn

from rheobase import LIF, AdaptiveLIF, LeakyReadout, Neuron, Recompute, RecurrentAdaptiveLIF, Sequential
from rheobase.health import Recorder
from rheobase.ops.adaptive import adaptive_lif, recurrent_adaptive_lif
from rheobase.surrogate import FastSigmoid, MultiGaussian

NAMES = ("decay", "threshold", "adaptation_decay", "adaptation")
VALUES = {
    "decay": torch.tensor([0.3, 0.6, 0.9]),
    "threshold": torch.tensor([0.5, 0.7, 1.1]),
    "adaptation_decay": torch.tensor([0.9, 0.5, 0.99]),
    "adaptation": torch.tensor([0.1, 1.0, 0.3]),
}
KINDS = (AdaptiveLIF, RecurrentAdaptiveLIF)
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@pytest.mark.parametrize("learn", [(), NAMES])
@pytest.mark.parametrize("space", [(), (3, 3)])
def test_passes_its_values_to_the_operation(learn, space):
    torch.manual_seed(0)
    # As many rows of a map as channels: values must follow the channels, not the rows.
    x = torch.rand(30, 2, 3, *space)
    layer = AdaptiveLIF(3, **VALUES, refractory=2, learn=learn)
    spikes, state = layer.run(x)
    assert isinstance(layer, Neuron)
    assert spikes.any()
    for channel in range(3):
        values = [getattr(layer, name)[channel].item() for name in NAMES]
        expected, last = adaptive_lif(x[:, :, channel], *values, refractory=2)
        assert torch.equal(spikes[:, :, channel], expected)
        assert all(torch.equal(ours[:, channel], theirs) for ours, theirs in zip(state, last, strict=True))


def test_recurrent_neurons_pass_their_values_to_the_operation():
    torch.manual_seed(0)
    x = torch.rand(30, 2, 3)
    layer = RecurrentAdaptiveLIF(3, **VALUES, refractory=2)
    nn.init.normal_(layer.recurrent_weight)
    spikes, state = layer.run(x)
    expected, last = recurrent_adaptive_lif(x, layer.recurrent_weight, *VALUES.values(), refractory=2)
    assert torch.equal(spikes, expected)
    assert all(map(torch.equal, state, last))
    assert torch.equal(layer(x), spikes)


def test_recurrent_weights_start_as_the_identity_and_are_heard_after_the_refractory_period():
    layer = RecurrentAdaptiveLIF(2, adaptation=0.0, refractory=2)
    assert torch.equal(layer.recurrent_weight, torch.eye(2))
    x = torch.zeros(8, 1, 2)
    x[0, 0, 0] = 1.0
    assert layer(x)[:, 0].nonzero().tolist() == [[0, 0], [3, 0], [6, 0]]


@kinds
def test_the_rule_of_credit_and_the_surrogate_reach_the_gradient(kind):
    torch.manual_seed(1)
    x = torch.rand(12, 2, 3, dtype=torch.float64, requires_grad=True)
    gradients = []
    for options in ({}, {"credit": "blocks"}, {"surrogate": MultiGaussian.published()}):
        layer = kind(3, threshold=0.5, refractory=3, learn=NAMES, **options).double()
        gradients.append(torch.autograd.grad(layer(x).square().sum(), x)[0])
    assert not torch.allclose(gradients[0], gradients[1])
    assert not torch.allclose(gradients[0], gradients[2])


def test_detaching_the_recurrence_matters():
    x = torch.rand(12, 2, 3, dtype=torch.float64, requires_grad=True)
    gradients = []
    for detach in (True, False):
        layer = RecurrentAdaptiveLIF(3, threshold=0.5, detach_recurrent=detach, learn=NAMES).double()
        gradients.append(torch.autograd.grad(layer(x).sum(), x)[0])
    assert not torch.allclose(*gradients)


@kinds
@pytest.mark.parametrize("credit", ["sequential", "blocks"])
def test_learned_values_gather_gradients_per_feature_and_stay_in_range(kind, credit):
    torch.manual_seed(2)
    layer = kind(3, **VALUES, refractory=3, credit=credit, learn=NAMES).double()
    for name, value in VALUES.items():  # they start exactly where asked
        torch.testing.assert_close(getattr(layer, name).detach(), value.double(), rtol=1e-6, atol=1e-7)
    layer(0.6 * torch.randn(200, 2, 3, dtype=torch.float64)).sum().backward()
    for parameter in layer.parameters():
        assert bool((parameter.grad != 0).all())
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(-50.0)
    assert 0 < layer.decay.min() < 1
    assert 0 < layer.adaptation_decay.min() < 1
    assert layer.threshold.min() > 0
    assert layer.adaptation.min() > 0


def test_the_threshold_can_learn_alone():
    layer = AdaptiveLIF(3, threshold=0.5, refractory=1, learn=("threshold",))
    assert [name for name, _ in layer.named_parameters()] == ["raw_threshold"]
    layer(torch.rand(20, 2, 3)).sum().backward()
    assert bool((layer.raw_threshold.grad < 0).all())  # a higher threshold means fewer spikes


def test_without_adaptation_it_is_a_lif_with_a_refractory_period():
    x = torch.rand(30, 2, 3)
    assert torch.equal(AdaptiveLIF(3, adaptation=0.0)(x), LIF(3, reset="zero")(x))
    spikes = AdaptiveLIF(3, adaptation=0.0, refractory=5)(x)
    assert bool((spikes.unfold(0, 6, 1).sum(-1) <= 1).all())
    with pytest.raises(ValueError, match="a learned adaptation must be above 0 and finite, got 0"):
        AdaptiveLIF(3, adaptation=0.0, learn=("adaptation",))


@kinds
@pytest.mark.parametrize("cuts", [(0,), (7,), (2, 2, 11), (20,)])
def test_cut_anywhere_is_the_whole(kind, cuts):
    torch.manual_seed(3)
    x, layer = torch.rand(20, 2, 5), kind(5, threshold=0.7, refractory=3)
    whole, last = layer.run(x)
    state, pieces = None, []
    for start, stop in itertools.pairwise((0, *cuts, 20)):
        piece, state = layer.run(x[start:stop], state)
        pieces.append(piece)
    assert torch.equal(torch.cat(pieces), whole)
    assert all(map(torch.equal, state, last))


@pytest.mark.parametrize(("credit", "steps"), [("sequential", 7), ("blocks", 8)])
def test_in_a_network_that_is_recomputed_and_recorded(credit, steps):
    torch.manual_seed(4)
    options = {"threshold": 0.3, "refractory": 3, "credit": credit, "learn": NAMES}
    network = Sequential(
        nn.Linear(6, 5),
        AdaptiveLIF(5, **options),
        nn.Linear(5, 4),
        RecurrentAdaptiveLIF(4, **options),
        LeakyReadout(4),
        input_rate=None,
    ).double()
    x = torch.rand(30, 2, 6, dtype=torch.float64)
    expected = torch.autograd.grad(network(x).square().sum(), list(network.parameters()))
    again = torch.autograd.grad(Recompute(network, steps)(x).square().sum(), list(network.parameters()))
    for ours, theirs in zip(again, expected, strict=True):
        assert theirs.any()
        torch.testing.assert_close(ours, theirs)
    with Recorder(network) as recorder, torch.no_grad():
        network(x)
    assert [layer.name for layer in recorder.layers()] == ["1 AdaptiveLIF(5)", "3 RecurrentAdaptiveLIF(4)"]
    assert all(0 < layer.rate <= 0.25 + 1 / 30 for layer in recorder.layers())


def test_say_what_they_are():
    values = "decay=0.9, threshold=1, adaptation_decay=0.99, adaptation=0.1"
    text = f"{values}, surrogate=FastSigmoid(dampening=1, sharpness=1), refractory=2, credit='blocks'"
    assert repr(AdaptiveLIF(5, refractory=2, credit="blocks")) == f"AdaptiveLIF(5, {text})"
    assert repr(RecurrentAdaptiveLIF(5, refractory=2, credit="blocks")) == f"RecurrentAdaptiveLIF(5, {text})"


@pytest.mark.usefixtures("as_a_user")
class TestErrors:
    @kinds
    def test_refractory(self, kind):
        with pytest.raises(ValueError, match=rf"{kind.__name__}: refractory must be .* at least 0, got -1"):
            kind(3, refractory=-1)

    @kinds
    def test_credit(self, kind):
        with pytest.raises(
            ValueError, match=rf"{kind.__name__}: credit must be one of 'sequential', 'blocks', got 'ramp'"
        ):
            kind(3, credit="ramp")

    @kinds
    def test_surrogate(self, kind):
        with pytest.raises(TypeError, match=r"surrogate must be an object such as FastSigmoid\(\), got"):
            kind(3, surrogate=FastSigmoid)

    def test_a_negative_adaptation(self):
        with pytest.raises(ValueError, match=r"a fixed adaptation must be at least 0 and finite, got -0\.1"):
            AdaptiveLIF(adaptation=-0.1)

    @kinds
    def test_a_state_of_another_batch(self, kind):
        _, state = kind(3).run(torch.ones(2, 5, 3))
        with pytest.raises(
            ValueError, match=r"state must have the shape of one time step of x, \(1, 3\), got \(5, 3\)"
        ):
            kind(3).run(torch.ones(2, 1, 3), state)

    def test_a_state_of_another_refractory_period(self):
        _, state = RecurrentAdaptiveLIF(3, refractory=1).run(torch.ones(2, 5, 3))
        with pytest.raises(ValueError, match=r"spikes of the last refractory \+ 1 steps, \(3, 5, 3\), got \(2, 5, 3\)"):
            RecurrentAdaptiveLIF(3, refractory=2).run(torch.ones(2, 5, 3), state)
