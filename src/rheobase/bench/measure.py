"""Time, such that a ratio of two times can be believed.

A machine has good and bad minutes, and a library that is measured in a bad one looks slow. So all implementations take
turns, in one process, and a ratio is that of two times from the same round. What counts on one thread is the processor
time, user and system, of the whole process: other processes on the machine hardly change it, and a library that starts
threads of its own does not look faster by it. On all cores it is the time on the wall.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

SAMPLE_SECONDS = 0.05
SLOW_SECONDS = 2.0  # a step that takes this long
SLOW_ROUNDS = 3  # is measured in this many rounds, however many there are


class Sample(NamedTuple):
    """Milliseconds per step, mean over as many steps as fill a sample."""

    cpu: float
    wall: float


def sample(step: Callable[[], Any], seconds: float = SAMPLE_SECONDS) -> Sample:
    """Run `step` for at least `seconds` of processor and of wall time."""
    gc.collect()  # not the garbage of earlier code
    count = 0
    wall, cpu = time.perf_counter(), time.process_time()
    while True:
        step()
        count += 1
        cpu_spent, wall_spent = time.process_time() - cpu, time.perf_counter() - wall
        if min(cpu_spent, wall_spent) >= seconds:
            return Sample(cpu_spent / count * 1e3, wall_spent / count * 1e3)


def interleave(
    steps: Mapping[str, Callable[[], Any]], rounds: int, seconds: float = SAMPLE_SECONDS
) -> Iterator[tuple[str, Sample | Exception]]:
    """Let `steps` take turns for some rounds. A first round does not count: in it, memory is still found for everybody.

    Args:
        steps: by name, and already run once.
        rounds: how many samples each gives; a slow one gives fewer.
        seconds: how long a sample takes at least.

    Yields:
        Name and sample, as they come; or the error that a step raised, after which it is left out.
    """
    running = dict(steps)
    for turn in range(rounds + 1):
        for name, step in list(running.items()):
            try:
                taken = sample(step, seconds)
            except Exception as error:
                del running[name]
                yield name, error
                continue
            if turn == 0:
                continue
            if turn >= SLOW_ROUNDS and taken.wall > SLOW_SECONDS * 1e3:
                del running[name]
            yield name, taken


@dataclass(frozen=True)
class Summary:
    """Samples in brief: the median, and how far apart the lowest and the highest are."""

    median: float
    low: float
    high: float
    samples: tuple[float, ...]

    @staticmethod
    def of(samples: Sequence[float]) -> "Summary":
        """The summary of at least one sample.

        Example:
            >>> Summary.of([3.0, 1.0, 2.0]).median
            2.0
        """
        return Summary(statistics.median(samples), min(samples), max(samples), tuple(samples))

    @property
    def spread(self) -> float:
        """Half the distance between the lowest and the highest, as a part of the median."""
        return (self.high - self.low) / 2 / self.median


def ratio(samples: Sequence[float], reference: Sequence[float]) -> float:
    """How many times longer than `reference`: the median over the rounds that both have.

    Example:
        >>> ratio([20.0, 40.0, 10.0], [10.0, 20.0])  # twice as long in every round, though the rounds differ
        2.0
    """
    return statistics.median(mine / other for mine, other in zip(samples, reference, strict=False))
