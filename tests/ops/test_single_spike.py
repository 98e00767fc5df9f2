"""The operation, by its reference and by its kernels, against literal implementations whose gradients autograd takes."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from rheobase.ops import first_spikes, integrate, lif, single_spike
from rheobase.ops.single_spike import Credit
from rheobase.surrogate import Arctan, FastSigmoid, Surrogate, Triangular

pytestmark = pytest.mark.usefixtures("computer")

CREDITS = ("ramp", "early_ramp", "product", "detached")
F64 = torch.float64


def crossings(x: Tensor, decay: Tensor, threshold: Tensor, initial: Tensor, surrogate: Surrogate) -> Tensor:
    """Where the membrane potential is at or above the threshold, step by step, with the surrogate's gradient."""
    v, above = initial, []
    for current in x.unbind(0):
        v = decay * v + current
        above.append(surrogate.spike(v - threshold))
    return torch.stack(above)


def ramp_of(above: Tensor) -> Tensor:
    """The block model's convolution: with the kernel T, ..., 2, 1, over crossings padded by T - 1 zeros in front."""
    steps = len(above)
    kernel = torch.arange(steps, 0, -1, dtype=above.dtype)
    rows = torch.nn.functional.pad(above.flatten(1).t().unsqueeze(1), (steps - 1, 0))
    return torch.nn.functional.conv1d(rows, kernel.view(1, 1, -1)).squeeze(1).t().view(above.shape)


def ramp(above: Tensor) -> Tensor:
    """1 where the ramp is 1; elsewhere a copy without gradient is taken away, so that the gradient goes straight through."""
    z = ramp_of(above)
    return torch.where(z == 1, z, z - z.detach())


def early_ramp(above: Tensor) -> Tensor:
    """FastSNN: two sums over time, and a function that is 0, 1, 0, 0, ... at 0, 1, 2, 3, ..."""
    z = above.cumsum(0).cumsum(0)
    return z * torch.relu(z * (1 - z) + 1)


def product_of(above: Tensor) -> Tensor:
    spikes = []
    for t in range(len(above)):
        spike = above[t]
        for j in range(t):
            spike = spike * (1 - above[j])
        spikes.append(spike)
    return torch.stack(spikes)


def detached(above: Tensor) -> Tensor:
    spikes, fired = [], torch.zeros_like(above[0])
    for row in above:
        spikes.append(row * (1 - fired.detach()))
        fired = fired + spikes[-1]
    return torch.stack(spikes)


LATCHES: dict[Credit, Callable[[Tensor], Tensor]] = {
    "ramp": ramp,
    "early_ramp": early_ramp,
    "product": product_of,
    "detached": detached,
}


def literal(
    x: Tensor,
    decay: Tensor,
    threshold: Tensor,
    initial: Tensor,
    *,
    credit: Credit,
    surrogate: Surrogate,
    fire_by_end: bool = False,
) -> Tensor:
    above = crossings(x, decay, threshold, initial, surrogate)
    if fire_by_end:
        above = torch.cat((above[:-1], torch.ones_like(above[-1:])))
    return LATCHES[credit](above)


def random(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0.1, scale, shape))


