import itertools

import pytest
import torch

from rheobase import LIF, Neuron, RecurrentLIF
from rheobase.ops.recurrent import recurrent_lif


@pytest.mark.parametrize("learn", [(), ("decay", "threshold")])
def test_passes_its_values_to_the_operation(learn):
    torch.manual_seed(0)
    x = torch.randn(9, 2, 3)
    decay, threshold = torch.tensor([0.3, 0.6, 0.9]), torch.tensor([0.5, 0.7, 1.1])
    layer = RecurrentLIF(3, decay=decay, threshold=threshold, reset="zero", learn=learn)
    spikes, state = layer.run(x)
    expected, last = recurrent_lif(x, layer.recurrent_weight, layer.decay, layer.threshold, reset="zero")
    assert isinstance(layer, Neuron)
    assert torch.equal(spikes, expected)
    assert all(map(torch.equal, state, last))
    assert torch.equal(layer(x), spikes)


def test_the_recurrent_weights_are_heard_one_step_later():
    layer = RecurrentLIF(2, decay=0.0)
    layer.recurrent_weight.data = torch.tensor([[0.0, 0.0], [5.0, 0.0]])  # from the first neuron to the second
    x = torch.zeros(3, 1, 2)
    x[0, 0, 0] = 1.0
    assert layer(x).squeeze(1).tolist() == [[1, 0], [0, 1], [0, 0]]


def test_without_self_connections_the_diagonal_has_no_effect_and_no_gradient():
    torch.manual_seed(1)
    x = torch.rand(8, 2, 4)
    layer = RecurrentLIF(4, self_connections=False, threshold=0.5)
    before = layer(x)
    before.sum().backward()
    gradient = layer.recurrent_weight.grad
    assert not gradient.diagonal().any()
    assert gradient.count_nonzero() == 12
    layer.recurrent_weight.data.fill_diagonal_(100.0)
    assert torch.equal(layer(x), before)
    alone = RecurrentLIF(1, self_connections=False, threshold=0.5)
    assert torch.equal(alone(x[..., :1]), LIF(threshold=0.5)(x[..., :1]))


def test_weights_start_within_the_usual_bound():
    torch.manual_seed(2)
    weight = RecurrentLIF(400).recurrent_weight
    assert weight.abs().max() <= 0.05
    assert weight.std().item() == pytest.approx(0.05 / 3**0.5, rel=0.01)


@pytest.mark.parametrize("cuts", [(0,), (4,), (2, 2, 7), (8,)])
def test_cut_anywhere_is_the_whole(cuts):
    torch.manual_seed(3)
    x, layer = torch.rand(8, 2, 5), RecurrentLIF(5, threshold=0.7)
    whole, last = layer.run(x)
    state, pieces = None, []
    for start, stop in itertools.pairwise((0, *cuts, 8)):
        piece, state = layer.run(x[start:stop], state)
        pieces.append(piece)
    assert torch.equal(torch.cat(pieces), whole)
    assert all(map(torch.equal, state, last))


def test_detaching_the_recurrence_matters():
    torch.manual_seed(4)
    layer, detached = RecurrentLIF(5, threshold=0.5), RecurrentLIF(5, threshold=0.5, detach_recurrent=True)
    detached.load_state_dict(layer.state_dict())
    x = torch.rand(8, 2, 5, requires_grad=True)
    gradients = [torch.autograd.grad(each(x).sum(), x)[0] for each in (layer, detached)]
    assert not torch.allclose(*gradients)


def test_says_what_it_is():
    text = repr(RecurrentLIF(5, self_connections=False))
    settings = "surrogate=FastSigmoid(dampening=1, sharpness=1), reset='subtract', self_connections=False"
    assert text == f"RecurrentLIF(5, decay=0.9, threshold=1, {settings})"


@pytest.mark.usefixtures("as_a_user")
class TestErrors:
    def test_another_number_of_neurons(self):
        with pytest.raises(ValueError, match=r"RecurrentLIF\(3\): x must be \(T, B, 3, ...\), got shape \(2, 1, 4\)"):
            RecurrentLIF(3)(torch.ones(2, 1, 4))

    def test_a_state_of_another_batch(self):
        _, state = RecurrentLIF(3).run(torch.ones(2, 5, 3))
        with pytest.raises(
            ValueError, match=r"state must have the shape of one time step of x, \(1, 3\), got \(5, 3\)"
        ):
            RecurrentLIF(3).run(torch.ones(2, 1, 3), state)
