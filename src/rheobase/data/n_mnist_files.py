"""N-MNIST: the digits of MNIST, seen by an event camera that makes three quick movements before each.

The data set (Orchard, Jayawant, Cohen and Thakor, "Converting Static Image Datasets to Spiking Neuromorphic Datasets Using
Saccades", 2015, CC BY-SA 4.0) is 70,000 small files: `Train/0/00002.bin` is the second digit of MNIST's training set, which is
a 0. They are read from these folders or directly from the official zip files, which are never unpacked to disk. One flat array
holds all events, and its size is known before the first is read: 250 million events take 1.5 GB, and no more.

A simulation of these recordings (`rheobase.data.saccades`) has its own folder, with a record of how it was made, and events
read from there are marked as simulated.
"""

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt16, UInt32

from rheobase.data.augment import Recording
from rheobase.data.events import Events
from rheobase.data.files import LIMIT, ZIP_ERRORS, read_bytes
from rheobase.data.published import Progress, PublishedFile, data_folder
from rheobase.errors import DataError
from rheobase.files import atomic_write

SENSOR = (2, 34, 34)
"""Polarities, height and width: an event's channel is x + 34 y + 1156 polarity."""

PARTS = {"Train": 60_000, "Test": 10_000}
"""The folders of the two parts, and how many recordings are in each."""

SIMULATED = "n_mnist_simulated"
"""The folder of a simulation, in the data folder."""

RECORD = "simulation.json"
"""The file that says how a simulated set was made, and how much is done."""

_DIGITS = tuple("0123456789")
_SIDE, _CHANNELS = 34, 2 * 34 * 34
_CLOCK = 2**23
"""Times have 23 bits, in microseconds."""
_OVERFLOW_ROW, _OVERFLOW = 240, 2**13
_NAME = re.compile(r"(Train|Test)/([0-9])/([0-9]{5})\.bin")
_SHRINK = 1100
"""The largest possible ratio of a deflated file's unpacked size to its packed size."""

_FILES = {
    "Train": PublishedFile(
        "n_mnist/Train.zip",
        archives={"": "md5:20959b8e626244a1b502305a9e6e2031"},
        url="https://data.mendeley.com/public-files/datasets/468j46mzdv/files/39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded",
    ),
    "Test": PublishedFile(
        "n_mnist/Test.zip",
        archives={"": "md5:69ca8762b2fe404d9b9bad1103e97832"},
        url="https://data.mendeley.com/public-files/datasets/468j46mzdv/files/05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",
    ),
}


def n_mnist(
    data_dir: str | Path | None = None,
    *,
    simulated: bool = False,
    download: bool = False,
    progress: Progress | None = None,
) -> tuple[Events, Events]:
    """N-MNIST (Orchard and others, 2015), (train, test): 60,000 + 10,000 recordings of about 4,000 events in 0.31 s.

    The recordings are in the order of MNIST. For each part either the folder is read (`n_mnist/Train/0/00002.bin` and so on) or
    the official `n_mnist/Train.zip`, which is checked against its md5 sum. None is published for the unpacked files, so their
    number and every value are checked.

    Args:
        data_dir: the data folder; see `data_folder`.
        simulated: read `n_mnist_simulated/`, which `rheobase simulate n-mnist` makes from MNIST, in place of the recordings.
            The events then say so: `events.simulated`. Accuracies on the two are not comparable.
        download: whether to download missing zip files.
        progress: called with the progress of downloading and reading.

    Returns:
        Events of 2,312 channels, x + 34 y + 1156 polarity; `EventDataset(..., merge_polarities=True)` sums the polarities.

    Raises:
        DataError: if files are missing, damaged, do not match their checksum, hold invalid values, or cannot be downloaded; if
            a simulation is requested and is missing or incomplete.
    """
    folder = data_folder(data_dir) / (SIMULATED if simulated else "n_mnist")
    if simulated:
        expected = _simulated_samples(folder)
    elif (folder / RECORD).is_file():
        raise DataError(
            f"{folder}: holds simulated events, expected recordings; move it to {folder.with_name(SIMULATED)}"
        )
    else:
        expected = PARTS
    parts = []
    for part, samples in expected.items():
        if simulated or (folder / part).is_dir():
            members = _members_of_folder(folder, part)
            events = _read(members, f"{folder / part}", samples, simulated, progress)
        else:
            path = _FILES[part].find(folder.parent, download, progress)
            with _members_of_zip(path, part) as members:
                events = _read(members, str(path), samples, simulated, progress)
        parts.append(events)
    train, test = parts
    return train, test


