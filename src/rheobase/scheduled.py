"""Modules that change over the course of training, and how far they are.

Some methods are not the same at the end of training as at its start: a mask closes, a sequence grows. Such a module keeps the
progress of training in a buffer, so that the weights of an epoch carry it with them: the best epoch is evaluated as it was
trained, and a resumed run continues where it was.
"""

import torch
from torch import Tensor, nn


class Scheduled(nn.Module):
    """A module that behaves according to `progress`: 0 in the first epoch of training, 1 in the last, and 1 outside training.

    `rheobase.fit` sets it before every epoch, to 1 where there is only one; `set_progress` sets it by hand.

    Example:
        >>> Scheduled().progress
        tensor(1.)
    """

    progress: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("progress", torch.ones(()))

    def proceed(self, progress: float) -> None:
        """Move the module to `progress`; it remembers that, and a subclass may do more."""
        self.progress.fill_(progress)

    def is_settled(self) -> bool:
        """Whether the module has reached its final form: only then can an epoch be the best. By default it always has.

        Once settled, a module stays so for the rest of training.
        """
        return True


def is_settled(network: nn.Module) -> bool:
    """Whether every `Scheduled` module in `network` has reached its final form.

    Example:
        >>> is_settled(nn.Sequential(nn.Linear(2, 2), Scheduled()))
        True
    """
    return all(module.is_settled() for module in network.modules() if isinstance(module, Scheduled))


def set_progress(network: nn.Module, progress: float) -> None:
    """Tell every `Scheduled` module in `network` the progress of training.

    Args:
        network: any module.
        progress: from 0, the start, to 1, the end.

    Raises:
        ValueError: if `progress` is not in [0, 1].

    Example:
        >>> module = nn.Sequential(Scheduled())
        >>> set_progress(module, 0.25)
        >>> module[0].progress
        tensor(0.2500)
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"set_progress: progress must be in [0, 1], got {progress}")
    for module in network.modules():
        if isinstance(module, Scheduled):
            module.proceed(progress)
