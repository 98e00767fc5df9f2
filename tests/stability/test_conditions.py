"""The closed forms against published and derived figures, and against layers that they are meant for."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rheobase as rb
from rheobase.stability import conditions
from rheobase.surrogate import (
    Exponential,
    FastSigmoid,
    Gaussian,
    QPseudoSpike,
    Rectangular,
    Sigmoid,
    Triangular,
)

SHD = {"input_mean": 0.0438844, "input_variance": 0.0419553}


def test_the_figures_of_the_first_layer_on_shd():
    # 700 inputs, 256 neurons, decay exp(-10), threshold 0.01, Glorot's weights of the input.
    mean = conditions.recurrent_mean(256, math.exp(-10), 0.01, "published")
    assert mean == pytest.approx(1.1764e-4, rel=1e-4)
    glorot = 2 / (700 + 256)
    first = conditions.recurrent_variance(256, 700, weight_variance=glorot, recurrent_mean=mean, **SHD)
    assert first == pytest.approx(5.040e-4, rel=1e-3)
    hidden = {"input_mean": 0.5, "input_variance": 0.25}
    deep = conditions.recurrent_variance(256, 256, weight_variance=1 / 256, recurrent_mean=mean, **hidden)
    assert deep == pytest.approx(3.9216e-3, rel=1e-4)


@pytest.mark.parametrize(("neurons", "expected"), [(128, 0.2041), (256, 0.1443)])
def test_the_dampening_at_glorots_weights(neurons, expected):
    bound = math.sqrt(3 / neurons)
    weight = torch.empty(neurons, neurons, dtype=torch.float64)
    weight.uniform_(-bound, bound, generator=torch.Generator().manual_seed(0))
    found = conditions.dampening_of_extremes(weight, math.exp(-10)).mean().item()
    assert found == pytest.approx(expected, rel=0.03)  # the diagonal does not count: a part in N
    # Under it, a gradient whose entries are all at the maximum and all slopes are as well does not grow.
    excited = (weight - weight.diag().diag()).clamp(min=0)
    each = conditions.dampening_of_extremes(weight, 0.7)
    torch.testing.assert_close(0.7 + each * excited.sum(0), torch.ones(neurons, dtype=torch.float64))
    attached = conditions.dampening_of_extremes(weight, 0.7, threshold=0.5, attached=True)
    assert bool((attached < each).all())


@pytest.mark.parametrize(
    ("surrogate", "expected"),
    [
        (Exponential(), 0.0625),
        (Exponential(dampening=0.4, sharpness=2.3), 0.0043478),
        (QPseudoSpike(tail=1.9), 0.040111),
        (Triangular(sharpness=1.3), 0.064103),
        (Rectangular(sharpness=1.3), 0.096154),
        (FastSigmoid(sharpness=1.3), 0.032029),
        (Sigmoid(sharpness=1.3), 0.064103),
        (Gaussian(sharpness=1.3), 0.067991),
    ],
    ids=str,
)
def test_the_squared_slope_of_a_uniform_membrane_potential(surrogate, expected):
    # On [-3, 5], with the threshold 0.7.
    assert conditions.squared_slope_if_uniform(surrogate, -3.7, 4.3) == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize("surrogate", [FastSigmoid(0.7, 2.0), Triangular(), QPseudoSpike(tail=1.3)], ids=str)
@given(st.floats(-2, 2), st.floats(0.05, 3))
def test_the_squared_slope_of_a_normal_membrane_potential(surrogate, mean, deviation):
    z = torch.linspace(-9, 9, 40001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    expected = torch.trapezoid(surrogate.derivative(mean + deviation * z).square() * density, z).item()
    assert conditions.squared_slope_if_normal(surrogate, mean, deviation) == pytest.approx(expected, rel=1e-4)


def published_layer(x, weight, decay, threshold):
    """Firing rates of the paper's neuron, whose reset comes after the decay."""
    state, spikes, rates = torch.zeros(x.shape[1:]), torch.zeros(x.shape[1:]), []
    for current in x:
        state = decay * state + current + spikes @ weight.t() - threshold * spikes
        spikes = (state > threshold).float()
        rates.append(spikes.mean().item())
    return sum(rates[100:]) / len(rates[100:])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_condition_one_brings_about_half_of_the_steps_to_fire(seed):
    # The weights' mean is taken away, for in a sum of 700 what is left of it is loud: draws would fire at 15 to 60 %.
    torch.manual_seed(seed)
    glorot, bound = math.sqrt(6 / (700 + 256)), math.sqrt(3 / 256)
    weight = torch.empty(700, 256).uniform_(-glorot, glorot)
    x = (torch.rand(300, 8, 700) < 0.044).float() @ (weight - weight.mean())
    drawn = torch.empty(256, 256).uniform_(-bound, bound).fill_diagonal_(0)
    drawn -= drawn.mean()
    others = 1 - torch.eye(256)
    assert published_layer(x, drawn * others, 0.9, 1.0) < 0.03
    mean = conditions.recurrent_mean(256, 0.9, 1.0, "published")
    assert published_layer(x, (drawn + mean) * others, 0.9, 1.0) == pytest.approx(0.5, abs=0.1)
    # And of this library's neuron, with the mean that is its own.
    ours = rb.RecurrentLIF(256, decay=0.9, self_connections=False)
    for mean, expected in ((0.0, 0.02), (conditions.recurrent_mean(256, 0.9, 1.0), 0.5)):
        with torch.no_grad():
            ours.recurrent_weight.copy_(drawn + mean)
            assert ours(x)[100:].mean().item() == pytest.approx(expected, abs=0.1 * expected + 0.05)


