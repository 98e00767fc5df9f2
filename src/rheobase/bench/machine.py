"""The machine and the versions that figures come from; without them they are worth nothing."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rheobase
from rheobase.bench.peers import PEERS, installed
from rheobase.training.about import command, commit

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def about() -> dict[str, Any]:
    """Command, date, commit, versions and machine."""
    libraries = ("torch", "numpy", "numba", "jax", *PEERS)
    return {
        "command": command(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": {
            "python": platform.python_version(),
            "rheobase": rheobase.__version__,
            **{name: installed(name) for name in libraries},
        },
        "machine": {
            "processor": _field(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine(),
            "instructions": _instructions(),
            "cores": cores(),
            "memory": _field(Path("/proc/meminfo"), "MemTotal"),
            "platform": platform.platform(),
            "transparent_huge_pages": HUGE_PAGES.read_text().strip() if HUGE_PAGES.exists() else None,
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        },
    }


def _field(file: Path, key: str) -> str | None:
    """The first line `key: value` of a file of /proc; None elsewhere than on Linux."""
    if not file.exists():
        return None
    for line in file.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _instructions() -> list[str]:
    """The vector instructions that a product of matrices may use."""
    flags = (_field(Path("/proc/cpuinfo"), "flags") or "").split()
    return [flag for flag in flags if flag.startswith(("avx", "amx"))]
