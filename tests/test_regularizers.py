"""Penalties on activity, by values computed by hand, and by their gradients."""

import math
from itertools import pairwise

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rheobase as rb
from rheobase.regularizers import (
    Probabilistic,
    RateBounds,
    Sparsity,
    TotalRate,
    constant,
    exponential_annealing,
    has_come_in,
    linear_annealing,
    switch_off,
    switch_on,
)
from training.tiny import network, settings, splits

SCHEDULES = (constant, linear_annealing, exponential_annealing, Probabilistic().probability, switch_on, switch_off)
SPIKES = {
    # T = 2, B = 2, N = 2: means over batch and neurons 3/4 and 1/4
    "1 LIF(2)": torch.tensor([[[1.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]]),
    # a map of one channel, 1 x 2: means 1/2 and 0
    "3 LIF(1)": torch.tensor([[[[[1.0, 0.0]]], [[[0.0, 1.0]]]], [[[[0.0, 0.0]]], [[[0.0, 0.0]]]]]),
}


def test_a_neuron_without_an_axis_of_its_own_is_one_neuron() -> None:
    spikes = torch.tensor([[1.0, 0.0], [1.0, 1.0]])  # rates 1 and 1/2 in two samples
    for penalty in (RateBounds(upper=0.5), RateBounds(upper=0.5, of="population"), TotalRate(0.5), Sparsity(0.5)):
        assert penalty({"0 LIF": spikes}, 1.0) == penalty({"0 LIF(1)": spikes.unsqueeze(2)}, 1.0) > 0


def test_the_published_ramp() -> None:
    epochs = 450
    expected = {0: 0.0, 90: 0.0, 135: 0.25, 180: 0.5, 225: 0.75, 270: 1.0, 271: 1.0}
    for epoch, strength in expected.items():
        assert linear_annealing(epoch / epochs) == pytest.approx(strength, abs=1e-12)
    assert linear_annealing(0.2) == 0.0
    assert linear_annealing(0.6) == 1.0
    # Training counts its epochs from 1 and ends at a progress of 1: a fraction of an epoch's step is the difference.
    for epoch, strength in expected.items():
        assert linear_annealing(epoch / (epochs - 1)) == pytest.approx(strength, abs=2.5 / (epochs - 1))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_stay_within_0_and_1_and_are_monotonic(schedule: rb.regularizers.Schedule) -> None:
    values = [schedule(step / 200) for step in range(201)]
    assert min(values) >= 0
    assert max(values) <= 1
    differences = [after - before for before, after in pairwise(values)]
    assert all(d <= 0 for d in differences) if schedule is switch_off else all(d >= 0 for d in differences)


def test_the_other_schedules() -> None:
    assert {constant(p) for p in (0.0, 0.3, 1.0)} == {1.0}
    assert (exponential_annealing(0.0), exponential_annealing(0.2), exponential_annealing(0.75)) == (0.0, 0.0, 1.0)
    for epoch in range(1, 6):  # as in the published program, of ten epochs
        missing = [1 - exponential_annealing((2 + k) / 10) for k in (epoch - 1, epoch)]
        assert missing[1] == pytest.approx(0.6 * missing[0])
    assert (switch_on(0.4999), switch_on(0.5)) == (0.0, 1.0)
    assert (switch_off(0.4999), switch_off(0.5)) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("progress", "probability"), [(0.0, 0.0), (0.1, 1 - math.exp(-0.5)), (0.4, 1 - math.exp(-2)), (0.6, 1)]
)
def test_a_probabilistic_penalty_counts_as_often_as_it_says(progress: float, probability: float) -> None:
    torch.manual_seed(0)
    schedule = Probabilistic()
    drawn = [schedule(progress) for _ in range(2000)]
    assert set(drawn) <= {0.0, 1.0}
    assert sum(drawn) / 2000 == pytest.approx(probability, abs=4 * math.sqrt(probability * (1 - probability) / 2000))


def test_a_probabilistic_penalty_has_come_in_by_its_mean_and_draws_nothing_to_say_so() -> None:
    state = torch.get_rng_state()
    assert [has_come_in(Probabilistic(), progress) for progress in (0.0, 0.4, 0.47, 1.0)] == [False, False, True, True]
    torch.testing.assert_close(torch.get_rng_state(), state)


def test_sparsity_by_hand() -> None:
    penalty = Sparsity(target=0.25, weight=2.0, schedule=constant)(SPIKES, 0.0)
    first = (0.5**2 + 0.0**2) / 2
    second = (0.25**2 + 0.25**2) / 2
    torch.testing.assert_close(penalty, torch.tensor(2 * (first + second)))


@pytest.mark.parametrize("progress", [0.0, 0.2, 0.4, 0.9])
def test_the_schedule_scales_the_penalty(progress: float) -> None:
    full = Sparsity(target=0.3, schedule=constant)(SPIKES, progress)
    torch.testing.assert_close(Sparsity(target=0.3)(SPIKES, progress), linear_annealing(progress) * full)
    for penalty, whole in (
        (RateBounds(upper=0.1, schedule=switch_on), RateBounds(upper=0.1)),
        (TotalRate(0.1, schedule=switch_on), TotalRate(0.1)),
    ):
        torch.testing.assert_close(penalty(SPIKES, progress), switch_on(progress) * whole(SPIKES, progress))


