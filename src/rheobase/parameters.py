"""Decays and thresholds: one number per feature, fixed or learned, that cannot leave its range.

A decay above 1 explodes and a threshold below 0 fires without input, so a learned one is the image of a free parameter under
a smooth map: the sigmoid for decays, in (0, 1), the softplus for thresholds, above 0, and for what raises them. Both start
exactly at the value asked for, and neither has a clamp behind which the gradient dies.

What is defined here keeps at least float32 when a network is moved to a half precision, for 0.999 is 1 in bfloat16. Weights of
the same layer do not, nor the thresholds of parallel spiking neurons (`PSN`), which are one a step and without a bound.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rheobase.ops.arguments import check_sequence


def _softplus_inverse(value: Tensor) -> Tensor:
    return value + torch.log(-torch.expm1(-value))


@dataclass(frozen=True)
class Range:
    """The values that a parameter may take, and the smooth map from the real line onto them."""

    low: float
    high: float
    map: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]
    fixed_includes_ends: bool
    """Whether a value that is not learned may sit on the ends, where no smooth map reaches."""

    def contains(self, value: Tensor, learned: bool) -> bool:
        """Whether all of `value` lies in the range."""
        inside = (value > self.low) & (value < self.high)
        if self.fixed_includes_ends and not learned:
            inside = inside | (((value == self.low) | (value == self.high)) & value.isfinite())
        return bool(inside.all())

    def words(self, learned: bool) -> str:
        """The range, for an error message."""
        if self.low == -math.inf:
            return "finite"
        ends = self.fixed_includes_ends and not learned
        if self.high == math.inf:
            return f"{'at least' if ends else 'above'} {self.low:g} and finite"
        return f"in [{self.low:g}, {self.high:g}]" if ends else f"in ({self.low:g}, {self.high:g})"

    def value(self, raw: Tensor) -> Tensor:
        """The parameter's value, from the free parameter."""
        # The maps never reach the ends, their rounded values do, 17 or 100 units out: there the clamp steps in, where the
        # gradient has already been rounded to 0.
        rounding = torch.finfo(raw.dtype)
        return self.map(raw).clamp(self.low + rounding.tiny, self.high * (1 - rounding.eps / 2))

    def raw(self, value: Tensor) -> Tensor:
        """The free parameter at which `value` is reached; computed in float64."""
        return self.inverse(value.double())


UNIT_INTERVAL = Range(0.0, 1.0, torch.sigmoid, torch.logit, fixed_includes_ends=True)
POSITIVE = Range(0.0, math.inf, functional.softplus, _softplus_inverse, fixed_includes_ends=False)
REAL = Range(-math.inf, math.inf, torch.clone, torch.clone, fixed_includes_ends=False)
"""For the rules of papers that bound nothing."""
NON_NEGATIVE = Range(0.0, math.inf, functional.softplus, _softplus_inverse, fixed_includes_ends=True)


