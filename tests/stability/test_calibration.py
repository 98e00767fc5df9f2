"""`rheobase.stabilize`: alive and even, whatever the network; and what it refuses."""

import copy
import re
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import rheobase as rb
from rheobase import stabilize
from rheobase.stability.walk import measure
from rheobase.surrogate import Surrogate, Triangular


def spikes(*shape, rate=0.03, seed=0):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def dense(neurons, depth=3, inputs=60, width=50, readout=True):
    torch.manual_seed(0)
    layers = []
    for k in range(depth):
        layers += [nn.Linear(width if k else inputs, width), neurons(width)]
    end = [nn.Linear(width, 10), rb.LeakyReadout(10)] if readout else []
    return rb.Sequential(*layers, *end, input_rate=None)


def health(network, x):
    """Firing rates, and the gradient norms of all weights, for another loss and other samples than those of the calibration."""
    with rb.health.Recorder(network) as recorder:
        output = network(x).mean(0)
    loss = nn.functional.cross_entropy(output, torch.arange(x.shape[1]) % output.shape[1])
    weights = [layer.weight for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    norms = [gradient.norm().item() for gradient in torch.autograd.grad(loss, weights)]
    return [layer.rate for layer in recorder.layers()], norms


def check(network, x, other, apart=3.0, **settings):
    done = stabilize(network, x, **settings)
    rates, norms = health(network, other)
    assert all(0.5 * layer.rate[1] < rate < 2 * layer.rate[1] for layer, rate in zip(done.layers, rates, strict=True))
    assert max(norms) < apart * min(norms), norms
    return done, rates


KINDS = {
    "decay 0.5": partial(rb.LIF, decay=0.5),
    "decay 0.99": partial(rb.LIF, decay=0.99),
    "many decays": lambda n: rb.LIF(n, decay=torch.linspace(0.5, 0.99, n), learn=("decay", "threshold")),
    "reset to 0": partial(rb.LIF, reset="zero"),
    "no reset": partial(rb.LIF, reset="none"),
    "attached": partial(rb.LIF, reset_gradient="attached"),
    "other shape": partial(rb.LIF, surrogate=Triangular(0.3, 0.5)),
    "synapse": rb.SynapticLIF,
    "recurrent": rb.RecurrentLIF,
    "rouser": rb.Rouser,
}


@pytest.mark.parametrize("kind", KINDS)
def test_alive_and_even(kind):
    x, other = (spikes(80, 12, 60, rate=0.06, seed=seed) for seed in (0, 1))
    _, rates = check(dense(KINDS[kind]), x, other, recurrent="even")
    assert all(0.05 < rate < 0.2 for rate in rates), rates


def test_deep_and_long():
    _, rates = check(dense(partial(rb.LIF, decay=0.95), depth=20), spikes(250, 16, 60), spikes(250, 16, 60, seed=1))
    assert all(0.02 < rate < 0.3 for rate in rates)


def test_wanted_rates():
    done, _ = check(dense(rb.LIF), spikes(80, 12, 60), spikes(80, 12, 60, seed=1), rate=0.2)
    assert [layer.rate[1] for layer in done.layers] == pytest.approx([0.2] * 3, rel=0.03)
    resting, _ = check(
        dense(partial(rb.AdaptiveLIF, refractory=9), depth=2), spikes(80, 12, 60), spikes(80, 12, 60, seed=1)
    )
    assert [layer.rate[1] for layer in resting.layers] == pytest.approx([0.05] * 2, rel=0.03)


@pytest.mark.parametrize("fire_by_end", [False, True])
def test_neurons_that_fire_once(fire_by_end):
    network = dense(partial(rb.SingleSpike, decay=0.95, fire_by_end=fire_by_end))
    stabilize(network, spikes(60, 12, 60))
    with torch.no_grad(), rb.health.listening(network) as recorded:
        network(spikes(60, 12, 60))
    for each in recorded.values():
        assert each[:-1].sum(0).mean().item() == pytest.approx(0.5, abs=0.05)


def test_convolutions_with_normalization_and_pooling():
    torch.manual_seed(0)
    network = rb.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), rb.LIF(8), nn.AvgPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1), rb.LIF(8), nn.MaxPool2d(2), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(8 * 9, 30), rb.LIF(30), nn.Linear(30, 5), rb.LeakyReadout(5),
    )  # fmt: skip
    statistics = {name: value.clone() for name, value in network.named_buffers()}
    done = stabilize(network, spikes(40, 6, 2, 12, 12, rate=0.1))
    assert [layer.rate[1] for layer in done.layers] == pytest.approx([0.1] * 3, rel=0.03)
    assert all(torch.equal(value, statistics[name]) for name, value in network.named_buffers())
    assert all(module.training for module in network.modules())
    assert bool(torch.all(network[1].weight == network[1].weight[0]))
    assert network[1].weight[0] != 1  # scaling what comes before a normalization would do nothing


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
def test_normalizations_are_scaled_like_weights(kind):
    torch.manual_seed(0)
    network, x = rb.Sequential(nn.Linear(60, 40), kind(40), rb.LIF(40), nn.Linear(40, 5)), spikes(40, 8, 60)
    done = stabilize(network, x)
    assert done.layers[0].rate[1] == pytest.approx(0.1, rel=0.03)
    assert health(network, x)[0] == pytest.approx([done.layers[0].rate[1]])
    assert bool((network[1].weight != 1).all())  # scaling what comes before a normalization would do nothing


