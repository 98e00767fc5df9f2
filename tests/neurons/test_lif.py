import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rheobase as rb
from rheobase import LIF, Neuron, Temporal
from rheobase.ops.lif import lif
from rheobase.surrogate import FastSigmoid, Triangular

RESETS = ("subtract", "zero", "none")


def test_is_a_neuron_over_time():
    assert isinstance(LIF(), Neuron)
    assert isinstance(LIF(), Temporal)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("learn", [(), ("decay",), ("decay", "threshold")])
@pytest.mark.parametrize("space", [(), (2,), (3, 3)])
def test_passes_its_values_to_the_operation(reset, learn, space):
    torch.manual_seed(0)
    # As many rows of a map as channels: values must follow the channels, not the rows.
    x = torch.randn(8, 2, 3, *space)
    decay, threshold = torch.tensor([0.3, 0.6, 0.9]), torch.tensor([0.5, 0.7, 1.1])
    layer = LIF(3, decay=decay, threshold=threshold, reset=reset, learn=learn)
    y, state = layer.run(x)
    for channel in range(3):
        expected, last = lif(
            x[:, :, channel], layer.decay[channel].item(), layer.threshold[channel].item(), reset=reset
        )
        assert torch.equal(y[:, :, channel], expected)
        assert torch.equal(state[:, channel], last)


def test_without_features_one_value_serves_all():
    layer = LIF(decay=0.5, threshold=0.7)
    for shape in [(4, 2), (4, 2, 3), (4, 1, 2, 5, 5), (0, 2, 3), (4, 0, 3), (4, 2, 0)]:
        x = torch.rand(shape)
        assert torch.equal(layer(x), lif(x, 0.5, 0.7)[0])


def test_the_surrogate_and_the_reset_reach_the_gradient():
    x = torch.rand(6, 2, 3)
    gradients = []
    for options in ({}, {"surrogate": Triangular()}, {"reset_gradient": "attached"}):
        leaf = x.clone().requires_grad_()
        LIF(threshold=0.5, **options)(leaf).sum().backward()
        leaf_op = x.clone().requires_grad_()
        lif(leaf_op, 0.9, 0.5, **options)[0].sum().backward()
        torch.testing.assert_close(leaf.grad, leaf_op.grad)
        gradients.append(leaf.grad)
    assert not torch.allclose(gradients[0], gradients[1])
    assert not torch.allclose(gradients[0], gradients[2])


@pytest.mark.parametrize("space", [(), (4, 4)])
def test_learned_values_gather_gradients_per_feature(space):
    torch.manual_seed(1)
    layer = LIF(3, threshold=0.5, learn=("decay", "threshold"))
    layer(torch.rand(6, 2, 3, *space)).sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad.shape == (3,)
        assert bool((parameter.grad != 0).all())
    # A higher threshold means fewer spikes: by the surrogate, for each neuron.
    assert bool((layer.raw_threshold.grad < 0).all())


@given(st.lists(st.integers(0, 15), max_size=4), st.sampled_from(RESETS), st.integers(0, 2**32 - 1))
def test_cut_anywhere_is_the_whole(cuts, reset, seed):
    x = torch.randn(15, 2, 3, generator=torch.Generator().manual_seed(seed))
    layer = LIF(3, decay=torch.tensor([0.5, 0.9, 1.0]), threshold=0.8, reset=reset)
    whole, last = layer.run(x)
    bounds = [0, *sorted(cuts), 15]
    state, pieces = None, []
    for start, stop in itertools.pairwise(bounds):
        piece, state = layer.run(x[start:stop], state)
        pieces.append(piece)
    assert torch.equal(torch.cat(pieces), whole)
    assert torch.equal(state, last)
    assert torch.equal(layer(x), whole)


def test_nothing_is_remembered_between_calls():
    layer = LIF(3)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    x = torch.rand(5, 2, 3)
    first = layer(x)
    layer(torch.rand(3, 7, 3))
    assert torch.equal(layer(x), first)
    assert layer.state_dict().keys() == before.keys()
    assert all(torch.equal(layer.state_dict()[name], value) for name, value in before.items())


def test_gradients_flow_from_piece_to_piece():
    x = torch.rand(6, 2, 3, requires_grad=True)
    layer = LIF(3, threshold=0.6)
    (whole,) = torch.autograd.grad(layer(x).sum(), x)
    first, state = layer.run(x[:2])
    second, _ = layer.run(x[2:], state)
    (pieces,) = torch.autograd.grad(first.sum() + second.sum(), x)
    torch.testing.assert_close(pieces, whole)


@pytest.mark.usefixtures("as_a_user")
class TestErrors:
    def test_reset(self):
        with pytest.raises(ValueError, match="LIF: reset must be one of 'subtract', 'zero', 'none', got 'hard'"):
            LIF(reset="hard")

    @pytest.mark.parametrize("surrogate", [FastSigmoid, "fast_sigmoid"])
    def test_surrogate(self, surrogate):
        with pytest.raises(TypeError, match=r"LIF: surrogate must be an object such as FastSigmoid\(\), got "):
            LIF(surrogate=surrogate)

    @pytest.mark.parametrize("features", [None, 3])
    @pytest.mark.parametrize("x", [torch.ones(2, 1, 3).numpy(), [[[1.0, 1.0, 1.0]]], torch.ones(2, 1, 3).long()])
    def test_no_sequence(self, features, x):
        with pytest.raises(TypeError, match=r"LIF.*: x must be"):
            LIF(features)(x)

    def test_a_state_of_another_batch(self):
        with pytest.raises(ValueError, match=r"LIF: state must have the shape of one .*\(2, 3\), got \(4, 3\)"):
            LIF(3).run(torch.ones(5, 2, 3), torch.zeros(4, 3))

    def test_a_layer_left_on_another_device(self):
        with pytest.raises(ValueError, match="decay is on meta, x is on cpu"):
            LIF(3).to("meta")(torch.ones(5, 2, 3))


def test_printing_shows_what_a_network_made_of_the_surrogate_and_the_gradient_of_the_reset():
    network = rb.Sequential(torch.nn.Linear(20, 30), LIF(30, reset_gradient="attached"), torch.nn.Linear(30, 3))
    surrogate = network[1].surrogate
    assert surrogate.dampening != 1
    assert f"FastSigmoid(dampening={surrogate.dampening:.3g}, sharpness=1), reset='subtract'" in repr(network)
    assert "reset='subtract', reset_gradient='attached')" in repr(network)
    shown = "surrogate=QPseudoSpike(dampening=1, sharpness=0.333, tail=1.56)"
    assert shown in repr(LIF(surrogate=rb.surrogate.QPseudoSpike(sharpness=1 / 3)))
    assert repr(rb.SlidingPSN(3)) == "SlidingPSN(order=3, surrogate=Arctan(dampening=1, sharpness=1))"
    assert repr(rb.MaskedPSN(3, 2)) == "MaskedPSN(steps=3, surrogate=Arctan(dampening=1, sharpness=1), order=2)"
    assert "surrogate" not in repr(rb.SPSN(3))
