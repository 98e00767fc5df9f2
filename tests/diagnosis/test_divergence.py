"""Divergence: the first thing that is not finite is named."""

import math

import torch
from torch import Tensor, nn

import rheobase as rb
from rheobase.diagnosis.divergence import explain
from training.tiny import CHANNELS, STEPS, network

X = torch.rand(STEPS, 4, CHANNELS)


def test_the_input() -> None:
    x = X.clone()
    x[1, 2, :3] = torch.nan
    assert explain(network(), x, 1.0) == "the input batch holds 3 values that are not finite"


def test_a_parameter_of_the_first_broken_layer() -> None:
    net = network()
    with torch.no_grad():
        net[3].bias[0] = torch.inf
        net[1].raw_decay[:2] = torch.nan
    assert explain(net, X, 1.0) == "layer 1 (LIF): 2 values of its raw_decay are not finite"


def test_the_output_of_a_layer_with_finite_parameters() -> None:
    net = rb.Sequential(nn.Linear(CHANNELS, 2), nn.Linear(2, 3))
    with torch.no_grad():
        net[0].weight.fill_(3e38)
    assert explain(net, X, 1.0) == f"layer 0 (Linear): {STEPS * 4 * 2} values of its output are not finite"


def test_a_layer_that_computes_nan_without_parameters() -> None:
    class Log(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (-1 - x).log()

    net = rb.Sequential(nn.Identity(), nn.Sequential(Log()), nn.Linear(CHANNELS, 3))
    assert explain(net, X, 1.0).startswith("layer 1.0 (Log): ")


def test_a_gradient_that_overflowed() -> None:
    net = network()
    net(X).sum().backward()
    net[0].weight.grad[0, 0] = torch.inf
    assert "the gradient overflowed first at 0.weight" in explain(net, X, 1.0)


def test_the_loss_itself() -> None:
    net = network()
    assert explain(net, X, math.inf) == "the outputs of all layers are finite, but the loss of them is inf"
    assert explain(net, X, 1.0) == "all outputs and gradients are finite in this process"
    assert not any(module._forward_hooks for module in net.modules())
