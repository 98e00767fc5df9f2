"""What a new `Sequential` does to weights that nobody has chosen, and to those that somebody has."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, skip_init, weight_norm

import rheobase as rb
from rheobase.layers.initialization import CORRELATION, HIDDEN_RATE, deviation, is_untouched, kernel
from rheobase.surrogate import DEFAULT, Arctan, FastSigmoid


def noise_driven_rate(neurons, spread, steps=1500, count=400):
    """The firing rate of neurons whose membrane potential, without resets, has the standard deviation `spread`."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(steps, 1, count, generator=generator) * spread / kernel(neurons)[1].sqrt()
    with torch.no_grad():
        return neurons(x)[steps // 5 :].mean().item()


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.97])
@pytest.mark.parametrize("threshold", [1.0, 0.3])
def test_the_formula_gives_the_rate(reset, decay, threshold):
    neurons = rb.LIF(decay=decay, reset=reset, threshold=threshold)
    for rate in (0.03, 0.1):
        assert noise_driven_rate(neurons, deviation(neurons, rate)) == pytest.approx(rate, rel=0.2)


def test_the_formula_for_neurons_that_adapt():
    neurons = rb.AdaptiveLIF(decay=0.8, adaptation=0.2, adaptation_decay=0.95)
    assert noise_driven_rate(neurons, deviation(neurons)) == pytest.approx(HIDDEN_RATE, rel=0.35)
    resting = rb.AdaptiveLIF(decay=0.8, refractory=9)
    assert 0.02 < noise_driven_rate(resting, deviation(resting)) < 0.05


PARALLEL = {
    "parallel": lambda steps: rb.PSN(steps),
    "masked": lambda steps: rb.MaskedPSN(steps, order=8),
    "sliding": lambda steps: rb.SlidingPSN(order=8),
}


@pytest.mark.parametrize("kind", PARALLEL)
def test_the_formula_for_neurons_that_learn_their_mixing(kind):
    torch.manual_seed(0)
    neurons = PARALLEL[kind](300)
    assert noise_driven_rate(neurons, deviation(neurons), 300, 4000) == pytest.approx(HIDDEN_RATE, rel=0.2)


@pytest.mark.parametrize("kind", PARALLEL)
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.3])
def test_a_new_network_of_them_is_alive(kind, rate):
    torch.manual_seed(0)
    layers = [layer for n in (300, 128, 128) for layer in (nn.Linear(n, 128), PARALLEL[kind](100))]
    network = rb.Sequential(*layers, nn.Linear(128, 20), rb.LeakyReadout(20))
    with rb.health.Recorder(network) as recorder, torch.no_grad():
        network((torch.rand(100, 8, 300) < rate).float())
    assert all(0.02 < layer.rate < 0.4 and layer.dead < 0.1 for layer in recorder.layers())


@pytest.mark.parametrize(("decay", "synapse_decay"), [(0.9, 0.8), (0.5, 0.7), (0.9, 0.0), (0.0, 0.6)])
def test_the_kernel_is_the_response_to_a_spike(decay, synapse_decay):
    neurons = rb.SynapticLIF(decay=decay, synapse_decay=synapse_decay, threshold=1e9)
    impulse = torch.zeros(400, 1, 1)
    impulse[0] = 1
    state, response = None, []
    for step in impulse.split(1):
        _, state = neurons.run(step, state)
        response.append(state[0].item())
    total, squares = kernel(neurons)
    assert total.item() == pytest.approx(sum(response), rel=1e-4)
    assert squares.item() == pytest.approx(sum(value**2 for value in response), rel=1e-4)


def health(network, x):
    """Firing rates, and gradient norms of all weights under the cross-entropy of spike counts."""
    labels = torch.randint(0, 20, (x.shape[1],))
    with rb.health.Recorder(network) as recorder:
        loss = nn.functional.cross_entropy(network(x).sum(0), labels)
    weights = [layer.weight for layer in network if isinstance(layer, nn.Linear)]
    norms = [gradient.norm().item() for gradient in torch.autograd.grad(loss, weights)]
    return [layer.rate for layer in recorder.layers()], norms


