"""`rheobase reproduce`, on a study of seconds."""

from pathlib import Path

import pytest

from reproduce.toy import STUDY
from rheobase import cli
from rheobase.reproduce import STUDIES, command, plots


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(command, "STUDIES", {**STUDIES, "toy": STUDY})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reproduce(*arguments: str) -> int:
    return cli.main(["reproduce", *arguments])


def test_it_writes_page_rows_and_pictures(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce("toy") == 0
    told = capsys.readouterr().out
    assert "0 of 5 trainings done; first, small, seed 0" in told
    assert "test accuracy" in told
    assert "results: benchmarks/results/toy.md" in told
    folder = toy / "benchmarks/results"
    names = {path.name for path in folder.iterdir() if path.suffix != ".lock"}
    assert names == {"toy.md", "toy.json", "toy-first.png", "toy-second.png"}
    page = (folder / "toy.md").read_text()
    assert "| It runs | always | **reproduced** | 2 arms |" in page
    assert "Written by `rheobase reproduce toy`" in page
    assert "## First experiment" in page
    assert page.count("![first](toy-first.png)") == page.count(".png)") - 1 == 1
    assert "37 training samples." in page
    assert (folder / "toy-first.png").read_bytes().startswith(b"\x89PNG")
    assert "were there already" not in told
    assert reproduce("toy") == 0
    assert (
        "5 of 5 trainings were there already, in benchmarks/results/toy.json, and were not repeated"
        in capsys.readouterr().out
    )


def test_quick_and_only(toy: Path) -> None:
    assert reproduce("toy", "--quick", "--only", "second", "--results", "found") == 0
    page = (toy / "found/toy-quick.md").read_text()
    assert "**not run yet**" in page
    assert page.count("Not run yet.") == 1
    assert "**The quick version:**" in page
    assert not (toy / "benchmarks").exists()


def test_without_a_study_it_says_what_there_is(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce("toy", "--only", "second") == 0
    capsys.readouterr()
    assert reproduce() == 0
    told = capsys.readouterr().out
    assert "thresholds" in told
    assert "  first     0 of 4  First experiment" in told
    assert "  second    1 of 1  Second" in told
    assert "  rescue-n-mnist-simulated  " in told, "names are whole, however narrow the terminal"


def test_without_matplotlib_there_are_no_pictures(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda _: None)
    assert reproduce("toy", "--quick", "--only", "second") == 0
    assert not list((toy / "benchmarks/results").glob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("everything",), "there is no study 'everything'; known are thresholds"),
        (("toy", "--only", "third"), "toy has no experiment third; known are first, second"),
    ],
)
def test_what_there_is_not(
    toy: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert reproduce(*arguments) == 2
    assert message in capsys.readouterr().err
