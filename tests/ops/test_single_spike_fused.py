"""The kernels of neurons that fire once against the reference: all types, layouts of the work, and what is not finite."""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from computing import computed_by
from rheobase.ops import first_spikes, memory, single_spike, threads
from rheobase.surrogate import Arctan, Exponential, FastSigmoid, Gaussian, Surrogate, Triangular

CREDITS = ("ramp", "early_ramp", "product", "detached")
F64 = torch.float64


def random(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0.1, scale, shape))


@dataclass(frozen=True)
class Bump(Surrogate):
    """A shape that kernels do not know."""

    def shape(self, u: Tensor) -> Tensor:
        return (1 + u.square()).rsqrt()


# Compiling all combinations would take minutes; each pair of choices occurs together in some row.
VARIANTS = [
    (torch.float32, FastSigmoid(1.0, 5.0), "ramp"),
    (torch.float32, Bump(0.8, 3.0), "product"),
    (torch.float32, Exponential(), "early_ramp"),
    (torch.float64, Gaussian(2.0, 2.0), "detached"),
    (torch.float64, Bump(), "ramp"),
    (torch.bfloat16, FastSigmoid(), "product"),
    (torch.bfloat16, Triangular(0.5), "early_ramp"),
    (torch.float16, Arctan(), "detached"),
]


def names(value: object) -> str:
    return type(value).__name__ if isinstance(value, Surrogate) else str(value).removeprefix("torch.")


variants = pytest.mark.parametrize(("dtype", "surrogate", "credit"), VARIANTS, ids=names)


def results(
    arguments: list[Tensor], gradients: list[Tensor], rule: dict, computer: str = "kernels", whole: bool = False
) -> list[Tensor]:
    """Spikes, state and the gradients of all arguments."""
    x, decay, threshold, *state = (argument.detach().requires_grad_() for argument in arguments)
    with computed_by(computer):
        if whole:
            leaves, outputs = [x, decay, threshold], [first_spikes(x, decay, threshold, **rule)]
        else:
            leaves = [x, decay, threshold, *state]
            spikes, last = single_spike(x, decay, threshold, tuple(state), **rule)
            outputs = [spikes, *last]
        # Without a step there is an output that depends on nothing.
        loss = torch.zeros((), requires_grad=True)
        for y, gradient in zip(outputs, gradients, strict=False):
            loss = loss + (y * gradient).sum()
        of_leaves = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    return [output.detach() for output in outputs] + list(of_leaves)


