"""What spike lists gain over convolutions in layers with learned delays: milliseconds of processor time on one thread.

    python benchmarks/spike_delays.py [--rounds 5] [--json benchmarks/results/spike-delays.json]

Sequences have 100 steps and 32 samples. The gradient is that of weight and bias; that of the input is dense by both, and left
out here. The limits of `rheobase.ops.delayed` come from the last column.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from densities import Case, options, table
from rheobase.ops.delayed import delayed, lists, reference

# Inputs, outputs, delays.
SIZES = [(140, 128, 26), (140, 128, 11), (256, 32, 26), (256, 20, 26), (700, 256, 11)]
STEPS, BATCH = 100, 32


def compute(seen: Tensor, weight: Tensor, bias: Tensor, *, path: str) -> Tensor:
    """The sums, by one of the paths."""
    if path == "auto":
        return delayed(seen, weight, bias)
    y = lists.delayed(seen, weight, bias, 1.0) if path == "lists" else reference.delayed(seen, weight, bias)
    assert y is not None
    return y


def cases() -> Iterator[Case]:
    """The layers."""
    for inputs, outputs, delays in SIZES:
        weight = torch.randn(outputs, delays, inputs, requires_grad=True)
        learned = weight, torch.randn(outputs, requires_grad=True)
        name = f"{inputs} -> {outputs}, {delays} delays"
        yield name, {"layer": name}, torch.empty(STEPS + delays - 1, BATCH, inputs), learned, compute


def main() -> None:
    """Print the table; write it as JSON if asked to."""
    chosen = options(__doc__).parse_args()
    table("layer", cases(), chosen.rounds, chosen.json)


if __name__ == "__main__":
    main()
