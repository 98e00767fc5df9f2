"""Whether like is compared with like: spikes and gradients of every library against ours, on a small network.

Two of the libraries subtract the threshold one step later than we do, after the decay: `v[t] = decay * v[t-1] + x[t] -
threshold * s[t-1]`, where ours amounts to `- decay * threshold * s[t-1]`. Fed with `x[t] + (1 - decay) * threshold * s[t-1]`
they must fire as ours do, to the spike, and give the same gradient. So even where models differ, this is known to be the only
difference.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rheobase.bench import ours
from rheobase.bench.implementation import Implementation
from rheobase.bench.workloads import DECAY, THRESHOLD, WORKLOADS, Task

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Agreement:
    """How closely an implementation agrees with ours.

    Args:
        spikes: how many there are in the small layer.
        differing: in how many places theirs differ.
        gradient: the largest difference of the gradient of the layer's input, relative to the largest gradient.
        network: the largest such difference of outputs and gradients of the small network; None if the models differ.
    """

    spikes: int
    differing: int
    gradient: float
    network: float | None

    @property
    def holds(self) -> bool:
        """Whether the spikes are the same and the gradients agree up to rounding."""
        return self.differing == 0 and max(self.gradient, self.network or 0.0) < TOLERANCE


def compare(implementation: Implementation, workload: str) -> Agreement | None:
    """Compare an implementation with ours; None if it has no neurons to compare.

    Args:
        implementation: whose.
        workload: the workload, in toy sizes, as which its network is compared.
    """
    if implementation.dynamics.other:
        return None
    spikes, differing, gradient = _layer(implementation, WORKLOADS["W4"].make(True))
    task = WORKLOADS[workload].make(True)
    comparable = implementation.dynamics.same and not task.layer_alone
    return Agreement(spikes, differing, gradient, _network(implementation, task) if comparable else None)


def _layer(implementation: Implementation, task: Task) -> tuple[int, int, float]:
    dynamics = implementation.dynamics
    x, target = task.x.clone().requires_grad_(), task.target.clone()
    target[-1] = 0  # a spike that comes one step later has no place for the last one
    spikes = ours.neurons(reset_gradient=dynamics.reset_gradient)(x)
    (gradient,) = torch.autograd.grad(spikes, x, target, retain_graph=True)
    drive = x
    if dynamics.late_reset:
        before = _one_step_later(spikes if dynamics.reset_gradient == "attached" else spikes.detach())
        drive = x + (1 - DECAY) * THRESHOLD * before
    weight = _one_step_later(target) if dynamics.late_spikes else target
    theirs = implementation.build(replace(task, x=drive.detach(), target=weight))()
    expected = _one_step_later(spikes) if dynamics.late_spikes else spikes
    differing = int((_tensor(theirs.outputs) != expected).sum())
    (their_gradient,) = torch.autograd.grad(drive, x, dynamics.gain * _tensor(theirs.gradients[0]))
    return int(spikes.sum()), differing, _difference(their_gradient, gradient)


def _network(implementation: Implementation, task: Task) -> float:
    dynamics = implementation.dynamics
    expected = ours.build(task, reset_gradient=dynamics.reset_gradient)()
    theirs = implementation.build(task)()
    scaled = task.with_currents_times(dynamics.gain).weights
    gains = [1.0 if torch.equal(*pair) else dynamics.gain for pair in zip(task.weights, scaled, strict=True)]
    pairs = zip(theirs.gradients, expected.gradients, gains, strict=True)
    gradients = [_difference(_tensor(their) * gain, our) for their, our, gain in pairs]
    return max(_difference(_tensor(theirs.outputs), expected.outputs), *gradients)


def _one_step_later(sequence: Tensor) -> Tensor:
    return torch.cat((torch.zeros_like(sequence[:1]), sequence[:-1]))


def _difference(theirs: Tensor, expected: Tensor) -> float:
    return ((theirs - expected).abs().max() / expected.abs().max()).item()


def _tensor(array: Any) -> Tensor:
    return array.detach() if isinstance(array, Tensor) else torch.from_numpy(np.array(array))
