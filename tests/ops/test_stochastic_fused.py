"""The kernels of stochastic firing against the reference: all types, layouts of the work, and what is not finite."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from computing import computed_by
from ops.stochastic_cases import leaves, outputs, random
from rheobase.ops import memory, stochastic_lif, threads

# Compiling all combinations would take minutes; each pair of choices occurs together in some row.
VARIANTS = [
    (torch.float32, "bernoulli"),
    (torch.float32, "gumbel"),
    (torch.float64, "expected"),
    (torch.bfloat16, "gumbel"),
    (torch.bfloat16, "expected"),
    (torch.float16, "threshold"),
]
variants = pytest.mark.parametrize(("dtype", "firing"), VARIANTS, ids=lambda value: str(value).removeprefix("torch."))


def results(values: list[Tensor], firing: str, computer: str, weights: list[Tensor], start: int = 3) -> list[Tensor]:
    with computed_by(computer):
        mine = outputs(values, firing, start, temperature=0.5)
        # Without a step there is an output that depends on nothing.
        loss = torch.zeros((), requires_grad=True)
        for y, weight in zip(mine, weights, strict=True):
            loss = loss + (y * weight).sum()
        of_leaves = torch.autograd.grad(loss, values, allow_unused=True, materialize_grads=True)
    return [y.detach() for y in mine] + list(of_leaves)


def weights_for(values: list[Tensor]) -> list[Tensor]:
    x, *_, membrane, current = values
    return [random(30 + k, *y.shape).to(y.dtype) for k, y in enumerate((x, membrane, current))]


@settings(max_examples=10)
@given(st.integers(0, 10), st.sampled_from([(0, 1), (3, 2), (2, 0), (1, 40)]), st.integers(0, 9), st.integers(0, 2**16))
@variants
def test_kernels_equal_the_reference(dtype, firing, steps, step, start, seed):
    values = leaves(seed, dtype, steps, step)
    weights = weights_for(values)
    ours, theirs = (results(values, firing, computer, weights, start) for computer in ("kernels", "reference"))
    exact = 0 if firing == "expected" else 3
    assert all(map(torch.equal, ours[:exact], theirs[:exact]))
    for mine, other in zip(ours[exact:], theirs[exact:], strict=True):
        assert mine.dtype == other.dtype
        allowed = 16 * max(1, steps) * torch.finfo(mine.dtype).eps
        torch.testing.assert_close(mine, other, rtol=allowed, atol=allowed * (1 + other.abs().sum().item()))


@variants
def test_what_is_not_finite_spreads_as_in_the_reference(dtype, firing):
    for argument in range(7):
        values = leaves(3, dtype)
        with torch.no_grad():
            values[argument].view(-1)[:3] = torch.tensor([math.nan, math.inf, -math.inf])[: values[argument].numel()]
        weights = weights_for(values)
        ours, theirs = (results(values, firing, computer, weights)[:3] for computer in ("kernels", "reference"))
        for mine, other in zip(ours, theirs, strict=True):
            assert torch.equal(mine.isnan(), other.isnan()), argument
            assert torch.equal(mine.isinf(), other.isinf()), argument


def poisoned(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.full(shape, math.nan, dtype=dtype)


@variants
@pytest.mark.parametrize("steps", [20, 0])
def test_every_number_is_written(dtype, firing, steps, monkeypatch):
    values = leaves(4, dtype, steps, (2, 300))
    weights = weights_for(values)
    expected = results(values, firing, "kernels", weights)
    monkeypatch.setattr(memory, "empty", poisoned)
    make = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda *sizes, **options: make(*sizes, **options).fill_(math.nan))
    again = results(values, firing, "kernels", weights)
    assert all(map(torch.equal, again, expected))
    assert not any(tensor.isnan().any() for tensor in again)


def test_the_number_of_threads_changes_nothing(monkeypatch):
    values = leaves(5, torch.float32, 30, (3, 2000))
    weights = weights_for(values)
    expected = results(values, "gumbel", "kernels", weights)
    monkeypatch.setattr(threads, "_WORTH_A_THREAD", 1000)
    before = torch.get_num_threads()
    try:
        for count in (2, 3, 7):
            torch.set_num_threads(count)
            assert all(map(torch.equal, results(values, "gumbel", "kernels", weights), expected))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("firing", ["bernoulli", "gumbel"])
def test_a_number_for_each_neuron_and_step_is_kept_and_no_noise(firing):
    x = torch.ones(100, 2, 3, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda _: None):
        stochastic_lif(x, 0.9, 0.9, firing=firing)
    assert sum(tensor.numel() for tensor in kept) <= x.numel() + 6 * 6 + 2
    with torch.no_grad():
        assert not stochastic_lif(x, 0.9, 0.9)[0].requires_grad


def test_second_derivatives_are_refused_by_the_kernels():
    x = torch.ones(3, 1, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match="first derivatives"):
        torch.autograd.grad(stochastic_lif(x, 0.9, 0.9)[0].sum(), x, create_graph=True)


@pytest.mark.parametrize(
    ("dtype", "firing", "learn"), [(torch.float32, "bernoulli", True), (torch.bfloat16, "gumbel", False)]
)
def test_the_operators_are_what_pytorch_asks_of_operators(dtype, firing, learn):
    lanes = 6
    x = torch.randn(4, lanes).to(dtype).requires_grad_()
    decay, slope = torch.rand(2, lanes).requires_grad_(learn), torch.rand(lanes).requires_grad_(learn)
    offset, initial = torch.rand(lanes).requires_grad_(learn), torch.randn(2, lanes).requires_grad_()
    rule = torch.tensor([5, 2]), firing, 1.0
    torch.library.opcheck(torch.ops.rheobase.stochastic_lif, (x, decay, slope, offset, initial, *rule))
    constants = decay.detach(), slope.detach(), offset.detach(), initial.detach()
    with torch.no_grad():
        _, last, membrane = torch.ops.rheobase.stochastic_lif(x, *constants, *rule)
    backward = torch.ones_like(x).detach(), last, membrane, *constants, *rule, learn
    torch.library.opcheck(torch.ops.rheobase.stochastic_lif_backward, backward)
