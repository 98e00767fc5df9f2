"""Tests of rheobase.data.event_files and rheobase.data.hdf5_rows."""

import gzip
import io
import lzma
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rheobase.data import Events, hdf5_rows, read_events, write_events
from rheobase.data.event_files import parse_events
from rheobase.errors import DataError


def small() -> Events:
    rng = np.random.default_rng(0)
    times = np.sort(rng.random((4, 6)), axis=1).astype(np.float32)
    return Events(
        times.ravel(), rng.integers(0, 20, 24), np.arange(0, 25, 6), np.arange(4), 20, tuple("abcd"),
        np.array([0, 1, 0, 1]), ("anna", "otto"),
    )  # fmt: skip


def written(change=None, **options) -> bytes:
    """A file in the layout of SHD, written with h5py's own means, changed by `change(file)`."""
    events = small()
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, values in (("times", events.times.astype(np.float16)), ("units", events.units.astype(np.uint16))):
            rows = file.create_dataset(f"spikes/{name}", (4,), dtype=h5py.vlen_dtype(values.dtype), **options)
            for sample, row in enumerate(np.split(values, events.offsets[1:-1])):
                rows[sample] = row
        file["labels"] = events.labels.astype(np.uint8)
        file["extra/keys"] = np.array([name.encode() for name in events.classes])
        file["extra/speaker"] = events.speakers.astype(np.uint8)
        file["extra/meta_info/name"] = np.array([b"anna", b"otto"])
        if change is not None:
            change(file)
    return buffer.getvalue()


def assert_same(got: Events, expected: Events) -> None:
    for name in ("times", "units", "offsets", "labels", "speakers"):
        assert np.array_equal(getattr(got, name), getattr(expected, name)), name
    assert (got.channels, got.classes, got.speaker_names) == (
        expected.channels, expected.classes, expected.speaker_names,
    )  # fmt: skip


@pytest.mark.parametrize("ending", [".h5", ".h5.gz", ".h5.xz"])
def test_what_is_written_is_read(tmp_path, events, ending):
    path = tmp_path / f"events{ending}"
    write_events(path, events)
    assert_same(read_events(path, channels=20), events)
    assert list(tmp_path.iterdir()) == [path]
    first = path.read_bytes()
    write_events(path, events)
    assert path.read_bytes() == first


def test_recordings_without_events_are_kept(tmp_path):
    events = Events(np.float32([0.5, 0.25]), np.array([1, 2]), np.array([0, 0, 1, 2, 2]), np.array([0, 1, 0, 1]), 3)
    write_events(tmp_path / "events.h5", events)
    assert_same(read_events(tmp_path / "events.h5", channels=3), events)


@pytest.mark.parametrize("more", [{}, {"sensor": (2, 2, 5)}, {"sensor": (1, 4, 5), "simulated": True}], ids=str)
def test_channels_sensor_and_simulation_are_kept(tmp_path, more):
    events = replace(small(), **more)
    write_events(str(tmp_path / "events.h5"), events)
    got = read_events(str(tmp_path / "events.h5"))
    assert_same(got, events)
    assert (got.channels, got.sensor, got.simulated) == (20, events.sensor, events.simulated)
    with pytest.raises(DataError, match="extra/channels: got 20, but 21 were requested; leave channels out"):
        read_events(tmp_path / "events.h5", channels=21)


