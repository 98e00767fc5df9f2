"""Products of dense matrices are PyTorch's, whoever computes them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from rheobase import environment
from rheobase.ops import dense, memory


@pytest.fixture(autouse=True)
def onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN on every processor, from the smallest product on, in small pieces; memory that was not written shows."""
    monkeypatch.setattr(dense, "_why_not", lambda: None)
    monkeypatch.setattr(dense, "_LEAST_WORK", 1)
    monkeypatch.setattr(dense, "_PIECE", 64)
    monkeypatch.setattr(dense, "_LONG", 5)
    monkeypatch.setattr(memory, "empty", lambda shape, dtype: torch.full(shape, torch.nan, dtype=dtype))


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


sizes = st.sampled_from([0, 1, 2, 7, 9, 33])


@settings(max_examples=60)
@given(sizes, sizes, sizes, st.booleans(), st.sampled_from([torch.float32, torch.float64]), st.integers(0, 6))
def test_a_layer_and_its_gradients(rows, inputs, outputs, bias, dtype, wanted):
    leaves = [random(2, rows, inputs, dtype=dtype), random(outputs, inputs, seed=1, dtype=dtype)]
    leaves += [random(outputs, seed=2, dtype=dtype)] if bias else []
    for index, leaf in enumerate(leaves):
        leaf.requires_grad_(index != wanted)
    ours, theirs = dense.linear(*leaves), F.linear(*leaves)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    learned = [leaf for leaf in leaves if leaf.requires_grad]
    on_y = random(*theirs.shape, seed=3, dtype=dtype)
    for got, expected in zip(
        torch.autograd.grad(ours, learned, on_y), torch.autograd.grad(theirs, learned, on_y), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=40)
