"""Networks so small that every spike and every synaptic operation can be counted by hand."""

import json

import pytest
import torch
from torch import nn

import rheobase as rb
from rheobase import LIF
from rheobase.health import Recorder, listening, record_spikes


def constant(layer, weight, bias=None):
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight).expand_as(layer.weight))
        if bias is not None:
            layer.bias.copy_(torch.as_tensor(bias))
    return layer


def pass_through(*rates_per_ten):
    """Without memory, a neuron fires where its input is 1: rates are what the input makes them."""
    x = torch.zeros(10, 1, len(rates_per_ten))
    for neuron, spikes in enumerate(rates_per_ten):
        x[:spikes, 0, neuron] = 1
    return x


def test_dead_saturated_and_rates():
    network = rb.Sequential(LIF(5, decay=0.0))
    with Recorder(network) as recorder:
        network(pass_through(0, 1, 8, 9, 10))
    (layer,) = recorder.layers()
    assert layer.name == "0 LIF(5)"
    assert layer.neurons == 5
    torch.testing.assert_close(layer.rates, torch.tensor([0.0, 0.1, 0.8, 0.9, 1.0]))
    assert layer.rate == pytest.approx(28 / 50)
    assert layer.dead == pytest.approx(1 / 5)
    assert layer.saturated == pytest.approx(2 / 5)  # 9 of 10 steps count
    assert layer.spikes_per_sample == 28
    assert layer.synaptic_operations_per_sample == 0  # nobody receives them
    assert recorder.input().spikes_per_sample == 28


def test_silence_is_counted_sample_by_sample():
    x = torch.zeros(4, 3, 2)
    x[1, 0, 0] = x[2, 0, 0] = x[3, 1, 0] = 1  # the first neuron fires in two of three samples, the second in none
    network = rb.Sequential(LIF(2, decay=0.0))
    with Recorder(network) as recorder:
        network(x)
        network(torch.ones(4, 1, 2))  # a fourth sample, in a batch of its own
    (layer,) = recorder.layers()
    assert layer.silent == pytest.approx((1 + 3) / 8)
    assert layer.dead == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [256, 257, 3000])
def test_counts_are_exact_in_all_types(dtype, steps):
    x = torch.ones(steps, 3, 2, dtype=dtype)
    x[1] = 0
    network = rb.Sequential(LIF(2, decay=0.0))
    with Recorder(network) as recorder:
        network(x)
    assert recorder.layers()[0].spikes_per_sample == 2 * (steps - 1)


def test_probabilities_count_as_the_spikes_that_are_expected():
    layer = rb.SPSN(3, evaluation="expected").eval()
    x = torch.linspace(-2, 2, 300 * 2 * 3).view(300, 2, 3)
    with Recorder(layer) as recorder:
        expected = layer(x)
    assert recorder.layers()[0].rate == pytest.approx(expected.mean().item(), rel=1e-5)
    assert 0.1 < recorder.layers()[0].rate < 0.9


def test_operations_through_linear_layers():
    network = rb.Sequential(
        constant(nn.Linear(2, 3, bias=False), torch.eye(3)[:, :2]),
        LIF(3, decay=0.0),
        nn.ReLU(),
        nn.Linear(3, 7),
        LIF(7, threshold=1e6),
        nn.Linear(7, 11),
        input_rate=None,
    )
    with Recorder(network) as recorder:
        network(pass_through(4, 6))
    first, second = recorder.layers()
    assert recorder.input().spikes_per_sample == 10
    assert recorder.input().synaptic_operations_per_sample == 10 * 3
    assert (first.name, first.spikes_per_sample, first.synaptic_operations_per_sample) == ("1 LIF(3)", 10, 70)
    assert (second.name, second.dead, second.spikes_per_sample) == ("4 LIF(7)", 1, 0)
    assert second.synaptic_operations_per_sample == 0


