"""The benchmark from the outside: which processes run, in which order, and what becomes of their lines."""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from rheobase.bench import fresh, machine
from rheobase.bench.child import COPY, Job, environment
from rheobase.bench.peers import PEERS, installed
from rheobase.bench.results import FLOOR, Row, Table
from rheobase.bench.workloads import WORKLOADS

Progress = Callable[[str], None]
IMPORT_ROUNDS = 5


@dataclass(frozen=True)
class Settings:
    """What is measured, and how long.

    Args:
        workloads: names of `WORKLOADS`.
        peers: names of `PEERS`.
        rounds: how many samples of every row.
        quick: whether processor time on one thread is all.
        compiled: whether rows that take long to compile are wanted.
        toy: whether all sizes are toy sizes, which shows that everything runs and nothing else.

    Raises:
        ValueError: if a name is unknown, or `rounds` is not positive.
    """

    workloads: tuple[str, ...] = tuple(WORKLOADS)
    peers: tuple[str, ...] = tuple(PEERS)
    rounds: int = 7
    quick: bool = False
    compiled: bool = False
    toy: bool = False

    def __post_init__(self) -> None:
        for what, names, known in (("workload", self.workloads, WORKLOADS), ("library", self.peers, PEERS)):
            for name in names:
                if name not in known:
                    raise ValueError(f"there is no {what} {name!r}; it is one of {', '.join(known)}")
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")


def measure_workload(name: str, settings: Settings, progress: Progress) -> Table:
    """All rows of a workload.

    Args:
        name: the workload.
        settings: how it is measured.
        progress: is told what is being measured, in words.
    """
    table = Table(name, WORKLOADS[name].title)
    present = tuple(peer for peer in settings.peers if installed(peer))
    job = Job("times", name, peers=present, compiled=settings.compiled, toy=settings.toy)
    one_thread = replace(job, rounds=settings.rounds, agreement=True)
    _times(table, one_thread, "cpu", progress)
    if not settings.quick:
        cores = machine.cores()
        _times(table, replace(job, rounds=settings.rounds, threads=cores), "wall", progress)
        for row in table.rows:
            if row.cpu is not None and row.name != FLOOR:
                progress(f"{name}: {row.name}, first call and memory")
                _first(row, replace(job, kind="first", row=row.name, threads=cores))
    for peer in settings.peers:
        if peer not in present:
            about = PEERS[peer]
            table.rows.append(Row(about.title, peer, why=f"not installed (pip install {peer}=={about.release})"))
    return table


def import_times(settings: Settings, progress: Progress) -> dict[str, float]:
    """Seconds of the imports beyond torch: the median over some processes each."""
    modules = {"rheobase": "rheobase", **{peer: PEERS[peer].module for peer in settings.peers if installed(peer)}}
    taken: dict[str, list[float]] = defaultdict(list)
    for _ in range(1 if settings.toy else IMPORT_ROUNDS):
        for library, module in modules.items():
            progress(f"import {module}")
            taken[library].append(fresh.import_seconds(module))
    return {library: median(seconds) for library, seconds in taken.items()}


def _times(table: Table, job: Job, which: str, progress: Progress) -> None:
    """Fill in the times of one pass."""
    threads = "1 thread" if job.threads == 1 else f"{job.threads} threads"
    samples: dict[str, list[float]] = defaultdict(list)
    copied = 0
    for message in _lines(job):
        match message.pop("message"):
            case "row":
                progress(f"{job.workload}, {threads}: {message['row']}")
                if which == "cpu":
                    table.rows.append(Row(message["row"], message["library"], message["differs"], message["why"]))
            case "agreement":
                table.row(message["row"]).agreement = message["agreement"]
            case "failed":
                table.row(message["row"]).why = message["why"]
            case "bound":
                table.bytes_moved, copied = message["bytes"], message["copied"]
            case "sample":
                samples[message["row"]].append(message[which])
                progress(f"{job.workload}, {threads}: round {len(samples[message['row']])} of {job.rounds}")
            case "ended":
                for row in table.rows:
                    if row.name not in samples and not row.why:
                        row.why = message["why"]
    copies = samples.pop(COPY, [])
    if copies:
        table.bandwidth[which] = copied / median(copies) * 1e3
        samples[FLOOR] = [milliseconds * table.bytes_moved / copied for milliseconds in copies]
        if which == "cpu":
            table.rows.append(Row(FLOOR, "bound"))
    table.set_times(which, samples)


def _first(row: Row, job: Job) -> None:
    """Fill in the first call and the memory of one row, from two processes that share a cache."""
    peaks = []
    with tempfile.TemporaryDirectory() as caches:
        for cache in ("cold", "cached"):
            for message in _lines(job, caches):
                match message.pop("message"):
                    case "first_call":
                        row.first_call[cache] = message["seconds"]
                    case "peak":
                        peaks.append(message["mib"])
    row.peak_mib = max((peak for peak in peaks if peak is not None), default=None)


def _lines(job: Job, caches: str | None = None) -> Iterator[dict[str, Any]]:
    """What a process with that job says; a last line says why, if it did not end well."""
    variables = environment(job.threads)
    if caches:
        variables |= {"NUMBA_CACHE_DIR": caches, "TORCHINDUCTOR_CACHE_DIR": caches, **fresh.ALLOCATOR}
    command = [sys.executable, "-m", "rheobase.bench.child", json.dumps(asdict(job))]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True, env=variables) as process,
    ):
        try:
            assert process.stdout is not None
            for line in process.stdout:
                yield json.loads(line)
        except BaseException:  # also when the output is closed
            process.kill()
            raise
        if process.wait():
            said.seek(0)
            last = said.read().strip().rpartition("\n")[2]
            yield {"message": "ended", "why": f"its process ended with status {process.returncode}: {last[:300]}"}
