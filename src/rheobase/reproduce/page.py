"""The page of a study, in Markdown: claims with their verdicts, a table for each experiment, and the origin of the figures."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rheobase.files import atomic_write
from rheobase.reproduce.rows import Row
from rheobase.reproduce.statistics import Estimate, paired
from rheobase.reproduce.study import Claim, Experiment, Finding, Study, Table, Verdict

_QUICK = "**The quick version:** smaller networks, fewer samples and epochs than described here; it shows directions."

_MANY = " --only ..."
_HOLDS = {True: "holds", False: "does not hold", None: "undecided"}


def write_page(path: Path, study: Study, table: Table, command: str, quick: bool, figures: Mapping[str, Path]) -> None:
    """Write the page.

    Args:
        path: the Markdown file.
        study: the study.
        table: its rows.
        command: what regenerates the page.
        quick: whether the rows are of the quick version.
        figures: plots beside the page, by experiment.
    """
    verdicts = {claim: claim.judge(table) for claim in study.claims}
    parts = [
        f"# {study.title}",
        f"Source: {study.source}. Written by `{command}`; all rows are in [{path.stem}.json]({path.stem}.json).",
        *([_QUICK] if quick else []),
        study.remarks,
        "## Claims",
        _claims(verdicts),
        "± is half of a 95 % confidence interval (Student's, over seeds); where that is more than 30 points, the values of the "
        "seeds stand there instead. A claim that compares is reproduced where the whole interval of the difference, seed by "
        "seed, lies on the right side, and undecided where it lies on both. Networks are chosen by validation accuracy, and "
        "each run reads the test set once, at its end.",
    ]
    for claim, verdict in verdicts.items():
        if _is_long(verdict):
            parts += [f"### {claim.text}", _findings(verdict.findings)]
    for experiment in table.experiments.values():
        parts += [f"## {experiment.title}", _experiment(experiment, table)]
        if experiment.name in figures:
            parts.append(f"![{experiment.name}]({figures[experiment.name].name})")
    parts += ["## Where the figures come from", _origins(table)]
    with atomic_write(path) as file:
        file.write(("\n\n".join(parts) + "\n").encode())


def _claims(verdicts: Mapping[Claim, Verdict]) -> str:
    lines = ["| claim | published | verdict | found |", "| --- | --- | --- | --- |"]
    for claim, verdict in verdicts.items():
        found = f"{_count(verdict.findings)}: see below" if _is_long(verdict) else verdict.figures
        lines.append(f"| {claim.text} | {claim.published} | **{verdict.status}** | {found} |")
    return "\n".join(lines)


def _is_long(verdict: Verdict) -> bool:
    """Whether the findings are too long for a cell."""
    return len(verdict.findings) > 2


def _count(findings: Mapping[str, Finding]) -> str:
    """The number of experiments in which a claim holds.

    Example:
        >>> _count({"digits": (True, "+2"), "MNIST": (None, "1 ± 3"), "SHD": (True, "+3")})
        'holds in 2 of 3, undecided in 1'
    """
    held = [holds for holds, _ in findings.values()]
    counts = [f"{how} in {held.count(holds)}" for holds, how in _HOLDS.items() if holds in held]
    return ", ".join([f"{counts[0]} of {len(held)}", *counts[1:]])


def _findings(findings: Mapping[str, Finding]) -> str:
    return "\n".join(f"- {name}: {_HOLDS[holds]}, {figures}" for name, (holds, figures) in findings.items())


def _experiment(experiment: Experiment, table: Table) -> str:
    arms = table.arms(experiment.name)
    if not arms:
        return "Not run yet."
    first = next(iter(arms))
    measures = list(dict.fromkeys(name for rows in arms.values() for row in rows.values() for name in row.measures))
    head = [
        "arm",
        "test accuracy, %",
        f"minus {first}, points",
        "validation, %",
        "best epoch",
        "dead, % by layer",
        "silent in a sample, % by layer",
        "spikes / sample",
        *measures,
        "s / epoch",
        "min / training",
        "seeds",
    ]
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for arm in experiment.arms:
        rows, failed = table.of(experiment.name, arm), len(table.diverged(experiment.name, arm))
        seeds = f"{len(rows)}{f', {failed} diverged' if failed else ''}"
        if not rows:
            lines += [f"| {arm} |{' |' * (len(head) - 2)} {seeds} |"] if failed else []
            continue
        runs = list(rows.values())
        difference = paired(*({seed: row.test_accuracy for seed, row in one.items()} for one in (rows, arms[first])))
        cells = [
            arm,
            Estimate.of([row.test_accuracy for row in runs]).percent(),
            "" if arm == first or difference is None else difference.percent(),
            f"{100 * _mean([row.validation_accuracy for row in runs]):.2f}",
            f"{_mean([row.best_epoch for row in runs]):.0f} of {runs[0].epochs}",
            *(
                " ".join(f"{100 * _mean(layer):.0f}" for layer in zip(*(series[-1] for series in shares), strict=True))
                for shares in ([row.dead for row in runs], [row.silent for row in runs])
            ),
            f"{_mean([row.spikes_per_sample for row in runs]):,.0f}",
            *(_measured(runs, name) for name in measures),
            f"{_mean([_seconds(row) for row in runs]):.1f}",
            f"{_mean([row.seconds for row in runs]) / 60:.1f}",
            seeds,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    samples = next(iter(arms[first].values())).samples
    return "\n".join(lines) + f"\n\n{samples:,} training samples."


def _seconds(row: Row) -> float:
    """The time of an epoch: the median, since the first one compiles and others may be disturbed."""
    return sorted(row.seconds_curve)[len(row.seconds_curve) // 2] if row.seconds_curve else math.nan


def _measured(runs: Sequence[Row], name: str) -> str:
    values = [row.measures[name] for row in runs if name in row.measures]
    return f"{_mean(values):.4g}" if values else ""


def _mean(values: Sequence[float | int]) -> float:
    return math.fsum(values) / len(values)


def _origins(table: Table) -> str:
    """Commits, machines and commands, with the number of runs that came from each; names of many experiments are left out."""
    counts: dict[tuple[str, str, str], int] = {}
    for experiment in table.experiments:
        for rows in table.arms(experiment).values():
            for row in rows.values():
                command = re.sub(r" --only( (?!-)\S+){4,}", _MANY, row.command)
                origin = row.commit or "no checkout", row.machine, command
                counts[origin] = counts.get(origin, 0) + 1
    lines = ["| runs | commit | machine | command |", "| ---: | --- | --- | --- |"]
    lines += [
        f"| {count} | {commit} | {machine} | `{command}` |" for (commit, machine, command), count in counts.items()
    ]
    if any(_MANY in command for *_, command in counts):
        lines += [
            "",
            f"`{_MANY.strip()}` stands for more than three experiments; the JSON file has every row's whole command.",
        ]
    return "\n".join(lines)
