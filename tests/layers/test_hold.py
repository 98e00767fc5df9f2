"""Tests of rheobase.layers.hold."""

import pytest
import torch
from torch import nn

from rheobase import Hold, Sequential, SingleSpike


def test_a_picture_is_held_without_a_copy():
    picture = torch.rand(1, 3, 2, 4, 4)
    held = Hold(8)(picture)
    assert held.shape == (8, 3, 2, 4, 4)
    assert (held == picture).all()
    assert held.untyped_storage().data_ptr() == picture.untyped_storage().data_ptr()


def test_each_step_of_a_sequence_is_held_so_pieces_give_the_whole():
    x = torch.rand(5, 2, 3)
    layer = Hold(3)
    whole = layer(x)
    assert torch.equal(whole.view(5, 3, 2, 3), x.unsqueeze(1).expand(5, 3, 2, 3))
    first, state = layer.run(x[:2])
    second, _ = layer.run(x[2:], state)
    assert torch.equal(torch.cat((first, second)), whole)
    assert layer(x[:0]).shape == (0, 2, 3)


def test_a_layer_in_front_of_it_is_the_layer_of_a_repeated_picture():
    torch.manual_seed(0)
    layer, neurons, picture = nn.Conv2d(1, 3, 3), SingleSpike(3, decay=1.0), torch.rand(1, 4, 1, 6, 6)
    once, repeated = Sequential(layer, Hold(6), neurons).double(), Sequential(layer, neurons).double()
    gradients = []
    for network, x in ((once, picture.double()), (repeated, picture.double().expand(6, 4, 1, 6, 6))):
        spikes = network(x)
        assert spikes.any()
        gradients.append((spikes, *torch.autograd.grad(spikes.square().sum(), list(layer.parameters()))))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_it_holds_for_a_step_at_least(as_a_user, steps):
    with pytest.raises(ValueError, match=f"Hold: steps must be a whole number, at least 1, got {steps}"):
        Hold(steps)


def test_it_says_how_long():
    assert repr(Hold(8)) == "Hold(steps=8)"
