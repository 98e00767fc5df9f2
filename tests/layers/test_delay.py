"""Delays, against plain indexing into the past."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rheobase as rb

STEPS = st.lists(st.integers(0, 6), min_size=1, max_size=4, unique=True).map(tuple)


@given(STEPS, st.integers(0, 9), st.integers(0, 2), st.integers(1, 3), st.integers(0, 2))
def test_each_copy_is_the_past(steps: tuple[int, ...], length: int, batch: int, features: int, space: int) -> None:
    x = torch.rand(length, batch, features, *[2] * space, dtype=torch.float64)
    y = rb.Delay(*steps)(x)
    assert y.shape == (length, batch, features * len(steps), *[2] * space)
    for copy, delay in enumerate(steps):
        for t in range(length):
            expected = x[t - delay] if t >= delay else torch.zeros_like(x[t])
            assert torch.equal(y[t, :, copy * features : (copy + 1) * features], expected)


@given(STEPS, st.integers(0, 9), st.data())
def test_cut_anywhere(steps: tuple[int, ...], length: int, data: st.DataObject) -> None:
    layer, x = rb.Delay(*steps), torch.rand(length, 2, 3)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, length), max_size=3))), length]
    pieces, state = [], None
    for start, end in pairwise(cuts):
        piece, state = layer.run(x[start:end], state)
        pieces.append(piece)
    assert torch.equal(torch.cat(pieces), layer(x))


def test_gradient() -> None:
    x = torch.rand(4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rb.Delay(0, 3, 1), x)


@pytest.mark.parametrize("steps", [(), (-1,), (0, 2, 2), (1.5,), (True, 2), ([1, 2],)])
def test_delays_that_are_none(as_a_user: None, steps: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"whole numbers?, (each )?at least 0, got"):
        rb.Delay(*steps)


def test_wrong_inputs(as_a_user: None) -> None:
    with pytest.raises(ValueError, match=r"x must be \(T, B, features, ...\), got shape \(4, 2\)"):
        rb.Delay(1)(torch.rand(4, 2))
    with pytest.raises(ValueError, match=r"state must be the last 2 steps, \(2, 5, 3\), got shape \(2, 4, 3\)"):
        rb.Delay(0, 2).run(torch.rand(4, 5, 3), torch.zeros(2, 4, 3))


def test_its_fan_out_counts_as_copies() -> None:
    # A spike that is delayed three times arrives three times: the weights behind it see each copy.
    network = rb.Sequential(rb.LIF(2, threshold=0.5), rb.Delay(0, 1, 2), torch.nn.Linear(6, 5))
    x = torch.zeros(10, 1, 2)
    x[0] = 1.0
    with rb.health.Recorder(network) as recorder:
        network(x)
    (layer,) = recorder.layers()
    assert layer.spikes_per_sample == 2
    assert layer.synaptic_operations_per_sample == 2 * 3 * 5
