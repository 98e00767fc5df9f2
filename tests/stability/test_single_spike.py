"""Currents of variance 1 and flat gradients at every depth, and why the usual weights do not give them."""

import math
import re
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import rheobase as rb
from rheobase import LIF, Dropout, Hold, LeakyReadout, Recompute, Sequential, SingleSpike, SpikeMaxPool2d, standardize
from rheobase.health import listening
from rheobase.layers import standardized
from rheobase.stability import calibrate_single_spike, change_steps, initialize_single_spike, weight_variance
from rheobase.stability.single_spike import spike_moment
from rheobase.surrogate import Arctan

STEPS, NEURONS = 8, 400


def once(steps: int, *shape: int) -> Tensor:
    """One spike for each input, at any step."""
    return torch.zeros(steps, *shape).scatter_(0, torch.randint(steps, (1, *shape)), 1.0)


def perceptron(depth: int, fire_by_end: bool, width: float = 1.0) -> Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth):
        neurons = SingleSpike(decay=1.0, surrogate=Arctan(sharpness=1 / width), fire_by_end=fire_by_end)
        layers += [nn.Linear(NEURONS, NEURONS, bias=False), neurons]
    return Sequential(*layers)


def draw(network: Sequential, kind: str, x: Tensor) -> None:
    if kind == "T / N":
        initialize_single_spike(network, STEPS, x)
        return
    variance = {"1 / 3N": 1 / (3 * NEURONS), "2 / N": 2 / NEURONS}[kind]
    for layer in network:
        if isinstance(layer, nn.Linear):
            nn.init.uniform_(layer.weight, -math.sqrt(3 * variance), math.sqrt(3 * variance))


def statistics(kind: str, fire_by_end: bool, draws: int = 4) -> list[list[float]]:
    """Of layers 1, 3 and 6: the variance of the current, the share of neurons that fire, the mean step at which they do."""
    found = torch.zeros(6, 3)
    for seed in range(
        draws
    ):  # the share differs between them by some hundredths, for the sum of a neuron's weights stays
        torch.manual_seed(seed)
        network, x = perceptron(6, fire_by_end), once(STEPS, 16, NEURONS)
        draw(network, kind, x)
        for depth in range(6):
            with torch.no_grad():
                currents = network[2 * depth : 2 * depth + 1](x)
                x = network[2 * depth + 1](currents)
            when = (x.sum((1, 2)) * torch.arange(STEPS)).sum() / x.sum().clamp(min=1)
            found[depth] += torch.stack((currents.var(), x.sum(0).mean(), when))
    return [(found[depth - 1] / draws).tolist() for depth in (1, 3, 6)]


class TestTheTable:
    """Six layers of 400, T = 8, inputs that spike once: layers 1, 3 and 6."""

    @pytest.mark.parametrize(
        ("kind", "variances", "steps"),
        [
            ("1 / 3N", (0.042, 0.043, 0.043), (6.91, 7.00, 7.00)),  # forced, they say nothing
            ("2 / N", (0.251, 0.253, 0.257), (5.65, 6.92, 7.00)),
        ],
    )
    def test_other_weights_where_all_fire(
        self, kind: str, variances: tuple[float, ...], steps: tuple[float, ...]
    ) -> None:
        found = statistics(kind, fire_by_end=True, draws=12)  # expected is what one draw gave; they differ by so much
        assert [layer[0] for layer in found] == pytest.approx(list(variances), rel=0.05)
        assert [layer[1] for layer in found] == [1, 1, 1]
        assert [layer[2] for layer in found] == pytest.approx(list(steps), abs=0.06)

    def test_steps_over_inputs_is_variance_1_where_all_fire(self) -> None:
        for variance, fired, when in statistics("T / N", fire_by_end=True):
            assert variance == pytest.approx(1, abs=0.06)
            assert fired == 1
            assert 4.1 < when < 4.6

    def test_and_half_of_it_where_the_silent_stay_silent(self) -> None:
        (first, fired, _), third, sixth = statistics("T / N", fire_by_end=False)
        assert first == pytest.approx(1, abs=0.03)
        assert fired == pytest.approx(0.6, abs=0.03)
        assert third[:2] == pytest.approx([0.5, 0.47], abs=0.04)
        assert sixth[:2] == pytest.approx([0.44, 0.43], abs=0.04)

    def test_pytorch_s_weights_are_dead_by_the_third_layer(self) -> None:
        first, third, sixth = statistics("1 / 3N", fire_by_end=False)
        assert first[0] == pytest.approx(1 / 24, rel=0.05)
        assert first[1] == pytest.approx(0.05, abs=0.02)
        assert third[:2] == sixth[:2] == [0, 0]

    def test_he_s_are_dead_by_the_sixth(self) -> None:
        first, third, sixth = statistics("2 / N", fire_by_end=False)
        assert first[:2] == pytest.approx([0.25, 0.38], abs=0.02)
        assert third[:2] == pytest.approx([0.05, 0.08], abs=0.03)
        assert sixth[1] < 0.005


