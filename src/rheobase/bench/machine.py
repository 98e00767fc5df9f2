"""The machine and the versions that figures come from; without them they are worth nothing."""

import os
from datetime import UTC, datetime
from typing import Any

from rheobase import environment
from rheobase.bench.peers import PEERS, installed
from rheobase.training.about import command, commit


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def about() -> dict[str, Any]:
    """Command, date, commit, versions and machine, with its load before anything is measured."""
    return {
        "command": command(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": {name: installed(name) for name in ("rheobase", "torch", "numpy", "numba", "jax", *PEERS)},
        "machine": {
            **environment.describe(),
            "cores": cores(),
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        },
    }
