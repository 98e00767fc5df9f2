"""Tests of rheobase.data.aedat, on files that are written here by the letter of the format."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rheobase.data import read_aedat
from rheobase.data.aedat import parse_aedat
from rheobase.errors import DataError

HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2016-07-22 14:38:02\r\n#!END-HEADER\r\n"


def packet(events, *, kind=1, overflow=0, size=8, place=4, room=None, number=None) -> bytes:
    """Events as (time, x, y, brighter, valid)."""
    count = len(events) if number is None else number
    room = count if room is None else room
    head = struct.pack("<hhiiiiii", kind, 1, size, place, overflow, room, count, sum(event[4] for event in events))
    words = [
        struct.pack("<II", x << 17 | y << 2 | brighter << 1 | valid, time) for time, x, y, brighter, valid in events
    ]
    return head + b"".join(words) + bytes(8 * max(min(room, 99) - len(events), 0))


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 2**31 - 1), st.integers(0, 2**15 - 1), st.integers(0, 2**15 - 1), st.booleans(), st.booleans()
    ),
    max_size=20,
)


@given(packets=st.lists(st.tuples(EVENTS, st.integers(0, 3), st.integers(0, 2)), max_size=4))
def test_what_is_written_is_read(packets):
    content, expected = HEADER, []
    for events, overflow, spare in packets:
        events = sorted(events)
        content += packet(events, overflow=overflow, room=len(events) + spare) + packet([(7, 1, 1, True, True)], kind=0)
        expected += [(time + overflow * 2**31, x, y, brighter) for time, x, y, brighter, valid in events if valid]
    got = parse_aedat(content, "here")
    assert [array.dtype for array in got] == [np.int64, np.uint16, np.uint16, bool]
    expected.sort(key=lambda event: event[0])
    assert [tuple(event) for event in zip(*(array.tolist() for array in got), strict=True)] == expected


def test_a_file_by_hand(tmp_path):
    address = 0b000000001100100_000000001000001_1_1  # x 100, y 65, brighter, valid
    content = HEADER + struct.pack("<hhiiiiiiII", 1, 1, 8, 4, 0, 1, 1, 1, address, 80_048_239)
    (tmp_path / "user01_led.aedat").write_bytes(content)
    events = read_aedat(tmp_path / "user01_led.aedat")
    assert [array.tolist() for array in events] == [[80_048_239], [100], [65], [True]]


def test_other_ends_of_lines_and_no_events():
    assert len(parse_aedat(HEADER.replace(b"\r\n", b"\n"), "here").times) == 0


GOOD = [(5, 1, 2, True, True), (6, 3, 4, False, True)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an AEDAT 3.1 file: it starts with b''"),
        (HEADER.replace(b"3.1", b"2.0"), "not an AEDAT 3.1 file: it starts with b'#!AER-DAT2.0"),
        (HEADER.replace(b"#!END-HEADER\r\n", b""), "the header does not end"),
        (HEADER[:-2], "the header does not end"),
        (HEADER + packet(GOOD)[:27], "truncated: 27 bytes are left"),
        (HEADER + packet(GOOD)[:-1], "truncated: the packet at .* ends at"),
        (HEADER + packet(GOOD, room=2**31 - 1, number=0)[:100], "which cannot be|truncated"),
        (HEADER + packet(GOOD, number=-2, room=0), "which cannot be; the file is damaged"),
        (HEADER + packet(GOOD, room=1), "which cannot be"),
        (HEADER + packet(GOOD, size=0), "has events of 0 bytes"),
        (HEADER + packet(GOOD, overflow=-1), "overflow -1"),
        (HEADER + packet(GOOD, size=4), "got polarity events of 4 bytes with the time at 4, expected 8 and 4"),
        (HEADER + packet(GOOD, place=0), "got polarity events of 8 bytes with the time at 0"),
        (HEADER + packet([(2**31, 1, 1, True, True)]), "has a negative time"),
    ],
)
def test_bad_files_are_refused_by_name(content, message):
    with pytest.raises(DataError, match=f"here: .*({message})"):
        parse_aedat(content, "here")


BASE = HEADER + packet(GOOD * 3) + packet(GOOD, kind=0) + packet(GOOD, overflow=1)


@given(
    place=st.integers(len(HEADER), len(BASE) - 1),
    value=st.integers(0, 255),
    cut=st.booleans(),
    more=st.binary(max_size=40),
)
def test_damaged_files_are_read_or_refused(place, value, cut, more):
    content = bytearray(BASE)
    if cut:
        content[place:] = more
    else:
        content[place] = value
    try:
        events = parse_aedat(bytes(content), "here")
    except DataError as error:
        assert str(error).startswith("here: ")  # noqa: PT017
    else:
        assert len({len(array) for array in events}) == 1
        assert (np.diff(events.times) >= 0).all()
