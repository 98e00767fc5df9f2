"""Where the entries of an image go in a convolution: which window of the output each adds to, and with which weights.

An entry at y reaches the outputs at (y + padding - k) / stride, for the kernel's positions k of which that is a whole number.
These lie side by side, and so do their weights once the kernel is taken apart by k modulo the stride and turned around. So each
entry adds one block of weights to one window, whatever the stride; windows that begin before the output, or end behind it, end
in a margin.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from torch import Tensor
from torch.nn import functional as F

_FEWEST = 64
"""Bytes of outputs that lie together: a register."""
_TILE = 1 << 20
"""Bytes of the sums of an image: outputs are treated in blocks so small that these stay in the cache, if that can be."""


@dataclass(frozen=True)
class Geometry:
    """The sizes of a convolution of entries `(channels, height, width)`, and where each entry goes.

    Args:
        outputs: how many.
        channels: of the entries.
        size: height and width of the output.
        kernel: height and width of the kernel.
        stride: of the kernel.
        window: height and width of the window that an entry adds to.
        tile: height and width of the sums, with margins, which are at the top and on the left one less than the window.
        spot: of each entry of a channel, the place of its window in the tile, row by row, `(height * width,)`.
        kind: of each entry of a channel, its class modulo the stride.
    """

    outputs: int
    channels: int
    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    window: tuple[int, int]
    tile: tuple[int, int]
    spot: np.ndarray
    kind: np.ndarray

    @property
    def classes(self) -> int:
        """How many classes of entries there are modulo the stride."""
        return math.prod(self.stride)

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What kernels take of it: where entries go, and the sizes of window and tile."""
        return self.spot, self.kind, np.array([*self.window, *self.tile])

    @property
    def stays_in_cache(self) -> bool:
        """Whether the sums of an image do, at least those of the fewest outputs."""
        return math.prod(self.tile) * _FEWEST <= _TILE

    def block(self, itemsize: int) -> int:
        """How many outputs make a block."""
        fewest = _FEWEST // itemsize
        block = -(-self.outputs // fewest) * fewest
        while block > fewest and math.prod(self.tile) * block * itemsize > _TILE:
            block = -(-block // 2 // fewest) * fewest
        return block

    def pack(self, weight: Tensor) -> Tensor:
        """Weights `(outputs, channels, *kernel)` as `(blocks, classes * channels, rows of a window, columns * outputs)`."""
        block, (rows, columns), (down, right) = self.block(weight.element_size()), self.window, self.stride
        blocks = -(-self.outputs // block)
        lacks = rows * down - self.kernel[0], columns * right - self.kernel[1]
        filled = F.pad(weight, (0, lacks[1], 0, lacks[0], 0, 0, 0, blocks * block - self.outputs))
        parts = filled.view(blocks, block, self.channels, rows, down, columns, right).flip(3, 5)
        return parts.permute(0, 4, 6, 2, 3, 5, 1).reshape(blocks, self.classes * self.channels, rows, columns * block)

    def unpack(self, packed: Tensor) -> Tensor:
        """The inverse of `pack`, for its gradient."""
        blocks, (rows, columns), (down, right) = len(packed), self.window, self.stride
        block = packed.shape[3] // columns
        parts = packed.view(blocks, down, right, self.channels, rows, columns, block).permute(0, 6, 3, 4, 1, 5, 2)
        filled = parts.flip(3, 5).reshape(blocks * block, self.channels, rows * down, columns * right)
        return filled[: self.outputs, :, : self.kernel[0], : self.kernel[1]].contiguous()


@lru_cache(maxsize=64)
def geometry(
    outputs: int,
    entries: tuple[int, int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Geometry:
    """The geometry of a convolution.

    Args:
        outputs: how many.
        entries: channels, height and width of an image.
        kernel: height and width.
        stride: down and to the right.
        padding: zeros above and below, on the left and on the right.
    """
    channels, *extent = entries
    axes = list(zip(extent, kernel, stride, padding, strict=True))
    size = [(length + 2 * more - taps) // step + 1 for length, taps, step, more in axes]
    window = [-(-taps // step) for _, taps, step, _ in axes]
    first = [(np.arange(length) + more) // step for length, _, step, more in axes]
    kinds = [(np.arange(length) + more) % step for length, _, step, more in axes]
    tile = [max(last[-1] + taps, out + taps - 1) for last, taps, out in zip(first, window, size, strict=True)]
    spot = first[0][:, None] * tile[1] + first[1]
    kind = kinds[0][:, None] * stride[1] + kinds[1]
    return Geometry(
        outputs,
        channels,
        (size[0], size[1]),
        kernel,
        stride,
        (window[0], window[1]),
        (int(tile[0]), int(tile[1])),
        spot.reshape(-1).astype(np.int32),
        kind.reshape(-1).astype(np.int32),
    )
