"""The loop: what it learns, what it draws, what it keeps, what it survives, what it refuses."""

import importlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import rheobase as rb
from computing import computed_by
from rheobase import randomness
from rheobase.data import ArrayDataset
from rheobase.errors import DivergenceError, RunError
from rheobase.regularizers import Schedule, Sparsity, constant, linear_annealing, switch_off, switch_on
from rheobase.scheduled import Scheduled
from rheobase.training import Display, RunFolder, Training, checkpoint, evaluate, fit
from training.tiny import (
    CHANNELS,
    CLASSES,
    STEPS,
    Killed,
    Stop,
    Wrapped,
    arrays,
    assert_same_run,
    events,
    network,
    settings,
    splits,
    tensors,
    train,
    untimed,
)

QUIET = Display()


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


class Watched(Wrapped):
    """Remembers which samples were asked for, and with which seed."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.asked: list[tuple[list[int], tuple[int, ...] | None]] = []

    def batch(self, indices: np.ndarray, seed: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
        self.asked.append((indices.tolist(), seed))
        return super().batch(indices, seed)


# What it learns


def test_it_learns() -> None:
    result = fit(network(), *splits(), settings(epochs=12), display=QUIET)
    assert result.metrics[-1]["loss"] < 0.6 * result.metrics[0]["loss"]
    assert result.validation.accuracy > 0.8


def test_the_metrics_say_what_happened() -> None:
    result = train(epochs=2)
    for epoch, metrics in enumerate(result.metrics, start=1):
        assert metrics["epoch"] == epoch
        assert metrics["epochs"] == 2
        assert metrics["learning_rate"] == settings(epochs=2).rate_at(5 * epoch - 1, 10)
        assert metrics["samples_per_second"] > 0
        assert [layer["name"] for layer in metrics["layers"]] == ["1 LIF(10)"]
    assert json.loads(json.dumps(result.summary)) == result.summary


def test_one_epoch_is_what_adamw_does_by_hand() -> None:
    # The whole step, written out: order, mean over an uneven last batch, clipping, schedule, weight decay on matrices.
    data, plan = arrays(), settings(epochs=1, clip_gradient=0.05, weight_decay=0.3)
    net, by_hand = network(dropout=0.0), network(dropout=0.0)
    result = fit(net, data, arrays(7, 2), settings=plan, display=QUIET)
    groups = [[p for p in by_hand.parameters() if (p.ndim >= 2) == matrix] for matrix in (True, False)]
    optimizer = torch.optim.AdamW(
        [{"params": groups[0], "weight_decay": 0.3}, {"params": groups[1], "weight_decay": 0.0}], fused=True
    )
    order = randomness.order(plan.seed, 1, 37)
    losses = []
    for step in range(5):
        x, labels = data.batch(order[8 * step : 8 * step + 8])
        loss = functional.cross_entropy(by_hand(x).mean(0), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(by_hand.parameters(), 0.05)
        for group in optimizer.param_groups:
            group["lr"] = plan.rate_at(step, 5)
        optimizer.step()
        losses.append(loss.item() * len(labels))
    assert len(labels) == 5
    assert same(weights(net), weights(by_hand))
    assert result.metrics[0]["loss"] == pytest.approx(sum(losses) / 37, rel=1e-6)


def test_weight_decay_pulls_at_matrices_alone() -> None:
    def constant(output: Tensor, labels: Tensor) -> Tensor:
        return 0 * output.sum()

    net = network()
    before = weights(net)
    plan = settings(epochs=1, weight_decay=0.5)
    fit(net, arrays(), arrays(7, 2), settings=plan, loss=constant, display=QUIET)
    shrunk = math.prod(1 - 0.5 * plan.rate_at(step, 5) for step in range(5))
    for name, value in net.state_dict().items():
        expected = before[name] * shrunk if value.ndim == 2 else before[name]
        torch.testing.assert_close(value, expected)


def test_what_cannot_learn_is_told_why() -> None:
    frozen = network().requires_grad_(False)
    with pytest.raises(ValueError, match=r"network has nothing to learn: .*requires_grad_\(True\) lets one learn"):
        fit(frozen, *splits(), settings(), display=QUIET)
    lazy = rb.Sequential(nn.LazyLinear(CLASSES), rb.LeakyReadout(CLASSES))
    with pytest.raises(ValueError, match=r"network: 0\.weight has no shape yet, .*call network\(x\) once before"):
        fit(lazy, *splits(), settings(), display=QUIET)
    lazy(arrays().x)
    fit(lazy, *splits(), settings(epochs=1), display=QUIET)


def test_a_frozen_parameter_stays() -> None:
    net = network()
    net[0].weight.requires_grad_(False)
    before = weights(net)
    fit(net, *splits(), settings(), display=QUIET)
    assert torch.equal(net[0].weight, before["0.weight"])
    assert not torch.equal(net[3].weight, before["3.weight"])


def test_a_loss_and_a_decoder_of_the_user() -> None:
    asked = []

    def loss(output: Tensor, labels: Tensor) -> Tensor:
        asked.append((tuple(output.shape), len(labels)))
        return functional.cross_entropy(output[-1], labels)

    result = fit(
        network(),
        *splits(),
        settings(epochs=1),
        loss=loss,
        decode=lambda output: -rb.decoding.last(output),
        display=QUIET,
    )
    assert asked[0] == ((6, 8, CLASSES), 8)
    assert result.validation.loss > 0


# What it draws


def test_every_epoch_sees_every_sample_once_in_an_order_of_its_own() -> None:
    train, validation, test = splits()
    watched = Watched(train)
    fit(network(), watched, validation, test, settings(epochs=3), display=QUIET)
    assert [len(indices) for indices, _ in watched.asked] == 3 * [8, 8, 8, 8, 5]
    orders = [[i for indices, _ in watched.asked[5 * k : 5 * k + 5] for i in indices] for k in range(3)]
    assert all(sorted(order) == list(range(37)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    seeds = [{seed for _, seed in watched.asked[5 * k : 5 * k + 5]} for k in range(3)]
    assert [len(seed) for seed in seeds] == [1, 1, 1]
    assert len(set.union(*seeds)) == 3
    assert None not in set.union(*seeds)


def test_augmentation_does_not_depend_on_the_grouping() -> None:
    data = splits()[0]
    seed = randomness.augmentation(3, 2)
    whole, _ = data.batch(np.arange(37), seed)
    for start in range(0, 37, 5):
        part, _ = data.batch(np.arange(start, min(start + 5, 37)), seed)
        assert torch.equal(part, whole[:, start : start + 5])
    assert not torch.equal(whole, data.batch(np.arange(37), randomness.augmentation(3, 3))[0])


def test_the_same_seed_is_the_same_run_and_another_is_another() -> None:
    one, other, third = train(), train(), train(seed=6)
    assert untimed(one.metrics) == untimed(other.metrics)
    assert untimed(one.summary) == untimed(other.summary)
    assert untimed(one.metrics) != untimed(third.metrics)


def test_dropout_differs_by_step_and_epoch() -> None:
    masks = []

    class Remember(rb.Dropout):
        def run(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
            x, state = super().run(x, state)
            if state is not None:
                masks.append(tuple(state[:5].flatten().tolist()))
            return x, state

    net = rb.Sequential(nn.Linear(CHANNELS, 10), Remember(0.5), nn.Linear(10, CLASSES))
    fit(net, *splits(), settings(epochs=2), display=QUIET)
    assert len(masks) == len(set(masks)) == 10


def test_the_users_random_generators_are_untouched(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before, numpy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    train(tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(Killed):
        train(display=Stop(epoch=1))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy)  # noqa: NPY002
    torch.manual_seed(4)
    other = train(tmp_path / "b")
    torch.manual_seed(3)
    assert untimed(other.metrics) == untimed(train().metrics)


# What it keeps


def test_the_best_weights_are_in_the_network_at_the_end(tmp_path: Path) -> None:
    net = network()
    train_set, validation, test = splits()
    result = fit(
        net, train_set, validation, test, settings(epochs=6, learning_rate=0.8), run=tmp_path / "a", display=QUIET
    )
    assert result.best_epoch < 6
    assert not net.training
    best, position = tensors(tmp_path / "a" / "best.safetensors")
    assert position["epoch"] == result.best_epoch
    assert same({name.removeprefix("network."): value for name, value in best.items()}, weights(net))
    last, _ = tensors(tmp_path / "a" / "checkpoint.safetensors")
    assert not torch.equal(last["network.0.weight"], best["network.0.weight"])
    seen = evaluate(net, validation)
    assert seen.accuracy == result.validation.accuracy == result.metrics[result.best_epoch - 1]["validation_accuracy"]
    assert seen.accuracy == max(metrics["validation_accuracy"] for metrics in result.metrics)
    assert evaluate(net, test).accuracy == result.test.accuracy == result.summary["test_accuracy"]


def test_the_test_set_is_read_once_after_the_last_epoch(tmp_path: Path) -> None:
    class Late(Watched):
        def batch(self, indices: np.ndarray, seed: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
            told.append("test")
            return super().batch(indices, seed)

    class Tell(Display):
        def epoch(self, metrics: dict[str, Any]) -> None:
            told.append("epoch")

    told: list[str] = []
    train_set, validation, test = splits()
    test, unheard = Late(test), Late(events(5, 9))
    result = fit(
        network(),
        train_set,
        validation,
        test,
        settings(),
        also_test={"unheard": unheard},
        run=tmp_path / "a",
        display=Tell(),
    )
    assert told[:3] == ["epoch"] * 3
    assert "epoch" not in told[3:]
    # Once for the accuracy; and the first sample again for the picture of its spikes, which decides nothing.
    assert [indices for indices, _ in test.asked] == [list(range(11)), [0]]
    assert [indices for indices, _ in unheard.asked] == [list(range(5))]
    assert all(seed is None for _, seed in test.asked + unheard.asked)
    also = result.summary["also_tested"]["unheard"]
    assert result.summary["also_tested"] == {
        "unheard": {"accuracy": also["accuracy"], "loss": also["loss"], "samples": 5}
    }


class Scripted(nn.Module):
    """A network whose validation accuracy and loss follow a script, whatever it learns."""

    def __init__(self, script: list[tuple[int, float]]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.epoch = nn.Buffer(torch.zeros((), dtype=torch.int64))
        self.script = script
        self.was_training = False

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not self.was_training:
            self.epoch += 1
        self.was_training = self.training
        correct, confidence = self.script[int(self.epoch) - 1]
        if self.training:
            return self.weight * x[..., :2]
        # all labels are 0: the first `correct` samples of four are right, and all are as sure as `confidence`
        logits = torch.zeros(x.shape[0], x.shape[1], 2)
        logits[:, :correct, 0] = confidence
        logits[:, correct:, 1] = confidence
        return logits


@pytest.mark.parametrize(
    ("script", "patience", "best", "epochs"),
    [
        ([(1, 1.0), (3, 1.0), (2, 1.0), (2, 1.0)], None, 2, 4),
        ([(1, 1.0), (3, 1.0), (2, 1.0), (2, 1.0)], 1, 2, 3),
        ([(1, 1.0), (3, 1.0), (2, 1.0), (2, 1.0), (4, 1.0)], 2, 2, 4),
        ([(1, 1.0), (3, 1.0), (2, 1.0), (4, 1.0), (3, 1.0)], 2, 4, 5),
        ([(3, 2.0), (3, 1.0), (3, 1.5)], None, 2, 3),  # a tie, broken by the lower loss
        ([(3, 1.0), (3, 0.5), (3, 1.0)], None, 1, 3),  # equal in both: the first stays
        ([(0, 1.0), (0, 1.0)], None, 1, 2),  # nothing right at all is still the best so far
    ],
)
def test_best_epoch_patience_and_ties(
    script: list[tuple[int, float]], patience: int | None, best: int, epochs: int
) -> None:
    data = ArrayDataset(torch.rand(2, 4, 2), np.zeros(4, np.int64), ("a", "b"))
    net = Scripted(script)
    result = fit(net, data, data, settings=settings(epochs=len(script), patience=patience, batch_size=4), display=QUIET)
    assert (result.best_epoch, len(result.metrics), int(net.epoch)) == (best, epochs, best)
    assert result.summary["epochs"] == epochs


class SettlesLate(Scripted, Scheduled):
    """As it will be from half of training on."""

    def __init__(self, script: list[tuple[int, float]]) -> None:
        super().__init__(script)
        self.register_buffer("progress", torch.ones(()))

    def is_settled(self) -> bool:
        return self.progress.item() >= 0.5


@pytest.mark.parametrize(
    ("script", "patience", "best", "epochs"),
    [
        ([(4, 1.0), (3, 1.0), (2, 1.0), (1, 1.0), (1, 1.0)], None, 3, 5),  # the best two are of networks on their way
        ([(4, 1.0), (3, 1.0), (2, 1.0), (1, 1.0), (1, 1.0)], 1, 3, 4),  # whose decline is no reason to stop
        ([(4, 1.0), (3, 1.0), (2, 1.0), (3, 1.0), (1, 1.0)], None, 4, 5),
    ],
)
def test_networks_that_are_not_yet_what_they_are_to_become_are_not_the_best(
    script: list[tuple[int, float]], patience: int | None, best: int, epochs: int, tmp_path: Path
) -> None:
    data = ArrayDataset(torch.rand(2, 4, 2), np.zeros(4, np.int64), ("a", "b"))
    plan = settings(epochs=len(script), patience=patience, batch_size=4)
    for stop in (None, 1, 2, 3):
        net, folder = SettlesLate(script), tmp_path / str(stop)
        if stop is not None:
            with pytest.raises(Killed):
                fit(SettlesLate(script), data, data, settings=plan, display=Stop(epoch=stop), run=folder)
        result = fit(net, data, data, settings=plan, display=QUIET, run=folder, resume=stop is not None)
        assert (result.best_epoch, len(result.metrics), int(net.epoch)) == (best, epochs, best)


@pytest.mark.parametrize(("schedule", "best"), [(constant, 1), (switch_on, 3), (switch_off, 1), (linear_annealing, 4)])
def test_epochs_before_a_penalty_has_come_in_are_not_the_best(schedule: Schedule, best: int, tmp_path: Path) -> None:
    script = [(4, 1.0), (3, 1.0), (2, 1.0), (1, 1.0), (1, 1.0)]
    data = ArrayDataset(torch.rand(2, 4, 2), np.zeros(4, np.int64), ("a", "b"))
    plan, penalties = settings(epochs=len(script), batch_size=4), [Sparsity(schedule=schedule)]
    for stop in (None, 1, 2, 3, 4):
        folder = tmp_path / str(stop)
        if stop is not None:
            with pytest.raises(Killed):
                fit(
                    Scripted(script),
                    data,
                    data,
                    settings=plan,
                    regularizers=penalties,
                    display=Stop(epoch=stop),
                    run=folder,
                )
        result = fit(
            Scripted(script),
            data,
            data,
            settings=plan,
            regularizers=penalties,
            display=QUIET,
            run=folder,
            resume=stop is not None,
        )
        assert result.best_epoch == best


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train(epochs=1)
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_leaves_behind(tmp_path: Path) -> None:
    train(tmp_path / "a")
    names = {
        "config.json",
        "metrics.jsonl",
        "checkpoint.safetensors",
        "best.safetensors",
        "evaluation.npz",
        "summary.json",
    }
    assert {path.name for path in (tmp_path / "a").iterdir()} == names


# What it survives; kills from outside are in test_kill.py


@pytest.mark.parametrize("stop", [Stop(step=(1, 2)), Stop(epoch=1), Stop(step=(2, 1)), Stop(epoch=2), Stop(epoch=3)])
def test_interrupted_and_resumed_is_the_same_as_the_whole(tmp_path: Path, stop: Stop) -> None:
    train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "part", display=stop)
    leftovers = [".checkpoint.x1.safetensors", ".metrics.x2.jsonl", ".best.x3.safetensors"]
    for name in leftovers:
        (tmp_path / "part" / name).write_bytes(b"half")
    result = train(tmp_path / "part", resume=True)
    assert len(result.metrics) == 3
    assert_same_run(tmp_path / "part", tmp_path / "whole")


def test_a_run_that_has_ended_by_patience_does_not_go_on(tmp_path: Path) -> None:
    plan = {"epochs": 40, "learning_rate": 0.8, "patience": 1}
    first = train(tmp_path / "a", **plan)
    assert len(first.metrics) < 40
    (tmp_path / "a" / "summary.json").unlink()
    again = train(tmp_path / "a", resume=True, **plan)
    assert untimed(again.summary) == untimed(first.summary)
    assert untimed(again.metrics) == untimed(first.metrics)


def interrupted(tmp_path: Path) -> Path:
    with pytest.raises(Killed):
        train(tmp_path / "a", display=Stop(epoch=2), learning_rate=0.8, epochs=6)
    return tmp_path / "a"


def test_resume_refuses_other_data(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    train_set, validation, test = splits()
    plan = settings(learning_rate=0.8, epochs=6)
    for one, other in [
        (train_set.subset(np.arange(36)), validation),
        (train_set.augmented(), validation),
        (events(37, 8), validation),
        (train_set, events(7, 8)),
    ]:
        with pytest.raises(RunError, match="the data is not what this run was started with"):
            fit(network(), one, other, test, plan, run=run, resume=True, display=QUIET)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.parametrize("change", [{"seed": 6}, {"epochs": 7}, {"batch_size": 9}, {"precision": "bfloat16"}])
def test_resume_refuses_other_settings(tmp_path: Path, change: dict[str, Any]) -> None:
    run = interrupted(tmp_path)
    with pytest.raises(RunError, match=r"was started with .*, not .*; resume it with the same settings"):
        train(run, resume=True, **{"learning_rate": 0.8, "epochs": 6, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"loss": lambda output, labels: nn.functional.cross_entropy(output.mean(0), labels)},
            "loss None, not <lambda>",
        ),
        ({"decode": rb.decoding.max}, "decode mean, not max"),
        ({"regularizers": [Sparsity(target=0.2)]}, r"regularizers \[\], not \[Sparsity\(target=0\.2,"),
    ],
)
def test_resume_refuses_another_loss(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    run, plan = interrupted(tmp_path), settings(learning_rate=0.8, epochs=6)
    with pytest.raises(RunError, match=message):
        fit(network(), *splits(), plan, run=run, resume=True, display=QUIET, **change)


def test_resume_refuses_another_surrogate(tmp_path: Path) -> None:
    run, plan, changed = interrupted(tmp_path), settings(learning_rate=0.8, epochs=6), network()
    changed[1].surrogate = rb.surrogate.FastSigmoid(dampening=0.3)
    before = weights(changed)
    with pytest.raises(RunError, match=r"1\.surrogate FastSigmoid.* not FastSigmoid\(dampening=0\.3"):
        fit(changed, *splits(), plan, run=run, resume=True, display=QUIET)
    assert same(weights(changed), before)


def killed_at_the_start(tmp_path: Path) -> Path:
    with pytest.raises(Killed):
        train(tmp_path / "a", display=Stop(step=(1, 1)), learning_rate=0.8, epochs=6)
    assert not (tmp_path / "a" / "checkpoint.safetensors").exists()
    return tmp_path / "a"


def test_before_the_first_checkpoint_resume_refuses_the_same(tmp_path: Path) -> None:
    run, plan = killed_at_the_start(tmp_path), settings(learning_rate=0.8, epochs=6)
    train_set, validation, test = splits()
    with pytest.raises(RunError, match="the data is not what this run was started with"):
        fit(network(), train_set.subset(np.arange(36)), validation, test, plan, run=run, resume=True, display=QUIET)
    with pytest.raises(RunError, match=r"was started with .*seed.*, not .*; resume it with the same settings"):
        train(run, resume=True, learning_rate=0.8, epochs=6, seed=6)
    assert len(train(run, resume=True, learning_rate=0.8, epochs=6).metrics) == 6


@pytest.mark.parametrize("settings_of_start", ["", "[]", "{", None])
def test_a_start_that_is_damaged_is_refused(tmp_path: Path, settings_of_start: str | None) -> None:
    run = killed_at_the_start(tmp_path)
    config = json.loads((run / "config.json").read_text())
    config["started_with"]["settings"] = settings_of_start
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="what this run was started with is damaged"):
        train(run, resume=True, learning_rate=0.8, epochs=6)


@pytest.mark.parametrize("left", ["best.safetensors", "summary.json"])
def test_results_without_a_checkpoint_are_not_overwritten(tmp_path: Path, left: str) -> None:
    train(tmp_path / "a")
    (tmp_path / "a" / "checkpoint.safetensors").unlink()
    (tmp_path / "a" / ({"best.safetensors", "summary.json"} - {left}).pop()).unlink()
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    with pytest.raises(RunError, match=r"has results but no checkpoint\.safetensors to resume from"):
        train(tmp_path / "a", resume=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before


def test_resume_clears_away_what_a_kill_has_left_half_written(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    (run / ".checkpoint.0a1b2c3d.safetensors").write_bytes(b"half")
    train(run, resume=True, learning_rate=0.8, epochs=6)
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


class Louder:
    """An augmentation as a user writes it, that says nothing of itself."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, recording: Any, rng: np.random.Generator) -> Any:
        return recording.keep(rng.random(len(recording.times)) < self.share)


