"""The workloads are as large as they say, the same in every process, and say truly what comes out of their stages."""

import math

import pytest
import torch

from rheobase.bench import ours
from rheobase.bench.workloads import WORKLOADS, Convolution, Flatten, Linear, Neurons, Pooling, Task

SIZES = {
    "W1": ((500, 16, 512), [(512, 512)]),
    "W2": ((100, 128, 700), [(128, 700), (128, 128), (20, 128)]),
    "W3": ((100, 128, 700), [(128, 700), (128, 128), (128, 128), (128, 128), (20, 128)]),
    "W4": ((1000, 32, 512), []),
    "W5": ((10_000, 4, 128), []),
    "W6": ((8, 64, 1, 28, 28), [(32, 1, 3, 3), (64, 32, 3, 3), (10, 64 * 49)]),
    "T100": ((100, 4, 40_000), []),
    "T1000": ((1000, 4, 4000), []),
    "T10000": ((10_000, 4, 400), []),
    "T100000": ((100_000, 4, 40), []),
}
DENSITIES = {"W1": 0.1, "W2": 0.03, "W3": 0.03, "W6": 0.3}


def test_sizes() -> None:
    assert SIZES.keys() == WORKLOADS.keys()


@pytest.mark.parametrize("name", SIZES)
def test_a_workload_is_as_large_as_it_says(name: str) -> None:
    task = WORKLOADS[name].make(False)
    shape, weights = SIZES[name]
    assert task.x.shape == shape
    assert [tuple(weight.shape) for weight in task.weights] == weights
    assert task.steps == shape[0]
    assert task.layer_alone == (not weights)
    if name in DENSITIES:
        assert set(task.x.unique().tolist()) == {0.0, 1.0}
        assert task.x.mean().item() == pytest.approx(DENSITIES[name], rel=0.02)


def test_the_cost_against_the_number_of_steps_is_that_of_the_same_work() -> None:
    assert len({math.prod(SIZES[name][0]) for name in SIZES if name.startswith("T")}) == 1


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_is_the_same_every_time(name: str) -> None:
    first, second = (WORKLOADS[name].make(True) for _ in range(2))
    assert torch.equal(first.x, second.x)
    assert torch.equal(first.target, second.target)
    assert all(map(torch.equal, first.weights, second.weights))


@pytest.mark.parametrize("name", WORKLOADS)
def test_features_are_what_comes_out(name: str) -> None:
    task = WORKLOADS[name].make(True)
    outputs, gradients = ours.build(task)()
    assert outputs.shape == (*task.x.shape[:2], *task.features[-1])
    assert [gradient.shape for gradient in gradients] == [weight.shape for weight in task.weights or (task.x,)]
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_features_of_every_kind_of_stage() -> None:
    stages = (
        *(Convolution(torch.zeros(3, 1, 3, 3)), Neurons(), Pooling(), Flatten()),
        *(Linear(torch.zeros(5, 3 * 4 * 2)), Neurons()),
    )
    task = Task(torch.zeros(2, 1, 1, 8, 4), stages, torch.zeros(1, dtype=torch.int64))
    assert task.features == ((3, 8, 4), (3, 8, 4), (3, 4, 2), (24,), (5,), (5,))


def test_scaled_currents() -> None:
    task = WORKLOADS["W3"].make(True)
    scaled = task.with_currents_times(10.0)
    factors = [(b.sum() / a.sum()).item() for a, b in zip(task.weights, scaled.weights, strict=True)]
    assert factors == pytest.approx([10, 10, 10, 10, 1])  # not those of the readout
    layer = WORKLOADS["W4"].make(True)
    assert torch.equal(layer.with_currents_times(10.0).x, layer.x * 10)
