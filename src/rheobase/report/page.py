"""The page: what a reader sees first, second and last.

First the result with its uncertainty, because an accuracy on 300 samples without an interval invites wrong conclusions; then
the evidence (curves, confusions, spikes, layers, cost); last, everything needed to run it again. The page refers to nothing
outside itself, runs no script, and tells the browser so: a stranger's folder can be viewed safely.
"""

import json
import math
import shlex
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from typing import Any

from rheobase.diagnosis import activity_findings
from rheobase.report import figures, targets
from rheobase.report.figures import percent
from rheobase.report.record import ClassPredictions, Evaluation, LayerHealth, Run, Summary

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render(run: Run) -> str:
    """The report of a run as one HTML document."""
    style = files("rheobase.report").joinpath("style.css").read_text(encoding="utf-8")
    evaluation = run.evaluation
    sections = [
        _section("Learning", figures.learning_curves(run) + _epoch_table(run) if run.epochs else _EMPTY),
        _answers(evaluation) if evaluation else "",
        _section("One sample, layer by layer", figures.raster(evaluation, run.summary.split if run.summary else "test"))
        if evaluation
        else "",
        _section("Health of the layers", _warnings(run) + figures.layers(run)) if run.epochs else "",
        _section("Spikes and cost", _cost(run)) if run.epochs or run.summary else "",
        _section("Also measured", _measures(run.summary)) if run.summary and run.summary.measures else "",
        _section("How to reproduce", _reproduction(run)),
    ]
    title = escape(f"{run.setup.title} · {run.folder.name}")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"{_headline(run)}{''.join(sections)}"
        "</main>\n</body>\n</html>\n"
    )


_EMPTY = '<p class="note">No epoch has ended yet, so there is nothing to draw.</p>'


def wilson(accuracy: float, samples: int, z: float = 1.959964) -> tuple[float, float] | None:
    """The Wilson score interval of a success rate (Wilson 1927), at 95 % for the default `z`.

    Unlike the plain standard error, it stays within 0 and 1 and has a nonzero width even at 100 %.

    Args:
        accuracy: the observed rate, from 0 to 1.
        samples: the number of trials it was observed on.
        z: quantile of the normal distribution.

    Returns:
        Lower and upper end, or None if there is no rate or no sample.

    Example:
        >>> low, high = wilson(0.9, 300)
        >>> round(low, 3), round(high, 3)
        (0.861, 0.929)
    """
    if math.isnan(accuracy) or samples < 1:
        return None
    centre = accuracy + z * z / (2 * samples)
    spread = z * math.sqrt(accuracy * (1 - accuracy) / samples + z * z / (4 * samples * samples))
    whole = 1 + z * z / samples
    return max((centre - spread) / whole, 0.0), min((centre + spread) / whole, 1.0)


def amount(value: float) -> str:
    """A count, readable at any size; or n/a for NaN.

    Example:
        >>> amount(1234.5), amount(0.0567), amount(2.5e7), amount(float("nan"))
        ('1,234', '0.0567', '25.0 million', 'n/a')
    """
    if math.isnan(value):
        return "n/a"
    if abs(value) >= 1e9:
        return f"{value:.3g}"
    if abs(value) >= 1e6:
        return f"{value / 1e6:.1f} million"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """A time in customary units.

    Example:
        >>> duration(151.2), duration(7.25), duration(8000.0)
        ('2 min 31 s', '7.2 s', '2 h 13 min')
    """
    if math.isnan(seconds):
        return "n/a"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>\n"


def _answers(evaluation: Evaluation) -> str:
    """The predictions over the whole set."""
    if isinstance(evaluation.predictions, ClassPredictions):
        return _section("Confusions", figures.confusion_matrix(evaluation.predictions))
    drawn = targets.scatter(evaluation.predictions)
    return _section("Targets and predictions", drawn) if drawn else ""


def _headline(run: Run) -> str:
    setup, summary = run.setup, run.summary
    result, facts = _result(summary) if summary else _progress(run)
    facts.append(("parameters", f"{setup.parameters:,}"))
    stats = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return (
        f'<header>\n<p class="eyebrow">Rheobase run · {escape(run.folder.name)}</p>\n<h1>{escape(setup.title)}</h1>\n'
        f'<p class="lead">{escape(setup.description)}</p>\n{result}\n<dl class="facts">{stats}</dl>\n</header>\n'
    )


