"""Reading whole files safely: they are untrusted, and a compressed one of a few kilobytes can claim gigabytes."""

import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rheobase.errors import DataError

LIMIT = 8 * 2**30
"""The default limit of a file's uncompressed size, in bytes."""

ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, UnicodeDecodeError)
"""What Python raises on a zip file that is damaged, encrypted, or packed in an unusual way."""

_CHUNK = 2**20


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """Read a whole file, unpacking it if its name ends in `.gz`, `.xz`, or `.zip` (which must hold a single file).

    Args:
        path: the file.
        limit: the largest uncompressed size, in bytes; a file that unpacks to more is refused before it fills the memory.

    Raises:
        DataError: if the file is missing, cannot be read, is truncated or damaged, or is larger than `limit`.
    """
    openers = {".gz": gzip.open, ".xz": lzma.open, ".zip": _open_zip}
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
    except (gzip.BadGzipFile, lzma.LZMAError, *ZIP_ERRORS) as error:
        raise DataError(f"{path}: damaged, cannot be unpacked ({error}); fetch it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    return b"".join(chunks)


@contextmanager
def _open_zip(path: Path, mode: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        if len(members) != 1:
            raise DataError(f"{path}: holds {len(members)} files, expected a single one")
        with archive.open(members[0]) as file:
            yield file
