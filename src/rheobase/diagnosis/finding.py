"""What can be wrong with a network, in words: the same ones on the terminal, in a report, and from the doctor."""

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
"""Findings worth a note that do not make a network unhealthy: Adam divides by the size of each weight's gradient, so layers
with small gradients learn all the same. Plain gradient descent, and clipping, pay for it."""

SHARE = 0.2
"""A layer with more than this share of dead or saturated neurons deserves attention."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or could be better.

    Args:
        kind: its kind, one of a fixed set of words.
        layer: the layer, as `rheobase.health` names it, `"1 LIF(128)"`; None if it does not concern one.
        what: what was observed, in a sentence.
        remedy: what to do about it, as a call if there is one.
    """

    kind: Kind
    layer: str | None
    what: str
    remedy: str

    @property
    def mild(self) -> bool:
        """Whether it is only a note: the network is healthy with it."""
        return self.kind in MILD

    def as_dict(self) -> dict[str, str | None]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        where = f"{self.layer}: " if self.layer else ""
        return f"{where}{self.what}"


LOWER = "rb.stabilize(network, batch), or in training regularizers=[rb.regularizers.RateBounds(upper=0.3)]"
"""The remedy that lowers the activity of a layer."""


RAISE = ", or in training regularizers=[rb.regularizers.RateBounds(lower=1e-2, weight=100.0)]"
"""The remedy that raises the activity of a layer's silent neurons."""


def wake(fires_once_in: int | None = None, *, some: bool = False) -> str:
    """The remedy that revives dead neurons.

    `rb.fit_initial_rates` is not a remedy: it fits the mean of a layer, which the other neurons can provide.

    Args:
        fires_once_in: the steps of neurons that fire once in a sequence, which have their own initialization: the fewer spikes,
            the larger the weights have to be. None for all others.
        some: whether other neurons of the layer fire. Then its rate may be right, and it takes training to distribute it.

    Example:
        >>> print(wake(8))
        rb.initialize_single_spike(network, steps=8, batch=batch), which redraws all weights, or rb.stabilize(network, batch)
    """
    calibrate = f"rb.stabilize(network, batch){RAISE if some else ''}"
    if fires_once_in is None:
        return calibrate
    draw = f"rb.initialize_single_spike(network, steps={fires_once_in}, batch=batch)"
    return f"{draw}, which redraws all weights, or {calibrate}"


def activity_findings(name: str, dead: float, saturated: float, fires_once_in: int | None = None) -> list[Finding]:
    """What is wrong with a layer judging by its firing alone, which every epoch of training measures anyway.

    Args:
        name: the layer.
        dead: the share of its neurons without a single spike.
        saturated: the share of its neurons that fire at 90 % of the steps or more.
        fires_once_in: the steps in which its neurons fire once, if they do; else None.

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