def gradients(kind: str, depth: int = 5, width: float = 1.0) -> list[float]:
    """The mean size of the gradient of each layer's weights, for a random gradient of the output."""
    torch.manual_seed(0)
    network, x = perceptron(depth, fire_by_end=False, width=width), once(STEPS, 16, NEURONS)
    draw(network, kind, x)
    y = network(x)
    weights = [layer.weight for layer in network if isinstance(layer, nn.Linear)]
    return [gradient.abs().mean().item() for gradient in torch.autograd.grad(y, weights, torch.randn_like(y))]


def test_gradients_are_flat_over_depth() -> None:
    ours, pytorch_s = gradients("T / N"), gradients("1 / 3N")
    assert max(ours) < 2 * min(ours)
    assert max(pytorch_s[2:]) == 0
    assert pytorch_s[0] < ours[0] / 1000


def test_over_twenty_layers_they_are_flat_for_a_surrogate_of_width_1_and_grow_for_a_wide_one() -> None:
    flat, wide = gradients("T / N", depth=20), gradients("T / N", depth=20, width=3.0)
    assert max(flat) < 10 * min(flat)
    assert wide[0] > 1e4 * wide[-1]


@given(st.integers(1, 64), st.integers(1, 9))
def test_the_mean_square_of_an_average(steps: int, window: int) -> None:
    # p = (s_1 + ... + s_K) / K: K squares of 1/T and K (K - 1) products of independent ones, 1/T^2 each.
    expected = (window / steps + window * (window - 1) / steps**2) / window**2
    assert spike_moment(steps, window) == pytest.approx(expected)
    assert weight_variance(10, steps, window=window) == pytest.approx(0.1 / expected)
    assert weight_variance(10, steps) == pytest.approx(steps / 10)


POOLINGS = [
    *(nn.AvgPool2d(2), nn.AvgPool2d((2, 3)), SpikeMaxPool2d(2), None),
    *(nn.AvgPool2d(2, divisor_override=1), nn.AvgPool2d(3, divisor_override=2), nn.AvgPool2d(1, divisor_override=3)),
    nn.AvgPool2d(2, padding=1, count_include_pad=False),
]


@pytest.mark.parametrize("pool", POOLINGS, ids=repr)
def test_behind_pooling_the_variance_is_1_too(pool: nn.Module | None) -> None:
    torch.manual_seed(0)
    pooling = [] if pool is None else [pool]
    network = Sequential(
        *(nn.Conv2d(3, 20, 3), SingleSpike(20, decay=1.0, fire_by_end=True), *pooling),
        nn.Conv2d(20, 60, 3),
    )
    x = torch.rand(STEPS, 8, 3, 20, 20)
    done = initialize_single_spike(network, STEPS, x)
    assert [layer.receives for layer in done] == ["the input", "spikes" if pool is None else "pooled spikes"]
    # Spikes at any step, which theory assumes; those of the layer itself cluster in time.
    spikes = once(STEPS, 8, 20, 18, 18)
    current = network[2:](spikes)[..., 1:-1, 1:-1]  # windows at the border of the picture may hold fewer units
    assert current.var().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("kind", ["picture", "spikes"])
