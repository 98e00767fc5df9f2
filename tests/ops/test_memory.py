import copy
import ctypes
import gc
import io
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rheobase.ops import integrate, lif, memory

# Python 3.12 warns of what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

HUGE_PAGE = 2 << 20
BLOCK = (1 << 18,)
"""The shape of the fewest floats that take a block of their own, of one huge page."""


@pytest.fixture(autouse=True)
def nothing_idle() -> Iterator[None]:
    memory.release()
    yield
    memory.release()


def filled(value: float) -> Tensor:
    return memory.empty(BLOCK, torch.float32).fill_(value)


def overwrite() -> None:
    """Take a few blocks, write to them, give them back: what a training step does."""
    blocks = [filled(-1.0) for _ in range(3)]
    assert all((block == -1).all() for block in blocks)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.bool, torch.int64, torch.complex64]
)
@pytest.mark.parametrize(
    "shape", [(), (0,), (3,), (0, 5), (1 << 20, 0), (1 << 20,), (700, 1, 999), (3, 5, 7, 11, 1009)]
)
def test_a_tensor_as_any_other(shape, dtype):
    ours, theirs = memory.empty(shape, dtype), torch.empty(shape, dtype=dtype)
    assert (ours.shape, ours.dtype, ours.stride()) == (theirs.shape, theirs.dtype, theirs.stride())
    assert ours.device.type == "cpu"
    assert not ours.requires_grad
    ours.fill_(1)
    assert (ours == 1).all()
    ours.requires_grad_(dtype.is_floating_point)
    if dtype.is_floating_point and ours.numel():
        ours.sum().backward()
        assert (ours.grad == 1).all()


def test_small_tensors_are_left_to_the_allocator_of_c():
    for count in (0, 1, 1000, (1 << 18) - 1):
        memory.empty((count,), torch.float32)
        assert memory.idle_bytes() == 0
    memory.empty(BLOCK, torch.float32)
    assert memory.idle_bytes() == HUGE_PAGE


def test_a_block_comes_back_and_is_used_again():
    tensor = filled(1.0)
    assert memory.idle_bytes() == 0
    address = tensor.data_ptr()
    del tensor
    assert memory.idle_bytes() == HUGE_PAGE
    again = memory.empty((1 << 17,), torch.float64)  # the same number of bytes
    assert again.data_ptr() == address
    assert memory.idle_bytes() == 0


def autograd_saves(tensor: Tensor) -> Tensor:
    weight = torch.ones((), requires_grad=True)
    return weight * tensor


KEEPERS: dict[str, Callable[[Tensor], object]] = {
    "view": lambda tensor: tensor.view(512, 512),
    "element": lambda tensor: tensor[77],
    "flipped": lambda tensor: tensor.view(512, 512).t(),
    "as another type": lambda tensor: tensor.view(torch.int32),
    "detached": lambda tensor: tensor.detach(),
    "data": lambda tensor: tensor.data,
    "parameter": torch.nn.Parameter,
    "array": lambda tensor: tensor.numpy(),
    "part of an array": lambda tensor: tensor.numpy()[10:20].reshape(2, 5),
    "memoryview": lambda tensor: memoryview(tensor.numpy()),
    "dlpack": lambda tensor: np.from_dlpack(tensor[:10]),
    "storage": lambda tensor: tensor.untyped_storage(),
    "another tensor on the storage": lambda tensor: torch.empty(0).set_(tensor.untyped_storage(), 3, (5,)),
    "saved for a backward pass": autograd_saves,
}


@pytest.mark.parametrize("keep", KEEPERS.values(), ids=KEEPERS.keys())
def test_nobody_gets_memory_that_someone_still_looks_at(keep):
    tensor = filled(7.0)
    numbers = (ctypes.c_float * 20).from_address(tensor.data_ptr())
    keeper = keep(tensor)
    del tensor
    overwrite()
    assert list(numbers) == [7.0] * 20
    idle = memory.idle_bytes()
    assert idle == 3 * HUGE_PAGE
    del keeper
    assert memory.idle_bytes() == idle + HUGE_PAGE


def test_a_gradient_is_not_overwritten_by_the_next_step():
    x = torch.ones(64, 8, 1024, requires_grad=True)
    lif(x, 0.9)[0].sum().backward()
    gradient = x.grad
    copied = gradient.clone()
    x.grad = None
    for _ in range(3):
        (2 * lif(x, 0.9)[0]).sum().backward()
        x.grad = None
    assert torch.equal(gradient, copied)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from([0.4, 1.0, 1.5, 2.0, 3.1, 5.0, 7.7]), st.integers(0, 6)), max_size=40))
