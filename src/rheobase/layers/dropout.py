"""Dropout for sequences: a dropped unit stays dropped for the whole sample.

A mask drawn again at every step only adds noise that the membrane potential averages out; a mask that is constant over time
removes the unit, as dropout is meant to.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rheobase.temporal import Temporal


class Dropout(Temporal):
    """Dropout whose mask is constant over time: one draw per sample and unit.

    In training each unit is dropped with probability `p` for the whole sample, and the others are scaled by `1 / (1 - p)`; in
    evaluation nothing happens. (`torch.nn.Dropout` in a `Sequential` draws a new mask at every step.)

    Args:
        p: the probability of dropping a unit, in [0, 1).

    Raises:
        ValueError: if `p` is not in [0, 1).

    Example:
        >>> layer = Dropout(0.5)
        >>> y = layer(torch.ones(4, 2, 8))
        >>> bool((y == y[0]).all())  # the same units at every step
        True
        >>> bool((layer.eval()(torch.ones(4, 2, 8)) == 1).all())
        True
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p must be in [0, 1), got {p}")
        self.p = p

    def run(
        self, x: Float[Tensor, "T B *features"], state: Float[Tensor, "B *features"] | None = None
    ) -> tuple[Float[Tensor, "T B *features"], Float[Tensor, "B *features"] | None]:
        """`x` with units dropped, and the mask as the state, so that the next piece of a sequence drops the same units."""
        if not self.training or self.p == 0:
            return x, state
        if state is None:
            keep = 1 - self.p
            state = torch.empty(x.shape[1:], dtype=x.dtype, device=x.device).bernoulli_(keep).div_(keep)
        elif getattr(state, "shape", None) != x.shape[1:]:
            got = f"shape {tuple(state.shape)}" if isinstance(state, Tensor) else f"a {type(state).__name__}"
            raise ValueError(f"Dropout: state must be the mask of one time step of x, {tuple(x.shape[1:])}, got {got}")
        return x * state, state

    def extra_repr(self) -> str:
        """The probability, for `print(network)`."""
        return f"p={self.p}"
