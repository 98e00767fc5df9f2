"""Cases of stochastic firing, for the tests of its definition and of its kernels."""

import numpy as np
import torch
from torch import Tensor

from rheobase.ops import stochastic_lif

F64 = torch.float64


def random(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0.0, scale, shape))


def leaves(seed: int, dtype: torch.dtype = F64, steps: int = 11, step: tuple[int, ...] = (2, 3)) -> list[Tensor]:
    """x, the two decays, slope, offset, and the initial states."""
    state = F64 if dtype == F64 else torch.float32
    values = [
        random(seed, steps, *step, scale=0.7).to(dtype),
        random(seed + 1, step[-1]).sigmoid().to(state),
        random(seed + 2, *step).sigmoid().to(state),
        random(seed + 3, 1).exp().to(state),
        random(seed + 4, step[-1]).to(state),
        random(seed + 5, *step).to(state),
        random(seed + 6, *step).to(state),
    ]
    return [value.requires_grad_() for value in values]


def outputs(values: list[Tensor], firing: str, start: int = 3, temperature: float = 1.0) -> list[Tensor]:
    x, synapse_decay, decay, slope, offset, membrane, current = values
    initial = membrane, current, torch.tensor([1 << 60 | 77, start])
    spikes, (membrane, current, _) = stochastic_lif(
        x, synapse_decay, decay, slope, offset, initial, firing=firing, temperature=temperature
    )
    return [spikes, membrane, current]
