"""A threshold can do nothing that weights in front cannot, as the documentation of the layers says: to the last bit."""

import pytest
import torch
from torch import nn

from rheobase import LIF, AdaptiveLIF, Neuron, RecurrentAdaptiveLIF, RecurrentLIF, SynapticLIF
from rheobase.neurons.adaptive_lif import AdaptiveNeuron

# Powers of two, so that nothing is rounded.
THRESHOLD = torch.tensor([0.5, 1.0, 2.0])


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        *((LIF, {"reset": reset}) for reset in ("subtract", "zero", "none")),
        *((SynapticLIF, {"synapse_decay": 0.5, "reset": reset}) for reset in ("subtract", "zero")),
        (RecurrentLIF, {}),
        (AdaptiveLIF, {"refractory": 2}),
        (RecurrentAdaptiveLIF, {"refractory": 2}),
    ],
)
def test_a_neuron_whose_inputs_are_divided_by_its_threshold_fires_alike(
    kind: type[Neuron], settings: dict[str, object]
) -> None:
    torch.manual_seed(0)
    adapts = issubclass(kind, AdaptiveNeuron)
    neurons = kind(3, threshold=THRESHOLD, **settings, **({"adaptation": 0.3} if adapts else {}))
    same = kind(3, **settings, **({"adaptation": 0.3 / THRESHOLD} if adapts else {}))
    x = torch.randn(40, 4, 3) + 0.1
    with torch.no_grad():
        if hasattr(neurons, "recurrent_weight"):
            nn.init.normal_(neurons.recurrent_weight)
            same.recurrent_weight.copy_(neurons.recurrent_weight / THRESHOLD[:, None])
        spikes = neurons(x)
        assert torch.equal(spikes, same(x / THRESHOLD))
    rates = spikes.mean((0, 1))
    assert 0 < rates.min() < rates.max() < 1
