"""What a report shows of a network with regression targets: how close its predictions are, over the set and in one sample."""

import numpy as np
from jaxtyping import Float

from rheobase.report.charts import Scale, Series, chart, figure, legend, line, points
from rheobase.report.record import ValuePredictions

_MOST_POINTS = 2_000
_MOST_TRACES = 4
"""The number of outputs of a sample drawn with their targets; more could not be told apart."""


def scatter(predictions: ValuePredictions) -> str:
    """Predictions over targets, with the line on which they would be right; nothing if their shapes differ."""
    if predictions.targets.shape != predictions.predictions.shape:
        return ""
    targets, found = (values.astype(np.float64) for values in (predictions.targets, predictions.predictions))
    known = np.isfinite(targets) & np.isfinite(found)
    if not known.any():
        return ""
    words = in_words(np.where(known, targets, np.nan), found)
    targets, found = targets[known], found[known]
    shown = np.arange(min(len(targets), _MOST_POINTS)) * len(targets) // min(len(targets), _MOST_POINTS)
    x = Scale.covering(targets.tolist())
    y = Scale.covering([*found.tolist(), x.low, x.high])
    ends = [x.low, x.high]
    drawing = points(targets[shown].tolist(), found[shown].tolist(), x, y, "c1") + line(ends, ends, x, y, "c2")
    samples = len(predictions.targets)
    body = chart("Prediction", drawing, x, y, x_name="target", alt=f"Predictions over targets. {words}")
    caption = f"Each dot is one target, of {samples:,} samples; on the line, predictions are right. {words}"
    return figure(body, caption)


def in_words(targets: Float[np.ndarray, "n *K"], found: Float[np.ndarray, "n *K"]) -> str:
    """How close predictions are, in a sentence. The variance is that around the mean of each output: on the last axis, if there
    are more axes than that of samples.

    Args:
        targets: the targets, at least one number, NaN where there is none.
        found: the predictions.

    Example:
        >>> in_words(np.array([0.0, 2.0]), np.array([0.5, 1.5]))
        'Root mean squared error 0.5; 75.0% of the variance of targets is explained.'
    """
    asked = np.ma.masked_invalid(targets)
    means = asked.mean(tuple(range(max(1, asked.ndim - 1))))
    squares, spread = float(((found - asked) ** 2).mean()), float(((asked - means) ** 2).mean())
    text = f"Root mean squared error {squares**0.5:.4g}"
    return (
        f"{text}; {100 * (1 - squares / spread):.1f}% of the variance of targets is explained."
        if spread
        else f"{text}."
    )


def sample_traces(predictions: ValuePredictions, output: Float[np.ndarray, "T outputs"]) -> tuple[list[Series], str]:
    """The first outputs over time, each with its target if known, and the key to the colours.

    A target of the whole sample is a level line. One at every step is a line of its own, if the output has as many steps.
    """
    steps, outputs = output.shape
    shown = range(min(outputs, _MOST_TRACES))
    wanted = _wanted(predictions, steps, outputs)
    series = [Series(f"output {k}", output[:, k].tolist(), "c1") for k in shown]
    key = [("c1", "output" if outputs == len(shown) else f"the first {len(shown)} of {outputs} outputs")]
    if wanted is not None:
        series = [*(Series(f"target {k}", wanted[:, k].tolist(), "c2 dashed") for k in shown), *series]
        key.append(("c2 dashed", "target"))
    return series, legend(key)


def _wanted(predictions: ValuePredictions, steps: int, outputs: int) -> Float[np.ndarray, "T outputs"] | None:
    """The targets of the first sample's outputs; None if predictions are not output values, such as classes."""
    target = predictions.targets[0].astype(np.float64)
    if predictions.targets.shape != predictions.predictions.shape:
        return None
    if target.size == outputs:
        return np.broadcast_to(target.reshape(1, outputs), (steps, outputs))
    if target.ndim and len(target) >= steps and target.size == len(target) * outputs:
        return target.reshape(-1, outputs)[:steps]  # the output is shown without its padding
    return None
