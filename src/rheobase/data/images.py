"""Images in the official files of MNIST, Fashion-MNIST and CIFAR-10, and the data set that gives them time.

An image has no time steps. Either its brightness is fed in at every step (the first layer's neurons turn it into spikes) or
every pixel spikes once, the brighter the earlier. Only the batch that is asked for is encoded.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, Integer, Shaped, UInt8
from torch import Tensor

from rheobase.data.augment import check_changes
from rheobase.data.dataset import IndexedDataset, check_labels, check_seed, digest, generator, in_words
from rheobase.data.files import LIMIT, read_bytes
from rheobase.data.image_augment import ImageAugmentation, Pictures
from rheobase.encoding import Encoding, encode
from rheobase.errors import DataError

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_CIFAR_RECORD = 1 + 3 * 32 * 32


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images, checked when they are made.

    Args:
        pixels: (n, height, width) or (n, channels, height, width), an array of integers from 0 to 255; kept as uint8.
        labels: (n,) the class of each image, 0 to `len(classes) - 1`.
        classes: the names of the classes; by default "0", "1", ... up to the largest label.
        source: what error messages call these images, such as the file that they came from.

    Raises:
        TypeError: if `pixels` are no array.
        DataError: if pixels are no integers from 0 to 255, there is no image, labels are out of range, or not one per image.

    Example:
        >>> len(Images(np.zeros((3, 28, 28), np.uint8), np.array([0, 1, 2])))
        3
    """

    pixels: Shaped[np.ndarray, "n *shape"]
    labels: Integer[np.ndarray, " m"]
    classes: tuple[str, ...] = ()
    source: str = "images"

    def __post_init__(self) -> None:
        if not isinstance(self.pixels, np.ndarray):
            kind = type(self.pixels).__name__
            raise TypeError(
                f"{self.source}: got pixels in a {kind}, expected a NumPy array; of a tensor, pixels.numpy()"
            )
        labels, classes = check_labels(self.labels, self.classes, f"{self.source}: labels")
        if self.pixels.ndim not in (3, 4):
            raise DataError(
                f"{self.source}: got pixels of shape {self.pixels.shape}, expected (n, height, width) or "
                "(n, channels, height, width)"
            )
        if len(labels) != len(self.pixels):
            raise DataError(
                f"{self.source}: got {len(labels)} labels for {len(self.pixels)} images, expected one for each"
            )
        object.__setattr__(self, "pixels", _bytes(self.pixels, self.source))
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "classes", classes)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        """A SHA-256 over the pixels, the labels and their names."""
        return digest(str(self.classes), self.pixels, self.labels)


@dataclass(frozen=True, eq=False, repr=False)
class ImageDataset(IndexedDataset):
    """Images as sequences of `steps` time steps, brightness scaled to 0..1.

    Args:
        images: the images.
        steps: the number of time steps T, >= 1.
        encoding: how brightness becomes a sequence: "direct", "latency", or "latency_all"; see `rheobase.encoding.encode`.
        flatten: whether a step is one row of all pixels, (pixels,), or keeps the image's shape with a leading axis of
            colours, (channels, height, width), as convolutions need it.
        augment: what changes the images of a batch that is read with a seed, in this order.
        indices: the images chosen from `images`; by default all.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> images = Images(np.full((3, 28, 28), 255, np.uint8), np.array([0, 1, 2]))
        >>> x, label = ImageDataset(images, steps=4, flatten=False)[2]
        >>> x.shape, x.max().item(), label
        (torch.Size([4, 1, 28, 28]), 1.0, 2)
    """

    images: Images
    steps: int
    encoding: Encoding = "direct"
    flatten: bool = True
    augment: tuple[ImageAugmentation, ...] = ()
    indices: Int[np.ndarray, " m"] | None = None

    def __post_init__(self) -> None:
        check_changes(self.augment)
        encode(torch.zeros(0), self.steps, self.encoding)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.images.classes

    @property
    def features(self) -> tuple[int, ...]:
        """The shape of one time step: (pixels,) or (channels, height, width)."""
        return (math.prod(self._shape),) if self.flatten else self._shape

    @property
    def _shape(self) -> tuple[int, int, int]:
        channels, height, width = (1, *self.images.pixels.shape[1:])[-3:]
        return channels, height, width

    @property
    def _all_labels(self) -> Int[np.ndarray, " all"]:
        return self.images.labels

    def batch(
        self, indices: Int[np.ndarray, " B"], seed: tuple[int, ...] | None = None
    ) -> tuple[Float[Tensor, "T B *features"], Int[Tensor, " B"]]:
        """The encoded images at `indices`, and their labels.

        Args:
            indices: (B,) which samples, 0 to `len(self) - 1`.
            seed: None for the images as they are; otherwise integers >= 0, such as (seed, epoch), that with a sample's
                index in the full set seed the draws of its augmentation.

        Returns:
            `(T, B, *features)` float32, and `(B,)` int64 labels. With the encoding "direct", all steps are one in memory, so
            that `x` cannot be changed in place.

        Raises:
            IndexError: if an index is negative or beyond the last sample.
            ValueError: if a part of the seed is negative.
        """
        chosen = self._in_full_set(indices)
        brightness = torch.from_numpy(self.images.pixels[chosen]).to(torch.float32).div_(255)
        images = brightness.view(len(chosen), *self._shape)
        if seed is not None:
            check_seed(seed)
            images = torch.from_numpy(self._augmented(images.numpy(), seed, chosen))
        encoded = encode(images.view(len(chosen), *self.features), self.steps, self.encoding)
        return encoded, torch.from_numpy(self.images.labels[chosen])

    def _augmented(self, images: Pictures, seed: tuple[int, ...], chosen: Int[np.ndarray, " B"]) -> Pictures:
        if self.augment:
            rngs = [generator(seed, sample) for sample in chosen.tolist()]
            for change in self.augment:
                images = change(images, rngs)
        return np.ascontiguousarray(images)

    def augmented(self, *augment: ImageAugmentation) -> "ImageDataset":
        """The same data set with other augmentation.

        Example:
            >>> from rheobase.data import Flip, ShiftPixels
            >>> images = Images(np.zeros((3, 28, 28), np.uint8), np.array([0, 1, 2]))
            >>> data = ImageDataset(images, steps=4).augmented(ShiftPixels(1), Flip())
        """
        return replace(self, augment=augment)

    def fingerprint(self) -> str:
        """A SHA-256 over the images, the labels, the choice of samples, the encoding and the augmentation."""
        settings = (self.images.digest, self.steps, self.encoding, self.flatten, in_words(self.augment))
        return digest(str(settings), self.chosen)


