"""What training requires of a data set, and the few operations that every data set shares.

Training needs batches, time first, whose content does not depend on how samples are grouped: the same sample at the same epoch
must be augmented alike in a batch of 1 or of 256, in one process or in eight, before and after a resume. So a data set provides
`batch(indices, seed)` and seeds each sample's draws by the sample's own index in the full set.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from rheobase.data.lengths import check_lengths, lengths_of
from rheobase.errors import DataError


@runtime_checkable
class Dataset(Protocol):
    """The contract between data and training: labelled samples of `steps` time steps, read in batches, time first.

    A data set without classes has regression targets in place of labels, one or several numbers for each sample, `(B, *K)` in a
    batch, or if it has a property `every_step` that is True, for each step, `(T, B, *K)`; see `rheobase.data.TargetDataset`.

    A data set may also have a property `lengths`, `(n,)` integers: the number of valid steps of each sample, 1 to `steps`; the
    rest is padding. Training and evaluation then compute within `rheobase.masked`. `subset` must keep the lengths,
    `fingerprint` must contain them, and augmentation must not change them. Without the property, or if it is None, all steps
    are valid.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; a label is an index into it. Empty if targets are not classes."""
        ...

    @property
    def features(self) -> tuple[int, ...]:
        """The shape of one time step, such as (140,) or (1, 28, 28)."""
        ...

    @property
    def steps(self) -> int:
        """The number of time steps T of every sample."""
        ...

    @property
    def labels(self) -> Shaped[np.ndarray, "n ..."]:
        """The label of every sample, int64; or its target."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int | np.integer, /) -> tuple[Float[Tensor, "T *features"], Any]: ...

    def batch(
        self, indices: Int[np.ndarray, " B"], seed: tuple[int, ...] | None = None
    ) -> tuple[Float[Tensor, "T B *features"], Shaped[Tensor, "..."]]:
        """The samples at `indices` and their labels `(B,)`, or their targets; with a `seed` (integers >= 0) augmented."""
        ...

    def subset(self, indices: Int[np.ndarray, " m"]) -> "Dataset":
        """The data set of the samples at `indices`, in that order."""
        ...

    def fingerprint(self) -> str:
        """A SHA-256 over everything that `batch` is computed from, so that a resumed run can refuse other data."""
        ...


D = TypeVar("D", bound=Dataset)
S = TypeVar("S", bound="IndexedDataset")


@dataclass(frozen=True)
class Splits:
    """The parts of a data set: `validation` makes every choice, `test` and `also_test` are evaluated once, at the end."""

    train: Dataset
    validation: Dataset
    test: Dataset
    also_test: Mapping[str, Dataset] = field(default_factory=dict)


class IndexedDataset(ABC):
    """The part that all data sets here share: a choice of samples, `indices`, from a full set that is never copied.

    A subclass is a frozen dataclass with a field `indices`; None there stands for all samples. It prints only its sizes, since
    its arrays may be large.
    """

    indices: Int[np.ndarray, " n"] | None
    lengths: Int[np.ndarray, " n"] | None = None
    """The number of valid steps of every sample of this data set, if there is padding; a field of those that can have it."""

    @property
    @abstractmethod
    def _all_labels(self) -> Shaped[np.ndarray, "all ..."]:
        """The labels of the full set, or the targets, samples first."""

    @abstractmethod
    def batch(
        self, indices: Int[np.ndarray, " B"], seed: tuple[int, ...] | None = None
    ) -> tuple[Float[Tensor, "T B *features"], Shaped[Tensor, "..."]]:
        """The samples at `indices` and their labels; with a `seed` the samples are augmented."""

    @property
    def chosen(self) -> Int[np.ndarray, " n"]:
        """The index in the full set of every sample of this data set, int64."""
        return np.arange(len(self._all_labels)) if self.indices is None else self.indices

    @property
    def labels(self) -> Shaped[np.ndarray, "n ..."]:
        """The label of every sample, int64."""
        return self._all_labels if self.indices is None else self._all_labels[self.indices]

    def __len__(self) -> int:
        return len(self._all_labels) if self.indices is None else len(self.indices)

    def __repr__(self) -> str:
        known = cast(Dataset, self)
        asked = f"{len(known.classes)} classes" if known.classes else "targets"
        return f"{type(self).__name__}({len(self)} samples, {known.steps} steps of {known.features}, {asked})"

    def __getitem__(self, index: int | np.integer) -> tuple[Float[Tensor, "T *features"], Any]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} requested, the data set has {len(self)}")
        x, label = self.batch(np.array([index % len(self)]))
        return x[: None if self.lengths is None else self.lengths[index], 0], self._only(label, index)

    def _only(self, labels: Shaped[Tensor, "..."], index: int | np.integer) -> Any:
        """The label or target in a batch of the one sample at `index`, without padding."""
        if cast(Dataset, self).classes:
            return int(labels[0])
        if not getattr(self, "every_step", False):
            return labels[0]
        return labels[: None if self.lengths is None else self.lengths[index], 0]

    def __iter__(self) -> Iterator[tuple[Float[Tensor, "T *features"], Any]]:
        return (self[index] for index in range(len(self)))

    def subset(self: S, indices: Int[np.ndarray, " m"]) -> S:
        """The data set of the samples at `indices`, in that order; it shares this one's memory.

        Raises:
            IndexError: if an index is negative or beyond the last sample.
            ValueError: if there is no index.
        """
        if len(indices) == 0:
            raise ValueError("indices: a data set needs at least one sample, got none")
        chosen: dict[str, np.ndarray] = {"indices": self._in_full_set(indices)}
        if self.lengths is not None:
            chosen["lengths"] = self.lengths[np.asarray(indices)]
        return replace(self, **chosen)  # pyright: ignore[reportArgumentType]

    @property
    def _decisive(self) -> tuple[Int[np.ndarray, " n"], ...]:
        """The part of a fingerprint that depends on the choice: which samples, and how long they are."""
        return (self.chosen,) if self.lengths is None else (self.chosen, self.lengths)

    def _in_full_set(self, indices: Int[np.ndarray, " B"]) -> Int[np.ndarray, " B"]:
        """Convert indices into this data set to indices into the full set, checked."""
        indices = np.asarray(indices, dtype=np.int64)
        outside = (indices < 0) | (indices >= len(self))
        if outside.any():
            raise IndexError(f"indices: got {indices[outside][0]}, expected 0 to {len(self) - 1}")
        return indices if self.indices is None else self.indices[indices]


