"""The page of a study, in Markdown: claims with their verdicts, a table for each experiment, where the figures came from."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rheobase.files import atomic_write
from rheobase.reproduce.rows import Row
from rheobase.reproduce.statistics import Estimate, paired
from rheobase.reproduce.study import Experiment, Study, Table
from rheobase.reproduce.verdicts import accuracies

_QUICK = "**The quick version:** smaller networks, fewer samples and epochs than described here; it shows directions."


def write_page(path: Path, study: Study, table: Table, command: str, quick: bool, figures: Mapping[str, Path]) -> None:
    """Write the page.

    Args:
        path: the Markdown file.
        study: what was studied.
        table: its rows.
        command: what regenerates the page.
        quick: whether the rows are of the quick version.
        figures: pictures beside the page, by experiment.
    """
    parts = [
        f"# {study.title}",
        f"Source: {study.source}. Written by `{command}`; all rows are in [{path.stem}.json]({path.stem}.json).",
        *([_QUICK] if quick else []),
        study.remarks,
        "## Claims",
        _claims(study, table),
        "± is half of a 95 % confidence interval (Student's, over seeds). A claim that compares is reproduced where the whole "
        "interval of the difference, seed by seed, lies on the right side, and undecided where it lies on both. Networks are "
        "chosen by validation accuracy, and each run reads the test set once, at its end.",
    ]
    for experiment in table.experiments.values():
        parts += [f"## {experiment.title}", _experiment(experiment, table)]
        if experiment.name in figures:
            parts.append(f"![{experiment.name}]({figures[experiment.name].name})")
    parts += ["## Where the figures come from", _origins(table)]
    with atomic_write(path) as file:
        file.write(("\n\n".join(parts) + "\n").encode())


def _claims(study: Study, table: Table) -> str:
    lines = ["| claim | published | verdict | found |", "| --- | --- | --- | --- |"]
    for claim in study.claims:
        verdict = claim.judge(table)
        lines.append(f"| {claim.text} | {claim.published} | **{verdict.status}** | {verdict.figures} |")
    return "\n".join(lines)


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
        "seeds",
    ]
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for arm, rows in arms.items():
        runs = list(rows.values())
        difference = paired(accuracies(rows), accuracies(arms[first]))
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
            str(len(runs)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    samples = next(iter(arms[first].values())).samples
    return "\n".join(lines) + f"\n\n{samples:,} training samples."


def _seconds(row: Row) -> float:
    """What an epoch takes: the median, for the first one compiles and others may be disturbed."""
    return sorted(row.seconds_curve)[len(row.seconds_curve) // 2] if row.seconds_curve else math.nan


def _measured(runs: Sequence[Row], name: str) -> str:
    values = [row.measures[name] for row in runs if name in row.measures]
    return f"{_mean(values):.4g}" if values else ""


def _mean(values: Sequence[float | int]) -> float:
    return math.fsum(values) / len(values)


def _origins(table: Table) -> str:
    """Commits, machines and commands, with the number of runs that came from each."""
    counts: dict[tuple[str, str, str], int] = {}
    for experiment in table.experiments:
        for rows in table.arms(experiment).values():
            for row in rows.values():
                origin = row.commit or "no checkout", row.machine, row.command
                counts[origin] = counts.get(origin, 0) + 1
    lines = ["| runs | commit | machine | command |", "| ---: | --- | --- | --- |"]
    lines += [
        f"| {count} | {commit} | {machine} | `{command}` |" for (commit, machine, command), count in counts.items()
    ]
    return "\n".join(lines)
