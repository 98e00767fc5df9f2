"""The report: what is on the page, what it may not do, and what damaged folders lead to."""

import base64
import json
import math
import os
import re
import struct
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from report_runs import DIGITS, make_run
from rheobase.errors import RunError
from rheobase.report import write_report
from rheobase.report.charts import Scale, bars, line, pooled, raster_png
from rheobase.report.figures import confusions_in_words
from rheobase.report.page import amount, duration, wilson
from rheobase.report.record import ClassPredictions, read_run
from rheobase.report.targets import in_words

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """The elements, attributes and text of a page; fails when a tag is not closed where it must be."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.elements if name in attrs]


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def edit_epochs(path: Path, change: Callable[[int, dict[str, Any]], object]) -> None:
    values = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    for index, value in enumerate(values):
        change(index, value)
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")


def edit_arrays(path: Path, **changes: Any) -> None:
    """Replace arrays of an archive; None removes one."""
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files} | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


def test_finished_run_has_everything(tmp_path: Path) -> None:
    run = make_run(tmp_path / "spoken-1", holdout=True)
    page = Page(write_report(run))
    accuracy = json.loads((run / "summary.json").read_text())["test_accuracy"]
    for expected in (
        f"{100 * accuracy:.1f}%",
        "test accuracy on 300 samples",
        "62.4% unheard speaker theo on 500 samples",
        "40 (best: 30)",
        "best: 30",
        "2 min 31 s",
        "612 MiB",
        "54,321",
        "Loss",
        "Accuracy",
        "correctly recognized as “three”",
        "time (ms)",
        "1 LIF(256)",
        "2 LIF(128)",
        "Dead, silent and saturated neurons",
        "A synaptic operation is one spike that arrives at one synapse",
        "rheobase train spoken-digits --epochs 40",
        "torch 2.13.0",
        "data.augment.stretch [0.8, 1.2]",
        "out null",
    ):
        assert expected in page.text, expected
    assert set(DIGITS) <= set(page.texts)
    assert "Unfinished" not in page.text
    assert "nan" not in page.text.lower().split()


def test_layers_that_died_are_named_in_the_words_of_training(tmp_path: Path) -> None:
    run = make_run(tmp_path / "my run")
    assert "of its neurons are dead" not in write_report(run).read_text()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines[-1]["layers"][1] |= {"dead": 0.4, "saturated": 0.25}
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    page = write_report(run).read_text()
    assert "<b>2 LIF(128)</b>: 40 % of its neurons are dead: no sample makes them fire. Remedy: <code>rb.stab" in page
    assert "<b>2 LIF(128)</b>: 25 % of its neurons are saturated" in page
    assert f"<code>rheobase doctor &#x27;{run}&#x27;</code> looks closer" in page
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "recipe": None}))
    assert "<code>rb.doctor(network, batch)</code> looks closer" in write_report(run).read_text()


def test_neurons_that_fire_once_have_a_remedy_of_their_own(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=30)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines[-1]["layers"][1] |= {"dead": 0.4, "fires_once_in": 12}  # behind a Hold, more than the input's 30
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    page = write_report(run).read_text()
    assert "Remedy: <code>rb.initialize_single_spike(network, steps=12, batch=batch), which redraws" in page


def test_layer_table_adds_up(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")

    def set_work(summary: dict[str, Any]) -> None:
        summary["input"] = {"spikes_per_sample": 100, "synaptic_operations_per_sample": 1000}
        for layer, spikes, operations in zip(summary["layers"], (200, 300), (3000, 4000), strict=True):
            layer |= {"spikes_per_sample": spikes, "synaptic_operations_per_sample": operations, "rate": 0.05}

    edit_json(run / "summary.json", set_work)
    page = Page(write_report(run))
    assert "causes 600 spikes (input included) and 8,000 synaptic operations" in page.text
    assert "input 100 1,000 12.5% 1 LIF(256) 256 5.0% 5 Hz" in page.text
    assert "total 384 600 8,000 100.0%" in page.text

    edit_json(run / "summary.json", lambda summary: summary["input"].update(analog=True))
    page = Page(write_report(run))
    assert "causes 500 spikes (input not included) and 8,000 synaptic operations" in page.text
    assert "input, values 100 1,000 12.5%" in page.text
    assert "those that are not zero are counted" in page.text


def test_same_folder_same_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", epochs=3)
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first
    assert sorted(os.listdir(run)) == ["config.json", "evaluation.npz", "metrics.jsonl", "report.html", "summary.json"]


def test_what_the_recipe_measured(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", epochs=2, neurons=(4,), steps=5, inputs=3)
    assert "Also measured" not in Page(write_report(run)).text
    measures = {"steps / decision": 2.4711, "undecided, %": 0.0, EVIL: None}
    edit_json(run / "summary.json", lambda summary: summary.update(measures={}))
    assert "Also measured" not in Page(write_report(run)).text
    edit_json(run / "summary.json", lambda summary: summary.update(measures=measures))
    page = Page(write_report(run))
    told = f"on the test set. measure value steps / decision 2.47 undecided, % 0 {EVIL} n/a"
    assert told in page.text
    edit_json(run / "summary.json", lambda summary: summary.update(measures={"steps / decision": "few"}))
    with pytest.raises(RunError, match=r"summary\.json, measures: 'steps / decision' should be a number, got 'few'"):
        write_report(run)


def test_nothing_outside_and_no_script(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path / "run", holdout=True)))
    for name in ("src", "href", "srcset", "action", "data", "xlink:href"):
        assert all(value.startswith("data:image/png;base64,") for value in page.attributes(name))
    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in page.elements}
    assert "default-src 'none'" in page.attributes("content")[0]
    assert not re.search(r"https?://|@import|url\(", page.source)


def test_every_picture_has_an_alternative_text(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path / "run")))
    images = [attrs for tag, attrs in page.elements if tag == "img"]
    assert len(images) == 3  # The input and two layers.
    assert all(attrs["alt"] for attrs in images)
    drawn = [attrs for _, attrs in page.elements if attrs.get("role") == "img"]
    assert len(drawn) == 2 + 1 + 1 + 4  # Curves, confusions, readout, and two charts for each layer.
    assert all(attrs["aria-label"] for attrs in drawn)
    captions = [tag for tag, _ in page.elements].count("figcaption")
    assert captions == [tag for tag, _ in page.elements].count("figure") == 4


EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"


def test_everything_from_files_is_escaped(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", holdout=True)

    def poison(value: Any) -> Any:
        if isinstance(value, dict):
            return {key + EVIL if key == "torch" else key: poison(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [poison(inner) for inner in value]
        return value + EVIL if isinstance(value, str) else value

    for name in ("config.json", "summary.json"):
        path = run / name
        path.write_text(json.dumps(poison(json.loads(path.read_text()))))
    edit_json(run / "config.json", lambda config: config["config"].update({EVIL: EVIL}))
    edit_json(run / "config.json", lambda config: config.update(commit=EVIL))
    edit_epochs(run / "metrics.jsonl", lambda _, epoch: epoch.update(poison(epoch)))
    with np.load(run / "evaluation.npz") as archive:
        names = {key: np.array([f"{text}{EVIL}" for text in archive[key]]) for key in ("classes", "layers")}
    edit_arrays(run / "evaluation.npz", **names)
    poisoned = tmp_path / "run<img src=x onerror=alert(2)>"
    run.rename(poisoned)

    page = Page(write_report(poisoned))
    assert not {"script"} & {tag for tag, _ in page.elements}
    assert not page.attributes("onerror")
    assert all(value.startswith("data:image/png") for value in page.attributes("src"))
    assert "<script" not in page.source
    assert "<img src=x" not in page.source
    assert page.source.count("&lt;script&gt;") > 50


@pytest.mark.parametrize("epochs", [1, 2, 9])
def test_unfinished_run_says_so(tmp_path: Path, epochs: int) -> None:
    run = make_run(tmp_path / "run", finished=False, epochs=epochs)
    edit_epochs(run / "metrics.jsonl", lambda _, epoch: epoch.update(epochs=40))
    page = Page(write_report(run))
    assert f"Unfinished. This run has ended {epochs} of 40 epochs" in page.text
    assert f"rheobase resume {run}" in page.text
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "recipe": None}))
    assert f"continue with rb.fit(..., run='{run}', resume=True)" in Page(write_report(run)).text
    assert "best validation accuracy so far" in page.text
    assert "Confusions" not in page.text
    assert "1 LIF(256) 5.0%" in page.text


def test_run_before_its_first_epoch(tmp_path: Path) -> None:
    run = make_run(tmp_path / "my run", finished=False)
    for metrics_begun in (True, False):
        (run / "metrics.jsonl").write_text("") if metrics_begun else (run / "metrics.jsonl").unlink()
        page = Page(write_report(run))
        assert "No epoch has ended yet" in page.text
        assert f"rheobase resume '{run}'" in page.text


def test_several_outputs_for_a_class(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", epochs=1)
    edit_arrays(run / "evaluation.npz", output=np.random.default_rng(0).normal(size=(100, 30)))
    page = Page(write_report(run))
    assert "30 outputs for 10 classes" in page.text
    assert "Membrane of the 30 outputs" in page.source
    assert "other classes" not in page.text  # which output stands for which class only the decoder knows


def test_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", finished=False, epochs=9)
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert len(read_run(run).epochs) == 8
    write_report(run)


def test_repeated_epoch_counts_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", epochs=4)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    again = json.dumps(json.loads(lines[2]) | {"loss": 7.5}) + "\n"
    (run / "metrics.jsonl").write_text("".join([*lines, again]))
    epochs = read_run(run).epochs
    assert [epoch.epoch for epoch in epochs] == [1, 2, 3, 4]
    assert epochs[2].loss == 7.5


def test_values_that_are_not_finite_are_gaps(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", epochs=6)

    def spoil(index: int, epoch: dict[str, Any]) -> None:
        epoch["loss"] = [math.nan, 1.0, math.inf, 2.0, -math.inf, None][index]
        epoch["validation_accuracy"] = None
        epoch["layers"][0]["dead"] = math.nan

    edit_epochs(run / "metrics.jsonl", spoil)
    edit_json(run / "summary.json", lambda s: s.update(test_loss=math.nan, test_accuracy=math.nan, seconds=math.inf))
    with np.load(run / "evaluation.npz") as archive:
        output, rates = archive["output"], archive["rates_0"]
    output[3:5], rates[0] = np.nan, np.inf
    edit_arrays(run / "evaluation.npz", output=output, rates_0=rates)
    page = Page(write_report(run))
    assert "nan" not in "".join(page.attributes("d") + page.attributes("style")).lower()
    assert "inf" not in "".join(page.attributes("d") + page.attributes("style")).lower()
    assert "n/a test accuracy" in page.text


@pytest.mark.parametrize("huge", [1e308, -1e308, 1e-320, 0.0])
def test_extreme_losses(tmp_path: Path, huge: float) -> None:
    run = make_run(tmp_path / "run", epochs=4)
    edit_epochs(run / "metrics.jsonl", lambda index, epoch: epoch.update(loss=huge if index % 2 else 1e99))
    Page(write_report(run))


@pytest.mark.parametrize(
    "options",
    [
        {"neurons": ()},
        {"neurons": (3,), "steps": 1, "inputs": 1, "classes": ("only",)},
        {"neurons": (40,), "classes": tuple(f"class {k}" for k in range(60))},
        {"analog": True, "wrong": True, "dt": math.nan},
        {"neurons": (2000,), "steps": 1200, "dt": 0.005},
    ],
    ids=["no-spiking-layer", "smallest", "60-classes", "analog-input", "large"],
)
def test_other_networks(tmp_path: Path, options: dict[str, Any]) -> None:
    run = make_run(tmp_path / "run", epochs=2, **options)
    page = Page(write_report(run))
    unit = "time step" if math.isnan(options.get("dt", 0.01)) else "time (s)" if "large" in str(options) else "time ("
    assert unit in page.text
    assert ("negative in red" in page.text) == ("analog" in options)
    assert ("a “three” taken for “eight”" in page.text) == ("wrong" in options)
    assert len(page.source) < 1_000_000


@pytest.mark.parametrize("value", [3e38, -3e38, 1e-44, np.nan, 0.0])
def test_extreme_arrays(tmp_path: Path, value: float) -> None:
    run = make_run(tmp_path / "run", epochs=1, neurons=(300,), inputs=300, steps=20)
    with np.load(run / "evaluation.npz") as archive:
        shapes = {key: archive[key].shape for key in ("raster_input", "output")}
    edit_arrays(run / "evaluation.npz", **{key: np.full(shape, value, np.float32) for key, shape in shapes.items()})
    page = Page(write_report(run))
    assert not re.search("nan|inf", "".join(page.attributes("d") + page.attributes("style")))


def test_silent_layer(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", epochs=2)
    nothing = {"rates_0": np.zeros(256, np.float32), "raster_0": np.zeros((100, 256), np.uint8)}
    edit_arrays(run / "evaluation.npz", **nothing)
    assert "dead (100.0%)" in Page(write_report(run)).text


def damage_text(name: str, text: str) -> Callable[[Path], object]:
    return lambda run: (run / name).write_text(text)


def set_in(name: str, **values: Any) -> Callable[[Path], object]:
    return lambda run: edit_json(run / name, lambda content: content.update(values))


def set_array(**arrays: Any) -> Callable[[Path], object]:
    return lambda run: edit_arrays(run / "evaluation.npz", **arrays)


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (lambda run: (run / "config.json").unlink(), "not a run folder"),
        (lambda run: (run / "metrics.jsonl").unlink(), "metrics.jsonl: cannot be read"),
        (lambda run: (run / "evaluation.npz").unlink(), "evaluation.npz: missing"),
        (lambda run: (run / "config.json").write_bytes(b"\xff\xfe"), "config.json: damaged, expected UTF-8"),
        (damage_text("config.json", "[]"), "config.json: expected a JSON object, got list"),
        (damage_text("config.json", "[" * 100_000), "config.json: damaged, expected a JSON object"),
        (damage_text("config.json", "{}"), "config.json: lacks the field 'command'"),
        (damage_text("summary.json", "{"), "summary.json: damaged"),
        (damage_text("metrics.jsonl", '{"epoch": 1}\n'), "metrics.jsonl, line 1: lacks the field 'epochs'"),
        (damage_text("metrics.jsonl", "\n"), "metrics.jsonl, line 1: damaged"),
        (damage_text("metrics.jsonl", '{"epoch"'), "metrics.jsonl: the last line is cut off"),
        (set_in("config.json", seed=True), "'seed' should be a whole number of at least 0, got True"),
        (set_in("config.json", seed=-1), "'seed' should be a whole number of at least 0, got -1"),
        (set_in("config.json", layers=[1]), "'layers' should be a list of text"),
        (set_in("config.json", versions=None), "'versions' should be an object"),
        (set_in("config.json", commit=3), "'commit' should be text"),
        (set_in("summary.json", test_accuracy=90), "'test_accuracy' should be a fraction between 0 and 1, got 90"),
        (set_in("summary.json", test_accuracy="0.9"), "'test_accuracy' should be a number"),
        (set_in("summary.json", samples={"train": 1}), "summary.json, samples: lacks the field 'validation'"),
        (set_in("summary.json", layers=[3]), r"summary.json, layers\[0\]: expected a JSON object, got int"),
        (set_in("summary.json", also_tested=[]), "'also_tested' should be an object"),
        (lambda run: (run / "evaluation.npz").write_bytes(b"PK\x03\x04"), "evaluation.npz: damaged"),
        (lambda run: (run / "evaluation.npz").write_bytes(b""), "evaluation.npz: damaged"),
        (set_array(output=None), "evaluation.npz: lacks the array 'output'"),
        (set_array(raster_1=None), "evaluation.npz: lacks the array 'raster_1'"),
        (set_array(confusion=np.zeros((3, 3), int)), r"'confusion' should have the shape \(10, 10\)"),
        (set_array(confusion=np.full((10, 10), -1)), "'confusion' should hold counts, got -1"),
        (set_array(confusion=np.full((10, 10), 2**62)), "'confusion' should hold counts, got 4611686018427387904 to"),
        (set_array(confusion=np.ones((10, 10))), "'confusion' should .* hold whole numbers, got .* float64"),
        (set_array(classes=np.array([object()])), "evaluation.npz: damaged, .* allow_pickle"),
        (set_array(sample_label=np.array(10)), "'sample_label' should be a class from 0 to 9, got 10"),
        (set_array(raster_0=np.zeros((99, 256), np.uint8)), r"'raster_0' should have the shape \(100, any\)"),
        (set_array(rates_0=np.zeros(255, np.float32)), r"'rates_0' should have the shape \(256,\)"),
        (set_array(rates_0=np.full(256, 3.0)), "'rates_0' should hold fractions of steps, 0 to 1, got 3 to 3"),
        (set_array(raster_input=np.zeros((100, 0), np.float32)), "'raster_input' should have the shape"),
        (set_array(dt=np.array([0.1, 0.2])), r"'dt' should have the shape \(\)"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Callable[[Path], object], names: str) -> None:
    run = make_run(tmp_path / "run", epochs=2)
    page = write_report(run)
    page.write_text("the page from before")
    damage(run)
    with pytest.raises(RunError, match=names):
        write_report(run)
    assert page.read_text() == "the page from before"
    assert not list(run.glob(".report*"))


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a small run, to be damaged."""
    run = make_run(tmp_path_factory.mktemp("small") / "run", epochs=2, neurons=(5,), steps=6, inputs=4, holdout=True)
    return {path.name: path.read_bytes() for path in run.iterdir()}


