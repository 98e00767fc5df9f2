"""Numbers as targets: their shapes, their types, parts of them, and what is refused. (Labels are in `test_dataset`.)"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import rheobase as rb
from rheobase.data import ArrayDataset, EventDataset, Events, ShiftChannels, TargetDataset, batches, split
from rheobase.errors import DataError

X = torch.rand(6, 5, 3, generator=torch.Generator().manual_seed(0))


@given(st.integers(1, 5), st.integers(1, 6), st.lists(st.integers(1, 3), max_size=2), st.booleans(), st.data())
def test_a_batch_is_the_samples_with_their_targets(steps, samples, shape, every_step, data) -> None:
    x = torch.arange(steps * samples * 2, dtype=torch.float32).view(steps, samples, 2)
    y = torch.randn(*([steps] if every_step else []), samples, *shape)
    targets = TargetDataset(x, y, every_step=every_step)
    chosen = np.array(data.draw(st.lists(st.integers(0, samples - 1), min_size=1, max_size=6)))
    x_found, y_found = targets.batch(chosen)
    assert torch.equal(x_found, x[:, chosen])
    assert torch.equal(y_found, y[:, chosen] if every_step else y[chosen])
    part = targets.subset(chosen)
    assert torch.equal(part.batch(np.arange(len(chosen)))[1], y_found)
    assert len(part) == len(part.labels) == len(chosen)
    one_x, one_y = part[0]
    assert torch.equal(one_x, x[:, chosen[0]])
    assert torch.equal(one_y, y[:, chosen[0]] if every_step else y[chosen[0]])


def test_arrays_and_types() -> None:
    assert TargetDataset(X, np.zeros(5)).batch(np.array([0]))[1].dtype == torch.float32  # as x, so that they compare
    assert TargetDataset(X.double(), torch.zeros(5)).batch(np.array([0]))[1].dtype == torch.float64
    short = TargetDataset(X.bfloat16(), torch.full((5, 1), 70_000.0))  # float16 has no such number, NumPy no bfloat16
    assert len(short) == 5
    assert torch.equal(short.batch(np.array([3]))[1], torch.tensor([[70_000.0]]))
    assert TargetDataset(X, np.zeros((6, 5), np.int64), every_step=True).batch(np.array([0]))[1].dtype == torch.int64


def test_arrays_that_pytorch_does_not_take() -> None:
    y = np.arange(5.0)
    frozen = y.copy()
    frozen.setflags(write=False)
    for odd in (frozen, y[::-1].copy()[::-1], y.astype(">f8")):
        assert np.array_equal(TargetDataset(X, odd).labels, y)
    assert np.array_equal(ArrayDataset(X, np.arange(5)[::-1]).labels, [4, 3, 2, 1, 0])


def test_splits_and_batches() -> None:
    targets = TargetDataset(X, torch.arange(5.0))
    rest, part = split(targets, 0.4, seed=3)
    assert len(rest) == 3
    assert sorted([*rest.labels, *part.labels]) == [0, 1, 2, 3, 4]
    assert [len(y) for _, y in batches(targets, 2)] == [2, 2, 1]
    assert repr(targets) == "TargetDataset(5 samples, 6 steps of (3,), targets)"
    with pytest.raises(ValueError, match="dataset: it has 1 sample, expected at least 2"):
        split(targets.subset(np.array([0])), 0.4, seed=3)


def test_lengths_go_with_their_samples() -> None:
    lengths = [1, 2, 3, 4, 6]
    targets = TargetDataset(X, torch.rand(6, 5), every_step=True, lengths=lengths)
    part = targets.subset(np.array([3, 0]))
    assert part.lengths is not None
    assert list(part.lengths) == [4, 1]
    assert [len(value) for value in part[0]] == [4, 4]
    assert TargetDataset(X, torch.rand(5, 2), lengths=lengths)[1][1].shape == (2,)


def test_a_fingerprint_contains_the_targets_and_how_they_are_read() -> None:
    x = torch.rand(4, 4, 1)
    y = torch.rand(4, 4)
    prints = [
        TargetDataset(x, y).fingerprint(),
        TargetDataset(x, y, every_step=True).fingerprint(),
        TargetDataset(x, y + 1).fingerprint(),
        TargetDataset(x + 1, y).fingerprint(),
        TargetDataset(x, y, lengths=[1, 2, 3, 4]).fingerprint(),
        TargetDataset(x, y).subset(np.array([1, 0, 2, 3])).fingerprint(),
    ]
    assert len(set(prints)) == len(prints)
    assert TargetDataset(x, y).fingerprint() == TargetDataset(x.clone(), y.clone()).fingerprint()


def test_a_single_feature_with_any_stride_has_a_fingerprint() -> None:
    odd = torch.rand(1, 6, 5).permute(1, 2, 0)
    assert odd.is_contiguous()
    assert odd.stride(2) != 1
    plain = ArrayDataset(odd.clone(memory_format=torch.contiguous_format), np.arange(5))
    assert ArrayDataset(odd, np.arange(5)).fingerprint() == plain.fingerprint()


@pytest.mark.parametrize(
    ("y", "settings", "kind", "message"),
    [
        (np.array(["a"] * 5), {}, TypeError, "y: got an array of <U1, expected numbers"),
        ([1.0] * 5, {}, TypeError, "y: got a list, expected a tensor or a NumPy array"),
        (np.zeros(4), {}, DataError, r"y: got shape \(4,\), expected \(5, \*K\), one target for each sample"),
        (np.zeros((6, 5, 1)), {}, DataError, r"got shape \(6, 5, 1\), .*a target at every step is every_step=True"),
        (np.zeros(5), {"every_step": True}, DataError, r"got shape \(5,\), expected \(T, 5, \*K\), a target at every"),
        (
            np.full(5, np.nan),
            {},
            DataError,
            "y: the target of sample 0, in torch.float32, is NaN or infinite, expected",
        ),
        (np.full(5, 1e300), {}, DataError, "y: the target of sample 0, in torch.float32, is NaN or infinite, expected"),
        (np.zeros((7, 5)), {"every_step": True, "lengths": [1] * 5}, DataError, "lengths: y has 7 steps and x has 6; "),
        (np.zeros(5), {"lengths": [1, 2, 3, 4, 7]}, DataError, "lengths: sample 4 has 7, expected 1 to 6"),
    ],
)
def test_bad_targets_are_refused(y: Any, settings: dict[str, Any], kind: type, message: str, as_a_user: None) -> None:
    with pytest.raises(kind, match=message):
        TargetDataset(X, y, **settings)


def test_what_stands_in_padding_may_be_anything() -> None:
    lengths = [6, 2, 3, 6, 1]
    there = rb.mask_of(lengths, 6).unsqueeze(2)
    x, y = torch.where(there, X, torch.nan), torch.where(there, X[..., :1], torch.inf)
    classes = ArrayDataset(x, np.arange(5), lengths=lengths)
    TargetDataset(x, np.zeros(5), lengths=lengths)
    follow = TargetDataset(x, y, every_step=True, lengths=lengths)
    assert follow.subset(np.array([4, 1]))[1][1].isfinite().all()  # whose lengths are of the chosen samples alone
    assert classes.subset(np.array([2]))[0][0].isfinite().all()
    with pytest.raises(DataError, match="x: sample 4 is NaN or infinite at step 1, expected finite values"):
        ArrayDataset(x, np.arange(5), lengths=[6, 2, 3, 6, 2])
    with pytest.raises(
        DataError, match=r"y: the target of sample 2, in torch\.float32, is NaN or infinite at step 3, expected"
    ):
        TargetDataset(X, y, every_step=True, lengths=[6, 2, 4, 6, 1])
    with pytest.raises(DataError, match="x: sample 4 is NaN or infinite at step 1"):
        ArrayDataset(x, np.arange(5))
    network = rb.Sequential(nn.Linear(3, 4), rb.LIF(4), nn.Linear(4, 1), rb.LeakyReadout(1))
    result = rb.fit(network, follow, follow, settings=rb.Training(epochs=1), display=rb.training.Display())
    assert math.isfinite(result.metrics[0]["loss"])
    assert math.isfinite(result.validation.loss)


def test_numbers_in_place_of_labels_name_the_remedy() -> None:
    with pytest.raises(DataError, match=r"labels: got float32 .*rheobase.data.TargetDataset\(x, y\)"):
        ArrayDataset(X, torch.rand(5))


def recordings(lengths: list[int] | None = None) -> EventDataset:
    times = [np.sort(np.random.default_rng(k).uniform(0, 0.1, 20)) for k in range(6)]
    events = Events.from_recordings([(t, np.arange(20) % 4) for t in times], unit="s", channels=4)
    return EventDataset(events, dt=0.01, steps=10, augment=(ShiftChannels(2),), lengths=lengths)


@pytest.mark.parametrize("every_step", [False, True])
def test_samples_of_another_data_set(every_step: bool) -> None:
    samples, y = recordings(), torch.rand(*([10] if every_step else []), 6, 2)
    data = TargetDataset(samples, y, every_step=every_step)
    assert (data.steps, data.features, data.classes, len(data)) == (10, (4,), (), 6)
    part = data.subset(np.array([5, 0, 2])).subset(np.array([1, 2]))  # 0 and 2
    x, targets = part.batch(np.array([1, 0]), (3, 1))
    assert torch.equal(x, samples.batch(np.array([2, 0]), (3, 1))[0])
    assert not torch.equal(x, samples.batch(np.array([2, 0]))[0])  # it was augmented
    assert torch.equal(targets, y[:, [2, 0]] if every_step else y[[2, 0]])
    prints = [
        data.fingerprint(),
        part.fingerprint(),
        TargetDataset(samples.augmented(), y, every_step=every_step).fingerprint(),
        TargetDataset(samples, y + 1, every_step=every_step).fingerprint(),
        TargetDataset(samples.subset(np.array([0, 2])), y[..., [0, 2], :], every_step=every_step).fingerprint(),
    ]
    assert len(set(prints)) == len(prints)
    network = rb.Sequential(nn.Linear(4, 8), rb.LIF(8), nn.Linear(8, 2), rb.LeakyReadout(2))
    result = rb.fit(network, part, data, settings=rb.Training(epochs=1), display=rb.training.Display())
    assert math.isfinite(result.validation.loss)


def test_lengths_of_another_data_set_are_kept() -> None:
    data = TargetDataset(recordings([1, 2, 3, 4, 5, 10]), torch.rand(10, 6), every_step=True)
    assert data.lengths is not None
    assert list(data.subset(np.array([4, 1])).lengths) == [5, 2]
    assert [len(value) for value in data[2]] == [3, 3]
    with pytest.raises(DataError, match="lengths: y has 7 steps and x has 10"):
        TargetDataset(recordings([1, 2, 3, 4, 5, 10]), torch.rand(7, 6), every_step=True)
    with pytest.raises(DataError, match=r"y: got shape \(5,\), expected \(6, \*K\).*x has shape \(10, 6, 4\)"):
        TargetDataset(recordings(), torch.rand(5))


def test_recordings_without_labels_are_not_to_be_told_apart() -> None:
    with pytest.raises(
        ValueError, match=r"several classes, got one, 'no label'.*rheobase\.data\.TargetDataset\(train, y\)"
    ):
        rb.fit(rb.LIF(4), recordings(), recordings(), display=rb.training.Display())
