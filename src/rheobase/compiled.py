"""Networks compiled by `torch.compile`, and hooks on them.

Counting spikes, masking padding and measuring gradients hook into layers for a while. A module compiled before a hook is
registered skips it silently. So while such hooks are registered, networks run uncompiled.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn


@contextmanager
def as_written() -> Iterator[None]:
    """A block in which modules compiled by `torch.compile` run uncompiled, hooks included.

    Example:
        >>> twice = torch.compile(lambda x: 2 * x, backend="eager")
        >>> with as_written():
        ...     twice(torch.ones(2))  # nothing is compiled
        tensor([2., 2.])
    """
    if "torch._dynamo" not in sys.modules or torch.compiler.is_compiling():
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def original(network: nn.Module) -> nn.Module:
    """The original of `torch.compile(original)`, or `network` itself if it is not compiled.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> original(torch.compile(layer, backend="eager")) is layer, original(layer) is layer
        (True, True)
    """
    return cast(nn.Module, getattr(network, "_orig_mod", network))


def path_without_wrappers(path: str) -> str:
    """The path of a module within a network, without the part that marks a compiled one.

    Example:
        >>> path_without_wrappers("_orig_mod.1"), path_without_wrappers("0._orig_mod.2.layer")
        ('1', '0.2.layer')
    """
    return ".".join(part for part in path.split(".") if part != "_orig_mod")
