"""`benchmarks/spike_linear.py` and `benchmarks/spike_convolution.py` on a few numbers."""

import json
import sys

import pytest
import torch

from load_tool import load_tool
from rheobase.bench import measure


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(measure.gc, "collect", lambda: 0)  # slow beside the tests' own objects
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def run(name, monkeypatch, tmp_path, capsys, arguments=(), **few):
    """What a script prints, line by line, and what it writes."""
    module = load_tool(name, "benchmarks")
    for setting, value in few.items():
        monkeypatch.setattr(module, setting, value)
    monkeypatch.setattr(sys.modules[module.table.__module__], "DENSITIES", [0.1])
    path = tmp_path / "results.json"
    monkeypatch.setattr(sys, "argv", [name, "--rounds", "1", "--json", str(path), *arguments])
    module.main()
    printed, result = capsys.readouterr().out.splitlines(), json.loads(path.read_text())
    assert len({line.count("|") for line in printed}) == 1
    assert "machine" in result["about"]
    (row,) = result["table"]
    assert len(row["milliseconds"]) == 6
    assert min(row["milliseconds"].values()) > 0
    return printed, row


def test_linear_layers(monkeypatch, tmp_path, capsys):
    printed, row = run("spike_linear", monkeypatch, tmp_path, capsys, ["--rows", "50"], SIZES=[(30, 20)])
    assert printed[0].startswith("| layer | density | forward dense | forward lists |")
    assert printed[2].startswith("| 30 -> 20 | 10% |")
    assert (row["inputs"], row["outputs"], row["rows"], row["density"]) == (30, 20, 50, 0.1)


def test_convolutions(monkeypatch, tmp_path, capsys):
    printed, row = run("spike_convolution", monkeypatch, tmp_path, capsys, SHAPES=[(3, 8, 3, 2, 6, 4)])
    assert printed[0].startswith("| convolution | density | forward dense | forward lists |")
    assert printed[2].startswith("| 3 -> 8, 3 x 3, stride 2, of 6 x 6 | 10% |")
    assert (row["images"], row["density"]) == (4, 0.1)


def test_delays(monkeypatch, tmp_path, capsys):
    printed, row = run("spike_delays", monkeypatch, tmp_path, capsys, SIZES=[(6, 8, 3)], STEPS=10, BATCH=2)
    assert printed[2].startswith("| 6 -> 8, 3 delays | 10% |")
    assert row["layer"] == "6 -> 8, 3 delays"
