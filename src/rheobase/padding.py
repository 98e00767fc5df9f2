"""Sequences of different lengths in one batch: padded steps that neither drive a neuron nor fire.

A neuron does not know that a recording is over. A bias drives it on through the padding, its membrane potential decays
through the threshold, and one that fires by chance at rest fires there as everywhere. So what enters and what leaves each layer
of neurons is set to 0 where there is nothing: before a sequence its neurons are at rest, and after it they are silent.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from rheobase.layers.recompute import in_one_piece
from rheobase.parameters import FeatureParameters
from rheobase.temporal import Temporal

_masks: WeakKeyDictionary[nn.Module, Tensor] = WeakKeyDictionary()


def mask_of(lengths: Int[Tensor, " B"], steps: int) -> Bool[Tensor, "T B"]:
    """Which steps are there, for sequences that begin at step 0 and are padded at the end.

    Args:
        lengths: the number of steps of each sequence.
        steps: T, the number of steps with the padding.

    Example:
        >>> mask_of(torch.tensor([1, 3]), 3).int()
        tensor([[1, 1],
                [0, 1],
                [0, 1]], dtype=torch.int32)
    """
    return torch.arange(steps, device=lengths.device).unsqueeze(1) < lengths


@contextmanager
def masked(network: nn.Module, mask: Bool[Tensor, "T B"]) -> Iterator[None]:
    """Inside the `with` block, neurons and readouts of `network` receive 0 where `mask` is False, and hand on 0.

    Padding may stand before a sequence, after it, or both. Calls of the network are masked, `network(x)`; the pieces that
    stream through `network.run` are not. Firing rates of `rheobase.health` are then spikes per step that is there. To take the
    mean of the output over these steps, `decoding.mean(output, mask)`.

    Args:
        network: any module.
        mask: True where a step is there.

    Raises:
        ValueError: when the network is called with another number of steps or samples.
        RuntimeError: when a layer of neurons or a readout did not run in a call of the network, but by its `run`, and so was
            not masked.

    Example:
        >>> import rheobase as rb
        >>> network = rb.Sequential(nn.Linear(2, 4), rb.SPSN(4))
        >>> with masked(network, mask_of(torch.tensor([3, 8]), 10)):
        ...     spikes = network(torch.zeros(10, 2, 2))
        >>> spikes[3:, 0].count_nonzero(), spikes[8:].count_nonzero()
        (tensor(0), tensor(0))
    """

    def cut(sequence: Tensor) -> Tensor:
        if sequence.shape[:2] != mask.shape:
            raise ValueError(
                f"masked: the mask is (T, B) = {tuple(mask.shape)}, the sequence has the shape {tuple(sequence.shape)}"
            )
        # A selection, not a product: what is there in the padding may be anything, even NaN.
        return torch.where(mask.view(*mask.shape, *[1] * (sequence.ndim - 2)), sequence, 0)

    called: set[nn.Module] = set()

    def enter(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        called.add(module)
        return cut(given[0]), *given[1:]

    def enter_network(_module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # Weights in front of the neurons have a gradient of what is in the padding: times 0, but NaN times 0 is NaN. (A picture
        # that is held has no steps yet.)
        return (cut(given[0]) if given[0].shape[:2] == mask.shape else given[0]), *given[1:]

    def leave(_module: nn.Module, _given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return cut(output)

    def check(*_: object) -> None:
        if unseen := [f"{name} {type(module).__name__}" for name, module in masks.items() if module not in called]:
            raise RuntimeError(
                f"masked: {', '.join(unseen)} did not run in a call of the network, and was not masked: the module that holds "
                "it must call it, layer(x), in its own forward; see rheobase.Temporal"
            )

    masks = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, Temporal) and isinstance(module, FeatureParameters)
    }
    with ExitStack() as stack:
        stack.callback(network.register_forward_pre_hook(enter_network).remove)
        stack.callback(network.register_forward_hook(check).remove)
        for module in masks.values():
            before = module.register_forward_pre_hook(enter)
            # First of all hooks, so that those who count spikes see them masked.
            after = module.register_forward_hook(leave, prepend=True)
            stack.callback(before.remove)
            stack.callback(after.remove)
            outer = mask_on(module)
            _masks[module] = mask if outer is None else mask & outer
            stack.callback(_put_back, module, outer)
        stack.enter_context(in_one_piece(network))
        yield


def mask_on(layer: nn.Module) -> Bool[Tensor, "T B"] | None:
    """The mask of a layer of a network that is `masked`, inside the `with` block; else None.

    Example:
        >>> import rheobase as rb
        >>> neurons = rb.LIF(4)
        >>> with masked(neurons, mask_of(torch.tensor([1]), 2)):
        ...     mask_on(neurons)
        tensor([[ True],
                [False]])
        >>> mask_on(neurons)
    """
    return _masks.get(layer)


def _put_back(layer: nn.Module, mask: Tensor | None) -> None:
    if mask is None:
        del _masks[layer]
    else:
        _masks[layer] = mask
