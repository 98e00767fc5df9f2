"""The numbers behind a report's figures: `evaluation.npz`."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rheobase import randomness
from rheobase.data import Dataset
from rheobase.data.lengths import lengths_of
from rheobase.files import atomic_write
from rheobase.health import record_spikes
from rheobase.training.engine import Engine
from rheobase.training.evaluate import Evaluation
from rheobase.training.lengths import given, mask_for, under
from rheobase.training.predictions import (
    Decode,
    has_class_at_every_step,
    has_target_at_every_step,
    precise,
    sample_axis,
)


def write_evaluation(path: Path, network: nn.Module, dataset: Dataset, seen: Evaluation, decode: Decode) -> None:
    """Write predictions and firing rates of an evaluation, and the activity of every layer on the data set's first sample.

    The arrays: `confusion` (C, C), `labels` and `predictions` (n,) of all samples, `classes`, `layers`, and for layer k
    `rates_k` (N,) and `raster_k` (T, N); `raster_input` (T, N), `output` (T, C), `sample_label`, `sample_prediction`, and `dt`,
    the length of a step in seconds or NaN. Without classes, `targets` and `predictions`, `(m, *K)` or `(m, T, *K)`, replace
    what concerns classes, for as many of the first samples as have at most a million numbers together; targets of padding are
    NaN. With a class at every step, `labels` and `predictions` are (n, T), and the sample has none of its own. T is the number
    of steps of the output, without padding; what runs before a `Hold` is shown for as long as that holds it. Rasters hold ones
    and zeros, or probabilities where neurons output those.
    """
    first = np.array([0])
    x, label = dataset.batch(first)
    device = Engine.where(network).device
    mask = mask_for(dataset, first, x.to(device))
    with randomness.evaluation(0, device) as seed_step, under(network, mask):
        seed_step(0, 0)
        spikes, output = record_spikes(network, x.to(device))
    shown = slice(None if mask is None else int(mask.sum()))
    if has_class_at_every_step(dataset):
        said = {"confusion": seen.confusion.numpy(), "classes": np.array([str(k) for k in range(len(seen.confusion))])}
        said |= {"labels": np.asarray(dataset.labels), "predictions": seen.predictions.movedim(1, 0).numpy()}
    elif dataset.classes:
        said = _of_classes(dataset, seen, label, given(decode, mask)(precise(output)))
    else:
        said = _of_targets(dataset, seen)
    arrays: dict[str, Any] = {
        **said,
        "layers": np.array([layer.name for layer in seen.layers]),
        "raster_input": precise(_shown(x, len(output))[shown]).cpu().numpy(),
        "output": output[shown, :1].float().flatten(1).cpu().numpy(),
        "dt": np.array(getattr(dataset, "dt", np.nan), dtype=np.float64),
    }
    for index, layer in enumerate(seen.layers):
        arrays[f"rates_{index}"] = layer.rates.numpy()
        raster = _shown(spikes[layer.name], len(output))[shown].cpu()
        whole = torch.equal(raster, raster.round())
        arrays[f"raster_{index}"] = raster.to(torch.uint8 if whole else torch.float16).numpy()
    with atomic_write(path) as file:
        np.savez_compressed(file, **arrays)


def _of_classes(dataset: Dataset, seen: Evaluation, label: Tensor, predicted: Tensor) -> dict[str, np.ndarray]:
    return {
        "confusion": seen.confusion.numpy(),
        "labels": np.asarray(dataset.labels),
        "predictions": seen.predictions.numpy(),
        "classes": np.array(dataset.classes),
        "sample_label": label[0].numpy(),
        "sample_prediction": predicted.argmax(1)[0].cpu().numpy(),
    }


def _of_targets(dataset: Dataset, seen: Evaluation) -> dict[str, np.ndarray]:
    predictions = seen.predictions.movedim(sample_axis(dataset), 0)
    targets, lengths = np.asarray(dataset.labels), lengths_of(dataset)
    count = max(1, _MOST_NUMBERS // max(predictions[0].numel(), targets[0].size, 1))
    wanted = targets[:count].astype(np.float32)
    if lengths is not None and has_target_at_every_step(dataset):
        for row, length in zip(wanted, lengths[:count], strict=True):
            row[length:] = np.nan  # padding has no target
    return {"targets": wanted, "predictions": predictions[:count].float().numpy()}


_MOST_NUMBERS = 1_000_000


def _shown(values: Tensor, steps: int) -> Tensor:
    """A layer's activity on the first sample in `steps` steps, `(steps, N)`; for a layer that runs twice, that of the last
    time.

    Fewer steps are those before a `Hold`, each repeated; otherwise a layer adds steps, in which those before it show nothing.
    """
    rows = values[-steps:, 0].flatten(1)
    times, more = divmod(steps, len(rows))
    return nn.functional.pad(rows, (0, 0, 0, more)) if more else rows.repeat_interleave(times, 0)
