"""`benchmarks/initialization.py` on small networks; and what it has found."""

import json
import sys
from pathlib import Path

import pytest
import torch

from load_tool import load_tool

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


@pytest.fixture
def benchmark(monkeypatch):
    module = load_tool("initialization", "benchmarks")
    monkeypatch.setattr(module, "SIZES", (60, 40, 20))
    monkeypatch.setattr(module, "BATCH", 8)
    monkeypatch.setattr(module, "RATES", (0.02,))
    monkeypatch.setattr(
        module,
        "HARD",
        {"dense": ((2, 20, 0.9, 0.1),), "recurrent": ((1, 20, 0.9, 0.03),), "convolutions": ((8, 5, 0.5, 0.03),)},
    )
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


@pytest.mark.parametrize("hard", [False, True])
def test_it_prints_and_writes_its_table(benchmark, monkeypatch, tmp_path, capsys, hard):
    monkeypatch.setattr(benchmark, "peers", lambda: {"identity": lambda: torch.relu})
    path = tmp_path / "results.json"
    monkeypatch.setattr(
        sys, "argv", ["benchmarks/initialization.py", "--json", str(path), *(["--hard"] if hard else [])]
    )
    benchmark.main()
    rows = json.loads(path.read_text())["rows"]
    text = path.with_suffix(".md").read_text()
    assert text.startswith("# ")
    assert "`python benchmarks/initialization.py --" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == len(rows) + 2
    assert len({line.count("|") for line in table}) == 1
    assert capsys.readouterr().out.splitlines() == table[2:]
    for row in rows:
        assert len(row["gradients"]) == len(row["rates"]) + hard
        assert len(row["dead"]) == len(row["rates"])
        assert row["healthy"] == benchmark.healthy(row)
    assert path.with_suffix(".png").exists() == (not hard)
    if hard:
        assert [row["input rate"] for row in rows] == [0.1, 0.03, 0.03]
        assert "PyTorch's weights: firing rate" in table[0]
    else:
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert [row["neuron"] for row in rows] == ["Rheobase LIF()", "identity"]


def test_what_is_healthy(benchmark):
    good = {"rates": [0.03, 0.2], "dead": [0.1, 0.0], "gradients": [1.0, 2.9]}
    assert benchmark.healthy(good)
    for change in (
        {"rates": [0.01, 0.2]},
        {"rates": [0.03, 0.4]},
        {"dead": [0.0, 0.11]},
        {"gradients": [1.0, 3.1]},
        {"gradients": [1.0, 0.0]},
        {"gradients": [1.0, float("nan"), 1.0]},
    ):
        assert not benchmark.healthy(good | change), change


def test_dead_neurons_of_a_peer_are_counted(benchmark):
    x = torch.ones(3, 2, 60)
    found = benchmark.measure_peer(lambda: lambda y: (y > 0.5).float(), x, torch.zeros(1, 2, dtype=torch.long))
    assert found["dead"] == pytest.approx([1 - rate for rate in found["rates"]])  # these fire always or never
    assert 0 < found["dead"][0] < 1


def test_figures_are_read_at_once(benchmark):
    assert [benchmark._number(value) for value in (0, 0.00123, 9.96, 99.6, 434, 3912, 2e-5, 2e12)] == [
        *("0", "0.0012", "10", "100", "430", "3,900", "< 0.0001", "> 1,000,000")
    ]
    row = {"rates": [0.0, 0.055], "dead": [1.0, 0.5], "gradients": [0.0, 434.0]}
    assert list(benchmark._health(row).values()) == ["0 (dead) to 5.5", "100", "0 (dead) to 430", "no"]
    row = {"rates": [0.1, 0.1], "dead": [0.0, 0.0], "gradients": [1.0, 2.9]}
    assert list(benchmark._health(row).values()) == ["10", "0", "1 to 2.9, 2.9x", "yes"]
    assert benchmark._health(row | {"gradients": [1.0, float("inf")]})["gradient norm"] == "overflows"


@pytest.mark.parametrize(("name", "count"), [("initialization", 4), ("initialization-hard", 28)])
def test_the_results_are_those_of_the_script(benchmark, name, count):
    found = json.loads((RESULTS / f"{name}.json").read_text())
    assert benchmark.page(found) == (RESULTS / f"{name}.md").read_text()
    ours = [row for row in found["rows"] if row.get("neuron", "Rheobase LIF()") == "Rheobase LIF()"]
    assert len(ours) == count
    for row in ours:
        assert all(0.02 < rate < 0.3 for rate in row["rates"])
        # Neurons of a map share their weights and differ in their places: of the deepest maps, 2 x 2, some are silent.
        assert max(row["dead"]) <= (0.2 if row.get("network") == "convolutions" else 0.02)
        assert max(row["gradients"]) < 3 * min(row["gradients"])
