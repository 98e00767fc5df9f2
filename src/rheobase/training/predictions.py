"""A network's predictions for its samples, and how they are counted: classes, or regression targets.

Everything else in training is the same for both, so the difference is kept here: the default decoder and loss, and what is
recorded over a whole data set.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, Shaped
from torch import Tensor
from torch.nn import functional

from rheobase import decoding, losses
from rheobase.data import Dataset
from rheobase.ops.arguments import state_type
from rheobase.training.engine import Engine
from rheobase.training.lengths import Mask, given

Loss = Callable[..., Tensor]
"""From the network's output `(T, B, C)` and the labels `(B,)` or targets to the mean over the batch, a scalar. With samples of
different lengths it is also called with `mask=`, `(T, B)`, True at valid steps."""

Decode = Callable[..., Tensor]
"""From the network's output `(T, B, C)` to one value per class, `(B, C)`, the largest of which is the answer; or to what is
compared with targets. With samples of different lengths it is also called with `mask=`, `(T, B)`, True at valid steps."""


def has_target_at_every_step(dataset: Dataset) -> bool:
    """Whether the targets of a data set are `(T, B, *K)`."""
    return not dataset.classes and bool(getattr(dataset, "every_step", False))


def sample_axis(dataset: Dataset) -> int:
    """The axis of the samples in a batch of labels or targets."""
    return 1 if has_target_at_every_step(dataset) else 0


def has_class_at_every_step(dataset: Dataset) -> bool:
    """Whether the targets of a data set are classes, `(T, B)`."""
    if not has_target_at_every_step(dataset):
        return False
    targets = np.asarray(dataset.labels)
    return targets.dtype.kind in "iu" and targets.ndim == 2


def decode_for(dataset: Dataset) -> Decode:
    """The default decoder: the mean over time; for targets at every step, the output itself."""
    return decoding.every_step if has_target_at_every_step(dataset) else decoding.mean


def loss_for(dataset: Dataset, decode: Decode) -> Loss:
    """The default loss of the decoded output: the cross-entropy; for regression targets, the mean squared error."""
    at_every_step = has_target_at_every_step(dataset)

    def cross_entropy(output: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        return functional.cross_entropy(given(decode, mask)(output), labels)

    def mean_squared_error(output: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        return losses.squared_error(given(decode, mask)(output), targets, mask=mask if at_every_step else None)

    def cross_entropy_per_step(output: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        return losses.cross_entropy_per_step(given(decode, mask)(output), labels, mask=mask)

    if dataset.classes:
        return cross_entropy
    return cross_entropy_per_step if has_class_at_every_step(dataset) else mean_squared_error


def precise(output: Tensor) -> Tensor:
    """The output in the precision in which losses and predictions are computed: half precision becomes float32."""
    return output.to(state_type(output))


def check_functions(loss: object, decode: object) -> None:
    """Refuse a loss or a decoder that is not a function: a string, most likely.

    Raises:
        TypeError: naming the argument, and what to write.
    """
    examples = {"loss": (loss, "losses.cross_entropy_per_step"), "decode": (decode, "decoding.mean")}
    for name, (value, example) in examples.items():
        if value is not None and not callable(value):
            raise TypeError(f"{name} must be a function, such as rheobase.{example}, got {value!r}")


def loss_on(output: Tensor, labels: Shaped[Tensor, "..."], loss: Loss) -> Tensor:
    """The loss, or an error that says what is wrong with it.

    Raises:
        ValueError: if `loss` cannot take the output, or does not return a scalar.
    """
    try:
        value = loss(output, labels)
    except (ValueError, RuntimeError, IndexError) as error:
        if type(error) not in (ValueError, RuntimeError, IndexError):  # such as an accelerator running out of memory
            raise
        classes = labels.ndim == 1 and not labels.is_floating_point()
        hint = "to use a loss on logits, write lambda output, labels: loss(rheobase.decoding.mean(output), labels): "
        raise ValueError(
            f"loss cannot take the output (T, B, C) = {tuple(output.shape)} and the {'labels' if classes else 'targets'} "
            f"{tuple(labels.shape)}; {hint if classes else ''}{error}"
        ) from error
    if not isinstance(value, Tensor):
        raise TypeError(f"loss must return a tensor, a scalar, got {value!r}")
    if value.ndim:
        raise ValueError(f"loss must return a scalar, the mean over the batch, got shape {tuple(value.shape)}")
    return value


Right = Callable[[object, Decode, Tensor, Mask | None], Tensor]
"""How many samples of a batch are answered correctly, from output, decoder, labels and mask."""


def right_for(dataset: Dataset) -> Right:
    """Counts the correct predictions for batches of `dataset`: NaN where there are no classes; with one at every step, a sample
    counts as its share of correct steps.

    Raises (the function): TypeError, ValueError: as `classes_found`; for regression targets, only if the output is not `(T, B,
    ...)`.
    """
    classes, axis = len(dataset.classes), sample_axis(dataset)

    def of_samples(output: object, decode: Decode, labels: Tensor, _: Mask | None) -> Tensor:
        return (classes_found(output, decode, labels, classes) == labels).sum()

    def of_steps(output: object, decode: Decode, labels: Tensor, mask: Mask | None) -> Tensor:
        return _right_shares(values_of_classes(output, decode, labels).argmax(2), labels, _asked(labels, mask)).sum()

    def of_nothing(output: object, _: Decode, labels: Tensor, __: Mask | None) -> Tensor:
        _check_output(output, labels.shape[axis])
        return torch.tensor(math.nan, device=labels.device)

    return of_samples if classes else of_steps if has_class_at_every_step(dataset) else of_nothing


def _asked(labels: Integer[Tensor, "T B"], mask: Mask | None) -> Bool[Tensor, "T B"]:
    """The steps that have a class."""
    asked = losses.has_class(labels)
    return asked if mask is None else asked & mask


def _right_shares(
    predictions: Int[Tensor, "T B"], labels: Integer[Tensor, "T B"], asked: Bool[Tensor, "T B"]
) -> Float[Tensor, " B"]:
    """The share of each sample's steps with a class that are correct; 0 for one without any."""
    return ((predictions == labels) & asked).sum(0) / asked.sum(0).clamp(min=1)


