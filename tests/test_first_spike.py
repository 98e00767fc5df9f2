"""Tests of rheobase.first_spike: what the first output spike says, and that nothing changes for stopping there."""

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import rheobase as rb
from rheobase import Hold, LeakyReadout, Sequential, SingleSpike, decoding, first_spike
from rheobase.first_spike import LearnedWeights, decide, decide_early, exponential, linear, scores, spikes_of, weighted
from rheobase.ops.single_spike import Credit
from rheobase.surrogate import Arctan


class TestGoldenVectors:
    def test_spikes_and_gradients(self) -> None:
        """X = (0.4, 0.3, 0.5, -0.6, 1.2): V, S, and what the two rules of credit make of dL/dS = (0.1, ..., 0.5)."""
        on_spikes = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]).view(5, 1, 1)
        expected = {
            "product": (-0.240277, -0.196350, -0.143391, 0.0, 0.0),
            "detached": (0.342968, 0.321004, 0.215087, 0.0, 0.0),
        }
        for credit, gradient in expected.items():
            currents = torch.tensor([0.4, 0.3, 0.5, -0.6, 1.2]).view(5, 1, 1).requires_grad_()
            membrane = LeakyReadout(decay=1.0)(currents)
            torch.testing.assert_close(membrane.flatten().detach(), torch.tensor([0.4, 0.7, 1.2, 0.6, 1.8]))
            slope = Arctan().derivative(membrane.flatten().detach() - 1)
            golden = torch.tensor([0.219633, 0.529587, 0.716957, 0.387727, 0.136676])
            torch.testing.assert_close(slope, golden, rtol=0, atol=1e-6)
            rule = {"surrogate": Arctan(), "credit": credit}
            for spikes in (SingleSpike(decay=1.0, **rule)(currents), spikes_of(membrane, **rule)):
                assert spikes.flatten().tolist() == [0, 0, 1, 0, 0]
                (found,) = torch.autograd.grad(spikes, currents, on_spikes, retain_graph=True)
                torch.testing.assert_close(found.flatten(), torch.tensor(gradient), rtol=0, atol=2e-6)

    def test_the_decoder_with_base_1_5(self) -> None:
        """Spikes at 0, at 2 and never: 1, 0.444444, 0."""
        spikes = torch.zeros(4, 1, 3)
        spikes[0, 0, 0] = spikes[2, 0, 1] = 1
        found = weighted(spikes, exponential(4, base=1.5))
        torch.testing.assert_close(found, torch.tensor([[1, 0.444444, 0]]), rtol=0, atol=1e-6)

    @pytest.mark.parametrize(("scale", "floor"), [(1.0, 1.461), (5.0, 0.0589), (first_spike.SCALE, 4.1e-4)])
    def test_the_least_cross_entropy(self, scale: float, floor: float) -> None:
        best = functional.cross_entropy(scale * torch.eye(10)[:1], torch.tensor([0])).item()
        assert best == pytest.approx(floor, rel=0.01)
        assert best == pytest.approx(math.log(1 + 9 * math.exp(-scale)), rel=1e-3)


@given(st.integers(1, 9), st.integers(0, 3), st.integers(1, 5), st.integers(0, 999))
def test_the_first_spike_has_the_answer(steps: int, batch: int, classes: int, seed: int) -> None:
    """Potentials in quarters: there are ties of steps and of potentials."""
    membrane = torch.randint(-4, 8, (steps, batch, classes), generator=torch.Generator().manual_seed(seed)) / 4
    found = decide(membrane)
    for sample in range(batch):
        of_class = membrane[:, sample].T.tolist()
        first = [next((t for t, v in enumerate(values) if v >= 1), steps) for values in of_class]
        keys = [
            (when, -values[min(when, steps - 1)], c)
            for c, (when, values) in enumerate(zip(first, of_class, strict=True))
        ]
        assert found.predictions[sample] == min(keys)[2]
        assert found.steps[sample] == min(first)
    assert torch.equal(found.latency(steps), (found.steps + 1).clamp(max=steps).float())


@given(st.integers(1, 9), st.integers(0, 999))
def test_decoders_that_prefer_early_spikes_agree_with_it(steps: int, seed: int) -> None:
    membrane = torch.randn(steps, 20, 4, generator=torch.Generator().manual_seed(seed)) + 0.3
    predictions = decide(membrane).predictions
    for weights in (exponential(steps), linear(steps)):
        decoded = weighted(spikes_of(membrane), weights)
        assert (decoded.gather(1, predictions.unsqueeze(1))[:, 0] == decoded.amax(1)).all()


