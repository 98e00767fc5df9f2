"""What all layers over time have in common, so that state cannot be mishandled.

In most libraries a spiking layer remembers its membrane potential between calls, and sooner or later a reset is forgotten. Here
a layer has no memory: called on a sequence it starts from rest. To continue where the last call stopped, for streaming, pass
the state explicitly: `y, state = layer.run(x, state)`. A sequence cut anywhere gives the same outputs and gradients as the
whole; `detach` ends the gradients at the cut.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class Temporal(nn.Module):
    """A layer over time: input `(T, B, *features)`, output `(T, B, *features_out)`; only `Hold` changes T.

    A subclass implements `run`. `Sequential` passes such layers the sequence as it is, and merges time into the batch for all
    others. One that holds other layers implements `forward` as well, by calling these layers: counting spikes, masking padding,
    calibration and diagnosis use hooks, and PyTorch's hooks see a call, `layer(x)`, but not `layer.run(x)`.

    Example:
        >>> import torch, rheobase as rb
        >>> class Twice(Temporal):
        ...     def __init__(self, neurons):
        ...         super().__init__()
        ...         self.first, self.second = rb.LIF(neurons), rb.LIF(neurons)
        ...     def run(self, x, state=None):
        ...         first, second = state or (None, None)
        ...         y, first = self.first.run(x, first)
        ...         y, second = self.second.run(x + y, second)
        ...         return y, (first, second)
        ...     def forward(self, x):
        ...         return self.second(x + self.first(x))
        >>> layer, x = Twice(3), torch.rand(10, 2, 3)
        >>> start, state = layer.run(x[:4])
        >>> end, _ = layer.run(x[4:], state)
        >>> torch.equal(torch.cat((start, end)), layer(x))
        True
    """

    def run(self, x: Float[Tensor, "T B *features"], state: Any = None) -> tuple[Float[Tensor, "T_out B *out"], Any]:
        """The outputs for `x` and the state after it, starting from `state`; None is rest.

        The state carries gradients back into the previous piece. To call `backward` after each piece (truncated backpropagation
        through time), pass `rb.detach(state)` to the next.

        Args:
            x: a sequence, or the next piece of one, `(T, B, *features)`.
            state: what the last call of `run` returned, or None.

        Returns:
            The outputs, `(T, B, *features_out)`, and the state to pass with the next piece.
        """
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "T B *features"]) -> Float[Tensor, "T_out B *out"]:
        """The outputs for the whole sequence `x`, from rest."""
        result = self.run(x)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(
                f"{type(self).__name__}.run must return a pair, the outputs and the state after them (None if there is none), "
                f"got a {type(result).__name__}"
            )
        return result[0]


def detach(state: Any) -> Any:
    """The state of any layer or network as a constant: the next piece starts from it, and gradients end there.

    For truncated backpropagation through time: without it, the `backward` of the second piece would run into the first, whose
    graph is gone. (`rheobase.Recompute(..., truncated=True)` does the same within one call.)

    Args:
        state: what `run` returned: tensors, numbers and None, in lists, tuples and dictionaries, however nested.

    Returns:
        The same, with tensors that share memory with those of `state` and have no gradient.

    Raises:
        TypeError: if `state` holds anything else, since it is unknown whether gradients pass through it.

    Example:
        >>> import torch, rheobase as rb
        >>> network, state = rb.Sequential(nn.Linear(2, 8), rb.RecurrentLIF(8), nn.Linear(8, 1), rb.LeakyReadout(1)), None
        >>> for piece in torch.ones(100, 3, 2).split(20):
        ...     y, state = network.run(piece, state)
        ...     y.square().mean().backward()
        ...     state = rb.detach(state)
    """
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, dict):
        return type(state)({key: detach(value) for key, value in state.items()})
    if isinstance(state, list | tuple):
        parts = [detach(part) for part in state]
        return (
            type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
        )  # a named tuple takes its fields one by one
    if state is None or isinstance(state, int | float | str):
        return state
    raise TypeError(
        f"detach: state must hold tensors, numbers and None, in lists, tuples and dictionaries, got a {type(state).__name__}"
    )