def _result(summary: Summary) -> tuple[str, list[tuple[str, str]]]:
    uncertainty = _uncertainty(summary.accuracy, summary.samples[summary.split])
    score, what = _score(summary.accuracy, summary.loss)
    text = f'<p class="result"><b>{score}</b> <span>{summary.split} {what}{uncertainty}</span></p>'
    for other in summary.others:
        text += (
            f'<p class="other"><b>{_score(other.accuracy, other.loss)[0]}</b> {escape(other.name)}'
            f"{_uncertainty(other.accuracy, other.samples)}.</p>"
        )
    validated, what = _score(summary.validation_accuracy, summary.validation_loss)
    facts = [
        ("training samples", f"{summary.samples['train']:,}"),
        ("validation samples", f"{summary.samples['validation']:,}"),
        ("epochs", f"{summary.epochs} (best: {summary.best_epoch})"),
        (f"validation {what}", validated),
        *([] if f"validation {what}" == f"{summary.split} loss" else [(f"{summary.split} loss", amount(summary.loss))]),
        ("training time", duration(summary.seconds)),
        ("samples per second", amount(summary.samples_per_second)),
        ("peak memory", f"{amount(summary.peak_memory_mib)} MiB"),
    ]
    return text, facts


def _score(accuracy: float, loss: float) -> tuple[str, str]:
    """The accuracy and its name; or the loss, without classes."""
    if math.isnan(accuracy) and not math.isnan(loss):
        return amount(loss), "loss"
    return percent(accuracy), "accuracy"


def _uncertainty(accuracy: float, samples: int) -> str:
    interval = wilson(accuracy, samples)
    if interval is None:
        return ""
    error = math.sqrt(accuracy * (1 - accuracy) / samples)
    return (
        f" on {samples:,} samples: standard error {percent(error)}, 95% interval (Wilson) "
        f"{percent(interval[0])} to {percent(interval[1])}"
    )


def _progress(run: Run) -> tuple[str, list[tuple[str, str]]]:
    best = figures.best_epoch(run)
    done = len(run.epochs)
    planned = f" of {run.epochs[-1].epochs}" if done else ""
    own = f"rb.fit(..., run={str(run.folder)!r}, resume=True)"
    resume = shlex.join(["rheobase", "resume", str(run.folder)]) if run.setup.recipe else own
    text = (
        f'<p class="note"><b>Unfinished.</b> This run has ended {done}{planned} epochs and has not been tested. '
        f"If it is no longer running, continue with <code>{escape(resume)}</code>.</p>"
    )
    if best is None:
        return text, []
    score, what = _score(best.validation_accuracy, best.validation_loss)
    text = (
        f'<p class="result"><b>{score}</b> <span>best validation {what} so far, in epoch '
        f"{best.epoch}; the test set has not been evaluated</span></p>{text}"
    )
    return text, [
        ("epochs", f"{done}{planned}"),
        ("training time", duration(sum(epoch.seconds for epoch in run.epochs))),
    ]


