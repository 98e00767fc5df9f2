"""Why does a network die, or explode? One batch is enough to tell.

Whether a spiking network can learn shows before it is trained: neurons that never fire, thresholds that no input reaches, a
gradient that is 0 in the first layer or 1e20 at the first step. The loss shows none of that, and goes down a little anyway.
`doctor` examines all of it and says in words what is wrong, and what to do.

`measure` measures, `measures` and `gradients` are what it knows then, `theory` says what to expect, `judge` decides, `show`
prints; `finding` has the words, `axes` the test for the time axis, and `divergence` names the first value that is not finite,
also in training.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from rich.console import Console, RenderableType
from torch import Tensor, nn
from torch.nn import functional

from rheobase.compiled import as_written, original
from rheobase.copies import copy_of
from rheobase.diagnosis.divergence import explain
from rheobase.diagnosis.finding import SHARE, Finding, Kind, activity_findings
from rheobase.diagnosis.judge import (
    judge,
    judge_axes,
    judge_input,
    judge_labels,
    judge_learning,
    judge_sight,
    judge_size,
)
from rheobase.diagnosis.measure import measure
from rheobase.diagnosis.measures import LayerMeasures, Measures, Membrane, finite_or_none
from rheobase.diagnosis.rows import judge_rows
from rheobase.diagnosis.show import picture
from rheobase.losses import cross_entropy_per_step
from rheobase.ops.arguments import check_sequence
from rheobase.padding import refuse_mask

__all__ = [
    "SHARE",
    "Diagnosis",
    "Finding",
    "Kind",
    "LayerMeasures",
    "Measures",
    "Membrane",
    "activity_findings",
    "doctor",
]


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor has found; `print` shows it.

    Args:
        findings: what is wrong, or could be better; causes before consequences. Empty if nothing is.
        measures: everything measured; None if the batch could not be run through the network.
        title: what was examined, in one line.
    """

    findings: tuple[Finding, ...]
    measures: Measures | None
    title: str

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong; the mild finding that gradients are uneven is a note, and leaves a network healthy."""
        return all(finding.mild for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """All of it for JSON; numbers that are not finite are None."""
        measures = None
        if self.measures is not None:
            measures = {name: finite_or_none(value) for name, value in vars(self.measures).items()}
            measures["layers"] = [layer.as_dict() for layer in self.measures.layers]
        findings = [finding.as_dict() for finding in self.findings]
        return {"title": self.title, "healthy": self.healthy, "findings": findings, "measures": measures}

    def __rich__(self) -> RenderableType:
        return picture(self.title, self.measures, self.findings)

    def __str__(self) -> str:
        console = Console(width=110, color_system=None, force_terminal=False, legacy_windows=False)
        with console.capture() as captured:
            console.print(self)
        return "\n".join(line.rstrip() for line in captured.get().splitlines())


@as_written()
def doctor(
    network: nn.Module,
    batch: Float[Tensor, "T B *features"],
    labels: Shaped[Tensor, "..."] | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Diagnosis:
    """Examine a network on one batch, and say what is wrong with it and what to do.

    The network is not changed: a copy is examined, in training mode, forwards and backwards.

    What it recognizes: dead and saturated neurons, thresholds out of reach, surrogates too narrow for the membrane; gradients
    that vanish or explode through depth or time, or are uneven from layer to layer; neurons whose spikes carry no gradient, and
    networks in which nothing learns; a readout that ignores its input; layers that do not run in a call of the network, or mix
    samples, as neurons written for a loop over time do; a batch that is batch-first, zero, far too large or not finite; labels
    that do not fit; values that are not finite, and the layer where they begin.

    Args:
        network: `(T, B, *features)` in, `(T, B, *out)` out, with layers of neurons.
        batch: some samples, `(T, B, *features)`; a training batch is right. Padding counts as steps: of samples of different
            lengths, take some of similar length, cut to the shortest.
        labels: the classes of the samples, `(B,)`, or a class at every step, `(T, B)`; or for a `loss` that takes them,
            targets, `(B, ...)` or `(T, B, ...)`. Without them, the gradient is that of the mean output times random numbers.
        loss: from the output and the labels to the mean over the batch; None is the cross-entropy of the output's mean over
            time, or with a class at every step that at every step.

    Returns:
        The diagnosis: print it, or read its `findings`.

    Raises:
        TypeError: if `batch` is not a floating-point tensor, or the network does not return a tensor.
        ValueError: if `batch` has no time and batch axes or is empty, there is a `loss` without `labels`, no layer of neurons
            runs, or the network is within `rheobase.masked`. Errors that the network itself raises on the batch are passed on.

    Example:
        >>> import rheobase as rb
        >>> network = rb.Sequential(nn.Linear(20, 50), rb.LIF(50), nn.Linear(50, 2), rb.LeakyReadout(2))
        >>> _ = nn.init.constant_(network[0].bias, -100.0)
        >>> diagnosis = doctor(network, torch.ones(30, 4, 20))
        >>> [finding.kind for finding in diagnosis.findings]
        ['dead', 'threshold out of reach']
        >>> print(diagnosis.findings[0])
        1 LIF(50): all of its neurons are dead: no sample makes them fire
    """
    network = original(network)
    check_sequence(batch, "doctor")
    refuse_mask(network, "doctor")
    if batch.numel() == 0:
        raise ValueError(f"doctor: batch must hold samples, got shape {tuple(batch.shape)}")
    if loss is not None and labels is None:
        raise ValueError("doctor: a loss needs labels, got None; leave both out for the gradient of random numbers")
    title = f"{type(network).__name__} on {_words(batch)}"
    findings = judge_input(batch)
    if any(finding.kind == "not finite" for finding in findings):
        return Diagnosis(tuple(findings), None, title)
    findings += judge_axes(batch, labels)

    def of(output: Tensor) -> Tensor:
        at_steps = labels is not None and labels.shape == output.shape[:2] and not labels.is_floating_point()
        judged = cross_entropy_per_step if loss is None and at_steps else loss
        fits = labels is not None and not any(finding.kind == "wrong time axis" for finding in findings)
        if labels is not None and fits:
            wrong = judge_labels(labels, batch.shape[1], output.shape[-1] if judged is None else None)
            findings.extend(wrong)
            fits = not wrong
        if labels is None or not fits:
            mean = output.mean(0)
            return (mean * torch.randn_like(mean)).sum() / len(mean)
        return functional.cross_entropy(output.mean(0), labels.long()) if judged is None else judged(output, labels)

    measures = measure(network, batch, of)
    findings += judge_size(batch, measures) + judge_learning(network)
    findings += (
        judge(measures, input_is_wrong=bool(findings)) if measures.finite else _not_finite(network, batch, measures)
    )
    return Diagnosis((*judge_sight(measures), *judge_rows(network, batch), *findings), measures, title)


def _not_finite(network: nn.Module, batch: Tensor, measures: Measures) -> list[Finding]:
    twin = copy_of(network).train()
    twin.zero_grad(set_to_none=True)
    where = explain(twin, batch, measures.loss)
    if where.startswith("all outputs and gradients are finite"):
        exploding = [finding for finding in judge(measures) if finding.kind.startswith("exploding")]
        what = "all outputs are finite, and the gradient overflows on its way back"
        return exploding or [Finding("not finite", None, what, "rb.stabilize(network, batch)")]
    remedy = "if it was trained, a lower learning rate; or restore weights that were finite"
    return [Finding("not finite", None, where, remedy)]


def _words(batch: Tensor) -> str:
    """A batch in one line: its axes, and whether it holds spikes."""
    features = " x ".join(map(str, batch.shape[2:]))
    axes = f"T = {batch.shape[0]} steps, B = {batch.shape[1]} samples, {features} inputs"
    density = f"{batch.count_nonzero().item() / batch.numel():.1%} are not zero".replace("%", " %")
    if bool(((batch == 0) | (batch == 1)).all()):
        return f"{axes}: spikes, {density}"
    low, high = batch.min().item(), batch.max().item()
    return f"{axes}: values from {low:.3g} to {high:.3g}, {density}"
