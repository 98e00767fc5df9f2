"""Reading whole files safely: they come from elsewhere, and a compressed one of a few kilobytes can claim gigabytes."""

import gzip
import lzma
import zlib
from pathlib import Path

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
        DataError: if the file is missing, cannot be read, is truncated or damaged, or is larger than `limit`.
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
