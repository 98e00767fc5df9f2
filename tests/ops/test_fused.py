"""The kernels against the reference: outputs to the last bit, all gradients, for everything that a user may hand in."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from computing import computed_by
from rheobase.ops import lif, synaptic_lif
from rheobase.surrogate import Arctan, Exponential, FastSigmoid, Gaussian, Surrogate, Triangular


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
    detach_reset: bool
    learn: bool

    def __str__(self) -> str:
        return "-".join(
            (
                str(self.dtype).removeprefix("torch."),
                type(self.surrogate).__name__,
                self.reset,
                ("", "membrane", "synapse")[self.states],
                "detached" if self.detach_reset else "attached",
                "learned" if self.learn else "fixed",
            )
        )


F64, F32, BF16, F16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
# Compiling all combinations would take minutes. Here each pair of choices occurs together in at least one row.
VARIANTS = [
    Variant(F32, FastSigmoid(), "subtract", 1, True, False),
    Variant(F32, Arctan(0.5, 2.0), "zero", 2, False, True),
    Variant(F32, Triangular(0.3, 0.4), "none", 1, False, True),
    Variant(F32, Exponential(1.5, 0.7), "subtract", 2, False, True),
    Variant(F32, Gaussian(1.0, 0.5), "zero", 1, True, True),
    Variant(F32, Bump(0.8, 3.0), "none", 2, True, False),
    Variant(F64, FastSigmoid(0.5, 3.0), "none", 2, False, True),
    Variant(F64, Arctan(), "subtract", 1, True, False),
    Variant(F64, Triangular(), "subtract", 2, True, True),
    Variant(F64, Exponential(), "zero", 1, False, False),
    Variant(F64, Gaussian(2.0, 2.0), "none", 1, False, True),
    Variant(F64, Box(), "zero", 2, False, True),
    Variant(BF16, FastSigmoid(), "zero", 1, False, True),
    Variant(BF16, Arctan(), "none", 2, True, True),
    Variant(BF16, Triangular(0.5), "zero", 2, True, False),
    Variant(BF16, Exponential(1.0, 2.0), "none", 1, True, True),
    Variant(BF16, Gaussian(), "subtract", 2, False, False),
    Variant(BF16, Bump(), "subtract", 1, False, True),
    Variant(F16, FastSigmoid(), "subtract", 1, True, False),
    Variant(F16, Arctan(0.5, 2.0), "zero", 2, False, True),
    Variant(F32, Smooth(), "zero", 1, False, True),
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


def run(case: Case, variant: Variant, computer: str) -> tuple[list[Tensor], dict[str, Tensor | None]]:
    """The outputs, and the gradient of each argument that asks for one."""
    rule = {"reset": variant.reset, "surrogate": variant.surrogate, "detach_reset": variant.detach_reset}
    arguments = {name: value for name, value in case.arguments().items() if value.requires_grad}
    with computed_by(computer):
        if variant.states == 2:
            initial = tuple(case.initials)
            spikes, last = synaptic_lif(case.x, *reversed(case.decays), case.threshold, initial, **rule)
        else:
            spikes, *last = lif(case.x, *case.decays, case.threshold, *case.initials, **rule)
        outputs = [spikes, *last]
        gradients = [None] * len(arguments)
        if arguments:
            # An output that no argument with a gradient reaches: the states of no step.
            reached = [
                (output, gradient)
                for output, gradient in zip(outputs, (case.on_spikes, *case.on_last), strict=True)
                if output.requires_grad
            ]
            if reached:
                gradients = torch.autograd.grad(
                    [output for output, _ in reached],
                    list(arguments.values()),
                    [gradient for _, gradient in reached],
                    allow_unused=True,
                )
    # No gradient is a gradient of 0, as for all but the initial state where there is no step.
    gradients = [
        torch.zeros_like(value) if gradient is None else gradient
        for value, gradient in zip(arguments.values(), gradients, strict=True)
    ]
    return [output.detach() for output in outputs], dict(zip(arguments, gradients, strict=True))


def random(generator: np.random.Generator, *shape: int, low: float | None = None, high: float = 1.0) -> Tensor:
    values = generator.normal(0.1, 1.0, shape) if low is None else generator.uniform(low, high, shape)
    return torch.from_numpy(np.asarray(values))


LAYOUTS = ("contiguous", "batch first", "every second step", "expanded", "reversed features")


def laid_out(layout: str, generator: np.random.Generator, steps: int, batch: int, features: tuple[int, ...]) -> Tensor:
    """A random sequence `(T, B, *features)`, in one of the ways in which users' tensors lie in memory."""
    if layout == "batch first":
        return random(generator, batch, steps, *features).transpose(0, 1)
    if layout == "every second step":
        return random(generator, 2 * steps, batch, *features)[::2]
    if layout == "expanded":
        return random(generator, batch, *features).expand(steps, batch, *features)
    if layout == "reversed features":
        x = random(generator, steps, batch, *reversed(features))
        return x.permute(0, 1, *reversed(range(2, x.ndim)))
    return random(generator, steps, batch, *features)


