"""What the operating system knows of the processor."""

import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def cpuinfo(key: str) -> str | None:
    """What Linux says of the first core under `key`, such as "model name"; None where it says nothing, and on other systems.

    Example:
        >>> cpuinfo("number of wings") is None
        True
    """
    lines = _CPUINFO.read_text(errors="replace").splitlines() if _CPUINFO.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), None)


def processor() -> str:
    """The processor's name, or at least its kind.

    Example:
        >>> len(processor()) > 0
        True
    """
    return cpuinfo("model name") or platform.processor() or platform.machine()
