"""Samples that lie in memory as one tensor, time first: the way in for data of one's own.

With each sample goes the class that it belongs to, or numbers that a network is to come close to: a value for the whole sample,
such as a speed or an angle, or one at every step, such as a signal to follow. These are two data sets because they are asked
for different things: of classes there are names, a share that is right, and splits in proportion.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from rheobase.data.dataset import IndexedDataset, bytes_of, check_labels, digest
from rheobase.data.lengths import check_lengths
from rheobase.errors import DataError
from rheobase.ops.arguments import state_type


class _InMemory(IndexedDataset):
    """What both share: the samples `x`."""

    x: Shaped[Tensor, "..."]

    @property
    def features(self) -> tuple[int, ...]:
        """The shape of one time step."""
        return tuple(self.x.shape[2:])

    @property
    def steps(self) -> int:
        """The number of time steps."""
        return self.x.shape[0]

    def _samples(self, chosen: Int[Tensor, " B"]) -> Float[Tensor, "T B *features"]:
        """The samples at these indices of the full set."""
        x, there = self.x, chosen.to(self.x.device)
        if x.stride(0) == 0:  # the same at every step, as `encoding.direct` makes it; so are the samples
            return x[0].index_select(0, there).expand(len(x), -1, *x.shape[2:])
        # `index_select` is the faster, but first copies all of a view.
        return x.index_select(1, there) if x.is_contiguous() else x[:, there]

    def _check_finite(self, values: Shaped[Tensor, "steps n *rest"], what: str, *, at_steps: bool = True) -> None:
        """Refuse NaN and infinity, but in padding, where nobody looks."""
        wrong = ~torch.isfinite(values)
        if not wrong.any():
            return
        wrong = wrong.reshape(*wrong.shape[:2], -1).any(2).cpu()
        if self.lengths is not None and at_steps:
            there = torch.zeros(wrong.shape, dtype=torch.bool)
            there[:, self.chosen] = torch.arange(len(wrong)).unsqueeze(1) < torch.as_tensor(self.lengths)
            wrong &= there
        for step, sample in wrong.nonzero().tolist():
            when = f" at step {step}" if at_steps else ""
            raise DataError(f"{what.format(sample=sample)} NaN or infinite{when}, expected finite values")


@dataclass(frozen=True, eq=False, repr=False)
class ArrayDataset(_InMemory):
    """Samples that lie in memory as one tensor, time first. It has no augmentation: a seed changes nothing.

    Args:
        x: `(T, n, *features)`, floating point, finite.
        y: (n,) integer labels, 0 to `len(classes) - 1`, a tensor or a NumPy array. For numbers to come close to, see
            `TargetDataset`.
        classes: the names of the classes; by default "0", "1", ... up to the largest label.
        indices: the samples chosen from `x`; by default all.
        lengths: how many steps of each sample are real, 1 to T, one for each sample of this data set; the rest is padding. None
            where all are.

    Raises:
        TypeError: if `x` is no tensor, or `y` neither tensor nor array.
        DataError: if `x` is not floating point or holds NaN or infinity; labels are not integers, out of range, or not
            one per sample; there is no sample; or likewise of `lengths`.

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
        _check_samples(self.x)
        y = _tensor(self.y).numpy()
        if y.dtype.kind == "f":
            raise DataError(
                f"labels: got {y.dtype} of shape {y.shape}, expected one integer per sample; numbers that a network is "
                "to come close to are rheobase.data.TargetDataset(x, y)"
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
        self._check_finite(self.x, "x: sample {sample} is")

    @property
    def _all_labels(self) -> Int[np.ndarray, " all"]:
        return np.asarray(self.y)

    def batch(
        self, indices: Int[np.ndarray, " B"], seed: tuple[int, ...] | None = None
    ) -> tuple[Float[Tensor, "T B *features"], Int[Tensor, " B"]]:
        """The samples at `indices`, `(T, B, *features)`, and their labels, `(B,)`; `seed` has no effect."""
        chosen = torch.from_numpy(self._in_full_set(indices))
        return self._samples(chosen), torch.from_numpy(self._all_labels)[chosen]

    def fingerprint(self) -> str:
        """A SHA-256 over the tensor, the labels, the classes, the choice of samples and their lengths."""
        what = str((self.x.dtype, tuple(self.x.shape), self.classes))
        return digest(what, bytes_of(self.x), self._all_labels, *self._decisive)


@dataclass(frozen=True, eq=False, repr=False)
class TargetDataset(_InMemory):
    """Samples in memory with numbers that a network is to come close to, in place of classes; no augmentation.

    `rheobase.fit` and `rheobase.evaluate` take it as any other: the loss is the mean squared error unless you give one, the
    best epoch is that of the smallest loss, and there is no accuracy (it is NaN). Integers `(T, n)` are classes, one at every
    step: the loss is `rheobase.losses.cross_entropy_per_step`, and accuracy is the share of steps that are right.

    Args:
        x: `(T, n, *features)`, floating point, finite.
        y: the targets, a tensor or a NumPy array, finite: `(n, *K)`, or with `every_step` `(T, n, *K)`, in which T may be
            another one than that of `x`, if the network's output has it. Floating point becomes float32, float64 where `x` is.
            Integers stay; of classes at every step, -100 stands where there is none.
        every_step: whether there is a target at each step, and the network's output is compared step by step. Otherwise what is
            decoded from it, its mean over time unless you say otherwise, is.
        indices: the samples chosen from `x`; by default all.
        lengths: how many steps of each sample are real, as for `ArrayDataset`.

    Raises:
        TypeError: if `x` is no tensor, or `y` neither tensor nor array.
        DataError: if `x` is not floating point, there is no sample, a value is NaN or infinite, or there are not as many
            targets as samples; or likewise of `lengths`, which say nothing of targets at other steps than those of `x`.

    Example:
        >>> x = torch.rand(20, 8, 3)
        >>> follow = TargetDataset(x, x.cumsum(0).mean(2, keepdim=True), every_step=True)
        >>> [tuple(part.shape) for part in follow.batch(np.array([0, 3]))]
        [(20, 2, 3), (20, 2, 1)]
        >>> TargetDataset(x, x.mean((0, 2))[:, None])
        TargetDataset(8 samples, 20 steps of (3,), targets)
    """

    x: Shaped[Tensor, "..."]
    y: Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."]
    every_step: bool = False
    indices: Int[np.ndarray, " m"] | None = None
    lengths: Int[np.ndarray, " k"] | Int[Tensor, " k"] | Sequence[int] | None = None  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        _check_samples(self.x)
        y = _tensor(self.y)
        count, axis = self.x.shape[1], self._axis
        if y.ndim <= axis or y.shape[axis] != count:
            wanted = (
                f"(T, {count}, *K), a target at every step" if axis else f"({count}, *K), one target for each sample"
            )
            other = self.x.shape[:2] == y.shape[:2] and not self.every_step
            remedy = "; a target at every step is every_step=True" if other else ""
            raise DataError(
                f"y: got shape {tuple(y.shape)}, expected {wanted}: x has shape {tuple(self.x.shape)}, read as "
                f"(T, n, *features), time first{remedy}"
            )
        if y.is_floating_point():  # as precise as a loss is
            y = y.to(state_type(self.x))
        object.__setattr__(self, "y", y)
        if self.lengths is not None:
            if axis and len(y) != self.steps:
                raise DataError(
                    f"lengths: y has {len(y)} steps and x has {self.steps}; which steps of y are padding is not known, so give "
                    "targets for the steps of x, or leave out lengths"
                )
            object.__setattr__(self, "lengths", check_lengths(self.lengths, len(self), self.steps, "lengths"))
        self._check_finite(self.x, "x: sample {sample} is")
        what = "y: the target of sample {sample}, in " + f"{y.dtype}, is"
        self._check_finite(y if axis else y.unsqueeze(0), what, at_steps=bool(axis))

    @property
    def classes(self) -> tuple[str, ...]:
        """There are none."""
        return ()

    @property
    def _axis(self) -> int:
        """Where samples are in `y`."""
        return 1 if self.every_step else 0

    @property
    def _targets(self) -> Shaped[Tensor, "..."]:
        assert isinstance(self.y, Tensor), "it was made one"
        return self.y

    @property
    def _all_labels(self) -> Shaped[np.ndarray, "all ..."]:
        return self._targets.movedim(self._axis, 0).numpy()

    def batch(
        self, indices: Int[np.ndarray, " B"], seed: tuple[int, ...] | None = None
    ) -> tuple[Float[Tensor, "T B *features"], Shaped[Tensor, "..."]]:
        """The samples at `indices`, `(T, B, *features)`, and their targets, `(B, *K)` or `(T, B, *K)`; `seed` has no effect."""
        chosen = torch.from_numpy(self._in_full_set(indices))
        return self._samples(chosen), self._targets.index_select(self._axis, chosen)

    def fingerprint(self) -> str:
        """A SHA-256 over the tensor, the targets, the choice of samples and their lengths."""
        what = str((self.x.dtype, tuple(self.x.shape), self.every_step))
        return digest(what, bytes_of(self.x), self._targets.numpy(), *self._decisive)


def _check_samples(x: object) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"x: got a {type(x).__name__}, expected a torch.Tensor; convert it: torch.as_tensor(x)")
    if x.ndim < 3 or x.shape[0] == 0:
        raise DataError(f"x: got shape {tuple(x.shape)}, expected (T, n, *features), time first")
    if not x.is_floating_point():
        raise DataError(f"x: got {x.dtype}, expected a floating point tensor; convert it with x.float()")
    if x.shape[1] == 0:
        raise DataError(f"x: got shape {tuple(x.shape)}: the data set is empty, expected at least one sample")


def _tensor(y: object) -> Tensor:
    if not isinstance(y, np.ndarray | Tensor):
        raise TypeError(
            f"y: got a {type(y).__name__}, expected a tensor or a NumPy array; convert it: torch.as_tensor(y)"
        )
    if isinstance(y, Tensor):
        return y.detach().cpu()
    if y.dtype.kind not in "fiub":
        raise TypeError(f"y: got an array of {y.dtype}, expected numbers")
    # A copy, for PyTorch takes no array that is read-only, backwards, or in another machine's order of bytes.
    return torch.from_numpy(y.astype(y.dtype.newbyteorder("=")).copy())
