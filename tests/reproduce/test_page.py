"""The page of a study: what is in a cell, and what stands below because it is too long for one."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from reproduce.toy import STUDY, experiments, table_of
from rheobase.reproduce import STUDIES
from rheobase.reproduce.page import write_page
from rheobase.reproduce.rows import Results
from rheobase.reproduce.study import Claim, Finding, Table
from rheobase.reproduce.verdicts import not_comparable, overall

FINDINGS: Mapping[str, Finding] = {
    "digits": (True, "2 ± 1 points"),
    "MNIST": (None, "1 ± 3 points"),
    "SHD": (True, "3 ± 1 points"),
    "words": (False, "-3 ± 1 points"),
}
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
ONLY = "rheobase reproduce toy --only first second third"


@pytest.fixture
def page(tmp_path: Path):
    """Writes the page of a study with a claim of which this was found, and rows with these accuracies and this command."""

    def write(
        findings: Mapping[str, Finding] = FINDINGS, accuracies: tuple[float, ...] = (0.5,), command: str = ONLY
    ) -> str:
        claim = Claim("It is better", "by 5 points", lambda _: overall(findings))
        other = Claim("It is fast", "yes", lambda _: not_comparable("another machine"))
        rows = {("first", "small"): [{"test_accuracy": value, "command": command} for value in accuracies]}
        table = table_of(experiments(False), rows)
        path = tmp_path / "toy.md"
        write_page(path, replace(STUDY, claims=[claim, other]), table, "rheobase reproduce toy", False, {})
        return path.read_text()

    return write


def test_two_findings_are_in_the_cell(page) -> None:
    text = page({name: FINDINGS[name] for name in ("digits", "MNIST")})
    assert "| It is better | by 5 points | **partly reproduced** | digits: 2 ± 1 points; MNIST: 1 ± 3 points |" in text
    assert "| It is fast | yes | **not comparable** | another machine |" in text
    assert "###" not in text


def test_more_are_a_list_below(page) -> None:
    text = page()
    cell = "holds in 2 of 4, does not hold in 1, undecided in 1: see below"
    assert f"| It is better | by 5 points | **partly reproduced** | {cell} |" in text
    below = text.split("### It is better\n\n")[1].split("\n\n")[0].splitlines()
    assert below == [
        "- digits: holds, 2 ± 1 points",
        "- MNIST: undecided, 1 ± 3 points",
        "- SHD: holds, 3 ± 1 points",
        "- words: does not hold, -3 ± 1 points",
    ]
    assert text.count("###") == 1


@pytest.mark.parametrize(
    ("accuracies", "cell"), [((0.5, 0.52), "51.00 ± 12.71"), ((0.33, 0.98), "33.00, 98.00"), ((0.5,), "50.00")]
)
def test_a_wide_interval_gives_way_to_its_values(page, accuracies: tuple[float, ...], cell: str) -> None:
    assert f"| small | {cell} |  | 50.00 |" in page(accuracies=accuracies)


def test_three_names_of_experiments_are_told_and_four_are_not(page) -> None:
    assert f"`{ONLY}`" in page()
    assert "stands for" not in page()
    text = page(command=f"{ONLY} fourth --runs runs")
    assert "| `rheobase reproduce toy --only ... --runs runs` |" in text
    assert "`--only ...` stands for more than three experiments" in text


STEMS = sorted(path.stem for path in RESULTS.glob("*.json") if path.stem.removesuffix("-quick") in STUDIES)


@pytest.mark.parametrize("stem", STEMS)
def test_the_committed_page_is_that_of_the_committed_rows(stem: str, tmp_path: Path) -> None:
    study, quick = STUDIES[stem.removesuffix("-quick")], stem.endswith("-quick")
    table = Table(study.experiments(quick), *Results(RESULTS / f"{stem}.json", {}).read())
    figures = {name: RESULTS / f"{stem}-{name}.png" for name in table.experiments if table.arms(name)}
    command = f"rheobase reproduce {study.name}{' --quick' if quick else ''}"
    write_page(tmp_path / f"{stem}.md", study, study.derived(table), command, quick, figures)
    assert (tmp_path / f"{stem}.md").read_text() == (RESULTS / f"{stem}.md").read_text()
