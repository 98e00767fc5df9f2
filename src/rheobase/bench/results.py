"""What a benchmark found: rows of a workload, and how they become a file."""

from dataclasses import asdict, dataclass, field
from typing import Any

from rheobase.bench.measure import Summary, ratio

FLOOR = "memory floor"


@dataclass
class Row:
    """One implementation of one workload; what is None was not measured.

    Args:
        name: what it is called.
        library: its distribution, "rheobase", or "bound" for rows that are not implementations.
        differs: in what its neuron differs from ours.
        why: why it has no times: skipped, not installed, or what it raised.
        agreement: how spikes and gradients compare with ours, see `check.Agreement`.
        cpu: milliseconds of processor time of a training step, every library on one thread.
        wall: milliseconds on the wall, on all cores.
        cpu_ratio: how many times ours, round by round.
        wall_ratio: likewise.
        peak_mib: what training takes at most beyond data and weights.
        first_call: seconds of the first call in toy sizes, with empty caches (`cold`) and the second time (`cached`).
    """

    name: str
    library: str
    differs: str = ""
    why: str = ""
    agreement: dict[str, Any] | None = None
    cpu: Summary | None = None
    wall: Summary | None = None
    cpu_ratio: float | None = None
    wall_ratio: float | None = None
    peak_mib: float | None = None
    first_call: dict[str, float] = field(default_factory=dict)


@dataclass
class Table:
    """The rows of a workload.

    Args:
        workload: its name.
        title: what it is.
        rows: ours first, bounds last.
        bytes_moved: what the neurons must move in a training step.
        bandwidth: bytes per second of a copy in the same run, read and written, by the name of the pass, `cpu` or `wall`.
    """

    workload: str
    title: str
    rows: list[Row] = field(default_factory=list)
    bytes_moved: int = 0
    bandwidth: dict[str, float] = field(default_factory=dict)

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)

    def set_times(self, which: str, samples: dict[str, list[float]]) -> None:
        """Enter the milliseconds of a pass, `cpu` or `wall`, and their ratios to ours."""
        reference = samples.get(self.rows[0].name)
        for name, taken in samples.items():
            row = self.row(name)
            setattr(row, which, Summary.of(taken))
            if reference:
                setattr(row, f"{which}_ratio", ratio(taken, reference))

    def as_dict(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)
