"""The kernels against the reference: outputs to the last bit, all gradients, for everything that a user may hand in."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from computing import computed_by
from rheobase.ops import integrate, lif, memory, synaptic_lif
from rheobase.surrogate import (
    Arctan,
    Exponential,
    FastSigmoid,
    Gaussian,
    MultiGaussian,
    QPseudoSpike,
    Rectangular,
    Sigmoid,
    Surrogate,
    Triangular,
)


@dataclass(frozen=True)
class Bump(Surrogate):
    """A shape that kernels do not know."""

    def shape(self, u: Tensor) -> Tensor:
        return (1 + u.square()).rsqrt()


@dataclass(frozen=True)
class Box(Surrogate):
    """A shape that answers in a type of its own, and looks at the axes of what it is asked about."""

    def shape(self, u: Tensor) -> Tensor:
        return (u.abs() < torch.linspace(0.1, 2.0, u.shape[-1])).float()


@dataclass(frozen=True)
class Smooth(Surrogate):
    """No step at all."""

    def spike(self, u: Tensor) -> Tensor:
        return torch.sigmoid(4 * u)


@dataclass(frozen=True)
class Variant:
    """What a kernel is compiled for."""

    dtype: torch.dtype
    surrogate: Surrogate
    reset: str
    states: int
    reset_gradient: str
    learn: bool

    def __str__(self) -> str:
        return "-".join(
            (
                str(self.dtype).removeprefix("torch."),
                type(self.surrogate).__name__,
                self.reset,
                ("", "membrane", "synapse")[self.states],
                self.reset_gradient,
                "learned" if self.learn else "fixed",
            )
        )


F64, F32, BF16, F16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
# Compiling all combinations would take minutes. Here each pair of choices occurs together in at least one row.
VARIANTS = [
    Variant(F32, FastSigmoid(), "subtract", 1, "detached", False),
    Variant(F32, Arctan(0.5, 2.0), "zero", 2, "attached", True),
    Variant(F32, Triangular(0.3, 0.4), "none", 1, "attached", True),
    Variant(F32, Exponential(1.5, 0.7), "zero", 2, "ignored", True),
    Variant(F32, Gaussian(1.0, 0.5), "subtract", 1, "attached", True),
    Variant(F32, Bump(0.8, 3.0), "none", 2, "detached", False),
    Variant(F64, FastSigmoid(0.5, 3.0), "none", 2, "attached", True),
    Variant(F64, Arctan(), "subtract", 1, "detached", False),
    Variant(F64, Triangular(), "subtract", 2, "ignored", True),
    Variant(F64, Exponential(), "zero", 1, "attached", False),
    Variant(F64, Gaussian(2.0, 2.0), "none", 1, "attached", True),
    Variant(F64, Box(), "zero", 2, "attached", True),
    Variant(BF16, FastSigmoid(), "zero", 1, "ignored", True),
    Variant(BF16, Arctan(), "none", 2, "detached", True),
    Variant(BF16, Triangular(0.5), "zero", 2, "detached", False),
    Variant(BF16, Exponential(1.0, 2.0), "none", 1, "detached", True),
    Variant(BF16, Gaussian(), "subtract", 2, "attached", False),
    Variant(BF16, Bump(), "subtract", 1, "attached", True),
    Variant(F16, FastSigmoid(), "subtract", 1, "detached", False),
    Variant(F16, Arctan(0.5, 2.0), "zero", 2, "detached", True),
    Variant(F32, Smooth(), "zero", 1, "attached", True),
    Variant(F32, MultiGaussian(0.7, 1.3), "zero", 2, "detached", True),
    Variant(F64, MultiGaussian(), "none", 1, "detached", True),
    Variant(F32, Sigmoid(1.2, 0.6), "zero", 1, "attached", True),
    Variant(F64, Sigmoid(), "subtract", 2, "detached", False),
    Variant(F32, Rectangular(0.7, 0.4), "subtract", 2, "attached", True),
    Variant(F64, Rectangular(), "zero", 1, "detached", False),
    Variant(F32, QPseudoSpike(0.8, 1.5, 1.3), "subtract", 1, "detached", True),
]


@dataclass
class Case:
    """Arguments of an operation, and the gradients that reach its outputs."""

    x: Tensor
    decays: list[Tensor]
    threshold: Tensor
    initials: list[Tensor]
    on_spikes: Tensor
    on_last: list[Tensor]

    def arguments(self) -> dict[str, Tensor]:
        names = ("decay", "synapse decay"), ("membrane", "current")
        states = [dict(zip(*pair, strict=False)) for pair in zip(names, (self.decays, self.initials), strict=True)]
        return {"x": self.x, "threshold": self.threshold, **states[0], **states[1]}


def neurons(case: Case, variant: Variant) -> list[Tensor]:
    rule = {"reset": variant.reset, "surrogate": variant.surrogate, "reset_gradient": variant.reset_gradient}
    if variant.states == 1:
        return list(lif(case.x, *case.decays, case.threshold, *case.initials, **rule))
    spikes, last = synaptic_lif(case.x, *reversed(case.decays), case.threshold, tuple(case.initials), **rule)
    return [spikes, *last]


def integration(case: Case, _variant: Variant) -> list[Tensor]:
    return list(integrate(case.x, case.decays[0], case.initials[0]))


Operation = Callable[[Case, Variant], list[Tensor]]


def run(
    case: Case, variant: Variant, computer: str, operation: Operation = neurons
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The outputs, and the gradient of each argument that asks for one."""
    arguments = {name: value for name, value in case.arguments().items() if value.requires_grad}
    with computed_by(computer):
        outputs = operation(case, variant)
        # Some outputs may depend on no argument with a gradient: the state after no step does not depend on `x`.
        reached = [
            (output, gradient.to(output.dtype))
            for output, gradient in zip(outputs, (case.on_spikes, *case.on_last), strict=False)
            if output.requires_grad
        ]
        gradients = [None] * len(arguments)
        if reached:
            reached_outputs, given_gradients = zip(*reached, strict=True)
            gradients = torch.autograd.grad(
                reached_outputs, list(arguments.values()), given_gradients, allow_unused=True
            )
    # No gradient is a gradient of 0.
    gradients = [
        torch.zeros_like(value) if gradient is None else gradient
        for value, gradient in zip(arguments.values(), gradients, strict=True)
    ]
    return [output.detach() for output in outputs], dict(zip(arguments, gradients, strict=True))


