"""Tests of rheobase.data.n_mnist_files: the format, the folders, the zip files, and what is refused."""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rheobase.data import EventDataset, Recording, n_mnist, n_mnist_files, read_n_mnist, write_n_mnist
from rheobase.data.n_mnist_files import pack_n_mnist, parse_n_mnist
from rheobase.data.published import PublishedFile
from rheobase.errors import DataError

BY_HAND = bytes([33, 0, 0x00, 0x02, 0x8E, 0, 33, 0x84, 0xBF, 0x87, 1, 2, 0xFF, 0xFF, 0xFF])
"""x 33, y 0, darker, 654 us; x 0, y 33, brighter, 311,175 us; x 1, y 2, brighter, at the last time that there is."""


def test_a_file_written_by_hand(tmp_path):
    times, units = parse_n_mnist(BY_HAND, "here")
    assert times.tolist() == [654, 311_175, 2**23 - 1]
    assert units.tolist() == [33, 34 * 33 + 1156, 1 + 34 * 2 + 1156]
    assert (times.dtype, units.dtype) == (np.uint32, np.uint16)
    (tmp_path / "00002.bin").write_bytes(BY_HAND)
    recording = read_n_mnist(tmp_path / "00002.bin")
    assert recording.channels == 2312
    assert recording.times.tolist() == pytest.approx([0.000654, 0.311175, 8.388607], rel=1e-7)
    write_n_mnist(tmp_path / "again.bin", recording)
    assert (tmp_path / "again.bin").read_bytes() == BY_HAND


def test_an_official_file():
    """The figures were counted in the bytes, without this reader."""
    content = (Path(__file__).parent / "n_mnist" / "sample.bin").read_bytes()
    times, units = parse_n_mnist(content, "sample.bin")
    assert len(times) == len(units) == 4325
    assert (times[0], times[-1]) == (654, 311_175)
    assert (np.diff(times.astype(np.int64)) >= 0).all()
    assert (units.min(), units.max(), units[0], units[-1]) == (56, 2296, 1673, 1653)
    assert (units >= 34 * 34).sum() == 2145  # brighter
    assert pack_n_mnist(times, units) == content
    recording = read_n_mnist(Path(__file__).parent / "n_mnist" / "sample.bin")
    assert np.array_equal(np.round(recording.times * 1e6), times)
    assert np.array_equal(recording.units, units)


TIMES = hnp.arrays(np.int64, st.shared(st.integers(0, 40), key="events"), elements=st.integers(0, 2**23 - 1))
UNITS = hnp.arrays(np.int64, st.shared(st.integers(0, 40), key="events"), elements=st.integers(0, 2311))


@given(times=TIMES, units=UNITS)
def test_what_is_written_is_read_also_through_seconds_in_float32(tmp_path_factory, times, units):
    times = np.sort(times)
    content = pack_n_mnist(times, units)
    assert len(content) == 5 * len(times)
    got_times, got_units = parse_n_mnist(content, "here")
    assert np.array_equal(got_times, times)
    assert np.array_equal(got_units, units)
    path = tmp_path_factory.mktemp("n_mnist") / "a.bin"
    write_n_mnist(path, Recording((times / 1e6).astype(np.float32), units.astype(np.int32), 2312))
    assert path.read_bytes() == content


@given(st.binary(max_size=60))
def test_random_bytes_are_read_or_refused(content):
    try:
        times, units = parse_n_mnist(content, "here")
    except DataError as error:
        assert str(error).startswith("here: ")  # noqa: PT017
    else:
        assert len(times) == len(units) <= len(content) // 5
        assert (np.diff(times.astype(np.int64)) >= 0).all()
        assert (units < 2312).all()


def test_the_clock_of_the_camera_may_run_over():
    event, overflow = bytes([1, 0, 0, 0, 5]), bytes([0, 240, 0, 0, 0])
    times, units = parse_n_mnist(event + overflow + event + overflow + overflow + event, "here")
    assert times.tolist() == [5, 8192 + 5, 3 * 8192 + 5]
    assert units.tolist() == [1, 1, 1]


