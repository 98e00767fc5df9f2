"""Encoding: analog values into sequences.

Four ways from a picture or a signal to something that a spiking network reads over time. Each takes and returns plain
tensors and does nothing else, so that they work in a data set, in front of a network, or on a device.
"""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from rheobase.ops import memory
from rheobase.ops.arguments import as_count, check_sequence, is_plain, state_type

Encoding: TypeAlias = Literal["direct", "latency", "latency_all"]
"""The names of the encodings that draw no random numbers, for settings and data sets; see `encode`."""


def encode(x: Float[Tensor, "B *features"], steps: int, encoding: Encoding) -> Float[Tensor, "T B *features"]:
    """Values as sequences, by the name of an encoding.

    Args:
        x: values in [0, 1], `(B, *features)`.
        steps: T, at least 1.
        encoding: "direct" feeds a value in at every step; "latency" lets it spike once, the larger the earlier, and values
            that are all but 0 never; "latency_all" lets every value spike exactly once, at step `floor((1 - x) * (T - 1))`,
            those of 0 at the last (Taylor, King and Harper, "Robust and accelerated single-spike spiking neural network
            training with applicability to challenging temporal tasks", 2022).

    Returns:
        `(T, B, *features)`.

    Raises:
        TypeError: if `x` is not floating point.
        ValueError: if there is no such encoding, `steps` is below 1, or `x` leaves [0, 1].

    Example:
        >>> encode(torch.tensor([[1.0, 0.3, 0.0]]), steps=3, encoding="latency_all")[:, 0]
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])
    """
    if encoding == "direct":
        return direct(x, steps)
    if encoding == "latency":
        return latency(x, steps)
    if encoding == "latency_all":
        return latency(x, steps, threshold=0.0, rounding="down")
    raise ValueError(f"encoding: got {encoding!r}, expected 'direct', 'latency' or 'latency_all'")


def _check(x: Tensor, steps: int, what: str, unit_interval: bool) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{what}: x must be a torch.Tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{what}: x must be floating point, got {x.dtype}; for bytes, x.float() / 255")
    as_count(steps, "steps", what)
    if unit_interval and x.numel() and not bool(((x >= 0) & (x <= 1)).all()):
        raise ValueError(
            f"{what}: x must lie in [0, 1], got values from {x.min().item():.4g} to {x.max().item():.4g}; rescale it"
        )


def direct(x: Float[Tensor, "B *features"], steps: int) -> Float[Tensor, "T B *features"]:
    """The same analog value at every step: a constant current; the first layer of neurons makes the spikes.

    Args:
        x: values, `(B, *features)`.
        steps: T, at least 1.

    Returns:
        `x` repeated T times without copying, `(T, B, *features)`.

    Raises:
        TypeError: if `x` is not floating point.
        ValueError: if `steps` is below 1.

    Example:
        >>> direct(torch.tensor([[0.3, 0.7]]), steps=2)
        tensor([[[0.3000, 0.7000]],
        <BLANKLINE>
                [[0.3000, 0.7000]]])
    """
    _check(x, steps, "direct", unit_interval=False)
    return x.expand(steps, *x.shape)


def rate(
    x: Float[Tensor, "B *features"], steps: int, *, generator: torch.Generator | None = None
) -> Float[Tensor, "T B *features"]:
    """Independent spikes: at each step, a spike with probability `x` (Bernoulli draws, a Poisson train in discrete time).

    Args:
        x: probabilities per step, in [0, 1], `(B, *features)`.
        steps: T, at least 1.
        generator: where the random numbers come from; None is PyTorch's default generator.

    Returns:
        Spikes, 0 or 1, `(T, B, *features)`.

    Raises:
        TypeError: if `x` is not floating point.
        ValueError: if `steps` is below 1 or `x` leaves [0, 1].

    Example:
        >>> rate(torch.tensor([[0.0, 1.0]]), steps=2)
        tensor([[[0., 1.]],
        <BLANKLINE>
                [[0., 1.]]])
    """
    _check(x, steps, "rate", unit_interval=True)
    return torch.bernoulli(x.expand(steps, *x.shape), generator=generator)


