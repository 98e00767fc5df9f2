"""What decides the claims about stochastic neurons, on results made up for it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from reproduce.toy import table_of
from rheobase.reproduce.command import write
from rheobase.reproduce.stochastic_parallel import (
    AUGMENTED,
    GS,
    LIF,
    NON_SPIKING,
    PLAIN,
    PSN,
    REGULARIZED,
    SB,
    STUDY,
    experiments,
)
from rheobase.reproduce.study import Table, Verdict


def table(values: Mapping[tuple[str, str], Sequence[dict[str, Any] | None]], *, quick: bool = True) -> Table:
    return table_of(experiments(quick), values)


def verdict(claim: str, results: Table) -> Verdict:
    (found,) = [one for one in STUDY.claims if one.text.startswith(claim)]
    return found.judge(results)


def accuracies(*values: float) -> list[dict[str, Any]]:
    return [{"test_accuracy": value} for value in values]


def test_the_experiments() -> None:
    names = [experiment.name for experiment in experiments(False)]
    assert names == [PLAIN, AUGMENTED, REGULARIZED, "sequential-mnist", "permuted-mnist"]
    assert [experiment.name for experiment in experiments(True)] == names[:3]
    for quick in (True, False):
        for experiment in experiments(quick):
            assert len(experiment.seeds) == 3
            for arm, recipe in experiment.arms.items():
                assert recipe.neurons == arm
                assert recipe.augment == (experiment.name in (AUGMENTED, REGULARIZED))
                assert (recipe.rate is not None) == (experiment.name == REGULARIZED)


def test_nothing_is_decided_without_results() -> None:
    assert {claim.judge(table({})).status for claim in STUDY.claims} == {"not run yet", "not comparable"}


@pytest.mark.parametrize(
    ("lif", "status"),
    [((0.7, 0.71), "reproduced"), ((0.79, 0.82), "undecided"), ((0.9, 0.91), "not reproduced")],
)
def test_more_accurate_than_neurons_with_a_reset(lif: tuple[float, ...], status: str) -> None:
    results = table({(PLAIN, SB): accuracies(0.8, 0.81), (PLAIN, LIF): accuracies(*lif)})
    seen = verdict("More accurate than neurons with a reset", results)
    assert seen.status == status
    assert seen.figures.startswith("SB plain: ")


def test_one_experiment_against_another() -> None:
    results = table(
        {
            (PLAIN, SB): accuracies(0.7, 0.7),
            (AUGMENTED, SB): accuracies(0.8, 0.8),
            (AUGMENTED, NON_SPIKING): accuracies(0.85, 0.85),
            (REGULARIZED, SB): accuracies(0.75, 0.75),
        }
    )
    assert verdict("Augmentation makes", results).status == "reproduced"
    assert verdict("A penalty on rates", results).status == "not reproduced"
    assert verdict("More accurate than a network without", results).status == "not reproduced"


def test_spikes_rates_and_noise() -> None:
    noise = {
        "accuracy over noise seeds, mean": 0.8,
        "accuracy over noise seeds, deviation": 0.01,
        "accuracy, expected": 0.9,
    }
    results = table(
        {
            (PLAIN, SB): [{"rates": ((0.1, 0.1), (0.5, 0.45))}] * 2,
            (PLAIN, GS): [{"rates": ((0.5, 0.5), (0.5, 0.05))}] * 2,
            (AUGMENTED, GS): [{"spikes_per_sample": 100.0, "measures": noise}] * 2,
            (REGULARIZED, GS): [{"spikes_per_sample": 20.0}, {"spikes_per_sample": 21.0}],
        }
    )
    saved = verdict("and saves spikes", results)
    assert saved.status == "reproduced"
    assert "80" in saved.figures
    assert verdict("Without it", results).status == "partly reproduced"
    seen = verdict("One draw", results)
    assert seen.status == "reproduced"
    assert "over noise seeds, deviation 1.0 %" in seen.figures
    assert "expected 90.0 %" in seen.figures


def test_parallel_spiking_neurons() -> None:
    task = "sequential-mnist"
    results = table({(task, PSN): accuracies(0.9, 0.91), (task, LIF): accuracies(0.8, 0.8)}, quick=False)
    seen = verdict("Parallel spiking neurons", results)
    assert seen.status == "reproduced"
    assert "PSN, sequential-mnist" in seen.figures
    assert verdict("So are stochastic neurons", results).status == "not run yet"
    results = table({(task, SB): accuracies(0.7, 0.71), (task, LIF): accuracies(0.8, 0.8)}, quick=False)
    assert verdict("So are stochastic neurons", results).status == "not reproduced"
    assert verdict("Parallel spiking neurons", results).status == "not run yet"


def test_page_and_picture_of_arms_with_and_without_neurons(tmp_path: Path) -> None:
    results = table(
        {(PLAIN, SB): accuracies(0.8, 0.8), (PLAIN, NON_SPIKING): [{"layers": (), "dead": ((),), "silent": ((),)}] * 2}
    )
    page = write(STUDY, results, tmp_path / "page.md", True)
    text = page.read_text(encoding="utf-8")
    assert "| non-spiking |" in text
    assert (tmp_path / f"page-{PLAIN}.png").exists()


def test_a_training_that_diverged_is_a_guess() -> None:
    results = table({(PLAIN, SB): [*accuracies(0.8, 0.81), None], (PLAIN, LIF): accuracies(0.7, 0.71, 0.72)})
    assert verdict("More accurate than neurons with a reset", results).status == "undecided"
