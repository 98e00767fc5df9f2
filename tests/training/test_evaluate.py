"""Evaluation: what it counts, what it must not depend on, what it leaves alone, what it refuses."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import rheobase as rb
from rheobase.data import ArrayDataset
from rheobase.errors import DivergenceError
from rheobase.training import evaluate
from training.tiny import CHANNELS, CLASSES, arrays, network

DATA = arrays(23, seed=4)


@settings(max_examples=15)
@given(batch_size=st.integers(1, 30))
def test_the_result_does_not_depend_on_the_batch_size(batch_size: int) -> None:
    whole, parts = evaluate(network(), DATA, batch_size=23), evaluate(network(), DATA, batch_size=batch_size)
    assert torch.equal(parts.confusion, whole.confusion)
    assert parts.accuracy == whole.accuracy
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
    for ours, theirs in zip(parts.layers, whole.layers, strict=True):
        assert ours == theirs
        assert torch.equal(ours.rates, theirs.rates)
    assert parts.input == whole.input


def test_accuracy_loss_and_confusion_are_those_of_a_single_pass() -> None:
    net = network().eval()
    x, labels = DATA.batch(np.arange(23))
    with torch.no_grad():
        logits = net(x).mean(0)
    seen = evaluate(net, DATA, batch_size=5)
    assert seen.loss == pytest.approx(functional.cross_entropy(logits, labels).item(), rel=1e-6)
    assert seen.accuracy == (logits.argmax(1) == labels).double().mean().item()
    expected = torch.zeros(CLASSES, CLASSES, dtype=torch.int64)
    for label, answer in zip(labels, logits.argmax(1), strict=True):
        expected[label, answer] += 1
    assert torch.equal(seen.confusion, expected)
    assert torch.equal(seen.predictions, logits.argmax(1))


def test_rows_of_the_confusion_are_the_true_classes() -> None:
    class Answers(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.one_hot(torch.tensor([1, 1, 2]), 3).float().expand(2, 3, 3)

    data = ArrayDataset(torch.zeros(2, 3, 1), np.array([0, 1, 0]), ("a", "b", "c"))
    seen = evaluate(Answers(), data)
    assert seen.confusion.tolist() == [[0, 1, 1], [0, 1, 0], [0, 0, 0]]
    assert seen.accuracy == pytest.approx(1 / 3)


def test_every_module_keeps_its_mode_also_after_an_error() -> None:
    net = network().train()
    net[2].eval()  # a part that the user has frozen
    modes = [module.training for module in net.modules()]
    evaluate(net, DATA)
    assert [module.training for module in net.modules()] == modes
    with pytest.raises(ValueError, match="output must"):
        evaluate(net, DATA, decode=lambda output: output)
    assert [module.training for module in net.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_batch_holds_samples() -> None:
    with pytest.raises(ValueError, match="evaluate: batch_size must be a whole number, at least 1, got 0"):
        evaluate(network(), DATA, batch_size=0)


def test_evaluation_is_without_dropout_gradients_or_augmentation() -> None:
    class Strict(ArrayDataset):
        def batch(self, indices: np.ndarray, seed: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
            assert seed is None
            return super().batch(indices, seed)

    net = network(dropout=0.9).train()
    data = Strict(DATA.x, DATA.y, DATA.classes)
    assert evaluate(net, data) == evaluate(net, data)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_loss_and_a_decoder_of_the_user_are_used() -> None:
    seen = evaluate(network(), DATA, batch_size=7, loss=lambda output, labels: labels.float().mean())
    assert seen.loss == pytest.approx(DATA.labels.mean(), rel=1e-6)
    seen = evaluate(network(), DATA, decode=lambda output: functional.one_hot(output[0].argmax(1) * 0 + 1, 3).float())
    assert seen.confusion[:, 1].sum() == 23


@pytest.mark.parametrize(
    ("net", "decode", "message"),
    [
        (lambda x: x[0], rb.decoding.mean, "must be (T, B, C), time first, with B = 23 samples, got shape (23, 8)"),
        (lambda x: x.transpose(0, 1), rb.decoding.mean, "time first, with B = 23 samples, got shape (23, 6, 8)"),
        (lambda x: x[..., :2], rb.decoding.mean, "C = 3 classes as in the data, got shape (23, 2)"),
        # An output with more values than classes is no answer in the confusion matrix: refused, not mixed up.
        (lambda x: x, rb.decoding.mean, "C = 3 classes as in the data, got shape (23, 8)"),
        (lambda x: x[..., :3], lambda output: output, "C = 3 classes as in the data, got shape (6, 23, 3)"),
        (lambda x: x[..., :3], lambda output: output.mean((0, 2)), "got shape (23,)"),
    ],
)
def test_an_output_that_does_not_fit_is_refused(net, decode, message: str) -> None:
    class Network(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return net(x)

    with pytest.raises(ValueError, match=re.escape(message)):
        evaluate(Network(), DATA, decode=decode)


def test_outputs_in_groups_are_fine_when_they_decode_to_the_classes() -> None:
    def decode(output: Tensor) -> Tensor:
        return output.mean(0).unflatten(1, (3, 2)).sum(2)

    assert evaluate(rb.Sequential(nn.Linear(CHANNELS, 6)), DATA, decode=decode).confusion.sum() == 23


def test_a_network_without_parameters_and_without_neurons() -> None:
    seen = evaluate(nn.Identity(), ArrayDataset(torch.rand(2, 4, 3), np.array([0, 1, 2, 0])))
    assert seen.layers == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_no_network(value: float) -> None:
    """Its neurons would be silent, and a silent network answers, too."""
    net = network()
    with torch.no_grad():
        net[3].weight[1, :2] = value
    with pytest.raises(DivergenceError, match=r"2 of 30 weights in 3.weight are NaN or infinite"):
        evaluate(net, DATA)