def test_events_are_put_in_the_order_of_their_times():
    times, units = parse_n_mnist(bytes([1, 0, 0, 0, 9, 2, 0, 0, 0, 5, 3, 0, 0, 0, 9]), "here")
    assert (times.tolist(), units.tolist()) == ([5, 9, 9], [2, 1, 3])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BY_HAND[:-1], "got 14 bytes, expected a multiple of 5"),
        (BY_HAND + bytes([34, 0, 0, 0, 0]), "event 3 is at x 34, y 0, expected 0 to 33"),
        (bytes([0, 34, 0, 0, 0]), "event 0 is at x 0, y 34"),
    ],
)
def test_bad_files_are_refused_by_name(content, message):
    with pytest.raises(DataError, match=f"here: {message}"):
        parse_n_mnist(content, "here")


@pytest.mark.parametrize(
    ("times", "units", "message"),
    [
        ([2**23], [0], "times: got 8388608 to 8388608, expected 0 to 8388607"),
        ([-1, 5], [0, 0], "times: got -1 to 5"),
        ([0], [2312], "units: got 2312 to 2312, expected 0 to 2311"),
    ],
)
def test_what_does_not_fit_into_the_format_is_not_written(times, units, message):
    with pytest.raises(ValueError, match=message):
        pack_n_mnist(np.array(times), np.array(units))


def recordings(samples: int) -> dict[str, bytes]:
    """Files of one part by their names in it; sample k has k + 1 events, the first at channel k."""
    files = {}
    for sample in range(samples):
        times, units = np.arange(sample + 1) * 1000, np.full(sample + 1, sample)
        files[f"{(7 * sample) % 10}/{sample + 1:05d}.bin"] = pack_n_mnist(times, units)
    return files


@pytest.fixture
def parts(monkeypatch):
    """A set of 12 + 5 recordings in place of 60,000 + 10,000."""
    monkeypatch.setattr(n_mnist_files, "PARTS", {"Train": 12, "Test": 5})
    return {"Train": recordings(12), "Test": recordings(5)}


def write_folders(folder, parts):
    for part, files in parts.items():
        for name, content in files.items():
            (folder / part / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / part / name).write_bytes(content)


