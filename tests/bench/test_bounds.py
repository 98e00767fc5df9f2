"""The arithmetic of the floor, and products without neurons."""

import pytest
import torch
from torch.nn import functional

from rheobase.bench.bounds import bytes_moved, copying, implementations, products
from rheobase.bench.workloads import WORKLOADS, Linear


def test_bytes_moved() -> None:
    moved = {
        name: bytes_moved(workload.make(False)) for name, workload in WORKLOADS.items() if name in ("W1", "W2", "W6")
    }
    assert moved == {
        "W1": 500 * 16 * 512 * 24,
        "W2": 100 * 128 * (2 * 128 * 24 + 20 * 16),  # the readout reads and writes in each pass
        "W6": 8 * 64 * (32 * 28 * 28 + 64 * 14 * 14) * 24,
    }


@pytest.mark.parametrize("name", ["W2", "W3"])
def test_products_only(name: str) -> None:
    task = WORKLOADS[name].make(True)
    outputs, gradients = products(task)()
    expected = task.x
    for stage in task.stages:
        if isinstance(stage, Linear):  # what recurrent neurons multiply goes nowhere
            expected = functional.linear(expected, stage.weight)
    torch.testing.assert_close(outputs, expected)
    assert [gradient.shape for gradient in gradients] == [weight.shape for weight in task.weights]
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_neurons_alone_have_no_products() -> None:
    assert implementations(WORKLOADS["W4"].make(True)) == []


def test_copying() -> None:
    copy, copied = copying(mebibytes=3)
    assert copied == 2 * 3 * 2**20
    copy()
