"""What decides the claims about single-spike training, on results made up for it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reproduce.toy import table_of
from rheobase.reproduce.rows import Results
from rheobase.reproduce.single_spike import BLOCK, FIXED, LOOP, MULTI, STUDY, experiments
from rheobase.reproduce.study import Table, Verdict

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def table(values: Mapping[tuple[str, str], Sequence[dict[str, Any] | None]], *, quick: bool = True) -> Table:
    return table_of(experiments(quick), values)


def verdict(claim: str, results: Table) -> Verdict:
    (found,) = [one for one in STUDY.claims if claim in one.text]
    return found.judge(results)


def accuracies(*values: float) -> list[dict[str, Any]]:
    return [{"test_accuracy": value} for value in values]


def test_the_experiments() -> None:
    names = [experiment.name for experiment in experiments(False)]
    assert len(set(names)) == len(names) == 10
    for quick in (True, False):
        for experiment in experiments(quick):
            assert set(experiment.arms) >= ({BLOCK} if experiment.name.endswith("-conv") else {BLOCK, LOOP, MULTI})
            assert len(experiment.seeds) >= 3
            quiet = experiment.name.startswith("silence")
            assert all((getattr(recipe, "input_gain", 1) < 1) == quiet for recipe in experiment.arms.values())


def test_what_is_done_is_known_to_be_done() -> None:
    rows = Results(RESULTS / "single-spike.json", {}).rows()
    known = Table(experiments(False), rows)
    assert sum(known.done(name) for name in known.experiments) == len(rows) >= 66


def test_nothing_is_decided_without_results() -> None:
    assert {claim.judge(table({})).status for claim in STUDY.claims} == {"not run yet", "not comparable"}


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ((0.981, 0.982), "reproduced"),
        ((0.97, 0.98), "undecided"),
        ((0.97, 0.971), "not reproduced"),
        ((0.99,), "undecided"),
    ],
)
def test_as_accurate_as_published(found: tuple[float, ...], status: str) -> None:
    results = table({("yin-yang", BLOCK): accuracies(*found), ("spoken-digits", BLOCK): accuracies(0.2)})
    seen = verdict("As accurate as published", results)
    assert seen.status == status
    assert "published 98.02" in seen.figures
    assert "spoken" not in seen.figures  # which nobody has published


def test_not_less_accurate() -> None:
    results = table(
        {
            ("yin-yang", BLOCK): accuracies(0.95, 0.951),
            ("yin-yang", LOOP): accuracies(0.954, 0.9551),
            ("yin-yang", MULTI): accuracies(0.97, 0.971),
            ("spoken-digits", BLOCK): accuracies(0.95, 0.951),
            ("spoken-digits", LOOP): accuracies(0.96, 0.90),
        }
    )
    loop = verdict("trained as a loop", results)  # half a point is as good, a wide interval says nothing
    assert loop.status == "partly reproduced"
    assert (
        verdict("trained as a loop", table({("yin-yang", arm): accuracies(0.9) for arm in (BLOCK, LOOP)})).status
        == "undecided"
    )
    many = verdict("neurons with many spikes", results)
    assert many.status == "not reproduced"
    assert many.figures.startswith("yin-yang: -2.00 ± 0.00")


def test_fewer_spikes() -> None:
    results = table(
        {
            ("yin-yang", BLOCK): [{"spikes_per_sample": 50.0}, {"spikes_per_sample": 52.0}],
            ("yin-yang", MULTI): [{"spikes_per_sample": 100.0}, {"spikes_per_sample": 104.0}],
        }
    )
    assert verdict("Fewer spikes", results).figures == "yin-yang: 50 ± 0 % fewer"
    assert verdict("As many fewer", results).status == "reproduced"
    assert verdict("As many fewer", results).figures == "yin-yang: 50 ± 0 % (published 44)"


def test_learned_decays() -> None:
    results = table({("spoken-digits", BLOCK): accuracies(0.6, 0.61), ("spoken-digits", FIXED): accuracies(0.4, 0.42)})
    assert verdict("Learned decays", results).status == "reproduced"


@pytest.mark.parametrize(("found", "status"), [((0.9, 0.8), "reproduced"), ((0.9, 0.4), "not reproduced")])
def test_from_silence(found: tuple[float, ...], status: str) -> None:
    seen = verdict("without any spike", table({("silence-yin-yang", BLOCK): accuracies(*found)}))
    assert seen.status == status
    assert seen.figures.startswith("yin-yang: single spike")


@pytest.mark.parametrize("name", ["silence-yin-yang", "silence-spoken-digits"])
def test_silence_is_silent(name: str) -> None:
    (silence,) = [one for one in experiments(False) if one.name == name]
    recipe = silence.arms[BLOCK]
    splits = recipe.splits()
    for seed in silence.seeds:
        network = replace(recipe, training=replace(recipe.training, seed=seed)).seeded_network()
        x, _ = splits.test.batch(np.arange(200))
        with torch.no_grad():
            assert not network[:2](x).any()


def test_a_training_that_diverged_is_a_guess() -> None:
    found = [*accuracies(0.99, 0.99), None]
    results = table(
        {
            ("yin-yang", BLOCK): found,
            ("yin-yang", LOOP): accuracies(0.5, 0.5, 0.5),
            ("silence-yin-yang", BLOCK): found,
            ("spoken-digits", BLOCK): found,
            ("spoken-digits", FIXED): accuracies(0.5, 0.5, 0.5),
        }
    )
    assert verdict("As accurate as published", results).status == "undecided"
    assert verdict("trained as a loop", results).status == "undecided"
    assert verdict("Learned decays", results).status == "undecided"
    assert verdict("without any spike", results).status == "not reproduced"
