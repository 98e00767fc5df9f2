"""The steps of training: a network with its optimizer, its data and its loss, and one epoch of them.

What happens between epochs (which is the best, what is written, when to stop) is in `rheobase.training.fit`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from rheobase import randomness
from rheobase.compiled import original
from rheobase.data import Dataset
from rheobase.diagnosis.divergence import explain
from rheobase.errors import DivergenceError
from rheobase.health import listening
from rheobase.regularizers import constant, has_come_in
from rheobase.scheduled import is_settled, set_progress
from rheobase.training.clipping import clip_gradient
from rheobase.training.display import Display
from rheobase.training.engine import Engine
from rheobase.training.evaluate import Evaluation, evaluate
from rheobase.training.first_batch import check_batch
from rheobase.training.groups import parameter_groups
from rheobase.training.lengths import Mask, given, mask_for, under, without_padding
from rheobase.training.predictions import Decode, Loss, loss_on, precise, right_for, sample_axis
from rheobase.training.settings import Training

Regularizer = Callable[..., Tensor]
"""A penalty on activity: from the spikes of each layer of neurons, `{name: (T, B, *features)}` in the order of the data, and
the progress of training, 0 in the first epoch and 1 in the last (and in an only one), to a scalar that does not grow with the
batch. With several processes each has the penalty of its own samples, and their mean, weighted by samples, counts: that of the
whole batch only if the penalty is a mean over samples. With samples of different lengths it is also called with `mask=`, `(T,
B)`, True at valid steps."""

Optimize = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
"""From parameter groups, as `rheobase.parameter_groups` makes them, to an optimizer: `torch.optim.Adamax`, or `lambda groups:
torch.optim.SGD(groups, momentum=0.9)`. Learning rates and weight decays are in the groups."""


@dataclass(frozen=True)
class Step:
    """One process's share of one step, or a part of that."""

    x: Tensor
    labels: Tensor
    """Or targets."""
    mask: Mask | None
    """True at valid steps, `(T, B)`, where samples have different lengths."""
    share: float
    """The share of the whole batch that these samples make up; 0 where a batch has fewer samples than there are processes."""

    def parts(self, count: int, axis: int) -> list["Step"]:
        """The same in `count` parts, some empty where there are fewer samples; `axis` is the axis of samples in `labels`."""
        if count == 1:
            return [self]
        samples = max(self.x.shape[1], 1)
        masks = [None] * count if self.mask is None else self.mask.tensor_split(count, 1)
        whole = zip(self.x.tensor_split(count, 1), self.labels.tensor_split(count, axis), masks, strict=True)
        return [Step(x, labels, mask, self.share * x.shape[1] / samples) for x, labels, mask in whole]


