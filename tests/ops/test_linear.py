"""Spike lists against PyTorch's dense product: outputs, gradients, and who computes when."""

import gc
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from rheobase.ops import kernels, memory
from rheobase.ops import linear as linear_public
from rheobase.ops.linear import LIMIT, linear

build = pytest.importorskip("rheobase.ops.linear.lists").build
DTYPES = (torch.float32, torch.float64)


@pytest.fixture
def poisoned(monkeypatch):
    """Memory that is full of NaN, and of numbers that are no index, so that what is not written shows."""

    def empty(shape, dtype):
        return torch.full(shape, float("nan") if dtype.is_floating_point else 1 << 30, dtype=dtype)

    monkeypatch.setattr(memory, "empty", empty)


def spikes(*shape, density=0.1, dtype=torch.float32, kind="spikes", seed=0):
    """Mostly zeros: ones, counts, or any numbers among them."""
    generator = torch.Generator().manual_seed(seed)
    active = torch.rand(shape, generator=generator) < density
    if kind == "counts":
        values = torch.randint(1, 5, shape, generator=generator)
    else:
        values = torch.randn(shape, generator=generator) if kind == "numbers" else torch.ones(shape)
    return (active * values).to(dtype)


def parameters(inputs, outputs, *, bias=True, dtype=torch.float32, seed=1):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator, dtype=dtype).requires_grad_()
    return weight, torch.randn(outputs, generator=generator, dtype=dtype).requires_grad_() if bias else None


def results(function, x, weight, bias):
    """The output, and the gradients of x, weight and bias for a fixed gradient of the output."""
    x = x.detach().requires_grad_()
    y = function(x, weight, bias)
    on_y = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    wanted = (x, weight) if bias is None else (x, weight, bias)
    return y.detach(), *torch.autograd.grad(y, wanted, on_y)


def lists(x, weight, bias):
    return linear(x, weight, bias, path="lists")