def random(generator: np.random.Generator, *shape: int, low: float | None = None, high: float = 1.0) -> Tensor:
    values = generator.normal(0.1, 1.0, shape) if low is None else generator.uniform(low, high, shape)
    return torch.from_numpy(np.asarray(values))


LAYOUTS = ("contiguous", "batch first", "every second step", "expanded", "reversed features")


def laid_out(layout: str, make: Callable[..., Tensor], steps: int, batch: int, features: tuple[int, ...]) -> Tensor:
    """A sequence `(T, B, *features)` of what `make(*shape)` makes, in one of the ways in which users' tensors lie in memory."""
    if layout == "batch first":
        return make(batch, steps, *features).transpose(0, 1)
    if layout == "every second step":
        return make(2 * steps, batch, *features)[::2]
    if layout == "expanded":
        return make(batch, *features).expand(steps, batch, *features)
    if layout == "reversed features":
        x = make(steps, batch, *reversed(features))
        return x.permute(0, 1, *reversed(range(2, x.ndim)))
    return make(steps, batch, *features)


@st.composite
def cases(draw: st.DrawFn, variant: Variant) -> Case:
    steps, batch = draw(st.integers(0, 9)), draw(st.integers(0, 3))
    features = draw(st.sampled_from([(), (0,), (1,), (3,), (7,), (2, 3), (3, 1, 2), (2, 2, 2, 2), (4097,)]))
    step = (batch, *features)
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    state = F64 if variant.dtype == F64 else F32

    coarse = draw(st.booleans())  # numbers that meet: a potential on the threshold, or of 0

    def numbers(*shape: int, dtype: torch.dtype, low: float | None = None, high: float = 1.0) -> Tensor:
        tensor = random(generator, *shape, low=low, high=high)
        return ((2 * tensor).ceil() / 2 if coarse else tensor).to(dtype)

    def sequence() -> Tensor:
        make = partial(numbers, dtype=variant.dtype)
        return laid_out(draw(st.sampled_from(LAYOUTS)), make, steps, batch, features)

    def value(low: float | None, high: float, *, learned: bool) -> Tensor:
        # Whatever broadcasts to a step: leading axes left out, any of the others 1.
        axes = draw(st.integers(0, len(step)))
        shape = [size if draw(st.booleans()) else 1 for size in step[len(step) - axes :]]
        tensor = numbers(*shape, dtype=state, low=low, high=high)
        return tensor.requires_grad_(learned and draw(st.booleans()))

    x = sequence()
    gradients = sequence()
    if draw(st.booleans()):  # that of a sum
        gradients = torch.tensor(0.7, dtype=variant.dtype).expand(steps, *step)
    case = Case(
        x,
        [value(0.0, 1.0, learned=variant.learn) for _ in range(variant.states)],
        value(0.05, 1.5, learned=variant.learn),
        [value(None, 1.0, learned=True) for _ in range(variant.states)],
        gradients,
        [random(generator, *step).to(state) for _ in range(variant.states)],
    )
    if variant.learn and not any(value.requires_grad for value in (*case.decays, case.threshold)):
        draw(st.sampled_from([*case.decays, case.threshold])).requires_grad_()
    alone = not any(value.requires_grad for value in case.arguments().values())
    x.requires_grad_(alone or draw(st.booleans()))
    return case