def table(head: Iterable[str], rows: Iterable[Iterable[str]], style: str = "") -> str:
    """A table that scrolls sideways if it is too wide. Cells are plain text; the first of a row is its heading."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = []
    for row in rows:
        first, *rest = row
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        body.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    header = f"<thead><tr>{top}</tr></thead>" if top else ""
    return f'<div class="scroll"><table class="{style}">{header}<tbody>{"".join(body)}</tbody></table></div>'


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def _epoch_table(run: Run) -> str:
    head = ("epoch", "loss", "accuracy", "validation loss", "validation accuracy", "learning rate", "time")
    rows = (
        (
            str(epoch.epoch),
            amount(epoch.loss),
            percent(epoch.train_accuracy),
            amount(epoch.validation_loss),
            percent(epoch.validation_accuracy),
            amount(epoch.learning_rate),
            duration(epoch.seconds),
        )
        for epoch in run.epochs
    )
    return _folded("Every epoch in numbers", table(head, rows, "numbers"))


def _warnings(run: Run) -> str:
    """What is wrong with the layers after the last epoch, in the words of the warnings in training."""
    found = [
        finding
        for layer in run.epochs[-1].layers
        for finding in activity_findings(layer.name, layer.dead, layer.saturated, layer.fires_once_in)
    ]
    doctor = shlex.join(["rheobase", "doctor", str(run.folder)]) if run.setup.recipe else "rb.doctor(network, batch)"
    return "".join(
        f'<p class="note"><b>{escape(finding.layer or "")}</b>: {escape(finding.what)}. Remedy: '
        f"<code>{escape(finding.remedy)}</code>; <code>{escape(doctor)}</code> looks closer.</p>"
        for finding in found
    )


def _cost(run: Run) -> str:
    dt = run.evaluation.dt if run.evaluation else math.nan
    summary = run.summary
    if summary is None:
        rows = (_activity(layer, dt) for layer in run.epochs[-1].layers)
        note = "On the validation set, in the last epoch. Spikes and operations are counted when the run is finished."
        return table(_activity_head(dt), rows, "numbers") + f'<p class="aside">{escape(note)}</p>'
    sources = [summary.input, *(layer.work for layer in summary.layers)]
    spikes = sum(source.spikes for source in sources if not source.analog)
    operations = sum(source.synaptic_operations for source in sources)

    def costs(spiked: float, operated: float) -> tuple[str, str, str]:
        return amount(spiked), amount(operated), percent(operated / operations if operations else math.nan)

    blank = [""] * (len(_activity_head(dt)) - 1)
    fed = summary.input
    rows = [("input, values" if fed.analog else "input", "", *blank, *costs(fed.spikes, fed.synaptic_operations))]
    for layer in summary.layers:
        name, *activity = _activity(layer.health, dt)
        rows.append((name, f"{layer.neurons:,}", *activity, *costs(layer.work.spikes, layer.work.synaptic_operations)))
    neurons = sum(layer.neurons for layer in summary.layers)
    rows.append(("total", f"{neurons:,}", *blank, *costs(spikes, operations)))
    head = ("layer", "neurons", *_activity_head(dt)[1:], "spikes per sample", "synaptic operations per sample", "share")
    text = (
        f"<p>A sample of the {summary.split} set causes <b>{amount(spikes)} spikes</b> (input "
        f"{'not ' if fed.analog else ''}included) and "
        f"<b>{amount(operations)} synaptic operations</b>. A synaptic operation is one spike that arrives at one synapse: "
        "every spike counts as often as its neuron has outgoing connections (its fan-out). It is what event-driven hardware "
        "computes; a silent layer costs nothing."
        f"{_OF_VALUES if fed.analog else ''}</p>"
    )
    return text + table(head, rows, "numbers total")


_OF_VALUES = (
    " The input holds values, not spikes: those that are not zero are counted, and each costs one multiplication "
    "per synapse."
)


def _activity_head(dt: float) -> tuple[str, ...]:
    return ("layer", "steps with a spike", *(("rate",) if dt > 0 else ()), "dead", "silent in a sample", "saturated")


def _activity(layer: LayerHealth, dt: float) -> tuple[str, ...]:
    hertz = (f"{amount(layer.rate / dt)} Hz",) if dt > 0 else ()
    return (
        layer.name,
        percent(layer.rate),
        *hertz,
        percent(layer.dead),
        percent(layer.silent),
        percent(layer.saturated),
    )


def _measures(summary: Summary) -> str:
    rows = ((name, amount(value)) for name, value in summary.measures.items())
    note = f"<p>Additional measures of the trained network by this recipe, on the {summary.split} set.</p>"
    return note + table(("measure", "value"), rows, "numbers")


def _reproduction(run: Run) -> str:
    setup = run.setup
    facts = [("seed", str(setup.seed)), *([("commit", setup.commit)] if setup.commit else [])]
    facts += [(name, version) for name, version in flattened(setup.versions)]
    facts += flattened(setup.machine)
    network = "".join(f"<li>{escape(layer)}</li>" for layer in setup.layers)
    return (
        f"<p>This command, with these versions on the same kind of machine:</p>"
        f"<pre><code>{escape(setup.command)}</code></pre>"
        f'<div class="pair"><div><h3>Seed, versions, machine</h3>{table((), facts)}</div>'
        f'<div><h3>Network</h3><ul class="network">{network}</ul></div></div>'
        + _folded("Full configuration", table(("setting", "value"), flattened(setup.config)))
    )


def flattened(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, value as JSON) pairs, in their order.

    Example:
        >>> flattened({"seed": 0, "data": {"steps": 100, "name": "speech"}})
        [('seed', '0'), ('data.steps', '100'), ('data.name', 'speech')]
    """
    pairs: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            pairs += flattened(value, f"{prefix}{name}.")
        else:
            pairs.append((prefix + name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return pairs
