"""A linear layer, neurons that fire once and a linear layer behind them as one, against the three references in a row."""

import gc
import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from computing import computed_by
from rheobase.ops import hidden_single_spike as module
from rheobase.ops import kernels, memory, threads
from rheobase.ops.hidden_single_spike import hidden_single_spike, in_one
from rheobase.ops.single_spike import reference
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

block_width = pytest.importorskip("rheobase.ops.linear.cpu").block_width
F32, F64 = torch.float32, torch.float64
NAMES = ("weight", "bias", "decay", "threshold", "weight_out", "bias_out")


@dataclass(frozen=True)
class Variant:
    """What a kernel is compiled for. `neurons` are numbers of them that make blocks of one width."""

    dtype: torch.dtype
    surrogate: Surrogate
    credit: str
    weighted: bool
    width: int
    neurons: tuple[int, ...]

    def __str__(self) -> str:
        values = self.dtype, self.surrogate, self.credit, "weighted" if self.weighted else "plain", self.width
        return "-".join(type(v).__name__ if isinstance(v, Surrogate) else str(v).removeprefix("torch.") for v in values)


# One lane alone, a block that is full, one that is not, several of which the last is not full.
WIDE_32, NARROW_32 = (128, (100, 128, 300)), (32, (1, 32, 33, 70))
WIDE_64, NARROW_64 = (64, (50, 64, 150)), (16, (1, 16, 17, 40))
# Compiling all combinations would take minutes. Each two of type, credit, weighted and width occur together in some row. A
# jump of `Rectangular` is in float64, where no membrane potential lies so close to it that rounding decides.
VARIANTS = [
    Variant(F32, FastSigmoid(1.0, 5.0), "product", False, *WIDE_32),
    Variant(F64, Rectangular(0.7, 0.6), "product", True, *NARROW_64),
    Variant(F32, Arctan(0.8, 2.0), "ramp", True, *WIDE_32),
    Variant(F64, Gaussian(2.0, 0.5), "ramp", False, *NARROW_64),
    Variant(F32, Exponential(), "early_ramp", False, *NARROW_32),
    Variant(F64, Sigmoid(1.0, 0.5), "early_ramp", True, *WIDE_64),
    Variant(F32, MultiGaussian(1.5, 0.5), "detached", True, *NARROW_32),
    Variant(F64, Triangular(0.5, 0.5), "detached", False, *WIDE_64),
]
variants = pytest.mark.parametrize("variant", VARIANTS, ids=str)


@pytest.fixture(autouse=True)
def _little_work_is_enough(monkeypatch):
    monkeypatch.setattr(module, "_LEAST_WORK", 1)


@dataclass
class Case:
    """Arguments, and the gradient of the output."""

    x: Tensor
    values: dict[str, Tensor | None]
    on_y: Tensor
    rule: dict

    def leaves(self, dtype: torch.dtype) -> dict[str, Tensor | None]:
        return {
            name: None if value is None else value.detach().to(dtype).requires_grad_()
            for name, value in self.values.items()
        }


