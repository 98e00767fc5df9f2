"""Networks that fail on purpose, each in one way, and one that does not."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

import rheobase as rb

INPUTS, HIDDEN, CLASSES = 40, 50, 5


def spikes(steps: int = 60, samples: int = 16, rate: float = 0.1, seed: int = 0) -> Tensor:
    """Input spikes at random; each sample has channels of its own that are busier."""
    generator = torch.Generator().manual_seed(seed)
    rates = rate * 2 * torch.rand(1, samples, INPUTS, generator=generator)
    return (torch.rand(steps, samples, INPUTS, generator=generator) < rates).float()


def labels(samples: int = 16) -> Tensor:
    return torch.arange(samples) % CLASSES


def network(
    depth: int = 2,
    gain: float = 1.0,
    make: Callable[..., nn.Module] = rb.LIF,
    readout_decay: float = 0.9,
    **options: Any,
) -> rb.Sequential:
    """Layers of neurons with normal weights, of a size that makes them fire at 5 to 20 % of the steps; `gain` times that.

    Weights are set by hand, so that these networks do not depend on how layers are initialized.
    """
    sizes = [INPUTS, *[HIDDEN] * depth]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), make(after, **options)]
    net = rb.Sequential(*layers, nn.Linear(HIDDEN, CLASSES), rb.LeakyReadout(CLASSES, decay=readout_decay))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Linear):
                size = gain * 3.0 / math.sqrt(module.in_features)
                module.weight.normal_(0, size, generator=generator)
                module.bias.zero_()
            if isinstance(module, rb.RecurrentLIF | rb.RecurrentAdaptiveLIF):
                module.recurrent_weight.normal_(0, 0.5 / math.sqrt(HIDDEN), generator=generator)
    return net


@torch.no_grad()
def with_bias(layer: int, value: float) -> rb.Sequential:
    """A network whose linear layer with this number drives all of its neurons up, or down."""
    net = network()
    linears(net)[layer].bias.fill_(value)
    return net


def linears(net: nn.Module) -> list[nn.Linear]:
    return [module for module in net.modules() if isinstance(module, nn.Linear)]
