import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rheobase.ops import integrate, lif, synaptic_lif, threads
from rheobase.surrogate import Arctan, FastSigmoid

# Python 3.12 warns of what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

ENOUGH = 1 << 24
"""Work for many threads."""


@pytest.fixture(autouse=True)
def number_of_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@given(
    st.integers(0, 3000),
    st.sampled_from([0, 1, 1 << 17, 3 << 17, ENOUGH]),
    st.sampled_from([1, 2, 3, 5]),
    st.sampled_from([1, 8, 16, 100]),
)
def test_slices_cover_everything_once(count, work, number, align):
    torch.set_num_threads(number)
    slices: list[tuple[int, int]] = []
    threads.split(lambda low, high: slices.append((low, high)), count, work, align)
    assert 1 <= len(slices) <= number
    assert len(slices) <= max(1, work >> 17)
    # In order, each begins where the one before it ends; slices of nothing are handed out too.
    slices.sort()
    assert slices[0][0] == 0
    assert slices[-1][1] == count
    assert all(before[1] == after[0] for before, after in pairwise(slices))
    assert all(low % align == 0 or low == count for low, _ in slices)
    # No thread has more than its share, rounded up.
    assert max(high - low for low, high in slices) < count / len(slices) + align


def test_little_work_stays_in_the_thread_that_asks():
    torch.set_num_threads(5)
    where: list[threading.Thread] = []
    threads.split(lambda _low, _high: where.append(threading.current_thread()), 1000, (1 << 18) - 1)
    assert where == [threading.current_thread()]


def test_much_work_runs_at_the_same_time():
    torch.set_num_threads(2)
    both = threading.Barrier(2)
    threads.split(lambda _low, _high: both.wait(60), 1000, ENOUGH)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_in_any_thread_is_an_error_here(failing):
    torch.set_num_threads(3)
    finished: list[int] = []

    def kernel(low: int, high: int) -> None:
        part = low // 16
        if part == failing:
            raise ZeroDivisionError(part)
        finished.append(part)

    with pytest.raises(ZeroDivisionError):
        threads.split(kernel, 48, ENOUGH)
    threads.split(lambda low, _high: finished.append(low), 48, ENOUGH)
    assert {0, 16, 32} <= set(finished)


def test_a_thread_that_outlives_the_program_works_alone(monkeypatch):
    # When the main thread ends, Python closes all pools, and waits for the threads that users have started.
    closed = ThreadPoolExecutor()
    closed.shutdown()
    monkeypatch.setattr(threads, "_workers", lambda: closed)
    torch.set_num_threads(3)
    slices: list[tuple[int, int]] = []
    threads.split(lambda low, high: slices.append((low, high)), 1000, ENOUGH)
    assert slices == [(0, 1000)]


def train(seed: int, steps: int = 12, batch: int = 3, neurons: int = 20_011) -> list[Tensor]:
    """Outputs and gradients of neurons, enough of them for several threads and several blocks, shared parameters."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(steps, batch, neurons, generator=generator).requires_grad_()
    decay = torch.rand(neurons, generator=generator).requires_grad_()
    threshold = torch.tensor(0.7, requires_grad=True)
    spikes, membrane = lif(x, decay, threshold, reset="zero", surrogate=FastSigmoid(), reset_gradient="attached")
    more, (_, current) = synaptic_lif(
        spikes, decay, 0.9, threshold, reset="zero", surrogate=Arctan(0.5, 2.0), reset_gradient="attached"
    )
    states, _ = integrate(more, decay)
    outputs = [spikes, membrane, more, current, states]
    loss = sum((index + 1) * output.mul(output.detach()).sum() for index, output in enumerate(outputs))
    gradients = torch.autograd.grad(loss, (x, decay, threshold))
    return [tensor.detach() for tensor in (*outputs, *gradients)]


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    # By NumPy, which starts no threads that a fork would lose.
    return all(our.numpy().tobytes() == their.numpy().tobytes() for our, their in zip(ours, theirs, strict=True))


def test_results_are_equal_to_the_last_bit_whatever_the_number_of_threads():
    torch.set_num_threads(1)
    expected = train(1)
    for number in (1, 2, 3, 5):
        torch.set_num_threads(number)
        for _ in range(2):
            assert same(train(1), expected), number


def test_several_threads_may_train_at_once():
    torch.set_num_threads(1)
    expected = [train(seed) for seed in range(4)]
    torch.set_num_threads(3)
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda seed: [train(seed) for _ in range(3)], range(4))
        assert all(same(result, known) for of_seed, known in zip(results, expected, strict=True) for result in of_seed)


def in_child(work: Callable[[], bool]) -> int | None:
    process = get_context("fork").Process(target=lambda: exit(0 if work() else 3))
    process.start()
    process.join(60)
    process.kill()
    return process.exitcode


def step(seed: int) -> list[Tensor]:
    """A training step of neurons alone: PyTorch has nothing to do that it would do in threads, which a fork loses."""
    generator = np.random.default_rng(seed)
    x, on_spikes = torch.from_numpy(generator.normal(size=(2, 40, 1, 20_000)).astype(np.float32))
    x, decay = x.requires_grad_(), torch.full((20_000,), 0.9, requires_grad=True)
    spikes, last = lif(x, decay, 0.7, reset="zero", reset_gradient="attached")
    gradients = torch.autograd.grad((spikes, last), (x, decay), (on_spikes, torch.ones(1, 20_000)))
    return [spikes.detach(), last.detach(), *gradients]


def test_a_forked_process_computes_the_same():
    torch.set_num_threads(2)
    expected = step(2)
    assert threads._workers().submit(int).result() == 0  # there is a pool of threads, which the child will not have
    assert in_child(lambda: same(step(2), expected)) == 0
    assert same(step(2), expected)
    assert in_child(lambda: in_child(lambda: same(step(2), expected)) == 0) == 0


class Encoded(Dataset):
    """Samples that neurons make of noise, in the processes that load data."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Tensor:
        x = torch.from_numpy(np.random.default_rng(index).normal(size=(10, 1, 30_000))).float()
        return lif(x, 0.9)[0]


def test_neurons_in_the_processes_that_load_data():
    torch.set_num_threads(2)
    data = Encoded()
    expected = [data[index] for index in range(len(data))]
    loaded = list(DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="fork"))
    assert same(loaded, expected)
