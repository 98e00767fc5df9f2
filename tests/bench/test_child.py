"""What a measuring process says, and what its parent makes of one that fails."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from typing import Any

import pytest

from rheobase.bench import child, measure, ours
from rheobase.bench.child import COPY, Job, environment, times
from rheobase.bench.implementation import Implementation, Result, Step
from rheobase.bench.workloads import Task

JOB = Job("times", "W2", rounds=2, toy=True)


@pytest.fixture(autouse=True)
def no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before every sample garbage is collected, which takes its time among the tests' own objects."""
    monkeypatch.setattr(measure.gc, "collect", lambda: 0)


def said(job: Job) -> dict[str, list[dict[str, Any]]]:
    """The messages of a job, by kind."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for message in times(job):
        assert json.loads(json.dumps(message)) == message
        kinds.setdefault(message.pop("message"), []).append(message)
    return kinds


def ours_and(*others: Implementation):
    return lambda task: [Implementation("Rheobase", ours.build), *others]


def test_times() -> None:
    kinds = said(JOB)
    assert [row["row"] for row in kinds["row"]] == ["Rheobase", "dense products only"]
    names = ["Rheobase", "dense products only", COPY]
    assert [sample["row"] for sample in kinds["sample"]] == 2 * names
    assert all(sample["cpu"] > 0 and sample["wall"] > 0 for sample in kinds["sample"])
    (bound,) = kinds["bound"]
    assert bound == {"bytes": 20 * 4 * (2 * 16 * 24 + 4 * 16), "copied": 2 * 2**20}


def test_who_cannot_be_built_loses_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(task: Task) -> Step:
        raise NotImplementedError("not here\nbut there")

    monkeypatch.setattr(ours, "implementations", ours_and(Implementation("broken", broken)))
    kinds = said(JOB)
    assert kinds["failed"] == [{"row": "broken", "why": "NotImplementedError: not here"}]
    assert {sample["row"] for sample in kinds["sample"]} == {"Rheobase", "dense products only", COPY}


def test_who_raises_later_loses_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def tired(task: Task) -> Step:
        left = [Result(None, ())] * 2
        return lambda: left.pop()

    monkeypatch.setattr(ours, "implementations", ours_and(Implementation("tired", tired)))
    assert said(JOB)["failed"] == [{"row": "tired", "why": "IndexError: pop from empty list"}]


def test_who_is_skipped_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(task: Task) -> Step:
        raise AssertionError

    monkeypatch.setattr(ours, "implementations", ours_and(Implementation("lazy", never, skip="no wish")))
    kinds = said(JOB)
    assert {"row": "lazy", "library": "rheobase", "differs": "", "why": "no wish"} in kinds["row"]
    assert "failed" not in kinds


def test_what_takes_long_to_compile_is_left_out_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Implementation("slow", ours.build, compiles=True)
    monkeypatch.setattr(child.peers, "implementations", lambda peer, task: [slow])
    job = replace(JOB, peers=("snntorch",))
    assert "slow" not in [row["row"] for row in said(job)["row"]]
    assert "slow" in [row["row"] for row in said(replace(job, compiled=True))["row"]]


def test_agreement_of_a_library_that_cannot_be_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_rows(task: Task) -> Step:
        if task.layer_alone:
            raise NotImplementedError("no layer alone")
        return ours.build(task)

    monkeypatch.setattr(child.peers, "implementations", lambda *_: [Implementation("peer", only_rows)])
    kinds = said(replace(JOB, peers=("snntorch",), agreement=True))
    why = "NotImplementedError: no layer alone"
    assert kinds["agreement"] == [{"row": "peer", "agreement": {"holds": False, "why": why}}]
    assert "peer" in [sample["row"] for sample in kinds["sample"]]  # its time is not lost


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--mine")
    assert environment(1)["OMP_NUM_THREADS"] == environment(1)["NPROC"] == "1"
    assert environment(1)["XLA_FLAGS"].startswith("--mine ")
    assert environment(4)["MKL_NUM_THREADS"] == "4"
    assert environment(4)["XLA_FLAGS"] == "--mine"


def test_what_libraries_print_does_not_come_between() -> None:
    job = json.dumps(asdict(replace(JOB, workload="W4", rounds=1)))
    noisy = "import os; from rheobase.bench import child; os.write(1, b'before\\n'); wrapped = child.times\n"
    noisy += "def times(job):\n    print('noise', flush=True); os.write(1, b'noise'); yield from wrapped(job)\n"
    noisy += "child.times = times; child.main()"
    done = subprocess.run([sys.executable, "-c", noisy, job], capture_output=True, text=True, check=True)
    first, *messages = done.stdout.splitlines()
    assert first == "before"
    assert [json.loads(line)["message"] for line in messages] == ["row", "bound", "sample", "sample"]
    assert done.stderr.count("noise") == 2
