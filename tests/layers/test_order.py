"""Tests of rheobase.layers.order."""

import re

import pytest
from torch import nn

from rheobase import LIF, Hold, NoiseAveraged, Recompute, Sequential, SingleSpike, standardize
from rheobase.layers.order import InSequence, check_order, in_order


def test_containers_in_sequence_are_entered():
    inner = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Linear(2, 2)))
    network = Sequential(nn.Linear(2, 2), Recompute(Sequential(LIF(2), inner)), nn.Flatten())
    kinds = [(name, type(layer).__name__) for name, layer in in_order(network)]
    assert kinds == [
        ("0", "Linear"),
        ("1.layer.0", "LIF"),
        ("1.layer.1.0", "Dropout"),
        ("1.layer.1.1.0", "Linear"),
        ("2", "Flatten"),
    ]
    modules = dict(network.named_modules())
    assert all(modules[name] is layer for name, layer in in_order(network))


def test_other_layers_count_as_one():
    layer = standardize(nn.Linear(2, 2), 0.5)
    assert list(in_order(layer, "x")) == [("x", layer)]


class Mine(InSequence):
    def __init__(self, *layers):
        super().__init__()
        self.first, self.second = layers


def test_so_are_those_that_say_they_are():
    network = Sequential(Mine(SingleSpike(2), Sequential(nn.Flatten())))
    assert [name for name, _ in in_order(network)] == ["0.first", "0.second.0"]


def test_a_layer_that_is_used_twice_comes_twice():
    pooling = nn.AvgPool2d(2)
    assert [name for name, _ in in_order(Sequential(pooling, nn.Sequential(nn.Tanh(), pooling)))] == ["0", "1.0", "1.1"]


def test_what_is_hidden_in_others_is_refused():
    check_order(Sequential(Hold(2), Mine(SingleSpike(2), nn.Linear(2, 2)), nn.Bilinear(2, 1, 1)), "look", Hold)
    hidden = NoiseAveraged(Sequential(SingleSpike(2), Hold(3)), draws=2)
    message = "look: layer 1, NoiseAveraged, holds a Hold (layer.1) but is not a sequential container"
    with pytest.raises(TypeError, match=re.escape(message)):
        check_order(Sequential(nn.Identity(), hidden), "look", Hold)
    with pytest.raises(TypeError, match=re.escape("look: network, NoiseAveraged, holds a Hold (layer.1)")):
        check_order(hidden, "look", Hold)