@pytest.mark.parametrize(("reset", "expected"), [("subtract", 0.5), ("none", 0.5), ("zero", 0.35)])
def test_the_mean_current(reset, expected):
    # With noise around it, a single neuron fires at half of the steps; after a reset to 0 at less, as is said.
    noise = torch.randn(2000, 1, 400, generator=torch.Generator().manual_seed(0)) * 0.3
    current = conditions.mean_current(0.9, 1.0, reset)
    rate = rb.LIF(decay=0.9, reset=reset)(noise + current)[200:].mean().item()
    assert rate == pytest.approx(expected, abs=0.1)


@given(st.floats(0.05, 0.95), st.floats(0, 0.01), st.floats(1e-4, 1e-2))
def test_condition_two_makes_both_currents_equally_loud(rate, mean, variance):
    heard = 700 * variance * (SHD["input_variance"] + SHD["input_mean"] ** 2)
    found = conditions.recurrent_variance(256, 700, weight_variance=variance, recurrent_mean=mean, rate=rate, **SHD)
    recurrent = 255 * (rate * found + rate * (1 - rate) * mean**2)
    assert recurrent >= heard * (1 - 1e-9)
    assert recurrent == pytest.approx(heard) or found == 0


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_condition_four_keeps_the_variance_where_its_assumptions_hold(decay):
    # Slopes independent from step to step, as the theory takes them.
    generator = torch.Generator().manual_seed(0)
    neurons, variance = 300, 1 / 300
    wanted = conditions.squared_slope_of_variance(variance, neurons, decay)
    surrogate = conditions.dampening_for(
        wanted, FastSigmoid(), lambda shape: conditions.squared_slope_if_normal(shape, 0.0, 1.0)
    )
    gradient = torch.randn(400, neurons, generator=generator)
    before = gradient.square().mean().item()
    for _ in range(40):
        weight = torch.randn(neurons, neurons, generator=generator) * variance**0.5
        slope = surrogate.derivative(torch.randn(400, neurons, generator=generator))
        gradient = decay * gradient + slope * (gradient @ weight)
    assert gradient.square().mean().item() == pytest.approx(before, rel=0.25)


@pytest.mark.parametrize("recurrent", [False, True])
def test_condition_four_keeps_the_variance_from_layer_to_layer(recurrent):
    generator = torch.Generator().manual_seed(0)
    neurons, following, decay, variance = 200, 150, 0.8, 1 / 200
    wanted = conditions.squared_slope_of_variance(
        variance if recurrent else 0.0, neurons, decay, next_variance=variance, next_neurons=following
    )
    surrogate = conditions.dampening_for(
        wanted, FastSigmoid(), lambda shape: conditions.squared_slope_if_normal(shape, 0.0, 1.0)
    )
    gradient = torch.zeros(400, neurons)
    for _ in range(40):  # at every step the next layer's gradient has variance 1
        from_next = torch.randn(400, following, generator=generator)
        back = from_next @ torch.randn(following, neurons, generator=generator) * variance**0.5
        if recurrent:
            back += gradient @ torch.randn(neurons, neurons, generator=generator) * variance**0.5
        gradient = decay * gradient + surrogate.derivative(torch.randn(400, neurons, generator=generator)) * back
    assert gradient.square().mean().item() == pytest.approx(1, rel=0.25)


