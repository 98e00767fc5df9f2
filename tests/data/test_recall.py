"""Delayed recall: the cues are where they are said to be, and nothing else tells the label."""

import numpy as np
import pytest
import torch

from rheobase.data import draw_delayed_recall


def test_the_label_is_the_sum_of_the_cues():
    data = draw_delayed_recall(300, seed=1, delay=30, noise=0.0)
    x = data.x.unflatten(2, (3, 10))
    first, second = (x[start : start + 5].sum((0, 3)) for start in (0, 35))
    assert not x[5:35].any()
    assert not x[40:].any()
    assert bool(((first > 0).sum(1) == 1).all())
    np.testing.assert_array_equal(((first.argmax(1) + second.argmax(1)) % 3).numpy(), data.labels)
    assert first.sum().item() == pytest.approx(300 * 25, rel=0.03)
    # The second cue alone says nothing about the label.
    table = np.histogram2d(second.argmax(1).numpy(), data.labels, bins=3)[0]
    assert table.min() > 20


def test_noise_and_seeds():
    data = draw_delayed_recall(200, seed=0, delay=30, noise=0.1)
    assert data.x[5:35].mean().item() == pytest.approx(0.1, abs=0.005)
    assert data.fingerprint() == draw_delayed_recall(200, seed=0, delay=30, noise=0.1).fingerprint()
    assert data.fingerprint() != draw_delayed_recall(200, seed=1, delay=30, noise=0.1).fingerprint()
    assert set(data.x.unique().tolist()) == {0.0, 1.0}
    assert data.x.dtype == torch.float32


@pytest.mark.parametrize(
    "settings", [{"samples": 0}, {"delay": -1}, {"symbols": 1}, {"channels": 0}, {"noise": 1.0}, {"seed": -1}], ids=str
)
def test_arguments_out_of_range(settings):
    name = next(iter(settings))
    with pytest.raises(ValueError, match=name):
        draw_delayed_recall(**{"samples": 3, "seed": 0, **settings})