def dense(*sizes, neurons=rb.LIF):
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), neurons(b))]
    return rb.Sequential(*layers)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("rate", [0.005, 0.02, 0.1, 0.3])
def test_a_new_network_is_alive_whatever_the_rate_of_its_input(rate, seed):
    torch.manual_seed(seed)
    x = (torch.rand(100, 64, 700) < rate).float()
    rates, norms = health(dense(700, 256, 256, 256, 20), x)
    assert all(0.02 < each < 0.3 for each in rates), rates
    assert max(norms) < 3 * min(norms), norms


def test_without_it_the_same_network_is_dead():
    torch.manual_seed(0)
    layers = [layer for a, b in ((700, 256), (256, 256), (256, 20)) for layer in (nn.Linear(a, b), rb.LIF(b))]
    rates, norms = health(rb.Sequential(*layers, input_rate=None), (torch.rand(100, 16, 700) < 0.02).float())
    assert rates[1:] == [0, 0]
    assert norms[-1] == 0


KINDS = {
    "reset to 0": lambda n: rb.LIF(n, reset="zero"),
    "no reset": lambda n: rb.LIF(n, reset="none"),
    "many decays": lambda n: rb.LIF(n, decay=torch.linspace(0.5, 0.97, n)),
    "other threshold": lambda n: rb.LIF(n, threshold=0.2),
    "synapse": rb.SynapticLIF,
    "adaptive": rb.AdaptiveLIF,
    "refractory": lambda n: rb.AdaptiveLIF(n, refractory=4),
    "recurrent adaptive": rb.RecurrentAdaptiveLIF,
}


@pytest.mark.parametrize("kind", KINDS)
def test_other_neurons(kind):
    torch.manual_seed(0)
    rates, norms = health(dense(200, 150, 150, 150, 20, neurons=KINDS[kind]), (torch.rand(80, 16, 200) < 0.05).float())
    assert all(0.02 < each < 0.34 for each in rates), rates
    assert max(norms) < 6 * min(norms), norms


@pytest.mark.parametrize(("decay", "rate"), [(0.5, 0.02), (0.5, 0.3), (0.9, 0.005), (0.9, 0.3), (0.99, 0.02)])
def test_recurrent_layers(decay, rate):
    torch.manual_seed(0)
    network = dense(200, 150, 150, 20, neurons=lambda n: rb.RecurrentLIF(n, decay=decay, self_connections=False))
    x = (torch.rand(80, 16, 200) < rate).float()
    rates, norms = health(network, x)
    assert all(0.02 < each < 0.34 for each in rates), rates
    assert min(norms) > 0
    for k in (1, 3):
        current = network[:k](x).detach().requires_grad_()
        noise, energies = torch.randn(80, 16, 150), []
        for detached in (False, True):
            network[k].detach_recurrent = detached
            (gradient,) = torch.autograd.grad(network[k](current), current, noise)
            energies.append(gradient.square().sum().item())
        assert 1.05 < energies[0] / energies[1] < 3, k


def test_recurrence_is_as_loud_as_the_input():
    torch.manual_seed(0)
    network = rb.Sequential(nn.Linear(200, 150), rb.RecurrentLIF(150), nn.Linear(150, 5))
    x = (torch.rand(200, 16, 200) < 0.02).float()
    with torch.no_grad():
        current, spikes = network[0](x), network[:2](x)
        recurrent = spikes @ network[1].recurrent_weight.t()
    clustered = 1 + CORRELATION * 0.9 / (1 - 0.9)  # as loud to the membrane, which spikes in clusters move further
    assert (recurrent.var() / current.var()).item() == pytest.approx(1 / clustered, rel=0.25)
    torch.testing.assert_close(network[1].recurrent_weight.mean(1), torch.zeros(150), atol=1e-6, rtol=0)


def recurrent_weights_set():
    layer = rb.RecurrentLIF(30)
    nn.init.orthogonal_(layer.recurrent_weight)
    return layer


class MyRecurrence(rb.RecurrentLIF):
    """Neurons with an initialization of their own, one change of the parameter as the usual one is."""

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.recurrent_weight, -(self.features**-0.5), self.features**-0.5)


