"""What spike lists gain over the dense product, by size and density: milliseconds of processor time on one thread.

    python benchmarks/spike_linear.py [--rows 12800] [--rounds 5] [--json benchmarks/results/spike-linear.json]

The rows are 100 time steps of 128 samples. The gradient is that of weight and bias; "auto" is what a layer does by itself,
and shows beyond its limit what looking for zeros costs. The last column compares forward pass and gradient together: the
limits of `rheobase.ops.linear` come from it.
"""

from collections.abc import Iterator

import torch

from densities import Case, options, table
from rheobase.ops.linear import linear

SIZES = [(700, 128), (512, 512), (700, 64), (700, 32), (700, 16), (128, 20)]


def cases(rows: int) -> Iterator[Case]:
    """The layers."""
    for inputs, outputs in SIZES:
        learned = torch.randn(outputs, inputs, requires_grad=True), torch.randn(outputs, requires_grad=True)
        said = {"inputs": inputs, "outputs": outputs, "rows": rows}
        yield f"{inputs} -> {outputs}", said, torch.empty(rows, inputs), learned, linear


def main() -> None:
    """Print the table; write it as JSON if asked to."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=12800)
    chosen = parser.parse_args()
    table("layer", cases(chosen.rows), chosen.rounds, chosen.json)


if __name__ == "__main__":
    main()