def zipped(part: str, files: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        archive.mkdir(f"{part}/0")
        for name, content in files.items():
            archive.writestr(f"{part}/{name}", content)
    return buffer.getvalue()


def write_zips(folder, parts, monkeypatch, url=None):
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for part, content in parts.items():
        (folder / f"{part}.zip").write_bytes(content)
        checksum = f"md5:{hashlib.md5(content).hexdigest()}"
        address = None if url is None else f"{url}/{part}.zip"
        files[part] = PublishedFile(f"n_mnist/{part}.zip", archives={"": checksum}, url=address)
    monkeypatch.setattr(n_mnist_files, "_FILES", files)


def check_set(train, test):
    for events, samples in ((train, 12), (test, 5)):
        assert len(events) == samples
        assert events.labels.tolist() == [(7 * sample) % 10 for sample in range(samples)]
        assert np.diff(events.offsets).tolist() == list(range(1, samples + 1))
        assert [events.recording(sample).units[0] for sample in range(samples)] == list(range(samples))
        assert (events.channels, events.sensor, events.units.dtype) == (2312, (2, 34, 34), np.uint16)
        assert not events.simulated
    assert train.recording(3).times.tolist() == pytest.approx([0, 0.001, 0.002, 0.003])


@pytest.mark.parametrize("packing", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_folders_and_zip_files_are_read_in_the_order_of_mnist(tmp_path, parts, packing, monkeypatch):
    if packing is None:
        write_folders(tmp_path / "n_mnist", parts)
    else:
        zips = {part: zipped(part, files, packing) for part, files in parts.items()}
        write_zips(tmp_path / "n_mnist", zips, monkeypatch)
    told = []
    check_set(*n_mnist(tmp_path, progress=lambda *news: told.append(news)))
    assert told[-1][1] == told[-1][2] == sum(len(content) for content in parts["Test"].values())


def test_other_files_do_not_count_and_none_is_written(tmp_path, parts, monkeypatch):
    write_folders(tmp_path / "n_mnist", parts)
    (tmp_path / "n_mnist/Train/0/notes.txt").write_text("mine")
    (tmp_path / "n_mnist/Train/0/.00077.bin").write_text("an editor's")
    check_set(*n_mnist(tmp_path))
    foul = {"../../../00099.bin": b"12345", "../0/00099.bin": b"12345", "0/00099.bin.exe": b"12345"}
    zips = {part: zipped(part, {**files, **foul}) for part, files in parts.items()}
    write_zips(tmp_path / "a/n_mnist", zips, monkeypatch)
    check_set(*n_mnist(tmp_path / "a"))
    assert sorted(path.name for path in (tmp_path / "a/n_mnist").iterdir()) == ["Test.zip", "Train.zip"]


def test_a_set_that_is_not_complete_is_refused(tmp_path, parts):
    write_folders(tmp_path / "n_mnist", parts)
    (tmp_path / "n_mnist/Test/0/00001.bin").unlink()
    with pytest.raises(DataError, match="Test: got 4 recordings, expected 5; the set is not complete"):
        n_mnist(tmp_path)


def test_a_recording_that_is_there_twice_does_not_make_up_for_a_missing_one(tmp_path, parts):
    # By number alone the order would be off from here on: the labels would be right, the pictures of MNIST would not.
    parts["Train"]["3/00002.bin"] = parts["Train"].pop("4/00003.bin")
    write_folders(tmp_path / "n_mnist", parts)
    with pytest.raises(DataError, match=r"Train: got .*00002\.bin where recording 00003 was expected"):
        n_mnist(tmp_path)


def test_a_damaged_recording_is_named(tmp_path, parts, monkeypatch):
    parts["Train"]["7/00002.bin"] = bytes([0, 99, 0, 0, 0])
    write_folders(tmp_path / "n_mnist", parts)
    with pytest.raises(DataError, match=r"Train/7/00002\.bin: event 0 is at x 0, y 99"):
        n_mnist(tmp_path)
    write_zips(tmp_path / "a/n_mnist", {part: zipped(part, files) for part, files in parts.items()}, monkeypatch)
    with pytest.raises(DataError, match=r"Train\.zip: Train/7/00002\.bin: event 0"):
        n_mnist(tmp_path / "a")


def test_a_zip_file_is_held_against_its_checksum_and_fetched_only_when_asked(tmp_path, parts, monkeypatch):
    zips = {part: zipped(part, files) for part, files in parts.items()}
    write_zips(tmp_path / "n_mnist", zips, monkeypatch, url="https://example.org")
    (tmp_path / "n_mnist/Test.zip").write_bytes(zips["Test"] + b"x")
    with pytest.raises(DataError, match=r"Test\.zip: the checksum does not match: got md5"):
        n_mnist(tmp_path)
    (tmp_path / "n_mnist/Test.zip").unlink()
    with pytest.raises(
        DataError, match=r"n_mnist/Test\.zip: there is no such file.*example.org/Test.zip with --download"
    ):
        n_mnist(tmp_path)


def test_a_zip_file_that_claims_to_be_huge_is_refused_before_memory_is_taken(tmp_path, parts, monkeypatch):
    content = bytearray(zipped("Train", parts["Train"]))
    at = content.index(
        b"PK\1\2", content.index(b"PK\1\2") + 4
    )  # the first file after the folder, in the table of contents
    content[at + 24 : at + 28] = (2**32 - 6).to_bytes(4, "little")
    write_zips(tmp_path / "n_mnist", {"Train": bytes(content), "Test": zipped("Test", parts["Test"])}, monkeypatch)
    with pytest.raises(DataError, match=r"Train\.zip: claims to unpack to 4294\d+ bytes, expected at most"):
        n_mnist(tmp_path)


ZIP = {packing: zipped("Test", recordings(5), packing) for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)}


@given(packing=st.sampled_from(sorted(ZIP)), place=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.booleans())
def test_damaged_zip_files_are_read_or_refused(tmp_path_factory, packing, place, value, cut):
    content = bytearray(ZIP[packing])
    place %= len(content)
    if cut:
        del content[place:]
    else:
        content[place] = value
    path = tmp_path_factory.mktemp("zip") / "Test.zip"
    path.write_bytes(content)
    try:
        with n_mnist_files._members_of_zip(path, "Test") as members:
            events = n_mnist_files._read(members, str(path), 5, False, None)
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert len(events) == 5


def test_a_simulation_is_read_only_when_it_is_asked_for_and_says_so(tmp_path, parts):
    with pytest.raises(
        DataError, match=r"n_mnist_simulated: there is no simulation of N-MNIST; `rheobase simulate n-mnist`"
    ):
        n_mnist(tmp_path, simulated=True)
    folder = tmp_path / "n_mnist_simulated"
    write_folders(folder, parts)
    record = {"done": {"Train": 12, "Test": 0}, "samples": {"Train": 12, "Test": 5}}
    (folder / "simulation.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="the simulation is not complete"):
        n_mnist(tmp_path, simulated=True)
    record["done"]["Test"] = 5
    (folder / "simulation.json").write_text(json.dumps(record))
    train, test = n_mnist(tmp_path, simulated=True)
    assert (len(train), len(test)) == (12, 5)
    assert train.simulated
    assert test.simulated
    with pytest.raises(DataError, match=r"n_mnist/Train\.zip: there is no such file"):
        n_mnist(tmp_path)
    folder.rename(tmp_path / "n_mnist")
    with pytest.raises(DataError, match="n_mnist: holds simulated events, expected recordings; move it to"):
        n_mnist(tmp_path)


@pytest.mark.parametrize(
    "record",
    ["{", "[]", '{"done": 1, "samples": 2}', '{"done": {"Train": "x"}}', '{"done": {"Train": Infinity}}', "[" * 10_000],
)
def test_a_damaged_record_of_a_simulation_is_refused(tmp_path, record):
    (tmp_path / "n_mnist_simulated").mkdir()
    (tmp_path / "n_mnist_simulated/simulation.json").write_text(record)
    with pytest.raises(DataError, match="damaged, expected the record of a simulation"):
        n_mnist(tmp_path, simulated=True)


def test_polarities_are_merged_when_asked(tmp_path, parts):
    times, units = np.array([0, 10, 20, 1000]), np.array([5, 5 + 1156, 5 + 1156, 7])
    parts["Train"]["0/00001.bin"] = pack_n_mnist(times, units)
    write_folders(tmp_path / "n_mnist", parts)
    train, _ = n_mnist(tmp_path)
    apart = EventDataset(train, dt=0.001, steps=2)[0][0]
    assert apart.shape == (2, 2312)
    assert (apart[0, 5], apart[0, 5 + 1156]) == (1, 2)
    merged = EventDataset(train, dt=0.001, steps=2, merge_polarities=True)
    assert merged.features == (1156,)
    assert merged[0][0].nonzero().tolist() == [[0, 5], [1, 7]]
    assert merged[0][0][0, 5] == 3
    clipped = EventDataset(train, dt=0.001, steps=2, merge_polarities=True, clip=1, flatten=False)
    assert clipped[0][0].shape == (2, 1, 34, 34)
    assert clipped[0][0].sum() == 2
