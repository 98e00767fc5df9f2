"""The training loop.

It does what a careful person does by hand: shuffle, augment, step, clip, evaluate on the validation set, keep the best weights,
evaluate on the test set once at the end. Its value lies in what it survives. A run that is killed at any moment resumes and
ends bit-identical to one that was not killed; several processes compute the same losses as one (except for penalties on the
mean activity of a batch, see `fit`); and a loss that becomes NaN stops the run, naming the layer and the step, with the last
good checkpoint intact.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rheobase.data import Dataset
from rheobase.data.dataset import check_dataset
from rheobase.errors import DivergenceError, RunError
from rheobase.health import neuron_layers
from rheobase.regularizers import check_regularizers
from rheobase.training import checkpoint
from rheobase.training.about import about_run, peak_memory_mib
from rheobase.training.checkpoint import Position
from rheobase.training.described import described
from rheobase.training.display import Display, Plan, display_for
from rheobase.training.engine import Engine
from rheobase.training.evaluate import Evaluation
from rheobase.training.folder import RunFolder, writing
from rheobase.training.heap import keep_freed_memory
from rheobase.training.lengths import check_mask_is_taken
from rheobase.training.predictions import Decode, Loss, check_functions, decode_for, has_target_at_every_step, loss_for
from rheobase.training.record import write_evaluation
from rheobase.training.settings import Training
from rheobase.training.start import check_start, start_of
from rheobase.training.trainer import Optimize, Regularizer, Trainer

Measure = Callable[[nn.Module, Dataset], Mapping[str, float]]
"""Further measures of a trained network on its test set: `{name: number}`."""


@dataclass(frozen=True)
class Result:
    """The result of a training run.

    Args:
        best_epoch: the epoch, counted from 1, that was best on the validation set; the network now has its weights.
        validation: the network on the validation set, with the best weights.
        test: the network on the test set, with the best weights; None without a test set.
        metrics: one dictionary per epoch.
        summary: what `summary.json` holds.
    """

    best_epoch: int
    validation: Evaluation
    test: Evaluation | None
    metrics: list[dict[str, Any]] = field(repr=False)
    summary: dict[str, Any] = field(repr=False)


def fit(
    network: nn.Module,
    train: Dataset,
    validation: Dataset,
    test: Dataset | None = None,
    settings: Training | None = None,
    *,
    loss: Loss | None = None,
    decode: Decode | None = None,
    regularizers: Sequence[Regularizer] = (),
    optimizer: Optimize | None = None,
    schedule: Callable[[float], float] | None = None,
    measure: Measure | None = None,
    run: str | Path | None = None,
    resume: bool = False,
    also_test: Mapping[str, Dataset] | None = None,
    about: Mapping[str, Any] | None = None,
    display: Display | None = None,
) -> Result:
    """Train `network`, keep the weights of the best epoch on `validation`, and evaluate on `test` once at the end.

    Targets may be numbers in place of classes, for the whole sample or at every step, see `rheobase.data.TargetDataset`: an
    angle, a signal to follow. Then there is no accuracy, and the best epoch is that of the smallest loss. With a class at every
    step, accuracy is the mean over samples of the share of correct steps.

    Memory freed by a step stays with the process for the next, see `rheobase.training.heap`.

    Samples may have different lengths, see `rheobase.data.Dataset`. Padding then neither drives neurons nor fires, and `loss`,
    `decode` and `regularizers` are called with `mask=`, `(T, B)`, True at valid steps, as those of this library accept it.
    Batch normalization takes its mean and variance over the valid steps.

    Args:
        network: `(T, B, *features)` in, `(T, B, C)` out. It is trained in place and left in evaluation mode, with the best
            weights.
        train: the samples to learn from.
        validation: the samples on which every choice is made.
        test: the samples evaluated once, after the last choice; None leaves them out.
        settings: epochs, batch size, learning rate and so on; None is `Training()`.
        loss: from the output `(T, B, C)` and the labels `(B,)` or targets to the mean over the batch; None is the cross-entropy
            of the decoded output, and for targets the mean squared error. To use a loss on logits, write `lambda output,
            labels: loss(decoding.mean(output), labels)`.
        decode: from the output to one value per class, the largest of which is the answer, or to what is compared with targets;
            None is `rheobase.decoding.mean`, and with a target at every step the output itself.
        regularizers: penalties on the activity of neurons, each a function of the spikes of all layers of neurons and of the
            progress of training, `regularizer({name: (T, B, *features)}, 0.0 ... 1.0)`; added to the loss in training. If it
            has a `schedule`, as those of `rheobase.regularizers` have, no epoch is the best before the penalty has come in.
            With several processes each computes it on its own samples: a penalty that is no mean over samples (`Sparsity`,
            `TotalRate`) then differs, as with a smaller batch.
        optimizer: from parameter groups to the optimizer, such as `torch.optim.Adamax`, or `lambda groups:
            torch.optim.SGD(groups, momentum=0.9)`. Learning rates and weight decay are those of `settings`, whatever the
            optimizer is made with. None is AdamW. Any PyTorch optimizer works except LBFGS, which evaluates a step several
            times.
        schedule: the factor of the learning rates, a function of the share of all steps done, 0 to 1, such as `lambda done: 0.1
            ** (done >= 0.5)`. It replaces the warm-up and the schedule of `settings`; None keeps these.
        measure: further measures on the test set (without one, on the validation set), taken once, with the best weights: a
            function of the network and the data that returns `{name: number}`; included in the summary. It runs in the
            precision of training.
        run: the folder for configuration, metrics, checkpoints and the result; None keeps everything in memory.
        resume: continue the run in the folder `run` from its last checkpoint. It ends as if it had never stopped.
            For a job that a queue may start again: `resume=Path(run, "config.json").exists()`.
        also_test: further sets evaluated once, with the test set; the summary has their accuracies by name.
        about: additional entries for the run's `config.json`, such as a recipe's name.
        display: shows the progress; None is a live display on a terminal and plain lines elsewhere.

    Returns:
        The best epoch, the evaluations on validation and test set, the metrics of all epochs.

    Raises:
        DivergenceError: if a gradient or a loss is not finite; the message says where. The checkpoint of the last good epoch is
            intact.
        RunError: if `run` cannot be written, already holds a run (without `resume`) or none (with it), or one of another
            network (or of another surrogate), or with other data, settings, loss, penalties or optimizer.
        TypeError: if an argument for a data set is something else (a tensor, for instance), its first batch has types that the
            network does not compute with, `settings` is not a `Training`, `schedule` is not a function, or `optimizer` does not
            make one that steps by gradients; if samples have different lengths, and a loss, a decoder or a penalty takes no
            mask.
        DataError: if labels or lengths are out of range, or the first batch is not time first.
        ValueError: if a setting or the value of `schedule` is out of range, the network's output does not fit the labels, or
            the loss is not a scalar.

    Example:
        >>> import numpy as np
        >>> import rheobase as rb
        >>> x = torch.rand(10, 60, 4).round()                       # 60 samples: which half of the inputs is busier?
        >>> data = rb.data.ArrayDataset(x, (x[:, :, 2:].sum((0, 2)) > x[:, :, :2].sum((0, 2))).long().numpy())
        >>> train, validation = rb.data.split(data, 0.2, seed=0)
        >>> network = rb.Sequential(nn.Linear(4, 16), rb.LIF(16), nn.Linear(16, 2), rb.LeakyReadout(2))
        >>> result = fit(network, train, validation, settings=Training(epochs=2), display=rb.training.Display())
        >>> len(result.metrics)
        2
    """
    settings = Training() if settings is None else settings
    if not isinstance(settings, Training):
        raise TypeError(f"settings must be a rheobase.Training, got {settings!r}; write Training(epochs=...)")
    tests = {**({} if test is None else {"test": test}), **(also_test or {})}
    for name, dataset in {"train": train, "validation": validation, **tests}.items():
        check_dataset(dataset, name)
        if bool(dataset.classes) != bool(train.classes):
            has, lacks = (train, dataset) if train.classes else (dataset, train)
            raise ValueError(f"train and {name} must both have classes, or both targets, got {has!r} and {lacks!r}")
        if dataset.classes != train.classes:
            raise ValueError(
                f"{name} must have the classes of train, {train.classes}, got {dataset.classes}; name them when the data sets "
                "are made"
            )
        if has_target_at_every_step(dataset) != has_target_at_every_step(train):
            raise ValueError(f"{name} must have a target at every step where train has, and only there")
    if len(train.classes) == 1:
        raise ValueError(
            f"train must have several classes, got one, {train.classes[0]!r}: there is nothing to classify; for regression, "
            "give rheobase.data.TargetDataset(train, y)"
        )
    check_functions(loss, decode)
    check_regularizers(regularizers)
    for name, dataset in {"train": train, "validation": validation, **tests}.items():
        check_mask_is_taken(dataset, name, [("loss", loss), ("decode", decode)])
    check_mask_is_taken(train, "train", [("regularizers", regularizer) for regularizer in regularizers])
    if resume and run is None:
        raise ValueError("run must name the folder to resume, got None")
    keep_freed_memory()
    engine = Engine.start(settings)
    display = (display or display_for("auto")) if engine.is_main else display_for("quiet")
    devices = [engine.device] if engine.device.type == "cuda" else []
    try:
        # Every draw is seeded by its own purpose, so the user's random generators are restored afterwards; the threads too.
        with torch.random.fork_rng(devices=devices), engine.threads(settings.threads):
            decode = decode or decode_for(train)
            losses = loss or loss_for(train, decode)
            trainer = Trainer(
                network, train, settings, engine, losses, decode, regularizers, optimizer, schedule, display
            )
            # A sample of it now: an epoch is long, and an error in the validation set would show only after it.
            trainer.check(validation.batch(np.arange(1)), 1, "validation")
            words = described(trainer.network, loss, decode, regularizers, trainer.optimizer, schedule)
            start = start_of(train, validation, settings, words)
            folder = _open(None if run is None else Path(run), trainer, resume, about or {}, start)
            title = str((about or {}).get("recipe") or type(trainer.network).__name__)
            return _Run(trainer, validation, folder, measure, start).all(test, also_test or {}, resume, title)
    finally:
        engine.release(network)
        display.close()


def _open(
    path: Path | None, trainer: Trainer, resume: bool, about: Mapping[str, Any], start: Position
) -> RunFolder | None:
    if path is None:
        return None
    if trainer.engine.is_main:
        if resume:
            RunFolder(path).remove_leftovers()
        else:
            # A run that is killed before its first checkpoint is compared with this.
            about = {"started_with": {"data": start.data, "settings": start.settings}, **about}
            RunFolder.create(path, about_run(trainer.network, trainer.settings, trainer.engine.device, about))
    trainer.engine.wait_for_all()
    return RunFolder(path)


class _Run:
    """The loop over all epochs: the best one, what is written, when to stop."""

    def __init__(
        self,
        trainer: Trainer,
        validation: Dataset,
        folder: RunFolder | None,
        measure: Measure | None,
        start: Position,
    ) -> None:
        self.trainer = trainer
        self.start = start
        self.measure = measure
        self.settings = trainer.settings
        self.validation = validation
        self.folder = folder
        self.writes = folder is not None and trainer.engine.is_main

    def all(self, test: Dataset | None, also_test: Mapping[str, Dataset], resume: bool, title: str) -> Result:
        """All remaining epochs, and the result."""
        trainer, folder = self.trainer, self.folder
        position, best, metrics = self._restore() if resume else (self.start, {}, [])
        samples = {"train": len(trainer.train), "validation": len(self.validation)}
        if test is not None:
            samples["test"] = len(test)
        trainer.display.start(
            Plan(
                title=title,
                epochs=self.settings.epochs,
                epochs_done=position.epoch,
                steps=trainer.steps,
                samples=samples,
                parameters=sum(parameter.numel() for parameter in trainer.network.parameters()),
                layers=tuple(name for name, _ in neuron_layers(trainer.network)),
                device=str(trainer.engine.device),
                processes=trainer.engine.processes,
                run=None if folder is None else str(folder.path),
                recipe=folder is not None and bool(folder.config.get("recipe")),
            )
        )
        while position.epoch < self.settings.epochs and not self._is_stale(position):
            try:
                position, improved, measured = self._epoch(position)
            except DivergenceError as error:
                if folder is None or position.epoch == 0:
                    raise
                kept = f"the checkpoint of epoch {position.epoch} is intact: {folder.checkpoint}"
                raise DivergenceError(f"{error}; {kept}") from error
            if improved:
                best = trainer.weights()
            metrics.append(measured)
            if folder is not None and self.writes:
                # This order survives a kill between any two writes: metrics beyond the checkpoint are cut off on resume, and
                # while the last epoch is the best one, the checkpoint itself holds the best weights (see `_restore`).
                with self._writing(position.epoch - 1):
                    folder.append_metrics(measured)
                    checkpoint.save(folder.checkpoint, trainer.network, position, trainer.optimizer)
                    if improved:
                        checkpoint.save(folder.best, trainer.network, position)
            trainer.display.epoch(measured)
        trainer.network.load_state_dict(best)
        trainer.network.eval()
        return self._conclude(position, metrics, samples, test, also_test)

    def _writing(self, epochs: int) -> AbstractContextManager[None]:
        assert self.folder is not None, "only a run with a folder is written"
        return writing(
            self.folder.path, f"what is there of {epochs} epochs is intact: make room, and go on with resume=True"
        )

    def _restore(self) -> tuple[Position, dict[str, Tensor], list[dict[str, Any]]]:
        """Where the run stood, its best weights and its metrics. If it was killed before its first checkpoint, at the start."""
        trainer, folder = self.trainer, self.folder
        assert folder is not None, "fit refuses to resume without a folder"
        position, best = self.start, {}
        if not folder.checkpoint.exists():
            if folder.best.exists() or folder.summary is not None:
                raise RunError(
                    f"{folder.path}: has results but no {folder.checkpoint.name} to resume from; restore it, or begin a new run"
                )
            begun = folder.config.get("started_with")
            if isinstance(begun, dict):
                check_start(folder.path, begun.get("data"), begun.get("settings"), self.start)
        else:
            position = checkpoint.position_of(folder.checkpoint)
            check_start(folder.path, position.data, position.settings, self.start)
            # Only now, so that a network whose run is refused is unchanged.
            checkpoint.load(folder.checkpoint, trainer.network, trainer.optimizer)
            if position.best_epoch < position.epoch:
                found = checkpoint.load(folder.best, trainer.network).epoch
                if found != position.best_epoch:
                    raise RunError(f"{folder.best}: holds epoch {found}, but epoch {position.best_epoch} was the best")
                best = trainer.weights()
                checkpoint.load(folder.checkpoint, trainer.network, trainer.optimizer)
            else:
                best = trainer.weights()
                if self.writes:  # the run may have been killed before this epoch was written as the best
                    checkpoint.save(folder.best, trainer.network, position)
        trainer.engine.wait_for_all()
        if self.writes:
            return position, best, folder.keep_metrics(position.epoch)
        return position, best, folder.metrics()[: position.epoch]

    def _is_stale(self, position: Position) -> bool:
        patience = self.settings.patience
        stale = patience is not None and position.epoch - position.best_epoch >= patience
        return stale and self.trainer.is_settled(position.epoch)

    def _epoch(self, before: Position) -> tuple[Position, bool, dict[str, Any]]:
        """One epoch and its validation: the position after it, whether it is the best so far, and its metrics."""
        trainer = self.trainer
        epoch, was_settled = before.epoch + 1, trainer.is_settled(before.epoch)
        began = time.monotonic()
        loss, accuracy = trainer.epoch(epoch)
        trained = time.monotonic() - began
        seen = trainer.validate(self.validation, epoch)
        # Networks that have not reached their final form do not count against one that has.
        settles = trainer.is_settled(epoch) and not was_settled
        improved = settles or seen.rank > (before.best_accuracy, -before.best_loss)
        seconds = time.monotonic() - began
        after = replace(before, epoch=epoch, seconds=before.seconds + seconds)
        if improved:
            after = replace(after, best_epoch=epoch, best_accuracy=seen.rank[0], best_loss=seen.loss)
        measured = {
            "epoch": epoch,
            "epochs": self.settings.epochs,
            "loss": loss,
            "train_accuracy": _or_none(accuracy),
            "validation_loss": seen.loss,
            "validation_accuracy": _or_none(seen.accuracy),
            "best": improved,
            "learning_rate": trainer.optimizer.param_groups[0]["lr"],
            "seconds": seconds,
            "samples_per_second": len(trainer.train) / trained,
            "layers": [
                {key: getattr(layer, key) for key in ("name", "rate", "dead", "silent", "saturated", "fires_once_in")}
                for layer in seen.layers
            ],
        }
        return after, improved, measured

    def _conclude(
        self,
        position: Position,
        metrics: list[dict[str, Any]],
        samples: dict[str, int],
        test: Dataset | None,
        also_test: Mapping[str, Dataset],
    ) -> Result:
        trainer = self.trainer
        validation = trainer.evaluate(self.validation)
        tested = None if test is None else trainer.evaluate(test)
        seen = tested or validation
        summary: dict[str, Any] = {
            "validation_accuracy": _or_none(validation.accuracy),
            "validation_loss": validation.loss,
            "best_epoch": position.best_epoch,
            "epochs": position.epoch,
            "seconds": position.seconds,
            "samples_per_second": len(trainer.train) * position.epoch / max(position.seconds, 1e-9),
            "peak_memory_mib": peak_memory_mib(trainer.engine.device),
            "samples": samples,
            "layers": [layer.as_dict() for layer in seen.layers],
            "input": vars(seen.input),
        }
        if tested is not None:
            summary = {"test_accuracy": _or_none(tested.accuracy), "test_loss": tested.loss, **summary}
        if also_test:
            summary["also_tested"] = {
                name: {"accuracy": _or_none(other.accuracy), "loss": other.loss, "samples": len(dataset)}
                for name, dataset in also_test.items()
                for other in [trainer.evaluate(dataset)]
            }
        if self.measure is not None:
            with trainer.engine.precision():
                summary["measures"] = _numbers(self.measure(trainer.network, test or self.validation))
        if self.folder is not None and self.writes:
            file = self.folder.path / "evaluation.npz"
            with self._writing(position.epoch):
                write_evaluation(file, trainer.network, test or self.validation, seen, trainer.decode)
                self.folder.write_summary(summary)
        trainer.display.finish(summary)
        return Result(position.best_epoch, validation, tested, metrics, summary)


def _or_none(value: float) -> float | None:
    """For JSON, which has no NaN, as the accuracy without classes is, and no infinity: None."""
    return value if math.isfinite(value) else None


def _numbers(measures: Any) -> dict[str, float | None]:
    """What `measure` returned, of whatever type, such as NumPy's, as numbers for JSON."""
    try:
        return {str(name): _or_none(float(value)) for name, value in measures.items()}
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"measure: must return a number for each name, {{name: number}}, got {measures!r}") from error
