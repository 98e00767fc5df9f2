"""A gradient in a few numbers: its size, how it grows back in time, how far back it comes."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def ending(steps: int) -> int:
    """The last tenth of the steps: how many they are."""
    return max(1, steps // 10)


def _by_step(gradient: Tensor) -> Float[Tensor, " T"]:
    return gradient.detach().cpu().double().flatten(1).norm(dim=1).cpu()


def growth(gradient: Tensor) -> float:
    """The factor per step back in time, from the steps before the end; by the line through the logarithms of the norms."""
    norms = _by_step(gradient)
    norms = norms[: len(norms) - ending(len(norms))].flip(0)
    if not norms.isfinite().all():
        return math.inf
    alive = norms > 0
    if alive.sum() < 2:
        return 0.0 if len(norms) > 1 else math.nan
    lags, logs = torch.arange(len(norms), dtype=torch.float64)[alive], norms[alive].log()
    lags, logs = lags - lags.mean(), logs - logs.mean()
    return math.exp((lags @ logs / (lags @ lags)).item())


def memory(gradient: Tensor) -> float:
    """How many steps before the ending there still is a hundredth of the largest gradient; NaN if there is none at all."""
    norms = _by_step(gradient)
    felt = (norms >= norms.max() / 100) & (norms > 0)
    return float(max(0, len(norms) - ending(len(norms)) - felt.nonzero()[0].item())) if felt.any() else math.nan


def early(error: Tensor) -> float:
    """The first third of the steps against the last."""
    third = len(error) // 3
    return ratio(rms(error[:third]), rms(error[len(error) - third :])) if third else math.nan


def spread(values: Tensor) -> float:
    """How much samples differ: the standard deviation over the batch, as a share of the size of the values."""
    means = values.detach().cpu().double().mean(0).flatten(1)
    if len(means) < 2:
        return math.nan
    return ratio(means.std(0).square().mean().sqrt().item(), means.square().mean().sqrt().item())


def norm(gradients: list[Tensor]) -> float:
    """Of all of them together; NaN of none."""
    if not gradients:
        return math.nan
    return torch.stack([gradient.detach().cpu().double().norm() for gradient in gradients]).norm().item()


def rms(gradient: Tensor) -> float:
    """The norm of a step's gradient, in the root mean square over samples and steps.

    It is this that a layer with weights of variance 1 / fan-in leaves alone, however many neurons there are on either side.
    """
    return (gradient.detach().cpu().double().square().sum() / math.prod(gradient.shape[:2])).sqrt().item()


def ratio(one: float, other: float) -> float:
    """`one / other`; NaN if both are 0."""
    return one / other if other else math.nan if one == 0 else math.inf
