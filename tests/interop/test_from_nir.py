"""Networks from graphs: those that we write come back as they were, those of others compute what NIR says, no other passes."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import rheobase as rb
from interop.euler import run
from rheobase.errors import InteropError, RheobaseError
from rheobase.interop import from_nir, to_nir

DT = 0.002


def numbers(value: float, *shape: int) -> np.ndarray:
    return np.full(shape or (3,), value, np.float32)


def graph_of(*nodes: Any) -> nir.NIRGraph:
    return nir.NIRGraph.from_list(*nodes)


def affine(inputs: int = 4, outputs: int = 3) -> nir.Affine:
    draw = np.random.default_rng(0)
    return nir.Affine(
        draw.normal(0.3, 1, (outputs, inputs)).astype(np.float32), draw.normal(0, 0.1, outputs).astype(np.float32)
    )


def computes_it(graph: nir.NIRGraph, *features: int, reset: str = "zero") -> rb.Sequential:
    """The network, if it computes what the equations of the graph say."""
    torch.manual_seed(1)
    x = (torch.rand(30, 3, *features) < 0.4).float()
    network = from_nir(graph, dt=DT)
    expected = run(graph, x, DT, reset).float()
    assert expected.std() > 0
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-4)
    return network


ROUND = {
    "dense": (
        lambda: rb.Sequential(
            nn.Linear(4, 8),
            rb.LIF(8, decay=torch.linspace(0.5, 0.95, 8), threshold=torch.linspace(0.5, 1, 8)),
            rb.Delay(2),
            nn.Linear(8, 8, bias=False),
            rb.SynapticLIF(8, synapse_decay=0.5, decay=0.75),
            nn.Linear(8, 2),
            rb.SynapticReadout(2),
        ),
        (4,),
    ),
    "recurrent": (
        lambda: rb.Sequential(nn.Linear(4, 8), rb.RecurrentLIF(8, decay=0.75), nn.Linear(8, 2), rb.LeakyReadout(2)),
        (4,),
    ),
    "without a reset": (
        lambda: rb.Sequential(nn.Linear(4, 8), rb.LIF(8, reset="none"), nn.Linear(8, 2), rb.LeakyReadout(2, decay=1.0)),
        (4,),
    ),
    "pictures": (
        lambda: rb.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            rb.LIF(4, decay=torch.linspace(0.5, 0.8, 4)),
            nn.AvgPool2d(2),
            nn.Conv2d(4, 4, 3, padding="same"),
            rb.LIF(4, decay=1.0),
            nn.Flatten(),
            nn.Linear(36, 2),
            rb.LeakyReadout(2),
        ),
        (1, 6, 6),
    ),
    "series": (
        lambda: rb.Sequential(nn.Conv1d(3, 4, 3, padding=1, stride=2), rb.LIF(4), nn.Flatten(), nn.Linear(20, 2)),
        (3, 10),
    ),
}


@pytest.mark.parametrize("name", ROUND)
def test_there_and_back(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, features = ROUND[name]
    network = make()
    nir.write(tmp_path / "network.nir", to_nir(network, features, dt=DT))
    again = from_nir(nir.read(tmp_path / "network.nir"))
    x = (torch.rand(40, 3, *features) < 0.3).float()
    with torch.no_grad():
        torch.testing.assert_close(again(x), network(x), rtol=1e-4, atol=1e-4)
    assert [type(layer) for layer in again] == [type(layer) for layer in network]
    again(x).sum().backward()


@settings(max_examples=30)
@given(st.floats(1.0, 50.0), st.floats(0.2, 5.0), st.floats(0.3, 2.0), st.sampled_from(["LIF", "IF", "CubaLIF"]))
def test_resistances_and_leaks_of_neurons(tau: float, gain: float, threshold: float, kind: str) -> None:
    rest = -0.25
    settings = {
        "r": numbers(gain * tau),
        "v_threshold": numbers(threshold),
        "v_leak": numbers(rest),
        "v_reset": numbers(rest),
    }
    if kind == "LIF":
        node = nir.LIF(tau=numbers(tau * DT), **settings)
    elif kind == "CubaLIF":
        node = nir.CubaLIF(tau_mem=numbers(tau * DT), tau_syn=numbers(2 * DT), w_in=numbers(1.5), **settings)
    else:
        node = nir.IF(r=numbers(gain / DT), v_threshold=numbers(threshold))
    torch.manual_seed(1)
    x = (torch.rand(30, 3, 4) < 0.4).double()
    graph = graph_of(affine(), node)
    network = from_nir(graph, dt=DT).double()
    with torch.no_grad():
        found, layers = network(x), list(network)
        distance = layers[1].distance(layers[0](x))
    # NIR starts at 0, our neurons at their leak potential: shift what the equations start from.
    expected = run_from_rest(graph, x)
    clear = (distance.abs() > 1e-3).flatten(2).all(2).all(0)  # no sample in which rounding decides about a spike
    assert torch.equal(found[:, clear], expected[:, clear])


def run_from_rest(graph: nir.NIRGraph, x: torch.Tensor) -> torch.Tensor:
    """The outputs of a graph whose neurons start from their leak potential, after as much silence as that takes."""
    node = next(node for node in graph.nodes.values() if hasattr(node, "v_threshold"))
    rest = float(np.unique(getattr(node, "v_leak", 0.0))[0])
    shifted = {name: value for name, value in vars(node).items() if name not in ("input_type", "output_type")}
    shifted |= {"v_threshold": node.v_threshold - np.float32(rest), "v_reset": 0 * node.v_reset}
    shifted |= {"v_leak": 0 * node.v_leak} if hasattr(node, "v_leak") else {}
    return run(graph_of(affine(), type(node)(**shifted)), x, DT, "zero")


def test_integrators_hand_their_resistance_to_the_weights() -> None:
    computes_it(graph_of(affine(), nir.LI(tau=numbers(5 * DT), r=numbers(2.0), v_leak=numbers(0))), 4)
    computes_it(graph_of(affine(), nir.I(r=np.array([1.0, 30.0, 500.0], np.float32))), 4)
    membrane = {"r": numbers(2.0), "v_leak": numbers(0), "w_in": numbers(3.0)}
    computes_it(graph_of(affine(), nir.CubaLI(tau_mem=numbers(5 * DT), tau_syn=numbers(3 * DT), **membrane)), 4)


def test_scales_join_the_weights() -> None:
    network = computes_it(
        graph_of(affine(), nir.Scale(np.array([0.5, 2.0, 3.0], np.float32)), nir.Linear(affine(3, 2).weight)), 4
    )
    assert [type(layer) for layer in network] == [nn.Linear, nn.Linear]


def test_sums_over_squares() -> None:
    pooling = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    x = torch.rand(5, 2, 3, 4, 4)
    network = from_nir(graph_of(nir.Input(np.array([3, 4, 4])), pooling, nir.Output(np.array([3, 2, 2]))), dt=DT)
    torch.testing.assert_close(network(x), 4 * nn.functional.avg_pool2d(x.flatten(0, 1), 2).unflatten(0, (5, 2)))


def test_a_threshold_alone_has_no_memory() -> None:
    network = from_nir(graph_of(nir.Threshold(numbers(0.5))), dt=DT)
    x = torch.rand(10, 2, 3)
    assert torch.equal(network(x), (x >= 0.5).float())


def test_synapses_back_among_the_nodes() -> None:
    neurons = nir.LIF(tau=numbers(5 * DT), r=numbers(5.0), v_leak=numbers(0), v_threshold=numbers(0.8))
    nodes = {
        "in": nir.Input(np.array([4])),
        "w": affine(),
        "z": neurons,
        "back": nir.Linear(affine(3, 3).weight),
        "out": nir.Output(np.array([3])),
    }
    edges = [("in", "w"), ("w", "z"), ("z", "back"), ("back", "z"), ("z", "out")]
    network = computes_it(nir.NIRGraph(nodes, edges), 4)
    assert type(network[1]) is rb.RecurrentLIF


def test_one_number_for_all() -> None:
    one = {"r": numbers(5.0, 1), "v_leak": numbers(0, 1), "v_threshold": numbers(1.0, 1)}
    assert from_nir(graph_of(nir.LIF(tau=numbers(5 * DT, 1), **one)), dt=DT)[0].features is None


def test_the_reset_is_that_of_the_metadata_or_as_asked() -> None:
    graph = to_nir(rb.Sequential(rb.LIF(3), rb.LIF(3, reset="zero")), (3,), dt=DT)
    assert [layer.reset for layer in from_nir(graph)] == ["subtract", "zero"]
    assert [layer.reset for layer in from_nir(graph, reset="subtract")] == ["subtract", "subtract"]


def lif(**changes: Any) -> nir.LIF:
    values = {"tau": numbers(0.01), "r": numbers(5.0), "v_leak": numbers(0), "v_threshold": numbers(1.0), **changes}
    return nir.LIF(**values)


BAD = {
    "time constants must be at least dt": [lif(tau=numbers(DT / 2))],
    "must be finite": [lif(tau=numbers(np.inf))],
    "v_threshold must be finite numbers": [lif(v_threshold=numbers(np.nan))],
    "threshold must be above 0": [lif(v_threshold=numbers(-1.0))],
    "v_reset must be v_leak": [lif(v_reset=numbers(-0.5))],
    "resistances must be above 0": [lif(r=numbers(-1.0))],
    "v_leak must be 0": [affine(), nir.LI(tau=numbers(0.01), r=numbers(1.0), v_leak=numbers(0.1))],
    "no weights directly in front": [nir.LI(tau=numbers(0.01), r=numbers(1.0), v_leak=numbers(0))],
    "weight must be finite numbers": [nir.Linear(numbers(np.nan, 2, 3))],
    r"weights must be \(outputs, inputs\)": [nir.Linear(numbers(1.0, 2, 2, 3))],
    "its bias has shape": [nir.Affine(numbers(1.0, 2, 3), numbers(1.0, 5))],
    "whole number of steps": [nir.Delay(np.array([0.0, DT], np.float32))],
    "the same whole number": [nir.Delay(numbers(0.5 * DT))],
    "without a reset are not supported": [
        affine(),
        nir.CubaLI(tau_mem=numbers(0.01), tau_syn=numbers(0.01), r=numbers(1.0), v_leak=numbers(0)),
        nir.Threshold(numbers(1.0)),
    ],
}


@pytest.mark.parametrize("reason", BAD)
def test_values_out_of_range_are_refused(reason: str) -> None:
    with pytest.raises(InteropError, match=f"from_nir: node '.*', [A-Za-z]+: .*{reason}"):
        from_nir(graph_of(*BAD[reason]), dt=DT)


def test_neurons_of_a_map_must_be_alike() -> None:
    tau = np.full((2, 3, 3), 0.01, np.float32)
    tau[1, 2, 2] = 0.02
    same = {"r": tau / DT, "v_leak": 0 * tau, "v_threshold": 0 * tau + 1}
    with pytest.raises(InteropError, match="decay must be the same for all neurons of a map"):
        from_nir(graph_of(nir.LIF(tau=tau, **same)), dt=DT)


@pytest.mark.parametrize("dt", [None, 0.0, float("nan"), -1.0, "abc", 10**400, [1e-3, 1e-3], {}, 1j])
@pytest.mark.usefixtures("as_a_user")
def test_how_long_a_step_is_must_be_known(dt: Any) -> None:
    with pytest.raises(ValueError, match="from_nir: dt must be the seconds of a step"):
        from_nir(graph_of(lif()), dt=dt)


def picture(*nodes: Any) -> nir.NIRGraph:
    """A graph of which the sizes are left unchecked, as a file may have them."""
    names = [f"n{k}" for k in range(len(nodes))]
    ends = {"in": nir.Input(np.array([1, 6, 6])), "out": nir.Output(np.array([1]))}
    path = ["in", *names, "out"]
    return nir.NIRGraph({**dict(zip(names, nodes, strict=True)), **ends}, list(pairwise(path)), type_check=False)


def convolution(**changes: Any) -> nir.Conv2d:
    settings = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": np.zeros(2, np.float32), **changes}
    return nir.Conv2d(None, np.ones((2, 1, 3, 3), np.float32), **settings)


def pool(size: Any = (2, 2), stride: Any = (2, 2), padding: Any = (0, 0)) -> nir.AvgPool2d:
    return nir.AvgPool2d(np.array(size), np.array(stride), np.array(padding))


DAMAGED = [
    convolution(stride=(0, 1)),
    convolution(stride=(1.5, 1.5)),
    convolution(stride=(1, 1, 1)),
    convolution(stride=np.inf),
    convolution(dilation=0),
    convolution(padding=(-1, 0)),
    convolution(padding=(10**8, 0)),
    convolution(groups=np.inf),
    convolution(groups=0),
    convolution(bias=np.zeros(3, np.float32)),
    pool(size=(0, 0)),
    pool(size=(2, 2, 2)),
    pool(size=()),
    pool(stride=(0, 1)),
    pool(size=(np.inf, 1)),
    pool(padding=(5, 5)),
    nir.Flatten(None, start_dim=99_999),
    nir.Flatten(None, start_dim=np.inf),  # pyright: ignore[reportArgumentType]
    nir.Delay(np.array([1e308])),
    nir.Delay(np.array([1e9])),
    nir.Delay(np.array([])),
    nir.Linear(np.array([[1e300]])),
    nir.LIF(*[np.array([1.0])] * 2, np.array([0.0]), np.array([1e-60])),
    nir.LIF(*[np.array([1.0 + 1j])] * 2, np.array([0.0]), np.array([1.0])),
    nir.LIF(*[np.array([1.0])] * 2, np.array([0.0]), np.array([1.0]), metadata={"reset": "none"}),
]


@pytest.mark.parametrize("node", DAMAGED, ids=lambda node: type(node).__name__)
def test_damaged_settings_are_refused(node: Any) -> None:
    with pytest.raises(InteropError, match=rf"^from_nir: node 'n0', {type(node).__name__}: "):
        from_nir(picture(node), dt=DT)


@pytest.mark.usefixtures("as_a_user")
def test_what_is_no_graph_and_what_is_no_reset() -> None:
    with pytest.raises(TypeError, match=r"nir.read\(path\) reads one"):
        from_nir("network.nir")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="reset must be 'zero', 'subtract' or None, got 'none'"):
        from_nir(graph_of(lif()), dt=DT, reset="none")  # pyright: ignore[reportArgumentType]


def test_weights_that_come_back_must_fit() -> None:
    graph = to_nir(rb.Sequential(rb.RecurrentLIF(4)), (4,), dt=DT)
    graph.nodes["0_recurrentlif"].nodes["w_rec"].weight = np.ones((4, 1), np.float32)
    with pytest.raises(InteropError, match=r"weights \(N, N\), got shape \(4, 1\)"):
        from_nir(graph)


@settings(max_examples=60)
@given(st.data())
def test_no_damage_gets_through(data: st.DataObject) -> None:
    """Whatever numbers are in the nodes: a network that computes numbers, or an error that says what is wrong."""
    graph = to_nir(rb.Sequential(nn.Linear(4, 3), rb.LIF(3), nn.Linear(3, 2), rb.SynapticReadout(2)), (4,), dt=DT)
    node = graph.nodes[data.draw(st.sampled_from(sorted(graph.nodes.keys() - {"input", "output"})))]
    name = data.draw(
        st.sampled_from(sorted(name for name in vars(node) if isinstance(getattr(node, name), np.ndarray)))
    )
    value = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-60, 1e-30, 1e30, 1e300]))
    setattr(node, name, np.full(getattr(node, name).shape, value))
    try:
        network = from_nir(graph)
    except RheobaseError as error:
        said = str(error)
    else:
        said = f"from_nir: {tuple(network(torch.zeros(5, 1, 4)).shape)}"
        assert not network[1](torch.zeros(5, 1, 3)).any()  # at rest nobody fires
    assert re.match(r"from_nir: (\(5, 1, 2\)|node '.*', [A-Za-z]+: .+)$", said)
