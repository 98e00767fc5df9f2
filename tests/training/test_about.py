"""What is written beside a result."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rheobase
from rheobase.training import Training, about
from training.tiny import network


def test_a_result_can_be_had_again_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/rheobase", "train", "--name", "my run"])
    found = about.about_run(network(), Training(seed=3), torch.device("cpu"), {"recipe": "mine"})
    assert found["command"] == "rheobase train --name 'my run'"
    assert found["seed"] == 3
    assert found["config"]["seed"] == 3
    assert found["recipe"] == "mine"
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["rheobase"] == rheobase.__version__
    assert found["layers"] == ["1 LIF(10)"]
    assert found["parameters"] == 8 * 10 + 10 + 2 * 10 + 10 * 3 + 3 + 3
    assert found["machine"]["device"] == "cpu"
    assert json.loads(json.dumps(found)) == found


def test_the_command_of_a_module_is_one_that_can_be_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/rheobase/__main__.py", "train", "mnist"])
    found = about.about_run(network(), Training(), torch.device("cpu"), {})
    assert found["command"] == "python -m rheobase train mnist"


def test_the_command_of_a_script_is_one_that_can_be_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["experiments/mine.py", "--seed", "3"])
    assert about.command() == "python experiments/mine.py --seed 3"


@pytest.mark.parametrize("error", [OSError("no git"), subprocess.CalledProcessError(128, "git")])
def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(about.subprocess, "run", fail)
    assert about.commit() is None


def test_what_was_changed_is_told_of_the_source_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, results = tmp_path / "src" / "rheobase" / "training" / "about.py", tmp_path / "results.json"
    module.parent.mkdir(parents=True)
    module.write_text("")
    results.write_text("[]")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init"], ["add", "."], [*who, "commit", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True, capture_output=True)
    monkeypatch.setattr(about, "__file__", str(module))
    clean = about.commit()
    assert clean is not None
    assert re.fullmatch("[0-9a-f]{12}", clean)
    results.write_text("[1]")
    assert about.commit() == clean
    module.write_text("1")
    assert about.commit() == f"{clean}-dirty"


def test_peak_memory_is_that_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    peak = about.peak_memory_mib(torch.device("cpu"))
    assert peak is not None
    assert 50 < peak < 100_000
    monkeypatch.setitem(sys.modules, "resource", None)
    assert about.peak_memory_mib(torch.device("cpu")) is None
