"""Sequences of different lengths in one batch: padded steps that neither drive a neuron nor fire.

A neuron does not know that a recording is over. A bias drives it on through the padding, and neurons that fire at random fire
there as well. So what enters and what leaves each layer of neurons is set to 0 at padding: before a sequence its neurons are at
rest, and after it they are silent. The mean and variance of a batch normalization are taken over the valid steps.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Bool, Integer, Shaped
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rheobase.compiled import as_written
from rheobase.layers.recompute import in_one_piece
from rheobase.parameters import FeatureParameters
from rheobase.temporal import Temporal

_masks: WeakKeyDictionary[nn.Module, Tensor] = WeakKeyDictionary()


def mask_of(
    lengths: Integer[Tensor, " B"] | Integer[np.ndarray, " B"] | Sequence[int], steps: int
) -> Bool[Tensor, "T B"]:
    """Which steps are there, for sequences that begin at step 0 and are padded at the end.

    Args:
        lengths: the number of steps of each sequence, 1 to `steps`, `(B,)`: a tensor, an array, or a list.
        steps: T, the number of steps with the padding.

    Raises:
        TypeError: if `lengths` are no integers.
        ValueError: if they are not one row, or one of them is less than 1 or more than `steps`.

    Example:
        >>> mask_of([1, 3], 3).int()
        tensor([[1, 1],
                [0, 1],
                [0, 1]], dtype=torch.int32)
    """
    lengths = torch.as_tensor(lengths)
    if lengths.numel() and (lengths.is_floating_point() or lengths.dtype == torch.bool):
        raise TypeError(f"mask_of: lengths must be integers, numbers of steps, got {lengths.dtype}; use lengths.long()")
    lengths = lengths.long()  # else what it is compared with is wrapped to its type: 256 to 0, in uint8
    if lengths.ndim != 1:
        raise ValueError(
            f"mask_of: lengths must be (B,), one for each sequence, got shape {tuple(lengths.shape)}; use lengths.flatten()"
        )
    outside = ((lengths < 1) | (lengths > steps)).nonzero()
    if len(outside):
        sequence = int(outside[0])
        raise ValueError(
            f"mask_of: lengths must be from 1 to steps = {steps}, got {lengths[sequence].item()} for sequence {sequence}; "
            "steps is the padded length, len(x); leave out empty sequences"
        )
    return torch.arange(steps, device=lengths.device).unsqueeze(1) < lengths


def beside(mask: Shaped[Tensor, "..."], sequence: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """A mask, or what belongs to its axes, as a tensor that broadcasts to `sequence`, which has these axes and more behind."""
    return mask.view(*mask.shape, *[1] * (sequence.ndim - mask.ndim))


def only(
    sequence: Shaped[Tensor, "T B *features"], mask: Tensor, what: str, *, otherwise: float = 0.0
) -> Shaped[Tensor, "T B *features"]:
    """`sequence` where a step is there, and `otherwise` elsewhere.

    A selection, not a product: what stands in the padding may be anything, even NaN.

    Args:
        sequence: any, time first.
        mask: True where a step is there, `(T, B)`; checked here.
        what: who asks, for the message of an error.
        otherwise: what stands in the padding.

    Raises:
        TypeError: if `mask` is not boolean.
        ValueError: if it has another number of steps or samples.
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"{what}: mask must be boolean, True where a step is there, got {mask.dtype}; use mask.bool()")
    if sequence.shape[:2] != mask.shape:
        raise ValueError(
            f"{what}: the mask is (T, B) = {tuple(mask.shape)}, the sequence has the shape {tuple(sequence.shape)}"
        )
    return torch.where(beside(mask, sequence), sequence, otherwise)