def test_the_first_layer_goes_by_what_reaches_it(kind: str) -> None:
    torch.manual_seed(0)
    x = (torch.rand(1, 64, 784) ** 6 - 0.1) if kind == "picture" else once(STEPS, 64, 784) * (torch.rand(784) < 0.1)
    network = Sequential(Dropout(0.0), nn.Linear(784, 500), Hold(STEPS), SingleSpike(decay=1.0), nn.Linear(500, 3))
    done = initialize_single_spike(network, STEPS, x)
    assert done[0].second_moment == pytest.approx(x.square().mean().item())
    assert network[:2](x).var().item() == pytest.approx(1, abs=0.15)
    assert initialize_single_spike(network, STEPS, 0.25)[0].deviation == pytest.approx(1 / math.sqrt(784 * 0.25))


def test_events_are_measured_behind_the_neurons_that_pass_the_first() -> None:
    counts = torch.poisson(torch.full((STEPS, 32, 50), 0.05))
    network = Sequential(SingleSpike(decay=1.0), nn.Linear(50, 7))
    (done,) = initialize_single_spike(network, STEPS, counts)
    assert done.second_moment == pytest.approx(network[:1](counts).mean().item())


def test_all_parts_of_a_network() -> None:
    torch.manual_seed(0)
    named = OrderedDict(
        convolution=standardize(nn.Conv2d(1, 16, 3), 1.0),
        hold=Hold(STEPS),
        block=Sequential(SingleSpike(16, decay=1.0), nn.AvgPool2d(2), nn.AvgPool2d(3), nn.Flatten()),
        linear=nn.Linear(64, 99),
        again=Recompute(Sequential(SingleSpike(99, decay=1.0), Dropout(0.1), nn.Linear(99, 5, bias=False))),
        readout=LeakyReadout(5, decay=1.0),
    )
    network = Sequential(named)
    with torch.no_grad():
        standardized(network.convolution).gain.fill_(3)
    done = initialize_single_spike(network, STEPS, torch.rand(1, 2, 1, 14, 14))
    assert [layer.layer for layer in done] == ["convolution", "linear", "again.layer.2"]
    assert [layer.receives for layer in done] == ["the input", "pooled spikes", "spikes"]
    assert done[1].second_moment == pytest.approx(spike_moment(STEPS, window=36))
    assert done[2].deviation == pytest.approx(math.sqrt(STEPS / 99))
    for layer, found in zip((network.convolution, network.linear, network.again.layer[2]), done, strict=True):
        expected = torch.tensor(found.deviation)
        torch.testing.assert_close(layer.weight.square().mean().sqrt(), expected, rtol=0.2, atol=0)
        assert layer.bias is None or not layer.bias.any()
    assert (standardized(network.convolution).gain == 1).all()
    assert "layer linear: 64 inputs (pooled spikes, mean square" in str(done[1])


def test_the_generator_decides() -> None:
    networks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        networks.append(Sequential(nn.Linear(5, 4)))
        initialize_single_spike(networks[-1], STEPS, 1.0)
    first, same, other = (network[0].weight for network in networks)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


class TestAnotherNumberOfSteps:
    def network(self, *, standard: bool) -> Sequential:
        layers = [nn.Conv2d(1, 6, 3), nn.Conv2d(6, 6, 3), nn.Linear(54, 4)]
        first, second, last = (standardize(layer, 0.3) for layer in layers) if standard else layers
        return Sequential(
            *(first, Hold(4), SingleSpike(decay=1.0), second, SingleSpike(decay=1.0)),
            *(nn.AvgPool2d(2), nn.Flatten(), last, LeakyReadout(decay=1.0)),
        )

    @pytest.mark.parametrize("standard", [False, True])
    def test_scales_what_spikes_reach(self, standard: bool) -> None:
        torch.manual_seed(0)
        network = self.network(standard=standard)
        before = [network[k].weight.detach().clone() for k in (0, 3, 7)]
        change_steps(network, 4, 16)
        after = [network[k].weight.detach() for k in (0, 3, 7)]
        assert torch.equal(after[0], before[0])
        torch.testing.assert_close(after[1], 2 * before[1])  # sqrt(16 / 4)
        torch.testing.assert_close(after[2], before[2] * math.sqrt(spike_moment(4, 4) / spike_moment(16, 4)))
        assert network(torch.rand(1, 2, 1, 10, 10)).shape == (16, 2, 4)
        change_steps(network, 16, 4)
        for ours, theirs in zip((network[k].weight for k in (0, 3, 7)), before, strict=True):
            torch.testing.assert_close(ours.detach(), theirs)

    def test_is_the_initialization_for_it(self) -> None:
        networks = []
        for steps in (4, 16):
            torch.manual_seed(0)
            networks.append(self.network(standard=True))
            initialize_single_spike(networks[-1], steps, 0.5)
        change_steps(networks[0], 4, 16)
        for ours, theirs in zip(*(network.parameters() for network in networks), strict=True):
            assert ours.shape == theirs.shape
        for k in (0, 3, 7):
            torch.testing.assert_close(networks[0][k].weight, networks[1][k].weight, rtol=2e-4, atol=0)

    def test_the_same_number_writes_to_no_weight(self) -> None:
        network = self.network(standard=False)
        y = network(torch.rand(1, 2, 1, 10, 10))
        change_steps(network, 4, 4)
        y.sum().backward()


