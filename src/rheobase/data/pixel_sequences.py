"""Images read one pixel per step: sequences of 784 steps whose beginning matters at their end.

This is the usual test of a long memory (Le, Jaitly, Hinton, "A simple way to initialize recurrent networks of rectified linear
units", arXiv 1504.00941). Row by row, neighbouring pixels are still informative about each other; in a fixed random order
nothing is local.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from rheobase.data.dataset import IndexedDataset, check_seed, digest
from rheobase.data.images import Images


@dataclass(frozen=True, eq=False, repr=False)
class PixelSequences(IndexedDataset):
    """Images as sequences of their pixels, brightness in 0..1, one per step; the colours of a pixel are its features.

    Args:
        images: the images.
        permutation: the seed of a random order of the pixels, the same for all images; None is row by row, from the top left.
        indices: the images chosen from `images`; by default all.

    Raises:
        ValueError: if `permutation` is negative.

    Example:
        >>> images = Images(np.full((3, 28, 28), 255, np.uint8), np.array([0, 1, 2]))
        >>> x, label = PixelSequences(images)[2]
        >>> x.shape, x.max().item(), label
        (torch.Size([784, 1]), 1.0, 2)
    """

    images: Images
    permutation: int | None = None
    indices: Int[np.ndarray, " m"] | None = None

    def __post_init__(self) -> None:
        if self.permutation is not None and self.permutation < 0:
            raise ValueError(f"permutation must be a seed, at least 0, or None, got {self.permutation}")

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.images.classes

    @property
    def features(self) -> tuple[int, ...]:
        """The shape of one time step: (colours,)."""
        return (1 if self.images.pixels.ndim == 3 else self.images.pixels.shape[1],)

    @property
    def steps(self) -> int:
        """The number of pixels."""
        return math.prod(self.images.pixels.shape[-2:])

    @property
    def _all_labels(self) -> Int[np.ndarray, " all"]:
        return self.images.labels

    def batch(
        self, indices: Int[np.ndarray, " B"], seed: tuple[int, ...] | None = None
    ) -> tuple[Float[Tensor, "T B *features"], Int[Tensor, " B"]]:
        """The images at `indices`, and their labels.

        Args:
            indices: (B,) which samples, 0 to `len(self) - 1`.
            seed: without effect: nothing is augmented.

        Returns:
            (pixels, B, colours) float32, and (B,) int64 labels.

        Raises:
            IndexError: if an index is negative or beyond the last sample.
            ValueError: if a part of the seed is negative.
        """
        if seed is not None:
            check_seed(seed)
        chosen = self._in_full_set(indices)
        pixels = self.images.pixels[chosen].reshape(len(chosen), *self.features, self.steps)
        sequences = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        if self.permutation is not None:
            sequences = sequences[np.random.default_rng(self.permutation).permutation(self.steps)]
        return torch.from_numpy(sequences).to(torch.float32).div_(255), torch.from_numpy(self.images.labels[chosen])

    def fingerprint(self) -> str:
        """A SHA-256 over the images, the labels, the choice of samples and the order of the pixels."""
        return digest(str((self.images.digest, self.permutation)), self.chosen)
