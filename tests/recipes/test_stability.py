"""The recipe whose surrogate and initialization are settings."""

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from rheobase import RecurrentLIF
from rheobase.recipes.stability import SHAPES, Initialization, Shape, Stability
from rheobase.recipes.tasks import TASKS
from rheobase.regularizers import Sparsity
from rheobase.surrogate import Exponential, FastSigmoid, QPseudoSpike
from rheobase.training import Training

SMALL = Stability(task="delayed-recall", samples=200, hidden=(30, 20))


@pytest.fixture(scope="module")
def splits():
    return SMALL.splits()


def prepared(recipe, splits):
    network = recipe.seeded_network()
    recipe.prepare(network, splits)
    return network


@pytest.mark.parametrize("initialization", get_args(Initialization))
def test_initializations(initialization, splits):
    recipe = replace(SMALL, initialization=initialization)
    if initialization.startswith("conditions"):  # those of the paper, in which memory is in the recurrence
        recipe = replace(recipe, decay=math.exp(-10), threshold=0.01)
    state = torch.get_rng_state()
    network, again = prepared(recipe, splits), prepared(recipe, splits)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, network.state_dict().values(), again.state_dict().values()))
    ours, theirs = ([layer.surrogate for layer in each if isinstance(layer, RecurrentLIF)] for each in (network, again))
    assert ours == theirs
    x, _ = splits.validation.batch(np.arange(32))
    rates = [each.mean().item() for each in (network[:2](x), network[:4](x))]
    if initialization in ("default", "stabilize", "stabilize even"):
        assert all(0.02 < rate < 0.3 for rate in rates), rates
    elif initialization.startswith("conditions"):
        assert rates[0] > 0.3
        # The largest gradient may not grow, or its variance: the first is much the narrower.
        assert (ours[0].dampening > 2) == initialization.endswith("IV")
    else:
        assert all(surrogate == FastSigmoid() for surrogate in ours)


def test_all_shapes():
    assert set(SHAPES) == set(get_args(Shape))
    assert replace(SMALL, shape="exponential", dampening=0.5, sharpness=2.0).surrogate() == Exponential(0.5, 2.0)
    assert replace(SMALL, shape="q-pseudo-spike", tail=3.0).surrogate() == QPseudoSpike(tail=3.0)
    with pytest.raises(ValueError, match="dampening must be positive"):
        replace(SMALL, dampening=0.0)


def test_it_trains(splits):
    training = Training(epochs=2, batch_size=50, learning_rate=3e-3, threads=1)
    result = replace(SMALL, training=training).train(splits)
    assert 0.2 < result.test.accuracy <= 1


@pytest.mark.parametrize("rate", [0.05, 0.4])
def test_rates_at_the_start(rate, splits):
    network = prepared(replace(SMALL, initialization="glorot", initial_rate=rate), splits)
    x, _ = splits.validation.batch(np.arange(32))
    assert all(each.mean().item() == pytest.approx(rate, abs=0.04) for each in (network[:2](x), network[:4](x)))


def test_a_penalty_makes_a_network_sparse(splits):
    recipe = replace(SMALL, hidden=(30,), initialization="glorot", initial_rate=0.4)
    training = Training(epochs=8, batch_size=20, learning_rate=1e-2, threads=1)
    free, sparse = (
        replace(recipe, sparsity=sparsity, training=training).train(splits).test.layers[0].rate
        for sparsity in (0.0, 20.0)
    )
    assert sparse < 0.5 * free


def test_the_penalty():
    assert SMALL.regularizers() == ()
    steps = TASKS["delayed-recall"].steps
    assert replace(SMALL, sparsity=2.0).regularizers() == (Sparsity(target=0.01, weight=2.0 * steps),)
    with pytest.raises(ValueError, match="sparsity must be at least 0"):
        replace(SMALL, sparsity=-1.0)
    with pytest.raises(ValueError, match="initial_rate must be in"):
        replace(SMALL, initial_rate=1.0)
