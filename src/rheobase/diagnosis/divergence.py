"""Where a value stopped being finite, in words.

`loss = nan` tells a user nothing. The failed step is run again while every layer is observed, and the first one whose
parameters or output are not finite is named; if all are finite, the loss is at fault, or the gradient overflowed, and the
parameters it hit are named instead.
"""

import math

import torch
from torch import Tensor, nn

from rheobase.compiled import as_written
from rheobase.layers.parametrized import kind_of


def _count(tensor: Tensor) -> int:
    return int((~torch.isfinite(tensor)).sum())


@torch.no_grad()
@as_written()
def explain(network: nn.Module, x: Tensor, loss: float) -> str:
    """Where the first value that is not finite appears, when `network` (holding its gradients) sees `x`.

    Args:
        network: the network, its parameters and gradients as they were at the failure.
        x: the batch, `(T, B, *features)`.
        loss: the value of the loss.

    Returns:
        A sentence that names the input, a layer, the loss, or the parameters whose gradients overflowed.
    """
    if bad := _count(x):
        return f"the input batch holds {bad} values that are not finite"
    found: list[str] = []

    def look(path: str, module: nn.Module, output: object) -> None:
        if found:
            return
        for name, parameter in module.named_parameters(recurse=False):
            if bad := _count(parameter):
                found.append(f"layer {path} ({kind_of(module)}): {bad} values of its {name} are not finite")
                return
        if isinstance(output, Tensor) and (bad := _count(output)):
            found.append(f"layer {path} ({kind_of(module)}): {bad} values of its output are not finite")

    handles = [
        module.register_forward_hook(lambda module, _input, output, path=path: look(path, module, output))
        for path, module in network.named_modules()
        if path and not any(module.children())
    ]
    try:
        network(x)
    finally:
        for handle in handles:
            handle.remove()
    if found:
        return found[0]
    if not math.isfinite(loss):
        return f"the outputs of all layers are finite, but the loss of them is {loss}"
    gradients = [
        name for name, parameter in network.named_parameters() if parameter.grad is not None and _count(parameter.grad)
    ]
    if gradients:
        return f"all outputs are finite, the gradient overflowed first at {gradients[-1]}; try a lower learning rate"
    return "all outputs and gradients are finite in this process"
