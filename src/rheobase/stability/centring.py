"""Weights that are orthogonal to their mean input, so that a new network responds to differences.

Spikes are never negative. The average activity of a layer is large compared with its differences from step to step and from
sample to sample, and random weights turn it into a constant, a different one for each unit they lead to. For a hidden neuron it
is a constant current: with one sign the neuron is silent whatever the input, with the other it fires at every step, and in deep
networks a third of the neurons end this way. For an output it is the same answer to all samples. A loss counters it with a
gradient that is also the same for all samples and that, unlike the one for labels, points along the weights it goes back
through: it adds up over the batch, and grows on its way through layers in which all samples look alike, above all convolutions.
After some steps of training it is gone.

Orthogonal weights spare a new network this: they map the mean input to zero. Of n inputs that leaves n - 1 directions.
"""

import math
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from rheobase.layers.initialization import FEW
from rheobase.layers.synapses import Synapses

_CONSTANT = 1e-9  # of the square of the mean: a variance that is mere rounding


@contextmanager
def centring(
    before_neurons: Iterable[nn.Module], before_output: Iterable[nn.Module], others: AbstractSet[Tensor] = frozenset()
) -> Iterator[None]:
    """Within it, the weights of modules become orthogonal to their mean input, just before they run.

    The mean of their output over steps, samples and places is then their bias. Before neurons, learned biases become their
    mean, or 0 where that mean is due to chance; those of an output stay. A module is left as it is if it is not a linear layer
    or convolution, if its weights are not learned, computed by a parametrization or among `others`, or if there are fewer than
    16 for each unit.
    """

    def about_to_hear(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if module.weight not in others:
            _deafen(module, arguments[0])

    def about_to_drive(module: nn.Module, _: object) -> None:
        bias = module._parameters.get("bias")
        if module.weight not in others and bias is not None and bias.requires_grad:
            with torch.no_grad():
                bias.fill_(_common(bias))

    drive, answer = (list(filter(can_be_centred, modules)) for modules in (before_neurons, before_output))
    handles = [module.register_forward_pre_hook(about_to_hear) for module in (*drive, *answer)]
    handles += [module.register_forward_pre_hook(about_to_drive) for module in drive]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def can_be_centred(module: nn.Module) -> bool:
    """Whether it is a linear layer or a convolution with its own learned weights, enough of them for each output."""
    if not isinstance(module, Synapses) or getattr(module, "transposed", False):
        return False
    weight = module._parameters.get("weight")  # not there if it is computed, by a parametrization or by pruning
    return weight is not None and weight.requires_grad and weight[0].numel() >= FEW


def is_frozen(module: nn.Module) -> bool:
    """Whether it has weights, and none of them learns, nor anything that they are computed from."""
    weights = [parameter for name, parameter in module.named_parameters() if "bias" not in name]
    return bool(weights) and not any(parameter.requires_grad for parameter in weights)


def _common(biases: Tensor) -> float:
    """The mean of biases; 0 where it is no further from 0 than that of random numbers of mean 0."""
    mean, chance = biases.mean().item(), biases.std(correction=0).item() / math.sqrt(len(biases))
    return mean if abs(mean) > 3 * chance else 0.0


def _deafen(module: nn.Module, x: Tensor) -> None:
    """Remove from the weights of each output their component along the mean of their input."""
    assert isinstance(module, Synapses)
    features = -1 - len(module.kernel_size) if isinstance(module, _ConvNd) else -1
    with torch.enable_grad():
        heard = module.forward(x.detach()).movedim(features, 0).flatten(1)
        means = heard.mean(1)
        if not bool(heard.detach().var(1).sum() > _CONSTANT * means.detach().square().sum()):
            return  # there is no other input
        (mean,) = torch.autograd.grad(
            means.sum(), module.weight
        )  # as the layer receives it, with its borders and groups
    with torch.no_grad():
        weight, mean = module.weight.flatten(1), mean.flatten(1)
        along = (weight * mean).sum(1) / mean.square().sum(1).clamp(min=torch.finfo(mean.dtype).tiny)
        module.weight.sub_((along.unsqueeze(1) * mean).view_as(module.weight))
