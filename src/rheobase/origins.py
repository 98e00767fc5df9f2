"""Whose spikes a tensor holds, on their way from one layer of neurons to the synapses of the next.

Hooks see layers, but not the connections between them. In a chain, what arrives was spiked by the neurons that ran last, but
where a network branches, two layers receive spikes of the same neurons. So a tensor is known by its memory, which views share,
and what plain layers make of it has the same origin. Where a program combines tensors, the origin of the result is unknown.
"""

from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from rheobase.layers.pooling import MAXIMUM, PASSES_SPIKES_ON, divides_alike, divisor

_AVERAGE_TO_SIZE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


@dataclass(frozen=True)
class Origin:
    """Where values come from.

    Args:
        name: of the layer of neurons, or of the input.
        spike: what one spike counts in these values, the window of an average pooling for instance a quarter; None where they
            are not spikes, or it is unknown.
    """

    name: str
    spike: float | None


class Origins:
    """The origins of tensors that are in use.

    Example:
        >>> import torch
        >>> spikes, origins = torch.ones(3, 1, 2, 2), Origins()
        >>> origins.put(spikes, Origin("1 LIF(1)", 1.0))
        >>> pooling = nn.AvgPool2d(2)
        >>> pooled = pooling(spikes)
        >>> origins.passed(pooling, spikes, pooled)
        >>> origins.of(pooled.flatten(1)), origins.of(spikes + 1)
        (Origin(name='1 LIF(1)', spike=0.25), None)
    """

    def __init__(self) -> None:
        # A weak reference keeps no memory, but the memory's identity: no other tensor will have it.
        self._known: dict[StorageWeakRef, Origin] = {}

    def clear(self) -> None:
        """Forget all tensors."""
        self._known.clear()

    def put(self, x: Tensor, origin: Origin) -> None:
        """Say where the values of `x` come from."""
        if (storage := _storage(x)) is not None:
            self._known[storage] = origin

    def of(self, x: Tensor) -> Origin | None:
        """Where the values of `x` come from; None where it is unknown."""
        storage = _storage(x)
        return None if storage is None else self._known.get(storage)

    def passed(self, layer: nn.Module, x: Tensor, y: Tensor) -> None:
        """A plain layer has made `y` of `x`."""
        if (origin := self.of(x)) is not None:
            share = _share(layer, x, y)
            spike = None if origin.spike is None or share is None else origin.spike * share
            self.put(y, replace(origin, spike=spike))


def _storage(x: Tensor) -> StorageWeakRef | None:
    try:
        return StorageWeakRef(x.untyped_storage())
    except (NotImplementedError, RuntimeError):  # within a transform, or sparse
        return None


def _share(layer: nn.Module, x: Tensor, y: Tensor) -> float | None:
    """What is left of a spike behind a layer; None where it is no spike any more."""
    if isinstance(layer, (*PASSES_SPIKES_ON, *MAXIMUM, nn.ReLU)):
        return 1.0
    if isinstance(layer, nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d):
        return 1 / divisor(layer) if divides_alike(layer, x.shape) else None
    return y.numel() / max(x.numel(), 1) if isinstance(layer, _AVERAGE_TO_SIZE) else None
