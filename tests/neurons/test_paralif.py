"""Parallelizable neurons with other events, and their recurrence in two passes."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from neurons.test_spsn import potentials
from rheobase import SPSN, ParaLIF, Sequential
from rheobase.surrogate import Triangular

TRANSFORMS = {
    "none": lambda v: v,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu_tanh": lambda v: torch.tanh(v).relu(),
}
X = 2 * torch.randn(40, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
DECAYS = {"synapse_decay": 0.8, "decay": 0.9}
DRAWN = [("sigmoid", "bernoulli"), ("relu_tanh", "bernoulli"), ("none", "gumbel")]
ALL = [*((transform, event) for transform in TRANSFORMS for event in ("threshold", "delta")), *DRAWN]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_thresholds_and_deltas(transform):
    v = TRANSFORMS[transform](potentials(X, 0.8, 0.9))
    layer = ParaLIF(4, **DECAYS, threshold=0.4, transform=transform)
    assert torch.equal(layer(X), (v >= 0.4).double())
    before = torch.cat((TRANSFORMS[transform](torch.zeros_like(v[:1])), v[:-1]))
    layer = ParaLIF(4, **DECAYS, threshold=0.05, transform=transform, event="delta")
    spikes = layer(X)
    assert torch.equal(spikes, (v - before >= 0.05).double())
    assert 0 < spikes.mean() < 1


def test_the_published_thresholds():
    assert ParaLIF().current("threshold") == 1
    assert ParaLIF(event="delta").current("threshold") == pytest.approx(0.1)
    assert ParaLIF().surrogate.derivative(torch.tensor(0.01)).item() == pytest.approx(1 / 4)
    rest = torch.zeros(20, 1, 3)
    assert not any(ParaLIF(transform=transform, event="delta")(rest).any() for transform in TRANSFORMS)


@pytest.mark.parametrize(("transform", "event"), DRAWN)
def test_what_is_drawn_has_its_probability_and_gradient(transform, event):
    v = torch.linspace(-2, 2, 5, dtype=torch.float64)
    p = (2 * v).sigmoid() if event == "gumbel" else TRANSFORMS[transform](v)
    layer = ParaLIF(synapse_decay=0.0, decay=0.0, transform=transform, event=event)
    x = v.expand(1000, 4, 5).clone().requires_grad_()
    spikes = layer(x)
    spread = (p * (1 - p) / 4000).sqrt()
    assert ((spikes.mean((0, 1)) - p).abs() <= 4 * spread + 1e-12).all()
    (gradient,) = torch.autograd.grad(spikes.sum(), x)
    if event == "bernoulli":  # dL/dp is p dL/ds
        leaf = v.clone().requires_grad_()
        (slope,) = torch.autograd.grad(TRANSFORMS[transform](leaf).sum(), leaf)
        torch.testing.assert_close(gradient[0, 0], p * slope, rtol=1e-5, atol=1e-6)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("sampler", ["bernoulli", "gumbel"])
def test_two_of_them_are_spsn(sampler):
    transform = "sigmoid" if sampler == "bernoulli" else "none"
    torch.manual_seed(4)
    spikes = ParaLIF(4, **DECAYS, transform=transform, event=sampler)(X)
    torch.manual_seed(4)
    assert torch.equal(spikes, SPSN(4, **DECAYS, sampler=sampler)(X))


@pytest.mark.parametrize(("transform", "event"), [("none", "threshold"), ("tanh", "delta")])
def test_two_passes(transform, event):
    torch.manual_seed(1)
    layer = ParaLIF(4, **DECAYS, threshold=0.1, transform=transform, event=event, recurrent=True).double()
    weight, bias = layer.feedback.weight, layer.feedback.bias
    f = TRANSFORMS[transform]
    zero = torch.zeros_like(X[:1])

    def fire(v: Tensor) -> Tensor:
        y = f(v)
        return ((y - torch.cat((f(zero), y[:-1])) if event == "delta" else y) >= 0.1).double()

    first = potentials(X, 0.8, 0.9)
    hidden = fire(torch.cat((zero, first[:-1])))
    second = potentials(X + hidden @ weight.T + bias, 0.8, 0.9)
    assert torch.equal(layer(X), fire(first + second))
    layer(X).sum().backward()
    assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("transform", "event"), ALL)
@pytest.mark.parametrize("recurrent", [False, True])
def test_cut_anywhere_is_the_whole(transform, event, recurrent):
    layer = ParaLIF(4, **DECAYS, transform=transform, event=event, recurrent=recurrent).double()
    x = X[:9]
    with torch.no_grad():
        torch.manual_seed(5)
        whole = layer(x)
        torch.manual_seed(5)
        pieces, state = [], None
        for low, high in pairwise((0, 1, 1, 6, 9)):
            piece, state = layer.run(x[low:high], state)
            pieces.append(piece)
    assert torch.equal(torch.cat(pieces), whole)


def test_what_is_learned_starts_exactly_and_learns():
    values = {"synapse_decay": 0.7, "decay": math.exp(-1 / 20), "threshold": 0.3}
    layer = ParaLIF(4, **values, event="delta", transform="sigmoid", surrogate=Triangular(), learn=tuple(values))
    for name, value in values.items():
        torch.testing.assert_close(layer.current(name).detach(), torch.full((4,), value))
    layer(X.float()).sum().backward()
    assert all(parameter.grad.abs().min() > 0 for parameter in layer.parameters())
    assert Sequential(nn.Linear(4, 6), ParaLIF(6), nn.Linear(6, 2))(X.float()).shape == (40, 3, 2)


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"transform": "exp"}, ValueError, "ParaLIF: transform must be one of 'none', .*, got 'exp'"),
        ({"event": "poisson"}, ValueError, "ParaLIF: event must be one of 'threshold', .*, got 'poisson'"),
        ({"event": "bernoulli"}, ValueError, "'bernoulli' needs the transform 'sigmoid' or 'relu_tanh', got 'none'"),
        ({"event": "gumbel", "threshold": 1.0}, ValueError, "'gumbel' has no threshold, got 1.0; SPSN has one"),
        ({"event": "gumbel", "learn": ("threshold",)}, ValueError, "learn may name 'synapse_decay', 'decay', got"),
        ({"recurrent": True}, ValueError, "a recurrence needs features"),
        ({"surrogate": Triangular}, TypeError, "surrogate must be an object"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        ParaLIF(**arguments)


def test_a_recurrence_of_maps_is_refused():
    with pytest.raises(ValueError, match=r"needs x to be \(T, B, features\), got shape \(3, 1, 2, 5\)"):
        ParaLIF(2, recurrent=True)(torch.zeros(3, 1, 2, 5))


@pytest.mark.parametrize(("recurrent", "parts"), [(False, 2), (True, 5)])
@pytest.mark.usefixtures("as_a_user")
def test_what_is_no_state(recurrent: bool, parts: int) -> None:
    neurons, x = ParaLIF(4, recurrent=recurrent), torch.rand(3, 2, 4)
    _, other = ParaLIF(4, recurrent=not recurrent).run(x)
    for state in (torch.zeros(2, 4), other):
        with pytest.raises(ValueError, match=f"ParaLIF: state must be what run returned, {parts} parts, got"):
            neurons.run(x, state)