def case_of(variant: Variant, seed: int, steps: int, batch: int, neurons: int) -> Case:
    """Parameters of their own for all neurons of all samples, and all gradients that the variant computes."""
    generator = np.random.default_rng(seed)
    state = F64 if variant.dtype == F64 else F32

    def values(low: float | None = None, high: float = 1.0) -> Tensor:
        return random(generator, batch, neurons, low=low, high=high).to(state)

    case = Case(
        random(generator, steps, batch, neurons).to(variant.dtype),
        [values(0.0) for _ in range(variant.states)],
        values(0.3),
        [values() for _ in range(variant.states)],
        random(generator, steps, batch, neurons).to(variant.dtype),
        [values() for _ in range(variant.states)],
    )
    for value in (case.x, *case.initials, *((*case.decays, case.threshold) if variant.learn else ())):
        value.requires_grad_()
    return case


def tolerance(case: Case, gradient: Tensor) -> float:
    """How far a gradient may be from the reference's, which adds and multiplies in another order.

    A step back in time rounds at most 5 numbers in another way than the reference: 3 in the surrogate, 2 in the order of
    three summands. It carries older errors on by a factor of at most 1. The gradient of a parameter is a sum of products
    with a potential over all steps, and over all lanes that share the parameter.
    """
    steps, step = len(case.x), case.x.shape[1:]
    current = case.x.detach().double().abs().sum(0).max().item() if case.x.numel() else 0.0
    potential = 5 + current * (steps if len(case.decays) == 2 else 1)  # no initial state is above 5
    shared = 1 if gradient.shape == case.x.shape else max(1, step.numel()) / max(1, gradient.numel())
    return 5 * max(1, steps) * torch.finfo(case.threshold.dtype).eps / 2 * potential * shared