@st.composite
def cases(draw: st.DrawFn, variant: Variant) -> Case:
    steps, batch = draw(st.integers(0, 9)), draw(st.integers(0, 3))
    features = draw(st.sampled_from([(), (0,), (1,), (3,), (7,), (2, 3), (3, 1, 2), (2, 2, 2, 2), (4097,)]))
    step = (batch, *features)
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    state = F64 if variant.dtype == F64 else F32

    def value(low: float | None, high: float, *, learned: bool) -> Tensor:
        # Whatever broadcasts to a step: leading axes left out, any of the others 1.
        axes = draw(st.integers(0, len(step)))
        shape = [size if draw(st.booleans()) else 1 for size in step[len(step) - axes :]]
        tensor = random(generator, *shape, low=low, high=high).to(state)
        return tensor.requires_grad_(learned and draw(st.booleans()))

    x = laid_out(draw(st.sampled_from(LAYOUTS)), generator, steps, batch, features).to(variant.dtype)
    x = x.requires_grad_(draw(st.booleans()))
    gradients = laid_out(draw(st.sampled_from(LAYOUTS)), generator, steps, batch, features).to(variant.dtype)
    if draw(st.booleans()):  # that of a sum
        gradients = torch.tensor(0.7, dtype=variant.dtype).expand(steps, *step)
    return Case(
        x,
        [value(0.0, 1.0, learned=variant.learn) for _ in range(variant.states)],
        value(0.05, 1.5, learned=variant.learn),
        [value(None, 1.0, learned=True) for _ in range(variant.states)],
        gradients,
        [random(generator, *step).to(state) for _ in range(variant.states)],
    )


def tolerance(case: Case, gradient: Tensor, steps_of_error: int = 5) -> float:
    """How far a gradient may be from the reference's, which adds and multiplies in another order.

    A step back in time rounds at most 5 numbers in another way than the reference: 3 in the surrogate, 2 in the order of
    three summands. It carries older errors on by a factor of at most 1. The gradient of a parameter is a sum of products
    with a potential over all steps, and over all lanes that share the parameter.
    """
    steps, lanes = len(case.x), case.x[0].numel() if len(case.x) else 1
    current = case.x.detach().double().abs().sum(0).max().item() if case.x.numel() else 0.0
    potential = 1 + 3 + current * (steps if len(case.decays) == 2 else 1)  # initial states are below 3 or so
    shared = max(1, lanes // max(1, gradient.numel())) if gradient.shape != case.x.shape else 1
    rounding = torch.finfo(case.threshold.dtype).eps / 2
    return steps_of_error * max(1, steps) * rounding * potential * shared


def assert_close(case: Case, name: str, ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    allowed = tolerance(case, theirs)
    if ours.dtype != case.threshold.dtype:  # rounded to one of two neighbours
        allowed = allowed + torch.finfo(ours.dtype).eps * theirs.abs().double()
    error = (ours.double() - theirs.double()).abs()
    assert (error <= allowed).all(), f"{name}: {error.max().item()}"


@settings(max_examples=12)
@given(st.data())
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_equals_the_reference(variant, data):
    case = data.draw(cases(variant))
    ours, our_gradients = run(case, variant, "kernels")
    theirs, their_gradients = run(case, variant, "reference")
    for our, their in zip(ours, theirs, strict=True):
        assert our.dtype == their.dtype
        assert torch.equal(our, their)
    for name, gradient in their_gradients.items():
        assert_close(case, name, our_gradients[name], gradient)