class Blackbox(nn.Module):
    """Layers of which nobody knows in which order data passes through."""

    def __init__(self) -> None:
        super().__init__()
        self.steps, self.weights = Hold(4), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(self.weights(x))


norms = nn.utils.parametrizations


@pytest.mark.usefixtures("as_a_user")
class TestErrors:
    @pytest.mark.parametrize(
        "network", [Blackbox(), nn.Sequential(SingleSpike(3), Blackbox())], ids=["alone", "inside"]
    )
    def test_layers_in_an_order_that_nobody_knows(self, network: nn.Module) -> None:
        for call in (
            lambda: change_steps(network, 4, 8),
            lambda: initialize_single_spike(network, 4, 1.0),
        ):
            with pytest.raises(TypeError, match=r"Blackbox, holds a Hold \(steps\) but is not a sequential container"):
                call()
        assert [module.steps for module in network.modules() if isinstance(module, Hold)] == [4]

    @pytest.mark.parametrize(
        "change",
        [
            norms.weight_norm,
            norms.spectral_norm,
            lambda layer: norms.spectral_norm(standardize(layer, 0.1)),
            lambda layer: nn.utils.spectral_norm(layer),
        ],
        ids=["weight_norm", "spectral_norm", "on top of standardized", "spectral_norm by a hook"],
    )
    def test_weights_that_are_computed_from_others(self, change: Callable[[nn.Module], nn.Module]) -> None:
        network = Sequential(nn.Linear(3, 2), Hold(4), SingleSpike(2), change(nn.Linear(2, 2)))
        before = network[0].weight.detach().clone()
        message = "layer 3, .*Linear, must have a weight of its own, but it is computed from other parameters"
        for call in (lambda: change_steps(network, 4, 8), lambda: initialize_single_spike(network, 4, 1.0)):
            with pytest.raises(TypeError, match=message):
                call()
        assert torch.equal(network[0].weight, before)
        assert network[1].steps == 4

    def test_biases_that_are_computed_from_others(self) -> None:
        network = Sequential(norms.spectral_norm(nn.Linear(3, 2), "bias"))
        with pytest.raises(TypeError, match=r"must have a bias of its own.*remove_parametrizations\(layer, 'bias'\)"):
            initialize_single_spike(network, 4, 1.0)

    def test_weights_that_do_not_learn_are_written_to(self) -> None:
        layer = nn.Linear(3, 2)
        weight = layer.weight.detach().clone()
        del layer.weight
        layer.register_buffer("weight", weight.clone())
        initialize_single_spike(Sequential(layer), 4, 1.0)
        assert not torch.equal(layer.weight, weight)

    def test_numbers(self) -> None:
        network = Sequential(nn.Linear(3, 2))
        for call, message in (
            (
                lambda: initialize_single_spike(network, 0, 1.0),
                "initialize_single_spike: steps must be at least 1, got 0",
            ),
            (lambda: change_steps(network, 0, 1), "change_steps: before must be at least 1, got 0"),
            (lambda: change_steps(network, 1, -1), "change_steps: after must be at least 1, got -1"),
            (lambda: spike_moment(8, window=0), "spike_moment: window must be at least 1, got 0"),
            (lambda: weight_variance(0, 8), "weight_variance: fan_in must be at least 1, got 0"),
        ):
            with pytest.raises(ValueError, match=re.escape(message)):
                call()

    @pytest.mark.parametrize("batch", [0.0, -1.0, float("nan"), torch.zeros(1, 2, 3)])
    def test_nothing_arrives(self, batch: Tensor | float) -> None:
        with pytest.raises(
            ValueError, match="batch must have a mean square above 0 where it reaches the first layer, got"
        ):
            initialize_single_spike(Sequential(nn.Linear(3, 2)), STEPS, batch)

    def test_no_weights(self) -> None:
        network = Sequential(Hold(4), SingleSpike(decay=1.0))
        with pytest.raises(ValueError, match="initialize_single_spike: network has no linear or convolutional layer"):
            initialize_single_spike(network, STEPS, 1.0)
        with pytest.raises(ValueError, match="change_steps: network has no linear or convolutional layer"):
            change_steps(network, 4, 8)
        assert network[0].steps == 4

    @pytest.mark.parametrize(
        ("between", "named"),
        [
            ((), "no such neuron"),
            ((nn.ReLU(),), "no such neuron"),
            ((LIF(2),), "no such neuron"),
            ((SingleSpike(2), nn.BatchNorm1d(2)), "layer 2, BatchNorm1d"),
            ((SingleSpike(2), rb.Delay(0, 1)), "layer 2, Delay"),
        ],
    )
    def test_what_it_does_not_know(self, between: tuple[nn.Module, ...], named: str) -> None:
        network = Sequential(nn.Linear(3, 2), *between, nn.Linear(2, 2))
        with pytest.raises(
            TypeError, match=rf"what reaches layer {len(between) + 1}, Linear, .*in between there is {named}"
        ):
            initialize_single_spike(network, STEPS, 1.0)

    def test_transposed_convolutions(self) -> None:
        with pytest.raises(TypeError, match="layer 0 is a ConvTranspose2d"):
            initialize_single_spike(Sequential(nn.ConvTranspose2d(1, 1, 3)), STEPS, 1.0)


