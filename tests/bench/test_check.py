"""The comparison finds the libraries that are the same model, and notices one that is not."""

import warnings

import pytest
import torch
from torch import Tensor

from rheobase.bench import check, peers, plain
from rheobase.bench.implementation import Dynamics, Implementation, Step
from rheobase.bench.workloads import DECAY, WORKLOADS, Task
from rheobase.ops.lif import ResetGradient
from rheobase.surrogate import FastSigmoid

SPIKE = FastSigmoid(sharpness=0.5).spike


@pytest.fixture(scope="module", params=["snntorch", "spikingjelly"])
def peer(request: pytest.FixtureRequest) -> str:
    with warnings.catch_warnings():  # what a package warns about while it is imported is its own affair
        warnings.simplefilter("ignore")
        pytest.importorskip(peers.PEERS[request.param].module)
    return request.param


def implementations(peer: str, workload: str) -> list[Implementation]:
    task = WORKLOADS[workload].make(True)
    return [one for one in peers.implementations(peer, task) if not one.compiles]


@pytest.mark.parametrize("workload", ["W1", "W2", "W3", "W4", "W6"])
def test_libraries_agree(peer: str, workload: str) -> None:
    for implementation in implementations(peer, workload):
        agreement = check.compare(implementation, workload)
        assert agreement is not None
        assert agreement.spikes > 20
        assert agreement.holds
        assert (agreement.network is not None) == (implementation.dynamics.same and workload != "W4")


@pytest.mark.parametrize("workload", ["W1", "W2", "W3", "W6"])
def test_both_ways_of_snntorch_are_the_same(workload: str) -> None:
    task = WORKLOADS[workload].make(True)
    (outputs, gradients), (others, other_gradients) = (
        one.build(task)() for one in implementations("snntorch", workload)
    )
    torch.testing.assert_close(outputs, others)
    torch.testing.assert_close(gradients, other_gradients)


def test_a_difference_that_is_not_declared_is_noticed() -> None:
    (late, *_) = implementations("snntorch", "W4")
    agreement = check.compare(Implementation("undeclared", late.build), "W4")
    assert agreement is not None
    assert not agreement.holds


def library(dynamics: Dynamics, decay: float = DECAY) -> Implementation:
    """A library whose neurons have those dynamics."""

    def one_step(x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x = x / dynamics.gain
        v, spikes = state or (torch.zeros_like(x), torch.zeros_like(x))
        taken = spikes if dynamics.reset_gradient == "attached" else spikes.detach()
        v = decay * v + x - taken if dynamics.late_reset else decay * (v - taken) + x
        now = SPIKE(v - 1)
        return (spikes if dynamics.late_spikes else now), (v, now)

    def build(task: Task) -> Step:
        scaled = task.with_currents_times(dynamics.gain)
        return plain.build(scaled, lambda _: lambda x: plain.over_time([one_step], x))

    return Implementation("a library", build, dynamics)


@pytest.mark.parametrize("reset_gradient", ["detached", "attached"])
@pytest.mark.parametrize("late_reset", [True, False])
@pytest.mark.parametrize("late_spikes", [True, False])
@pytest.mark.parametrize("gain", [1.0, 10.0])
def test_every_declared_difference(
    reset_gradient: ResetGradient, late_reset: bool, late_spikes: bool, gain: float
) -> None:
    dynamics = Dynamics(reset_gradient, late_reset, late_spikes, gain)
    agreement = check.compare(library(dynamics), "W2")
    assert agreement is not None
    assert agreement.holds
    assert (agreement.network is not None) == (not (late_reset or late_spikes))
    assert (dynamics.describe() == "") == (dynamics == Dynamics())


@pytest.mark.parametrize(
    ("declared", "true"),
    [
        (Dynamics(), Dynamics(reset_gradient="attached")),
        (Dynamics(), Dynamics(late_reset=True)),
        (Dynamics(), Dynamics(late_spikes=True)),
        (Dynamics(late_reset=True), Dynamics()),
        (Dynamics(late_reset=True, reset_gradient="attached"), Dynamics(late_reset=True)),
        (Dynamics(), Dynamics(gain=10.0)),
    ],
)
def test_every_undeclared_difference(declared: Dynamics, true: Dynamics) -> None:
    agreement = check.compare(Implementation("a library", library(true).build, declared), "W4")
    assert agreement is not None
    assert not agreement.holds


def test_another_decay_is_noticed() -> None:
    agreement = check.compare(library(Dynamics(), decay=0.85), "W4")
    assert agreement is not None
    assert not agreement.holds


def test_what_differs_otherwise_is_not_compared() -> None:
    assert check.compare(library(Dynamics(other="no neurons")), "W4") is None
