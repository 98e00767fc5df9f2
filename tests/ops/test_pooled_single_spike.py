"""Neurons that fire once and pooling as one, against the references in a row."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from computing import computed_by
from rheobase.ops import memory, threads
from rheobase.ops import pooled_single_spike as module
from rheobase.ops.pooled_single_spike import in_one, pooled_single_spike
from rheobase.ops.single_spike import reference
from rheobase.surrogate import Arctan, FastSigmoid, Gaussian, QPseudoSpike, Rectangular, Sigmoid, Triangular

pytest.importorskip("numba")
F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16
# Each rule with a type and a shape of its own: compiling all combinations would take minutes.
VARIANTS = {
    "float32-product": (F32, Arctan(sharpness=1 / 3), "product", "average"),
    "float64-product": (F64, Rectangular(0.7, 0.6), "product", "average"),
    "bfloat16-product": (BF16, Arctan(), "product", "average"),
    "float64-ramp": (F64, FastSigmoid(1.0, 5.0), "ramp", "average"),
    "bfloat16-ramp": (BF16, FastSigmoid(1.0, 5.0), "ramp", "average"),
    "float64-early_ramp": (F64, Sigmoid(1.0, 0.5), "early_ramp", "average"),
    "float32-detached": (F32, Gaussian(2.0, 0.5), "detached", "average"),
    "float64-detached": (F64, Triangular(0.5, 0.5), "detached", "average"),
    "float32-ramp-maximum": (F32, FastSigmoid(1.0, 5.0), "ramp", "maximum"),
    "float64-product-maximum": (F64, Arctan(), "product", "maximum"),
    "bfloat16-detached-maximum": (BF16, Gaussian(2.0, 0.5), "detached", "maximum"),
}
variants = pytest.mark.parametrize(("dtype", "surrogate", "credit", "pooling"), VARIANTS.values(), ids=VARIANTS)


@pytest.fixture(autouse=True)
def _little_work_is_enough(monkeypatch):
    monkeypatch.setattr(module, "_LEAST_WORK", 1)


def currents(*shape, seed=0, scale=32):
    """Whole numbers of thirty-seconds: bfloat16 knows them, and no spike hangs on the rounding of a sum."""
    return torch.randint(-16, 24, shape, generator=torch.Generator().manual_seed(seed)).double() / scale


def values(channels, for_each):
    """Decay and threshold, of each channel or of all; the threshold lies between what membrane potentials can be."""
    decay, threshold = torch.tensor([0.5, 1.0, 0.25]), torch.tensor([1.0, 0.75, 0.5]) + 1 / 512
    pick = [
        tensor[:channels].view(-1, 1, 1) if own else tensor[0]
        for tensor, own in zip((decay, threshold), for_each, strict=True)
    ]
    return [tensor.double() for tensor in pick]


def composed(x, decay, threshold, hold, rule):
    """The definition: the references in a row."""
    sequence = x if hold is None else x.expand(hold, *x.shape[1:])
    rest = [torch.zeros((), dtype=x.dtype)] * 3
    how = rule["credit"], rule["fire_by_end"], rule["surrogate"]
    spikes, *_ = reference.single_spike(sequence, decay, threshold, rest, *how, True)
    pool = F.max_pool2d if rule.get("pooling") == "maximum" else F.avg_pool2d
    return pool(spikes.flatten(0, 1), 2).unflatten(0, spikes.shape[:2])


def as_one(x, decay, threshold, hold, rule):
    """What the kernels say; they must be asked."""
    decay, threshold = (each.to(torch.float64 if x.dtype == F64 else F32) for each in (decay, threshold))
    how = rule["credit"], rule["fire_by_end"], rule["surrogate"], rule.get("pooling", "average")
    y = in_one(x, hold or len(x), decay, threshold, *how)
    assert y is not None
    return y


def results(function, x, parameters, hold, rule, dtype):
    """The averages, and the gradients of the current, the decay and the threshold, for random gradients of the averages."""
    leaves = [each.to(dtype).requires_grad_() for each in (x, *parameters)]
    y = function(*leaves, hold, rule)
    on_y = currents(*y.shape, seed=1).to(y.dtype)
    # The references do not know that they have used what a constant spike does not depend on.
    y = y if y.requires_grad else y + 0 * leaves[0].sum()
    return [y.detach(), *torch.autograd.grad(y, leaves, on_y, allow_unused=True, materialize_grads=True)]


def assert_close(ours, theirs, steps):
    for mine, other in zip(ours, theirs, strict=True):
        allowed = 16 * steps * torch.finfo(mine.dtype).eps
        scale = 1 + other.abs().max().item()
        torch.testing.assert_close(mine, other.to(mine.dtype), rtol=allowed, atol=allowed * scale)


@settings(max_examples=8)
@given(data=st.data())
@variants
def test_kernels_equal_the_references_in_a_row(dtype, surrogate, credit, pooling, data):
    hold = data.draw(st.sampled_from([None, 1, 3, 8, 9, 17]), "hold")
    steps = hold or data.draw(st.sampled_from([1, 2, 4, 7, 8, 9, 17]), "T")
    channels = data.draw(st.sampled_from([1, 3]), "C")
    height, width = (2 * data.draw(st.integers(1, 9), name) for name in ("height", "width"))
    shape = 1 if hold else steps, data.draw(st.sampled_from([1, 2, 5]), "B"), channels, height, width
    x = currents(*shape, seed=data.draw(st.integers(0, 1000), "seed"))
    x = x + data.draw(st.sampled_from([-9.0, 0.0, 0.25, 9.0]), "drive")  # none fires, some, all at the first step
    parameters = values(channels, data.draw(st.tuples(st.booleans(), st.booleans()), "for each channel"))
    rule = {"surrogate": surrogate, "credit": credit, "fire_by_end": data.draw(st.booleans(), "fire_by_end")}
    rule["pooling"] = pooling
    if dtype == BF16:  # parameters are in float32 there, of which these are no bfloat16 numbers
        ours = results(as_one, x, parameters, hold, rule, F32)
        assert_close(ours, results(composed, x, parameters, hold, rule, F64), steps)
        y = as_one(x.to(BF16), *parameters, hold, rule)
        assert torch.equal(y.float(), ours[0])
        return
    ours = results(as_one, x, parameters, hold, rule, dtype)
    assert_close(ours, results(composed, x, parameters, hold, rule, F64), steps)


@pytest.mark.parametrize("hold", [None, 5])
@pytest.mark.parametrize(("credit", "surrogate"), [("product", Arctan()), ("ramp", FastSigmoid(1.0, 5.0))])
def test_bfloat16_rounds_only_what_is_in_memory(hold, credit, surrogate):
    """Gradients are those of float32, rounded once at the end."""
    x, parameters = currents(1 if hold else 5, 3, 3, 6, 8), values(3, (True, True))
    rule = {"surrogate": surrogate, "credit": credit, "fire_by_end": False}
    given, found = [], []
    for dtype in (BF16, F32):
        leaf = x.to(dtype).requires_grad_()
        y = as_one(leaf, *parameters, hold, rule)
        given.append(y.detach().float())
        found.append(torch.autograd.grad(y, leaf, currents(*y.shape, seed=1).to(dtype))[0])
    assert torch.equal(*given)
    assert torch.equal(found[0], found[1].to(BF16))


@pytest.mark.parametrize("hold", [None, 5])
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_however_the_input_and_its_gradient_lie_in_memory(dtype, hold):
    x, parameters = (
        currents(1 if hold else 5, 3, 3, 6, 8).to(dtype),
        [each.float() for each in values(3, (True, False))],
    )
    steps = hold or 5
    on_y = currents(steps, 3, 3, 3, 4, seed=1).to(dtype)
    layouts = [
        lambda each: each.movedim(2, -1).contiguous().movedim(-1, 2),  # channels last
        lambda each: each.movedim(0, -1).contiguous().movedim(-1, 0),
        lambda each: each.repeat_interleave(2, dim=-1)[..., ::2],
        lambda each: each[:, :1].expand_as(each),
        lambda each: each[:1, :1, :1, :1, :1].expand_as(each),
    ]
    for layout in layouts:
        found = []
        for as_given in (True, False):
            leaf = layout(x) if as_given else layout(x).contiguous()
            on = layout(on_y) if as_given else layout(on_y).contiguous()
            assert leaf.is_contiguous() == on.is_contiguous() == (not as_given) or leaf.shape[0] == 1
            leaves = [each.detach().requires_grad_() for each in (leaf, *parameters)]
            y = in_one(leaves[0], steps, *leaves[1:], "product", False, Arctan(), "average")
            found.append([y.detach(), *torch.autograd.grad(y, leaves, on)])
        assert all(map(torch.equal, *found))


@variants
def test_cases_are_of_all_kinds(dtype, surrogate, credit, pooling):
    """Neurons above never fire, fire early and late: no test sees silence alone."""
    rule = {"surrogate": surrogate, "credit": credit, "fire_by_end": False}
    y = composed(currents(17, 5, 3, 8, 8), *values(3, (True, True)), None, rule)
    per_window = 4 * y.sum(0)
    assert (per_window == 0).any() or (per_window < 4).any()
    assert (y.sum((1, 2, 3, 4)) > 0).sum() >= 8
    assert dtype is not None
    assert pooling is not None


def test_what_comes_when_all_is_over_is_not_looked_at():
    x = currents(20, 2, 1, 4, 4)
    x[:2] = 2.0  # all fire at once, and would fire a second time at the next step
    x[10:] = math.nan
    rule = {"surrogate": Arctan(), "credit": "product", "fire_by_end": False}
    y, *gradients = results(as_one, x, values(1, (False, False)), None, rule, F32)
    assert y[0].eq(1).all()
    assert y[1:].eq(0).all()
    assert not any(gradient.isnan().any() for gradient in gradients)


@variants
def test_the_number_of_threads_changes_nothing(monkeypatch, dtype, surrogate, credit, pooling):
    monkeypatch.setattr(threads, "_WORTH_A_THREAD", 100)
    rule = {"surrogate": surrogate, "credit": credit, "fire_by_end": True, "pooling": pooling}
    given = currents(9, 7, 3, 8, 6), values(3, (True, False)), None, rule, F32 if dtype == BF16 else dtype
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = results(as_one, *given)
        for count in (2, 3, 7):
            torch.set_num_threads(count)
            assert all(torch.equal(*pair) for pair in zip(results(as_one, *given), expected, strict=True))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("hold", [None, 4])
def test_every_number_is_written(monkeypatch, hold):
    monkeypatch.setattr(memory, "empty", lambda shape, dtype: torch.full(shape, math.nan, dtype=dtype))
    x = currents(1 if hold else 12, 3, 2, 4, 6)
    x[:, 0] = 9.0  # a sample of which all is over early
    for pooling in ("average", "maximum"):
        rule = {"surrogate": Arctan(), "credit": "product", "fire_by_end": False, "pooling": pooling}
        assert not any(each.isnan().any() for each in results(as_one, x, values(2, (True, True)), hold, rule, F32))


def test_a_gradient_that_nobody_wants_is_not_computed():
    x, (decay, threshold) = currents(4, 2, 1, 4, 4).float().requires_grad_(), values(1, (False, False))
    threshold.requires_grad_()
    rule = {"surrogate": Arctan(), "credit": "product", "fire_by_end": False}
    as_one(x, decay, threshold, None, rule).sum().backward()
    assert threshold.grad is not None
    assert decay.grad is None


class TestWhoComputes:
    RULE = ("product", False, Arctan())

    def one(self, x, decay=0.5, threshold=1.0, surrogate=None):
        decay, threshold = torch.as_tensor(decay), torch.as_tensor(threshold)
        rule = "product", False, surrogate or Arctan(), "average"
        return in_one(x, len(x), decay, threshold, *rule) is not None

    def test_the_kernels(self):
        assert self.one(torch.zeros(3, 2, 4, 6, 8))
        assert self.one(torch.zeros(3, 2, 4, 6, 8), torch.full((4, 1, 1), 0.5), torch.ones(4, 1, 1))

    @pytest.mark.parametrize(
        "shape", [(3, 2, 4, 5, 8), (3, 2, 4, 6, 7), (3, 2, 4, 8), (3, 2, 4, 6, 8, 2), (3, 0, 4, 6, 8)]
    )
    def test_not_of_odd_sizes_or_other_axes(self, shape):
        assert not self.one(torch.zeros(shape))

    def test_not_of_values_of_single_neurons(self):
        assert not self.one(torch.zeros(3, 2, 4, 6, 8), torch.full((6, 8), 0.5))

    def test_not_of_surrogates_that_kernels_do_not_know(self):
        assert not self.one(torch.zeros(3, 2, 4, 6, 8), surrogate=QPseudoSpike(3.0))

    def test_not_of_little_work(self, monkeypatch):
        monkeypatch.undo()
        assert not self.one(torch.zeros(3, 2, 4, 6, 8))
        assert self.one(torch.zeros(4, 16, 8, 16, 16))

    def test_not_in_float16_nor_without_kernels(self):
        assert not self.one(torch.zeros(3, 2, 4, 6, 8, dtype=torch.float16))
        with computed_by("reference"):
            assert not self.one(torch.zeros(3, 2, 4, 6, 8))


@pytest.mark.parametrize("pooling", ["average", "maximum"])
@pytest.mark.parametrize("hold", [None, 6])
@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_either_way_the_operation_is_the_same(hold, size, pooling):
    """Of odd sizes the last row and column belong to no window; there it is computed one by one."""
    x = currents(1 if hold else 6, 2, 3, *size).float()
    how = {"surrogate": Arctan(), "fire_by_end": True, "pooling": pooling}
    spikes = pooled_single_spike(x, 0.5, torch.full((3, 1, 1), 0.75), hold=hold, **how)
    rule = {**how, "credit": "product"}
    assert torch.equal(spikes, composed(x, torch.tensor(0.5), torch.tensor(0.75), hold, rule))


def test_no_second_derivative():
    x = currents(3, 1, 1, 4, 4).float().requires_grad_()
    y = pooled_single_spike(x, 0.5, 1.0)
    with pytest.raises(RuntimeError, match="first derivatives"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


def test_refused(as_a_user: None):
    with pytest.raises(ValueError, match="hold must be at least 1 and x have one step, got 4 and 3 steps"):
        pooled_single_spike(torch.zeros(3, 2, 1, 4, 4), 0.5, hold=4)
    with pytest.raises(ValueError, match="pooling must be 'average' or 'maximum', got 'sum'"):
        pooled_single_spike(torch.zeros(3, 2, 1, 4, 4), 0.5, pooling="sum")
    with pytest.raises(ValueError, match="got 0 and 1 steps"):
        pooled_single_spike(torch.zeros(1, 2, 1, 4, 4), 0.5, hold=0)
