"""The weights in front of a network's output, so that at first its output says nothing.

Spikes are never negative. What the neurons in front of the output do on average is large beside how they differ from sample to
sample, and weights drawn at random make a constant of it, the same for all samples. A loss pushes that back with a gradient
that is the same for all samples, too, and that, unlike the one for labels, points along the weights which it goes back through:
it adds up over the batch, and grows on its way through layers in which all samples look alike, above all convolutions. After
some steps of training it is gone. So a new network is spared it: weights at right angles to what they hear on average make
nothing of it. Of n inputs that leaves n - 1 directions.
"""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized

_FEW = 16  # with fewer inputs the mean is much of what an output can hear, as in `rheobase.layers.initialisation`


@contextmanager
def quiet(behind: Sequence[nn.Module], others: AbstractSet[nn.Parameter] = frozenset()) -> Iterator[None]:
    """Within it, when the last of the layers `behind` the neurons runs, its weights become deaf to the mean of its input.

    The mean of its output over steps, samples and places is its bias then, which stays. The layer is left as it is if it is no
    linear layer or convolution, if its weights are not learned, computed by a parametrization or among `others`, and if there
    are fewer than 16 for each output.
    """
    module = behind[-1] if behind else None
    if module is None or not _plain(module):
        yield
        return

    def heard(_: nn.Module, arguments: tuple[Tensor, ...], __: object) -> None:
        if module.weight not in others:
            _deafen(module, arguments[0])

    handle = module.register_forward_hook(heard)
    try:
        yield
    finally:
        handle.remove()


def _plain(module: nn.Module) -> bool:
    if not isinstance(module, nn.Linear | _ConvNd) or getattr(module, "transposed", False):
        return False
    return not is_parametrized(module, "weight") and module.weight.requires_grad and module.weight[0].numel() >= _FEW


def _deafen(module: nn.Module, x: Tensor) -> None:
    """Take out of the weights of each output their part along the mean of what they are multiplied with."""
    assert isinstance(module, nn.Linear | _ConvNd)
    features = -1 if isinstance(module, nn.Linear) else -1 - len(module.kernel_size)
    with torch.enable_grad():
        means = module.forward(x.detach()).movedim(features, 0).flatten(1).mean(1)
        (mean,) = torch.autograd.grad(means.sum(), module.weight)  # as the layer hears it, with its borders and groups
    with torch.no_grad():
        weight, mean = module.weight.flatten(1), mean.flatten(1)
        along = (weight * mean).sum(1) / mean.square().sum(1).clamp(min=torch.finfo(mean.dtype).tiny)
        module.weight.sub_((along.unsqueeze(1) * mean).view_as(module.weight))
