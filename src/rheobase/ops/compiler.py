"""Machine code from Python functions, by numba, kept on disk so that the next process finds it.

Kernels are compiled for one set of types each, when they are first asked for. They do not hold Python's lock, they do what
IEEE 754 says (nothing may assume that there is no NaN), and a division by zero is infinite instead of an exception.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.dispatcher import Dispatcher


def compiled(kernel: Callable[..., Any], signature: Any, variant: str) -> Callable[..., Any]:
    """The kernel as machine code, from numba's cache on disk if it is there.

    The cache's files are named after the kernel, so each variant gets a name of its own: in a file that they shared, two
    processes that compile at the same time can leave the code of one variant under the key of the other.

    Args:
        kernel: a function that numba can compile. What it closes over is a part of its key in the cache, so it must be plain:
            functions that it calls stand in a module.
        signature: the types of its arguments.
        variant: a name that no other kernel in the same file has.
    """
    # A compiled function has another key in every process, so the kernel would never be found again.
    called = [cell.cell_contents for cell in kernel.__closure__ or () if isinstance(cell.cell_contents, Dispatcher)]
    assert not called, f"{variant} closes over {called}, and would be compiled in every process"
    kernel.__qualname__ = f"{variant}_{_sources()}"
    try:
        return njit(signature, nogil=True, error_model="numpy", cache=True)(kernel)
    except Exception:  # no folder that can be written, a full disk, a broken file: it works without a cache, too
        return njit(signature, nogil=True, error_model="numpy")(kernel)


@cache
def _sources() -> str:
    """A digest of all that kernels are made of, for the names of their files in the cache.

    numba recompiles what is in a module that has changed. But kernels are made of functions and constants of other modules as
    well, and after an update the old ones would stay in the machine code.
    """
    digest = hashlib.sha256((Path(__file__).parents[1] / "surrogate.py").read_bytes())  # the constants of shapes
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        text = source.read_bytes()
        if b"from numba" in text:
            digest.update(text)
    return digest.hexdigest()[:12]
