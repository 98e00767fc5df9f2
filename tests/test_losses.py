import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rheobase.losses import NO_CLASS, cross_entropy_per_step, rate_mse

both = pytest.mark.parametrize("loss", [cross_entropy_per_step, rate_mse])


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1]))
def test_cross_entropy_by_its_formula(steps, batch, classes, seed, smoothing):
    random = np.random.default_rng(seed)
    output, labels = random.normal(size=(steps, batch, classes)), random.integers(0, classes, batch)
    total = 0.0
    for t in range(steps):
        for b in range(batch):
            log_p = output[t, b] - math.log(np.exp(output[t, b]).sum())
            target = np.full(classes, smoothing / classes)
            target[labels[b]] += 1 - smoothing
            total -= (target * log_p).sum()
    loss = cross_entropy_per_step(torch.from_numpy(output), torch.from_numpy(labels), label_smoothing=smoothing)
    assert loss.item() == pytest.approx(total / (steps * batch), rel=1e-10, abs=1e-12)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_rate_mse_by_its_formula(steps, batch, classes, seed):
    random = np.random.default_rng(seed)
    spikes, labels = random.integers(0, 2, (steps, batch, classes)).astype(float), random.integers(0, classes, batch)
    total = 0.0
    for b in range(batch):
        for c in range(classes):
            total += (spikes[:, b, c].mean() - (0.7 if labels[b] == c else 0.1)) ** 2
    loss = rate_mse(torch.from_numpy(spikes), torch.from_numpy(labels), correct=0.7, wrong=0.1)
    assert loss.item() == pytest.approx(total / (batch * classes), rel=1e-10)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(2, 4), st.integers(0, 2**32 - 1), st.booleans())
def test_a_class_at_every_step_is_the_mean_over_the_steps_that_are_there(steps, batch, classes, seed, padded):
    random = np.random.default_rng(seed)
    output, labels = random.normal(size=(steps, batch, classes)), random.integers(0, classes, (steps, batch))
    lengths = random.integers(1, steps + 1, batch) if padded else np.full(batch, steps)
    total = 0.0
    for b in range(batch):
        for t in range(lengths[b]):
            total -= (output[t, b, labels[t, b]] - math.log(np.exp(output[t, b]).sum())) / lengths[b]
    mask = torch.arange(steps)[:, None] < torch.from_numpy(lengths)
    labels[~mask.numpy()] = -100
    loss = cross_entropy_per_step(torch.from_numpy(output), torch.from_numpy(labels), mask=mask if padded else None)
    assert loss.item() == pytest.approx(total / batch, rel=1e-10, abs=1e-12)


@given(st.integers(2, 6), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1), st.booleans())
def test_steps_without_a_class_do_not_count(steps, batch, classes, seed, padded):
    random = np.random.default_rng(seed)
    output = torch.from_numpy(random.normal(size=(steps, batch, classes))).requires_grad_()
    labels = torch.from_numpy(random.integers(0, classes, (steps, batch)))
    asked = torch.from_numpy(random.random((steps, batch)) < 0.6)
    mask = torch.from_numpy(random.random((steps, batch)) < 0.8) if padded else None
    loss = cross_entropy_per_step(output, torch.where(asked, labels, NO_CLASS), mask=mask)
    both_say = asked if mask is None else asked & mask
    torch.testing.assert_close(loss, cross_entropy_per_step(output, labels, mask=both_say))
    (gradient,) = torch.autograd.grad(loss, output)
    assert not gradient[~both_say].any()


def test_the_same_class_at_every_step_is_a_class_of_the_sample():
    output, labels = torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([4, 0, 2])
    for mask in (None, torch.rand(4, 3, generator=torch.Generator().manual_seed(1)) < 0.6):
        whole = cross_entropy_per_step(output, labels, mask=mask)
        assert torch.equal(cross_entropy_per_step(output, labels.expand(4, 3), mask=mask), whole)


@both
def test_gradients(loss):
    x = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, torch.tensor([4, 0, 2])), x)


@pytest.mark.parametrize("every", [True, False])
def test_class_156_in_a_byte_is_a_class(every):
    """Where -100 is compared in uint8, it is 156."""
    output = torch.rand(4, 3, 200, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.full((4, 3), 156)
    if not every:
        labels[1:, 0] = 7
    loss = cross_entropy_per_step(output, labels.to(torch.uint8))
    assert loss.item() > 4
    assert torch.equal(loss, cross_entropy_per_step(output, labels))


@both
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.int64])
def test_labels_of_any_size(loss, dtype):
    x = torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loss(x, torch.tensor([4, 0, 2], dtype=dtype)), loss(x, torch.tensor([4, 0, 2])))


@pytest.mark.usefixtures("as_a_user")
@both
class TestErrors:
    @pytest.mark.parametrize(
        ("shape", "labels", "message"),
        [
            ((4, 3, 5), [0, 1, 5], r"labels must lie in 0..4, got 0..5"),
            ((4, 3, 5), [0, -1, 2], r"labels must lie in 0..4, got -1..2"),
            ((4, 3, 5), [0, 1], r"one label per sample, got output \(4, 3, 5\) and labels \(2,\)$"),
            ((3, 4, 5), [0, 1, 2], r"got output \(3, 4, 5\) and labels \(3,\); is it batch-first\? transpose it"),
            ((3, 5), [0, 1, 2], r"output must be \(T, B, C\).*got output \(3, 5\)"),
            ((0, 3, 5), [0, 1, 2], r"output has no time steps, got shape \(0, 3, 5\)"),
            ((4, 3, 5), [[0, 1, 2]], r"one .* per sample, got .*\(1, 3\)$"),
            ((4, 3, 5), 1, r"one .* per sample, got .*\(\)$"),
        ],
    )
    def test_values(self, loss, shape, labels, message):
        with pytest.raises(ValueError, match=rf"{loss.__name__}: .*{message}"):
            loss(torch.zeros(shape), torch.tensor(labels))

    def test_labels_that_are_no_whole_numbers(self, loss):
        message = rf"{loss.__name__}: labels must be whole numbers, got torch.float32; convert them: labels.long\(\)"
        with pytest.raises(TypeError, match=message):
            loss(torch.zeros(4, 2, 5), torch.tensor([0.0, 1.7]))
