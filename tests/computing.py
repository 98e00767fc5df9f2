"""Who computes: the kernels, or the reference that they must agree with."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rheobase.ops import kernels


@contextmanager
def computed_by(name: str) -> Iterator[None]:
    """Inside, operations are computed by "kernels" or by the "reference"."""
    with pytest.MonkeyPatch.context() as patch:
        if name == "reference":
            patch.setattr(kernels, "why_not", lambda _device: "a test asks for the reference")
        else:
            assert kernels.why_not("cpu") is None, "without its kernels, nothing here tests them"
        yield