@pytest.mark.parametrize("recurrent", [False, True])
def test_condition_three_keeps_the_largest_gradient(recurrent):
    generator = torch.Generator().manual_seed(0)
    own, following = (torch.randn(count, 40, generator=generator) for count in (40, 30))
    found = conditions.dampening_of_extremes(own if recurrent else None, 0.7, next_weight=following)
    others = (own - own.diag().diag()).clamp(min=0).sum(0) if recurrent else torch.zeros(40)
    # All gradients are 1, and all slopes as large as they can be.
    torch.testing.assert_close(0.7 + found * (others + following.clamp(min=0).sum(0)), torch.ones(40))


def test_condition_four_by_its_terms():
    assert conditions.squared_slope_of_variance(0.01, 101, 0.5) == pytest.approx(0.75)
    assert conditions.squared_slope_of_variance(0.01, 101, 0.5, reset="zero") == pytest.approx(1 - 0.125)


def lost_by_autograd(reset, decay, threshold):
    """l in `dv[t+1] / dv[t] = decay - l f`: how a neuron's gradient goes back through its reset."""
    x = torch.tensor([0.8, 0.3], dtype=torch.float64).view(2, 1, 1).requires_grad_()
    if reset == "published":
        fire = FastSigmoid().spike
        spikes = [fire(x[0] - threshold), fire(decay * x[0] + x[1] - threshold * fire(x[0] - threshold) - threshold)]
    else:
        spikes = list(
            rb.LIF(decay=decay, threshold=threshold, reset=reset, reset_gradient="attached", surrogate=FastSigmoid())(x)
        )
    (first,), (second,) = (torch.autograd.grad(each.sum(), x, retain_graph=True) for each in spikes)
    return ((decay - second[0] / second[1]) / first[0]).item()


@pytest.mark.parametrize("reset", ["subtract", "published"])
@pytest.mark.parametrize("threshold", [0.5, 2.0])
def test_the_gradient_through_the_reset_is_that_of_the_neuron(reset, threshold):
    lost, settings = lost_by_autograd(reset, 0.5, threshold), {"reset": reset, "threshold": threshold}
    fourth = conditions.squared_slope_of_variance(0.01, 101, 0.5, attached=True, **settings)
    assert fourth == pytest.approx(0.75 / (1 + lost**2), rel=1e-5)
    weight = torch.tensor([[1.0, 0.25], [-3.0, -0.5]])
    third = [
        conditions.dampening_of_extremes(None, 0.5, next_weight=weight, attached=each, **settings)
        for each in (True, False)
    ]
    torch.testing.assert_close(third[1] / third[0], 1 + lost / torch.tensor([3.0, 0.5]))


def test_the_solvers_find_what_is_there_and_say_what_is_not():
    def normal(surrogate):
        return conditions.squared_slope_if_normal(surrogate, -0.5, 1.0)

    for found in (
        conditions.dampening_for(0.03, FastSigmoid(), normal),
        conditions.sharpness_for(0.03, FastSigmoid(), normal),
        conditions.tail_for(0.03, QPseudoSpike(), normal),
    ):
        assert normal(found) == pytest.approx(0.03, rel=1e-4)
    # III makes the dampening small, and IV then asks for more than there is.
    with pytest.raises(ValueError, match=r"no sharpness gives a mean squared slope of 0\.99; it can be"):
        conditions.sharpness_for(0.99, FastSigmoid(dampening=0.2), normal)


@pytest.mark.usefixtures("as_a_user")
def test_arguments_out_of_range():
    with pytest.raises(ValueError, match="reset must be one of 'subtract', 'published', 'zero', 'none', got 'soft'"):
        conditions.mean_current(0.9, 1.0, "soft")
    with pytest.raises(ValueError, match=r"dampening_of_extremes: reset must be one of .* got 'soft'"):
        conditions.dampening_of_extremes(torch.ones(2, 2), 0.9, reset="soft")
    with pytest.raises(ValueError, match="low must be below high"):
        conditions.squared_slope_if_uniform(FastSigmoid(), 1.0, 1.0)
    with pytest.raises(ValueError, match="deviation must be above 0"):
        conditions.squared_slope_if_normal(FastSigmoid(), 1.0, 0.0)
    with pytest.raises(ValueError, match="neurons must be at least 2"):
        conditions.recurrent_mean(1, 0.9, 1.0)
    with pytest.raises(ValueError, match="recurrent_weight and next_weight are both None"):
        conditions.dampening_of_extremes(None, 0.9)
    with pytest.raises(ValueError, match=r"must not both be 0, got 0\.0 of 10 neurons"):
        conditions.squared_slope_of_variance(0.0, 10, 0.9)
