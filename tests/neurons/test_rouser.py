"""The published rule, against a literal transcription of it."""

import pytest
import torch

from computing import computed_by
from rheobase import Rouser, SynapticLIF

SYNAPSE_DECAY, WIDTH, SCALE = 0.75, 3.75, 1.5
DECAY = torch.tensor(0.97).item()  # as a layer keeps it, in float32


def literal(x, thresholds, errors):
    """Spikes, and the gradients of `x` and of the thresholds: method notes A2 to A4, one neuron and step at a time."""
    steps, batch, neurons = x.shape
    spikes, on_x, on_threshold = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(thresholds)
    for b in range(batch):
        for n in range(neurons):
            current = membrane = 0.0
            local = []
            for t in range(steps):
                current = SYNAPSE_DECAY * current + x[t, b, n].item()
                membrane = DECAY * membrane + current
                distance = torch.tensor(membrane - thresholds[n].item(), dtype=x.dtype)
                spikes[t, b, n] = float(distance >= 0)
                local.append(errors[t, b, n] * SCALE / WIDTH * torch.exp(-distance.abs() / WIDTH))
                membrane *= 1 - spikes[t, b, n].item()
            on_membrane = on_current = torch.zeros((), dtype=x.dtype)
            for t in reversed(range(steps)):
                on_membrane = local[t] + DECAY * on_membrane
                on_current = on_membrane + SYNAPSE_DECAY * on_current
                on_x[t, b, n] = on_current
            on_threshold[n] -= sum(local)
    return spikes, on_x, on_threshold


@pytest.mark.parametrize("computer", ["kernels", "reference"])
def test_equals_the_paper(computer):
    torch.manual_seed(0)
    x = torch.randn(40, 3, 4, dtype=torch.float64).mul(0.4).requires_grad_()
    errors = torch.randn_like(x)
    thresholds = torch.tensor([1.25, 0.25, 2.0, 0.6], dtype=torch.float64)
    layer = Rouser(4, threshold=thresholds).double()
    layer.raw_threshold.data = thresholds.clone()
    with computed_by(computer):
        spikes = layer(x)
        (spikes * errors).sum().backward()
    expected = literal(x.detach(), thresholds, errors)
    assert 20 < spikes.sum() < 300
    assert torch.equal(spikes, expected[0])
    torch.testing.assert_close(x.grad, expected[1])
    torch.testing.assert_close(layer.raw_threshold.grad, expected[2])


def test_without_learning_it_is_the_baseline():
    torch.manual_seed(1)
    x = torch.rand(30, 2, 5) * 0.2
    learned, fixed = Rouser(5), Rouser(5, learn=())
    assert torch.equal(learned(x), fixed(x))
    assert not list(fixed.parameters())
    assert [parameter.shape for parameter in learned.parameters()] == [(5,)]


def test_thresholds_have_no_bound():
    layer = Rouser(2, threshold=0.0)
    layer.raw_threshold.data -= 0.5
    assert layer.threshold.tolist() == [-0.5, -0.5]
    assert bool((layer(torch.zeros(4, 1, 2)) == 1).all())
    assert not layer(torch.full((4, 1, 2), -1.0)).any()  # inhibition silences even these


def test_the_positive_variant_is_the_same_neuron():
    torch.manual_seed(2)
    x = torch.rand(30, 2, 5).mul(0.3).requires_grad_()
    ours = Rouser(5, learn=())
    same = SynapticLIF(
        5,
        synapse_decay=0.75,
        decay=0.97,
        threshold=1.25,
        surrogate=ours.surrogate,
        reset="zero",
        reset_gradient="ignored",
    )
    weight = torch.randn(30, 2, 5)
    gradients = [torch.autograd.grad((layer(x) * weight).sum(), x)[0] for layer in (ours, same)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 0.0}, "width must be above 0 and finite, got 0.0"),
        ({"scale": float("nan")}, "scale must be above 0 and finite, got nan"),
        ({"threshold": float("nan")}, "threshold must be finite, got nan"),
        ({"learn": ("gain",)}, "learn may name"),
    ],
)
def test_refuses(wrong, message):
    with pytest.raises(ValueError, match=message):
        Rouser(3, **wrong)
