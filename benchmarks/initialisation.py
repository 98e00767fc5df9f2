"""Is a new network alive? Firing rates and gradients of a plain deep network, as each library builds it, before any training.

    python benchmarks/initialisation.py --json benchmarks/results/initialisation.json
    python benchmarks/initialisation.py --hard --json benchmarks/results/initialisation-hard.json

A network of 700-256-256-256-20, every linear layer followed by a layer of leaky integrate-and-fire neurons, the last 20 of
which are the output; default construction throughout. The inputs are random spikes of four rates, 100 steps, a batch of 64; the
loss is the cross-entropy of spike counts, with `--hard` that of the mean of a leaky readout, and norms are averaged over eight
draws of labels. The same seed draws the same weights for all, except that this library then scales its own. Libraries that are
not installed are left out. `--hard` is this library alone, calibrated on a batch by `rheobase.stabilize`: up to 30 layers, up
to 1,000 steps, short and long memory, convolutions and recurrent layers, each measured with other samples and another loss than
it was calibrated with. The same as Markdown is written beside the JSON.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import rheobase as rb
from rheobase.bench.machine import about
from rheobase.files import write_json

SIZES = (700, 256, 256, 256, 20)
STEPS, BATCH = 100, 64
RATES = (0.005, 0.02, 0.1, 0.3)
HEALTHY = (0.02, 0.3)
APART = 3.0

Neurons = Callable[[Tensor], Tensor]
"""The spikes of a layer for its currents, `(T, B, N)`."""


def peers() -> dict[str, Callable[[], Neurons]]:
    """Each library's leaky neuron, by its setting, as its documentation shows it."""
    found: dict[str, tuple[str, Callable[[], Neurons]]] = {
        "snnTorch Leaky(beta=0.9)": ("snntorch", partial(_snntorch, 0.9)),
        "snnTorch Leaky(beta=0.95)": ("snntorch", partial(_snntorch, 0.95)),
        "SpikingJelly LIFNode()": ("spikingjelly", _spikingjelly),
        "SpikingJelly LIFNode(tau=10, decay_input=False)": (
            "spikingjelly",
            partial(_spikingjelly, tau=10.0, decay_input=False),
        ),
        "Norse LIF()": ("norse", _norse),
        "Sinabs LIF(tau_mem=10)": ("sinabs", _sinabs),
    }
    return {name: make for name, (library, make) in found.items() if find_spec(library)}


def _snntorch(beta: float) -> Neurons:
    import snntorch

    layer = snntorch.Leaky(beta=beta)

    def run(x: Tensor) -> Tensor:
        state, spikes = layer.init_leaky(), []
        for step in x.unbind(0):
            fired, state = layer(step, state)
            spikes.append(fired)
        return torch.stack(spikes)

    return run


def _spikingjelly(**settings: Any) -> Neurons:
    from spikingjelly.activation_based import functional, neuron

    layer = neuron.LIFNode(step_mode="m", **settings)

    def run(x: Tensor) -> Tensor:
        functional.reset_net(layer)
        return layer(x)

    return run


def _norse() -> Neurons:
    import norse.torch

    layer = norse.torch.LIF()
    return lambda x: layer(x)[0]


def _sinabs() -> Neurons:
    from sinabs.layers import LIF

    layer = LIF(tau_mem=10.0)

    def run(x: Tensor) -> Tensor:
        layer.reset_states()
        return layer(x.transpose(0, 1)).transpose(0, 1)

    return run


def measure_peer(make: Callable[[], Neurons], x: Tensor, labels: Tensor) -> dict[str, list[float]]:
    """Firing rates and gradient norms, layer by layer, of the network with another library's neurons."""
    torch.manual_seed(0)
    layers = [(nn.Linear(a, b), make()) for a, b in itertools.pairwise(SIZES)]
    rates, y = [], x
    for linear, neurons in layers:
        y = neurons(linear(y))
        rates.append(y.detach().mean().item())
    return {"rates": rates, "gradients": _gradients(y.sum(0), labels, [linear.weight for linear, _ in layers])}


def measure_ours(x: Tensor, labels: Tensor) -> dict[str, list[float]]:
    """The same of this library's network."""
    torch.manual_seed(0)
    layers = [layer for a, b in itertools.pairwise(SIZES) for layer in (nn.Linear(a, b), rb.LIF(b))]
    return _measure(rb.Sequential(*layers), x, labels, rb.decoding.sum)


