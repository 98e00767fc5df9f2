"""Evaluation: one pass over a data set, without gradients, counting what the network gets right and what it costs."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from rheobase import randomness
from rheobase.data import Dataset
from rheobase.data.dataset import check_dataset
from rheobase.errors import DivergenceError
from rheobase.health import InputHealth, LayerHealth, Recorder
from rheobase.modes import evaluating
from rheobase.ops.arguments import as_count
from rheobase.training.engine import Engine
from rheobase.training.first_batch import check_batch
from rheobase.training.lengths import check_mask_is_taken, given, mask_for, under
from rheobase.training.predictions import (
    Decode,
    Loss,
    check_functions,
    count_for,
    decode_for,
    loss_for,
    loss_on,
    precise,
    sample_axis,
)


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a network on a data set.

    Args:
        accuracy: the share of correctly classified samples; with a class at every step, the mean over samples of the share of
            steps; NaN for regression targets.
        loss: the mean loss.
        confusion: counts, `(C, C)`, rows the true class, columns the answer; C is 0 without classes. With a class at every
            step, steps are counted.
        predictions: the class found for each sample, in the order of the data set; or for each step, `(T, n)`, -100 at steps
            without a class; or the decoded output, `(n, *K)`, with a target at every step `(T, n, *K)`.
        layers: firing rates, dead and saturated neurons, synaptic operations of every layer of neurons.
        input: what the network received.
    """

    accuracy: float
    loss: float
    confusion: Int[Tensor, "C C"] = field(repr=False, compare=False)
    predictions: Shaped[Tensor, "..."] = field(repr=False, compare=False)
    layers: list[LayerHealth]
    input: InputHealth

    @property
    def rank(self) -> tuple[float, float]:
        """A key that is larger for the better of two: by accuracy, then by loss; without classes, by loss alone."""
        return 0.0 if math.isnan(self.accuracy) else self.accuracy, -self.loss


def evaluate(
    network: nn.Module,
    dataset: Dataset,
    *,
    batch_size: int = 128,
    loss: Loss | None = None,
    decode: Decode | None = None,
    engine: Engine | None = None,
    seed: int = 0,
) -> Evaluation:
    """Run `network` over `dataset`, in evaluation mode and without augmentation.

    Args:
        network: `(T, B, *features)` in, `(T, B, C)` out.
        dataset: the samples. If it has lengths, padding neither fires nor counts, see `rheobase.masked`.
        batch_size: samples per step; it changes the memory needed, not the result (except for the draws of stochastic neurons).
        loss: of output and labels, the mean over the batch; None is the cross-entropy of the decoded output, per step if there
            is a class at every step, and for regression targets the mean squared error.
        decode: from the output to one value per class, or to what is compared with targets; None is `rheobase.decoding.mean`,
            and with a target at every step the output itself.
        engine: device, precision and processes; None uses the network's current device.
        seed: for the draws of stochastic neurons, at least 0: the same seed and batch size give the same result. Other seeds
            show how much is chance. PyTorch's own generator is not affected.

    Returns:
        Accuracy, loss, confusion matrix, and the health of every layer over these samples.

    Raises:
        TypeError: if `dataset` is not a data set, or its first batch has types that the network does not compute with; if it
            has lengths, and `loss` or `decode` takes no mask.
        DataError: if labels or lengths are out of range, or the first batch is not time first.
        ValueError: if the network's output does not fit the labels, or `batch_size` is not at least 1.
        DivergenceError: if a weight is NaN or infinite: neurons would stay silent, which looks like an answer.

    Example:
        >>> import rheobase as rb
        >>> data = rb.data.ArrayDataset(torch.rand(5, 8, 3), np.arange(8) % 2)
        >>> seen = evaluate(rb.Sequential(nn.Linear(3, 2), rb.LeakyReadout(2)), data)
        >>> seen.confusion.sum(), seen.predictions.shape
        (tensor(8), torch.Size([8]))
        >>> wrong = np.flatnonzero(seen.predictions.numpy() != data.labels)  # the samples to look at
    """
    batch_size = as_count(batch_size, "batch_size", "evaluate")
    check_dataset(dataset, "dataset")
    check_functions(loss, decode)
    check_mask_is_taken(dataset, "dataset", [("loss", loss), ("decode", decode)])
    engine = engine or Engine.where(network)
    decode = decode or decode_for(dataset)
    loss = loss or loss_for(dataset, decode)
    _check_finite(network)
    count = count_for(dataset, engine.device)
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
                check_batch(
                    batch, len(indices), dataset.classes, "dataset", network, engine.bfloat16, sample_axis(dataset)
                )
            x, labels = engine.to_device(*batch)
            mask = mask_for(dataset, indices, x)
            with engine.precision(), under(network, mask):
                output = network(x)
            count.add(indices, output, given(decode, mask), labels, mask)
            if len(indices):
                total += loss_on(precise(output), labels, given(loss, mask)).cpu().double() * len(indices)
    recorder.combine(engine.sum)
    return Evaluation(
        **count.result(engine),
        loss=engine.sum(total).item() / len(dataset),
        layers=recorder.layers(),
        input=recorder.input(),
    )


def _check_finite(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if not bool(parameter.isfinite().all()):
            count = int((~parameter.isfinite()).sum())
            raise DivergenceError(
                f"network: {count} of {parameter.numel()} weights in {name} are NaN or infinite; load or train it again"
            )
