"""From what was measured to what is wrong.

Each rule is one function, its limit stands beside it, and causes come before their consequences: a layer that hears
nothing is not called dead, for that is the layer in front; a gradient that a dead layer has swallowed has not vanished
through depth.
"""

import math
from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor, nn

from rheobase.diagnosis.axes import looks_batch_first
from rheobase.diagnosis.finding import SHARE, Finding, activity_findings, wake
from rheobase.diagnosis.measures import LayerMeasures, Measures
from rheobase.stability.gradients import MOST_DAMPENING

LARGE = 5.0
"""Spikes are 0 or 1, counts of them a few, normalized pixels at most 1: a batch whose root mean square is larger is too large,
if it drives the first neurons by more than so many times their threshold."""
OUT_OF_REACH = 0.5
"""A membrane potential that does not come half the way to the threshold is out of its reach."""
NARROW = 0.01
"""The mean slope of a surrogate, as a share of its peak, below which hardly anything is learned."""
DEPTH = 100.0
"""By what factor the gradient may differ between the first layer of neurons and the last."""
UNEVEN = 10.0
"""By what factor the gradients of the weights may differ between layers of neurons before it is worth a note. `stabilize` and
the initialization aim at 3; new networks of four linear layers stay below 5."""
TIME = 1000.0
"""By what factor a gradient may grow over all steps."""
FORGETFUL = 20
"""The end of the output should depend on more than so small a part of the steps before."""


def judge_input(x: Tensor) -> list[Finding]:
    """What is wrong with a batch by itself, before any network has seen it."""
    if bad := int((~x.isfinite()).sum()):
        what = f"the batch holds {bad:,} values that are not finite"
        return [Finding("not finite", None, what, "look at how it was made: batch.isfinite().all() must be true")]
    if not x.any():
        return [
            Finding("input is zero", None, "all values of the batch are 0", "look at how it was made: batch.mean()")
        ]
    return []


def judge_size(x: Tensor, measures: Measures) -> list[Finding]:
    """Whether a batch is so large that it overruns the neurons that see it first; behind a normalization any size will do."""
    first = measures.layers[0].membrane
    if x.cpu().double().square().mean().sqrt() < LARGE or first is None or not first.drive > LARGE:
        return []
    largest = x.abs().max().item()
    what = (
        f"the batch holds values up to {largest:,.4g}, where spikes are 0 or 1; what reaches the neurons of "
        f"{measures.layers[0].name} varies by {first.drive:,.0f} times their threshold from step to step"
    )
    return [Finding("input is too large", None, what, f"divide it: batch / {largest:.4g}")]


def judge_sight(measures: Measures) -> list[Finding]:
    """Whether some layers did not run, so that nothing can be said about them."""
    if not measures.unseen:
        return []
    what = f"{', '.join(measures.unseen)} did not run in a call of the network, so that nothing is known of it"
    remedy = "the module that holds it must call it, layer(x), in its own forward; see rheobase.Temporal"
    return [Finding("not seen", None, what, remedy)]


def judge_learning(network: nn.Module) -> list[Finding]:
    """Whether anything in the network can learn."""
    parameters = list(network.parameters())
    if not parameters or any(parameter.requires_grad for parameter in parameters):
        return []
    what = f"none of the network's {len(parameters):,} parameters requires a gradient: all of them are frozen"
    return [Finding("nothing to learn", None, what, "network.requires_grad_(True), and freeze only what shall stay")]


SWAP = "batch.transpose(0, 1).contiguous()"


def judge_axes(x: Float[Tensor, "T B *features"], labels: Tensor | None) -> list[Finding]:
    """Whether time comes first: by the labels where there are some, else by what the batch looks like."""
    if labels is not None and labels.ndim == 1:
        if len(labels) == x.shape[0] != x.shape[1]:
            what = (
                f"the batch is {tuple(x.shape)}, read as T = {x.shape[0]} steps of B = {x.shape[1]} samples, but there are "
                f"{len(labels)} labels: it is batch-first"
            )
            return [Finding("wrong time axis", None, what, f"time comes first: {SWAP}")]
    elif looks_batch_first(x):
        what = (
            f"the batch is {tuple(x.shape)}, read as T = {x.shape[0]} steps of B = {x.shape[1]} samples, but along its second "
            "axis neighbours are alike, as they are in time, and along its first they are not: it looks batch-first"
        )
        return [Finding("wrong time axis", None, what, f"time comes first: {SWAP}, if it is so")]
    return []


