"""What the measurements of single neurons share: implementations take turns, and what was measured is kept.

A measurement is begun with a file of results. What is in it is not measured again, so that one that was interrupted goes on.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rheobase.bench.machine import about

SLOW = 20.0  # seconds of a round, from which on two rounds are enough


def begin(
    description: str | None, quick: str, file: str
) -> tuple[argparse.Namespace, dict[str, Any], Callable[[], float]]:
    """The command's options, what has been found before, and the clock to measure with.

    Args:
        description: what the command is about, for its help.
        quick: what its option `--quick` means.
        file: where results are kept, if not told otherwise.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results") / file)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found: dict[str, Any] = json.loads(options.json.read_text()) if options.json.exists() else {}
    if found.get("threads", options.threads) != options.threads:
        parser.error(f"{options.json} was measured with {found['threads']} threads; name another file")
    found = {"about": about(), "threads": torch.get_num_threads()} | found
    # On one thread other programs hardly change the processor time; that of several threads is not what one waits for.
    return options, found, time.process_time if options.threads == 1 else time.perf_counter


def turns(runs: dict[str, Callable[[], list[float]]], rounds: int) -> dict[str, list[list[float]]]:
    """Milliseconds of each run's parts, given in seconds, round by round; the first round does not count."""
    found: dict[str, list[list[float]]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        began = time.perf_counter()
        for name, run in runs.items():
            parts = run()
            if turn:
                found[name].append([1e3 * part for part in parts])
        if turn >= 2 and time.perf_counter() - began > SLOW:
            break
    return found


def medians(found: dict[str, list[list[float]]]) -> dict[str, dict[str, float]]:
    """Milliseconds forwards and backwards of each implementation, of what `turns` has found."""
    median = {name: [statistics.median(part) for part in zip(*parts, strict=True)] for name, parts in found.items()}
    return {
        "forward": {name: round(parts[0], 4) for name, parts in median.items()},
        "backward": {name: round(parts[1], 4) for name, parts in median.items()},
    }


def total(row: dict[str, Any], name: str) -> float:
    """Milliseconds forwards and backwards."""
    return row["forward"][name] + row["backward"][name]


def conditions(found: dict[str, Any]) -> str:
    """What was measured, and where: "processor time, 1 thread(s), CPU"."""
    clock = "processor time" if found["threads"] == 1 else "time on the wall"
    return f"{clock}, {found['threads']} thread(s), {found['about']['machine'].get('processor', 'CPU')}"
