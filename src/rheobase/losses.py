"""Losses that look at outputs over time.

For a loss on decoded logits PyTorch's own are right: `functional.cross_entropy(decoding.mean(output), labels)`. Here are those
that need every step, or know which steps are there.
"""

import torch
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor
from torch.nn import functional

from rheobase import decoding
from rheobase.padding import only

NO_CLASS = -100
"""Stands where a step has no class, as it does for PyTorch's cross-entropy."""


def has_class(labels: Shaped[Tensor, "..."]) -> Bool[Tensor, "..."]:
    """Where labels are not `NO_CLASS`; of any integer type, for in uint8 -100 would be compared as 156.

    Example:
        >>> has_class(torch.tensor([156, 0], dtype=torch.uint8)), has_class(torch.tensor([0, -100]))
        (tensor([True, True]), tensor([ True, False]))
    """
    return (labels if labels.is_floating_point() else labels.long()) != NO_CLASS


def _check(output: Tensor, labels: Tensor, what: str) -> None:
    """Refuse classes that are not one for each sample."""
    if labels.ndim != 1:
        raise ValueError(f"{what}: labels must be (B,), one class per sample, got shape {tuple(labels.shape)}")
    _check_classes(output, labels, what)


def _check_classes(output: Tensor, labels: Tensor, what: str) -> None:
    """Refuse classes that are not one for each sample, nor one for each sample at every step."""
    if labels.is_floating_point():
        raise TypeError(f"{what}: labels must be whole numbers, got {labels.dtype}; convert them: labels.long()")
    if len(output) == 0:
        raise ValueError(f"{what}: output has no time steps, got shape {tuple(output.shape)}")
    if output.ndim != 3 or labels.shape not in (output.shape[1:2], output.shape[:2]):
        hint = "; is it batch-first? transpose it" if output.ndim == 3 and labels.shape == output.shape[:1] else ""
        raise ValueError(
            f"{what}: output must be (T, B, C) with one label per sample, "
            f"got output {tuple(output.shape)} and labels {tuple(labels.shape)}{hint}"
        )
    classes = output.shape[2]
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"{what}: labels must lie in 0..{classes - 1}, got {int(labels.min())}..{int(labels.max())}")


