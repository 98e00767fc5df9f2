"""Gradients of any size are clipped, as PyTorch does it where it can."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from rheobase.training.clipping import clip_gradient


def parameters(size: float) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    found = [nn.Parameter(torch.zeros(shape)) for shape in ((4, 3), (5,), (2,))]
    for parameter in found[:2]:  # the third has no gradient
        parameter.grad = size * torch.randn(parameter.shape, generator=generator)
    return found


def gradients(found: list[nn.Parameter]) -> list[torch.Tensor | None]:
    return [parameter.grad for parameter in found]


@pytest.mark.parametrize("most", [0.5, 2.0, 100.0, math.inf])
def test_as_pytorch_where_that_is_finite(most: float) -> None:
    ours, theirs = parameters(1.0), parameters(1.0)
    norm = clip_gradient(ours, most)
    torch.testing.assert_close(norm, clip_grad_norm_(theirs, most))
    torch.testing.assert_close(gradients(ours), gradients(theirs))


@pytest.mark.parametrize("most", [0.5, 1.0])
@pytest.mark.parametrize("size", [1e20, 1e30, 1e37])
def test_what_is_too_large_for_a_norm_keeps_its_direction(size: float, most: float) -> None:
    ours, small = parameters(size), parameters(1.0)
    assert clip_gradient(ours, most) > 0.5 * size
    clip_gradient(small, most)
    torch.testing.assert_close(gradients(ours), gradients(small))


@pytest.mark.parametrize("most", [1.0, 5.0, 1e10])
def test_what_is_too_large_for_a_norm_gets_the_norm_it_may_have(most: float) -> None:
    ours = parameters(1e30)
    clip_gradient(ours, most)
    norm = torch.stack([gradient.norm() for gradient in gradients(ours) if gradient is not None]).norm()
    torch.testing.assert_close(norm.item(), most, rtol=1e-5, atol=0.0)


def test_what_may_be_larger_still_is_kept() -> None:
    ours = parameters(1e30)
    clip_gradient(ours, 1e38)
    torch.testing.assert_close(gradients(ours), gradients(parameters(1e30)))


def test_without_clipping_it_is_infinite() -> None:
    ours = parameters(1e30)
    assert clip_gradient(ours, math.inf) == math.inf
    torch.testing.assert_close(gradients(ours), gradients(parameters(1e30)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_told_and_kept(value: float) -> None:
    ours = parameters(1.0)
    assert ours[1].grad is not None
    ours[1].grad[2] = value
    before = [None if grad is None else grad.clone() for grad in gradients(ours)]
    assert not bool(torch.isfinite(clip_gradient(ours, 1.0)))
    torch.testing.assert_close(gradients(ours), before, equal_nan=True)


def test_without_any_gradient() -> None:
    assert clip_gradient([nn.Parameter(torch.zeros(2))], 1.0) == 0
