"""Products of dense matrices on the CPU, by the faster of the two libraries that PyTorch brings along.

PyTorch multiplies float32 matrices with MKL. On processors of other makers than its own, MKL leaves vectors of 512 bits unused,
and takes twice as long as oneDNN, which PyTorch has on board for convolutions. So there, products that are large enough to pay
for a second library's start go to oneDNN. A large product is made in pieces that stay in the cache, into memory that is
recycled (`rheobase.ops.memory`). The order of summation depends on the library, so results agree up to rounding.
"""

import math
import platform
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rheobase.ops import kernels, memory
from rheobase.ops.arguments import is_plain
from rheobase.ops.processor import cpuinfo

_LEAST_WORK = 1 << 21
"""Multiplications from which oneDNN is the faster one; fewer are over before it has found its kernel."""
_PIECE = 1 << 21
"""Bytes of a piece of the result."""
_LONG = 1 << 12
"""Terms of a sum from which a transposed factor, which oneDNN copies first, is better copied in pieces."""
_FEW_INPUTS = 8
"""Up to which the gradient of the weight is several times faster when it is computed as the transpose of its transpose."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias` over the last axis of `x`, as `torch.nn.functional.linear`, with its gradients.

    Args:
        x: `(..., inputs)`.
        weight: `(outputs, inputs)`.
        bias: `(outputs,)`.

    Example:
        >>> linear(torch.ones(2, 3), torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[6.],
                [6.]])
    """
    tensors = (x, weight) if bias is None else (x, weight, bias)
    if torch.compiler.is_compiling() or x.shape[-1:] != weight.shape[1:] or weight.ndim != 2:
        return F.linear(x, weight, bias)
    ours = weight.shape[1] <= _FEW_INPUTS or _large(x.numel() * len(weight))
    if not ours or not all(map(_numbers_on_the_cpu, tensors)) or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return _Linear.apply(x, weight, bias)  # pyright: ignore[reportReturnType]
    return _linear(x, weight, bias)


def product(a: Tensor, b: Tensor) -> Tensor:
    """The product of two matrices, `a @ b`; on the CPU, of float32 and float64 as such, whatever `torch.autocast` says.

    Args:
        a: `(R, K)`.
        b: `(K, C)`.

    Example:
        >>> product(torch.ones(1, 2), torch.tensor([[1.0], [2.0]]))
        tensor([[3.]])
    """
    if torch.compiler.is_compiling() or not (_numbers_on_the_cpu(a) and _numbers_on_the_cpu(b)):
        return a @ b
    with torch.autocast("cpu", enabled=False):
        if torch.is_grad_enabled() and (a.requires_grad or b.requires_grad):
            return _Product.apply(a, b) if _faster(a, b) else a @ b  # pyright: ignore[reportReturnType]
        if _faster(a, b):
            return _by_onednn(a, b, None)
        return torch.mm(a, b, out=memory.empty((len(a), b.shape[1]), a.dtype))


def add_product(base: Tensor, a: Tensor, b: Tensor, out: Tensor) -> None:
    """Write `base + a @ b` to `out`, which may be `base`; nothing of it is differentiable.

    Args:
        base: `(R, C)`.
        a: `(R, K)`.
        b: `(K, C)`.
        out: `(R, C)`.

    Example:
        >>> out = torch.empty(1, 1)
        >>> add_product(torch.tensor([[0.5]]), torch.ones(1, 2), torch.tensor([[1.0], [2.0]]), out)
        >>> out
        tensor([[3.5000]])
    """
    if _faster(a, b):
        torch.add(base, _by_onednn(a, b, None), out=out)
    else:
        torch.addmm(base, a, b, out=out)


def rows(x: Tensor) -> Tensor:
    """All of `x` as one matrix, `(R, K)` from `(..., K)`.

    Example:
        >>> rows(torch.zeros(2, 3, 4)).shape
        torch.Size([6, 4])
    """
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _faster(a: Tensor, b: Tensor) -> bool:
    """Whether oneDNN is the one to multiply two matrices on the CPU."""
    return a.dtype == b.dtype == torch.float32 and _large(a.numel() * b.shape[1])


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return _by_onednn(a, b, None)

    @staticmethod
    def backward(ctx: Any, *on_output: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (on_y,), (a, b), (of_a, of_b) = on_output, ctx.saved_tensors, ctx.needs_input_grad
        return product(on_y, b.t()) if of_a else None, product(a.t(), on_y) if of_b else None


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        of_x, of_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if of_weight else None, weight if of_x else None)
        ctx.shape = x.shape
        return _linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *on_output: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        of_bias = ctx.needs_input_grad[2]
        on_y = rows(on_output[0])
        on_x = on_weight = None
        if weight is not None:
            on_x = product(on_y, weight).view(ctx.shape)
        if x is not None:
            x = rows(x)
            few = x.shape[1] <= _FEW_INPUTS  # of whose columns the libraries waste most of every vector
            on_weight = product(x.t(), on_y).t() if few else product(on_y.t(), x)
        return on_x, on_weight, on_y.sum(0) if of_bias else None


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not _faster(x, weight.t()):
        return F.linear(x, weight, bias)
    return _by_onednn(rows(x), weight.t(), bias).view(*x.shape[:-1], len(weight))


def _by_onednn(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    """`a @ b + bias`. PyTorch's own compiler calls oneDNN by this operator; there is no public one for dense tensors."""
    piece = max(1, _PIECE // (b.shape[1] * a.element_size()))
    if len(a) >= 2 * piece:
        out = memory.empty((len(a), b.shape[1]), a.dtype)
        for part, result in zip(a.split(piece), out.split(piece), strict=True):
            result.copy_(_multiply(part, b, bias))
        return out.detach()  # else autograd takes it for a view
    if bias is None and len(b) > _LONG and not a.is_contiguous():
        first, *others = (_multiply(*parts) for parts in zip(a.split(_LONG, 1), b.split(_LONG), strict=True))
        for other in others:
            first += other
        return first
    return _multiply(a, b, bias)


def _multiply(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    # Of a part of a larger tensor, whose rows do not follow one another, oneDNN would take a loop that is 500 times as slow.
    weight = b.t() if b.is_contiguous() else b.t().contiguous()
    return torch.ops.mkldnn._linear_pointwise(a, weight, bias, "none", [], "")


def _numbers_on_the_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64) and is_plain(tensor)


def _large(work: int) -> bool:
    return work >= _LEAST_WORK and why_not_onednn() is None


def why_not_onednn() -> str | None:
    """Why products are left to `torch.mm`, in words; None if oneDNN computes the large ones in float32."""
    return _why_not() if torch.backends.mkldnn.enabled else "it is switched off"


@cache
def _why_not() -> str | None:
    if kernels.why_not("cpu") is not None:
        return kernels.why_not("cpu")
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return "this build of PyTorch comes without it"
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkl.is_available():
        return "PyTorch multiplies with MKL and vectors of 512 bits on no other processors"
    return "MKL is as fast on a processor of its maker" if "GenuineIntel" in _maker() else None


def _maker() -> str:
    """Who made the processor: a name that it tells, within some text."""
    return cpuinfo("vendor_id") or platform.processor()