def assert_close(ours, theirs, terms):
    """Equal up to rounding: sums of `terms` numbers of about 1, in another order."""
    for name, mine, other in zip(("y", "x", "weight", "bias"), ours, theirs, strict=False):
        assert mine.shape == other.shape
        assert mine.dtype == other.dtype
        tolerance = 8 * (terms + 1) ** 0.5 * torch.finfo(mine.dtype).eps
        torch.testing.assert_close(
            mine, other, rtol=tolerance, atol=4 * tolerance, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.usefixtures("poisoned")
class TestAgreement:
    @settings(max_examples=60)
    @given(
        rows=st.sampled_from([0, 1, 2, 63, 64, 65, 511, 512, 513, 1100]),
        inputs=st.sampled_from([0, 1, 2, 5, 31, 63, 64, 65, 100, 127, 128, 200]),
        outputs=st.sampled_from([0, 1, 2, 7, 8, 16, 20, 33, 64, 100, 128, 129, 130, 300]),
        density=st.sampled_from([0.0, 0.01, 0.1, 0.3, 1.0]),
        kind=st.sampled_from(["spikes", "counts", "numbers"]),
        dtype=st.sampled_from(DTYPES),
        bias=st.booleans(),
        seed=st.integers(0, 1000),
    )
    @example(4100, 65, 130, 0.1, "spikes", torch.float32, True, 0)
    @example(4100, 65, 130, 0.1, "numbers", torch.float64, True, 0)
    def test_outputs_and_gradients(self, rows, inputs, outputs, density, kind, dtype, bias, seed):
        x = spikes(rows, inputs, density=density, dtype=dtype, kind=kind, seed=seed)
        arguments = (x, *parameters(inputs, outputs, bias=bias, dtype=dtype, seed=seed))
        assert_close(results(lists, *arguments), results(F.linear, *arguments), terms=max(rows, inputs, outputs))

    @pytest.mark.parametrize("shape", [(30,), (1, 30), (7, 30), (4, 3, 30), (2, 0, 30), (2, 3, 5, 30)])
    def test_any_number_of_axes(self, shape):
        arguments = (spikes(*shape), *parameters(30, 17))
        assert_close(results(lists, *arguments), results(F.linear, *arguments), terms=30)

    @pytest.mark.parametrize(
        "layout",
        [
            lambda x: x.transpose(0, 1),
            lambda x: x[:1].expand(6, -1, -1),
            lambda x: x[..., :1].expand(-1, -1, 40),
            lambda x: x[:, ::2],
            lambda x: x.flip(-1).movedim(-1, 0).movedim(0, -1),
            lambda x: torch.stack((x, x), -1)[..., 1],
        ],
        ids=["transposed", "expanded", "expanded inputs", "every other", "moved", "strided"],
    )
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_layouts(self, layout, dtype):
        arguments = (layout(spikes(6, 9, 40, dtype=dtype)), *parameters(40, 50, dtype=dtype))
        assert_close(results(lists, *arguments), results(F.linear, *arguments), terms=40)

    def test_parameters_and_gradients_in_any_layout(self):
        x, (weight, bias) = spikes(50, 40), parameters(40, 70)
        weight = weight.detach().t().contiguous().t().requires_grad_()
        bias = bias.detach().expand(2, 70).t().contiguous()[:, 0].requires_grad_()
        for on_y in (torch.randn(70, 50).t(), torch.ones(1, 1).expand(50, 70)):
            ours = torch.autograd.grad(lists(x, weight, bias), (weight, bias), on_y)
            assert_close(ours, torch.autograd.grad(F.linear(x, weight, bias), (weight, bias), on_y), terms=50)

    def test_sums_of_small_whole_numbers_are_exact(self):
        x = spikes(1500, 90, density=0.2, kind="counts")
        weight, bias = (value.detach().mul(4).round().requires_grad_() for value in parameters(90, 150))
        on_y = torch.randint(-8, 9, (1500, 150)).float()
        ours, theirs = lists(x, weight, bias), F.linear(x, weight, bias)
        assert torch.equal(ours, theirs)
        for mine, other in zip(*(torch.autograd.grad(y, (weight, bias), on_y) for y in (ours, theirs)), strict=True):
            assert torch.equal(mine, other)


class TestLists:
    @settings(max_examples=60)
    @given(
        rows=st.integers(0, 130),
        inputs=st.integers(0, 200),
        density=st.floats(0, 1),
        kind=st.sampled_from(["spikes", "counts", "numbers"]),
        dtype=st.sampled_from(DTYPES),
        seed=st.integers(0, 1000),
    )
    def test_they_are_the_spikes(self, rows, inputs, density, kind, dtype, seed):
        x = spikes(rows, inputs, density=density, kind=kind, dtype=dtype, seed=seed)
        built = build(x, 1.0)
        row, index = x.nonzero(as_tuple=True)
        assert torch.equal(built.index.long(), index)
        assert torch.equal(built.start.diff(), torch.bincount(row, minlength=rows))
        assert built.start[0] == 0
        values = x[row, index]
        if bool((values == 1).all()):
            assert built.value is None  # nothing to remember of plain spikes
        else:
            assert torch.equal(built.value, values)

    @pytest.mark.parametrize("inputs", [1, 63, 64, 65, 130])
    def test_every_number_but_zero_is_an_entry(self, inputs):
        tiny, huge = torch.finfo(torch.float32).smallest_normal / 8, torch.finfo(torch.float32).max
        for number in (tiny, -tiny, huge, 1.0, -1.0, float("inf"), -float("inf"), float("nan")):
            for place in {0, inputs // 2, inputs - 1}:
                x = torch.zeros(3, inputs)
                x[1, place] = number
                built = build(x, 1.0)
                assert built.start.tolist() == [0, 0, 1, 1]
                assert built.index.tolist() == [place]
                value = torch.ones(1) if built.value is None else built.value
                assert torch.equal(value, torch.tensor([number])) or (number != number and bool(value.isnan()))

    def test_minus_zero_is_zero(self):
        assert len(build(torch.full((70, 70), -0.0), 1.0).index) == 0
        assert len(build(torch.full((70, 7), -0.0), 1.0).index) == 0

    def test_the_limit_is_the_largest_density(self):
        x = torch.zeros(100, 64)
        x[:, :16] = 1
        assert build(x, 0.25) is not None
        x[3, 20] = 1
        assert build(x, 0.25) is None
        assert build(torch.ones(100, 64), 0.25) is None
        assert build(torch.ones(100, 64), 1.0) is not None

    def test_a_sample_that_misleads_is_no_error(self):
        sampled = torch.zeros(704, 64)
        sampled[::11] = 1  # every row that is looked at first
        assert build(sampled, 0.25) is None
        assert len(build(sampled, 0.7).index) == 64 * 64
        assert build(1 - sampled, 0.25) is None  # none of them


class TestListsOfFewInputs:
    """Below 64 inputs, all rows are one row of bits, and words of 64 bits begin and end within rows."""

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("inputs", range(1, 65))
    @pytest.mark.usefixtures("poisoned")
    def test_they_are_those_of_wide_rows(self, inputs, dtype):
        for rows in (1, 2, 63, 64, 65, 130):  # in all, multiples of 64 and others
            for kind, density in (("spikes", 0.2), ("numbers", 0.2), ("spikes", 1.0), ("spikes", 0.0)):
                x = spikes(rows, inputs, density=density, kind=kind, dtype=dtype, seed=rows)
                x[-1, -1] = 1 + (kind == "numbers")  # the very last bit
                wide = torch.zeros(rows, 64, dtype=dtype)
                wide[:, :inputs] = x
                narrow, wide = build(x, 1.0), build(wide, 1.0)
                assert narrow.inputs == inputs
                assert torch.equal(narrow.start, wide.start)
                assert torch.equal(narrow.index, wide.index)
                assert (narrow.value is None) == (wide.value is None)
                assert narrow.value is None or torch.equal(narrow.value, wide.value)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0, 0.5])
    def test_a_number_anywhere_is_an_entry(self, number, dtype):
        inputs = 3
        for place in range(45 * inputs):  # two words and a part of one
            x = torch.full((45, inputs), -0.0, dtype=dtype)
            x.view(-1)[place] = number
            built = build(x, 1.0)
            assert built.index.tolist() == [place % inputs]
            assert built.start.tolist() == [0] * (place // inputs + 1) + [1] * (45 - place // inputs)
            assert built.value.dtype == dtype
            assert torch.equal(built.value.isnan(), torch.tensor([number != number]))
            assert number != number or built.value.item() == number

    @pytest.mark.parametrize(("rows", "inputs"), [(0, 5), (7, 0), (0, 0), (7, 5)])
    def test_of_nothing(self, rows, inputs):
        built = build(torch.zeros(rows, inputs), 0.0)
        assert built.start.tolist() == [0] * (rows + 1)
        assert len(built.index) == 0
        assert built.value is None
        assert built.inputs == inputs

    @pytest.mark.parametrize(("rows", "inputs"), [(100, 4), (50, 63)])
    def test_the_limit_is_the_largest_density(self, rows, inputs):
        x = torch.zeros(rows * inputs)
        x[:: rows * inputs // 50] = 1
        count = int(x.sum())
        for wanted, limit in ((True, count / len(x)), (False, (count - 1) / len(x)), (False, 0.0), (True, 1.0)):
            assert (build(x.view(rows, inputs), limit) is not None) is wanted

    def test_a_product_of_many_rows(self):
        for inputs in (1, 5, 63):
            arguments = spikes(700, inputs, density=0.3, kind="numbers"), *parameters(inputs, 40)
            assert_close(results(lists, *arguments), results(F.linear, *arguments), terms=700)


class TestNumbersThatAreNotFinite:
    @pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
    def test_in_the_input_they_reach_the_row(self, number):
        x, (weight, bias) = spikes(20, 40), parameters(40, 30)
        x[7, 5] = number
        y = lists(x, weight, bias)
        assert bool(y.isfinite().all(-1)[torch.arange(20) != 7].all())
        assert torch.equal(y[7].isnan(), F.linear(x, weight, bias)[7].isnan())
        assert not bool(y[7].isfinite().any())
        on_weight, on_bias = torch.autograd.grad(y, (weight, bias), torch.ones_like(y))
        assert not bool(on_weight[:, 5].isfinite().any())
        assert bool(on_weight[:, 6:].isfinite().all())
        assert bool(on_bias.isfinite().all())

    @pytest.mark.parametrize("number", [float("nan"), float("inf")])
    def test_in_the_weight_they_act_where_a_spike_meets_them(self, number):
        x, (weight, bias) = torch.zeros(3, 40), parameters(40, 30)
        x[1, 5] = 1
        with torch.no_grad():
            weight[2, 5] = number
        y = lists(x, weight, bias)
        assert y.isfinite().logical_not().nonzero().tolist() == [[1, 2]]

    def test_in_the_gradient_likewise(self):
        x, (weight, bias) = torch.zeros(3, 40), parameters(40, 30)
        x[1, 5] = 1
        on_y = torch.zeros(3, 30)
        on_y[:2, 4] = float("nan")
        on_weight, on_bias = torch.autograd.grad(lists(x, weight, bias), (weight, bias), on_y)
        assert on_weight.isnan().nonzero().tolist() == [[4, 5]]
        assert on_bias.isnan().nonzero().tolist() == [[4]]


class TestGradients:
    def arguments(self):
        return spikes(40, 30, 50, density=0.05), *parameters(50, 70)

    def test_a_layer_used_twice_and_gradients_taken_twice(self):
        x, weight, bias = self.arguments()
        gradients = {}
        for function in (lists, F.linear):
            weight.grad = bias.grad = None
            loss = function(x, weight, bias).square().mean() + function(x.flip(0), weight, bias).sigmoid().mean()
            loss.backward(retain_graph=True)
            loss.backward()
            gradients[function] = weight.grad, bias.grad
        assert_close(gradients[lists], gradients[F.linear], terms=1200)

    @pytest.mark.parametrize("wanted", ["x", "weight", "bias", "x weight", "x bias", "weight bias", ""])
    def test_only_what_is_wanted(self, wanted):
        x, weight, bias = (value.detach() for value in self.arguments())
        tensors = {"x": x, "weight": weight, "bias": bias}
        for name in wanted.split():
            tensors[name].requires_grad_()
        on_y, gradients = torch.randn(40, 30, 70), []
        for function in (lists, F.linear):
            y = function(**tensors)
            assert y.requires_grad == bool(wanted)
            of = [tensors[name] for name in wanted.split()]
            gradients.append(torch.autograd.grad(y, of, on_y) if of else ())
        assert_close(*gradients, terms=1200)

    def test_nothing_is_kept_without_gradients(self):
        x, weight, bias = self.arguments()
        with torch.no_grad():
            assert not lists(x, weight, bias).requires_grad
        with torch.inference_mode():
            assert torch.equal(lists(x, weight, bias), lists(x, weight, bias))

    @pytest.mark.parametrize("kind", ["spikes", "counts"])
    @pytest.mark.parametrize("of_x", [False, True])
    def test_what_is_kept_is_the_list(self, kind, of_x):
        x, (weight, bias) = spikes(1000, 200, density=0.03, kind=kind), parameters(200, 70)
        x.requires_grad_(of_x)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
        ):
            lists(x, weight, bias)
        entries, nbytes = int(x.count_nonzero()), sum(tensor.nbytes for tensor in kept)
        assert nbytes == 8 * 1001 + entries * (4 if kind == "spikes" else 8) + of_x * weight.nbytes

    def test_the_dense_spikes_are_free_to_go(self):
        memory_of_x = spikes(1000, 200, density=0.03).numpy()
        freed = weakref.ref(memory_of_x)
        y = lists(torch.from_numpy(memory_of_x), *parameters(200, 70))
        del memory_of_x
        gc.collect()
        assert freed() is None
        y.sum().backward()

    def test_the_output_may_be_changed_in_place(self):
        x, weight, bias = self.arguments()
        gradients = []
        for function in (lists, F.linear):
            y = F.relu(function(x, weight, bias).mul_(2), inplace=True)
            gradients.append(torch.autograd.grad(y, (weight, bias), torch.ones_like(y)))
        assert_close(*gradients, terms=1200)

    def test_tensors_that_are_to_be_negated(self):
        x, weight, bias = self.arguments()
        numbers = torch.complex(torch.zeros_like(x), x)
        negated = numbers.conj().imag
        assert negated.is_neg()
        assert_close(results(lists, negated, weight, bias), results(F.linear, -x, weight, bias), terms=1200)
        y = lists(x, weight, bias)
        on_y = torch.complex(torch.zeros_like(y), torch.ones_like(y)).conj().imag
        ours = torch.autograd.grad(y, (weight, bias), on_y)
        assert_close(ours, torch.autograd.grad(F.linear(x, weight, bias), (weight, bias), on_y), terms=1200)

    def test_a_weight_that_was_changed_in_between_is_an_error(self):
        x, weight, bias = self.arguments()
        y = lists(x.requires_grad_(), weight, bias)
        with torch.no_grad():
            weight.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()

    def test_no_second_derivative(self):
        x, weight, bias = self.arguments()
        y = lists(x.requires_grad_(), weight, bias).square().sum()
        with pytest.raises(RuntimeError, match="kernels compute first derivatives"):
            torch.autograd.grad(y, x, create_graph=True)

    def test_gradients_by_finite_differences(self):
        x, (weight, bias) = (
            spikes(12, 9, kind="counts", density=0.4, dtype=torch.float64),
            parameters(9, 5, dtype=torch.float64),
        )
        assert torch.autograd.gradcheck(lambda weight, bias: lists(x, weight, bias), (weight, bias))

    def test_checkpointing(self):
        x, weight, bias = self.arguments()
        on_y = torch.randn(40, 30, 70)
        direct = torch.autograd.grad(lists(x, weight, bias), (weight, bias), on_y)
        again = torch.utils.checkpoint.checkpoint(lists, x, weight, bias, use_reentrant=False)
        assert all(map(torch.equal, direct, torch.autograd.grad(again, (weight, bias), on_y)))


class TestThreads:
    @pytest.fixture
    def threads(self):
        before = torch.get_num_threads()
        yield torch.set_num_threads
        torch.set_num_threads(before)

    @pytest.mark.parametrize("kind", ["spikes", "numbers"])
    @pytest.mark.parametrize(("inputs", "outputs"), [(150, 64), (130, 300), (90, 20)])
    def test_their_number_changes_no_bit(self, threads, inputs, outputs, kind):
        x, (weight, bias) = spikes(5000, inputs, density=0.1, kind=kind), parameters(inputs, outputs)
        seen = []
        for count in (1, 2, 3):
            threads(count)
            y = lists(x, weight, bias)
            seen.append((y, *torch.autograd.grad(y, (weight, bias), torch.sin(torch.arange(y.numel())).view_as(y))))
        for other in seen[1:]:
            assert all(map(torch.equal, seen[0], other))

    def test_several_callers_at_once(self):
        x, (weight, bias) = spikes(2000, 100), parameters(100, 80)
        expected, seen = results(lists, x, weight, bias), []
        callers = [threading.Thread(target=lambda: seen.append(results(lists, x, weight, bias))) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert len(seen) == 4
        assert all(torch.equal(mine, other) for result in seen for mine, other in zip(result, expected, strict=True))


class TestChoice:
    """Whole numbers are exact either way, so what tells the paths apart is a weight that is inf where no spike is."""

    def took_lists(self, x, outputs=64, **changes):
        weight = torch.ones(outputs, x.shape[-1], dtype=x.dtype)
        weight[:, 0] = float("inf")
        assert not bool(x[..., 0].any())
        return not bool(linear(x, weight, **changes).isnan().any())

    @pytest.fixture
    def sparse(self):
        x = spikes(40, 30, 200, density=0.05)
        x[..., 0] = 0
        return x

    def test_forced(self, sparse):
        assert self.took_lists(sparse, path="lists")
        assert not self.took_lists(sparse, path="dense")
        assert self.took_lists(torch.zeros(2, 3), path="lists")

    def test_by_density(self, sparse):
        assert self.took_lists(sparse)
        for density, expected in ((0.8 * LIMIT, True), (1.2 * LIMIT, False), (0.9, False)):
            x = spikes(40, 30, 200, density=density)
            x[..., 0] = 0
            assert self.took_lists(x) is expected

    def test_the_limit_is_lower_for_few_outputs(self):
        for density, expected in ((0.05, True), (0.09, False)):
            x = spikes(80, 60, 200, density=density)
            x[..., 0] = 0
            assert self.took_lists(x, outputs=20) is expected

    def test_little_work_is_dense(self, sparse):
        assert not self.took_lists(sparse[:3])  # few rows
        assert not self.took_lists(sparse[:10])
        assert not self.took_lists(sparse.repeat(9, 1, 1), outputs=15)

    def test_in_float64(self, sparse):
        assert self.took_lists(sparse.double())

    def test_in_half_precision_and_under_autocast(self, sparse):
        x, (weight, bias) = sparse, (value.detach() for value in parameters(200, 64))
        for half in (torch.bfloat16, torch.float16):
            assert not self.took_lists(sparse.to(half))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))
            assert linear(x, weight, bias).dtype == torch.bfloat16

    def test_without_kernels(self, sparse, monkeypatch):
        monkeypatch.setattr(kernels, "why_not", lambda device: f"none on {device}")
        assert not self.took_lists(sparse)
        with pytest.raises(ValueError, match="path='lists' is not possible: none on cpu; path='auto'"):
            self.took_lists(sparse, path="lists")

    def test_numba_is_loaded_by_the_first_call_that_needs_it(self):
        code = (
            "import sys, torch, rheobase\n"
            "from rheobase.ops import linear\n"
            "linear(torch.ones(2, 3), torch.ones(4, 3))\n"
            "assert 'numba' not in sys.modules\n"
            "linear(torch.ones(2, 3), torch.ones(4, 3), path='lists')\n"
            "assert 'numba' in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_other_devices(self):
        x, weight = torch.zeros(300, 200, device="meta"), torch.zeros(128, 200, device="meta")
        assert linear(x, weight).shape == (300, 128)
        with pytest.raises(ValueError, match="lists on the CPU alone, x is on meta"):
            linear(x, weight, path="lists")

    # PyTorch's own use of what it deprecates.
    @pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
    def test_transforms(self, sparse):
        weight = torch.randn(64, 200)

        def loss(weight):
            return linear(sparse, weight).sin().sum()

        expected = F.linear(sparse, weight).cos().flatten(0, 1).t() @ sparse.flatten(0, 1)
        torch.testing.assert_close(torch.func.grad(loss)(weight), expected)
        _, tangent = torch.func.jvp(loss, (weight,), (weight,))
        torch.testing.assert_close(tangent, (expected * weight).sum(), rtol=1e-4, atol=1e-2)
        batched = torch.vmap(lambda x: linear(x, weight))(sparse)
        torch.testing.assert_close(batched, F.linear(sparse, weight))
        # Of something else: a product that takes no part in a transform is within it all the same.
        learned = weight.clone().requires_grad_()
        of_factor = torch.func.grad(lambda factor: (factor * linear(sparse, learned)).sum())(torch.ones(()))
        torch.testing.assert_close(of_factor, F.linear(sparse, weight).sum(), rtol=1e-4, atol=1e-2)
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(weight, weight)
            dual = torch.autograd.forward_ad.unpack_dual(linear(sparse, dual))
        torch.testing.assert_close(dual.tangent, F.linear(sparse, weight))

    def test_the_public_name(self):
        assert linear_public is linear


@pytest.mark.usefixtures("as_a_user")
class TestErrors:
    def test_an_unknown_path(self):
        with pytest.raises(ValueError, match="path must be one of 'auto', 'lists', 'dense', got 'sparse'"):
            linear(torch.ones(2, 3), torch.ones(4, 3), path="sparse")

    @pytest.mark.parametrize("path", ["auto", "dense"])
    def test_what_does_not_fit_is_refused_by_pytorch(self, path):
        for x in (
            torch.ones(300, 200, 3),
            torch.ones(300, 200, 4, dtype=torch.float64),
            torch.ones(2, 4, dtype=torch.int64),
        ):
            with pytest.raises(RuntimeError, match=r"shapes cannot be multiplied|same dtype|type"):
                linear(x, torch.ones(128, 4), path=path)

    def test_lists_say_what_does_not_fit(self):
        with pytest.raises(ValueError, match=r"x of shape \(2, 3\) does not fit a weight of shape \(5, 4\)"):
            linear(torch.ones(2, 3), torch.ones(5, 4), path="lists")
        with pytest.raises(ValueError, match=r"a bias of shape \(1,\) does not fit a weight of shape \(5, 3\)"):
            linear(torch.ones(2, 3), torch.ones(5, 3), torch.ones(1), path="lists")
        with pytest.raises(ValueError, match=r"float32 and float64, x is torch.bfloat16, weight torch.float32"):
            linear(torch.ones(2, 4, dtype=torch.bfloat16), torch.ones(5, 4), path="lists")


class TestCompiled:
    def test_the_operators(self):
        x, (weight, bias) = spikes(30, 40, kind="counts"), parameters(40, 20)
        for arguments in ((x, weight, bias, 1.0), (x, weight, None, 0.5), (x.requires_grad_(), weight, bias, 0.0)):
            torch.library.opcheck(torch.ops.rheobase.linear.default, arguments)
        torch.library.opcheck(torch.ops.rheobase.linear_backward.default, (x.detach(), torch.randn(30, 20), 1.0))

    @pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
    @pytest.mark.parametrize("density", [0.05, 0.8])
    @pytest.mark.usefixtures("as_a_user")
    def test_torch_compile_takes_it_whole(self, density):
        x, (weight, bias) = spikes(40, 30, 200, density=density), parameters(200, 64)
        compiled = torch.compile(linear, backend="aot_eager", fullgraph=True)
        ours, theirs = (results(function, x, weight, bias) for function in (compiled, linear))
        assert_close(ours, theirs, terms=1200)
        assert torch.equal(ours[0], theirs[0])


def test_repeated_steps_leave_memory_flat():
    x, (weight, bias) = spikes(500, 100), parameters(100, 64)
    counts = []
    for step in range(120):
        lists(x, weight, bias).sum().backward()
        if step in (20, 119):
            gc.collect()
            counts.append(sum(type(thing) in (torch.Tensor, np.ndarray) for thing in gc.get_objects()))
    assert counts[1] <= counts[0]