def test_augmentations_of_ones_own_are_known_by_what_they_keep() -> None:
    one, same_one, other = (events(9, 1).augmented(Louder(share)).fingerprint() for share in (0.5, 0.5, 0.6))
    assert one == same_one != other
    by_function = [
        events(9, 1).augmented(change).fingerprint() for change in (keep, keep, partial(Louder.__call__, Louder(1)))
    ]
    assert by_function[0] == by_function[1] != by_function[2]


def keep(recording: Any, rng: np.random.Generator) -> Any:
    return recording


def test_the_device_is_no_such_setting(tmp_path: Path) -> None:
    train(interrupted(tmp_path), resume=True, learning_rate=0.8, epochs=6, device="auto")


def test_resume_refuses_another_network_and_a_damaged_checkpoint(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    plan = settings(learning_rate=0.8, epochs=6)
    with pytest.raises(RunError, match=r"was started with 1\.features 10, not 11"):
        fit(network(hidden=11), *splits(), plan, run=run, resume=True, display=QUIET)
    wider = network()
    wider[3], wider[4] = nn.Linear(10, 4), rb.LeakyReadout(4, learn=("decay",))
    with pytest.raises(RunError, match=r"was started with 4\.features 3, not 4"):
        fit(wider, *splits(), plan, run=run, resume=True, display=QUIET)
    for name in ("checkpoint", "best"):
        path = run / f"{name}.safetensors"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        if name == "checkpoint":
            with pytest.raises(RunError, match=r"checkpoint\.safetensors: .*damaged"):
                fit(network(), *splits(), plan, run=run, resume=True, display=QUIET)
            path.write_bytes(whole)


def test_resume_refuses_best_weights_of_another_epoch(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(tmp_path / "a", display=Stop(epoch=3), learning_rate=0.8, epochs=6)
    best = tmp_path / "a" / "best.safetensors"
    net = network()
    position = checkpoint.load(best, net)
    assert position.epoch < 3
    checkpoint.save(best, net, replace(position, epoch=1, best_epoch=1))
    with pytest.raises(RunError, match=r"best\.safetensors: holds epoch 1, but epoch 2 was the best"):
        train(tmp_path / "a", resume=True, learning_rate=0.8, epochs=6)
    best.unlink()
    with pytest.raises(RunError, match="no such checkpoint"):
        train(tmp_path / "a", resume=True, learning_rate=0.8, epochs=6)


def test_resume_refuses_metrics_with_a_damaged_line(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("{\n" + "".join(lines[1:]))
    with pytest.raises(RunError, match="line 1 is damaged"):
        train(run, resume=True, learning_rate=0.8, epochs=6)


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, whole = tmp_path / "run", train(None, epochs=3)
    save = checkpoint.save

    def full(to: Path, network: nn.Module, position: checkpoint.Position, *optimizer: torch.optim.Optimizer) -> None:
        if position.epoch == 2:
            raise OSError(28, "No space left on device")
        save(to, network, position, *optimizer)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", full)
        with pytest.raises(
            RunError, match=r"run: cannot be written: No space left .* of 1 epochs is intact: make room"
        ):
            train(path, epochs=3)
    assert untimed(train(path, epochs=3, resume=True).metrics) == untimed(whole.metrics)


def test_where_there_is_a_run_already_or_none(tmp_path: Path) -> None:
    train(tmp_path / "a", epochs=1)
    with pytest.raises(RunError, match="already"):
        train(tmp_path / "a", epochs=1)
    with pytest.raises(RunError, match="there is no such run"):
        train(tmp_path / "b", resume=True)
    with pytest.raises(ValueError, match="run must name the folder to resume"):
        fit(network(), *splits(), settings(), resume=True)


def test_sets_with_other_classes_are_refused() -> None:
    for changed in ("validation", "test", "more"):
        sets = dict(zip(("train", "validation", "test"), splits(), strict=True))
        other = ArrayDataset(arrays().x, arrays().labels, ("high", "middle", "low"))
        also = {"more": other} if changed == "more" else {}
        if changed != "more":
            sets[changed] = other
        with pytest.raises(ValueError, match=f"{changed} must have the classes of train"):
            fit(network(), **sets, settings=settings(), also_test=also, display=QUIET)


def test_an_output_that_does_not_fit_is_refused_before_anything_is_learned() -> None:
    class BatchFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(CHANNELS, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x).transpose(0, 1)

    with pytest.raises(ValueError, match="time first, with B = 8 samples, got shape"):
        fit(BatchFirst(), *splits(), settings(), display=QUIET)
    with pytest.raises(ValueError, match="C = 3 classes"):
        fit(rb.Sequential(nn.Linear(CHANNELS, 2)), *splits(), settings(), display=QUIET)


def test_an_error_in_the_data_reaches_the_user() -> None:
    class Broken(Wrapped):
        def batch(self, indices: np.ndarray, seed: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        fit(network(), Broken(splits()[0]), *splits()[1:], settings(), display=QUIET)


def test_the_display_is_closed_also_after_an_error() -> None:
    class Remember(Stop):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    display = Remember(step=(1, 1))
    with pytest.raises(Killed):
        train(display=display)
    assert display.closed == 1


def test_a_gpu_that_is_not_there_is_not_replaced_in_silence() -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        fit(network(), *splits(), settings(device="gpu", epochs=1), display=QUIET)
    else:
        with pytest.raises(ValueError, match="'gpu' was requested, and PyTorch finds none"):
            train(device="gpu")


# Divergence


class At(Display):
    """Does something to the network after a step."""

    def __init__(self, epoch: int, step: int, act: Callable[[], None]) -> None:
        self._when, self._act = (epoch, step), act

    def step(self, epoch: int, step: int) -> None:
        if (epoch, step) == self._when:
            self._act()


def broken(net: nn.Module) -> Callable[[], None]:
    def act() -> None:
        with torch.no_grad():
            net[3].weight[0, 0] = torch.nan

    return act


@pytest.mark.parametrize(
    ("step", "where"),
    [
        (1, "in epoch 2, step 2: layer 3 (Linear): 1 values of its weight are not finite"),
        (5, "at the end of epoch 2: layer 3 (Linear): 1 values of its weight are not finite"),
    ],
)
def test_nan_in_the_weights(tmp_path: Path, step: int, where: str) -> None:
    train(tmp_path / "whole")
    run, net = tmp_path / "a", network()
    with pytest.raises(DivergenceError) as caught:
        fit(net, *splits(), settings(), run=run, display=At(2, step, broken(net)))
    assert str(caught.value) == (
        f"training diverged {where}; the checkpoint of epoch 1 is intact: {run / 'checkpoint.safetensors'}"
    )
    names = {"config.json", "metrics.jsonl", "checkpoint.safetensors", "best.safetensors"}
    assert {path.name for path in run.iterdir()} == names  # nothing half-written, no summary
    content, position = tensors(run / "checkpoint.safetensors")
    assert position["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in content.values())
    train(run, resume=True)
    assert_same_run(run, tmp_path / "whole")


def test_finite_weights_that_overflow_after_an_epoch() -> None:
    net = network()

    def overflow() -> None:
        with torch.no_grad():
            net[3].weight.copy_(3e38 * torch.sign(net[3].weight))

    with pytest.raises(DivergenceError, match=r"at the end of epoch 2, the validation loss is (nan|inf): "):
        fit(net, *splits(), settings(), display=At(2, 5, overflow))


def test_nan_in_the_first_epoch_names_no_checkpoint(tmp_path: Path) -> None:
    net = network()
    with pytest.raises(DivergenceError, match=r"in epoch 1, step 3: layer 3 \(Linear\).*finite$"):
        fit(net, *splits(), settings(), run=tmp_path / "a", display=At(1, 2, broken(net)))
    assert not (tmp_path / "a" / "checkpoint.safetensors").exists()


def test_a_learning_rate_that_explodes(tmp_path: Path) -> None:
    with pytest.raises(
        DivergenceError, match=r"in epoch 1, step \d: layer 0 \(Linear\): \d+ values of its (output|weight)"
    ):
        train(tmp_path / "a", learning_rate=1e37)
    assert not (tmp_path / "a" / "checkpoint.safetensors").exists()
    # One step an epoch: the step's own gradient is finite, and only what it leaves behind is not.
    with pytest.raises(DivergenceError, match=r"in epoch 2, .*the checkpoint of epoch 1 is intact"):
        train(tmp_path / "b", learning_rate=1e37, batch_size=64)
    content, _ = tensors(tmp_path / "b" / "checkpoint.safetensors")
    assert all(torch.isfinite(value).all() for value in content.values())


def test_a_loss_that_is_nan() -> None:
    def loss(output: Tensor, labels: Tensor) -> Tensor:
        return output.mean() * torch.nan

    with pytest.raises(
        DivergenceError, match=r"in epoch 1, step 1: the outputs of all layers .* the loss of them is nan"
    ):
        fit(network(), *splits(), settings(), loss=loss, display=QUIET)


def test_a_loss_that_is_nan_with_gradients_that_are_not() -> None:
    def loss(output: Tensor, labels: Tensor) -> Tensor:
        return output.mean() + torch.nan

    with pytest.raises(DivergenceError, match="in epoch 1, its mean loss is nan"):
        fit(network(), *splits(), settings(), loss=loss, display=QUIET)


@pytest.mark.parametrize("regularizers", [[lambda *_: torch.tensor(torch.nan)], [lambda *_: math.nan]])
def test_a_penalty_that_is_nan_and_has_no_gradient(regularizers: list[Any]) -> None:
    with pytest.raises(DivergenceError, match="in epoch 1, its mean loss with penalties is nan"):
        fit(network(), *splits(), settings(), regularizers=regularizers, display=QUIET)


@pytest.mark.parametrize(
    ("regularizers", "message"),
    [
        (Sparsity(), r"must be a list of penalties, got Sparsity\(.*; write regularizers=\[Sparsity\("),
        ("sparsity", "must be a list of penalties, got 'sparsity'"),
        ([0.1], r"must be functions, such as rheobase\.regularizers\.Sparsity\(\), got 0\.1 among them"),
        ([lambda spikes: 0.0], r"def penalty\(spikes, progress\); got <function .*: too many positional arguments"),
    ],
)
def test_what_is_no_list_of_penalties(as_a_user: None, regularizers: Any, message: str) -> None:
    with pytest.raises(
        TypeError, match=f"^regularizers {message}|^regularizers must take the spikes of all layers.*{message}"
    ):
        fit(network(), *splits(), settings(), regularizers=regularizers, display=QUIET)


def test_a_loss_without_a_gradient(as_a_user: None) -> None:
    def detached(output: Tensor, labels: Tensor) -> Tensor:
        return output.detach().mean()

    with pytest.raises(ValueError, match=r"loss must depend on what the network learns, .* look for a detach\(\)"):
        fit(network(), *splits(), settings(), loss=detached, display=QUIET)
    with pytest.raises(TypeError, match=r"loss must return a tensor, a scalar, got 1\.0"):
        fit(network(), *splits(), settings(), loss=lambda *_: 1.0, display=QUIET)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"loss": nn.CrossEntropyLoss()},
            ValueError,
            r"loss cannot take .*\(6, 8, 3\).*lambda output, labels: loss\(rheo",
        ),
        ({"loss": "cross-entropy"}, TypeError, r"loss must be a function, such as rheobase\.losses"),
        ({"decode": "mean"}, TypeError, r"decode must be a function, such as rheobase\.decoding\.mean, got 'mean'"),
    ],
)
def test_what_is_no_loss_and_no_decoder(
    as_a_user: None, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fit(network(), *splits(), settings(), display=QUIET, **change)


def test_a_network_that_returns_no_tensor(as_a_user: None) -> None:
    class Pair(nn.Linear):
        def forward(self, x: Tensor) -> tuple[Tensor, int]:
            return super().forward(x), 1

    with pytest.raises(TypeError, match=r"the network must return a tensor, \(T, B, C\), got a tuple"):
        fit(Pair(8, 3), *splits(), settings(), display=QUIET)


def test_a_loss_that_is_no_scalar() -> None:
    with pytest.raises(ValueError, match=r"loss must return a scalar, the mean over the batch, got shape \(8,\)"):
        fit(network(), *splits(), settings(), loss=lambda output, labels: output.mean((0, 2)), display=QUIET)


@pytest.mark.usefixtures("as_a_user")
def test_what_is_no_data_set_and_no_settings() -> None:
    x, good = torch.rand(STEPS, 5, CHANNELS), arrays()
    for name, sets in (("train", (x, good)), ("validation", (good, x)), ("test", (good, good, (x, x)))):
        with pytest.raises(TypeError, match=rf"^{name} must be a data set, got a .*ArrayDataset\(x, labels\)"):
            fit(network(), *sets, display=QUIET)
    with pytest.raises(TypeError, match="dataset must be a data set, got a Tensor"):
        evaluate(network(), x)
    with pytest.raises(TypeError, match=r"settings must be a rheobase.Training, got \{'epochs': 3\}"):
        fit(network(), good, good, settings={"epochs": 3}, display=QUIET)


def test_the_step_that_failed_is_looked_at_with_the_same_dropout() -> None:
    masks = []

    class Remember(rb.Dropout):
        def run(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
            x, state = super().run(x, state)
            masks.append(state)
            return x * torch.nan, state

    net = rb.Sequential(nn.Linear(CHANNELS, 40), Remember(0.5), nn.Linear(40, CLASSES))
    with pytest.raises(DivergenceError, match=r"layer 1 \(Remember\)"):
        fit(net, *splits(), settings(), display=QUIET)
    assert len(masks) == 2
    assert torch.equal(*masks)


# bfloat16


def test_bfloat16_keeps_states_and_weights_in_float32_and_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    types: dict[str, set[torch.dtype]] = {"membrane": set(), "linear": set(), "readout": set()}
    reference = importlib.import_module("rheobase.ops.lif.reference")
    lif = reference.lif

    def watched(*arguments: Any) -> tuple[Tensor, Tensor]:
        spikes, membrane = lif(*arguments)
        types["membrane"] |= {membrane.dtype, *(argument.dtype for argument in arguments[:4])}
        return spikes, membrane

    monkeypatch.setattr(reference, "lif", watched)
    net = network()
    net[0].register_forward_hook(lambda _module, _input, output: types["linear"].add(output.dtype))
    net[4].register_forward_hook(lambda _module, _input, output: types["readout"].add(output.dtype))
    with computed_by("reference"):  # where the type of each state can be watched
        result = fit(net, *splits(), settings(epochs=12, precision="bfloat16"), display=QUIET)
    assert types == {"linear": {torch.bfloat16}, "membrane": {torch.float32}, "readout": {torch.float32}}
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    assert net[1].decay.dtype == net[1].threshold.dtype == torch.float32
    assert result.metrics[-1]["loss"] < 0.7 * result.metrics[0]["loss"]
    assert untimed(result.metrics) != untimed(fit(network(), *splits(), settings(epochs=12), display=QUIET).metrics)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_network_of_another_precision_has_a_run_and_a_report(tmp_path: Path, dtype: torch.dtype) -> None:
    sets = [replace(part, x=part.x.to(dtype)) for part in (arrays(), arrays(7, 2), arrays(11, 3))]
    seen: set[torch.dtype] = set()

    def loss(output: Tensor, labels: Tensor) -> Tensor:
        seen.add(output.dtype)
        return functional.cross_entropy(output.mean(0), labels)

    fit(network().to(dtype), *sets, settings(epochs=1), loss=loss, run=tmp_path / "run", display=QUIET)
    assert seen == {torch.float64 if dtype == torch.float64 else torch.float32}
    rb.report.write_report(tmp_path / "run")


def test_a_bfloat16_run_resumes_as_any_other(tmp_path: Path) -> None:
    train(tmp_path / "whole", precision="bfloat16")
    with pytest.raises(Killed):
        train(tmp_path / "part", display=Stop(epoch=2), precision="bfloat16")
    train(tmp_path / "part", resume=True, precision="bfloat16")
    assert_same_run(tmp_path / "part", tmp_path / "whole")


def test_the_default_settings_and_what_about_adds(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        fit(network(), *splits(), run=str(tmp_path / "a"), about={"recipe": "mine"}, display=Stop(step=(1, 1)))
    config = RunFolder(tmp_path / "a").config
    assert config["recipe"] == "mine"
    assert config["config"] == vars(Training())


def test_regularizers_see_the_spikes_with_gradients_and_the_progress() -> None:
    seen: list[float] = []

    def quiet(spikes: Mapping[str, Tensor], progress: float) -> Tensor:
        (layer,) = spikes.values()
        assert layer.shape[0] == STEPS
        assert layer.requires_grad
        seen.append(progress)
        return 100 * layer.mean()

    def rate(**more: Any) -> float:
        changes = {"display": QUIET, **more}
        return fit(network(), *splits(), settings(epochs=3), **changes).validation.layers[0].rate

    assert rate(regularizers=[quiet]) < 0.5 * rate()
    assert sorted(set(seen)) == [0.0, 0.5, 1.0]


def test_penalties_draw_the_same_in_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    seed_layers = randomness.seed_layers

    def drawn(process: int) -> tuple[list[float], list[float]]:
        """What layers and what a penalty draw, were this process that one."""
        of_layers, of_penalties = [], []

        def seed(*place: Any) -> None:
            seed_layers(*place[:3], process, place[4])
            of_layers.append(torch.rand(()).item())

        def penalty(*_: Any) -> Tensor:
            of_penalties.append(torch.rand(()).item())
            return torch.zeros(())

        monkeypatch.setattr(randomness, "seed_layers", seed)
        fit(network(), *splits(), settings(epochs=1), regularizers=[penalty], display=QUIET)
        return of_layers, of_penalties

    (layers, penalties), (other_layers, other_penalties) = drawn(0), drawn(1)
    assert layers != other_layers
    assert penalties == other_penalties
    assert len(set(penalties)) == len(penalties) > 1


def test_a_regularizer_returns_a_scalar() -> None:
    with pytest.raises(ValueError, match="regularizers must return a scalar"):
        fit(network(), *splits(), settings(), regularizers=[lambda *_: torch.zeros(2)], display=QUIET)


def test_measures_are_numbers_of_any_kind(tmp_path: Path) -> None:
    found = {"numpy": np.float32(0.5), "torch": torch.tensor(2), "whole": 3, "none": math.nan, "many": np.inf}
    result = fit(network(), *splits(), settings(), measure=lambda *_: found, run=tmp_path / "run", display=QUIET)  # pyright: ignore
    assert result.summary["measures"] == {"numpy": 0.5, "torch": 2.0, "whole": 3, "none": None, "many": None}
    assert RunFolder(tmp_path / "run").summary == result.summary
    for wrong in (0.5, {"a": "much"}, {"a": torch.zeros(2)}):
        with pytest.raises(TypeError, match="measure: must return a number for each name"):
            fit(network(), *splits(), settings(), measure=lambda *_, wrong=wrong: wrong, display=QUIET)  # pyright: ignore


@pytest.mark.parametrize("left", [100.0, math.nan])
def test_a_gradient_left_on_a_frozen_weight_changes_nothing(left: float) -> None:
    trained = []
    for gradient in (None, left):
        net = network()
        weight = next(net.parameters()).requires_grad_(False)
        weight.grad = None if gradient is None else torch.full_like(weight, gradient)
        fit(net, *splits(), settings(), display=QUIET)
        trained.append(net.state_dict())
    assert all(torch.equal(value, trained[1][name]) for name, value in trained[0].items())


def test_what_is_measured_is_measured_once_on_the_test_set_with_the_best_weights(tmp_path: Path) -> None:
    calls: list[int] = []

    def measure(net: nn.Module, dataset: rb.data.Dataset) -> dict[str, float]:
        calls.append(len(dataset))
        return {"training": float(net.training), "accuracy": evaluate(net, dataset).accuracy}

    result = fit(network(), *splits(), settings(), measure=measure, run=tmp_path / "run", display=QUIET)
    assert result.test is not None
    assert result.summary["measures"] == {"training": 0.0, "accuracy": result.test.accuracy}
    assert calls == [11]
    assert RunFolder(tmp_path / "run").summary == result.summary


def test_what_is_measured_is_measured_in_the_precision_of_training() -> None:
    types: list[torch.dtype] = []

    def measure(net: nn.Module, dataset: rb.data.Dataset) -> dict[str, float]:
        types.append(nn.functional.linear(torch.ones(1, 2), torch.ones(1, 2)).dtype)
        return {}

    for precision in ("bfloat16", "float32"):
        fit(network(), *splits(), settings(epochs=1, precision=precision), measure=measure, display=QUIET)
    assert types == [torch.bfloat16, torch.float32]


def test_freed_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []
    monkeypatch.setattr(
        importlib.import_module("rheobase.training.fit"), "keep_freed_memory", lambda: told.append(True)
    )
    train()
    assert told == [True]


@pytest.mark.usefixtures("as_a_user")
def test_a_validation_set_is_split_off_where_there_is_none() -> None:
    with pytest.raises(
        TypeError, match=r"got None; split one off: train, validation = rheobase\.data\.split\(train, 0\.1"
    ):
        fit(network(), arrays(), None)  # pyright: ignore[reportArgumentType]


def test_a_schedule_of_the_user_sets_every_rate(tmp_path: Path) -> None:
    rates: list[float] = []

    class Watched(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            rates.append(self.param_groups[0]["lr"])

    def halfway(done: float) -> float:
        return 1.0 if done < 0.5 else 0.25

    plan = settings(epochs=2, learning_rate=0.5)
    fit(network(), *splits(), plan, optimizer=Watched, schedule=halfway, display=Display(), run=tmp_path / "a")
    assert rates == [0.5] * 5 + [0.125] * 5
    with pytest.raises(RunError, match="was started with schedule halfway, not cosine"):
        fit(network(), *splits(), plan, optimizer=Watched, resume=True, display=Display(), run=tmp_path / "a")


@pytest.mark.parametrize("factor", [-1.0, math.inf, math.nan])
def test_a_schedule_out_of_range(factor: float) -> None:
    with pytest.raises(ValueError, match=r"schedule must return a factor of at least 0, .* at 0$"):
        fit(network(), *splits(), settings(), schedule=lambda done: factor, display=Display())


def test_a_schedule_that_is_a_word(as_a_user: None) -> None:
    with pytest.raises(TypeError, match=r"schedule must be a function .*Training\(schedule='cosine'\)"):
        fit(network(), *splits(), settings(), schedule="cosine", display=Display())  # pyright: ignore[reportArgumentType]