def test_bounds_on_neurons_by_hand() -> None:
    # Rates: first layer 1/2, 1 and 1/2, 0; second 1/2, 0 and 0, 1/2
    penalty = RateBounds(upper=0.6, lower=0.2, weight=3.0)(SPIKES, 0.0)
    first = (0.4**2 + 0.2**2) / 4
    second = (0.2**2 + 0.2**2) / 4
    torch.testing.assert_close(penalty, torch.tensor(3 * (first + second)))


def test_bounds_on_populations_by_hand() -> None:
    # Means over the layer's neurons: first layer 3/4 and 1/4, second 1/4 and 1/4
    penalty = RateBounds(upper=0.5, lower=0.3, of="population")(SPIKES, 0.0)
    first = (0.25**2 + 0.05**2) / 2
    second = (0.05**2 + 0.05**2) / 2
    torch.testing.assert_close(penalty, torch.tensor(first + second))


def test_within_the_bounds_there_is_no_gradient() -> None:
    spikes = SPIKES["1 LIF(2)"].clone().requires_grad_()
    RateBounds(upper=0.9, lower=0.1, of="population")({"a": spikes}, 0.0).backward()
    assert not spikes.grad.any()


@pytest.mark.parametrize(("limit", "expected"), [(0.4, 368.64), (0.1, 18063.36), (0.45, 0.0), (0.5, 0.0)])
def test_the_published_total_rate(limit: float, expected: float) -> None:
    # 384 neurons in three layers, all at a rate of 0.45
    spikes = {str(layer): torch.zeros(20, 5, 128, dtype=torch.float64) for layer in range(3)}
    for layer in spikes.values():
        layer[:9] = 1
    assert TotalRate(limit)(spikes, 0.0).item() == pytest.approx(expected, abs=1e-9)


def test_a_quiet_layer_makes_up_for_a_busy_one_in_the_total() -> None:
    spikes = {"busy": torch.ones(4, 1, 10), "quiet": torch.zeros(4, 1, 10)}
    assert TotalRate(0.5)(spikes, 0.0).item() == 0
    assert RateBounds(upper=0.5, of="population")(spikes, 0.0).item() > 0


@hypothesis.settings(max_examples=30)
@given(
    regularizer=st.sampled_from(
        [
            Sparsity(target=0.2, schedule=constant),
            RateBounds(upper=0.4, lower=0.35),
            RateBounds(upper=0.3, lower=0.2, of="population", weight=2.0),
            TotalRate(0.2, weight=0.5),
        ]
    ),
    seed=st.integers(0, 1000),
    space=st.sampled_from([(), (2,), (2, 3)]),
)
def test_gradients(regularizer: rb.training.Regularizer, seed: int, space: tuple[int, ...]) -> None:
    # Away from the corners of relu a penalty is smooth in the activity, so that finite differences can tell.
    generator = torch.Generator().manual_seed(seed)
    activity = [torch.rand(3, 2, 4, *space, generator=generator, dtype=torch.float64).requires_grad_() for _ in "ab"]
    of = lambda *layers: regularizer(dict(zip("ab", layers, strict=True)), 1.0)  # noqa: E731
    assert torch.autograd.gradcheck(of, activity)


@pytest.mark.parametrize("regularizer", [Sparsity(), RateBounds(upper=0.5), TotalRate(0.1)])
def test_without_a_layer_there_is_no_penalty(regularizer: rb.training.Regularizer) -> None:
    assert regularizer({}, 1.0).item() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sparsity(target=1.1), r"Sparsity: target must be a rate in \[0, 1\], got 1.1"),
        (lambda: Sparsity(weight=-1.0), "Sparsity: weight must be at least 0 and finite, got -1.0"),
        (lambda: Sparsity(weight=math.inf), "weight must be at least 0 and finite, got inf"),
        (lambda: RateBounds(upper=-0.1), r"RateBounds: upper must be a rate in \[0, 1\], got -0.1"),
        (lambda: RateBounds(lower=math.nan), r"RateBounds: lower must be a rate in \[0, 1\], got nan"),
        (lambda: RateBounds(upper=0.1, lower=0.2), "RateBounds: lower must be at most upper, got 0.2 and 0.1"),
        (lambda: TotalRate(limit=2.0), r"TotalRate: limit must be a rate in \[0, 1\], got 2.0"),
    ],
)
def test_a_slip(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_in_training_it_makes_a_network_sparse() -> None:
    rates = {}
    for name, regularizers in {"free": (), "sparse": (Sparsity(target=0.0, weight=30.0, schedule=constant),)}.items():
        result = rb.fit(
            network(), *splits(), settings(epochs=6), regularizers=regularizers, display=rb.training.Display()
        )
        rates[name] = result.metrics[-1]["layers"][0]["rate"]
    assert rates["sparse"] < 0.5 * rates["free"]
