"""Sliding sums as products of matrices, with PyTorch's own: the reference, and what a GPU computes.

Time is cut into blocks of L >= K - 1 steps. What a block sees is itself and the next one, by two triangular matrices that are
the same for all blocks: L times T numbers are multiplied, not T times T.
"""

import torch
from torch import Tensor
from torch.nn import functional

_BLOCK = 32
"""Steps of a block, at least: a product for less does not pay."""


def slid(weight: Tensor, seen: Tensor, beyond: int = 0) -> Tensor:
    """`h[t] = sum_k weight[k] * seen[t + k]`.

    Args:
        weight: `(K,)`.
        seen: `(S, M)`.
        beyond: the number of rows of zeros added at both ends.

    Returns:
        `(S + 2 * beyond - K + 1, M)`.
    """
    seen = functional.pad(seen, (0, 0, beyond, beyond)) if beyond else seen
    steps = len(seen) - len(weight) + 1
    length, blocks, k, inside = _layout(len(weight), steps, seen.device)
    band = torch.where(inside, weight[k.clamp(0, len(weight) - 1)], 0)
    near, far = (part.expand(blocks, length, length) for part in band.split(length, 1))
    x = _in_blocks(seen, blocks + 1, length)
    return torch.baddbmm(torch.bmm(near, x[:-1]), far, x[1:]).flatten(0, 1)[:steps]


def on_weight(weight: Tensor, seen: Tensor, on_h: Tensor) -> Tensor:
    """`sum_t on_h[t] . seen[t + k]`, for every k.

    Args:
        weight: `(K,)`.
        seen: `(S, M)`.
        on_h: the gradient of `slid(weight, seen)`, `(S - K + 1, M)`.
    """
    length, blocks, k, inside = _layout(len(weight), len(on_h), on_h.device)
    near_and_far = _in_blocks(seen, blocks + 1, length)
    given = _in_blocks(on_h, blocks, length)
    pairs = [torch.bmm(given, part.mT).sum(0) for part in (near_and_far[:-1], near_and_far[1:])]
    products = torch.cat(pairs, 1)[inside]
    return torch.zeros_like(weight).index_add(0, k[inside], products)


def _layout(order: int, steps: int, device: torch.device) -> tuple[int, int, Tensor, Tensor]:
    """The length of a block, their number, and of each step and each one that it may see, which weight that is, and if."""
    length = max(order - 1, _BLOCK)
    k = torch.arange(2 * length, device=device) - torch.arange(length, device=device).unsqueeze(1)
    return length, -(-steps // length), k, (k >= 0) & (k < order)


def _in_blocks(x: Tensor, blocks: int, length: int) -> Tensor:
    """`(steps, M)` as `(blocks, length, M)`: 0 where there is nothing, and cut off where there is more."""
    padded = functional.pad(x, (0, 0, 0, max(blocks * length - len(x), 0)))
    return padded[: blocks * length].unflatten(0, (blocks, length))