def cross_entropy_per_step(
    output: Float[Tensor, "T B C"],
    labels: Integer[Tensor, " B"] | Integer[Tensor, "T B"],
    *,
    label_smoothing: float = 0.0,
    mask: Bool[Tensor, "T B"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy at every step, averaged: the network is asked to know the answer all the time, early decisions pay.

    Args:
        output: the readout's membrane potential, used as logits at each step, `(T, B, C)`.
        labels: the classes, `(B,)`; or a class at every step, `(T, B)`, -100 (`NO_CLASS`) at steps that have none.
        label_smoothing: the share of the target that is spread over all classes, in [0, 1).
        mask: True where a step is there, `(T, B)`; None is all. The mean is over these steps of each sample that have a class,
            then over samples, so that a long one does not count for more; one without any step adds 0.

    Returns:
        The loss, a scalar.

    Raises:
        TypeError: if the labels are floating point, or `mask` is not boolean.
        ValueError: if the shapes do not fit or a label is out of range.

    Source: Deng et al., "Temporal Efficient Training of Spiking Neural Network via Gradient Re-weighting", 2022.

    Example:
        >>> cross_entropy_per_step(torch.zeros(5, 2, 4), torch.tensor([0, 3]))  # log(4)
        tensor(1.3863)
    """
    if labels.ndim == 2 and labels.shape == output.shape[:2]:
        asked = has_class(labels)
        if mask is not None or not asked.all():
            mask = asked if mask is None else mask & asked
    if mask is not None:
        # Beforehand too, for at a NaN in the padding the gradient would be one, even of a loss that does not count.
        output = only(output, mask, "cross_entropy_per_step")
        if labels.shape == mask.shape:
            labels = torch.where(mask, labels, 0)  # in place of what says in padding that there is no class, such as -1
    _check_classes(output, labels, "cross_entropy_per_step")
    targets = labels.long().expand(output.shape[:2]).flatten()
    if mask is None:
        return functional.cross_entropy(output.flatten(0, 1), targets, label_smoothing=label_smoothing)
    losses = functional.cross_entropy(output.flatten(0, 1), targets, label_smoothing=label_smoothing, reduction="none")
    return decoding.mean(losses.view(mask.shape), mask).mean()


def rate_mse(
    spikes: Float[Tensor, "T B C"],
    labels: Integer[Tensor, " B"],
    *,
    correct: float = 0.2,
    wrong: float = 0.03,
    mask: Bool[Tensor, "T B"] | None = None,
) -> Float[Tensor, ""]:
    """Squared distance of the output neurons' firing rates from target rates, averaged over batch and classes.

    Args:
        spikes: the output neurons' spikes, `(T, B, C)`.
        labels: the classes, `(B,)`.
        correct: the target rate of the right class's neuron, spikes per step.
        wrong: the target rate of all others.
        mask: True where a step is there, `(T, B)`: rates are spikes per such step; None is all.

    Returns:
        The loss, a scalar.

    Raises:
        TypeError: if the labels are floating point, or `mask` is not boolean.
        ValueError: if the shapes do not fit, a label is out of range, or a target rate is not in [0, 1].

    Source: Shrestha and Orchard, "SLAYER", 2018 (its spike-rate loss).

    Example:
        >>> spikes = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])
        >>> rate_mse(spikes, torch.tensor([0]), correct=0.5, wrong=0.0)
        tensor(0.)
    """
    _check(spikes, labels, "rate_mse")
    for name, rate in (("correct", correct), ("wrong", wrong)):
        if not 0 <= rate <= 1:
            raise ValueError(f"rate_mse: {name} must be a rate in [0, 1], spikes per step, got {rate}")
    rates = decoding.mean(spikes, mask)
    target = torch.full_like(rates, wrong).scatter_(1, labels.long().unsqueeze(1), correct)
    return functional.mse_loss(rates, target)


def squared_error(
    values: Float[Tensor, "..."], targets: Float[Tensor, "..."], *, mask: Bool[Tensor, "T B"] | None = None
) -> Float[Tensor, ""]:
    """Mean squared error of numbers that have targets.

    Args:
        values: decoded outputs, `(B, *K)`, or outputs at every step, `(T, B, *K)`.
        targets: what they should be, of the same shape.
        mask: of outputs at every step: True where a step is there, `(T, B)`; None is all. The mean is over these steps of each
            sample, then over samples, so that a long one does not count for more.

    Returns:
        The loss, a scalar.

    Raises:
        TypeError: if `mask` is not boolean, or targets are whole numbers, such as classes.
        ValueError: if the shapes differ, which would broadcast, or `mask` is not `(T, B)`.

    Example:
        >>> squared_error(torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [1.0]]))
        tensor(2.)
    """
    if not targets.is_floating_point():
        raise TypeError(
            f"squared_error: targets must be floating point, got {targets.dtype}; convert numbers, y.float(), and for classes "
            "at every step give a loss that takes them, rheobase.losses.cross_entropy_per_step"
        )
    if values.shape != targets.shape:
        one = values.shape == (*targets.shape, 1)
        raise ValueError(
            f"squared_error: values and targets must have the same shape, got {tuple(values.shape)} and {tuple(targets.shape)}"
            + ("; targets of a single output are y.unsqueeze(-1)" if one else "")
        )
    kind = torch.promote_types(values.dtype, targets.dtype)  # which PyTorch's loss does forwards, but not backwards
    values, targets = values.to(kind), targets.to(kind)
    if mask is None:
        return functional.mse_loss(values, targets)
    errors = (only(values, mask, "squared_error") - only(targets, mask, "squared_error")) ** 2
    return decoding.mean(errors.flatten(2).mean(2) if errors.ndim > 2 else errors, mask).mean()