@given(sizes, sizes, sizes, st.booleans(), st.booleans())
def test_a_product_of_matrices_however_they_lie(rows, inner, columns, flip_a, flip_b):
    a = random(inner, rows).t() if flip_a else random(rows, inner)
    b = random(columns, inner, seed=1).t() if flip_b else random(inner, columns, seed=1)
    expected = (a.double() @ b.double()).float()
    torch.testing.assert_close(dense.product(a, b), expected, rtol=1e-5, atol=1e-5)
    leaves = [a.clone().requires_grad_(), b.clone().requires_grad_()]
    on_y = random(columns, rows, seed=3).t()
    for ours, theirs in zip(
        torch.autograd.grad(dense.product(*leaves), leaves, on_y),
        torch.autograd.grad(leaves[0] @ leaves[1], leaves, on_y),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    base = random(rows, columns, seed=2)
    dense.add_product(base, a, b, out=base)
    torch.testing.assert_close(base, expected + random(rows, columns, seed=2), rtol=1e-5, atol=1e-5)


def test_views_of_a_larger_tensor():
    x, weight = random(9, 6, 8)[::2, 1:, 3:], random(12, 7)[3:, 1:6]
    torch.testing.assert_close(dense.linear(x, weight), F.linear(x, weight))


def test_second_derivatives_are_plain_pytorchs():
    x, weight, bias = (
        random(7, 9).requires_grad_(),
        random(9, 9, seed=1).requires_grad_(),
        random(9, seed=2).requires_grad_(),
    )

    def penalty(layer):
        (on_x,) = torch.autograd.grad(layer(x, weight, bias).square().sum(), x, create_graph=True)
        return torch.autograd.grad(on_x.square().sum(), (x, weight, bias))

    for got, expected in zip(penalty(dense.linear), penalty(F.linear), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-3)


def test_second_derivatives_of_a_product():
    a, b = random(4, 3).requires_grad_(), random(3, 5, seed=1).requires_grad_()
    on_y = random(4, 5, seed=2)

    def penalty(multiply):
        on_a, on_b = torch.autograd.grad(multiply(a, b).tanh(), (a, b), on_y, create_graph=True)
        return torch.autograd.grad(on_a.square().sum() + on_b.square().sum(), (a, b))

    for got, expected in zip(penalty(dense.product), penalty(torch.matmul), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("inputs", [3, 9])
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_transforms_of_functions_go_through(inputs):
    x, weight = random(7, inputs), random(5, inputs, seed=1)
    torch.testing.assert_close(torch.func.vmap(dense.linear, (0, None))(x, weight), F.linear(x, weight))
    stack = random(2, 9, inputs, seed=3)
    torch.testing.assert_close(torch.func.vmap(dense.product, (0, None))(stack, weight.t()), stack @ weight.t())
    tangent = random(7, inputs, seed=2)
    _, got = torch.func.jvp(lambda x: dense.linear(x, weight), (x,), (tangent,))
    torch.testing.assert_close(got, F.linear(tangent, weight))


def test_autocast_decides_about_a_layer_and_not_about_a_product():
    x, weight = random(7, 9), random(5, 9, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert dense.linear(x, weight).dtype == torch.bfloat16
        assert dense.product(x, weight.t()).dtype == torch.float32


def test_other_types_and_devices_are_pytorchs():
    x, weight = random(7, 9), random(5, 9, seed=1)
    for convert in (torch.Tensor.bfloat16, lambda tensor: tensor.to("meta")):
        y = dense.linear(convert(x), convert(weight))
        assert (y.shape, y.dtype, y.device) == ((7, 5), convert(x).dtype, convert(x).device)
        assert dense.product(convert(x), convert(weight).t()).shape == (7, 5)


def test_shapes_that_do_not_fit_are_pytorchs_to_refuse():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        dense.linear(random(7, 9), random(5, 8))


def test_it_can_be_compiled():
    x, weight = random(7, 9), random(5, 9, seed=1)
    compiled = torch.compile(dense.linear, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, weight), F.linear(x, weight))


class TestWhoComputes:
    @pytest.fixture(autouse=True)
    def counted(self, monkeypatch):
        """How often oneDNN is asked."""
        self.calls = 0
        multiply = dense._multiply

        def count(*arguments):
            self.calls += 1
            return multiply(*arguments)

        monkeypatch.setattr(dense, "_multiply", count)

    def test_large_products_are_onednns(self, monkeypatch):
        monkeypatch.setattr(dense, "_LEAST_WORK", 7 * 9 * 5)
        dense.linear(random(6, 9), random(5, 9))
        assert self.calls == 0
        dense.linear(random(7, 9), random(5, 9))
        assert self.calls > 0

    def test_double_precision_is_pytorchs(self):
        dense.linear(random(7, 9, dtype=torch.float64), random(5, 9, dtype=torch.float64))
        assert self.calls == 0

    def test_who_switches_it_off_gets_none_of_it(self):
        assert environment.describe()["dense products on the CPU"] == "large ones by oneDNN"
        before = torch.backends.mkldnn.set_flags(_enabled=False)
        try:
            dense.linear(random(7, 9), random(5, 9))
            dense.product(random(7, 9), random(9, 5))
            words = environment.describe()["dense products on the CPU"]
        finally:
            torch.backends.mkldnn.set_flags(_enabled=before[0])
        assert words == "PyTorch's own, not by oneDNN: it is switched off"
        assert self.calls == 0


class TestProcessors:
    @pytest.fixture
    def why_not(self, monkeypatch):
        monkeypatch.undo()  # of what was patched for all tests of this module
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
        return lambda maker: monkeypatch.setattr(dense, "_maker", lambda: maker) or dense._why_not.__wrapped__()

    def test_the_library_of_its_maker_is_as_fast(self, why_not):
        if not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()):
            assert why_not("AuthenticAMD") is not None
            return
        assert "of its maker" in why_not("vendor_id : GenuineIntel")
        assert why_not("vendor_id : AuthenticAMD") is None

    def test_without_long_vectors_there_is_nothing_to_gain(self, why_not, monkeypatch):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
        assert "512 bits" in why_not("AuthenticAMD")
