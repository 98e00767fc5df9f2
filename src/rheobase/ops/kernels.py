"""Which kernels compute on which device; and where none do, why."""

from functools import cache

import torch


@torch.compiler.assume_constant_result
def why_not(device: str) -> str | None:
    """Why no kernels compute on a device, in words; None if they do."""
    return _find(device)


@cache
def _find(device: str) -> str | None:
    if device != "cpu":
        return f"there are no kernels for the device {device}"
    try:
        import numba  # noqa: F401
    except ImportError as error:
        return f"numba cannot be imported: {error}"
    return None
