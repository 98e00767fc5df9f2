"""Weights that are deaf to the mean of what they hear, biases that are equal; and which are left alone."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from rheobase.stability.centring import centring

LAYERS = {
    "linear": (lambda: nn.Linear(20, 3), (50, 20)),
    "without a bias": (lambda: nn.Linear(20, 3, bias=False), (50, 20)),
    "convolution": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), (50, 4, 5, 5)),
    "stride": (lambda: nn.Conv1d(8, 3, 4, stride=2), (50, 8, 11)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_the_mean_of_the_output_is_its_bias(kind):
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    layer, x = make(), (torch.rand(shape) < 0.3).float()
    drawn = layer.weight.detach().clone()
    with torch.no_grad(), centring([], [layer]):
        layer(x)
    mean = layer(x).movedim(1, 0).flatten(1).mean(1)
    torch.testing.assert_close(mean, torch.zeros(len(mean)) if layer.bias is None else layer.bias)
    assert 0 < (layer.weight - drawn).norm() < 0.6 * drawn.norm()
    now = layer.weight.detach().clone()
    with torch.no_grad(), centring([], [layer]):
        layer(x)
    torch.testing.assert_close(layer.weight.detach(), now)
    assert not layer._forward_pre_hooks


@pytest.mark.parametrize("why", ["few", "frozen", "parametrized", "shared", "a normalization"])
def test_left_alone(why):
    torch.manual_seed(0)
    layer = nn.Linear(4 if why == "few" else 20, 3)
    if why == "frozen":
        layer.requires_grad_(False)
    if why == "parametrized":
        parametrizations.weight_norm(layer)
    normal = nn.LayerNorm(3)
    others = {layer.weight} if why == "shared" else frozenset()
    before = layer.weight.detach().clone()
    with torch.no_grad(), centring([], [normal if why == "a normalization" else layer], others):
        normal(layer(torch.rand(9, layer.in_features)))
    assert torch.equal(layer.weight, before)
    assert bool((normal.weight == 1).all())


def test_silence_changes_nothing():
    layer = nn.Linear(20, 3)
    before = layer.weight.detach().clone()
    with torch.no_grad(), centring([], [layer]):
        layer(torch.zeros(9, 20))
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("kind", LAYERS)
def test_before_neurons_biases_are_equal(kind):
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    layer, x = make(), (torch.rand(shape) < 0.3).float()
    with torch.no_grad(), centring([layer], []):
        heard = layer(x)
    mean = heard.movedim(1, 0).flatten(1).mean(1)
    torch.testing.assert_close(mean, torch.zeros_like(mean))
    assert not layer._forward_pre_hooks


def test_biases_that_were_chosen_become_their_mean():
    layer, biases = nn.Linear(20, 3), torch.tensor([-2.0, -2.2, -1.8])
    with torch.no_grad(), centring([layer], []):
        layer.bias.copy_(biases)
        heard = layer((torch.rand(50, 20) < 0.3).float())
    torch.testing.assert_close(heard.mean(0), torch.full((3,), -2.0))


def test_frozen_biases_stay():
    layer = nn.Linear(20, 3)
    layer.bias.requires_grad_(False)
    before = layer.bias.clone()
    with torch.no_grad(), centring([layer], []):
        layer(torch.rand(9, 20))
    assert torch.equal(layer.bias, before)


def test_what_never_varies_is_all_there_is_to_hear():
    layer = nn.Linear(20, 3)
    before = layer.weight.detach().clone()
    with torch.no_grad(), centring([layer], []):
        layer(torch.rand(20).expand(9, 20))
    assert torch.equal(layer.weight, before)
