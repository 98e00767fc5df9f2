"""Trials: all are done once, whoever does them, and whatever interrupts them."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pytest

from rheobase import cli, recipes
from rheobase.cli import main
from rheobase.data import spoken_digits
from rheobase.errors import DivergenceError, RheobaseError, RunError
from rheobase.recipes import RECIPES, Entry, SpokenDigits
from rheobase.sweep import Outcome, Sweep, parse_axis, search, sweep
from rheobase.training import Display, RunFolder, Training
from training.tiny import Killed, Stop, untimed

SMALL = SpokenDigits(
    hidden=(8,), steps=10, dt=0.08, training=Training(epochs=2, batch_size=256, threads=1, device="cpu")
)


def plan(folder: Path, *over: str, **changes: Any) -> Sweep:
    over = over or ("dropout=0,0.1,0.2", "hidden=[4],[6]")
    axes = tuple(parse_axis(SMALL, text) for text in over)
    return Sweep(**{"name": "spoken-digits", "recipe": SMALL, "axes": axes, "trials": None,
                    "storage": folder / "a.journal", **changes})  # fmt: skip


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded recordings are read once for all."""
    monkeypatch.setattr("rheobase.recipes.spoken_digits.spoken_digits", recordings)


recordings = cache(spoken_digits)


def load(recipe: SpokenDigits) -> Any:
    return recipe.splits()


def no_data(recipe: SpokenDigits) -> Any:
    raise AssertionError("trained")


