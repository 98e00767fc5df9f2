"""What a `Sequential` puts in the place of PyTorch's convolutions and pooling, and what it leaves."""

import pytest
import torch
from torch import nn

import rheobase as rb
from rheobase.layers import products
from rheobase.ops.convolution import pieces as op
from rheobase.ops.pooling import average_2x2, maximum_2x2


@pytest.fixture
def pieces(monkeypatch):
    """All convolutions are large; the images of each piece that was asked for."""
    seen, compute = [], op.convolution

    def spied(*arguments):
        seen.append(arguments[-1])
        return compute(*arguments)

    monkeypatch.setattr(op, "LARGE", 0)
    monkeypatch.setattr(op, "_PIECE", 4 * 4 * 36 * 5)  # five images of 4 maps of 6 x 6
    monkeypatch.setattr(op, "convolution", spied)
    return seen


def test_a_convolution_in_a_network(pieces):
    convolution = nn.Conv2d(2, 4, 3, padding=1)
    calls = []
    convolution.register_forward_hook(lambda _layer, _x, y: calls.append(y.shape))
    x = torch.randn(3, 4, 2, 6, 6)
    y = rb.Sequential(convolution)(x)
    assert (pieces, calls) == ([5], [(12, 4, 6, 6)])
    torch.testing.assert_close(y, convolution(x.flatten(0, 1)).unflatten(0, (3, 4)))


@pytest.mark.parametrize(
    ("convolution", "taken"),
    [
        (nn.Conv2d(2, 4, 3, padding="same"), True),
        (nn.Conv2d(2, 4, 3, padding="valid"), True),
        (nn.Conv2d(2, 4, (3, 1), padding="same", dilation=2), True),
        (nn.Conv2d(2, 4, 2, padding="valid"), True),
        (nn.Conv2d(2, 4, 2, padding="same"), False),  # more on one side, which is PyTorch's to do
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel lengths")
def test_padding_in_words(pieces, convolution, taken):
    x = torch.randn(3, 4, 2, 6, 6)
    torch.testing.assert_close(rb.Sequential(convolution)(x), convolution(x.flatten(0, 1)).unflatten(0, (3, 4)))
    assert bool(pieces) == taken


def test_circular_padding(pieces):
    convolution = nn.Conv1d(2, 4, 3, padding=1, padding_mode="circular")
    x = torch.randn(3, 4, 2, 36)
    torch.testing.assert_close(rb.Sequential(convolution)(x), convolution(x.flatten(0, 1)).unflatten(0, (3, 4)))
    assert len(pieces) == 1


def test_channels_that_do_not_fit_are_pytorchs_to_refuse(pieces):
    with pytest.raises(RuntimeError, match="layer 0, Conv2d"):
        rb.Sequential(nn.Conv2d(3, 4, 3))(torch.ones(3, 4, 2, 6, 6))
    assert pieces == []


def test_training_is_that_of_plain_layers(pieces):
    def gradients(network):
        torch.manual_seed(0)
        layer = nn.Conv2d(2, 4, 3, padding=1)
        x = torch.randn(3, 4, 2, 6, 6, requires_grad=True)
        network(layer, x).square().sum().backward()
        return [x.grad, *(parameter.grad for parameter in layer.parameters())]

    ours = gradients(lambda layer, x: rb.Sequential(layer)(x))
    plain = gradients(lambda layer, x: layer(x.flatten(0, 1)))
    assert pieces == [5]
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)


class TestPooling:
    @pytest.fixture(autouse=True)
    def ours(self, monkeypatch):
        """The images that were pooled as windows of 2 x 2."""
        self.seen = []
        monkeypatch.setattr(products, "average_2x2", lambda x: self.seen.append(x.shape) or average_2x2(x))

    @pytest.mark.parametrize("layer", [nn.AvgPool2d(2), nn.AvgPool2d((2, 2), 2), nn.AvgPool2d(2, stride=(2, 2))])
    def test_windows_of_2_by_2(self, layer):
        x = torch.randn(3, 4, 2, 7, 6)
        assert torch.equal(rb.Sequential(layer)(x), layer(x.flatten(0, 1)).unflatten(0, (3, 4)))
        assert self.seen == [(12, 2, 7, 6)]

    @pytest.mark.parametrize(
        "layer",
        [
            nn.AvgPool2d(3),
            nn.AvgPool2d(2, stride=1),
            nn.AvgPool2d((2, 1)),
            nn.AvgPool2d(2, padding=1),
            nn.AvgPool2d(2, ceil_mode=True),
            nn.AvgPool2d(2, divisor_override=3),
        ],
    )
    def test_other_windows_are_pytorchs(self, layer):
        x = torch.randn(3, 4, 2, 7, 6)
        assert torch.equal(rb.Sequential(layer)(x), layer(x.flatten(0, 1)).unflatten(0, (3, 4)))
        assert self.seen == []


class TestMaximum:
    @pytest.fixture(autouse=True)
    def ours(self, monkeypatch):
        """The images of which our kernel took the maximum."""
        self.seen = []
        monkeypatch.setattr(products, "maximum_2x2", lambda x: self.seen.append(x.shape) or maximum_2x2(x))

    @pytest.mark.parametrize("layer", [nn.MaxPool2d(2), nn.MaxPool2d((2, 2), (2, 2)), rb.SpikeMaxPool2d(2)])
    def test_windows_of_2_by_2(self, layer):
        x = torch.randn(3, 4, 2, 7, 6)
        assert torch.equal(rb.Sequential(layer)(x), layer(x.flatten(0, 1)).unflatten(0, (3, 4)))
        assert self.seen == [(12, 2, 7, 6)]

    @pytest.mark.parametrize(
        "layer",
        [
            nn.MaxPool2d(3),
            nn.MaxPool2d(2, stride=1),
            nn.MaxPool2d(2, padding=1),
            nn.MaxPool2d(2, dilation=2),
            nn.MaxPool2d(2, ceil_mode=True),
        ],
    )
    def test_other_windows_are_pytorchs(self, layer):
        x = torch.randn(3, 4, 2, 7, 6)
        assert torch.equal(rb.Sequential(layer)(x), layer(x.flatten(0, 1)).unflatten(0, (3, 4)))
        assert self.seen == []
