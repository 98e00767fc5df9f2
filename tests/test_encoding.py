import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rheobase import encoding

shapes = st.sampled_from([(0,), (1,), (3,), (2, 5), (2, 1, 4, 3)])


def uniform(seed, shape, dtype=torch.float64):
    return torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@given(shapes, st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_direct_repeats_without_copying(shape, steps, seed):
    x = uniform(seed, shape) - 0.5
    y = encoding.direct(x, steps)
    assert y.shape == (steps, *shape)
    assert all(torch.equal(step, x) for step in y)
    assert y.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()


def test_direct_gathers_gradients():
    x = torch.ones(2, 3, requires_grad=True)
    encoding.direct(x, 5).sum().backward()
    assert torch.equal(x.grad, torch.full((2, 3), 5.0))


@pytest.mark.parametrize("p", [0.02, 0.3, 0.9])
def test_rate_draws_as_often_as_asked_at_every_step_and_value(p):
    steps, values = 400, 400
    spikes = encoding.rate(torch.full((1, values), p), steps, generator=torch.Generator().manual_seed(0))[:, 0].double()
    deviation = math.sqrt(p * (1 - p))
    assert abs(spikes.mean() - p) < 4 * deviation / math.sqrt(steps * values)
    for axis in (0, 1):
        assert (spikes.mean(axis) - p).abs().max() < 5 * deviation / math.sqrt(400)
    # Independent: neighbours in time and in space fire together by chance alone.
    for together in (spikes[1:] * spikes[:-1], spikes[:, 1:] * spikes[:, :-1]):
        assert abs(together.mean() - p * p) < 5 * p / math.sqrt(together.numel())


@given(shapes, st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from([torch.bfloat16, torch.float32]))
def test_rate_depends_on_its_generator_alone(shape, steps, seed, dtype):
    x = uniform(seed, shape, torch.float32).to(dtype)
    first = encoding.rate(x, steps, generator=torch.Generator().manual_seed(7))
    second = encoding.rate(x, steps, generator=torch.Generator().manual_seed(7))
    assert first.shape == (steps, *shape)
    assert first.dtype == dtype
    assert torch.equal(first, second)
    assert bool(((first == 0) | (first == 1)).all())


@given(
    shapes,
    st.integers(1, 3000),
    st.integers(0, 2**32 - 1),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
def test_latency_spikes_once_at_the_time_that_the_value_says(shape, steps, seed, dtype):
    x = uniform(seed, shape).to(dtype)
    x.flatten()[::3] = 0  # where x is contiguous, a view: zeros are common, and at the edge of time
    spikes = encoding.latency(x, steps)
    assert spikes.shape == (steps, *shape)
    assert spikes.dtype == dtype
    fired = spikes.float().sum(0)
    assert torch.equal(fired, (x >= 0.01).float())
    when = spikes.float().argmax(0)[fired == 1].double()
    value = x[fired == 1].double()
    if steps > 1:  # the value comes back from the time
        assert bool(((1 - when / (steps - 1) - value).abs() <= 0.5 / (steps - 1) + 1e-6).all())
    earlier = value.argsort(descending=True)
    assert bool((when[earlier].diff() >= 0).all())


def test_latency_at_the_ends():
    x = torch.tensor([[1.0, 0.01, 0.0099, 0.0]])
    assert encoding.latency(x, 5).nonzero().tolist() == [[0, 0, 0], [4, 0, 1]]
    assert encoding.latency(x, 5, threshold=0.0)[4, 0].tolist() == [0, 1, 1, 1]
    assert encoding.latency(x, 1)[0, 0].tolist() == [1, 1, 0, 0]


@given(st.floats(0.02, 0.5), st.integers(0, 2**32 - 1), st.sampled_from([(2, 3), (1, 2, 2), (2, 0)]))
def test_delta_follows_a_slow_signal_to_within_the_threshold(threshold, seed, shape):
    # Slow: it never moves by more than one threshold a step, so that no change has to wait.
    moves = threshold * (2 * uniform(seed, (200, *shape)) - 1)
    signal = moves.cumsum(0)
    spikes = encoding.delta(signal, threshold, off_spikes=True)
    up, down = spikes.chunk(2, dim=2)
    assert spikes.shape == (200, shape[0], 2 * shape[1], *shape[2:])
    assert not bool((up * down).any())
    reconstructed = threshold * (up - down).cumsum(0)
    assert bool(((reconstructed - signal).abs() <= threshold * (1 + 1e-9)).all())
    assert torch.equal(encoding.delta(signal, threshold), up)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_delta_spreads_a_jump_over_the_steps_after_it(dtype):
    signal = torch.ones(700, 1, 1, dtype=dtype)
    spikes = encoding.delta(signal, 1 / 512)
    assert spikes.flatten().tolist() == [1] * 512 + [0] * 188


def test_delta_does_not_drift():
    steps = torch.arange(1, 20_000, dtype=torch.float64).view(-1, 1, 1)
    ramp = (0.1 * steps + 0.05).float()
    assert encoding.delta(ramp, 0.1).sum() == len(ramp)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.007, 1 / 3])