def case(
    variant: Variant,
    neurons: int,
    steps: int,
    batch: int,
    *,
    inputs: int = 6,
    outputs: int = 3,
    drive: float = 0.1,
    biases: tuple[bool, bool] = (True, True),
    for_each: tuple[bool, bool] = (True, False),
    fire_by_end: bool = False,
    seed: int = 0,
) -> Case:
    """Random arguments; input 0 is always 1, and its weights are `drive`, more or less."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=F64)

    assert block_width(neurons, variant.dtype) == variant.width
    x = (torch.rand(steps, batch, inputs, generator=generator) < 0.3).to(F64)
    if variant.weighted:
        x = x * torch.randint(1, 7, x.shape, generator=generator) / 4
    x[:, :, 0] = 1
    weight = normal(neurons, inputs) / 2
    weight[:, 0] = drive + normal(neurons) / 10
    decay = torch.rand(neurons if for_each[0] else (), generator=generator, dtype=F64)
    values = {
        "weight": weight,
        "bias": normal(neurons) / 10 if biases[0] else None,
        "decay": decay,
        "weight_out": normal(outputs, neurons),
        "bias_out": normal(outputs) if biases[1] else None,
    }
    # Kernels in float32 and a reference in float64 must see the same numbers, and no spike may hang on a rounding.
    values = {name: None if value is None else value.to(variant.dtype).to(F64) for name, value in values.items()}
    current, membrane, seen = F.linear(x, values["weight"], values["bias"]), torch.zeros(batch, neurons), []
    for now in current:
        membrane = values["decay"] * membrane + now
        seen.append(membrane)
    levels = torch.stack(seen).flatten(0, 1)
    threshold = torch.stack([between(each) for each in (levels.unbind(1) if for_each[1] else [levels.flatten()])])
    values["threshold"] = (threshold if for_each[1] else threshold[0]).to(variant.dtype).to(F64)
    on_y = normal(steps, batch, outputs).to(variant.dtype)
    rule = {"surrogate": variant.surrogate, "credit": variant.credit, "fire_by_end": fire_by_end}
    return Case(x.to(variant.dtype), {name: values[name] for name in NAMES}, on_y, rule)


def between(levels: Tensor) -> Tensor:
    """A threshold near 1, in the middle of the widest gap between membrane potentials there."""
    near = torch.cat((levels[(levels - 1).abs() < 0.2], torch.tensor([0.8, 1.2]))).sort().values
    widest = near.diff().argmax()
    assert near[widest + 1] - near[widest] > 2e-5
    return (near[widest] + near[widest + 1]) / 2


def composed(x: Tensor, values: dict[str, Tensor | None], rule: dict) -> Tensor:
    """The definition: three references in a row."""
    weight, bias, decay, threshold, weight_out, bias_out = (values[name] for name in NAMES)
    rest = [torch.zeros((), dtype=x.dtype)] * 3
    how = rule["credit"], rule["fire_by_end"], rule["surrogate"]
    spikes, *_ = reference.single_spike(F.linear(x, weight, bias), decay, threshold, rest, *how, True)
    return F.linear(spikes, weight_out, bias_out)


def as_one(x: Tensor, values: dict[str, Tensor | None], rule: dict) -> Tensor | None:
    """What the kernels say, or None where they are not asked."""
    given = (values[name] for name in NAMES)
    return in_one(x, *given, rule["credit"], rule["fire_by_end"], rule["surrogate"])


def results(function, taken: Case, dtype: torch.dtype) -> dict[str, Tensor]:
    """The output and the gradients of all parameters."""
    leaves = taken.leaves(dtype)
    y = function(taken.x.to(dtype), leaves, taken.rule)
    assert y is not None
    wanted = {name: leaf for name, leaf in leaves.items() if leaf is not None}
    of = list(wanted.values())
    # The references do not know that they have used what a constant spike does not depend on.
    gradients = torch.autograd.grad(y, of, taken.on_y.to(dtype), allow_unused=True, materialize_grads=True)
    return {"y": y.detach()} | dict(zip(wanted, gradients, strict=True))


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor], steps: int) -> None:
    """Up to rounding: of sums over inputs, and of sums over time, which grow with T^2 in the block model, and it with them."""
    assert ours.keys() == theirs.keys()
    neurons, inputs = ours["weight"].shape
    for name, mine in ours.items():
        other = theirs[name].to(mine.dtype)
        allowed = 8 * (steps + inputs**0.5) * torch.finfo(mine.dtype).eps
        scale = 1 + other.abs().max().item()
        if mine.ndim == 0:  # the sum over all neurons, of either sign, may be smaller than each of them
            scale *= neurons**0.5
        torch.testing.assert_close(
            mine, other, rtol=allowed, atol=allowed * scale, msg=lambda text, name=name: f"{name}: {text}"
        )


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    for name, mine in ours.items():
        assert torch.equal(mine, theirs[name]), name


@settings(max_examples=8)
@given(data=st.data())
@variants
def test_kernels_equal_the_references_in_a_row(variant, data):
    steps = data.draw(st.sampled_from([1, 2, 3, 7, 8, 9, 16, 17, 21]), "T")
    taken = case(
        variant,
        data.draw(st.sampled_from(variant.neurons), "neurons"),
        steps,
        data.draw(st.sampled_from([1, 2, 15, 33]), "B"),
        inputs=data.draw(st.sampled_from([1, 2, 6, 70]), "inputs"),
        outputs=data.draw(st.sampled_from([1, 3, 32]), "outputs"),
        # None fires, some, all at the first step.
        drive=data.draw(st.sampled_from([-9.0, 0.0, 0.3, 9.0]), "drive"),
        biases=data.draw(st.tuples(st.booleans(), st.booleans()), "biases"),
        for_each=data.draw(st.tuples(st.booleans(), st.booleans()), "for each neuron"),
        fire_by_end=data.draw(st.booleans(), "fire_by_end"),
        seed=data.draw(st.integers(0, 1000), "seed"),
    )
    assert_close(results(as_one, taken, variant.dtype), results(composed, taken, F64), steps)


@variants
def test_cases_are_of_all_kinds(variant):
    """Neurons of the cases above never fire, fire early and late, and some twice: no test of the rest sees silence alone."""
    taken = case(variant, variant.neurons[-1], 17, 15, drive=0.2)
    eye = {"weight_out": torch.eye(variant.neurons[-1], dtype=variant.dtype), "bias_out": None}
    spikes = composed(taken.x, taken.leaves(variant.dtype) | eye, taken.rule)
    assert spikes.sum(0).eq(0).any()
    assert spikes.sum((1, 2)).ge(1).sum() >= 10  # at most steps


@variants
def test_a_sum_over_many_samples_is_added_in_parts(variant):
    taken = case(variant, variant.neurons[0], 5, 70, for_each=(False, False))  # four parts of one block
    assert_close(results(as_one, taken, variant.dtype), results(composed, taken, F64), 16)


def crossing(variant: Variant, *, at: tuple[int, ...], steps: int, fire_by_end: bool) -> Case:
    """Neurons without memory, whose current is the input: they cross the threshold at some steps, and nowhere else."""
    taken = case(variant, variant.neurons[-1], steps, 2, inputs=1, fire_by_end=fire_by_end)
    taken.x.zero_()
    for t in at:
        taken.x[t] = 1.5 if variant.weighted else 1.0
    taken.values |= {"weight": torch.ones_like(taken.values["weight"]), "bias": None}
    # Odd neurons never cross the threshold, and keep their blocks going.
    threshold = torch.full((variant.neurons[-1],), 0.75, dtype=F64)
    threshold[1::2] = 20.0
    taken.values |= {"decay": torch.tensor(0.25, dtype=F64), "threshold": threshold}
    return taken


@variants
@pytest.mark.parametrize("fire_by_end", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 7, 8, 9, 16, 17])
def test_crossings_at_the_very_last_step(variant, steps, fire_by_end):
    last = steps - 1
    for at in {(last,), (0, last), (max(0, last - 2), last), (0,), ()}:
        taken = crossing(variant, at=at, steps=steps, fire_by_end=fire_by_end)
        assert_close(results(as_one, taken, variant.dtype), results(composed, taken, F64), steps)


@variants
def test_a_neuron_that_fires_once_hands_on_its_weights_once(variant):
    neurons = variant.neurons[-1]
    taken = crossing(variant, at=(2, 5), steps=9, fire_by_end=False)
    y = as_one(taken.x, taken.leaves(variant.dtype), taken.rule).detach()
    expected = taken.values["bias_out"].expand(9, 2, 3).clone()
    expected[2] += taken.values["weight_out"][:, 0:neurons:2].sum(1)
    torch.testing.assert_close(y, expected.to(variant.dtype), rtol=0, atol=64 * neurons * torch.finfo(y.dtype).eps)


def test_what_is_differentiable_has_the_gradient_of_finite_differences():
    variant = VARIANTS[3]
    taken = case(variant, 17, 6, 3)
    leaves = taken.leaves(F64)

    def outputs(weight_out: Tensor, bias_out: Tensor) -> Tensor:
        return as_one(taken.x, leaves | {"weight_out": weight_out, "bias_out": bias_out}, taken.rule)

    assert torch.autograd.gradcheck(outputs, (leaves["weight_out"], leaves["bias_out"]))


@variants
def test_the_number_of_threads_changes_nothing(variant, monkeypatch):
    monkeypatch.setattr(threads, "_WORTH_A_THREAD", 100)
    # Sums that PyTorch shares out between its threads: 32768 numbers and more, or a number for all neurons.
    cases = [
        case(variant, variant.neurons[-1], 9, 70, for_each=(False, False)),
        case(variant, variant.neurons[0], 5, 7000, outputs=1, inputs=2, drive=0.5, for_each=(False, False)),
    ]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = [results(as_one, taken, variant.dtype) for taken in cases]
        for count in (2, 3, 7):
            torch.set_num_threads(count)
            for taken, right in zip(cases, expected, strict=True):
                assert_equal(results(as_one, taken, variant.dtype), right)
    finally:
        torch.set_num_threads(before)


def test_a_number_for_very_many_neurons_has_one_gradient_for_all_numbers_of_threads():
    taken = case(VARIANTS[0], 128, 2, 3, outputs=1, for_each=(False, False))
    many = 700
    taken.values["weight"] = taken.values["weight"].repeat(many, 1)
    taken.values["weight_out"] = taken.values["weight_out"].repeat(1, many)
    taken.values["bias"] = None
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = results(as_one, taken, F32)
        torch.set_num_threads(2)
        assert_equal(results(as_one, taken, F32), expected)
    finally:
        torch.set_num_threads(before)


@variants
def test_every_number_is_written(variant, monkeypatch):
    cases = [
        case(variant, neurons, steps, batch, drive=0.3)
        for neurons, steps, batch in ((variant.neurons[-1], 9, 33), (variant.neurons[0], 16, 1))
    ]
    expected = [results(as_one, taken, variant.dtype) for taken in cases]

    def poisoned(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.full(shape, math.nan if dtype.is_floating_point else 1 << 30, dtype=dtype)

    monkeypatch.setattr(memory, "empty", poisoned)
    for taken, right in zip(cases, expected, strict=True):
        again = results(as_one, taken, variant.dtype)
        assert_equal(again, right)
        assert not any(tensor.isnan().any() for tensor in again.values())


# What is not finite is a value other than 1, so it takes lists with values.
weighted = pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant.weighted], ids=str)
# To the block model's rule every step matters.
that_end = [variant for variant in VARIANTS if variant.credit != "ramp"]


class TestWhatIsNotFinite:
    @pytest.mark.parametrize("variant", [variant for variant in that_end if variant.weighted], ids=str)
    @pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
    def test_what_comes_after_all_is_over_does_not_matter(self, variant, number):
        neurons = variant.neurons[-1]
        taken = case(variant, neurons, 21, 17, drive=9.0)  # all cross at steps 0 and 1
        expected = results(as_one, taken, variant.dtype)
        for first in (2, 3, 8):
            changed = Case(taken.x.clone(), taken.values, taken.on_y, taken.rule)
            changed.x[first:, ::2] = number
            assert_equal(results(as_one, changed, variant.dtype), expected)

    @variants
    def test_a_neuron_that_is_over_has_no_membrane_potential_that_is_not_finite(self, variant):
        """Its neighbours in the block are not over, so the kernel goes on; with spikes, an overflow needs no input at all."""
        taken = crossing(variant, at=(0, 1, 2, 3), steps=9, fire_by_end=False)
        huge = torch.finfo(variant.dtype).max
        # Decay 1 and currents of half the largest number: over at step 1, from step 2 on infinite.
        taken.values |= {"decay": torch.tensor(1.0, dtype=F64)}
        taken.values["weight"] = taken.values["weight"] * huge / 2
        taken.values["weight"][1::2] = -1.0
        ours, theirs = results(as_one, taken, variant.dtype), results(composed, taken, variant.dtype)
        for name, mine in ours.items():
            assert torch.equal(mine.isnan(), theirs[name].isnan()), name
            assert torch.equal(mine.isinf(), theirs[name].isinf()), name
        if variant.credit != "ramp":
            assert ours["bias_out"].isfinite().all()
            assert ours["threshold"].isfinite().all()

    @weighted
    @pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
    @pytest.mark.parametrize("steps", [8, 9])
    def test_it_spreads_as_in_the_references_in_a_row(self, variant, number, steps):
        for t in (0, 4, steps - 1):
            taken = case(variant, variant.neurons[-1], steps, 3, drive=0.0)
            taken.x[t, 1, 1] = number
            ours, theirs = results(as_one, taken, variant.dtype), results(composed, taken, variant.dtype)
            for name, mine in ours.items():
                if name == "weight":
                    continue  # of which lists and dense products meet it elsewhere, see below
                assert torch.equal(mine.isnan(), theirs[name].isnan()), (name, t)
                assert torch.equal(mine.isinf(), theirs[name].isinf()), (name, t)
            # An input that is zero contributes nothing, not even 0 times what is not finite.
            assert (theirs["weight"].isfinite() <= ours["weight"].isfinite()).all()

    @pytest.mark.parametrize("variant", that_end, ids=str)
    def test_a_gradient_of_what_is_over_does_not_matter(self, variant):
        taken = case(variant, variant.neurons[-1], 21, 3, drive=9.0)
        expected = results(as_one, taken, variant.dtype)
        taken.on_y[2:] = math.nan
        ours = results(as_one, taken, variant.dtype)
        assert ours.pop("bias_out").isnan().all()
        assert_equal(ours, expected)


class TestWhatIsKept:
    @variants
    def test_no_sequence_of_the_layer_is(self, variant):
        steps, batch, neurons = 200, 16, variant.neurons[-1]
        taken, kept = case(variant, neurons, steps, batch, inputs=2), []
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.nbytes), lambda _: None):
            as_one(taken.x, taken.leaves(variant.dtype), taken.rule)
        assert sum(kept) < steps * batch * neurons  # of 4 or 8 bytes each

    def test_nothing_is_without_gradients(self):
        variant = VARIANTS[0]
        taken, kept = case(variant, 100, 9, 4), []
        expected = results(as_one, taken, F32)["y"]
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor), lambda _: None):
            for mode in (torch.no_grad, torch.inference_mode):
                with mode():
                    y = as_one(taken.x, taken.leaves(F32), taken.rule)
                assert torch.equal(y, expected)
                assert not y.requires_grad
        assert not kept

    def test_steps_that_are_repeated_leave_memory_flat(self):
        taken, counts = case(VARIANTS[0], 100, 9, 4), []
        for step in range(60):
            results(as_one, taken, F32)
            if step in (10, 59):
                gc.collect()
                counts.append(sum(type(thing) is Tensor for thing in gc.get_objects()))
        assert counts[1] <= counts[0]


class TestGradients:
    @variants
    def test_what_is_frozen_has_none(self, variant):
        taken = case(variant, variant.neurons[-1], 9, 4, for_each=(False, True))
        expected = results(as_one, taken, variant.dtype)
        for chosen in (*([name] for name in NAMES), ["weight", "bias", "weight_out", "bias_out"], []):
            leaves = taken.leaves(variant.dtype)
            for name in NAMES:
                leaves[name].requires_grad_(name in chosen)
            y = as_one(taken.x, leaves, taken.rule)
            assert torch.equal(y, expected["y"])
            assert y.requires_grad == bool(chosen)
            if chosen:
                y.backward(taken.on_y)
            for name in NAMES:
                grad = leaves[name].grad
                assert (grad is not None) == (name in chosen)
                assert grad is None or torch.equal(grad, expected[name])

    def test_they_are_taken_twice_and_added(self):
        taken = case(VARIANTS[0], 100, 9, 4)
        expected, leaves = results(as_one, taken, F32), taken.leaves(F32)
        y = as_one(taken.x, leaves, taken.rule)
        y.backward(taken.on_y, retain_graph=True)
        y.backward(taken.on_y)
        for name in NAMES:
            assert torch.equal(leaves[name].grad, 2 * expected[name])

    def test_a_second_derivative_is_refused(self):
        taken = case(VARIANTS[0], 100, 9, 4)
        leaves = taken.leaves(F32)
        y = as_one(taken.x, leaves, taken.rule)
        with pytest.raises(RuntimeError, match=r"first derivatives, .*create_graph=True"):
            torch.autograd.grad(y.square().sum(), leaves["weight"], create_graph=True)

    def test_outputs_may_be_changed_in_place_and_arguments_are_left_alone(self):
        taken = case(VARIANTS[0], 100, 9, 4)
        leaves = taken.leaves(F32)
        copies = taken.x.clone(), {name: leaf.detach().clone() for name, leaf in leaves.items()}
        expected = results(as_one, taken, F32)
        y = as_one(taken.x, leaves, taken.rule).mul_(2)
        y.backward(taken.on_y / 2)
        for name in NAMES:
            assert torch.equal(leaves[name].grad, expected[name])
            assert torch.equal(leaves[name], copies[1][name])
        assert torch.equal(taken.x, copies[0])

    def test_of_the_weights_at_the_forward_pass(self):
        """Kept are copies, so an optimizer may be ahead of the backward pass."""
        taken = case(VARIANTS[0], 100, 9, 4)
        expected, leaves = results(as_one, taken, F32), taken.leaves(F32)
        y = as_one(taken.x, leaves, taken.rule)
        with torch.no_grad():
            for leaf in leaves.values():
                leaf.mul_(3)
        y.backward(taken.on_y)
        for name in NAMES:
            assert torch.equal(leaves[name].grad, expected[name])

    def test_layouts(self):
        taken = case(VARIANTS[0], 100, 9, 4)
        expected, leaves = results(as_one, taken, F32), taken.leaves(F32)
        turned = {
            name: leaf.detach().t().contiguous().t().requires_grad_() if leaf.ndim == 2 else leaf
            for name, leaf in leaves.items()
        }
        batch_first = taken.x.transpose(0, 1).contiguous().transpose(0, 1)
        y = as_one(batch_first, turned, taken.rule)
        assert torch.equal(y, expected["y"])
        numbers = torch.complex(torch.zeros_like(y), -taken.on_y)
        negated = numbers.transpose(0, 1).contiguous().transpose(0, 1).conj().imag
        assert negated.is_neg()
        gradients = torch.autograd.grad(y, list(turned.values()), negated)
        for name, gradient in zip(NAMES, gradients, strict=True):
            assert torch.equal(gradient, expected[name])

    def test_checkpointing(self):
        taken = case(VARIANTS[0], 100, 9, 4)
        expected = results(as_one, taken, F32)

        def again(x: Tensor, leaves: dict[str, Tensor | None], rule: dict) -> Tensor:
            return torch.utils.checkpoint.checkpoint(as_one, x, leaves, rule, use_reentrant=False)

        assert_equal(results(again, taken, F32), expected)


@dataclass(frozen=True)
class Mine(FastSigmoid):
    """A shape of the user's, which may do anything."""