@pytest.mark.parametrize(
    ("layer", "fan_out"),
    [
        (nn.Conv2d(4, 6, 3, bias=False), 6 * 9),
        (nn.Conv2d(4, 6, 3, groups=2, bias=False), 3 * 9),
        (nn.Conv2d(4, 4, 3, groups=4, bias=False), 9),
        (nn.Conv2d(4, 6, 4, stride=2, bias=False), 6 * 4),
        (nn.Conv2d(4, 6, (4, 3), stride=(2, 1), bias=False), 6 * 2 * 3),
        (nn.Conv2d(4, 6, 3, dilation=2, bias=False), 6 * 9),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, bias=False), 6 * 9),
    ],
    ids=str,
)
def test_operations_through_convolutions(layer, fan_out):
    # One spike in the middle; with weights of 1, the sum of the output counts the synapses that it crosses. A stride makes
    # that depend on where it is, so the count is averaged over one period of the stride.
    counts = []
    for row in range(8, 10):
        for column in range(8, 10):
            x = torch.zeros(1, 1, 4, 17, 17)
            x[0, 0, 1, row, column] = 1
            network = rb.Sequential(LIF(4), constant(layer, 1.0))
            with Recorder(network) as recorder:
                counts.append(network(x).sum().item())
            (neurons,) = recorder.layers()
            assert neurons.neurons == 4 * 17 * 17
            assert neurons.spikes_per_sample == 1
            assert neurons.synaptic_operations_per_sample == fan_out
    assert sum(counts) / len(counts) == fan_out


def test_pooling_passes_spikes_on():
    network = rb.Sequential(LIF(1, decay=0.0), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 5))
    x = torch.zeros(1, 1, 1, 4, 4)
    x[0, 0, 0, :2, :2] = 1  # four spikes become one
    with Recorder(network) as recorder:
        network(x)
    (layer,) = recorder.layers()
    assert layer.spikes_per_sample == 4
    assert layer.synaptic_operations_per_sample == 5


@pytest.mark.parametrize(
    "pooling", [nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2), nn.Sequential(nn.AvgPool2d((2, 1)), nn.AvgPool2d((1, 2)))]
)
def test_behind_average_pooling_every_spike_arrives(pooling):
    layers = pooling if isinstance(pooling, nn.Sequential) else [pooling]
    network = rb.Sequential(LIF(1, decay=0.0), *layers, nn.Flatten(), nn.Linear(4, 5))
    x = torch.zeros(1, 1, 1, 4, 4)
    x[0, 0, 0, :2, :2] = 1  # four spikes become a one
    x[0, 0, 0, 3, 3] = 1  # and one a quarter
    with Recorder(network) as recorder:
        network(x)
    (layer,) = recorder.layers()
    assert layer.spikes_per_sample == 5
    assert layer.synaptic_operations_per_sample == 25


@pytest.mark.parametrize(
    ("pooling", "arrive"),
    [
        (nn.AvgPool2d(2, divisor_override=1), 1.0),
        (nn.AvgPool2d(2, divisor_override=3), 1.0),
        (nn.AvgPool2d(2, padding=1, count_include_pad=False, divisor_override=2), 1.0),
        (nn.AvgPool2d(2, padding=1), 1.0),
        (nn.AvgPool2d(2, ceil_mode=True), 1.0),
        # Of what is divided by different numbers, it is values that count: three spikes, in two windows.
        (nn.AvgPool2d(2, padding=1, count_include_pad=False), 2 / 3),
        (nn.AvgPool2d(3, ceil_mode=True), 2 / 3),
    ],
    ids=repr,
)
def test_spikes_behind_pooling_that_divides_by_something_else(pooling, arrive):
    network = rb.Sequential(LIF(1, decay=0.0), pooling, nn.Conv2d(1, 3, 1))
    x = torch.zeros(1, 1, 1, 4, 4)
    x[0, 0, 0, 1, 1] = x[0, 0, 0, 3, 1] = x[0, 0, 0, 3, 2] = 1
    with Recorder(network) as recorder:
        network(x)
    (layer,) = recorder.layers()
    assert layer.spikes_per_sample == 3
    assert layer.synaptic_operations_per_sample == pytest.approx(3 * 3 * arrive)


def test_counts_of_spikes_in_the_input():
    network = rb.Sequential(nn.Linear(3, 4), LIF(4))
    x = torch.zeros(5, 2, 3)
    x[2, 0, 1], x[3, 1, 2] = 35, 2
    with Recorder(network) as recorder:
        network(x)
    received = recorder.input()
    assert (received.spikes_per_sample, received.synaptic_operations_per_sample) == (37 / 2, 4 * 37 / 2)
    assert not received.analog


