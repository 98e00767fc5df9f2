"""Files that are never seen half-written.

A run may be killed at any moment, a download may end early. Everything written here first goes to a temporary file in the same
folder, reaches the disk, and then replaces the old file in one step: a reader finds either the old content or the new.
"""

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that becomes `path` if the block succeeds, and is deleted otherwise.

    The temporary file's `name` ends like `path`, so that within the block it can be read back as that kind of file.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with atomic_write(folder / "notes.txt") as file:
        ...     _ = file.write(b"done")
        >>> [path.name for path in folder.iterdir()]
        ['notes.txt']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Our own name instead of `tempfile`'s file, which only its owner could read: this one gets the permissions of any new file.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        with temporary.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_temporary(path: Path) -> bool:
    """Whether this is the name of a file that `atomic_write` did not finish, as left behind by a kill.

    Example:
        >>> is_temporary(Path("runs/.config.0a1b2c3d.json")), is_temporary(Path("runs/config.json"))
        (True, False)
    """
    return re.fullmatch(r"\..+\.[0-9a-f]{8}(\.[^.]+)?", path.name) is not None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` to `path` as readable JSON, atomically."""
    with atomic_write(path) as file:
        file.write(json.dumps(value, indent=2).encode() + b"\n")
