"""Connections past layers: sums, streaming, and what everybody sees of the layers inside."""

import pytest
import torch
from torch import nn

import rheobase as rb


def block() -> rb.Residual:
    return rb.Residual(nn.Linear(6, 6), rb.LIF(6), nn.Linear(6, 6), rb.RecurrentLIF(6))


def test_the_sum_of_both_ways() -> None:
    x, residual = torch.rand(12, 3, 6), block()
    assert torch.equal(residual(x), x + residual.body(x))
    narrow = nn.Linear(6, 2)
    residual = rb.Residual(nn.Linear(6, 2), rb.LIF(2), shortcut=narrow)
    torch.testing.assert_close(residual(x), residual.body(x) + narrow(x))


def test_cut_anywhere() -> None:
    x, residual = torch.rand(12, 3, 6), rb.Residual(nn.Linear(6, 6), rb.LIF(6), shortcut=rb.LeakyReadout(6))
    first, state = residual.run(x[:5])
    second, _ = residual.run(x[5:], state)
    torch.testing.assert_close(torch.cat((first, second)), residual(x))


def test_a_block_that_never_fires_is_the_identity_and_passes_the_gradient() -> None:
    residual = rb.Residual(nn.Linear(6, 6), rb.LIF(6))
    nn.init.constant_(residual.body[0].bias, -1e6)
    x = torch.rand(4, 2, 6, requires_grad=True)
    y = residual(x)
    assert torch.equal(y, x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))


def test_everybody_sees_the_layers_inside() -> None:
    torch.manual_seed(0)
    network = rb.Sequential(nn.Linear(6, 6), rb.LIF(6), block(), nn.Linear(6, 3), rb.LeakyReadout(3))
    x = (torch.rand(30, 8, 6) < 0.3).float()
    with rb.health.Recorder(network) as recorder:
        network(x)
    assert [layer.name for layer in recorder.layers()] == ["1 LIF(6)", "2.body.1 LIF(6)", "2.body.3 RecurrentLIF(6)"]
    assert recorder.unseen() == []
    assert all(layer.rate > 0.01 for layer in recorder.layers())
    assert len(rb.doctor(network, x).measures.layers) == 3
    rb.stabilize(network, x)


def test_shapes_that_do_not_fit(as_a_user: None) -> None:
    with pytest.raises(ValueError, match=r"the layers return shape \(5, 2, 4\), the shortcut \(5, 2, 6\).*shortcut="):
        rb.Residual(nn.Linear(6, 4), rb.LIF(4))(torch.rand(5, 2, 6))


def test_what_is_no_state(as_a_user: None) -> None:
    with pytest.raises(
        ValueError, match="Residual: state must be what run returned, 2 parts, got a Tensor; None is rest"
    ):
        rb.Residual(rb.LIF(6)).run(torch.rand(5, 2, 6), torch.zeros(2, 6))
