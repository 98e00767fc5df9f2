"""Tests of rheobase.layers.standardized: weights that keep their variance, and what they fold into."""

import copy
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rheobase import LeakyReadout, Sequential, SingleSpike, fold, standardize
from rheobase.layers import standardized
from rheobase.layers.standardized import StandardizedWeight
from rheobase.training import checkpoint
from rheobase.training.checkpoint import Position

KINDS = [
    (lambda: nn.Linear(6, 4), (5, 6)),
    (lambda: nn.Conv1d(2, 4, 3), (5, 2, 7)),
    (lambda: nn.Conv2d(2, 4, 3, stride=2, padding=1), (5, 2, 7, 7)),
    (lambda: nn.Conv3d(2, 4, 2), (5, 2, 4, 4, 4)),
    (lambda: nn.Conv2d(4, 4, 3, groups=2, bias=False), (5, 4, 7, 7)),
]


def free(layer):
    return layer.parametrizations["weight"].original


def test_the_golden_vector():
    """W = (1, 2, 3, 4), T = 8, four inputs: sqrt(T / N) (W - mean) / deviation."""
    weight = StandardizedWeight(1, variance=8 / 4)(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    expected = torch.tensor([[-1.897367, -0.632456, 0.632456, 1.897367]])
    torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=1e-6)


def test_the_gradient_through_mean_and_deviation():
    """dL/dW = sqrt(variance) / deviation * (g - mean(g) - z mean(g z)), with the means over the inputs."""
    torch.manual_seed(0)
    rule = StandardizedWeight(3, variance=0.4, gain=False).double()
    weight = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    g = torch.randn(3, 7, dtype=torch.float64)
    (ours,) = torch.autograd.grad(rule(weight), weight, g)
    deviation = weight.detach().std(1, unbiased=False, keepdim=True)
    z = (weight.detach() - weight.detach().mean(1, keepdim=True)) / deviation
    expected = rule.deviation / deviation * (g - g.mean(1, keepdim=True) - z * (g * z).mean(1, keepdim=True))
    torch.testing.assert_close(ours, expected)


@given(
    st.integers(2, 9), st.integers(1, 5), st.floats(0.01, 100), st.sampled_from(["output", "layer"]), st.integers(0, 99)
)
def test_mean_and_variance_are_kept_whatever_is_learned(inputs, outputs, variance, over, seed):
    generator = torch.Generator().manual_seed(seed)
    rule = StandardizedWeight(outputs, variance, over=over).double()
    weight = rule(3 * torch.randn(outputs, inputs, generator=generator, dtype=torch.float64) + 1).detach()
    axes = (0, 1) if over == "layer" else (1,)
    scale = variance**0.5
    assert weight.mean(axes).abs().max() < 1e-12 * scale
    torch.testing.assert_close(
        weight.var(axes, unbiased=False) / variance, torch.ones_like(weight.mean(axes)), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize(("make", "shape"), KINDS)
def test_any_linear_or_convolutional_layer(make, shape):
    torch.manual_seed(0)
    layer, x = make(), torch.randn(shape)
    before = layer.weight.detach().clone()
    assert standardized(layer) is None
    standardize(layer, 0.3)
    assert isinstance(standardized(layer), StandardizedWeight)
    assert isinstance(layer, type(make()))
    assert torch.equal(free(layer), before)  # the learned weights are what they were
    flat = layer.weight.flatten(1)
    torch.testing.assert_close(flat.var(1, unbiased=False), torch.full((4,), 0.3), rtol=1e-5, atol=0)
    layer(x).square().sum().backward()
    rule = standardized(layer)
    assert rule.gain.grad.abs().min() > 0
    assert free(layer).grad.abs().max() > 0


@pytest.mark.parametrize(("make", "shape"), KINDS)
@pytest.mark.parametrize("gain", [True, False])
@pytest.mark.parametrize("over", ["output", "layer"])
def test_folded_it_computes_the_same(make, shape, gain, over):
    torch.manual_seed(1)
    layer = standardize(make(), 0.3, gain=gain, over=over)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter))
    plain = fold(layer)
    x = torch.randn(shape)
    assert torch.equal(plain(x), layer(x))
    assert type(plain) is type(make())
    assert {name for name, _ in plain.named_parameters()} == {name for name, _ in make().named_parameters()}
    assert plain.weight.requires_grad
    assert standardized(layer) is not None  # the original is left as it is


def network():
    return Sequential(
        standardize(nn.Linear(300, 64), 0.1),
        SingleSpike(64, decay=1.0),
        Sequential(standardize(nn.Linear(64, 64), 0.1), SingleSpike(64, decay=1.0)),
        standardize(nn.Linear(64, 16), 0.1),
        LeakyReadout(16, decay=1.0),
    )


def spikes(steps=20, batch=64):
    return (torch.rand(steps, batch, 300, generator=torch.Generator().manual_seed(1)) < 0.05).float()


def test_a_whole_network_folds_and_computes_the_same():
    torch.manual_seed(0)
    trained = network()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    plain = fold(trained)
    assert not [name for name in plain.state_dict() if "parametrizations" in name]
    assert plain(spikes()).any()
    assert torch.equal(plain(spikes()), trained(spikes()))
    nested = copy.deepcopy(trained)
    assert torch.equal(nested(spikes()), trained(spikes()))