@given(data=st.data())
def test_any_damage_is_a_run_error_or_a_page(
    tmp_path_factory: pytest.TempPathFactory, small_run: dict[str, bytes], data: st.DataObject
) -> None:
    run = tmp_path_factory.mktemp("damaged")
    for name, content in small_run.items():
        (run / name).write_bytes(content)
    name = data.draw(st.sampled_from(sorted(small_run)))
    content = bytearray(small_run[name])
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(0, 3))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (run / name).write_bytes(content)
    try:
        Page(write_report(run))
    except RunError as error:
        assert name in str(error) or "not a run folder" in str(error)  # noqa: PT017 - a page is right, too
    assert not list(run.glob(".report*"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data())
def test_any_value_is_a_run_error_or_a_page(
    tmp_path_factory: pytest.TempPathFactory, small_run: dict[str, bytes], data: st.DataObject
) -> None:
    run = tmp_path_factory.mktemp("odd")
    for name, content in small_run.items():
        (run / name).write_bytes(content)
    name = data.draw(st.sampled_from(["config.json", "metrics.jsonl", "summary.json"]))
    value = place = json.loads(small_run[name].split(b"\n")[0])
    key = data.draw(st.sampled_from(sorted(place)))
    while isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place)))
    place[key] = data.draw(JSON)
    (run / name).write_text(json.dumps(value) + "\n", encoding="utf-8")
    try:
        Page(write_report(run))
    except RunError as error:
        assert name in str(error)  # noqa: PT017 - a page is right, too


