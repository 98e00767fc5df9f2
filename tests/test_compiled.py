"""What looks into a network sees all of one that was compiled and called before."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import rheobase as rb
from rheobase.compiled import original
from rheobase.data import ArrayDataset
from rheobase.training import checkpoint

T, B = 10, 6


# The compiler cannot take in the run-time check of annotations. The warning is its own, about itself.
pytestmark = [
    pytest.mark.usefixtures("as_a_user"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def written() -> rb.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return rb.Sequential(nn.Linear(4, 8), rb.LIF(8), nn.Linear(8, 3), rb.LeakyReadout(3))


def as_module() -> nn.Module:
    return torch.compile(written(), backend="eager")


def in_place() -> nn.Module:
    network = written()
    network.compile(backend="eager")
    return network


@pytest.fixture(params=[as_module, in_place])
def called(request: pytest.FixtureRequest, as_a_user: None) -> nn.Module:
    """A compiled network that ran before anybody looked."""
    network = request.param()
    network(data().x).sum().backward()
    network.zero_grad(set_to_none=True)
    return network


def data(lengths: bool = False) -> ArrayDataset:
    x = (torch.rand(T, B, 4, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    return ArrayDataset(x, np.arange(B) % 3, lengths=[T, 3, 5, T, 4, 6] if lengths else None)


def test_spikes_are_listened_to(called: nn.Module) -> None:
    x = data().x
    with rb.health.listening(called) as spikes:
        called(x)
    with rb.health.listening(plain := written()) as expected:
        plain(x)
    assert spikes.keys() == expected.keys() == {"1 LIF(8)"}
    assert torch.equal(spikes["1 LIF(8)"], expected["1 LIF(8)"])
    assert rb.regularizers.RateBounds(upper=0.01)(spikes, 1.0) > 0


def test_a_compiled_function_is_listened_to() -> None:
    network = written()
    function = torch.compile(lambda x: network(x), backend="eager")
    function(data().x)
    with rb.health.listening(network) as spikes:
        function(data().x)
    assert list(spikes) == ["1 LIF(8)"]


def test_an_evaluation_counts_spikes_and_operations(called: nn.Module) -> None:
    seen, expected = rb.evaluate(called, data()), rb.evaluate(written(), data())
    assert seen.layers[0].name == "1 LIF(8)"
    assert seen.layers[0].rate == expected.layers[0].rate > 0
    assert seen.input == expected.input
    assert seen.loss == expected.loss


def test_padding_is_masked(called: nn.Module) -> None:
    samples = data(lengths=True)
    mask = rb.mask_of(samples.lengths, T)
    with rb.masked(called, mask):
        output = called(samples.x)
    with rb.masked(plain := written(), mask):
        assert torch.equal(output, plain(samples.x))


@pytest.mark.parametrize("penalties", [[], [rb.regularizers.RateBounds(upper=0.05)]])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("network", [as_module, in_place])
def test_a_run_is_that_of_the_network_as_written(
    tmp_path: Path, network: Callable[[], nn.Module], lengths: bool, penalties: list[rb.regularizers.RateBounds]
) -> None:
    runs = {}
    for name, net in (("compiled", network()), ("written", written())):
        settings = rb.Training(epochs=2, batch_size=3)
        display = rb.training.Display()
        sets = data(lengths), data(lengths)
        rb.fit(net, *sets, settings=settings, regularizers=penalties, run=tmp_path / name, display=display)
        runs[name] = net
    checkpoint.load(tmp_path / "compiled" / "best.safetensors", plain := written())
    checkpoint.load(tmp_path / "written" / "best.safetensors", network())
    for name, value in plain.state_dict().items():
        assert torch.equal(value, original(runs["compiled"]).state_dict()[name])
        torch.testing.assert_close(value, runs["written"].state_dict()[name])


def test_the_doctor_looks_and_stabilize_scales(called: nn.Module) -> None:
    x = data().x
    measures = rb.doctor(called, x).measures
    assert measures is not None
    assert measures.layers[0].name == "1 LIF(8)"
    rb.stabilize(called, x)
    rb.stabilize(plain := written(), x)
    assert torch.equal(called(x), plain(x))
