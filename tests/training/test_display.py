"""What the user sees: on a terminal, in a log, as JSON, or not at all."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
import torch
from rich.console import Console

from rheobase.diagnosis.finding import RAISE
from rheobase.training import JsonLines, LiveDisplay, PlainLines, Plan, display, display_for, fit
from rheobase.training.display import Display
from training.tiny import Killed, Stop, network, settings, splits, train


def live() -> tuple[LiveDisplay, io.StringIO]:
    out = io.StringIO()
    return LiveDisplay(Console(file=out, force_terminal=True, width=100, height=40, color_system=None)), out


@pytest.fixture
def paper(tmp_path: Path) -> Iterator[TextIO]:
    """A text file to print on; `io.StringIO` lacks a name and a mode, for which the checked annotations do not take it."""
    with (tmp_path / "paper").open("w+", encoding="utf-8") as file:
        yield file


def read(paper: TextIO) -> str:
    paper.seek(0)
    return paper.read()


def plan(**changes: object) -> Plan:
    values = {"title": "mine", "epochs": 10, "epochs_done": 0, "steps": 5, "samples": {"train": 1234}, "parameters": 5678,
              "layers": ("1 LIF(4)",), "device": "cpu", "processes": 1, "run": None, "recipe": False}  # fmt: skip
    return Plan(**{**values, **changes})


def metrics(epoch: int, **changes: object) -> dict[str, object]:
    layers = [{"name": "1 LIF(4)", "rate": 0.123, "dead": 0.25, "saturated": 0.0, "fires_once_in": None}]
    values = {"epoch": epoch, "epochs": 10, "loss": 1.5, "train_accuracy": 0.5, "validation_loss": 1.4, "best": False,
              "validation_accuracy": 0.625, "learning_rate": 0.1, "seconds": 1.0, "samples_per_second": 4321.0,
              "layers": layers}  # fmt: skip
    return {**values, **changes}


def test_every_line_of_json_parses_and_the_last_is_the_summary(paper: TextIO) -> None:
    result = train(display=JsonLines(paper))
    lines = [json.loads(line) for line in read(paper).splitlines()]
    assert lines[-1]["event"] == "summary"
    lines = [line for line in lines if line["event"] != "warning"]
    assert [line.pop("event") for line in lines] == ["start", "epoch", "epoch", "epoch", "summary"]
    assert lines[0]["samples"] == {"train": 37, "validation": 7, "test": 11}
    assert lines[0]["layers"] == ["1 LIF(10)"]
    assert lines[1:4] == result.metrics
    summary = lines[4]
    assert summary == result.summary
    assert summary["test_accuracy"] == result.test.accuracy
    assert summary["seconds"] > 0
    assert summary["samples_per_second"] > 0
    assert summary["peak_memory_mib"] > 10
    for layer in summary["layers"]:
        assert 0 <= layer["dead"] <= 1
        assert 0 <= layer["rate"] <= 1


def test_json_goes_to_standard_output_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    train(epochs=1, display=display_for("json"))
    captured = capsys.readouterr()
    assert json.loads(captured.out.splitlines()[-1])["event"] == "summary"
    assert captured.err == ""


def test_plain_lines_say_what_matters(paper: TextIO) -> None:
    result = train(display=PlainLines(paper))
    first, *epochs, last = (line for line in read(paper).splitlines() if not line.startswith("warning: "))
    assert first == ("Sequential: 146 parameters on cpu; samples: 37 train, 7 validation, 11 test; 3 epochs of 5 steps")
    for number, (line, seen) in enumerate(zip(epochs, result.metrics, strict=True), start=1):
        assert line.startswith(f"epoch {number}/3  loss {seen['loss']:.4f}  train ")
        assert f"validation {seen['validation_accuracy']:6.1%}{'*' if seen['best'] else ' '}" in line
        assert f"rate {seen['layers'][0]['rate']:.1%}" in line
        assert f"dead {seen['layers'][0]['dead']:.0%}" in line
        assert re.search(r"[\d,]+ samples/s .* ETA \d+:\d\d$", line)
    assert last.startswith(f"best epoch {result.best_epoch}: validation {result.validation.accuracy:.1%}, test ")
    assert f"{result.test.accuracy:.2%} of 11 samples" in last


def test_quiet_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    train(epochs=1, display=display_for("quiet"))
    assert capfd.readouterr() == ("", "")


def test_auto_is_plain_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(display_for("auto"), PlainLines)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(display_for("auto"), LiveDisplay)
    assert type(display_for("quiet")) is Display


def test_the_live_display_shows_the_epochs_and_the_layers() -> None:
    shown, out = live()
    result = train(display=shown)
    last = out.getvalue()[out.getvalue().rindex("epoch 3") - 4000 :]
    for seen in result.metrics:
        assert re.search(
            rf"{seen['epoch']} +{seen['loss']:.4f} +{seen['train_accuracy']:.1%} +{seen['validation_accuracy']:.1%}",
            last,
        )
    layer = result.metrics[-1]["layers"][0]
    assert re.search(rf"1 LIF\(10\) +{layer['rate']:.1%} +{layer['dead']:.0%} +{layer['saturated']:.0%}", last)
    for word in ("samples/s", "firing rate", "dead", "15/15", "ETA 0:00", "best epoch"):
        assert word in last
    assert "\x1b[?25h" in last  # the cursor is back


def test_the_live_display_leaves_the_terminal_as_it_was_after_an_error() -> None:
    class Broken(LiveDisplay):
        def epoch(self, metrics: dict[str, object]) -> None:
            raise Killed

    out = io.StringIO()
    with pytest.raises(Killed):
        train(display=Broken(Console(file=out, force_terminal=True)))
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")


def test_only_recent_epochs_stay_and_layers_that_are_dead_are_red() -> None:
    out = io.StringIO()
    shown = LiveDisplay(Console(file=out, force_terminal=True, width=100, color_system="standard"))
    shown.start(plan())
    for epoch in range(1, 9):
        shown.epoch(metrics(epoch))
    shown.close()
    begin = len(out.getvalue())
    shown._console.print(shown._picture())
    text = out.getvalue()[begin:]
    assert re.findall(r"^ +(\d) +1\.5000", text, flags=re.MULTILINE) == [str(epoch) for epoch in range(3, 9)]
    assert re.search(r"\x1b\[1;31m *25%", text)


def test_a_resumed_run_starts_where_it_stopped(tmp_path: Path, paper: TextIO) -> None:
    with pytest.raises(Killed):
        train(tmp_path / "a", display=Stop(epoch=2))
    train(tmp_path / "a", resume=True, display=PlainLines(paper))
    lines = [line for line in read(paper).splitlines() if not line.startswith("warning: ")]
    assert lines[0].endswith(f"3 epochs of 5 steps, going on after epoch 2; kept in {tmp_path / 'a'}")
    assert [line[:9] for line in lines[1:-1]] == ["epoch 3/3"]


@pytest.mark.parametrize(
    ("done", "epoch", "elapsed", "expected"),
    [
        (0, 1, 10.0, "1:30"),
        (0, 9, 90.0, "0:10"),
        (0, 10, 100.0, "0:00"),
        (0, 1, 0.05, "0:00"),
        (0, 1, 6.66, "1:00"),  # 59.94 s are rounded to a minute, not to 0:60
        (0, 1, 4000.0, "10:00:00"),
        (0, 5, 4000.4, "1:06:40"),
        (8, 9, 7.0, "0:07"),  # the pace is that of the epochs of this process, not of those before the resume
    ],
)
def test_eta(monkeypatch: pytest.MonkeyPatch, done: int, epoch: int, elapsed: float, expected: str) -> None:
    clock = iter([100.0, 100.0 + elapsed])
    monkeypatch.setattr(display.time, "monotonic", lambda: next(clock))
    eta = display._Eta()
    eta.start(plan(epochs_done=done))
    assert eta.after(epoch) == expected


def test_names_are_not_markup(paper: TextIO) -> None:
    shown = PlainLines(paper)
    shown.start(plan(title="[bold]mine[/bold]", processes=2))
    summary = {"samples": {"test": 5}, "best_epoch": 1, "validation_accuracy": 0.5, "test_accuracy": 0.25, "seconds": 3.4,
               "also_tested": {"unheard [red]x": {"accuracy": 0.5, "samples": 4}}}  # fmt: skip
    shown.finish(summary)
    text = read(paper)
    assert "[bold]mine[/bold]: 5,678 parameters on cpu x 2 processes" in text
    assert "test 25.00% of 5 samples, unheard [red]x 50.00% of 4 samples, 3 s of training" in text


def layers(**changes: float) -> list[dict[str, object]]:
    return [
        {"name": "1 LIF(4)", "rate": 0.1, "dead": 0.0, "saturated": 0.0, "fires_once_in": None, **changes},
        {"name": "3 LIF[4]", "rate": 0.1, "dead": 0.2, "saturated": 0.2, "fires_once_in": None},
    ]


def test_a_layer_that_dies_or_saturates_is_told_once(paper: TextIO) -> None:
    shown = PlainLines(paper)
    shown.start(plan(run="runs/my run", recipe=True))
    states = [{}, {"dead": 0.5}, {"dead": 1.0}, {}, {"dead": 0.5, "saturated": 0.3}]
    for epoch, state in enumerate(states, start=1):
        shown.epoch(metrics(epoch, layers=layers(**state)))
    remedy = "; remedy, before training: rb.stabilize(network, batch)"
    least, most = (
        f", or in training regularizers=[rb.regularizers.RateBounds({bound})]"
        for bound in ("lower=1e-2, weight=100.0", "upper=0.3")
    )
    hint = "; rheobase doctor 'runs/my run' looks closer"
    assert [line for line in read(paper).splitlines() if not line.startswith(("epoch", "mine"))] == [
        f"warning: 1 LIF(4): 50 % of its neurons are dead: no sample makes them fire{remedy}{least}{hint}",
        "warning: 1 LIF(4): 30 % of its neurons are saturated: they fire at nearly every step, whatever the input"
        f"{remedy}{most}{hint}",
    ]


def test_programs_are_told_once_with_the_remedy(paper: TextIO) -> None:
    shown = JsonLines(paper)
    shown.start(plan(run="runs/my run"))
    states = [{}, {"dead": 0.5}, {"dead": 1.0}, {}, {"dead": 0.5, "saturated": 0.3}]
    for epoch, state in enumerate(states, start=1):
        shown.epoch(metrics(epoch, layers=layers(**state)))
    lines = [json.loads(line) for line in read(paper).splitlines()]
    # A warning comes behind its epoch, so that the summary stays the last line.
    order = ["start", "epoch", "epoch", "warning", "epoch", "epoch", "epoch", "warning"]
    assert [line["event"] for line in lines] == order
    dead, saturated = (line for line in lines if line["event"] == "warning")
    assert dead == {
        "event": "warning", "epoch": 2, "kind": "dead", "layer": "1 LIF(4)",
        "what": "50 % of its neurons are dead: no sample makes them fire",
        "remedy": f"rb.stabilize(network, batch){RAISE}",
    }  # fmt: skip
    assert (saturated["epoch"], saturated["kind"]) == (5, "saturated")
    assert saturated["remedy"].startswith("rb.stabilize(network, batch), or in training regularizers=[")


def test_without_a_recipe_the_command_line_cannot_look_closer(paper: TextIO) -> None:
    shown = PlainLines(paper)
    shown.start(plan(run="runs/a"))
    shown.epoch(metrics(1))  # a quarter is dead
    remedy = f"remedy, before training: rb.stabilize(network, batch){RAISE}; rb.doctor(network, batch) looks closer"
    assert read(paper).splitlines()[-1].endswith(f"no sample makes them fire; {remedy}")


def test_the_live_display_keeps_warnings_above_its_picture() -> None:
    shown, out = live()
    shown.start(plan(run="runs/a", recipe=True))
    for epoch in range(1, 4):
        shown.epoch(metrics(epoch))
    shown.close()
    warning = (
        "warning: 1 LIF(4): 25 % of its neurons are dead: no sample makes them fire; "
        f"remedy, before training: rb.stabilize(network, batch){RAISE}; rheobase doctor runs/a looks closer"
    )
    assert re.sub(r"\s+", " ", out.getvalue()).count(warning) == 1


def test_neurons_that_fire_once_have_a_remedy_of_their_own(paper: TextIO) -> None:
    shown = JsonLines(paper)
    shown.start(plan())
    shown.epoch(metrics(1, layers=layers(dead=0.5, fires_once_in=12)))
    remedy = json.loads(read(paper).splitlines()[-1])["remedy"]
    assert remedy.startswith(
        "rb.initialize_single_spike(network, steps=12, batch=batch), which redraws all weights, or "
    )


def test_a_run_that_dies_says_so(tmp_path: Path, paper: TextIO) -> None:
    net = network()
    with torch.no_grad():
        net[0].bias.fill_(-100.0)
    fit(net, *splits(), settings(epochs=2), run=tmp_path / "a", display=PlainLines(paper))
    lines = [line for line in read(paper).splitlines() if line.startswith("warning")]
    assert lines == [
        "warning: 1 LIF(10): all of its neurons are dead: no sample makes them fire; "
        "remedy, before training: rb.stabilize(network, batch); rb.doctor(network, batch) looks closer"
    ]
