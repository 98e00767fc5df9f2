"""What spike lists gain over dense convolutions, by size and density: milliseconds of processor time on one thread.

    python benchmarks/spike_convolution.py [--rounds 5] [--json benchmarks/results/spike-convolution.json]

Images are time steps times samples, in numbers that make the dense convolution take 10 to 80 ms. Entries that are not zero are
1, at random places. The gradient is that of weight and bias; that of the images is dense by every path, and left out here.
"Dense" is how a `Sequential` computes without lists: PyTorch's convolution by oneDNN, in pieces where it is large. The last
column compares forward pass and gradient together: the limits of `rheobase.ops.convolution` come from it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from densities import Case, options, table
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


def cases() -> Iterator[Case]:
    """The convolutions."""
    for channels, outputs, kernel, stride, size, images in SHAPES:
        learned = (
            torch.randn(outputs, channels, kernel, kernel, requires_grad=True),
            torch.randn(outputs, requires_grad=True),
        )
        settings = (stride,) * 2, (kernel // 2,) * 2, (1, 1), 1

        def compute(x: Tensor, weight: Tensor, bias: Tensor, *, path, settings=settings) -> Tensor:
            return convolution(x, weight, bias, *settings, path=path)

        name = f"{channels} -> {outputs}, {kernel} x {kernel}, stride {stride}, of {size} x {size}"
        yield name, {"convolution": name, "images": images}, torch.empty(images, channels, size, size), learned, compute


def main() -> None:
    """Print the table; write it as JSON if asked to."""
    chosen = options(__doc__).parse_args()
    table("convolution", cases(), chosen.rounds, chosen.json)


if __name__ == "__main__":
    main()
