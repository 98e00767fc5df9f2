"""The first batch of a data set, checked before it reaches the network, with messages in terms of the data.

A batch of a user's own data set may hold what PyTorch refuses only deep within a layer or a loss, in a message that names
neither. Later batches are assumed to be like the first.
"""

import torch
from torch import Tensor, nn

from rheobase.errors import DataError


def check_batch(
    batch: object,
    samples: int,
    classes: tuple[str, ...],
    name: str,
    network: nn.Module,
    bfloat16: bool,
    axis: int = 0,
) -> None:
    """Refuse a batch that `network` or the loss could not take.

    Args:
        batch: what `batch(indices)` of a data set returned.
        samples: the number of indices.
        classes: the names of the classes; empty with targets.
        name: the data set's name in error messages.
        network: what the batch is for.
        bfloat16: whether the network computes in mixed precision.
        axis: for targets, the axis of the samples, 1 with a target at every step.

    Raises:
        TypeError: if the batch is not a pair of tensors, or one of them has the wrong type.
        DataError: if their shapes do not match, or a label is out of range.

    Example:
        >>> check_batch((torch.rand(9, 2, 4), torch.tensor([1, 2])), 2, ("no", "yes"), "train", nn.Linear(4, 2), False)
        Traceback (most recent call last):
        rheobase.errors.DataError: train.batch: got the label 2, expected an index into the 2 classes, 0 to 1
    """
    what = f"{name}.batch"
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise TypeError(f"{what}: got a {type(batch).__name__}, expected a pair (x, labels)")
    x, labels = batch
    for part, value in (("x", x), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{what}: {part} is a {type(value).__name__}, expected a torch.Tensor; convert it: torch.as_tensor({part})"
            )
    if x.ndim < 2 or x.shape[0] == 0 or x.shape[1] != samples:
        raise DataError(
            f"{what}: x has shape {tuple(x.shape)}, expected (T, B, *features), time first, with B = {samples} samples; if it "
            "is batch-first, x.transpose(0, 1)"
        )
    _check_type(x, what, network, bfloat16)
    if not classes:
        if labels.ndim <= axis or labels.shape[axis] != samples:
            expected = (
                f"(T, {samples}, *K), a target at every step" if axis else f"({samples}, *K), one for each sample"
            )
            raise DataError(f"{what}: targets have shape {tuple(labels.shape)}, expected {expected}")
        return
    if labels.dtype != torch.int64:
        raise TypeError(f"{what}: labels are {labels.dtype}, expected torch.int64; convert them with labels.long()")
    if labels.shape != (samples,):
        raise DataError(f"{what}: labels have shape {tuple(labels.shape)}, expected ({samples},), one for each sample")
    outside = labels[(labels < 0) | (labels >= len(classes))]
    if len(outside):
        expected = f"an index into the {len(classes)} classes, 0 to {len(classes) - 1}"
        raise DataError(f"{what}: got the label {outside[0].item()}, expected {expected}")


def _check_type(x: Tensor, what: str, network: nn.Module, bfloat16: bool) -> None:
    computes = {parameter.dtype for parameter in network.parameters() if parameter.is_floating_point()}
    if bfloat16 and torch.float32 in computes:
        computes |= {torch.float16, torch.bfloat16}  # which layers convert into each other
    if not x.is_floating_point() or (computes and x.dtype not in computes):
        wanted = torch.float32 if not computes or torch.float32 in computes else next(iter(computes))
        raise TypeError(f"{what}: x is {x.dtype}, but the network computes in {wanted}; convert it with x.to({wanted})")
