"""Tests of rheobase.training.growing_steps."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import rheobase as rb
from rheobase import GrowingSteps, Hold, LeakyReadout, Sequential, SingleSpike, first_spike, standardize
from rheobase.errors import RunError
from rheobase.layers import standardized
from rheobase.scheduled import set_progress
from rheobase.stability import change_steps, initialize_single_spike
from rheobase.training import Display, Training


def network(steps: int = 8) -> Sequential:
    torch.manual_seed(0)
    layers = (
        *(nn.Linear(6, 12), Hold(steps), SingleSpike(decay=1.0)),
        *(standardize(nn.Linear(12, 12), 1.0), SingleSpike(decay=1.0), nn.Linear(12, 2), LeakyReadout(decay=1.0)),
    )
    inner = Sequential(*layers)
    initialize_single_spike(inner, steps, 0.3)
    return inner


def test_steps_grow_in_equal_parts() -> None:
    growing, seen = GrowingSteps(network(), (2, 4, 8)), []
    for epoch in range(9):
        set_progress(growing, epoch / 8)
        seen.append(len(growing(torch.rand(1, 3, 6))))
    assert seen == [2, 2, 2, 4, 4, 4, 8, 8, 8]


def test_outside_training_it_has_them_all() -> None:
    x = torch.rand(1, 3, 6)
    assert torch.equal(GrowingSteps(network(), (2, 8))(x), network()(x))


def test_with_few_steps_it_is_the_network_for_few_steps() -> None:
    growing, small, x = GrowingSteps(network(), (2, 8)), network(), torch.rand(1, 3, 6)
    change_steps(small, 8, 2)
    set_progress(growing, 0.0)
    assert torch.equal(growing(x), small(x))
    assert torch.equal(growing.run(x)[0], growing(x))
    set_progress(growing, 1.0)
    torch.testing.assert_close(growing(x), network()(x), rtol=1e-4, atol=1e-5)


def test_its_state_goes_with_the_weights() -> None:
    growing, x = GrowingSteps(network(), (2, 4, 8)), torch.rand(1, 3, 6)
    set_progress(growing, 0.4)
    y = growing(x)
    fresh = GrowingSteps(network(), (2, 4, 8))
    fresh.load_state_dict(growing.state_dict())
    for other in (fresh, copy.deepcopy(growing)):
        assert torch.equal(other(x), y)
        assert len(other(x)) == 4


@pytest.mark.parametrize("of", [lambda growing: growing, lambda growing: growing.network], ids=["it", "its network"])
def test_it_may_be_given_other_steps(of: Callable[[GrowingSteps], nn.Module]) -> None:
    growing, expected, x = GrowingSteps(network(), (2, 8)), network(), torch.rand(1, 3, 6)
    change_steps(of(growing), 8, 16)
    change_steps(expected, 8, 16)
    assert growing(x).any()
    assert torch.equal(growing(x), expected(x))
    fresh = GrowingSteps(network(), (2, 8))
    fresh.load_state_dict(growing.state_dict())
    assert torch.equal(fresh(x), expected(x))
    set_progress(growing, 0.0)  # the numbers of training are what they were
    change_steps(expected, 16, 2)
    assert torch.equal(growing(x), expected(x))


def test_its_weights_may_be_drawn() -> None:
    growing, expected = GrowingSteps(network(), (2, 8)), network()
    torch.manual_seed(3)
    done = initialize_single_spike(growing, 8, 0.3)
    assert [each.layer for each in done] == ["network.0", "network.3", "network.5"]
    torch.manual_seed(3)
    initialize_single_spike(expected, 8, 0.3)
    x = torch.rand(1, 3, 6)
    assert torch.equal(growing(x), expected(x))


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_early_exit(progress: float) -> None:
    growing = GrowingSteps(network(), (2, 4, 8)).eval()
    set_progress(growing, progress)
    x = torch.rand(1, 90, 6)
    membrane = growing(x)
    whole, early = first_spike.decide(membrane), first_spike.decide_early(growing, x)
    assert len(membrane) == (2, 4, 8)[round(2 * progress)]
    assert len(whole.steps.unique()) > 1
    assert torch.equal(early.predictions, whole.predictions)
    assert torch.equal(early.steps, whole.steps)


def test_nothing_in_a_pass_waits_for_a_device() -> None:
    """Numbers that lie on the "meta" device cannot be looked at."""
    growing = GrowingSteps(network(), (2, 8))
    set_progress(growing, 0.0)
    assert growing.to("meta")(torch.rand(1, 3, 6, device="meta")).shape == (2, 3, 2)


def test_two_forward_passes_before_a_backward_pass() -> None:
    growing = GrowingSteps(network(), (2, 8))
    set_progress(growing, 0.0)
    (growing(torch.rand(1, 3, 6)).sum() + growing(torch.rand(1, 3, 6)).sum()).backward()


def task() -> rb.data.ArrayDataset:
    x = torch.rand(1, 60, 6, generator=torch.Generator().manual_seed(0))
    return rb.data.ArrayDataset(x, (x[0, :, :3].sum(1) > x[0, :, 3:].sum(1)).long().numpy())


class Stop(Display):
    """Interrupts after an epoch."""

    def __init__(self, epoch: int) -> None:
        self.last = epoch

    def epoch(self, metrics: dict[str, Any]) -> None:
        if metrics["epoch"] == self.last:
            raise KeyboardInterrupt


def train(
    run: Path | None = None, display: Display | None = None, resume: bool = False
) -> tuple[GrowingSteps, rb.training.Result]:
    growing, data = GrowingSteps(network(), (2, 4, 8)), task()
    settings = Training(epochs=6, batch_size=16, learning_rate=1e-2)
    result = rb.fit(growing, data, data, settings=settings, run=run, resume=resume, display=display or Display())
    return growing, result


def test_fit_trains_it_and_keeps_the_best_epoch() -> None:
    growing, result = train()
    expected = (2, 2, 4, 4, 8, 8)[result.best_epoch - 1]
    assert len(growing(task().batch(np.arange(3))[0])) == expected
    seen = rb.evaluate(growing, task())
    assert seen.accuracy == result.validation.accuracy
    assert seen.accuracy > 0.7


@pytest.mark.parametrize("epoch", [1, 2, 3, 4, 5])
def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path: Path, epoch: int) -> None:
    whole, _ = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", Stop(epoch))
    parts, _ = train(tmp_path / "parts", resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name


def test_the_best_weights_load_into_the_network_that_they_are_of_and_into_a_new_one(tmp_path: Path) -> None:
    growing, _ = train(tmp_path / "run")
    best = tmp_path / "run" / "best.safetensors"
    for other in (growing, GrowingSteps(network(), (2, 4, 8))):
        for progress in (0.0, 0.5, 1.0):
            set_progress(other, progress)
            rb.training.checkpoint.load(best, other)
            assert rb.evaluate(other, task()).accuracy == rb.evaluate(growing, task()).accuracy


def test_a_run_does_not_go_on_with_other_steps(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", Stop(2))
    data, settings = task(), Training(epochs=6, batch_size=16, learning_rate=1e-2)
    with pytest.raises(RunError, match=r"growing \[2, 4, 8\], not \[4, 8\]"):
        rb.fit(GrowingSteps(network(), (4, 8)), data, data, settings=settings, run=tmp_path / "run", resume=True)


@pytest.mark.parametrize("steps", [(), (0, 8), (4, 2, 8), (2, 2, 8)])
def test_steps_ascend(steps: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="steps must be ascending numbers from at least 1"):
        GrowingSteps(network(), steps)


def test_what_it_takes() -> None:
    with pytest.raises(ValueError, match=r"Hold has 8 steps, expected the last of \(2, 4\)"):
        GrowingSteps(network(), (2, 4))
    with pytest.raises(TypeError, match="must have a Hold"):
        GrowingSteps(Sequential(nn.Linear(3, 2)), (2, 4))
    with pytest.raises(TypeError, match="in between there is no such neuron"):
        GrowingSteps(Sequential(nn.Linear(3, 2), Hold(4), nn.Linear(2, 2)), (2, 4))


def test_it_says_its_steps() -> None:
    growing = GrowingSteps(network(), (2, 8))
    assert "steps=(2, 8)" in repr(growing)
    assert standardized(growing.network[3]) is not None