def test_never_more_idle_memory_than_was_in_use_at_a_time(steps):
    memory.release()
    held: list[tuple[Tensor, int]] = []
    most = 0
    for number, (megabytes, to_free) in enumerate(steps):
        del held[:to_free]
        held.append((memory.empty((int(megabytes * 2**20),), torch.uint8), number))
        held[-1][0][0] = held[-1][0][-1] = number
        if to_free % 2:
            held.reverse()
        in_use = sum(
            math.ceil(tensor.numel() / HUGE_PAGE) * HUGE_PAGE for tensor, _ in held if tensor.numel() >= 1 << 20
        )
        most = max(most, in_use)
        assert memory.idle_bytes() <= most - in_use
        assert all(tensor[0] == tensor[-1] == number for tensor, number in held)
    held.clear()
    assert memory.idle_bytes() <= most
    memory.release()
    assert memory.idle_bytes() == 0


def test_blocks_of_many_sizes_do_not_pile_up():
    # As the batches of a data set whose samples differ in length.
    before = resident()
    for megabytes in range(2, 60, 2):
        memory.empty((megabytes << 20,), torch.uint8).fill_(1)
    assert resident() < before + 70 * 2**20


def test_what_is_released_is_given_back_to_the_system():
    many = [filled(1.0) for _ in range(16)]
    before = resident()
    del many
    memory.release()
    assert resident() < before - 15 * 2**20
    kept = filled(2.0)
    memory.release()
    assert (kept == 2).all()
    del kept
    assert memory.idle_bytes() == HUGE_PAGE


def test_memory_that_there_is_not():
    idle = filled(1.0)
    del idle
    with pytest.raises(MemoryError, match="no memory for a tensor of 4,294,967,296 MiB"):
        memory.empty((1 << 50,), torch.float32)
    assert memory.idle_bytes() == 0  # it was tried whether that helps
    overwrite()
    assert memory.idle_bytes() == 3 * HUGE_PAGE


def test_many_threads_take_and_give_back():
    wrong = []

    def work(number: int) -> None:
        generator = np.random.default_rng(number)
        held: list[tuple[Tensor, int]] = []
        for turn in range(200):
            tensor = memory.empty((int(generator.integers(1 << 20, 5 << 20)),), torch.uint8)
            tensor[:: 1 << 16] = number * 50 + turn % 50
            held.append((tensor, number * 50 + turn % 50))
            for kept, value in held:
                if not (kept[:: 1 << 16] == value).all():
                    wrong.append((number, turn))
            if len(held) > 3:
                held.pop(int(generator.integers(4)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_garbage_collector_may_return_blocks_at_any_time():
    # Cycles die wherever the collector runs: within `empty` too, while its lock is held.
    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for number in range(100):
            cycle: list = [filled(number)]
            cycle.append(cycle)
            del cycle
            tensor = filled(number)
            assert (tensor[:: 1 << 12] == number).all()
    finally:
        gc.set_threshold(*thresholds)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_thousand_training_steps_leave_memory_flat(monkeypatch):
    monkeypatch.setattr(memory, "_SMALLEST", 1)  # the smallest tensor takes a block: small ones make quick steps
    x = torch.rand(10, 4, 8)
    decay = torch.full((8,), 0.9, requires_grad=True)

    def step() -> None:
        spikes, last = lif(x.clone().requires_grad_(), decay)
        states, _ = integrate(spikes, decay)
        (states.square().mean() + last.sum()).backward()
        decay.grad = None

    for _ in range(20):
        step()
    before, idle = resident(), memory.idle_bytes()
    for _ in range(1000):
        step()
    assert resident() < before + 4 * 2**20
    assert memory.idle_bytes() <= idle
    assert len(weakref.finalize._registry) < 1000


def test_tensors_travel_as_any_other():
    tensor = torch.arange(1 << 18, dtype=torch.float32)
    ours = memory.empty(BLOCK, torch.float32).copy_(tensor)
    file = io.BytesIO()
    torch.save(ours, file)
    assert file.tell() < ours.nbytes + 10_000  # not the whole block
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True), tensor)
    copied = copy.deepcopy(ours)
    del ours
    overwrite()
    assert torch.equal(copied, tensor)
    del copied
    overwrite()


def double(tensor: Tensor) -> None:
    tensor.mul_(2)


def test_shared_memory_is_shared():
    tensor = filled(3.0)
    tensor.share_memory_()
    overwrite()
    assert (tensor == 3).all()
    process = get_context("fork").Process(target=double, args=(tensor,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert (tensor == 6).all()


def in_child(work: Callable[[], bool]) -> None:
    """Fork, and expect that `work` returns True there, within a minute."""
    process = get_context("fork").Process(target=lambda: os._exit(0 if work() else 3))
    process.start()
    process.join(60)
    process.kill()
    assert process.exitcode == 0


def test_a_forked_process_has_memory_of_its_own():
    tensor, idle = filled(1.0), filled(2.0)
    del idle

    def child() -> bool:
        own = filled(5.0)
        tensor.fill_(6.0)
        return memory.idle_bytes() == 0 and bool((own == 5).all())

    in_child(child)
    assert (tensor == 1).all()
    assert memory.idle_bytes() == HUGE_PAGE
    overwrite()


def test_a_process_forked_while_another_thread_takes_memory():
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with memory._pool._lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        in_child(lambda: bool((filled(5.0) == 5).all()))
    finally:
        done.set()
        thread.join()