@pytest.fixture
def imagined(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Trials that are not trained: their accuracy is known, the better the closer dropout is to 0.13."""
    trained: list[int] = []

    def train(plan: Sweep, number: int, settings: dict[str, Any], *_: Any) -> float:
        trained.append(number)
        folder = RunFolder.create(plan.folder(number), {})
        folder.write_summary({"test_accuracy": 0.5})
        dropout = float(settings["dropout"])
        if dropout > 0.45:
            raise DivergenceError("it diverged")
        return 1 - abs(dropout - 0.13)

    monkeypatch.setattr(search, "_train", train)
    return trained


def settings(found: list[Outcome]) -> list[tuple[Any, ...]]:
    return [tuple(outcome.settings.values()) for outcome in sorted(found, key=lambda outcome: outcome.number)]


def test_a_grid_has_every_combination_once(tmp_path: Path, imagined: list[int]) -> None:
    found = sweep(plan(tmp_path), no_data)
    assert imagined == [0, 1, 2, 3, 4, 5]
    assert settings(found) == [(a, b) for a in ("0", "0.1", "0.2") for b in ("[4]", "[6]")]
    assert [outcome.number for outcome in found] == [2, 3, 4, 5, 0, 1]  # the best first, of equals the earlier
    assert found[0].validation_accuracy == pytest.approx(0.97)
    assert found[0].run == str(tmp_path / "a" / "trial-0002")
    assert sweep(plan(tmp_path), no_data) == found  # there is nothing left to do
    assert len(imagined) == 6


def test_a_grid_may_be_cut_short_and_go_on(tmp_path: Path, imagined: list[int]) -> None:
    assert len(sweep(plan(tmp_path, trials=2), no_data)) == 2
    assert len(sweep(plan(tmp_path, trials=4), no_data)) == 4
    assert len(sweep(plan(tmp_path, trials=100), no_data)) == 6
    assert imagined == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_samplers_draw_within_ranges_and_repeat_themselves(tmp_path: Path, imagined: list[int], sampler: str) -> None:
    over = ("dropout=0..0.4", "learning_rate=1e-4..1e-1,log", "steps=10..40", "schedule=cosine,constant")
    found = sweep(plan(tmp_path / "one", *over, trials=14, sampler=sampler), no_data)
    again = [
        sweep(plan(tmp_path / "two", *over, trials=trials, sampler=sampler), no_data) for trials in (3, 4, 14)
    ]  # in pieces
    other = sweep(plan(tmp_path / "three", *over, trials=14, sampler=sampler, seed=1), no_data)
    assert settings(found) == settings(again[-1]) != settings(other)
    for dropout, rate, steps, schedule in settings(found):
        assert 0 <= dropout <= 0.4
        assert 1e-4 <= rate <= 1e-1
        assert steps in range(10, 41)
        assert schedule in ("cosine", "constant")
    assert len({s for _, _, _, s in settings(found)}) == 2
    assert len(set(settings(found))) == 14


def test_tpe_learns(tmp_path: Path, imagined: list[int]) -> None:
    found = sweep(plan(tmp_path, "dropout=0..0.4", trials=30), no_data)
    by_number = sorted(found, key=lambda outcome: outcome.number)
    misses = [1 - (outcome.validation_accuracy or 0) for outcome in by_number]
    assert sum(misses[-10:]) < 0.5 * sum(misses[:10])


def test_what_diverges_is_last_and_does_not_stop_the_others(tmp_path: Path, imagined: list[int]) -> None:
    found = sweep(plan(tmp_path, "dropout=0.5,0.1,0.2"), no_data)
    assert [outcome.state for outcome in found] == ["done", "done", "failed"]
    assert found[-1].validation_accuracy is None
    assert len(sweep(plan(tmp_path, "dropout=0.5,0.1,0.2"), no_data)) == len(imagined) == 3


def test_settings_that_do_not_go_together_are_said_and_not_tried_again(tmp_path: Path) -> None:
    over = ("dropout=1,0.1",)
    with pytest.raises(ValueError, match="Dropout: p must be in"):
        sweep(plan(tmp_path, *over), load)
    assert [outcome.state for outcome in sweep(plan(tmp_path, *over), load)] == ["done", "failed"]


def test_run_folders_are_beside_the_journal() -> None:
    assert plan(Path("a/b")).folder(7) == Path("a/b/a/trial-0007")
    assert plan(Path("a"), storage=Path("a/log")).folder(7) == Path("a/log-runs/trial-0007")


def test_two_share_the_work(tmp_path: Path, imagined: list[int]) -> None:
    seen: list[list[Outcome]] = []

    def meanwhile(outcome: Outcome, _: list[Outcome]) -> None:
        if outcome.state == "running" and not seen:
            seen.append([])
            seen[0] = sweep(plan(tmp_path), no_data)  # another one comes while this trial is trained

    found = sweep(plan(tmp_path), no_data, tell=meanwhile)
    (other,) = seen
    assert [(outcome.number, outcome.state) for outcome in other if outcome.state != "done"] == [(0, "running")]
    assert sorted(imagined) == [0, 1, 2, 3, 4, 5]
    assert len(found) == 6


def test_a_trial_that_was_left_behind_is_taken_up(tmp_path: Path) -> None:
    over = ("hidden=[4],[6]",)
    whole = sweep(plan(tmp_path / "whole", *over), load)
    with pytest.raises(Killed):
        sweep(plan(tmp_path / "cut", *over), load, display=lambda: Stop(epoch=1))
    assert not (tmp_path / "cut" / "a" / "trial-0000" / "summary.json").exists()
    resumed: list[int] = []

    class Watch(Display):
        def start(self, plan: Any) -> None:
            resumed.append(plan.epochs_done)

    cut = sweep(plan(tmp_path / "cut", *over), load, display=Watch)
    assert resumed == [1, 0]  # the first goes on after its first epoch, the second is new
    assert [(o.number, o.validation_accuracy) for o in cut] == [(o.number, o.validation_accuracy) for o in whole]
    one, other = (RunFolder(tmp_path / place / "a" / "trial-0000").summary for place in ("whole", "cut"))
    assert untimed(one) == untimed(other)


def test_a_trial_that_ended_without_being_told_is_not_trained_again(tmp_path: Path) -> None:
    class Late(Display):
        def close(self) -> None:
            raise Killed  # after the summary, before the journal knows

    over = ("hidden=[4]",)
    with pytest.raises(Killed):
        sweep(plan(tmp_path, *over), load, display=Late)
    (found,) = sweep(plan(tmp_path, *over), no_data)
    summary = RunFolder(Path(found.run)).summary
    assert found.validation_accuracy == summary["validation_accuracy"]


@pytest.mark.parametrize(
    ("change", "over"),
    [
        ({}, ("dropout=0,0.1",)),
        ({"seed": 1}, ()),
        ({"recipe": replace(SMALL, dropout=0.3)}, ()),
        ({"sampler": "random", "trials": 3}, ()),
    ],
)
def test_the_journal_of_another_sweep(
    tmp_path: Path, imagined: list[int], change: dict[str, Any], over: tuple[str, ...]
) -> None:
    sweep(plan(tmp_path, trials=1), no_data)
    with pytest.raises(RunError, match=r"holds another sweep of spoken-digits over .*; repeat its command, or choose"):
        sweep(plan(tmp_path, *over, **change), no_data)


def test_a_journal_of_before_there_was_a_setting_goes_on(tmp_path: Path, imagined: list[int]) -> None:
    sweep(plan(tmp_path, trials=1), no_data)
    journal = tmp_path / "a.journal"
    before = journal.read_text()
    journal.write_text(before.replace('"delay_learning_rate": null, ', "").replace('"delay_learning_rate":null,', ""))
    assert journal.read_text() != before
    sweep(plan(tmp_path, trials=2), no_data)
    assert imagined == [0, 1]


@pytest.mark.parametrize("content", ["nonsense\n", "[1]\n", "{}\n", '{"op_code": 99}\n', "1\n2\n"])
def test_a_file_that_is_no_journal(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.journal").write_text(content)
    with pytest.raises(RunError, match=r"a.journal: not the journal of a sweep, or damaged"):
        sweep(plan(tmp_path), no_data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda place: plan(place, axes=()), "over must name at least one setting"),
        (lambda place: plan(place, "dropout=0,0.1", "dropout=0.2,0.3"), "name each setting once, got dropout, dropout"),
        (lambda place: plan(place, "dropout=0..0.1", sampler="grid"), r"a grid needs choices, got the range dropout=0\.\.0.1"),
        (lambda place: plan(place, "dropout=0..0.1"), "trials must be given"),
        (lambda place: plan(place, trials=0), "trials must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_a_slip(tmp_path: Path, make: Callable[[Path], Sweep], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(tmp_path)


def test_without_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(RheobaseError, match=r"a sweep needs Optuna: pip install 'rheobase\[sweep\]'"):
        sweep(plan(tmp_path), no_data)


# The command


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(recipes, "RECIPES", {**RECIPES, "spoken-digits": Entry(SMALL, "to be small")})
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)


def test_the_command(small: None, capsys: pytest.CaptureFixture[str], imagined: list[int], tmp_path: Path) -> None:
    command = ["sweep", "spoken-digits", "--over", "dropout=0,0.1,0.5", "--fixed", "epochs=1"]
    assert main(command) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:6] == [
        "trial 0 of 3: dropout=0", "  validation 87.00%; best so far 87.00%, trial 0",
        "trial 1 of 3: dropout=0.1", "  validation 97.00%; best so far 97.00%, trial 1",
        "trial 2 of 3: dropout=0.5", "  failed; best so far 97.00%, trial 1",
    ]  # fmt: skip
    assert [line.split() for line in out[6:10]] == [
        ["trial", "validation", "dropout"], ["1", "97.00%", "0.1"], ["0", "87.00%", "0"], ["2", "failed", "0.5"],
    ]  # fmt: skip
    assert out[10:] == [
        "chosen on the validation set: trial 1, runs/sweep-spoken-digits/trial-0001, its test accuracy 50.00%",
        "all results: runs/sweep-spoken-digits/sweep.json",
    ]
    written = json.loads((tmp_path / "runs" / "sweep-spoken-digits" / "sweep.json").read_text())
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == written
    assert (written["best"], written["validation_accuracy"]) == (1, pytest.approx(0.97))
    assert [trial["number"] for trial in written["trials"]] == [1, 0, 2]
    assert main([*command, "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_the_command_trains(small: None, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--over", "hidden=[4],[6]", "--fixed", "epochs=1", "--storage", "deep/er.journal", "--json"]
    assert main(["sweep", "spoken-digits", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    summaries = [RunFolder(tmp_path / "deep" / "er" / f"trial-000{n}").summary for n in (0, 1)]
    best = max(summaries, key=lambda summary: summary["validation_accuracy"])
    assert found["validation_accuracy"] == best["validation_accuracy"]
    assert found["test_accuracy"] == best["test_accuracy"]
    assert main(["evaluate", found["trials"][0]["run"], "--json"]) == 0  # a run like any other


def test_an_interrupted_command_says_how_to_go_on(
    small: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "_train", interrupted)
    assert main(["sweep", "spoken-digits", "--over", "dropout=0,0.1"]) == 130
    assert "interrupted; the same command continues from there" in capsys.readouterr().err


def test_slips_on_the_command_line(small: None, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["nothing", "--over", "a=1,2"], "there is no recipe 'nothing'"),
        (["spoken-digits", "--over", "droput=1,2"], "there is no setting droput"),
        (["spoken-digits", "--over", "dropout=0..0.5"], "trials must be given"),
        (["spoken-digits"], "--over"),
    ):
        assert main(["sweep", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_its_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--help"]) == 0
    out = capsys.readouterr().out
    for word in ("--over", "LOW..HIGH,log", "rheobase sweep spoken-digits --over", "share the work", "validation"):
        assert word in out
    assert cli.COMMANDS["sweep"].__doc__.splitlines()[0] in out


def test_a_grid_whose_planning_was_killed_is_planned_to_its_end(
    tmp_path: Path, imagined: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = 0

    def killed(study: Any, combination: dict[str, str]) -> None:
        nonlocal planned
        planned += 1
        if planned == 3:
            raise KeyboardInterrupt
        enqueue(study, combination)

    enqueue = optuna.Study.enqueue_trial
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "enqueue_trial", killed)
        with pytest.raises(KeyboardInterrupt):
            sweep(plan(tmp_path), no_data)
    found = sweep(plan(tmp_path), no_data)
    assert settings(found) == [(a, b) for a in ("0", "0.1", "0.2") for b in ("[4]", "[6]")]
    assert imagined == [0, 1, 2, 3, 4, 5]
