"""Is a new network alive? Firing rates and gradients of a plain deep network, as each library builds it, before any training.

    python benchmarks/initialization.py --json benchmarks/results/initialization.json
    python benchmarks/initialization.py --hard --json benchmarks/results/initialization-hard.json

The first is side by side with other libraries; those that are not installed are left out. `--hard` is this library alone,
calibrated on a batch by `rheobase.stabilize`: up to 30 layers, up to 1,000 steps, short and long memory, few and many input
spikes, convolutions and recurrent layers, each measured with other samples and another loss than it was calibrated with. What
was built and measured stands at the top of the page, which is written beside the JSON, with a picture where libraries are
compared: matplotlib is needed, as for `plot.py`.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from matplotlib.ticker import FixedFormatter, FixedLocator
from torch import Tensor, nn

import rheobase as rb
from plot import BOUND, INK, LINES, plt
from rheobase.bench.machine import about
from rheobase.files import atomic_write, write_json

SIZES = (700, 256, 256, 256, 20)
STEPS, BATCH = 100, 64
RATES = (0.005, 0.02, 0.1, 0.3)
HEALTHY = (0.02, 0.3)
APART = 3.0
DEAD = 0.1

LIBRARIES = {"snntorch": "snnTorch", "spikingjelly": "SpikingJelly", "norse": "Norse", "sinabs": "Sinabs"}
HEALTHY_MEANS = (
    "*Healthy* means that every layer fires at 2 to 30 % (spikes per neuron and step), that in no layer more than 10 % of the "
    "neurons are dead, that is, never fire in the batch, and that no layer's gradient norm is more than three times another's. "
    "Ranges are from the lowest layer to the highest, of gradients with how many times; of dead neurons it is the worst layer."
)
PAGE = (
    "# New networks beside other libraries",
    "A network of 700-256-256-256-20 with the weights that PyTorch draws (seed 0), every linear layer followed by a layer of "
    "leaky integrate-and-fire neurons as the library makes them by default, or as said; the last 20 neurons are the output. "
    "Nothing is trained. Rheobase then scales its own weights, which is what is compared. Inputs are random spikes (seed 1) at "
    "four rates, T = 100, B = 64; the loss is the cross-entropy of spike counts.",
)
HARD_PAGE = (
    "# New networks that are hard, after `rheobase.stabilize`",
    "Networks of Rheobase, with layers of 128 neurons or of 12 maps of 16 x 16 pixels that are halved three times, and a leaky "
    "readout of 20 classes. *PyTorch's weights* is the network before: weights as PyTorch draws them (seed 0). *Calibrated* is "
    'the same after one call of `rheobase.stabilize` with one batch, for recurrent layers with `recurrent="even"`, which '
    "takes `s` seconds on one thread. Inputs are random spikes (seed 1), B = 16. What is measured is another batch than that "
    "of the calibration, and another loss: the cross-entropy of the readout's mean, over eight draws of labels. Nothing is "
    "trained.",
)

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
    """Firing rates, dead neurons and gradient norms, layer by layer, of the network with another library's neurons."""
    torch.manual_seed(0)
    layers = [(nn.Linear(a, b), make()) for a, b in itertools.pairwise(SIZES)]
    rates, dead, y = [], [], x
    for linear, neurons in layers:
        y = neurons(linear(y))
        rates.append(y.detach().mean().item())
        dead.append((y.detach().sum((0, 1)) == 0).float().mean().item())
    gradients = _gradients(y.sum(0), labels, [linear.weight for linear, _ in layers])
    return {"rates": rates, "dead": dead, "gradients": gradients}


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
        "dead": [layer.dead for layer in recorder.layers()],
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
    """Whether every layer fires at 2 to 30 %, few of its neurons are dead, and no gradient norm is three times another."""
    rates, gradients = found["rates"], found["gradients"]
    fires = HEALTHY[0] < min(rates) and max(rates) < HEALTHY[1] and max(found["dead"]) <= DEAD
    return fires and all(map(math.isfinite, gradients)) and max(gradients) < APART * min(gradients)


