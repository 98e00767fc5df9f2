"""Gradients that are not quite even through depth: a note from a factor of 10 on, and none for networks as they are made."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

import rheobase as rb
from diagnosis.patients import CLASSES, HIDDEN, INPUTS, labels, linears, network, spikes
from rheobase.diagnosis import Diagnosis, doctor


def kinds(diagnosis: Diagnosis) -> list[tuple[str, str | None]]:
    return [(finding.kind, finding.layer) for finding in diagnosis.findings]


def new(make: Callable[..., nn.Module]) -> rb.Sequential:
    """A network of four layers, as the library initializes it."""
    torch.manual_seed(0)
    hidden = [layer for size in [INPUTS, *[HIDDEN] * 3] for layer in (nn.Linear(size, HIDDEN), make(HIDDEN))]
    return rb.Sequential(*hidden, nn.Linear(HIDDEN, CLASSES), rb.LeakyReadout(CLASSES))


@pytest.mark.parametrize("make", [rb.LIF, rb.SynapticLIF, rb.RecurrentLIF, rb.AdaptiveLIF])
@pytest.mark.parametrize("stabilized", [False, True])
def test_new_and_stabilized_networks_have_no_finding(make: Callable[..., nn.Module], stabilized: bool) -> None:
    net = new(make)
    if stabilized:
        rb.stabilize(net, spikes())
    assert doctor(net, spikes(), labels()).findings == ()


@torch.no_grad()
def with_spread(factor: float) -> rb.Sequential:
    """A network in which the gradient of the first weights is so many times smaller than that of the second."""
    net = network()
    first, second = (layer.gradient for layer in doctor(net, spikes(), labels()).measures.layers[:2])
    # The gradient of the first weights is proportional to the dampening behind them, and no other is changed by it.
    surrogate = net[1].surrogate
    net[1].surrogate = replace(surrogate, dampening=surrogate.dampening * second / first / factor)
    return net


def test_gradients_that_are_not_quite_even() -> None:
    assert doctor(with_spread(9.9), spikes(), labels()).findings == ()
    diagnosis = doctor(with_spread(10.1), spikes(), labels())
    assert kinds(diagnosis) == [("uneven through depth", "1 LIF(50)")]
    assert "is 10.1 times smaller than that of the weights in front of 3 LIF(50)" in diagnosis.findings[0].what
    # It is a note: nothing that keeps the network from learning.
    assert diagnosis.healthy
    assert diagnosis.as_dict()["healthy"]
    assert "1. uneven through depth" in str(diagnosis)
    assert "Nothing is wrong" not in str(diagnosis)


def test_neurons_without_a_surrogate_are_told_what_stays() -> None:
    torch.manual_seed(0)
    mixed = nn.Linear(INPUTS, HIDDEN), rb.SPSN(HIDDEN), nn.Linear(HIDDEN, HIDDEN), rb.SingleSpike(HIDDEN, credit="ramp")
    net = rb.Sequential(*mixed, nn.Linear(HIDDEN, CLASSES), rb.LeakyReadout(CLASSES))
    net[3].surrogate = replace(net[3].surrogate, dampening=10.0)
    (finding,) = doctor(net, spikes(), labels()).findings
    assert (finding.kind, finding.layer) == ("uneven through depth", "1 SPSN(50)")
    assert finding.remedy.startswith("rb.stabilize(network, batch); Adam, as in rb.fit, compensates")


def test_one_cause_has_one_finding() -> None:
    vanishing = doctor(with_spread(3000.0), spikes(), labels())
    assert kinds(vanishing) == [("vanishing through depth", "1 LIF(50)")]
    assert not vanishing.healthy
    dead = with_spread(30.0)
    with torch.no_grad():
        linears(dead)[1].bias.fill_(-2.0)
    assert kinds(doctor(dead, spikes(), labels())) == [("dead", "3 LIF(50)")]
    assert "uneven through depth" not in dict(kinds(doctor(with_spread(30.0), 255 * spikes(), labels())))