def test_every_neuron_of_a_deep_network_is_alive() -> None:
    torch.manual_seed(0)
    network, x = perceptron(20, fire_by_end=False), once(STEPS, 64, NEURONS)
    initialize_single_spike(network, STEPS, x)
    with listening(network) as spikes, torch.no_grad():
        network(x)
    assert min(layer.sum(0).mean().item() for layer in spikes.values()) > 0.3


def weights_with_an_identity(layer, identity, steps=4):
    network = rb.Sequential(
        *(nn.Linear(9, 6), rb.SingleSpike())
        if isinstance(layer, nn.Linear)
        else (nn.Conv2d(1, 6, 3), rb.SingleSpike()),
        layer,
        rb.SingleSpike(),
        *(() if isinstance(layer, nn.Linear) else (nn.Flatten(),)),
        nn.Linear(layer.weight.shape[0] * (1 if isinstance(layer, nn.Linear) else 16), 3),
    )
    torch.manual_seed(0)
    initialize_single_spike(network, steps, 0.1, identity=identity)
    return network, layer.weight.detach()


@pytest.mark.parametrize("units", [4, 6, 8])
def test_an_identity_has_its_part_of_the_variance(units):
    network, weight = weights_with_an_identity(nn.Linear(6, units), 0.75)
    _, without = weights_with_an_identity(nn.Linear(6, units), 0.0)
    loud = weight - 0.5 * without  # the others keep a quarter of the variance
    places = {4: [0, 1, 3, 4], 6: [0, 1, 2, 3, 4, 5], 8: [0, 1, 2, 3, 4, 5, 0, 1]}[units]
    expected = nn.functional.one_hot(torch.tensor(places), 6) * (0.75 * 4) ** 0.5  # T / N for N weights
    torch.testing.assert_close(loud, expected.float())
    assert network[0].weight.abs().max() <= (3 / (9 * 0.1)) ** 0.5  # neither the first layer
    assert network[-1].weight.abs().max() <= (3 * 4 / units) ** 0.5  # nor the last


