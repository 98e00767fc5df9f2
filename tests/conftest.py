"""Settings that hold for all tests."""

import os
from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from hypothesis import HealthCheck, settings

# The problems here are so small that a second thread only gets in the way, here and in the processes that tests start: on a
# busy machine the README's training of 6 seconds took 30, as its threads waited for each other. Tests of threads set a number.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

# A shared machine is slow at times: a slow example is no failure. Examples are derived from the test itself, so that a
# red test is red again when it is run again.
settings.register_profile("rheobase", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rheobase")


@pytest.fixture
def as_a_user() -> Iterator[None]:
    """Without the run-time check of annotations, which would catch a wrong argument before the library's own check."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
