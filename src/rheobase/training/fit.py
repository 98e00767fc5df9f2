"""The training loop.

It does what a careful person does by hand: shuffle, augment, step, clip, look at the validation set, keep the best weights,
read the test set once at the end. What makes it worth having is what it survives. A run that is killed at any moment resumes
and ends bit-identical to the one that was not killed; several processes compute the losses of one; and a loss that becomes
NaN stops the run with the layer and the step named and the last good checkpoint intact.
"""

import math
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rheobase import decoding
from rheobase.data import Dataset
from rheobase.errors import DivergenceError, RunError
from rheobase.health import neuron_layers
from rheobase.training import checkpoint, randomness
from rheobase.training.about import about_run, peak_memory_mib
from rheobase.training.checkpoint import Position
from rheobase.training.display import Display, Plan, display_for
from rheobase.training.divergence import explain
from rheobase.training.engine import Engine
from rheobase.training.evaluate import Decode, Evaluation, Loss, answers_of, evaluate, loss_of
from rheobase.training.folder import RunFolder
from rheobase.training.record import write_evaluation
from rheobase.training.settings import Training


@dataclass(frozen=True)
class Result:
    """What a training run came to.

    Args:
        best_epoch: the epoch, counted from 1, that was best on the validation set; the network has its weights now.
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
    decode: Decode = decoding.mean,
    run: str | Path | None = None,
    resume: bool = False,
    also_test: Mapping[str, Dataset] | None = None,
    about: Mapping[str, Any] | None = None,
    display: Display | None = None,
) -> Result:
    """Train `network`, keep the weights of the best epoch on `validation`, and read `test` once at the end.

    Args:
        network: `(T, B, *features)` in, `(T, B, C)` out. It is trained in place and left in evaluation mode, with the best
            weights.
        train: the samples to learn from.
        validation: the samples that every choice is made on.
        test: the samples that are looked at once, after the last choice; None leaves them out.
        settings: epochs, batch size, learning rate and so on; None is `Training()`.
        loss: of the output `(T, B, C)` and the labels `(B,)`, the mean over the batch; None is the cross-entropy of the decoded
            output.
        decode: from the output to one value per class; the largest is the answer.
        run: the folder for configuration, metrics, checkpoints and the result; None keeps everything in memory.
        resume: go on with the run in the folder `run`, from its last checkpoint. It ends as if it had never stopped.
        also_test: further sets that are looked at once, with the test set; the summary has their accuracies by name.
        about: more to write into the run's `config.json`, such as a recipe's name.
        display: who is told of the progress; None is a live display on a terminal and plain lines elsewhere.

    Returns:
        The best epoch, the evaluations on validation and test set, the metrics of all epochs.

    Raises:
        DivergenceError: if a gradient or a loss is not finite; the message says where. The checkpoint of the last good epoch is
            intact.
        RunError: if `run` holds a run already (without `resume`) or none (with it), or one of another network, or with
            other data or settings.
        ValueError: if a setting is out of range, or the network's output does not fit the labels.

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
    settings = settings or Training()
    for name, dataset in {"validation": validation, "test": test, **(also_test or {})}.items():
        if dataset is not None and dataset.classes != train.classes:
            raise ValueError(
                f"{name} must have the classes of train, {train.classes}, got {dataset.classes}; name them when the data sets "
                "are made"
            )
    if resume and run is None:
        raise ValueError("run must name the folder to resume, got None")
    engine = Engine.start(settings)
    display = (display or display_for("auto")) if engine.is_main else display_for("quiet")
    devices = [engine.device] if engine.device.type == "cuda" else []
    try:
        # Every draw is seeded by its own purpose, so the user's random generators are lent, not spent.
        with torch.random.fork_rng(devices=devices):
            loop = _Loop(network, train, validation, settings, engine, loss or loss_of(decode), decode, display)
            folder = _open(None if run is None else Path(run), loop, resume, about or {})
            title = str((about or {}).get("recipe") or type(network).__name__)
            return loop.run(folder, test, also_test or {}, resume, title)
    finally:
        display.close()


def _open(path: Path | None, loop: "_Loop", resume: bool, about: Mapping[str, Any]) -> RunFolder | None:
    if path is None:
        return None
    if not resume and loop.engine.is_main:
        RunFolder.create(path, about_run(loop.network, loop.settings, loop.engine.device, about))
    loop.engine.wait_for_all()
    return RunFolder(path)


