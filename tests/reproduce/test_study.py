"""Running a study: once, again, interrupted, side by side, and with settings that have changed."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from filelock import FileLock

from reproduce.toy import STUDY, Toy, experiments, row
from rheobase.errors import DivergenceError, RunError
from rheobase.recipes.settings import is_of
from rheobase.reproduce import rows, study
from rheobase.reproduce.page import write_page
from rheobase.reproduce.rows import Diverged, Results
from rheobase.reproduce.study import Done, Table
from rheobase.reproduce.verdicts import outcomes
from rheobase.training import Display, RunFolder
from training.tiny import Killed, Stop, untimed


class Listener:
    """Keeps what a study tells; `displays` may stop its trainings."""

    def __init__(self, *displays: Display) -> None:
        self.told: list[Done] = []
        self._displays = list(displays)

    def __call__(self, done: Done) -> Display:
        self.told.append(done)
        return self._displays.pop(0) if self._displays else Display()

    @property
    def trainings(self) -> list[tuple[str, str, int]]:
        return [(done.experiment, done.arm, done.seed) for done in self.told if done.experiment]


def run(folder: Path, *displays: Display, quick: bool = False) -> tuple[Listener, Results]:
    results, listener = Results(folder / "toy.json", {"study": "A toy"}), Listener(*displays)
    study.run(experiments(quick), results, folder / "runs", Toy.splits, tell=listener)
    return listener, results


def comparable(results: Results) -> list[object]:
    return [untimed({**asdict(one), "seconds_curve": None}) for one in results.rows()]


def test_all_trainings_are_done_seed_by_seed(tmp_path: Path) -> None:
    listener, results = run(tmp_path)
    assert listener.trainings == [
        ("first", "small", 0),
        ("first", "large", 0),
        ("first", "small", 1),
        ("first", "large", 1),
        ("second", "small", 0),
    ]
    assert [(done.finished, done.total) for done in listener.told] == [(n, 5) for n in range(6)]
    found = results.rows()
    assert [one.key for one in found] == sorted(listener.trainings)
    one = found[0]
    summary = RunFolder(tmp_path / "runs/first/large/seed-0").summary
    assert summary is not None
    assert one.test_accuracy == pytest.approx(summary["test_accuracy"], abs=1e-5)
    assert len(one.validation_curve) == len(one.dead) == len(one.silent) == one.epochs == 2
    assert one.recipe["hidden"] == 6
    assert one.commit is None or one.commit
    assert json.loads((tmp_path / "toy.json").read_text())["study"] == "A toy"


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    _, first = run(tmp_path)
    before = (tmp_path / "toy.json").read_bytes()
    listener, _ = run(tmp_path)
    assert listener.trainings == []
    assert (tmp_path / "toy.json").read_bytes() == before
    # The file alone is enough: on another machine there are no run folders.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/toy.json").write_bytes(before)
    assert run(tmp_path / "elsewhere")[0].trainings == []
    assert first.rows()


def test_an_interrupted_study_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "killed", Display(), Stop(step=(2, 3)))
    listener, killed = run(tmp_path / "killed")
    assert listener.trainings[0] == ("first", "large", 0)
    _, whole = run(tmp_path / "whole")
    assert comparable(killed) == comparable(whole)


def test_a_run_that_ended_before_its_row_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Results, "add", killed)
        with pytest.raises(Killed):
            run(tmp_path)
    _, results = run(tmp_path)
    assert len(results.rows()) == 5


def test_what_another_process_is_at_is_left_to_it(tmp_path: Path) -> None:
    busy = tmp_path / "runs/first/large/seed-0.lock"
    busy.parent.mkdir(parents=True)
    with FileLock(busy):
        listener, _ = run(tmp_path)
    assert ("first", "large", 0) not in listener.trainings
    assert len(listener.trainings) == 4
    assert run(tmp_path)[0].trainings == [("first", "large", 0)]


def test_a_training_that_diverges_does_not_stop_the_others(tmp_path: Path) -> None:
    class Broken(Display):
        def step(self, epoch: int, step: int) -> None:
            raise DivergenceError("training diverged in epoch 1, step 1: the loss is NaN")

    results = Results(tmp_path / "toy.json", {})
    displays = iter([Broken(), Display(), Display()])
    told = study.run(
        experiments(True), results, tmp_path / "runs", Toy.splits, tell=lambda _: next(displays, Display())
    )
    assert len(told) == 1
    assert told[0].startswith("first, small, seed 0: training diverged in epoch 1, step 1: the loss is NaN")
    assert [one.key for one in results.rows()] == [("first", "large", 0), ("second", "small", 0)]
    (failure,) = results.diverged()
    assert (failure.key, failure.when) == (("first", "small", 0), "training diverged in epoch 1, step 1")
    table = Table(experiments(True), results.rows(), results.diverged())
    assert table.diverged("first", "small") == [0]
    assert table.has("first", "small", 0)
    assert (table.done("first"), list(table.arms("first"))) == (2, ["large"])
    assert table.with_rows([]).diverged("first", "small") == [0]
    assert outcomes(table, "first", "small") == {0: 0.0}
    # It is a result, and is not tried again; with other settings it is another training.
    assert run(tmp_path, quick=True)[0].trainings == []
    changed = [replace(one, arms={"small": Toy(hidden=5)}) for one in experiments(True)]
    assert not Table(changed, [], results.diverged()).has("first", "small", 0)
    page = (tmp_path / "toy.md", STUDY, table, "rheobase reproduce toy", True, {})
    write_page(*page)
    assert "0, 1 diverged |" in page[0].read_text(encoding="utf-8")


def test_a_result_takes_the_place_of_one_that_diverged(tmp_path: Path) -> None:
    results = Results(tmp_path / "toy.json", {"study": "A toy"})
    results.add(Diverged("first", "small", 0, {"hidden": 4}, "in epoch 1", None))
    results.add(row("first", "large", 0, {}))
    assert [one.key for one in results.diverged()] == [("first", "small", 0)]
    results.add(row("first", "small", 0, {}))
    assert results.diverged() == []
    assert [one.arm for one in results.rows()] == ["large", "small"]
    results.add(Diverged("first", "small", 0, {"hidden": 4}, "in epoch 1", "abc"))
    assert [one.arm for one in results.rows()] == ["large"]


def test_a_row_of_other_settings_does_not_count(tmp_path: Path) -> None:
    _, results = run(tmp_path, quick=True)
    changed = [replace(one, arms={"small": Toy(hidden=5)}) for one in experiments(True)]
    table = Table(changed, results.rows())
    assert not table.arms("first")
    with pytest.raises(RunError, match="holds a run of other settings; delete it"):
        study.run(changed, results, tmp_path / "runs", Toy.splits, tell=Listener())
    study.run(changed, results, tmp_path / "other", Toy.splits, tell=Listener())
    assert [one.recipe["hidden"] for one in Table(changed, results.rows()).of("first", "small").values()] == [5]


def test_settings_that_are_new_or_do_not_matter() -> None:
    recipe = Toy()
    kept = json.loads(json.dumps(asdict(recipe)))
    assert is_of(kept, recipe)
    assert is_of({**kept, "training": {**kept["training"], "device": "gpu"}}, recipe)
    assert not is_of({**kept, "training": {**kept["training"], "seed": 9}}, recipe)
    del kept["hidden"]
    assert is_of(kept, recipe)
    assert not is_of(kept, Toy(hidden=9))
    for wrong in (None, [], {"unknown": 1}, {"hidden": "four"}):
        assert not is_of(wrong, recipe)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"rows": 3}', '{"rows": [{}]}', '{"rows": [3]}', "[" * 10_000])
def test_damaged_results_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "toy.json"
    path.write_text(content)
    with pytest.raises(RunError, match="not the results of a study, or damaged"):
        Results(path, {}).rows()


def test_a_row_takes_the_place_of_its_predecessor(tmp_path: Path) -> None:
    results = Results(tmp_path / "toy.json", {})
    for accuracy in (0.1, 0.2):
        results.add(row("first", "small", 0, {}, test_accuracy=accuracy))
    results.add(row("first", "small", 1, {}))
    assert [(one.seed, one.test_accuracy) for one in results.rows()] == [(0, 0.2), (1, 0.5)]


def test_a_run_without_what_a_row_needs(tmp_path: Path) -> None:
    run(tmp_path, quick=True)
    folder = tmp_path / "runs/second/small/seed-0"
    summary = json.loads((folder / "summary.json").read_text())
    del summary["samples"]
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(RunError, match="lacks 'samples'"):
        rows.row_of(RunFolder(folder), "second", "small", Toy())
    (folder / "summary.json").unlink()
    with pytest.raises(RunError, match="has not ended"):
        rows.row_of(RunFolder(folder), "second", "small", Toy())


def test_what_a_recipe_prepares_and_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[int] = []
    monkeypatch.setattr(Toy, "prepare", lambda _self, _network, splits: prepared.append(len(splits.train)))
    monkeypatch.setattr(Toy, "measure", lambda _self, _network, dataset: {"samples": float(len(dataset))})
    _, results = run(tmp_path, quick=True)
    assert prepared == [37] * 3
    assert [one.measures for one in results.rows()] == [{"samples": 11.0}] * 3


def test_further_test_sets_are_measures(tmp_path: Path) -> None:
    recipe = Toy()
    splits = recipe.splits()
    recipe.train(replace(splits, also_test={"others": splits.validation}), run=tmp_path / "run", display=Display())
    one = rows.row_of(RunFolder(tmp_path / "run"), "first", "small", recipe)
    assert one.measures == {"others, %": pytest.approx(100 * one.validation_accuracy)}
