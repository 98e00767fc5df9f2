"""What spike lists gain over the dense product, by size and density: milliseconds of processor time on one thread.

    python benchmarks/spike_linear.py [--rows 12800] [--rounds 5] [--json benchmarks/results/spike-linear.json]

The rows are 100 time steps of 128 samples. The gradient is that of weight and bias; "auto" is what a layer does by itself,
and shows beyond its limit what looking for zeros costs. The last column compares forward pass and gradient together: the
limits of `rheobase.ops.linear` come from it.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rheobase.bench.machine import about
from rheobase.bench.measure import Summary, interleave
from rheobase.files import write_json
from rheobase.ops import linear

SIZES = [(700, 128), (512, 512), (700, 64), (700, 32), (700, 16), (128, 20)]
DENSITIES = [0.01, 0.05, 0.10, 0.20, 0.40]
PATHS = ("dense", "lists", "auto")


def measure(inputs: int, outputs: int, density: float, rows: int, rounds: int) -> dict[str, float]:
    """Milliseconds of every pass by every path."""
    x = (torch.rand(rows, inputs) < density).float()
    weight, bias = torch.randn(outputs, inputs, requires_grad=True), torch.randn(outputs, requires_grad=True)
    on_y = torch.randn(rows, outputs)
    steps: dict[str, Callable[[], Any]] = {}
    for path in PATHS:
        steps[f"forward {path}"] = torch.no_grad()(partial(linear, x, weight, bias, path=path))
        y = linear(x, weight, bias, path=path)
        steps[f"gradient {path}"] = partial(torch.autograd.grad, y, (weight, bias), on_y, retain_graph=True)
    samples = defaultdict(list)
    for name, taken in interleave(steps, rounds, seconds=0.03):
        if isinstance(taken, Exception):
            raise taken
        samples[name].append(taken.cpu)
    return {name: Summary.of(values).median for name, values in samples.items()}


def main() -> None:
    """Print the table; write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=12800)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    context, table = about(), []
    columns = [f"{name} {path}" for name in ("forward", "gradient") for path in PATHS]
    print(f"| layer | density | {' | '.join(columns)} | gain |\n{'| --- ' * (len(columns) + 3)}|")
    for inputs, outputs in SIZES:
        for density in DENSITIES:
            times = measure(inputs, outputs, density, options.rows, options.rounds)
            dense, lists = (times[f"forward {path}"] + times[f"gradient {path}"] for path in ("dense", "lists"))
            cells = " | ".join(f"{times[column]:.2f}" for column in columns)
            print(f"| {inputs} -> {outputs} | {density:.0%} | {cells} | {dense / lists:.1f} |", flush=True)
            row = {"inputs": inputs, "outputs": outputs, "rows": options.rows, "density": density}
            table.append({**row, "milliseconds": {name: round(value, 3) for name, value in times.items()}})
    if options.json:
        write_json(options.json, {"about": context, "table": table})


if __name__ == "__main__":
    main()