def judge_labels(labels: Tensor, samples: int, classes: int | None) -> list[Finding]:
    """Whether there is one label for each sample, and with `classes`, whether they are whole numbers below it.

    Without `classes` they may be targets, of each sample or at every step, `(T, B, ...)`.
    """

    def wrong(what: str, remedy: str) -> list[Finding]:
        return [Finding("labels do not fit", None, what, remedy)]

    if classes is None and labels.ndim > 1 and labels.shape[1] == samples:
        return []
    if labels.ndim == 0 or len(labels) != samples:
        return wrong(f"the labels are {tuple(labels.shape)}, of {samples} samples", "one label per sample, (B,)")
    if classes is None:
        return []
    if labels.ndim != 1:
        return wrong(f"the labels are {tuple(labels.shape)}, not one class per sample", "labels.argmax(1), if one-hot")
    if labels.is_floating_point():
        what = f"the labels are {labels.dtype}, where classes are whole numbers; numbers to come close to need a loss="
        return wrong(what, "labels.long()")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        what = f"the labels go from {low} to {high}, and the network's output has {classes} classes, 0 to {classes - 1}"
        remedy = "labels - 1" if (low, high) == (1, classes) else f"an output of {high + 1} units"
        return wrong(what, remedy)
    return []


def judge(measures: Measures, *, input_is_wrong: bool = False) -> list[Finding]:
    """What is wrong with a network, by what was measured of it; `input_is_wrong` says that it saw nothing sensible."""
    findings: list[Finding] = []
    for layer in measures.layers:
        if layer.input_density == 0 and layer.dead == 1:
            continue  # it hears nothing: the fault is in front of it
        findings += _activity(layer)
        findings += [] if input_is_wrong else _surrogate(layer)
        findings += _growth(layer)
    if cut := [layer for layer in measures.layers if not layer.differentiable]:
        return findings + [
            _no_gradient(layer) for layer in cut
        ]  # where a gradient ends, what it does before says nothing
    silent = any(layer.rate == 0 for layer in measures.layers)
    if not silent:
        findings += _depth(measures.layers)
        # Where anything is wrong so far, or with the input, it is the cause.
        findings += [] if findings or input_is_wrong else _uneven(measures.layers)
        findings += _memory(measures.layers)
    findings += _readout(measures, silent)
    return findings


def _activity(layer: LayerMeasures) -> Iterator[Finding]:
    yield from activity_findings(layer.name, layer.dead, layer.saturated, layer.fires_once_in)
    membrane = layer.membrane
    if layer.dead > SHARE and membrane is not None and membrane.top < OUT_OF_REACH:
        what = (
            f"its threshold of {membrane.threshold:.3g} is out of reach: the membrane potential is {membrane.mean:.2g} ± "
            f"{membrane.std:.2g} times the threshold, and one in a thousand is above {membrane.top:.2g}"
        )
        need = f"; by hand, weights {1 / membrane.top:.3g} times as large" if membrane.top > 1e-3 else ""
        yield Finding("threshold out of reach", layer.name, what, wake(layer.fires_once_in) + need)


def _surrogate(layer: LayerMeasures) -> Iterator[Finding]:
    membrane, surrogate = layer.membrane, layer.surrogate
    if membrane is None or surrogate is None or not membrane.slope < NARROW:
        return
    if membrane.top < OUT_OF_REACH or abs(membrane.mean - 1) > 2 * membrane.std:
        return  # the membrane stays on one side of the threshold: no surrogate is to blame
    width = 1 / (membrane.std * membrane.threshold) if membrane.std else 1 / membrane.threshold
    kind = type(surrogate).__name__
    what = (
        f"its surrogate {kind}(sharpness={surrogate.sharpness:g}) is too narrow: {membrane.within_reach:.1%} of the membrane "
        f"potentials are within its reach, and the mean slope is {membrane.slope:.2%} of its peak"
    ).replace("%", " %")
    yield Finding("surrogate too narrow", layer.name, what, f"surrogate=rb.surrogate.{kind}(sharpness={width:.2g})")


def _no_gradient(layer: LayerMeasures) -> Finding:
    what = "its spikes carry no gradient: they come from a comparison, or are detached, so that nothing in front of it learns"
    remedy = (
        "in its run, make them with a surrogate: self.surrogate.spike(v - threshold), see docs/guides/own-neurons.md"
    )
    return Finding("no gradient", layer.name, what, remedy)