def classes_found(output: object, decode: Decode, labels: Integer[Tensor, " B"], classes: int) -> Int[Tensor, " B"]:
    """The classes that the network's `output` decodes to.

    Raises:
        TypeError: if the output is not a tensor.
        ValueError: if the output is not `(T, B, C)`, or does not decode to one value for each of the `classes`.
    """
    output = _check_output(output, len(labels), ndim=3)
    decoded = decode(precise(output.detach()))
    if decoded.shape != (len(labels), classes):
        raise ValueError(
            f"the network's output must decode to (B, C) with B = {len(labels)} samples and C = {classes} classes as in the "
            f"data, got shape {tuple(decoded.shape)} from the output {tuple(output.shape)}"
        )
    return decoded.argmax(1)


def values_of_classes(output: object, decode: Decode, labels: Integer[Tensor, "T B"]) -> Float[Tensor, "T B C"]:
    """The value that the network's `output` decodes to for each class at every step; the largest is the answer.

    Raises:
        TypeError: if the output is not a tensor.
        ValueError: if the output is not `(T, B, ...)`, or does not decode to one value for each class at each step.
    """
    decoded = values_found(output, decode, labels.shape[1], 1)
    if decoded.ndim != 3 or decoded.shape[:2] != labels.shape:
        raise ValueError(
            f"the network's output must decode to (T, B, C), with a class at every step as in the data, {tuple(labels.shape)}, "
            f"got shape {tuple(decoded.shape)}"
        )
    return decoded


def values_found(output: object, decode: Decode, samples: int, axis: int) -> Shaped[Tensor, "..."]:
    """The numbers that the network's `output` decodes to, with samples at `axis`.

    Raises:
        TypeError: if the output is not a tensor.
        ValueError: if the output is not `(T, B, ...)`, or does not decode to `(B, *K)`, or at axis 1 `(T, B, *K)`.
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
    """The predictions for a data set with classes, batch by batch; those of this process's samples until they are combined."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self._classes = len(dataset.classes)
        self._confusion = torch.zeros(self._classes, self._classes, dtype=torch.int64, device=device)
        self._found = torch.zeros(len(dataset), dtype=torch.int64, device=device)  # 0 for other processes' samples

    def add(
        self,
        indices: Int[np.ndarray, " B"],
        output: object,
        decode: Decode,
        labels: Integer[Tensor, " B"],
        _: Mask | None,
    ) -> None:
        """Count a batch."""
        predictions = classes_found(output, decode, labels, self._classes)
        self._found[torch.from_numpy(indices).to(self._found.device)] = predictions
        size = self._classes
        self._confusion += torch.bincount(labels.long() * size + predictions, minlength=size**2).view(size, size)

    def result(self, engine: Engine) -> dict[str, Any]:
        """Accuracy, confusion matrix and predictions of all processes."""
        confusion = engine.sum(self._confusion).cpu()
        accuracy = confusion.diagonal().sum().item() / len(self._found)
        return {"accuracy": accuracy, "confusion": confusion, "predictions": engine.sum(self._found).cpu()}