def case(seed: int, dtype: torch.dtype, steps: int, step: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """Arguments, and gradients of spikes and state."""
    state = F64 if dtype == F64 else torch.float32
    generator = np.random.default_rng(seed)
    fired = torch.from_numpy(generator.integers(0, 2, step)).to(state)
    arguments = [
        random(seed, steps, *step, scale=0.5).to(dtype),
        torch.from_numpy(generator.uniform(0, 1, step)).to(state),
        torch.from_numpy(generator.uniform(0.3, 1.5, step)).to(state),
        random(seed + 1, *step).to(state),
        fired,
        fired.clone(),
    ]
    gradients = [random(seed + 2, steps, *step).to(dtype), *(random(seed + k, *step).to(state) for k in (3, 4, 5))]
    return arguments, gradients


def assert_close(ours: list[Tensor], theirs: list[Tensor], steps: int) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == other.dtype
        # The sums of a ramp grow with T^2, and with them what rounding does to them.
        allowed = 8 * max(1, steps) * torch.finfo(mine.dtype).eps
        scale = 1 + (other.abs().max().item() if other.numel() else 0)
        torch.testing.assert_close(mine, other, rtol=allowed, atol=allowed * scale)


@settings(max_examples=10)
@given(
    st.integers(0, 10),
    st.sampled_from([(0,), (1, 1), (3, 2, 2), (2, 0), (1, 300)]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**16),
)
@variants
def test_kernels_equal_the_reference(dtype, surrogate, credit, steps, step, fire_by_end, whole, seed):
    arguments, gradients = case(seed, dtype, steps, step)
    rule = {"surrogate": surrogate, "credit": credit, "fire_by_end": fire_by_end}
    ours = results(arguments, gradients, rule, whole=whole)
    theirs = results(arguments, gradients, rule, "reference", whole=whole)
    outputs = 1 if whole else 4
    assert all(map(torch.equal, ours[:outputs], theirs[:outputs]))
    assert_close(ours[outputs:], theirs[outputs:], steps)


@variants
@pytest.mark.parametrize("whole", [False, True])
def test_what_is_not_finite_spreads_as_in_the_reference(dtype, surrogate, credit, whole):
    rule = {"surrogate": surrogate, "credit": credit}
    special = torch.tensor([math.nan, math.inf, -math.inf])
    # Before the spikes and after them; in every argument, and in the gradient of the spikes.
    for argument, t in [*product([0], [0, 2, 8]), (1, None), (2, None), *product(["gradient"], [0, 4, 9])]:
        arguments, gradients = case(3, dtype, 10, (2, 5))
        target = gradients[0] if argument == "gradient" else arguments[argument]
        (target if t is None else target[t])[:, 1:4] = special
        ours = results(arguments, gradients, rule, whole=whole)
        theirs = results(arguments, gradients, rule, "reference", whole=whole)
        for mine, other in zip(ours, theirs, strict=True):
            assert torch.equal(mine.isnan(), other.isnan()), (argument, t)
            assert torch.equal(mine.isinf(), other.isinf()), (argument, t)
        finite = [[value.nan_to_num(posinf=0, neginf=0) for value in values] for values in (ours, theirs)]
        assert_close(*finite, steps=10)


def layouts(tensor: Tensor) -> dict[str, Tensor]:
    """Views of other memory: its axes in another order, every other number, and one step or sample for all."""
    wide = tensor.repeat_interleave(2, dim=-1)
    return {
        "transposed": tensor.movedim(0, -1).contiguous().movedim(-1, 0),
        "strided": wide[..., ::2],
        "held": tensor[:1].expand_as(tensor),
        "one sample": tensor[:, :1].expand_as(tensor),
        "one number": tensor[(slice(0, 1),) * tensor.ndim].expand_as(tensor),
    }


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=names)
def test_however_the_input_and_its_gradient_lie_in_memory(dtype, whole):
    arguments, gradients = case(6, dtype, 12, (3, 40))
    rule = {"surrogate": FastSigmoid(), "credit": "product"}
    pairs = zip(layouts(arguments[0]).items(), layouts(gradients[0]).values(), strict=True)
    for (name, x), on_spikes in pairs:
        assert not x.is_contiguous()
        assert not on_spikes.is_contiguous()
        found = results([x, *arguments[1:]], [on_spikes, *gradients[1:]], rule, whole=whole)
        copies = [x.contiguous(), *arguments[1:]], [on_spikes.contiguous(), *gradients[1:]]
        expected = results(*copies, rule, whole=whole)
        assert all(map(torch.equal, found, expected)), name
        assert_close(found, results(*copies, rule, "reference", whole=whole), steps=12)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("dtype", "surrogate", "credit"),
    [
        (torch.float32, FastSigmoid(1.0, 5.0), "ramp"),
        (torch.bfloat16, FastSigmoid(), "product"),
        (torch.float64, Gaussian(2.0, 2.0), "detached"),
    ],
    ids=names,
)
def test_gradients_of_some_arguments_alone(dtype, surrogate, credit, whole):
    """Of the input and not of decay and threshold, of one of these, of the state; and nobody's."""
    arguments, gradients = case(8, dtype, 9, (2, 30))
    rule = {"surrogate": surrogate, "credit": credit}
    count = 3 if whole else 6
    for wanted in [(0,), (1,), (2,), (1, 2), (0, 2), *([] if whole else [(3,), (4, 5)]), ()]:
        found = []
        for computer in ("kernels", "reference"):
            leaves = [each.detach().requires_grad_(k in wanted) for k, each in enumerate(arguments[:count])]
            with computed_by(computer):
                if whole:
                    outputs = [first_spikes(*leaves, **rule)]
                else:
                    spikes, last = single_spike(*leaves[:3], tuple(leaves[3:]), **rule)
                    outputs = [spikes, *last]
                assert wanted or not any(y.requires_grad for y in outputs)
                loss = torch.zeros(
                    (), requires_grad=True
                )  # of which the reference makes nothing, if nothing depends on it
                for y, of in zip(outputs, gradients, strict=False):
                    loss = loss + (y * of).sum()
                of_leaves = [leaves[k] for k in wanted]
                on = torch.autograd.grad(loss, of_leaves, materialize_grads=True, allow_unused=True) if wanted else ()
            found.append([*(y.detach() for y in outputs), *on])
        ours, theirs = found
        outputs = 1 if whole else 4
        assert all(map(torch.equal, ours[:outputs], theirs[:outputs])), wanted
        assert_close(ours[outputs:], theirs[outputs:], steps=9)


