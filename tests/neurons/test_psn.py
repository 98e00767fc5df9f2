"""Parallel spiking neurons: dense, masked and sliding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rheobase import PSN, MaskedPSN, SlidingPSN
from rheobase.scheduled import set_progress
from rheobase.surrogate import Triangular

X = torch.tensor([1.0, 0.0, 2.0, 3.0]).view(4, 1, 1)
HALVES = torch.tensor([[0.5, 0, 0, 0], [0.25, 0.5, 0, 0], [0.125, 0.25, 0.5, 0], [0.0625, 0.125, 0.25, 0.5]])
POTENTIALS = torch.tensor([0.5, 0.25, 1.125, 2.0625])


def set_values(layer: nn.Module, weight: torch.Tensor, threshold: float) -> None:
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.threshold.fill_(threshold)


def crossings(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The potential of each step, found by the threshold that it just reaches."""
    for potential in POTENTIALS:
        with torch.no_grad():
            layer.threshold.fill_(float(potential))
        spikes = layer(x).flatten().detach()
        assert torch.equal(spikes, (potential <= POTENTIALS).float())
    return spikes


def test_golden_a_leaky_integrator_is_a_special_case():
    dense, masked, sliding = PSN(4), MaskedPSN(4, order=4), SlidingPSN(4)
    set_values(dense, HALVES, 1.0)
    set_values(masked, HALVES + HALVES.T.triu(1), 1.0)  # what looks ahead is masked
    set_values(sliding, torch.tensor([0.0625, 0.125, 0.25, 0.5]), 1.0)
    for layer in (dense, masked, sliding):
        crossings(layer, X)


def test_how_they_start():
    torch.manual_seed(0)
    layer = PSN(64)
    assert layer.weight.abs().max() <= 1 / 8
    assert layer.weight.std().item() == pytest.approx(1 / 8 / 3**0.5, rel=0.05)
    assert layer.threshold.eq(1).all()
    assert layer.threshold.shape == (64,)
    assert SlidingPSN(4).weight.tolist() == [0.125, 0.25, 0.5, 1.0]
    assert SlidingPSN(4).threshold.shape == ()


def slid(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """By definition, one step and one weight at a time."""
    order, h = len(weight), torch.zeros_like(x)
    for t in range(len(x)):
        for k in range(order):
            if t - order + 1 + k >= 0:
                h[t] += weight[k] * x[t - order + 1 + k]
    return h


@settings(max_examples=15)
@given(st.integers(0, 70), st.integers(1, 40), st.sampled_from([(2,), (1, 3), (2, 2, 2)]), st.integers(0, 2**16))
def test_sliding_is_the_sum_over_its_order(steps, order, step, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(steps, *step, generator=generator, dtype=torch.float64)
    layer = SlidingPSN(order).double()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(order, generator=generator))
    h = slid(layer.weight.detach(), x)
    assert torch.equal(layer(x).detach(), ((h - 1) >= 0).double())


@pytest.mark.parametrize("layer", [PSN(9), MaskedPSN(9, order=3), SlidingPSN(4)])
def test_gradients_are_those_of_a_smooth_firing(layer):
    class Smooth(Triangular):
        def spike(self, u):
            return u.sigmoid()

    layer = type(layer)(
        *([9] if isinstance(layer, PSN) else [4]), *([3] if isinstance(layer, MaskedPSN) else []), Smooth()
    )
    layer.double()
    x = torch.randn(9, 2, 3, dtype=torch.float64, requires_grad=True)

    def run(x, weight, threshold):
        return torch.func.functional_call(layer, {"weight": weight, "threshold": threshold}, (x,))

    assert torch.autograd.gradcheck(run, (x, layer.weight, layer.threshold))


def test_the_surrogate_is_the_gradient_of_a_spike():
    layer = SlidingPSN(1, Triangular())
    x = torch.tensor([0.25, 1.0, 1.5, 3.0]).view(4, 1, 1).requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad.flatten(), torch.tensor([0.25, 1.0, 0.5, 0.0]))
    assert layer.threshold.grad == -1.75