@contextmanager
def masked(network: nn.Module, mask: Bool[Tensor, "T B"]) -> Iterator[None]:
    """Inside the `with` block, neurons and readouts of `network` receive 0 where `mask` is False, and output 0 there.

    Batch normalization in training takes its mean and variance over the valid steps, and outputs 0 elsewhere.

    Padding may stand before a sequence, after it, or both. Calls of the network are masked, `network(x)`; pieces streamed
    through `network.run` are not. Firing rates of `rheobase.health` are then spikes per valid step. To decode the output from
    these steps alone, use `decoding.mean(output, mask)`; `max`, `last`, `sum` and the losses take the mask, too.

    Args:
        network: any module.
        mask: True at valid steps.

    Raises:
        TypeError: when the network is called, if `mask` is not boolean.
        ValueError: when the network is called with another number of steps or samples, or holds neurons that fire by the end
            of the batch (`fire_by_end`), where a sequence has ended before; or a batch normalization in training gets anything
            but all steps of all samples as the rows of one batch, as `rheobase.Sequential` passes them.
        RuntimeError: when a layer of neurons or a readout did not run in a call of the network, but by its `run`, and so was
            not masked; or when `network.run` is called, which would mask none.

    Example:
        >>> import rheobase as rb
        >>> network = rb.Sequential(nn.Linear(2, 4), rb.SPSN(4))
        >>> with masked(network, mask_of(torch.tensor([3, 8]), 10)):
        ...     spikes = network(torch.zeros(10, 2, 2))
        >>> spikes[3:, 0].count_nonzero(), spikes[8:].count_nonzero()
        (tensor(0), tensor(0))
    """
    with ExitStack() as stack:
        _Masked(network, mask).install(stack)
        stack.enter_context(in_one_piece(network))
        stack.enter_context(as_written())
        yield


