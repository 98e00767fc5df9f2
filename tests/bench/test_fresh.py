"""The memory probe finds what was allocated, and imports are timed."""

import subprocess
from pathlib import Path

import pytest

from rheobase.bench import fresh, ours
from rheobase.bench.fresh import first_call, import_seconds, peak_memory
from rheobase.bench.workloads import WORKLOADS

MIB = 2**20


def test_peak_of_what_is_kept() -> None:
    grown = peak_memory(lambda: bytearray(64 * MIB))
    assert grown is not None
    assert 63 < grown < 66


def test_peak_of_what_is_given_back() -> None:
    assert peak_memory(lambda: len(bytearray(64 * MIB))) == pytest.approx(64, abs=2)


def test_what_was_free_before_does_not_hide_it() -> None:
    pieces = [bytearray(64 * 2**10) for _ in range(1024)]  # too small for pages of their own: the allocator keeps them
    del pieces
    grown = peak_memory(lambda: [bytearray(64 * 2**10) for _ in range(1024)])
    assert grown == pytest.approx(64, abs=4)


def test_an_earlier_peak_does_not_count() -> None:
    bytearray(256 * MIB)
    assert peak_memory(lambda: bytearray(16 * MIB)) == pytest.approx(16, abs=2)


def test_where_the_system_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "PROCESS", tmp_path / "no proc")
    assert peak_memory(lambda: None) is None


def test_import_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    monkeypatch.setattr("sys.executable", str(program))
    program.write_text("#!/bin/sh\nprintf 'a library greets'\nprintf '\\n0.25\\n'\n")
    program.chmod(0o755)
    assert import_seconds("module") == 0.25
    program.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(subprocess.CalledProcessError):
        import_seconds("module")


def test_first_call() -> None:
    workload = WORKLOADS["W4"]
    (implementation,) = ours.implementations(workload.make(True))
    assert 0 < first_call(implementation, workload) < 60
