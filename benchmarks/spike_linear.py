"""What spike lists gain over the dense product, by size and density: CPU time of one thread, medians of interleaved rounds.

    python benchmarks/spike_linear.py [--rows 12800] [--rounds 5] [--json results.json]

The break-even density of `rheobase.ops.linear` comes from this table. The rows are 100 time steps of 128 samples. "auto" is
what a layer does by itself, and beyond the limit shows what looking costs. The gradient is that of weight and bias.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from rheobase.ops import linear

SIZES = [(700, 128), (512, 512), (700, 64), (700, 32), (700, 16), (128, 20)]
DENSITIES = [0.01, 0.05, 0.10, 0.20, 0.40]
PATHS = ("dense", "lists", "auto")


def milliseconds(function: Callable[[], object], at_least: float = 0.03) -> float:
    """CPU time of one call, of as many as take `at_least` seconds."""
    calls, start = 0, time.process_time()
    while (passed := time.process_time() - start) < at_least:
        function()
        calls += 1
    return 1000 * passed / calls


def measure(inputs: int, outputs: int, density: float, rows: int, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of the forward pass, and of the weight gradient, by path."""
    x = (torch.rand(rows, inputs) < density).float()
    weight, bias = torch.randn(outputs, inputs, requires_grad=True), torch.randn(outputs, requires_grad=True)
    on_y = torch.randn(rows, outputs)
    kept = {path: linear(x, weight, bias, path=path) for path in PATHS}

    def forward(path: str) -> Tensor:
        with torch.no_grad():
            return linear(x, weight, bias, path=path)

    def gradient(path: str) -> tuple[Tensor, ...]:
        return torch.autograd.grad(kept[path], (weight, bias), on_y, retain_graph=True)

    tasks = {(name, path): task for name, task in (("forward", forward), ("gradient", gradient)) for path in PATHS}
    samples = {key: [] for key in tasks}
    for _ in range(rounds):
        for (name, path), task in tasks.items():
            samples[name, path].append(milliseconds(lambda task=task, path=path: task(path)))
    result = {"forward": {}, "gradient": {}}
    for (name, path), values in samples.items():
        result[name][path] = statistics.median(values)
    return result


def main() -> None:
    """Print the table; write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=12800)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = []
    print("| layer | density | forward: dense | lists | auto | gradient: dense | lists | auto | speed-up |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for inputs, outputs in SIZES:
        for density in DENSITIES:
            result = measure(inputs, outputs, density, options.rows, options.rounds)
            total = {path: result["forward"][path] + result["gradient"][path] for path in PATHS}
            times = (f"{result[name][path]:.2f}" for name in result for path in PATHS)
            gain = total["dense"] / total["lists"]
            print(f"| {inputs} -> {outputs} | {density:.0%} | {' | '.join(times)} | {gain:.1f} |", flush=True)
            table.append({"inputs": inputs, "outputs": outputs, "density": density, **result})
    if options.json:
        about = {
            "rows": options.rows,
            "torch": torch.__version__,
            "machine": platform.processor() or platform.machine(),
        }
        options.json.write_text(json.dumps({**about, "milliseconds": table}, indent=2) + "\n")


if __name__ == "__main__":
    main()
