import itertools

import pytest
import torch

from rheobase import LIF, Neuron, SynapticLIF
from rheobase.ops.lif import synaptic_lif


@pytest.mark.parametrize("learn", [(), ("synapse_decay", "decay", "threshold")])
@pytest.mark.parametrize("space", [(), (3, 3)])
def test_passes_its_values_to_the_operation(learn, space):
    torch.manual_seed(0)
    x = torch.randn(9, 2, 3, *space)
    values = {
        "synapse_decay": torch.tensor([0.2, 0.5, 0.8]),
        "decay": torch.tensor([0.3, 0.6, 0.9]),
        "threshold": torch.tensor([0.5, 0.7, 1.1]),
    }
    layer = SynapticLIF(3, **values, reset="zero", learn=learn)
    assert isinstance(layer, Neuron)
    spikes, (membrane, current) = layer.run(x)
    for channel in range(3):
        own = [getattr(layer, name)[channel].item() for name in values]
        expected, (last, last_current) = synaptic_lif(x[:, :, channel], *own, reset="zero")
        assert torch.equal(spikes[:, :, channel], expected)
        assert torch.equal(membrane[:, channel], last)
        assert torch.equal(current[:, channel], last_current)


def test_without_memory_in_the_synapse_it_is_lif():
    x = torch.rand(9, 2, 3)
    assert torch.equal(SynapticLIF(synapse_decay=0.0, decay=0.7)(x), LIF(decay=0.7)(x))


def test_all_three_values_learn():
    torch.manual_seed(1)
    layer = SynapticLIF(3, threshold=0.5, learn=("synapse_decay", "decay", "threshold"))
    layer(torch.rand(6, 2, 3)).sum().backward()
    assert [name for name, _ in layer.named_parameters()] == ["raw_decay", "raw_threshold", "raw_synapse_decay"]
    assert all(bool((parameter.grad != 0).all()) for parameter in layer.parameters())


def test_cut_anywhere_is_the_whole():
    torch.manual_seed(2)
    x, layer = torch.rand(8, 2, 5), SynapticLIF(5)
    whole, last = layer.run(x)
    state, pieces = None, []
    for start, stop in itertools.pairwise((0, 3, 3, 7, 8)):
        piece, state = layer.run(x[start:stop], state)
        pieces.append(piece)
    assert torch.equal(torch.cat(pieces), whole)
    assert all(map(torch.equal, state, last))


@pytest.mark.usefixtures("as_a_user")
def test_a_synaptic_decay_out_of_range_is_named():
    with pytest.raises(ValueError, match=r"SynapticLIF: a fixed synapse_decay must be in \[0, 1\], got 1.5"):
        SynapticLIF(synapse_decay=1.5)
