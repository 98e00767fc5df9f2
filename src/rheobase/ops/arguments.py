"""Argument checks shared by all operations over time.

Most mistakes with spiking networks concern axes, and a wrong axis of a matching size silently computes nonsense. So each
operation checks what it can, where the user called it, and says what it expected.
"""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter


def as_count(value: Any, name: str, what: str, *, least: int = 1) -> int:
    """A count from a whole number of any type, such as NumPy's.

    Raises:
        ValueError: if it is not a whole number, or below `least`.
    """
    try:
        count = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = least - 1
    if count < least:
        raise ValueError(f"{what}: {name} must be a whole number, at least {least}, got {value!r}")
    return count


def parts_of(state: Any, count: int, what: str) -> Sequence[Any]:
    """The parts of a state that consists of `count` of them; None, for rest, is as many None.

    Raises:
        ValueError: if it is anything else.
    """
    if state is None:
        return [None] * count
    if not isinstance(state, list | tuple) or len(state) != count:
        got = f"{len(state)}" if isinstance(state, list | tuple) else f"a {type(state).__name__}"
        raise ValueError(f"{what}: state must be what run returned, {count} parts, got {got}; None is rest")
    return state


def check_sequence(x: Tensor, what: str) -> None:
    """Refuse an input that is not a floating-point sequence `(T, B, *features)`.

    Raises:
        TypeError: if `x` is not a floating-point tensor.
        ValueError: if `x` has no time or no batch axis.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{what}: x must be a torch.Tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{what}: x must be floating point, got {x.dtype}; convert it: x.float()")
    if x.ndim < 2:
        raise ValueError(f"{what}: x must be (T, B, *features), got shape {tuple(x.shape)}; time and batch come first")


def check_batch(batch: Tensor, what: str) -> None:
    """Refuse a batch on which nothing can be measured: not a floating-point sequence, without samples, or not finite.

    Raises:
        TypeError: if `batch` is not a floating-point tensor.
        ValueError: if it has no time or no batch axis, is empty, or holds NaN or infinity.
    """
    check_sequence(batch, what)
    if batch.numel() == 0:
        raise ValueError(f"{what}: batch must hold samples, got shape {tuple(batch.shape)}")
    if bad := int((~batch.isfinite()).sum()):
        raise ValueError(
            f"{what}: batch holds {bad:,} values that are not finite; look at how it was made: batch.isfinite().all() must be "
            "true"
        )


def as_step(value: float | Tensor | None, name: str, x: Tensor, what: str) -> Tensor:
    """A per-neuron value or a state as a tensor that broadcasts to one time step of `x`; None is 0.

    Raises:
        ValueError: if the shapes do not fit, or a tensor lies on another device (copying it at every call would be silently
            slow).
    """
    if isinstance(value, Tensor) and value.ndim and value.device != x.device:
        raise ValueError(f"{what}: {name} is on {value.device}, x is on {x.device}; move them together")
    tensor = torch.as_tensor(0.0 if value is None else value, dtype=state_type(x), device=x.device)
    step = x.shape[1:]
    # By hand: torch.broadcast_shapes imports sympy when it is first called, which takes longer than loading a kernel.
    sizes = zip(reversed(tensor.shape), reversed(step), strict=False)
    if tensor.ndim > len(step) or any(size not in (1, wanted) for size, wanted in sizes):
        raise ValueError(
            f"{what}: {name} must broadcast to one time step of x, {tuple(step)}, got shape {tuple(tensor.shape)}"
        )
    return tensor


def check_first_derivative() -> None:
    """Refuse, in a kernel's backward pass, to record that pass: a kernel has a first derivative only.

    PyTorch's own decorator for this checks only the incoming gradients. But what a kernel computes from them also depends on
    its arguments, and a penalty on the gradient of `x` would silently be a constant.

    Raises:
        RuntimeError: if a second derivative is requested.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the kernels compute first derivatives, and create_graph=True requests a second one; the reference computes it: "
            "set the environment variable RHEOBASE_KERNELS=off"
        )


def state_type(x: Tensor) -> torch.dtype:
    """The type in which states are kept: that of `x`, but never less than float32.

    A membrane potential with a decay of 0.99 moves by less than the spacing of bfloat16 numbers; spikes, 0 or 1, are exact
    in every type.
    """
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def is_plain(tensor: Tensor) -> bool:
    """Whether this is memory full of numbers, which kernels can read, and its gradients are those of `backward()`.

    Example:
        >>> is_plain(torch.ones(2)), is_plain(torch.ones(2).to_sparse())
        (True, False)
    """
    return (
        type(tensor) in (Tensor, Parameter)
        and tensor.layout == torch.strided
        and not torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        # PyTorch has no public name for this.
        # Within a transform, also what it does not look at: it takes no `autograd.Function` of ours.
        and torch._C._functorch.maybe_current_level() is None  # pyright: ignore[reportAttributeAccessIssue]
        and torch.autograd.forward_ad.unpack_dual(tensor).tangent is None
    )
