"""What is said of a batch that cannot be computed with, before anything is learned."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rheobase.data import Dataset
from rheobase.errors import DataError
from rheobase.training import Display, evaluate, fit
from rheobase.training.first_batch import check_batch
from training.tiny import CHANNELS, STEPS, Wrapped, arrays, network, settings

QUIET = Display()

Change = Callable[[Tensor, Tensor], Any]


class Changed(Wrapped):
    """A data set with other batches."""

    def __init__(self, inner: Dataset, change: Change) -> None:
        super().__init__(inner)
        self.change = change

    def batch(self, indices: np.ndarray, seed: tuple[int, ...] | None = None) -> Any:
        return self.change(*self.inner.batch(indices, seed))


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda x, y: x, TypeError, r"got a Tensor, expected a pair \(x, labels\)"),
        (
            lambda x, y: (x.numpy(), y),
            TypeError,
            r"x is a ndarray, expected a torch.Tensor; convert it: torch.as_tensor\(x\)",
        ),
        (lambda x, y: (x, y.numpy()), TypeError, "labels is a ndarray, expected a torch.Tensor"),
        (
            lambda x, y: (x, y.float()),
            TypeError,
            r"labels are torch.float32, expected torch.int64; convert .* labels.long\(\)",
        ),
        (lambda x, y: (x, y + 1), DataError, "got the label 3, expected an index into the 3 classes, 0 to 2"),
        (lambda x, y: (x, y[None]), DataError, r"labels have shape \(1, \d+\), expected \(\d+,\), one for each sample"),
        (
            lambda x, y: (x.double(), y),
            TypeError,
            r"x is torch.float64, but the network computes in torch.float32; convert",
        ),
        (lambda x, y: (x.byte(), y), TypeError, r"x is torch.uint8, but the network computes in torch.float32"),
        (
            lambda x, y: (x.transpose(0, 1), y),
            DataError,
            r"x has shape \(\d+, 6, 8\), expected \(T, B, \*features\), time",
        ),
    ],
)
def test_a_batch_that_cannot_be_computed_with_is_refused(change: Change, kind: type, message: str) -> None:
    good = arrays()
    net = network()
    with pytest.raises(kind, match=f"^train.batch: {message}"):
        fit(net, Changed(good, change), good, settings=settings(), display=QUIET)
    with pytest.raises(kind, match=f"^dataset.batch: {message}"):
        evaluate(net, Changed(good, change))


def test_a_wrong_validation_set_is_found_before_the_first_epoch() -> None:
    good, epochs = arrays(), []

    class Remember(Display):
        def epoch(self, metrics: dict[str, Any]) -> None:
            epochs.append(metrics)

    with pytest.raises(TypeError, match=r"validation.batch: labels are torch.int32"):
        fit(network(), good, Changed(good, lambda x, y: (x, y.int())), settings=settings(), display=Remember())
    assert epochs == []


def test_types_that_the_network_computes_in_are_taken() -> None:
    y = torch.zeros(2, dtype=torch.int64)
    for dtype, net, bfloat16 in (
        (torch.float64, nn.Linear(CHANNELS, 3).double(), False),
        (torch.bfloat16, nn.Linear(CHANNELS, 3), True),
        (torch.float64, nn.Identity(), False),
    ):
        check_batch((torch.zeros(STEPS, 2, CHANNELS, dtype=dtype), y), 2, ("a",), "train", net, bfloat16)


def test_labels_of_a_data_set_are_checked_whole() -> None:
    class Labelled(Wrapped):
        labels = property(lambda self: self.inner.labels[: self.end] + self.more)
        more, end = 0, None

    good = arrays()
    beyond, short = Labelled(good), Labelled(good)
    beyond.more, short.end = 1, 5
    with pytest.raises(DataError, match=r"test: labels: sample \d+ has 3, expected 0 to 2"):
        fit(network(), good, good, beyond, settings(), display=QUIET)
    with pytest.raises(DataError, match="dataset: got 5 labels for 37 samples, expected as many"):
        evaluate(network(), short)