@pytest.mark.parametrize("fire_by_end", [False, True])
@pytest.mark.parametrize(
    ("credit", "surrogate"),
    [
        ("ramp", FastSigmoid(1.0, 5.0)),
        ("early_ramp", FastSigmoid(1.0, 50.0)),
        ("product", Arctan()),
        ("detached", Triangular(0.3, 0.4)),
    ],
)
def test_gradients_are_those_of_a_literal_implementation(credit, surrogate, fire_by_end):
    for seed, shape in enumerate([(), (3,), (2, 1), (2, 3), (1, 3)]):
        x = random(seed, 13, 2, 3, scale=0.6).requires_grad_()
        decay = random(seed + 10, *shape).sigmoid().requires_grad_()
        threshold = (random(seed + 20, *shape, scale=0.1) + 0.7).requires_grad_()
        initial = random(seed + 30, 2, 3, scale=0.3).requires_grad_()
        on_spikes = random(seed + 40, 13, 2, 3)
        rule = {"credit": credit, "surrogate": surrogate, "fire_by_end": fire_by_end}
        expected = literal(x, decay, threshold, initial, **rule)
        nothing = torch.zeros((), dtype=F64)
        spikes, _ = single_spike(x, decay, threshold, (initial, nothing, nothing), **rule)
        assert torch.equal(spikes, expected)
        assert 2 < spikes.sum() <= 6
        arguments = (x, decay, threshold, initial)
        wanted = torch.autograd.grad(expected, arguments, on_spikes)
        for ours, theirs in zip(torch.autograd.grad(spikes, arguments, on_spikes), wanted, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)
        # From rest, and without a state, of which the kernels make less.
        spikes = first_spikes(x, decay, threshold, **rule)
        expected = literal(x, decay, threshold, torch.zeros_like(initial), **rule)
        assert torch.equal(spikes, expected)
        wanted = torch.autograd.grad(expected, arguments[:3], on_spikes)
        for ours, theirs in zip(torch.autograd.grad(spikes, arguments[:3], on_spikes), wanted, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


def test_credit_by_hand():
    # V = 0.4, 0.7, 1.2, 0.6, 1.8: crossings at steps 2 and 4, and the arctan's derivative there.
    bump = [0.219633, 0.529587, 0.716957, 0.387727, 0.136676]
    delta = [0.1, 0.2, 0.3, 0.4, 0.5]
    credits = {
        "product": [-0.2, -0.1, -0.2, 0, 0],
        "detached": [0.1, 0.2, 0.3, 0, 0],
        "ramp": [sum((t - k + 1) * delta[t] for t in range(k, 5)) for k in range(5)],
        "early_ramp": [0.1 + 2 * 0.2, 0.2, 0, 0, 0],
    }
    for credit, on_above in credits.items():
        x = torch.tensor([0.4, 0.3, 0.5, -0.6, 1.2], dtype=F64).view(5, 1, 1).requires_grad_()
        for operation in (single_spike, first_spikes):
            y = operation(x, 1.0, 1.0, surrogate=Arctan(), credit=credit)
            spikes = y if isinstance(y, Tensor) else y[0]
            assert spikes.flatten().tolist() == [0, 0, 1, 0, 0]
            (on_x,) = torch.autograd.grad(spikes.flatten(), x, torch.tensor(delta, dtype=F64))
            direct = [c * f for c, f in zip(on_above, bump, strict=True)]
            np.testing.assert_allclose(on_x.flatten(), np.cumsum(direct[::-1])[::-1], rtol=2e-6, atol=2e-6)
    # The golden figures of the two rules of time-to-first-spike networks.
    np.testing.assert_allclose(
        np.cumsum((np.array(credits["product"]) * bump)[::-1])[::-1],
        [-0.240277, -0.196350, -0.143391, 0, 0],
        atol=2e-6,
    )


@pytest.mark.parametrize("steps", [1, 7, 100, 2048])
def test_spikes_are_those_of_a_masked_loop_to_the_last_bit(steps):
    generator = np.random.default_rng(steps)
    x = generator.normal(0.02, 0.25, (steps, 3, 70)).astype(np.float32)
    decay, threshold = generator.uniform(0, 1, 70).astype(np.float32), generator.uniform(0.5, 2, 70).astype(np.float32)
    v, fired, expected = np.zeros((3, 70), np.float32), np.zeros((3, 70), bool), np.zeros_like(x)
    for t in range(steps):
        v = decay * v + x[t]
        fires = (v >= threshold) & ~fired
        expected[t], fired = fires, fired | fires
    arguments = torch.from_numpy(x), torch.from_numpy(decay), torch.from_numpy(threshold)
    spikes, (membrane, has_fired, _) = single_spike(*arguments)
    assert torch.equal(spikes, torch.from_numpy(expected))
    assert torch.equal(membrane, torch.from_numpy(v))
    assert torch.equal(has_fired, torch.from_numpy(fired).float())
    assert torch.equal(first_spikes(*arguments), spikes)
    late = first_spikes(*arguments, fire_by_end=True)
    assert torch.equal(late[:-1], spikes[:-1])
    assert torch.equal(late.sum(0), torch.ones(3, 70))


@dataclass(frozen=True)
class Smooth(Surrogate):
    """No step at all: a sigmoid whose own derivative autograd takes, so that finite differences can check it."""

    def spike(self, u: Tensor) -> Tensor:
        return torch.sigmoid(4 * u)


def test_the_product_rule_is_the_derivative_of_a_relaxation():
    arguments = (
        random(1, 6, 2, 3, scale=0.6).requires_grad_(),
        random(2, 3).sigmoid().requires_grad_(),
        (random(3, 3, scale=0.1) + 0.8).requires_grad_(),
        random(4, 2, 3).requires_grad_(),
        torch.full((2, 3), 0.3, dtype=F64, requires_grad=True),
    )

    def of_piece(x: Tensor, decay: Tensor, threshold: Tensor, membrane: Tensor, fired: Tensor) -> tuple[Tensor, ...]:
        rule = {"surrogate": Smooth(), "credit": "product"}
        spikes, (membrane, fired, _) = single_spike(x, decay, threshold, (membrane, fired, fired), **rule)
        return spikes, membrane, fired

    assert torch.autograd.gradcheck(of_piece, arguments)


@pytest.mark.parametrize("credit", CREDITS)
def test_cut_anywhere_is_the_whole(credit):
    x = random(7, 12, 4, 5, scale=0.5).requires_grad_()
    decay, threshold = random(8, 5).sigmoid().requires_grad_(), torch.full((5,), 0.9, dtype=F64, requires_grad=True)
    on_spikes, on_membrane = random(9, 12, 4, 5), random(10, 4, 5)
    rule = {"credit": credit, "surrogate": Triangular()}

    def outputs(cuts: list[int]) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        state, pieces = None, []
        for start, stop in zip([0, *cuts], [*cuts, 12], strict=True):
            last = {"fire_by_end": stop == 12}
            spikes, state = single_spike(x[start:stop], decay, threshold, state, **rule, **last)
            pieces.append(spikes)
        spikes = torch.cat(pieces)
        loss = (spikes * on_spikes).sum() + (state[0] * on_membrane).sum()
        return spikes, state, torch.autograd.grad(loss, (x, decay, threshold))

    whole, last, gradients = outputs([])
    assert torch.equal(whole, first_spikes(x, decay, threshold, **rule, fire_by_end=True))
    for cuts in ([0], [1], [5], [11], [3, 3, 8]):
        spikes, state, of_pieces = outputs(cuts)
        assert torch.equal(spikes, whole)
        assert all(map(torch.equal, state, last))
        for ours, theirs in zip(of_pieces, gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_what_comes_after_a_neurons_last_step_is_not_looked_at():
    x = torch.tensor([2.0, 0.0, math.nan, math.nan]).view(4, 1, 1).requires_grad_()
    decay = torch.tensor(0.9, requires_grad=True)
    for credit in ("early_ramp", "detached"):
        spikes = first_spikes(x, decay, credit=credit)
        assert spikes.flatten().tolist() == [1, 0, 0, 0]
        gradients = torch.autograd.grad(spikes.sum(), (x, decay))
        assert all(gradient.isfinite().all() for gradient in gradients)
        # With a state there is a membrane potential to find, which is NaN, and so is what the decay has to do with it.
        again, (membrane, _, _) = single_spike(x, decay, credit=credit)
        assert torch.equal(again, spikes)
        on_x, on_decay = torch.autograd.grad(again.sum(), (x, decay))
        assert torch.equal(on_x, gradients[0])
        assert membrane.isnan().all()
        assert on_decay.isnan()


def test_half_precision_inputs_are_integrated_in_float32():
    for dtype in (torch.float16, torch.bfloat16):
        x = random(12, 50, 2, 4, scale=0.3).to(dtype)
        spikes, (membrane, fired, _) = single_spike(x, 0.999, 0.7123)
        expected, (last, _, _) = single_spike(x.float(), 0.999, 0.7123)
        assert spikes.dtype == dtype
        assert membrane.dtype == fired.dtype == torch.float32
        assert torch.equal(spikes.float(), expected)
        assert torch.equal(membrane, last)


def test_without_a_spike_it_is_the_leaky_integrator():
    x = random(13, 20, 2, 3).float()
    spikes, (membrane, fired, _) = single_spike(x, 0.8, 1e6)
    assert spikes.sum() == fired.sum() == 0
    assert torch.equal(membrane, integrate(x, 0.8)[1])


def test_the_first_spike_is_that_of_neurons_that_go_on():
    x = random(14, 40, 3, 5, scale=0.3).float()
    many, _ = lif(x, 0.9, 0.8, reset="none")
    first = many * (many.cumsum(0) == 1)
    assert torch.equal(first_spikes(x, 0.9, 0.8), first)


@pytest.mark.usefixtures("as_a_user")
class TestErrors:
    @pytest.mark.parametrize("operation", [single_spike, first_spikes])
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (
                {"credit": "v2"},
                ValueError,
                "credit must be one of 'ramp', 'early_ramp', 'product', 'detached', got 'v2'",
            ),
            ({"surrogate": FastSigmoid}, TypeError, r"surrogate must be an object such as FastSigmoid\(\)"),
            ({"decay": torch.ones(4)}, ValueError, r"decay must broadcast .*\(2, 3\), got shape \(4,\)"),
            ({"threshold": torch.ones(4)}, ValueError, "threshold must broadcast"),
            ({"x": torch.ones(5, 2, 3).long()}, TypeError, "x must be floating point"),
        ],
    )
    def test_the_argument_is_named(self, operation, arguments, error, message):
        with pytest.raises(error, match=rf"{operation.__name__}: {message}"):
            operation(**{"x": torch.ones(5, 2, 3), "decay": 0.9} | arguments)

    @pytest.mark.parametrize("initial", [torch.zeros(3, 2, 3), (torch.zeros(2, 3), torch.zeros(2, 3))])
    def test_a_state_that_is_none(self, initial):
        with pytest.raises(TypeError, match=r"initial must be what a call returned, \(membrane, fired, ramp\)"):
            single_spike(torch.ones(5, 2, 3), 0.9, initial=initial)
