import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rheobase import LeakyReadout, Neuron, Temporal
from rheobase.ops.integrate import integrate


def test_never_fires_and_is_no_neuron():
    assert isinstance(LeakyReadout(), Temporal)
    assert not isinstance(LeakyReadout(), Neuron)
    assert LeakyReadout(decay=1.0)(torch.full((100, 1, 1), 5.0))[-1].item() == 500


@pytest.mark.parametrize("learn", [(), ("decay",)])
@pytest.mark.parametrize("space", [(), (3, 3)])
def test_one_decay_per_feature(learn, space):
    layer = LeakyReadout(3, decay=torch.tensor([0.1, 0.5, 0.9]), learn=learn)
    x = torch.randn(6, 2, 3, *space)
    y = layer(x)
    for channel in range(3):
        assert torch.equal(y[:, :, channel], integrate(x[:, :, channel], layer.decay[channel].item())[0])


def test_a_learned_decay_receives_its_gradient():
    layer = LeakyReadout(3, learn=("decay",))
    layer(torch.rand(6, 2, 3)).sum().backward()
    assert bool((layer.raw_decay.grad > 0).all())


@given(st.lists(st.integers(0, 15), max_size=4), st.integers(0, 2**32 - 1))
def test_cut_anywhere_is_the_whole(cuts, seed):
    x = torch.randn(15, 2, 3, generator=torch.Generator().manual_seed(seed))
    layer = LeakyReadout(3, decay=0.93)
    bounds = [0, *sorted(cuts), 15]
    state, pieces = None, []
    for start, stop in itertools.pairwise(bounds):
        piece, state = layer.run(x[start:stop], state)
        pieces.append(piece)
    assert torch.equal(torch.cat(pieces), layer(x))
    assert torch.equal(state, layer(x)[-1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_potentials_are_float32_for_half_precision_inputs(dtype):
    x = torch.rand(300, 1, 2).to(dtype)
    y = LeakyReadout(2, decay=0.999)(x)
    assert y.dtype == torch.float32
    assert torch.equal(y, LeakyReadout(2, decay=0.999)(x.float()))


@pytest.mark.usefixtures("as_a_user")
def test_errors():
    with pytest.raises(TypeError, match=r"LeakyReadout.*: x must be floating point, got torch.int64"):
        LeakyReadout(3)(torch.ones(5, 2, 3).long())
    with pytest.raises(TypeError, match=r"LeakyReadout.*: x must be a torch.Tensor, got ndarray"):
        LeakyReadout(3)(torch.ones(5, 2, 3).numpy())
    with pytest.raises(ValueError, match=r"LeakyReadout: state must have .*\(2, 3\), got \(4, 3\)"):
        LeakyReadout(3).run(torch.ones(5, 2, 3), torch.zeros(4, 3))
