"""Surrogates inside kernels: what all kernels of neurons that fire know of them.

A kernel of the backward pass needs the *slope* of every spike, the surrogate's derivative at the distance of the membrane
potential from the threshold. Eight shapes are part of the kernels, in `cpu` for numba and in `gpu` for Triton: of these a
kernel is told the name and two numbers. For a shape of the user's, and for `QPseudoSpike`, whose power no vector instruction
computes, the slopes are computed beforehand and given.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rheobase.ops.lanes import sequence_to_lanes
from rheobase.surrogate import (
    Arctan,
    Exponential,
    FastSigmoid,
    Gaussian,
    MultiGaussian,
    Rectangular,
    Sigmoid,
    Surrogate,
    Triangular,
)

_IN_KERNELS = (FastSigmoid, Arctan, Rectangular, Triangular, Exponential, Gaussian, Sigmoid, MultiGaussian)


def can(surrogate: Surrogate) -> bool:
    """Whether the kernels can take this surrogate: any but one whose spike is not a step."""
    # `torch.compile` cannot pass an object to an operator, so there the surrogate must be one that kernels know by name.
    step = type(surrogate).spike is Surrogate.spike
    return step and (known_by_name(surrogate) or not torch.compiler.is_compiling())


def known_by_name(surrogate: Surrogate) -> bool:
    """Whether the surrogate is one of the shapes that are part of the kernels."""
    return type(surrogate) in _IN_KERNELS


def surrogate_in_kernel(
    surrogate: Surrogate, membrane: Tensor, threshold: Tensor, shape: Sequence[int]
) -> tuple[str, Tensor]:
    """What a backward kernel is told of the surrogate: its name, or "given" and the derivative itself, `(T, M)`.

    Args:
        surrogate: any whose spike is a step.
        membrane: what the forward kernel has saved, `(T, M)`: the membrane potential, or in bfloat16 its distance from the
            threshold.
        threshold: `(M,)`.
        shape: that of the sequence, `(T, B, *features)`: a surrogate of the user's may look at the axes.
    """
    if known_by_name(surrogate):
        return type(surrogate).__name__, threshold.new_empty(0, 0)
    distance = membrane.to(threshold.dtype) if membrane.dtype == torch.bfloat16 else membrane - threshold
    derivative = surrogate.derivative(distance.view(tuple(shape)))
    return "given", sequence_to_lanes(derivative.to(threshold.dtype))
