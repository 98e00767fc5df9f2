"""A linear layer whose synapses have delays, and learn them.

With weights alone a layer learns what to listen to; with delays it also learns when. Related spikes that come one after another
are made to arrive at once, and coincidence is what a spiking neuron detects best. Neuromorphic chips have such delays in their
synapses.

A delay is a whole number of steps, and a whole number has no gradient. In training it is therefore blurred over all steps that
it might become: the gradient then says towards which of them it should move, near or far. As training goes on the blur narrows,
and what remains, rounded, is a single step.
"""

import math
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from rheobase.layers.delay import with_past
from rheobase.ops.arguments import as_count, check_sequence
from rheobase.ops.delayed import delayed
from rheobase.parameters import FeatureParameters, Range, Value
from rheobase.scheduled import Scheduled
from rheobase.temporal import Temporal

NARROWEST = 0.5
"""The width at the end of training: a delay's neighbours then still weigh about an eighth of it."""

NARROWS = 0.25
"""The share of training over which delays narrow."""


class DelayedLinear(FeatureParameters, Scheduled, Temporal):
    """A linear layer with a learned delay in every synapse.

        y[t, b, o] = bias[o] + sum_i weight[o, i] * sum_k bump[o, i, k] * x[t - k, b, i],    k = 0..longest

    In training mode the bump is a Gaussian around the delay of the synapse, of width `sigma`, and sums to 1:

        bump[o, i, k] ~ exp(-(k - delay[o, i])^2 / (2 sigma^2))
        sigma = longest / 2 * (1 / longest)^min(4 progress, 1)

    so that it begins wide, at `longest / 2`, and is 0.5 wide from a quarter of training on. `rheobase.fit` or
    `rheobase.scheduled.set_progress` sets the progress; without either it is 1. In evaluation mode, whatever the progress, the
    delay is rounded: the bump is 1 at that step and 0 elsewhere, as on a chip. Rounded delays have no gradient.

    A delay lies in (-1/2, longest + 1/2), so that a range of the same size rounds to each whole number of steps. It is computed
    from a free parameter by a smooth map that is nearly `longest * raw_delay`: at learning rate r, an optimizer such as Adam
    moves it by up to `r longest` steps at a time, faster than weights in proportion to its larger range.
    `rb.parameter_groups(network, 1e-3, rates={"delay": 4e-3})` makes it faster still; the source's learning rate of delays, 100
    times that of the weights, in steps, corresponds to `100 / longest` times here.

    Weights and bias are drawn as those of `nn.Linear`, delays uniformly. In a `rheobase.Sequential` the weights are scaled for
    the neurons that follow as those of an `nn.Linear`, see `rheobase.layers.initialization`.

    Args:
        in_features: the size of the last axis of the input.
        out_features: the size of the last axis of the output.
        longest: the longest delay, in steps, at least 1.
        bias: add a learned bias.
        delay: the initial delays, in steps, a number or `(out_features, in_features)`; None draws them.

    Raises:
        ValueError: if a size or `longest` is not a whole number of at least 1, or a delay is out of range or has the wrong
            shape.
        TypeError: if `delay` is neither a number nor a tensor.

    Source: Hammouamri, Khalfaoui-Hassani and Masquelier, "Learning Delays in Spiking Neural Networks using Dilated Convolutions
    with Learnable Spacings", ICLR 2024 (arXiv 2306.17670): the normalized Gaussian over all steps, its widths and their
    schedule, rounding in evaluation. There delays are clamped into their range after every step of the optimizer; the smooth
    map, and the half step beyond both ends, are ours.

    Example:
        >>> layer = DelayedLinear(2, 1, longest=3, bias=False, delay=torch.tensor([[2.0, 0.0]])).eval()
        >>> layer.weight.detach().fill_(1.0)
        tensor([[1., 1.]])
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]).unsqueeze(1)
        >>> layer(x).flatten().tolist()  # what came first is late: both arrive at once
        [0.0, 0.0, 2.0]
    """

    delay = Value("The delay of every synapse, in steps", "`(out_features, in_features)`")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        longest: int,
        bias: bool = True,
        delay: float | Tensor | None = None,
    ) -> None:
        super().__init__(learn=("delay",), learnable=("delay",))
        self.in_features = as_count(in_features, "in_features", "DelayedLinear")
        self.out_features = as_count(out_features, "out_features", "DelayedLinear")
        self.longest = as_count(longest, "longest", "DelayedLinear")
        self.weight = nn.Parameter(torch.empty(self.out_features, self.in_features))
        self.bias = nn.Parameter(torch.empty(self.out_features)) if bias else None
        drawn = delay is None
        self.define("delay", 0.0 if drawn else delay, _within(self.longest), tuple(self.weight.shape))
        self._draw_weights()
        if drawn:
            self._draw_delays()

    def reset_parameters(self) -> None:
        """Draw weights, bias and delays again: uniformly, within `1 / sqrt(in_features)`, and within their range."""
        self._draw_weights()
        self._draw_delays()

    def _draw_weights(self) -> None:
        bound = 1 / math.sqrt(self.in_features)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def _draw_delays(self) -> None:
        share = torch.rand_like(self.weight, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
        self.delay = (self.longest + 1) * share - 0.5

    @property
    def width(self) -> Tensor:
        """sigma: the width of the delays in training mode, in steps, a scalar."""
        return width_at(self.progress, self.longest)

    def is_settled(self) -> bool:
        """Whether delays have reached their final width."""
        return float(self.progress) >= NARROWS

    def bump(self) -> Float[Tensor, "out_features longest_and_0 in_features"]:
        """How much of its input from each number of steps ago a synapse passes; delays are the middle axis."""
        delay = self.delay
        steps = torch.arange(self.longest + 1, device=delay.device).unsqueeze(1)
        if not self.training:
            return (steps == delay.round().unsqueeze(1)).to(self.weight.dtype)
        away = (steps - delay.unsqueeze(1)) / self.width.to(delay)
        return torch.softmax(-away.square() / 2, 1).to(self.weight.dtype)

    def run(
        self, x: Float[Tensor, "T B in_features"], state: Float[Tensor, "longest B in_features"] | None = None
    ) -> tuple[Float[Tensor, "T B out_features"], Float[Tensor, "longest B in_features"]]:
        """The outputs for `x` and the last steps, still in transit, starting from `state`; None is silence."""
        check_sequence(x, "DelayedLinear")
        if x.ndim != 3 or x.shape[2] != self.in_features:
            raise ValueError(
                f"DelayedLinear: x must be (T, B, {self.in_features}), got shape {tuple(x.shape)}; "
                "put an nn.Flatten in front of the layer if there are more axes"
            )
        seen = with_past("DelayedLinear", x, state, self.longest)
        y = delayed(seen, self.weight.unsqueeze(1) * self.bump(), self.bias)
        return y, seen[len(x) :].clone()  # a copy, so that it does not keep all of `seen` alive

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}longest"] = torch.tensor(self.longest)

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        state, prefix, *_, errors = arguments
        longest = int(state.pop(f"{prefix}longest", self.longest))
        if longest != self.longest:  # the unit of the free parameters
            errors.append(
                f"{prefix}longest: delays of up to {longest} steps do not fit a layer with delays of up to {self.longest}"
            )
        super()._load_from_state_dict(*arguments, **options)

    def extra_repr(self) -> str:
        """The sizes and the longest delay, for `print(network)`."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        return f"{sizes}, longest={self.longest}"


def width_at(progress: float | Tensor, longest: int) -> Tensor:
    """The width of delays, in steps, at `progress` of training.

    Example:
        >>> width_at(0.0, 20), width_at(0.25, 20), width_at(1.0, 20)
        (tensor(10.), tensor(0.5000), tensor(0.5000))
    """
    part = (torch.as_tensor(progress) / NARROWS).clamp(max=1.0)
    return longest / 2 * (2 * NARROWEST / longest) ** part


def _within(longest: int) -> Range:
    """From half a step before the first delay to half a step after the last, so that both can be reached.

    In between the map is straight, with slope `longest`, and bends only within a step or two of the ends. A sigmoid would bend
    all the way: near an end a delay would hardly learn, and the less the larger `longest` is.
    """
    return Range(-0.5, longest + 0.5, partial(_value, longest), partial(_inverse, longest), fixed_includes_ends=False)


def _value(longest: int, raw: Tensor) -> Tensor:
    return softplus(longest * raw + 0.5) - softplus(longest * raw - longest - 0.5) - 0.5


def _inverse(longest: int, value: Tensor) -> Tensor:
    bent = torch.log(-torch.expm1(-0.5 - value)) - torch.log(-torch.expm1(value - longest - 0.5))
    return (value + bent) / longest
