"""Samples with regression targets in place of classes.

A value for the whole sample, such as a speed or an angle, or one at every step, such as a signal to follow. It is a separate
kind of data set because other things are asked of it: classes have names, an accuracy, and stratified splits. The samples may
come from any other data set, whose labels are ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from rheobase.data.arrays import ArrayDataset, as_tensor, check_finite, check_samples
from rheobase.data.dataset import Dataset, IndexedDataset, check_dataset, digest
from rheobase.data.lengths import check_lengths, lengths_of
from rheobase.errors import DataError
from rheobase.ops.arguments import state_type


@dataclass(frozen=True, eq=False, repr=False)
class TargetDataset(IndexedDataset):
    """Samples with regression targets in place of classes.

    `rheobase.fit` and `rheobase.evaluate` accept it like any other: by default the loss is the mean squared error, the best
    epoch is that of the smallest loss, and there is no accuracy (it is NaN). Integers `(T, n)` are classes, one at every step:
    the loss is `rheobase.losses.cross_entropy_per_step`, and accuracy is the share of correct steps.

    Args:
        x: the samples, `(T, n, *features)`, floating point, finite; or another data set, such as an `EventDataset` of
            recordings, whose samples, augmentation and lengths are used, and whose labels are ignored.
        y: the targets, a tensor or a NumPy array, finite: `(n, *K)`, or with `every_step` `(T, n, *K)`, in which T may differ
            from that of `x`, if it is that of the network's output. Floating point becomes float32, or float64 if `x` is.
            Integers become int64; with classes at every step, -100 marks steps without one.
        every_step: whether there is a target at each step, and the network's output is compared step by step. Otherwise the
            decoded output is compared, by default the mean over time.
        indices: the samples chosen from `x`; by default all.
        lengths: the number of valid steps of each sample, as for `ArrayDataset`; by default those of `x`, if it has any.

    Raises:
        TypeError: if `x` is neither tensor nor data set, or `y` is neither tensor nor array.
        DataError: if `x` is not floating point, there is no sample, a value is NaN or infinite, or there are not as many
            targets as samples; or likewise for `lengths`, which do not apply to targets at steps other than those of `x`.

    Example:
        >>> x = torch.rand(20, 8, 3)
        >>> follow = TargetDataset(x, x.cumsum(0).mean(2, keepdim=True), every_step=True)
        >>> [tuple(part.shape) for part in follow.batch(np.array([0, 3]))]
        [(20, 2, 3), (20, 2, 1)]
        >>> TargetDataset(x, x.mean((0, 2))[:, None])
        TargetDataset(8 samples, 20 steps of (3,), targets)
        >>> from rheobase.data import EventDataset, Events, ShiftTime
        >>> events = Events.from_recordings([([0, 3], [1, 0]), ([2], [1])], unit="ms", channels=2)
        >>> recordings = EventDataset(events, dt=0.001, steps=5, augment=(ShiftTime(0.001),))
        >>> TargetDataset(recordings, np.float32([0.3, 0.8]))
        TargetDataset(2 samples, 5 steps of (2,), targets)
    """

    x: Shaped[Tensor, "..."] | Dataset
    y: Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."]
    every_step: bool = False
    indices: Int[np.ndarray, " m"] | None = None
    lengths: Int[np.ndarray, " k"] | Int[Tensor, " k"] | Sequence[int] | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    _samples: Dataset = field(init=False)
    """The chosen ones, with meaningless labels."""

    def __post_init__(self) -> None:
        inner, count = self._inner()
        object.__setattr__(self, "_samples", inner)
        y, axis = as_tensor(self.y), self._axis
        if y.ndim <= axis or y.shape[axis] != count:
            wanted = (
                f"(T, {count}, *K), a target at every step" if axis else f"({count}, *K), one target for each sample"
            )
            shape = (inner.steps, count, *inner.features)
            other = shape[:2] == y.shape[:2] and not self.every_step
            remedy = "; a target at every step is every_step=True" if other else ""
            raise DataError(
                f"y: got shape {tuple(y.shape)}, expected {wanted}: x has shape {shape}, read as (T, n, *features), time first"
                f"{remedy}"
            )
        if y.is_floating_point():  # as precise as a loss is
            y = y.to(state_type(inner.batch(np.array([0]))[0]))
        elif y.dtype != torch.bool:  # in uint8 -100 would be 156
            y = y.long()
        object.__setattr__(self, "y", y)
        lengths = lengths_of(inner) if self.lengths is None else self.lengths
        if lengths is not None:
            if axis and len(y) != self.steps:
                raise DataError(
                    f"lengths: y has {len(y)} steps and x has {self.steps}; which steps of y are padding is unknown, so give "
                    "targets for the steps of x, or leave out lengths"
                )
            object.__setattr__(self, "lengths", check_lengths(lengths, len(self), self.steps, "lengths"))
        what = "y: the target of sample {sample}, in " + f"{y.dtype}, is"
        check_finite(y if axis else y.unsqueeze(0), what, self)

    def _inner(self) -> tuple[Dataset, int]:
        """The data set of the chosen samples, and the number of all samples."""
        x = self.x
        if isinstance(x, Dataset):
            check_dataset(x, "x")
            return (x if self.indices is None else x.subset(self.indices)), len(x)
        check_samples(x)
        count = x.shape[1]
        return ArrayDataset(x, np.zeros(count, np.int64), indices=self.indices, lengths=self.lengths), count

    @property
    def classes(self) -> tuple[str, ...]:
        """Empty: there are no classes."""
        return ()

    @property
    def _axis(self) -> int:
        """The axis of samples in `y`."""
        return 1 if self.every_step else 0

    @property
    def _targets(self) -> Shaped[Tensor, "..."]:
        assert isinstance(self.y, Tensor), "it was made one"
        return self.y

    @property
    def _all_labels(self) -> Shaped[np.ndarray, "all ..."]:
        return self._targets.movedim(self._axis, 0).numpy()

    @property
    def features(self) -> tuple[int, ...]:
        """The shape of one time step."""
        return self._samples.features

    @property
    def steps(self) -> int:
        """The number of time steps."""
        return self._samples.steps

    def batch(
        self, indices: Int[np.ndarray, " B"], seed: tuple[int, ...] | None = None
    ) -> tuple[Float[Tensor, "T B *features"], Shaped[Tensor, "..."]]:
        """The samples at `indices`, `(T, B, *features)`, augmented by a `seed`, and their targets, `(B, *K)`, `(T, B, *K)`."""
        chosen = torch.from_numpy(self._in_full_set(indices))
        return self._samples.batch(indices, seed)[0], self._targets.index_select(self._axis, chosen)

    def fingerprint(self) -> str:
        """A SHA-256 over the samples, the targets, the choice of samples and their lengths."""
        return digest(str((self._samples.fingerprint(), self.every_step)), self._targets.numpy(), *self._decisive)
