import pytest
import torch

import rheobase as rb
from rheobase import Temporal


class Shift(Temporal):
    """A layer that a user might write: each step's output is the input of the step before."""

    def run(self, x, state=None):
        state = torch.zeros_like(x[:1]) if state is None else state
        longer = torch.cat((state, x))
        return longer[:-1], longer[-1:]


def test_a_call_is_a_run_from_rest_without_the_state():
    x = torch.arange(6.0).view(3, 2, 1)
    assert torch.equal(Shift()(x), Shift().run(x)[0])
    assert Shift()(x).flatten().tolist() == [0, 0, 0, 1, 2, 3]


def test_a_users_layer_streams_in_a_network():
    network, x = rb.Sequential(torch.nn.Identity(), Shift(), Shift()), torch.rand(7, 2, 3)
    first, state = network.run(x[:3])
    second, _ = network.run(x[3:], state)
    assert torch.equal(torch.cat((first, second)), network(x))
    assert torch.equal(network(x)[2:], x[:-2])


def test_the_base_does_nothing():
    with pytest.raises(NotImplementedError):
        Temporal()(torch.zeros(1, 1, 1))
