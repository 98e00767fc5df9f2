"""The layers of a network in the order of the data, whatever containers they are in."""

from collections.abc import Iterator

from torch import nn

from rheobase.layers.recompute import Recompute


def in_order(network: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every layer of `network` with its name, in the order in which data passes through containers in sequence.

    Args:
        network: a container in sequence, of this library or PyTorch's, in which there may be others; or a single layer.
        name: the name of `network` itself.

    Returns:
        Names such as `"2.0"`, as in the state dict, and layers; one that is no container in sequence counts as one layer.

    Example:
        >>> [name for name, _ in in_order(nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(2, 1), nn.Tanh())))]
        ['0', '1.0', '1.1']
    """
    if isinstance(network, nn.Sequential | Recompute):
        for child, layer in network.named_children():
            yield from in_order(layer, f"{name}.{child}" if name else child)
    else:
        yield name, network
