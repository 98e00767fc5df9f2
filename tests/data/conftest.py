"""Small event sets for the tests of this folder."""

import numpy as np
import pytest

from rheobase.data import Events


@pytest.fixture
def events() -> Events:
    """Twelve recordings of 40 events in 20 channels over 0.5 s: three classes, two speakers."""
    rng = np.random.default_rng(0)
    times = np.sort(rng.random((12, 40)) * 0.5, axis=1).astype(np.float32)
    return Events(
        times=times.ravel(),
        units=rng.integers(0, 20, 480),
        offsets=np.arange(0, 481, 40),
        labels=np.arange(12) % 3,
        channels=20,
        classes=("yes", "no", "perhaps"),
        speakers=np.arange(12) // 6,
        speaker_names=("anna", "otto"),
    )