def _growth(layer: LayerMeasures) -> Iterator[Finding]:
    steps = layer.steps
    if layer.growth > 1 and steps * math.log(layer.growth) > math.log(TIME):
        theory = "" if math.isnan(layer.expected_growth) else f" (theory: {layer.expected_growth:.3g})"
        over_all = steps * math.log10(layer.growth)
        what = (
            f"its gradient grows by a factor of {layer.growth:.3g} per step back in time{theory}, 1e{over_all:.0f} over "
            f"all {steps} steps"
        )
        if math.isinf(layer.growth):
            what = f"its gradient grows so fast on its way back in time{theory} that it overflows"
        others = "smaller recurrent weights, or detach_recurrent=True"
        remedy = f"rb.stabilize(network, batch), {others if layer.recurrent else 'or a surrogate of lower dampening'}"
        yield Finding("exploding through time", layer.name, what, remedy)


def _depth(layers: tuple[LayerMeasures, ...]) -> Iterator[Finding]:
    first, last = layers[0], layers[-1]
    # Where the gradient is 0 already, a layer cannot make it smaller.
    gains = [1.0 if math.isnan(layer.gain) else layer.gain for layer in layers[:-1]]
    if not gains or not last.error > 0:
        return
    ratio = first.error / last.error
    if ratio > DEPTH:
        worst = layers[gains.index(max(gains))]
        what = (
            f"the gradient in {first.name} is {ratio:,.3g} times that in {last.name}, {len(gains)} layers nearer to the "
            f"output; it grows most here, by a factor of {worst.gain:.2g}"
        )
        remedy = "rb.stabilize(network, batch), smaller weights behind it, or a surrogate of lower dampening"
        yield Finding("exploding through depth", worst.name, what, remedy)
    elif ratio < 1 / DEPTH:
        worst = layers[gains.index(min(gains))]
        times = f"{1 / ratio:,.3g} times smaller than" if ratio else "0, unlike"
        what = (
            f"the gradient in {first.name} is {times} that in {last.name}, {len(gains)} layers nearer to the output; it "
            f"shrinks most here, by a factor of {worst.gain:.2g}"
        )
        remedy = "rb.stabilize(network, batch), larger weights behind it, or a wider surrogate"
        yield Finding("vanishing through depth", worst.name, what, remedy)


def _uneven(layers: tuple[LayerMeasures, ...]) -> Iterator[Finding]:
    # Of the weights, which are what learns and what `stabilize` makes even. Where inputs are sparse, the gradients of the
    # currents cannot be even then. A layer that no gradient reaches is not uneven, and one without weights has none (NaN).
    heard = [layer for layer in layers if layer.gradient > 0]
    if not heard:
        return
    least, most = (choose(heard, key=lambda layer: layer.gradient) for choose in (min, max))
    if most.gradient > UNEVEN * least.gradient:
        what = (
            f"the gradient of its weights is {most.gradient / least.gradient:,.3g} times smaller than that of the weights in "
            f"front of {most.name}: at one learning rate they do not learn alike, if the optimizer does not make up for it"
        )
        remedy = "rb.stabilize(network, batch)"
        if least.surrogate is None:
            remedy += "; Adam, as in rb.fit, compensates for the rest, since these neurons have no surrogate to raise"
        elif least.surrogate.dampening >= MOST_DAMPENING:
            remedy = "its surrogate's dampening is already at its maximum; Adam, as in rb.fit, compensates"
        yield Finding("uneven through depth", least.name, what, remedy)


def _memory(layers: tuple[LayerMeasures, ...]) -> Iterator[Finding]:
    # Of the first layer that has something to remember: there is nothing before a single step, as in front of a `Hold`.
    first = next((layer for layer in layers if layer.steps_before), None)
    if first is None:
        return
    remedy = f"slower neurons: decay={math.exp(-5 / first.steps):.3g}, here or in the readout"
    if first.memory < first.steps_before / FORGETFUL:
        what = (
            f"the end of the output depends on only {first.memory:.0f} of the {first.steps_before} earlier steps: the decays "
            "are too small for sequences this long"
        )
        yield Finding("vanishing through time", None, what, remedy)
    elif first.early < 1 / TIME:
        what = (
            f"the loss hardly depends on the first third of the {first.steps} steps: the gradient there is {first.early:.0e} "
            "of that in the last third"
        )
        yield Finding("vanishing through time", None, what, remedy)


def _readout(measures: Measures, silent: bool) -> Iterator[Finding]:
    last = measures.layers[-1]
    deaf = "the readout has no use for the spikes of the last layer of neurons: "
    look = "look behind it: weights of 0, a detach(), an output that is not returned"
    can_learn = last.membrane is None or last.membrane.slope > 1e-9
    if silent:
        return
    if last.error == 0 and can_learn:
        yield Finding("readout ignores its input", last.name, deaf + "no gradient comes from the output to it", look)
    elif measures.output_spread < 1e-6 < 1e-3 < measures.activity_spread:
        what = deaf + "they differ from sample to sample, and the output does not"
        yield Finding("readout ignores its input", last.name, what, look)