@pytest.mark.parametrize("value", [0.5, -1.0])
def test_values_in_the_input_are_no_spikes(value):
    network = rb.Sequential(nn.Linear(3, 4), LIF(4))
    x = torch.zeros(5, 2, 3)
    x[2, 0, 1], x[3, 1, 2] = value, 7
    with Recorder(network) as recorder:
        network(x)
        network(torch.ones(5, 2, 3))
    received = recorder.input()
    assert received.analog
    assert (received.spikes_per_sample, received.synaptic_operations_per_sample) == ((2 + 30) / 4, 4 * (2 + 30) / 4)


def test_expected_spikes_cost_what_is_expected():
    neurons = rb.SPSN(3, evaluation="expected").eval()
    network = rb.Sequential(neurons, nn.Linear(3, 7), input_rate=None)
    with Recorder(network) as recorder:
        network(torch.linspace(-2, 2, 300 * 2 * 3).view(300, 2, 3))
    (layer,) = recorder.layers()
    assert layer.synaptic_operations_per_sample == pytest.approx(7 * layer.spikes_per_sample, rel=1e-5)


def test_values_behind_a_normalization_are_no_spikes():
    network = rb.Sequential(LIF(2, decay=0.0), nn.BatchNorm1d(2), nn.Linear(2, 7), input_rate=None)
    with Recorder(network) as recorder:
        network(pass_through(4, 5))
    (layer,) = recorder.layers()
    assert layer.synaptic_operations_per_sample == 2 * 10 * 7  # none of them is zero


class Branches(nn.Module):
    def __init__(self, joined: int) -> None:
        super().__init__()
        self.stem = LIF(2, decay=0.0)
        self.narrow = rb.Sequential(constant(nn.Linear(2, 3), 1.0, 0.0), LIF(3, decay=0.0, threshold=0.5))
        self.wide = rb.Sequential(nn.Dropout(0.0), constant(nn.Linear(2, 5), 0.0, 0.0), LIF(5, decay=0.0))
        self.joined = nn.Linear(joined, 11)

    def forward(self, x):
        x = self.stem(x)
        return self.joined(torch.cat([self.narrow(x), self.wide(x)], -1))


def test_where_a_network_branches_spikes_are_those_of_the_layer_that_is_heard():
    network = Branches(8)
    with Recorder(network) as recorder:
        network(pass_through(4, 0))
    stem, narrow, wide = recorder.layers()
    assert (stem.spikes_per_sample, stem.synaptic_operations_per_sample) == (4, 4 * (3 + 5))
    assert (narrow.spikes_per_sample, wide.spikes_per_sample) == (12, 0)
    # Of what is put together, nobody knows: it counts for the last, and counts at all.
    assert (narrow.synaptic_operations_per_sample, wide.synaptic_operations_per_sample) == (0, 12 * 11)


def test_a_shortcut_is_crossed_by_the_spikes_that_enter_it():
    block = rb.Residual(
        constant(nn.Linear(2, 3), 1.0, 0.0),
        LIF(3, decay=0.0, threshold=0.5),
        shortcut=constant(nn.Linear(2, 3), 1.0, 0.0),
    )
    with torch.no_grad():
        for layer in (block.body[0], block.shortcut[0]):
            layer.weight.fill_(1.0)
    network = rb.Sequential(LIF(2, decay=0.0), block, nn.Linear(3, 7), input_rate=None)
    with Recorder(network) as recorder:
        network(pass_through(4, 0))
    before, body = recorder.layers()
    assert before.synaptic_operations_per_sample == 4 * (3 + 3)
    assert body.spikes_per_sample == 12
    assert body.synaptic_operations_per_sample == 2 * 12 * 7  # its spikes, and what passed them


def test_a_network_that_is_called_by_name():
    network = rb.Sequential(LIF(2, decay=0.0), nn.Linear(2, 7), input_rate=None)
    with Recorder(network) as recorder:
        network(x=pass_through(4, 0))
    assert recorder.input().spikes_per_sample == recorder.layers()[0].spikes_per_sample == 4