@pytest.mark.parametrize("steps", [20, 50])
def test_a_hidden_layer_folds_bit_for_bit_whether_or_not_it_is_computed_as_one(steps):
    torch.manual_seed(0)
    layers = standardize(nn.Linear(300, 64), 0.1), SingleSpike(64, decay=1.0), standardize(nn.Linear(64, 16), 0.1)
    trained = Sequential(*layers)
    y = trained(spikes(steps))
    assert y.count_nonzero() > steps
    assert torch.equal(fold(trained)(spikes(steps)), y)


def test_spike_lists_compute_it(monkeypatch):
    cpu = pytest.importorskip("rheobase.ops.linear.cpu")
    torch.manual_seed(0)
    layers, forward = network().double(), cpu.forward
    by_lists = []
    monkeypatch.setattr(cpu, "forward", lambda *arguments: by_lists.append(arguments[1].shape) or forward(*arguments))
    y = layers[:1](spikes(60).double())
    assert by_lists == [(64, 300)]
    torch.testing.assert_close(y, nn.functional.linear(spikes(60).double(), layers[0].weight, layers[0].bias))


def test_checkpoints_hold_it(tmp_path):
    torch.manual_seed(0)
    trained, fresh = network(), network()
    with torch.no_grad():
        standardized(trained[0]).deviation.fill_(0.7)
    optimizer = torch.optim.AdamW(trained.parameters())
    trained(spikes()).square().mean().backward()
    optimizer.step()
    position = Position(1, 1, 0.5, 1.0, 2.0, "data", "{}")
    checkpoint.save(tmp_path / "it.safetensors", trained, position, optimizer)
    checkpoint.load(tmp_path / "it.safetensors", fresh, torch.optim.AdamW(fresh.parameters()))
    assert torch.equal(fresh(spikes()), trained(spikes()))
    assert standardized(fresh[0]).deviation == torch.tensor(0.7)


@pytest.mark.parametrize("shrunk", [1.0, 1 / 20, 1e-6])
@pytest.mark.parametrize("over", ["output", "layer"])
def test_the_variance_is_kept_of_many_inputs_and_small_weights(over, shrunk):
    """PyTorch's weights of 4,608 inputs have a variance of 7e-5, and weight decay makes them smaller."""
    torch.manual_seed(0)
    layer = standardize(nn.Linear(4608, 4), 1.0, over=over)
    before = layer.weight.detach().clone()
    with torch.no_grad():
        free(layer).mul_(shrunk)
    torch.testing.assert_close(layer.weight.var(unbiased=False), torch.tensor(1.0), rtol=1e-5, atol=0)
    torch.testing.assert_close(layer.weight, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inputs", [2, 4, 300, 4608])
@pytest.mark.parametrize("value", [0.0, 0.2, -0.7, 1e-9])
def test_equal_weights_have_no_direction_and_learn_one(value, inputs):
    layer = standardize(nn.Linear(inputs, 2), 0.3)
    with torch.no_grad():
        free(layer).fill_(value)
    assert layer.weight.abs().max() <= 1e-6 * abs(value)
    layer(torch.linspace(0, 1, inputs).view(1, -1)).sum().backward()
    gradient = free(layer).grad
    assert gradient.abs().max() <= 0.3**0.5
    assert gradient.any()
    with torch.no_grad():
        free(layer).sub_(gradient)
    torch.testing.assert_close(layer.weight.var(1, unbiased=False), torch.full((2,), 0.3), rtol=1e-4, atol=0)


@pytest.mark.usefixtures("as_a_user")
class TestErrors:
    @pytest.mark.parametrize("layer", [nn.ConvTranspose2d(1, 2, 3), nn.BatchNorm1d(3), SingleSpike(3)])
    def test_other_layers(self, layer):
        message = f"standardize: layer must be a linear or a convolutional layer, got {type(layer).__name__}"
        with pytest.raises(TypeError, match=message):
            standardize(layer, 1.0)

    def test_twice(self):
        with pytest.raises(ValueError, match="is already standardized"):
            standardize(standardize(nn.Linear(3, 2), 1.0), 1.0)

    @pytest.mark.parametrize("variance", [0.0, -1.0, float("inf"), float("nan")])
    def test_variance(self, variance):
        with pytest.raises(ValueError, match=f"variance must be above 0 and finite, got {variance}"):
            standardize(nn.Linear(3, 2), variance)

    def test_over(self):
        with pytest.raises(ValueError, match=re.escape("over must be 'output' or 'layer', got 'channel'")):
            standardize(nn.Linear(3, 2), 1.0, over="channel")


def test_it_says_what_it_does():
    assert "over='output', deviation=0.5, gain=True" in repr(standardize(nn.Linear(3, 2), 0.25))


@pytest.mark.parametrize(
    ("layer", "over"),
    [(nn.Linear(1, 4), "output"), (nn.Conv2d(8, 8, 1, groups=8), "output"), (nn.Linear(1, 1), "layer")],
)
def test_a_single_weight_is_its_own_mean(layer, over):
    with pytest.raises(ValueError, match=f"each {over} of .* must have more than one weight"):
        standardize(layer, 1.0, over=over)
    assert not hasattr(layer, "parametrizations")


def test_single_weights_may_share_a_mean():
    assert standardize(nn.Linear(1, 4), 1.0, over="layer").weight.any()