@pytest.mark.parametrize(
    "make", [recurrent_weights_set, lambda: MyRecurrence(30), lambda: copy.deepcopy(rb.RecurrentLIF(30))]
)
def test_recurrent_weights_that_somebody_chose_are_left_alone(make):
    layer, linear = make(), drawn()
    before = layer.recurrent_weight.clone()
    rb.Sequential(linear, layer)
    assert torch.equal(layer.recurrent_weight, before)
    expected = deviation(layer) / (40 * 0.02 * 0.98 * kernel(layer)[1]).sqrt()
    assert ((linear.weight.std(1) / expected).mean() - 1).abs() < 0.05  # the input is all that is counted on


def test_recurrent_weights_are_left_alone_without_an_input_rate():
    layer = rb.RecurrentLIF(30)
    before = layer.recurrent_weight.clone()
    inner = rb.Sequential(drawn(), layer, input_rate=None)
    rb.Sequential(inner[0], layer)
    assert torch.equal(layer.recurrent_weight, before)


def test_the_unit_of_the_membrane_potential_does_not_matter():
    x, results = (torch.rand(50, 8, 60) < 0.05).float(), []
    for threshold in (1.0, 0.25):
        torch.manual_seed(0)
        network = dense(60, 50, 20, neurons=lambda n, threshold=threshold: rb.LIF(n, threshold=threshold))
        results.append((health(network, x), threshold))
    (rates, norms), _ = results[0]
    (others, other_norms), threshold = results[1]
    assert rates == others
    torch.testing.assert_close(torch.tensor(other_norms) * threshold, torch.tensor(norms), rtol=0.3, atol=0)


def test_neurons_that_fire_once():
    torch.manual_seed(0)
    network = dense(200, 150, 150, 20, neurons=rb.SingleSpike)
    rates, _ = health(network, (torch.rand(80, 16, 200) < 0.05).float())
    assert all(0.2 < 80 * each <= 1 for each in rates), rates


def test_a_convolutional_network():
    torch.manual_seed(0)
    network = rb.Sequential(
        nn.Conv2d(2, 12, 5), rb.LIF(12), nn.AvgPool2d(2),
        nn.Conv2d(12, 12, 3), rb.LIF(12), nn.Flatten(), nn.Linear(12 * 16, 40), rb.LIF(40),
        nn.Linear(40, 5), rb.LeakyReadout(5),
    )  # fmt: skip
    with rb.health.Recorder(network) as recorder:
        network((torch.rand(60, 4, 2, 16, 16) < 0.03).float())
    assert all(0.02 < layer.rate < 0.3 for layer in recorder.layers())


@pytest.mark.parametrize("settings", [{}, {"sampler": "gumbel"}, {"decay": 0.5, "synapse_decay": 0.0, "slope": 3.0}])
def test_neurons_that_fire_at_random_hear_their_input(settings):
    torch.manual_seed(0)
    network = dense(300, 128, 128, 128, neurons=lambda n: rb.SPSN(n, **settings))
    x = (torch.rand(200, 16, 300) < 0.02).float()
    for k in (1, 3, 5):
        layer = copy.deepcopy(network[k]).eval()
        layer.evaluation = "expected"  # the probability of a spike
        with torch.no_grad():
            logits = layer(network[:k](x)).logit()
        assert logits[60:].std().item() == pytest.approx(1, rel=0.35), k
        assert logits[60:].mean((0, 1)).std() < 0.4  # neurons are not constants that were drawn


def pooled(neurons, window):
    """Three convolutions, each pooled, and two linear layers, for images of 24 x 24."""
    torch.manual_seed(0)
    layers, side = [], 24
    for inputs, size in ((2, window), (12, 2), (24, 2)):
        outputs = 12 if inputs == 2 else 24
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), neurons(outputs), nn.AvgPool2d(size)]
        side //= size
    return rb.Sequential(*layers, nn.Flatten(), nn.Linear(24 * side**2, 40), neurons(40), nn.Linear(40, 5))


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_pooled_spikes_reach_deep_layers(rate, window):
    network = pooled(rb.LIF, window)
    with rb.health.Recorder(network) as recorder, torch.no_grad():
        network((torch.rand(50, 8, 2, 24, 24) < rate).float())
    assert all(0.02 < layer.rate < 0.34 and layer.dead < 0.25 for layer in recorder.layers()), recorder.layers()


