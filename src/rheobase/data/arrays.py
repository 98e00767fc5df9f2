"""Samples in memory as one tensor, time first: the entry point for your own data."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from rheobase.data.dataset import IndexedDataset, bytes_of, check_labels, digest
from rheobase.data.lengths import check_lengths
from rheobase.errors import DataError


@dataclass(frozen=True, eq=False, repr=False)
class ArrayDataset(IndexedDataset):
    """Samples in memory as one tensor, time first. There is no augmentation: a seed changes nothing.

    Args:
        x: `(T, n, *features)`, floating point, finite.
        y: (n,) integer labels, 0 to `len(classes) - 1`, a tensor or a NumPy array. For regression targets, see `TargetDataset`.
        classes: the names of the classes; by default "0", "1", ... up to the largest label.
        indices: the samples chosen from `x`; by default all.
        lengths: the number of valid steps of each sample, 1 to T, one for each sample of this data set; the rest is padding.
            None if all are valid.

    Raises:
        TypeError: if `x` is not a tensor, or `y` is neither tensor nor array.
        DataError: if `x` is not floating point or holds NaN or infinity; labels are not integers, out of range, or not one per
            sample; there is no sample; or likewise for `lengths`.

    Example:
        >>> data = ArrayDataset(torch.rand(5, 8, 3), np.arange(8) % 2)
        >>> x, y = data.batch(np.array([0, 3]))
        >>> x.shape, y
        (torch.Size([5, 2, 3]), tensor([0, 1]))
        >>> padded = ArrayDataset(torch.rand(5, 3, 4), np.array([0, 1, 0]), lengths=[5, 2, 3])
        >>> padded.batch(np.array([1]))[0].shape, padded[1][0].shape  # with padding, and without
        (torch.Size([5, 1, 4]), torch.Size([2, 4]))
    """

    x: Shaped[Tensor, "..."]
    y: Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."]
    classes: tuple[str, ...] = ()
    indices: Int[np.ndarray, " m"] | None = None
    lengths: Int[np.ndarray, " k"] | Int[Tensor, " k"] | Sequence[int] | None = None  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        check_samples(self.x)
        y = as_tensor(self.y).numpy()
        if y.dtype.kind == "f":
            raise DataError(
                f"labels: got {y.dtype} of shape {y.shape}, expected one integer per sample; for regression targets, "
                "rheobase.data.TargetDataset(x, y)"
            )
        labels, classes = check_labels(y, self.classes, "labels")
        if len(labels) != self.x.shape[1]:
            raise DataError(
                f"labels: got {len(labels)} for {self.x.shape[1]} samples: x has shape {tuple(self.x.shape)}, "
                "read as (T, n, *features), time first"
            )
        object.__setattr__(self, "y", labels)
        object.__setattr__(self, "classes", classes)
        if self.lengths is not None:
            object.__setattr__(self, "lengths", check_lengths(self.lengths, len(self), self.steps, "lengths"))
        check_finite(self.x, "x: sample {sample} is", self)

    @property
    def features(self) -> tuple[int, ...]:
        """The shape of one time step."""
        return tuple(self.x.shape[2:])

    @property
    def steps(self) -> int:
        """The number of time steps."""
        return self.x.shape[0]

    @property
    def _all_labels(self) -> Int[np.ndarray, " all"]:
        return np.asarray(self.y)

    def batch(
        self, indices: Int[np.ndarray, " B"], seed: tuple[int, ...] | None = None
    ) -> tuple[Float[Tensor, "T B *features"], Int[Tensor, " B"]]:
        """The samples at `indices`, `(T, B, *features)`, and their labels, `(B,)`; `seed` has no effect."""
        chosen = torch.from_numpy(self._in_full_set(indices))
        return _samples(self.x, chosen.to(self.x.device)), torch.from_numpy(self._all_labels)[chosen]

    def fingerprint(self) -> str:
        """A SHA-256 over the tensor, the labels, the classes, the choice of samples and their lengths."""
        what = str((self.x.dtype, tuple(self.x.shape), self.classes))
        return digest(what, bytes_of(self.x), self._all_labels, *self._decisive)


def _samples(x: Shaped[Tensor, "T n *features"], chosen: Int[Tensor, " B"]) -> Shaped[Tensor, "T B *features"]:
    if x.stride(0) == 0:  # the same at every step, as from `encoding.direct`; so are the samples
        return x[0].index_select(0, chosen).expand(len(x), -1, *x.shape[2:])
    # `index_select` is faster, but first copies all of a view.
    return x.index_select(1, chosen) if x.is_contiguous() else x[:, chosen]


def check_finite(values: Shaped[Tensor, "steps n *rest"], what: str, dataset: IndexedDataset) -> None:
    """Refuse NaN and infinity, except in the padding of `dataset`, which is never used; `what` begins the message.

    Raises:
        DataError: naming the sample, and the step if there are several.
    """
    wrong = ~torch.isfinite(values)
    if not wrong.any():
        return
    wrong = wrong.reshape(*wrong.shape[:2], -1).any(2).cpu()
    if dataset.lengths is not None and len(wrong) > 1:
        there = torch.zeros(wrong.shape, dtype=torch.bool)
        there[:, dataset.chosen] = torch.arange(len(wrong)).unsqueeze(1) < torch.as_tensor(dataset.lengths)
        wrong &= there
    for step, sample in wrong.nonzero().tolist():
        when = f" at step {step}" if len(wrong) > 1 else ""
        raise DataError(f"{what.format(sample=sample)} NaN or infinite{when}, expected finite values")


def check_samples(x: object) -> None:
    """Refuse anything but a tensor of samples, time first.

    Raises:
        TypeError: if `x` is not a tensor.
        DataError: if it is not floating point, of another shape, or empty.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x: got a {type(x).__name__}, expected a torch.Tensor; convert it: torch.as_tensor(x)")
    if x.ndim < 3 or x.shape[0] == 0:
        raise DataError(f"x: got shape {tuple(x.shape)}, expected (T, n, *features), time first")
    if not x.is_floating_point():
        raise DataError(f"x: got {x.dtype}, expected a floating point tensor; convert it with x.float()")
    if x.shape[1] == 0:
        raise DataError(f"x: got shape {tuple(x.shape)}: the data set is empty, expected at least one sample")


def as_tensor(y: object) -> Tensor:
    """Labels or targets as a tensor on the CPU.

    Raises:
        TypeError: if `y` is neither a tensor nor an array of numbers.
    """
    if not isinstance(y, np.ndarray | Tensor):
        raise TypeError(
            f"y: got a {type(y).__name__}, expected a tensor or a NumPy array; convert it: torch.as_tensor(y)"
        )
    if isinstance(y, Tensor):
        return y.detach().cpu()
    if y.dtype.kind not in "fiub":
        raise TypeError(f"y: got an array of {y.dtype}, expected numbers")
    # A copy, since PyTorch accepts no array that is read-only, reversed, or in foreign byte order.
    return torch.from_numpy(y.astype(y.dtype.newbyteorder("=")).copy())
