"""AEDAT 3.1: the files of iniVation's event cameras, in which DVS128 Gesture is published.

No maintained reader library with a permissive licence reads this version, so it is read here: it is a text header and packets
of fixed-size events, and every length is compared with the file's content before anything is read from it.

The format ("AEDAT 3.1", iniVation): the line `#!AER-DAT3.1`, further lines that begin with `#`, the last of them
`#!END-HEADER`. Then packets, little-endian: type and source (2 bytes each), the size of an event, the offset of the time in it,
how often the clock overflowed, the room for events, the number of events, the number of valid ones (4 bytes each), and the
events. A polarity event is a word of flags and address (bit 0: valid, bit 1: brighter, bits 2 to 16: y, bits 17 to 31: x) and a
word of time, in microseconds.
"""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt16

from rheobase.data.files import LIMIT, read_bytes
from rheobase.errors import DataError

_FIRST_LINE, _LAST_LINE = b"#!AER-DAT3.1", b"#!END-HEADER"
_PACKET = struct.Struct("<hhiiiiii")
_POLARITY = 1
_EVENT = np.dtype([("address", "<u4"), ("time", "<u4")])


class PolarityEvents(NamedTuple):
    """The events of a camera, ascending in time.

    Attributes:
        times: (events,) microseconds.
        x: (events,) the column of the pixel.
        y: (events,) the row of the pixel.
        brighter: (events,) the polarity.
    """

    times: Int64[np.ndarray, " events"]
    x: UInt16[np.ndarray, " events"]
    y: UInt16[np.ndarray, " events"]
    brighter: Bool[np.ndarray, " events"]


def read_aedat(path: Path, limit: int = LIMIT) -> PolarityEvents:
    """Read the polarity events of an AEDAT 3.1 file; packets of other events are skipped, invalid events left out.

    Raises:
        DataError: if the file is missing, of another version, truncated, or contradicts itself.
    """
    return parse_aedat(read_bytes(path, limit), str(path))


def parse_aedat(content: bytes, source: str) -> PolarityEvents:
    """Read the polarity events from the content of an AEDAT 3.1 file; `source` is its name in error messages.

    Raises:
        DataError: as for `read_aedat`.
    """
    at = _header_end(content, source)
    parts = [np.empty(0, _EVENT)]
    times = [np.empty(0, np.int64)]
    while at < len(content):
        if at + _PACKET.size > len(content):
            raise DataError(f"{source}: truncated: {len(content) - at} bytes are left at {at}, a packet begins with 28")
        kind, _, size, place, overflow, room, number, valid = _PACKET.unpack_from(content, at)
        begin = at + _PACKET.size
        if size < 1 or overflow < 0 or not 0 <= valid <= number <= room:
            raise DataError(
                f"{source}: the packet at {at} has events of {size} bytes, overflow {overflow}, room for {room}, {number} "
                f"events, {valid} of them valid, which cannot be; the file is damaged"
            )
        at = begin + room * size
        if at > len(content):
            raise DataError(f"{source}: truncated: the packet at {begin} ends at {at}, the file at {len(content)}")
        if kind != _POLARITY:
            continue
        if (size, place) != (_EVENT.itemsize, 4):
            raise DataError(f"{source}: got polarity events of {size} bytes with the time at {place}, expected 8 and 4")
        events = np.frombuffer(content, _EVENT, number, begin)
        events = events[events["address"] & 1 == 1]
        if (events["time"] >> 31).any():
            raise DataError(f"{source}: the packet at {begin} has a negative time; the file is damaged")
        parts.append(events)
        times.append(events["time"].astype(np.int64) + (overflow << 31))
    address, time = np.concatenate(parts)["address"], np.concatenate(times)
    if (time[1:] < time[:-1]).any():
        order = np.argsort(time, kind="stable")
        address, time = address[order], time[order]
    x, y = (address >> 17).astype(np.uint16), (address >> 2 & 0x7FFF).astype(np.uint16)
    return PolarityEvents(time, x, y, address >> 1 & 1 == 1)


def _header_end(content: bytes, source: str) -> int:
    """Where the packets begin."""
    if content[: len(_FIRST_LINE)] != _FIRST_LINE:
        raise DataError(f"{source}: not an AEDAT 3.1 file: it starts with {content[:14]!r}")
    at = 0
    while content[at : at + 1] == b"#":
        end = content.find(b"\n", at)
        if end < 0:
            break
        line, at = content[at:end], end + 1
        if line.rstrip(b"\r") == _LAST_LINE:
            return at
    raise DataError(f"{source}: the header does not end: there is no line #!END-HEADER")
