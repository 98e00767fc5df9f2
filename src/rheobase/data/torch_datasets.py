"""PyTorch's own data sets as data sets for training.

A map-style data set of PyTorch can be asked for a sample and for their number, and that is all. Training asks for more: the
labels of all samples, to split them by class, and a fingerprint, so that a run resumes with the data that it was started with.
Neither can be known without reading every sample, so each is read once when the data set is made, and checked on the way:
a wrong sample is found before the training and not in the middle of it. This takes as long as loading an epoch.
"""

import hashlib
from dataclasses import dataclass
from operator import index
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from rheobase.data.dataset import Dataset, IndexedDataset, bytes_of, check_labels, digest
from rheobase.data.lengths import padded
from rheobase.errors import DataError


@runtime_checkable
class MapStyle(Protocol):
    """What PyTorch calls a map-style data set: `dataset[index]` is a sample and its label."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, eq=False, repr=False)
class TorchDataset(IndexedDataset):
    """A map-style data set of PyTorch, as `from_torch` makes it. A seed changes nothing.

    Args:
        dataset: the data set of PyTorch.
        classes: the names of the classes.
        steps: the number of time steps T, of the longest sample.
        features: the shape of one time step.
        all_labels: the label of every sample of `dataset`, int64.
        content: a SHA-256 over every sample of `dataset`.
        indices: the samples chosen from `dataset`; by default all.
        lengths: the number of steps of every sample of this data set; None where all have `steps`.
    """

    dataset: MapStyle
    classes: tuple[str, ...]
    steps: int
    features: tuple[int, ...]
    all_labels: Int[np.ndarray, " all"]
    content: str
    indices: Int[np.ndarray, " m"] | None = None
    lengths: Int[np.ndarray, " k"] | None = None

    @property
    def _all_labels(self) -> Int[np.ndarray, " all"]:
        return self.all_labels

    def batch(
        self, indices: Int[np.ndarray, " B"], seed: tuple[int, ...] | None = None
    ) -> tuple[Float[Tensor, "T B *features"], Int[Tensor, " B"]]:
        """The samples at `indices`, (T, B, *features), zeros at their ends, and their labels, (B,); `seed` has no effect."""
        chosen = self._in_full_set(indices)
        labels = torch.from_numpy(self.all_labels[chosen])
        if len(chosen) == 0:
            return torch.zeros(self.steps, 0, *self.features), labels
        return padded([_sample(self.dataset, number)[0] for number in chosen.tolist()], self.steps), labels

    def fingerprint(self) -> str:
        """A SHA-256 over every sample as it was when this was made, the labels, the classes and the choice of samples."""
        return digest(str((self.content, self.classes)), self.all_labels, *self._decisive)


def from_torch(dataset: MapStyle, classes: tuple[str, ...] = ()) -> TorchDataset:
    """Make a data set for training from a map-style data set of PyTorch.

    Every sample is read once now, for its label, to check it, and for the fingerprint; and again whenever it is in a batch.
    Samples must be the same each time: with random changes in them, a run could neither be repeated nor resumed. To augment
    samples in training, write a data set whose `batch(indices, seed)` draws from the seed, see `rheobase.data.Dataset`.

    Args:
        dataset: has a length, and gives pairs of a sample, `(T, *features)`, floating point and finite, a tensor or an array of
            NumPy, all of one type and with the same features; and its label, an integer from 0. Samples that are shorter than
            the longest are padded with zeros at the end, and the data set has their `lengths`.
        classes: the names of the classes; by default "0", "1", ... up to the largest label.

    Returns:
        The data set; `subset` and `split` work on it as on any other.

    Raises:
        TypeError: if `dataset` cannot be asked for samples by their number, or is a data set for training already.
        DataError: if a sample or a label is not as said above, or the first sample changes when it is read again.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> data = from_torch(TensorDataset(torch.rand(8, 5, 3), torch.arange(8) % 2))  # 8 samples of 5 time steps
        >>> data.batch(np.array([0, 3]))[0].shape, data.classes
        (torch.Size([5, 2, 3]), ('0', '1'))
        >>> from_torch([(torch.rand(2, 3), 0), (torch.rand(7, 3), 1)]).lengths
        array([2, 7])
    """
    if isinstance(dataset, DataLoader):
        raise TypeError("dataset: got a DataLoader, expected what it loads; write from_torch(loader.dataset)")
    if isinstance(dataset, Dataset):
        raise TypeError(f"dataset: a {type(dataset).__name__} is a data set for training already; use it as it is")
    if not isinstance(dataset, MapStyle) or isinstance(dataset, IterableDataset):
        raise TypeError(
            f"dataset: got a {type(dataset).__name__}, expected a map-style data set of PyTorch, with __len__ and __getitem__"
        )
    if len(dataset) == 0:
        raise DataError("dataset: the data set is empty, expected at least one sample")
    first, _ = _sample(dataset, 0)
    if not np.array_equal(bytes_of(first), bytes_of(_sample(dataset, 0)[0])):
        raise DataError(
            "dataset: sample 0 has changed when it was read again, expected the same; leave random changes out of it"
        )
    labels, lengths = np.empty((2, len(dataset)), np.int64)
    sha = hashlib.sha256(f"{first.dtype}{tuple(first.shape)}".encode())
    for number in range(len(dataset)):
        x, labels[number] = _sample(dataset, number)
        lengths[number] = len(x)
        if x.shape[1:] != first.shape[1:] or x.dtype != first.dtype:
            raise DataError(
                f"dataset: sample {number} is {x.dtype} of shape {tuple(x.shape)}, expected {first.dtype} of shape "
                f"{tuple(first.shape)} as the first, (T, *features), of which T alone may differ"
            )
        if not torch.isfinite(x).all():
            raise DataError(f"dataset: sample {number} is NaN or infinite somewhere, expected finite values")
        sha.update(bytes_of(x).data)
    labels, classes = check_labels(labels, classes, "dataset: labels")
    steps, features = int(lengths.max()), tuple(first.shape[1:])
    differ = None if (lengths == steps).all() else lengths
    return TorchDataset(dataset, classes, steps, features, labels, sha.hexdigest(), lengths=differ)


def _sample(dataset: MapStyle, number: int) -> tuple[Tensor, int]:
    """One sample, (T, *features), on the CPU, and its label, checked."""
    pair = dataset[number]
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        got = f"{len(pair)} values" if isinstance(pair, tuple | list) else f"a {type(pair).__name__}"
        raise DataError(f"dataset: sample {number} is {got}, expected a pair (x, label)")
    x, label = pair
    if not isinstance(x, Tensor | np.ndarray):
        raise DataError(f"dataset: sample {number} is a {type(x).__name__}, expected a tensor (T, *features)")
    x = torch.as_tensor(x).detach().cpu()
    if x.ndim < 2 or x.shape[0] == 0:
        raise DataError(
            f"dataset: sample {number} has shape {tuple(x.shape)}, expected (T, *features); encode it over time, see "
            "rheobase.encoding"
        )
    if not x.is_floating_point():
        raise DataError(f"dataset: sample {number} is {x.dtype}, expected floating point; convert it with x.float()")
    try:
        return x, index(label)
    except TypeError:
        raise DataError(
            f"dataset: sample {number} has the label {label!r}, expected an integer; numbers that a network is to come close "
            "to are rheobase.data.TargetDataset(x, y)"
        ) from None
