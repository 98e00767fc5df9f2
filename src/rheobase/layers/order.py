"""The layers of a network in the order of the data, through any nesting of containers."""

from collections.abc import Iterator

from torch import nn

from rheobase.compiled import original
from rheobase.temporal import Temporal


class InSequence(Temporal):
    """A layer over time that computes the layers it holds in sequence, in its own way: `in_order` looks into it."""


def in_order(network: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every layer of `network` with its name, in the order in which data passes through sequential containers.

    Args:
        network: a sequential container, from this library or PyTorch, possibly nested; or a single layer.
        name: the name of `network` itself.

    Returns:
        Names such as `"2.0"`, as in the state dict, and layers; a module that is not a sequential container counts as one
        layer.

    Example:
        >>> [name for name, _ in in_order(nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(2, 1), nn.Tanh())))]
        ['0', '1.0', '1.1']
    """
    network = original(network)
    if isinstance(network, nn.Sequential | InSequence):
        # `named_children` would list a layer that is used twice only once.
        for child, layer in network._modules.items():
            if layer is not None:
                yield from in_order(layer, f"{name}.{child}" if name else child)
    else:
        yield name, network


def check_order(network: nn.Module, what: str, *kinds: type[nn.Module]) -> None:
    """Refuse layers of these kinds inside a module that is not a sequential container.

    Raises:
        TypeError: naming the module, the layer in it, and what to write instead.

    Example:
        >>> check_order(nn.Sequential(nn.Linear(2, 1)), "look", nn.Linear)
    """
    for name, layer in in_order(network):
        inside = () if isinstance(layer, kinds) else layer.named_modules()
        for place, module in inside:
            if isinstance(module, kinds):
                where = f"layer {name}, {type(layer).__name__}," if name else f"network, {type(layer).__name__},"
                raise TypeError(
                    f"{what}: {where} holds a {type(module).__name__} ({place}) but is not a sequential container, so "
                    "the order of its layers is unknown; write it as an rb.Sequential"
                )
