"""The data sets of spoken words and of images: their official files, and functions that read them.

Each function reads from the data folder and downloads nothing unless `download=True`; the embedded spoken digits need neither a
folder nor a network.
"""

import io
import tarfile
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

from rheobase.data.event_files import parse_events
from rheobase.data.events import Events
from rheobase.data.images import Images, parse_cifar10, parse_idx_images
from rheobase.data.published import Progress, PublishedFile, data_folder
from rheobase.errors import DataError

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


def spoken_digits(
    edition: Literal["compact", "full"] = "compact", data_dir: str | Path | None = None
) -> tuple[Events, Events]:
    """The Free Spoken Digit Dataset as cochlea spikes, (train, test): ten digits, six speakers, 2,700 + 300.

    The recordings are those of the Free Spoken Digit Dataset (Z. Jackson and contributors, CC BY-SA 4.0) passed through the
    cochlea model of Cramer and others (2020). They are not the Spiking Heidelberg Digits, and accuracies on the two are not
    comparable.

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


def shd(
    data_dir: str | Path | None = None, *, download: bool = False, progress: Progress | None = None
) -> tuple[Events, Events]:
    """The Spiking Heidelberg Digits (Cramer and others, 2020, CC BY 4.0), (train, test), from `shd/`: 8,156 + 2,264.

    Checksums are published for the packed files, so `.h5.zip` and `.h5.gz` are checked against them. An unpacked `.h5` has
    none; in it, as in all, every value is checked as it is read.

    Args:
        data_dir: the data folder; see `data_folder`.
        download: whether to download missing files into it.
        progress: called with the progress of a download.

    Raises:
        DataError: if a file is missing, damaged, does not match its checksum, holds invalid values, or cannot be downloaded.
    """
    folder = data_folder(data_dir)
    train, test = (_events_of(file, folder, 700, download, progress) for file in _SHD)
    return train, test


def ssc(
    data_dir: str | Path | None = None, *, download: bool = False, progress: Progress | None = None
) -> tuple[Events, Events, Events]:
    """The Spiking Speech Commands (Cramer and others, 2020, CC BY 4.0), (train, validation, test), from `ssc/`.

    75,466 + 9,981 + 20,382 recordings of 35 words. Checksums are published for the `.h5.zip` files, so these are checked
    against them. A `.h5.gz` or `.h5` has none; in it, as in all, every value is checked as it is read.

    Args:
        data_dir: the data folder; see `data_folder`.
        download: whether to download missing files into it.
        progress: called with the progress of a download.

    Raises:
        DataError: as for `shd`.
    """
    folder = data_folder(data_dir)
    train, validation, test = (_events_of(file, folder, 700, download, progress) for file in _SSC)
    return train, validation, test


def mnist(
    data_dir: str | Path | None = None, *, download: bool = False, progress: Progress | None = None
) -> tuple[Images, Images]:
    """MNIST (LeCun, Cortes and Burges), (train, test): 60,000 + 10,000 digits of 28 x 28, from `mnist/`.

    Args:
        data_dir: the data folder; see `data_folder`.
        download: whether to download missing files into it.
        progress: called with the progress of a download.

    Raises:
        DataError: if a file is missing, damaged, does not match its checksum, or cannot be downloaded.
    """
    return _read_idx(_MNIST, tuple("0123456789"), data_folder(data_dir), download, progress)


def fashion_mnist(
    data_dir: str | Path | None = None, *, download: bool = False, progress: Progress | None = None
) -> tuple[Images, Images]:
    """Fashion-MNIST (Zalando SE, MIT), (train, test): 60,000 + 10,000 clothes of 28 x 28, from `fashion_mnist/`.

    Args:
        data_dir: the data folder; see `data_folder`.
        download: whether to download missing files into it.
        progress: called with the progress of a download.

    Raises:
        DataError: if a file is missing, damaged, does not match its checksum, or cannot be downloaded.
    """
    return _read_idx(_FASHION_MNIST, FASHION_MNIST_CLASSES, data_folder(data_dir), download, progress)


def cifar10(
    data_dir: str | Path | None = None,
    *,
    test_samples: Literal[10_000, 1_000] = 10_000,
    download: bool = False,
    progress: Progress | None = None,
) -> tuple[Images, Images]:
    """CIFAR-10 (Krizhevsky, 2009), (train, test), from `cifar10/`: files in `cifar-10-batches-bin/`, or the official archive.

    Args:
        data_dir: the data folder; see `data_folder`.
        test_samples: 10,000 reads the official `test_batch.bin`; 1,000 reads `test_batch_first1000.bin`, its first images, for
            folders that have no more. State this with an accuracy: its standard error is 1 percentage point.
        download: whether to download the archive (170 MB) if neither it nor all files are there.
        progress: called with the progress of a download.

    Raises:
        ValueError: if `test_samples` is neither.
        DataError: if a file is missing, damaged, does not match its checksum, or cannot be downloaded.
    """
    if test_samples not in _CIFAR10_TEST:
        raise ValueError(f"test_samples: got {test_samples}, expected 10000 or 1000")
    folder = data_folder(data_dir)
    archive = _Cifar10Archive(folder, download, progress)
    *train, test = (archive.read(file) for file in (*_CIFAR10_TRAIN, _CIFAR10_TEST[test_samples]))
    return parse_cifar10(*train), parse_cifar10(test)


class _Cifar10Archive:
    """The official archive, for files missing from the folder; unpacked into memory when first needed."""

    def __init__(self, folder: Path, download: bool, progress: Progress | None) -> None:
        self.folder, self.download, self.progress = folder, download, progress

    def read(self, file: PublishedFile) -> tuple[bytes, str]:
        """The content of `file`, checked, and its name in messages."""
        published = file.url is not None
        if file.is_in(self.folder) or not published or not (self.download or _CIFAR10_ARCHIVE.is_in(self.folder)):
            return file.read(self.folder)
        content, source = self._unpacked
        try:
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                member = archive.extractfile(f"{file.name.removeprefix('cifar10/')}")
                found = b"" if member is None else member.read()
        except (tarfile.TarError, KeyError) as error:
            raise DataError(f"{source}: cannot be unpacked: {error}") from error
        source = f"{source}, {Path(file.name).name}"
        file.check(found, source)
        return found, source

    @cached_property
    def _unpacked(self) -> tuple[bytes, str]:
        return _CIFAR10_ARCHIVE.read(self.folder, self.download, self.progress)


def _events_of(
    file: PublishedFile, folder: Path, channels: int, download: bool = False, progress: Progress | None = None
) -> Events:
    return parse_events(*file.read(folder, download, progress), channels=channels)


def _read_idx(
    files: tuple[PublishedFile, ...], classes: tuple[str, ...], folder: Path, download: bool, progress: Progress | None
) -> tuple[Images, Images]:
    contents = [file.read(folder, download, progress) for file in files]
    return parse_idx_images(contents[0], contents[1], classes), parse_idx_images(contents[2], contents[3], classes)


def _idx_files(folder: str, address: str, *checksums: str) -> tuple[PublishedFile, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(
        PublishedFile(f"{folder}/{name}-ubyte", f"sha256:{checksum}", (".gz", ""), url=f"{address}/{name}-ubyte.gz")
        for name, checksum in zip(names, checksums, strict=True)
    )


def _spoken_file(name: str, checksum: str) -> PublishedFile:
    return PublishedFile(f"{name}.h5", f"sha256:{checksum}", (".xz", ".gz", ""))


_COMPACT_TRAIN = _spoken_file("spoken_digits/train", "a8bcd6e347b19001b58c137a722a57e949209361d3c29204759d58939d0bb163")
_COMPACT_TEST = _spoken_file("spoken_digits/test", "3dfbcde4b1dd04d3d3e2d4c5a9a8d18657bd319e6d1398899e27be446c703547")
_SPOKEN_TRAIN = _spoken_file(
    "fsdd_spikes/fsdd_spikes_train", "6330a44fb505a9d8786f1dfe70fd0565158537be35aae39da0568ee2176e89bf"
)
_SPOKEN_TEST = _spoken_file(
    "fsdd_spikes/fsdd_spikes_test", "dfb311cb8df123a3077aff48dea1ab6b211dc0a5dbb71d2e1d05ffa2d889ca48"
)


def _heidelberg_file(name: str, **archives: str) -> PublishedFile:
    return PublishedFile(
        f"{name}.h5",
        packed=(".zip", ".gz", ""),
        archives={f".{packing}": f"md5:{checksum}" for packing, checksum in archives.items()},
        url=f"https://zenkelab.org/datasets/{name.split('/')[1]}.h5.zip",
    )


_SHD = (
    _heidelberg_file("shd/shd_train", zip="f3252aeb598ac776c1b526422d90eecb", gz="d47c9825dee33347913e8ce0f2be08b0"),
    _heidelberg_file("shd/shd_test", zip="1503a5064faa34311c398fb0a1ed0a6f", gz="3062a80ec0c5719404d5b02e166543b1"),
)
_SSC = (
    _heidelberg_file("ssc/ssc_train", zip="d102be95e7144fcc0553d1f45ba94170"),
    _heidelberg_file("ssc/ssc_valid", zip="b4eee3516a4a90dd0c71a6ac23a8ae43"),
    _heidelberg_file("ssc/ssc_test", zip="a35ff1e9cffdd02a20eb850c17c37748"),
)

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
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",  # No https there; the checksum compensates for it.
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)

_CIFAR10_ARCHIVE = PublishedFile(
    "cifar10/cifar-10-binary.tar",
    packed=(".gz",),
    archives={".gz": "md5:c32a1d4ab5d03f1284b67883e8d87530"},
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
)


def _cifar10_file(name: str, checksum: str, *, published: bool = True) -> PublishedFile:
    """A file of the archive, available at its address, or none."""
    url = _CIFAR10_ARCHIVE.url if published else None
    return PublishedFile(f"cifar10/cifar-10-batches-bin/{name}.bin", checksum, ("", ".xz", ".gz"), url=url)


_CIFAR10_TRAIN = (
    _cifar10_file("data_batch_1", "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
    _cifar10_file("data_batch_2", "sha256:a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
    _cifar10_file("data_batch_3", "sha256:bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
    _cifar10_file("data_batch_4", "sha256:014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
    _cifar10_file("data_batch_5", "sha256:755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
)

_CIFAR10_TEST = {
    # For the whole batch, an md5 sum is published.
    10_000: _cifar10_file("test_batch", "md5:803d5f7f4d78ea53de84dbe85f74fb6d"),
    1_000: _cifar10_file(
        "test_batch_first1000",
        "sha256:8314c96d7cd65618193bab23acdd5d4c4af15bf6dd00a1781d55beedf3be1ef5",
        published=False,
    ),
}
