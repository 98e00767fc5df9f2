"""Checkpoints: what goes in comes out, and nothing else is taken for one."""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as serialize
from torch import nn

import rheobase as rb
from rheobase.errors import RunError
from rheobase.training import Display, checkpoint
from rheobase.training.checkpoint import Position
from training.tiny import arrays, network

POSITION = Position(
    epoch=3, best_epoch=2, best_accuracy=0.1 + 0.2, best_loss=1 / 3, seconds=1.5, data="a b", settings="{}"
)


def trained(steps: int = 2) -> tuple[rb.Sequential, torch.optim.AdamW]:
    net = network(dropout=0.0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    x, labels = arrays().batch(arrays().chosen)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x).mean(0), labels).backward()
        optimizer.step()
    return net, optimizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "checkpoint.safetensors"
    net, optimizer = trained()
    checkpoint.save(path, net, POSITION, optimizer)
    return path


def test_everything_comes_back_bit_for_bit(saved: Path) -> None:
    net, optimizer = trained()
    other = network(seed=1)
    fresh = torch.optim.AdamW(other.parameters(), lr=0.1)
    assert checkpoint.load(saved, other, fresh) == POSITION
    for name, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    ours, theirs = optimizer.state_dict(), fresh.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    for index, moments in ours["state"].items():
        assert moments.keys() == theirs["state"][index].keys()
        for key, value in moments.items():
            assert torch.equal(value, theirs["state"][index][key])
            assert value.dtype == theirs["state"][index][key].dtype


def test_training_goes_on_as_if_it_had_not_been_saved(saved: Path) -> None:
    longer, _ = trained(steps=3)
    net = network(seed=1, dropout=0.0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    checkpoint.load(str(saved), net, optimizer)
    x, labels = arrays().batch(arrays().chosen)
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(x).mean(0), labels).backward()
    optimizer.step()
    for name, value in longer.state_dict().items():
        assert torch.equal(value, net.state_dict()[name])


def test_infinite_and_missing_values_of_a_first_epoch(tmp_path: Path) -> None:
    position = Position(
        epoch=0, best_epoch=0, best_accuracy=-1.0, best_loss=float("inf"), seconds=0.0, data="", settings=""
    )
    checkpoint.save(tmp_path / "c", network(), position)
    assert checkpoint.load(tmp_path / "c", network()) == position


