"""Delays: spikes that take different times to arrive.

A layer of leaky neurons sees the past only through its decays, as a blur. With delays it also sees what happened some steps
ago, sharply, so that "first this channel, then that one" becomes a coincidence, which neurons are good at detecting.
Neuromorphic chips have such delays on their axons.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rheobase.ops.arguments import as_count, check_sequence
from rheobase.temporal import Temporal


class Delay(Temporal):
    """Several copies of every input, each delayed by its own number of steps, side by side on the features axis.

        y[t] = (x[t - steps[0]], x[t - steps[1]], ...),    x[t] = 0 for t < 0

    Args:
        *steps: the delays, in steps, each at least 0. `Delay(0, 5)` doubles the features: as they are now, and as they were 5
            steps ago.

    Raises:
        ValueError: if there is no delay, one is not a whole number of at least 0, or one is given twice.

    Example:
        >>> Delay(0, 2)(torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1))[:, 0]
        tensor([[1., 0.],
                [2., 0.],
                [3., 1.]])
    """

    def __init__(self, *steps: int) -> None:
        super().__init__()
        self.steps = tuple(as_count(delay, "each delay", "Delay", least=0) for delay in steps)
        if not steps or len(set(self.steps)) < len(steps):
            raise ValueError(f"Delay: steps must be different whole numbers, each at least 0, got {steps}")

    def run(
        self, x: Float[Tensor, "T B *features"], state: Float[Tensor, "longest B *features"] | None = None
    ) -> tuple[Float[Tensor, "T B *features_out"], Float[Tensor, "longest B *features"]]:
        """The delayed copies of `x`, and the last steps, still in transit, starting from `state`; None is silence."""
        check_sequence(x, "Delay")
        if x.ndim < 3:
            raise ValueError(f"Delay: x must be (T, B, features, ...), got shape {tuple(x.shape)}")
        longest = max(self.steps)
        known = with_past("Delay", x, state, longest)
        if longest == 0:  # no delay but 0: the input itself, without a copy
            return x, x[:0]
        start = [longest - delay for delay in self.steps]
        # The state is a copy, so that it does not keep all of `known` alive.
        return torch.cat([known[s : s + len(x)] for s in start], dim=2), known[len(x) :].clone()

    def extra_repr(self) -> str:
        """The delays, for `print(network)`."""
        return ", ".join(map(str, self.steps))


def with_past(
    what: str, x: Float[Tensor, "T B *features"], state: Tensor | None, longest: int
) -> Float[Tensor, "T_and_longest B *features"]:
    """The last `longest` steps before `x`, and `x`.

    Args:
        what: the caller's name, for error messages.
        x: a sequence, or the next piece of one.
        state: the steps before it; None is silence.
        longest: how many these are.

    Raises:
        TypeError: if `state` is not a tensor.
        ValueError: if it does not belong to this batch or layer.

    Example:
        >>> with_past("Delay", torch.ones(2, 1, 1), None, 1).flatten()
        tensor([0., 1., 1.])
    """
    before = (longest, *x.shape[1:])
    if state is None:
        state = x.new_zeros(before)
    if not isinstance(state, Tensor):
        raise TypeError(f"{what}: state must be a tensor, as run returns it, got a {type(state).__name__}")
    if state.shape != before:
        raise ValueError(
            f"{what}: state must be the last {longest} steps, {before}, got shape {tuple(state.shape)}; it belongs to "
            "another batch or layer; None starts from silence"
        )
    return torch.cat((state, x)) if longest else x
