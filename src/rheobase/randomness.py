"""Random numbers that depend on their purpose, not on what happened before.

A training run draws for the order of samples, their augmentation, dropout and stochastic neurons. Here each draw is seeded by
the run's seed and by its own place (which epoch, which step, which process). So there is no generator state to save: a run that
resumes at epoch 7 draws what the uninterrupted run draws at epoch 7, and several processes agree on the order without
communicating.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

_ORDER, _AUGMENT, _DROPOUT, _EVALUATE, _PENALTY = range(5)


def order(seed: int, epoch: int, samples: int) -> np.ndarray:
    """The order of the samples in an epoch: a permutation of `range(samples)`."""
    return np.random.default_rng((seed, _ORDER, epoch)).permutation(samples)


def augmentation(seed: int, epoch: int) -> tuple[int, ...]:
    """The seed with which a data set augments its samples in this epoch."""
    return (seed, _AUGMENT, epoch)


def seed_layers(seed: int, epoch: int, step: int, process: int, device: torch.device) -> None:
    """Seed PyTorch's generators for one step on `device`: what dropout and stochastic layers draw from."""
    _seed(device, seed, _DROPOUT, epoch, step, process)


def seed_penalties(seed: int, epoch: int, step: int, device: torch.device) -> None:
    """The same for what penalties draw: one draw per step for all processes, or some would have a penalty and others none."""
    _seed(device, seed, _PENALTY, epoch, step)


@contextmanager
def evaluation(seed: int, device: torch.device) -> Iterator[Callable[[int, int], None]]:
    """A block in which stochastic layers are evaluated; PyTorch's generators are restored afterwards.

    Yields a function of a step and a process, to be called before each step: it seeds what the layers draw from.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield lambda step, process: _seed(device, seed, _EVALUATE, step, process)


def _seed(device: torch.device, *place: int) -> None:
    # Not by `torch.manual_seed`, which seeds the generators of all devices, including unrelated ones.
    number = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)
