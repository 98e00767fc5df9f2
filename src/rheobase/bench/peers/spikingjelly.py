"""SpikingJelly: multi-step neurons of its torch backend, a loop over time with a backward pass written by hand.

Source: SpikingJelly 2.0.0, `neuron.LIFNode(step_mode="m")`; its compiled kernels need a GPU. Its neuron is ours: `tau` 10
without `decay_input` is a decay of 0.9. Recurrent neurons are its single-step neurons in a loop, as in its
`LinearRecurrentContainer`, which has no other form, but without the second product that the container makes with its
input.
"""

from torch import Tensor

from rheobase.bench import plain
from rheobase.bench.implementation import Implementation, Step
from rheobase.bench.plain import Layer
from rheobase.bench.workloads import DECAY, THRESHOLD, Task


def implementations(task: Task) -> list[Implementation]:
    """Linear layers on all steps at once, then the neurons."""
    return [Implementation("SpikingJelly", build, skip=plain.too_long(task))]


def build(task: Task) -> Step:
    """All steps of a linear layer at once, then the neurons."""
    from spikingjelly.activation_based import surrogate  # pyright: ignore[reportMissingImports]
    from spikingjelly.activation_based.neuron import LIFNode  # pyright: ignore[reportMissingImports]

    def neurons(recurrent: Tensor | None) -> Layer:
        node = LIFNode(
            tau=1 / (1 - DECAY),
            decay_input=False,
            v_threshold=THRESHOLD,
            v_reset=None,
            detach_reset=True,
            surrogate_function=surrogate.SuperSpike(),
            step_mode="m" if recurrent is None else "s",
        )

        def layer(x: Tensor) -> Tensor:
            node.reset()  # it keeps its state between calls
            if recurrent is None:
                return node(x)
            return plain.over_time([plain.with_recurrence(lambda x, _: (node(x), None), recurrent)], x)

        return layer

    return plain.build(task, neurons)
