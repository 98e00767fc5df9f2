"""Decays and thresholds: one number per feature, fixed or learned, that cannot leave its range.

A decay above 1 explodes and a threshold below 0 fires without input, so a learned one is the image of a free parameter under a
smooth map: the sigmoid for decays, in (0, 1), the softplus for thresholds, above 0, and for what raises them. Both start at the
requested value to rounding (in float32, from 0.001 on, within 5e-7 of it, since the maps do not reach every number), and there
is no clamp beyond which the gradient vanishes.

To change one, assign to it: `layer.threshold = 2.0`. For a learned one, `layer.threshold` is computed from the free parameter,
so an in-place edit, `layer.threshold.fill_(2.0)`, is lost with the tensor that it edits.

Values defined here stay in float32 or better when a network is converted to half precision, since 0.999 rounds to 1 in
bfloat16. Weights of the same layer are converted, and so are the thresholds of parallel spiking neurons (`PSN`), one per step
and unbounded.
"""

import inspect
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn
from torch.nn import functional

from rheobase.ops.arguments import as_count, check_sequence

M = TypeVar("M", bound="FeatureParameters")


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
    """Whether a fixed value may lie on the ends, which no smooth map reaches."""

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
        # The maps never reach the ends, but their rounded values do, 17 or 100 units out: there the clamp applies, where the
        # gradient has already been rounded to 0.
        rounding = torch.finfo(raw.dtype)
        return self.map(raw).clamp(self.low + rounding.tiny, self.high * (1 - rounding.eps / 2))

    def raw(self, value: Tensor) -> Tensor:
        """The free parameter at which `value` is reached; computed in float64."""
        return self.inverse(value.double())


UNIT_INTERVAL = Range(0.0, 1.0, torch.sigmoid, torch.logit, fixed_includes_ends=True)
"""From 0 to 1, by a sigmoid: for decays."""
POSITIVE = Range(0.0, math.inf, functional.softplus, _softplus_inverse, fixed_includes_ends=False)
"""Above 0, by a softplus: for thresholds."""
REAL = Range(-math.inf, math.inf, torch.clone, torch.clone, fixed_includes_ends=False)
"""Unbounded, for the rules of papers without bounds."""
NON_NEGATIVE = Range(0.0, math.inf, functional.softplus, _softplus_inverse, fixed_includes_ends=True)
"""Above 0, by a softplus, or 0 where it is not learned: for adaptation."""


_ELSEWHERE = {
    "beta": "use decay, the factor that the membrane potential keeps per step",
    "tau": "write decay=rb.decay_from_tau(tau, dt); that of SpikingJelly is decay=1 - 1 / tau, with the input divided by tau",
}
"""Names of the decay in other libraries, and what to write here."""


class Value:
    """The property of a module's value: reading gives `current(name)`, assigning calls `assign(name, value)`.

    Args:
        what: what the value is, for the documentation.
        shape: the shapes that it may have, for the documentation.

    Example:
        >>> class Gain(FeatureParameters):
        ...     gain = Value("What inputs are multiplied with")
        ...     def __init__(self):
        ...         super().__init__(2)
        ...         self.define("gain", 1.0, POSITIVE)
        >>> layer = Gain()
        >>> layer.gain = torch.tensor([0.5, 3.0])
        >>> layer.gain
        tensor([0.5000, 3.0000])
    """

    def __init__(self, what: str, shape: str = "a scalar, or `(features,)`") -> None:
        self.__doc__ = (
            f"{what}: {shape}. To change it, assign a number or a tensor. If it is learned, an in-place edit has no effect, "
            "since what is read is computed from a free parameter."
        )

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, module: None, owner: type) -> "Value": ...
    @overload
    def __get__(self, module: "FeatureParameters", owner: type) -> Tensor: ...
    def __get__(self, module: "FeatureParameters | None", owner: type) -> "Tensor | Value":
        return self if module is None else module.current(self._name)

    def __set__(self, module: "FeatureParameters", value: float | Tensor) -> None:
        module.assign(self._name, value)