def read_n_mnist(path: Path) -> Recording:
    """Read one recording in the format of N-MNIST.

    Raises:
        DataError: if the file is missing, is not a whole number of events, or has one outside 34 x 34 pixels.
    """
    times, units = parse_n_mnist(read_bytes(path), str(path))
    return Recording((times / 1e6).astype(np.float32), units.astype(np.int32), _CHANNELS)


def write_n_mnist(path: Path, recording: Recording) -> None:
    """Write one recording in the format of N-MNIST, atomically; its times are rounded to microseconds.

    Raises:
        ValueError: if an event is later than 2^23 microseconds, 8.39 s, or its channel is not one of the 2,312.
    """
    content = pack_n_mnist(np.rint(recording.times.astype(np.float64) * 1e6).astype(np.int64), recording.units)
    with atomic_write(path) as file:
        file.write(content)


def parse_n_mnist(content: bytes, source: str) -> tuple[UInt32[np.ndarray, " events"], UInt16[np.ndarray, " events"]]:
    """The times, in microseconds and ascending, and the channels of a recording; `source` is its name in error messages.

    The format: 5 bytes per event: x, y, then one bit polarity (1: brighter) and 23 bits microseconds, big-endian. An event in
    row 240 is not one: the camera's clock overflowed, and all times after it are 2^13 microseconds later.

    Raises:
        DataError: as for `read_n_mnist`.

    Example:
        >>> parse_n_mnist(bytes([3, 2, 0x80, 0x01, 0x00]), "example")  # x 3, y 2, brighter, after 256 microseconds
        (array([256], dtype=uint32), array([1227], dtype=uint16))
    """
    if len(content) % 5:
        raise DataError(f"{source}: got {len(content)} bytes, expected a multiple of 5, the size of an event")
    x, y, high, middle, low = np.frombuffer(content, dtype=np.uint8).reshape(-1, 5).T
    times = (high & 127).astype(np.uint32) << 16 | middle.astype(np.uint32) << 8 | low
    overflow = y == _OVERFLOW_ROW
    if overflow.any():
        times += np.cumsum(overflow, dtype=np.uint32) * np.uint32(_OVERFLOW)
    outside = ~overflow & ((x >= _SIDE) | (y >= _SIDE))
    if outside.any():
        event = int(np.argmax(outside))
        raise DataError(f"{source}: event {event} is at x {x[event]}, y {y[event]}, expected 0 to {_SIDE - 1}")
    units = x + y.astype(np.uint16) * np.uint16(_SIDE) + (high >> 7) * np.uint16(_SIDE * _SIDE)
    if overflow.any():
        times, units = times[~overflow], units[~overflow]
    if (times[1:] < times[:-1]).any():
        order = np.argsort(times, kind="stable")
        times, units = times[order], units[order]
    return times, units


def pack_n_mnist(times: Integer[np.ndarray, " events"], units: Integer[np.ndarray, " events"]) -> bytes:
    """The content of an N-MNIST file, as `parse_n_mnist` reads it.

    Args:
        times: microseconds, 0 to 2^23 - 1.
        units: channels, 0 to 2,311.

    Raises:
        ValueError: if a value is out of its range.
    """
    for name, values, limit in (("times", times, _CLOCK), ("units", units, _CHANNELS)):
        if len(values) and not (values.min() >= 0 and values.max() < limit):
            raise ValueError(f"{name}: got {values.min()} to {values.max()}, expected 0 to {limit - 1}")
    polarity, place = np.divmod(units, _SIDE * _SIDE)
    y, x = np.divmod(place, _SIDE)
    return (
        np.stack([x, y, polarity << 7 | times >> 16, times >> 8 & 255, times & 255], axis=1).astype(np.uint8).tobytes()
    )


