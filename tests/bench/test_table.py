"""Tables: what is entered, and what is shown."""

from io import StringIO

import pytest
from rich.console import Console

from rheobase.bench.measure import Summary
from rheobase.bench.results import Row, Table
from rheobase.bench.table import render


def shown(table: Table) -> list[str]:
    console = Console(file=StringIO(), width=120)
    console.print(render(table, threads=4))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.fixture
def table() -> Table:
    rows = [Row("Rheobase", "rheobase"), Row("Peer", "peer"), Row("memory floor", "bound")]
    table = Table("W4", "neurons alone", rows)
    table.set_times("cpu", {"Rheobase": [10.0, 20.0, 10.0], "Peer": [30.0, 60.0, 200.0], "memory floor": [5.0] * 3})
    return table


def test_ratios_are_those_of_the_rounds(table: Table) -> None:
    assert [row.cpu_ratio for row in table.rows] == [1.0, 3.0, 0.5]
    assert table.row("Peer").cpu == Summary(60.0, 30.0, 200.0, (30.0, 60.0, 200.0))
    assert table.row("Peer").wall is None


def test_without_ours_there_are_no_ratios() -> None:
    table = Table("W4", "", [Row("Rheobase", "rheobase", why="broken"), Row("Peer", "peer")])
    table.set_times("wall", {"Peer": [1.0]})
    assert table.row("Peer").wall_ratio is None
    assert any("Rheobase: broken" in line for line in shown(table))


def test_what_was_not_measured_has_no_column(table: Table) -> None:
    text = "\n".join(shown(table))
    assert "CPU ms" in text
    assert "wall" not in text
    assert "MiB" not in text


def test_fastest_first_and_bounds_last(table: Table) -> None:
    table.rows.insert(1, Row("Slow", "slow"))
    table.set_times("cpu", {"Rheobase": [10.0], "Slow": [90.0], "Peer": [4.0], "memory floor": [5.0]})
    names = [line.split("  ")[1].strip() for line in shown(table) if "±" in line]
    assert names == ["Peer", "Rheobase", "Slow", "memory floor"]


def test_everything(table: Table) -> None:
    table.set_times("wall", {"Rheobase": [4.0], "Peer": [1234.0]})
    peer = table.row("Peer")
    peer.peak_mib, peer.first_call, peer.differs = 1234.5, {"cold": 2.0, "cached": 0.5}, "reset one step later"
    line = next(line for line in shown(table) if line.startswith("  Peer"))
    assert line.split() == ["Peer", "60.0", "±142%", "3.00", "1,234", "±", "0%", "308.50", "1,234", "2.00", "0.50"]
    assert "  Peer: reset one step later" in shown(table)


def test_rows_with_the_same_remark_share_it(table: Table) -> None:
    table.row("Peer").differs = "reset one step later"
    table.rows.append(Row("Other", "peer", differs="reset one step later"))
    assert "  Peer; Other: reset one step later" in shown(table)


@pytest.mark.parametrize(
    ("agreement", "remark"),
    [
        ({"holds": True}, None),
        (
            {"holds": False, "differing": 3, "gradient": 0.25},
            "not the same model: Peer: 3 spikes differ, the gradient by 2.5e-01",
        ),
        ({"holds": False, "why": "no layer"}, "not the same model: Peer could not be compared with ours, no layer"),
    ],
)
def test_disagreement_is_shown(table: Table, agreement: dict, remark: str | None) -> None:
    table.row("Peer").agreement = agreement
    remarks = [line.strip() for line in shown(table) if "not the same model" in line]
    assert remarks == ([remark] if remark else [])