def side_by_side() -> Iterator[dict[str, Any]]:
    """A row for each neuron and input rate."""
    libraries = {"Rheobase LIF()": measure_ours} | {name: partial(measure_peer, make) for name, make in peers().items()}
    for (name, measure), rate in itertools.product(libraries.items(), RATES):
        torch.manual_seed(1)
        x, labels = (torch.rand(STEPS, BATCH, SIZES[0]) < rate).float(), torch.randint(SIZES[-1], (1, BATCH))
        found: dict[str, Any] = {"neuron": name, "input rate": rate, **measure(x, labels)}
        yield found | {"healthy": healthy(found)}


HARD = {
    "dense": (
        *itertools.product((4, 30), (100, 1000), (0.5, 0.9, 0.99), (0.03,)),
        (4, 100, 0.9, 0.005),
        (4, 100, 0.9, 0.3),
    ),
    "recurrent": (
        *((3, 100, decay, 0.03) for decay in (0.5, 0.9, 0.99)),
        (10, 100, 0.9, 0.03),
        (3, 1000, 0.9, 0.03),
        (3, 1000, 0.99, 0.03),
        (5, 1000, 0.5, 0.03),
        (3, 100, 0.9, 0.005),
        (3, 100, 0.9, 0.3),
    ),
    "convolutions": (
        (6, 20, 0.5, 0.03),
        (6, 20, 0.9, 0.03),
        (6, 100, 0.9, 0.03),
        (6, 20, 0.99, 0.03),
        (12, 20, 0.9, 0.03),
    ),
}
"""Depth, steps, decay and rate of the inputs."""


