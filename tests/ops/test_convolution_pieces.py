"""Convolutions in pieces are those of the whole."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import rheobase as rb
from rheobase.ops import kernels, memory
from rheobase.ops.convolution import pieces as op


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that was not written shows."""
    monkeypatch.setattr(memory, "empty", lambda shape, dtype: torch.full(shape, torch.nan, dtype=dtype))


@settings(max_examples=30)
@given(
    st.integers(1, 3),
    st.integers(1, 7),
    st.integers(1, 9),
    st.integers(1, 2),
    st.integers(1, 2),
    st.integers(0, 1),
    st.integers(1, 2),
    st.booleans(),
    st.tuples(st.booleans(), st.booleans()),
)
def test_pieces_are_the_whole(axes, samples, images, groups, stride, padding, dilation, bias, wanted):
    generator = torch.Generator().manual_seed(samples)
    tensors = [
        torch.randn(samples, 2 * groups, *[6] * axes, generator=generator).requires_grad_(wanted[0]),
        torch.randn(4 * groups, 2, *[3] * axes, generator=generator).requires_grad_(wanted[1]),
        torch.randn(4 * groups, generator=generator).requires_grad_() if bias else None,
    ]
    options = [(stride,) * axes, (padding,) * axes, (dilation,) * axes, groups]
    whole = (F.conv1d, F.conv2d, F.conv3d)[axes - 1](*tensors, *options)
    ours = op.convolution(*tensors, *options, images)
    torch.testing.assert_close(ours, whole)
    leaves = [tensor for tensor in tensors if tensor is not None and tensor.requires_grad]
    if leaves:
        on_y = torch.randn(whole.shape, generator=generator)
        for got, expected in zip(
            torch.autograd.grad(ours, leaves, on_y), torch.autograd.grad(whole, leaves, on_y), strict=True
        ):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_only_what_is_large_is_taken_apart():
    x, weight = torch.zeros(16, 3, 32, 32), torch.zeros(128, 3, 3, 3)  # 128 * 32 * 32 * 4 bytes an image: 8 MiB in all
    assert op.pieces(x, weight, None, (1, 1)) == 4
    assert op.pieces(x, weight, None, (2, 2)) is None
    assert op.pieces(x[:15], weight, None, (1, 1)) is None
    assert op.pieces(x[:0], weight, None, (1, 1)) is None
    assert op.pieces(x[0], weight, None, (1, 1)) is None
    assert op.pieces(x.double(), weight.double(), None, (1, 1)) is None
    assert op.pieces(x.to("meta"), weight.to("meta"), None, (1, 1)) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert op.pieces(x, weight, None, (1, 1)) is None


def test_an_image_larger_than_a_piece():
    assert op.pieces(torch.zeros(2, 1, 2048, 2048), torch.zeros(1, 1, 3, 3), None, (1, 1)) == 1


def test_without_kernels_it_is_pytorch(monkeypatch):
    monkeypatch.setattr(kernels, "why_not", lambda device: "off")
    assert op.pieces(torch.zeros(64, 3, 32, 32), torch.zeros(128, 3, 3, 3), None, (1, 1)) is None


def test_a_second_derivative_is_refused():
    x, weight = torch.ones(4, 1, 5, requires_grad=True), torch.ones(1, 1, 3, requires_grad=True)
    y = op.convolution(x, weight, None, (1,), (1,), (1,), 1, 2)
    with pytest.raises(RuntimeError, match="second one"):
        torch.autograd.grad(y.square().sum(), x, create_graph=True)


def test_a_layer_behind_it_may_write_in_place():
    network = rb.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(inplace=True), rb.LIF(32))
    x = torch.rand(16, 8, 1, 32, 32)
    assert op.pieces(x.flatten(0, 1), network[0].weight, None, (1, 1)) is not None
    network(x).sum().backward()
    assert network[0].weight.grad.any()