def test_the_mask_closes_as_training_goes_on():
    layer = MaskedPSN(3, order=2)
    set_values(layer, torch.ones(3, 3), 1.0)
    band = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 1]])
    for progress in (0.0, 0.25, 1.0):
        set_progress(layer, progress)
        assert torch.equal(layer.masked_weight.detach(), band + (1 - progress) * (1 - band))
    assert "progress" in layer.state_dict()
    assert set(layer.state_dict()) == {"weight", "threshold", "progress"}


@settings(max_examples=15)
@given(st.lists(st.integers(0, 12), max_size=3), st.integers(1, 12))
def test_cut_anywhere_is_the_whole(cuts, order):
    x = torch.randn(12, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    for layer in (MaskedPSN(12, order=order).double(), SlidingPSN(order).double()):
        pieces, state = [], None
        for low, high in zip([0, *sorted(cuts)], [*sorted(cuts), 12], strict=True):
            piece, state = layer.run(x[low:high], state)
            pieces.append(piece)
        assert torch.equal(torch.cat(pieces), layer(x))


@pytest.mark.parametrize(
    "layer", [PSN(40), MaskedPSN(40, order=5), SlidingPSN(5)], ids=lambda layer: type(layer).__name__
)
@pytest.mark.parametrize("inside", [True, False], ids=["backward inside", "backward outside"])
def test_trains_in_mixed_precision(layer, inside):
    x = torch.randn(40, 8, 16, generator=torch.Generator().manual_seed(0))
    on_spikes = torch.randn(40, 8, 16, generator=torch.Generator().manual_seed(1))

    def gradients(mixed):
        inputs = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            spikes = layer(inputs)
            assert spikes.dtype == torch.float32
            loss = (spikes * on_spikes).sum()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        parameters = list(layer.parameters())
        found = [inputs.grad, *(parameter.grad for parameter in parameters)]
        layer.zero_grad()
        return found

    for exact, mixed in zip(gradients(False), gradients(True), strict=True):
        assert mixed.dtype == torch.float32
        assert (mixed - exact).norm() < 0.02 * exact.norm()


def test_products_over_all_steps_are_the_ones_in_mixed_precision():
    x = torch.randn(12, 3, 4, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        seen = []
        layer = PSN(12)
        layer._fire = lambda above, threshold: seen.append(above) or above
        layer(x)
    exact = (layer.weight @ x.flatten(1) - 1).view_as(x)
    assert 1e-4 < (seen[0] - exact).abs().max() < 2e-2


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: PSN(0), ValueError, "PSN: steps must be a whole number, at least 1, got 0"),
        (lambda: MaskedPSN(4, order=5), ValueError, "MaskedPSN: order must be at most steps = 4, got 5"),
        (lambda: SlidingPSN(0), ValueError, "SlidingPSN: order must be a whole number"),
        (lambda: PSN(4, Triangular), TypeError, "PSN: surrogate must be an object"),
        (lambda: PSN(4)(torch.ones(5, 1, 2)), ValueError, r"PSN\(4\): x must have 4 steps, got 5"),
        (lambda: PSN(4).run(torch.ones(4, 1, 2)), ValueError, "look ahead to its end; .* use MaskedPSN or SlidingPSN"),
        (lambda: MaskedPSN(4, 2).run(torch.ones(5, 1, 2)), ValueError, "must have at most 4 steps, got 5 so far"),
        (lambda: SlidingPSN(3).run(torch.ones(5, 1, 2), torch.ones(2, 4, 2)), ValueError, "state must hold 2 steps"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_mask_that_is_open_takes_no_pieces():
    layer = MaskedPSN(4, order=2)
    set_progress(layer, 0.5)
    with pytest.raises(ValueError, match=r"at progress 0\.5 neurons still look ahead"):
        layer.run(torch.ones(2, 1, 1))


@pytest.mark.usefixtures("as_a_user")
def test_what_is_no_state():
    neurons = MaskedPSN(8, 3)
    _, state = neurons.run(torch.rand(4, 2, 5))
    with pytest.raises(ValueError, match=r"MaskedPSN: state must hold steps of x, \(K, 3, 5\), got \(2, 2, 5\)"):
        neurons.run(torch.rand(4, 3, 5), state)
    with pytest.raises(ValueError, match="MaskedPSN: state must be what run returned, 2 parts, got a Tensor"):
        neurons.run(torch.rand(4, 2, 5), state[0])