def added(**fields) -> bytes:
    def change(file):
        for name, values in fields.items():
            file[f"extra/{name}"] = values

    return written(change)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (added(channels=[0]), "extra/channels: got 0, expected 1 to 16,777,216"),
        (added(channels=np.array([2**64 - 1], np.uint64)), "extra/channels: got 18446744073709551615, expected 1 to"),
        (added(channels=[19]), "units: sample . has 19 at event ., expected channels 0 to 18"),
        (added(channels=[20, 20]), r"extra/channels: got int64 of shape \(2,\), expected integers of shape \(1,\)"),
        (added(channels=20), r"extra/channels: got int64 of shape \(\), expected integers of shape \(1,\)"),
        (added(channels=[20.0]), "extra/channels: got float64"),
        (
            added(channels=[20], sensor=[2, 10]),
            r"extra/sensor: got int64 of shape \(2,\), expected integers of shape \(3,\)",
        ),
        (added(channels=[20], sensor=[2, 5, 5]), r"sensor: got \(2, 5, 5\) for 20 channels"),
        (added(channels=[20], sensor=[-2, -2, 5]), r"sensor: got \(-2, -2, 5\), expected .* each at least 1"),
        (added(simulated=[0.5]), "extra/simulated: got float64"),
    ],
)
def test_channels_and_sensor_of_a_file_are_checked(content, message):
    with pytest.raises(DataError, match=f"here: {message}"):
        parse_events(content, "here")


def test_files_that_do_not_say_their_channels_have_those_of_shd():
    assert parse_events(written(), "here").channels == 700
    assert parse_events(written(), "here", channels=20).channels == 20


def test_the_times_are_kept_as_float16_on_demand(tmp_path, events):
    write_events(tmp_path / "events.h5", events, times_as=np.float16)
    got = read_events(tmp_path / "events.h5", channels=20)
    assert np.array_equal(got.times, events.times.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (3,)},
        {"chunks": (2,), "maxshape": (None,)},
        {"chunks": (3,), "compression": "gzip"},
        {"chunks": (3,), "compression": "gzip", "shuffle": True},
    ],
    ids=str,
)
def test_every_usual_way_to_store_rows_is_read(options):
    expected = small()
    got = parse_events(written(**options), "here", channels=20)
    assert np.array_equal(got.times, expected.times.astype(np.float16).astype(np.float32))
    assert np.array_equal(got.units, expected.units)
    assert got.offsets.tolist() == [0, 6, 12, 18, 24]


def test_shuffled_references_are_put_in_order():
    # Today's HDF5 leaves references unshuffled, older versions did not.
    references = np.arange(48, dtype=np.uint8)
    packed = zlib.compress(references.reshape(3, 16).T.tobytes())
    applied = [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE]
    assert np.array_equal(hdf5_rows._unfiltered(packed, applied, 48, "here"), references)
    with pytest.raises(DataError, match="here: truncated: got 32 bytes of references, expected 48"):
        hdf5_rows._unfiltered(zlib.compress(bytes(40)), applied, 48, "here")
    with pytest.raises(DataError, match="here: damaged, cannot be unpacked"):
        hdf5_rows._unfiltered(b"not zlib", applied, 48, "here")


def test_an_unusual_way_to_store_rows_is_refused():
    with pytest.raises(DataError, match="here: spikes/times: packed with HDF5 filter 32000, expected deflate, shuffle"):
        parse_events(written(chunks=(3,), compression="lzf"), "here", channels=20)


def test_extra_fields_may_be_missing():
    def remove(file):
        del file["extra"]

    events = parse_events(written(remove), "here", channels=20)
    assert events.classes == ("0", "1", "2", "3")
    assert events.speakers is None

    def remove_names(file):
        del file["extra/meta_info"]

    assert parse_events(written(remove_names), "here", channels=20).speaker_names == ("0", "1")


def test_names_may_be_text_of_any_length_and_big_endian_numbers_are_read():
    def rewrite(file):
        del file["extra/keys"], file["labels"]
        file.create_dataset("extra/keys", data=["null", "eins", "zwei", "fünf"], dtype=h5py.string_dtype())
        file["labels"] = np.arange(4, dtype=">i8")

    events = parse_events(written(rewrite), "here", channels=20)
    assert events.classes == ("null", "eins", "zwei", "fünf")
    assert events.labels.tolist() == [0, 1, 2, 3]


def replaced(name: str, values) -> bytes:
    def change(file):
        del file[name]
        if values is not None:
            file[name] = values

    return written(change)


def rows(name: str, *values: list, dtype=np.float32) -> bytes:
    def change(file):
        del file[name]
        field = file.create_dataset(name, (len(values),), dtype=h5py.vlen_dtype(dtype))
        for sample, row in enumerate(values):
            field[sample] = np.array(row, dtype)

    return written(change)


