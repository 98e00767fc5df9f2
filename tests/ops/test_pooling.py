"""Pooling is PyTorch's, to the bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from rheobase.ops import kernels, memory, pooling
from rheobase.ops.pooling import average_2x2, maximum_2x2

pytest.importorskip("rheobase.ops.pooling.cpu")


@pytest.fixture(autouse=True)
def small_and_poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels for the smallest of images; memory that was not written shows."""
    monkeypatch.setattr(pooling, "_LEAST", 0)
    fill = lambda dtype: torch.nan if dtype.is_floating_point else 255  # noqa: E731
    monkeypatch.setattr(memory, "empty", lambda shape, dtype: torch.full(shape, fill(dtype), dtype=dtype))


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The images that a kernel saw."""
    seen = []
    average = pooling._cpu().average
    monkeypatch.setattr(pooling._cpu(), "average", lambda x, y: seen.append(x.shape) or average(x, y))
    return seen


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=2),
    st.integers(2, 19),
    st.integers(2, 19),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_it_is_the_average_and_so_are_its_gradients(images, height, width, dtype):
    x = torch.randn(*images, height, width, dtype=dtype).requires_grad_()
    expected = F.avg_pool2d(x, 2) if x.numel() else x.detach()[..., ::2, ::2][..., : height // 2, : width // 2]
    y = average_2x2(x)
    assert torch.equal(y, expected)
    if x.numel():
        on_y = torch.randn_like(y).mT.contiguous().mT
        (got,), (wanted,) = (torch.autograd.grad(each, x, on_y) for each in (y, expected))
        assert torch.equal(got, wanted)


def test_second_derivatives(ours):
    x = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: average_2x2(x).square(), x)
    assert ours


def test_numbers_that_are_none_stay_in_their_window(ours):
    x = torch.ones(1, 4, 4)
    x[0, 0, 0], x[0, 3, 3] = torch.nan, torch.inf
    assert torch.equal(average_2x2(x).isnan(), torch.tensor([[[True, False], [False, False]]]))
    assert average_2x2(x)[0, 1, 1] == torch.inf
    assert len(ours) == 2


def test_any_number_of_threads(ours):
    x = torch.randn(7, 5, 96, 97)
    expected, before = F.avg_pool2d(x, 2), torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            assert torch.equal(average_2x2(x), expected)
    finally:
        torch.set_num_threads(before)
    assert len(ours) == 3


def test_the_result_can_be_changed_in_place(ours):
    x = torch.randn(2, 4, 4, requires_grad=True)
    average_2x2(x).mul_(2).sum().backward()
    torch.testing.assert_close(x.grad, torch.full((2, 4, 4), 0.5))
    assert ours


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        torch.randn(3, 4, 4).half(),
        torch.randn(3, 8, 8)[..., ::2, ::2],
    ],
    ids=["channels last", "half precision", "strided"],
)
def test_what_is_pytorchs(ours, x):
    assert torch.equal(average_2x2(x), F.avg_pool2d(x, 2))
    assert ours == []


def test_mixed_precision_leaves_the_type(ours):
    with torch.autocast("cpu", torch.bfloat16):
        assert average_2x2(torch.randn(3, 4, 4)).dtype == torch.float32
        assert average_2x2(torch.randn(3, 4, 4).bfloat16()).dtype == torch.bfloat16
    assert len(ours) == 2


def test_without_kernels(ours, monkeypatch):
    monkeypatch.setattr(kernels, "_find", lambda _: "it has a cold")
    x = torch.randn(3, 4, 4)
    assert torch.equal(average_2x2(x), F.avg_pool2d(x, 2))
    assert ours == []


def test_what_cannot_be_pooled_is_pytorchs_to_refuse():
    with pytest.raises(RuntimeError):
        average_2x2(torch.randn(2, 1, 4))


def test_compiled_and_mapped(ours):
    x = torch.randn(2, 3, 4, 4)
    compiled = torch.compile(average_2x2, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), F.avg_pool2d(x, 2))
    assert torch.equal(torch.func.vmap(average_2x2)(x), F.avg_pool2d(x, 2))
    assert ours == []


class TestMaximum:
    @settings(max_examples=50)
    @given(
        st.lists(st.integers(1, 5), min_size=1, max_size=2),
        st.integers(2, 19),
        st.integers(2, 19),
        st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
        st.booleans(),
    )
    def test_it_is_the_maximum_and_so_are_its_gradients(self, images, height, width, dtype, spikes):
        x = torch.randn(*images, height, width).to(dtype)
        x = ((x > 0).to(dtype) if spikes else x).requires_grad_()
        y, expected = maximum_2x2(x), F.max_pool2d(x, 2)
        assert torch.equal(y, expected)
        on_y = torch.randn_like(y).mT.contiguous().mT
        (got,), (wanted,) = (torch.autograd.grad(each, x, on_y) for each in (y, expected))
        assert torch.equal(got, wanted)

    def test_numbers_that_are_none(self):
        """A NaN is the maximum, and the gradient is that of the last one, as in PyTorch."""
        x = torch.tensor([torch.nan, -torch.inf, 1.0, torch.inf])[torch.randint(0, 4, (64, 16, 16))].requires_grad_()
        y, expected = maximum_2x2(x), F.max_pool2d(x, 2)
        assert torch.equal(y.isnan(), expected.isnan())
        assert torch.equal(y.nan_to_num(7), expected.nan_to_num(7))
        on_y = torch.randn_like(y)
        (got,), (wanted,) = (torch.autograd.grad(each, x, on_y) for each in (y, expected))
        assert torch.equal(got, wanted)

    def test_second_derivatives(self):
        x = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(lambda x: maximum_2x2(x).square(), x)

    def test_any_number_of_threads(self):
        x, before = torch.randn(7, 5, 96, 97), torch.get_num_threads()
        try:
            for threads in (1, 2, 5):
                torch.set_num_threads(threads)
                assert torch.equal(maximum_2x2(x), F.max_pool2d(x, 2))
        finally:
            torch.set_num_threads(before)
