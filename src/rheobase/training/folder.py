"""The folder of a run: what a run leaves behind, and what it goes on from.

    runs/<name>/
        config.json             the resolved configuration, the command, versions, machine
        metrics.jsonl           one JSON object per epoch
        checkpoint.safetensors  the state after the last epoch
        best.safetensors        the weights of the best epoch on the validation set
        summary.json            the result, once the run has ended
        evaluation.npz          confusion matrix, predictions, firing rates, the raster of one sample
        report.html             all of it to look at

Everything is plain JSON, safetensors or numpy without pickle.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rheobase.errors import RunError
from rheobase.files import atomic_write, is_temporary, write_json


class RunFolder:
    """A run's folder.

    Args:
        path: the folder; it must hold a run, see `create` for a new one.

    Raises:
        RunError: if `path` is not the folder of a run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path = Path(path)
        if not path.is_dir():
            raise RunError(
                f"{path}: there is no such run; begin one with `rheobase train`, or with fit(...) without resume=True"
            )
        config = self._read("config.json")
        if config is None:
            raise RunError(f"{path}: not the folder of a run, it has no config.json")
        self.config = config

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, Any]) -> "RunFolder":
        """Make the folder of a new run.

        Raises:
            RunError: if there is something at `path` already, or it cannot be written.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise RunError(f"{path}: is a file, and a run needs a folder; choose another name")
        # A kill while the configuration was written leaves an empty folder but for a file that never got its name.
        if path.exists() and not all(is_temporary(entry) for entry in path.iterdir()):
            in_python = "fit(..., resume=True)"
            how = f"`rheobase resume {path}` (in Python: {in_python})" if config.get("recipe") else in_python
            raise RunError(f"{path}: already exists and is not empty; resume it with {how}, or choose another name")
        with writing(path, "choose another folder for it"):
            path.mkdir(parents=True, exist_ok=True)
            write_json(path / "config.json", config)
        return cls(path)

    def remove_leftovers(self) -> None:
        """Delete the files that a kill has left half-written."""
        for entry in self.path.iterdir():
            if is_temporary(entry):
                entry.unlink(missing_ok=True)

    @property
    def checkpoint(self) -> Path:
        """The state after the last epoch."""
        return self.path / "checkpoint.safetensors"

    @property
    def best(self) -> Path:
        """The weights of the best epoch."""
        return self.path / "best.safetensors"

    @property
    def summary(self) -> dict[str, Any] | None:
        """The result of the run; None while it has not ended."""
        return self._read("summary.json")

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Keep the result: the run has ended."""
        write_json(self.path / "summary.json", summary)

    def metrics(self) -> list[dict[str, Any]]:
        """The metrics of all epochs so far. A last line that a kill cut short is left out.

        Raises:
            RunError: if another line is damaged.
        """
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        metrics = []
        for number, line in enumerate(lines, start=1):
            if not line or (number == len(lines)):
                continue
            try:
                metrics.append(_object(line))
            except ValueError as error:
                raise RunError(f"{path}: line {number} is damaged: {error}") from error
        return metrics

    def append_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Add the metrics of an epoch, and see that they reach the disk."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(metrics) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def keep_metrics(self, epochs: int) -> list[dict[str, Any]]:
        """Forget the metrics of all epochs after `epochs`, which a resumed run will write again; return the others.

        Raises:
            RunError: if a line is damaged, or an epoch up to `epochs` is missing.
        """
        kept = self.metrics()[:epochs]
        found = [metrics.get("epoch") for metrics in kept]
        if found != list(range(1, epochs + 1)):
            raise RunError(f"{self.path / 'metrics.jsonl'}: must hold epochs 1 to {epochs}, got {found}")
        with atomic_write(self.path / "metrics.jsonl") as file:
            file.write("".join(json.dumps(metrics) + "\n" for metrics in kept).encode())
        return kept

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        try:
            return _object(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RunError(f"{path}: damaged: {error}") from error


@contextmanager
def writing(path: Path, remedy: str) -> Iterator[None]:
    """Within it, a file that cannot be written is an error of the run `path`, which says what to do.

    Raises:
        RunError: in place of the OSError.
    """
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}; {remedy}") from error


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")  # noqa: TRY004 (one kind for bad content)
    return value