def test_tied_weights_and_buffers(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight
            self.register_buffer("count", torch.tensor(7))

    one, other = Tied(), Tied()
    one.count += 1
    checkpoint.save(tmp_path / "c", one, POSITION)
    checkpoint.load(tmp_path / "c", other)
    assert torch.equal(one.a.weight, other.a.weight)
    assert other.b.weight is other.a.weight
    assert other.count == 8


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            lambda: network(hidden=11),
            r"0\.weight is float32 \(10, 8\), here float32 \(11, 8\).* and 2 more differences",
        ),
        (lambda: rb.Sequential(nn.Linear(8, 10)), r"1\.raw_decay is not in this network; .* and 2 more"),
        (lambda: rb.Sequential(*network(), nn.Linear(3, 3)), r"5\.weight is missing; 5\.bias is missing"),
        (lambda: network().double(), r"0\.weight is float32 \(10, 8\), here float64 \(10, 8\)"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused_and_changes_nothing(saved: Path, other, message: str) -> None:
    net = other()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(RunError, match="a checkpoint of another network: .*" + message):
        checkpoint.load(saved, net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def refused(path: Path, message: str) -> None:
    """Loading fails with `message`, and network and optimizer are as they were."""
    net, optimizer = trained(steps=1)
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    moments = [moment.clone() for state in optimizer.state_dict()["state"].values() for moment in state.values()]
    with pytest.raises(RunError, match=message) as caught:
        checkpoint.load(path, net, optimizer)
    assert str(path) in str(caught.value)
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    after = [moment for state in optimizer.state_dict()["state"].values() for moment in state.values()]
    assert all(torch.equal(one, other) for one, other in zip(moments, after, strict=True))


def of_a_run(folder: Path, **settings: Any) -> Path:
    """The best weights of a run of neurons with these settings."""
    rb.fit(neurons(**settings), arrays(), arrays(9), settings=rb.Training(epochs=1), run=folder, display=Display())
    return folder / "best.safetensors"


def neurons(kind: type = rb.LIF, **settings: Any) -> rb.Sequential:
    return rb.Sequential(nn.Linear(8, 5), kind(5, **settings), nn.Linear(5, 3), rb.LeakyReadout(3))


def test_weights_are_not_put_behind_another_reset_or_into_other_neurons(tmp_path: Path) -> None:
    path = of_a_run(tmp_path / "run", reset="zero")
    net = neurons()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(RunError, match=r"other layers: 1.reset is zero, here subtract"):
        checkpoint.load(path, net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with pytest.raises(RunError, match=r"other layers: 1 is LIF, here SingleSpike"):
        checkpoint.load(path, neurons(rb.SingleSpike))
    checkpoint.load(path, neurons(reset="zero"))


LAYERS: dict[str, tuple[Any, Any, str | None]] = {
    "bits": (lambda: rb.quantize(nn.Linear(8, 8), 8), lambda: rb.quantize(nn.Linear(8, 8), 2), r"0\.bits is 8, here 2"),
    "delay": (lambda: rb.Delay(1), lambda: rb.Delay(2), r"steps is 1, here 2"),
    "activation": (nn.ReLU, nn.Tanh, "1 is ReLU, here Tanh"),
    "stride": (
        lambda: nn.AvgPool1d(3, 1, 1),
        lambda: nn.AvgPool1d(3, 1, 1, count_include_pad=False),
        "include_pad is True",
    ),
    "the same in other words": (lambda: nn.AvgPool1d(1), lambda: nn.AvgPool1d((1,)), None),
    "the same computed otherwise": (lambda: nn.Linear(8, 8), lambda: rb.SpikeLinear(8, 8), None),
    "dropout": (lambda: nn.Dropout(0.1), lambda: nn.Dropout(0.5), None),
    "another dropout": (lambda: nn.Dropout(0.1), lambda: rb.Dropout(0.1), None),
    "nothing": (nn.Identity, nn.Identity, None),
}


@pytest.mark.parametrize("case", LAYERS)
def test_layers_that_compute_something_else_with_the_same_weights_are_refused(tmp_path: Path, case: str) -> None:
    trained, other, message = LAYERS[case]

    def network(layer: Any) -> rb.Sequential:
        return rb.Sequential(rb.LIF(8), layer(), nn.Linear(8, 3), rb.LeakyReadout(3))

    settings = rb.Training(epochs=1)
    rb.fit(network(trained), arrays(), arrays(9), settings=settings, run=tmp_path / "run", display=Display())
    path = tmp_path / "run" / "best.safetensors"
    checkpoint.load(path, network(trained))
    if message is None:
        checkpoint.load(path, network(other))
    else:
        with pytest.raises(RunError, match=f"other layers: .*{message}"):
            checkpoint.load(path, network(other))


def test_a_run_does_not_go_on_with_another_dropout(tmp_path: Path) -> None:
    def go_on(p: float, **more: Any) -> None:
        net = rb.Sequential(nn.Linear(8, 5), rb.LIF(5), rb.Dropout(p), nn.Linear(5, 3), rb.LeakyReadout(3))
        rb.fit(
            net, arrays(), arrays(9), settings=rb.Training(epochs=1), run=tmp_path / "run", display=Display(), **more
        )

    go_on(0.1)
    with pytest.raises(RunError, match=r"was started with 2\.p 0\.1, not 0\.5"):
        go_on(0.5, resume=True)


class Counting(nn.Linear):
    """A layer of one's own that remembers something."""

    calls = 0

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(input)


def test_what_layers_of_ones_own_remember_is_theirs(tmp_path: Path) -> None:
    net = rb.Sequential(Counting(8, 5), rb.LIF(5), nn.Linear(5, 3), rb.LeakyReadout(3))
    rb.fit(net, arrays(), arrays(9), settings=rb.Training(epochs=1), run=tmp_path / "run", display=Display())
    assert net[0].calls > 1
    checkpoint.load(tmp_path / "run" / "best.safetensors", net)


def test_what_changes_gradients_alone_may_differ(tmp_path: Path) -> None:
    path = of_a_run(tmp_path / "run")
    checkpoint.load(path, neurons(surrogate=rb.surrogate.Arctan(), reset_gradient="attached"))


def test_surrogates_get_the_dampening_that_they_were_trained_with(tmp_path: Path) -> None:
    def built() -> rb.Sequential:
        arctan = rb.LIF(5, surrogate=rb.surrogate.Arctan())
        return rb.Sequential(nn.Linear(8, 5), rb.RecurrentLIF(5), nn.Linear(5, 5), arctan, nn.Linear(5, 3))

    net, found = built(), built()
    rb.stabilize(net, (torch.rand(20, 16, 8) < 0.3).float())
    rb.fit(net, arrays(), arrays(9), settings=rb.Training(epochs=1), run=tmp_path / "run", display=Display())
    assert all(net[index].surrogate != found[index].surrogate for index in (1, 3))
    checkpoint.load(tmp_path / "run" / "best.safetensors", found)
    assert all(net[index].surrogate == found[index].surrogate for index in (1, 3))


def test_surrogates_that_were_chosen_since_stay(tmp_path: Path) -> None:
    path = of_a_run(tmp_path / "run", surrogate=rb.surrogate.FastSigmoid(dampening=0.3))
    for chosen in (rb.surrogate.Arctan(), rb.surrogate.FastSigmoid(dampening=2.0, sharpness=3.0)):
        net = neurons(surrogate=chosen)
        checkpoint.load(path, net)
        assert net[1].surrogate == chosen


@pytest.mark.parametrize("number", ["nan", "-1.0", "0.0", "much"])
def test_a_dampening_that_is_none(tmp_path: Path, number: str) -> None:
    words = json.dumps({"1.surrogate": f"FastSigmoid(dampening={number}, sharpness=1.0)"})
    net = neurons()
    checkpoint.save(tmp_path / "c", net, replace(POSITION, settings=words))
    with pytest.raises(RunError, match="damaged"):
        checkpoint.load(tmp_path / "c", net)


def test_weights_alone_do_not_go_on_training(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "best.safetensors", network(), POSITION)
    refused(tmp_path / "best.safetensors", "without the optimizer's state")


def test_moments_of_another_optimizer(tmp_path: Path) -> None:
    net, optimizer = trained()
    optimizer.state[net[0].weight]["exp_avg"] = torch.zeros(())
    checkpoint.save(tmp_path / "a", net, POSITION, optimizer)
    refused(tmp_path / "a", r"optimizer\.0\.exp_avg' has shape \(\)")
    net, optimizer = trained()
    optimizer.add_param_group({"params": [torch.zeros(2, requires_grad=True)]})
    optimizer.state[optimizer.param_groups[1]["params"][0]] = {"step": torch.tensor(1.0)}
    checkpoint.save(tmp_path / "b", net, POSITION, optimizer)
    refused(tmp_path / "b", "the optimizer has 7 parameters, got a state 'optimizer.7.step'")


def test_no_file_a_folder_an_empty_file(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "no such checkpoint")
    refused(tmp_path, "damaged")
    (tmp_path / "empty").touch()
    refused(tmp_path / "empty", "damaged")


def test_a_safetensors_file_of_another_program(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(serialize({"weight": torch.zeros(3)}))
    refused(tmp_path / "c", "not a checkpoint of this library")


@pytest.mark.parametrize(
    "position",
    ["{", "[]", "null", '{"epoch": 1}', '{"epoch": "1"}', "[" * 100_000, json.dumps({**vars(POSITION), "more": 1}),
     json.dumps({**vars(POSITION), "epoch": 1.5}), json.dumps({**vars(POSITION), "data": None})],
)  # fmt: skip
def test_a_position_that_is_none(tmp_path: Path, position: str) -> None:
    content = {"network.x": torch.zeros(1)}
    metadata = {"position": position, "sha256": checkpoint._digest(content, position)}
    (tmp_path / "c").write_bytes(serialize(content, metadata=metadata))
    refused(tmp_path / "c", "damaged")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_is_found(saved: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(saved.read_bytes())
    header = 8 + struct.unpack("<Q", content[:8])[0]
    where = data.draw(st.one_of(st.integers(0, header - 1), st.integers(header, len(content) - 1)))
    kind = data.draw(st.sampled_from(["bit", "byte", "cut", "grown", "zeros"]))
    if kind == "bit":
        content[where] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "byte":
        content[where] = (content[where] + data.draw(st.integers(1, 255))) % 256
    elif kind == "cut":
        del content[where:]
    elif kind == "grown":
        content[where:where] = b"\0"
    else:
        content[where:] = bytes(len(content) - where)
    if content == saved.read_bytes():
        return
    (tmp_path / "damaged").write_bytes(content)
    try:
        found = checkpoint.load(tmp_path / "damaged", network(seed=1))
    except RunError:
        return
    # A flip in the header may leave its meaning as it was (the padding): then all is as it was saved.
    assert found == POSITION
    assert where < header
