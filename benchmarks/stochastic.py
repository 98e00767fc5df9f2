"""What neurons without a reset cost to train, by the length of the sequence: beside loops, Fourier transforms and matrices.

    python benchmarks/stochastic.py [--quick] [--threads 1] [--rounds 5] [--json benchmarks/results/stochastic-speed.json]

A layer of 128 neurons alone, forwards and backwards: currents in, spikes out, the sum of the spikes times fixed numbers for a
loss, and the gradient of the currents. Implementations take turns, and medians over the rounds count:

- `SPSN`: our stochastic neurons, two states and a spike drawn at every step, "bernoulli"; `SPSN, gumbel` draws them once more
  in the backward pass.
- `LIF`: our neurons with the same two states, a reset to 0 and no noise: what the reset costs when it is part of a kernel.
- `LIF, loop`: the same, as a loop over time in plain PyTorch. This is the published baseline.
- `FFT`: SPSN as published, by Fourier transforms along time and PyTorch's generator, its padding corrected: one kernel spectrum
  over 2 T steps, where two would wrap around.
- `PSN`, `SlidingPSN`: learned matrices over time; of order 32 for the second. They learn their weights besides.
- `SpikingJelly PSN`: where that library is installed.

Every length is written to the file as it is measured, and what is in it is not measured again: to go on after an interruption,
run the same command. Beside the JSON file goes a table in Markdown. On one thread it is processor time, which other programs
hardly change.
"""

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import rheobase as rb
from rheobase.files import atomic_write, write_json
from rheobase.ops import memory
from rheobase.surrogate import FastSigmoid
from turns import begin, conditions, medians, total, turns

NEURONS = 128
LENGTHS = {100: 64, 1_000: 32, 10_000: 4, 100_000: 4}
"""The batch size for each length."""
QUICK = {100: 8, 1_000: 4}
DECAY = math.exp(-1 / 20)


class Loop(nn.Module):
    """The published baseline: two states, a spike, and a reset to 0, one step after another."""

    surrogate = FastSigmoid(sharpness=50.0)  # 1 / (100 |v - 1| + 1)^2

    def forward(self, x: Tensor) -> Tensor:
        """The spikes, `(T, B, N)`."""
        current = membrane = torch.zeros_like(x[0])
        spikes = []
        for step in x.unbind(0):  # indexing would make the backward pass quadratic in T
            current = DECAY * current + step
            membrane = DECAY * membrane + (1 - DECAY) * current
            spike = self.surrogate.spike(membrane - 1)
            membrane = membrane * (1 - spike.detach())
            spikes.append(spike)
        return torch.stack(spikes)


class Fourier(nn.Module):
    """SPSN by Fourier transforms: an impulse is answered by `(1 - a) (t + 1) a^t` where both decays are `a`."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        t = torch.arange(steps, dtype=torch.float64)
        response = ((1 - DECAY) * (t + 1) * DECAY**t).float()
        self.register_buffer("spectrum", torch.fft.rfft(response, 2 * steps).view(-1, 1, 1), persistent=False)

    def membrane(self, x: Tensor) -> Tensor:
        """The membrane potential, `(T, B, N)`."""
        length = 2 * len(x)
        spectrum: Tensor = self.spectrum  # pyright: ignore[reportAssignmentType]
        return torch.fft.irfft(torch.fft.rfft(x, length, dim=0) * spectrum, length, dim=0)[: len(x)]

    def forward(self, x: Tensor) -> Tensor:
        """The spikes, `(T, B, N)`."""
        p = self.membrane(x).sigmoid()
        relaxation = p.square() / 2  # whose gradient is the published one
        return torch.bernoulli(p.detach()) + (relaxation - relaxation.detach())


def layers(steps: int) -> dict[str, nn.Module]:
    """What is compared at this length."""
    rule = {"synapse_decay": DECAY, "decay": DECAY}
    found: dict[str, nn.Module] = {
        "SPSN": rb.SPSN(**rule),
        "SPSN, gumbel": rb.SPSN(sampler="gumbel", **rule),
        # Its membrane potential is 1 / (1 - decay) times that of the loop.
        "LIF": rb.SynapticLIF(
            threshold=1 / (1 - DECAY),
            reset="zero",
            surrogate=FastSigmoid(dampening=1 - DECAY, sharpness=50 * (1 - DECAY)),
            **rule,
        ),
    }
    if steps <= 10_000:
        found |= {"LIF, loop": Loop(), "FFT": Fourier(steps)}
    found["SlidingPSN"] = rb.SlidingPSN(32)
    if steps <= 1_000:
        found["PSN"] = rb.PSN(steps)
        if importlib.util.find_spec("spikingjelly"):
            from spikingjelly.activation_based.neuron import PSN

            found["SpikingJelly PSN"] = PSN(steps)
    return found


def point(steps: int, batch: int, rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Milliseconds forwards and backwards of each implementation, at one length."""
    generator = torch.Generator().manual_seed(steps)
    x = torch.randn(steps, batch, NEURONS, generator=generator).requires_grad_()
    on_spikes = torch.randn(steps, batch, NEURONS, generator=generator)
    compared = layers(steps)

    def run(layer: nn.Module) -> list[float]:
        layer.zero_grad()
        x.grad = None
        start = clock()
        spikes = layer(x)
        middle = clock()
        spikes.backward(on_spikes)
        return [middle - start, clock() - middle]

    found = turns({name: lambda layer=layer: run(layer) for name, layer in compared.items()}, rounds)
    memory.release()
    return {
        "steps": steps,
        "batch": batch,
        "rounds": len(found["SPSN"]),
        **medians(found),
    }


def markdown(found: dict[str, Any]) -> str:
    """The table: milliseconds, and how many times those of SPSN."""
    rows = sorted(found["lengths"].values(), key=lambda row: row["steps"])
    names = dict.fromkeys(name for row in rows for name in row["forward"])
    lines = [
        f"A layer of {NEURONS} neurons, forwards and backwards: milliseconds, and times SPSN; {conditions(found)}.",
        "",
        "| | " + " | ".join(f"T = {row['steps']:,}, B = {row['batch']}" for row in rows) + " |",
        "| --- |" + " ---: |" * len(rows),
    ]
    for name in names:
        cells = []
        for row in rows:
            there = name in row["forward"]
            ratio = total(row, name) / total(row, "SPSN") if there else 0
            cells.append(f"{total(row, name):,.2f} ({ratio:.{1 if ratio < 10 else 0}f}x)" if there else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is not in the file yet; write the table beside it."""
    options, found, clock = begin(__doc__, "two short lengths, small batches", "stochastic-speed.json")
    found.setdefault("lengths", {})
    for steps, batch in (QUICK if options.quick else LENGTHS).items():
        name = f"T={steps} B={batch}"
        if name not in found["lengths"]:
            found["lengths"][name] = point(steps, batch, options.rounds, clock)
            write_json(options.json, found)
    with atomic_write(options.json.with_suffix(".md")) as file:
        file.write(markdown(found).encode())
    print(markdown(found))


if __name__ == "__main__":
    main()