def test_delta_of_a_grid_of_the_threshold_spikes_at_every_step(threshold, dtype):
    """Whichever way it was rounded: as multiples, as fractions, or added up."""
    steps = torch.cat((torch.arange(51), torch.arange(50, -51, -1), torch.arange(-49, 1)))
    grids = [threshold * steps.to(dtype), (threshold * steps.double()).to(dtype)]
    grids += [] if dtype == torch.float16 else [torch.full((50,), threshold, dtype=dtype).cumsum(0)]
    for grid in grids:
        spikes = encoding.delta(grid.view(-1, 1, 1), threshold, off_spikes=True)[:, 0]
        moves = grid.diff(prepend=grid.new_zeros(1)).sign()
        assert (spikes[:, 0] - spikes[:, 1]).tolist() == moves.tolist()


def test_delta_counts_no_change_that_is_smaller():
    signal = torch.tensor([0.0999, 0.1, 0.1999, 0.2, 0.1001, 0.1, 0.0]).view(-1, 1, 1)
    spikes = encoding.delta(signal, 0.1, off_spikes=True)[:, 0]
    assert (spikes[:, 0] - spikes[:, 1]).tolist() == [0, 1, 0, 1, 0, -1, -1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_delta_rests_where_rounding_is_larger_than_the_threshold(dtype):
    signal = torch.full((4000, 1, 1), 3.0, dtype=dtype)
    assert encoding.delta(signal, 1e-3, off_spikes=True).sum() == 3000
    far = torch.full((40, 1, 1), 3e8, dtype=dtype)
    assert encoding.delta(far, 0.1, off_spikes=True)[:, 0].sum(0).tolist() == [40, 0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_delta_refuses_what_is_no_number(bad):
    signal = torch.zeros(5, 2, 3)
    signal[3:, 1, 2] = bad
    with pytest.raises(ValueError, match=r"delta: x must be finite, got NaN or infinity at step 3; .*nan_to_num"):
        encoding.delta(signal)


@pytest.mark.parametrize(("off_spikes", "features"), [(False, 3), (True, 6)])
def test_delta_of_nothing(off_spikes, features):
    assert encoding.delta(torch.zeros(0, 2, 3), off_spikes=off_spikes).shape == (0, 2, features)
    assert encoding.delta(torch.zeros(4, 0, 3), off_spikes=off_spikes).shape == (4, 0, features)


def test_delta_leaves_its_input_alone_and_takes_any_layout():
    x = torch.randn(4, 9, 3, generator=torch.Generator().manual_seed(0)).transpose(0, 1)
    copy = x.clone()
    spikes = encoding.delta(x, 0.3)
    assert torch.equal(x, copy)
    assert torch.equal(encoding.delta(x.contiguous(), 0.3), spikes)
    assert torch.equal(encoding.delta(x[:, :1].expand(9, 4, 3), 0.3), spikes[:, :1].expand(9, 4, 3))
    assert not encoding.delta(x.requires_grad_(), 0.3).requires_grad


@pytest.mark.usefixtures("as_a_user")
class TestErrors:
    @pytest.mark.parametrize("encode", [encoding.direct, encoding.rate, encoding.latency])
    def test_type_and_steps(self, encode):
        message = rf"{encode.__name__}: x must be floating point, got torch.uint8; for bytes, x.float\(\) / 255"
        with pytest.raises(TypeError, match=message):
            encode(torch.zeros(2, 3, dtype=torch.uint8), 5)
        with pytest.raises(TypeError, match=f"{encode.__name__}: x must be a torch.Tensor, got ndarray"):
            encode(np.zeros((2, 3)), 5)
        for steps in (0, -1):
            with pytest.raises(
                ValueError, match=f"{encode.__name__}: steps must be a whole number, at least 1, got {steps}"
            ):
                encode(torch.zeros(2, 3), steps)

    @pytest.mark.parametrize("encode", [encoding.rate, encoding.latency])
    @pytest.mark.parametrize(
        ("bad", "got"), [(1.5, "from 0 to 1.5"), (-0.5, "from -0.5 to 0"), (math.nan, "from nan to nan")]
    )
    def test_range(self, encode, bad, got):
        with pytest.raises(
            ValueError, match=rf"{encode.__name__}: x must lie in \[0, 1\], got values {got}; rescale it"
        ):
            encode(torch.tensor([[0.0, bad]]), 5)

    def test_delta(self):
        with pytest.raises(TypeError, match=r"delta: x must be floating point, got torch.int64"):
            encoding.delta(torch.zeros(5, 2, 3, dtype=torch.int64))
        for threshold in (0.0, -0.1, math.nan):
            with pytest.raises(ValueError, match=f"delta: threshold must be above 0, got {threshold}"):
                encoding.delta(torch.zeros(5, 2, 3), threshold)
        with pytest.raises(ValueError, match=r"delta: off_spikes needs x as \(T, B, \*features\), got shape \(5, 2\)"):
            encoding.delta(torch.zeros(5, 2), off_spikes=True)
        with pytest.raises(ValueError, match=r"delta: x must be \(T, B, \*features\), got shape \(5,\)"):
            encoding.delta(torch.zeros(5))


@given(steps=st.integers(1, 300), seed=st.integers(0, 2**32 - 1))
def test_latency_rounded_down_lets_every_value_spike_once(steps, seed):
    x = uniform(seed, (3, 5)).float()
    x[0, :3] = torch.tensor([0.0, 1.0, 0.5])
    spikes = encoding.encode(x, steps, "latency_all")
    assert torch.equal(spikes.sum(0), torch.ones(3, 5))
    assert torch.equal(spikes.argmax(0), ((1 - x) * (steps - 1)).floor().long())
    assert (spikes[:, 0, 0].argmax(), spikes[:, 0, 1].argmax()) == (steps - 1, 0)


def test_encodings_by_name():
    x = uniform(0, (3, 5))
    assert torch.equal(encoding.encode(x, 4, "direct"), encoding.direct(x, 4))
    assert torch.equal(encoding.encode(x, 4, "latency"), encoding.latency(x, 4))


@pytest.mark.usefixtures("as_a_user")
def test_names_that_there_are_not():
    with pytest.raises(ValueError, match="encoding: got 'rate', expected 'direct', 'latency' or 'latency_all'"):
        encoding.encode(torch.zeros(1, 1), 3, "rate")
    with pytest.raises(ValueError, match="rounding: got 'up', expected 'nearest' or 'down'"):
        encoding.latency(torch.zeros(1, 1), 3, rounding="up")
