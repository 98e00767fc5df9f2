"""Networks whose linear layers are plain torch, with the neurons of any library put in.

This is what most libraries on torch ask their users to write. Every linear layer is applied to all steps at once, which is the
faster way where the library lets one choose.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rheobase.bench.implementation import Result, Step
from rheobase.bench.workloads import DECAY, Convolution, Flatten, Linear, Neurons, Pooling, Readout, Stage, Task

Layer = Callable[[Tensor], Tensor]
Product = Callable[[Tensor, Tensor], Tensor]  # of `(n, inputs)` and `(outputs, inputs)` to `(n, outputs)`
OneStep = Callable[[Tensor, Any], tuple[Tensor, Any]]  # input and state, None from rest, to output and state


def build(
    task: Task,
    neurons: Callable[[Tensor | None], Layer],
    readout: Layer | None = None,
    linear: Product = functional.linear,
) -> Step:
    """The training step of `task` with a library's neurons.

    Args:
        task: what is trained.
        neurons: makes of the recurrent weight, a leaf, or of None, a layer `(T, B, *features) -> (T, B, *features)` from rest.
        readout: the layer of leaky integrators; by default a loop over time.
        linear: the product of the linear layers.
    """
    weights = leaves(task)
    waiting = iter(weights)
    layers: list[Layer] = []
    for stage in task.stages:
        match stage:
            case Neurons(recurrent):
                layers.append(neurons(None if recurrent is None else next(waiting)))
            case Readout():
                layers.append(readout or leaky_integration)
            case _:
                layers.append(_folded(timeless(stage, waiting, linear)))

    def forward(x: Tensor) -> Tensor:
        for layer in layers:
            x = layer(x)
        return x

    return training_step(task, forward, weights)


def too_long(task: Task) -> str:
    """Why a library that walks time in Python is left out of a task; empty if it is not."""
    return "walks time in Python: half a minute a step" if task.steps > 10_000 else ""


def leaves(task: Task) -> list[Tensor]:
    """The task's weights as parameters of their own."""
    return [nn.Parameter(weight.clone()) for weight in task.weights]


def timeless(stage: Stage, weights: Iterator[Tensor], linear: Product = functional.linear) -> Layer:
    """A stage that knows nothing of time, on a batch `(n, *features)`; it takes its weight from `weights`."""
    match stage:
        case Linear():
            weight = next(weights)
            return lambda x: linear(x, weight)
        case Convolution():
            weight = next(weights)
            return lambda x: functional.conv2d(x, weight, padding=1)
        case Pooling():
            return lambda x: functional.avg_pool2d(x, 2)
        case Flatten():
            return lambda x: x.flatten(1)
        case _:
            raise TypeError(f"{stage} has a state")


def training_step(task: Task, forward: Layer, weights: list[Tensor]) -> Step:
    """Forward and backward pass of `task`: the gradients of `weights`, or of the input where there are none."""
    x = task.x if weights else task.x.clone().requires_grad_()
    sought = weights or [x]

    def step() -> Result:
        outputs = forward(x)
        if task.target.is_floating_point():
            gradients = torch.autograd.grad(outputs, sought, task.target)
        else:
            gradients = torch.autograd.grad(functional.cross_entropy(outputs.mean(0), task.target), sought)
        return Result(outputs.detach(), gradients)

    return step


def over_time(stages: list[OneStep], x: Float[Tensor, "T B *features"]) -> Float[Tensor, "T B *out"]:
    """The outputs of `stages`, one after the other in every step, from rest."""
    states: list[Any] = [None] * len(stages)
    outputs = []
    for current in x.unbind(0):  # x[t] would make the backward pass quadratic in T
        for position, stage in enumerate(stages):
            current, states[position] = stage(current, states[position])
        outputs.append(current)
    return torch.stack(outputs)


def with_recurrence(neuron: OneStep, weight: Float[Tensor, "N N"]) -> OneStep:
    """A neuron that also sees its layer's last spikes, through `weight`."""

    def one_step(x: Tensor, state: Any) -> tuple[Tensor, Any]:
        if state is None:
            spike, after = neuron(x, None)
        else:
            spike, before = state
            spike, after = neuron(x + functional.linear(spike, weight), before)
        return spike, (spike, after)

    return one_step


def leaky_integration(x: Float[Tensor, "T B *features"]) -> Float[Tensor, "T B *features"]:
    """The readout as a loop over time."""

    def one_step(x: Tensor, v: Any) -> tuple[Tensor, Any]:
        v = x if v is None else DECAY * v + x
        return v, v

    return over_time([one_step], x)


def _folded(layer: Layer) -> Layer:
    return lambda x: layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
