"""Several processes compute what one computes; only the main one writes and prints."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import PartialState
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import rheobase as rb
from rheobase.training import Engine, Training, checkpoint, evaluate
from training.processes import EPOCHS, normalized, run, run_of_lengths
from training.tiny import SOURCE, arrays, assert_same_run, read_lines, tensors, untimed

HERE = Path(__file__).parent


def free_port() -> str:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory):
    """The folder of the runs of two processes, and what they printed."""
    folder = tmp_path_factory.mktemp("processes")
    path = os.pathsep.join((str(SOURCE), str(HERE.parent)))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node",
            "2",
            "--master-port",
            free_port(),
            str(HERE / "processes.py"),
            str(folder),
        ],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "one"
    run(folder)
    return folder


def assert_close(one: object, other: object) -> None:
    """Equal, but for the order in which float32 sums are taken: 40 steps of training, each off by some roundings of 6e-8."""
    if isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_close(value, other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for ours, theirs in zip(one, other, strict=True):
            assert_close(ours, theirs)
    else:
        assert one == other


def assert_close_runs(one: Path, other: Path) -> None:
    assert_close_results(one, other)
    for name in ("checkpoint.safetensors", "best.safetensors"):
        assert_close(*(tensors(path / name)[1] for path in (one, other)))


def assert_close_results(one: Path, other: Path) -> None:
    """All but the settings, which may differ where they make no difference."""
    assert_close(read_lines(one / "metrics.jsonl"), read_lines(other / "metrics.jsonl"))
    assert_close(*(untimed(json.loads((path / "summary.json").read_text())) for path in (one, other)))
    for name in ("checkpoint.safetensors", "best.safetensors"):
        ours, theirs = tensors(one / name)[0], tensors(other / name)[0]
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            if key.startswith("network."):
                torch.testing.assert_close(value, theirs[key], rtol=1e-4, atol=1e-5)
    with np.load(one / "evaluation.npz") as ours, np.load(other / "evaluation.npz") as theirs:
        assert np.array_equal(ours["confusion"], theirs["confusion"])


def test_two_processes_compute_the_losses_of_one(launched, alone: Path) -> None:
    assert_close_runs(launched[0] / "two", alone)


def test_two_processes_resume_bit_for_bit(launched) -> None:
    assert_same_run(launched[0] / "resumed by two", launched[0] / "two")


def test_one_process_goes_on_where_two_have_stopped(launched, alone: Path) -> None:
    path = launched[0] / "resumed by one"
    if not (path / "summary.json").exists():
        run(path, resume=True)
    assert_close_runs(path, alone)


def test_two_processes_compute_the_losses_of_one_on_samples_of_different_lengths(launched, tmp_path: Path) -> None:
    run_of_lengths(tmp_path / "one")
    assert_close_runs(launched[0] / "of lengths", tmp_path / "one")


def test_two_processes_normalize_by_the_steps_that_are_there(launched, tmp_path: Path) -> None:
    run_of_lengths(tmp_path / "one", normalized(), batch_size=5)
    assert_close_runs(launched[0] / "of lengths, normalized", tmp_path / "one")


def test_two_processes_add_up_the_gradients_of_parts(launched, tmp_path: Path) -> None:
    run_of_lengths(tmp_path / "one", batch_size=5)
    assert_close_results(launched[0] / "of lengths, in parts", tmp_path / "one")


def test_what_two_processes_report_is_what_they_have_saved(launched) -> None:
    """Batch normalization keeps statistics of each process's own samples; one network is saved, and judged."""
    folder, net = launched[0] / "normalized", normalized()
    checkpoint.load(folder / "best.safetensors", net)
    alone, summary = evaluate(net, arrays(11, 3)), json.loads((folder / "summary.json").read_text())
    assert summary["test_loss"] == pytest.approx(alone.loss, rel=1e-6)
    assert summary["test_accuracy"] == alone.accuracy


def test_only_the_main_process_prints_and_writes(launched) -> None:
    folder, done = launched
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["start", *["epoch"] * EPOCHS, "summary"]
    assert lines[0]["processes"] == 2
    names = {path.name for path in (folder / "two").iterdir()}
    assert names == {
        "config.json", "metrics.jsonl", "checkpoint.safetensors", "best.safetensors", "evaluation.npz", "summary.json"
    }  # fmt: skip


def test_no_thread_talks_to_other_processes_at_exit(launched) -> None:
    """One that needs the interpreter when it is gone aborts the process, now and then."""
    said = [line for line in launched[1].stderr.splitlines() if "ends with threads" in line]
    assert sorted(said) == [f"process {number} ends with threads []" for number in range(2)]


def test_every_process_has_all_metrics_after_a_resume(launched) -> None:
    said = [line for line in launched[1].stderr.splitlines() if line.startswith("process ") and "epochs" in line]
    assert sorted(said) == [f"process {number} has {EPOCHS} epochs" for number in range(2)]


def test_all_processes_stop_when_one_diverges(launched) -> None:
    folder, done = launched
    said = [line for line in done.stderr.splitlines() if "DivergenceError" in line]
    assert len(said) == 2
    assert all("in epoch 1, step 1: " in line for line in said)
    assert {path.name for path in (folder / "diverged").iterdir()} == {"config.json"}


@given(samples=st.integers(1, 60), batch_size=st.integers(1, 20), processes=st.integers(1, 9))
def test_the_shares_of_all_processes_are_the_batches(samples: int, batch_size: int, processes: int) -> None:
    order = np.random.default_rng(samples).permutation(samples)
    cpu = torch.device("cpu")
    shares = [list(Engine(cpu, False, k, processes).share(order, batch_size)) for k in range(processes)]
    for number, parts in enumerate(zip(*shares, strict=True)):
        whole = order[number * batch_size : (number + 1) * batch_size]
        assert np.array_equal(np.concatenate(parts), whole)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert sum(len(part) for share in shares for part in share) == samples


def test_one_process_is_the_main_one_and_needs_no_others() -> None:
    engine = Engine.start(Training(device="cpu"))
    assert (engine.device.type, engine.process, engine.processes, engine.is_main) == ("cpu", 0, 1, True)
    assert engine.sum(torch.ones(2)).tolist() == [1, 1]
    assert engine.agree("name") == "name"
    engine.wait_for_all()
    network = nn.Linear(2, 2)
    assert engine.prepare(network) is network


def test_a_gpu_is_had_after_a_cpu_in_the_same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Engine.start(Training(device="cpu")).device.type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for asked in ("gpu", "auto"):
        assert Engine.start(Training(device=asked)).device.type == "cuda"
    monkeypatch.setitem(vars(PartialState()), "num_processes", 2)
    with pytest.raises(
        ValueError, match=r"device must be 'cpu' here, got 'gpu': these 2 processes .* restart the program"
    ):
        Engine.start(Training(device="gpu"))


def test_precision_is_bfloat16_only_where_asked() -> None:
    layer, x = nn.Linear(2, 2), torch.ones(1, 2)
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with Engine.start(Training(device="cpu", precision=precision)).precision():
            assert layer(x).dtype == dtype


def test_the_engine_of_a_network_is_where_it_is() -> None:
    assert Engine.where(nn.Linear(2, 2)).device == torch.device("cpu")
    assert Engine.where(nn.Identity()).device == torch.device("cpu")
    with torch.device("meta"):
        assert Engine.where(nn.Linear(2, 2)).device.type == "meta"
    assert Engine.where(rb.LIF(2).to("meta")).device.type == "meta"  # it has buffers alone
