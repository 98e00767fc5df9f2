"""`rheobase bench`, as a user meets it, in toy sizes."""

import json
from pathlib import Path

import pytest

from rheobase.bench import run
from rheobase.bench.child import Job
from rheobase.bench.peers import PEERS, installed
from rheobase.bench.results import FLOOR
from rheobase.bench.run import Settings
from rheobase.cli import main


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["bench", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_everything_of_one_workload(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "deep" / "bench.json"
    out = bench(capsys, "W4", "--toy", "--rounds", "2", "--json", str(file), "--only")
    assert out.startswith("W4: neurons alone, T 1000, B 32, N 512\n")
    assert "import beyond torch: rheobase " in out
    found = json.loads(file.read_text())
    assert {"command", "date", "commit", "versions", "machine", "settings", "imports", "workloads"} == found.keys()
    assert {"processor", "cores", "huge pages", "neurons on the CPU"} <= found["machine"].keys()
    assert {"rheobase", "torch", "numba", *PEERS} <= found["versions"].keys()
    assert found["settings"]["toy"]
    assert found["imports"]["rheobase"] > 0
    table = found["workloads"]["W4"]
    assert table["bytes_moved"] == 30 * 4 * 8 * 24
    ours, floor = table["rows"]
    assert (ours["name"], floor["name"]) == ("Rheobase", FLOOR)
    assert len(ours["cpu"]["samples"]) == len(ours["wall"]["samples"]) == 2
    assert ours["cpu_ratio"] == ours["wall_ratio"] == 1
    assert 0 < floor["cpu_ratio"] < 1
    assert ours["peak_mib"] >= 0
    assert ours["first_call"].keys() == {"cold", "cached"}
    for which in ("cpu", "wall"):
        assert floor[which]["median"] == pytest.approx(table["bytes_moved"] / table["bandwidth"][which] * 1e3)


def test_quick_beside_a_library_and_one_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "installed", lambda name: None if name == "spyx" else installed(name))
    file, only = tmp_path / "bench.json", ("--only", "spikingjelly", "spyx")
    out = bench(capsys, "W3", "--toy", "--quick", "--rounds", "1", "--json", str(file), *only)
    assert "  Spyx: not installed (pip install spyx==1.0.0)" in map(str.rstrip, out.splitlines())
    found = json.loads(file.read_text())
    rows = {row["name"]: row for row in found["workloads"]["W3"]["rows"]}
    assert rows.keys() == {"Rheobase", "SpikingJelly", "Spyx", "dense products only", FLOOR}
    assert rows["SpikingJelly"]["agreement"]["holds"]
    assert rows["SpikingJelly"]["cpu_ratio"] > 0
    assert all(row["wall"] is row["peak_mib"] is None and row["first_call"] == {} for row in rows.values())
    assert found["imports"] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("W7",), "there is no workload 'W7'; it is one of W1, W2, W3, W4, W5, W6, T100, T1000, T10000, T100000"),
        (("--only", "torch"), "there is no library 'torch'; it is one of snntorch, spikingjelly, norse, sinabs, spyx"),
        (("--rounds", "0"), "rounds must be at least 1, got 0"),
    ],
)
def test_a_slip(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    assert " ".join(capsys.readouterr().err.split()) == f"error: {message}"


def test_a_process_that_dies_takes_only_its_own_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [
        {"message": "row", "row": "Rheobase", "library": "rheobase", "differs": "", "why": ""},
        {"message": "row", "row": "Peer", "library": "peer", "differs": "", "why": ""},
        {"message": "bound", "bytes": 100, "copied": 200},
        {"message": "sample", "row": "Rheobase", "cpu": 3.0, "wall": 4.0},
        {"message": "ended", "why": "its process ended with status -9: "},
    ]
    monkeypatch.setattr(run, "_lines", lambda job: map(dict, said))
    table = run.measure_workload("W4", Settings(peers=(), quick=True, rounds=1, toy=True), lambda text: None)
    ours, peer = table.rows
    assert (ours.cpu_ratio, ours.why) == (1.0, "")
    assert (peer.cpu_ratio, peer.why) == (None, "its process ended with status -9: ")


def test_why_a_process_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\necho \'{"message": "row"}\'\necho first >&2\necho last >&2\nexit 3\n')
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    ended = {"message": "ended", "why": "its process ended with status 3: last"}
    assert list(run._lines(Job("times", "W4"))) == [{"message": "row"}, ended]


def test_peers_have_releases_that_pip_can_install() -> None:
    extra = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for name, peer in PEERS.items():
        assert f"{name}=={peer.release}" in extra
