"""Random numbers: a function of the seed and of what they are for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rheobase import randomness

CPU = torch.device("cpu")


@given(seed=st.integers(0, 2**63), epoch=st.integers(1, 10**6), samples=st.integers(1, 300))
def test_the_order_is_a_permutation_and_the_same_each_time(seed: int, epoch: int, samples: int) -> None:
    order = randomness.order(seed, epoch, samples)
    assert sorted(order.tolist()) == list(range(samples))
    assert np.array_equal(order, randomness.order(seed, epoch, samples))


def test_the_order_differs_by_epoch_and_by_seed() -> None:
    orders = {tuple(randomness.order(seed, epoch, 100).tolist()) for seed in range(5) for epoch in range(1, 6)}
    assert len(orders) == 25


def test_augmentation_differs_by_epoch_and_by_seed_and_from_the_order() -> None:
    seeds = {randomness.augmentation(seed, epoch) for seed in range(5) for epoch in range(1, 6)}
    assert len(seeds) == 25
    drawn = np.random.default_rng(randomness.augmentation(3, 4)).permutation(100)
    assert not np.array_equal(drawn, randomness.order(3, 4, 100))


def test_layers_draw_differently_by_seed_epoch_step_and_process() -> None:
    def draw(*place: int) -> float:
        with torch.random.fork_rng(devices=[]):
            randomness.seed_layers(*place, CPU)
            return torch.rand((), dtype=torch.float64).item()

    base = (1, 2, 3, 4)
    places = [base, *(tuple(5 if i == k else base[i] for i in range(4)) for k in range(4)), (1, 3, 2, 4)]
    assert len({draw(*place) for place in places}) == len(places)
    assert draw(*base) == draw(*base)


@pytest.mark.parametrize("seed", [2**64, 2**200])
def test_seeds_of_any_size(seed: int) -> None:
    assert len(randomness.order(seed, 1, 5)) == 5
    with torch.random.fork_rng(devices=[]):
        randomness.seed_layers(seed, 1, 1, 0, CPU)


def test_the_generators_of_other_devices_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    monkeypatch.setattr(torch.cuda, "manual_seed", seeded.append)
    with randomness.evaluation(1, CPU) as seed_step:
        seed_step(0, 0)
        randomness.seed_layers(1, 2, 3, 4, CPU)
    assert seeded == []
