"""What single-spike neurons cost to train, beside loops over time in Python and beside our neurons that fire many times.

    python benchmarks/single_spike.py [--quick] [--threads 1] [--rounds 5] [--json benchmarks/results/single-spike-speed.json]

The grid is one layer of n neurons behind 1000 inputs, T steps, forwards and backwards: loss = sum of the spikes, weights, bias
and one decay for each neuron learned. The input is Poisson, each sample with an expected count of its own per input, U(0, 200)
over the T steps. The epoch is a 4-120-3 network over 20,000 samples, T = 100, batches of 128: each input spikes once at random,
the readout is leaky, and Adam follows the cross-entropy of its sum over time.

Four implementations take turns, and medians over the rounds count; all have the same weights and surrogate:

- `ours`: `nn.Linear` and `SingleSpike` in a `Sequential`. In the epoch, where a linear layer follows, the three compute as one,
  see `rheobase.ops.hidden_single_spike`.
- `loop`: a loop over time in plain PyTorch with a product in every step, the usual single-spike baseline: spikes behind a mask
  that lets the first one through, and a membrane potential that the mask then sets to 0.
- `hoisted`: the same, the product of all steps made before the loop.
- `many`: our multi-spike `LIF` in place of `SingleSpike`. It has no loop in Python either: `loop` against `many` is what that
  is worth, `many` against `ours` what a neuron is worth that fires once: all that it hands on and keeps is when.

Every point of the grid is written to the file as it is measured, and points that are in it are not measured again: to go on
after an interruption, run the same command. Beside the JSON file go a table in Markdown and a heat map.
"""

import statistics
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import rheobase as rb
from rheobase.files import atomic_write, write_json
from rheobase.ops import memory
from rheobase.surrogate import FastSigmoid
from turns import begin, conditions, medians, total, turns

STEPS, NEURONS, BATCHES = [2**k for k in range(3, 12)], [100, 200, 400, 600, 800, 1000], [32, 64, 128]
QUICK_STEPS, QUICK_NEURONS, QUICK_BATCHES = [8, 64, 512], [100, 400], [32]
INPUTS = 1000
SURROGATE = FastSigmoid(sharpness=5.0)  # 1 / (1 + 10 |v - 1|)^2
NAMES = ("ours", "loop", "hoisted", "many")


class Neurons(nn.Module):
    """Single-spike neurons for one step after another, and their decays."""

    def __init__(self, neurons: int, decay: float = 0.9) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.full((neurons,), decay))

    def walk(self, currents: Iterator[Tensor]) -> Iterator[Tensor]:
        """The spikes of every step."""
        decay, membrane, silent = self.decay.clamp(0, 1), None, None
        for current in currents:
            membrane = current if membrane is None else decay * (membrane * silent) + current
            spike = SURROGATE.spike(membrane - 1)
            spike = spike if silent is None else spike * silent
            silent = 1 - spike.detach() if silent is None else silent - spike.detach()
            yield spike


class Readout(nn.Module):
    """Leaky integrators, one step after another."""

    def __init__(self, units: int, decay: float = 0.95) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.full((units,), decay))

    def walk(self, currents: Iterator[Tensor]) -> Iterator[Tensor]:
        """The state after every step."""
        decay, state = self.decay.clamp(0, 1), None
        for current in currents:
            state = current if state is None else decay * state + current
            yield state


