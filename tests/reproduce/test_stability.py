"""What decides the claims about stable training, on results made up for it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace

import pytest
import torch

from reproduce.toy import row, table_of
from rheobase.recipes import Recipe
from rheobase.reproduce.rows import Diverged
from rheobase.reproduce.stability import STUDY, THEORY, experiments
from rheobase.reproduce.study import Table, Verdict


def table(accuracy: Callable[[str, str, int], float | None]) -> Table:
    """The quick study's results: the accuracy of each experiment, arm and seed; None has no row."""
    rows = []
    for experiment in experiments(True):
        for arm, recipe in experiment.arms.items():
            for seed in experiment.seeds:
                found = accuracy(experiment.name, arm, seed)
                if found is not None:
                    settings = asdict(with_seed(recipe, seed))
                    values = {"test_accuracy": found, "validation_accuracy": found}
                    rows.append(row(experiment.name, arm, seed, settings, **values))
    return Table(experiments(True), rows)


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    return replace(recipe, training=replace(recipe.training, seed=seed))


def verdict(claim: str, results: Table) -> Verdict:
    (found,) = [one for one in STUDY.claims if claim in one.text]
    return found.judge(results)


def by_arm(values: Mapping[str, float]) -> Table:
    return table(lambda _, arm, seed: values[arm] + 0.001 * seed * len(arm) if arm in values else None)


def test_nothing_is_decided_without_results() -> None:
    assert {claim.judge(table(lambda *_: None)).status for claim in STUDY.claims} == {"not run yet", "not comparable"}


@pytest.mark.parametrize(
    ("large", "small", "status"), [(0.3, 0.9, "reproduced"), (0.9, 0.3, "not reproduced"), (0.8, 0.8, "undecided")]
)
def test_one_sided_failure(large: float, small: float, status: str) -> None:
    sides = {"dampening 1.5": large, "sharpness 0.25": large, "dampening 0.25": small, "sharpness 1.5": small}
    found = verdict("one-sided", by_arm(sides))
    assert found.status == status
    assert "spoken-digits-rectangular" in found.figures


@pytest.mark.parametrize(("ours", "status"), [(0.8, "reproduced"), (0.6, "not reproduced")])
@pytest.mark.parametrize("arm", ["conditions I-III", "conditions I, II, IV"])
def test_the_conditions(arm: str, ours: float, status: str) -> None:
    found = verdict("conditions raise", by_arm({"glorot": 0.7, arm: ours}))
    assert found.status == status
    assert f"spoken-digits, {arm}" in found.figures


def test_the_best_shape() -> None:
    def accuracy(experiment: str, arm: str, seed: int) -> float | None:
        return {"fast sigmoid": 0.8, "rectangular": 0.6}[arm.split(", ")[0]] if experiment.endswith("-rates") else None

    assert verdict("best shape", table(accuracy)).status == "reproduced"
    assert verdict("best shape", table(lambda *key: 1.0 - (accuracy(*key) or 0))).status == "not reproduced"


@pytest.mark.parametrize(("ours", "status"), [(0.80, "reproduced"), (0.796, "reproduced"), (0.7, "not reproduced")])
def test_theory_against_a_search(ours: float, status: str) -> None:
    found = verdict(
        "within half a point",
        table(lambda _, arm, seed: ours if arm == THEORY else 0.8 - 0.1 * (arm != "dampening 0.25")),
    )
    assert found.status == status
    assert "dampening 0.25 of spoken-digits-" in found.figures


def test_the_arms_of_an_experiment_start_from_the_same_weights() -> None:
    for experiment in experiments(False):
        drawn = [
            recipe.seeded_network().state_dict()
            for recipe in experiment.arms.values()
            if recipe.initialization != "default"
        ]
        assert all(torch.equal(each["2.weight"], drawn[0]["2.weight"]) for each in drawn)


def test_the_search_has_at_least_sixty_settings_of_each_task() -> None:
    for task in ("spoken-digits", "mnist", "delayed-recall"):
        settings = {
            str(recipe)
            for experiment in experiments(False)
            for recipe in experiment.arms.values()
            if recipe.task == task and not experiment.name.endswith(("-initialization", "-conditions"))
        }
        assert len(settings) >= 60


@pytest.mark.parametrize(("high", "low", "status"), [(0.8, 0.6, "reproduced"), (0.6, 0.8, "not reproduced")])
def test_rates_at_the_start(high: float, low: float, status: str) -> None:
    sparse = {"fast sigmoid, sparse, 0.3": high, "fast sigmoid, sparse, 0.03": low}
    found = verdict("start at high rates", by_arm(sparse))
    assert found.status == status
    assert "without" not in found.figures


@pytest.mark.parametrize(("spikes", "status"), [(40.0, "reproduced"), (60.0, "undecided")])
def test_a_penalty_that_has_not_made_a_network_sparse_decides_nothing(spikes: float, status: str) -> None:
    accuracy = {"sparse, 0.3": 0.8, "sparse, 0.03": 0.6, "free, 0.3": 0.7, "free, 0.03": 0.7}
    results = {
        ("spoken-digits-sparsity", f"fast sigmoid, {arm}"): [
            {"test_accuracy": value + 0.001 * seed, "spikes_per_sample": spikes if "sparse" in arm else 100.0}
            for seed in (0, 1)
        ]
        for arm, value in accuracy.items()
    }
    found = verdict("start at high rates", table_of(list(experiments(True)), results))
    assert found.status == status
    assert f"without the penalty 0.0 ± 0.0, and 100 spikes instead of {spikes:.0f}" in found.figures


def test_a_setting_of_two_experiments_is_one_setting() -> None:
    found = verdict("within half a point", table(lambda _, arm, seed: 0.8 if arm == THEORY else 0.7))
    arms = [
        str(recipe)
        for experiment in experiments(True)
        if experiment.name.endswith(("-rectangular", "-fast-sigmoid", "-rates"))
        for recipe in experiment.arms.values()
    ]
    assert f"the best of {len(set(arms))} settings" in found.figures


def test_a_training_that_diverged_counts_as_a_guess() -> None:
    results = by_arm({"sharpness 0.25": 0.9, "dampening 0.25": 0.6, "sharpness 1.5": 0.8})
    assert verdict("one-sided", results).status == "not reproduced"
    failures = [
        Diverged(
            experiment.name, "dampening 1.5", seed, asdict(with_seed(experiment.arms["dampening 1.5"], seed)), "", None
        )
        for experiment in experiments(True)
        if "dampening 1.5" in experiment.arms
        for seed in experiment.seeds
    ]
    rows = [row for each in results.experiments for arm in results.arms(each).values() for row in arm.values()]
    found = verdict("one-sided", Table(experiments(True), rows, failures))
    assert found.status == "reproduced"
    assert "the worst are dampening 0.25 " in found.figures
    assert "dampening 1.5 " in found.figures.split("the worst are")[1]