def split(dataset: D, fraction: float, seed: int) -> tuple[D, D]:
    """Split a data set in two at random, stratified by class.

    Args:
        dataset: the data set to split.
        fraction: the share of each class, or of all samples without classes, that goes to the second part, in (0, 1); each
            class gives at least one sample to either part.
        seed: >= 0; the same seed makes the same split.

    Returns:
        (rest, part), both in the order of `dataset`.

    Raises:
        ValueError: if the fraction or the seed is out of range, or a class or the data set has a single sample.

    Example:
        >>> import torch
        >>> from rheobase.data import ArrayDataset
        >>> data = ArrayDataset(torch.rand(5, 20, 3), np.arange(20) % 2)
        >>> rest, part = split(data, 0.1, seed=0)
        >>> len(rest), len(part), np.bincount(part.labels).tolist()
        (18, 2, [1, 1])
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction: got {fraction}, expected a number between 0 and 1")
    check_seed((seed,))
    rng = np.random.default_rng(seed)
    labels = dataset.labels if dataset.classes else np.zeros(len(dataset), dtype=np.int64)
    in_part = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        if len(members) < 2:
            what = f"class {dataset.classes[label]!r}" if dataset.classes else "it"
            raise ValueError(f"dataset: {what} has 1 sample, expected at least 2 to give one to either part")
        in_part[members[: min(max(round(fraction * len(members)), 1), len(members) - 1)]] = True
    return (
        dataset.subset(np.flatnonzero(~in_part)),  # pyright: ignore[reportReturnType]
        dataset.subset(np.flatnonzero(in_part)),
    )


def check_labels(
    labels: Shaped[np.ndarray, "..."], classes: tuple[str, ...], source: str
) -> tuple[Int[np.ndarray, " n"], tuple[str, ...]]:
    """Labels as int64, with the names of the classes (numbers if `classes` is empty).

    Raises:
        DataError: if labels are not one row of integers, are empty, or one is out of the range of `classes`.

    Example:
        >>> check_labels(np.array([1, 0], np.uint8), (), "labels")
        (array([1, 0]), ('0', '1'))
    """
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{source}: got {labels.dtype} of shape {labels.shape}, expected one integer per sample")
    if len(labels) == 0:
        raise DataError(f"{source}: the data set is empty, expected at least one sample")
    # Without names nothing else bounds a label, and a damaged one would require a network with 4 billion outputs.
    highest = (len(classes) or 65_536) - 1
    outside = (labels < 0) | (labels > highest)
    if outside.any():
        sample = int(np.flatnonzero(outside)[0])
        raise DataError(f"{source}: sample {sample} has {labels[sample]}, expected 0 to {highest}")
    labels = labels.astype(np.int64)
    return labels, classes or tuple(str(label) for label in range(labels.max() + 1))


_MEMBERS = ("classes", "features", "steps", "labels", "__len__", "__getitem__", "batch", "subset", "fingerprint")
"""Everything that `Dataset` requires."""


def check_dataset(dataset: object, name: str) -> None:
    """Refuse what is not a data set, most likely tensors or a PyTorch data set; `name` is its name in the error message.

    Raises:
        TypeError: if `dataset` lacks something that `Dataset` requires; the message says what is missing, and what to do.
        DataError: if its labels are not one index into its classes for each sample, or there is no sample; or if it has lengths
            that are not one for each sample, from 1 to its steps. For targets, only their number is checked.
    """
    if isinstance(dataset, Dataset):
        labels = np.asarray(dataset.labels)
        if dataset.classes:
            labels, _ = check_labels(labels, dataset.classes, f"{name}: labels")
        if labels.ndim == 0 or len(labels) != len(dataset):
            count = len(labels) if labels.ndim else "no row of"
            raise DataError(f"{name}: got {count} labels for {len(dataset)} samples, expected as many")
        if (lengths := lengths_of(dataset)) is not None:
            check_lengths(lengths, len(dataset), dataset.steps, f"{name}: lengths")
        return
    got = f"{name} must be a data set, got a {type(dataset).__name__}"
    if dataset is None and name == "validation":
        raise TypeError(
            "validation must be a data set, by which the best epoch is chosen, got None; split one off: train, validation = "
            "rheobase.data.split(train, 0.1, seed=0)"
        )
    if isinstance(dataset, DataLoader):
        raise TypeError(f"{got}; training makes its own batches: pass rheobase.data.from_torch(loader.dataset)")
    if isinstance(dataset, Subset) and isinstance(dataset.dataset, Dataset):
        raise TypeError(f"{got}; write dataset.subset(indices), or rheobase.data.split(dataset, fraction, seed)")
    if isinstance(dataset, Tensor | np.ndarray | list | tuple) or not hasattr(dataset, "__getitem__"):
        raise TypeError(
            f"{got}; for tensors, rheobase.data.ArrayDataset(x, labels), or TargetDataset(x, y), with x as (T, n, *features)"
        )
    lacks = ", ".join(member for member in _MEMBERS if not hasattr(dataset, member))
    raise TypeError(
        f"{got}, which lacks {lacks}, see rheobase.data.Dataset; for a PyTorch data set that returns pairs of a sample (T, "
        "*features) and a label, rheobase.data.from_torch(dataset)"
    )


def check_seed(seed: tuple[int, ...]) -> None:
    """Raise ValueError unless all parts of a seed are integers >= 0, as NumPy's generators require."""
    if any(part < 0 for part in seed):
        raise ValueError(f"seed: got {seed}, expected integers >= 0")