def test_batches_of_different_size_and_length_add_up():
    network = rb.Sequential(LIF(2, decay=0.0), nn.Linear(2, 3))
    with Recorder(network) as recorder:
        network(torch.ones(4, 1, 2))
        network(torch.zeros(2, 5, 2))
        network(torch.zeros(4, 0, 2))
    (layer,) = recorder.layers()
    assert layer.rate == pytest.approx(4 / (4 * 1 + 2 * 5))
    assert layer.spikes_per_sample == pytest.approx(8 / 6)
    assert layer.synaptic_operations_per_sample == pytest.approx(24 / 6)
    assert recorder.input().spikes_per_sample == pytest.approx(8 / 6)
    assert recorder.input().synaptic_operations_per_sample == 0  # it meets no synapse before the neurons


def test_a_neuron_must_be_silent_in_all_batches_to_be_dead():
    network = rb.Sequential(LIF(2, decay=0.0))
    with Recorder(network) as recorder:
        network(torch.tensor([[[1.0, 0.0]]]))
        network(torch.tensor([[[0.0, 0.0]]]))
    assert recorder.layers()[0].dead == 0.5


def test_nothing_seen():
    network = rb.Sequential(LIF(2), nn.Linear(2, 2))
    recorder = Recorder(network)
    assert recorder.layers() == []
    assert recorder.input().spikes_per_sample == 0
    with recorder:
        network(torch.zeros(5, 0, 2))
    (layer,) = recorder.layers()
    assert (layer.neurons, layer.rate, layer.dead, layer.spikes_per_sample) == (2, 0, 1, 0)


def hooks(network):
    return [hook for module in network.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)]


def test_no_hook_is_left():
    network = rb.Sequential(nn.Linear(2, 2), LIF(2), nn.Linear(2, 2))
    with Recorder(network) as recorder:
        assert hooks(network)
    assert not hooks(network)
    network(torch.ones(3, 1, 2))
    assert recorder.layers() == []
    with pytest.raises(RuntimeError, match="mat1 and mat2"), Recorder(network):
        network(torch.ones(3, 1, 5))
    assert not hooks(network)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        record_spikes(network, torch.ones(3, 1, 5))
    assert not hooks(network)


def test_recording_changes_nothing():
    torch.manual_seed(0)
    network = rb.Sequential(nn.Linear(3, 4), LIF(4, threshold=0.2, learn=("decay",)), nn.Linear(4, 2))
    x = torch.randn(5, 2, 3)
    with Recorder(network):
        output = network(x)
    assert torch.equal(output, network(x))
    output.sum().backward()
    assert network[1].raw_decay.grad is not None


def test_a_layer_that_is_used_twice_counts_its_steps_twice():
    neurons = LIF(2, decay=0.0)
    network = rb.Sequential(neurons, constant(nn.Linear(2, 2, bias=False), torch.eye(2)), neurons)
    with Recorder(network) as recorder:
        network(pass_through(4, 10))
    (layer,) = recorder.layers()
    torch.testing.assert_close(layer.rates, torch.tensor([0.4, 1.0]))
    assert layer.spikes_per_sample == 28
    assert layer.synaptic_operations_per_sample == 28


@pytest.mark.parametrize(
    ("neurons", "recurrent"),
    [
        (rb.RecurrentLIF(5, decay=0.0), 5),
        (rb.RecurrentLIF(5, decay=0.0, self_connections=False), 4),
        (rb.RecurrentAdaptiveLIF(5, decay=0.0), 5),
    ],
)
def test_operations_of_neurons_that_hear_one_another(neurons, recurrent):
    with torch.no_grad():
        neurons.recurrent_weight.zero_()
    network = rb.Sequential(neurons, nn.Linear(5, 7), input_rate=None)
    with Recorder(network) as recorder:
        network(pass_through(4, 0, 0, 0, 0))
    (layer,) = recorder.layers()
    assert layer.synaptic_operations_per_sample == layer.spikes_per_sample * (recurrent + 7) > 0


def test_feedback_is_crossed_by_the_neurons_own_spikes():
    neurons = rb.ParaLIF(5, synapse_decay=0.0, decay=0.0, recurrent=True)
    with torch.no_grad():
        neurons.feedback.weight.zero_()
    network = rb.Sequential(LIF(2, decay=0.0), constant(nn.Linear(2, 5), 1.0, 0.0), neurons, nn.Linear(5, 7))
    with Recorder(network) as recorder:
        network(pass_through(4, 0))
    first, second = recorder.layers()
    assert (first.spikes_per_sample, first.synaptic_operations_per_sample) == (4, 4 * 5)
    assert second.spikes_per_sample == 4 * 5
    assert second.synaptic_operations_per_sample == 4 * 5 * (5 + 7)