class FeatureParameters(nn.Module):
    """A module whose named values are scalars, one number per feature, or have their own shape, each learned or fixed.

    Args:
        features: the size of the axis after B, or None: one value of each kind serves all.
        learn: the names of the values that are learned.
        learnable: the names that `learn` may hold.

    Raises:
        ValueError: if `features` is not a whole number of at least 1, or `learn` names anything else.
        TypeError: if `learn` is a string, or not a collection.
    """

    def __new__(cls: type[M], *_arguments: Any, **settings: Any) -> M:
        """Refuse the names of time constants in other libraries, naming the one used here.

        Raises:
            TypeError: naming the setting to write instead.
        """
        if foreign := _ELSEWHERE.keys() & settings.keys():
            known = inspect.signature(cls.__init__).parameters
            for name in sorted(foreign - known.keys()) if "decay" in known else ():
                raise TypeError(f"{cls.__name__}: there is no setting {name}; {_ELSEWHERE[name]}")
        return super().__new__(cls)  # pyright: ignore[reportArgumentType]

    def __init__(
        self, features: int | None = None, learn: Collection[str] = (), learnable: Collection[str] = ()
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        if isinstance(learn, str) or not isinstance(learn, Collection):
            example = learn if isinstance(learn, str) else next(iter(learnable), "threshold")
            raise TypeError(f"{kind}: learn must be a collection of names, got {learn!r}; write ({example!r},)")
        if unknown := set(learn) - set(learnable):
            known = ", ".join(map(repr, learnable)) or "nothing"
            raise ValueError(f"{kind}: learn may name {known}, got {', '.join(map(repr, sorted(unknown)))}")
        self.features = None if features is None else as_count(features, "features", kind)
        self.learn = tuple(name for name in learnable if name in learn)
        self._ranges: dict[str, Range] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def define(self, name: str, value: float | Tensor, within: Range, shape: tuple[int, ...] | None = None) -> None:
        """Add the value `name`; afterwards `self.current(name)` is what the layer computes with.

        Args:
            name: its name; learned if `learn` names it.
            value: the initial value; a number, or one per feature.
            within: its range: `UNIT_INTERVAL`, `POSITIVE`, `NON_NEGATIVE` or `REAL`, all of `rheobase.parameters`.
            shape: its shape; None is one per feature.

        Raises:
            TypeError: if `value` is neither a number nor a tensor, or a tensor that is already learned.
            ValueError: if `value` has a shape other than () and `shape`, or lies outside its range.
        """
        if isinstance(value, Tensor) and value.requires_grad:
            kind = type(self).__name__
            raise TypeError(
                f"{kind}: {name} must be a number or a tensor that requires no gradient, since its value is copied; "
                f"to learn it, write {kind}(..., learn=({name!r},)); to keep it fixed, {name}.detach()"
            )
        self._ranges[name] = within
        if shape is None:
            shape = () if self.features is None else (self.features,)
        self._shapes[name] = shape
        wide = self._to_keep(name, value).to(torch.get_default_dtype()).expand(shape)
        kept = wide.clone(memory_format=torch.contiguous_format)  # otherwise a clone of size 1 keeps a stride of 0
        if name in self.learn:
            self.register_parameter(f"raw_{name}", nn.Parameter(kept))
        else:
            self.register_buffer(f"fixed_{name}", kept)

    def assign(self, name: str, value: float | Tensor) -> None:
        """Change the value `name`, learned or fixed, as `layer.threshold = 2.0` does; a learned one keeps learning from there.

        Args:
            name: one of `values`.
            value: a number, for all, or one per feature, or of the value's own shape. Device, type and shape stay those of the
                module.

        Raises:
            AttributeError: if there is no such value.
            TypeError: if `value` is an `nn.Parameter`, or neither a number nor a tensor.
            ValueError: if `value` has another shape, or lies outside its range.

        Example:
            >>> import rheobase as rb
            >>> layer = rb.LIF(3, learn=("threshold",))
            >>> layer.threshold = 2.0
            >>> layer.threshold.detach(), layer.raw_threshold.requires_grad
            (tensor([2., 2., 2.]), True)
        """
        if name not in self._ranges:
            known = ", ".join(self._ranges) or "none"
            raise AttributeError(
                f"{type(self).__name__}: there is no value {name} to assign to; the values are: {known}"
            )
        value = self._to_keep(name, value)
        with torch.no_grad():
            self._kept(name).copy_(value)

    def _to_keep(self, name: str, value: float | Tensor) -> Tensor:
        """What is stored for a value, in float64: the value itself, or the number that a smooth map takes to it."""
        learned, within = name in self.learn, self._ranges[name]
        kind = type(self).__name__
        try:
            value = torch.as_tensor(value, dtype=torch.float64).detach()
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{kind}: {name} must be a number or a tensor, got {value!r}") from error
        shape = self._shapes[name]
        if value.shape not in ((), shape):
            per = "feature" if len(shape) < 2 else "synapse"
            raise ValueError(
                f"{kind}: {name} must be a number or have shape {shape}, one per {per}; got {tuple(value.shape)}"
            )
        if not within.contains(value, learned):
            raise ValueError(
                f"{kind}: a {'learned' if learned else 'fixed'} {name} must be {within.words(learned)}, got {_brief(value)}"
            )
        return within.raw(value) if learned else value

    def _kept(self, name: str) -> Tensor:
        return getattr(self, f"raw_{name}" if name in self.learn else f"fixed_{name}")

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """As for every module, except that a value cannot be replaced: `learn` says whether it is learned.

        Raises:
            TypeError: if `name` is a value.
        """
        if name in self.__dict__.get("_ranges", ()):
            kind = type(self).__name__
            raise TypeError(
                f"{kind}: {name} must be assigned a number or a tensor, got an nn.Parameter; to learn it, make the layer "
                f"with {kind}(..., learn=({name!r},))"
            )
        super().register_parameter(name, param)

    @property
    def values(self) -> tuple[str, ...]:
        """The names of all values, learned or fixed."""
        return tuple(self._ranges)

    def current(self, name: str) -> Tensor:
        """The value of `name`: a scalar, `(features,)` or its own shape, with a gradient if it is learned."""
        kept = self._kept(name)
        return self._ranges[name].value(kept) if name in self.learn else kept

    def per_feature(self, name: str, x: Tensor) -> Tensor:
        """`current(name)`, shaped to broadcast to a step of `x`, whose axis after B holds the features.

        Raises:
            ValueError: if that axis of `x` is missing or of another size.
        """
        value = self.current(name)
        return value if self.features is None else value.view(self.features, *[1] * (x.ndim - 3))

    def check(self, x: Tensor, state: Any, parts: int = 1, others: int = 0) -> None:
        """Refuse a sequence whose axis after T and B does not hold this module's features, or a state of another shape.

        Args:
            x: the sequence.
            state: None, or a tensor; a tuple, if it has several entries.
            parts: how many entries of the state have the shape of one step of `x`; they come first.
            others: how many entries of other shapes follow these.

        Raises:
            TypeError: if `x` is not a floating-point tensor, or `state` is not what `run` returns.
            ValueError: naming the axis, what was passed, what was expected, and the likely mistake.
        """
        name = type(self).__name__
        check_sequence(x, name)
        entries = () if state is None else (state,) if parts + others == 1 else state
        whole = isinstance(entries, list | tuple) and all(isinstance(entry, Tensor) for entry in entries)
        if not whole or (state is not None and len(entries) != parts + others):
            expected = "a tensor" if parts + others == 1 else f"a tuple of {parts + others} tensors"
            raise TypeError(
                f"{name}: state must be {expected}, as run returns it, got a {type(state).__name__}"
                f"{f' of {len(state)}' if isinstance(state, list | tuple) else ''}; None starts from rest"
            )
        for part in entries[:parts]:
            if part.shape != x.shape[1:]:
                raise ValueError(
                    f"{name}: state must have the shape of one time step of x, {tuple(x.shape[1:])}, got "
                    f"{tuple(part.shape)}; it belongs to another batch or layer; None starts from rest"
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
        # .to(), .half() and .cuda() come through here: the device changes as requested; the precision of the values defined
        # here does not go below float32. Weights of the same module, or of modules within, get the requested type.
        tensors = self._parameters | self._buffers
        values = [tensors.get(f"{kind}_{name}") for name in self._ranges for kind in ("raw", "fixed")]
        spared = [tensor for value in values if value is not None for tensor in (value, value.grad)]

        def keep_precision(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            lost = torch.finfo(moved.dtype).bits < 32 and any(tensor is value for value in spared)
            return tensor.to(moved.device) if lost else moved

        return super()._apply(keep_precision, recurse)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any, **options: Any) -> None:
        # A fixed value may become a learned one, and vice versa; at the end of its range it cannot.
        for name, within in self._ranges.items():
            learned = name in self.learn
            ours, theirs = (f"{prefix}{kind}_{name}" for kind in (("raw", "fixed") if learned else ("fixed", "raw")))
            value = state_dict.get(theirs)
            if value is None or ours in state_dict or (learned and not within.contains(value, learned)):
                continue
            state_dict[ours] = within.raw(value).to(value.dtype) if learned else within.value(value)
            del state_dict[theirs]
        super()._load_from_state_dict(state_dict, prefix, *arguments, **options)

    def extra_repr(self) -> str:
        """The features and values, for `print(network)`."""
        values = (f"{name}={_brief(self.current(name))}" for name in self._ranges)
        learn = [f"learn={self.learn}"] if self.learn else []
        return ", ".join(([] if self.features is None else [str(self.features)]) + [*values, *learn])


def _brief(value: Tensor) -> str:
    low, high = value.min().item(), value.max().item()
    return f"{low:.4g}" if low == high or value.ndim == 0 else f"{low:.4g}..{high:.4g}"


@overload
def decay_from_tau(tau: float, dt: float) -> float: ...
@overload
def decay_from_tau(tau: Tensor, dt: float) -> Tensor: ...
def decay_from_tau(tau: float | Tensor, dt: float) -> float | Tensor:
    """The decay per step of a state with time constant `tau`: `exp(-dt / tau)`.

    Args:
        tau: the time constant, above 0, in the same unit as `dt`; a number, or a tensor of them.
        dt: the length of a step, above 0.

    Returns:
        The decay, in (0, 1); a tensor if `tau` is one.

    Raises:
        ValueError: if either is not positive.

    Example:
        >>> round(decay_from_tau(tau=20.0, dt=1.0), 4)
        0.9512
        >>> decay_from_tau(tau=torch.tensor([5.0, 20.0]), dt=1.0)
        tensor([0.8187, 0.9512])
    """
    if not dt > 0:
        raise ValueError(f"decay_from_tau: dt must be above 0, got {dt}")
    if not torch.as_tensor(tau > 0).all():
        raise ValueError(f"decay_from_tau: tau must be above 0, got {_brief(torch.as_tensor(tau))}")
    return torch.exp(-dt / tau) if isinstance(tau, Tensor) else math.exp(-dt / tau)


@overload
def tau_from_decay(decay: float, dt: float) -> float: ...
@overload
def tau_from_decay(decay: Tensor, dt: float) -> Tensor: ...
def tau_from_decay(decay: float | Tensor, dt: float) -> float | Tensor:
    """The time constant of a state that keeps `decay` per step: `-dt / ln(decay)`, in the unit of `dt`.

    Args:
        decay: the factor kept per step, in (0, 1); a number, or a tensor of them.
        dt: the length of a step, above 0.

    Returns:
        The time constant, in the unit of `dt`; a tensor if `decay` is one.

    Raises:
        ValueError: if `decay` is not in (0, 1) or `dt` is not positive.

    Example:
        >>> round(tau_from_decay(0.9512, dt=1.0), 1)
        20.0
    """
    if not UNIT_INTERVAL.contains(torch.as_tensor(decay, dtype=torch.float64), learned=True):
        raise ValueError(f"tau_from_decay: decay must be in (0, 1), got {_brief(torch.as_tensor(decay))}")
    if not dt > 0:
        raise ValueError(f"tau_from_decay: dt must be above 0, got {dt}")
    return -dt / (torch.log(decay) if isinstance(decay, Tensor) else math.log(decay))
