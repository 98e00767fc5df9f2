"""What is written beside a result."""

import json
import subprocess
import sys

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


@pytest.mark.parametrize("error", [OSError("no git"), subprocess.CalledProcessError(128, "git")])
def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(about.subprocess, "run", fail)
    assert about.commit() is None


def test_peak_memory_is_that_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    peak = about.peak_memory_mib(torch.device("cpu"))
    assert peak is not None
    assert 50 < peak < 100_000
    monkeypatch.setitem(sys.modules, "resource", None)
    assert about.peak_memory_mib(torch.device("cpu")) is None
