"""Layers of the user's own that mix the rows of a batch are found, and others are not."""

import pytest
import torch
from torch import Tensor, nn

import rheobase as rb
from rheobase.diagnosis.rows import judge_rows


class Loop(nn.Module):
    """A neuron as it is written for `(T, B, N)`."""

    def forward(self, x: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(x[0]), []
        for current in x:
            v = 0.9 * v + current
            spikes.append((v > 1).float())
            v = v - spikes[-1]
        return torch.stack(spikes)


class Remembering(nn.Module):
    """A neuron that keeps its membrane potential between calls."""

    def __init__(self) -> None:
        super().__init__()
        self.v: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.v = 0.5 * self.v + x.mean()
        return x + self.v


class Squared(nn.Module):
    """A function of each row."""

    def forward(self, x: Tensor) -> Tensor:
        return x.square() - 0.1 * x.sum(-1, keepdim=True)


class Noisy(nn.Module):
    """Draws at random, in evaluation, too."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class Timed(rb.Temporal):
    """The loop, where time is."""

    def run(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, None]:
        return Loop()(x), None


def network(own: nn.Module) -> rb.Sequential:
    torch.manual_seed(0)
    return rb.Sequential(nn.Linear(20, 16), own, nn.Linear(16, 16), rb.LIF(16), nn.Linear(16, 2), rb.LeakyReadout(2))


def batch() -> Tensor:
    torch.manual_seed(1)
    return (torch.rand(15, 6, 20) < 0.3).float()


def test_a_loop_over_time_in_a_plain_module_is_found() -> None:
    diagnosis = rb.doctor(network(Loop()), batch())
    (found,) = [finding for finding in diagnosis.findings if finding.kind == "mixes samples"]
    assert found.layer == "1 Loop"
    assert "rb.Temporal" in found.remedy
    assert not diagnosis.healthy


def test_also_in_a_network_in_a_network() -> None:
    (found,) = judge_rows(rb.Sequential(nn.Identity(), network(Loop())), batch())
    assert found.layer == "1.1 Loop"


@pytest.mark.parametrize("own", [Squared, Noisy, Timed, nn.Tanh, lambda: nn.BatchNorm1d(16), lambda: nn.LayerNorm(16)])
def test_what_treats_every_row_alike_is_not(own) -> None:
    net = network(own())
    assert judge_rows(net, batch()) == []


def test_the_network_stays_as_it_was() -> None:
    net = network(Remembering())
    judge_rows(net, batch())
    assert net[1].v == 0.0
    assert net.training
