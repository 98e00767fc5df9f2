"""A diagnosis in print: what was examined, a table of activity, a table of gradients, and what is wrong, with its remedy."""

import math

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rheobase.diagnosis.finding import SHARE, Finding
from rheobase.diagnosis.measures import LayerMeasures, Measures

LEGEND = (
    "membrane: mean ± deviation, in thresholds; reach, slope: of the surrogate, and its peak. gradient: of the weights in "
    "front; error: of the input currents; x layer, x step: how the error grows on its way back, through depth and time; "
    "memory: how many steps before its last tenth the end of the output depends on."
)


def picture(title: str, measures: Measures | None, findings: tuple[Finding, ...]) -> RenderableType:
    """All of a diagnosis, for a rich console."""
    parts: list[RenderableType] = [Text(title, style="bold")]
    if measures is not None:
        parts += [Text(), _activity(measures), Text(), _gradients(measures), Text(), Text(LEGEND, style="dim")]
    parts += [Text(), *_findings(findings)]
    return Group(*parts)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "layer" else "right", no_wrap=True)
    return table


def _activity(measures: Measures) -> Table:
    table = _table("layer", "rate", "dead", "saturated", "membrane", "in reach", "slope")
    for layer in measures.layers:
        membrane = layer.membrane
        table.add_row(
            Text(layer.name),
            f"{layer.rate:.1%}",
            _share(layer.dead),
            _share(layer.saturated),
            f"{membrane.mean:.2f} ± {membrane.std:.2f}" if membrane else "",
            f"{membrane.within_reach:.0%}" if membrane and not math.isnan(membrane.within_reach) else "",
            f"{membrane.slope:.1%}" if membrane and not math.isnan(membrane.slope) else "",
        )
    return table


def _share(share: float) -> Text:
    return Text(f"{share:.0%}", style="bold red" if share > SHARE else "")


def _gradients(measures: Measures) -> Table:
    table = _table("layer", "gradient", "error", "x layer", "theory", "x step", "theory", "memory")
    for layer in measures.layers:
        table.add_row(Text(layer.name), *map(_number, _gradient_numbers(layer)), _steps(layer.memory))
    if not math.isnan(measures.readout_gradient):
        table.add_row(Text("readout", style="dim"), _number(measures.readout_gradient))
    return table


def _gradient_numbers(layer: LayerMeasures) -> tuple[float, ...]:
    return layer.gradient, layer.error, layer.gain, layer.expected_gain, layer.growth, layer.expected_growth


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2g}"


def _steps(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0f}"


def _findings(findings: tuple[Finding, ...]) -> list[RenderableType]:
    if not findings:
        return [
            Text("Nothing is wrong: all layers fire, and the gradient comes through depth and time.", style="green")
        ]
    rows: list[RenderableType] = []
    for number, finding in enumerate(findings, start=1):
        rows.append(Text(f"{number}. {finding.kind}", style="bold yellow" if finding.mild else "bold red"))
        remedy = Text.assemble(("remedy: ", "dim"), finding.remedy)
        rows.append(Padding(Group(Text(str(finding)), remedy), (0, 0, 0, 3), expand=False))
    return rows
