import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import rheobase as rb
from rheobase import Neuron, SingleSpike
from rheobase.health import Recorder
from rheobase.ops import first_spikes, single_spike
from rheobase.surrogate import Arctan, FastSigmoid, Triangular

CREDITS = ("ramp", "early_ramp", "product", "detached")


def test_is_a_neuron():
    assert isinstance(SingleSpike(), Neuron)
    assert "credit='product', fire_by_end=True" in repr(SingleSpike(3, credit="product", fire_by_end=True))


@pytest.mark.parametrize("learn", [(), ("decay", "threshold")])
@pytest.mark.parametrize("space", [(), (3, 3)])
def test_passes_its_values_to_the_operation(learn, space):
    torch.manual_seed(0)
    x = torch.randn(8, 2, 3, *space)
    decay, threshold = torch.tensor([0.3, 0.6, 0.9]), torch.tensor([0.5, 0.7, 1.1])
    layer = SingleSpike(3, decay=decay, threshold=threshold, learn=learn)
    y, state = layer.run(x)
    assert torch.equal(layer(x), y)
    for channel in range(3):
        values = layer.decay[channel].item(), layer.threshold[channel].item()
        expected, last = single_spike(x[:, :, channel], *values)
        assert torch.equal(y[:, :, channel], expected)
        assert all(torch.equal(part[:, channel], right) for part, right in zip(state, last, strict=True))


@pytest.mark.parametrize("credit", CREDITS)
def test_the_rule_reaches_the_operation(credit):
    x = torch.rand(6, 2, 3, requires_grad=True)
    rule = {"surrogate": Triangular(), "credit": credit}
    for fire_by_end in (False, True):
        layer = SingleSpike(threshold=0.8, **rule, fire_by_end=fire_by_end)
        expected = first_spikes(x, 0.9, 0.8, **rule, fire_by_end=fire_by_end)
        assert torch.equal(layer(x), expected)
        delta = torch.rand(6, 2, 3)
        assert torch.equal(*(torch.autograd.grad(y, x, delta)[0] for y in (layer(x), expected)))


@pytest.mark.parametrize("width", [1.0, 3.0])
@pytest.mark.parametrize("fire_by_end", [False, True])
def test_integrate_and_fire(width, fire_by_end):
    layer = SingleSpike.integrate_and_fire(3, width=width, threshold=0.8, fire_by_end=fire_by_end, learn=("threshold",))
    assert (layer.features, layer.decay.tolist(), layer.learn) == (3, [1, 1, 1], ("threshold",))
    x = torch.randn(6, 2, 3, requires_grad=True)
    rule = {"surrogate": Arctan(sharpness=1 / width), "credit": "product", "fire_by_end": fire_by_end}
    expected = first_spikes(x, 1.0, layer.threshold.detach(), **rule)
    assert torch.equal(layer(x), expected)
    delta = torch.rand(6, 2, 3)
    assert torch.equal(*(torch.autograd.grad(y, x, delta)[0] for y in (layer(x), expected)))


def test_integrate_and_fire_by_default():
    layer = SingleSpike.integrate_and_fire()
    assert (layer.features, layer.threshold.item(), layer.learn, layer.fire_by_end) == (None, 1, (), False)
    assert layer.surrogate == Arctan()


@pytest.mark.usefixtures("as_a_user")
def test_integrate_and_fire_refuses():
    for width in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"width must be above 0 and finite, got {width}"):
            SingleSpike.integrate_and_fire(width=width)
    with pytest.raises(ValueError, match="a learned decay must be"):
        SingleSpike.integrate_and_fire(learn=("decay",))


@settings(max_examples=20)
@given(st.integers(0, 15), st.sampled_from(CREDITS), st.integers(0, 2**32 - 1))
def test_cut_anywhere_is_the_whole(cut, credit, seed):
    x = torch.randn(15, 2, 3, generator=torch.Generator().manual_seed(seed))
    layer = SingleSpike(3, decay=torch.tensor([0.5, 0.9, 1.0]), threshold=0.8, credit=credit)
    whole, last = layer.run(x)
    first, state = layer.run(x[:cut])
    second, state = layer.run(x[cut:], state)
    assert torch.equal(torch.cat((first, second)), whole)
    assert all(map(torch.equal, state, last))
    assert torch.equal(layer(x), whole)