AVERAGES = {
    "1": (nn.Conv1d, nn.AvgPool1d(4), (164,)),
    "2": (nn.Conv2d, nn.AvgPool2d((4, 2)), (36, 20)),
    "3": (nn.Conv3d, nn.AvgPool3d((1, 2, 2)), (8, 14, 14)),
}


@pytest.mark.parametrize("axes", AVERAGES)
def test_averages_over_any_axes(axes):
    torch.manual_seed(0)
    conv, average, shape = AVERAGES[axes]
    network = rb.Sequential(
        conv(2, 12, 3), rb.LIF(12), average, conv(12, 12, 3), rb.LIF(12), average, conv(12, 12, 1), rb.LIF(12)
    )
    with rb.health.Recorder(network) as recorder, torch.no_grad():
        network((torch.rand(50, 8, 2, *shape) < 0.02).float())
    assert all(0.04 < layer.rate < 0.2 for layer in recorder.layers()), recorder.layers()


@pytest.mark.parametrize("divisor", [1, 9])
def test_a_sum_is_an_average_times_its_units(divisor):
    def weights(**settings):
        torch.manual_seed(0)
        pooling = nn.AvgPool2d(1), nn.AvgPool2d(3, **settings)
        network = rb.Sequential(nn.Conv2d(2, 8, 3), rb.LIF(8), *pooling, nn.Conv2d(8, 8, 3), rb.LIF(8))
        return network[0].weight, network[4].weight

    first, second = weights(divisor_override=divisor)
    averaged = weights()
    assert torch.equal(first, averaged[0])
    torch.testing.assert_close(second, averaged[1] * divisor / 9)


def test_pooled_neurons_that_fire_once():
    network = pooled(rb.SingleSpike, 2)
    first = torch.rand(8, 2, 24, 24)
    x = (torch.arange(50).view(-1, 1, 1, 1, 1) == (first * 150).long()).float()  # a third of the inputs fire, once
    with rb.health.Recorder(network) as recorder:
        network(x).sum().backward()
    assert all(0.15 < 50 * layer.rate <= 1 for layer in recorder.layers()), recorder.layers()
    assert all(layer.weight.grad.any() for layer in network if hasattr(layer, "weight"))


def drawn(seed=0, inputs=40, outputs=30, **settings):
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs, **settings)


def test_what_is_done_is_arithmetic_on_what_was_drawn():
    before, layer = drawn(), drawn()
    network = rb.Sequential(layer, nn.Dropout(), nn.Identity(), rb.LIF(30, decay=torch.linspace(0.1, 0.9, 30)))
    assert network[0] is layer
    assert not layer.bias.any()
    torch.testing.assert_close(layer.weight.mean(1), torch.zeros(30), atol=1e-6, rtol=0)
    centred = before.weight - before.weight.mean(1, keepdim=True)
    scales = layer.weight / centred
    torch.testing.assert_close(scales, scales[:, :1].expand(-1, 40), rtol=1e-3, atol=0)
    expected = deviation(network[3]) / (40 * 0.02 * 0.98 * kernel(network[3])[1]).sqrt()
    assert ((layer.weight.std(1) / expected).mean() - 1).abs() < 0.05


def test_the_random_numbers_are_those_of_pytorch():
    torch.manual_seed(3)
    first, _ = drawn(3), torch.rand(1)
    after = torch.rand(1)
    torch.manual_seed(3)
    second, _ = drawn(3), torch.rand(1)
    rb.Sequential(first, rb.LIF(30))
    assert torch.equal(torch.rand(1), after)
    rb.Sequential(rb.Delay(0), second, rb.LIF(30))
    assert torch.equal(first.weight, second.weight)


