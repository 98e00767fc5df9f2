"""The pictures of studies: what is drawn of few arms, and what of many that differ in a number."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from reproduce.toy import Toy, table_of
from rheobase.reproduce import STUDIES, plots
from rheobase.reproduce.study import Experiment
from training.tiny import settings


@dataclass(frozen=True)
class Steep(Toy):
    """With the settings that its arms differ in."""

    steep: bool = False
    dampening: float = 1.0
    sharpness: float = 1.0
    tail: float = 2.0


DAMPENING = {f"dampening {value}": Steep(dampening=value) for value in (0.25, 0.5, 2, 4, 8)}
SHARPNESS = {f"sharpness {value}": Steep(sharpness=value) for value in (0.5, 2, 4)}
TAIL = {f"tail, {value}": Steep(tail=value, steep=True) for value in (1.5, 3, 6, 12, 24)}
MANY = DAMPENING | TAIL | {"dampening 1": Steep()}


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Draws the picture of an experiment with these arms, each with two seeds but those not done; returns the panels."""
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1])

    def draw(arms: dict[str, Steep], not_done: tuple[str, ...] = (), chance: float | None = None) -> list:
        experiment = Experiment("all", "All", arms, (0, 1), chance=chance)
        seeds = [{"test_accuracy": 0.6}, {"test_accuracy": 0.8}]
        table = table_of([experiment], {("all", arm): seeds for arm in arms if arm not in not_done})
        (path,) = plots.draw(table, tmp_path, "toy").values()
        assert path.read_bytes().startswith(b"\x89PNG")
        return figures[-1].axes

    return draw


def labels(axis) -> list[str]:
    return axis.get_legend_handles_labels()[1]


def ticks(axis) -> list[str]:
    return [label.get_text() for label in axis.get_xticklabels()]


def test_few_arms_are_drawn_over_epochs(drawn) -> None:
    accuracy, *layers = drawn(dict(list(MANY.items())[:3]))
    assert labels(accuracy) == list(MANY)[:3]
    assert accuracy.get_xlabel() == "epoch" and len(layers) == 2  # noqa: PT018
    assert accuracy.lines[0].get_xdata().tolist() == [1, 2]
    assert accuracy.lines[0].get_ydata().tolist() == pytest.approx([40, 50])


def test_many_arms_that_differ_in_a_setting_are_drawn_over_it(drawn) -> None:
    accuracy, first, _, others, *_ = drawn(MANY)
    assert [labels(accuracy), labels(others)] == [["dampening"], ["tail"]]
    assert [accuracy.get_xlabel(), others.get_xlabel()] == ["dampening", "tail"]
    assert accuracy.get_xscale() == others.get_xscale() == "log"
    assert accuracy.lines[0].get_xdata().tolist() == [0.25, 0.5, 1, 2, 4, 8]
    assert [ticks(accuracy), ticks(others)] == [["0.25", "0.5", "1", "2", "4", "8"], ["1.5", "3", "6", "12", "24"]]
    assert not accuracy.get_xticklabels(minor=True)
    np.testing.assert_allclose(others.lines[0].get_ydata(), 70)  # the mean over seeds
    assert accuracy.collections[0].get_datalim(accuracy.transData).y1 == pytest.approx(80)  # and up to the best
    silent, dead = first.lines[:2]
    assert silent.get_ydata()[0] == pytest.approx(50) and dead.get_ydata()[0] == pytest.approx(25)  # noqa: PT018


def test_an_arm_where_curves_meet_is_a_point_of_both(drawn) -> None:
    accuracy, _, _, others, *_ = drawn({"both 1": Steep()} | DAMPENING | SHARPNESS | TAIL)
    assert [labels(accuracy), labels(others)] == [["dampening", "sharpness"], ["tail"]]
    assert accuracy.get_xlabel() == "dampening or sharpness"
    assert [line.get_xdata().tolist() for line in accuracy.lines] == [[0.25, 0.5, 1, 2, 4, 8], [0.5, 1, 2, 4]]
    assert 2 not in others.lines[0].get_xdata(), "which differs in another setting, too"


