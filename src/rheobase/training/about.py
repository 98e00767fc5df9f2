"""What is stored with a result so that it can be reproduced: command, seed, versions, machine, network."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rheobase.health import neuron_layers
from rheobase.ops.processor import processor
from rheobase.training.settings import Training


def about_run(network: nn.Module, settings: Training, device: torch.device, more: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a run's `config.json`; entries in `more` override those determined here."""
    return {
        "recipe": None,
        "description": None,
        "config": asdict(settings),
        "command": command(),
        "seed": settings.seed,
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("rheobase", "torch", "numpy")},
        },
        "machine": {
            "platform": platform.platform(),
            "processor": processor(),
            "cores": os.cpu_count(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        },
        "commit": commit(),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "layers": [name for name, _ in neuron_layers(network)],
        **more,
    }


def command() -> str:
    """The command that started this process; `python -m rheobase` leaves a path to `__main__.py` in its place, and a `python`
    in front of a script is not visible."""
    program = Path(sys.argv[0])
    name = ["python", str(program)] if program.suffix == ".py" else [program.name]
    if program.name == "__main__.py":
        name = ["python", "-m", program.parent.name]
    return shlex.join([*name, *sys.argv[1:]])


def commit() -> str | None:
    """The commit of the checkout that this package runs from; None if it is installed from a wheel.

    It ends in "-dirty" if the source differs from that commit. Results do not count: a continued study has changed its own.
    """
    here = Path(__file__).resolve().parents[3]
    if not (here / ".git").exists():
        return None
    git = ["git", "-C", str(here)]
    try:
        described = subprocess.run(
            [*git, "describe", "--always", "--abbrev=12"], capture_output=True, text=True, check=True, timeout=10
        )
        differs = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src"], capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() + ("-dirty" if differs.returncode else "")


def peak_memory_mib(device: torch.device) -> float | None:
    """Peak memory use: on the GPU that of tensors, elsewhere that of this process; None where it is unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
