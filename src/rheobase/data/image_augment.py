"""Augmentation of images: small changes that preserve what an image shows.

Each class here is one such change of a batch of images, called as `augmentation(images, rngs) -> images`; a data set applies
its tuple of them in order. Each image has its own generator, so its change does not depend on the rest of the batch; the
arithmetic is done for the whole batch at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Float64

from rheobase.data.augment import check_count, check_setting

Pictures: TypeAlias = Float32[np.ndarray, "B channels height width"]
"""A batch of images, brightness in 0..1."""


@runtime_checkable
class ImageAugmentation(Protocol):
    """A change of images: every draw for an image comes from its generator in `rngs`."""

    def __call__(self, images: Pictures, rngs: Sequence[np.random.Generator]) -> Pictures:
        """The changed images, a new array."""
        ...


@dataclass(frozen=True)
class ShiftPixels:
    """Move an image by whole pixels, drawn independently for each axis, uniformly from -max to max; what comes in is black.

    The same as a random crop of the image's size from the image with a black border of `max`.

    Args:
        max: the largest shift, in pixels, >= 0.

    Example:
        >>> ShiftPixels(1)(np.ones((1, 1, 2, 2), np.float32), [np.random.default_rng(0)])[0, 0].tolist()
        [[0.0, 0.0], [1.0, 1.0]]
    """

    max: int

    def __post_init__(self) -> None:
        check_count("ShiftPixels", "max", self.max, "a whole number of pixels, at least 0")

    def __call__(self, images: Pictures, rngs: Sequence[np.random.Generator]) -> Pictures:
        """The moved images."""
        height, width = images.shape[-2:]
        bordered = np.pad(images, ((0, 0), (0, 0), (self.max, self.max), (self.max, self.max)))
        moved = np.empty_like(images)
        for target, source, rng in zip(moved, bordered, rngs, strict=True):
            down, right = self.max - rng.integers(-self.max, self.max, size=2, endpoint=True)
            target[...] = source[:, down : down + height, right : right + width]
        return moved


@dataclass(frozen=True)
class Flip:
    """Mirror an image left to right.

    Args:
        probability: that of the change, in [0, 1].

    Example:
        >>> Flip(1.0)(np.float32([[[[0.25, 0.5]]]]), [np.random.default_rng(0)]).tolist()
        [[[[0.5, 0.25]]]]
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability("Flip", self.probability)

    def __call__(self, images: Pictures, rngs: Sequence[np.random.Generator]) -> Pictures:
        """The mirrored images."""
        mirrored = np.array([rng.random() < self.probability for rng in rngs], dtype=bool)
        return np.where(mirrored[:, None, None, None], images[..., ::-1], images)


@dataclass(frozen=True)
class Perspective:
    """View an image from another angle: its corners move inwards, by whole pixels, and its content with them.

    Each corner moves along either axis by a number of pixels drawn uniformly from 0 to `distortion` half widths or heights; up
    to 0.5, every draw gives a convex quadrilateral. The projection that maps the old corners to the new ones maps all pixels;
    between pixels, brightness is linear, and what comes in from outside is black.

    Args:
        distortion: the largest shift of a corner, as a share of the way to the middle, in [0, 0.5].
        probability: that of the change, in [0, 1].

    Raises:
        ValueError: if an argument is out of range, or images have a single row or column.

    Example:
        >>> seen = Perspective(0.5, 1.0)(np.ones((1, 1, 8, 8), np.float32), [np.random.default_rng(0)])
        >>> bool(0.3 < seen.mean() < 0.9), float(seen[0, 0, 4, 4])
        (True, 1.0)
    """

    distortion: float
    probability: float

    def __post_init__(self) -> None:
        check_setting("Perspective", "distortion", self.distortion, self.distortion <= 0.5, "a share, 0 to 0.5")
        _check_probability("Perspective", self.probability)

    def __call__(self, images: Pictures, rngs: Sequence[np.random.Generator]) -> Pictures:
        """The images as seen from another angle."""
        height, width = images.shape[-2:]
        if min(height, width) < 2:
            raise ValueError(f"Perspective: got images of {height} x {width} pixels, expected at least 2 x 2")
        most = [int(self.distortion * (side - 1) / 2) for side in (width, height)]
        corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], dtype=np.float64)
        inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
        changed, moved = [], []
        for index, rng in enumerate(rngs):
            if rng.random() < self.probability:
                changed.append(index)
                moved.append(corners + inwards * rng.integers(0, most, size=(4, 2), endpoint=True))
        seen = images.copy()
        if changed:
            seen[changed] = _sample(images[changed], _sources(np.array(moved), corners, height, width))
        return seen


