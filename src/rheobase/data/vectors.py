"""Vectors of numbers between 0 and 1 as samples, and the data set that gives them time.

For data that is neither images nor recordings, such as the coordinates of a point. Vectors are encoded batch by batch: over
hundreds of time steps, the encoded set would be hundreds of times their size.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from rheobase.data.dataset import IndexedDataset, check_labels, digest
from rheobase.encoding import Encoding, encode
from rheobase.errors import DataError


@dataclass(frozen=True, eq=False)
class Vectors:
    """Labelled vectors, checked when they are made.

    Args:
        values: `(n, *features)` in [0, 1]; kept as float32.
        labels: (n,) the class of each vector, 0 to `len(classes) - 1`.
        classes: the names of the classes; by default "0", "1", ... up to the largest label.
        source: the name of these vectors in error messages, such as the file that they came from.

    Raises:
        DataError: if there is no vector, a value is NaN or out of range, labels are out of range, or not one per vector.

    Example:
        >>> len(Vectors(np.full((3, 4), 0.5), np.array([0, 1, 2])))
        3
    """

    values: Float[np.ndarray, "n *features"]
    labels: Integer[np.ndarray, " m"]
    classes: tuple[str, ...] = ()
    source: str = "vectors"

    def __post_init__(self) -> None:
        labels, classes = check_labels(self.labels, self.classes, f"{self.source}: labels")
        if self.values.ndim < 2:
            raise DataError(f"{self.source}: got values of shape {self.values.shape}, expected (n, *features)")
        if len(labels) != len(self.values):
            raise DataError(f"{self.source}: got {len(labels)} labels for {len(self.values)} vectors, expected as many")
        outside = ~((self.values >= 0) & (self.values <= 1))
        if outside.any():
            place = tuple(int(index) for index in np.argwhere(outside)[0])
            raise DataError(f"{self.source}: vector {place[0]} has {self.values[place]}, expected 0 to 1")
        object.__setattr__(self, "values", self.values.astype(np.float32, copy=False))
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "classes", classes)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        """A SHA-256 over the values, the labels and their names."""
        return digest(str(self.classes), self.values, self.labels)


@dataclass(frozen=True, eq=False, repr=False)
class VectorDataset(IndexedDataset):
    """Vectors as sequences of `steps` time steps. There is no augmentation: a seed changes nothing.

    Args:
        vectors: the vectors.
        steps: the number of time steps T, >= 1.
        encoding: how a value becomes a sequence; see `rheobase.encoding.encode`.
        indices: the vectors chosen from `vectors`; by default all.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> vectors = Vectors(np.array([[1.0, 0.5, 0.0]]), np.array([0]))
        >>> VectorDataset(vectors, steps=3, encoding="latency_all")[0][0]
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])
    """

    vectors: Vectors
    steps: int
    encoding: Encoding = "latency_all"
    indices: Int[np.ndarray, " m"] | None = None

    def __post_init__(self) -> None:
        encode(torch.zeros(0), self.steps, self.encoding)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.vectors.classes

    @property
    def features(self) -> tuple[int, ...]:
        """The shape of one time step."""
        return self.vectors.values.shape[1:]

    @property
    def _all_labels(self) -> Int[np.ndarray, " all"]:
        return self.vectors.labels

    def batch(
        self, indices: Int[np.ndarray, " B"], seed: tuple[int, ...] | None = None
    ) -> tuple[Float[Tensor, "T B *features"], Int[Tensor, " B"]]:
        """The encoded vectors at `indices`, `(T, B, *features)` float32, and their labels, `(B,)`; `seed` has no effect.

        Raises:
            IndexError: if an index is negative or beyond the last sample.
        """
        chosen = self._in_full_set(indices)
        values = torch.from_numpy(self.vectors.values[chosen])
        return encode(values, self.steps, self.encoding).contiguous(), torch.from_numpy(self.vectors.labels[chosen])

    def fingerprint(self) -> str:
        """A SHA-256 over the vectors, the labels, the choice of samples and the encoding."""
        return digest(str((self.vectors.digest, self.steps, self.encoding)), self.chosen)