def poisoned(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.full(shape, math.nan, dtype=dtype)


@variants
@pytest.mark.parametrize(("steps", "whole"), [(20, False), (20, True), (0, True)])
def test_every_number_is_written(dtype, surrogate, credit, steps, whole, monkeypatch):
    arguments, gradients = case(4, dtype, steps, (2, 300))
    arguments[0] += 0.3  # most fire twice: blocks finish early
    rule = {"surrogate": surrogate, "credit": credit}
    expected = results(arguments, gradients, rule, whole=whole)
    monkeypatch.setattr(memory, "empty", poisoned)
    for name in ("empty", "empty_like"):
        make = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *sizes, make=make, **options: make(*sizes, **options).fill_(math.nan))
    monkeypatch.setattr(Tensor, "new_empty", lambda self, *sizes, **options: self.new_full(sizes, math.nan, **options))
    again = results(arguments, gradients, rule, whole=whole)
    assert all(map(torch.equal, again, expected))
    assert not any(tensor.isnan().any() for tensor in again)


@pytest.mark.parametrize("credit", CREDITS)
def test_the_number_of_threads_changes_nothing(credit, monkeypatch):
    arguments, gradients = case(5, torch.float32, 30, (3, 1000))
    arguments[0] += 0.2
    rule = {"surrogate": FastSigmoid(1.0, 5.0), "credit": credit}
    expected = [results(arguments, gradients, rule, whole=whole) for whole in (False, True)]
    monkeypatch.setattr(threads, "_WORTH_A_THREAD", 1000)
    before = torch.get_num_threads()
    try:
        for count in (2, 3, 7):
            torch.set_num_threads(count)
            for whole, right in zip((False, True), expected, strict=True):
                assert all(map(torch.equal, results(arguments, gradients, rule, whole=whole), right))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("credit", CREDITS)
def test_a_block_of_neurons_that_are_over_is_finished(credit, monkeypatch):
    # What is not read may be anything: a kernel that stops does not see what is written there after the first call.
    steps = 64
    x = torch.full((steps, 1, 256), 0.6)
    for _ in range(2):
        with torch.no_grad():
            spikes = first_spikes(x, 0.9)
        assert spikes.sum(0).eq(1).all()
        assert spikes[1].eq(1).all()
        x[20:] = math.nan
    decay = torch.tensor(0.9, requires_grad=True)
    _, (membrane, _, _) = single_spike(x, decay, credit=credit)
    assert membrane.isnan().all()
    (on_decay,) = torch.autograd.grad(first_spikes(x, decay, credit=credit).sum(), decay)
    # The block model's rule alone looks at all steps.
    assert on_decay.isnan().item() == (credit == "ramp")


def test_outputs_may_be_changed_in_place_and_arguments_are_left_alone():
    x, decay = torch.full((3, 2, 4), 0.7, requires_grad=True), torch.full((4,), 0.5, requires_grad=True)
    copies = x.detach().clone(), decay.detach().clone()
    kept, changed = first_spikes(x, decay), first_spikes(x, decay)
    changed.mul_(2)
    wanted = torch.autograd.grad(2 * kept.sum(), (x, decay))
    assert all(map(torch.equal, torch.autograd.grad(changed.sum(), (x, decay)), wanted))
    assert torch.equal(x, copies[0])
    assert torch.equal(decay, copies[1])
    with pytest.raises(RuntimeError, match=r"first derivatives, .*create_graph=True"):
        torch.autograd.grad(first_spikes(x, decay).sum(), x, create_graph=True)


@pytest.mark.parametrize("credit", CREDITS)
def test_a_number_for_each_neuron_and_step_is_kept(credit):
    x, decay = torch.ones(100, 2, 3, requires_grad=True), torch.tensor(0.9, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda _: None):
        first_spikes(x, decay, credit=credit)
    # Besides: a decay, a threshold and two steps for each neuron.
    assert sum(tensor.numel() for tensor in kept) <= x.numel() + 4 * 6
    with torch.no_grad():
        assert not first_spikes(x, decay, credit=credit).requires_grad
