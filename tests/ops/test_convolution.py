"""Convolutions by spike lists: PyTorch's, output and all gradients; and when they are taken."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from rheobase.ops import memory
from rheobase.ops.convolution import convolution, fused

geometry_module = pytest.importorskip("rheobase.ops.convolution.geometry")
cpu = pytest.importorskip("rheobase.ops.convolution.cpu")


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that was not written shows."""
    fill = lambda dtype: torch.nan if dtype.is_floating_point else -1  # noqa: E731
    monkeypatch.setattr(memory, "empty", lambda shape, dtype: torch.full(shape, fill(dtype), dtype=dtype))


@st.composite
def cases(draw):
    """Images, a weight, a bias and the settings of a convolution; and which gradients are wanted."""
    axes = draw(st.integers(1, 2))
    kernel = [draw(st.integers(1, 5)) for _ in range(axes)]
    padding = [draw(st.integers(0, 3)) for _ in range(axes)]
    stride = [draw(st.integers(1, 3)) for _ in range(axes)]
    space = [draw(st.integers(max(1, k - 2 * p), 9)) for k, p in zip(kernel, padding, strict=True)]
    images, channels, outputs = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.sampled_from([1, 3, 16, 20]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    x = (torch.rand(images, channels, *space, generator=generator) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))).to(
        dtype
    )
    if draw(st.booleans()):
        x *= torch.randn(x.shape, generator=generator).to(dtype)
    weight = torch.randn(outputs, channels, *kernel, generator=generator).to(dtype)
    bias = torch.randn(outputs, generator=generator).to(dtype) if draw(st.booleans()) else None
    wanted = [draw(st.booleans()) for _ in range(3)]
    leaves = [
        tensor.requires_grad_() for tensor, w in zip((x, weight, bias), wanted, strict=True) if w and tensor is not None
    ]
    return (x, weight, bias, tuple(stride), tuple(padding), (1,) * axes, 1), leaves