def test_streaming_is_not_half_recorded():
    network = rb.Sequential(nn.Linear(2, 2), LIF(2), nn.Linear(2, 3))
    with Recorder(network) as recorder:
        network(torch.ones(4, 1, 2))
        before = recorder.input(), recorder.layers()
        network.run(torch.ones(4, 1, 2))
    assert (recorder.input(), recorder.layers()) == before


def test_several_processes_add_up():
    network = rb.Sequential(LIF(2, decay=0.0), nn.Linear(2, 3))
    with Recorder(network) as recorder:
        network(torch.ones(4, 2, 2))
    alone = recorder.layers()[0]
    recorder.combine(lambda count: 2 * count)  # another process that saw the same
    both = recorder.layers()[0]
    assert alone == both
    assert recorder.input().spikes_per_sample == 8


def test_names_of_layers_in_any_module():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = rb.Sequential(nn.Linear(2, 3), LIF(3), rb.Sequential(LIF()))

        def forward(self, x):
            return self.body(x)

    spikes, output = record_spikes(Net(), torch.rand(4, 1, 2))
    assert list(spikes) == ["body.1 LIF(3)", "body.2.0 LIF"]
    assert output.shape == (4, 1, 3)
    neuron = LIF(2)
    with Recorder(neuron) as recorder:
        neuron(torch.ones(1, 1, 2))
    assert [(layer.name, layer.rate) for layer in recorder.layers()] == [("LIF(2)", 1)]


def test_recorded_spikes_are_those_of_the_layers():
    torch.manual_seed(0)
    network = rb.Sequential(nn.Conv2d(1, 2, 3), LIF(2, threshold=0.2), nn.Flatten(), nn.Linear(8, 3), LIF(3))
    x = torch.rand(6, 2, 1, 4, 4)
    spikes, output = record_spikes(network, x)
    assert torch.equal(spikes["1 LIF(2)"], network[:2](x))
    assert spikes["1 LIF(2)"].shape == (6, 2, 2, 2, 2)
    assert torch.equal(output, spikes["4 LIF(3)"])
    assert not output.requires_grad


def test_a_layer_that_runs_twice_is_recorded_twice():
    neurons = LIF(2, decay=0.0)
    network = rb.Sequential(neurons, constant(nn.Linear(2, 2, bias=False), torch.tensor([[0.0, 1], [1, 0]])), neurons)
    x = pass_through(4, 10)
    with listening(network) as spikes:
        for _ in range(2):  # of which the last call counts
            output = network(x)
    assert torch.equal(spikes["0 LIF(2)"], torch.cat((x, output)))
    assert torch.equal(output, x.flip(2))


def test_health_as_json():
    network = rb.Sequential(LIF(2))
    with Recorder(network) as recorder:
        network(torch.ones(4, 2, 2))
    assert json.loads(json.dumps(recorder.layers()[0].as_dict())) == {
        "name": "0 LIF(2)",
        "neurons": 2,
        "rate": 1.0,
        "dead": 0.0,
        "silent": 0.0,
        "saturated": 1.0,
        "spikes_per_sample": 8.0,
        "synaptic_operations_per_sample": 0.0,
        "fires_once_in": None,
    }


def test_neurons_that_fire_once_say_in_how_many_steps():
    network = rb.Sequential(nn.Linear(2, 3), rb.Hold(7), rb.SingleSpike(3), nn.Linear(3, 2), LIF(2))
    with Recorder(network) as recorder:
        network(torch.ones(1, 2, 2))
    assert [layer.fires_once_in for layer in recorder.layers()] == [7, None]


@pytest.mark.parametrize(
    "record",
    [
        record_spikes,
        lambda network, x: rb.evaluate(network, rb.data.ArrayDataset(x, torch.zeros(len(x[0])).long().numpy())),
    ],
)
def test_a_layer_of_two_widths_is_named(record):
    shared = LIF()
    network = rb.Sequential(nn.Linear(4, 8), shared, nn.Linear(8, 3), shared, nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"layer 1 LIF runs with 8 and with 3 neurons.*a layer of its own for each"):
        record(network, torch.rand(5, 2, 4))
