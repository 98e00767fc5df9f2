"""From the results of single experiments to a verdict on a claim."""

from collections.abc import Mapping

from rheobase.reproduce.rows import Row
from rheobase.reproduce.study import Status, Verdict


def overall(verdicts: Mapping[str, tuple[bool, str]]) -> Verdict:
    """One verdict from those of several experiments: whether the claim holds in each, and the figures that say so.

    Example:
        >>> overall({"digits": (True, "+2 points"), "MNIST": (False, "-1 point")})
        Verdict(status='partly reproduced', figures='digits: +2 points; MNIST: -1 point')
    """
    if not verdicts:
        return Verdict("not run yet", "")
    held = [name for name, (holds, _) in verdicts.items() if holds]
    status: Status = "reproduced" if len(held) == len(verdicts) else "partly reproduced" if held else "not reproduced"
    return Verdict(status, "; ".join(f"{name}: {figures}" for name, (_, figures) in verdicts.items()))


def accuracies(rows: Mapping[int, Row]) -> dict[int, float]:
    """The test accuracy of each seed."""
    return {seed: row.test_accuracy for seed, row in rows.items()}
