"""The README's table of what `rheobase bench --json` found.

    python benchmarks/markdown.py benchmarks/results/bench.json [cpu | wall | peak_mib]

Prints Markdown: a row for every implementation, a column for every workload; times and MiB, and how many times ours they are.
"""

import json
import sys
from pathlib import Path
from typing import Any


def table(found: dict[str, Any], what: str = "cpu") -> str:
    """The table of `what`: "cpu", "wall" or "peak_mib"."""
    workloads = {name: {row["name"]: row for row in one["rows"]} for name, one in found["workloads"].items()}
    names = dict.fromkeys(name for rows in workloads.values() for name in rows)
    bounds = {name for rows in workloads.values() for name, row in rows.items() if row["library"] == "bound"}
    lines = [f"| | {' | '.join(workloads)} |", f"| --- |{' ---: |' * len(workloads)}"]
    for name in sorted(names, key=lambda name: name in bounds):
        cells = [_cell(rows.get(name), rows["Rheobase"], what) for rows in workloads.values()]
        if any(cells):
            lines.append(f"| {f'**{name}**' if name == 'Rheobase' else name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None, ours: dict[str, Any], what: str) -> str:
    value, reference = (_value(one, what) for one in (row, ours))
    if value is None:
        return ""
    text = f"{value:,.{0 if value >= 20 else 1}f}"
    if row is ours or row["library"] == "bound" or not reference:
        return f"**{text}**" if row is ours else text
    ratio = row[f"{what}_ratio"] if what in ("cpu", "wall") else value / reference
    return f"{text} ({ratio:.{0 if ratio >= 20 else 1}f}x)"


def _value(row: dict[str, Any] | None, what: str) -> float | None:
    if row is None or row[what] is None:
        return None
    return row[what] if what == "peak_mib" else row[what]["median"]


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text()), *sys.argv[2:]))
