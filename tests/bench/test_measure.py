"""Samples, rounds and ratios, on a clock of our own."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheobase.bench import measure
from rheobase.bench.measure import SLOW_ROUNDS, Sample, Summary, interleave, ratio, sample

TIMES = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=9)


class Clock:
    """Takes the place of the module `time`; `step(cpu, wall)` is work that takes so many seconds."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0
        self.calls: list[str] = []

    def process_time(self) -> float:
        return self.cpu

    def perf_counter(self) -> float:
        return self.wall

    def step(self, name: str, cpu: float, wall: float):
        def run() -> None:
            self.calls.append(name)
            self.cpu += cpu
            self.wall += wall

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measure, "time", clock)
    monkeypatch.setattr(measure.gc, "collect", lambda: 0)  # slow beside the tests' own objects
    return clock


def test_a_sample_is_the_mean_of_as_many_steps_as_fill_it(clock: Clock) -> None:
    taken = sample(clock.step("a", cpu=0.02, wall=0.03), seconds=0.05)
    assert len(clock.calls) == 3
    assert taken == pytest.approx(Sample(cpu=20, wall=30))


def test_a_sample_lasts_long_enough_on_both_clocks(clock: Clock) -> None:
    # Two threads: the processor time runs twice as fast as the wall's.
    sample(clock.step("a", cpu=0.04, wall=0.02), seconds=0.05)
    assert clock.wall >= 0.05


def test_all_take_turns_and_the_first_round_does_not_count(clock: Clock) -> None:
    steps = {name: clock.step(name, 1.0, 1.0) for name in "ab"}
    taken = [name for name, _ in interleave(steps, rounds=2)]
    assert taken == ["a", "b", "a", "b"]
    assert clock.calls == ["a", "b", "a", "b", "a", "b"]


def test_who_raises_is_left_out_and_the_others_go_on(clock: Clock) -> None:
    countdown = itertools.count(-2)

    def breaks() -> None:
        clock.wall += 1
        clock.cpu += 1
        _ = 1 / next(countdown)

    taken = list(interleave({"breaks": breaks, "a": clock.step("a", 1, 1)}, rounds=3))
    assert [name for name, _ in taken] == ["breaks", "a", "breaks", "a", "a"]
    assert isinstance(taken[2][1], ZeroDivisionError)


def test_who_is_slow_gives_fewer_samples(clock: Clock) -> None:
    steps = {"slow": clock.step("slow", 60, 60), "fast": clock.step("fast", 0.1, 0.1)}
    taken = [name for name, _ in interleave(steps, rounds=6)]
    assert taken.count("slow") == SLOW_ROUNDS
    assert taken.count("fast") == 6


@given(TIMES)
def test_summary(samples: list[float]) -> None:
    summary = Summary.of(samples)
    assert summary.low == min(samples) <= summary.median <= summary.high == max(samples)
    assert summary.samples == tuple(samples)


def test_spread() -> None:
    assert Summary.of([8.0, 10.0, 13.0]).spread == pytest.approx(0.25)


@given(TIMES, st.floats(0.01, 100))
def test_ratio_does_not_care_how_good_a_round_is(reference: list[float], factor: float) -> None:
    assert ratio([factor * time for time in reference], reference) == pytest.approx(factor)


def test_ratio_is_taken_in_the_rounds_that_both_have() -> None:
    assert ratio([2.0], [1.0, 100.0, 100.0]) == 2