def assert_close(case: Case, name: str, ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    allowed = tolerance(case, theirs)
    if ours.dtype != case.threshold.dtype:  # rounded to one of two neighbours
        allowed = allowed + torch.finfo(ours.dtype).eps * theirs.abs().double()
    error = (ours.double() - theirs.double()).abs()
    assert (error <= allowed).all(), f"{name}: {error.max().item()}"


def assert_equals_the_reference(case: Case, variant: Variant, operation: Operation) -> None:
    ours, our_gradients = run(case, variant, "kernels", operation)
    theirs, their_gradients = run(case, variant, "reference", operation)
    for our, their in zip(ours, theirs, strict=True):
        assert our.dtype == their.dtype
        assert torch.equal(our, their)
    for name, gradient in their_gradients.items():
        assert_close(case, name, our_gradients[name], gradient)


@settings(max_examples=12)
@given(st.data())
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_neurons_equal_the_reference(variant, data):
    assert_equals_the_reference(data.draw(cases(variant)), variant, neurons)


@settings(max_examples=20)
@given(st.data())
@pytest.mark.parametrize("dtype", [F32, F64, BF16, F16], ids=str)
@pytest.mark.parametrize("learn", [False, True])
def test_integration_equals_the_reference(dtype, learn, data):
    variant = Variant(dtype, FastSigmoid(), "none", 1, reset_gradient="detached", learn=learn)
    assert_equals_the_reference(data.draw(cases(variant)), variant, integration)


def poisoned(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.full(shape, math.nan, dtype=dtype)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize(("steps", "batch"), [(5, 2), (0, 2), (5, 0)])
def test_every_number_is_written(variant, steps, batch, monkeypatch):
    case = case_of(variant, 4, steps, batch, neurons=4097)
    expected = [run(case, variant, "kernels", operation) for operation in (neurons, integration)]
    monkeypatch.setattr(memory, "empty", poisoned)
    for name in ("empty", "empty_like"):
        monkeypatch.setattr(torch, name, filling(getattr(torch, name)))
    for operation, (outputs, gradients) in zip((neurons, integration), expected, strict=True):
        again, gradients_again = run(case, variant, "kernels", operation)
        assert all(map(torch.equal, again, outputs))
        assert all(torch.equal(gradients_again[name], gradient) for name, gradient in gradients.items())
        assert not any(tensor.isnan().any() for tensor in again)


def filling(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def make_filled(*arguments: object, **options: object) -> Tensor:
        tensor = make(*arguments, **options)
        return tensor.fill_(math.nan) if tensor.is_floating_point() else tensor

    return make_filled


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_gradients_are_the_references_to_a_few_units_in_the_last_place(variant):
    case = case_of(variant, 1, steps=50, batch=2, neurons=40)
    ours, our_gradients = run(case, variant, "kernels")
    theirs, their_gradients = run(case, variant, "reference")
    assert all(map(torch.equal, ours, theirs))
    for name, gradient in their_gradients.items():
        ours = our_gradients[name]
        # The current that this is multiplied with is recovered from a membrane potential several times as large.
        units = 16 if name == "synapse decay" else 4
        error = (ours - gradient).abs().max() / gradient.abs().max()
        assert error <= units * torch.finfo(ours.dtype).eps, name


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_what_is_not_finite_spreads_as_in_the_reference(variant):
    special = torch.tensor([math.nan, math.inf, -math.inf])
    for name in case_of(variant, 2, steps=6, batch=2, neurons=5).arguments():
        case = case_of(variant, 2, steps=6, batch=2, neurons=5)
        with torch.no_grad():
            argument = case.arguments()[name]
            (argument[2] if name == "x" else argument)[:, 1:4] = special
        (spikes, *last), our_gradients = run(case, variant, "kernels")
        theirs, their_gradients = run(case, variant, "reference")
        for ours, expected in zip((spikes, *last), theirs, strict=True):
            assert torch.equal(ours.isnan(), expected.isnan()), name
            assert torch.equal(ours.nan_to_num(), expected.nan_to_num()), name
        for learned, expected in their_gradients.items():
            ours = our_gradients[learned]
            if learned == "synapse decay":
                # Recovered from a potential that is not finite, a current is NaN.
                assert ours[~expected.isfinite()].isfinite().sum() == 0, name
                assert torch.equal(ours[:, [0, 4]].isnan(), expected[:, [0, 4]].isnan()), name
                continue
            assert torch.equal(ours.isnan(), expected.isnan()), (name, learned)
            torch.testing.assert_close(ours, expected, equal_nan=True)


def of_dtype(dtype: torch.dtype, surrogate: type[Surrogate]) -> Variant:
    return next(variant for variant in VARIANTS if variant.dtype == dtype and type(variant.surrogate) is surrogate)


def test_the_exponential_is_right_to_two_units_in_the_last_place():
    # One step from rest, without a decay, of neurons whose threshold is 0: the gradient of x is exp(-2 |sharpness * x|).
    numbers = np.arange(0, np.float32(110).view(np.uint32), 4999, dtype=np.uint32).view(np.float32)
    x = torch.from_numpy(np.concatenate((numbers, [86.99999, 87, 1e4, 1e30, np.inf]), dtype=np.float32)).view(1, 1, -1)
    learned = torch.tensor(0.0, requires_grad=True)
    spikes, _ = synaptic_lif(
        x.requires_grad_(), learned, 0.0, 0.0, surrogate=Exponential(1.0, 0.5), reset_gradient="attached"
    )
    (gradient,) = torch.autograd.grad(spikes.sum(), x)
    exact = (-x.detach().double()).exp()
    unit = torch.exp2(exact.log2().floor() - 23)
    kept = x <= 87
    assert ((gradient - exact).abs()[kept] <= 2 * unit[kept]).all()
    assert (gradient[~kept] == 0).all()
    nan = torch.full((1, 1, 1), math.nan, requires_grad=True)
    spikes, _ = synaptic_lif(nan, learned, 0.0, 0.0, surrogate=Exponential(1.0, 0.5), reset_gradient="attached")
    assert torch.autograd.grad(spikes.sum(), nan)[0].isnan().all()


def test_numbers_are_rounded_to_bfloat16_as_by_pytorch():
    # One step, and an output gradient that passes through it unchanged: the gradient of x is that, rounded.
    exponents = np.arange(256, dtype=np.uint32)[:, None] << 23
    mantissas = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0x17FFF, 0x18000, 0x18001, 0x7FFFFF, 0x7F8000, 0x7F7FFF])
    bits = (exponents | mantissas.astype(np.uint32)).reshape(-1)
    numbers = torch.from_numpy(np.concatenate((bits, bits | np.uint32(1 << 31))).view(np.float32).copy())
    x = torch.zeros(1, 1, len(numbers), dtype=BF16, requires_grad=True)
    decay = torch.tensor(0.5, requires_grad=True)
    _, last = lif(x, decay, reset="none", surrogate=Exponential(1.0, 2.0))
    gradient = torch.autograd.grad(last, x, numbers.view_as(last))[0].flatten()
    expected = numbers.bfloat16()
    assert expected.isnan().sum() > 10
    assert torch.equal(gradient.isnan(), expected.isnan())
    assert torch.equal(gradient.nan_to_num(), expected.nan_to_num())


def each_operation(x: Tensor) -> list[list[Tensor]]:
    """What every operation makes of `x`."""
    spikes, last = synaptic_lif(x, 0.5, 0.9, reset="none", surrogate=Bump())
    return [list(lif(x, 0.9)), [spikes, *last], list(integrate(x, 0.9))]


def test_outputs_may_be_changed_in_place():
    x = torch.ones(3, 2, 4, requires_grad=True)
    for changed, kept in zip(each_operation(x), each_operation(x), strict=True):
        for output in changed:
            output.mul_(2)
        expected = torch.autograd.grad([2 * output.sum() for output in kept], x)
        assert torch.equal(*torch.autograd.grad([output.sum() for output in changed], x), *expected)


def test_changing_what_the_gradient_needs_is_noticed():
    x, decay = torch.ones(3, 2, 4, requires_grad=True), torch.full((2, 4), 0.5, requires_grad=True)
    states, _ = integrate(x, decay)
    states.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        states.sum().backward()
    spikes, _ = lif(x, decay)
    with torch.no_grad():
        decay.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        spikes.sum().backward()


def test_a_second_derivative_is_refused():
    # It must not be zero in silence: a penalty on a gradient would then do nothing.
    x = torch.ones(3, 2, 4, requires_grad=True)
    for outputs in each_operation(x):
        with pytest.raises(RuntimeError, match=r"first derivatives, .*create_graph=True.* RHEOBASE_KERNELS=off"):
            torch.autograd.grad(outputs[0].sum(), x, create_graph=True)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is")  # PyTorch's own
def test_a_derivative_forwards_is_refused():
    x = torch.ones(3, 2, 4)
    for operation in (lif, integrate):
        with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="forward mode AD"):
            operation(forward_ad.make_dual(x, x), 0.9)