class StepCount:
    """The same for a class at every step: a sample is correct to the share of its steps, and the confusion matrix counts
    steps."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self._found = torch.full((0, len(dataset)), losses.NO_CLASS, device=device)
        self._confusion = torch.zeros(0, 0, dtype=torch.int64, device=device)
        self._right = torch.zeros((), dtype=torch.float64, device=device)

    def add(
        self,
        indices: Int[np.ndarray, " B"],
        output: object,
        decode: Decode,
        labels: Integer[Tensor, "T B"],
        mask: Mask | None,
    ) -> None:
        """Count a batch."""
        decoded, asked = values_of_classes(output, decode, labels), _asked(labels, mask)
        predictions = decoded.argmax(2)
        size, wanted = decoded.shape[2], labels.long()[asked]
        if len(wanted) and not 0 <= int(wanted.min()) <= int(wanted.max()) < size:
            raise ValueError(
                f"a class at every step must be one of the {size} that the network's output decodes to, 0 to {size - 1}, or "
                f"{losses.NO_CLASS} where there is none, got {int(wanted.min())} to {int(wanted.max())}"
            )
        if not self._found.numel():
            # 0 for other processes' samples.
            self._found = predictions.new_zeros(len(predictions), self._found.shape[1])
            self._confusion = self._confusion.new_zeros(size, size)
        at = torch.from_numpy(indices).to(predictions.device)
        self._found[:, at] = torch.where(asked, predictions, losses.NO_CLASS)
        self._right += _right_shares(predictions, labels, asked).double().sum()
        pairs = wanted * size + predictions[asked]
        self._confusion += torch.bincount(pairs, minlength=size**2).view(size, size)

    def result(self, engine: Engine) -> dict[str, Any]:
        """Accuracy, confusion matrix and predictions of all processes; NO_CLASS at steps without a class."""
        accuracy = engine.sum(self._right).item() / self._found.shape[1]
        return {
            "accuracy": accuracy,
            "confusion": engine.sum(self._confusion).cpu(),
            "predictions": engine.sum(self._found).cpu(),
        }


class ValueCount:
    """The same for a data set with regression targets: nothing is right or wrong, so only the outputs are kept."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self._samples = len(dataset)
        self._axis = sample_axis(dataset)
        self._found = torch.zeros(0, device=device)

    def add(
        self,
        indices: Int[np.ndarray, " B"],
        output: object,
        decode: Decode,
        _targets: Shaped[Tensor, "..."],
        _: Mask | None,
    ) -> None:
        """Keep the outputs for a batch."""
        decoded = values_found(output, decode, len(indices), self._axis)
        if not self._found.numel():
            shape = list(decoded.shape)
            shape[self._axis] = self._samples
            self._found = decoded.new_zeros(shape)
        self._found.index_copy_(self._axis, torch.from_numpy(indices).to(decoded.device), decoded)

    def result(self, engine: Engine) -> dict[str, Any]:
        """No accuracy, an empty confusion matrix, and the predictions of all processes."""
        nothing = torch.zeros(0, 0, dtype=torch.int64)
        return {"accuracy": math.nan, "confusion": nothing, "predictions": engine.sum(self._found).cpu()}


def count_for(dataset: Dataset, device: torch.device) -> ClassCount | StepCount | ValueCount:
    """The counter of the predictions for `dataset`."""
    if dataset.classes:
        return ClassCount(dataset, device)
    return (StepCount if has_class_at_every_step(dataset) else ValueCount)(dataset, device)
