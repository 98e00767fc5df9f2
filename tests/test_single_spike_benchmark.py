"""`benchmarks/single_spike.py` on a few numbers, and that what it compares is comparable."""

import json
import sys

import pytest
import torch

from load_tool import load_tool


@pytest.fixture
def benchmark(monkeypatch):
    module = load_tool("single_spike", "benchmarks")
    for name, values in (("QUICK_STEPS", [4, 6]), ("QUICK_NEURONS", [3, 5]), ("QUICK_BATCHES", [2]), ("INPUTS", 10)):
        monkeypatch.setattr(module, name, values)
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


@pytest.mark.parametrize("classes", [None, 3])
def test_all_implementations_compute_the_same(benchmark, classes):
    x = torch.poisson(torch.full((30, 4, 10), 0.1))
    ours, loop, hoisted = (benchmark.network(name, 10, 20, classes) for name in ("ours", "loop", "hoisted"))
    expected = ours(x)
    for other in (loop, hoisted):
        torch.testing.assert_close(other(x), expected)
    # The two loops are one neuron: their gradients are equal as well.
    gradients = []
    for network in (loop, hoisted):
        network(x).square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
    # Another neuron, and the same parameters.
    many = benchmark.network("many", 10, 20, classes)
    assert [p.shape for p in many.parameters()] == [p.shape for p in ours.parameters()]


def test_it_goes_on_where_it_stopped_and_writes_table_and_picture(benchmark, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark, "epoch", lambda *_: {"batches": 2, "batch": dict.fromkeys(benchmark.NAMES, 2.0)})
    path = tmp_path / "speed.json"
    monkeypatch.setattr(sys, "argv", ["single_spike.py", "--quick", "--rounds", "1", "--json", str(path)])
    measure, measured = benchmark.point, []

    def until_interrupted(*arguments):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(arguments[:3])
        return measure(*arguments)

    monkeypatch.setattr(benchmark, "point", until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        benchmark.main()
    assert len(json.loads(path.read_text())["grid"]) == 3
    monkeypatch.setattr(benchmark, "point", lambda *arguments: measured.append(arguments[:3]) or measure(*arguments))
    benchmark.main()
    assert sorted(measured) == [(4, 3, 2), (4, 5, 2), (6, 3, 2), (6, 5, 2)]
    found = json.loads(path.read_text())
    assert found["threads"] == 1
    for row in found["grid"].values():
        assert min(*row["forward"].values(), *row["backward"].values()) > 0
    table = path.with_suffix(".md").read_text()
    assert table.count("| 4 | 3 | 2 |") == table.count("| loop | 2.00 | 1.0 |") == 1
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "Least over the grid" in capsys.readouterr().out


def test_a_quick_epoch_is_not_taken_for_a_whole_one(benchmark, monkeypatch, tmp_path):
    measured = []

    def epoch(batches, *_):
        measured.append(batches)
        return {"batches": batches, "batch": dict.fromkeys(benchmark.NAMES, 2.0)}

    monkeypatch.setattr(benchmark, "epoch", epoch)
    for name, values in (("STEPS", [4]), ("NEURONS", [3]), ("BATCHES", [2])):
        monkeypatch.setattr(benchmark, name, values)
        monkeypatch.setattr(benchmark, f"QUICK_{name}", values)
    for options in (["--quick"], ["--quick"], [], [], ["--quick"]):
        monkeypatch.setattr(
            sys, "argv", ["single_spike.py", *options, "--rounds", "1", "--json", str(tmp_path / "a.json")]
        )
        benchmark.main()
    assert measured == [20, 157]


def test_results_of_another_number_of_threads_are_not_mixed(benchmark, monkeypatch, tmp_path, capsys):
    path = tmp_path / "speed.json"
    path.write_text('{"threads": 2}')
    monkeypatch.setattr(sys, "argv", ["single_spike.py", "--quick", "--json", str(path)])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "was measured with 2 threads" in capsys.readouterr().err


def test_an_epoch_trains_all(benchmark):
    found = benchmark.epoch(batches=1, rounds=1, clock=lambda: 0.0)
    assert found["batch"] == dict.fromkeys(benchmark.NAMES, 0.0)
