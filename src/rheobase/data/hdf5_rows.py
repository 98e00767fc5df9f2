"""Rows of variable length out of an HDF5 file, without the C library's own reader for them.

Event data sets keep one row of numbers per recording. The HDF5 library reads such rows by following the lengths and
addresses that are written in the file, and a damaged one makes it crash the process (seen with version 2.0.0: a changed
byte in a heap is a segmentation fault). So the library is only asked where the references to the rows lie; they are
followed here, and every step is compared with what the file holds.

The format is the "HDF5 File Format Specification", version 3: a row is a reference of 16 bytes, its length (4), the
address of a global heap collection (8) and the number of an object in it (4). A collection (section III.E) starts with
"GCOL", a version, and its size; each object has its number (2), a count (2), 4 unused bytes, its size (8), and its data,
padded to 8 bytes. The object of number 0 is the free space at the end.
"""

import struct
from collections.abc import Iterator

import h5py
import numpy as np

from rheobase.errors import DataError

_REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("number", "<u4")])
_COLLECTION = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<H6xQ")


def read_rows(content: bytes, field: h5py.Dataset, item_type: np.dtype, source: str) -> list[np.ndarray]:
    """Return the rows of a one-dimensional field of variable-length rows, as views of the file's content.

    Args:
        content: the whole file.
        field: the field, of the same file opened by h5py.
        item_type: the type of a row's items.
        source: what error messages call the field.

    Raises:
        DataError: the references are compressed or not of 16 bytes, or lead to where no row of their length is.
    """
    references = _references(content, field, source)
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
            if unread < 0:
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
    if field.id.get_create_plist().get_nfilters() or field.id.get_type().get_size() != _REFERENCE.itemsize:
        raise DataError(f"{source}: the references to its rows are compressed or not of 16 bytes; write them plainly")
    # What has no place in the file was never written: rows of length 0.
    raw = np.zeros(len(field) * _REFERENCE.itemsize, dtype=np.uint8)
    for position, address, size in _pieces(field):
        piece = np.frombuffer(content, np.uint8)[address : address + min(size, max(len(raw) - position, 0))]
        raw[position : position + len(piece)] = piece
    return raw.view(_REFERENCE)


def _pieces(field: h5py.Dataset) -> Iterator[tuple[int, int, int]]:
    """Yield where each piece of the references belongs in the field, where it lies in the file, and its size, in bytes."""
    if field.chunks is None:
        if (address := field.id.get_offset()) is not None:
            yield 0, address, len(field) * _REFERENCE.itemsize
        return
    for index in range(field.id.get_num_chunks()):
        chunk = field.id.get_chunk_info(index)
        yield chunk.chunk_offset[0] * _REFERENCE.itemsize, chunk.byte_offset, chunk.size


def _collection(content: bytes, address: int, source: str) -> tuple[dict[int, tuple[int, int]], int]:
    """Return where the data of each object of a heap collection starts and its size, by number; and the whole's size."""
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