def test_an_identity_of_a_convolution_is_in_the_middle():
    _, weight = weights_with_an_identity(nn.Conv2d(6, 4, 3, padding=1), 0.75)
    _, without = weights_with_an_identity(nn.Conv2d(6, 4, 3, padding=1), 0.0)
    places = (weight - 0.5 * without).abs() > 1e-5
    assert places.nonzero().tolist() == [[0, 0, 1, 1], [1, 1, 1, 1], [2, 3, 1, 1], [3, 4, 1, 1]]


def test_with_an_identity_alike_pictures_stay_alike_through_many_layers():
    def likeness(identity):
        torch.manual_seed(0)
        layers = [layer for _ in range(12) for layer in (nn.Linear(100, 100), rb.SingleSpike.integrate_and_fire())]
        network = rb.Sequential(
            nn.Linear(100, 100), rb.Hold(4), rb.SingleSpike.integrate_and_fire(), *layers, nn.Linear(100, 3)
        )
        picture = torch.rand(1, 50, 100)
        initialize_single_spike(network, 4, picture, identity=identity)
        with torch.no_grad():
            a, b = (
                network[:-1](x).flatten(2).movedim(1, 0).flatten(1)
                for x in (picture, picture + 0.1 * torch.rand(1, 50, 100))
            )
        a, b = a - a.mean(0), b - b.mean(0)
        return nn.functional.cosine_similarity(a, b).mean().item()

    assert likeness(0.0) < 0.3
    assert likeness(0.95) > 0.6


def test_an_identity_out_of_range():
    with pytest.raises(ValueError, match=r"identity must be in \[0, 1\), got 1"):
        initialize_single_spike(rb.Sequential(nn.Linear(2, 2)), 4, 0.1, identity=1.0)


class TestCalibration:
    """Variances by measurement."""

    @pytest.mark.parametrize("depth", range(1, 7))
    @pytest.mark.parametrize("fire_by_end", [False, True])
    def test_standardized_layers_have_variance_1_at_every_depth(self, depth: int, fire_by_end: bool) -> None:
        torch.manual_seed(depth)
        network, x = perceptron(depth, fire_by_end), torch.rand(1, 16, NEURONS).expand(STEPS, -1, -1)
        for layer in network:
            if isinstance(layer, nn.Linear):
                standardize(layer, 1.0)
        initialize_single_spike(network, STEPS, x)
        theory = network[: 2 * depth - 1](x).square().mean().item()
        done = calibrate_single_spike(network, x)
        assert theory < 0.6  # of inputs whose mean is not heard, which is three quarters of their mean square
        assert network[: 2 * depth - 1](x).square().mean().item() == pytest.approx(1, rel=1e-3)
        assert [layer.layer for layer in done] == [str(2 * k) for k in range(depth)]
        assert all(layer.scale == pytest.approx(layer.before**-0.5) for layer in done)

    def test_plain_weights_too_and_nothing_else_changes(self) -> None:
        network = Sequential(nn.Linear(9, 30), Hold(4), SingleSpike(30, decay=1.0), Dropout(0.5), nn.Linear(30, 2))
        before = [layer.weight.clone() for layer in network if isinstance(layer, nn.Linear)]
        network[3].eval()
        first, second = calibrate_single_spike(network, torch.rand(1, 8, 9))
        assert (network.training, network[3].training, network[4].training) == (True, False, True)
        assert torch.allclose(network[0].weight, before[0] * first.scale)
        assert torch.allclose(network[4].weight, before[1] * second.scale)
        assert str(first) == f"layer 0: current of mean square {first.before:.3g}, weights times {first.scale:.3g}"

    def test_of_a_network_whose_steps_grow(self) -> None:
        layers = Sequential(nn.Linear(9, 30), Hold(4), SingleSpike(30, decay=1.0), nn.Linear(30, 2))
        assert len(calibrate_single_spike(rb.GrowingSteps(layers, (2, 4)), torch.rand(1, 8, 9))) == 2

    def test_where_nothing_arrives(self) -> None:
        network = Sequential(nn.Linear(9, 30), SingleSpike(30, threshold=1e9), nn.Linear(30, 2, bias=False))
        with pytest.raises(
            ValueError, match=r"layer 2 has a current of mean square 0\.0 on this batch, which no scale"
        ):
            calibrate_single_spike(network, torch.rand(3, 8, 9))
        assert network.training