def test_few_inputs_are_not_centred():
    layer = drawn(inputs=1, outputs=5)
    rb.Sequential(layer, rb.LIF(5))
    assert bool((layer.weight.abs() > 1e-3).all())


def test_an_assumed_rate():
    quiet, loud = drawn(), drawn()
    rb.Sequential(quiet, rb.LIF(30), input_rate=0.005)
    rb.Sequential(loud, rb.LIF(30), input_rate=0.3)
    assert (quiet.weight / loud.weight).mean().item() == pytest.approx(math.sqrt(0.3 * 0.7 / (0.005 * 0.995)), rel=1e-3)
    for rate in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="input_rate must be in"):
            rb.Sequential(drawn(), rb.LIF(30), input_rate=rate)


def hand_set():
    layer = drawn()
    with torch.no_grad():
        layer.weight.copy_(torch.rand(30, 40))
    return layer


def set_through_data(change):
    layer = drawn()
    layer.weight.data = change(layer.weight.data)
    return layer


def changed_through_data():
    layer = drawn()
    layer.weight.data.mul_(0.5)
    return layer


def initialized():
    layer = drawn()
    nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5))  # the same distribution, by hand
    return layer


def bias_set():
    layer = drawn()
    nn.init.zeros_(layer.bias)
    return layer


def loaded():
    layer = drawn()
    layer.load_state_dict(drawn(1).state_dict())
    return layer


def replaced():
    layer = drawn()
    layer.weight = nn.Parameter(torch.randn(30, 40) / 6)
    return layer


def trained():
    layer = drawn()
    layer(torch.ones(2, 40)).sum().backward()
    torch.optim.SGD(layer.parameters(), lr=1e-3).step()
    layer.zero_grad()
    return layer


class Mine(nn.Linear):
    """A layer with an initialization of its own, one change of the parameter as PyTorch's is."""

    def reset_parameters(self) -> None:
        bound = self.in_features**-0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)


def no_version():
    with torch.inference_mode():
        return drawn()


def test_a_network_is_built_in_inference_mode():
    with torch.inference_mode():
        network = rb.Sequential(nn.Linear(5, 4), rb.LIF(4), nn.Linear(4, 4), rb.LIF(4))
        rb.Sequential(network, nn.Linear(4, 3), rb.LeakyReadout(3))(torch.rand(6, 2, 5))


def zeroed():
    layer = skip_init(nn.Linear, 40, 30)
    for parameter in layer.parameters():
        parameter.data.zero_()
    return layer


CHOSEN = {
    "set by hand": hand_set,
    "set through data": lambda: set_through_data(torch.ones_like),
    "normal through data": lambda: set_through_data(lambda weight: torch.randn_like(weight) * 0.05),
    "halved through data": changed_through_data,
    "initialized": initialized,
    "bias set": bias_set,
    "loaded": loaded,
    "deep-copied": lambda: copy.deepcopy(drawn()),
    "replaced": replaced,
    "trained": trained,
    "an initialization of its own": lambda: Mine(40, 30),
    "not initialized": zeroed,
    "weight norm": lambda: parametrizations.weight_norm(drawn()),
    "spectral norm": lambda: parametrizations.spectral_norm(drawn()),
    "inference mode": no_version,
}


@pytest.mark.parametrize("kind", CHOSEN)
def test_what_somebody_chose_is_left_alone(kind):
    layer = CHOSEN[kind]().eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    neurons = rb.LIF(30)
    rb.Sequential(layer, neurons)
    after = layer.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert neurons.surrogate is DEFAULT


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_an_old_weight_norm_is_left_alone():
    layer = weight_norm(drawn())
    before = layer.weight_v.clone()
    rb.Sequential(layer, rb.LIF(30))
    assert torch.equal(layer.weight_v, before)


def test_shared_weights_are_left_alone():
    first, second = drawn(outputs=40), drawn(1, outputs=40)
    second.weight = first.weight
    before = first.weight.clone()
    rb.Sequential(first, rb.LIF(40), second, rb.LIF(40))
    rb.Sequential(first, rb.LIF(40), nn.Sequential(first, nn.Identity()), rb.LIF(40))
    assert torch.equal(first.weight, before)


