"""The Triton kernels without a GPU: run by Triton's interpreter, or compiled and not run.

Triton decides when it decorates a function whether that will be interpreted. So each test that needs kernels gets modules of
its own, imported with the environment variable set as it should be, and everything is put back: other tests, and whatever
else uses Triton in this process, do not notice. On a machine with a GPU the kernels are the real ones, on the GPU.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from unittest.mock import patch

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.interpreter import InterpretedFunction
from triton.runtime.jit import JITFunction

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
_MODULES = ["rheobase.ops.tiles", "rheobase.ops.slope.gpu", "rheobase.ops.noise.gpu"]
_MODULES += [
    f"rheobase.ops.{operation}.gpu" for operation in ("lif", "adaptive", "integrate", "single_spike", "stochastic")
]


def load(operation: str, *, interpret: bool = DEVICE.type == "cpu") -> ModuleType:
    """A fresh copy of `rheobase.ops.<operation>.gpu`, for the interpreter or for the compiler."""
    with ExitStack() as stack:
        stack.enter_context(patch.dict(sys.modules))
        stack.enter_context(patch.dict(os.environ, TRITON_INTERPRET="1" if interpret else "0"))
        for module in _MODULES:
            sys.modules.pop(module, None)
            package, _, name = module.rpartition(".")  # an import leaves the module in its package, too
            stack.enter_context(patch.dict(vars(importlib.import_module(package))))
            vars(sys.modules[package]).pop(name, None)
        return importlib.import_module(f"rheobase.ops.{operation}.gpu")


def laid_out(module: ModuleType, **changes: int) -> ModuleType:
    """The module, with its kernels in the layout for many lanes, but for these changes, whatever comes."""
    layout = module.layout(512, torch.device("cpu"))._replace(**changes)
    for user in (module, getattr(module, "integration", module)):
        user.layout = lambda lanes, device: layout
    return module


@contextmanager
def running() -> Iterator[None]:
    """What a kernel does not write is NaN; and NumPy, which computes for the interpreter, does not warn of `inf - inf`."""

    def call(self, *arguments, **options):
        # The interpreter prepares the whole language again for each call within a kernel: four fifths of its time.
        return self.rewrite()(*arguments, **options)

    torch.use_deterministic_algorithms(True)
    try:
        with np.errstate(all="ignore"), patch.object(InterpretedFunction, "__call__", call):
            yield
    finally:
        torch.use_deterministic_algorithms(False)


class _NoDevice:
    """What Triton asks a driver for before it compiles."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def compiling(folder: str) -> Iterator[list[str]]:
    """Kernels are compiled for a GPU, to its machine code, and not launched; gives the names of those that were."""
    compiled = []
    run = JITFunction.run

    def compile_only(self, *arguments, warmup, **options):
        kernel = run(self, *arguments, warmup=True, **options)
        assert len(kernel.asm["cubin"]) > 1000
        compiled.append(self.fn.__name__)

    with (
        patch.object(triton.runtime.driver, "_active", _NoDevice()),
        patch.object(JITFunction, "run", compile_only),
        triton.knobs.cache.scope(),
    ):
        triton.knobs.cache.dir = folder
        yield compiled
