"""The data sets that the recipes use: where their files lie, how they are checked, and where they come from.

A file is looked for in the data folder only, packed or not, and its content is compared with its published checksum
before it is read. Nothing is fetched unless it is asked for by `download=True`; the embedded spoken digits need neither a
folder nor a network.
"""

import hashlib
import http.client
import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

from rheobase.data.event_files import parse_events
from rheobase.data.events import Events
from rheobase.data.files import read_bytes
from rheobase.data.images import Images, parse_cifar10, parse_idx_images
from rheobase.errors import DataError
from rheobase.files import atomic_write

Progress = Callable[[str, int, int | None], None]
"""Told of a download: the file's name, the bytes so far, and the bytes in all (None where the server does not say)."""

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def data_folder(explicit: Path | None = None) -> Path:
    """The folder that data sets lie in: what is asked for, else `RHEOBASE_DATA`, else the user's cache.

    The folder need not be there. The cache is `$XDG_CACHE_HOME/rheobase`, by default `~/.cache/rheobase`.

    Example:
        >>> data_folder(Path("my-data")).name
        'my-data'
    """
    if explicit is not None:
        return explicit
    if folder := os.environ.get("RHEOBASE_DATA"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rheobase"


def spoken_digits(
    edition: Literal["compact", "full"] = "compact", data_dir: Path | None = None
) -> tuple[Events, Events]:
    """The Free Spoken Digit Dataset as cochlea spikes, (train, test): ten digits, six speakers, 2,700 + 300.

    The recordings are those of the Free Spoken Digit Dataset (Z. Jackson and contributors, CC BY-SA 4.0) passed through
    the cochlea model of Cramer and others (2020). They are not the Spiking Heidelberg Digits, and accuracies on the two
    cannot be compared.

    Args:
        edition: "compact" is embedded in the package: 140 channels, times on a grid of 5 ms, at most 1 s. "full" has 700
            channels and is read from `fsdd_spikes/` in the data folder.
        data_dir: the data folder; see `data_folder`.

    Raises:
        ValueError: if there is no such edition.
        DataError: if a file is missing, damaged, or does not match its checksum.

    Example:
        >>> train, test = spoken_digits()
        >>> len(train), len(test), train.channels, train.speaker_names[0]
        (2700, 300, 140, 'george')
    """
    if edition == "compact":
        with as_file(files("rheobase.data") / "embedded") as folder:
            return _events_of(_COMPACT_TRAIN, folder, 140), _events_of(_COMPACT_TEST, folder, 140)
    if edition == "full":
        folder = data_folder(data_dir)
        return _events_of(_SPOKEN_TRAIN, folder, 700), _events_of(_SPOKEN_TEST, folder, 700)
    raise ValueError(f"edition: got {edition!r}, expected 'compact' or 'full'")


def shd(data_dir: Path | None = None) -> tuple[Events, Events]:
    """The Spiking Heidelberg Digits (Cramer and others, 2020), (train, test), from `shd/` in the data folder.

    No checksum of these files is published with the paper, so none is compared; every value is checked as it is read.

    Raises:
        DataError: if a file is missing, damaged, or holds values that it must not hold.
    """
    folder = data_folder(data_dir)
    return _events_of(_SHD_TRAIN, folder, 700), _events_of(_SHD_TEST, folder, 700)


def ssc(data_dir: Path | None = None) -> tuple[Events, Events, Events]:
    """The Spiking Speech Commands (Cramer and others, 2020), (train, validation, test), from `ssc/`.

    No checksum of these files is published with the paper, so none is compared; every value is checked as it is read.

    Raises:
        DataError: if a file is missing, damaged, or holds values that it must not hold.
    """
    folder = data_folder(data_dir)
    return _events_of(_SSC_TRAIN, folder, 700), _events_of(_SSC_VALID, folder, 700), _events_of(_SSC_TEST, folder, 700)


def mnist(
    data_dir: Path | None = None, *, download: bool = False, progress: Progress | None = None
) -> tuple[Images, Images]:
    """MNIST (LeCun, Cortes and Burges), (train, test): 60,000 + 10,000 digits of 28 x 28, from `mnist/`.

    Args:
        data_dir: the data folder; see `data_folder`.
        download: whether files that are missing are fetched into it.
        progress: told how a download goes.

    Raises:
        DataError: if a file is missing, damaged, does not match its checksum, or cannot be downloaded.
    """
    return _read_idx(_MNIST, tuple("0123456789"), data_folder(data_dir), download, progress)


def fashion_mnist(
    data_dir: Path | None = None, *, download: bool = False, progress: Progress | None = None
) -> tuple[Images, Images]:
    """Fashion-MNIST (Zalando SE, MIT), (train, test): 60,000 + 10,000 clothes of 28 x 28, from `fashion_mnist/`.

    Args:
        data_dir: the data folder; see `data_folder`.
        download: whether files that are missing are fetched into it.
        progress: told how a download goes.

    Raises:
        DataError: if a file is missing, damaged, does not match its checksum, or cannot be downloaded.
    """
    return _read_idx(_FASHION_MNIST, FASHION_MNIST_CLASSES, data_folder(data_dir), download, progress)


def cifar10(data_dir: Path | None = None, *, test_samples: Literal[10_000, 1_000] = 10_000) -> tuple[Images, Images]:
    """CIFAR-10 (Krizhevsky, 2009), (train, test), from `cifar10/cifar-10-batches-bin/` in the data folder.

    Args:
        data_dir: the data folder; see `data_folder`.
        test_samples: 10,000 reads the official `test_batch.bin`; 1,000 reads `test_batch_first1000.bin`, its first
            images, for folders that have no more. Say so beside an accuracy: its standard error is 1 percentage point.

    Raises:
        ValueError: if `test_samples` is neither.
        DataError: if a file is missing, damaged, or does not match its checksum.
    """
    if test_samples not in _CIFAR10_TEST:
        raise ValueError(f"test_samples: got {test_samples}, expected 10000 or 1000")
    folder = data_folder(data_dir)
    return (
        parse_cifar10(*(file.read(folder) for file in _CIFAR10_TRAIN)),
        parse_cifar10(_CIFAR10_TEST[test_samples].read(folder)),
    )


@dataclass(frozen=True)
class _File:
    """A file of a data set.

    Attributes:
        name: its path in the data folder, without the ending of its packing.
        checksum: "algorithm:hex digits" of the unpacked content, so that it holds however the file is packed; None where
            none is published.
        packed: the endings under which the file may lie in the folder, in the order in which they are looked for.
        url: where it can be downloaded, packed as `packed[0]` says.
        homepage: where people get it by hand.
    """

    name: str
    checksum: str | None
    packed: tuple[str, ...]
    url: str | None = None
    homepage: str | None = None

    def read(self, folder: Path, download: bool = False, progress: Progress | None = None) -> tuple[bytes, str]:
        """The unpacked content, checked, and the path where it lies."""
        paths = [folder / f"{self.name}{ending}" for ending in self.packed]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            if not (download and self.url):
                raise DataError(self._missing(paths[0]))
            path = paths[0]
            _download(self.url, path, self.checksum, progress)
        content = read_bytes(path)
        _compare(content, self.checksum, str(path))
        return content, str(path)

    def _missing(self, path: Path) -> str:
        remedy = "name the folder that holds it with --data-dir or RHEOBASE_DATA"
        if self.url:
            remedy += f", or fetch it from {self.url} with --download"
        elif self.homepage:
            remedy += f"; the data set is published at {self.homepage}"
        else:
            remedy += "; it is not offered for download"
        return f"{path}: there is no such file, packed or not; {remedy}"


def _compare(content: bytes, checksum: str | None, source: str) -> None:
    if checksum is None:
        return
    algorithm, expected = checksum.split(":")
    got = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if got != expected:
        raise DataError(
            f"{source}: the checksum does not match: got {algorithm} {got} of the unpacked content, expected {expected}; "
            "delete the file and fetch it again"
        )


def _download(url: str, path: Path, checksum: str | None, progress: Progress | None) -> None:
    """Download a file to its place in the data folder, where it appears complete and checked, or not at all."""
    try:
        with urllib.request.urlopen(url, timeout=30) as response, atomic_write(path) as file:
            length = response.headers.get("Content-Length", "")
            total, done = int(length) if length.isdigit() else None, 0
            while chunk := response.read(2**16):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(path.name, done, total)
            file.flush()
            _compare(read_bytes(Path(file.name)), checksum, path.name)
    except (OSError, http.client.HTTPException, DataError) as error:
        raise DataError(f"{url}: cannot be downloaded: {error}; nothing is left at {path}") from error


def _events_of(file: _File, folder: Path, channels: int) -> Events:
    return parse_events(*file.read(folder), channels=channels)


def _read_idx(
    files: tuple[_File, ...], classes: tuple[str, ...], folder: Path, download: bool, progress: Progress | None
) -> tuple[Images, Images]:
    contents = [file.read(folder, download, progress) for file in files]
    return parse_idx_images(contents[0], contents[1], classes), parse_idx_images(contents[2], contents[3], classes)


def _idx_files(folder: str, address: str, *checksums: str) -> tuple[_File, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(
        _File(f"{folder}/{name}-ubyte", f"sha256:{checksum}", (".gz", ""), f"{address}/{name}-ubyte.gz")
        for name, checksum in zip(names, checksums, strict=True)
    )


def _event_file(
    name: str, checksum: str | None, packed: tuple[str, ...] = (".xz", ".gz", ""), homepage: str | None = None
) -> _File:
    return _File(f"{name}.h5", checksum, packed, homepage=homepage)


_COMPACT_TRAIN = _event_file(
    "spoken_digits/train", "sha256:a8bcd6e347b19001b58c137a722a57e949209361d3c29204759d58939d0bb163"
)
_COMPACT_TEST = _event_file(
    "spoken_digits/test", "sha256:3dfbcde4b1dd04d3d3e2d4c5a9a8d18657bd319e6d1398899e27be446c703547"
)
_SPOKEN_TRAIN = _event_file(
    "fsdd_spikes/fsdd_spikes_train", "sha256:6330a44fb505a9d8786f1dfe70fd0565158537be35aae39da0568ee2176e89bf"
)
_SPOKEN_TEST = _event_file(
    "fsdd_spikes/fsdd_spikes_test", "sha256:dfb311cb8df123a3077aff48dea1ab6b211dc0a5dbb71d2e1d05ffa2d889ca48"
)

_HEIDELBERG = "https://zenkelab.org/resources/spiking-heidelberg-datasets-shd/"

_SHD_TRAIN = _event_file("shd/shd_train", None, (".gz", ""), _HEIDELBERG)
_SHD_TEST = _event_file("shd/shd_test", None, (".gz", ""), _HEIDELBERG)
_SSC_TRAIN = _event_file("ssc/ssc_train", None, (".gz", ""), _HEIDELBERG)
_SSC_VALID = _event_file("ssc/ssc_valid", None, (".gz", ""), _HEIDELBERG)
_SSC_TEST = _event_file("ssc/ssc_test", None, (".gz", ""), _HEIDELBERG)

_MNIST = _idx_files(
    "mnist",
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)

_FASHION_MNIST = _idx_files(
    "fashion_mnist",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",  # No https there; the checksum makes up for it.
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)

_CIFAR10_HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"


def _cifar10_file(name: str, checksum: str) -> _File:
    return _File(f"cifar10/cifar-10-batches-bin/{name}.bin", checksum, ("", ".xz", ".gz"), homepage=_CIFAR10_HOME)


_CIFAR10_TRAIN = (
    _cifar10_file("data_batch_1", "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
    _cifar10_file("data_batch_2", "sha256:a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
    _cifar10_file("data_batch_3", "sha256:bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
    _cifar10_file("data_batch_4", "sha256:014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
    _cifar10_file("data_batch_5", "sha256:755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
)

_CIFAR10_TEST = {
    # Of the whole batch, md5 is what is published.
    10_000: _cifar10_file("test_batch", "md5:803d5f7f4d78ea53de84dbe85f74fb6d"),
    1_000: _cifar10_file(
        "test_batch_first1000", "sha256:8314c96d7cd65618193bab23acdd5d4c4af15bf6dd00a1781d55beedf3be1ef5"
    ),
}
