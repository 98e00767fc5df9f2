"""Files as their authors published them: where they are, how they are checked, and where they come from.

A file is looked for only in the data folder, packed or not, and its content is first compared with the published checksum.
Nothing is downloaded unless requested, and a downloaded file is either complete and checked, or not there at all.
"""

import hashlib
import http.client
import os
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from rheobase.data.files import read_bytes
from rheobase.errors import DataError
from rheobase.files import atomic_write

Progress = Callable[[str, int, int | None], None]
"""Called as a file is downloaded or read: its name, the bytes so far, and the bytes in all (None if unknown)."""

_CHUNK = 2**20


def data_folder(explicit: str | Path | None = None) -> Path:
    """The folder of data sets: the given one, else `RHEOBASE_DATA`, else the user's cache.

    The folder need not exist. The cache is `$XDG_CACHE_HOME/rheobase`, by default `~/.cache/rheobase`.

    Example:
        >>> data_folder("my-data").name
        'my-data'
    """
    if explicit is not None:
        return Path(explicit)
    if folder := os.environ.get("RHEOBASE_DATA"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rheobase"


@dataclass(frozen=True)
class PublishedFile:
    """A file of a data set.

    Attributes:
        name: its path in the data folder, without the ending of its packing.
        checksum: "algorithm:hex digits" of the unpacked content, so that it holds however the file is packed; None if none is
            published.
        packed: the endings under which the file may lie in the folder, in the order in which they are looked for.
        archives: by such an ending, "algorithm:hex digits" of the packed file, if that is what is published.
        url: where it can be downloaded, packed as in `packed[0]`.
        homepage: where to get it by hand.
    """

    name: str
    checksum: str | None = None
    packed: tuple[str, ...] = ("",)
    archives: Mapping[str, str] = field(default_factory=dict)
    url: str | None = None
    homepage: str | None = None

    def read(self, folder: Path, download: bool = False, progress: Progress | None = None) -> tuple[bytes, str]:
        """The unpacked content, checked, and its path.

        Raises:
            DataError: if the file is missing, damaged, does not match its checksum, or cannot be downloaded.
        """
        path = self.find(folder, download, progress)
        content = read_bytes(path)
        self.check(content, str(path))
        return content, str(path)

    def check(self, content: bytes, source: str) -> None:
        """Refuse unpacked content without the published checksum; `source` is its name in the message.

        Raises:
            DataError: if it has a different one.
        """
        _compare(self.checksum, content, source, "the unpacked content")

    def is_in(self, folder: Path) -> bool:
        """Whether the file lies in `folder`, packed or not."""
        return any((folder / f"{self.name}{ending}").is_file() for ending in self.packed)

    def find(self, folder: Path, download: bool = False, progress: Progress | None = None) -> Path:
        """The path of the file, packed or not; checked against the checksum of the packed file if that is published.

        Raises:
            DataError: as for `read`.
        """
        for ending in self.packed:
            path = folder / f"{self.name}{ending}"
            if path.is_file():
                _compare(self.archives.get(ending), path, str(path), "the file")
                return path
        path = folder / f"{self.name}{self.packed[0]}"
        if not (download and self.url):
            raise DataError(self._missing(path))
        self._download(self.url, path, progress)
        return path

    def _missing(self, path: Path) -> str:
        remedy, in_python = "name the folder that holds it with --data-dir or RHEOBASE_DATA", "data_dir=..."
        if self.url:
            remedy += f", or fetch it from {self.url} with --download"
            in_python += " or download=True"
        elif self.homepage:
            remedy += f"; the data set is published at {self.homepage}"
        else:
            remedy += "; it is not offered for download"
        remedy += f" (in Python: {in_python})"
        return f"{path}: there is no such file, packed or not; {remedy}"

    def _download(self, url: str, path: Path, progress: Progress | None) -> None:
        # Some servers refuse programs that do not identify themselves.
        request = urllib.request.Request(url, headers={"User-Agent": f"rheobase/{version('rheobase')}"})
        try:
            with urllib.request.urlopen(request, timeout=30) as response, atomic_write(path) as file:
                length = response.headers.get("Content-Length", "")
                total, done = int(length) if length.isdigit() else None, 0
                while chunk := response.read(2**16):
                    file.write(chunk)
                    done += len(chunk)
                    if progress is not None:
                        progress(path.name, done, total)
                file.flush()
                arrived = Path(file.name)
                _compare(self.archives.get(self.packed[0]), arrived, path.name, "the file")
                if self.checksum is not None:
                    _compare(self.checksum, read_bytes(arrived), path.name, "the unpacked content")
        except (OSError, http.client.HTTPException, DataError) as error:
            raise DataError(f"{url}: cannot be downloaded: {error}; nothing is left at {path}") from error


def _compare(checksum: str | None, content: bytes | Path, source: str, what: str) -> None:
    """Refuse content, or a file that need not fit into memory, without the published checksum."""
    if checksum is None:
        return
    algorithm, expected = checksum.split(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    if isinstance(content, Path):
        with content.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    else:
        digest.update(content)
    if digest.hexdigest() != expected:
        raise DataError(
            f"{source}: the checksum does not match: got {algorithm} {digest.hexdigest()} of {what}, expected {expected}; "
            "delete the file and fetch it again"
        )
