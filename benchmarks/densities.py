"""What spike lists gain over dense arithmetic, by density: the table that the measurements of single operations share."""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rheobase.bench.machine import about
from rheobase.bench.measure import Summary, interleave
from rheobase.files import write_json
from rheobase.ops import memory

DENSITIES = [0.01, 0.05, 0.10, 0.20, 0.40]
PATHS = ("dense", "lists", "auto")

Case = tuple[str, Mapping[str, Any], Tensor, tuple[Tensor, Tensor], Callable[..., Tensor]]
"""A name, what else a row says, an empty tensor of the size of the input, weight and bias, `compute(x, *both, path=...)`."""


def options(description: str | None) -> argparse.ArgumentParser:
    """The options that both have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    return parser


def table(what: str, cases: Iterator[Case], rounds: int, path: Path | None) -> None:
    """Print the table; write it as JSON if asked to."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    context, rows = about(), []
    columns = [f"{name} {path}" for name in ("forward", "gradient") for path in PATHS]
    print(f"| {what} | density | {' | '.join(columns)} | gain |\n{'| --- ' * (len(columns) + 3)}|")
    for name, said, like, learned, compute in cases:
        for density in DENSITIES:
            x = (torch.rand_like(like) < density).to(like)
            times = _measure(partial(compute, x, *learned), learned, rounds)
            dense, lists = (times[f"forward {path}"] + times[f"gradient {path}"] for path in ("dense", "lists"))
            cells = " | ".join(f"{times[column]:.2f}" for column in columns)
            print(f"| {name} | {density:.0%} | {cells} | {dense / lists:.1f} |", flush=True)
            milliseconds = {key: round(value, 3) for key, value in times.items()}
            rows.append({**said, "density": density, "milliseconds": milliseconds})
    if path:
        write_json(path, {"about": context, "table": rows})


def _measure(compute: Callable[..., Tensor], learned: tuple[Tensor, Tensor], rounds: int) -> dict[str, float]:
    """Milliseconds of every pass by every path."""
    steps: dict[str, Callable[[], Any]] = {}
    for path in PATHS:
        steps[f"forward {path}"] = torch.no_grad()(partial(compute, path=path))
        y = compute(path=path)
        steps[f"gradient {path}"] = partial(torch.autograd.grad, y, learned, torch.randn(y.shape), retain_graph=True)
    samples = defaultdict(list)
    for name, taken in interleave(steps, rounds, seconds=0.03):
        if isinstance(taken, Exception):
            raise taken
        samples[name].append(taken.cpu)
    memory.release()
    return {name: Summary.of(values).median for name, values in samples.items()}