class Loop(nn.Module):
    """A network as a loop over time, `(T, B, inputs)` in: linear layers alternate with layers that walk from step to step."""

    def __init__(self, *layers: nn.Module, hoisted: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.hoisted = hoisted

    def forward(self, x: Tensor) -> Tensor:
        """The last layer's outputs, `(T, B, units)`."""
        if self.hoisted:
            for linear, walking in zip(self.layers[::2], self.layers[1::2], strict=True):
                x = torch.stack(list(walking.walk(iter(linear(x).unbind(0)))))
            return x
        steps = iter(x.unbind(0))
        for linear, walking in zip(self.layers[::2], self.layers[1::2], strict=True):
            steps = walking.walk(map(linear, steps))  # lazily: all layers take a step before any takes the next
        return torch.stack(list(steps))


def network(name: str, inputs: int, neurons: int, classes: int | None) -> nn.Module:
    """One of the implementations, one layer or, with classes, also a leaky readout."""
    torch.manual_seed(0)
    linear = nn.Linear(inputs, neurons)
    readout = [] if classes is None else [nn.Linear(neurons, classes)]
    if classes is not None:
        nn.init.uniform_(linear.weight, -2, 2)
    if name in ("loop", "hoisted"):
        walking = [Readout(classes)] if classes is not None else []
        return Loop(linear, Neurons(neurons), *readout, *walking, hoisted=name == "hoisted")
    rule = {"decay": 0.9, "surrogate": SURROGATE, "learn": ("decay",)}
    # The published rule for the gradient, and the one that can leave out no step.
    hidden = rb.SingleSpike(neurons, credit="ramp", **rule) if name == "ours" else rb.LIF(neurons, **rule)
    layers = [linear, hidden, *readout]
    if classes is not None:
        layers.append(rb.LeakyReadout(classes, decay=0.95, learn=("decay",)))
    return rb.Sequential(*layers, input_rate=None)


def poisson(steps: int, batch: int) -> Tensor:
    """The grid's input, `(T, B, 1000)`."""
    generator = torch.Generator().manual_seed(steps + batch)
    expected = torch.rand(batch, 1, generator=generator) * 200 / steps
    return torch.stack([torch.poisson(expected.expand(batch, INPUTS), generator=generator) for _ in range(steps)])


def point(steps: int, neurons: int, batch: int, rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """One point of the grid: milliseconds forwards and backwards."""
    x = poisson(steps, batch)
    # Of what takes a millisecond, more than one at a time.
    repeats = max(1, min(10, 2**20 // (steps * batch * neurons)))
    networks = {name: network(name, INPUTS, neurons, None) for name in NAMES}
    spikes = [networks[name](x).detach().sum().item() for name in ("ours", "loop", "hoisted")]
    assert abs(spikes[0] - spikes[1]) <= 1e-3 * spikes[1], f"the implementations disagree: {spikes}"

    def run(name: str) -> list[float]:
        forwards = backwards = 0.0
        for _ in range(repeats):
            networks[name].zero_grad()
            start = clock()
            loss = networks[name](x).sum()
            middle = clock()
            loss.backward()
            forwards, backwards = forwards + middle - start, backwards + clock() - middle
        return [forwards / repeats, backwards / repeats]

    found = turns({name: lambda name=name: run(name) for name in NAMES}, rounds)
    memory.release()
    return {
        "steps": steps,
        "neurons": neurons,
        "batch": batch,
        **medians(found),
        "rounds": len(found["ours"]),
        "density": round((x != 0).float().mean().item(), 4),
        "spikes_per_neuron": round(spikes[0] / (batch * neurons), 3),
    }


def epoch(batches: int, rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Milliseconds of a batch in training the 4-120-3 network, mean over an epoch."""
    steps, batch = 100, 128
    generator = torch.Generator().manual_seed(0)
    times = torch.randint(0, steps, (batches, 1, batch, 4), generator=generator)
    inputs = torch.zeros(batches, steps, batch, 4).scatter_(1, times, 1.0)
    labels = torch.randint(0, 3, (batches, batch), generator=generator)
    networks = {name: network(name, 4, 120, 3) for name in NAMES}

    def run(name: str) -> list[float]:
        trained = networks[name]
        optimizer = torch.optim.Adam(trained.parameters(), lr=1e-3, fused=True)
        start = clock()
        for x, y in zip(inputs, labels, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(trained(x).sum(0), y).backward()
            optimizer.step()
        return [(clock() - start) / batches]

    found = turns({name: lambda name=name: run(name) for name in NAMES}, rounds)
    return {
        "batches": batches,
        "batch": {name: round(statistics.median(p[0] for p in one), 4) for name, one in found.items()},
    }


def markdown(found: dict[str, Any]) -> str:
    """All that was found, as tables."""
    lines = [f"Speed of single-spike training: {conditions(found)}.", ""]
    if "epoch" in found:
        times = found["epoch"]["batch"]
        lines += ["A batch of training 4-120-3, T = 100, 128 samples:", ""]
        lines += ["| | ms | times ours |", "| --- | ---: | ---: |"]
        lines += [f"| {name} | {times[name]:.2f} | {times[name] / times['ours']:.1f} |" for name in NAMES]
        lines += [
            "",
            f"Without a loop in Python: {times['loop'] / times['many']:.1f}x (`loop` / `many`); by firing once: ",
        ]
        lines[-1] += f"{times['many'] / times['ours']:.2f}x (`many` / `ours`)."
        lines += [""]
    lines += ["One layer behind 1000 inputs, forwards and backwards:", ""]
    lines += ["| T | n | B | ours, ms | loop | hoisted | many |", "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for row in found["grid"].values():
        ours = total(row, "ours")
        ratios = " | ".join(f"{total(row, name) / ours:.2f}x" for name in NAMES[1:])
        lines.append(f"| {row['steps']} | {row['neurons']} | {row['batch']} | {ours:.2f} | {ratios} |")
    least = {name: min(total(row, name) / total(row, "ours") for row in found["grid"].values()) for name in NAMES[1:]}
    lines += ["", "Least over the grid: " + ", ".join(f"{name} {value:.2f}x" for name, value in least.items()) + "."]
    return "\n".join(lines) + "\n"


def draw(found: dict[str, Any], path: Path) -> None:
    """How many times faster than each loop, by T and n, a panel for each batch size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.colors import LogNorm

    rows = list(found["grid"].values())
    axes_of = [sorted({row[key] for row in rows}) for key in ("steps", "neurons", "batch")]
    steps, neurons, batches = axes_of
    size = (1.4 + max(2.4, 0.62 * len(neurons)) * len(batches), 1.4 + 0.7 * len(steps))
    figure, panels = plt.subplots(2, len(batches), figsize=size, squeeze=False, layout="constrained")
    for (name, batch), panel in zip(product(("loop", "hoisted"), batches), panels.flat, strict=True):
        gain = torch.full((len(steps), len(neurons)), torch.nan)
        for row in rows:
            if row["batch"] == batch:
                at = steps.index(row["steps"]), neurons.index(row["neurons"])
                gain[at] = total(row, name) / total(row, "ours")
        image = panel.imshow(gain.numpy(), norm=LogNorm(1 / 16, 16), cmap="RdYlBu", aspect="auto")
        for (i, j), value in zip(product(range(len(steps)), range(len(neurons))), gain.flatten().tolist(), strict=True):
            panel.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=7)
        panel.set(xticks=range(len(neurons)), xticklabels=neurons, yticks=range(len(steps)), yticklabels=steps)
        panel.set(xlabel="n", ylabel="T")
        panel.set_title(f"{name} / ours, B = {batch}", fontsize=10)
    figure.colorbar(image, ax=panels, label="times faster")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=160)
    plt.close(figure)


def main() -> None:
    """Measure what is not in the file yet; write table and picture beside it."""
    quick = "a few small points of the grid, and a part of the epoch"
    options, found, clock = begin(__doc__, quick, "single-spike-speed.json")
    found.setdefault("grid", {})
    batches = 20 if options.quick else 157  # of 128 samples: the epoch's 20,000
    if found.get("epoch", {}).get("batches", 0) < batches:
        found["epoch"] = epoch(batches, options.rounds, clock)
        write_json(options.json, found)
    grid = (QUICK_BATCHES, QUICK_NEURONS, QUICK_STEPS) if options.quick else (BATCHES, NEURONS, STEPS)
    for batch, neurons, steps in product(*grid):
        name = f"T={steps} n={neurons} B={batch}"
        if name not in found["grid"]:
            found["grid"][name] = row = point(steps, neurons, batch, options.rounds, clock)
            write_json(options.json, found)
            print(
                name,
                f"{total(row, 'ours'):.2f} ms",
                *(f"{total(row, other) / total(row, 'ours'):.2f}x" for other in NAMES[1:]),
            )
    with atomic_write(options.json.with_suffix(".md")) as file:
        file.write(markdown(found).encode())
    draw(found, options.json.with_suffix(".png"))
    print(markdown(found))


if __name__ == "__main__":
    main()
