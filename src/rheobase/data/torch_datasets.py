"""PyTorch data sets as data sets for training.

A map-style data set of PyTorch provides samples and their number, and nothing else. Training needs more: the labels of all
samples, to split them by class, or their targets, and a fingerprint, so that a run resumes with the data that it was started
with. Both require reading every sample, so each is read once when the data set is made, and checked on the way: a wrong sample
is found before training, not in the middle of it. This takes as long as loading an epoch.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from operator import index
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from rheobase.data.dataset import Dataset, IndexedDataset, bytes_of, check_labels, digest
from rheobase.data.lengths import padded
from rheobase.errors import DataError
from rheobase.ops.arguments import state_type


@runtime_checkable
class MapStyle(Protocol):
    """A map-style data set in PyTorch's sense: `dataset[index]` is a sample and its label, or its target."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, eq=False, repr=False)
class TorchDataset(IndexedDataset):
    """A map-style data set of PyTorch, converted by `from_torch`. A seed changes nothing.

    Args:
        dataset: the data set of PyTorch.
        classes: the names of the classes; empty with targets.
        steps: the number of time steps T, of the longest sample.
        features: the shape of one time step.
        all_labels: the label of every sample of `dataset`, int64; or its target, samples first.
        content: a SHA-256 over every sample of `dataset`.
        every_step: whether there is a target at each step.
        indices: the samples chosen from `dataset`; by default all.
        lengths: the number of steps of every sample of this data set; None if all have `steps`.
    """

    dataset: MapStyle
    classes: tuple[str, ...]
    steps: int
    features: tuple[int, ...]
    all_labels: Shaped[np.ndarray, "all ..."]
    content: str
    every_step: bool = False
    indices: Int[np.ndarray, " m"] | None = None
    lengths: Int[np.ndarray, " k"] | None = None

    @property
    def _all_labels(self) -> Shaped[np.ndarray, "all ..."]:
        return self.all_labels

    def batch(
        self, indices: Int[np.ndarray, " B"], seed: tuple[int, ...] | None = None
    ) -> tuple[Float[Tensor, "T B *features"], Shaped[Tensor, "..."]]:
        """The samples at `indices`, (T, B, *features), padded with zeros, and their labels, (B,), or targets; `seed` has no
        effect."""
        chosen = self._in_full_set(indices)
        labels = torch.from_numpy(self.all_labels[chosen])
        if self.every_step:
            labels = labels.movedim(0, 1)
        if len(chosen) == 0:
            return torch.zeros(self.steps, 0, *self.features), labels
        return padded([_sample(self.dataset, number)[0] for number in chosen.tolist()], self.steps), labels

    def fingerprint(self) -> str:
        """A SHA-256 over every sample as of construction, labels or targets, classes, and the choice of samples."""
        asked = self.classes if self.classes else self.every_step
        return digest(str((self.content, asked)), self.all_labels, *self._decisive)


