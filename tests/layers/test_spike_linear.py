import copy
import pickle
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import rheobase as rb
from rheobase.layers import SpikeLinear
from rheobase.layers.products import call_folded

PATHS = ("auto", "lists", "dense")


def spikes(*shape, density=0.05):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < density).float()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("density", [0.0, 0.05, 0.6])
def test_it_is_a_linear_layer(path, bias, density):
    x, layer = spikes(20, 40, 200, density=density), SpikeLinear(200, 64, bias, path=path)
    plain = nn.Linear(200, 64, bias)
    plain.load_state_dict(layer.state_dict())
    on_y = torch.randn(20, 40, 64)
    for module in (layer, plain):
        module(x).backward(on_y)
    torch.testing.assert_close(layer(x), plain(x))
    for ours, theirs in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


def test_the_same_parameters_from_the_same_seed():
    layers = []
    for kind in (SpikeLinear, nn.Linear):
        torch.manual_seed(3)
        layers.append(kind(7, 5))
    assert isinstance(layers[0], nn.Linear)
    assert layers[0].state_dict().keys() == layers[1].state_dict().keys()
    assert all(map(torch.equal, layers[0].parameters(), layers[1].parameters()))


@pytest.mark.parametrize("path", PATHS)
def test_the_path_is_the_one_asked_for(path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "rheobase.layers.spike_linear.linear", lambda *arguments, path: seen.append(path) or arguments[0]
    )
    SpikeLinear(5, 5, path=path)(torch.ones(2, 5))
    rb.Sequential(SpikeLinear(5, 5, path=path))(torch.ones(3, 2, 5))
    assert seen == [path, path]


def test_options_of_a_linear_layer():
    layer = SpikeLinear(6, 3, bias=False, dtype=torch.float64, device="cpu")
    assert layer(torch.ones(2, 4, 6, dtype=torch.float64)).shape == (2, 4, 3)
    assert str(layer) == "SpikeLinear(in_features=6, out_features=3, bias=False, path='auto')"
    assert SpikeLinear(6, 3, device="meta")(torch.ones(2, 6, device="meta")).shape == (2, 3)


def test_copies_compute_the_same():
    x, layer = spikes(20, 40, 200), SpikeLinear(200, 64, path="lists")
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):  # noqa: S301 (our own bytes)
        assert other.path == "lists"
        assert torch.equal(other(x), layer(x))


def test_health_counts_its_synaptic_operations():
    x = spikes(10, 4, 30)
    counts = []
    for kind in (SpikeLinear, nn.Linear):
        network = rb.Sequential(kind(30, 12), rb.LIF(12), kind(12, 5), rb.LeakyReadout(5))
        with rb.health.Recorder(network) as recorder:
            network(x)
        counts.append(recorder.input().synaptic_operations_per_sample)
        assert recorder.layers()[0].synaptic_operations_per_sample >= 0
    assert counts[0] == counts[1] == x.sum().item() / 4 * 12


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.usefixtures("as_a_user")
def test_torch_compile_takes_it_whole():
    x, layer = spikes(20, 40, 200), SpikeLinear(200, 64)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), layer(x))
    compiled(x).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.sum((0, 1)).expand(64, -1))


class TestPlainLayers:
    """`call_folded` changes who computes the product of a plain layer, and nothing else."""

    def took_lists(self, layer, x):
        """Lists skip the weight of an input that is silent; a dense product makes NaN of it."""
        assert not bool(x[..., 0].any())
        with torch.no_grad():
            layer.weight[:, 0] = float("inf")
        return not bool(call_folded(layer, x).isnan().any())

    @pytest.fixture
    def x(self):
        x = spikes(800, 200)
        x[..., 0] = 0
        return x

    def test_linear_layers_and_what_is_made_of_them(self, x):
        class Own(nn.Linear):
            pass

        assert self.took_lists(nn.Linear(200, 64), x)
        assert self.took_lists(Own(200, 64), x)
        assert not self.took_lists(nn.Linear(200, 64), torch.cat((x[:, :1], torch.ones(800, 199)), 1))
        assert not self.took_lists(SpikeLinear(200, 64, path="dense"), x)
        assert self.took_lists(SpikeLinear(200, 64), x)

    def test_only_there(self, x):
        layer = nn.Linear(200, 64)
        assert self.took_lists(layer, x)
        assert bool(layer(x).isnan().any())

    def test_not_inside_other_layers(self, x):
        layer = nn.Linear(200, 64)
        with torch.no_grad():
            layer.weight[:, 0] = float("inf")
        assert bool(call_folded(nn.Sequential(layer), x).isnan().any())

    def test_other_layers_are_called_as_they_are(self):
        x = torch.randn(800, 200)
        for layer in (nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(200, affine=False).eval()):
            assert torch.equal(call_folded(layer, x), layer(x))

    def test_a_forward_of_its_own(self, x):
        class Double(nn.Linear):
            def forward(self, input):
                return F.linear(input=input, weight=2 * self.weight, bias=self.bias).relu()

        layer = Double(200, 64)
        torch.testing.assert_close(call_folded(layer, x), layer(x))

    def test_hooks_run_and_see_plain_tensors(self, x):
        layer, seen = nn.Linear(200, 64), []
        layer.register_forward_pre_hook(lambda _, arguments: (arguments[0] * 2,))
        layer.register_forward_hook(lambda _, arguments, y: seen.append((type(arguments[0]), type(y))) or y + 1)
        layer.register_full_backward_hook(lambda *_: seen.append("backward"))
        x.requires_grad_()
        y = call_folded(layer, x)
        torch.testing.assert_close(y, F.linear(2 * x, layer.weight, layer.bias) + 1)
        y.sum().backward()
        assert seen == [(torch.Tensor, torch.Tensor), "backward"]

    def test_parametrizations(self, x):
        layer = nn.utils.parametrizations.weight_norm(nn.Linear(200, 64))
        gradients = []
        for call in (call_folded, lambda layer, x: layer(x)):
            y = call(layer, x)
            gradients.append((y, *torch.autograd.grad(y, list(layer.parameters()), torch.ones_like(y))))
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)

    def test_shared_weights(self, x):
        first, second = nn.Linear(200, 200), nn.Linear(200, 200)
        second.weight = first.weight
        for call in (call_folded, lambda layer, x: layer(x)):
            (call(first, x).sin() + call(second, x).cos()).sum().backward()
        expected = first.weight.grad / 2
        first.weight.grad = None
        (first(x).sin() + second(x).cos()).sum().backward()
        torch.testing.assert_close(first.weight.grad, expected, rtol=1e-4, atol=1e-3)

    def test_autocast(self, x):
        layer = nn.Linear(200, 64)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(call_folded(layer, x), layer(x))
            assert call_folded(layer, x).dtype == torch.bfloat16


@pytest.mark.usefixtures("as_a_user")
def test_errors():
    with pytest.raises(ValueError, match="SpikeLinear: path must be one of 'auto', 'lists', 'dense', got 'fast'"):
        SpikeLinear(3, 4, path="fast")
    message = "path='lists' is not possible: there are lists for float32 and float64"
    with pytest.raises(ValueError, match=re.escape(message)):
        SpikeLinear(3, 4, path="lists").bfloat16()(torch.ones(2, 3).bfloat16())


def test_the_public_names():
    assert rb.SpikeLinear is rb.layers.SpikeLinear is SpikeLinear
