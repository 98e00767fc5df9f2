"""What the Triton kernels of neurons with a surrogate gradient are tested on."""

from dataclasses import dataclass

from torch import Tensor

from rheobase import surrogate as surrogates

DAMPENING, SHARPNESS = 0.7, 1.3


@dataclass
class Case:
    """All that goes into a forward and a backward pass."""

    x: Tensor
    decay: Tensor
    threshold: Tensor
    initial: Tensor
    on_spikes: Tensor
    on_last: Tensor
    slope: Tensor


class Given(surrogates.Surrogate):
    """A derivative for each neuron and step, to be asked for backwards in time."""

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        object.__setattr__(self, "steps", list(slope))

    def derivative(self, u: Tensor) -> Tensor:
        return self.steps.pop()
