"""What spike lists gain over dense convolutions, by size and density: milliseconds of processor time on one thread.

    python benchmarks/spike_convolution.py [--rounds 5] [--json benchmarks/results/spike-convolution.json]

Images are time steps times samples, in numbers that make the dense convolution take 10 to 50 ms. Entries that are not zero are
1 at random places; of averages over windows of 2 x 2, which are multiples of 1/4, lists cost a tenth more. The gradient is that
of weight and bias; that of the images is dense by every path, and left out here. The last column compares forward pass and
gradient together: the limits of `rheobase.ops.convolution` come from it.
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
from rheobase.ops import memory
from rheobase.ops.convolution import convolution

# Channels, outputs, kernel, stride, height and width, images.
SHAPES = [
    (32, 64, 5, 1, 14, 128),
    (64, 128, 3, 1, 16, 128),
    (64, 128, 3, 2, 16, 512),
    (32, 32, 3, 1, 28, 128),
    (16, 16, 3, 1, 32, 256),
    (8, 8, 3, 1, 32, 512),
    (2, 32, 3, 1, 64, 128),
]
DENSITIES = [0.01, 0.05, 0.10, 0.20, 0.40]
PATHS = ("dense", "lists", "auto")


def measure(shape: tuple[int, ...], density: float, rounds: int) -> dict[str, float]:
    """Milliseconds of every pass by every path."""
    channels, outputs, kernel, stride, size, images = shape
    x = (torch.rand(images, channels, size, size) < density).float()
    weight = torch.randn(outputs, channels, kernel, kernel, requires_grad=True)
    bias = torch.randn(outputs, requires_grad=True)
    settings = (stride,) * 2, (kernel // 2,) * 2, (1, 1), 1
    steps: dict[str, Callable[[], Any]] = {}
    for path in PATHS:
        steps[f"forward {path}"] = torch.no_grad()(partial(convolution, x, weight, bias, *settings, path=path))
        y = convolution(x, weight, bias, *settings, path=path)
        on_y = torch.randn(y.shape)
        steps[f"gradient {path}"] = partial(torch.autograd.grad, y, (weight, bias), on_y, retain_graph=True)
    samples = defaultdict(list)
    for name, taken in interleave(steps, rounds, seconds=0.03):
        if isinstance(taken, Exception):
            raise taken
        samples[name].append(taken.cpu)
    memory.release()
    return {name: Summary.of(values).median for name, values in samples.items()}


def main() -> None:
    """Print the table; write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    context, table = about(), []
    columns = [f"{name} {path}" for name in ("forward", "gradient") for path in PATHS]
    print(f"| convolution | density | {' | '.join(columns)} | gain |\n{'| --- ' * (len(columns) + 3)}|")
    for shape in SHAPES:
        channels, outputs, kernel, stride, size, images = shape
        for density in DENSITIES:
            times = measure(shape, density, options.rounds)
            dense, lists = (times[f"forward {path}"] + times[f"gradient {path}"] for path in ("dense", "lists"))
            cells = " | ".join(f"{times[column]:.2f}" for column in columns)
            name = f"{channels} -> {outputs}, {kernel} x {kernel}, stride {stride}, of {size} x {size}"
            print(f"| {name} | {density:.0%} | {cells} | {dense / lists:.1f} |", flush=True)
            row = {"convolution": name, "images": images, "density": density}
            table.append({**row, "milliseconds": {name: round(value, 3) for name, value in times.items()}})
    if options.json:
        write_json(options.json, {"about": context, "table": table})


if __name__ == "__main__":
    main()
