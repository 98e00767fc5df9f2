"""A library's way to do a task, as the benchmark sees it: a row of the table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from rheobase.bench.workloads import Task
from rheobase.ops.lif import ResetGradient


class Result(NamedTuple):
    """What a training step computed, as the library's own arrays: outputs `(T, B, ...)`, and the gradients in the order of
    the task's weights (of the input where there are none)."""

    outputs: Any
    gradients: tuple[Any, ...]


Step = Callable[[], Result]


@dataclass(frozen=True)
class Dynamics:
    """In what a library's neuron differs from `v[t] = decay * r[t-1] + x[t]`, `r = v - threshold * s`, reset detached.

    Args:
        reset_gradient: what the gradient sees of the reset.
        late_reset: the threshold is subtracted one step later, after the decay: `v[t] = decay * v[t-1] + x[t] - threshold *
            s[t-1]`.
        late_spikes: a spike leaves one step after the potential has met the threshold.
        gain: what the input must be multiplied with, since the library divides it.
        other: any other difference, in words; what it concerns is compared in time but not in numbers.
    """

    reset_gradient: ResetGradient = "detached"
    late_reset: bool = False
    late_spikes: bool = False
    gain: float = 1.0
    other: str = ""

    @property
    def same(self) -> bool:
        """Whether outputs and gradients of whole networks must be ours."""
        return not (self.late_reset or self.late_spikes or self.other)

    def describe(self) -> str:
        """The differences, for the table; empty if there are none."""
        said = {
            "reset one step later": self.late_reset,
            "spikes one step later": self.late_spikes,
            "reset in the gradient": self.reset_gradient == "attached",
            f"input times {self.gain:g}": self.gain != 1,
            self.other: bool(self.other),
        }
        return ", ".join(text for text, holds in said.items() if holds)


@dataclass(frozen=True)
class Implementation:
    """One row: who, and how to make its training step.

    Args:
        name: what the row is called.
        build: makes the step, compiled and ready; it imports the library.
        dynamics: in what its neuron differs.
        skip: why it is left out of this task; empty if it is not.
        compiles: whether it takes so long to compile that it only runs when asked for.
    """

    name: str
    build: Callable[[Task], Step]
    dynamics: Dynamics = Dynamics()
    skip: str = ""
    compiles: bool = False
