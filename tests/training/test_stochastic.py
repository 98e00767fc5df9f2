"""Networks that draw: a run that is stopped and resumed, and an evaluation, are the same every time."""

from pathlib import Path

import pytest
import torch
from torch import nn

import rheobase as rb
from rheobase.training import Display, evaluate, fit
from training.tiny import CHANNELS, CLASSES, Killed, Stop, arrays, assert_same_run, settings, splits


def network(evaluation: str = "sampled") -> rb.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return rb.Sequential(
            nn.Linear(CHANNELS, 10),
            rb.SPSN(10, synapse_decay=0.5, decay=0.8, learn=("decay", "threshold"), evaluation=evaluation),
            nn.Linear(10, CLASSES),
            rb.SynapticReadout(CLASSES),
        )


def train(run: Path, display: Display | None = None, *, resume: bool = False) -> None:
    fit(network(), *splits(), settings(), run=run, resume=resume, display=display or Display())


@pytest.mark.parametrize("stop", [Stop(step=(2, 3)), Stop(epoch=1), Stop(epoch=2)])
def test_stopped_and_resumed_is_the_same_as_never_stopped(tmp_path: Path, stop: Stop) -> None:
    torch.manual_seed(11)
    train(tmp_path / "whole")
    torch.manual_seed(12)  # what the rest of the program draws is of no importance
    with pytest.raises(Killed):
        train(tmp_path / "stopped", stop)
    torch.rand(5)
    train(tmp_path / "stopped", resume=True)
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_the_seed_decides_about_an_evaluation() -> None:
    data, net = arrays(23, seed=4), network()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = evaluate(net, data, batch_size=5, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = evaluate(net, data, batch_size=5, seed=3), evaluate(net, data, batch_size=5, seed=4)
    assert (again.loss, again.layers) == (first.loss, first.layers)
    assert torch.equal(again.confusion, first.confusion)
    assert other.loss != first.loss
    # Batches draw apart: each is seeded by its number.
    halves = [evaluate(net, data.subset(torch.arange(8).numpy() + k), batch_size=8, seed=3) for k in (0, 8)]
    assert halves[0].layers != halves[1].layers


@pytest.mark.parametrize("evaluation", ["threshold", "expected"])
def test_without_noise_the_seed_is_of_no_importance(evaluation: str) -> None:
    data, net = arrays(23, seed=4), network(evaluation)
    losses = {evaluate(net, data, batch_size=batch, seed=seed).loss for batch, seed in ((23, 0), (23, 1))}
    assert len(losses) == 1
