"""What decides the claims about time-to-first-spike networks, on results made up for it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from reproduce.toy import table_of
from rheobase.recipes import TimeToFirstSpike, find
from rheobase.recipes.ttfs import MOST_SPIKES
from rheobase.reproduce.study import Table, Verdict
from rheobase.reproduce.ttfs import DECISIONS, FRAMEWORK, GROWING, MEMBRANE, NOTHING, STUDY, WITHOUT, experiments


def table(values: Mapping[tuple[str, str], Sequence[dict[str, Any] | None]], *, quick: bool = False) -> Table:
    return table_of(experiments(quick), values)


def verdict(claim: str, results: Table) -> Verdict:
    (found,) = [one for one in STUDY.claims if claim in one.text]
    return found.judge(results)


def accuracies(*values: float, **measures: float) -> list[dict[str, Any]]:
    return [
        {
            "test_accuracy": value,
            "validation_accuracy": value,
            "measures": {k.replace("_", " "): v for k, v in measures.items()},
        }
        for value in values
    ]


@pytest.mark.parametrize("quick", [True, False])
def test_the_experiments(quick: bool) -> None:
    planned = experiments(quick)
    names = [experiment.name for experiment in planned]
    assert len(set(names)) == len(names)
    assert {"ablation", "decisions", "latency-code", "depth-2", "depth-10"} <= set(names)
    for experiment in planned:
        assert len(experiment.seeds) == (2 if quick else 3)
        recipes = list(experiment.arms.values())
        data = {
            (one.task, one.encoding, one.samples, one.shift, one.flip)
            for one in recipes
            if isinstance(one, TimeToFirstSpike)
        }
        assert len(data) == 1  # it is loaded once
        assert len(set(recipes)) == len(recipes)


def test_depth_is_the_number_of_linear_layers() -> None:
    for experiment in experiments(False):
        if experiment.name.startswith("depth-"):
            recipe = experiment.arms[FRAMEWORK]
            assert isinstance(recipe, TimeToFirstSpike)
            assert len(recipe.hidden) + 1 == int(experiment.name.removeprefix("depth-"))
            assert f"{experiment.name.removeprefix('depth-')} layers" in experiment.title


def test_an_arm_differs_in_what_it_says() -> None:
    (ablation,) = [one for one in experiments(False) if one.name == "ablation"]
    for part, changes in WITHOUT.items():
        assert ablation.arms[f"without {part}"] == replace(ablation.arms[FRAMEWORK], **changes)
    everything = {name: value for changes in WITHOUT.values() for name, value in changes.items()}
    assert ablation.arms[NOTHING] == replace(ablation.arms[FRAMEWORK], **everything)
    (decisions,) = [one for one in experiments(False) if one.name == "decisions"]
    assert {FRAMEWORK, *DECISIONS} - set(decisions.arms) == {"D2 width 1"}  # which is the framework's


def test_nothing_is_decided_without_results() -> None:
    for quick in (True, False):
        assert {claim.judge(table({}, quick=quick)).status for claim in STUDY.claims} == {
            "not run yet",
            "not comparable",
        }


@pytest.mark.parametrize(
    ("framework", "membrane", "holds", "arm"),
    [
        ((0.93, 0.929), (0.92, 0.92), True, FRAMEWORK),
        ((0.92, 0.92), (0.931, 0.931), True, MEMBRANE),
        ((0.92, 0.921), (0.91, 0.91), False, FRAMEWORK),
        ((0.92, 0.925), (0.91, 0.91), None, FRAMEWORK),
        ((0.95,), (0.91,), None, FRAMEWORK),
    ],
)
def test_as_accurate_as_published(
    framework: tuple[float, ...], membrane: tuple[float, ...], holds: bool | None, arm: str
) -> None:
    results = table(
        {("fashion-mnist", FRAMEWORK): accuracies(*framework), ("fashion-mnist", MEMBRANE): accuracies(*membrane)}
    )
    seen = verdict("As accurate as published by the best", results)
    found, figures = seen.findings["fashion-mnist"]
    assert found is holds
    assert f"({arm}; published 92.90)" in figures
    assert seen.findings["mnist"] == (None, "not run yet")
    assert seen.status != "reproduced"  # which would be of both
    first_spike = verdict("answered by the first spike", results).findings["fashion-mnist"][1]
    assert f"({FRAMEWORK}; published 92.90)" in first_spike


def test_the_sequel_is_judged_by_its_own_arms() -> None:
    results = table({("mnist", FRAMEWORK): accuracies(0.999, 0.999)})
    assert verdict("As accurate as the sequel", results).status == "not run yet"
    results = table({("mnist", GROWING): accuracies(0.9955, 0.9955), ("fashion-mnist", MEMBRANE): accuracies(0.8, 0.8)})
    seen = verdict("As accurate as the sequel", results)
    assert seen.status == "partly reproduced"
    assert "fashion-mnist: 80.00" in seen.figures


def test_the_ablation() -> None:
    results = table(
        {
            ("ablation", FRAMEWORK): accuracies(0.90, 0.91),
            ("ablation", NOTHING): accuracies(0.80, 0.81),
            ("ablation", "without decoder"): accuracies(0.895, 0.9049),
            ("ablation", "without normalization"): accuracies(0.92, 0.93),
        }
    )
    whole = verdict("All parts together", results)
    assert whole.status == "reproduced"
    assert "nothing of it 80.50" in whole.figures
    parts = verdict("Each part", results)
    assert parts.status == "partly reproduced"
    assert "normalization: without normalization 92.50" in parts.figures
    assert "initialization" not in parts.figures


def test_depth() -> None:
    results = table(
        {
            ("depth-2", FRAMEWORK): accuracies(0.85, 0.86),
            ("depth-20", FRAMEWORK): accuracies(0.846, 0.8562),
            ("depth-20", NOTHING): accuracies(0.1, 0.1),
        }
    )
    assert verdict("trains deep networks better", results).figures.startswith("depth-20: nothing of it 10.00")
    assert verdict("trains deep networks better", results).status == "reproduced"
    assert verdict("The deepest network", results).status == "reproduced"
    alone = table({("depth-20", FRAMEWORK): accuracies(0.8)})
    assert verdict("The deepest network", alone).status == "not run yet"


@pytest.mark.parametrize(("steps", "status"), [(2.2, "reproduced"), (4.0, "not reproduced")])
def test_latency(steps: float, status: str) -> None:
    rows = [{"measures": {"steps / decision": steps}}] * 2
    results = table({("decisions", FRAMEWORK): rows})
    assert verdict("At most about two steps of eight", results).status == status


def test_one_neuron_that_fires_twice_is_enough() -> None:
    def rows(*most: float) -> list[dict[str, Any]]:
        return [{"measures": {"spikes / neuron": 0.4, MOST_SPIKES: each}} for each in most]

    once = table({("decisions", FRAMEWORK): rows(1, 1)})
    assert verdict("more than a spike", once) == Verdict("reproduced", {"decisions": (True, "1 at most")})
    twice = table({("decisions", FRAMEWORK): rows(1, 2)})
    assert verdict("more than a spike", twice) == Verdict("not reproduced", {"decisions": (False, "2 at most")})
    old = table({("decisions", FRAMEWORK): [{"measures": {"spikes / neuron": 0.4}}] * 2})
    assert verdict("more than a spike", old).status == "not run yet"


def test_the_published_experiments_are_the_recipes() -> None:
    arms = {experiment.name: experiment.arms for experiment in experiments(False)}
    for task, name in (("fashion-mnist", "ttfs"), ("mnist", "ttfs-mnist"), ("cifar10", "ttfs-cifar10-reduced")):
        assert arms[task][FRAMEWORK] == find(name).recipe


def test_the_input() -> None:
    results = table(
        {("decisions", FRAMEWORK): accuracies(0.85, 0.86), ("latency-code", FRAMEWORK): accuracies(0.8, 0.81)}
    )
    assert verdict("Direct input", results).figures.startswith("decisions, latency-code: 5.00")


def test_the_sequel_s_directions() -> None:
    results = table(
        {
            ("fashion-mnist", FRAMEWORK): accuracies(0.90, 0.901),
            ("fashion-mnist", MEMBRANE): accuracies(0.92, 0.921),
            ("fashion-mnist", GROWING): accuracies(0.91, 0.911),
        }
    )
    assert verdict("decoder of the membrane potential", results).status == "reproduced"
    assert verdict("Steps that grow", results).status == "not reproduced"


def test_a_training_that_diverged_is_a_guess() -> None:
    results = table(
        {
            ("fashion-mnist", FRAMEWORK): [*accuracies(0.95, 0.95), None],
            ("fashion-mnist", MEMBRANE): accuracies(0.91, 0.91, 0.91),
            ("decisions", FRAMEWORK): accuracies(0.85, 0.85),
            ("latency-code", FRAMEWORK): [None, None],
        }
    )
    assert f"({MEMBRANE};" in verdict("As accurate as published by the best", results).figures
    assert verdict("decoder of the membrane potential", results).status == "undecided"
    assert verdict("Direct input", results).figures.startswith("decisions, latency-code: 75.00")


def test_cifar10_is_a_direction_and_no_figure_to_compare() -> None:
    results = table(
        {
            ("cifar10", FRAMEWORK): accuracies(0.77, 0.771),
            ("cifar10", GROWING): accuracies(0.78, 0.781),
            ("mnist", FRAMEWORK): accuracies(0.994, 0.994),
            ("mnist", GROWING): accuracies(0.993, 0.993),
        }
    )
    (claim,) = [one for one in STUDY.claims if one.text == "Accuracy on CIFAR-10"]
    seen = claim.judge(results)
    assert seen.status == "not comparable"
    assert "framework 77.05" in seen.figures
    together = verdict("Decoder and growing steps together", results)
    assert together.status == "partly reproduced"
    assert {task: holds for task, (holds, _) in together.findings.items()} == {"cifar10": True, "mnist": False}