def test_half_a_character_can_be_written(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", epochs=1)
    edit_json(run / "config.json", lambda config: config.update(description="half \ud800 a character"))
    assert "half ? a character" in Page(write_report(run)).text


def test_failure_while_writing_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", epochs=1)
    page = write_report(run)
    before = page.read_bytes()
    edit_json(run / "config.json", lambda config: config.update(seed=1))

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_report(run)
    assert page.read_bytes() == before
    assert not list(run.glob(".report*"))


@given(values=st.lists(st.floats(), max_size=6), most=st.integers(1, 10))
def test_scales_hold_their_values_and_few_ticks(values: list[float], most: int) -> None:
    scale = Scale.covering(values)
    assert math.isfinite(scale.low) and scale.low < scale.high  # noqa: PT018
    ticks = scale.ticks(most)
    assert len(ticks) <= most + 1
    assert all(-1e-6 <= fraction <= 1 + 1e-6 for fraction, _ in ticks)
    assert all(-1e-9 <= scale.at(value) <= 1 + 1e-9 for value in values if abs(value) < 1e100)


def test_line_has_gaps_and_dots() -> None:
    x, y = Scale(0.0, 5.0), Scale(0.0, 1.0)
    drawing = line([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [0.0, 1.0, math.nan, 0.5, math.inf, 1.0], x, y, "c1")
    assert re.findall(r' d="([^"]*)"', drawing) == [
        "M0.0,1000.0L200.0,0.0",
        "M600.0,500.0h.5M1000.0,0.0h.5",
    ]


def test_bars_leave_out_empty_ones() -> None:
    drawing = bars([0.0, 1.0, 2.0], [0.0, 0.0], [0.5, 0.0], Scale(0.0, 2.0), Scale(0.0, 1.0), "c1")
    assert ' d="M0.0,1000.0v-500.0h500.0v500.0z"' in drawing


@given(rows=st.integers(1, 30), columns=st.integers(1, 30), most=st.integers(1, 12))
def test_pooling_loses_no_spike(rows: int, columns: int, most: int) -> None:
    image = np.random.default_rng(rows * 31 + columns).integers(0, 2, (rows, columns)).astype(np.uint8)
    small = pooled(image, most, most)
    assert small.shape == (min(rows, most), min(columns, most))
    assert small.sum() == image.sum()


def test_image_is_a_png_that_shows_sign_and_size() -> None:
    content = base64.b64decode(raster_png(np.array([[0.0, 1.0], [-0.5, 2.0]], np.float32)).partition(",")[2])
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        name, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        assert struct.unpack(">I", content[at + 8 + length : at + 12 + length])[0] == zlib.crc32(name + body)
        chunks[name] = body
        at += 12 + length
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (2, 2, 8, 3, 0, 0, 0)
    (zero, nothing, small), (one, negative, large) = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(
        2, 3
    )
    assert (zero, one, nothing) == (0, 0, 0)
    opacity = chunks[b"tRNS"]
    assert len(opacity) == 256
    assert opacity[nothing] == 0 < opacity[negative] < opacity[small] < opacity[large] == 255
    assert negative > 128 > large


def test_confusions_are_named_in_order(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", epochs=1, classes=("a", "b", "c"))
    edit_arrays(run / "evaluation.npz", confusion=np.array([[8, 2, 0], [0, 9, 1], [0, 5, 5]]))
    evaluation = read_run(run).evaluation
    assert evaluation is not None
    assert isinstance(evaluation.predictions, ClassPredictions)
    assert confusions_in_words(evaluation.predictions) == [
        "“c” was taken for “b” 5 times (50.0% of its samples).",
        "“a” was taken for “b” 2 times (20.0% of its samples).",
        "“b” was taken for “c” once (10.0% of its samples).",
        "Hardest class: “c”, 50.0% of it recognized.",
    ]


def test_no_confusion_is_said(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", epochs=1, classes=("a", "b"))
    edit_arrays(run / "evaluation.npz", confusion=np.array([[3, 0], [0, 0]]))
    assert "No sample was misclassified." in Page(write_report(run)).text


@given(correct=st.integers(0, 500), more=st.integers(0, 500))
def test_wilson_ends_solve_the_score_equation(correct: int, more: int) -> None:
    samples = correct + more
    interval = wilson(correct / samples, samples) if samples else None
    if interval is None:
        assert samples == 0
        return
    accuracy = correct / samples
    # By definition, the ends are the rates p at which (accuracy - p)^2 = z^2 p (1 - p) / n.
    for end in interval:
        assert (accuracy - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / samples, abs=1e-9)
    assert 0 <= interval[0] <= accuracy + 1e-12
    assert accuracy - 1e-12 <= interval[1] <= 1


def test_numbers_are_readable() -> None:
    assert [duration(value) for value in (0.0, 59.9, 59.96, 119.7, 3599.8)] == [
        "0.0 s", "59.9 s", "1 min 0 s", "2 min 0 s", "1 h 0 min",
    ]  # fmt: skip
    assert [amount(value) for value in (0.0, 3.14159, 99.9, 100.4, 999999.0, 1e6, 3e12)] == [
        "0", "3.14", "99.9", "100", "999,999", "1.0 million", "3e+12",
    ]  # fmt: skip


def test_explained_is_the_variance_about_the_mean_of_each_output() -> None:
    targets = np.array([[0.0, 100.0], [2.0, 102.0]])
    always_the_means = np.array([[1.0, 101.0], [1.0, 101.0]])
    assert in_words(targets, always_the_means) == (
        "Root mean squared error 1; 0.0% of the variance of targets is explained."
    )
    padded = np.array([[[0.0], [2.0]], [[4.0], [np.nan]]])  # (samples, steps, outputs)
    assert in_words(padded, np.array([[[0.0], [2.0]], [[2.0], [0.0]]])).endswith(
        "50.0% of the variance of targets is explained."
    )
    assert in_words(np.array([3.0, 3.0]), np.array([3.0, 4.0])) == "Root mean squared error 0.7071."


@pytest.mark.parametrize("epochs", range(2, 41))
def test_ticks_of_epochs_are_whole(epochs: int) -> None:
    ticks = [float(text) for _, text in Scale(1.0, float(epochs), whole=True).ticks()]
    assert ticks == [round(tick) for tick in ticks]
    assert len(ticks) <= 6