class _Masked:
    """A network under one mask: the hooks that set what enters and leaves its layers to 0, and see that none is missed."""

    def __init__(self, network: nn.Module, mask: Tensor) -> None:
        self._network, self._mask = network, mask
        self._layers = {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, Temporal) and isinstance(module, FeatureParameters)
        }
        """Neurons and readouts, by their names."""
        self._called: set[nn.Module] = set()
        self._inside = False  # a call of the network, in which its `forward` may use its `run`

    def install(self, stack: ExitStack) -> None:
        """Until the stack is left, mask every call of the network."""
        self._mask_network(stack)
        for name, module in self._network.named_modules():
            if isinstance(module, _BatchNorm):
                _set_mask(stack, module, self._mask)
                _set_method(stack, module, "forward", partial(_normalize, module, name))
            elif isinstance(module, Temporal) and module is not self._network and name not in self._layers:
                # A delay, for instance, would bring the past of a padding into a sequence.
                stack.callback(module.register_forward_pre_hook(self._enter_if_it_fits).remove)
        for layer in self._layers.values():
            self._mask_layer(stack, layer)

    def _mask_network(self, stack: ExitStack) -> None:
        # First of all hooks, as below, so that what is in the padding counts as no input.
        stack.callback(self._network.register_forward_pre_hook(self._enter_network, prepend=True).remove)
        stack.callback(self._network.register_forward_hook(self._check_all_were_called).remove)
        stack.callback(self._network.register_forward_hook(self._leave_network, always_call=True).remove)
        if isinstance(self._network, Temporal):
            _set_method(stack, self._network, "run", self._run)

    def _mask_layer(self, stack: ExitStack, layer: nn.Module) -> None:
        stack.callback(layer.register_forward_pre_hook(self._enter).remove)
        # First of all hooks, so that those who count spikes see them masked.
        stack.callback(layer.register_forward_hook(self._leave, prepend=True).remove)
        for part in layer.modules():  # what neurons tell one another, beginning with a bias
            if isinstance(part, nn.Linear):
                stack.callback(part.register_forward_hook(self._leave_if_it_fits).remove)
        _set_mask(stack, layer, self._mask)

    def _only(self, sequence: Tensor) -> Tensor:
        return only(sequence, self._mask, "masked")

    def _fits(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.shape[:2] == self._mask.shape

    def _enter_network(self, network: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        self._inside = True
        # Weights in front of the neurons have a gradient of what is in the padding: times 0, but NaN times 0 is NaN. (A picture
        # that is held has no steps yet.)
        return self._enter_if_it_fits(network, given)

    def _leave_network(self, *_: object) -> None:
        self._inside = False

    def _enter(self, layer: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        self._called.add(layer)
        x = self._only(given[0])
        if getattr(layer, "fire_by_end", False) and not bool(self._mask[-1].all()):
            raise ValueError(
                f"masked: {type(layer).__name__} with fire_by_end=True fires at the last step of the batch, in which not all "
                "sequences are there, got a mask that ends before; use fire_by_end=False, or sequences of one length"
            )
        return x, *given[1:]

    def _leave(self, _layer: nn.Module, _given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return self._only(output)

    def _enter_if_it_fits(self, _module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._only(given[0]), *given[1:]) if given and self._fits(given[0]) else given

    def _leave_if_it_fits(self, _module: nn.Module, _given: tuple[Any, ...], output: Tensor) -> Tensor:
        return self._only(output) if self._fits(output) else output

    def _run(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """In the place of the network's `run`."""
        if not self._inside:
            raise RuntimeError(
                f"masked: {type(self._network).__name__}.run was called, whose pieces are not masked; call the network on the "
                "whole sequence, network(x), or stream outside of the block"
            )
        assert isinstance(self._network, Temporal)
        return type(self._network).run(self._network, x, state)

    def _check_all_were_called(self, *_: object) -> None:
        unseen = [f"{name} {type(layer).__name__}" for name, layer in self._layers.items() if layer not in self._called]
        if unseen:
            raise RuntimeError(
                f"masked: {', '.join(unseen)} did not run in a call of the network, and was not masked: the module that holds "
                "it must call it, layer(x), in its own forward; see rheobase.Temporal"
            )


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


def refuse_mask(network: nn.Module, what: str) -> None:
    """Refuse a network that is `masked`, on behalf of what would take padding for valid steps.

    Args:
        network: any module.
        what: who asks, for the message of the error.

    Raises:
        ValueError: if a layer of the network is masked.
    """
    if any(module in _masks for module in network.modules()):
        raise ValueError(
            f"{what}: network must not be within rheobase.masked, got one that is: padding would count as steps; call it "
            "outside of the block, on samples of one length or cut to the shortest, x[: min(lengths)]"
        )


def _normalize(layer: _BatchNorm, name: str, x: Tensor) -> Tensor:
    """What the layer's `forward` makes of the rows that are there, by their statistics alone; 0 in the others."""
    normalize = partial(type(layer).forward, layer)
    if not layer.training and layer.running_mean is not None:
        return normalize(x)
    mask = _masks[layer]
    if len(x) != mask.numel():
        raise ValueError(
            f"masked: {type(layer).__name__} at {name!r} must get the T * B = {mask.numel()} steps of all samples as rows of "
            f"one batch, to know which of them are there, got shape {tuple(x.shape)}; rb.Sequential hands them on so"
        )
    there = mask.to(x.device).flatten().nonzero().squeeze(1)
    y = normalize(x.index_select(0, there))
    return y.new_zeros(x.shape).index_copy(0, there, y)


def _set_mask(stack: ExitStack, layer: nn.Module, mask: Tensor) -> None:
    """Let `layer` have this mask, within another such block besides the outer one, until the stack is left."""
    outer = mask_on(layer)
    _masks[layer] = mask if outer is None else mask & outer
    if outer is None:
        stack.callback(_masks.pop, layer)
    else:
        stack.callback(_masks.__setitem__, layer, outer)


def _set_method(stack: ExitStack, module: nn.Module, name: str, method: Callable[..., Any]) -> None:
    """Let `module` have this method instead of its own, or of that of another such block, until the stack is left."""
    outer = vars(module).get(name)
    setattr(module, name, method)
    if outer is None:
        stack.callback(delattr, module, name)
    else:
        stack.callback(setattr, module, name, outer)
