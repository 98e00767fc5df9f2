"""Settings that hold for all tests."""

import gc
import os
from collections.abc import Iterator

import jaxtyping
import pytest
import torch
from hypothesis import HealthCheck, settings

# The problems here are so small that a second thread only gets in the way, here and in the processes that tests start: a
# training of 7 seconds takes 30 when threads of two processes wait for each other. Tests of threads set a number themselves.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

# A shared machine is slow at times: a slow example is no failure. Examples are derived from the test itself, so that a
# red test is red again when it is run again.
settings.register_profile("rheobase", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rheobase")


def pytest_collection_finish() -> None:
    """What has been imported by now stays: the garbage collector, which tests call often, need not look at it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def as_a_user() -> Iterator[None]:
    """Without the run-time check of annotations, which would catch a wrong argument before the library's own check."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
