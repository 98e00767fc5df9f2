"""The benchmark's table on a terminal."""

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from rheobase.bench.measure import Summary
from rheobase.bench.results import Row, Table


def render(table: Table, threads: int) -> RenderableType:
    """A workload's rows, the fastest first, bounds last."""
    grid = Grid(box=None, pad_edge=False, header_style="dim")
    grid.add_column("")
    for heading in (
        *("CPU ms, 1 thread", "", "times ours"),
        *(f"wall ms, {threads} threads", "", "times ours"),
        *("peak MiB", "first call s, cold", "cached"),
    ):
        grid.add_column(heading, justify="right")
    grid.add_column("remarks", style="dim")
    for row in sorted(table.rows, key=_order):
        grid.add_row(
            Text(row.name, style="bold" if row.library == "rheobase" else "dim" if row.library == "bound" else ""),
            *_time(row.cpu, row.cpu_ratio),
            *_time(row.wall, row.wall_ratio),
            "" if row.peak_mib is None else f"{row.peak_mib:,.0f}",
            *(f"{row.first_call[cache]:.2f}" if cache in row.first_call else "" for cache in ("cold", "cached")),
            _remarks(row),
        )
    return Group(Text(f"{table.workload}: {table.title}", style="bold"), grid, "")


def _order(row: Row) -> tuple[bool, float]:
    return row.library == "bound", row.cpu.median if row.cpu else float("inf")


def _time(summary: Summary | None, ratio: float | None) -> tuple[str, str, str]:
    if summary is None:
        return "", "", ""
    return f"{summary.median:,.1f}", f"±{summary.spread:.0%}", "" if ratio is None else f"{ratio:.2f}"


def _remarks(row: Row) -> Text:
    remarks = Text(", ".join(filter(None, (row.why, row.differs))))
    if row.agreement and not row.agreement["holds"]:
        remarks.append(" not the same model: ", style="bold red")
        remarks.append(f"{row.agreement['differing']} spikes differ, gradients by {row.agreement['gradient']:.1e}")
    return remarks