class _Member(NamedTuple):
    """One file of the data set: its name, its position in the order of MNIST, its label, its size, and how it is read."""

    name: str
    number: int
    label: int
    size: int
    read: Callable[[], bytes]


def _members_of_folder(folder: Path, part: str) -> list[_Member]:
    if not (folder / part).is_dir():
        raise DataError(f"{folder / part}: there is no such folder")
    return [
        _Member(str(path), int(path.stem), int(digit), path.stat().st_size, path.read_bytes)
        for digit in _DIGITS
        for path in (folder / part / digit).glob("*.bin")
        if _NAME.fullmatch(f"{part}/{digit}/{path.name}")
    ]


@contextmanager
def _members_of_zip(path: Path, part: str) -> Iterator[list[_Member]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = []
            for entry in archive.infolist():
                # Entries with other names, such as ones that lead out of a folder, are ignored, and nothing is unpacked to
                # disk.
                if (name := _NAME.fullmatch(entry.filename)) and name[1] == part:
                    read = _reader(archive, entry)
                    members.append(
                        _Member(f"{path}: {entry.filename}", int(name[3]), int(name[2]), entry.file_size, read)
                    )
            claimed, possible = sum(member.size for member in members), _SHRINK * path.stat().st_size
            if claimed > min(LIMIT, possible):
                raise DataError(f"{path}: claims to unpack to {claimed} bytes, expected at most {min(LIMIT, possible)}")
            yield members
    except (*ZIP_ERRORS, EOFError) as error:
        raise DataError(f"{path}: damaged, cannot be unpacked ({error}); fetch it again") from None


def _reader(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Callable[[], bytes]:
    return lambda: archive.read(entry)


def _read(members: list[_Member], source: str, samples: int, simulated: bool, progress: Progress | None) -> Events:
    if len(members) != samples:
        raise DataError(f"{source}: got {len(members)} recordings, expected {samples}; the set is not complete")
    members = sorted(members, key=lambda member: member.number)
    for place, member in enumerate(members, start=1):
        if member.number != place:
            raise DataError(f"{source}: got {member.name} where recording {place:05d} was expected; one is missing")
    total = sum(member.size for member in members)
    times, units = np.empty(total // 5, np.float32), np.empty(total // 5, np.uint16)
    offsets = np.zeros(samples + 1, dtype=np.int64)
    done = 0
    for sample, member in enumerate(members):
        content = _content(member)
        done += len(content)
        of_sample, units_of_sample = parse_n_mnist(content, member.name)
        begin = offsets[sample]
        end = offsets[sample + 1] = begin + len(of_sample)
        np.divide(of_sample, 1e6, out=times[begin:end], casting="same_kind")
        units[begin:end] = units_of_sample
        if progress is not None and (sample % 1000 == 0 or sample == samples - 1):
            progress(Path(source).name, done, total)
    end = offsets[-1]
    labels = np.array([member.label for member in members])
    return Events(
        times[:end], units[:end], offsets, labels, _CHANNELS, _DIGITS, sensor=SENSOR, simulated=simulated, source=source
    )


def _content(member: _Member) -> bytes:
    try:
        content = member.read()
    except OSError as error:
        raise DataError(f"{member.name}: cannot be read ({error.strerror or error})") from None
    if len(content) != member.size:
        raise DataError(
            f"{member.name}: got {len(content)} bytes, expected {member.size}; it changed while it was read"
        )
    return content


def _simulated_samples(folder: Path) -> dict[str, int]:
    """The number of recordings that a simulation has in each part, by its record."""
    remedy = "`rheobase simulate n-mnist` makes it from MNIST (in Python: rheobase.data.simulate_n_mnist())"
    try:
        record = json.loads(read_bytes(folder / RECORD, limit=2**20))
        done, samples = ({part: int(record[what][part]) for part in PARTS} for what in ("done", "samples"))
    except DataError:
        raise DataError(f"{folder}: there is no simulation of N-MNIST; {remedy}") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise DataError(f"{folder / RECORD}: damaged, expected the record of a simulation; {remedy}") from None
    if done != samples:
        raise DataError(f"{folder}: the simulation is not complete, {done} of {samples}; the same command continues it")
    return samples