@pytest.mark.parametrize("credit", CREDITS)
def test_a_network_recomputed_in_pieces_has_the_same_gradient(credit):
    torch.manual_seed(0)
    layer = SingleSpike(16, threshold=0.6, credit=credit, learn=("decay", "threshold"))
    network = rb.Sequential(nn.Linear(5, 16), layer, nn.Linear(16, 2), rb.LeakyReadout(2))
    x = torch.rand(30, 3, 5, requires_grad=True)
    leaves = [x, *network.parameters()]
    wanted = torch.autograd.grad(network(x).square().sum(), leaves)
    y = rb.Recompute(network, steps=7)(x)
    for ours, theirs in zip(torch.autograd.grad(y.square().sum(), leaves), wanted, strict=True):
        scale = theirs.abs().max().item()
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * max(1, scale))


def test_spike_lists_after_it_change_nothing():
    torch.manual_seed(0)
    inputs = (torch.rand(50, 8, 40) < 0.2).float()
    layers = [nn.Linear(40, 200), SingleSpike(200, threshold=0.3), nn.Linear(200, 128)]
    hidden = rb.Sequential(*layers[:2])(inputs)
    assert 0 < hidden.mean() < 0.03
    dense, lists = (rb.Sequential(*layers[:2], rb.SpikeLinear(200, 128, path=path)) for path in ("dense", "lists"))
    lists[2].load_state_dict(dense[2].state_dict())
    gradients = []
    for network in (dense, lists):
        loss = network(inputs).square().mean()
        gradients.append(torch.autograd.grad(loss, [layers[0].weight, network[2].weight]))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_recorder_counts_at_most_one_spike_of_each_neuron():
    torch.manual_seed(0)
    network = rb.Sequential(nn.Linear(4, 30), SingleSpike(30, fire_by_end=True), nn.Linear(30, 2), rb.LeakyReadout(2))
    with Recorder(network) as recorder:
        network(torch.rand(20, 5, 4))
    (layer,) = recorder.layers()
    assert layer.spikes_per_sample == 30
    assert layer.rate == pytest.approx(1 / 20)


def test_a_learned_threshold_is_redundant_behind_a_linear_layer():
    torch.manual_seed(0)
    x = torch.rand(20, 4, 5)
    linear, scaled = nn.Linear(5, 3), nn.Linear(5, 3)
    threshold = torch.tensor([0.5, 1.0, 2.0])
    with torch.no_grad():  # powers of two, so that nothing is rounded
        scaled.weight.copy_(linear.weight / threshold[:, None])
        scaled.bias.copy_(linear.bias / threshold)
    assert torch.equal(SingleSpike(3, threshold=threshold)(linear(x)), SingleSpike(3)(scaled(x)))


def test_training_starts_without_a_single_spike():
    torch.manual_seed(0)
    x = (torch.rand(20, 16, 10) < 0.3).float()
    layer = SingleSpike(40, surrogate=FastSigmoid(sharpness=5.0), learn=("decay", "threshold"))
    network = rb.Sequential(nn.Linear(10, 40), layer, nn.Linear(40, 2), rb.LeakyReadout(2), input_rate=None)
    with torch.no_grad():
        network[0].weight.mul_(0.1)
        network[0].bias.zero_()
    assert network[:2](x).sum() == 0
    target = torch.arange(16) % 2
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(x).sum(0), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert network[:2](x).sum() > 0
    assert losses[-1] < 0.8 * losses[0]


def test_pieces_do_not_know_their_end():
    layer = SingleSpike(fire_by_end=True)
    with pytest.raises(ValueError, match=r"SingleSpike: fire_by_end needs the whole sequence, .*call the layer"):
        layer.run(torch.ones(3, 2, 2))
    assert layer(torch.zeros(3, 2, 2))[2].eq(1).all()


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"credit": "v1"},
            ValueError,
            "SingleSpike: credit must be one of 'ramp', 'early_ramp', 'product', 'detached'",
        ),
        ({"surrogate": FastSigmoid}, TypeError, "SingleSpike: surrogate must be an object"),
        ({"threshold": 0.0}, ValueError, "SingleSpike: a fixed threshold must be above 0"),
        ({"learn": ("credit",)}, ValueError, "SingleSpike: learn may name 'decay', 'threshold'"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        SingleSpike(3, **arguments)