def test_a_network_in_a_network_is_initialized_once():
    inner = rb.Sequential(drawn(), rb.LIF(30))
    before, surrogate = inner[0].weight.clone(), inner[1].surrogate
    rb.Sequential(inner, rb.LIF(30))
    rb.Sequential(*inner)
    sliced = inner[:2]
    assert torch.equal(inner[0].weight, before)
    assert inner[1].surrogate is surrogate is sliced[1].surrogate


def test_what_was_left_stays_left():
    layer = drawn()
    before = layer.weight.clone()
    network = rb.Sequential(layer, rb.LIF(30), input_rate=None)
    rb.Sequential(network[:1], rb.LIF(30))
    rb.Sequential(*network)
    assert torch.equal(layer.weight, before)
    assert network[1].surrogate is DEFAULT


@pytest.mark.parametrize(
    "behind",
    [
        lambda: [rb.LeakyReadout(30)],
        list,
        lambda: [nn.BatchNorm1d(30), rb.LIF(30)],
        lambda: [nn.BatchNorm1d(30, affine=False), rb.LIF(30)],
        lambda: [nn.LayerNorm(30), rb.LIF(30)],
        lambda: [nn.PReLU(), rb.LIF(30)],
        lambda: [copy.deepcopy(nn.Linear(30, 30)), rb.LIF(30)],
        lambda: [Relay(), rb.LIF(30)],
    ],
    ids=["readout", "nothing", "batch norm", "plain batch norm", "layer norm", "learned", "weights", "unknown neurons"],
)
def test_only_neurons_right_behind_count(behind):
    layer = drawn()
    before = layer.weight.clone()
    rb.Sequential(layer, *behind())
    assert torch.equal(layer.weight, before)
    assert is_untouched(layer)


class Relay(rb.Neuron):
    """Neurons of the user's, about which nothing is known."""

    def __init__(self) -> None:
        super().__init__(None, (), ())

    def run(self, x, state=None):
        return x, state


def test_on_the_meta_device_and_lazily():
    meta = rb.Sequential(nn.Linear(4, 3, device="meta"), rb.LIF(3))
    assert meta[0].weight.is_meta
    lazy = rb.Sequential(nn.LazyLinear(3), rb.LIF(3))
    assert lazy(torch.ones(5, 1, 4)).shape == (5, 1, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types(dtype):
    layer = drawn().to(dtype)
    rb.Sequential(layer, rb.LIF(30))
    reference = drawn()
    rb.Sequential(reference, rb.LIF(30))
    torch.testing.assert_close(layer.weight.float(), reference.weight, rtol=2e-2, atol=2e-2)
    assert layer.weight.dtype == dtype


def test_a_surrogate_that_was_chosen_is_kept():
    mine = FastSigmoid()
    assert mine == DEFAULT
    kept = rb.Sequential(drawn(), rb.LIF(30, surrogate=mine))
    assert kept[1].surrogate is mine
    given = rb.Sequential(drawn(), rb.LIF(30, decay=0.8))
    assert given[1].surrogate.dampening == pytest.approx(1.8 * 0.6 * 0.85)
    assert given[1].surrogate.sharpness == 1


def test_no_numbers_of_pytorch_are_mistaken_for_somebodys():
    for seed in range(50):
        for layer in (
            drawn(seed),
            drawn(seed, 3, 2),
            drawn(seed, 1, 1),
            nn.Conv2d(2, 3, 3),
            nn.Linear(500, 300, bias=False),
        ):
            assert is_untouched(layer)


@pytest.mark.parametrize("surrogate", [None, FastSigmoid(), Arctan()])
def test_a_copy_of_neurons_is_initialized_as_they_are(surrogate):
    def scaled(neurons):
        torch.manual_seed(0)
        return rb.Sequential(nn.Linear(20, 20), neurons, nn.Linear(20, 2))[1].surrogate

    neurons = rb.LIF(20, surrogate=surrogate)
    copied = copy.deepcopy(neurons)
    assert scaled(copied) == scaled(neurons)
    assert (copied.surrogate == (surrogate or DEFAULT)) == (surrogate is not None)
