import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rheobase as rb
from rheobase import Dropout


@given(st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([(3,), (2, 4), (0,)]))
def test_one_mask_per_sample_scaled_to_keep_the_mean(p, features):
    x = torch.ones(5, 4, *features)
    y = Dropout(p)(x)
    assert torch.equal(y, y[:1].expand_as(y))
    kept = torch.tensor(1 / (1 - p))
    assert bool(((y == 0) | torch.isclose(y, kept)).all())


@pytest.mark.parametrize("p", [0.2, 0.7])
def test_drops_as_often_as_asked_and_independently_per_sample_and_unit(p):
    torch.manual_seed(0)
    kept = (Dropout(p)(torch.ones(1, 300, 300))[0] > 0).double()
    deviation = math.sqrt(p * (1 - p))
    assert abs(kept.mean() - (1 - p)) < 4 * deviation / 300
    for axis in (0, 1):
        assert (kept.mean(axis) - (1 - p)).abs().max() < 5 * deviation / math.sqrt(300)
        assert kept.mean(axis).std() > 0


def test_each_call_draws_anew():
    layer, x = Dropout(0.5), torch.ones(2, 4, 50)
    assert not torch.equal(layer(x), layer(x))


@pytest.mark.parametrize("layer", [Dropout(0.5).eval(), Dropout(0.0)])
def test_evaluation_and_zero_change_nothing(layer):
    x = torch.randn(3, 2, 4)
    assert torch.equal(layer(x), x)
    assert layer.run(x)[1] is None


@given(st.lists(st.integers(0, 12), max_size=4), st.integers(0, 1000))
def test_streaming_in_training_keeps_the_mask(cuts, seed):
    torch.manual_seed(seed)
    layer, x = Dropout(0.5), torch.rand(12, 2, 5) + 1
    bounds = [0, *sorted(cuts), 12]
    state, pieces = None, []
    for start, stop in itertools.pairwise(bounds):
        piece, state = layer.run(x[start:stop], state)
        pieces.append(piece)
    torch.manual_seed(seed)
    torch.rand(12, 2, 5)
    assert torch.equal(torch.cat(pieces), layer(x))


def test_streaming_in_a_network_keeps_the_mask():
    torch.manual_seed(0)
    network = rb.Sequential(Dropout(0.5), rb.LeakyReadout(decay=0.0))
    first, state = network.run(torch.ones(3, 2, 20))
    second, _ = network.run(torch.ones(3, 2, 20), state)
    assert torch.equal(first, second)


def test_gradients_pass_where_units_are_kept():
    x = torch.ones(4, 2, 6, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_keeps_the_type(dtype):
    assert Dropout(0.5)(torch.ones(2, 2, 2, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("p", [-0.1, 1.0, math.nan])
def test_errors(p):
    with pytest.raises(ValueError, match=rf"Dropout: p must be in \[0, 1\), got {p}"):
        Dropout(p)


@pytest.mark.usefixtures("as_a_user")
def test_a_mask_of_another_batch_is_refused():
    _, state = Dropout(0.5).run(torch.ones(2, 3, 4))
    with pytest.raises(ValueError, match=r"Dropout: state must be .*\(1, 4\), got shape \(3, 4\)"):
        Dropout(0.5).run(torch.ones(2, 1, 4), state)


def test_printing():
    assert repr(Dropout(0.3)) == "Dropout(p=0.3)"


@pytest.mark.usefixtures("as_a_user")
def test_a_state_that_is_no_mask():
    with pytest.raises(ValueError, match=r"the mask of one time step of x, \(2, 4\), got a tuple"):
        Dropout(0.5).run(torch.ones(3, 2, 4), (None, None))
