"""Parallel spiking neurons: no reset, and a learned weight for each pair of steps in place of a decay.

A leaky integrator without a reset is a product with a matrix over time, whose entries are powers of the decay. Here the matrix
itself is learned, one for all neurons of a layer, and all steps are one matrix product.

Source: Fang et al., "Parallel spiking neurons with high efficiency and ability to learn long-term "
"dependencies", NeurIPS 2023.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rheobase.neurons.neuron import Neuron
from rheobase.ops import dense
from rheobase.ops.arguments import as_count, parts_of, state_type
from rheobase.ops.lif import lif
from rheobase.ops.sliding import slide
from rheobase.scheduled import Scheduled
from rheobase.surrogate import Arctan, Surrogate


class ParallelNeuron(Neuron):
    """The base of PSN, MaskedPSN and SlidingPSN: a learned threshold and a surrogate."""

    def __init__(self, surrogate: Surrogate | None, thresholds: tuple[int, ...]) -> None:
        super().__init__()
        surrogate = Arctan() if surrogate is None else surrogate
        if not isinstance(surrogate, Surrogate):
            raise TypeError(f"{type(self).__name__}: surrogate must be an object such as Arctan(), got {surrogate!r}")
        self.surrogate = surrogate
        self.threshold = nn.Parameter(torch.ones(thresholds))

    def kernel(self) -> Tensor:
        """The effective weights over time: one row per step, or one for all steps."""
        raise NotImplementedError

    def _fire(self, h: Tensor, threshold: Tensor | float) -> Tensor:
        """Spikes where `h >= threshold`: those of leaky neurons with decay 0, in one pass of their kernels."""
        spikes, _ = lif(h, 0.0, threshold, reset="none", surrogate=self.surrogate)
        return spikes


class PSN(ParallelNeuron):
    """Parallel spiking neurons: `h = W x` over time, with a spike where `h[t] >= threshold[t]`.

    Every step sees all others, future ones included, so a sequence cannot come in pieces and must have the length that the
    neurons were made for.

    Args:
        steps: the number of time steps T.
        surrogate: the gradient of a spike; None is `Arctan()`.

    Raises:
        ValueError: if `steps` is not a whole number, at least 1.
        TypeError: if `surrogate` is not a `Surrogate`.

    Example:
        >>> layer = PSN(4)
        >>> layer(torch.ones(4, 2, 3)).shape, layer.weight.shape, layer.threshold.shape
        (torch.Size([4, 2, 3]), torch.Size([4, 4]), torch.Size([4]))
    """

    def __init__(self, steps: int, surrogate: Surrogate | None = None) -> None:
        steps = as_count(steps, "steps", type(self).__name__)
        super().__init__(surrogate, (steps,))
        self.steps = steps
        self.weight = nn.Parameter(torch.empty(steps, steps).uniform_(-(steps**-0.5), steps**-0.5))

    def forward(self, x: Float[Tensor, "T B *features"]) -> Float[Tensor, "T B *features"]:
        """The spikes for the whole sequence `x`.

        Raises:
            TypeError: if `x` is not a floating-point tensor.
            ValueError: if `x` does not have the length that these neurons were made for.
        """
        self.check(x, None)
        if len(x) != self.steps:
            raise ValueError(f"{type(self).__name__}({self.steps}): x must have {self.steps} steps, got {len(x)}")
        return self._spikes(self.kernel(), x, self.threshold)

    def _spikes(self, matrix: Tensor, x: Tensor, threshold: Tensor) -> Tensor:
        """The spikes of some steps, from their rows of the matrix and their thresholds."""
        columns = x.flatten(1).to(matrix.dtype)
        # It costs as much as a linear layer, and respects `torch.autocast` like one.
        h = matrix @ columns if torch.is_autocast_enabled("cpu") else dense.product(matrix, columns)
        above = h.to(state_type(matrix)) - threshold.unsqueeze(1)  # values near the threshold are not rounded again
        return self._fire(above.view(len(matrix), *x.shape[1:]), 0.0).to(x.dtype)

    def kernel(self) -> Tensor:
        """The weights over time, `(T, T)`."""
        return self.weight

    def run(self, x: Float[Tensor, "T B *features"], state: Any = None) -> tuple[Tensor, Any]:
        """Not possible: raises.

        Raises:
            ValueError: always, since a spike depends on future steps.
        """
        raise ValueError(
            "PSN: run(x, state) takes a sequence in pieces, but these neurons look ahead to its end; call the layer "
            "or the "
            "network as such, or use MaskedPSN or SlidingPSN, which do not look ahead"
        )

    def extra_repr(self) -> str:
        """The number of steps and the surrogate, for `print(network)`."""
        return f"steps={self.steps}, {super().extra_repr()}"


class MaskedPSN(PSN, Scheduled):
    """Parallel spiking neurons that see the current step and the `order - 1` before it: causal, once training is over.

    Training starts with the weights of all pairs of steps and fades out those outside this window: they are multiplied by `1 -
    progress`, from 1 in the first epoch to 0 in the last. (`rheobase.fit` or `set_progress` sets the progress; without either
    it is 1.) Networks of earlier epochs look ahead, however accurate they are, so `rheobase.fit` keeps that of the last epoch.
    What scales weights by a firing rate, a new `rheobase.Sequential` or `rheobase.stabilize`, does so for the closed mask: as
    long as it is open, more neurons fire.

    Args:
        steps: the number of time steps T.
        order: how many steps a neuron sees, from 1 to `steps`.
        surrogate: the gradient of a spike; None is `Arctan()`.

    Raises:
        ValueError: if `steps` or `order` is out of range.
        TypeError: if `surrogate` is not a `Surrogate`.

    Example:
        >>> layer = MaskedPSN(4, order=2)
        >>> (layer.masked_weight != 0).int()
        tensor([[1, 0, 0, 0],
                [1, 1, 0, 0],
                [0, 1, 1, 0],
                [0, 0, 1, 1]], dtype=torch.int32)
    """

    def __init__(self, steps: int, order: int, surrogate: Surrogate | None = None) -> None:
        super().__init__(steps, surrogate)
        order = as_count(order, "order", type(self).__name__)
        if order > steps:
            raise ValueError(f"MaskedPSN: order must be at most steps = {steps}, got {order}")
        self.order = order
        step = torch.arange(steps)
        back = step.unsqueeze(1) - step
        self.register_buffer("_band", ((back >= 0) & (back < order)).float(), persistent=False)

    @property
    def masked_weight(self) -> Tensor:
        """The effective weights, `(T, T)`."""
        band: Tensor = self._band  # pyright: ignore[reportAssignmentType]
        return self.weight * torch.lerp(torch.ones_like(band), band, self.progress.to(band))

    def kernel(self) -> Tensor:
        """The effective weights over time, `(T, T)`."""
        return self.masked_weight

    def is_settled(self) -> bool:
        """Whether the mask has closed."""
        return float(self.progress) == 1

    def run(
        self, x: Float[Tensor, "T B *features"], state: tuple[Float[Tensor, "K B *features"], int] | None = None
    ) -> tuple[Float[Tensor, "T B *features"], tuple[Float[Tensor, "K_after B *features"], int]]:
        """Spikes for the piece `x`, and the state after it: the inputs that the next step sees, and the number of that step.

        Raises:
            TypeError: if `x` is not a floating-point tensor.
            ValueError: if the mask has not closed yet, the sequence is longer than these neurons were made for, or `state` does
                not belong to such a sequence.
        """
        self.check(x, None)
        if not self.is_settled():
            raise ValueError(
                f"MaskedPSN: run(x, state) takes a sequence in pieces, but at progress {float(self.progress):g} neurons still "
                "look ahead; set_progress(network, 1) closes the mask"
            )
        recent, start = (x[:0], 0) if state is None else parts_of(state, 2, "MaskedPSN")
        if recent.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"MaskedPSN: state must hold steps of x, (K, {', '.join(map(str, x.shape[1:]))}), got {tuple(recent.shape)}"
            )
        stop = start + len(x)
        if stop > self.steps:
            raise ValueError(
                f"MaskedPSN({self.steps}): the sequence must have at most {self.steps} steps, got {stop} so far"
            )
        seen = torch.cat((recent, x))
        matrix = self.masked_weight[start:stop, stop - len(seen) : stop]
        spikes = self._spikes(matrix, seen, self.threshold[start:stop])
        return spikes, (seen[max(len(seen) - self.order + 1, 0) :], stop)

    def extra_repr(self) -> str:
        """The number of steps, the surrogate and the order, for `print(network)`."""
        return f"{super().extra_repr()}, order={self.order}"


class SlidingPSN(ParallelNeuron):
    """Parallel spiking neurons whose weights slide along time: the same `order` weights at every step, of any sequence.

        h[t] = sum_k weight[k] * x[t - order + 1 + k],  a spike where h[t] >= threshold

    Initially the weights are 1, 1/2, 1/4, ... back from the current step: a leaky integrator with a decay of 1/2.

    Args:
        order: how many steps a neuron sees, the current one included.
        surrogate: the gradient of a spike; None is `Arctan()`.

    Raises:
        ValueError: if `order` is not a whole number, at least 1.
        TypeError: if `surrogate` is not a `Surrogate`.

    Example:
        >>> layer = SlidingPSN(3)
        >>> layer.weight.detach()
        tensor([0.2500, 0.5000, 1.0000])
        >>> layer(torch.tensor([0.6, 0.6, 0.6]).view(3, 1, 1)).detach().flatten()  # h = 0.6, 0.9, 1.05
        tensor([0., 0., 1.])
    """

    def __init__(self, order: int, surrogate: Surrogate | None = None) -> None:
        order = as_count(order, "order", type(self).__name__)
        super().__init__(surrogate, ())
        self.order = order
        self.weight = nn.Parameter(0.5 ** torch.arange(order - 1, -1, -1))

    def kernel(self) -> Tensor:
        """The weights over time, `(order,)`, the current step last."""
        return self.weight

    def run(
        self, x: Float[Tensor, "T B *features"], state: Float[Tensor, "K B *features"] | None = None
    ) -> tuple[Float[Tensor, "T B *features"], Float[Tensor, "K B *features"]]:
        """Spikes for `x`, and the state after it: the last `order - 1` inputs. None is silence before the sequence.

        Raises:
            TypeError: if `x` is not a floating-point tensor.
            ValueError: if `state` does not belong to such a sequence.
        """
        self.check(x, None)
        before = self.order - 1
        if state is None:
            state = x.new_zeros(before, *x.shape[1:])
        elif state.shape != (before, *x.shape[1:]):
            raise ValueError(
                f"SlidingPSN: state must hold {before} steps of x, {(before, *x.shape[1:])}, got {tuple(state.shape)}"
            )
        seen = torch.cat((state, x))
        weight = self.weight.to(state_type(self.weight))
        h = slide(weight, seen.flatten(1).to(weight.dtype)).view(x.shape)
        return self._fire(h, self.threshold).to(x.dtype), seen[len(x) :]

    def extra_repr(self) -> str:
        """The order and the surrogate, for `print(network)`."""
        return f"order={self.order}, {super().extra_repr()}"
