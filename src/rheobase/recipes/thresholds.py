"""Trainable thresholds: the network and the controls of "To Spike or Not to Spike" (arXiv 2407.19566).

Dense layers of current-based neurons without bias, read out by the firing rates of output neurons, trained on the squared
distance from target rates. The question is what each neuron learns besides its weights: nothing, its threshold, or one of two
alternatives that a threshold must beat to be worthwhile, a bias and a gain of its input.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rheobase.data import Progress, Splits
from rheobase.layers import Sequential
from rheobase.losses import rate_mse
from rheobase.neurons import Rouser, SynapticLIF
from rheobase.recipes.recipe import Recipe
from rheobase.recipes.tasks import TASKS, TaskName, load_task
from rheobase.training import Training

Learned = Literal["nothing", "threshold", "positive threshold", "bias", "gain"]


def _rate_loss(output: Tensor, labels: Tensor) -> Tensor:
    """SLAYER's spike-rate loss: summed over classes, as there; the mean over the batch, a scale to which Adam is
    insensitive."""
    return output.shape[2] * rate_mse(output, labels, correct=0.2, wrong=0.03)


@dataclass(frozen=True)
class Thresholds(Recipe):
    """Layers of neurons that learn their thresholds with their weights; the published setting, or a control."""

    loss: ClassVar[Callable[[Tensor, Tensor], Tensor]] = staticmethod(_rate_loss)

    task: TaskName = "spoken-digits"
    """The task to learn."""
    samples: int | None = None
    """Use only this many samples of the training set, the same for every seed; None uses all."""
    learned: Learned = "threshold"
    """What each neuron learns in addition to its weights; the paper's thresholds have no bound, positive ones stay above 0."""
    hidden: tuple[int, ...] = (200, 200)
    """Neurons of each hidden layer."""
    threshold: float = 1.25
    """Initial threshold of the neurons."""
    width: float = 3.75
    """Of the surrogate gradient, `tau` in the paper."""
    scale: float = 1.5
    """Of the surrogate gradient, `s` in the paper."""
    training: Training = field(
        default_factory=lambda: Training(
            epochs=50,
            batch_size=32,
            learning_rate=1e-3,
            schedule="constant",
            warmup=0.0,
            weight_decay=0.0,
            clip_gradient=torch.inf,
            threads=1,
        )
    )

    def __post_init__(self) -> None:
        self.check_hidden(self.hidden)

    def splits(
        self, data_dir: Path | None = None, *, download: bool = False, progress: Progress | None = None
    ) -> Splits:
        """The task's official split, with a part of the training set for validation."""
        return load_task(self.task, samples=self.samples, data_dir=data_dir, download=download, progress=progress)

    def network(self) -> Sequential:
        """Linear layers and neurons, the last of which are the outputs. Initial weights do not depend on what else is
        learned."""
        layers: list[nn.Module] = []
        inputs = TASKS[self.task].channels
        for neurons in (*self.hidden, TASKS[self.task].classes):
            layers.append(nn.Linear(inputs, neurons, bias=False))
            if self.learned in ("bias", "gain"):
                layers.append(PerNeuron(neurons, self.learned))
            layers.append(self._neurons(neurons))
            inputs = neurons
        return Sequential(*layers, input_rate=None)  # weights as PyTorch draws them, the same for all compared variants

    def _neurons(self, count: int) -> SynapticLIF:
        learn = ("threshold",) if self.learned == "threshold" else ()
        neurons = Rouser(count, threshold=self.threshold, width=self.width, scale=self.scale, learn=learn)
        if self.learned != "positive threshold":
            return neurons
        return SynapticLIF(
            count,
            synapse_decay=neurons.synapse_decay,
            decay=neurons.decay,
            threshold=self.threshold,
            surrogate=neurons.surrogate,
            reset="zero",
            reset_gradient="ignored",
            learn=("threshold",),
        )


class PerNeuron(nn.Module):
    """One learned number for each neuron, added to its input ("bias") or multiplied with it ("gain"); initially without effect.

    Args:
        neurons: the number of neurons.
        kind: "bias" or "gain".

    Example:
        >>> PerNeuron(3, "gain")(torch.ones(2, 3)).detach()
        tensor([[1., 1., 1.],
                [1., 1., 1.]])
    """

    def __init__(self, neurons: int, kind: Literal["bias", "gain"]) -> None:
        super().__init__()
        self.kind: Literal["bias", "gain"] = kind
        self.value = nn.Parameter(torch.zeros(neurons) if kind == "bias" else torch.ones(neurons))

    def forward(self, x: Float[Tensor, "... N"]) -> Float[Tensor, "... N"]:
        """`x + value` or `x * value`."""
        return x + self.value if self.kind == "bias" else x * self.value