@pytest.mark.parametrize("far", [-math.inf, math.inf])
@pytest.mark.parametrize("credit", ["product", "ramp"])
def test_infinite_potentials_are_potentials(far: float, credit: Credit) -> None:
    """What is kept of the step before is nothing, also of what is infinite."""
    membrane = torch.tensor([0.5, far, 0.2, 1.5, 1.0]).view(5, 1, 1).requires_grad_()
    spikes = spikes_of(membrane, credit=credit)
    assert spikes.flatten().nonzero().item() == decide(membrane.detach()).steps.item() == (1 if far > 0 else 3)
    (gradient,) = torch.autograd.grad(spikes, membrane, torch.rand(5, 1, 1))
    assert gradient.isfinite().all()
    assert gradient[0] != 0
    layer = LearnedWeights(5, scale=1.0)
    torch.testing.assert_close(layer(membrane), spikes * linear(5).view(-1, 1, 1))


def test_what_is_no_number_is_not_hidden() -> None:
    membrane = torch.tensor([0.5, math.nan, 1.5]).view(3, 1, 1).requires_grad_()
    spikes_of(membrane).sum().backward()
    assert membrane.grad.isnan().any()


def test_potentials_far_apart_or_near_keep_their_order() -> None:
    membrane = torch.tensor([[1.0, 1.0000001, 500.0, 500.001, -3e4]]).unsqueeze(0)
    assert scores(membrane).argsort(1).tolist() == [[4, 0, 1, 2, 3]]


def test_weights() -> None:
    torch.testing.assert_close(exponential(4, base=2.0), torch.tensor([1.0, 0.5, 0.25, 0.125]))
    torch.testing.assert_close(linear(5), torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2]))
    for steps in (1, 30):
        for weights in (exponential(steps), linear(steps)):
            assert weights[0] == 1
            assert (weights > 0).all()
            assert (weights.diff() < 0).all()


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(("steps", "base"), [(300, 1.5), (257, 1.5), (90, 3.0), (100_000, 1.01)])
def test_weights_that_would_be_nothing_are_refused(steps: int, base: float) -> None:
    message = rf"exponential: with base {base} and {steps} steps, late spikes .* take a base of at most ([\d.]+),"
    with pytest.raises(ValueError, match=message) as caught:
        exponential(steps, base=base)
    works = float(re.search(message, str(caught.value))[1])
    weights = exponential(steps, base=works)
    assert (weights.diff() < 0).all()
    assert 1e-38 < weights[-1] < 1e-30


def test_so_many_steps_go_with_the_usual_base() -> None:
    weights = exponential(216)
    assert (weights.diff() < 0).all()
    assert weights[-1] > 1e-38


class TestLearnedWeights:
    def test_begin_linear(self) -> None:
        layer, membrane = LearnedWeights(6, scale=3.0), torch.randn(6, 4, 5)
        torch.testing.assert_close(layer.weights, linear(6))
        expected = 3 * weighted(spikes_of(membrane), linear(6))
        torch.testing.assert_close(decoding.sum(layer(membrane)), expected)

    def test_are_learned(self) -> None:
        torch.manual_seed(0)
        layer, membrane = LearnedWeights(6), torch.randn(6, 40, 5, requires_grad=True)
        decoding.sum(layer(membrane)).square().sum().backward()
        assert (layer.raw_weights.grad != 0).all()
        assert membrane.grad.any()

    @pytest.mark.parametrize("cut", range(7))
    def test_cut_anywhere_is_the_whole(self, cut: int) -> None:
        layer, membrane = LearnedWeights(8, threshold=0.5), torch.randn(6, 4, 5)
        first, state = layer.run(membrane[:cut])
        second, _ = layer.run(membrane[cut:], state)
        assert torch.equal(torch.cat((first, second)), layer(membrane))

    @pytest.mark.usefixtures("as_a_user")
    def test_end(self) -> None:
        layer = LearnedWeights(3)
        with pytest.raises(ValueError, match="x must have at most 3 steps, got 4"):
            layer(torch.zeros(4, 1, 1))
        _, state = layer.run(torch.zeros(2, 1, 1))
        with pytest.raises(ValueError, match="x must have at most 3 steps, got 4"):
            layer.run(torch.zeros(2, 1, 1), state)