@dataclass(frozen=True)
class PixelNoise:
    """Add normally distributed noise to every pixel; its strength is drawn uniformly from 0 to std. Results stay in 0..1.

    Args:
        std: the largest standard deviation, >= 0, where black is 0 and white 1.
        probability: that of the change, in [0, 1].

    Example:
        >>> noisy = PixelNoise(0.05, 1.0)(np.full((1, 1, 20, 20), 0.5, np.float32), [np.random.default_rng(0)])
        >>> bool(0 < noisy.std() < 0.05)
        True
    """

    std: float
    probability: float

    def __post_init__(self) -> None:
        check_setting("PixelNoise", "std", self.std, self.std >= 0, "at least 0")
        _check_probability("PixelNoise", self.probability)

    def __call__(self, images: Pictures, rngs: Sequence[np.random.Generator]) -> Pictures:
        """The noisy images."""
        noisy = images.copy()
        for image, rng in zip(noisy, rngs, strict=True):
            if rng.random() < self.probability:
                strength = np.float32(rng.uniform(0, self.std))
                image += strength * rng.standard_normal(image.shape, dtype=np.float32)
                np.clip(image, 0, 1, out=image)
        return noisy


def _sources(
    moved: Float64[np.ndarray, "B 4 2"], corners: Float64[np.ndarray, "4 2"], height: int, width: int
) -> Float64[np.ndarray, "B height width 2"]:
    """The position (x, y) in the old image from which each pixel of the new one comes: the projection of `moved` to
    `corners`."""
    # x = (a X + b Y + c) / (g X + h Y + 1) and likewise y with d, e, f: two equations per corner for the eight unknowns.
    equations = np.zeros((len(moved), 4, 2, 8))
    ones = np.concatenate([moved, np.ones((len(moved), 4, 1))], axis=2)
    for axis in (0, 1):
        equations[:, :, axis, 3 * axis : 3 * axis + 3] = ones
        equations[:, :, axis, 6:] = -moved * corners[:, axis, None]
    solved = np.linalg.solve(equations.reshape(-1, 8, 8), np.broadcast_to(corners.reshape(8, 1), (len(moved), 8, 1)))
    projection = np.concatenate([solved[..., 0], np.ones((len(moved), 1))], axis=1).reshape(-1, 3, 3)
    y, x = np.mgrid[:height, :width]
    projected = np.stack([x, y, np.ones_like(x)], axis=-1) @ projection[:, None].transpose(0, 1, 3, 2)
    # Far outside, a pixel looks along the image plane or behind the viewer, where there is nothing.
    depth = projected[..., 2:]
    ahead = depth > 1e-6
    return np.where(ahead, projected[..., :2] / np.where(ahead, depth, 1), -2.0 * (height + width))


def _sample(images: Pictures, places: Float64[np.ndarray, "B height width 2"]) -> Pictures:
    """The brightness at positions between pixels, linear in each axis; black outside."""
    height, width = images.shape[-2:]
    grid = 2 * places / np.maximum([width - 1, height - 1], 1) - 1
    sampled = torch.nn.functional.grid_sample(
        torch.from_numpy(images), torch.from_numpy(grid.astype(np.float32)), align_corners=True
    )
    return sampled.clamp_(0, 1).numpy()  # a sum of four shares of 1 may exceed 1 by rounding


def _check_probability(owner: str, value: float) -> None:
    check_setting(owner, "probability", value, value <= 1, "0 to 1")
