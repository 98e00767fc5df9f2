"""Event data sets on disk, in the HDF5 layout of the Heidelberg data sets (SHD, SSC).

The layout (Cramer, Stradmann, Schemmel and Zenke, "The Heidelberg Spiking Data Sets for the Systematic Evaluation of Spiking
Neural Networks", 2020): `spikes/times` and `spikes/units` hold one variable-length row per recording, `labels` one number;
`extra/keys` the names of the classes, `extra/speaker` the speakers, `extra/meta_info` facts about them.

What SHD does not say about its recordings is stored in addition: `extra/channels`, the number of channels; `extra/sensor`, the
polarities, height and width of a camera; `extra/simulated`, 1 for a simulation that stands in for recordings.

HDF5 is read by a C library that trusts the content of a file. So the sizes of fields are compared with the size of the file
before they are read, rows of variable length are followed by our own code, and every value is checked afterwards.
"""

import gzip
import io
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Shaped

from rheobase.data.events import Events
from rheobase.data.files import LIMIT, read_bytes
from rheobase.data.hdf5_rows import read_rows
from rheobase.errors import DataError
from rheobase.files import atomic_write

_UNREADABLE = (OSError, KeyError, ValueError, TypeError, RuntimeError, OverflowError)
"""What h5py raises on a damaged file, depending on where the damage lies."""


_SHD_CHANNELS = 700

_MOST_CHANNELS = 2**24
"""More than any sensor has; a damaged number beyond it would require a network too large for any memory."""


def read_events(path: str | Path, *, channels: int | None = None, limit: int = LIMIT) -> Events:
    """Read a file of event recordings in the layout of SHD: `.h5`, `.h5.gz` or `.h5.xz`.

    Args:
        path: the file.
        channels: the number of channels; every unit must lie below it. None takes the file's own number, or the 700 of SHD for
            files without one, which `write_events` did not write.
        limit: the largest uncompressed size, in bytes.

    Returns:
        The recordings with their labels; class names, speakers and their names, and a camera's sensor if the file has them.

    Raises:
        DataError: if the file is missing, truncated, too large or not HDF5, lacks a field, has a different number of channels
            than requested, or holds invalid values; the message names the file, the field, the sample, what was found and what
            was expected.
    """
    return parse_events(read_bytes(Path(path), limit), str(path), channels=channels)


def parse_events(content: bytes, source: str, *, channels: int | None = None) -> Events:
    """Read event recordings from the unpacked content of a file; `source` is its name in error messages.

    Raises:
        DataError: as for `read_events`.
    """
    if not content.startswith(b"\x89HDF\r\n\x1a\n"):
        raise DataError(f"{source}: not an HDF5 file: it starts with {content[:8]!r}")
    with _hdf5_errors(source), h5py.File(io.BytesIO(content), "r") as file:
        reader = _Reader(source, file, content)
        times, times_ends = reader.rows("spikes/times", "f", "floating point numbers")
        units, units_ends = reader.rows("spikes/units", "iu", "integers")
        labels = reader.array("labels", "iu", "integers")
        classes = reader.names("extra/keys")
        speakers = reader.array("extra/speaker", "iu", "integers") if reader.has("extra/speaker") else None
        speaker_names = reader.names("extra/meta_info/name")
        channels = reader.channels(channels)
        sensor = reader.sensor()
        simulated = reader.few("extra/simulated", 1) == (1,)
    if len(times_ends) != len(units_ends):
        raise DataError(
            f"{source}: spikes/times has {len(times_ends)} samples, spikes/units {len(units_ends)}, expected as many"
        )
    if (times_ends != units_ends).any():
        sample = int(np.argmax(times_ends != units_ends))
        got_times, got_units = (int(np.diff(ends, prepend=0)[sample]) for ends in (times_ends, units_ends))
        raise DataError(
            f"{source}: sample {sample} has {got_times} spikes/times and {got_units} spikes/units, expected as many"
        )
    offsets = np.concatenate([[0], times_ends])
    return Events(
        times,
        units,
        offsets,
        labels,
        channels,
        classes,
        speakers,
        speaker_names,
        sensor,
        simulated=simulated,
        source=source,
    )


def write_events(path: str | Path, events: Events, *, times_as: type[np.floating] = np.float32) -> None:
    """Write event recordings in the layout of SHD, atomically, and compressed if the name ends in `.gz` or `.xz`.

    Everything that `Events` hold except `source` is written, and read back by `read_events`.

    Args:
        path: the file, replaced if it exists.
        events: the recordings.
        times_as: how times are stored. SHD's own float16 keeps a relative 0.0005: 0.5 ms at 1 s.
    """
    path, buffer = Path(path), io.BytesIO()
    unit_type = np.min_scalar_type(events.channels - 1)
    with h5py.File(buffer, "w") as file:
        for name, values in (("times", events.times.astype(times_as)), ("units", events.units.astype(unit_type))):
            rows = file.create_dataset(f"spikes/{name}", (len(events),), dtype=h5py.vlen_dtype(values.dtype))
            for sample, row in enumerate(np.split(values, events.offsets[1:-1])):
                rows[sample] = row
        file["labels"] = events.labels.astype(np.min_scalar_type(len(events.classes)))
        file["extra/keys"] = np.array([name.encode() for name in events.classes])
        file["extra/channels"] = np.array([events.channels])
        if events.sensor is not None:
            file["extra/sensor"] = np.array(events.sensor)
        if events.simulated:
            file["extra/simulated"] = np.array([1], np.uint8)
        if events.speakers is not None:
            file["extra/speaker"] = events.speakers.astype(np.min_scalar_type(len(events.speaker_names)))
            file["extra/meta_info/name"] = np.array([name.encode() for name in events.speaker_names])
    content = buffer.getvalue()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    elif path.suffix == ".xz":
        # Within a step the channels ascend by small numbers: their differences compress better than the channels.
        filters = [
            {"id": lzma.FILTER_DELTA, "dist": unit_type.itemsize},
            {"id": lzma.FILTER_LZMA2, "preset": 6 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0},
        ]
        content = lzma.compress(content, filters=filters)
    with atomic_write(path) as file:
        file.write(content)


