"""Batch normalization over the whole batch when several processes share it.

PyTorch normalizes by what a process sees, so two processes with half a batch each train a different network than one with all
of it. (Its `SyncBatchNorm` fixes that only on GPUs.) Here the processes add up their sums before they divide.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of the gradients, since each process's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        torch.distributed.all_reduce(total)
        return total


class SharedBatchNorm(_BatchNorm):
    """A batch normalization, `(B, features, ...)`, whose mean and variance are those of all processes' samples together."""

    own_kind: type[_BatchNorm]
    """What it stands in for."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"SharedBatchNorm: x must be (B, features, ...), got shape {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """`input` normalized; in evaluation by the running statistics, as usual."""
        x = input
        self._check_input_dim(x)
        if not self.training and self.running_mean is not None:
            return super().forward(x)
        axes = [0, *range(2, x.ndim)]
        shape = (1, -1, *[1] * (x.ndim - 2))
        values = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        own = values.new_tensor([x.numel() // x.shape[1]])
        sums = _Sum.apply(torch.cat((values.sum(axes), own)))
        assert isinstance(sums, Tensor)
        count = sums[-1].detach()
        if (
            x.numel() // x.shape[1] < 2 and count < 2
        ):  # as in PyTorch's own; and no process waits for its GPU needlessly
            raise ValueError(
                f"SharedBatchNorm: x must hold more than one value for each feature, in all processes together, got {count:g}"
            )
        mean = sums[:-1] / count
        centred = values - mean.view(shape)
        # Around the mean, in a second round: the difference of two large sums would lose the digits of a small variance.
        # (PyTorch's own, in float32 on the CPU, is farther from the float64 result; by that much the two differ.)
        squares = _Sum.apply(centred.square().sum(axes))
        assert isinstance(squares, Tensor)
        variance = squares / count
        self._remember(mean.detach(), (squares / (count - 1)).detach())
        y = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def share_statistics(network: nn.Module) -> None:
    """Replace every batch normalization in `network` by a `SharedBatchNorm` with the same parameters and buffers."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, _BatchNorm) and not isinstance(layer, SharedBatchNorm | nn.SyncBatchNorm):
                shared = SharedBatchNorm(layer.num_features, layer.eps, layer.momentum, layer.affine)
                # Everything of the module stays (parameters, buffers, mode, hooks); only its class changes.
                shared.__dict__.update(layer.__dict__, own_kind=type(layer))
                setattr(parent, name, shared)


def give_back_statistics(network: nn.Module) -> None:
    """Undo `share_statistics`: once no other process is there, each batch normalization is of its own kind again."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, SharedBatchNorm):
                own = layer.own_kind.__new__(layer.own_kind)
                own.__dict__.update(layer.__dict__)
                del own.__dict__["own_kind"]
                setattr(parent, name, own)
