"""The membrane potential of every kind of neuron, against its spikes and against its equations."""

import pytest
import torch

import rheobase as rb
from rheobase.neurons import Neuron
from rheobase.ops.integrate import integrate

N = 6
KINDS = {
    "LIF": lambda: rb.LIF(N, decay=torch.linspace(0.5, 0.95, N), threshold=torch.linspace(0.5, 1.5, N)),
    "LIF zero": lambda: rb.LIF(N, reset="zero", learn=("decay", "threshold")),
    "LIF none": lambda: rb.LIF(reset="none", reset_gradient="ignored"),
    "SynapticLIF": lambda: rb.SynapticLIF(N, synapse_decay=0.7),
    "Rouser": lambda: rb.Rouser(N),
    "RecurrentLIF": lambda: rb.RecurrentLIF(N, self_connections=False),
    "AdaptiveLIF": lambda: rb.AdaptiveLIF(N, refractory=2, adaptation=0.4),
    "AdaptiveLIF blocks": lambda: rb.AdaptiveLIF(refractory=3, credit="blocks", learn=("adaptation",)),
    "RecurrentAdaptiveLIF": lambda: rb.RecurrentAdaptiveLIF(N, refractory=2, credit="blocks"),
}


def current(*space: int, steps: int = 25) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(steps, 3, N, *space) + 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_a_neuron_fires_where_its_membrane_is_at_the_threshold(kind: str) -> None:
    torch.manual_seed(0)
    layer = KINDS[kind]()
    x = current()
    spikes = layer(x)
    distance = layer.distance(x)
    assert spikes.sum() > 20
    assert torch.equal((distance >= 0).float(), spikes.detach())
    assert not distance.requires_grad
    assert not layer.membrane(x).requires_grad


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
def test_lif_by_its_equation(reset: str) -> None:
    layer = rb.LIF(N, decay=0.8, threshold=0.9, reset=reset)
    x = current(2, 2)
    membrane, spikes = layer.membrane(x), layer(x)
    after = {"subtract": membrane - 0.9 * spikes, "zero": membrane * (1 - spikes), "none": membrane}[reset]
    torch.testing.assert_close(membrane[1:], 0.8 * after[:-1] + x[1:])
    torch.testing.assert_close(membrane[0], x[0])


def test_a_synapse_comes_before_the_membrane() -> None:
    layer = rb.SynapticLIF(N, synapse_decay=0.6, decay=0.8)
    x = current()
    current_, _ = integrate(x, 0.6)
    torch.testing.assert_close(layer.membrane(x), rb.LIF(N, decay=0.8).membrane(current_))


def test_recurrent_spikes_arrive_at_the_next_step() -> None:
    torch.manual_seed(0)
    layer = rb.RecurrentLIF(N, decay=0.8)
    x = current()
    spikes = layer(x).detach()
    arriving = torch.cat((torch.zeros_like(spikes[:1]), spikes[:-1])) @ layer.recurrent_weight.detach().t()
    torch.testing.assert_close(layer.membrane(x), rb.LIF(N, decay=0.8).membrane(x + arriving))


def test_adaptation_raises_the_threshold_and_not_the_membrane() -> None:
    layer = rb.AdaptiveLIF(1, decay=1.0, threshold=1.0, adaptation=0.5, adaptation_decay=0.5)
    x = torch.full((6, 1, 1), 0.75)
    # Potentials 0.75, 1.5 (fires, threshold 1), then from 0, threshold 1.5, 1.25, 1.125: 0.75, 1.5 (fires), ...
    torch.testing.assert_close(layer.membrane(x).flatten(), torch.tensor([0.75, 1.5, 0.75, 1.5, 0.75, 1.5]))
    thresholds = (layer.membrane(x) - layer.distance(x)).flatten()
    torch.testing.assert_close(thresholds[:4], torch.tensor([1.0, 1.0, 1.5, 1.25]))


def test_a_single_spike_leaves_the_membrane_alone() -> None:
    layer = rb.SingleSpike(N, decay=0.8, threshold=0.7, fire_by_end=True)
    x = current()
    membrane = layer.membrane(x)
    torch.testing.assert_close(membrane, integrate(x, 0.8)[0])
    first = ((membrane >= 0.7).cumsum(0).cumsum(0) == 1).float()
    first[-1] += 1 - first.sum(0)  # who has not fired does so at the end
    assert torch.equal(layer(x), first)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_looked_at_in_float32(kind: str) -> None:
    layer = KINDS[kind]()
    assert layer.membrane(current().bfloat16()).dtype == torch.float32
    assert layer.membrane(current().double()).dtype == torch.float64


def test_the_layer_is_left_as_it_was() -> None:
    layer = rb.LIF(N)
    seen = []
    layer.register_forward_hook(lambda *_: seen.append(1))
    surrogate = layer.surrogate
    layer.membrane(current())
    assert layer.surrogate is surrogate
    assert seen == []  # hooks count calls of the layer


def test_no_steps() -> None:
    assert rb.LIF(N).membrane(current(steps=1)[:0]).shape == (0, 3, N)
    assert rb.AdaptiveLIF(N).membrane(current(steps=1)[:0]).shape == (0, 3, N)


def test_a_neuron_without_a_membrane_says_so() -> None:
    class Coin(Neuron):
        pass

    with pytest.raises(NotImplementedError, match="Coin has no membrane potential to record"):
        Coin(None, (), ()).membrane(current())
