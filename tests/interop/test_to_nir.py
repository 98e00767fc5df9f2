"""Graphs for other programs: a program that knows NIR alone computes from them what the network computes."""

import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import nir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import rheobase as rb
from interop.euler import run
from rheobase.errors import InteropError
from rheobase.interop import to_nir, write_nir

DT = 0.002


def agree(network: nn.Module, features: tuple[int, ...], *, reset: str = "subtract", rate: float = 0.3) -> Any:
    """The graph, if it computes what the network computes in evaluation."""
    torch.manual_seed(1)
    x = (torch.rand(25, 3, *features) < rate).float()
    graph = to_nir(network, features, dt=DT)
    with torch.no_grad():
        expected = network.eval()(x)
    assert expected.std() > 0  # else nothing has been compared
    torch.testing.assert_close(run(graph, x, DT, reset).float(), expected, rtol=1e-4, atol=1e-4)
    return graph


def dense(*neurons: nn.Module, inputs: int = 6, width: int = 8) -> rb.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for layer in neurons:
        layers += [nn.Linear(inputs, width), layer]
        inputs = width
    return rb.Sequential(*layers, nn.Linear(width, 4), rb.LeakyReadout(4, decay=0.8))


NEURONS = {
    "LIF": lambda: rb.LIF(8, decay=torch.linspace(0.1, 0.95, 8), threshold=torch.linspace(0.5, 1.5, 8)),
    "learned": lambda: rb.LIF(8, decay=0.7, learn=("decay", "threshold")),
    "one for all": lambda: rb.LIF(decay=0.75),
    "no leak": lambda: rb.LIF(8, decay=1.0),
    "no memory": lambda: rb.LIF(8, decay=0.0),
    "no reset": lambda: rb.LIF(8, decay=0.9, reset="none"),
    "no leak, no reset": lambda: rb.LIF(8, decay=1.0, reset="none"),
    "synaptic": lambda: rb.SynapticLIF(8, synapse_decay=0.6, decay=0.9),
    "synaptic, no reset": lambda: rb.SynapticLIF(8, synapse_decay=0.6, decay=0.9, reset="none"),
    "recurrent": lambda: rb.RecurrentLIF(8, decay=0.8),
    "recurrent to others": lambda: rb.RecurrentLIF(8, decay=0.8, self_connections=False),
}


@pytest.mark.parametrize("name", NEURONS)
def test_neurons(name: str) -> None:
    agree(dense(NEURONS[name]()), (6,))


@pytest.mark.parametrize("neurons", [lambda: rb.LIF(8, reset="zero"), lambda: rb.Rouser(8, threshold=2.0)])
def test_reset_to_zero(neurons: Any) -> None:
    agree(dense(neurons()), (6,), reset="zero")


def test_the_reset_is_told() -> None:
    graph = to_nir(dense(rb.LIF(8), rb.LIF(8, reset="zero")), (6,), dt=DT)
    assert [graph.nodes[name].metadata["reset"] for name in ("1_lif", "3_lif")] == ["subtract", "zero"]
    assert graph.metadata == {"dt": DT}


@pytest.mark.parametrize(
    "readout", [rb.LeakyReadout(4, decay=1.0), rb.LeakyReadout(decay=0.9), rb.SynapticReadout(4, decay=0.9)]
)
def test_readouts(readout: nn.Module) -> None:
    agree(rb.Sequential(nn.Linear(6, 8), rb.LIF(8), nn.Linear(8, 4), readout), (6,))


@settings(max_examples=15)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=4, unique=True), st.booleans())
def test_copies_that_arrive_later_have_synapses_of_their_own(steps: list[int], bias: bool) -> None:
    torch.manual_seed(0)
    behind = nn.Linear(8 * len(steps), 4, bias=bias)
    layers = nn.Linear(6, 8), rb.LIF(8), rb.Dropout(0.5), rb.Delay(*steps), nn.Dropout(), behind
    agree(rb.Sequential(*layers, rb.LeakyReadout(4)), (6,))


@pytest.mark.parametrize("bias", [True, False])
def test_delays_of_single_synapses(bias: bool) -> None:
    torch.manual_seed(0)
    layers = rb.DelayedLinear(6, 8, longest=4, bias=bias, delay=torch.randint(1, 4, (8, 6))), rb.LIF(8), nn.Linear(8, 4)
    graph = agree(rb.Sequential(*layers, rb.LeakyReadout(4)), (6,))
    assert sum(type(node) is nir.Delay for node in graph.nodes.values()) == 3


