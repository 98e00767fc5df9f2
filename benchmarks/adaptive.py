"""A training step of adaptive neurons with a refractory period, in three ways: processor time on one thread.

    python benchmarks/adaptive.py [--quick] [--rounds 5] [--json benchmarks/results/adaptive.json]

The layer is that of the block algorithm's authors: 1000 inputs with a Poisson process each, whose rate is another for every
sample, 128 neurons with decays and adaptations of their own that learn, float32, the loss is the sum of all spikes. It is
computed

- by the kernels ("ours", under either rule of credit),
- by a loop over time in plain PyTorch, one step after another ("loop"): the reference of `rheobase.ops.adaptive`,
- by the block algorithm in plain PyTorch ("blocks"), the authors' method: the block's leak is a product of matrices.

The input's product with its weights is the same for all, in one piece ahead of time, and is not in these times; "product" is
what it costs besides, forwards and backwards. Spikes of "blocks" may differ from the others' where a membrane potential meets
its threshold to the last digit, since it adds in another order; the JSON says how many do.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rheobase.bench.machine import about
from rheobase.bench.measure import Summary, interleave, ratio
from rheobase.files import write_json
from rheobase.ops import adaptive_lif, linear, recurrent_adaptive_lif
from rheobase.ops.adaptive import reference
from rheobase.surrogate import MultiGaussian

NEURONS, INPUTS = 128, 1000
GRID = {"steps": (512, 1024, 2048), "batch": (32, 64, 128), "refractory": (10, 40, 100)}
QUICK = {"steps": (512,), "batch": (32,), "refractory": (10, 40)}
WAYS = ("ours, blocks", "ours, sequential", "loop", "blocks")


def measure(recurrent: bool, steps: int, batch: int, refractory: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of a training step in every way, and what the ways agree on."""
    rates = torch.rand(batch, 1) * 200 / steps
    events = (torch.rand(steps, batch, INPUTS) < rates).float()
    weight = ((2 * torch.rand(NEURONS, INPUTS) - 1) * INPUTS**-0.5).requires_grad_()
    current = linear(events, weight)
    x = current.detach().requires_grad_()
    ways = {name: partial(neurons, name, recurrent, x, refractory, parameters(recurrent)) for name in WAYS}
    expected = ways["loop"]().detach()
    differing = {name: int((way().detach() != expected).sum()) for name, way in ways.items()}
    runs: dict[str, Callable[[], Any]] = {name: partial(train, way) for name, way in ways.items()}
    on_current = torch.randn_like(current)
    runs["product"] = lambda: torch.autograd.grad(linear(events, weight), weight, on_current)
    for run in runs.values():
        run()
    samples = defaultdict(list)
    for name, taken in interleave(runs, rounds, seconds=0.03):
        if isinstance(taken, Exception):
            raise taken
        samples[name].append(taken.cpu)
    ours = samples["ours, blocks"]
    return {
        "milliseconds": {name: round(Summary.of(taken).median, 3) for name, taken in samples.items()},
        "times_ours": {name: round(ratio(taken, ours), 2) for name, taken in samples.items()},
        "rate": round(expected.mean().item(), 5),
        "spikes": int(expected.sum()),
        "differing_spikes": differing,
    }


def parameters(recurrent: bool) -> list[Tensor]:
    """Recurrent weights, the identity, if there are any; decay, threshold, the trace's decay, adaptation."""
    values = [torch.full((NEURONS,), value) for value in (0.95, 1.0, 0.9934, 0.1)]
    return [value.requires_grad_() for value in ([torch.eye(NEURONS)] if recurrent else []) + values]


def neurons(way: str, recurrent: bool, x: Tensor, refractory: int, values: list[Tensor]) -> Tensor:
    """The spikes, computed in one of the ways."""
    surrogate = MultiGaussian.published()
    if way.startswith("ours"):
        operation: Any = recurrent_adaptive_lif if recurrent else adaptive_lif
        rule = {"refractory": refractory, "credit": way.removeprefix("ours, "), "surrogate": surrogate}
        return operation(x, *values, **rule)[0]
    compute: Any = reference.sequential if way == "loop" else reference.blocks
    weight, values = (values[0], values[1:]) if recurrent else (None, values)
    sent = torch.zeros(refractory + 1, *x.shape[1:]) if recurrent else None
    return compute(x, *values, [torch.zeros(())] * 3, refractory, surrogate, weight, sent)[0]


def train(way: Callable[[], Tensor]) -> None:
    """The loss and its gradient in all that learns."""
    way().sum().backward()


def main() -> None:
    """Print the table; write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two points of the grid")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    context, table = about(), []
    columns = (*WAYS, "product")
    print(f"| layer | T | B | R | {' | '.join(columns)} | loop / ours | blocks / ours |")
    print("| --- | ---: | ---: | ---: |" + " ---: |" * (len(columns) + 2))
    for recurrent, *point in product((False, True), *(QUICK if options.quick else GRID).values()):
        found = measure(recurrent, *point, rounds=options.rounds)
        layer = "recurrent" if recurrent else "feed-forward"
        cells = [f"{found['milliseconds'][name]:.1f}" for name in columns]
        cells += [f"{found['times_ours'][name]:.1f}x" for name in ("loop", "blocks")]
        print(f"| {layer} | {' | '.join([*map(str, point), *cells])} |", flush=True)
        table.append({"layer": layer, **dict(zip(GRID, point, strict=True)), **found})
    if options.json:
        write_json(options.json, {"about": context, "table": table})


if __name__ == "__main__":
    main()