def _bytes(pixels: Shaped[np.ndarray, "..."], source: str) -> UInt8[np.ndarray, "..."]:
    """Pixels as bytes.

    Raises:
        DataError: if they are no integers, or one is outside of 0 to 255.
    """
    if pixels.dtype == np.uint8:
        return pixels
    fits = pixels.size == 0 or bool(pixels.min() >= 0 and pixels.max() <= 255)
    if pixels.dtype.kind in "iu" and fits:
        return pixels.astype(np.uint8)
    values = f" from {pixels.min():g} to {pixels.max():g}" if pixels.size and pixels.dtype.kind in "iuf" else ""
    unit = pixels.size > 0 and pixels.max() <= 1
    remedy = (
        "of brightness in 0..1, (255 * pixels).round().astype(np.uint8)"
        if unit
        else ("round them, pixels.round().astype(np.uint8)" if fits else "rescale them to 0..255")
    )
    raise DataError(f"{source}: got pixels of {pixels.dtype}{values}, expected integers from 0 to 255; {remedy}")


def read_idx(path: Path, limit: int = LIMIT) -> UInt8[np.ndarray, "..."]:
    """Read an idx file of bytes, the format of MNIST (`.gz` or not).

    Raises:
        DataError: if the file is missing, damaged, truncated, followed by other bytes, or not idx.
    """
    return parse_idx(read_bytes(path, limit), str(path))


def parse_idx(content: bytes, source: str) -> UInt8[np.ndarray, "..."]:
    """Read the unpacked content of an idx file; `source` is what error messages call it.

    The format (Y. LeCun, C. Cortes and C. Burges, "The MNIST database"): two zero bytes, the type (8: bytes), the number
    of axes, the length of each axis as 4 bytes, big-endian, and the values, last axis fastest.

    Raises:
        DataError: as for `read_idx`.

    Example:
        >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), "example")
        array([7, 9], dtype=uint8)
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08" or not 1 <= content[3] <= 4:
        raise DataError(
            f"{source}: not an idx file of bytes: it starts with {content[:4].hex(' ')}, expected 00 00 08 and the number "
            "of axes, 1 to 4"
        )
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DataError(f"{source}: truncated: the header ends after {len(content)} of {start} bytes")
    shape = tuple(int(length) for length in np.frombuffer(content[4:start], dtype=">u4"))
    expected = start + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        problem = "truncated" if len(content) < expected else "followed by other bytes"
        raise DataError(f"{source}: {problem}: got {len(content)} bytes, expected {expected} for the shape {shape}")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def parse_idx_images(pixels: tuple[bytes, str], labels: tuple[bytes, str], classes: tuple[str, ...]) -> Images:
    """Read images and labels from the contents of their two idx files, each given with its name.

    Raises:
        DataError: as for `read_idx` and `Images`.
    """
    image_array, label_array = parse_idx(*pixels), parse_idx(*labels)
    if image_array.ndim != 3:
        raise DataError(f"{pixels[1]}: got shape {image_array.shape}, expected (n, height, width)")
    return Images(image_array, label_array, classes, source=labels[1])


def read_cifar10(*paths: Path, limit: int = LIMIT) -> Images:
    """Read files of CIFAR-10 in its binary version (`.bin`, packed or not), one after the other.

    Raises:
        DataError: if a file is missing, damaged, not a whole number of records, or has a label above 9.
    """
    return parse_cifar10(*((read_bytes(path, limit), str(path)) for path in paths))


def parse_cifar10(*files: tuple[bytes, str]) -> Images:
    """Read CIFAR-10 from the unpacked contents of its binary files, each given with its name.

    The format (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009): per image one byte for the
    label, then 1,024 red, 1,024 green and 1,024 blue bytes, row by row.

    Raises:
        DataError: as for `read_cifar10`.
    """
    parts = []
    for content, source in files:
        if len(content) % _CIFAR_RECORD:
            raise DataError(
                f"{source}: got {len(content)} bytes, expected a multiple of {_CIFAR_RECORD}, the size of a record"
            )
        records = np.frombuffer(content, dtype=np.uint8).reshape(-1, _CIFAR_RECORD)
        check_labels(records[:, 0], CIFAR10_CLASSES, f"{source}: labels")
        parts.append(records)
    records = np.concatenate(parts)
    return Images(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0], CIFAR10_CLASSES, source=files[0][1])
