"""`rheobase bench`: measure, show, keep."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from rheobase.bench import machine, run, table
from rheobase.bench.peers import PEERS
from rheobase.bench.run import Settings
from rheobase.bench.workloads import WORKLOADS
from rheobase.files import write_json


def bench(
    workloads: tuple[str, ...] = (), only: tuple[str, ...] | None = None, *, file: Path | None = None, **settings: Any
) -> None:
    """Measure, with a table for each workload as soon as it is done.

    Args:
        workloads: names of `WORKLOADS`; by default all of them.
        only: names of `PEERS`; by default all of them.
        file: where all results are written as JSON, updated after every workload.
        **settings: the others of `Settings`.

    Raises:
        ValueError: if a name is unknown, or the number of rounds is not positive.
    """
    chosen = Settings(workloads or tuple(WORKLOADS), tuple(PEERS) if only is None else only, **settings)
    console = Console(highlight=False)
    found: dict[str, Any] = {**machine.about(), "settings": asdict(chosen), "imports": {}, "workloads": {}}
    with console.status("") as status:
        for name in chosen.workloads:
            measured = run.measure_workload(name, chosen, status.update)
            console.print(table.render(measured, machine.cores()))
            found["workloads"][name] = measured.as_dict()
            if file:
                write_json(file, found)
        if not chosen.quick:
            found["imports"] = run.import_times(chosen, status.update)
            seconds = ", ".join(f"{library} {taken:.2f} s" for library, taken in found["imports"].items())
            console.print(f"import beyond torch: {seconds}")
            if file:
                write_json(file, found)
