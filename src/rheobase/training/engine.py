"""Where the work is done: device, precision, and the number of processes.

Accelerate detects how the program was started (alone, by `torchrun`, by `accelerate launch`) and sets up torch.distributed,
gloo between CPUs, NCCL between GPUs. This module holds the little that the loop needs from it. The batch size is that of all
processes together, and each takes its share of every batch; so two processes compute the same losses as one. The exception is
penalties on the mean activity of a batch, here that of a process's own samples.
"""

import atexit
import gc
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rheobase.layers.held import is_held
from rheobase.training.batch_norm import give_back_statistics, share_statistics
from rheobase.training.settings import Training

if torch.distributed.is_available():
    # Before there is a group: its functions take the group at the time of import as their default, and would keep it for good.
    import torch.distributed.nn.functional


@dataclass(frozen=True)
class Engine:
    """A device, a precision, and this process's place among all."""

    device: torch.device
    bfloat16: bool = False
    process: int = 0
    processes: int = 1

    @classmethod
    def start(cls, settings: Training) -> "Engine":
        """The engine that the settings and the way the program was started ask for.

        Raises:
            ValueError: if a GPU is requested and there is none, or if these processes already communicate as CPU processes.
        """
        gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
        if settings.device == "gpu" and not gpu:
            raise ValueError("device must be 'cpu' or 'auto' here: 'gpu' was requested, and PyTorch finds none")
        cpu = settings.device == "cpu" or not gpu
        state = PartialState(cpu=cpu)
        if state.num_processes > 1:
            atexit.register(cls.end)
        # Accelerate keeps the device of the first call in a process; another may be requested by now.
        device = torch.device("cpu") if cpu or state.device is None else state.device
        if not cpu and device.type == "cpu" and "ACCELERATE_TORCH_DEVICE" not in os.environ:
            if state.num_processes > 1:
                raise ValueError(
                    f"device must be 'cpu' here, got {settings.device!r}: these {state.num_processes} processes have trained "
                    "on CPUs before and cannot move to GPUs; restart the program"
                )
            device = torch.device("cuda" if torch.cuda.is_available() else "mps")
        return cls(
            device,
            settings.precision == "bfloat16",
            state.process_index,
            state.num_processes,
        )

    @classmethod
    def where(cls, network: nn.Module) -> "Engine":
        """The engine of one process on the device where `network` is."""
        tensors = chain(network.parameters(), network.buffers())  # neurons that learn nothing have only buffers
        return cls(next((tensor.device for tensor in tensors), torch.device("cpu")))

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and prints."""
        return self.process == 0

    def prepare(self, network: nn.Module) -> nn.Module:
        """The network on the device; with several processes, wrapped so that gradients are averaged over them, and with batch
        normalization over all of them."""
        network.to(self.device)
        if self.processes == 1:
            return network
        share_statistics(network)
        return DistributedDataParallel(network)

    def release(self, network: nn.Module) -> None:
        """Give back what `prepare` has put into a network for several processes, which are gone after training."""
        if self.processes > 1:
            give_back_statistics(network)

    def precision(self) -> AbstractContextManager[object]:
        """The block in which the network runs forward."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext()

    def apart(self, wrapped: nn.Module) -> AbstractContextManager[object]:
        """The block in which gradients are added up in each process, and not averaged over all yet."""
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """A block that the main process runs before all others: they find what it downloads."""
        if not self.is_main:
            self.wait_for_all()
        try:
            yield
        finally:
            if self.is_main:
                self.wait_for_all()

    @contextmanager
    def threads(self, count: int | None) -> Iterator[None]:
        """A block in which PyTorch uses `count` threads on the CPU; None leaves them as they are."""
        before = torch.get_num_threads()
        torch.set_num_threads(before if count is None else count)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def share(self, order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
        """This process's part of each batch of `order`; it may be empty where a batch has fewer samples than processes."""
        for start in range(0, len(order), batch_size):
            yield np.array_split(order[start : start + batch_size], self.processes)[self.process]

    def to_device(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The batch on the device; if all steps are one in memory, only one is copied."""
        moved = (x[:1] if is_held(x) else x).to(self.device, non_blocking=True)
        return moved.expand_as(x), labels.to(self.device, non_blocking=True)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of `tensor` over all processes, on every one of them."""
        if self.processes == 1:
            return tensor
        moved = tensor.to(self.device)
        torch.distributed.all_reduce(moved)
        return moved.to(tensor.device)

    def agree_on_buffers(self, network: nn.Module) -> None:
        """Give every process the main one's buffers, which are those saved, where a layer keeps its own statistics."""
        if self.processes > 1:
            for buffer in network.buffers():
                torch.distributed.broadcast(buffer, 0)

    def agree(self, text: str) -> str:
        """The main process's `text`, on every process."""
        return broadcast_object_list([text])[0] if self.processes > 1 else text

    @staticmethod
    def end() -> None:
        """Disconnect from the other processes, as every process does by itself when it exits.

        A process that exits without this may be aborted by its communication threads: they need the interpreter to release the
        last tensors, and it is already gone. They end with the last reference to their group, so wrapped networks, which hold
        one in a reference cycle, are collected here.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
            gc.collect()

    def wait_for_all(self) -> None:
        """Continue when every process has arrived here."""
        if self.processes > 1:
            torch.distributed.barrier()