@contextmanager
def _hdf5_errors(source: str) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise DataError(f"{source}: damaged HDF5 file ({error}); fetch it again") from error


class _Reader:
    """The fields of one open file, each checked for its presence, type, shape and size before it is read."""

    def __init__(self, source: str, file: h5py.File, content: bytes) -> None:
        self.source, self.file, self.content = source, file, content

    def has(self, name: str) -> bool:
        return name in self.file

    def rows(self, name: str, kinds: str, expected: str) -> tuple[Shaped[np.ndarray, " events"], np.ndarray]:
        """A field of variable-length rows as one flat array, and where each row ends."""
        field = self._field(name)
        row_type = h5py.check_vlen_dtype(field.dtype)
        if row_type is None or np.dtype(row_type).kind not in kinds or field.ndim != 1:
            raise DataError(f"{self.source}: {name}: got {_describe(field)}, expected one row of {expected} per sample")
        if len(field) == 0:
            raise DataError(f"{self.source}: {name}: the data set is empty, expected at least one sample")
        rows = read_rows(self.content, field, np.dtype(row_type), f"{self.source}: {name}")
        return np.concatenate(rows), np.cumsum([len(row) for row in rows], dtype=np.int64)

    def array(self, name: str, kinds: str, expected: str) -> Shaped[np.ndarray, " n"]:
        """A field of one number per sample."""
        field = self._field(name)
        if field.dtype.kind not in kinds or field.ndim != 1:
            raise DataError(f"{self.source}: {name}: got {_describe(field)}, expected {expected}, one per sample")
        return field[:]

    def few(self, name: str, count: int) -> tuple[int, ...] | None:
        """A field of `count` integers; None if the file does not have it."""
        if not self.has(name):
            return None
        field = self._field(name)
        if field.dtype.kind not in "iu" or field.shape != (count,):
            raise DataError(f"{self.source}: {name}: got {_describe(field)}, expected integers of shape ({count},)")
        return tuple(field[:].tolist())

    def channels(self, asked: int | None) -> int:
        """The requested number of channels, or else the file's, or else SHD's."""
        (stored,) = self.few("extra/channels", 1) or (None,)
        if stored is None:
            return _SHD_CHANNELS if asked is None else asked
        if not 1 <= stored <= _MOST_CHANNELS:
            raise DataError(f"{self.source}: extra/channels: got {stored}, expected 1 to {_MOST_CHANNELS:,}")
        if asked not in (None, stored):
            raise DataError(
                f"{self.source}: extra/channels: got {stored}, but {asked} were requested; leave channels out"
            )
        return stored

    def sensor(self) -> tuple[int, int, int] | None:
        """The polarities, height and width of a camera; None if the file does not have them."""
        sizes = self.few("extra/sensor", 3)
        return None if sizes is None else (sizes[0], sizes[1], sizes[2])

    def names(self, name: str) -> tuple[str, ...]:
        """A field of strings; empty if the file does not have it."""
        if not self.has(name):
            return ()
        field = self._field(name)
        text_type = h5py.check_string_dtype(field.dtype)
        if text_type is None or field.ndim != 1:
            raise DataError(f"{self.source}: {name}: got {_describe(field)}, expected a list of names")
        if text_type.length is not None:
            return tuple(str(text) for text in field.asstr("utf-8")[:])
        rows = read_rows(self.content, field, np.dtype(np.uint8), f"{self.source}: {name}")
        return tuple(row.tobytes().rstrip(b"\0").decode() for row in rows)

    def _field(self, name: str) -> h5py.Dataset:
        field = self.file.get(name)
        if not isinstance(field, h5py.Dataset):
            raise DataError(f"{self.source}: has no field {name}, expected the layout of SHD")
        if field.file != self.file or field.external or field.is_virtual:
            raise DataError(f"{self.source}: {name}: lies in another file, expected all in this one")
        if field.shape is None or field.size * field.dtype.itemsize > max(len(self.content), 2**20):
            raise DataError(f"{self.source}: {name}: got {_describe(field)}, which does not fit into the file")
        return field


def _describe(field: h5py.Dataset) -> str:
    row_type = h5py.check_vlen_dtype(field.dtype)
    kind = field.dtype if row_type is None else f"rows of {np.dtype(row_type)}"
    return f"{kind} of shape {field.shape}"
