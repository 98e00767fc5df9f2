"""Weights of few bits: on their grid forwards, as if there were none backwards."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

import rheobase as rb
from rheobase.layers.parametrized import weight_name
from rheobase.layers.quantized import QuantizedWeight, quantized

LAYERS: dict[str, Any] = {
    "linear": lambda: (nn.Linear(12, 5), torch.rand(7, 3, 12)),
    "convolution": lambda: (nn.Conv2d(2, 5, 3), torch.rand(4, 2, 6, 6)),
    "delayed": lambda: (rb.DelayedLinear(12, 5, longest=4), torch.rand(7, 3, 12)),
    "recurrent": lambda: (rb.RecurrentLIF(5, reset="zero"), 2 * torch.rand(9, 3, 5)),
    "recurrent, no self-connections": lambda: (rb.RecurrentLIF(5, self_connections=False), 2 * torch.rand(9, 3, 5)),
    "recurrent, adaptive": lambda: (rb.RecurrentAdaptiveLIF(5, refractory=2), 2 * torch.rand(9, 3, 5)),
}


@given(bits=st.integers(2, 16), over=st.sampled_from(["output", "layer"]), seed=st.integers(0, 99))
def test_weights_are_the_nearest_whole_numbers_of_steps(bits, over, seed):
    torch.manual_seed(seed)
    free = torch.randn(4, 3, 5).double()
    rule = QuantizedWeight(bits, over)
    weight, step = rule(free), rule.step(free).double().view(-1, 1, 1)
    whole = weight / step
    assert torch.allclose(whole, whole.round(), atol=1e-6)
    assert int(whole.round().abs().amax()) == rule.largest
    assert bool(((weight - free).abs() <= step * (0.5 + 1e-5)).all())
    assert len(step) == (4 if over == "output" else 1)


@pytest.mark.parametrize("over", ["output", "layer"])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_gradient_is_that_of_plain_weights_of_the_same_values(kind, over):
    torch.manual_seed(0)
    layer, x = LAYERS[kind]()
    name = weight_name(layer)
    rb.quantize(layer, 4, over=over)
    layer(x).square().sum().backward()
    plain = rb.fold(layer)
    plain.zero_grad()
    plain(x).square().sum().backward()
    assert torch.equal(layer(x), plain(x))
    on_weight = plain.get_parameter(name).grad
    assert on_weight.any()
    assert torch.allclose(layer.get_parameter(f"parametrizations.{name}.original").grad, on_weight)


@pytest.mark.parametrize("over", ["output", "layer"])
@pytest.mark.parametrize("kind", LAYERS)
def test_integers_and_steps_make_the_weights(kind, over):
    torch.manual_seed(0)
    layer, _ = LAYERS[kind]()
    name = weight_name(layer)
    rb.quantize(layer, 5, over=over)
    integers, step = rb.integer_weights(layer)
    assert integers.dtype == torch.int16
    assert int(integers.abs().amax()) == 15
    product = integers * step.view(-1, *[1] * (integers.ndim - 1))
    assert torch.allclose(product, getattr(layer, name), rtol=1e-6, atol=0)


def test_what_no_neuron_hears_is_no_weight():
    layer = rb.RecurrentLIF(3, self_connections=False)
    with torch.no_grad():
        layer.recurrent_weight.copy_(torch.tensor([[9.0, 0.3, 0.1], [0.2, 9.0, 0.2], [0.0, 0.3, 9.0]]))
    rb.quantize(layer, 3)
    integers, step = rb.integer_weights(layer)
    assert integers.tolist() == [[0, 3, 1], [3, 0, 3], [0, 3, 0]]
    assert step.tolist() == pytest.approx([0.1, 0.2 / 3, 0.1])


def test_a_unit_without_weights_stays_without():
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight[0] = 0
    rb.quantize(layer, 2)
    assert layer.weight[0].tolist() == [0, 0, 0]
    assert set(layer.weight[1].div(layer.weight[1].abs().amax()).tolist()) <= {-1.0, 0.0, 1.0}


def test_a_network_learns_with_two_bits_and_folds_to_the_bit():
    torch.manual_seed(0)
    network = rb.quantize(
        rb.Sequential(nn.Linear(20, 32), rb.LIF(32), rb.Dropout(0.1), nn.Linear(32, 2), rb.LeakyReadout(2)), bits=2
    )
    labels = torch.arange(64) % 2
    x = (torch.rand(15, 64, 20) < 0.1 + 0.3 * (labels[:, None] == (torch.arange(20) < 10))).float()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(40):
        loss = nn.functional.cross_entropy(rb.decoding.mean(network(x)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    plain = rb.fold(network)
    assert torch.equal(plain(x), network(x))
    assert (plain(x).mean(0).argmax(1) == labels).float().mean() > 0.9
    assert all(len(row.unique()) <= 3 for row in plain[0].weight)
    assert all(quantized(layer) is None for layer in plain.modules())


def test_it_goes_with_standardized_weights():
    torch.manual_seed(0)
    layer = rb.quantize(rb.standardize(nn.Linear(400, 10), variance=8 / 400), bits=8)
    assert layer.weight.var(1, unbiased=False).allclose(torch.tensor(8 / 400), rtol=1e-2)
    integers, step = rb.integer_weights(layer)
    assert torch.allclose(integers * step[:, None], layer.weight, rtol=1e-6, atol=0)
    x = torch.rand(5, 3, 400)
    assert torch.equal(rb.fold(layer)(x), layer(x))


def test_the_doctor_sees_its_gradient():
    torch.manual_seed(0)
    network = rb.Sequential(nn.Linear(20, 32), rb.RecurrentLIF(32), nn.Linear(32, 2), rb.LeakyReadout(2))
    x = (torch.rand(15, 8, 20) < 0.2).float()

    def gradient() -> float:
        measures = rb.doctor(network, x).measures
        assert measures is not None
        assert measures.layers[0].name == "1 RecurrentLIF(32)"
        return measures.layers[0].gradient

    before = gradient()
    rb.quantize(network, 8)
    assert gradient() == pytest.approx(before, rel=0.2)


def test_a_run_is_resumed_and_loaded(tmp_path):
    def network() -> rb.Sequential:
        torch.manual_seed(0)
        return rb.quantize(rb.Sequential(nn.Linear(6, 8), rb.RecurrentLIF(8), nn.Linear(8, 2), rb.LeakyReadout(2)), 4)

    data = rb.data.ArrayDataset((torch.rand(5, 16, 6) < 0.3).float(), torch.arange(16) % 2)
    trained = network()
    display = rb.training.Display()
    rb.fit(trained, data, data, settings=rb.Training(epochs=2), run=tmp_path / "run", display=display)
    again = network()
    rb.training.checkpoint.load(tmp_path / "run" / "best.safetensors", again)
    x, _ = data.batch(data.chosen)
    assert torch.equal(again.eval()(x), trained.eval()(x))


def test_stabilize_asks_to_come_first():
    network = rb.Sequential(nn.Linear(6, 8), rb.quantize(rb.RecurrentLIF(8)), nn.Linear(8, 2), rb.LeakyReadout(2))
    with pytest.raises(
        ValueError, match=r"recurrent weights of 1 RecurrentLIF\(8\) cannot be scaled: .* stabilize the network"
    ):
        rb.stabilize(network, (torch.rand(10, 16, 6) < 0.3).float())


@pytest.mark.usefixtures("as_a_user")
def test_what_is_refused():
    for bits in (1, 17, 4.0):
        with pytest.raises(ValueError, match="quantize: bits must be a whole number, 2 to 16, got"):
            rb.quantize(nn.Linear(3, 2), bits)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="quantize: over must be 'output' or 'layer', got 'row'"):
        rb.quantize(nn.Linear(3, 2), 4, over="row")  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        TypeError, match="module must be a linear or a convolutional layer or recurrent neurons, or hold some, got LIF"
    ):
        rb.quantize(rb.LIF(3))
    for left in (nn.ConvTranspose2d(2, 2, 3), rb.PSN(5), nn.Embedding(3, 4)):
        with pytest.raises(TypeError, match=f"quantize: layer 1, {type(left).__name__}, has weights .* one by one"):
            rb.quantize(nn.Sequential(nn.Linear(3, 2), left))
    maps = rb.AdaptiveLIF(4, learn=("decay",))
    rb.quantize(nn.Sequential(nn.Conv2d(1, 4, 3), nn.LayerNorm((3, 3)), maps, rb.SlidingPSN(3)))
    layer = rb.quantize(nn.Linear(3, 2), 4)
    with pytest.raises(ValueError, match="is already quantized"):
        rb.quantize(nn.Sequential(nn.Linear(2, 2), layer), 4)
    with pytest.raises(ValueError, match="standardize first, since rounding comes last"):
        rb.standardize(layer, variance=1.0)
    with pytest.raises(
        ValueError, match=r"integer_weights: layer must be one that rheobase\.quantize was the last to change"
    ):
        rb.integer_weights(nn.Linear(3, 2))


def test_a_pruned_layer_is_refused_and_nothing_is_changed() -> None:
    network = rb.Sequential(nn.Linear(8, 6), rb.LIF(6), nn.Linear(6, 2))
    prune.l1_unstructured(network[2], "weight", amount=0.5)
    with pytest.raises(ValueError, match=r"weight of a Linear is computed by a hook.*prune\.remove\(layer, 'weight'\)"):
        rb.quantize(network)
    assert quantized(network[0]) is None
    prune.remove(network[2], "weight")
    assert quantized(rb.quantize(network)[2]) is not None
