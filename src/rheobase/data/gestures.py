"""DVS128 Gesture: eleven hand and arm gestures by 29 people, seen by an event camera of 128 x 128 pixels.

The data set of Amir and others, "A Low Power, Fully Event-Based Gesture Recognition System" (2017; its archive holds the
licence): one AEDAT file for each person and lighting, in which the person makes all gestures one after the other, and with it a
table of when each begins and ends.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rheobase.data.aedat import read_aedat
from rheobase.data.events import Events
from rheobase.data.files import read_bytes
from rheobase.data.published import Progress, data_folder
from rheobase.errors import DataError

GESTURES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter clockwise",
    "left arm clockwise",
    "left arm counter clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)

_SIDE = 128
_CHANNELS = 2 * _SIDE * _SIDE
_HOME = "https://ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8/folder/50167556794"
_ARCHIVE = "DvsGesture.tar.gz (md5 8a5c71fb11e24e5ca5b11866ca6c00a1)"
_RECORDING = re.compile(r"\w+\.aedat", re.ASCII)
_TEXT_LIMIT = 2**20


class _Gesture(NamedTuple):
    """One row of a table: the class, and its begin (inclusive) and end (exclusive) in microseconds."""

    label: int
    begin: int
    end: int


def dvs128_gesture(
    data_dir: str | Path | None = None, *, seconds: float | None = None, progress: Progress | None = None
) -> tuple[Events, Events]:
    """DVS128 Gesture (Amir and others, 2017), (train, test), from `dvs128_gesture/DvsGesture/`: 1,176 + 288 gestures.

    Unpack the official archive in `dvs128_gesture/`; its publisher offers it only to people, not to programs. No checksum of
    the unpacked files is published, so every value is checked. The gestures of a set are in the order of its list of files
    (`trials_to_train.txt`, `trials_to_test.txt`) and of each file's table.

    Args:
        data_dir: the data folder; see `data_folder`.
        seconds: keep only this much of the beginning of each gesture, > 0; by default all, some 6 s and 6 bytes for each of
            hundreds of thousands of events.
        progress: called with the progress of reading.

    Returns:
        Events of 32,768 channels, x + 128 y + 16384 polarity, their times from the beginning of the gesture.

    Raises:
        ValueError: if `seconds` is not above 0 and finite.
        DataError: if a file is missing, damaged, or holds invalid values.
    """
    if seconds is not None and not 0 < seconds < math.inf:
        raise ValueError(f"seconds: got {seconds}, expected a finite number above 0, or None for all")
    folder = data_folder(data_dir) / "dvs128_gesture/DvsGesture"
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; unpack {_ARCHIVE} from {_HOME} in {folder.parent}")
    train, test = (_read(folder, f"trials_to_{part}.txt", seconds, progress) for part in ("train", "test"))
    return train, test


def _read(folder: Path, trials: str, seconds: float | None, progress: Progress | None) -> Events:
    names = [name for line in _text(folder / trials).splitlines() if (name := line.strip())]
    times, units, labels = [np.empty(0, np.float32)], [np.empty(0, np.uint16)], []
    sizes, done, total = [], 0, 0
    for name in names:
        if not _RECORDING.fullmatch(name):  # it must not lead outside the folder
            raise DataError(f"{folder / trials}: got {name!r}, expected names like user01_led.aedat")
        if (folder / name).is_file():
            total += (folder / name).stat().st_size
    for name in names:
        path = folder / name
        for gesture, of_gesture, channels in _gestures(path, seconds):
            times.append(of_gesture)
            units.append(channels)
            labels.append(gesture.label)
            sizes.append(len(of_gesture))
        done += path.stat().st_size
        if progress is not None:
            progress(trials, done, total)
    return Events(
        np.concatenate(times),
        np.concatenate(units),
        np.cumsum([0, *sizes]),
        np.array(labels, dtype=np.int64),
        _CHANNELS,
        GESTURES,
        sensor=(2, _SIDE, _SIDE),
        source=str(folder / trials),
    )


def _gestures(path: Path, seconds: float | None) -> Iterator[tuple[_Gesture, np.ndarray, np.ndarray]]:
    """Every gesture of a recording, with the times and the channels of its events."""
    events = read_aedat(path)
    outside = (events.x >= _SIDE) | (events.y >= _SIDE)
    if outside.any():
        event = int(np.argmax(outside))
        raise DataError(
            f"{path}: event {event} is at x {events.x[event]}, y {events.y[event]}, expected 0 to {_SIDE - 1}"
        )
    channels = events.x + np.uint16(_SIDE) * events.y + np.uint16(_SIDE * _SIDE) * events.brighter
    for gesture in _table(path.with_name(f"{path.stem}_labels.csv")):
        end = gesture.end if seconds is None else min(gesture.end, gesture.begin + round(seconds * 1e6))
        part = slice(*np.searchsorted(events.times, [gesture.begin, end]))
        yield gesture, ((events.times[part] - gesture.begin) / 1e6).astype(np.float32), channels[part]


def _table(path: Path) -> list[_Gesture]:
    head, *rows = _text(path).strip().splitlines() or [""]
    if head.strip() != "class,startTime_usec,endTime_usec":
        raise DataError(f"{path}: got {head!r} on top, expected class,startTime_usec,endTime_usec")
    table = []
    for number, row in enumerate(rows, start=2):
        values = row.strip().split(",")
        if len(values) != 3 or not all(value.isascii() and value.isdigit() and len(value) < 19 for value in values):
            raise DataError(f"{path}: line {number}: got {row!r}, expected a class and two times, whole numbers")
        label, begin, end = (int(value) for value in values)
        if not (1 <= label <= len(GESTURES) and begin <= end):
            raise DataError(
                f"{path}: line {number}: got {row!r}, expected a class from 1 to 11 that ends after it begins"
            )
        table.append(_Gesture(label - 1, begin, end))
    return table


def _text(path: Path) -> str:
    try:
        return read_bytes(path, _TEXT_LIMIT).decode("ascii")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text of ASCII letters") from None
