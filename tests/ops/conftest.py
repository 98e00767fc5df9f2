from collections.abc import Iterator

import pytest

from computing import computed_by


@pytest.fixture(scope="module", params=["kernels", "reference"])
def computer(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test twice: computed by the kernels, and by the reference."""
    with computed_by(request.param):
        yield request.param