def latency(
    x: Float[Tensor, "B *features"],
    steps: int,
    *,
    threshold: float = 0.01,
    rounding: Literal["nearest", "down"] = "nearest",
) -> Float[Tensor, "T B *features"]:
    """One spike per value, the earlier the larger: at step `round((1 - x) * (steps - 1))`.

    Args:
        x: values in [0, 1], `(B, *features)`.
        steps: T, at least 1.
        threshold: values below it never spike; at 0.0, all spike.
        rounding: to the nearest step, or down to the one before.

    Returns:
        Spikes, 0 or 1, `(T, B, *features)`; at most one per value.

    Raises:
        TypeError: if `x` is not floating point.
        ValueError: if `steps` is below 1, `x` leaves [0, 1], or there is no such rounding.

    Example:
        >>> latency(torch.tensor([[1.0, 0.5, 0.0]]), steps=3)[:, 0]
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 0.]])
    """
    _check(x, steps, "latency", unit_interval=True)
    if rounding not in ("nearest", "down"):
        raise ValueError(f"latency: rounding: got {rounding!r}, expected 'nearest' or 'down'")
    # Not in half precision, which rounds past the last of many steps.
    when = (1 - x.to(state_type(x))) * (steps - 1)
    when = (when.round() if rounding == "nearest" else when.floor()).long()
    shape = steps, *x.shape
    spikes = memory.zeros(shape, x.dtype) if x.device.type == "cpu" and is_plain(x) else x.new_zeros(shape)
    return spikes.scatter_(0, when.unsqueeze(0), (x >= threshold).to(x.dtype).unsqueeze(0))


def delta(
    x: Float[Tensor, "T B *features"], threshold: float = 0.1, *, off_spikes: bool = False
) -> Float[Tensor, "T B *features_out"]:
    """Spikes where a signal has moved by `threshold` since its last spike, as an event camera does.

    A signal on a grid of the threshold spikes where it was made to, whatever rounding did to it: a change that falls short of
    the threshold by no more than a few times the rounding of the type of `x`, and by less than an eighth, counts.

    Args:
        x: the signal over time, `(T, B, *features)`, finite; it starts from 0.
        threshold: the change that makes a spike, above 0; at most one spike per step, the rest of a jump follows after.
        off_spikes: also spike for decreases, in a second half of the first feature axis.

    Returns:
        Spikes, 0 or 1, of the shape of `x`; with `off_spikes`, twice as many features.

    Raises:
        TypeError: if `x` is not floating point.
        ValueError: if `threshold` is not above 0, `x` is NaN or infinite somewhere, or `off_spikes` is asked for without a
            feature axis.

    Example:
        >>> signal = torch.tensor([0.0, 0.5, 1.0, 1.0, 0.4]).view(5, 1, 1)
        >>> delta(signal, threshold=0.5).flatten()
        tensor([0., 1., 1., 0., 0.])
        >>> delta(signal, threshold=0.5, off_spikes=True)[:, 0, 1]
        tensor([0., 0., 0., 0., 1.])
    """
    check_sequence(x, "delta")
    if not threshold > 0:
        raise ValueError(f"delta: threshold must be above 0, got {threshold}")
    if off_spikes and x.ndim < 3:
        raise ValueError(f"delta: off_spikes needs x as (T, B, *features), got shape {tuple(x.shape)}")
    finite = x.isfinite().flatten(1).all(1)
    if not finite.all():
        step = int((~finite).nonzero()[0])
        raise ValueError(
            f"delta: x must be finite, got NaN or infinity at step {step}; replace it, torch.nan_to_num(x)"
        )
    # The level follows both ways, also where nobody asked to see the decreases; whole thresholds, so that it cannot drift.
    thresholds = x.new_zeros(x.shape[1:], dtype=torch.float64)
    ups, downs = torch.zeros_like(x), torch.zeros_like(x)
    rounding = 2 * torch.finfo(x.dtype).eps
    for signal, up, down in zip(x.detach(), ups, downs, strict=True):
        exact, level = signal.double(), threshold * thresholds
        # Below a half, a spike cannot undo the one before.
        enough = threshold - (rounding * torch.maximum(exact.abs(), level.abs())).clamp(max=threshold / 8)
        change = exact - level
        up.copy_(change >= enough)
        down.copy_(change <= -enough)
        thresholds += up
        thresholds -= down
    return torch.cat((ups, downs), dim=2) if off_spikes else ups
