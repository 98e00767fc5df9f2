"""What is the same at every step passes the first layers once, and the results are those of T copies."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rheobase as rb
from rheobase.layers import sequential
from rheobase.layers.held import is_held

T, B = 6, 5

Seen = list[tuple[int, ...]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The shapes that reach plain layers."""
    shapes: Seen = []
    real = sequential.call_folded

    def call(layer: nn.Module, x: Tensor) -> object:
        shapes.append(tuple(x.shape))
        return real(layer, x)

    monkeypatch.setattr(sequential, "call_folded", call)
    return shapes


def dense() -> rb.Sequential:
    return rb.Sequential(nn.Linear(20, 16), nn.Linear(16, 12), rb.LIF(12), nn.Linear(12, 3), rb.LeakyReadout(3))


def convolutions() -> rb.Sequential:
    return rb.Sequential(
        *(nn.Conv2d(2, 8, 3, padding=1), nn.AvgPool2d(2), rb.LIF(8)),
        *(nn.Flatten(), rb.SpikeLinear(8 * 9, 3), rb.LeakyReadout(3)),
    )


def convolutions_of_series() -> rb.Sequential:
    return rb.Sequential(nn.Conv1d(2, 8, 3), nn.Flatten(), nn.Linear(32, 3), rb.SingleSpike(3))


NETWORKS: list[tuple[Callable[[], rb.Sequential], tuple[int, ...], int]] = [
    (dense, (20,), 2),
    (convolutions, (2, 6, 6), 2),
    (convolutions_of_series, (2, 6), 3),
]
"""Each with the features of its input, and how many layers see one step."""


@pytest.mark.parametrize(("make", "features", "once"), NETWORKS)
def test_one_step_gives_what_copies_give(
    make: Callable[[], rb.Sequential], features: tuple[int, ...], once: int, seen: Seen
) -> None:
    torch.manual_seed(0)
    network, picture = make().double(), 3 * torch.rand(B, *features, dtype=torch.float64)
    weights = list(network.parameters())

    held = network(rb.encoding.direct(picture, T))
    assert [shape[0] for shape in seen] == [B] * once + [T * B] * (len(seen) - once)
    seen.clear()
    copied = network(picture.repeat(T, *[1] * picture.ndim))
    assert {shape[0] for shape in seen} == {T * B}
    assert copied.ne(0).any()
    torch.testing.assert_close(held, copied)
    along = torch.randn_like(held)
    for ours, theirs in zip(
        torch.autograd.grad(held, weights, along), torch.autograd.grad(copied, weights, along), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_in_pieces() -> None:
    torch.manual_seed(0)
    network, x = dense(), rb.encoding.direct(torch.rand(B, 20), T)
    first, state = network.run(x[:2])
    torch.testing.assert_close(torch.cat((first, network.run(x[2:], state)[0])), network(x))


def test_only_plain_layers() -> None:
    layer = nn.Linear(20, 3)
    x = torch.rand(B, 20)
    y = rb.Sequential(layer, input_rate=None)(rb.encoding.direct(x, T))
    assert y.shape == (T, B, 3)
    torch.testing.assert_close(y, layer(x).expand(T, B, 3))


def test_hooks_see_all_steps(seen: Seen) -> None:
    network, inputs = dense(), []
    network[0].register_forward_pre_hook(lambda _, args: inputs.append(args[0].shape))
    network(rb.encoding.direct(torch.rand(B, 20), T))
    assert inputs == [(T * B, 20)]
    assert seen[0] == (T * B, 20)


def test_gradients_of_each_step_where_they_are_asked_for(seen: Seen) -> None:
    network, picture = dense(), torch.rand(B, 20)
    x = rb.encoding.direct(picture, T).requires_grad_()
    network(x).square().sum().backward()
    assert seen[0] == (T * B, 20)
    copied = picture.repeat(T, 1, 1).requires_grad_()
    network(copied).square().sum().backward()
    assert x.grad is not None
    assert copied.grad is not None
    torch.testing.assert_close(x.grad, copied.grad)
    assert x.grad.abs().sum((1, 2)).gt(0).sum() > 1


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.BatchNorm1d(20)], ids=["draws", "measures"])
def test_layers_that_see_the_whole_batch(layer: nn.Module, seen: Seen) -> None:
    rb.Sequential(nn.Identity(), layer, nn.Linear(20, 3))(rb.encoding.direct(torch.rand(B, 20), T))
    assert [shape[0] for shape in seen] == [B, T * B, T * B]


def test_dropout_draws_at_every_step() -> None:
    y = rb.Sequential(nn.Identity(), nn.Dropout(0.5))(rb.encoding.direct(torch.ones(B, 20), T))
    assert not torch.equal(y[0], y[1])


def test_convolutions_do_not_take_samples_for_channels() -> None:
    x = rb.encoding.direct(torch.rand(3, 8, 8), T)  # the axis of the channels was forgotten
    with pytest.raises(RuntimeError, match=r"layer 0, Conv2d.* failed on steps of shape \(8, 8\), from \(6, 3, 8, 8\)"):
        rb.Sequential(nn.Conv2d(3, 3, 3), rb.LIF())(x)


def test_shapes_in_messages_are_those_of_the_input() -> None:
    with pytest.raises(RuntimeError, match=r"from \(6, 5, 20\) read as"):
        rb.Sequential(nn.Linear(21, 3), rb.LIF())(rb.encoding.direct(torch.rand(B, 20), T))


@pytest.mark.parametrize("flatten", [True, False])
def test_batches_of_pictures_are_one_step_in_memory(flatten: bool) -> None:
    images = rb.data.Images(np.random.default_rng(0).integers(0, 256, (7, 4, 4), np.uint8), np.arange(7))
    data = rb.data.ImageDataset(images, steps=T, flatten=flatten, augment=(rb.data.ShiftPixels(1),))
    x, _ = data.batch(np.array([1, 4, 2]), (0, 1))
    assert is_held(x)
    assert x.shape == (T, 3, *data.features)


def test_samples_in_memory_stay_one_step() -> None:
    picture = torch.rand(7, 20)
    data = rb.data.ArrayDataset(rb.encoding.direct(picture, T), np.arange(7) % 2)
    x, _ = data.batch(np.array([1, 4]))
    assert is_held(x)
    assert torch.equal(x, picture[[1, 4]].repeat(T, 1, 1))