@settings(max_examples=60)
@given(cases())
@pytest.mark.usefixtures("poisoned")
def test_lists_are_the_dense_convolution(case):
    arguments, leaves = case
    whole = (F.conv1d, F.conv2d)[arguments[0].ndim - 3](*arguments)
    ours = convolution(*arguments, path="lists")
    assert ours.is_contiguous()
    torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-4)
    if leaves:
        on_y = torch.randn(whole.shape, generator=torch.Generator().manual_seed(1)).to(whole.dtype)
        got = torch.autograd.grad(ours, leaves, on_y)
        for mine, theirs in zip(got, torch.autograd.grad(whole, leaves, on_y), strict=True):
            assert mine.shape == theirs.shape
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def large(density=0.1, images=40, dtype=torch.float32):
    """Enough work for lists to be taken."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(images, 8, 14, 14, generator=generator) < density).to(dtype)
    weight, bias = torch.randn(32, 8, 3, 3, generator=generator), torch.randn(32, generator=generator)
    return x, weight.to(dtype), bias.to(dtype), (1, 1), (1, 1), (1, 1), 1


@pytest.mark.parametrize("outputs", [16, 40, 272])
def test_outputs_in_blocks(outputs, monkeypatch):
    """Blocks of few outputs, because the sums of all would not stay in the cache; the last one is not full."""
    monkeypatch.setattr(geometry_module, "_TILE", 20_000)
    geometry_module.geometry.cache_clear()
    x = large()[0]
    weight = torch.randn(outputs, 8, 3, 3, requires_grad=True)
    shape = geometry_module.geometry(outputs, (8, 14, 14), (3, 3), (1, 1), (1, 1))
    assert shape.block(4) < max(outputs, 17)
    whole, ours = F.conv2d(x, weight, padding=1), convolution(x, weight, None, (1, 1), (1, 1), (1, 1), 1, path="lists")
    torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-4)
    on_y = torch.randn(whole.shape)
    expected, got = (torch.autograd.grad(y, weight, on_y)[0] for y in (whole, ours))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)
    geometry_module.geometry.cache_clear()


def test_no_result_depends_on_the_number_of_threads():
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        x, weight, bias, *settings = large(images=70)
        weight, bias = weight.requires_grad_(), bias.requires_grad_()
        y = convolution(x, weight, bias, *settings, path="lists")
        found.append([y.detach(), *torch.autograd.grad(y.square().sum(), (weight, bias))])
    torch.set_num_threads(1)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 5, 16, 40]))
def test_packed_weights_come_back(height, width, down, right, outputs):
    shape = geometry_module.geometry(outputs, (3, 9, 9), (height, width), (down, right), (0, 0))
    weight = torch.randn(outputs, 3, height, width)
    assert torch.equal(shape.unpack(shape.pack(weight)), weight)


@pytest.fixture
def by_lists(monkeypatch):
    """What lists were asked for."""
    seen, compute = [], fused.by_lists

    def spied(*arguments):
        y = compute(*arguments)
        seen.append(y is not None)
        return y

    monkeypatch.setattr(fused, "by_lists", spied)
    return seen


def test_auto_takes_lists_of_what_is_mostly_zero(by_lists):
    for density, expected in ((0.1, True), (0.2, True), (0.3, False), (1.0, False)):
        convolution(*large(density))
        assert by_lists == [expected]
        by_lists.clear()


def test_auto_takes_none_where_there_is_little_to_do(by_lists):
    convolution(*large(images=1))
    x, weight, bias, *settings = large()
    convolution(x, weight[:4], bias[:4], *settings)
    convolution(x[:, :7].repeat(2, 1, 1, 1), weight[:, :7], bias, *settings)
    assert by_lists == []


IMPOSSIBLE = {
    "groups and dilation": lambda x, w, b, *rest: (x, w[:, :4], b, *rest[:3], 2),
    "dilation": lambda x, w, b, *rest: (x, w, b, *rest[:2], (2, 2), 1),
    "one and two axes": lambda x, w, b, *rest: (x[..., None], w[..., None], b, *((1, 1, 1),) * 3, 1),
    "does not fit": lambda x, w, b, *rest: (x[:, :3], w, b, *rest),
    "nothing to convolve": lambda x, w, b, *rest: (x[:0], w, b, *rest),
    "float32 and float64": lambda x, w, b, *rest: (x.bfloat16(), w.bfloat16(), b.bfloat16(), *rest),
}


@pytest.mark.parametrize("reason", IMPOSSIBLE)
def test_where_there_can_be_no_lists(reason, by_lists):
    arguments = IMPOSSIBLE[reason](*large())
    with pytest.raises(ValueError, match=f"convolution: path='lists' is not possible: .*{reason}"):
        convolution(*arguments, path="lists")
    whole = F.conv3d if arguments[0].ndim == 5 else F.conv2d
    if reason == "does not fit":
        with pytest.raises(RuntimeError):
            convolution(*arguments)
    else:
        torch.testing.assert_close(convolution(*arguments), whole(*arguments))
    assert by_lists == []


def test_under_autocast_it_is_pytorchs(by_lists):
    with torch.autocast("cpu", torch.bfloat16):
        assert convolution(*large()).dtype == torch.bfloat16
    assert by_lists == []


@pytest.mark.usefixtures("as_a_user")
def test_an_unknown_path():
    with pytest.raises(ValueError, match="path must be one of"):
        convolution(*large(), path="sparse")


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_what_is_not_finite_is_left_to_pytorch(stride, by_lists):
    x, weight, bias, _, *settings = large(images=200)
    x[3, 0, 5, 5] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        convolution(x, weight, bias, (stride, stride), *settings, path="lists")
    y, expected = convolution(x, weight, bias, (stride, stride), *settings), F.conv2d(x, weight, bias, stride, 1)
    assert torch.equal(y.isnan(), expected.isnan())
    assert by_lists == [False, False][: 1 + (stride < 4)]


def test_strides_and_images_that_lists_are_no_good_for(by_lists, monkeypatch):
    x, weight, bias, _, *settings = large(images=200)
    convolution(x, weight, bias, (1, 5), *settings)
    assert by_lists == []
    monkeypatch.setattr(geometry_module, "_TILE", 1000)
    convolution(x, weight, bias, (1, 1), *settings)
    assert by_lists == [False]


def test_sums_of_many_images_are_exact():
    """Gradients of one sign, as of a mean: added up one by one in float32, they would be off by a per cent."""
    x, weight, bias, *settings = large(0.3, images=6000)
    weight, bias = weight[:8].clone().requires_grad_(), bias[:8].clone().requires_grad_()
    y = convolution(x, weight, bias, *settings, path="lists")
    on_weight, on_bias = torch.autograd.grad(y, (weight, bias), torch.full_like(y, 0.1))
    torch.testing.assert_close(on_bias, torch.full((8,), 0.1 * 6000 * 14 * 14), rtol=1e-5, atol=0)
    centre = x.double().sum((0, 2, 3)) * 0.1
    torch.testing.assert_close(on_weight[:, :, 1, 1], centre.float().expand(8, 8), rtol=1e-4, atol=0)


def test_a_second_derivative_is_refused():
    x, weight, bias, *settings = large(images=2)
    y = convolution(x.requires_grad_(), weight, bias, *settings, path="lists")
    with pytest.raises(RuntimeError, match="second one"):
        torch.autograd.grad(y.square().sum(), x, create_graph=True)


def test_images_that_are_not_contiguous():
    x, *rest = large()
    turned = x.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(convolution(turned, *rest, path="lists"), convolution(x, *rest, path="lists"))


def test_gradients_to_finite_differences():
    x, weight, bias, *settings = large(images=2, dtype=torch.float64)
    x, weight, bias = (
        x[:, :2, :5, :6].contiguous(),
        weight[:3, :2].clone().requires_grad_(),
        bias[:3].clone().requires_grad_(),
    )
    assert torch.autograd.gradcheck(lambda w, b: convolution(x, w, b, *settings, path="lists"), (weight, bias))
