"""Tests of rheobase.layers.order."""

from torch import nn

from rheobase import LIF, Recompute, Sequential, standardise
from rheobase.layers.order import in_order


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
    layer = standardise(nn.Linear(2, 2), 0.5)
    assert list(in_order(layer, "x")) == [("x", layer)]
