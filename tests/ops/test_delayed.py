"""Delayed sums, by the convolution and by spike lists, against three loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rheobase.ops import delayed as op
from rheobase.ops import threads
from rheobase.ops.delayed import delayed, lists, reference


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def spikes(*shape: int, density: float = 0.1, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < density).to(dtype)


def by_loops(seen: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    outputs, taps, inputs = weight.shape
    y = torch.zeros(len(seen) - taps + 1, seen.shape[1], outputs, dtype=seen.dtype)
    y = y if bias is None else y + bias
    for t in range(len(y)):
        for k in range(taps):
            for i in range(inputs):
                y[t] += weight[:, k, i] * seen[t + taps - 1 - k, :, i, None]
    return y


def by_lists(seen: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = lists.delayed(seen, weight, bias, 1.0)
    assert y is not None
    return y


def gradients(compute, seen: Tensor, weight: Tensor, bias: Tensor | None, on_y: Tensor) -> list[Tensor]:
    given = [tensor.clone().requires_grad_() for tensor in (seen, weight, bias) if tensor is not None]
    y = compute(*given, *[None] * (bias is None))
    return [y.detach(), *torch.autograd.grad((y * on_y).sum(), given)]


sizes = st.tuples(*(st.integers(low, high) for low, high in ((1, 8), (1, 5), (0, 3), (1, 4), (1, 4))))


@pytest.mark.parametrize("compute", [reference.delayed, by_lists, delayed])
@given(sizes, st.booleans(), st.booleans())
def test_is_three_loops_with_all_gradients(compute, size, ones: bool, with_bias: bool) -> None:
    steps, taps, batch, inputs, outputs = size
    shape = steps + taps - 1, batch, inputs
    seen = spikes(*shape, density=0.4) * (1 if ones else random(*shape, seed=3))
    weight, bias = random(outputs, taps, inputs, seed=1), random(outputs, seed=2) if with_bias else None
    on_y = random(steps, batch, outputs, seed=4)
    got, expected = (gradients(each, seen, weight, bias, on_y) for each in (compute, by_loops))
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("compute", [reference.delayed, by_lists])
def test_gradients_are_those_of_finite_differences(compute) -> None:
    seen = (spikes(7, 2, 5, density=0.5) * random(7, 2, 5)).masked_fill(spikes(7, 2, 5) == 1, 0.3).requires_grad_()
    weight, bias = random(3, 3, 5, seed=1).requires_grad_(), random(3, seed=2).requires_grad_()
    if compute is by_lists:  # a difference of 0 from 0 is an entry of its own, and changes no list that is kept
        assert torch.autograd.gradcheck(lambda *free: compute(seen.detach(), *free), (weight, bias))
    else:
        assert torch.autograd.gradcheck(compute, (seen, weight, bias))


def test_without_a_step_there_is_nothing() -> None:
    assert delayed(random(4, 2, 3), random(6, 5, 3)).shape == (0, 2, 6)


SIZES = {"spikes": 1.0, "numbers": 0.7}


@pytest.mark.parametrize("kind", SIZES)
def test_lists_compute_what_is_large_and_sparse_whatever_the_threads(kind, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = SIZES[kind] * spikes(69, 11, 70, density=0.05, dtype=torch.float32)
    weight, bias = random(40, 10, 70, seed=1, dtype=torch.float32), random(40, seed=2, dtype=torch.float32)
    on_y = random(60, 11, 40, seed=3, dtype=torch.float32)
    taken = []
    monkeypatch.setattr(lists, "heard", lambda *each, of=lists.heard: taken.append(1) or of(*each))
    alone = gradients(delayed, seen, weight, bias, on_y)
    assert len(taken) == 2
    for one, other in zip(alone, gradients(reference.delayed, seen, weight, bias, on_y), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(threads, "_WORTH_A_THREAD", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        together = gradients(delayed, seen, weight, bias, on_y)
    finally:
        torch.set_num_threads(before)
    for number in (0, 2, 3):  # the gradient of what is seen is PyTorch's convolution
        assert torch.equal(alone[number], together[number])


@pytest.mark.parametrize("density", [0.5 * op.LIMIT, 2 * op.LIMIT])
def test_a_dense_input_is_convolved(density: float, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, weight = spikes(69, 11, 70, density=density), random(40, 10, 70)
    taken = []
    monkeypatch.setattr(reference, "delayed", lambda *each, of=reference.delayed: taken.append(1) or of(*each))
    delayed(seen, weight)
    assert len(taken) == (density > op.LIMIT)


def test_what_is_no_number_stays_where_it_is_heard() -> None:
    seen = torch.zeros(12, 1, 3)
    seen[5, 0, 1] = torch.nan
    y = by_lists(seen, torch.ones(2, 4, 3), None)
    assert y.isnan().nonzero()[:, 0].unique().tolist() == [2, 3, 4, 5]


def test_there_is_no_second_derivative_by_lists() -> None:
    weight = random(40, 10, 70).requires_grad_()
    y = delayed(spikes(69, 11, 70, density=0.05), weight)
    with pytest.raises(RuntimeError, match="create_graph=True requests a second one"):
        torch.autograd.grad(y.sum(), weight, create_graph=True)