def hard_network(kind: str, depth: int, decay: float) -> rb.Sequential:
    """A network of `depth` layers of neurons and a readout, as PyTorch draws its weights."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    if kind == "convolutions":
        for k in range(depth):
            layers += [nn.Conv2d(12 if k else 2, 12, 3, padding=1), rb.LIF(12, decay=decay)]
            layers += [nn.AvgPool2d(2)] if k in (1, 3, 5) else []
        features = 12 * (16 >> min(depth // 2, 3)) ** 2
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
        for depth, steps, decay, rate in settings:
            shape = (2, 16, 16) if kind == "convolutions" else (200,)
            torch.manual_seed(1)
            ours, others = ((torch.rand(steps, 16, *shape) < rate).float() for _ in range(2))
            labels = torch.randint(20, (8, 16))
            network = hard_network(kind, depth, decay)
            measured = partial(_measure, network, others, labels, rb.decoding.mean)
            before = measured()
            started = time.perf_counter()
            rb.stabilize(network, ours, recurrent="even")
            seconds = time.perf_counter() - started
            found: dict[str, Any] = {"network": kind, "depth": depth, "T": steps, "decay": decay}
            found["input rate"] = rate
            found |= {"before": before, **measured(), "seconds": seconds}
            yield found | {"healthy": healthy(found)}


def page(found: dict[str, Any]) -> str:
    """The page, in Markdown: what was built and measured, and a table."""
    about, rows = found["about"], found["rows"]
    hard = "before" in rows[0]
    ours = f"rheobase {about['versions']['rheobase']}, PyTorch {about['versions']['torch']}"
    peers = [
        f"{name} {about['versions'][library]}" for library, name in LIBRARIES.items() if about["versions"][library]
    ]
    title, built = HARD_PAGE if hard else PAGE
    written = f"Written by `{about['command']}`; {', '.join([ours, *([] if hard else peers)])}."
    picture = [] if hard else ["![firing rate by layer](initialization.png)"]
    return "\n\n".join([title, built, HEALTHY_MEANS, written, *picture, table(rows)]) + "\n"


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [cells(row) for row in rows]
    head = [f"| {' | '.join(lines[0])} |", f"| {' | '.join('---' for _ in lines[0])} |"]
    return "\n".join([*head, *(f"| {' | '.join(line.values())} |" for line in lines)])


def cells(row: dict[str, Any]) -> dict[str, str]:
    """A row of the table, by column."""
    found = {key: str(row[key]) for key in ("neuron", "network", "depth", "T", "decay", "input rate") if key in row}
    if "before" not in row:
        return found | _health(row)
    parts = {"PyTorch's weights": row["before"], "calibrated": row}
    found |= {f"{when}: {what}": text for when, part in parts.items() for what, text in _health(part).items()}
    return found | {"s": f"{row['seconds']:.1f}"}


def _health(found: dict[str, Any]) -> dict[str, str]:
    low, high = min(found["gradients"]), max(found["gradients"])
    apart = f", {_number(high / low)}x" if low > 0 else ""
    finite = all(map(math.isfinite, found["gradients"]))
    return {
        "firing rate, %": _span([100 * rate for rate in found["rates"]]),
        "dead neurons, %": _number(100 * max(found["dead"])),
        "gradient norm": _span(found["gradients"]) + apart if finite else "overflows",
        "healthy": "yes" if healthy(found) else "no",
    }


def _span(values: list[float]) -> str:
    low, high = ("0 (dead)" if value == 0 else _number(value) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _number(value: float) -> str:
    """Two digits that count, without powers of ten."""
    if 0 < value < 1e-4 or value > 1e6:
        return "< 0.0001" if value < 1 else "> 1,000,000"
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else f"{value:.2g}"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Firing rates by layer, a panel for each input rate. Layers without a spike are in a strip of their own, below."""
    names = list(dict.fromkeys(row["neuron"] for row in rows))
    rates = list(dict.fromkeys(row["input rate"] for row in rows))
    figure, axes = plt.subplots(1, len(rates), figsize=(9, 3.7), sharey=True, squeeze=False)
    figure.suptitle("firing rate by layer of a new network, %", x=0.005, ha="left", fontsize=10, fontweight="bold")
    for axis, rate in zip(axes[0], rates, strict=True):
        axis.axhspan(100 * HEALTHY[0], 100 * HEALTHY[1], color=BOUND, alpha=0.12, linewidth=0)
        for row in (row for row in rows if row["input rate"] == rate):
            name, library = row["neuron"], row["neuron"].split()[0]
            nothing = 2e-6 * 1.8 ** -names.index(name)  # beside each other, so that all are seen
            y = [100 * value if value else nothing for value in row["rates"]]
            again = any(other.startswith(library) for other in names[: names.index(name)])
            colour = (LINES | {"Sinabs": "#be185d"}).get(library, INK)
            x = range(1, len(y) + 1)
            axis.plot(x, y, "o--" if again else "o-", color=colour, markersize=3.5, linewidth=1.3, label=name)
        axis.set_title(f"inputs fire at {100 * rate:g} %", fontsize=8.5)
        axis.set(yscale="log", xlabel="layer", xticks=range(1, len(rows[0]["rates"]) + 1))
        axis.set_ylim(2e-8, 100)
        axis.axhline(1e-5, color=BOUND, linewidth=0.6, linestyle=":")
        powers = [10.0**k for k in range(-4, 3)]
        axis.yaxis.set_major_locator(FixedLocator([3.5e-7, *powers]))
        axis.yaxis.set_major_formatter(FixedFormatter(["0 (dead)", *(f"{power:g}" for power in powers)]))
        axis.yaxis.set_minor_locator(FixedLocator([]))
    axes[0][0].text(0.97, 100 * HEALTHY[1] * 1.2, "healthy: 2 to 30 %", ha="left", fontsize=7, color=BOUND)
    key = axes[0][0].get_legend_handles_labels()
    figure.legend(*key, loc="outside lower center", ncols=4, frameon=False, fontsize=7, columnspacing=1.4)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    """Measure, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hard", action="store_true", help="this library alone, deep, long and recurrent")
    parser.add_argument("--json", type=Path, help="where the results go; the page goes beside it, as .md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for row in hard_range() if options.hard else side_by_side():
        rows.append(row)
        print(table(rows).splitlines()[-1], flush=True)
    if options.json:
        found = {"about": about(), "rows": rows}
        write_json(options.json, found)
        options.json.with_suffix(".md").write_text(page(found), encoding="utf-8")
        if not options.hard:
            draw(rows, options.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