def generator(seed: tuple[int, ...], sample: int) -> np.random.Generator:
    """The generator of one sample's augmentation; `sample` is the index in the full set."""
    return np.random.default_rng((*seed, sample))


_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True)
class _Described:
    words: str
    kept: tuple[tuple[str, str], ...]


def in_words(changes: tuple[Any, ...]) -> tuple[Any, ...]:
    """Augmentations as they enter a fingerprint: objects that print their memory address enter by their class and attributes.

    Example:
        >>> class Mirror:
        ...     def __init__(self, often):
        ...         self.often = often
        >>> str(in_words((Mirror(0.5),))) == str(in_words((Mirror(0.5),)))
        True
    """
    return tuple(_in_words(change) for change in changes)


def _in_words(change: Any) -> Any:
    words = repr(change)
    if not _ADDRESS.search(words):
        return change
    kept = sorted(getattr(change, "__dict__", {}).items())
    return _Described(_ADDRESS.sub("", words), tuple((name, str(_in_words(value))) for name, value in kept))


def bytes_of(x: Shaped[Tensor, "..."]) -> UInt8[np.ndarray, "..."]:
    """The bytes of a tensor, those of its last axis contiguous, for a digest.

    Example:
        >>> import torch
        >>> bytes_of(torch.zeros(3, 2)).shape
        (3, 8)
    """
    x = x.detach().cpu().contiguous()
    # A last axis of size 1 may have any stride, even in a contiguous tensor; as one row it cannot.
    return x.reshape(-1).view(torch.uint8).reshape(*x.shape[:-1], -1).numpy()


def digest(description: str, *arrays: Shaped[np.ndarray, "..."]) -> str:
    """The SHA-256, as hex digits, of a description and of arrays with their shapes and types.

    Example:
        >>> digest("a", np.zeros(2)) == digest("a", np.zeros(3))
        False
    """
    sha = hashlib.sha256(description.encode())
    for array in arrays:
        sha.update(f"|{array.dtype.str}{array.shape}|".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()