class Trainer:
    """A network and everything it is trained with.

    Args:
        network: the network; it is moved to the engine's device.
        train: the samples to learn from.
        settings: learning rate, batch size and so on.
        engine: device, precision and processes.
        loss: from output and labels to the mean over the batch.
        decode: from the output to one value per class, or to what is compared with targets.
        regularizers: penalties on the activity of neurons, added to the loss in training.
        optimize: makes the optimizer; None is AdamW.
        schedule: the factor of the learning rates, a function of the share of all steps done; None is that of `settings`.
        display: notified of every step.

    Raises:
        TypeError: if `optimize` does not make an optimizer that steps by gradients alone, or `schedule` is not a function.
        ValueError: if its parameters are not those it was given.
    """

    def __init__(
        self,
        network: nn.Module,
        train: Dataset,
        settings: Training,
        engine: Engine,
        loss: Loss,
        decode: Decode,
        regularizers: Sequence[Regularizer],
        optimize: Optimize | None,
        schedule: Callable[[float], float] | None,
        display: Display,
    ) -> None:
        self.network = original(network)  # whose weights have the same names as without `torch.compile`
        self.train = train
        self._right = right_for(train)
        self.settings = settings
        self.engine = engine
        self.loss = loss
        self.decode = decode
        self.regularizers = regularizers
        if schedule is not None and not callable(schedule):
            raise TypeError(
                "schedule must be a function of the share of all steps that are done, such as lambda done: 1 - done, got "
                f"{schedule!r}; that of settings is Training(schedule={schedule!r})"
            )
        self.schedule = schedule
        self.display = display
        if lazy := [
            name for name, parameter in self.network.named_parameters() if isinstance(parameter, UninitializedParameter)
        ]:
            raise ValueError(
                f"network: {lazy[0]} has no shape yet, like that of a lazy layer that has seen no batch; call network(x) once "
                "before"
            )
        self.wrapped = engine.prepare(network)
        rates = {
            "threshold": settings.threshold_learning_rate,
            "decay": settings.decay_learning_rate,
            "delay": settings.delay_learning_rate,
        }
        groups = parameter_groups(
            network,
            settings.learning_rate,
            rates={name: rate for name, rate in rates.items() if rate is not None},
            weight_decay=settings.weight_decay,
        )
        if not groups:
            raise ValueError(
                "network has nothing to learn: it has no parameter that requires a gradient; parameter.requires_grad_(True) "
                "lets one learn, rb.evaluate evaluates without learning"
            )
        self._scales = [group["lr"] / settings.learning_rate for group in groups]
        self.optimizer = _adamw(groups) if optimize is None else _optimizer_of(optimize, groups)
        self.steps = math.ceil(len(train) / settings.batch_size)
        self._is_checked = False

    def epoch(self, epoch: int) -> tuple[float, float]:
        """Step through the training set once; returns the mean loss and accuracy on the way, NaN without classes.

        Raises:
            DivergenceError: if a gradient or the mean loss is not finite.
            ValueError: if the network's output does not fit the labels, or the loss is not a scalar.
            TypeError, DataError: if the very first batch is unusable; see `check_batch`.
        """
        self.wrapped.train()
        engine, settings = self.engine, self.settings
        progress = self._progress(epoch)
        set_progress(self.network, progress)
        # Over this process's samples: loss, correct predictions, and the loss with penalties.
        total = torch.zeros(3, device=engine.device)
        for number, step in enumerate(self._steps(epoch), start=1):
            rate = self._rate_at((epoch - 1) * self.steps + number - 1, settings.epochs * self.steps)
            for group, scale in zip(self.optimizer.param_groups, self._scales, strict=True):
                group["lr"] = rate * scale
            place = settings.seed, epoch, number
            self.optimizer.zero_grad()
            parts, sums = step.parts(self._parts_of(number), sample_axis(self.train)), []
            for part in parts:
                self._seed_layers(place, len(sums))
                with nullcontext() if part is parts[-1] else engine.apart(self.wrapped):
                    loss, correct, of_all = self._add_gradient(part, place, progress)
                samples = part.x.shape[1]
                total += torch.stack((loss * samples, correct.to(loss.dtype), of_all * samples))
                sums.append(of_all)
            # A frozen weight may have a gradient left over from before.
            learned = (parameter for parameter in self.network.parameters() if parameter.requires_grad)
            norm = clip_gradient(learned, settings.clip_gradient)
            if not torch.isfinite(norm):
                failed = next((k for k, of_all in enumerate(sums) if not torch.isfinite(of_all)), 0)
                self._seed_layers(place, failed)  # the same dropout again
                part, when = parts[failed], f"in epoch {epoch}, step {number}"
                raise self._diverged(when, part.x, part.mask, sums[failed].item())
            self.optimizer.step()
            self.display.step(epoch, number)
        engine.agree_on_buffers(self.network)
        loss, correct, of_all = (engine.sum(total) / len(self.train)).tolist()
        for name, value in (("mean loss", loss), ("mean loss with penalties", of_all)):
            if not math.isfinite(value):
                raise self._diverged(f"in epoch {epoch}, its {name} is {value}", *self._first_batch(self.train), value)
        return loss, correct

    def _parts_of(self, number: int) -> int:
        """The number of parts into which step `number` of an epoch is cut, the same in every process: at most as many as one
        has samples."""
        size = self.settings.batch_size
        samples = min(size, len(self.train) - (number - 1) * size)
        return min(self.settings.accumulate, math.ceil(samples / self.engine.processes))

    def _seed_layers(self, place: tuple[int, int, int], part: int) -> None:
        """Each part of each process's share draws on its own."""
        engine = self.engine
        randomness.seed_layers(*place, engine.process + part * engine.processes, engine.device)

    def _add_gradient(self, part: Step, place: tuple[int, int, int], progress: float) -> tuple[Tensor, Tensor, Tensor]:
        """Add the gradient of a part of a step; returns its mean loss, the number of correct predictions, and the loss with
        penalties."""
        engine, mask, samples = self.engine, part.mask, part.x.shape[1]
        with engine.precision(), under(self.network, mask), self._activity() as activity:
            output = self.wrapped(part.x)
        correct = self._right(output, given(self.decode, mask), part.labels, mask)
        output = precise(output)
        loss = loss_on(output, part.labels, given(self.loss, mask)) if samples else output.sum() * 0
        randomness.seed_penalties(*place, engine.device)
        penalty = self._penalty(activity, progress, mask) if samples else torch.zeros_like(loss)
        # Processes average their gradients. Each weighs its loss by its share of the batch, so that the average is the gradient
        # of the whole batch's mean; a process without a sample takes part with a gradient of zero.
        of_all = loss + penalty
        if not of_all.requires_grad:
            raise ValueError(
                "loss must depend on what the network learns, got one without a gradient: look for a detach(), an item(), "
                "torch.no_grad(), or a network whose parameters all have requires_grad=False"
            )
        (of_all * (part.share * engine.processes)).backward()
        return loss.detach(), correct, of_all.detach()

    def is_settled(self, epoch: int) -> bool:
        """Whether the network has reached its final form after `epoch`: modules are done changing, penalties have come in."""
        schedules = [getattr(regularizer, "schedule", constant) for regularizer in self.regularizers]
        return is_settled(self.network) and all(has_come_in(each, self._progress(epoch)) for each in schedules)

    def _rate_at(self, step: int, steps: int) -> float:
        """The learning rate at `step` of `steps`."""
        if self.schedule is None:
            return self.settings.rate_at(step, steps)
        factor = float(self.schedule(step / steps))
        if not 0 <= factor < math.inf:
            raise ValueError(
                f"schedule must return a factor of at least 0, and finite, got {factor} at {step / steps:.3g}"
            )
        return self.settings.learning_rate * factor

    def _progress(self, epoch: int) -> float:
        # A training of one epoch is at its end at once; otherwise modules and penalties would stay as they are at the start.
        return 1.0 if self.settings.epochs == 1 else max(epoch - 1, 0) / (self.settings.epochs - 1)

    def _activity(self) -> AbstractContextManager[dict[str, Tensor]]:
        return listening(self.network) if self.regularizers else nullcontext({})

    def _penalty(self, activity: Mapping[str, Tensor], progress: float, mask: Mask | None) -> Tensor:
        penalty = torch.zeros((), device=self.engine.device)
        for regularizer in self.regularizers:
            added = torch.as_tensor(given(regularizer, mask)(activity, progress), device=self.engine.device)
            if added.ndim:
                raise ValueError(
                    f"regularizers must return a scalar, got shape {tuple(added.shape)} from {regularizer}"
                )
            penalty = penalty + added
        return penalty

    def evaluate(self, dataset: Dataset) -> Evaluation:
        """The network on `dataset`."""
        return evaluate(
            self.network,
            dataset,
            batch_size=self.settings.evaluation_batch_size,
            loss=self.loss,
            decode=self.decode,
            engine=self.engine,
            seed=self.settings.seed,
        )

    def validate(self, dataset: Dataset, epoch: int) -> Evaluation:
        """The network on `dataset` after `epoch`.

        Raises:
            DivergenceError: if a weight or the loss is not finite: the epoch's last step broke the network.
        """
        try:
            seen = self.evaluate(dataset)
        except DivergenceError:
            raise self._diverged(f"at the end of epoch {epoch}", *self._first_batch(dataset), math.nan) from None
        if not math.isfinite(seen.loss):
            when = f"at the end of epoch {epoch}, the validation loss is {seen.loss}"
            raise self._diverged(when, *self._first_batch(dataset), seen.loss)
        return seen

    def weights(self) -> dict[str, Tensor]:
        """A copy of everything the network consists of."""
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def _steps(self, epoch: int) -> Iterator[Step]:
        """This process's part of every step, on the device; the next one is prepared while the network works on this one."""
        order = randomness.order(self.settings.seed, epoch, len(self.train))
        seed = randomness.augmentation(self.settings.seed, epoch)
        batch_size = self.settings.batch_size
        with ThreadPoolExecutor(1) as worker:
            ahead: tuple[Future[tuple[Tensor, Tensor, Mask | None]], float] | None = None
            for number, indices in enumerate(self.engine.share(order, batch_size)):
                whole = order[number * batch_size : (number + 1) * batch_size]
                coming = worker.submit(self._read, indices, seed), len(indices) / len(whole)
                if ahead is not None:
                    yield self._step(*ahead)
                ahead = coming
            if ahead is not None:
                yield self._step(*ahead)

    def _read(self, indices: np.ndarray, seed: tuple[int, ...]) -> tuple[Tensor, Tensor, Mask | None]:
        """A batch of the training set, with its mask; the first one is checked."""
        batch = self.train.batch(indices, seed)
        if not self._is_checked:
            self.check(batch, len(indices), "train")
            self._is_checked = True
        x, labels = batch
        return x, labels, mask_for(self.train, indices, x)

    def check(self, batch: object, samples: int, name: str) -> None:
        """Refuse a batch of this many samples of the data set `name` that the network or the loss could not take.

        Raises:
            TypeError, DataError: as `check_batch`.
        """
        check_batch(
            batch, samples, self.train.classes, name, self.network, self.engine.bfloat16, sample_axis(self.train)
        )

    def _step(self, batch: Future[tuple[Tensor, Tensor, Mask | None]], share: float) -> Step:
        x, labels, mask = batch.result()
        return Step(*self.engine.to_device(x, labels), None if mask is None else mask.to(self.engine.device), share)

    def _diverged(self, when: str, x: Tensor, mask: Mask | None, loss: float) -> DivergenceError:
        with self.engine.precision(), under(self.network, mask):
            where = explain(self.network, without_padding(x, mask), loss)
        return DivergenceError(f"training diverged {when}: {where}")

    def _first_batch(self, dataset: Dataset) -> tuple[Tensor, Mask | None]:
        indices = np.arange(min(len(dataset), self.settings.batch_size))
        x, _ = self.engine.to_device(*dataset.batch(indices))
        return x, mask_for(dataset, indices, x)