def test_learning_rates_are_a_setting_of_the_training(drawn) -> None:
    rates = {
        f"{name}, {rate:g}": Steep(steep=name == "steep", training=settings(epochs=2, learning_rate=rate))
        for name in ("steep", "flat")
        for rate in (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1)
    }
    accuracy, *_ = panels = drawn(rates)
    assert len(panels) == 3
    assert (accuracy.get_xlabel(), labels(accuracy)) == ("learning rate", ["steep", "flat"])


def test_what_is_planned_and_not_what_is_done_decides_over_what_is_drawn(drawn) -> None:
    accuracy, *_ = panels = drawn(MANY, not_done=tuple(TAIL))
    assert len(panels) == 3
    assert accuracy.get_xlabel() == "dampening"
    assert accuracy.lines[0].get_xdata().tolist() == [0.25, 0.5, 1, 2, 4, 8]


@pytest.mark.parametrize("other", ["fixed", "as published", "width -1", "width 0", "width nan", "width 3"])
def test_one_arm_without_a_place_gives_each_a_line_of_its_own(drawn, other: str) -> None:
    arms = MANY | {other: Steep(hidden=9)}
    accuracy, silent, _ = drawn(arms)
    assert [label.get_text() for label in accuracy.get_yticklabels()] == list(arms)
    seeds, mean = accuracy.lines[:2]
    assert seeds.get_xdata().tolist() == pytest.approx([60, 80])
    assert mean.get_xdata().tolist() == pytest.approx([70])
    assert [line.get_xdata()[-1] for line in silent.lines[1:4:2]] == pytest.approx([50, 25])  # the second is dead
    assert accuracy.yaxis_inverted()


def test_many_arms_over_no_setting_have_lines_of_their_own(drawn) -> None:
    arms = {f"width {value}": Steep(hidden=2 + value) for value in range(1, 12)}
    accuracy, *_ = drawn(arms)
    assert [label.get_text() for label in accuracy.get_yticklabels()] == list(arms)
    assert not labels(accuracy)


@pytest.mark.parametrize("arms", [MANY, TAIL])
def test_chance_is_a_line_where_it_is_known(drawn, arms: dict[str, Steep]) -> None:
    accuracy, first, *_ = drawn(arms, chance=0.25)
    line = accuracy.lines[-1]
    assert (list(line.get_ydata()), line.get_linestyle()) == ([25, 25], ":")
    assert [text.get_text() for text in accuracy.texts] == ["chance"]
    assert not first.texts
    assert not drawn(arms)[0].texts


@pytest.mark.parametrize(
    ("study", "chances"),
    [("thresholds", {0.1}), ("single-spike", {0.1, 1 / 3}), ("stochastic-parallel", {0.1}), ("ttfs", {0.1})],
)
def test_studies_know_what_chance_is(study: str, chances: set[float]) -> None:
    for quick in (False, True):
        found = {experiment.name: experiment.chance for experiment in STUDIES[study].experiments(quick)}
        assert set(found.values()) == chances
        assert all((chance == 1 / 3) == ("yin-yang" in name) for name, chance in found.items())


def test_layers_go_by_their_names_or_by_numbers_where_these_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[list[str]] = []
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *_, **__: titles.append([axis.get_title() for axis in self.axes[1:]])
    )
    arms = {"spiking": Toy(hidden=3), "other": Toy(hidden=4), "none": Toy(hidden=5)}
    experiment = Experiment("all", "All", arms, (0,))
    silent = {"layers": (), "dead": ((), ()), "silent": ((), ())}
    for layers in (("1 LIF(4)", "3 LIF(3)"), ("2 PSN", "5 PSN")):
        rows = {("all", "spiking"): [{}], ("all", "other"): [{"layers": layers}], ("all", "none"): [silent]}
        plots.draw(table_of([experiment], rows), tmp_path, "toy")
    named, numbered = ([title.split(":")[0] for title in each] for each in titles)
    assert named == ["1 LIF(4)", "3 LIF(3)"]
    assert numbered == ["layer 1", "layer 2"]
