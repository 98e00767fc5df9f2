"""Rows of variable length from an HDF5 file, without the C library's own reader for them.

Event data sets keep one row of numbers per recording. The HDF5 library reads such rows by following the lengths and addresses
stored in the file, and a damaged one makes it crash the process (seen with version 2.0.0: a changed byte in a heap is a
segmentation fault). So the library is only asked where the references to the rows lie; they are followed here, and every step
is checked against the file's content.

The format is the "HDF5 File Format Specification", version 3: a row is a reference of 16 bytes, its length (4), the
address of a global heap collection (8) and the number of an object in it (4). A collection (section III.E) starts with
"GCOL", a version, and its size; each object has its number (2), a count (2), 4 unused bytes, its size (8), and its data,
padded to 8 bytes. The object of number 0 is the free space at the end.
"""

import struct
import zlib
from collections.abc import Iterator

import h5py
import numpy as np

from rheobase.errors import DataError

_REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("number", "<u4")])
_COLLECTION = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<H6xQ")


def read_rows(content: bytes, field: h5py.Dataset, item_type: np.dtype, source: str) -> list[np.ndarray]:
    """The rows of a one-dimensional field of variable-length rows, as views of the file's content.

    Args:
        content: the whole file.
        field: the field, of the same file opened by h5py.
        item_type: the type of a row's items.
        source: the field's name in error messages.

    Raises:
        DataError: if the references are stored in an unusual way, or do not lead to a row of their length.
    """
    return _follow(content, _references(content, field, source), item_type, source)


def _follow(content: bytes, references: np.ndarray, item_type: np.dtype, source: str) -> list[np.ndarray]:
    promised = int(references["length"].sum(dtype=np.int64)) * item_type.itemsize
    if promised > len(content):
        raise DataError(f"{source}: rows of {promised} bytes in all, expected at most the file's {len(content)}")
    collections: dict[int, dict[int, tuple[int, int]]] = {}
    unread = len(content)
    rows = []
    for sample, (length, address, number) in enumerate(references.tolist()):
        if length == 0:
            rows.append(np.empty(0, item_type))
            continue
        if address not in collections:
            collections[address], size = _collection(content, address, f"{source}: sample {sample}")
            unread -= size
            if unread < 0:  # Otherwise a small file could have each of its bytes scanned for every row.
                raise DataError(f"{source}: sample {sample}: heap collections overlap; the file is damaged")
        start, size = collections[address].get(number, (0, 0))
        if size < length * item_type.itemsize:
            raise DataError(
                f"{source}: sample {sample}: got {size} bytes in heap object {number} at {address}, expected "
                f"{length * item_type.itemsize}; the file is damaged"
            )
        rows.append(np.frombuffer(content, item_type, length, start))
    return rows


def _references(content: bytes, field: h5py.Dataset, source: str) -> np.ndarray:
    address_bytes, _ = field.file.id.get_create_plist().get_sizes()
    if address_bytes != 8:
        raise DataError(f"{source}: got a file with addresses of {address_bytes} bytes, expected 8")
    # What has no address in the file was never written: rows of length 0.
    raw = np.zeros(len(field) * _REFERENCE.itemsize, dtype=np.uint8)
    for position, piece in _pieces(content, field, source):
        raw[position : position + len(piece)] = piece[: max(len(raw) - position, 0)]
    return raw.view(_REFERENCE)


def _pieces(content: bytes, field: h5py.Dataset, source: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the pieces in which the references are stored, and the byte of the field at which each begins."""
    if field.chunks is None:
        if (address := field.id.get_offset()) is not None:
            size = len(field) * _REFERENCE.itemsize
            yield 0, _unfiltered(content[address : address + size], [], size, source)
        return
    settings = field.id.get_create_plist()
    filters = [settings.get_filter(index)[0] for index in range(settings.get_nfilters())]
    size = field.chunks[0] * _REFERENCE.itemsize
    for index in range(field.id.get_num_chunks()):
        chunk = field.id.get_chunk_info(index)
        applied = [kind for bit, kind in enumerate(filters) if not chunk.filter_mask >> bit & 1]
        packed = content[chunk.byte_offset : chunk.byte_offset + chunk.size]
        yield chunk.chunk_offset[0] * _REFERENCE.itemsize, _unfiltered(packed, applied, size, source)


def _unfiltered(piece: bytes, filters: list[int], size: int, source: str) -> np.ndarray:
    """Undo the filters of a chunk of `size` bytes, last first: deflate and shuffle, which every HDF5 library has."""
    for kind in reversed(filters):
        if kind == h5py.h5z.FILTER_DEFLATE:
            try:
                piece = zlib.decompressobj().decompress(piece, size)
            except zlib.error as error:
                raise DataError(f"{source}: damaged, cannot be unpacked ({error})") from None
        elif kind == h5py.h5z.FILTER_SHUFFLE:
            whole = piece[: len(piece) // _REFERENCE.itemsize * _REFERENCE.itemsize]
            piece = np.frombuffer(whole, np.uint8).reshape(_REFERENCE.itemsize, -1).T.tobytes()
        else:
            raise DataError(f"{source}: packed with HDF5 filter {kind}, expected deflate, shuffle or none")
    if len(piece) != size:
        raise DataError(f"{source}: truncated: got {len(piece)} bytes of references, expected {size}")
    return np.frombuffer(piece, np.uint8)


def _collection(content: bytes, address: int, source: str) -> tuple[dict[int, tuple[int, int]], int]:
    """Where the data of each object of a heap collection starts and its size, by number; and the whole's size."""
    header = content[address : address + _COLLECTION.size]
    signature, version, size = _COLLECTION.unpack(header.ljust(_COLLECTION.size, b"\0"))
    end = address + size
    if signature != b"GCOL" or version != 1 or end > len(content):
        raise DataError(f"{source}: no heap collection at {address}, where its reference leads; the file is damaged")
    objects = {}
    at = address + _COLLECTION.size
    while at + _OBJECT.size <= end:
        number, length = _OBJECT.unpack_from(content, at)
        at += _OBJECT.size
        if number == 0 or length > end - at:
            break
        objects[number] = (at, length)
        at += (length + 7) // 8 * 8
    return objects, size