class FeatureParameters(nn.Module):
    """A module whose named values are scalars or one number per feature, each learned or fixed."""

    def __init__(self, features: int | None, learn: Collection[str], learnable: Collection[str]) -> None:
        super().__init__()
        kind = type(self).__name__
        if features is not None and not (isinstance(features, int) and features >= 1):
            raise ValueError(f"{kind}: features must be a whole number, at least 1, got {features}")
        if isinstance(learn, str) or not isinstance(learn, Collection):
            example = learn if isinstance(learn, str) else next(iter(learnable))
            raise TypeError(f"{kind}: learn must be a collection of names, got {learn!r}; write ({example!r},)")
        if unknown := set(learn) - set(learnable):
            raise ValueError(
                f"{kind}: learn may name {', '.join(map(repr, learnable))}, got {', '.join(map(repr, sorted(unknown)))}"
            )
        self.features = features
        self.learn = tuple(name for name in learnable if name in learn)
        self._ranges: dict[str, Range] = {}

    def define(self, name: str, value: float | Tensor, within: Range) -> None:
        """Add the value `name`; afterwards `self.current(name)` is what the layer computes with.

        Raises:
            ValueError: if `value` has a shape other than () and (features,), or lies outside its range.
        """
        learned = name in self.learn
        kind = type(self).__name__
        value = torch.as_tensor(value, dtype=torch.float64).detach()
        shape = () if self.features is None else (self.features,)
        if value.shape not in ((), shape):
            raise ValueError(
                f"{kind}: {name} must be a number or have shape {shape}, one per feature; got {tuple(value.shape)}"
            )
        if not within.contains(value, learned):
            raise ValueError(
                f"{kind}: a {'learned' if learned else 'fixed'} {name} must be {within.words(learned)}, got {_brief(value)}"
            )
        self._ranges[name] = within
        kept = (within.raw(value) if learned else value).to(torch.get_default_dtype()).expand(shape).clone()
        if learned:
            self.register_parameter(f"raw_{name}", nn.Parameter(kept))
        else:
            self.register_buffer(f"fixed_{name}", kept)

    @property
    def values(self) -> tuple[str, ...]:
        """The names of all values, learned or fixed."""
        return tuple(self._ranges)

    def current(self, name: str) -> Tensor:
        """The value of `name`: a scalar or `(features,)`, with a gradient if it is learned."""
        if name in self.learn:
            return self._ranges[name].value(getattr(self, f"raw_{name}"))
        return getattr(self, f"fixed_{name}")

    def per_feature(self, name: str, x: Tensor) -> Tensor:
        """`current(name)`, shaped to broadcast to a step of `x`, whose axis after B holds the features.

        Raises:
            ValueError: if that axis of `x` is missing or of another size.
        """
        value = self.current(name)
        return value if self.features is None else value.view(self.features, *[1] * (x.ndim - 3))

    def check(self, x: Tensor, state: Tensor | tuple[Tensor, ...] | None) -> None:
        """Refuse a sequence whose axis after T and B does not hold this module's features, and a state of another shape.

        Raises:
            TypeError: if `x` is no floating-point tensor.
            ValueError: naming the axis, what was got, what was expected, and the likely slip.
        """
        name = type(self).__name__
        check_sequence(x, name)
        for part in (state,) if isinstance(state, Tensor) else state or ():
            if part.shape != x.shape[1:]:
                raise ValueError(
                    f"{name}: state must have the shape of one time step of x, {tuple(x.shape[1:])}, got "
                    f"{tuple(part.shape)}; it belongs to another batch or layer, None starts from rest"
                )
        if self.features is None or (x.ndim >= 3 and x.shape[2] == self.features):
            return
        hint = "there is no features axis" if x.ndim < 3 else f"axis 2 has size {x.shape[2]}"
        if x.ndim >= 3 and self.features in x.shape:
            hint += f", axis {list(x.shape).index(self.features)} has size {self.features}: move it with x.movedim"
        raise ValueError(
            f"{name}({self.features}): x must be (T, B, {self.features}, ...), got shape {tuple(x.shape)}; {hint}"
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FeatureParameters":
        # What .to(), .half() and .cuda() go through: the device changes as asked; the precision of the values defined here not
        # below float32. Weights of the same module, or of modules within, are in the type that was asked for.
        tensors = self._parameters | self._buffers
        values = [tensors.get(f"{kind}_{name}") for name in self._ranges for kind in ("raw", "fixed")]
        spared = [tensor for value in values if value is not None for tensor in (value, value.grad)]

        def keep_precision(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            lost = torch.finfo(moved.dtype).bits < 32 and any(tensor is value for value in spared)
            return tensor.to(moved.device) if lost else moved

        return super()._apply(keep_precision, recurse)

    def extra_repr(self) -> str:
        """The features and values, for `print(network)`."""
        values = (f"{name}={_brief(self.current(name))}" for name in self._ranges)
        learn = [f"learn={self.learn}"] if self.learn else []
        return ", ".join(([] if self.features is None else [str(self.features)]) + [*values, *learn])


def _brief(value: Tensor) -> str:
    low, high = value.min().item(), value.max().item()
    return f"{low:.4g}" if low == high else f"{low:.4g}..{high:.4g}"


def decay_from_tau(tau: float, dt: float) -> float:
    """The decay per step of a state with time constant `tau`: `exp(-dt / tau)`.

    Args:
        tau: the time constant, above 0, in the same unit as `dt`.
        dt: the length of a step, above 0.

    Returns:
        The decay, in (0, 1).

    Raises:
        ValueError: if either is not positive.

    Example:
        >>> round(decay_from_tau(tau=20.0, dt=1.0), 4)
        0.9512
    """
    for name, value in (("tau", tau), ("dt", dt)):
        if not value > 0:
            raise ValueError(f"decay_from_tau: {name} must be above 0, got {value}")
    return math.exp(-dt / tau)


def tau_from_decay(decay: float, dt: float) -> float:
    """The time constant of a state that keeps `decay` per step: `-dt / ln(decay)`, in the unit of `dt`.

    Args:
        decay: the factor kept per step, in (0, 1).
        dt: the length of a step, above 0.

    Returns:
        The time constant, in the unit of `dt`.

    Raises:
        ValueError: if `decay` is not in (0, 1) or `dt` is not positive.

    Example:
        >>> round(tau_from_decay(0.9512, dt=1.0), 1)
        20.0
    """
    if not 0 < decay < 1:
        raise ValueError(f"tau_from_decay: decay must be in (0, 1), got {decay}")
    if not dt > 0:
        raise ValueError(f"tau_from_decay: dt must be above 0, got {dt}")
    return -dt / math.log(decay)
