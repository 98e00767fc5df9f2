"""`benchmarks/stochastic.py` on a few numbers, and that what it compares is comparable."""

import json
import sys

import pytest
import torch

from load_tool import load_tool
from rheobase.ops import synaptic_integrate


@pytest.fixture
def benchmark(monkeypatch):
    module = load_tool("stochastic", "benchmarks")
    monkeypatch.setattr(module, "QUICK", {4: 2, 6: 2})
    monkeypatch.setattr(module, "NEURONS", 3)
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


def test_the_fourier_transform_integrates_and_fires_as_spsn(benchmark):
    x = torch.randn(50, 2, 3)
    states, _ = synaptic_integrate(x, benchmark.DECAY, benchmark.DECAY)
    fourier = benchmark.Fourier(50)
    torch.testing.assert_close(fourier.membrane(x), (1 - benchmark.DECAY) * states, rtol=1e-4, atol=1e-5)
    gradients = []
    for layer in (fourier, benchmark.layers(50)["SPSN"]):
        x = x.detach().requires_grad_()
        spikes = layer(x)
        assert spikes.detach().round(decimals=4).unique().tolist() == [0, 1]
        gradients.append(torch.autograd.grad(spikes.sum(), x)[0])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


def test_the_loop_is_our_neuron_with_a_reset(benchmark):
    x = torch.full((200, 1, 1), 0.5)
    loop, ours = (benchmark.layers(200)[name](x).flatten() for name in ("LIF, loop", "LIF"))
    assert torch.equal(loop, ours)
    assert loop.nonzero().flatten()[:10].tolist() == [9, 14, 18, 22, 25, 28, 31, 34, 37, 40]
    assert loop.sum() == 63
    x = torch.randn(50, 2, 3, requires_grad=True)
    gradients = [torch.autograd.grad(benchmark.layers(50)[name](x).sum(), x)[0] for name in ("LIF, loop", "LIF")]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def test_it_goes_on_where_it_stopped_and_writes_a_table(benchmark, monkeypatch, tmp_path, capsys):
    path = tmp_path / "speed.json"
    monkeypatch.setattr(sys, "argv", ["stochastic.py", "--quick", "--rounds", "1", "--json", str(path)])
    measure, measured = benchmark.point, []

    def until_interrupted(*arguments):
        if measured:
            raise KeyboardInterrupt
        measured.append(arguments[:2])
        return measure(*arguments)

    monkeypatch.setattr(benchmark, "point", until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        benchmark.main()
    monkeypatch.setattr(benchmark, "point", lambda *arguments: measured.append(arguments[:2]) or measure(*arguments))
    benchmark.main()
    assert measured == [(4, 2), (6, 2)]
    for row in json.loads(path.read_text())["lengths"].values():
        assert {"SPSN", "LIF", "LIF, loop", "FFT", "PSN"} <= row["forward"].keys()
    assert "| | T = 4, B = 2 | T = 6, B = 2 |" in path.with_suffix(".md").read_text()
    assert "| SPSN |" in capsys.readouterr().out


def test_results_of_another_number_of_threads_are_not_mixed(benchmark, monkeypatch, tmp_path, capsys):
    path = tmp_path / "speed.json"
    path.write_text('{"threads": 2}')
    monkeypatch.setattr(sys, "argv", ["stochastic.py", "--quick", "--json", str(path)])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "was measured with 2 threads" in capsys.readouterr().err