six = [0.0] * 6
huge = {"shape": (2**40,), "dtype": np.uint8, "chunks": (2**20,)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an HDF5 file: it starts with b''"),
        (b"PK\3\4 a zip file", "not an HDF5 file: it starts with b'PK"),
        (written()[:3000], "damaged HDF5 file .*truncated"),
        (replaced("spikes/times", None), "has no field spikes/times, expected the layout of SHD"),
        (replaced("spikes", None), "has no field spikes/times"),
        (replaced("spikes/units", None), "has no field spikes/units"),
        (replaced("labels", None), "has no field labels"),
        (replaced("spikes/times", np.zeros((4, 6))), r"spikes/times: got float64 of shape \(4, 6\), expected one row of"),
        (rows("spikes/times", six, six, six, six, dtype=np.int32), "spikes/times: got rows of int32 of shape"),
        (rows("spikes/units", six, six, six, six), "spikes/units: got rows of float32 .*expected one row of integers"),
        (rows("spikes/times", six, six, six[1:], six), "sample 2 has 5 spikes/times and 6 spikes/units"),
        (rows("spikes/times", six, six, six), "spikes/times has 3 samples, spikes/units 4, expected as many"),
        (rows("spikes/times", six, [0, 0, 2, 1, 3, 3], six, six), "times: sample 1 has 1.0 at event 3, expected ascending"),
        (rows("spikes/times", six, six, six, [-1.0, *six[1:]]), "times: sample 3 has -1.0 at event 0"),
        (rows("spikes/times", six, six, six, [np.nan] * 6), "times: sample 3 has nan at event 0, expected finite"),
        (rows("spikes/times", six, six, six, [np.inf] * 6), "times: sample 3 has inf at event 0, expected finite"),
        (rows("spikes/units", six, [20] * 6, six, six, dtype=np.uint16), "units: sample 1 has 20 at event 0, expected"),
        (rows("spikes/units", six, six, six, [-1] * 6, dtype=np.int8), "units: sample 3 has -1 at event 0"),
        (rows("spikes/times"), "spikes/times: the data set is empty, expected at least one sample"),
        (replaced("labels", np.zeros(4)), "labels: got float64 of shape .*expected integers, one per sample"),
        (replaced("labels", np.array([0, 1, 2, 4])), "labels: sample 3 has 4, expected 0 to 3"),
        (replaced("labels", np.array([0, 1, 2])), "got 3 labels for 4 recordings"),
        (replaced("extra/keys", np.arange(4)), "extra/keys: got int64 .*expected a list of names"),
        (replaced("extra/keys", np.array([b"\xff", b"b", b"c", b"d"])), "damaged HDF5 file .*utf-8"),
        (replaced("extra/speaker", np.array([0, 1, 2, 0])), "speakers: sample 2 has 2, expected 0 to 1"),
        (replaced("extra/speaker", np.array([0])), "got 1 speakers for 4 recordings"),
        (written(lambda file: file.create_dataset("extra/unused", **huge)), None),
        (replaced("labels", h5py.SoftLink("/labels")), "damaged HDF5 file .*too many links"),
        (replaced("labels", h5py.ExternalLink("/etc/hostname", "labels")), "labels|damaged"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_by_name(content, message):
    if message is None:
        assert len(parse_events(content, "here", channels=20)) == 4
        return
    with pytest.raises(DataError, match=f"here: .*({message})|here: ({message})"):
        parse_events(content, "here", channels=20)


def test_a_size_that_the_file_cannot_hold_is_refused_before_memory_is_reserved():
    def change(file):
        del file["labels"]
        file.create_dataset("labels", **huge)

    with pytest.raises(DataError, match=r"labels: got uint8 of shape \(1099511627776,\), which does not fit"):
        parse_events(written(change), "here", channels=20)


def test_a_row_that_claims_to_be_long_is_refused():
    content = bytearray(written())
    with h5py.File(io.BytesIO(content)) as file:
        place = file["spikes/units"].id.get_offset()
    content[place : place + 4] = (2**32 - 1).to_bytes(4, "little")
    with pytest.raises(DataError, match=r"spikes/units: rows of 8589934\d+ bytes in all, expected at most"):
        parse_events(bytes(content), "here", channels=20)
    content[place : place + 4] = (7).to_bytes(4, "little")
    with pytest.raises(DataError, match="spikes/units: sample 0: got 12 bytes in heap object"):
        parse_events(bytes(content), "here", channels=20)


def test_collections_that_overlap_are_refused():
    collections = [struct.pack("<4sB3xQ", b"GCOL", 1, 600 - 32 * n) + struct.pack("<H6xQ", 1, 2) for n in range(16)]
    content = b"".join(collections) + bytes(600)
    references = np.array([(1, 32 * n, 1) for n in range(16)], hdf5_rows._REFERENCE)
    with pytest.raises(DataError, match="sample 1: heap collections overlap"):
        hdf5_rows._follow(content[:700], references, np.dtype(np.uint16), "here")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.h5", None, "there is no such file"),
        ("a.h5.gz", gzip.compress(written())[:-500], "truncated: the compressed file ends early"),
        ("a.h5.xz", lzma.compress(written())[:-500], "truncated: the compressed file ends early"),
        ("a.h5.gz", written(), "damaged, cannot be unpacked"),
        ("a.h5.xz", written(), "damaged, cannot be unpacked"),
        ("a.h5.gz", gzip.compress(bytes(10**7)), "holds more than the limit of 1000000 bytes when unpacked"),
        ("a.h5.xz", lzma.compress(bytes(10**7)), "holds more than the limit of 1000000 bytes when unpacked"),
    ],
)
def test_bad_packing_is_refused_by_name(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: {message}"):
        read_events(tmp_path / name, channels=20, limit=10**6)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_events(tmp_path)


def read_or_refuse(content: bytes) -> None:
    try:
        events = parse_events(content, "here", channels=20)
    except DataError as error:
        assert str(error).startswith("here: ")  # noqa: PT017
    else:
        assert len(events.labels) == len(events) == len(events.offsets) - 1


PLAIN = written()
PACKED = written(chunks=(3,), compression="gzip", shuffle=True)


@given(content=st.binary(max_size=200), signature=st.booleans())
def test_random_bytes_are_refused(content, signature):
    read_or_refuse(PLAIN[:8] * signature + content)


@given(source=st.sampled_from([PLAIN, PACKED]), length=st.integers(0, len(PLAIN)))
def test_truncated_files_are_refused(source, length):
    read_or_refuse(source[:length])


@settings(max_examples=400)
@given(
    source=st.sampled_from([PLAIN, PACKED]),
    flips=st.lists(st.tuples(st.integers(0, len(PLAIN) - 1), st.integers(0, 255)), min_size=1, max_size=4),
)
@example(source=PLAIN, flips=[(8, 255)])
def test_damaged_files_are_read_or_refused(source, flips):
    content = bytearray(source)
    # Half of a file is zeros that nothing reads: the places to damage are counted among the other bytes.
    places = np.flatnonzero(np.frombuffer(source, np.uint8))
    for place, value in flips:
        content[places[place % len(places)]] = value
    read_or_refuse(bytes(content))


@settings(max_examples=60)
@given(pack=st.sampled_from([gzip, lzma]), place=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_packing_is_read_or_refused(tmp_path_factory, pack, place, value, cut):
    content = bytearray(pack.compress(PLAIN))
    place %= len(content)
    content[place] = value
    path = tmp_path_factory.getbasetemp() / ("here.h5.gz" if pack is gzip else "here.h5.xz")
    path.write_bytes(content[:place] if cut else content)
    try:
        read_events(path, channels=20)
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017


def test_writing_leaves_nothing_half_done(tmp_path, events, monkeypatch):
    path = tmp_path / "events.h5"
    path.write_bytes(b"before")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_events(path, events)
    assert list(tmp_path.iterdir()) == [path]
    assert Path(path).read_bytes() == b"before"
