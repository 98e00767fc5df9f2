"""Optimizers of the user: what they are given, that an interrupted run goes on with them, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import optim

import rheobase as rb
from rheobase.errors import RunError
from rheobase.training import Display, Training, checkpoint, fit
from training.tiny import Killed, Stop, arrays, assert_same_run, network, settings, splits

QUIET = Display()
POSITION = checkpoint.Position(1, 1, 0.5, 1.0, 2.0, "data", "{}")

# No state at all, a state of one's own after the first step, moments, and one for rows and columns.
OPTIMIZERS: dict[str, rb.training.Optimize] = {
    "SGD": optim.SGD,
    "SGD with momentum": lambda groups: optim.SGD(groups, momentum=0.9, nesterov=True),
    "Adamax": optim.Adamax,
    "NAdam": optim.NAdam,
    "Adafactor": optim.Adafactor,
}


def run(path: Path, optimizer: rb.training.Optimize, **more: Any) -> None:
    fit(network(), *splits(), settings(), run=path, optimizer=optimizer, **{"display": QUIET, **more})


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_interrupted_and_resumed_is_the_same_as_the_whole(name: str, tmp_path: Path) -> None:
    run(tmp_path / "whole", OPTIMIZERS[name])
    with pytest.raises(Killed):
        run(tmp_path / "part", OPTIMIZERS[name], display=Stop(epoch=2))
    run(tmp_path / "part", OPTIMIZERS[name], resume=True)
    assert_same_run(tmp_path / "part", tmp_path / "whole")


def test_it_steps_by_the_schedule_and_by_the_rates_of_groups() -> None:
    seen: list[dict[str, tuple[float, float]]] = []

    class Watched(optim.SGD):
        def step(self, closure: Any = None) -> Any:
            seen.append({group["name"]: (group["lr"], group["weight_decay"]) for group in self.param_groups})
            return super().step(closure)

    plan = settings(epochs=1, learning_rate=0.1, threshold_learning_rate=0.4, weight_decay=0.2)
    net = rb.Sequential(*network(), rb.LIF(3, learn=("threshold",)))
    fit(net, arrays(), arrays(7, 2), settings=plan, optimizer=Watched, display=QUIET)
    assert len(seen) == 5
    for step, groups in enumerate(seen):
        rate = plan.rate_at(step, 5)
        assert groups == {"weights": (rate, 0.2), "others": (rate, 0.0), "threshold": (pytest.approx(4 * rate), 0.0)}


def test_delays_have_a_rate_of_their_own() -> None:
    net = rb.Sequential(rb.DelayedLinear(8, 3, longest=4), rb.LeakyReadout(3))
    before = net[0].delay.detach().clone(), net[0].weight.detach().clone()
    plan = settings(epochs=1, learning_rate=1e-9, delay_learning_rate=0.05)
    fit(net, arrays(), arrays(7, 2), settings=plan, display=QUIET)
    assert (net[0].delay - before[0]).abs().mean() > 0.1
    assert (net[0].weight - before[1]).abs().max() < 1e-6
    with pytest.raises(ValueError, match="delay_learning_rate must be at least 0 and finite, got -1"):
        Training(delay_learning_rate=-1.0)


def test_another_optimizer_does_not_go_on(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "a", optim.Adamax, display=Stop(epoch=2))
    before = (tmp_path / "a" / "checkpoint.safetensors").read_bytes()

    def momentum(groups: list[dict[str, Any]]) -> optim.Optimizer:
        return optim.Adamax([{**group, "betas": (0.5, 0.999)} for group in groups])

    with pytest.raises(
        RunError, match="was started with optimizer Adamax, not AdamW; resume it with the same settings"
    ):
        fit(network(), *splits(), settings(), run=tmp_path / "a", resume=True, display=QUIET)
    with pytest.raises(RunError, match=r"was started with optimizer\.betas \[0\.9, 0\.999\], not \[0\.5, 0\.999\]"):
        run(tmp_path / "a", momentum, resume=True)
    assert (tmp_path / "a" / "checkpoint.safetensors").read_bytes() == before


def test_weights_alone_are_no_checkpoint_of_an_optimizer_without_a_state(tmp_path: Path) -> None:
    run(tmp_path / "a", optim.SGD)
    net = network()
    checkpoint.load(tmp_path / "a" / "checkpoint.safetensors", net, optim.SGD(net.parameters()))
    with pytest.raises(RunError, match="holds weights alone"):
        checkpoint.load(tmp_path / "a" / "best.safetensors", net, optim.SGD(net.parameters()))


def test_plain_adamw_does_not_go_on_where_the_fused_one_was(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        fit(network(), *splits(), settings(), run=tmp_path / "a", display=Stop(epoch=2))
    with pytest.raises(RunError, match=r"was started with optimizer\.fused True, not None"):
        run(tmp_path / "a", optim.AdamW, resume=True)


def test_checkpoints_of_before_there_was_a_choice_are_of_adamw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    made, sgd = optim.AdamW(net.parameters()), optim.SGD(net.parameters())
    net(torch.ones(4, 2, 8)).sum().backward()
    made.step()
    with monkeypatch.context() as before:
        before.setattr(
            checkpoint, "serialize", lambda tensors, metadata: save(tensors, _without(metadata, "optimizer"))
        )
        checkpoint.save(tmp_path / "a", net, POSITION, made)
    checkpoint.load(tmp_path / "a", net, optim.AdamW(net.parameters()))
    with pytest.raises(RunError, match="was made by AdamW, not SGD"):
        checkpoint.load(tmp_path / "a", net, sgd)


def _without(metadata: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key != name}


def test_a_state_that_no_checkpoint_holds_is_refused_by_name(tmp_path: Path) -> None:
    class Remembers(optim.SGD):
        def step(self, closure: Any = None) -> Any:
            self.state[self.param_groups[0]["params"][0]]["what"] = "words"
            return super().step(closure)

    with pytest.raises(
        TypeError, match="Remembers keeps 'what', a str, which a checkpoint cannot hold; train without run="
    ):
        run(tmp_path / "a", Remembers)


@pytest.mark.usefixtures("as_a_user")
def test_what_is_no_optimizer() -> None:
    for wrong, message in (
        (optim.SGD(network().parameters(), lr=0.1), r"a class or a function of parameter groups, .*got SGD"),
        ("sgd", r"a class or a function of parameter groups, .*got str"),
        (lambda groups: None, r"got NoneType"),
        (optim.LBFGS, r"such as .*Adamax, got LBFGS"),
        (lambda groups: optim.LBFGS([p for group in groups for p in group["params"]]), r"such as .*Adamax, got LBFGS"),
    ):
        with pytest.raises(TypeError, match=message):
            fit(network(), *splits(), settings(), optimizer=wrong, display=QUIET)
    other = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match="of the parameter groups that it is given, got other parameters"):
        fit(network(), *splits(), settings(), optimizer=lambda groups: optim.SGD(other.parameters()), display=QUIET)
