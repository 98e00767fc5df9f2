"""Tests of tools/make_compact_spoken_digits.py."""

import numpy as np
import torch

from load_tool import load_tool
from rheobase.data import EventDataset, Events


def test_the_cut_keeps_all_counts_of_the_first_second():
    rng = np.random.default_rng(0)
    # Times as SHD stores them, float16, many of them on the edges of steps, some after the cut.
    times = np.sort(np.round(rng.random((8, 500)) * 1.2, 3), axis=1).astype(np.float16)
    offsets = np.array([0, 0, 500, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 4000])  # The first and last are empty.
    full = Events(times.ravel(), rng.integers(0, 700, 4000), offsets, np.arange(10), 700)
    compact = load_tool("make_compact_spoken_digits").cut(full)
    assert compact.channels == 140
    assert len(compact.times) < 4000
    samples = np.arange(10)
    for dt, group in ((0.005, 1), (0.01, 1), (0.01, 7), (0.05, 2)):
        steps = round(1.0 / dt)
        expected, _ = EventDataset(full, dt=dt, steps=steps, group=5 * group).batch(samples)
        got, labels = EventDataset(compact, dt=dt, steps=steps, group=group).batch(samples)
        assert torch.equal(got, expected), (dt, group)
        assert labels.tolist() == list(range(10))
    stored = compact.times.astype(np.float16).astype(np.float32)
    assert np.array_equal(stored, compact.times)
