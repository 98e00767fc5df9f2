"""What the doctor has seen of a network on one batch, as numbers."""

import math
from dataclasses import dataclass, field
from typing import Any

from rheobase.diagnosis.gradients import ending
from rheobase.surrogate import Surrogate


@dataclass(frozen=True)
class Membrane:
    """The membrane potentials of a layer, over neurons, samples and steps.

    Args:
        threshold: the mean threshold, without what adaptation adds.
        drive: by how much the input current of a neuron varies, its standard deviation over samples and steps, in units of the
            threshold; likewise the three that follow.
        mean: the mean potential.
        std: the standard deviation.
        top: what one potential in a thousand is above.
        within_reach: the share of potentials at which the surrogate's derivative is a tenth of its peak or more.
        slope: the mean size of the surrogate's derivative, as a share of its peak: 1 would be all neurons at the threshold.
        slopes: the mean of the derivative, and its mean square.
    """

    threshold: float
    drive: float
    mean: float
    std: float
    top: float
    within_reach: float
    slope: float
    slopes: tuple[float, float]


@dataclass(frozen=True)
class LayerMeasures:
    """What was seen of one layer of neurons; NaN where it cannot be known.

    Args:
        name: position and kind, `"1 LIF(128)"`.
        neurons: how many.
        steps: how many the layer goes through; behind a `Hold`, more than the batch has.
        rate: spikes per neuron and step.
        input_density: the share of entries that are not zero in what reaches the weights in front of the neurons.
        dead: the share of neurons without a spike in the batch.
        saturated: the share of neurons that fire at 90 % of the steps or more.
        gradient: the norm of the loss's gradient with respect to the weights in front of the neurons, and the recurrent ones.
        error: the norm of the loss's gradient with respect to the input current of the neurons, in the root mean square over
            samples and steps.
        gain: by what factor that is larger than in the next layer.
        expected_gain: the same by theory.
        early: the error in the first third of the steps, as a multiple of that in the last third.
        growth: by what factor a gradient that enters the layer at the end grows per step back in time.
        expected_growth: the same by theory.
        memory: how many of the `steps_before` the end of the output still depends on, by the layer's input, with 1 % of the
            largest gradient.
        membrane: potentials and slopes; None for neurons that have no membrane to look at.
        surrogate: the gradient of its spikes, if it has one.
        fires_once_in: the steps in which its neurons fire once, where they are `SingleSpike`; else None.
        recurrent: whether its neurons hear each other.
        differentiable: whether a gradient goes from its spikes back to what it is given.
    """

    name: str
    neurons: int
    steps: int
    rate: float
    input_density: float
    dead: float
    saturated: float
    gradient: float
    error: float
    gain: float
    expected_gain: float
    early: float
    growth: float
    expected_growth: float
    memory: float
    membrane: Membrane | None
    surrogate: Surrogate | None = field(repr=False)
    fires_once_in: int | None = field(repr=False)
    recurrent: bool = field(repr=False)
    differentiable: bool = field(repr=False)

    @property
    def steps_before(self) -> int:
        """How many steps there are before the last tenth of them: what there can be a memory of."""
        return self.steps - ending(self.steps)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: numbers that are not finite are None."""
        unsaid = ("surrogate", "fires_once_in", "recurrent", "differentiable")
        shown = {name: value for name, value in vars(self).items() if name not in unsaid}
        values = {name: finite_or_none(value) for name, value in shown.items()}
        if self.membrane is not None:
            values["membrane"] = {
                name: finite_or_none(value) for name, value in vars(self.membrane).items() if name != "slopes"
            }
        return values


@dataclass(frozen=True)
class Measures:
    """What was seen of a network on a batch.

    Args:
        layers: of each layer of neurons, in the order of the data.
        steps: T of the batch; a layer behind a `Hold` has steps of its own.
        samples: B.
        loss: the loss of the batch.
        readout_gradient: the norm of the loss's gradient with respect to the weights behind the last layer of neurons; NaN if
            there are none.
        output_spread: how much the output's mean over time differs from sample to sample, as a share of its size.
        activity_spread: the same for the spikes of the last layer of neurons.
        finite: whether output, loss and gradients are all finite.
        unseen: the layers of neurons that did not run in a call of the network.
    """

    layers: tuple[LayerMeasures, ...]
    steps: int
    samples: int
    loss: float
    readout_gradient: float
    output_spread: float
    activity_spread: float
    finite: bool
    unseen: tuple[str, ...]


def finite_or_none(value: Any) -> Any:
    """What JSON can hold: None in the place of a number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
