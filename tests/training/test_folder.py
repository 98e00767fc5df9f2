"""The run folder: what it takes for a run, and what it makes of damaged files."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rheobase.errors import RunError
from rheobase.training import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(str(tmp_path / "runs" / "a"), {"recipe": None})
    for epoch in range(1, 4):
        folder.append_metrics({"epoch": epoch, "loss": 1 / epoch})
    return folder


def test_what_is_written_is_read(folder: RunFolder) -> None:
    assert RunFolder(folder.path).config == RunFolder(str(folder.path)).config == {"recipe": None}
    assert [metrics["epoch"] for metrics in folder.metrics()] == [1, 2, 3]
    assert folder.metrics()[2]["loss"] == 1 / 3
    assert folder.summary is None
    folder.write_summary({"test_accuracy": 0.5})
    assert folder.summary == {"test_accuracy": 0.5}


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no such run"):
        RunFolder(tmp_path / "nothing")
    with pytest.raises(RunError, match=r"not the folder of a run, it has no config\.json"):
        RunFolder(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="there is no such run"):
        RunFolder(tmp_path / "file")


def test_a_new_run_takes_nobody_s_place(tmp_path: Path, folder: RunFolder) -> None:
    with pytest.raises(
        RunError,
        match=r"not empty; resume it with `rheobase resume .*` \(in Python: fit\(.*\)\), or choose another name",
    ):
        RunFolder.create(folder.path, {"recipe": "mnist"})
    with pytest.raises(RunError, match=r"not empty; resume it with fit\(\.\.\., resume=True\), or choose another name"):
        RunFolder.create(folder.path, {"recipe": None})  # of which the command line knows no network
    assert folder.metrics()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="is a file"):
        RunFolder.create(tmp_path / "file", {})
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert RunFolder.create(tmp_path / "empty", {}).config == {}


def test_a_kill_while_a_run_is_made_leaves_no_run(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".config.cdf09449.json").write_bytes(b"{")
    assert RunFolder.create(tmp_path / "a", {"recipe": None}).config == {"recipe": None}
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / ".config.mine.json").write_bytes(b"{")
    with pytest.raises(RunError, match="already"):
        RunFolder.create(tmp_path / "b", {})


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[" * 100_000, '{"a": 1}}'])
@pytest.mark.parametrize("name", ["config.json", "summary.json"])
def test_damaged_json(folder: RunFolder, name: str, content: str) -> None:
    (folder.path / name).write_text(content)
    with pytest.raises(RunError, match=f"{name}: damaged"):
        _ = RunFolder(folder.path).summary


def test_bytes_that_are_no_text(folder: RunFolder) -> None:
    (folder.path / "config.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(RunError, match=r"config\.json: damaged"):
        RunFolder(folder.path)


def test_a_last_line_that_was_cut_is_left_out(folder: RunFolder) -> None:
    path = folder.path / "metrics.jsonl"
    whole = path.read_bytes()
    third = whole.rindex(b"\n", 0, -1) + 1
    for end in range(third, len(whole)):
        path.write_bytes(whole[:end])
        assert [metrics["epoch"] for metrics in folder.metrics()] == [1, 2]
    path.write_bytes(whole)
    assert len(folder.metrics()) == 3


@pytest.mark.parametrize("line", ["{", "[]", '{"epoch": 2', "\x00", "[" * 100_000])
def test_a_damaged_line_in_the_middle(folder: RunFolder, line: str) -> None:
    path = folder.path / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, lines[2], ""]))
    with pytest.raises(RunError, match=r"metrics.jsonl: line 2 is damaged"):
        folder.metrics()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file/run: cannot be written: Not a directory; choose another folder"):
        RunFolder.create(tmp_path / "file" / "run", {})


def test_later_epochs_are_forgotten_and_a_cut_line_too(folder: RunFolder) -> None:
    path = folder.path / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"epoch": 4, "lo')
    assert [metrics["epoch"] for metrics in folder.keep_metrics(2)] == [1, 2]
    folder.append_metrics({"epoch": 3})
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2, 3]
    assert folder.keep_metrics(0) == []
    assert path.read_text() == ""


@pytest.mark.parametrize("epochs", [[1, 3], [2, 1], [1, 1], ["1", "2"], [None, 2], [1], []])
def test_metrics_that_lack_an_epoch_do_not_go_on(folder: RunFolder, epochs: list[object]) -> None:
    content = "".join(json.dumps({"epoch": epoch}) + "\n" for epoch in epochs)
    (folder.path / "metrics.jsonl").write_text(content)
    with pytest.raises(RunError, match="must hold epochs 1 to 2"):
        folder.keep_metrics(2)
    assert (folder.path / "metrics.jsonl").read_text() == content


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=80), st.text('{}[]":,0e- \n\u2028', max_size=60).map(str.encode)))
def test_any_metrics_are_read_or_refused(folder: RunFolder, content: bytes) -> None:
    (folder.path / "metrics.jsonl").write_bytes(content)
    try:
        assert all(isinstance(metrics, dict) for metrics in folder.metrics())
        folder.keep_metrics(1)
    except RunError:
        assert folder.path.joinpath("metrics.jsonl").read_bytes() == content
