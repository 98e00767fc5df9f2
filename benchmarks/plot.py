"""Draw what `rheobase bench --json` found, for the README.

    python benchmarks/plot.py benchmarks/results/bench.json

Beside the file it writes `bench-time.png` (processor time of a training step on one thread), `bench-memory.png` (its peak
memory), and `bench-steps.png` (time against the number of steps, where the work is the same). It needs matplotlib, which comes
with the extra `bench`.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

FLOOR = "memory floor"
OURS, THEIRS, BOUND, INK = "#c2410c", "#b6c0cc", "#475569", "#1e293b"
LINES = {
    "Rheobase": OURS,
    "Spyx": "#0369a1",
    "SpikingJelly": "#4338ca",
    "snnTorch": "#0f766e",
    "Norse": "#a16207",
    FLOOR: BOUND,
}
LABEL_DISTANCE = 1.35  # labels of a logarithmic axis that do not overlap
Row = dict[str, Any]

plt.rcParams |= {
    "axes.edgecolor": BOUND,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.size": 8,
    "savefig.dpi": 160,
    "text.color": INK,
    "xtick.color": BOUND,
    "ytick.color": INK,
}


def main(file: Path) -> None:
    """Draw all pictures of a file."""
    found = json.loads(file.read_text())
    figures = {
        "time": panels(
            found, "a training step, ms of processor time on one thread", lambda row: (row["cpu"] or {}).get("median")
        ),
        "memory": panels(found, "peak memory of a training step, MiB", lambda row: row["peak_mib"]),
        "steps": steps(found, "a training step of neurons alone, ms of processor time on one thread"),
    }
    source = f"rheobase {found['versions']['rheobase']}, {found['machine']['processor']}, {found['date'][:10]}"
    for kind, figure in figures.items():
        if figure is not None:
            figure.supxlabel(source, fontsize=6.5, color=BOUND, x=0.995, ha="right")
            path = file.with_name(f"{file.stem}-{kind}.png")
            figure.savefig(path)
            print(path)


def panels(found: dict[str, Any], title: str, value: Callable[[Row], float | None]) -> Figure | None:
    """Bars for every workload W1 to W6 that has values; None if none has."""
    tables = [table for name, table in sorted(found["workloads"].items()) if name.startswith("W")]
    tables = [table for table in tables if any(value(row) for row in table["rows"])]
    if not tables:
        return None
    lines = (len(tables) + 1) // 2
    figure, axes = plt.subplots(lines, 2, figsize=(9, 0.6 + 2 * lines), squeeze=False)
    figure.suptitle(title, x=0.005, ha="left", fontsize=10, fontweight="bold")
    for axis in axes.flat[len(tables) :]:
        axis.set_axis_off()
    for table, axis in zip(tables, axes.flat, strict=False):
        bars(axis, [(length, row) for row in table["rows"] if (length := value(row))])
        axis.set_title(f"{table['workload']}: {table['title']}", loc="left", x=-0.36, fontsize=7)
    bounds = {label: line for axis in axes.flat for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(bounds.values(), bounds.keys(), loc="upper right", ncols=2, frameon=False, fontsize=7.5)
    return figure


def bars(axis: Axes, rows: list[tuple[float, Row]]) -> None:
    """The smallest on top; a bound is a line through all bars."""
    libraries = sorted((pair for pair in rows if pair[1]["library"] != "bound"), key=lambda pair: -pair[0])
    for position, (length, row) in enumerate(libraries):
        axis.barh(position, length, height=0.72, color=OURS if row["library"] == "rheobase" else THEIRS)
        axis.text(length, position, f" {length:,.{0 if length >= 20 else 1}f}", va="center", fontsize=7)
    for length, row in rows:
        if row["library"] == "bound":
            dashes = "--" if row["name"] == FLOOR else ":"
            axis.axvline(length, color=BOUND, linestyle=dashes, linewidth=1, label=row["name"])
    axis.set_yticks(range(len(libraries)), [row["name"] for _, row in libraries])
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(-0.6, len(libraries) - 0.4)
    axis.margins(x=0.12)


def steps(found: dict[str, Any], title: str) -> Figure | None:
    """Time against the number of steps, from the workloads T100 to T100000; None without them."""
    tables = {int(name[1:]): table for name, table in found["workloads"].items() if name.startswith("T")}
    curves: dict[str, list[tuple[int, float]]] = {}
    for number, table in sorted(tables.items()):
        for row in table["rows"]:
            if row["cpu"] and row["name"] in LINES:
                curves.setdefault(row["name"], []).append((number, row["cpu"]["median"]))
    if not curves:
        return None
    figure, axis = plt.subplots(figsize=(5.8, 3.6))
    label = 0.0
    for name, curve in sorted(curves.items(), key=lambda pair: pair[1][-1][1]):
        axis.plot(*zip(*curve, strict=True), "--" if name == FLOOR else "o-", color=LINES[name], markersize=4)
        number, milliseconds = curve[-1]
        label = max(milliseconds, label * LABEL_DISTANCE)
        axis.text(number * 1.25, label, name, va="center", color=LINES[name])
    axis.set(xscale="log", yscale="log", xlabel="time steps, of so many neurons that the work is the same")
    axis.set_xlim(min(tables) / 1.6, max(tables) * 6)
    axis.set_title(title, loc="left", fontsize=8, fontweight="bold")
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]))
