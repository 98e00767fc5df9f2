"""What this installation computes with, and why: the first thing to look at when something is slow.

Neurons are computed by compiled kernels where available, and by the slow reference elsewhere. The results are the same, so the
fallback would go unnoticed. `describe` reports it in words.
"""

import os
import platform
from importlib import metadata
from pathlib import Path

import torch

from rheobase.ops import dense, kernels
from rheobase.ops.processor import processor

_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def describe() -> dict[str, str]:
    """Versions, the machine, and what computes on which device, as text by name.

    Example:
        >>> "neurons on the CPU" in describe()
        True
    """
    return {
        "rheobase": metadata.version("rheobase"),
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "PyTorch": f"{torch.__version__}, {torch.get_num_threads()} of {os.cpu_count()} cores",
        "processor": _processor(),
        "huge pages": _huge_pages(),
        "dense products on the CPU": _products(),
        "neurons on the CPU": _kernels("cpu", "numba"),
        "neurons on the GPU": _kernels("cuda", "triton") if torch.cuda.is_available() else "PyTorch sees no GPU",
    }


def _kernels(device: str, name: str) -> str:
    reason = kernels.why_not(device)
    if reason is not None:
        return f"the plain reference, which is slow: {reason}"
    gpu = f"; {torch.cuda.get_device_name()}" if device == "cuda" else ""
    return f"fused kernels, compiled by {name} {metadata.version(name)}{gpu}"


def _products() -> str:
    reason = dense.why_not_onednn()
    return "large ones by oneDNN" if reason is None else f"PyTorch's own, not by oneDNN: {reason}"


def _processor() -> str:
    return f"{processor()}, vector instructions {torch.backends.cpu.get_cpu_capability()}"


def _huge_pages() -> str:
    """What the operating system does when a kernel's output requests 2 MiB pages."""
    if not _HUGE_PAGES.exists():
        return "not on this system"
    words = _HUGE_PAGES.read_text().split()
    setting = next((word.strip("[]") for word in words if word.startswith("[")), "unknown")
    return f"{setting}: large outputs cost more than necessary" if setting == "never" else f"{setting}, used"
