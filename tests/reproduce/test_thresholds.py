"""What decides the claims about trainable thresholds, on results made up for it; and the recipe behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reproduce.toy import row, table_of
from rheobase import Rouser
from rheobase.recipes.thresholds import PerNeuron, Thresholds
from rheobase.reproduce import thresholds
from rheobase.reproduce.command import write
from rheobase.reproduce.study import Table, Verdict
from rheobase.reproduce.thresholds import FIXED, LEARNED, POSITIVE, STUDY, experiments

LAYERS = {"layers": ("1 Rouser(100)", "3 Rouser(100)", "5 Rouser(10)")}


def table(values: Mapping[tuple[str, str], Sequence[dict[str, Any] | None]]) -> Table:
    return table_of(experiments(True), values)


def verdict(claim: str, results: Table) -> Verdict:
    (found,) = [one for one in STUDY.claims if claim in one.text]
    return found.judge(results)


def accuracies(*values: float) -> list[dict[str, Any]]:
    return [{"test_accuracy": value, "validation_accuracy": value} for value in values]


def test_nothing_is_decided_without_results() -> None:
    assert {claim.judge(table({})).status for claim in STUDY.claims} == {"not run yet", "not comparable"}


@pytest.mark.parametrize(
    ("learned", "status"),
    [((0.75, 0.76, 0.77), "reproduced"), ((0.65, 0.76, 0.90), "undecided"), ((0.5, 0.51, 0.52), "not reproduced")],
)
def test_more_accurate(learned: tuple[float, ...], status: str) -> None:
    results = table(
        {
            ("spoken-digits", FIXED): accuracies(0.70, 0.71, 0.72),
            ("spoken-digits", "fixed 0.25"): accuracies(0.80, 0.81, 0.82),
            ("spoken-digits", LEARNED): accuracies(*learned),
        }
    )
    assert verdict("than the fixed default", results).status == status
    best = verdict("than the best fixed", results)
    assert best.status == ("undecided" if 0.9 in learned else "not reproduced")
    assert "against fixed 0.25" in best.figures
    assert thresholds.best_fixed(results, "spoken-digits") == "fixed 0.25"


def curves(*curves: tuple[float, ...]) -> list[dict[str, Any]]:
    return [{"validation_curve": curve} for curve in curves]


def test_faster() -> None:
    slow, fast = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), (0.3, 0.5, 0.6, 0.7, 0.7, 0.7)
    # Running means end at 0.5 (slow); fast is at 0.4, 0.4667, 0.6: epoch 4 of its running mean, instead of 6.
    results = table({("spoken-digits", FIXED): curves(slow, slow), ("spoken-digits", LEARNED): curves(fast, fast)})
    found = verdict("fewer epochs", results)
    assert found.status == "reproduced"
    assert found.figures == "spoken-digits: gets there in 2 of 2 runs, with 33 ± 0 % fewer epochs"
    results = table({("spoken-digits", FIXED): curves(fast, fast), ("spoken-digits", LEARNED): curves(slow, fast)})
    found = verdict("fewer epochs", results)
    figures = "spoken-digits: gets there in 1 of 2 runs, with 0 % fewer epochs"
    assert (found.status, found.figures) == ("not reproduced", figures)
    results = table({("spoken-digits", FIXED): curves(fast, fast), ("spoken-digits", LEARNED): curves(slow, slow)})
    found = verdict("fewer epochs", results)
    assert (found.status, found.figures) == ("not reproduced", "spoken-digits: gets there in 0 of 2 runs")


@pytest.mark.parametrize("learned", [(0.1, 0.2), (0.9, 0.9)])
def test_one_seed_does_not_say_who_is_faster(learned: tuple[float, ...]) -> None:
    results = table({("spoken-digits", FIXED): curves((0.3, 0.5)), ("spoken-digits", LEARNED): curves(learned)})
    assert verdict("fewer epochs", results).status == "undecided"


def test_every_arm_tells_when_it_gets_to_the_end_of_the_fixed_one() -> None:
    slow, fast = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), (0.3, 0.5, 0.6, 0.7, 0.7, 0.7)
    arms = {FIXED: (slow, fast), "learned bias": (fast, slow), "learned gain": (fast, fast)}
    results = table({("spoken-digits", arm): curves(*values) for arm, values in arms.items()})
    rescue = table({("rescue-spoken-digits", LEARNED): curves(slow)})
    measured = {
        arm: [tuple(row.measures.values()) for row in rows.values()]
        for arm, rows in STUDY.derived(results).arms("spoken-digits").items()
    }
    assert measured == {
        FIXED: [(100, 6), (100, 6)],
        "learned bias": [(100, 4), (0,)],
        "learned gain": [(100, 4), (100, 6)],
    }
    assert STUDY.derived(rescue).of("rescue-spoken-digits", LEARNED)[0].measures == {}


def test_the_page_has_the_epochs(tmp_path: Path) -> None:
    fast = (0.3, 0.5, 0.6, 0.7, 0.7, 0.7)
    rows = [{**one, **LAYERS, "dead": ((0.0,) * 3,) * 6, "silent": ((0.0,) * 3,) * 6} for one in curves(fast, fast)]
    results = table({("spoken-digits", FIXED): rows, ("spoken-digits", LEARNED): rows})
    page = write(STUDY, results, tmp_path / "thresholds.md", True).read_text()
    assert "| runs that get to the end of fixed 1.25, % | epochs of these |" in page
    assert page.count("| 100 | 6 |") == 2


def test_one_seed_decides_nothing() -> None:
    results = table({("spoken-digits", FIXED): accuracies(0.5), ("spoken-digits", LEARNED): accuracies(0.9)})
    assert verdict("than the fixed default", results).status == "undecided"


def test_arms_without_a_common_seed_are_not_compared() -> None:
    planned = {experiment.name: experiment for experiment in experiments(True)}["spoken-digits"]
    rows = []
    for arm, seed in ((FIXED, 0), (LEARNED, 1)):
        recipe = planned.arms[arm]
        settings = asdict(replace(recipe, training=replace(recipe.training, seed=seed)))
        rows.append(row("spoken-digits", arm, seed, settings))
    apart = Table(experiments(True), rows)
    for claim in STUDY.claims:
        if not claim.text.startswith("No layer is dead"):  # which looks at each arm by itself
            assert claim.judge(apart).status in ("not run yet", "not comparable"), claim.text


def test_a_flat_curve_is_reached() -> None:
    flat = row("spoken-digits", FIXED, 0, {}, validation_curve=(0.7, *[0.77777] * 20))
    assert thresholds.epochs_saved(flat, flat) == 0


def test_dead_neurons() -> None:
    def shares(*dead: float) -> list[dict[str, Any]]:
        return [{**LAYERS, "dead": ((share, 0.0, 0.9),), "silent": ((0.8, share, 0.9),)} for share in dead]

    results = table({("spoken-digits", FIXED): shares(0.6, 0.62), ("spoken-digits", LEARNED): shares(0.3, 0.31)})
    found = verdict("hidden layers are dead", results)
    assert found.status == "reproduced"
    assert found.figures.startswith("spoken-digits: 15.2 ± 3.2 points fewer dead, 15.2")
    assert verdict("No layer is dead", results).status == "undecided"  # nor is one with fixed thresholds
    results = table({("spoken-digits", FIXED): shares(0.6, 1.0), ("spoken-digits", LEARNED): shares(0.3, 0.31)})
    assert verdict("No layer is dead", results).status == "reproduced"
    results = table({("spoken-digits", FIXED): shares(0.6), ("spoken-digits", LEARNED): shares(1.0)})
    assert verdict("No layer is dead", results).status == "not reproduced"


@pytest.mark.parametrize(
    ("fixed", "learned", "status"),
    [
        ((0.1, 0.12), (0.6, 0.7), "reproduced"),
        ((0.1, 0.4), (0.6, 0.7), "undecided"),
        ((0.1, 0.1), (0.6, 0.2), "not reproduced"),
    ],
)
def test_rescued(fixed: tuple[float, ...], learned: tuple[float, ...], status: str) -> None:
    name = "rescue-spoken-digits"
    arms = {"fixed 0.25": fixed, LEARNED: learned, POSITIVE: learned}
    results = table({(name, arm): accuracies(*values) for arm, values in arms.items()})
    assert verdict("stays at chance", results).status == status


def test_the_arms_start_from_the_same_weights() -> None:
    for experiment in experiments(False):
        first, *others = [recipe.seeded_network() for recipe in experiment.arms.values()]
        weights = [parameter for parameter in first.parameters() if parameter.ndim == 2]
        assert len(weights) == 3
        for other in others:
            theirs = [parameter for parameter in other.parameters() if parameter.ndim == 2]
            assert all(torch.equal(*pair) for pair in zip(weights, theirs, strict=True))


def test_the_arms_compute_the_same_at_first() -> None:
    (comparison, _) = experiments(True)
    x = (torch.rand(20, 2, 140) < 0.1).float()
    others = ("fixed 0.25", "fixed 2.5")
    with torch.no_grad():
        outputs = {arm: recipe.seeded_network()(x) for arm, recipe in comparison.arms.items() if arm not in others}
    assert len(outputs) == 5
    assert all(torch.equal(output, outputs[FIXED]) for output in outputs.values())
    learned = {arm: len(list(recipe.network().parameters())) for arm, recipe in comparison.arms.items()}
    assert learned == {
        FIXED: 3,
        **dict.fromkeys(others, 3),
        LEARNED: 6,
        POSITIVE: 6,
        "learned bias": 6,
        "learned gain": 6,
    }


def test_the_network_is_the_published_one() -> None:
    network = Thresholds(task="mnist").network()
    neurons = [layer for layer in network if isinstance(layer, Rouser)]
    assert [layer.features for layer in neurons] == [200, 200, 10]
    assert network[0].bias is None
    assert neurons[0].surrogate.dampening == pytest.approx(0.4)


def test_a_gain_and_a_bias() -> None:
    x = torch.tensor([[1.0, 2.0]])
    gain, bias = PerNeuron(2, "gain"), PerNeuron(2, "bias")
    for layer in (gain, bias):
        assert torch.equal(layer(x), x)
        layer.value.data += torch.tensor([1.0, -1.0])
    assert gain(x).tolist() == [[2.0, 0.0]]
    assert bias(x).tolist() == [[2.0, 1.0]]


def test_a_part_of_the_training_set() -> None:
    few = Thresholds(samples=100).splits()
    assert len(few.train) == 100
    assert few.train.fingerprint() == Thresholds(samples=100).splits().train.fingerprint()
    with pytest.raises(ValueError, match="samples must be from 1 to 2429"):
        Thresholds(samples=5000).splits()


def test_a_training_that_diverged_is_a_guess_in_every_claim() -> None:
    learned = [*accuracies(0.95, 0.95), None]
    for arm in ("learned bias", "learned gain", FIXED):
        results = table(
            {
                ("spoken-digits", FIXED): accuracies(*[0.8] * 3),
                ("spoken-digits", arm): accuracies(*[0.8] * 3),
                ("spoken-digits", LEARNED): learned,
            }
        )
        than = {FIXED: "than the fixed default"}.get(arm, f"than a {arm}")
        assert verdict(than, results).status == "undecided"
    assert verdict("fewer epochs", results).status == "not reproduced"
    assert verdict("fewer epochs", results).figures.startswith("spoken-digits: gets there in 2 of 3 runs")
    assert verdict("No layer is dead", results).status == "undecided"
    best = table(
        {
            ("spoken-digits", FIXED): accuracies(0.8, 0.8),
            ("spoken-digits", "fixed 0.25"): [*accuracies(0.9), None],
            ("spoken-digits", LEARNED): [None, None],
        }
    )
    assert thresholds.best_fixed(best, "spoken-digits") == FIXED
    assert verdict("than the fixed default", best).status == "not reproduced"


@pytest.mark.parametrize(("fixed", "learned"), [((), (1,)), ((1,), ())])
def test_a_training_that_diverged_has_not_been_rescued(fixed: tuple[int, ...], learned: tuple[int, ...]) -> None:
    """Nor does it train where it starts from a fixed threshold: there it is one that stays at chance."""
    arms = {"fixed 0.25": (accuracies(0.1, 0.1), fixed), LEARNED: (accuracies(0.9, 0.9), learned)}
    made_up: dict[tuple[str, str], Sequence[dict[str, Any] | None]] = {
        ("rescue-spoken-digits", arm): [None if seed in lost else row for seed, row in enumerate(rows)]
        for arm, (rows, lost) in arms.items()
    }
    made_up["rescue-spoken-digits", POSITIVE] = accuracies(0.9)
    assert verdict("stays at chance", table(made_up)).status == ("not reproduced" if learned else "reproduced")
