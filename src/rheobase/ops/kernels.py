"""Which kernels run on which device, and if none do, why.

On the CPU the kernels are compiled by numba when they are first called, on the GPU by Triton: neither needs a compiler on the
user's machine. Where one is missing, the plain reference computes the same, slower. The environment variable
`RHEOBASE_KERNELS=off` selects the reference everywhere, to find out whether a kernel is at fault. A value other than `on` and
`off` is refused: a user who wrote `OFF` would look for the fault in the wrong place.
"""

import importlib
import os
import warnings
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from rheobase.errors import RheobaseError

_TECHNOLOGY = {"cpu": "numba", "cuda": "triton"}


def fused(x: Tensor) -> bool:
    """Whether kernels can compute `x`: on its device, and outside the transforms of `torch.func`, which they do not support.

    Example:
        >>> import torch
        >>> fused(torch.zeros(3, device="meta"))
        False
    """
    return why_not(x.device.type) is None and not is_transformed()


def kernels_for(operation: str, x: Tensor) -> ModuleType:
    """The kernels of an operation for the device that `x` is on, imported when they are first needed: numba takes a while."""
    return importlib.import_module(f"rheobase.ops.{operation}.{'gpu' if x.device.type == 'cuda' else 'cpu'}")


def is_transformed() -> bool:
    """Whether this is inside a transform of `torch.func`, such as `vmap`."""
    # What `torch.autograd.Function` asks, too; there is no public name for it.
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def why_not(device: str) -> str | None:
    """Why no kernels run on a device, in words; None if they do.

    Args:
        device: its kind, "cpu" or "cuda".

    Raises:
        RheobaseError: if the environment variable `RHEOBASE_KERNELS` is neither "on" nor "off".

    Example:
        >>> why_not("meta")
        'there are no kernels for the device meta'
    """
    return _find(device)


# `torch.compile` need not look into it. This is `torch.compiler.assume_constant_result`, which takes 2 seconds to import.
why_not.__dict__["_dynamo_marked_constant"] = True


@cache
def _find(device: str) -> str | None:
    chosen = os.environ.get("RHEOBASE_KERNELS") or "on"
    if chosen not in ("on", "off"):
        raise RheobaseError(
            f"the environment variable RHEOBASE_KERNELS is {chosen!r}: expected 'on', to compute with kernels wherever there "
            f"are some, as it is without the variable, or 'off', to compute with the plain reference"
        )
    if chosen == "off":
        return "RHEOBASE_KERNELS is off"
    if device not in _TECHNOLOGY:
        return f"there are no kernels for the device {device}"
    name = _TECHNOLOGY[device]
    try:
        technology = importlib.import_module(name)
    except Exception as error:  # a library incompatible with the others here may fail in any way
        reason = f"{name} cannot be imported: {error}"
        warnings.warn(f"rheobase computes with its slow reference on {device}: {reason}", stacklevel=2)
        return reason
    if name == "numba" and technology.config.DISABLE_JIT:
        return "NUMBA_DISABLE_JIT is set"
    return None
