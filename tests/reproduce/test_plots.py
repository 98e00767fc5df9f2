"""The pictures of studies: what is drawn of few arms, and what of many that differ in a number."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from reproduce.toy import Toy, table_of
from rheobase.reproduce import plots
from rheobase.reproduce.study import Experiment

MANY = [f"dampening {value}" for value in (0.25, 0.5, 1, 2, 4, 8)] + [f"tail, {value}" for value in (1.5, 3, 6, 12, 24)]


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Draws the picture of an experiment with these arms, each with two seeds; returns the panels."""
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1])

    def draw(arms: list[str]) -> list:
        experiment = Experiment("all", "All", {arm: Toy(hidden=3 + n) for n, arm in enumerate(arms)}, (0, 1))
        seeds = [{"test_accuracy": 0.6}, {"test_accuracy": 0.8}]
        table = table_of([experiment], {("all", arm): seeds for arm in arms})
        (path,) = plots.draw(table, tmp_path, "toy").values()
        assert path.read_bytes().startswith(b"\x89PNG")
        return figures[-1].axes

    return draw


def labels(axis) -> list[str]:
    return axis.get_legend_handles_labels()[1]


def test_few_arms_are_drawn_over_epochs(drawn) -> None:
    accuracy, *layers = drawn(MANY[:3])
    assert labels(accuracy) == MANY[:3]
    assert accuracy.get_xlabel() == "epoch" and len(layers) == 2  # noqa: PT018
    assert accuracy.lines[0].get_xdata().tolist() == [1, 2]
    assert accuracy.lines[0].get_ydata().tolist() == pytest.approx([40, 50])


def test_many_arms_that_differ_in_a_number_are_drawn_over_it(drawn) -> None:
    accuracy, first, _ = drawn(MANY)
    assert labels(accuracy) == ["dampening", "tail"]
    assert accuracy.get_xscale() == "log"
    assert accuracy.lines[0].get_xdata().tolist() == [0.25, 0.5, 1, 2, 4, 8]
    np.testing.assert_allclose(accuracy.lines[1].get_ydata(), 70)  # the mean over seeds
    assert accuracy.collections[0].get_datalim(accuracy.transData).y1 == pytest.approx(80)  # and up to the best
    silent, dead = first.lines[:2]
    assert silent.get_ydata()[0] == pytest.approx(50) and dead.get_ydata()[0] == pytest.approx(25)  # noqa: PT018


@pytest.mark.parametrize("other", ["fixed", "as published", "width -1", "width 0", "width nan"])
def test_one_arm_without_a_number_keeps_all_of_them_over_epochs(drawn, other: str) -> None:
    assert labels(drawn([*MANY, other])[0]) == [*MANY, other]


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
