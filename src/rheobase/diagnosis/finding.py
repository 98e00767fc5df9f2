"""What can be wrong with a network, in words: the same words on the terminal, in a report, and from the doctor."""

from dataclasses import asdict, dataclass
from typing import Literal

Kind = Literal[
    "not seen",
    "dead",
    "saturated",
    "threshold out of reach",
    "surrogate too narrow",
    "no gradient",
    "vanishing through depth",
    "exploding through depth",
    "uneven through depth",
    "vanishing through time",
    "exploding through time",
    "wrong time axis",
    "input is zero",
    "input is too large",
    "not finite",
    "labels do not fit",
    "nothing to learn",
    "readout ignores its input",
    "mixes samples",
]

MILD: tuple[Kind, ...] = ("uneven through depth",)
"""What is worth a note, and does not make a network unhealthy: Adam divides by the size of each weight's gradient, so that
layers whose gradients are small learn all the same. It is the price of plain gradient descent, and of clipping."""

SHARE = 0.2
"""A layer with more than this share of dead or saturated neurons is one to look at."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or could be better.

    Args:
        kind: what it is, one of a fixed set of words.
        layer: the layer, as `rheobase.health` names it, `"1 LIF(128)"`; None where it is not about one.
        what: what was seen, in a sentence.
        remedy: what to do about it, as a call where there is one.
    """

    kind: Kind
    layer: str | None
    what: str
    remedy: str

    @property
    def mild(self) -> bool:
        """Whether it is a note only: the network is healthy with it."""
        return self.kind in MILD

    def as_dict(self) -> dict[str, str | None]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        where = f"{self.layer}: " if self.layer else ""
        return f"{where}{self.what}"


LOWER = "rb.stabilize(network, batch), or in training regularizers=[rb.regularizers.RateBounds(upper=0.3)]"
"""What lowers the activity of a layer."""


RAISE = ", or in training regularizers=[rb.regularizers.RateBounds(lower=1e-2, weight=100.0)]"
"""What raises the activity of those neurons of a layer that are silent."""


def wake(fires_once_in: int | None = None, *, some: bool = False) -> str:
    """What wakes dead neurons.

    `rb.fit_initial_rates` is no remedy: it fits the mean of a layer, which the others can make up.

    Args:
        fires_once_in: the steps of neurons that fire once in a sequence, whose initialization is one of its own: the fewer
            spikes there are, the larger weights have to be. None for all others.
        some: whether other neurons of the layer fire. Then its rate may be as it should be, and it takes training to share it.

    Example:
        >>> print(wake(8))
        rb.initialize_single_spike(network, steps=8, batch=batch), which draws all weights anew, or rb.stabilize(network, batch)
    """
    calibrate = f"rb.stabilize(network, batch){RAISE if some else ''}"
    if fires_once_in is None:
        return calibrate
    draw = f"rb.initialize_single_spike(network, steps={fires_once_in}, batch=batch)"
    return f"{draw}, which draws all weights anew, or {calibrate}"


def activity_findings(name: str, dead: float, saturated: float, fires_once_in: int | None = None) -> list[Finding]:
    """What is wrong with a layer by its firing alone: what every epoch of training measures anyway.

    Args:
        name: the layer.
        dead: the share of its neurons without a single spike.
        saturated: the share of its neurons that fire at 90 % of the steps or more.
        fires_once_in: the steps in which its neurons fire once, where they do; else None.

    Returns:
        At most one finding for each cause.

    Example:
        >>> print(*activity_findings("1 LIF(8)", dead=0.5, saturated=0.0))
        1 LIF(8): 50 % of its neurons are dead: no sample makes them fire
    """
    findings = []
    if dead > SHARE:
        what = f"{percent(dead)} of its neurons are dead: no sample makes them fire"
        findings.append(Finding("dead", name, what, wake(fires_once_in, some=dead < 1)))
    if saturated > SHARE:
        what = f"{percent(saturated)} of its neurons are saturated: they fire at nearly every step, whatever the input"
        findings.append(Finding("saturated", name, what, LOWER))
    return findings


def percent(share: float) -> str:
    """A share in words.

    Example:
        >>> percent(0.254), percent(0.999), percent(1.0)
        ('25 %', '99.9 %', 'all')
    """
    if share == 1:
        return "all"
    return f"{100 * share:.0f} %" if share < 0.99 else f"{min(100 * share, 99.9):.3g} %"