def exact(network: Sequential) -> Sequential:
    """Weights and biases in eighths: sums of spikes are exact, in whatever order."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_((parameter * 8).round() / 8)
    return network.double().eval()


def perceptron(fire_by_end: bool) -> Sequential:
    layers: list[nn.Module] = []
    for inputs in (20, 30):
        layers += [nn.Linear(inputs, 30), SingleSpike(decay=1.0, fire_by_end=fire_by_end), rb.Dropout(0.2)]
    network = Sequential(*layers, nn.Linear(30, 4), LeakyReadout(decay=1.0))
    rb.initialize_single_spike(network, 6, 0.2)
    return exact(network)


def convolutional(fire_by_end: bool) -> Sequential:
    neurons = {"decay": 1.0, "fire_by_end": fire_by_end}
    network = Sequential(
        *(nn.Conv2d(1, 4, 3), Hold(6), Sequential(SingleSpike(4, **neurons), nn.AvgPool2d(2))),
        *(nn.Conv2d(4, 5, 2), SingleSpike(**neurons), nn.Flatten(), nn.Linear(20, 4), LeakyReadout(decay=1.0)),
    )
    rb.initialize_single_spike(network, 6, 0.2)
    return exact(network)


def reached_by_half(membrane: Tensor) -> float:
    """A threshold that nearly half of the samples reach."""
    return membrane.amax((0, 2)).median().item() + 1e-4


def needed(decisions: Tensor, steps: int) -> list[int]:
    """How many rows are computed of the first step, the first 4, ...: of samples that are not decided before."""
    lengths = [*(4**k for k in range(steps) if 4**k < steps), steps]
    rows = [length * int((decisions >= before).sum()) for before, length in zip([0, *lengths], lengths, strict=False)]
    return [count for count in rows if count]


class TestEarlyExit:
    @pytest.mark.parametrize("fire_by_end", [False, True])
    @pytest.mark.parametrize("threshold", [0.25, 1.0, 4.0, 1e6])
    @pytest.mark.parametrize("make", [perceptron, convolutional])
    def test_the_answers_are_those_of_the_whole_sequence(self, make, threshold: float, fire_by_end: bool) -> None:
        torch.manual_seed(int(8 * threshold))
        network = make(fire_by_end)
        shape = (1, 60, 1, 8, 8) if make is convolutional else (6, 60, 20)
        x = (torch.rand(shape) < 0.3).double()
        whole, early = decide(network(x), threshold), decide_early(network, x, threshold)
        assert torch.equal(early.predictions, whole.predictions)
        assert torch.equal(early.steps, whole.steps)
        if threshold == 1.0:
            assert len(whole.steps.unique()) > 2
        if threshold == 1e6:
            assert (whole.steps == 6).all()

    def test_what_comes_after_is_hardly_computed(self) -> None:
        torch.manual_seed(0)
        network, x = perceptron(False), (torch.rand(6, 60, 20) < 0.3).double()
        rows = []
        network[0].register_forward_hook(lambda _, arguments, __: rows.append(len(arguments[0])))
        found = decide_early(network, x)
        assert rows == needed(found.steps, 6)
        assert 0 < rows[1] < 4 * rows[0] == 240

    @pytest.mark.parametrize(
        "layer",
        [
            rb.Delay(2),
            rb.SlidingPSN(3),
            rb.MaskedPSN(6, order=3),
            rb.RecurrentAdaptiveLIF(20, threshold=0.1),
            rb.ParaLIF(event="delta"),
        ],
        ids=lambda layer: type(layer).__name__,
    )
    def test_layers_with_a_memory(self, layer: nn.Module) -> None:
        torch.manual_seed(0)
        network = Sequential(layer, nn.Linear(20, 4, bias=False), LeakyReadout(decay=1.0), input_rate=None)
        x = 3 * torch.randn(6, 60, 20)
        membrane = network(x)
        threshold = reached_by_half(membrane)
        whole, early = decide(membrane, threshold), decide_early(network, x, threshold)
        assert torch.equal(early.predictions, whole.predictions)
        assert torch.equal(early.steps, whole.steps)
        assert len(whole.steps.unique()) > 1

    @pytest.mark.parametrize(
        "layer",
        [rb.SPSN(20), rb.ParaLIF(transform="sigmoid", event="bernoulli")],
        ids=lambda layer: type(layer).__name__,
    )
    def test_noise_is_the_same_each_time(self, layer: nn.Module) -> None:
        """The predictions are those of the last time that was computed, which is the whole sequence."""
        torch.manual_seed(0)
        network = Sequential(layer, nn.Linear(20, 4, bias=False), LeakyReadout(decay=1.0), input_rate=None)
        x, computed = 3 * torch.randn(6, 60, 20), []
        threshold = reached_by_half(network(x))
        network[-1].register_forward_hook(lambda _, __, membrane: computed.append(membrane))
        before = torch.get_rng_state()
        early = decide_early(network, x, threshold)
        whole = decide(computed[-1], threshold)
        assert [len(membrane) for membrane in computed] == [1, 4, 6]
        assert torch.equal(early.predictions, whole.predictions)
        assert torch.equal(early.steps, whole.steps)
        assert len(whole.steps.unique()) > 2
        decide_early(network, x, threshold)
        assert not torch.equal(computed[2], computed[5])
        torch.set_rng_state(before)
        decide_early(network, x, threshold)
        assert torch.equal(computed[2], computed[8])

    def test_what_is_held_is_computed_once(self) -> None:
        torch.manual_seed(0)
        network, calls = convolutional(False), []
        network[0].register_forward_hook(lambda *_: calls.append(1))
        decide_early(network, torch.rand(1, 9, 1, 8, 8).double())
        assert calls == [1]

    def test_neurons_are_forced_again_afterwards(self) -> None:
        network = perceptron(True)
        decide_early(network, torch.rand(6, 3, 20).double())
        assert network[1].fire_by_end

    def test_what_is_nested_is_in_sequence(self) -> None:
        """A `Hold` in a container in a container, and what recomputes."""
        torch.manual_seed(0)
        layers = list(convolutional(False))
        network = Sequential(nn.Sequential(layers[0]), Sequential(*layers[1:3]), rb.Recompute(Sequential(*layers[3:])))
        x, calls, rows = torch.rand(1, 60, 1, 8, 8).double(), [], []
        whole = decide(network(x))
        layers[0].register_forward_hook(lambda *_: calls.append(1))
        layers[-2].register_forward_hook(lambda _, arguments, __: rows.append(len(arguments[0])))
        early = decide_early(network, x)
        assert calls == [1]
        assert rows == needed(whole.steps, 6)
        assert len(whole.steps.unique()) > 1
        assert torch.equal(early.predictions, whole.predictions)
        assert torch.equal(early.steps, whole.steps)

    @pytest.mark.usefixtures("as_a_user")
    def test_what_it_does_not_take(self) -> None:
        network, x = convolutional(False), torch.rand(1, 3, 1, 8, 8).double()
        weighing = Sequential(network, LearnedWeights(6))
        for ends in (weighing, Sequential(nn.Identity(), weighing)):
            with pytest.raises(
                TypeError, match=r"decide_early: network must end in the membrane potential .* LearnedWeights"
            ):
                decide_early(ends, x)
        with pytest.raises(TypeError, match="decide_early: network, NoiseAveraged, holds a Hold"):
            decide_early(rb.NoiseAveraged(network, draws=1), x)

    def test_no_samples_and_a_single_step(self) -> None:
        network = perceptron(True)
        assert len(decide_early(network, torch.rand(6, 0, 20).double()).predictions) == 0
        x = torch.rand(1, 5, 20).double()
        assert torch.equal(decide_early(network, x).predictions, decide(network(x)).predictions)


@pytest.mark.usefixtures("as_a_user")
class TestErrors:
    def test_numbers(self) -> None:
        for call, message in (
            (lambda: exponential(0), "exponential: steps must be at least 1, got 0"),
            (lambda: exponential(4, base=1.0), "exponential: base must be above 1, .* got 1.0"),
            (lambda: linear(-1), "linear: steps must be at least 1, got -1"),
            (lambda: LearnedWeights(0), "LearnedWeights: steps must be at least 1, got 0"),
        ):
            with pytest.raises(ValueError, match=message):
                call()

    def test_another_number_of_weights(self) -> None:
        with pytest.raises(ValueError, match="weights must be one for each of the 5 steps, got 4"):
            weighted(Tensor(5, 1, 2).zero_(), linear(4))

    def test_no_steps(self) -> None:
        with pytest.raises(ValueError, match=r"scores: membrane has no time steps, got shape \(0, 2, 3\)"):
            decide(torch.zeros(0, 2, 3))


def test_neurons_that_look_ahead_decide_nothing_early():
    network = Sequential(nn.Linear(4, 6), rb.PSN(20), nn.Linear(6, 2), LeakyReadout(2))
    with pytest.raises(TypeError, match=r"must not look ahead, got PSN, .*decide\(network\(x\)\)"):
        decide_early(network, torch.rand(20, 3, 4))
    masked = Sequential(nn.Linear(4, 6), rb.MaskedPSN(20, 3), nn.Linear(6, 2), LeakyReadout(2))
    decide_early(masked, torch.rand(20, 3, 4))
    rb.scheduled.set_progress(masked, 0.5)
    with pytest.raises(TypeError, match="must not look ahead, got MaskedPSN"):
        decide_early(masked, torch.rand(20, 3, 4))
