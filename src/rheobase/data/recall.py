"""Delayed recall: a task that cannot be solved without a memory.

Two cues, with only noise between them; the label is their sum. A network that has forgotten the first when the second comes can
only guess. The data is drawn, so there is no file to read, and its difficulty is one number, the delay.
"""

import numpy as np
import torch

from rheobase.data.arrays import ArrayDataset
from rheobase.data.dataset import check_seed

CUE = 5
"""Steps that a cue lasts; as many follow the second one."""


def draw_delayed_recall(
    samples: int, seed: int, *, delay: int = 40, symbols: int = 3, channels: int = 10, noise: float = 0.02
) -> ArrayDataset:
    """Samples of two cues, `delay` steps apart; the label is the sum of the two, modulo the number of symbols.

    Each symbol has its own channels, which spike at half of the steps of a cue; at other times, and on all other channels,
    spikes come at the rate `noise`.

    Args:
        samples: the number of samples, at least 1.
        seed: >= 0; the same seed draws the same.
        delay: steps between the cues, at least 0.
        symbols: the number of different cues, and of classes; at least 2.
        channels: those of each symbol, at least 1.
        noise: spikes per step, in [0, 1).

    Returns:
        Sequences `(delay + 15, samples, symbols * channels)`, and labels.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> data = draw_delayed_recall(6, seed=0, delay=20)
        >>> data.x.shape, data.labels
        (torch.Size([35, 6, 30]), array([2, 1, 1, 2, 1, 2]))
    """
    for name, value, low in (
        ("samples", samples, 1),
        ("delay", delay, 0),
        ("symbols", symbols, 2),
        ("channels", channels, 1),
    ):
        if value < low:
            raise ValueError(f"draw_delayed_recall: {name} must be at least {low}, got {value}")
    if not 0 <= noise < 1:
        raise ValueError(f"draw_delayed_recall: noise must be in [0, 1), got {noise}")
    check_seed((seed,))
    rng = np.random.default_rng(seed)
    cues = rng.integers(symbols, size=(2, samples))
    rates = np.full((3 * CUE + delay, samples, symbols, channels), noise, np.float32)
    for cue, start in zip(cues, (0, CUE + delay), strict=True):
        rates[start : start + CUE, np.arange(samples), cue] = 0.5
    spikes = rng.random(rates.shape, np.float32) < rates
    x = torch.from_numpy(spikes.reshape(*rates.shape[:2], -1).astype(np.float32))
    return ArrayDataset(x, cues.sum(0) % symbols, tuple(str(symbol) for symbol in range(symbols)))
