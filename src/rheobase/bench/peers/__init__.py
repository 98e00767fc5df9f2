"""The libraries that we are compared with, one file each: the fastest way on a CPU that each of them documents.

A file says how the library's neurons take the place of ours in the tasks of `rheobase.bench.workloads`, and in what they
differ. Libraries are imported when a step is built, never before: a missing library costs a row, not the command.
"""

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from rheobase.bench.implementation import Implementation
from rheobase.bench.workloads import Task


@dataclass(frozen=True)
class Peer:
    """A library, and the version that was read when its file here was written.

    Args:
        title: what it calls itself.
        release: the version.
        module: what is imported of it.
    """

    title: str
    release: str
    module: str


# By distribution, in the order of the table; for each there is a module here of the same name.
PEERS = {
    "snntorch": Peer("snnTorch", "1.0.0", "snntorch"),
    "spikingjelly": Peer("SpikingJelly", "2.0.0", "spikingjelly.activation_based.neuron"),
    "norse": Peer("Norse", "1.1.0", "norse.torch"),
    "sinabs": Peer("Sinabs", "3.1.3", "sinabs.layers"),
    "spyx": Peer("Spyx", "1.0.0", "spyx"),
}


def installed(distribution: str) -> str | None:
    """The version of a distribution, or None if it is not installed.

    Example:
        >>> installed("no such library")
    """
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def implementations(peer: str, task: Task) -> list[Implementation]:
    """The ways in which an installed library can do `task`."""
    return import_module(f"rheobase.bench.peers.{peer}").implementations(task)