def from_torch(dataset: MapStyle, classes: tuple[str, ...] = (), *, every_step: bool = False) -> TorchDataset:
    """Make a data set for training from a map-style data set of PyTorch.

    Every sample is read once now, for its label, to check it, and for the fingerprint, and again whenever it is in a batch.
    Samples must be the same each time: with random changes, a run could be neither repeated nor resumed. To augment samples in
    training, write a data set whose `batch(indices, seed)` draws from the seed, see `rheobase.data.Dataset`.

    Args:
        dataset: has a length, and returns pairs of a sample, `(T, *features)`, floating point and finite, a tensor or a NumPy
            array, all of one type and with the same features; and its label, an integer from 0, or its regression target,
            `(*K)`, see `rheobase.data.TargetDataset`. Samples shorter than the longest are padded with zeros at the end, and
            the data set has their `lengths`.
        classes: the names of the classes; by default "0", "1", ... up to the largest label.
        every_step: whether there is a target at each step of a sample, `(T, *K)`: numbers, or integers such as classes, which
            become int64.

    Returns:
        The data set; `subset` and `split` work on it as on any other.

    Raises:
        TypeError: if `dataset` cannot be indexed by sample number, or already is a data set for training.
        DataError: if a sample, a label or a target is not as described above, or the first sample changes when it is read
            again.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> data = from_torch(TensorDataset(torch.rand(8, 5, 3), torch.arange(8) % 2))  # 8 samples of 5 time steps
        >>> data.batch(np.array([0, 3]))[0].shape, data.classes
        (torch.Size([5, 2, 3]), ('0', '1'))
        >>> from_torch([(torch.rand(2, 3), 0), (torch.rand(7, 3), 1)]).lengths
        array([2, 7])
        >>> from_torch([(torch.rand(5, 3), 0.5), (torch.rand(5, 3), 2.0)]).labels
        array([0.5, 2. ], dtype=float32)
    """
    if isinstance(dataset, DataLoader):
        raise TypeError("dataset: got a DataLoader, expected its data set; write from_torch(loader.dataset)")
    if isinstance(dataset, Dataset):
        raise TypeError(f"dataset: a {type(dataset).__name__} already is a data set for training; use it as it is")
    if not isinstance(dataset, MapStyle) or isinstance(dataset, IterableDataset):
        raise TypeError(
            f"dataset: got a {type(dataset).__name__}, expected a map-style data set of PyTorch, with __len__ and __getitem__"
        )
    if len(dataset) == 0:
        raise DataError("dataset: the data set is empty, expected at least one sample")
    first, label = _sample(dataset, 0)
    asked = _label(label, first, 0, every_step)
    if not np.array_equal(bytes_of(first), bytes_of(_sample(dataset, 0)[0])):
        raise DataError(
            "dataset: sample 0 changed when it was read again, expected the same; remove random changes from it"
        )
    labels: list[Any] = []
    lengths = np.empty(len(dataset), np.int64)
    sha = hashlib.sha256(f"{first.dtype}{tuple(first.shape)}".encode())
    for number in range(len(dataset)):
        x, label = _sample(dataset, number)
        label = _label(label, x, number, every_step)
        lengths[number] = len(x)
        labels.append(label)
        if x.shape[1:] != first.shape[1:] or x.dtype != first.dtype:
            raise DataError(
                f"dataset: sample {number} is {x.dtype} of shape {tuple(x.shape)}, expected {first.dtype} of shape "
                f"{tuple(first.shape)} as the first, (T, *features), of which T alone may differ"
            )
        if not torch.isfinite(x).all():
            raise DataError(f"dataset: sample {number} is NaN or infinite somewhere, expected finite values")
        if _kind(label, every_step) != _kind(asked, every_step):
            raise DataError(f"dataset: sample {number} has {_said(label)}, expected one like the first, {_said(asked)}")
        sha.update(bytes_of(x).data)
    steps, features = int(lengths.max()), tuple(first.shape[1:])
    if isinstance(asked, int):
        labels_of_all, classes = check_labels(np.array(labels), classes, "dataset: labels")
    elif classes:
        raise DataError(
            f"dataset: sample 0 has {_said(asked)}, expected an integer, since classes are named: {classes}"
        )
    else:
        whole = padded(labels, steps).movedim(0, 1) if every_step else torch.stack(labels)
        labels_of_all = whole.contiguous().numpy()
    differ = None if (lengths == steps).all() else lengths
    return TorchDataset(dataset, classes, steps, features, labels_of_all, sha.hexdigest(), every_step, lengths=differ)


def _kind(label: int | Tensor, every_step: bool) -> tuple[torch.dtype, torch.Size] | None:
    """The type and the shape of a target, or of one step of it; None for a class."""
    return None if isinstance(label, int) else (label.dtype, label.shape[1:] if every_step else label.shape)


def _said(label: int | Tensor) -> str:
    return (
        f"the label {label}" if isinstance(label, int) else f"a target of {label.dtype} and shape {tuple(label.shape)}"
    )


def _sample(dataset: MapStyle, number: int) -> tuple[Tensor, Any]:
    """One sample, (T, *features), on the CPU, checked, and its label or target, unchanged."""
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
    return x, label


def _label(label: object, x: Tensor, number: int, every_step: bool) -> int | Tensor:
    """The label of a sample, or its target on the CPU, checked."""
    if not every_step:
        with suppress(TypeError):
            return index(label)  # pyright: ignore[reportArgumentType]
    if not isinstance(label, float | np.number | np.ndarray | Tensor) or (
        isinstance(label, np.ndarray) and label.dtype.kind not in "fiub"
    ):
        wanted = (
            f"a target at every step, ({len(x)}, *K)"
            if every_step
            else "an integer, or a regression target as a tensor"
        )
        raise DataError(f"dataset: sample {number} has the label {label!r}, expected {wanted}")
    target = torch.as_tensor(label).detach().cpu()
    if target.is_floating_point():
        target = target.to(state_type(x))
    elif not every_step:
        raise DataError(
            f"dataset: sample {number} has a label of {target.dtype} and shape {tuple(target.shape)}, expected an integer; "
            "regression targets are floating point, y.float(), and classes at every step need every_step=True"
        )
    elif target.dtype != torch.bool:
        target = target.long()
    if every_step and target.shape[:1] != x.shape[:1]:
        raise DataError(f"dataset: sample {number} has {_said(target)}, expected one at every step, ({len(x)}, *K)")
    if not torch.isfinite(target).all():
        raise DataError(f"dataset: sample {number} has a target that is NaN or infinite, expected finite values")
    return target
