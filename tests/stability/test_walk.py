"""How gradients are measured: cotangents that cover the output evenly, and samples that count each for itself."""

import math

import pytest
import torch
from torch import nn

import rheobase as rb
from rheobase.stability.walk import GradientNorm, cotangent, signs, walking


@pytest.mark.parametrize("samples", [1, 2, 5, 8, 16])
def test_up_to_16_samples_do_not_share_their_signs(samples):
    drawn = signs(samples, torch.zeros(()), 3)
    assert bool((drawn.abs() == 1).all())
    torch.testing.assert_close(drawn.T @ drawn, len(drawn) * torch.eye(samples))


def test_more_samples_share_their_signs_with_few_others():
    drawn = signs(50, torch.zeros(()), 0)
    assert drawn.shape == (16, 50)
    together = (drawn.T @ drawn / 16).abs()
    assert bool(((together == 0) | (together == 1)).all())
    assert bool((together.sum(1) <= 4).all())


@pytest.mark.parametrize("shape", [(16, 20), (40, 20), (6, 3, 4, 4), (8, 1)])
def test_cotangents_are_orthogonal(shape):
    for output in (torch.zeros(7, *shape), torch.zeros(shape)):
        drawn = cotangent(output, (7, shape[0]), 0)
        assert drawn.shape == (1, *shape) if output.ndim > len(shape) else shape
        rows = drawn.view(shape[0], -1)
        assert rows.square().mean().item() == pytest.approx(1)
        few = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
        torch.testing.assert_close(few, max(rows.shape) * torch.eye(min(rows.shape)), rtol=1e-4, atol=1e-4)


def test_without_an_axis_for_samples_the_cotangent_is_any():
    assert cotangent(torch.zeros(3, 2), (7, 5), 0).shape == (3, 2)
    assert cotangent(torch.zeros(()), (7, 5), 0).shape == ()


def test_what_neurons_are_made_of_is_not_in_front_of_the_next():
    in_front = []
    network = rb.Sequential(nn.Linear(6, 4), rb.ParaLIF(4, recurrent=True), nn.Linear(4, 4), rb.LIF(4), nn.Linear(4, 2))
    with walking(network, lambda layer, x, modules: in_front.extend(modules) or x) as walked:
        network(torch.ones(5, 2, 6))
    assert [*in_front, *walked.behind] == [network[0], network[2], network[4]]
    assert walked.steps == 5


def test_the_norm_is_that_of_independent_samples():
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 4), torch.randn(9, 12, 6).abs()
    weights = [layer.weight]
    norm, on_current = GradientNorm(layer(x), weights, 0), torch.randn(9, 12, 4)
    each = [on_current[:, b].T @ x[:, b] for b in range(12)]
    expected = math.sqrt(sum(gradient.square().sum().item() for gradient in each))
    assert norm(on_current) == pytest.approx(expected, rel=1e-5)
    assert GradientNorm(layer(x), [], 0)(on_current) == 0


def test_a_multiple_is_not_measured_again(monkeypatch):
    torch.manual_seed(0)
    layer, on_current = nn.Linear(6, 4), torch.randn(9, 12, 4)
    norm = GradientNorm(layer(torch.randn(9, 12, 6)), [layer.weight], 0)
    first, other = norm(on_current), on_current.clone()
    other[3] *= 2
    differs = norm(other)
    assert differs > 1.01 * first
    assert norm(0 * on_current) == 0
    assert norm(on_current) == pytest.approx(first)
    monkeypatch.setattr(torch.autograd, "grad", None)
    assert norm(3 * on_current) == pytest.approx(3 * first)
    assert norm(on_current) == pytest.approx(first)
