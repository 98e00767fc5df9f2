"""The networks of stochastic neurons, as published, and their controls."""

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from rheobase import PSN, SPSN, MaskedPSN, SlidingPSN, SynapticLIF, SynapticReadout
from rheobase.data import EventDataset, Zoom
from rheobase.recipes import Stochastic
from rheobase.recipes.stochastic import Kind
from rheobase.regularizers import TotalRate

TAU_20 = math.exp(-1 / 20)


def test_the_published_network():
    network = Stochastic(task="shd").network()
    assert sum(parameter.numel() for parameter in network.parameters()) == 125_332
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    assert [layer.in_features for layer in linear] == [700, 128, 128, 128]
    for layer in linear:
        bound = math.sqrt(3 / layer.in_features)
        assert 0.95 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.any()
    for layer in (network[1], network[-1]):
        assert isinstance(layer, SPSN | SynapticReadout)
        assert layer.decay.unique().item() == layer.synapse_decay.unique().item() == pytest.approx(TAU_20)


KINDS = dict(zip(get_args(Kind), (SPSN, SPSN, SynapticLIF, nn.ReLU, PSN, MaskedPSN, SlidingPSN), strict=True))


@pytest.mark.parametrize("kind", get_args(Kind))
def test_all_kinds_start_from_the_same_linear_layers(kind):
    networks = [Stochastic(neurons=one, hidden=(5, 6)).seeded_network() for one in ("SPSN-SB", kind)]
    for ours, theirs in zip(*networks, strict=True):
        if isinstance(ours, nn.Linear):
            assert torch.equal(ours.weight, theirs.weight)
    assert [type(layer) for layer in networks[1]][1::2] == [KINDS[kind], KINDS[kind], SynapticReadout]
    assert networks[1](torch.rand(100, 2, 140)).shape == (100, 2, 10)
    if kind.startswith("SPSN"):
        assert networks[1][1].sampler == ("gumbel" if kind == "SPSN-GS" else "bernoulli")


def test_normalized_currents_leave_the_linear_layers_as_they_are():
    plain, normalized = (Stochastic(normalize=one, hidden=(5, 6)).seeded_network() for one in (False, True))
    assert [type(layer) for layer in normalized][:3] == [nn.Linear, nn.BatchNorm1d, SPSN]
    linear = [[layer.weight for layer in network if isinstance(layer, nn.Linear)] for network in (plain, normalized)]
    assert all(map(torch.equal, *linear))


def test_the_lif_is_the_published_one():
    (layer,) = [one for one in Stochastic(neurons="LIF", hidden=(1,)).network() if isinstance(one, SynapticLIF)]
    spikes = layer(torch.full((200, 1, 1), 0.5)).flatten()
    assert spikes.nonzero().flatten()[:6].tolist() == [9, 14, 18, 22, 25, 28]
    assert spikes.sum() == 63
    # 1 / (1 + 100 |V - 1|)^2 with respect to V = (1 - decay) v.
    distance = torch.tensor(0.01)
    slope = layer.surrogate.derivative(distance / (1 - TAU_20)) / (1 - TAU_20)
    assert slope.item() == pytest.approx(1 / 4, rel=1e-4)


def test_the_penalty():
    assert Stochastic().regularizers() == Stochastic(neurons="non-spiking", rate=0.4).regularizers() == ()
    assert Stochastic(rate=0.4).regularizers() == (TotalRate(limit=0.4),)


def test_augmentation_is_of_the_training_set_alone():
    splits = Stochastic(augment=True, samples=20).splits()
    assert isinstance(splits.train, EventDataset)
    assert splits.train.augment == (Zoom(0.1, 0.7, 1.3),)
    assert isinstance(splits.test, EventDataset)
    assert splits.test.augment == ()
    plain = Stochastic(samples=20).splits().train
    assert isinstance(plain, EventDataset)
    assert plain.augment == ()


def test_training_measures_what_noise_does():
    recipe = Stochastic(hidden=(8,), samples=40, tau=5.0, rate=0.4)
    recipe = replace(recipe, training=replace(recipe.training, epochs=1))
    splits = recipe.splits()
    splits = replace(splits, validation=splits.validation.subset(np.arange(20)), test=splits.test.subset(np.arange(30)))
    result = recipe.train(splits)
    measures = result.summary["measures"]
    assert len(measures) == 5
    assert all(0 <= value <= 1 for value in measures.values())
    assert recipe.measure(Stochastic(neurons="LIF", hidden=(4,)).network(), splits.test) == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": (0,)}, "at least 1 neuron"),
        ({"tau": 0.0}, "tau must be above 0 and finite, got 0"),
        ({"rate": 1.0}, r"rate must be in \[0, 1\), or None for no penalty, got 1"),
        ({"order": 0}, "order must be at least 1, got 0"),
        ({"augment": True, "task": "sequential-mnist"}, "augment is for recordings of events"),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Stochastic(**settings)
