"""Evaluation: one pass over a data set, without gradients, counting what the network gets right and what it costs."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional

from rheobase import decoding, randomness
from rheobase.data import Dataset
from rheobase.data.dataset import check_dataset
from rheobase.errors import DivergenceError
from rheobase.health import InputHealth, LayerHealth, Recorder
from rheobase.modes import evaluating
from rheobase.training.engine import Engine
from rheobase.training.first_batch import check_batch
from rheobase.training.lengths import check_mask_is_taken, given, mask_for, under

Loss = Callable[..., Tensor]
"""Of the network's output `(T, B, C)` and the labels `(B,)`, the mean over the batch, a scalar. With samples of different
lengths it is called with `mask=` besides, `(T, B)`, True where a step is there."""

Decode = Callable[..., Tensor]
"""From the network's output `(T, B, C)` to one value per class, `(B, C)`; the largest is the answer. With samples of different
lengths it is called with `mask=` besides, `(T, B)`, True where a step is there."""


@dataclass(frozen=True)
class Evaluation:
    """What a network makes of a data set.

    Args:
        accuracy: the share of samples whose class it finds.
        loss: the mean loss.
        confusion: counts, `(C, C)`, rows the true class, columns the answer.
        answers: the class found for each sample, in the order of the data set.
        layers: firing rates, dead and saturated neurons, synaptic operations of every layer of neurons.
        input: what the network received.
    """

    accuracy: float
    loss: float
    confusion: Int[Tensor, "C C"] = field(repr=False, compare=False)
    answers: Int[Tensor, " n"] = field(repr=False, compare=False)
    layers: list[LayerHealth]
    input: InputHealth


def loss_of(decode: Decode) -> Loss:
    """The default loss: cross-entropy of the decoded output."""

    def loss(output: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
        return functional.cross_entropy(given(decode, mask)(output), labels)

    return loss


def evaluate(
    network: nn.Module,
    dataset: Dataset,
    *,
    batch_size: int = 128,
    loss: Loss | None = None,
    decode: Decode = decoding.mean,
    engine: Engine | None = None,
    seed: int = 0,
) -> Evaluation:
    """Run `network` over `dataset`, in evaluation mode and without augmentation.

    Args:
        network: `(T, B, *features)` in, `(T, B, C)` out.
        dataset: the samples. If it has lengths, what is padding neither fires nor counts, see `rheobase.masked`.
        batch_size: samples per step; it changes the memory needed, not the result (but for what stochastic neurons draw).
        loss: of output and labels, the mean over the batch; None is the cross-entropy of the decoded output.
        decode: from the output to one value per class.
        engine: device, precision and processes; None is where the network is now.
        seed: of what stochastic neurons draw, at least 0: the same seed and batch size give the same result. Other seeds tell
            how much is chance. PyTorch's own generator is left as it was.

    Returns:
        Accuracy, loss, confusion matrix, and the health of every layer over these samples.

    Raises:
        TypeError: if `dataset` is no data set, or its first batch not of the types that the network computes with; if it has
            lengths, and `loss` or `decode` takes no mask.
        DataError: if labels or lengths are out of range, or the first batch is not time first.
        ValueError: if the network's output does not fit the labels.
        DivergenceError: if a weight is NaN or infinite: neurons would stay silent, and that looks like an answer.

    Example:
        >>> import rheobase as rb
        >>> data = rb.data.ArrayDataset(torch.rand(5, 8, 3), np.arange(8) % 2)
        >>> seen = evaluate(rb.Sequential(nn.Linear(3, 2), rb.LeakyReadout(2)), data)
        >>> seen.confusion.sum(), seen.answers.shape
        (tensor(8), torch.Size([8]))
        >>> wrong = np.flatnonzero(seen.answers.numpy() != data.labels)  # the samples to look at
    """
    check_dataset(dataset, "dataset")
    check_mask_is_taken(dataset, "dataset", [("loss", loss), ("decode", decode)])
    engine = engine or Engine.where(network)
    loss = loss or loss_of(decode)
    _check_finite(network)
    classes = len(dataset.classes)
    confusion = torch.zeros(classes, classes, dtype=torch.int64, device=engine.device)
    found = torch.zeros(len(dataset), dtype=torch.int64, device=engine.device)  # by this process; of others, 0
    total = torch.zeros((), dtype=torch.float64)
    with (
        torch.no_grad(),
        evaluating(network),
        randomness.evaluation(seed, engine.device) as seed_step,
        Recorder(network) as recorder,
    ):
        for number, indices in enumerate(engine.share(np.arange(len(dataset)), batch_size)):
            seed_step(number, engine.process)
            batch = dataset.batch(indices)
            if number == 0:
                check_batch(batch, len(indices), dataset.classes, "dataset", network, engine.bfloat16)
            x, labels = engine.to_device(*batch)
            mask = mask_for(dataset, indices, x)
            with engine.precision(), under(network, mask):
                output = network(x)
            answers = answers_of(output, given(decode, mask), labels, classes)
            if len(labels):
                total += loss_on(output.float(), labels, given(loss, mask)).cpu().double() * len(labels)
                found[torch.from_numpy(indices).to(engine.device)] = answers
                confusion += torch.bincount(labels * classes + answers, minlength=classes**2).view(classes, classes)
    recorder.combine(engine.sum)
    confusion, total = engine.sum(confusion).cpu(), engine.sum(total)
    samples = len(dataset)
    return Evaluation(
        accuracy=confusion.diagonal().sum().item() / samples,
        loss=total.item() / samples,
        confusion=confusion,
        answers=engine.sum(found).cpu(),
        layers=recorder.layers(),
        input=recorder.input(),
    )


def _check_finite(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if not bool(parameter.isfinite().all()):
            count = int((~parameter.isfinite()).sum())
            raise DivergenceError(
                f"network: {count} of {parameter.numel()} weights in {name} are NaN or infinite; load or train it anew"
            )


def check_functions(loss: object, decode: object) -> None:
    """Refuse a loss and a decoder that are no functions: a word, most likely.

    Raises:
        TypeError: naming the argument, and what to write.
    """
    examples = {"loss": (loss, "losses.cross_entropy_per_step"), "decode": (decode, "decoding.mean")}
    for name, (value, example) in examples.items():
        if value is not None and not callable(value):
            raise TypeError(f"{name} must be a function, such as rheobase.{example}, got {value!r}")


def loss_on(output: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """The loss, or what is wrong with it in words.

    Raises:
        ValueError: if `loss` cannot take the output, or returns no scalar.
    """
    try:
        value = loss(output, labels)
    except (ValueError, RuntimeError, IndexError) as error:
        if type(error) not in (ValueError, RuntimeError, IndexError):  # such as an accelerator that is out of memory
            raise
        raise ValueError(
            f"loss cannot take the output (T, B, C) = {tuple(output.shape)} and the labels {tuple(labels.shape)}; one that is "
            f"made for logits is lambda output, labels: loss(rheobase.decoding.mean(output), labels): {error}"
        ) from error
    if value.ndim:
        raise ValueError(f"loss must return a scalar, the mean over the batch, got shape {tuple(value.shape)}")
    return value


def answers_of(output: object, decode: Decode, labels: Int[Tensor, " B"], classes: int) -> Int[Tensor, " B"]:
    """The classes that the network's `output` stands for.

    Raises:
        TypeError: if the output is no tensor.
        ValueError: if the output is not `(T, B, C)`, or what `decode` makes of it is not one value for each of the `classes`.
    """
    if not isinstance(output, Tensor):
        raise TypeError(f"the network must return a tensor, (T, B, C), got a {type(output).__name__}")
    if output.ndim != 3 or output.shape[1] != len(labels):
        raise ValueError(
            f"the network's output must be (T, B, C), time first, with B = {len(labels)} samples, "
            f"got shape {tuple(output.shape)}"
        )
    decoded = decode(output.detach().float())
    if decoded.shape != (len(labels), classes):
        raise ValueError(
            f"the network's output must decode to (B, C) with B = {len(labels)} samples and C = {classes} classes as in the "
            f"data, got shape {tuple(decoded.shape)} from the output {tuple(output.shape)}"
        )
    return decoded.argmax(1)
