"""What a network says of its samples, and how it is counted: answers that are classes, or numbers to come close to.

All else in training is the same for both, so the difference is kept here: what is decoded from an output and what it costs,
unless the user says otherwise, and what is remembered of a whole data set.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.nn import functional

from rheobase import decoding
from rheobase.data import Dataset
from rheobase.losses import squared_error
from rheobase.ops.arguments import state_type
from rheobase.training.engine import Engine
from rheobase.training.lengths import given

Loss = Callable[..., Tensor]
"""Of the network's output `(T, B, C)` and the labels `(B,)` or targets, the mean over the batch, a scalar. With samples of
different lengths it is called with `mask=` besides, `(T, B)`, True where a step is there."""

Decode = Callable[..., Tensor]
"""From the network's output `(T, B, C)` to one value per class, `(B, C)`; the largest is the answer. Or to what is compared
with targets. With samples of different lengths it is called with `mask=` besides, `(T, B)`, True where a step is there."""


def has_target_at_every_step(dataset: Dataset) -> bool:
    """Whether the targets of a data set are `(T, B, *K)`."""
    return not dataset.classes and bool(getattr(dataset, "every_step", False))


def sample_axis(dataset: Dataset) -> int:
    """Where the samples are in a batch of labels or targets."""
    return 1 if has_target_at_every_step(dataset) else 0


def decode_for(dataset: Dataset) -> Decode:
    """The decoder unless the user says otherwise: the mean over time; for targets at every step, the output itself."""
    return decoding.every_step if has_target_at_every_step(dataset) else decoding.mean


def loss_for(dataset: Dataset, decode: Decode) -> Loss:
    """The loss of the decoded output unless the user says otherwise: the cross-entropy; of targets, the mean squared error."""
    at_every_step = has_target_at_every_step(dataset)

    def cross_entropy(output: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        return functional.cross_entropy(given(decode, mask)(output), labels)

    def mean_squared_error(output: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        return squared_error(given(decode, mask)(output), targets, mask=mask if at_every_step else None)

    return cross_entropy if dataset.classes else mean_squared_error


def precise(output: Tensor) -> Tensor:
    """An output as precise as losses and answers are computed: that of half precision in float32."""
    return output.to(state_type(output))


def check_functions(loss: object, decode: object) -> None:
    """Refuse a loss and a decoder that are no functions: a word, most likely.

    Raises:
        TypeError: naming the argument, and what to write.
    """
    examples = {"loss": (loss, "losses.cross_entropy_per_step"), "decode": (decode, "decoding.mean")}
    for name, (value, example) in examples.items():
        if value is not None and not callable(value):
            raise TypeError(f"{name} must be a function, such as rheobase.{example}, got {value!r}")


def loss_on(output: Tensor, labels: Shaped[Tensor, "..."], loss: Loss) -> Tensor:
    """The loss, or what is wrong with it in words.

    Raises:
        ValueError: if `loss` cannot take the output, or returns no scalar.
    """
    try:
        value = loss(output, labels)
    except (ValueError, RuntimeError, IndexError) as error:
        if type(error) not in (ValueError, RuntimeError, IndexError):  # such as an accelerator that is out of memory
            raise
        classes = labels.ndim == 1 and not labels.is_floating_point()
        hint = "one that is made for logits is lambda output, labels: loss(rheobase.decoding.mean(output), labels): "
        raise ValueError(
            f"loss cannot take the output (T, B, C) = {tuple(output.shape)} and the {'labels' if classes else 'targets'} "
            f"{tuple(labels.shape)}; {hint if classes else ''}{error}"
        ) from error
    if value.ndim:
        raise ValueError(f"loss must return a scalar, the mean over the batch, got shape {tuple(value.shape)}")
    return value


def right_answers(output: object, decode: Decode, labels: Shaped[Tensor, "..."], samples: int, classes: int) -> Tensor:
    """How many of the samples of a batch are answered rightly; NaN where there are no classes.

    Raises:
        TypeError, ValueError: as `classes_found`; of targets, only if the output is not `(T, B, ...)`.
    """
    if classes == 0:
        _check_output(output, samples)
        return torch.tensor(math.nan, device=labels.device)
    return (classes_found(output, decode, labels, classes) == labels).sum()


def classes_found(output: object, decode: Decode, labels: Int[Tensor, " B"], classes: int) -> Int[Tensor, " B"]:
    """The classes that the network's `output` stands for.

    Raises:
        TypeError: if the output is no tensor.
        ValueError: if the output is not `(T, B, C)`, or what `decode` makes of it is not one value for each of the `classes`.
    """
    output = _check_output(output, len(labels), ndim=3)
    decoded = decode(precise(output.detach()))
    if decoded.shape != (len(labels), classes):
        raise ValueError(
            f"the network's output must decode to (B, C) with B = {len(labels)} samples and C = {classes} classes as in the "
            f"data, got shape {tuple(decoded.shape)} from the output {tuple(output.shape)}"
        )
    return decoded.argmax(1)


def values_found(output: object, decode: Decode, samples: int, axis: int) -> Shaped[Tensor, "..."]:
    """The numbers that the network's `output` stands for, with samples at `axis`.

    Raises:
        TypeError: if the output is no tensor.
        ValueError: if the output is not `(T, B, ...)`, or what `decode` makes of it not `(B, *K)`, at axis 1 `(T, B, *K)`.
    """
    output = _check_output(output, samples)
    decoded = decode(precise(output.detach()))
    if decoded.ndim <= axis or decoded.shape[axis] != samples:
        wanted = "(T, B, *K)" if axis else "(B, *K)"
        raise ValueError(
            f"the network's output must decode to {wanted} with B = {samples} samples, got shape {tuple(decoded.shape)} from "
            f"the output {tuple(output.shape)}"
        )
    return decoded


def _check_output(output: object, samples: int, ndim: int | None = None) -> Tensor:
    if not isinstance(output, Tensor):
        raise TypeError(f"the network must return a tensor, (T, B, C), got a {type(output).__name__}")
    fits = output.ndim == ndim if ndim is not None else output.ndim >= 2
    if not fits or output.shape[1] != samples:
        raise ValueError(
            f"the network's output must be (T, B, C), time first, with B = {samples} samples, "
            f"got shape {tuple(output.shape)}"
        )
    return output


class ClassCount:
    """The answers to a data set with classes, batch by batch; of this process's samples until they are combined."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self._classes = len(dataset.classes)
        self._confusion = torch.zeros(self._classes, self._classes, dtype=torch.int64, device=device)
        self._found = torch.zeros(len(dataset), dtype=torch.int64, device=device)  # of other processes' samples 0

    def add(self, indices: Int[np.ndarray, " B"], output: object, decode: Decode, labels: Int[Tensor, " B"]) -> None:
        """Count a batch."""
        answers = classes_found(output, decode, labels, self._classes)
        self._found[torch.from_numpy(indices).to(self._found.device)] = answers
        size = self._classes
        self._confusion += torch.bincount(labels * size + answers, minlength=size**2).view(size, size)

    def result(self, engine: Engine) -> dict[str, Any]:
        """Accuracy, confusion matrix and answers of all processes."""
        confusion = engine.sum(self._confusion).cpu()
        accuracy = confusion.diagonal().sum().item() / len(self._found)
        return {"accuracy": accuracy, "confusion": confusion, "answers": engine.sum(self._found).cpu()}


class ValueCount:
    """The same of a data set with targets: nothing is right or wrong, so only what was said is kept."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self._samples = len(dataset)
        self._axis = sample_axis(dataset)
        self._found = torch.zeros(0, device=device)

    def add(
        self, indices: Int[np.ndarray, " B"], output: object, decode: Decode, targets: Shaped[Tensor, "..."]
    ) -> None:
        """Keep what is said of a batch."""
        decoded = values_found(output, decode, len(indices), self._axis)
        if not self._found.numel():
            shape = list(decoded.shape)
            shape[self._axis] = self._samples
            self._found = decoded.new_zeros(shape)
        self._found.index_copy_(self._axis, torch.from_numpy(indices).to(decoded.device), decoded)

    def result(self, engine: Engine) -> dict[str, Any]:
        """No accuracy, an empty confusion matrix, and the answers of all processes."""
        nothing = torch.zeros(0, 0, dtype=torch.int64)
        return {"accuracy": math.nan, "confusion": nothing, "answers": engine.sum(self._found).cpu()}


def count_for(dataset: Dataset, device: torch.device) -> ClassCount | ValueCount:
    """Counts what is said of `dataset`."""
    return (ClassCount if dataset.classes else ValueCount)(dataset, device)
