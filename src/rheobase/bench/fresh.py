"""What can only be measured in a fresh process: peak memory, the first call, the time of an import.

A process that has already trained has compiled, has its threads, and holds memory for reuse; so each of these figures comes
from its own process.
"""

import ctypes
import gc
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from rheobase.bench.implementation import Implementation
from rheobase.bench.workloads import Workload

PROCESS = Path("/proc/self")
STEPS = 3
# glibc returns blocks above this size, its default, to the system when they are freed. By itself it raises the limit as it
# goes, and then the same training takes twice the memory in one process as in the next, by how its pieces happen to lie.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(128 * 2**10)}


def first_call(implementation: Implementation, workload: Workload) -> float:
    """Seconds until the gradients of the first training step are there, once the library is imported.

    The sizes are toy sizes, so that it is what the library spends before it works: whatever it compiles, loads and sets up.
    """
    task = workload.make(True)
    start = time.perf_counter()
    implementation.build(task)()
    return time.perf_counter() - start


def peak_of_training(implementation: Implementation, workload: Workload, toy: bool) -> float | None:
    """MiB that the first training steps take beyond what data and weights take; None where the system does not tell.

    The implementation has run in toy sizes before, so that neither imports nor compilers are counted. There are some steps,
    since the pieces that one leaves are in the way of the next.
    """
    step = implementation.build(workload.make(toy))

    def train() -> Any:
        for _ in range(STEPS - 1):
            step()
        return step()

    return peak_memory(train)


def peak_memory(run: Callable[[], Any]) -> float | None:
    """MiB by which the resident memory of this process grows at most while `run` runs; None elsewhere than on Linux.

    Example:
        >>> import sys
        >>> grown = peak_memory(lambda: bytearray(32 * 2**20))
        >>> sys.platform != "linux" or 31 < grown < 40
        True
    """
    gc.collect()
    with suppress(AttributeError):  # elsewhere than in glibc
        ctypes.CDLL(None).malloc_trim(0)  # what is free already must not hide what `run` takes
    try:
        (PROCESS / "clear_refs").write_text("5")  # the peak is reset
        before = _status("VmRSS")
    except OSError:
        return None
    kept = run()  # a result counts, too
    peak = _status("VmHWM")
    del kept
    return (peak - before) / 2**10


def import_seconds(module: str) -> float:
    """Seconds that `import module` takes where torch is imported already, in a process of its own.

    Raises:
        subprocess.CalledProcessError: if it cannot be imported.
    """
    code = f"import time, torch; start = time.perf_counter(); import {module}; seconds = time.perf_counter() - start"
    command = [sys.executable, "-W", "ignore", "-c", f"{code}; print(); print(seconds)"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(printed.splitlines()[-1])


def _status(key: str) -> int:
    """A line of this process's status, in KiB."""
    for line in (PROCESS / "status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise OSError(f"{PROCESS}/status: no {key}")
