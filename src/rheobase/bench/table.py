"""The benchmark's table on a terminal."""

from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from rheobase.bench.measure import Summary
from rheobase.bench.results import Row, Table

Column = tuple[str, Callable[[Row], str]]


def render(table: Table, threads: int) -> RenderableType:
    """A workload's rows, the fastest first and bounds last, and below them what has to be said of some."""
    columns: list[Column] = [
        ("CPU ms\n1 thread", lambda row: _time(row.cpu)),
        ("\n/ ours", lambda row: _ratio(row.cpu_ratio)),
        (f"wall ms\n{threads} threads", lambda row: _time(row.wall)),
        ("\n/ ours", lambda row: _ratio(row.wall_ratio)),
        ("peak\nMiB", lambda row: "" if row.peak_mib is None else f"{row.peak_mib:,.0f}"),
        ("first call s\ncold  warm", lambda row: "  ".join(f"{seconds:.2f}" for seconds in row.first_call.values())),
    ]
    rows = sorted((row for row in table.rows if row.cpu), key=_order)
    columns = [(heading, cell) for heading, cell in columns if any(cell(row) for row in rows)]
    grid = Grid(box=None, pad_edge=False, header_style="dim")
    grid.add_column("", no_wrap=True)
    for heading, _ in columns:
        grid.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        style = {"rheobase": "bold", "bound": "dim"}.get(row.library, "")
        grid.add_row(row.name, *(cell(row) for _, cell in columns), style=style)
    notes: dict[str, list[str]] = {}
    for row in table.rows:
        note = row.why or ("" if row.library == "bound" else row.differs)
        if note:
            notes.setdefault(note, []).append(row.name)
    wrong = [Text(f"not the same model: {_difference(row)}", style="bold red") for row in table.rows if _disagrees(row)]
    title = Text(f"{table.workload}: {table.title}", style="bold")
    remarks = [Text(f"{'; '.join(names)}: {note}", style="dim") for note, names in notes.items()]
    return Group(title, Padding(Group(grid, *wrong, *remarks), (0, 0, 1, 2)))


def _order(row: Row) -> tuple[bool, float]:
    return row.library == "bound", row.cpu.median if row.cpu else 0.0


def _time(summary: Summary | None) -> str:
    return "" if summary is None else f"{summary.median:,.{0 if summary.median >= 100 else 1}f} ±{summary.spread:3.0%}"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _disagrees(row: Row) -> bool:
    return row.agreement is not None and not row.agreement.get("holds", False)


def _difference(row: Row) -> str:
    agreement = row.agreement or {}
    if "why" in agreement:
        return f"{row.name} could not be compared with ours, {agreement['why']}"
    return f"{row.name}: {agreement['differing']} spikes differ, the gradient by {agreement['gradient']:.1e}"
