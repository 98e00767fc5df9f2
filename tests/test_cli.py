"""The command line, as a user meets it: what it prints, what it leaves, and what it says to a slip."""

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import rheobase
from rheobase import cli, options, recipes
from rheobase import data as rb_data
from rheobase.cli import main
from rheobase.data import spoken_digits
from rheobase.errors import RunError
from rheobase.recipes import RECIPES, find
from rheobase.training import Display, RunFolder, Training, fit
from training.tiny import SOURCE, network, settings, splits, untimed

TINY = ["--hidden", "8", "--steps", "10", "--dt", "0.08", "--batch-size", "256", "--device", "cpu"]
ONE = [*TINY, "--epochs", "1"]
load = cache(spoken_digits)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test in a folder of its own; the embedded recordings are read once for all."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rheobase.recipes.spoken_digits.spoken_digits", load)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("RHEOBASE_DATA", str(tmp_path / "no data"))
    return tmp_path


def failing(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of a command that must fail: exit status 2, all on standard error, no traceback."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return re.sub(r"[\s│╭╮╰╯─]+", " ", captured.err).strip()


def succeeding(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that must succeed prints; nothing goes to standard error."""
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the default recipe that has ended."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rheobase.recipes.spoken_digits.spoken_digits", load)
        assert main(["train", *TINY, "--epochs", "2", "--quiet", "--name", "done", "--runs", str(runs)]) == 0
    return runs / "done"


# train


@pytest.mark.parametrize("arguments", [["--help"], ["recipes"], ["train", "--help"]])
def test_a_reader_that_has_seen_enough(arguments: list[str]) -> None:
    command = [sys.executable, "-c", "from rheobase.cli import main; raise SystemExit(main())", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_train_without_a_name_or_a_recipe(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = succeeding(capsys, "train", *ONE)
    (run,) = (place / "runs").iterdir()
    assert re.fullmatch(r"spoken-digits-\d{8}-\d{6}", run.name)
    assert {path.name for path in run.iterdir()} == {
        "config.json", "metrics.jsonl", "checkpoint.safetensors", "best.safetensors", "evaluation.npz", "summary.json",
        "report.html",
    }  # fmt: skip
    lines = out.splitlines()
    assert lines[0].startswith("spoken-digits: ")
    assert lines[1].startswith("epoch 1/1  loss ")
    assert lines[2].startswith("best epoch 1: validation ")
    assert lines[3] == f"report: {Path('runs') / run.name / 'report.html'}"
    config = RunFolder(run).config
    assert config["recipe"] == "spoken-digits"
    assert config["config"]["hidden"] == [8]
    assert config["config"]["training"]["epochs"] == 1


def test_train_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in succeeding(capsys, "train", "spoken-digits", *ONE, "--json").splitlines()]
    assert [line["event"] for line in lines] == ["start", "epoch", "summary"]
    summary = lines[-1]
    assert 0 <= summary["test_accuracy"] <= 1
    assert {"seconds", "samples_per_second", "peak_memory_mib"} <= summary.keys()
    assert all({"rate", "dead", "saturated"} <= layer.keys() for layer in summary["layers"])


def test_train_quiet_and_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert succeeding(capsys, "train", *ONE, "--quiet", "--name", "a", "--runs", "deep/er") == ""
    assert (place / "deep" / "er" / "a" / "report.html").exists()
    message = failing(capsys, "train", *ONE, "--quiet", "--name", "a", "--runs", "deep/er")
    assert message.startswith(
        "error: deep/er/a: already exists and is not empty; resume it with `rheobase resume deep/er/a`"
    )
    for name in ("../a", "a/../../b", "/tmp/a"):
        assert "expected a name within --runs" in failing(capsys, "train", *ONE, "--quiet", "--name", name)


def test_train_with_a_speaker_held_out(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = succeeding(capsys, "train", *ONE, "--holdout-speaker", "theo", "--name", "a")
    assert re.search(r"unheard speaker theo \d+\.\d\d% of \d+ samples", out)
    summary = RunFolder(place / "runs" / "a").summary
    assert summary["also_tested"]["unheard speaker theo"]["samples"] > 100
    message = failing(capsys, "train", *ONE, "--holdout-speaker", "nobody")
    assert message.startswith("error: speaker: got 'nobody', expected one of george, ")
    assert not (place / "runs" / "nobody").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "mnits"], "there is no recipe 'mnits'; did you mean mnist? Known are spoken-digits, "),
        (["train", "?"], "there is no recipe '?'. Known are spoken-digits, "),
        (["train", "--epohcs", "3"], "--epohcs"),
        (["train", "--epochs", "many"], "--epochs: invalid literal for int() with base 10: 'many'"),
        (["train", "--epochs", "0"], "epochs must be at least 1, got 0"),
        (["train", "--precision", "int8"], "precision"),
        (["train", "--hidden", "8", "0"], "hidden must be at least 1 neuron in each layer, got (8, 0)"),
        (["doctor", "spoken-digits", "--env"], "--env describes this installation, not spoken-digits"),
        (["train", "--hidden", "-3"], "hidden must be at least 1 neuron in each layer, got (-3,)"),
        (["train", "--shortest-memory", "0"], "shortest_memory must be above 0 and at most longest_memory, got 0.0"),
        (["train", "--dropout", "1"], "Dropout: p must be in [0, 1), got 1.0"),
        (["train", "--steps", "0"], "steps: got 0, expected at least 1"),
        (["train", "--validation", "1"], "fraction: got 1.0, expected a number between 0 and 1"),
        (["train", "mnist", "--hidden", "0"], "hidden must be at least 1 neuron"),
        (["train", "mnist"], "no data"),
        (["train", "mnist"], "name the folder that holds it with --data-dir or RHEOBASE_DATA, or fetch it"),
        (
            ["train", "mnist", "--data-dir", "elsewhere"],
            "elsewhere/mnist/train-images-idx3-ubyte.gz: there is no such file",
        ),
        (["train", "spoken-digits-full", "--data-dir", "elsewhere"], "elsewhere"),
        (["trian"], "there is no command 'trian'; did you mean train? see rheobase --help"),
        (["--bogus"], "there is no command '--bogus'; see rheobase --help"),
        (["resume"], "RUN"),
        (["resume", "nowhere"], "nowhere: there is no such run; begin one with `rheobase train`"),
        (["resume", "."], "not the folder of a run, it has no config.json"),
        (["evaluate", "."], "not the folder of a run"),
        (["export", "."], "not the folder of a run"),
        (["evaluate", ".", "--split", "train"], "split"),
        (["report", "."], "config.json"),
        (["recipes", "mnist"], "mnist"),
    ],
)
def test_a_slip(place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    before = set(place.rglob("*"))
    assert message in failing(capsys, *arguments)
    assert set(place.rglob("*")) == before  # nothing half-made


def test_a_folder_that_cannot_be_made(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "file").touch()
    assert "file" in failing(capsys, "train", *ONE, "--quiet", "--runs", "file")


# resume


def stop(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """The next run stops with `error` after its first epoch."""

    class Stopping(Display):
        def epoch(self, metrics: dict[str, object]) -> None:
            raise error

    monkeypatch.setattr("rheobase.options.display_for", lambda style: Stopping())


def test_resume_ends_as_the_run_that_was_not_stopped(
    place: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        stop(patch, KeyboardInterrupt())
        assert main(["train", *TINY, "--epochs", "2", "--name", "a"]) == 130
    captured = capsys.readouterr()
    assert "interrupted; rheobase resume continues from the last epoch" in captured.err
    out = succeeding(capsys, "resume", "runs/a")
    assert "going on after epoch 1" in out
    assert "epoch 2/2" in out
    assert untimed(RunFolder(place / "runs" / "a").summary) == untimed(RunFolder(finished).summary)
    page = (place / "runs" / "a" / "report.html").read_text()
    assert "spoken-digits" in page


def test_resume_of_a_run_that_has_ended(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = failing(capsys, "resume", str(finished))
    assert message.endswith(
        f"this run has ended, there is nothing to resume; `rheobase report {finished}` writes its report"
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"recipe": "spoken-digits", "config": {"bogus": 1}}, "there is no setting bogus; known are training, "),
        (
            {"recipe": "spoken-digits", "config": {"training": {"epochs": "3"}}},
            "setting training.epochs must be int, got '3'",
        ),
        ({"recipe": "gone", "config": {}}, "there is no recipe 'gone'"),
        ({"recipe": None}, "this run was not started from a recipe"),
        ({}, "this run was not started from a recipe"),
        ({"recipe": "spoken-digits"}, "must be a group of settings, got None"),
    ],
)
def test_resume_with_a_configuration_that_is_none(
    place: Path, capsys: pytest.CaptureFixture[str], config: dict[str, object], message: str
) -> None:
    (place / "a").mkdir()
    (place / "a" / "config.json").write_text(json.dumps(config))
    for command in ("resume", "evaluate"):
        assert message in failing(capsys, command, "a")


def test_resume_of_a_run_that_python_started(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(network(), *splits(), settings(epochs=1), run="a", display=Display())
    (place / "a" / "summary.json").unlink()
    assert "In Python, build it and continue with rheobase.fit(..., run=..., resume=True)" in failing(
        capsys, "resume", "a"
    )


def test_resume_with_other_settings(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        stop(patch, KeyboardInterrupt())
        assert main(["train", *TINY, "--epochs", "2", "--name", "a"]) == 130
    capsys.readouterr()
    path = place / "runs" / "a" / "config.json"
    config = json.loads(path.read_text())
    for change, message in [
        ({"hidden": [9]}, "was started with 2.features 8, not 9"),
        ({"shift_time": 0.01}, "the data is not what this run was started with"),
        ({"training": {**config["config"]["training"], "seed": 9}}, "was started with seed 0, not 9"),
    ]:
        path.write_text(json.dumps({**config, "config": {**config["config"], **change}}))
        assert message in failing(capsys, "resume", "runs/a", "--quiet")


# evaluate, report, recipes


def test_evaluate(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = RunFolder(finished).summary
    out = succeeding(capsys, "evaluate", str(finished))
    assert f"accuracy {summary['test_accuracy']:.2%}" in out
    assert "weights of epoch" in out
    assert "2 LIF(8)" in out
    assert "also measured" not in out
    for split in ("test", "validation"):
        found = json.loads(succeeding(capsys, "evaluate", str(finished), "--split", split, "--json"))
        assert found[f"{split}_accuracy"] == summary[f"{split}_accuracy"]
        assert found[f"{split}_loss"] == pytest.approx(summary[f"{split}_loss"], rel=1e-6)
        assert found["layers"][0]["name"] == "2 LIF(8)"
    assert succeeding(capsys, "evaluate", str(finished), "--quiet") == ""


def test_evaluate_finds_what_the_run_found(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a recipe with a loss and measures of its own, dropout, and a lower precision."""

    def images(count: int) -> rb_data.Images:
        pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        return rb_data.Images(pixels, np.arange(count) % 10)

    monkeypatch.setattr("rheobase.recipes.ttfs.fashion_mnist", lambda *_, **__: (images(90), images(40)))
    small = ["--hidden", "12", "--dropout", "0.5", "--batch-size", "9", "--epochs", "2", "--device", "cpu"]
    succeeding(capsys, "train", "ttfs-mlp", *small, "--precision", "bfloat16", "--quiet", "--name", "a")
    summary = RunFolder(place / "runs" / "a").summary
    found = json.loads(succeeding(capsys, "evaluate", "runs/a", "--json"))
    assert found["test_accuracy"] == summary["test_accuracy"]
    assert found["test_loss"] == pytest.approx(summary["test_loss"], rel=1e-6)
    assert found["measures"] == summary["measures"]
    assert found["measures"]["most spikes of a neuron"] == 1
    words = succeeding(capsys, "evaluate", "runs/a").split("also measured", 1)[1]
    assert re.search(rf"steps / decision +{summary['measures']['steps / decision']:.4g}\n", words)
    assert "most spikes of a neuron" in (place / "runs" / "a" / "report.html").read_text()


def test_evaluate_interrupted(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.training, "evaluate", interrupted)
    assert main(["evaluate", str(finished)]) == 130
    assert capsys.readouterr().err == "interrupted\n"  # there is nothing to resume


def test_evaluate_without_best_weights(place: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "a").mkdir()
    (place / "a" / "config.json").write_bytes((finished / "config.json").read_bytes())
    assert "best.safetensors: there is no such checkpoint" in failing(capsys, "evaluate", "a")
    (place / "a" / "best.safetensors").write_bytes((finished / "best.safetensors").read_bytes()[:-9])
    assert "damaged" in failing(capsys, "evaluate", "a")


def test_export(place: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nir = pytest.importorskip("nir")
    assert f"{finished / 'network.nir'}: 6 nodes, steps of 0.08 s" in succeeding(capsys, "export", str(finished))
    network, again = rheobase.load(finished), rheobase.interop.from_nir(nir.read(finished / "network.nir"))
    x = (torch.rand(10, 3, 140) < 0.1).float()
    torch.testing.assert_close(again(x), network(x), rtol=1e-4, atol=1e-4)
    found = json.loads(succeeding(capsys, "export", str(finished), "--to", "a.nir", "--dt", "0.001", "--json"))
    assert (found["file"], found["dt"], len(found["nodes"])) == ("a.nir", 0.001, 6)
    assert nir.read(place / "a.nir").metadata["dt"] == 0.001
    assert succeeding(capsys, "export", str(finished), "--quiet") == ""


def test_export_must_know_how_long_a_step_is(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.recipes, "from_config", lambda _: find("mnist").recipe)
    assert "--dt 0.001" in failing(capsys, "export", str(finished))


def test_report(place: Path, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (finished / "report.html").unlink(missing_ok=True)
    assert succeeding(capsys, "report", str(finished)) == f"{finished / 'report.html'}\n"
    assert (finished / "report.html").read_text().startswith("<!doctype html>")


def test_recipes_lists_all_with_their_aims(capsys: pytest.CaptureFixture[str]) -> None:
    out = re.sub(r"\s+", " ", succeeding(capsys, "recipes"))
    for name, entry in RECIPES.items():
        assert name in out
        assert entry.aim.split()[0] in out


# help


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        out = succeeding(capsys, *arguments)
        assert all(
            command in out for command in ("train", "resume", "evaluate", "report", "export", "recipes", "doctor")
        )
    assert re.fullmatch(r"rheobase \d+\.\d+\.\d+\S*\n", succeeding(capsys, "--version"))


@pytest.mark.parametrize("command", ["resume", "evaluate", "report", "recipes", "doctor"])
def test_help_of_a_command(capsys: pytest.CaptureFixture[str], command: str) -> None:
    out = succeeding(capsys, command, "--help")
    assert f"usage: rheobase {command}" in out
    assert cli.COMMANDS[command].__doc__.split(";")[0].split(".")[0] in re.sub(r"\s+", " ", out)


@pytest.mark.parametrize("name", [*RECIPES, None])
def test_help_of_a_recipe_has_every_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    monkeypatch.setenv(
        "COLUMNS", "100"
    )  # in a wider window long help stands in two columns, and the words do not follow
    out = succeeding(capsys, "train", *([name] if name else []), "--help")
    recipe = RECIPES[name or cli.DEFAULT_RECIPE].recipe
    words = re.sub(r"[\s│]+", " ", out)
    for field in (*fields(type(recipe)), *fields(Training), *fields(options.Data), *fields(options.Output)):
        if field.name != "training":
            assert f"--{field.name.replace('_', '-')}" in out
    assert f"--epochs INT Passes over the training set. (default: {recipe.training.epochs})" in words
    assert RECIPES[name or cli.DEFAULT_RECIPE].aim.split(";")[0] in words


# the program itself


def test_the_installed_program(place: Path) -> None:
    program = Path(sys.executable).with_name("rheobase")
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [program, "train", *ONE, "--json", "--name", "a"], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout.splitlines()[-1])["event"] == "summary"
    assert RunFolder(place / "runs" / "a").config["command"] == f"rheobase train {' '.join(ONE)} --json --name a"


def test_two_processes_print_once_and_end_well(place: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port]
    done = subprocess.run(
        [*launch, Path(sys.executable).with_name("rheobase"), "train", *ONE, "--json"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["start", "epoch", "summary"]
    assert lines[0]["processes"] == 2
    (run,) = (place / "runs").iterdir()  # both have taken the main process's name for it
    assert (run / "report.html").exists()


def test_a_traceback_for_those_who_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RHEOBASE_TRACEBACK", "1")
    with pytest.raises(RunError, match="there is no such run"):
        main(["resume", str(tmp_path / "none")])


def test_a_download_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def downloading(self, data_dir=None, *, download=False, progress=None):
        assert download
        for done in (0, 512, 1024):
            progress("digits.gz", done, 1024)
        return splits

    part = rb_data.ArrayDataset(torch.rand(2, 4, 3), torch.tensor([0, 1, 0, 1]))
    splits = rb_data.Splits(part, part, part)
    monkeypatch.setattr(recipes.Mnist, "splits", downloading)
    data = options.Data(download=True)
    assert data.splits(recipes.Mnist(), options.Output()) is splits
    assert capsys.readouterr().out == "loading digits.gz\n"
    assert data.splits(recipes.Mnist(), options.Output(quiet=True)) is splits
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, as far as rich can tell
    assert data.splits(recipes.Mnist(), options.Output()) is splits
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    assert "digits.gz" in shown
    assert "1.0/1.0 kB" in shown


def test_a_simulation_says_that_it_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def simulating(data_dir, *, seed, samples, download, progress):
        assert (data_dir, seed, samples, download) == (tmp_path, 3, 20, True)
        progress("Train", 10, 20)
        if interrupted:
            raise KeyboardInterrupt
        return tmp_path / "n_mnist_simulated"

    monkeypatch.setattr(cli, "simulate_n_mnist", simulating)
    command = ["simulate", "n-mnist", "--data-dir", str(tmp_path), "--seed", "3", "--samples", "20", "--download"]
    interrupted = False
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "simulating n-mnist, Train" in out
    assert out.endswith(f"simulated, not recorded: {tmp_path / 'n_mnist_simulated'}\n")
    assert main([*command, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    interrupted = True
    assert main(command) == 130
    assert "interrupted; the same command continues from there" in capsys.readouterr().err


def test_the_package_is_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "rheobase", "--version"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, f"rheobase {rheobase.__version__}\n")
