"""A run that is killed with SIGKILL, at any moment, ends bit-identical to the run that was not killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.kills import POINTS
from training.tiny import SOURCE, assert_same_run, read_lines

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(HERE / "kills.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(SOURCE), str(HERE.parent)))},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def test_the_whole_run_has_epochs_that_are_best_and_epochs_that_are_not(runs: Path) -> None:
    # Otherwise the kills between checkpoint and best weights would prove nothing.
    best = [metrics["best"] for metrics in read_lines(runs / "whole" / "metrics.jsonl")]
    assert best[0]
    assert True in best[1:]
    assert not best[-1]


@pytest.mark.parametrize("name", [*POINTS, *(f"random-{number}" for number in range(4))])
def test_killed_and_resumed_is_the_same_as_never_killed(runs: Path, name: str) -> None:
    assert_same_run(runs / name, runs / "whole")