class TestWhoComputes:
    """`in_one` says None where the layers must compute one by one, and `hidden_single_spike` does."""

    def taken(self, **changes) -> Case:
        return case(VARIANTS[0], 100, 9, 4, inputs=3, **changes)

    def both(self, taken: Case, dtype: torch.dtype = F32, **how) -> bool:
        """Whether the kernels compute, where what comes out is right either way."""
        rule, leaves = taken.rule | how, taken.leaves(dtype)
        x = taken.x.to(dtype)
        y = hidden_single_spike(x, *leaves.values(), **rule)
        exact = composed(taken.x.double(), taken.leaves(F64), rule)
        loose = {torch.float16: 2e-2, torch.bfloat16: 1e-1}.get(dtype, 1e-4)
        assert y.dtype == dtype
        torch.testing.assert_close(y, exact.to(dtype), rtol=loose, atol=10 * loose)
        return as_one(x, leaves, rule) is not None

    def test_the_kernels_where_they_can(self):
        assert self.both(self.taken())
        assert self.both(self.taken(), F64)

    @pytest.mark.parametrize("surrogate", [QPseudoSpike(), Mine()])
    def test_not_with_a_surrogate_that_they_do_not_know(self, surrogate):
        assert not self.both(self.taken(), surrogate=surrogate)

    def test_not_with_many_outputs(self):
        assert self.both(self.taken(outputs=32))
        assert not self.both(self.taken(outputs=33))

    def test_not_with_little_work(self, monkeypatch):
        for work, expected in ((100 * 9 * 4, True), (100 * 9 * 4 + 1, False)):
            monkeypatch.setattr(module, "_LEAST_WORK", work)
            assert self.both(self.taken()) is expected

    def test_not_with_many_events(self, monkeypatch):
        taken = self.taken()
        events = int(taken.x.count_nonzero())
        for limit, expected in ((events, True), (events - 1, False)):
            monkeypatch.setattr(module, "_MOST_EVENTS", limit / (9 * 4))
            assert self.both(taken) is expected

    def test_not_in_half_precision_and_under_autocast(self):
        # Spikes that hang on no rounding: these types are coarse.
        taken = crossing(VARIANTS[0], at=(3,), steps=9, fire_by_end=False)
        assert self.both(taken)
        for half in (torch.float16, torch.bfloat16):
            assert not self.both(taken, half)
        taken = self.taken()
        with torch.autocast("cpu", torch.bfloat16):
            assert as_one(taken.x, taken.leaves(F32), taken.rule) is None
            assert hidden_single_spike(taken.x, *taken.leaves(F32).values(), **taken.rule).dtype == torch.bfloat16

    def test_not_in_mixed_types(self):
        taken = self.taken()
        leaves = taken.leaves(F32)
        for name in NAMES:
            assert as_one(taken.x, leaves | {name: leaves[name].detach().double()}, taken.rule) is None

    def test_not_without_kernels(self, monkeypatch):
        with computed_by("reference"):
            assert not self.both(self.taken())
        monkeypatch.setattr(kernels, "why_not", lambda device: f"none on {device}")
        assert not self.both(self.taken())

    def test_not_where_the_input_wants_a_gradient(self):
        taken = self.taken()
        taken.x.requires_grad_()
        assert not self.both(taken)
        with torch.no_grad():
            assert self.both(taken)
        gradients = []
        for function in (composed, lambda x, leaves, rule: hidden_single_spike(x, *leaves.values(), **rule)):
            y = function(taken.x, taken.leaves(F32), taken.rule)
            gradients.append(torch.autograd.grad(y, taken.x, taken.on_y)[0])
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)

    def test_not_on_other_devices(self):
        taken = self.taken()
        leaves = {name: leaf.to("meta") for name, leaf in taken.leaves(F32).items()}
        assert as_one(taken.x.to("meta"), leaves, taken.rule) is None
        assert as_one(taken.x, leaves, taken.rule) is None

    # PyTorch's own use of what it deprecates.
    @pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
    def test_not_within_transforms(self):
        # Neurons cannot be transformed, by whom they are ever computed: all that is to see is that the kernels do not try.
        taken, seen = self.taken(), []
        leaves = taken.leaves(F32)
        weight_out = leaves["weight_out"].detach()

        def loss(weight_out: Tensor) -> Tensor:
            seen.append(as_one(taken.x, leaves | {"weight_out": weight_out}, taken.rule))
            return weight_out.sum()

        torch.func.grad(loss)(weight_out)
        torch.func.jvp(loss, (weight_out,), (weight_out,))
        torch.vmap(loss)(weight_out.unsqueeze(0))
        with torch.autograd.forward_ad.dual_level():
            loss(torch.autograd.forward_ad.make_dual(weight_out, weight_out))

        def of_something_else(a: Tensor) -> Tensor:
            seen.append(as_one(taken.x, leaves, taken.rule))
            return a

        torch.func.grad(of_something_else)(torch.ones(()))
        assert len(seen) == 5
        assert all(y is None for y in seen)

    def test_an_input_without_a_feature(self):
        taken = self.taken()
        taken.x, taken.values["weight"] = taken.x[..., :0], taken.values["weight"][:, :0]
        taken.values["bias"] = torch.ones(100, dtype=F64)
        taken.values["threshold"] = torch.tensor(1.5, dtype=F64)
        assert self.both(taken)

    @pytest.mark.parametrize("name", ["bias", "bias_out"])
    @pytest.mark.usefixtures("as_a_user")
    def test_a_bias_that_does_not_fit_is_pytorchs(self, name):
        """Which takes one number for all; a kernel would read what lies behind it."""
        taken = self.taken()
        taken.values[name] = torch.zeros(1, dtype=F64)
        assert not self.both(taken)
        taken.values[name] = torch.zeros(2, dtype=F64)
        leaves = taken.leaves(F32)
        assert as_one(taken.x, leaves, taken.rule) is None
        with pytest.raises(RuntimeError):
            hidden_single_spike(taken.x, *leaves.values(), **taken.rule)


@pytest.mark.usefixtures("as_a_user")
class TestErrors:
    def call(self, **changes) -> None:
        values = {"x": torch.ones(4, 2, 3), "weight": torch.ones(5, 3), "bias": None, "decay": 0.5, "threshold": 1.0}
        hidden_single_spike(**values | {"weight_out": torch.ones(2, 5), "bias_out": None} | changes)

    def test_of_arguments(self):
        with pytest.raises(TypeError, match="hidden_single_spike: x must be floating point"):
            self.call(x=torch.ones(4, 2, 3, dtype=torch.int64))
        with pytest.raises(TypeError, match="hidden_single_spike: surrogate must be an object"):
            self.call(surrogate=FastSigmoid)
        with pytest.raises(ValueError, match="hidden_single_spike: credit must be one of"):
            self.call(credit="none")
        for name in ("decay", "threshold"):
            with pytest.raises(ValueError, match=f"hidden_single_spike: {name} must broadcast"):
                self.call(**{name: torch.ones(4)})

    def test_of_weights_that_do_not_fit(self):
        for changes in ({"x": torch.ones(4, 2, 4)}, {"weight_out": torch.ones(2, 6)}):
            with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
                self.call(**changes)
