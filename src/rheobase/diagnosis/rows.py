"""A test whether a user-defined layer treats every row alike, as a `Sequential` assumes.

A layer that is not an `rb.Temporal` gets all steps of all samples as rows of one batch. A neuron written for a loop over time
would step through these rows instead of through time, from sample to sample; shapes match, nothing fails, and the output is
meaningless. It gives itself away when it computes half of the rows: their outputs differ from those among all rows.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rheobase.copies import copy_of
from rheobase.diagnosis.finding import Finding
from rheobase.health import outside_neurons
from rheobase.layers.parametrized import kind_of
from rheobase.layers.sequential import Sequential
from rheobase.modes import evaluating
from rheobase.temporal import Temporal


@torch.no_grad()
def judge_rows(network: nn.Module, batch: Float[Tensor, "T B *features"]) -> list[Finding]:
    """A finding for each user-defined layer in a `Sequential` that mixes rows.

    Layers whose output differs when called again, such as random ones, are not tested.

    Args:
        network: as passed to the doctor; a copy is tested, in evaluation mode.
        batch: an input of the network.
    """
    outside = set(outside_neurons(network))
    names = [
        f"{place}.{name}" if place else name
        for place, container in network.named_modules()
        if isinstance(container, Sequential) and container in outside
        for name, layer in container.named_children()
        if not isinstance(layer, Temporal) and not type(layer).__module__.startswith("torch.nn.")
    ]
    if not names:
        return []
    network = copy_of(network)
    inputs: dict[str, tuple[nn.Module, Tensor]] = {}

    def remember(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
            inputs[name] = layer, arguments[0]

        return hook

    handles = [network.get_submodule(name).register_forward_pre_hook(remember(name)) for name in names]
    with evaluating(network):
        network(batch)
        for handle in handles:
            handle.remove()
        return [
            Finding(
                "mixes samples",
                f"{name} {kind_of(layer)}",
                "its output for a step of a sample depends on the rows around it, which are other steps and other samples: it "
                "has a memory, or a loop over time, and a Sequential passes it all steps of all samples as rows of one batch",
                "derive it from rb.Temporal, with run(self, x, state=None) in place of forward",
            )
            for name, (layer, x) in inputs.items()
            if _mixes(layer, x)
        ]


def _mixes(layer: nn.Module, x: Tensor) -> bool:
    if len(x) < 2:
        return False
    whole, again, half = layer(x), layer(x), layer(x[len(x) // 2 :])
    if not all(isinstance(each, Tensor) for each in (whole, again, half)) or not torch.equal(whole, again):
        return False
    rest = whole[len(x) // 2 :]
    return rest.shape != half.shape or not torch.allclose(rest, half, rtol=1e-3, atol=1e-4 * rest.abs().amax().item())
