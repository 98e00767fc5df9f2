"""Spyx: neurons in JAX, compiled as a whole by XLA.

Source: Spyx 1.0.0, `spyx.nn.LIF`, `RLIF` and `LI` under `spyx.nn.run`, a `jax.lax.scan`. Its neuron looks at the
potential before it takes in the step's input, so that a spike leaves one step later than ours, and so does the reset.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from rheobase.bench.implementation import Dynamics, Implementation, Result, Step
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

LATE = Dynamics(reset_gradient="attached", late_reset=True, late_spikes=True)


def implementations(task: Task) -> list[Implementation]:
    """Linear layers ahead of the scan over the neurons, and everything in one scan as in its tutorials."""
    rows = [Implementation("Spyx", build, LATE)]
    if task.layer_alone:
        return rows
    return [*rows, Implementation("Spyx in the scan", partial(build, in_the_scan=True), LATE)]


def build(task: Task, *, in_the_scan: bool = False) -> Step:
    """The training step as one compiled function of weights, input and target."""
    import jax  # pyright: ignore[reportMissingImports]
    import spyx  # pyright: ignore[reportMissingImports]
    from jax import numpy as jnp  # pyright: ignore[reportMissingImports]

    x, target = jnp.asarray(task.x.numpy()), jnp.asarray(task.target.numpy())
    weights = [jnp.asarray(weight.numpy()) for weight in task.weights]

    def forward(weights: list[Any], x: Any) -> Any:
        waiting = iter(weights)
        stages = [_stage(*stage, waiting) for stage in zip(task.stages, task.features, strict=True)]
        if in_the_scan:
            return spyx.nn.run(spyx.nn.Sequential(*stages), x)[0]
        for stage in stages:
            if hasattr(stage, "initial_state"):
                x = spyx.nn.run(stage, x)[0]
            else:
                folded = stage(x.reshape(-1, *x.shape[2:]))
                x = folded.reshape(*x.shape[:2], *folded.shape[1:])
        return x

    def loss(weights: list[Any], x: Any, target: Any) -> tuple[Any, Any]:
        outputs = forward(weights, x)
        if task.target.is_floating_point():
            return (outputs * target).sum(), outputs
        logarithms = jax.nn.log_softmax(outputs.mean(0))
        return -jnp.take_along_axis(logarithms, target[:, None], 1).mean(), outputs

    gradient = jax.jit(jax.grad(loss, argnums=0 if weights else 1, has_aux=True))
    compiled = gradient.lower(weights, x, target).compile()

    def step() -> Result:
        gradients, outputs = jax.block_until_ready(compiled(weights, x, target))
        return Result(outputs, tuple(gradients) if weights else (gradients,))

    return step


def _stage(stage: Stage, features: tuple[int, ...], weights: Iterator[Any]) -> Callable[..., Any]:
    """A layer of Spyx, or a function of a batch `(n, ...)`; it takes its weight from `weights`."""
    import spyx  # pyright: ignore[reportMissingImports]
    from flax import nnx  # pyright: ignore[reportMissingImports]
    from jax import lax  # pyright: ignore[reportMissingImports]

    settings = {"beta": DECAY, "rngs": nnx.Rngs(0)}
    spiking = {**settings, "threshold": THRESHOLD, "activation": spyx.axn.superspike(1)}
    match stage:
        case Linear():
            weight = next(weights)
            return lambda x: x @ weight.T
        case Convolution():
            weight = next(weights)
            return lambda x: lax.conv_general_dilated(x, weight, (1, 1), "SAME")
        case Pooling():
            return lambda x: x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).mean((3, 5))
        case Flatten():
            return spyx.nn.Flatten()
        case Readout():
            return spyx.nn.LI(features, **settings)
        case Neurons(None):
            return spyx.nn.LIF(features, **spiking)
        case Neurons():
            neuron = spyx.nn.RLIF(features, **spiking)
            neuron.recurrent_w[...] = next(weights).T
            return neuron
