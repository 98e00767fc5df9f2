"""`benchmarks/spike_linear.py` on a few numbers."""

import json
import sys

import pytest
import torch

from load_tool import load_tool
from rheobase.bench import measure


@pytest.fixture
def benchmark(monkeypatch):
    module = load_tool("spike_linear", "benchmarks")
    monkeypatch.setattr(module, "SIZES", [(30, 20)])
    monkeypatch.setattr(module, "DENSITIES", [0.1])
    monkeypatch.setattr(measure.gc, "collect", lambda: 0)  # slow beside the tests' own objects
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


def test_it_prints_and_writes_its_table(benchmark, monkeypatch, tmp_path, capsys):
    path = tmp_path / "results.json"
    monkeypatch.setattr(sys, "argv", ["spike_linear.py", "--rows", "50", "--rounds", "1", "--json", str(path)])
    benchmark.main()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("| layer | density | forward dense | forward lists |")
    assert len({line.count("|") for line in printed}) == 1
    assert printed[2].startswith("| 30 -> 20 | 10% |")
    result = json.loads(path.read_text())
    (row,) = result["table"]
    assert (row["inputs"], row["outputs"], row["rows"], row["density"]) == (30, 20, 50, 0.1)
    assert len(row["milliseconds"]) == 6
    assert min(row["milliseconds"].values()) > 0
    assert "machine" in result["about"]
