"""A measuring process: for one workload, or one figure of one row.

Measuring does not happen in the command's own process, for three reasons. The number of threads of some libraries is fixed when
they start; first calls and peak memory need a process that has done nothing; and a library that ends its process must not end
the table. The parent gives a job, as JSON; this one answers in lines of JSON. What libraries print goes to standard error.
"""

import json
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, Literal

import torch

from rheobase.bench import bounds, check, fresh, measure, ours, peers
from rheobase.bench.implementation import Implementation
from rheobase.bench.workloads import WORKLOADS, Task

Message = dict[str, Any]
COPY = "memory copy"


@dataclass(frozen=True)
class Job:
    """What to do.

    Args:
        kind: measure the times of all rows of a workload, or the first call, and the peak memory, of one.
        workload: a name of `WORKLOADS`.
        peers: the libraries beside ours.
        row: for the first call and the memory, whose.
        rounds: for the times, how many samples.
        compiled: whether rows that take long to compile are wanted.
        agreement: whether to hold the rows against ours before they are measured.
        toy: whether all sizes are toy sizes.
        threads: how many threads each library may use.
    """

    kind: Literal["times", "first"]
    workload: str
    peers: tuple[str, ...] = ()
    row: str = ""
    rounds: int = 1
    compiled: bool = False
    agreement: bool = False
    toy: bool = False
    threads: int = 1


def environment(threads: int) -> dict[str, str]:
    """The environment in which every library that we know of keeps to a number of threads."""
    numbers = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC")
    one = "--xla_cpu_multi_thread_eigen=false" if threads == 1 else ""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {one}".strip()
    return {**os.environ, **dict.fromkeys(numbers, str(threads)), "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


def rows(job: Job, task: Task) -> Iterator[tuple[str, Implementation]]:
    """Libraries and their implementations of `task`, ours first; the bounds last."""
    for implementation in ours.implementations(task):
        yield "rheobase", implementation
    for peer in job.peers:
        for implementation in peers.implementations(peer, task):
            if job.compiled or not implementation.compiles:
                yield peer, implementation
    for implementation in bounds.implementations(task):
        yield "bound", implementation


def times(job: Job) -> Iterator[Message]:
    """A `row` for every row, then `sample` upon `sample`; `failed` for a row that raised."""
    task = WORKLOADS[job.workload].make(job.toy)
    steps = {}
    for library, implementation in rows(job, task):
        yield {
            "message": "row",
            "row": implementation.name,
            "library": library,
            "differs": implementation.dynamics.describe(),
            "why": implementation.skip,
        }
        if implementation.skip:
            continue
        try:
            step = implementation.build(task)
            step()
            steps[implementation.name] = step
        except Exception as error:
            yield {"message": "failed", "row": implementation.name, "why": _said(error)}
            continue
        if job.agreement and library in peers.PEERS:
            yield {"message": "agreement", "row": implementation.name, "agreement": agreement(implementation, job)}
    copy, copied = bounds.copying(1 if job.toy else 256)
    copy()
    steps[COPY] = copy
    yield {"message": "bound", "bytes": bounds.bytes_moved(task), "copied": copied}
    seconds = 0.001 if job.toy else measure.SAMPLE_SECONDS
    for name, taken in measure.interleave(steps, job.rounds, seconds):
        if isinstance(taken, Exception):
            yield {"message": "failed", "row": name, "why": _said(taken)}
        else:
            yield {"message": "sample", "row": name, "cpu": taken.cpu, "wall": taken.wall}


def agreement(implementation: Implementation, job: Job) -> dict[str, Any] | None:
    """How a row's spikes and gradients compare with ours; or why that cannot be known."""
    try:
        found = check.compare(implementation, job.workload)
    except Exception as error:
        return {"holds": False, "why": _said(error)}
    return found and {**asdict(found), "holds": found.holds}


def first(job: Job) -> Iterator[Message]:
    """The `first_call` of a row in seconds, and its `peak` in MiB."""
    workload = WORKLOADS[job.workload]
    found = {
        implementation.name: (library, implementation) for library, implementation in rows(job, workload.make(True))
    }
    library, implementation = found[job.row]
    if library in peers.PEERS:
        import_module(peers.PEERS[library].module)
    yield {"message": "first_call", "seconds": fresh.first_call(implementation, workload)}
    yield {"message": "peak", "mib": fresh.peak_of_training(implementation, workload, job.toy)}


def main() -> None:
    """Do the job in the only argument."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library's own output must not interfere
    warnings.simplefilter("ignore")  # a library's warnings are not ours to show
    job = Job(**json.loads(sys.argv[1]))
    torch.set_num_threads(job.threads)
    for message in (times if job.kind == "times" else first)(job):
        print(json.dumps(message), file=channel, flush=True)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


if __name__ == "__main__":
    main()
