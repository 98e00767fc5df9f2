"""The figures of a report: which data each shows, and the sentences that say how to read it.

A figure that leaves the reader guessing is decoration. Each one here has a caption of a sentence or two and an alternative text
with the numbers that matter, and shows what must be compared on the same axis: training with validation, all layers of one
sample in one time, all layers' firing rates on one scale.
"""

import math
from collections.abc import Sequence
from html import escape

import numpy as np
from jaxtyping import Float, Shaped

from rheobase.report.charts import SIZE, Scale, Series, bars, chart, figure, legend, line, pooled, raster_png, svg
from rheobase.report.record import ClassPredictions, Epoch, Evaluation, Run
from rheobase.report.targets import sample_traces

RASTER_ROWS, RASTER_COLUMNS = 140, 1000  # Pixels of a spike raster; more would not be seen.
_NUMBERED_CLASSES = 24  # A confusion matrix of more classes shows only colours.
_NAMED_TRACES = 12


def percent(value: float, digits: int = 1) -> str:
    """A fraction in per cent, or n/a for NaN.

    Example:
        >>> percent(0.123), percent(float("nan"))
        ('12.3%', 'n/a')
    """
    return "n/a" if math.isnan(value) else f"{100 * value:.{digits}f}%"


def learning_curves(run: Run) -> str:
    """Loss, and accuracy if there are classes, over epochs, for training and validation, with the best epoch marked."""
    epochs = run.epochs
    best = best_epoch(run)
    xs, x = _epoch_axis(run)
    mark = None if best is None else (float(best.epoch), f"best: {best.epoch}")
    losses = (
        Series("training", [epoch.loss for epoch in epochs], "c1"),
        Series("validation", [epoch.validation_loss for epoch in epochs], "c2"),
    )
    accuracies = (
        Series("training", [epoch.train_accuracy for epoch in epochs], "c1"),
        Series("validation", [epoch.validation_accuracy for epoch in epochs], "c2"),
    )
    shown = [value for series in losses for value in series.values]
    loss_scale = Scale.covering(shown, low=0.0 if min(shown, default=0.0) >= 0 else None)
    last = epochs[-1]
    body = _curves(
        "Loss",
        losses,
        xs,
        x,
        loss_scale,
        mark,
        f"The last losses: training {last.loss:.3g}, validation {last.validation_loss:.3g}.",
    )
    if not all(math.isnan(value) for series in accuracies for value in series.values):  # or without classes
        body += _curves(
        "Accuracy", accuracies, xs, x, Scale(0.0, 1.0, percent=True), mark,
        f"The last: training {percent(last.train_accuracy)}, validation {percent(last.validation_accuracy)}.",
    )  # fmt: skip
    caption = (
        "Training and validation after every epoch. A validation loss that rises while the training loss still falls "
        "is over-fitting; the dashed line marks the epoch with the best validation result, whose weights are kept."
    )
    return figure(f'<div class="pair">{body}</div>', caption)


def _epoch_axis(run: Run) -> tuple[list[float], Scale]:
    xs = [float(epoch.epoch) for epoch in run.epochs]
    # A single epoch stands in the middle; otherwise the curves fill the chart.
    return xs, Scale(xs[0], xs[-1], whole=True) if len(xs) > 1 else Scale(xs[0] - 1, xs[0] + 1, whole=True)


def best_epoch(run: Run) -> Epoch | None:
    """The epoch that the summary names; in an unfinished run, the one with the highest validation accuracy so far, or without
    classes the one with the lowest validation loss."""
    if run.summary is not None:
        return next((epoch for epoch in run.epochs if epoch.epoch == run.summary.best_epoch), None)
    known = [epoch for epoch in run.epochs if not math.isnan(epoch.validation_accuracy)]
    if known:
        return max(known, key=lambda epoch: epoch.validation_accuracy)
    known = [epoch for epoch in run.epochs if not math.isnan(epoch.validation_loss)]
    return min(known, key=lambda epoch: epoch.validation_loss, default=None)


def _curves(
    title: str,
    lines: Sequence[Series],
    xs: Sequence[float],
    x: Scale,
    y: Scale,
    mark: tuple[float, str] | None,
    alt: str,
) -> str:
    drawing = "".join(line(xs, series.values, x, y, series.style) for series in lines)
    key = legend((series.style, series.name) for series in lines)
    return chart(title, drawing, x, y, x_name="epoch", alt=f"{title} over {len(xs)} epochs. {alt}", key=key, mark=mark)


