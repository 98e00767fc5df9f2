"""An input that is constant over time: computed once, seen at every step.

An image has no time. Feeding it in at every step computes the same first layer T times, on T copies of the image. But a linear
layer commutes with repetition, so the image can pass the first layer as a sequence of one step, and the result is held:
`Sequential(Conv2d(...), Hold(8), SingleSpike(...), ...)`.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from rheobase.ops.arguments import as_count, check_sequence
from rheobase.temporal import Temporal


class Hold(Temporal):
    """Holds each step of its input for `steps` steps: it turns the one step of an image into T, without copying it.

    Args:
        steps: how long a step is held, at least 1.

    Raises:
        ValueError: if `steps` is not a whole number of at least 1.

    Example:
        >>> import torch
        >>> picture = torch.tensor([[[0.2, 0.7]]])  # (1, B, pixels)
        >>> Hold(3)(picture)[:, 0]
        tensor([[0.2000, 0.7000],
                [0.2000, 0.7000],
                [0.2000, 0.7000]])
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = as_count(steps, "steps", "Hold")

    def run(
        self, x: Float[Tensor, "T B *features"], state: Any = None
    ) -> tuple[Float[Tensor, "T_held B *features"], Any]:
        """Each step of `x`, `steps` times; there is no state, since every step is held alike."""
        check_sequence(x, "Hold")
        if len(x) == 1:
            return x.expand(self.steps, *x.shape[1:]), state
        return x.repeat_interleave(self.steps, dim=0), state

    def extra_repr(self) -> str:
        """The number of steps, for `print(network)`."""
        return f"steps={self.steps}"