def _measure(
    network: nn.Module, x: Tensor, labels: Tensor, decode: Callable[[Tensor], Tensor]
) -> dict[str, list[float]]:
    with rb.health.Recorder(network) as recorder:
        output = network(x)
    weights = [layer.weight for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return {
        "rates": [layer.rate for layer in recorder.layers()],
        "gradients": _gradients(decode(output), labels, weights),
    }


def _gradients(output: Tensor, labels: Tensor, weights: list[nn.Parameter]) -> list[float]:
    if not output.requires_grad:
        return [0.0] * len(weights)
    norms = torch.zeros(len(labels), len(weights))
    for k, drawn in enumerate(labels):
        loss = nn.functional.cross_entropy(output, drawn)
        gradients = torch.autograd.grad(loss, weights, retain_graph=True)
        norms[k] = torch.stack([gradient.norm() for gradient in gradients])
    return norms.square().mean(0).sqrt().tolist()


def healthy(found: dict[str, Any]) -> bool:
    """Whether every layer fires at 2 to 30 % and no gradient norm is more than three times another."""
    rates, gradients = found["rates"], found["gradients"]
    return HEALTHY[0] < min(rates) and max(rates) < HEALTHY[1] and max(gradients) < APART * min(gradients)


def side_by_side() -> Iterator[dict[str, Any]]:
    """A row for each neuron and input rate."""
    libraries = {"Rheobase LIF()": measure_ours} | {name: partial(measure_peer, make) for name, make in peers().items()}
    for (name, measure), rate in itertools.product(libraries.items(), RATES):
        torch.manual_seed(1)
        x, labels = (torch.rand(STEPS, BATCH, SIZES[0]) < rate).float(), torch.randint(SIZES[-1], (1, BATCH))
        found: dict[str, Any] = {"neuron": name, "input rate": rate, **measure(x, labels)}
        yield found | {"healthy": healthy(found)}


HARD = {
    "dense": tuple(itertools.product((4, 30), (100, 1000), (0.5, 0.9, 0.99))),
    "recurrent": ((3, 100, 0.5), (3, 100, 0.9), (3, 100, 0.99), (10, 100, 0.9), (3, 1000, 0.9), (3, 1000, 0.99)),
    "convolutions": ((6, 20, 0.5), (6, 20, 0.9), (6, 100, 0.9), (6, 20, 0.99)),
}
"""Depth, steps and decay."""


def hard_network(kind: str, depth: int, decay: float) -> rb.Sequential:
    """A network of `depth` layers of neurons and a readout, as PyTorch draws its weights."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    if kind == "convolutions":
        for k in range(depth):
            layers += [nn.Conv2d(12 if k else 2, 12, 3, padding=1), rb.LIF(12, decay=decay)]
            layers += [nn.AvgPool2d(2)] if k % 2 else []
        features = 12 * (16 >> depth // 2) ** 2
        layers += [nn.Flatten()]
    else:
        neurons = rb.LIF if kind == "dense" else rb.RecurrentLIF
        for k in range(depth):
            layers += [nn.Linear(128 if k else 200, 128), neurons(128, decay=decay)]
        features = 128
    return rb.Sequential(*layers, nn.Linear(features, 20), rb.LeakyReadout(20), input_rate=None)


def hard_range() -> Iterator[dict[str, Any]]:
    """A row for each network that `rheobase.stabilize` is to make stable."""
    for kind, settings in HARD.items():
        for depth, steps, decay in settings:
            shape = (2, 16, 16) if kind == "convolutions" else (200,)
            torch.manual_seed(1)
            ours, others = ((torch.rand(steps, 16, *shape) < 0.03).float() for _ in range(2))
            labels = torch.randint(20, (8, 16))
            network = hard_network(kind, depth, decay)
            measured = partial(_measure, network, others, labels, rb.decoding.mean)
            before = measured()
            started = time.perf_counter()
            rb.stabilize(network, ours)
            seconds = time.perf_counter() - started
            found: dict[str, Any] = {"network": kind, "depth": depth, "T": steps, "decay": decay}
            found |= {"before": before, **measured(), "seconds": seconds}
            yield found | {"healthy": healthy(found)}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    keys = [key for key in rows[0] if key not in ("rates", "gradients", "before", "seconds", "healthy")]
    head = [*keys, "firing rates, %", "gradient norms", "largest / smallest", "healthy"]
    if "seconds" in rows[0]:
        head = [*keys, "before: firing rates, %", "largest / smallest gradient", *head[len(keys) :], "s"]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for row in rows:
        cells = [str(row[key]) for key in keys]
        if "before" in row:
            cells += [_span([100 * rate for rate in row["before"]["rates"]]), _ratio(row["before"]["gradients"])]
        cells += [_span([100 * rate for rate in row["rates"]]), _span(row["gradients"]), _ratio(row["gradients"])]
        cells += ["yes" if row["healthy"] else "no", *([f"{row['seconds']:.1f}"] if "seconds" in row else [])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _span(values: list[float]) -> str:
    if len(values) <= 5:
        return ", ".join(f"{value:.2g}" for value in values)
    return f"{min(values):.2g} to {max(values):.2g}"


def _ratio(values: list[float]) -> str:
    return f"{max(values) / min(values):.2g}" if min(values) > 0 else "infinite"


def main() -> None:
    """Measure, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hard", action="store_true", help="this library alone, deep, long and recurrent")
    parser.add_argument("--json", type=Path, help="where the results go; the table goes beside it, as .md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for row in hard_range() if options.hard else side_by_side():
        rows.append(row)
        print(table(rows).splitlines()[-1], flush=True)
    text = table(rows)
    if options.json:
        write_json(options.json, {"about": about(), "rows": rows})
        options.json.with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
