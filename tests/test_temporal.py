from typing import Any, NamedTuple

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


def test_a_run_that_returns_no_state_is_named():
    class Crossings(Temporal):
        def run(self, x, state=None):
            return (x > 1).float()

    with pytest.raises(TypeError, match=r"Crossings.run must return a pair, .* got a Tensor"):
        Crossings()(torch.rand(40, 3, 5))


def test_a_users_layer_streams_in_a_network():
    network, x = rb.Sequential(torch.nn.Identity(), Shift(), Shift()), torch.rand(7, 2, 3)
    first, state = network.run(x[:3])
    second, _ = network.run(x[3:], state)
    assert torch.equal(torch.cat((first, second)), network(x))
    assert torch.equal(network(x)[2:], x[:-2])


def test_learning_piece_by_piece_is_truncated_backpropagation():
    torch.manual_seed(0)
    layers = torch.nn.Linear(3, 8), rb.RecurrentLIF(8, learn=("decay",)), torch.nn.Linear(8, 2), rb.SynapticReadout(2)
    network, x = rb.Sequential(*layers, rb.SPSN(2)), torch.rand(12, 2, 3)

    def gradients() -> list[torch.Tensor]:
        found = [parameter.grad.clone() for parameter in network.parameters()]
        network.zero_grad()
        return found

    torch.manual_seed(1)  # SPSN draws
    state = None
    for piece in x.split(4):
        y, state = network.run(piece, state)
        y.square().sum().backward()
        state = rb.detach(state)
    by_hand = gradients()
    torch.manual_seed(1)
    rb.Recompute(network, steps=4, truncated=True)(x).square().sum().backward()
    torch.testing.assert_close(by_hand, gradients())
    torch.manual_seed(1)
    network(x).square().sum().backward()
    assert not torch.allclose(by_hand[0], gradients()[0])  # which sees the whole


class Named(NamedTuple):
    first: Any
    second: Any


def test_a_state_of_any_shape_is_detached():
    x = torch.ones(2, requires_grad=True) * 2
    state = {"a": [x, None, (x, 3)], "b": Named(x, 0.5)}
    free = rb.detach(state)
    assert isinstance(free["b"], Named)
    assert (free["a"][1], free["a"][2][1], free["b"].second) == (None, 3, 0.5)
    for tensor in (free["a"][0], free["a"][2][0], free["b"].first):
        assert torch.equal(tensor, x)
        assert not tensor.requires_grad
    assert x.requires_grad
    with pytest.raises(TypeError, match=r"detach: state must hold tensors, .* got a Linear"):
        rb.detach([torch.nn.Linear(1, 1)])


def test_the_base_does_nothing():
    with pytest.raises(NotImplementedError):
        Temporal()(torch.zeros(1, 1, 1))
