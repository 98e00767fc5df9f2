"""Sequences of different lengths in one batch: padded steps that neither drive a neuron nor fire.

A neuron does not know that a recording is over. A bias drives it on through the padding, and neurons that fire at random fire
there as well. So what enters and what leaves each layer of neurons is set to 0 at padding: before a sequence its neurons are at
rest, and after it they are silent. The mean and variance of a batch normalization are taken over the valid steps.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import MethodType
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

    called: set[nn.Module] = set()
    inside = False  # a call of the network, in which its `forward` may use its `run`

    def enter(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        called.add(module)
        x = only(given[0], mask, "masked")
        if getattr(module, "fire_by_end", False) and not bool(mask[-1].all()):
            raise ValueError(
                f"masked: {type(module).__name__} with fire_by_end=True fires at the last step of the batch, in which not all "
                "sequences are there, got a mask that ends before; use fire_by_end=False, or sequences of one length"
            )
        return x, *given[1:]

    def enter_if_it_fits(_module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        if not (given and isinstance(given[0], Tensor) and given[0].shape[:2] == mask.shape):
            return given
        return only(given[0], mask, "masked"), *given[1:]

    def leave_if_it_fits(_module: nn.Module, _given: tuple[Any, ...], output: Tensor) -> Tensor:
        return only(output, mask, "masked") if output.shape[:2] == mask.shape else output

    def enter_network(_module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        nonlocal inside
        inside = True
        # Weights in front of the neurons have a gradient of what is in the padding: times 0, but NaN times 0 is NaN. (A picture
        # that is held has no steps yet.)
        first = given[0]
        return (only(first, mask, "masked") if first.shape[:2] == mask.shape else first), *given[1:]

    def leave(_module: nn.Module, _given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return only(output, mask, "masked")

    def leave_network(*_: object) -> None:
        nonlocal inside
        inside = False

    def run(module: Temporal, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        if not inside:
            raise RuntimeError(
                f"masked: {type(module).__name__}.run was called, whose pieces are not masked; call the network on the whole "
                "sequence, network(x), or stream outside of the block"
            )
        return type(module).run(module, x, state)

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
        # First of all hooks, as below, so that what is in the padding counts as no input.
        stack.callback(network.register_forward_pre_hook(enter_network, prepend=True).remove)
        stack.callback(network.register_forward_hook(check).remove)
        stack.callback(network.register_forward_hook(leave_network, always_call=True).remove)
        if isinstance(network, Temporal):
            stack.callback(_put_back, network, "run", vars(network).get("run"))
            network.run = MethodType(run, network)
        for name, module in network.named_modules():
            if isinstance(module, _BatchNorm):
                _set_mask(stack, module, mask)
                stack.callback(_put_back, module, "forward", vars(module).get("forward"))
                module.forward = partial(_normalize, module, name)  # pyright: ignore[reportAttributeAccessIssue]
        for module in network.modules():  # a delay, for instance, would bring the past of a padding into a sequence
            if isinstance(module, Temporal) and module is not network and module not in masks.values():
                stack.callback(module.register_forward_pre_hook(enter_if_it_fits).remove)
        for module in masks.values():
            before = module.register_forward_pre_hook(enter)
            # First of all hooks, so that those who count spikes see them masked.
            after = module.register_forward_hook(leave, prepend=True)
            stack.callback(before.remove)
            stack.callback(after.remove)
            for part in module.modules():  # what neurons tell one another, beginning with a bias
                if isinstance(part, nn.Linear):
                    stack.callback(part.register_forward_hook(leave_if_it_fits).remove)
            _set_mask(stack, module, mask)
        stack.enter_context(in_one_piece(network))
        stack.enter_context(as_written())
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


def _put_back(module: nn.Module, name: str, outer: Any) -> None:
    if outer is None:
        delattr(module, name)
    else:  # within another such block
        setattr(module, name, outer)
