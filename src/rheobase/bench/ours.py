"""Rheobase in its own benchmark: through what it offers to everybody, `Sequential` and its layers."""

from jaxtyping import Float
from torch import Tensor, nn

import rheobase
from rheobase.bench.implementation import Implementation, Step
from rheobase.bench.plain import training_step
from rheobase.bench.workloads import (
    DECAY,
    THRESHOLD,
    Convolution,
    Flatten,
    Linear,
    Neurons,
    Pooling,
    Readout,
    Stage,
    Task,
)
from rheobase.ops.lif import ResetGradient
from rheobase.surrogate import FastSigmoid


def implementations(task: Task) -> list[Implementation]:
    """The one row of ours."""
    return [Implementation("Rheobase", build)]


def build(task: Task, *, reset_gradient: ResetGradient = "detached") -> Step:
    """The training step of a `rheobase.Sequential`."""
    network = rheobase.Sequential(*(_layer(stage, reset_gradient) for stage in task.stages), input_rate=None)
    return training_step(task, network, list(network.parameters()))


def neurons(recurrent: Float[Tensor, "N N"] | None = None, *, reset_gradient: ResetGradient = "detached") -> nn.Module:
    """The workloads' neurons as a layer of ours."""
    surrogate = FastSigmoid(sharpness=0.5)  # 1 / (1 + |u|)^2
    settings = {"decay": DECAY, "threshold": THRESHOLD, "surrogate": surrogate, "reset_gradient": reset_gradient}
    if recurrent is None:
        return rheobase.LIF(**settings)
    layer = rheobase.RecurrentLIF(len(recurrent), **settings)
    return _with_weight(layer, layer.recurrent_weight, recurrent)


def _layer(stage: Stage, reset_gradient: ResetGradient) -> nn.Module:
    match stage:
        case Linear(weight):
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            return _with_weight(layer, layer.weight, weight)
        case Convolution(weight):
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=False)
            return _with_weight(layer, layer.weight, weight)
        case Pooling():
            return nn.AvgPool2d(2)
        case Flatten():
            return nn.Flatten()
        case Readout():
            return rheobase.LeakyReadout(decay=DECAY)
        case Neurons(recurrent):
            return neurons(recurrent, reset_gradient=reset_gradient)


def _with_weight(layer: nn.Module, parameter: Tensor, weight: Tensor) -> nn.Module:
    parameter.data.copy_(weight)
    return layer
