"""`benchmarks/adaptive.py` on a few numbers."""

import json
import sys

import pytest
import torch

from load_tool import load_tool


@pytest.fixture
def benchmark(monkeypatch):
    module = load_tool("adaptive", "benchmarks")
    monkeypatch.setattr(module, "NEURONS", 5)
    monkeypatch.setattr(module, "INPUTS", 20)
    monkeypatch.setattr(module, "WAYS", ("ours, blocks", "loop", "blocks"))
    monkeypatch.setattr(module, "QUICK", {"steps": (30,), "batch": (2,), "refractory": (3,)})
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


def test_it_prints_and_writes_its_table(benchmark, monkeypatch, tmp_path, capsys):
    path = tmp_path / "results.json"
    monkeypatch.setattr(sys, "argv", ["adaptive.py", "--quick", "--rounds", "1", "--json", str(path)])
    benchmark.main()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("| layer | T | B | R | ours, blocks | loop | blocks | product |")
    assert len({line.count("|") for line in printed}) == 1
    assert printed[2].startswith("| feed-forward | 30 | 2 | 3 |")
    result = json.loads(path.read_text())
    assert [row["layer"] for row in result["table"]] == ["feed-forward", "recurrent"]
    for row in result["table"]:
        assert row["differing_spikes"] == dict.fromkeys(benchmark.WAYS, 0)
        assert row["spikes"] > 0
        assert min(row["milliseconds"].values()) > 0
    assert "machine" in result["about"]
