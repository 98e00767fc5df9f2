"""Reading and writing whole files safely: bounded decompression, checksums, and writes that leave nothing half-done.

Files of data sets come from elsewhere. A compressed file of a few kilobytes can claim gigabytes, a download can end early,
and a process can be killed while it writes; each of these is dealt with once, here.
"""

import gzip
import lzma
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rheobase.errors import DataError

LIMIT = 8 * 2**30
"""The largest uncompressed size, in bytes, that a file is read to unless the caller says otherwise."""

_CHUNK = 2**20


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """Read a file whole, unpacking it where its name ends in `.gz` or `.xz`.

    Args:
        path: the file.
        limit: the largest uncompressed size, in bytes; a file that unpacks to more is refused before it fills the memory.

    Raises:
        DataError: the file is missing, cannot be read, is truncated or damaged, or is larger than `limit`.
    """
    openers = {".gz": gzip.open, ".xz": lzma.open}
    chunks, size = [], 0
    try:
        with openers.get(path.suffix, open)(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                size += len(chunk)
                if size > limit:
                    raise DataError(f"{path}: holds more than the limit of {limit} bytes when unpacked")
                chunks.append(chunk)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except EOFError:
        raise DataError(f"{path}: truncated: the compressed file ends early; fetch it again") from None
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path}: damaged, cannot be unpacked ({error}); fetch it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    return b"".join(chunks)


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that becomes `path` when the block ends well, and vanishes otherwise.

    The temporary file's `name` ends like `path`, so that within the block it can be read back as what it will be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix, delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            # The temporary file is readable by its owner alone; the result gets what any new file gets.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