class _Loop:
    """A network with all that it is trained with; `run` walks the epochs."""

    def __init__(
        self,
        network: nn.Module,
        train: Dataset,
        validation: Dataset,
        settings: Training,
        engine: Engine,
        loss: Loss,
        decode: Decode,
        display: Display,
    ) -> None:
        self.network = network
        self.wrapped = engine.prepare(network)
        self.train = train
        self.validation = validation
        self.settings = settings
        self.engine = engine
        self.loss = loss
        self.decode = decode
        self.display = display
        self.optimizer = torch.optim.AdamW(_groups(network, settings), lr=settings.learning_rate)
        self.steps = math.ceil(len(train) / settings.batch_size)

    def run(
        self,
        folder: RunFolder | None,
        test: Dataset | None,
        also_test: Mapping[str, Dataset],
        resume: bool,
        title: str,
    ) -> Result:
        """All epochs, and the result."""
        data = f"{self.train.fingerprint()} {self.validation.fingerprint()}"
        position = Position(
            epoch=0,
            best_epoch=0,
            best_accuracy=-1.0,
            best_loss=math.inf,
            seconds=0.0,
            data=data,
            settings=self.settings.decisive(),
        )
        best: dict[str, Tensor] = {}
        metrics: list[dict[str, Any]] = []
        if resume and folder is not None:
            position, best, metrics = self._restore(folder, position)
        samples = {"train": len(self.train), "validation": len(self.validation)}
        if test is not None:
            samples["test"] = len(test)
        self.display.start(
            Plan(
                title=title,
                epochs=self.settings.epochs,
                epochs_done=position.epoch,
                steps=self.steps,
                samples=samples,
                parameters=sum(parameter.numel() for parameter in self.network.parameters()),
                layers=tuple(name for name, _ in neuron_layers(self.network)),
                device=str(self.engine.device),
                processes=self.engine.processes,
                run=None if folder is None else str(folder.path),
            )
        )
        while position.epoch < self.settings.epochs and not self._is_stale(position):
            position, improved, measured = self._epoch(position, folder)
            if improved:
                best = self._weights()
            metrics.append(measured)
            if folder is not None and self.engine.is_main:
                # This order survives a kill between any two writes: metrics beyond the checkpoint are cut off on resume, and
                # while the last epoch is the best one, the checkpoint itself holds the best weights (see `_restore`).
                folder.append_metrics(measured)
                checkpoint.save(folder.checkpoint, self.network, position, self.optimizer)
                if improved:
                    checkpoint.save(folder.best, self.network, position)
            self.display.epoch(measured)
        self.network.load_state_dict(best)
        self.network.eval()
        return self._conclude(folder, position, metrics, samples, test, also_test)

    def _restore(self, folder: RunFolder, start: Position) -> tuple[Position, dict[str, Tensor], list[dict[str, Any]]]:
        """Where the run in `folder` stood, its best weights and its metrics; a run that was killed before its first checkpoint
        stands at `start`."""
        position, best = start, {}
        if folder.checkpoint.exists():
            position = checkpoint.load(folder.checkpoint, self.network, self.optimizer)
            if position.data != start.data:
                raise RunError(
                    f"{folder.path}: the data is not what this run was started with; resume it with the same data"
                )
            if position.settings != start.settings:
                raise RunError(
                    f"{folder.path}: was started with {position.settings}, cannot go on with {start.settings}"
                )
            if position.best_epoch < position.epoch:
                found = checkpoint.load(folder.best, self.network).epoch
                if found != position.best_epoch:
                    raise RunError(f"{folder.best}: holds epoch {found}, but epoch {position.best_epoch} was the best")
                best = self._weights()
                checkpoint.load(folder.checkpoint, self.network, self.optimizer)
            else:
                best = self._weights()
                if self.engine.is_main:  # the kill may have come before this epoch was written as the best
                    checkpoint.save(folder.best, self.network, position)
        self.engine.wait_for_all()
        if self.engine.is_main:
            return position, best, folder.keep_metrics(position.epoch)
        return position, best, folder.metrics()[: position.epoch]

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def _is_stale(self, position: Position) -> bool:
        patience = self.settings.patience
        return patience is not None and position.epoch - position.best_epoch >= patience

    def _epoch(self, before: Position, folder: RunFolder | None) -> tuple[Position, bool, dict[str, Any]]:
        """One epoch and its evaluation: the position after it, whether it is the best so far, and its metrics."""
        began = time.monotonic()
        epoch = before.epoch + 1
        loss, accuracy = self._train_epoch(epoch, folder)
        trained = time.monotonic() - began
        seen = self._evaluate(self.validation)
        if not math.isfinite(seen.loss):
            # The last step of the epoch broke the network: it must not become a checkpoint.
            when = f"at the end of epoch {epoch}, the validation loss is {seen.loss}"
            raise self._diverged(when, self._first_batch(self.validation), epoch, folder)
        improved = (seen.accuracy, -seen.loss) > (before.best_accuracy, -before.best_loss)
        seconds = time.monotonic() - began
        after = replace(
            before,
            epoch=epoch,
            best_epoch=epoch if improved else before.best_epoch,
            best_accuracy=seen.accuracy if improved else before.best_accuracy,
            best_loss=seen.loss if improved else before.best_loss,
            seconds=before.seconds + seconds,
        )
        measured = {
            "epoch": epoch,
            "epochs": self.settings.epochs,
            "loss": loss,
            "train_accuracy": accuracy,
            "validation_loss": seen.loss,
            "validation_accuracy": seen.accuracy,
            "best": improved,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": seconds,
            "samples_per_second": len(self.train) / trained,
            "layers": [
                {"name": layer.name, "rate": layer.rate, "dead": layer.dead, "saturated": layer.saturated}
                for layer in seen.layers
            ],
        }
        return after, improved, measured

    def _train_epoch(self, epoch: int, folder: RunFolder | None) -> tuple[float, float]:
        """Step through the training set once; the mean loss and accuracy on the way."""
        self.wrapped.train()
        engine, settings = self.engine, self.settings
        total = torch.zeros(2, device=engine.device)  # loss and correct answers, over this process's samples
        for step, (x, labels) in enumerate(self._batches(epoch), start=1):
            done = (epoch - 1) * self.steps + step - 1
            for group in self.optimizer.param_groups:
                group["lr"] = settings.rate_at(done, settings.epochs * self.steps)
            randomness.seed_layers(settings.seed, epoch, step, engine.process)
            with engine.precision():
                output = self.wrapped(x)
            correct = (answers_of(output, self.decode, labels, len(self.train.classes)) == labels).sum()
            output = output.float()
            # Processes average their gradients. Each weighs its loss by its share of the batch, so that the average is the
            # gradient of the whole batch's mean; a process without a sample takes part with a gradient of zero.
            whole = min(settings.batch_size, len(self.train) - (step - 1) * settings.batch_size)
            loss = self.loss(output, labels) if len(labels) else output.sum() * 0
            self.optimizer.zero_grad()
            (loss * (len(labels) * engine.processes / whole)).backward()
            norm = nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_gradient)
            if not torch.isfinite(norm):
                randomness.seed_layers(settings.seed, epoch, step, engine.process)  # the same dropout once more
                raise self._diverged(f"in epoch {epoch}, step {step}", x, epoch, folder)
            self.optimizer.step()
            total += torch.stack((loss.detach() * len(labels), correct.to(loss.dtype)))
            self.display.step(epoch, step)
        loss, correct = (engine.sum(total) / len(self.train)).tolist()
        if not math.isfinite(loss):
            when = f"in epoch {epoch}, its mean loss is {loss}"
            raise self._diverged(when, self._first_batch(self.train), epoch, folder)
        return loss, correct

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of every batch, on the device; the next one is made while the network works on this one."""
        order = randomness.order(self.settings.seed, epoch, len(self.train))
        seed = randomness.augmentation(self.settings.seed, epoch)
        with ThreadPoolExecutor(1) as worker:
            ahead: Future[tuple[Tensor, Tensor]] | None = None
            for indices in self.engine.share(order, self.settings.batch_size):
                coming = worker.submit(self.train.batch, indices, seed)
                if ahead is not None:
                    yield self.engine.to_device(*ahead.result())
                ahead = coming
            if ahead is not None:
                yield self.engine.to_device(*ahead.result())

    def _diverged(self, when: str, x: Tensor, epoch: int, folder: RunFolder | None) -> DivergenceError:
        kept = (
            ""
            if folder is None or epoch == 1
            else f"; the checkpoint of epoch {epoch - 1} is intact: {folder.checkpoint}"
        )
        with self.engine.precision():
            where = explain(self.network, x)
        return DivergenceError(f"training diverged {when}: {where}{kept}")

    def _first_batch(self, dataset: Dataset) -> Tensor:
        indices = np.arange(min(len(dataset), self.settings.batch_size))
        return self.engine.to_device(*dataset.batch(indices))[0]

    def _evaluate(self, dataset: Dataset) -> Evaluation:
        return evaluate(
            self.network,
            dataset,
            batch_size=2 * self.settings.batch_size,
            loss=self.loss,
            decode=self.decode,
            engine=self.engine,
        )

    def _conclude(
        self,
        folder: RunFolder | None,
        position: Position,
        metrics: list[dict[str, Any]],
        samples: dict[str, int],
        test: Dataset | None,
        also_test: Mapping[str, Dataset],
    ) -> Result:
        validation = self._evaluate(self.validation)
        seen = None if test is None else self._evaluate(test)
        summary: dict[str, Any] = {
            "validation_accuracy": validation.accuracy,
            "validation_loss": validation.loss,
            "best_epoch": position.best_epoch,
            "epochs": position.epoch,
            "seconds": position.seconds,
            "samples_per_second": len(self.train) * position.epoch / max(position.seconds, 1e-9),
            "peak_memory_mib": peak_memory_mib(self.engine.device),
            "samples": samples,
            "layers": [layer.as_dict() for layer in (seen or validation).layers],
            "input": vars((seen or validation).input),
        }
        if seen is not None:
            summary = {"test_accuracy": seen.accuracy, "test_loss": seen.loss, **summary}
        if also_test:
            summary["also_tested"] = {
                name: {"accuracy": self._evaluate(dataset).accuracy, "samples": len(dataset)}
                for name, dataset in also_test.items()
            }
        if folder is not None and self.engine.is_main:
            write_evaluation(
                folder.path / "evaluation.npz", self.network, test or self.validation, seen or validation, self.decode
            )
            folder.write_summary(summary)
        self.display.finish(summary)
        return Result(position.best_epoch, validation, seen, metrics, summary)


def _groups(network: nn.Module, settings: Training) -> list[dict[str, Any]]:
    """Weight decay pulls weight matrices and kernels towards 0; a bias, a decay or a threshold has nothing to seek there."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
