"""The table and the pictures of a benchmark, made of figures that are easy to see through."""

import json
from pathlib import Path
from typing import Any

import pytest

from load_tool import load_tool

markdown = load_tool("markdown", "benchmarks")
plot = load_tool("plot", "benchmarks")


def row(name: str, library: str, cpu: float | None, ratio: float | None, peak: float | None) -> dict[str, Any]:
    return {"name": name, "library": library, "cpu": cpu and {"median": cpu}, "cpu_ratio": ratio, "peak_mib": peak}


@pytest.fixture
def found() -> dict[str, Any]:
    tables = {
        "W4": [
            row("Rheobase", "rheobase", 12.34, 1.0, 100.0),
            row("snnTorch", "snntorch", 400.0, 31.0, 500.0),
            row("Sinabs", "sinabs", None, None, None),
            row("memory floor", "bound", 10.0, 0.8, None),
        ],
        "W1": [
            row("Rheobase", "rheobase", 50.0, 1.0, None),
            row("dense products only", "bound", 60.0, 1.2, 20.0),
            row("Spyx", "spyx", 60.0, 1.25, None),
        ],
        "T100": [row("Rheobase", "rheobase", 5.0, 1.0, None), row("snnTorch", "snntorch", 50.0, 10.0, None)],
        "T1000": [row("Rheobase", "rheobase", 5.0, 1.0, None), row("snnTorch", "snntorch", None, None, None)],
    }
    return {
        "workloads": {name: {"workload": name, "title": "a title", "rows": rows} for name, rows in tables.items()},
        "versions": {"rheobase": "1.2.3"},
        "machine": {"processor": "a processor"},
        "date": "2026-01-01T00:00:00+00:00",
    }


def test_table_of_times(found: dict[str, Any]) -> None:
    assert markdown.table(found).splitlines() == [
        "| | W4 | W1 | T100 | T1000 |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| **Rheobase** | **12.3** | **50** | **5.0** | **5.0** |",
        "| snnTorch | 400 (31x) |  | 50 (10.0x) |  |",
        "| Spyx |  | 60 (1.2x) |  |  |",
        "| memory floor | 10.0 |  |  |  |",
        "| dense products only |  | 60 |  |  |",
    ]


def test_table_of_memory(found: dict[str, Any]) -> None:
    assert markdown.table(found, "peak_mib").splitlines()[2:] == [
        "| **Rheobase** | **100** |  |  |  |",
        "| snnTorch | 500 (5.0x) |  |  |  |",
        "| dense products only |  | 20 |  |  |",
    ]


def test_pictures(found: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(found))
    plot.main(file)
    pictures = [tmp_path / f"bench-{kind}.png" for kind in ("time", "memory", "steps")]
    assert capsys.readouterr().out.split() == [str(picture) for picture in pictures]
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_bars_are_sorted_and_ours_stands_out(found: dict[str, Any]) -> None:
    figure = plot.panels(found, "times", lambda row: (row["cpu"] or {}).get("median"))
    first, second = (axis for axis in figure.axes if axis.get_title("left"))
    assert [label.get_text() for label in first.get_yticklabels()] == ["Spyx", "Rheobase"]
    assert [bar.get_width() for bar in second.patches] == [400.0, 12.34]
    assert [bar.get_facecolor() == plot.mpl.colors.to_rgba(plot.OURS) for bar in second.patches] == [False, True]
    (floor,) = second.lines
    assert floor.get_xdata()[0] == 10
    plot.plt.close(figure)


def test_without_figures_there_is_no_picture(found: dict[str, Any]) -> None:
    assert plot.panels(found, "times", lambda row: None) is None
    found["workloads"] = {name: table for name, table in found["workloads"].items() if name[0] == "W"}
    assert plot.steps(found, "steps") is None
