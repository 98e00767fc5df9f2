"""The networks of one spike per neuron, as published, and their controls."""

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from rheobase import LIF, LeakyReadout, Neuron, SingleSpike
from rheobase.recipes import SingleSpikeConvolutions, SingleSpikes, find
from rheobase.recipes.single_spike import Kind


def neurons(network: nn.Module) -> list[Neuron]:
    return [layer for layer in network.modules() if isinstance(layer, Neuron)]


def test_the_published_network() -> None:
    network = SingleSpikes(task="mnist", hidden=(800,)).network()
    first, hidden, last, readout = network
    assert (first.in_features, first.out_features, last.out_features) == (784, 800, 10)
    assert isinstance(hidden, SingleSpike)
    assert isinstance(readout, LeakyReadout)
    assert hidden.credit == "ramp"
    assert hidden.surrogate.derivative(torch.tensor(0.1)) == pytest.approx(1 / 4)  # 1 / (10 * 0.1 + 1)^2
    torch.testing.assert_close(hidden.decay.detach(), torch.full((800,), math.exp(-0.1)))
    torch.testing.assert_close(readout.decay.detach(), torch.full((10,), math.exp(-0.05)))
    assert 0.99 / 28 < first.weight.abs().max() <= 1 / 28
    assert not first.bias.any()
    assert {name.rpartition(".")[2] for name, _ in network.named_parameters()} == {"weight", "bias", "raw_decay"}


def test_yin_yang_starts_with_wider_weights() -> None:
    """And no other task: the recipe that is offered is the same for all."""
    offered = find("single-spike").recipe
    assert isinstance(offered, SingleSpikes)
    for recipe, greatest in (
        (offered, 2.0),
        (replace(offered, task="mnist", hidden=(800,)), 1 / 28),
        (replace(offered, task="spoken-digits"), 140**-0.5),
        (replace(offered, input_gain=0.5), 0.25),
    ):
        assert 0.95 * greatest < recipe.network()[0].weight.abs().max() <= greatest


def test_yin_yang_starts_with_spikes() -> None:
    splits = SingleSpikes().splits()
    x, _ = splits.test.batch(np.arange(50))
    with torch.no_grad():
        assert SingleSpikes().seeded_network()[:2](x).mean() * len(x) > 0.3
        assert SingleSpikes(input_gain=1.0).seeded_network()[:2](x).mean() * len(x) < 0.01


@pytest.mark.parametrize("kind", get_args(Kind))
def test_all_kinds_start_from_the_same_weights(kind: Kind) -> None:
    networks = [SingleSpikes(neurons=one, input_gain=4.0).seeded_network() for one in ("single spike", kind)]
    for ours, theirs in zip(*(list(network.parameters()) for network in networks), strict=True):
        assert torch.equal(ours, theirs)
    (layer,) = neurons(networks[1])
    assert isinstance(layer, LIF if kind == "multi-spike" else SingleSpike)
    x = torch.zeros(100, 3, 4)
    x[:20] = 1
    counts = [network[:2](x).sum(0) for network in networks]
    assert counts[0].max() == 1
    assert (counts[1].max() > 1) == (kind == "multi-spike")
    assert torch.equal(counts[0] > 0, counts[1] > 0)


def test_fixed_decays() -> None:
    network = SingleSpikes(learn_decay=False).network()
    assert {name for name, _ in network.named_parameters()} == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_convolutions() -> None:
    recipe = SingleSpikeConvolutions(channels=(3, 5), hidden=7)
    network = recipe.network()
    assert network(torch.rand(8, 2, 1, 28, 28)).shape == (8, 2, 10)
    assert [layer.features for layer in neurons(network)] == [3, 5, 7]
    convolutions = [layer for layer in network if isinstance(layer, nn.Conv2d)]
    for layer, fan_in in zip(convolutions, (25, 75), strict=True):
        assert 0.8 * fan_in**-0.5 < layer.weight.abs().max() <= fan_in**-0.5
    full = SingleSpikeConvolutions().network()
    linear = [layer for layer in full if isinstance(layer, nn.Linear)]
    assert [layer.in_features for layer in linear] == [3136, 1000]


def test_a_layer_needs_a_neuron() -> None:
    with pytest.raises(ValueError, match="at least 1 neuron"):
        SingleSpikes(hidden=(0,))
    with pytest.raises(ValueError, match="at least 1 neuron"):
        SingleSpikeConvolutions(hidden=0)


@pytest.mark.parametrize("name", ["tau", "readout_tau", "input_gain"])
def test_what_must_be_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be above 0 and finite, got 0"):
        SingleSpikes(**{name: 0.0})


def test_there_is_a_step() -> None:
    with pytest.raises(ValueError, match="steps must be at least 1, got -1"):
        SingleSpikeConvolutions(steps=-1)
