"""Fluctuation-driven initialization: the membrane potential is what was asked for."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import rheobase as rb
from rheobase.stability import fluctuation_driven


def membrane(layer, neurons, x):
    """The membrane potential of neurons that never fire, after all of `x`."""
    settings = {"threshold": 1e9, "decay": neurons.decay}
    if isinstance(neurons, rb.SynapticLIF):
        _, (last, _) = rb.SynapticLIF(neurons.features, synapse_decay=neurons.synapse_decay, **settings).run(layer(x))
        return last
    return rb.LIF(neurons.features, **settings).run(layer(x))[1]


@pytest.mark.parametrize("mean", [0.0, 0.4, -0.5])
@pytest.mark.parametrize(
    "neurons", [rb.LIF(200, decay=0.9), rb.SynapticLIF(200), rb.LIF(200, decay=0.5, threshold=0.3)]
)
def test_mean_and_deviation_of_the_membrane_potential(neurons, mean):
    torch.manual_seed(0)
    threshold = neurons.threshold.mean().item()
    mean *= threshold
    layer = nn.Linear(400, 200)
    fluctuation_driven(layer, neurons, rate=0.05, mean=mean, xi=2.0)
    x = (torch.rand(150, 64, 400) < 0.05).float()
    last = membrane(layer, neurons, x).detach()
    deviation = (threshold - mean) / 2
    assert last.mean().item() == pytest.approx(mean, abs=0.1 * deviation)
    # Over neurons, too: inputs that spike more often than others do so for all time.
    within = last.var(0).mean().sqrt().item()
    assert within == pytest.approx(deviation * 0.95**0.5, rel=0.1)
    assert not layer.bias.any()


@pytest.mark.parametrize("kind", [rb.RecurrentLIF, rb.RecurrentAdaptiveLIF])
def test_recurrent_weights_make_a_tenth_of_the_variance(kind):
    torch.manual_seed(0)
    layer, neurons = nn.Linear(400, 300), kind(300)
    fluctuation_driven(layer, neurons, rate=0.05)
    shares = 400 * layer.weight.var(), 300 * neurons.recurrent_weight.var()
    assert (shares[0] / shares[1]).item() == pytest.approx(9, rel=0.05)


def test_a_convolution():
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 64, 5)
    fluctuation_driven(layer, rb.LIF(64, decay=0.0), rate=0.1)
    assert layer.weight.std().item() == pytest.approx((8 * 25 * 0.1) ** -0.5, rel=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0.0}, "rate must be in"),
        ({"rate": 0.1, "xi": 0.0}, "xi must be above 0"),
        ({"rate": 0.1, "mean": 1.0}, "mean must be below the threshold, 1, got 1.0"),
        ({"rate": 0.001, "mean": 0.9, "xi": 3.0}, "choose a mean nearer 0"),
    ],
)
def test_what_cannot_be(settings, message):
    layer = nn.Linear(20, 5)
    before = layer.weight.clone()
    with pytest.raises(ValueError, match=message):
        fluctuation_driven(layer, rb.LIF(5), **settings)
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize(
    "compute",
    [
        lambda layer: rb.standardize(layer, 0.01),
        rb.quantize,
        lambda layer: prune.random_unstructured(layer, "weight", 0.5),
    ],
)
def test_computed_weights_are_refused(compute):
    with pytest.raises(TypeError, match="weight of Linear must be a parameter, but it is computed from others"):
        fluctuation_driven(compute(nn.Linear(50, 20)), rb.LIF(20), rate=0.05)