def confusion_matrix(predictions: ClassPredictions) -> str:
    """Counts of true against predicted classes, and the most frequent confusions in words."""
    confusion, classes = predictions.confusion, predictions.classes
    size = len(classes)
    cell = SIZE / size
    totals = confusion.sum(axis=1)
    drawing = []
    for row, column in np.argwhere(confusion > 0).tolist():
        count, share = int(confusion[row, column]), float(confusion[row, column] / totals[row])
        x, y = column * cell, row * cell
        tip = f"{classes[row]} as {classes[column]}: {count} of {totals[row]}"
        drawing.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell:.1f}" height="{cell:.1f}" style="--share:{100 * share:.0f}%">'
            + (f"<title>{escape(tip)}</title></rect>" if size <= _NUMBERED_CLASSES else "</rect>")
        )
        if size <= _NUMBERED_CLASSES:
            strong = ' class="strong"' if share > 0.5 else ""
            place = f'x="{x + cell / 2:.1f}" y="{y + cell / 2:.1f}" font-size="{min(0.36 * cell, 48):.1f}"'
            drawing.append(f"<text {place}{strong}>{count}</text>")
    grid = "".join(f"M0,{k * cell:.1f}h{SIZE}M{k * cell:.1f},0v{SIZE}" for k in range(size + 1))
    drawing.append(f'<path class="grid" d="{grid}"/>')
    labelled = range(0, size, math.ceil(size / 30))
    middle = [(100 * (k + 0.5) / size, escape(classes[k])) for k in labelled]
    texts = "".join(f'<i class="row" style="top:{at:.2f}%">{name}</i>' for at, name in middle)
    texts += "".join(f'<i class="column" style="left:{at:.2f}%">{name}</i>' for at, name in middle)
    findings = confusions_in_words(predictions)
    alt = escape(f"Confusion matrix of {size} classes. {' '.join(findings)}")
    body = (
        f'<div class="matrix"><div class="area" role="img" aria-label="{alt}">{svg("".join(drawing))}{texts}</div>'
        f'<div class="axis">predicted class</div></div>'
        f'<ul class="findings">{"".join(f"<li>{escape(finding)}</li>" for finding in findings)}</ul>'
    )
    numbers = f"numbers are {predictions.counted}s, " if size <= _NUMBERED_CLASSES else ""
    caption = (
        "Each row is a true class, each column the network's answer, so the diagonal is correct; "
        f"{numbers}the stronger the colour, the larger the share of the row."
    )
    return figure(body, caption, "confusion")


