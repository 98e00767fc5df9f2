"""From the results of single experiments to a verdict on a claim.

The rule is the same for all claims that compare: one holds where the whole confidence interval of the difference lies above the
margin (0, or what is called as good), it does not where the whole interval lies below, and in between, or with a single
seed, the runs do not decide it. What is as good as a published figure, of which no interval is known, only has to have a mean
that is not below it. A training that diverged counts as a guess in all of them.
"""

from collections.abc import Mapping
from dataclasses import replace

from rheobase.reproduce.statistics import Estimate
from rheobase.reproduce.study import Finding, Status, Table, Verdict


def above(estimate: Estimate | None, margin: float = 0.0) -> bool | None:
    """Whether the whole interval of `estimate` lies above `margin`; False if it lies below, else None.

    Example:
        >>> above(Estimate.of([2.0, 2.1])), above(Estimate.of([-2.0, -2.1])), above(Estimate.of([0.5, -0.5])), above(None)
        (True, False, None, None)
    """
    if estimate is None:
        return None
    excess = replace(estimate, mean=estimate.mean - margin)
    return True if excess.is_positive else False if excess.is_negative else None


def reaches(estimate: Estimate, goal: float) -> bool | None:
    """Whether the mean is at least `goal`; False if the whole interval lies below, else None, as for a single value.

    Example:
        >>> found = Estimate(0.92, 0.05, (0.9, 0.92, 0.94))
        >>> reaches(found, 0.91), reaches(found, 0.93), reaches(found, 0.98)
        (True, None, False)
        >>> reaches(Estimate.of([0.99]), 0.9)
    """
    if estimate.count == 1:
        return None
    return True if estimate.mean >= goal else above(estimate, goal)


def overall(findings: Mapping[str, Finding]) -> Verdict:
    """One verdict from those of several experiments.

    Example:
        >>> verdict = overall({"digits": (True, "+2 points"), "MNIST": (None, "1 ± 3 points")})
        >>> verdict.status, verdict.figures
        ('partly reproduced', 'digits: +2 points; MNIST: 1 ± 3 points')
        >>> overall({"digits": (False, "-9 points"), "MNIST": (None, "1 ± 3 points")}).status
        'not reproduced'
    """
    if not findings:
        return Verdict("not run yet", findings)
    held = [holds for holds, _ in findings.values()]
    status: Status = "undecided"
    if all(held):
        status = "reproduced"
    elif any(held):
        status = "partly reproduced"
    elif False in held:
        status = "not reproduced"
    return Verdict(status, findings)


def not_comparable(why: str) -> Verdict:
    """The verdict on a figure for data or a machine that is not available."""
    return Verdict("not comparable", {"": (None, why)})


def outcomes(table: Table, experiment: str, arm: str, *, validation: bool = False) -> dict[int, float]:
    """The accuracy of each seed, on the test set or the validation set; that of a guess if training diverged.

    This is what verdicts compare: an arm is not the better for seeds that have no row. Empty if there is no such experiment.
    """
    if experiment not in table.experiments:
        return {}
    rows = table.of(experiment, arm)
    found = {seed: row.validation_accuracy if validation else row.test_accuracy for seed, row in rows.items()}
    return found | dict.fromkeys(table.diverged(experiment, arm), table.experiments[experiment].chance or 0.0)