def _adamw(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    # The whole update in one pass over memory: on the CPU a third to a tenth of the time of PyTorch's default.
    real = all(parameter.is_floating_point() for group in groups for parameter in group["params"])
    return torch.optim.AdamW(groups, fused=real)


def _optimizer_of(optimize: Optimize, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """The optimizer that `optimize` makes of the groups, checked."""
    if not callable(optimize):
        raise TypeError(
            "optimizer must be a class or a function of parameter groups, such as torch.optim.Adamax or "
            f"lambda groups: torch.optim.SGD(groups, momentum=0.9), got {type(optimize).__name__}"
        )
    wanted = _parameters(groups)
    # LBFGS takes no parameter groups, and says so in its own words.
    made = optimize if optimize is torch.optim.LBFGS else optimize(groups)
    if not isinstance(made, torch.optim.Optimizer) or isinstance(made, torch.optim.LBFGS):
        got = (made if isinstance(made, type) else type(made)).__name__
        raise TypeError(
            f"optimizer must make an optimizer that steps by gradients, such as torch.optim.Adamax, got {got}"
        )
    if _parameters(made.param_groups) != wanted:
        raise ValueError(
            "optimizer must make an optimizer of the parameter groups that it is given, got other parameters"
        )
    return made


def _parameters(groups: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    return [[id(parameter) for parameter in group["params"]] for group in groups]