def test_a_graph_that_is_kept_gives_the_same_gradient_twice():
    x, decay = torch.ones(300, 20, 50, requires_grad=True), torch.tensor(0.9, requires_grad=True)
    outputs = [output for outputs in (lif(x, decay), integrate(x, decay)) for output in outputs]
    loss = sum(output.sum() for output in outputs)
    first = torch.autograd.grad(loss, (x, decay), retain_graph=True)
    each_operation(x)  # takes memory that was free
    assert all(map(torch.equal, first, torch.autograd.grad(loss, (x, decay))))


def test_a_checkpointed_operation_has_the_same_gradient():
    x = random(np.random.default_rng(3), 20, 2, 4).float().requires_grad_()
    decay = torch.tensor(0.9, requires_grad=True)
    expected = torch.autograd.grad(lif(x, decay)[0].sum(), (x, decay))
    for reentrant in (False, True):
        spikes, _ = checkpoint(lif, x, decay, use_reentrant=reentrant)
        loss = spikes.sum()
        x.grad = decay.grad = None
        loss.backward()
        assert torch.equal(x.grad, expected[0])
        assert torch.equal(decay.grad, expected[1])


def test_inputs_that_numpy_does_not_know():
    eight_bits = random(np.random.default_rng(4), 5, 2, 3).to(torch.float8_e5m2)
    negative = torch.full((1, 1, 1), 2j).conj().imag  # its sign is a note on the tensor
    for x in (eight_bits, negative):
        for operation in (lif, integrate):
            with computed_by("reference"):
                expected = operation(x, 0.9)
            ours = operation(x, 0.9)
            assert all(our.dtype == their.dtype for our, their in zip(ours, expected, strict=True))
            assert all(torch.equal(our.float(), their.float()) for our, their in zip(ours, expected, strict=True))


@pytest.mark.parametrize("learn", [False, True])
def test_a_number_for_each_neuron_and_step_is_kept_for_the_backward_pass(learn):
    x, decay = torch.ones(100, 2, 3, requires_grad=True), torch.tensor(0.9, requires_grad=learn)
    for operation, expected in ((lif, 1), (integrate, 1 if learn else 0)):
        kept: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda _: None):
            operation(x, decay)
        assert sum(len(tensor) == 100 for tensor in kept) == expected
        # Besides: a threshold, a decay, an initial state, as long as a step.
        assert sum(tensor.numel() for tensor in kept) <= expected * x.numel() + 3 * 6


def test_without_gradients_nothing_is_kept():
    x = torch.ones(5, 2, 3)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            for outputs in each_operation(x):
                assert not any(output.requires_grad for output in outputs)