@pytest.mark.parametrize("evaluation", ["sampled", "threshold", "expected"])
def test_neurons_fire_as_in_training(evaluation):
    network, x = dense(partial(rb.SPSN, evaluation=evaluation), depth=2).eval(), spikes(80, 12, 60, rate=0.06)
    done = stabilize(network, x, rate=0.3)
    assert not any(module.training for module in network.modules())
    rates = health(network.train(), x)[0]
    assert rates == pytest.approx([layer.rate[1] for layer in done.layers], rel=0.02)
    assert rates == pytest.approx([0.3] * 2, rel=0.05)


def convolutions(depth=6, channels=12):
    """All samples look alike behind them, and gradients go back through one direction."""
    torch.manual_seed(7)
    layers = []
    for k in range(depth):
        layers += [nn.Conv2d(channels if k else 2, channels, 3, padding=1), rb.LIF(channels)]
        layers += [nn.AvgPool2d(2)] if k % 2 else []
    features = channels * (16 >> depth // 2) ** 2
    return rb.Sequential(*layers, nn.Flatten(), nn.Linear(features, 20), rb.LeakyReadout(20), input_rate=None)


def test_convolutions_are_as_even_as_dense_layers():
    network, shape = convolutions(), (20, 16, 2, 16, 16)
    stabilize(network, spikes(*shape))
    output = network(spikes(*shape, seed=1)).mean(0)
    weights = [layer.weight for layer in network if isinstance(layer, nn.Linear | nn.Conv2d)]
    squares = torch.zeros(len(weights))
    for labels in torch.randint(20, (8, 16), generator=torch.Generator().manual_seed(2)):
        loss = nn.functional.cross_entropy(output, labels)
        gradients = torch.autograd.grad(loss, weights, retain_graph=True)
        squares += torch.stack([gradient.square().sum() for gradient in gradients])
    assert squares.max().sqrt() < 2 * squares.min().sqrt(), squares.sqrt()


@pytest.mark.parametrize("steps", [30, 16], ids=["steps", "as many steps as samples"])
def test_an_input_that_is_held_is_as_good_as_one_that_is_repeated(steps):
    held, repeated = dense(rb.LIF), dense(rb.LIF)
    x = torch.rand(1, 16, 60, generator=torch.Generator().manual_seed(0))
    one = stabilize(rb.Sequential(*held[:1], rb.Hold(steps), *held[1:], input_rate=None), x)
    other = stabilize(repeated, x.expand(steps, -1, -1))
    for of_held, of_repeated in zip(one.layers, other.layers, strict=True):
        assert of_held.rate == pytest.approx(of_repeated.rate, rel=1e-3)
        assert of_held.gradient == pytest.approx(of_repeated.gradient, rel=1e-2)
        assert of_held.dampening == pytest.approx(of_repeated.dampening, rel=1e-2)


def test_at_first_the_output_says_nothing():
    network, x = dense(rb.LIF), spikes(80, 12, 60, rate=0.06)
    bias = network[-2].bias.detach().clone()
    stabilize(network, x)
    assert torch.equal(network[-2].bias, bias)
    torch.testing.assert_close(network[:-1](x).mean((0, 1)), bias, atol=1e-5, rtol=0)


class Skip(nn.Module):
    """No `Sequential`: two branches that meet."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.one = nn.Linear(60, 40), rb.LIF(40)
        self.second, self.two = nn.Linear(40, 40), rb.LIF(40)
        self.last = nn.Linear(40, 5)

    def forward(self, x):
        one = self.one(self.first(x))
        return self.last(self.two(self.second(one)) + one)


def test_any_module():
    torch.manual_seed(0)
    network = Skip()
    done = stabilize(network, spikes(80, 12, 60))
    assert [layer.name for layer in done.layers] == ["one LIF(40)", "two LIF(40)"]
    assert [layer.rate[1] for layer in done.layers] == pytest.approx([0.1] * 2, rel=0.03)
    norms = [layer.gradient[1] for layer in done.layers]
    assert max(norms) < 1.5 * min(norms)


def test_neurons_as_the_output_keep_their_surrogate():
    network = dense(rb.LIF, readout=False)
    last = network[-1].surrogate
    done = stabilize(network, spikes(80, 12, 60))
    assert network[-1].surrogate == last
    assert max(layer.gradient[1] for layer in done.layers) < 1.1 * min(layer.gradient[1] for layer in done.layers)


def test_recurrent_weights_are_as_loud_as_the_input():
    network = dense(rb.RecurrentLIF, depth=1)
    done = stabilize(network, spikes(200, 16, 60))
    layer, x = network[1], spikes(200, 16, 60)
    with torch.no_grad():
        current = network[0](x)
        heard = layer(current) @ layer.recurrent_weight.t()
    assert done.layers[0].balance != 1
    assert (heard.var() / current.var()).item() == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize("settings", [{"decay": 0.5}, {"decay": 0.9}, {"decay": 0.9, "reset_gradient": "attached"}])
@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_recurrence_adds_half_to_the_gradient(settings, rate):
    network = dense(partial(rb.RecurrentLIF, **settings), depth=1)
    stabilize(network, spikes(120, 16, 60, rate=rate))
    x = network[0](spikes(120, 16, 60, rate=rate, seed=1)).detach().requires_grad_()
    assert not network[1].detach_recurrent
    noise = torch.randn(120, 16, 50, generator=torch.Generator().manual_seed(7))
    energies = []
    for detached in (False, True):
        network[1].detach_recurrent = detached
        (gradient,) = torch.autograd.grad(network[1](x), x, noise)
        energies.append(gradient.square().sum().item())
    assert energies[0] / energies[1] == pytest.approx(1.5, rel=0.15)


def test_where_nothing_comes_back_the_gradient_is_even():
    networks, x = [dense(rb.RecurrentLIF, depth=1) for _ in range(2)], spikes(80, 12, 60)
    with torch.no_grad():
        networks[0][1].recurrent_weight.zero_()
    networks[1][1].detach_recurrent = True
    for network in networks:
        done = stabilize(network, x)
        assert done.layers[0].gradient[1] == pytest.approx(measure(network, x, 0).last, rel=0.05)


def test_the_same_network_and_batch_give_the_same():
    networks, x = [dense(rb.LIF), dense(rb.LIF)], spikes(50, 8, 60)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = stabilize(networks[0], x)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = stabilize(networks[1], x)
    assert str(first) == str(second)
    ours, theirs = (network.state_dict() for network in networks)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [layer.surrogate for layer in networks[0][1:6:2]] == [layer.surrogate for layer in networks[1][1:6:2]]
    assert all(parameter.grad is None for parameter in networks[0].parameters())


def test_without_gradients_it_is_the_same():
    network, x = dense(rb.LIF, depth=2), spikes(20, 4, 60)
    expected = str(stabilize(copy.deepcopy(network), x))
    with torch.no_grad():
        assert str(stabilize(network, x)) == expected
        assert not torch.is_grad_enabled()


def test_what_is_stable_hardly_changes():
    network, x = dense(rb.LIF), spikes(50, 8, 60)
    stabilize(network, x)
    again = stabilize(network, x)
    assert all(layer.scale == pytest.approx(1, abs=0.03) for layer in again.layers)
    assert all(layer.dampening[1] == pytest.approx(layer.dampening[0], rel=0.1) for layer in again.layers)


def test_it_prints_a_table():
    network = dense(rb.LIF, depth=2)
    lines = str(stabilize(network, spikes(50, 8, 60))).splitlines()
    assert lines[0].split("  ")[0] == "layer"
    assert lines[1].startswith("1 LIF(50)")
    assert " % -> 10 %" in lines[2]
    assert "weights x" in lines[1]
    assert "dampening 1 ->" in lines[1]


def test_where_scaling_cannot_help_the_mean_is_raised():
    network = dense(rb.LIF, depth=2)
    nn.init.constant_(network[2].bias, -5.0)
    done = stabilize(network, spikes(80, 12, 60))
    assert done.layers[1].shift > 0
    torch.testing.assert_close(network[2].bias, torch.full((50,), done.layers[1].shift - 5))
    assert done.layers[1].rate[1] == pytest.approx(0.1, rel=0.1)


def test_without_a_bias_the_mean_of_recurrent_weights_is_raised():
    torch.manual_seed(0)
    network = rb.Sequential(
        nn.Linear(12, 50, bias=False), rb.RecurrentLIF(50, decay=0.5), nn.Linear(50, 5), input_rate=None
    )
    with torch.no_grad():  # of so few weights the mean stays
        network[0].weight.abs_().neg_()
        network[0].weight[:2] *= -20  # two neurons fire, the others only if these tell them to
        network[1].recurrent_weight.zero_()
    done = stabilize(network, spikes(80, 12, 12, rate=0.1))
    assert done.layers[0].shift > 0
    assert done.layers[0].rate[1] == pytest.approx(0.1, rel=0.5)


class Parrot(rb.Neuron):
    """Neurons without a surrogate."""

    def __init__(self) -> None:
        super().__init__(None, (), ())

    def run(self, x, state=None):
        return (torch.rand_like(x) < (4 * x - 4).sigmoid()).to(x) + x - x.detach(), state


def test_neurons_without_a_surrogate_that_fire_at_random():
    network = dense(lambda n: Parrot())
    done = stabilize(network, spikes(50, 8, 60))
    assert [layer.dampening for layer in done.layers] == [None] * 3
    assert "dampening" not in str(done)


EVERY_KIND = {
    **KINDS,
    "single spike": rb.SingleSpike,
    "adaptive": partial(rb.AdaptiveLIF, refractory=2),
    "recurrent adaptive": rb.RecurrentAdaptiveLIF,
    "parallel": lambda n: rb.PSN(80),
    "masked": lambda n: rb.MaskedPSN(80, order=8),
    "sliding": lambda n: rb.SlidingPSN(order=8),
    "stochastic": rb.SPSN,
    "ParaLIF": rb.ParaLIF,
}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_all_neurons_are_alive(kind):
    network, x = dense(EVERY_KIND[kind], depth=4), spikes(80, 16, 60, rate=0.06)
    done = stabilize(network, x)
    with torch.no_grad(), rb.health.Recorder(network) as recorder:
        network(x)
    for layer, change in zip(recorder.layers(), done.layers, strict=True):
        assert layer.dead < (0.3 if kind == "single spike" else 0.05)  # these are to fire in half of all cases
        assert layer.rate == pytest.approx(0.5 / 80 if kind == "single spike" else 0.1, rel=0.15)
        assert change.centred
        assert change.limited or change.dampening is None or change.gradient[1] > 0


@pytest.mark.parametrize(("kind", "depth"), [("decay 0.5", 6), ("decay 0.99", 3), ("recurrent", 3)])
def test_the_doctor_has_nothing_to_say(kind, depth):
    network, x = dense(KINDS[kind], depth=depth, width=100), spikes(100, 16, 60, rate=0.06)
    stabilize(network, x, recurrent="even")
    assert rb.doctor(network, x).healthy, str(rb.doctor(network, x))


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.45, 0.6])
def test_neurons_that_fire_at_rest_are_made_quieter(rate):
    network, x = dense(rb.SPSN), spikes(80, 12, 60, rate=0.06)
    done = stabilize(network, x, rate=rate)
    assert all(layer.rate[1] == pytest.approx(rate, rel=0.05) for layer in done.layers)
    assert [layer.shift < 0 for layer in done.layers] == [rate < 0.5] * 3


def test_neurons_that_are_to_fire_at_most_steps():
    done = stabilize(dense(rb.LIF), spikes(80, 12, 60, rate=0.06), rate=0.7)
    assert all(layer.rate[1] == pytest.approx(0.7, rel=0.1) for layer in done.layers)


def test_in_pieces_it_is_the_same():
    whole, pieces = dense(rb.LIF), dense(rb.LIF)
    x = spikes(80, 12, 60)
    wrapped = rb.Recompute(pieces)
    done, same = stabilize(whole, x), stabilize(wrapped, x)
    assert [layer.gradient for layer in done.layers] == [layer.gradient for layer in same.layers]
    assert all(torch.equal(*each) for each in zip(whole.parameters(), pieces.parameters(), strict=True))
    assert "forward" not in vars(wrapped)
    torch.testing.assert_close(wrapped(x), whole(x))


def test_standardized_weights_are_scaled_by_their_deviation():
    network, x = dense(rb.LIF), spikes(80, 12, 60)
    free = [rb.standardize(network[k], variance=1e-3).parametrizations.weight.original for k in (0, 2, 4)]
    before = [weight.clone() for weight in free]
    done = stabilize(network, x)
    assert all(layer.rate[1] == pytest.approx(0.1, rel=0.1) and not layer.centred for layer in done.layers)
    assert all(map(torch.equal, before, free))
    norms = [layer.gradient[1] for layer in done.layers]
    assert max(norms) < 1.1 * min(norms)


def test_where_no_more_gradient_can_be_had_the_table_says_so():
    network, x = dense(partial(rb.LIF, surrogate=Triangular(sharpness=1e3)), depth=2), spikes(80, 12, 60)
    for _ in range(2):  # the second time it is not raised further
        done = stabilize(network, x)
        assert all(layer.limited and layer.dampening[1] == 10 for layer in done.layers)
        assert str(done).count("(the most)") == 2
    assert all(layer.dampening[0] == 10 for layer in done.layers)


def test_a_dampening_that_was_chosen_larger_stays_the_most():
    network = dense(partial(rb.LIF, surrogate=Triangular(20.0, sharpness=1e3)), depth=1)
    done = stabilize(network, spikes(80, 12, 60))
    assert done.layers[0].limited
    assert done.layers[0].dampening == (20.0, 20.0)


def test_other_errors():
    x = spikes(20, 4, 60)
    with pytest.raises(ValueError, match="rate must be in"):
        stabilize(dense(rb.LIF), x, rate=1.5)
    with pytest.raises(ValueError, match="no layer of neurons"):
        stabilize(nn.Linear(60, 5), x)
    with pytest.raises(ValueError, match="not finite"):
        stabilize(dense(rb.LIF), x / 0)
    with pytest.raises(ValueError, match=r"stabilize: batch must hold samples, got shape \(20, 0, 60\)"):
        stabilize(dense(rb.LIF), x[:, :0])
    network = dense(rb.LIF)
    nn.init.zeros_(network[0].bias)
    with pytest.raises(ValueError, match=r"no current reaches 1 LIF\(50\)"):
        stabilize(network, torch.zeros_like(x))
    with pytest.raises(ValueError, match="the gradient of the output with respect to the last weights must be above 0"):
        stabilize(dense(rb.LIF).requires_grad_(False), x)


class Streaming(nn.Module):
    """A network that is not called, but run."""

    def __init__(self, network: rb.Sequential) -> None:
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network.run(x)[0]


def test_what_cannot_be_scaled_is_named():
    x = spikes(20, 4, 60)
    network = dense(rb.LIF)
    parametrizations.weight_norm(network[2])
    with pytest.raises(ValueError, match=r"Linear in front of 3 LIF\(50\) cannot be scaled"):
        stabilize(network, x)
    for position in (0, 2):
        network = dense(rb.LIF)
        prune.l1_unstructured(network[position], "weight", amount=0.5)
        with pytest.raises(ValueError, match=rf"in front of {position + 1} LIF\(50\) cannot be scaled.* pruning"):
            stabilize(network, x)
    torch.manual_seed(0)
    normal = rb.Sequential(nn.Linear(60, 20), nn.BatchNorm1d(20, affine=False), rb.LIF(20), nn.Linear(20, 2))
    with pytest.raises(ValueError, match=r"BatchNorm1d in front of 2 LIF\(20\) cannot be scaled: it has none"):
        stabilize(normal, x)
    network = dense(rb.LIF)
    network[4].weight = network[2].weight
    with pytest.raises(ValueError, match=r"Linear in front of 5 LIF\(50\) are shared with an earlier layer"):
        stabilize(network, x)
    twice = dense(rb.LIF)
    twice[3] = twice[1]
    with pytest.raises(ValueError, match="the same layer of neurons runs twice"):
        stabilize(twice, x)
    with pytest.raises(ValueError, match=r"LIF\(50\).* did not run in a call of the network"):
        stabilize(Streaming(dense(rb.LIF)), x)
    with pytest.raises(ValueError, match=r"0 LIF has no weights in front .* none of its neurons fires"):
        stabilize(rb.Sequential(rb.LIF(threshold=9.0), nn.Linear(60, 5)), x)
    one_sided = rb.Sequential(nn.Linear(12, 20, bias=False), rb.LIF(20), nn.Linear(20, 2))
    with torch.no_grad():
        one_sided[0].weight.abs_().neg_()
    with pytest.raises(
        ValueError, match=r"1 LIF\(20\) fires at 0 spikes per step.* Give the layer in front of it a bias"
    ):
        stabilize(one_sided, x[..., :12])


def test_frozen_weights_are_left_alone():
    network = dense(rb.LIF)
    network[0].requires_grad_(False)
    network[4].weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    done = stabilize(network, spikes(20, 4, 60))
    assert [change.frozen for change in done.layers[:3]] == [True, False, True]
    after = network.state_dict()
    assert all(before[name].equal(after[name]) for name in ("0.weight", "0.bias", "4.weight", "4.bias"))
    assert done.layers[1].rate[1] == pytest.approx(0.1, rel=0.05)
    assert not before["2.weight"].equal(after["2.weight"])
    assert re.search(r"1 LIF\(50\) .* none +weights are frozen\n", str(done))


def test_frozen_weights_behind_which_all_is_silent_are_named():
    network = dense(rb.LIF)
    with torch.no_grad():
        network[2].weight.zero_()
        network[2].bias.zero_()
    network[2].requires_grad_(False)
    with pytest.raises(ValueError, match=r"3 LIF\(50\) has frozen weights, and none of its neurons fires"):
        stabilize(network, spikes(20, 4, 60))


def test_frozen_recurrent_weights_are_left_alone():
    network = dense(rb.RecurrentLIF)
    network[1].recurrent_weight.requires_grad_(False)
    before = network[1].recurrent_weight.clone()
    done = stabilize(network, spikes(20, 4, 60))
    assert network[1].recurrent_weight.equal(before)
    assert done.layers[0].rate[1] == pytest.approx(0.1, rel=0.05)


def test_spikes_without_a_gradient_are_named():
    class Comparing(rb.LIF):
        def forward(self, x):
            return super().forward(x).detach()

    network = dense(rb.LIF)
    network[3] = Comparing(50)
    with pytest.raises(ValueError, match=r"the spikes of 3 Comparing\(50.* carry no gradient.*surrogate\.spike"):
        stabilize(network, spikes(20, 4, 60))


def test_neurons_that_encode_the_input_are_left_alone():
    torch.manual_seed(0)
    network = rb.Sequential(rb.LIF(60, threshold=0.5), nn.Linear(60, 40), rb.LIF(40), nn.Linear(40, 5))
    encoder = network[0].surrogate
    done = stabilize(network, 0.3 * torch.rand(60, 8, 60))
    assert done.layers[0].scale == 1
    assert network[0].surrogate is encoder
    assert done.layers[1].rate[1] == pytest.approx(0.1, rel=0.03)


def test_hooks_and_modes_are_gone_afterwards():
    network = dense(rb.LIF).eval()
    before = copy.deepcopy(network)
    stabilize(network, spikes(20, 4, 60))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert not any(module.training for module in network.modules())
    assert network.state_dict().keys() == before.state_dict().keys()
    assert all(isinstance(layer.surrogate, Surrogate) for layer in network if isinstance(layer, rb.LIF))