def trained(layer: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Module:
    """With the statistics and weights of some training."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    nn.init.uniform_(layer.running_mean, -0.2, 0.2)
    nn.init.uniform_(layer.running_var, 0.5, 2.0)
    if layer.affine:
        nn.init.uniform_(layer.weight, 0.5, 2.0)
        nn.init.uniform_(layer.bias, -0.5, 0.5)
    return layer


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_normalization_joins_the_weights(bias: bool, affine: bool) -> None:
    torch.manual_seed(0)
    norm = trained(nn.BatchNorm1d(8, affine=affine))
    again = trained(nn.BatchNorm1d(4, affine=affine))
    layers = nn.Linear(6, 8, bias=bias), norm, rb.LIF(8), rb.Delay(0, 2), nn.Linear(16, 4, bias=bias), again
    graph = agree(rb.Sequential(*layers, rb.LeakyReadout(4)), (6,))
    assert not any("batchnorm" in name for name in graph.nodes)


def test_pictures() -> None:
    torch.manual_seed(0)
    network = rb.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        trained(nn.BatchNorm2d(4)),
        rb.LIF(4, decay=torch.linspace(0.5, 0.9, 4)),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 8, 3, stride=2, padding="valid", dilation=1, groups=2),
        rb.LIF(),
        nn.Flatten(),
        nn.Linear(8 * 2 * 2, 4),
        rb.LeakyReadout(4),
    )
    graph = agree(network, (2, 10, 10))
    assert graph.nodes["2_lif"].tau.shape == (4, 10, 10)


def test_groups_of_channels_behind_copies() -> None:
    torch.manual_seed(0)
    layers = rb.LIF(4), rb.Delay(1, 3), nn.Conv2d(8, 6, 3, groups=2), nn.Flatten(), nn.Linear(54, 4), rb.LeakyReadout(4)
    agree(rb.Sequential(nn.Conv2d(1, 4, 3, padding=1), *layers), (1, 5, 5))


def test_convolutions_of_one_axis() -> None:
    torch.manual_seed(0)
    layers = nn.Conv1d(3, 8, 5, padding=2, stride=2), rb.LIF(8), nn.Conv1d(8, 8, 3, padding="same"), rb.LIF(8)
    agree(rb.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 6, 4), rb.LeakyReadout(4)), (3, 12))


def test_containers_and_standardized_weights() -> None:
    torch.manual_seed(0)
    inner = rb.Recompute(rb.Sequential(rb.standardize(nn.Linear(6, 8), variance=1.0), rb.LIF(8)))
    plain = nn.Sequential(nn.Identity(), rb.SpikeLinear(8, 4, bias=False))
    graph = agree(rb.Sequential(inner, plain, rb.LeakyReadout(4)), (6,))
    assert "0_layer_1_lif" in graph.nodes


def test_weights_of_few_bits_recurrent_ones_too() -> None:
    torch.manual_seed(0)
    layers = nn.Linear(6, 8), rb.RecurrentLIF(8, self_connections=False), nn.Linear(8, 4), rb.LeakyReadout(4)
    graph = agree(rb.quantize(rb.Sequential(*layers), bits=3), (6,))
    assert all(len(set(row)) <= 7 for row in graph.nodes["1_recurrentlif"].nodes["w_rec"].weight.tolist())


@pytest.mark.parametrize("shortcut", [None, "convolution"])
def test_connections_past_layers(shortcut: str | None) -> None:
    torch.manual_seed(0)
    channels = 6 if shortcut else 4
    layers = nn.Conv2d(4, channels, 3, padding=1), rb.LIF(channels), nn.Conv2d(channels, channels, 1), rb.LIF(channels)
    block = rb.Residual(*layers, shortcut=nn.Conv2d(4, 6, 1) if shortcut else None)
    head = nn.Flatten(), nn.Linear(25 * channels, 4), rb.LeakyReadout(4)
    agree(rb.Sequential(nn.Conv2d(1, 4, 3, padding=1), rb.LIF(4), block, *head), (1, 5, 5))


def test_a_picture_that_is_held() -> None:
    torch.manual_seed(0)
    network = rb.Sequential(nn.Linear(6, 8), rb.Hold(10), rb.LIF(8), nn.Linear(8, 4), rb.LeakyReadout(4))
    picture = torch.rand(1, 3, 6)
    graph = to_nir(network, (6,), dt=DT)
    expected = network(picture).detach()
    torch.testing.assert_close(run(graph, picture.expand(10, 3, 6), DT, "subtract").float(), expected)


def test_the_network_is_left_as_it_is() -> None:
    network = dense(rb.LIF(8)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    to_nir(network, (6,), dt=DT)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_networks_of_double_precision() -> None:
    graph = to_nir(dense(rb.LIF(8)).double(), (6,), dt=DT)
    assert graph.nodes["0_linear"].weight.dtype == "float32"


REFUSED = {
    "fired": (rb.SingleSpike(8), "remember that they have fired"),
    "random": (rb.SPSN(8), "drawn at random"),
    "adapts": (rb.AdaptiveLIF(8), "threshold adapts"),
    "recurrent, no reset": (rb.RecurrentLIF(8, reset="none"), "it has no reset"),
    "a leak beside none": (rb.LIF(8, decay=torch.linspace(0.3, 1, 8)), "decays of 1 as well as smaller ones"),
    "no leak": (rb.SynapticLIF(8, decay=1.0), "it has decays of 1"),
    "unknown": (nn.Tanh(), "it is unknown what it computes"),
    "far from weights": (rb.Sequential(rb.LIF(8), nn.BatchNorm1d(8)), "must directly follow"),
    "of the batch": (nn.BatchNorm1d(8, track_running_stats=False), "keeps no running statistics"),
    "copies": (rb.Sequential(rb.Delay(0, 1), rb.LIF(16)), "copies of a Delay"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_counterpart_is_refused(name: str) -> None:
    layer, reason = REFUSED[name]
    with pytest.raises(InteropError, match=rf"to_nir: layer 1(\.1)?, .*: .*{reason}"):
        to_nir(rb.Sequential(nn.Linear(6, 8), layer), (6,), dt=DT)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.MaxPool2d(2), "NIR has no maximum"),
        (nn.AvgPool2d(2, ceil_mode=True), "pooling has no settings other than"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "pads with 'circular'"),
        (nn.Conv2d(4, 4, (1, 3)), "kernels to be square"),
        (rb.Residual(trained(nn.BatchNorm2d(4))), "must directly follow"),  # the shortcut sees these weights, too
    ],
)
def test_what_has_no_counterpart_is_refused_of_pictures(layer: nn.Module, reason: str) -> None:
    with pytest.raises(InteropError, match=reason):
        to_nir(rb.Sequential(nn.Conv2d(1, 4, 3), layer), (1, 9, 9), dt=DT)


@pytest.mark.parametrize("dt", [0.0, -1.0, float("inf"), float("nan"), 1e-50, 1e39])
def test_a_step_takes_time(dt: float) -> None:
    with pytest.raises(ValueError, match="to_nir: dt must be the seconds of a step"):
        to_nir(dense(rb.LIF(8)), (6,), dt=dt)


class OwnForward(rb.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + x


def hooked() -> nn.Module:
    layer = nn.Linear(8, 8)
    layer.register_forward_hook(lambda _module, _given, output: 2 * output)
    return layer


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (OwnForward(nn.Linear(8, 8)), "to_nir: 1, OwnForward, has its own forward"),
        (hooked(), "to_nir: 1, Linear, has hooks"),
        (rb.Sequential(rb.LIF(8), rb.Hold(3)), "to_nir: layer 1.1, Hold.*: it holds values that change"),
        (rb.Residual(rb.Delay(0, 1), shortcut=nn.Linear(8, 16)), "to_nir: layer 1, Residual"),
        (nn.Flatten(0), "it flattens the batch, too"),
    ],
)
def test_what_would_be_written_as_something_else_is_refused(layer: nn.Module, reason: str) -> None:
    with pytest.raises(InteropError, match=f"(?s)^{reason}|to_nir.*{reason}"):
        to_nir(rb.Sequential(nn.Linear(6, 8), layer), (6,), dt=DT)


def test_a_layer_beside_itself() -> None:
    torch.manual_seed(0)
    agree(
        rb.Sequential(nn.Linear(6, 8), rb.Residual(nn.Identity()), rb.LIF(8), nn.Linear(8, 4), rb.LeakyReadout(4)), (6,)
    )


def test_names_that_would_be_the_same() -> None:
    torch.manual_seed(0)
    inner = rb.Sequential(OrderedDict(b=nn.Linear(6, 8)))
    graph = agree(rb.Sequential(OrderedDict(a=inner, a_b=nn.Linear(8, 4), out=rb.LeakyReadout(4))), (6,))
    assert {"a_b_linear", "a_b_linear_"} < graph.nodes.keys()


def test_a_single_layer() -> None:
    assert list(to_nir(nn.Linear(6, 8), (6,), dt=DT).nodes) == ["input", "linear", "output"]
    with pytest.raises(InteropError, match=r"^to_nir: SPSN\(8"):
        to_nir(rb.SPSN(8), (8,), dt=DT)


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize("features", [4, (), (4.5,), (-4,), "6"])
def test_features_must_be_a_shape(features: Any) -> None:
    with pytest.raises(ValueError, match="to_nir: features must be the shape"):
        to_nir(dense(rb.LIF(8)), features, dt=DT)


def test_features_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"to_nir: layer 0, Linear.* cannot take a step of \(7,\)"):
        to_nir(dense(rb.LIF(8)), (7,), dt=DT)


def test_files_are_written_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, path = to_nir(dense(rb.LIF(8)), (6,), dt=DT), tmp_path / "folder" / "network.nir"
    write_nir(graph, path)
    assert nir.read(path).nodes.keys() == graph.nodes.keys()
    before = path.read_bytes()
    with pytest.raises(AttributeError):
        write_nir("no graph", path)  # pyright: ignore[reportArgumentType]
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["network.nir"]


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(InteropError, match=r"pip install 'rheobase\[nir\]'"):
        to_nir(dense(rb.LIF(8)), (6,), dt=DT)
