"""How a network is trained: every number of the loop, in one place, with defaults that work."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Training:
    """The settings of `rheobase.fit`.

    Raises:
        TypeError: if a count is not a whole number, or another setting is not a number.
        ValueError: if a setting is out of its range, or not one of its allowed words.

    Example:
        >>> Training(epochs=3).rate_at(step=0, steps=1000) < Training().learning_rate
        True
    """

    epochs: int = 40
    """Passes over the training set."""
    batch_size: int = 64
    """Samples per step, over all processes together."""
    accumulate: int = 1
    """Gradient accumulation: compute each step in this many parts and add up their gradients. Less memory for the same step,
    except for batch normalization, penalties on a batch's mean activity, and random draws."""
    learning_rate: float = 3e-3
    """Peak learning rate of the optimizer, which is AdamW, reached after the warm-up."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """The learning rate after the warm-up: it falls to 0 along a cosine, or stays constant."""
    threshold_learning_rate: float | None = None
    """Peak learning rate of learned thresholds, at least 0; None is the general one."""
    decay_learning_rate: float | None = None
    """Peak learning rate of learned decays, at least 0; None is the general one."""
    delay_learning_rate: float | None = None
    """Peak learning rate of learned delays, at least 0; None is the general one."""
    weight_decay: float = 1e-4
    """Weight decay, on weight matrices and kernels only: not on biases, decays, thresholds. With AdamW it is decoupled."""
    warmup: float = 0.05
    """The share of all steps over which the learning rate rises from 0."""
    clip_gradient: float = 1.0
    """Maximum norm of the gradient; a larger one is scaled down to it."""
    patience: int | None = None
    """Stop after this many epochs without a higher validation accuracy, or a lower loss at the same accuracy; None never stops
    early."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 runs linear and convolutional layers, and the products over all steps of `PSN` and `MaskedPSN`, in mixed
    precision; membranes and decays stay in float32."""
    device: Literal["auto", "cpu", "gpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU if there is one. "cuda" is stored as "gpu"."""
    threads: int | None = None
    """CPU threads of PyTorch, per process; None leaves the choice to PyTorch. Small networks are fastest with 1."""
    # Their threads wait for each other longer than they work, especially on a busy machine. And with a fixed number the result
    # does not depend on the number of cores.
    seed: int = 0
    """Determines the order of samples, their augmentation and the dropout masks; at the command line, also the weights."""

    def __post_init__(self) -> None:
        for name, low in (
            ("epochs", 1), ("batch_size", 1), ("accumulate", 1), ("patience", 1), ("threads", 1), ("seed", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is None and name in ("patience", "threads"):
                continue
            if not isinstance(value, int):
                raise TypeError(f"{name} must be a whole number, got {value!r}")
            if value < low:
                raise ValueError(f"{name} must be at least {low}, got {value}")
        numbers = ("learning_rate", "clip_gradient", "weight_decay", "warmup")
        rates = ("threshold_learning_rate", "decay_learning_rate", "delay_learning_rate")
        for name in (*numbers, *rates):
            value = getattr(self, name)
            if value is None and name in rates:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                remedy = "; math.inf does not clip" if name == "clip_gradient" else ""
                raise TypeError(f"{name} must be a number, got {value!r}{remedy}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be above 0 and finite, got {self.learning_rate}")
        for name in rates:
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {value}")
        if not self.clip_gradient > 0:
            raise ValueError(f"clip_gradient must be above 0 (infinity does not clip), got {self.clip_gradient}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be at least 0 and finite, got {self.weight_decay}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup must be in [0, 1), got {self.warmup}")
        words_of = {
            "schedule": ("cosine", "constant"),
            "precision": ("float32", "bfloat16"),
            "device": ("auto", "cpu", "gpu", "cuda"),
        }
        for name, words in words_of.items():
            if getattr(self, name) not in words:
                raise ValueError(f"{name} must be one of {', '.join(words)}, got {getattr(self, name)!r}")
        if self.device == "cuda":  # one name for one setting, so that runs compare
            object.__setattr__(self, "device", "gpu")

    @property
    def evaluation_batch_size(self) -> int:
        """Samples per step in evaluation, which takes half of the memory."""
        return max(1, 2 * self.batch_size // self.accumulate)

    def decisive(self) -> dict[str, Any]:
        """The settings that determine the result of a run: all but the device."""
        return {name: value for name, value in asdict(self).items() if name != "device"}

    def rate_at(self, step: int, steps: int) -> float:
        """The learning rate at `step` of `steps`: a function of the position alone, so that a resumed run needs no state."""
        progress = (step + 1) / steps
        rising = min(1.0, progress / self.warmup) if self.warmup else 1.0
        falling = 0.5 * (1 + math.cos(math.pi * step / steps)) if self.schedule == "cosine" else 1.0
        return self.learning_rate * rising * falling