def confusions_in_words(predictions: ClassPredictions, most: int = 3) -> list[str]:
    """Sentences on the most frequent confusions and on the class with the lowest recall."""
    confusion, classes = predictions.confusion, predictions.classes
    totals = confusion.sum(axis=1)
    wrong = confusion * (1 - np.eye(len(classes), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    findings = []
    for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if count := int(wrong[row, column]):
            times = "once" if count == 1 else f"{count} times"
            share = percent(count / totals[row])
            findings.append(
                f"“{classes[row]}” was taken for “{classes[column]}” {times} ({share} of its {predictions.counted}s)."
            )
    if not findings:
        return [f"No {predictions.counted} was misclassified."]
    recall = np.diagonal(confusion) / np.maximum(totals, 1)
    hardest = int(np.argmin(np.where(totals > 0, recall, 2.0)))
    findings.append(f"Hardest class: “{classes[hardest]}”, {percent(float(recall[hardest]))} of it recognized.")
    return findings


def raster(evaluation: Evaluation, split: str) -> str:
    """One sample of the data set `split` on its way through the network: input, spikes of every layer, output."""
    time = _time_scale(evaluation)
    lanes = [_lane("input", _channels(evaluation.raster_input), evaluation.raster_input)]
    for name, spikes in zip(evaluation.layers, evaluation.rasters, strict=True):
        rate = f"{spikes.shape[1]:,} neurons, {percent(float(spikes.mean()))} of steps with a spike"
        rate += ", expected" if spikes.dtype.kind == "f" else ""
        lanes.append(_lane(name, rate, spikes))
    ticks = "".join(f'<i class="x" style="left:{100 * at:.2f}%">{text}</i>' for at, text in time[0].ticks(8))
    predictions = evaluation.predictions
    verdict, last = "", "the output, with its targets"
    if isinstance(predictions, ClassPredictions):
        last = "the output of each class"
    if (
        isinstance(predictions, ClassPredictions)
        and predictions.label is not None
        and predictions.prediction is not None
    ):
        true, said = predictions.classes[predictions.label], predictions.classes[predictions.prediction]
        verdict = f", correctly recognized as “{true}”" if true == said else f", a “{true}” taken for “{said}”"
    body = f'<div class="raster">{"".join(lanes)}{_traces(evaluation, ticks)}<div class="axis">{time[1]}</div></div>'
    pooled_rows = any(spikes.shape[1] > RASTER_ROWS for spikes in (evaluation.raster_input, *evaluation.rasters))
    shade = (
        " Neighbouring neurons share a row where there are many: the stronger, the more spikes." if pooled_rows else ""
    )
    caption = (
        f"One {split} sample{verdict}. Time runs to the right in all panels; each row is a neuron, each mark a spike, "
        f"and the strip on the right adds up every row.{shade} At the bottom, {last}."
    )
    return figure(body, caption)


def _time_scale(evaluation: Evaluation) -> tuple[Scale, str]:
    steps, dt = len(evaluation.output), evaluation.dt
    if math.isnan(dt):
        return Scale(0.0, float(steps)), "time step"
    return (Scale(0.0, steps * dt), "time (s)") if steps * dt >= 2 else (Scale(0.0, 1e3 * steps * dt), "time (ms)")


def _channels(values: Float[np.ndarray, "T N"]) -> str:
    counts = bool((values == np.rint(values)).all()) and bool((values >= 0).all())
    total = (
        f", {values.sum(dtype=np.float64):,.0f} spikes"
        if counts
        else ", analog" + (" (negative in red)" if (values < 0).any() else "")
    )
    return f"{values.shape[1]:,} channels{total}"


def _lane(name: str, note: str, values: Shaped[np.ndarray, "T N"]) -> str:
    """A panel of the raster: one row per neuron (or group of neighbours), and a strip with each row's sum."""
    values = np.nan_to_num(values)
    total = pooled(values.T, RASTER_ROWS, RASTER_COLUMNS)
    size = pooled(np.abs(values).T, RASTER_ROWS, RASTER_COLUMNS) if (values < 0).any() else total
    image = raster_png(np.where(total < 0, -size, size))
    sums = size.sum(axis=1)
    rows = len(sums)
    x = Scale(0.0, float(max(sums.max(), 1e-30)))
    drawing = "".join(
        f"M0,{SIZE * k / rows:.1f}h{SIZE * x.at(float(total)):.0f}v{SIZE / rows:.1f}H0z"
        for k, total in enumerate(sums)
        if total
    )
    smooth = "" if values.shape[0] <= 400 else " smooth"
    alt = f"Spike raster of {name}: {note}."
    return (
        f'<div class="name">{escape(name)}<small>{escape(note)}</small></div>'
        f'<div class="lane" style="height:{min(max(rows, 56), RASTER_ROWS)}px">'
        f'<img class="spikes{smooth}" src="{image}" alt="{escape(alt)}">'
        f'<div class="strip">{svg(f"""<path class="bar c1" d="{drawing}"/>""")}</div></div>'
    )


def _traces(evaluation: Evaluation, ticks: str) -> str:
    """The output over time, in the lowest panel."""
    output, predictions = evaluation.output.astype(np.float64), evaluation.predictions
    x = Scale(0.0, float(len(output)))
    times = (np.arange(len(output)) + 0.5).tolist()
    if isinstance(predictions, ClassPredictions):
        drawing, names, key, alt = _class_traces(predictions, output, x, times)
    else:
        series, key = sample_traces(predictions, output)
        y = Scale.covering(value for one in series for value in one.values)
        drawing, names = "".join(line(times, one.values, x, y, one.style) for one in series), ""
        alt = f"{output.shape[1]} outputs over time, with their targets."
    return (
        f'<div class="name">output<small>over time</small>{key}</div>'
        f'<div class="lane traces"><div class="area" role="img" aria-label="{escape(alt)}">{svg(drawing)}{ticks}</div>'
        f"{names}</div>"
    )


def _class_traces(
    predictions: ClassPredictions, output: Float[np.ndarray, "T outputs"], x: Scale, times: list[float]
) -> tuple[str, str, str, str]:
    """The outputs, named at the right end; the predicted and the true class stand out. Drawing, names, key, and in words."""
    classes = predictions.classes
    outputs = range(output.shape[1])
    one_each = len(outputs) == len(
        classes
    )  # otherwise a decoder combines several outputs into a class, in a way not known here
    y = Scale.covering(output.ravel().tolist())

    def style(k: int) -> str:
        if not one_each:
            return "faint"
        return "c1" if k == predictions.prediction else "c2" if k == predictions.label else "faint"

    # The two that matter are drawn last, on top.
    order = sorted(outputs, key=lambda k: (k == predictions.prediction, k == predictions.label))
    drawing = "".join(line(times, output[:, k].tolist(), x, y, style(k)) for k in order)
    last = np.nan_to_num(output[-1], nan=y.low)
    heights = np.array([y.at(float(value)) for value in last])
    matter = {predictions.prediction, predictions.label}
    named = sorted(sorted(outputs, key=lambda k: (k not in matter, -heights[k]))[:_NAMED_TRACES]) if one_each else []
    names = "".join(
        f'<i class="trace {style(k)}" style="bottom:{100 * at:.2f}%">{escape(classes[k])}</i>'
        for k, at in zip(named, _apart([float(heights[k]) for k in named], 1 / _NAMED_TRACES), strict=True)
    )
    said = "" if predictions.prediction is None else f"; predicted: {classes[predictions.prediction]}"
    if not one_each:
        key = legend([("faint", f"{len(outputs)} outputs for {len(classes)} classes")])
    elif predictions.label is None:
        key = legend([("faint", "classes")])
    elif predictions.prediction == predictions.label:
        key = legend([("c1", "predicted and true"), ("faint", "other classes")])
    else:
        key = legend([("c1", "predicted"), ("c2", "true"), ("faint", "other classes")])
    return (
        drawing,
        names,
        key,
        f"Membrane of the {len(outputs)} outputs over time{said}.",
    )


def _apart(heights: Sequence[float], least: float) -> list[float]:
    """Positions for labels near their heights, in the same order, at least `least` apart, within 0 and 1."""
    order = sorted(range(len(heights)), key=lambda k: heights[k])
    places = [0.0] * len(heights)
    lowest = 0.0
    for k in order:
        places[k] = max(heights[k], lowest)
        lowest = places[k] + least
    highest = 1.0
    for k in reversed(order):
        places[k] = min(places[k], highest)
        highest = places[k] - least
    return places


def layers(run: Run) -> str:
    """For each layer: the distribution of its neurons' firing rates, and its dead and saturated neurons over epochs."""
    evaluation = run.evaluation
    names = evaluation.layers if evaluation else tuple(layer.name for layer in run.epochs[-1].layers)
    health = {name: _health_lines(run, name) for name in names}
    worst = Scale.covering([value for lines in health.values() for series in lines for value in series.values], low=0.0)
    worst = Scale(0.0, max(worst.high, 0.1), percent=True)
    rates = evaluation.rates if evaluation else ()
    fastest = Scale.covering([float(np.nanmax(values, initial=0.0)) for values in rates], low=0.0, percent=True)
    panels = []
    for k, name in enumerate(names):
        charts = _histogram(rates[k], fastest) if rates else ""
        if len(run.epochs) > 0:
            charts += _health(run, name, health[name], worst)
        panels.append(f'<h3>{escape(name)}</h3><div class="pair">{charts}</div>')
    caption = (
        "Dead: no spike over the whole validation set. Silent: no spike in a sample, averaged over the samples. "
        "Saturated: a spike in at least 90% of all steps."
    )
    if rates:
        caption = (
            "Left: how often the neurons of the layer fire on the evaluated set; all layers share the axis. A tall bar at "
            "zero shows a layer that wastes neurons. Right: dead, silent and saturated neurons, on the validation set. "
            + caption
        )
    return figure("".join(panels), caption)


def _health_lines(run: Run, name: str) -> tuple[Series, Series, Series]:
    found = [next((layer for layer in epoch.layers if layer.name == name), None) for epoch in run.epochs]
    return (
        Series("dead", [layer.dead if layer else math.nan for layer in found], "c2"),
        Series("silent in a sample", [layer.silent if layer else math.nan for layer in found], "c1"),
        Series("saturated", [layer.saturated if layer else math.nan for layer in found], "c3 dashed"),
    )


def _health(run: Run, name: str, lines: Sequence[Series], y: Scale) -> str:
    xs, x = _epoch_axis(run)
    ends = ", ".join(f"{series.name} {percent(series.values[-1])}" for series in lines)
    drawing = "".join(line(xs, series.values, x, y, series.style) for series in lines)
    key = legend((series.style, series.name) for series in lines)
    return chart(
        "Dead, silent and saturated neurons",
        drawing,
        x,
        y,
        x_name="epoch",
        alt=f"Layer {name} over epochs; at the end: {ends}.",
        key=key,
    )


def _histogram(rates: Float[np.ndarray, " N"], x: Scale, bins: int = 32) -> str:
    rates = rates[np.isfinite(rates)]
    edges = np.linspace(x.low, x.high, bins + 1)
    shares = np.histogram(rates, edges)[0] / max(len(rates), 1)
    dead = float(np.mean(rates == 0)) if len(rates) else 0.0
    floor = np.zeros(bins)
    floor[0] = dead  # Neurons that never fire are in the first bar, in their own colour.
    y = Scale.covering([0.0, float(shares.max())], low=0.0, percent=True)
    drawing = bars(edges.tolist(), [0.0] * bins, floor.tolist(), x, y, "c2") + bars(
        edges.tolist(), floor.tolist(), shares.tolist(), x, y, "c1"
    )
    middle = float(np.median(rates)) if len(rates) else math.nan
    alt = f"Histogram of firing rates: median {percent(middle)} of steps; {percent(dead)} of the neurons are dead."
    key = legend([("c1 block", "firing"), ("c2 block", f"dead ({percent(dead)})")])
    return chart("Share of neurons", drawing, x, y, x_name="firing rate (steps with a spike)", alt=alt, key=key)
