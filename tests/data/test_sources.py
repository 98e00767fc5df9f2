"""Tests of rheobase.data.sources: the embedded set, the data folder, and downloads from a server on this machine."""

import gzip
import hashlib
import http.server
import io
import lzma
import tarfile
import threading
import zipfile
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from rheobase.data import (
    EventDataset,
    cifar10,
    data_folder,
    fashion_mnist,
    mnist,
    published,
    shd,
    sources,
    spoken_digits,
    ssc,
    write_events,
)
from rheobase.data.published import PublishedFile
from rheobase.errors import DataError


@pytest.fixture(autouse=True)
def no_folder_of_the_user(monkeypatch, tmp_path):
    monkeypatch.delenv("RHEOBASE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def compact():
    return spoken_digits()


def test_the_embedded_set_has_every_digit_and_speaker_of_the_official_split(compact):
    train, test = compact
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    for part, samples in ((train, 2700), (test, 300)):
        assert len(part) == samples
        assert part.classes == words
        assert part.speaker_names == ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
        assert part.channels == 140
        pairs = np.bincount(part.labels * 6 + part.speakers, minlength=60)
        assert (pairs == samples // 60).all()
        assert part.units.max() < 140
        assert part.times.max() < 1
    assert (len(train.times), len(test.times)) == (11_963_763, 1_330_847)


def test_the_embedded_times_lie_safely_within_steps_of_5_ms(compact):
    for part in compact:
        place = part.times.astype(np.float64) / 0.005 % 1
        assert 0.44 < place.min() < place.max() < 0.56


def test_the_embedded_recordings_bin_to_the_same_counts_in_steps_of_5_and_10_ms(compact):
    samples = np.arange(0, 300, 25)
    fine, labels = EventDataset(compact[1], dt=0.005, steps=200).batch(samples)
    coarse, _ = EventDataset(compact[1], dt=0.01, steps=100).batch(samples)
    assert torch.equal(fine.view(100, 2, len(samples), 140).sum(1), coarse)
    assert labels.tolist() == compact[1].labels[samples].tolist()
    assert fine.sum() == sum(len(compact[1].recording(sample).times) for sample in samples.tolist())


def test_the_embedded_files_are_small_and_licensed():
    folder = sources.files("rheobase.data") / "embedded/spoken_digits"
    assert sum(len((folder / name).read_bytes()) for name in ("train.h5.xz", "test.h5.xz")) < 5_000_000
    assert "CC BY-SA 4.0" in (folder / "LICENSE").read_text()
    assert "not the Spiking Heidelberg Digits" in (folder / "README.md").read_text()


def test_the_data_folder_is_what_is_asked_for_else_the_environments_else_the_cache(monkeypatch, tmp_path):
    assert data_folder() == tmp_path / "cache/rheobase"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_folder() == tmp_path / ".cache/rheobase"
    monkeypatch.setenv("RHEOBASE_DATA", "~/data")
    assert data_folder() == tmp_path / "data"
    assert data_folder(tmp_path / "mine") == data_folder(str(tmp_path / "mine")) == tmp_path / "mine"


@pytest.mark.parametrize(
    ("load", "name", "remedy"),
    [
        (
            partial(spoken_digits, "full"),
            "fsdd_spikes/fsdd_spikes_train.h5.xz",
            r"--data-dir or RHEOBASE_DATA; it is not offered .*\(in Python: data_dir=...\)$",
        ),
        (mnist, "mnist/train-images-idx3-ubyte.gz", "https://ossci-datasets.* with --download"),
        (fashion_mnist, "fashion_mnist/train-images-idx3-ubyte.gz", "http://fashion-mnist.* with --download"),
        (
            cifar10,
            "cifar10/cifar-10-batches-bin/data_batch_1.bin",
            "fetch it from https://www.cs.toronto.edu.* with --download",
        ),
        (
            shd,
            "shd/shd_train.h5.zip",
            r"shd_train.h5.zip with --download \(in Python: data_dir=... or download=True\)$",
        ),
        (ssc, "ssc/ssc_train.h5.zip", "https://zenkelab.org/datasets/ssc_train.h5.zip with --download"),
    ],
)
def test_a_missing_file_is_named_with_the_remedy(tmp_path, load, name, remedy):
    with pytest.raises(DataError, match=f"{tmp_path}/{name}: there is no such file.*{remedy}"):
        load(data_dir=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("as_a_user")
def test_an_edition_that_there_is_not():
    with pytest.raises(ValueError, match="edition: got 'small', expected 'compact' or 'full'"):
        spoken_digits("small")


@pytest.mark.parametrize(("load", "names"), [(shd, ["train", "test"]), (ssc, ["train", "valid", "test"])])
def test_heidelberg_sets_are_read_unpacked_and_held_against_the_checksums_of_archives(tmp_path, events, load, names):
    for part in names:
        write_events(tmp_path / f"{load.__name__}/{load.__name__}_{part}.h5", replace(events, channels=700))
    parts = load(tmp_path)
    assert [(len(part), part.channels) for part in parts] == [(12, 700)] * len(names)
    path = tmp_path / f"{load.__name__}/{load.__name__}_test.h5"
    with zipfile.ZipFile(path.with_name(f"{path.name}.zip"), "w") as archive:
        archive.write(path, path.name)
    with pytest.raises(DataError, match=f"{path.name}.zip: the checksum does not match: got md5 .* of the file"):
        load(tmp_path)


def test_a_download_in_a_zip_file(tmp_path, server, events, monkeypatch):
    for part in ("train", "test"):
        write_events(tmp_path / "h5", replace(events, channels=700))
        with zipfile.ZipFile(tmp_path / f"site/shd_{part}.h5.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(tmp_path / "h5", f"shd_{part}.h5")
    contents = {part: (tmp_path / f"site/shd_{part}.h5.zip").read_bytes() for part in ("train", "test")}
    files = [
        PublishedFile(
            f"shd/shd_{part}.h5",
            packed=(".zip", ""),
            archives={".zip": f"md5:{hashlib.md5(content).hexdigest()}"},
            url=f"{server}/shd_{part}.h5.zip",
        )
        for part, content in contents.items()
    ]
    monkeypatch.setattr(sources, "_SHD", tuple(files))
    with pytest.raises(DataError, match="there is no such file"):
        shd(tmp_path / "data")
    train, test = shd(tmp_path / "data", download=True)
    assert np.array_equal(train.times, events.times)
    assert len(test) == len(events)
    (tmp_path / "site/shd_train.h5.zip").write_bytes(contents["train"][:-1] + b"x")
    with pytest.raises(DataError, match=r"cannot be downloaded: shd_train\.h5\.zip: the checksum does not match"):
        shd(tmp_path / "other", download=True)
    assert list((tmp_path / "other/shd").iterdir()) == []


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CONTENTS = (idx(np.arange(90).reshape(10, 3, 3)), idx(np.arange(10)), idx(np.zeros((4, 3, 3))), idx(np.arange(4)))


@pytest.fixture
def server(tmp_path):
    """A web server on this machine that serves the folder `site`, and its address."""
    (tmp_path / "site").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = partial(Quiet, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def small_mnist(tmp_path, server, monkeypatch):
    """MNIST of 10 + 4 images on the server."""
    for name, content in zip(NAMES, CONTENTS, strict=True):
        (tmp_path / "site" / f"{name}.gz").write_bytes(gzip.compress(content))
    checksums = [hashlib.sha256(content).hexdigest() for content in CONTENTS]
    monkeypatch.setattr(sources, "_MNIST", sources._idx_files("mnist", server, *checksums))
    return tmp_path / "site"


def test_a_download_is_asked_for_checked_and_kept(tmp_path, small_mnist):
    data = tmp_path / "data"
    with pytest.raises(DataError, match="there is no such file"):
        mnist(data)
    assert not data.exists()
    told = []
    train, test = mnist(data, download=True, progress=lambda *news: told.append(news))
    assert (len(train), len(test)) == (10, 4)
    assert sorted(path.name for path in (data / "mnist").iterdir()) == sorted(f"{name}.gz" for name in NAMES)
    sizes = [(small_mnist / f"{name}.gz").stat().st_size for name in NAMES]
    assert told == [(f"{name}.gz", size, size) for name, size in zip(NAMES, sizes, strict=True)]
    for path in small_mnist.iterdir():
        path.unlink()
    assert np.array_equal(mnist(data, download=True)[0].pixels, train.pixels)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: gzip.compress(CONTENTS[2][:-1] + b"x"), "the checksum does not match: got sha256 .* expected"),
        (lambda content: content[:-20], "truncated"),
        (lambda content: b"<html>Service unavailable</html>", "damaged, cannot be unpacked"),
        (None, "HTTP Error 404"),
    ],
)
def test_a_bad_download_leaves_nothing(tmp_path, small_mnist, spoil, message):
    source = small_mnist / f"{NAMES[2]}.gz"
    content = source.read_bytes()
    source.unlink()
    if spoil is not None:
        source.write_bytes(spoil(content))
    data = tmp_path / "data"
    with pytest.raises(DataError, match=f"{source.name}: cannot be downloaded: .*{message}"):
        mnist(data, download=True)
    assert sorted(path.name for path in (data / "mnist").iterdir()) == sorted(f"{name}.gz" for name in NAMES[:2])


def test_an_interrupted_download_leaves_nothing(tmp_path, small_mnist):
    def interrupt(name, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mnist(tmp_path / "data", download=True, progress=interrupt)
    assert list((tmp_path / "data/mnist").iterdir()) == []


def test_no_server_is_reported(tmp_path, small_mnist, monkeypatch):
    files = sources._idx_files("mnist", "http://127.0.0.1:1", *["0" * 64] * 4)
    monkeypatch.setattr(sources, "_MNIST", files)
    with pytest.raises(DataError, match=r"http://127.0.0.1:1/train-images.*cannot be downloaded: .*refused"):
        mnist(tmp_path / "data", download=True)


def test_a_file_with_another_content_is_refused_by_name(tmp_path, small_mnist):
    data = tmp_path / "data"
    mnist(data, download=True)
    (data / "mnist" / f"{NAMES[0]}.gz").unlink()
    (data / "mnist" / NAMES[0]).write_bytes(CONTENTS[0])  # Unpacked by the user: the same content.
    assert len(mnist(data)[0]) == 10
    (data / "mnist" / NAMES[0]).write_bytes(idx(np.ones((10, 3, 3))))
    expected = hashlib.sha256(CONTENTS[0]).hexdigest()
    with pytest.raises(DataError, match=f"{NAMES[0]}: the checksum does not match: got sha256 .*expected {expected}"):
        mnist(data)


def test_cifar10_says_which_test_images_it_reads(tmp_path, monkeypatch):
    folder = tmp_path / "cifar10/cifar-10-batches-bin"
    folder.mkdir(parents=True)
    names = [file.name for file in (*sources._CIFAR10_TRAIN, *sources._CIFAR10_TEST.values())]
    assert names[5:] == [f"cifar10/cifar-10-batches-bin/test_batch{end}.bin" for end in ("", "_first1000")]
    for name in names:
        (tmp_path / name).write_bytes(bytes(3073 * (2 if "first" in name else 1)))
    with pytest.raises(DataError, match=r"data_batch_1\.bin: the checksum does not match"):
        cifar10(tmp_path)
    monkeypatch.setattr(published, "_compare", lambda *arguments: None)
    assert [len(part) for part in cifar10(tmp_path)] == [5, 1]
    assert [len(part) for part in cifar10(tmp_path, test_samples=1_000)] == [5, 2]


@pytest.fixture
def small_cifar10(tmp_path, server, monkeypatch):
    """An archive of CIFAR-10 with an image for each file, on the server."""
    folder = "cifar10/cifar-10-batches-bin"
    contents = {name: bytes([k]) + bytes(3072) for k, name in enumerate((*TRAIN_BATCHES, "test_batch"))}
    archive = tmp_path / "site/cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        for name, content in contents.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))

    def file_of(name, content, url):
        checksum = f"md5:{hashlib.md5(content).hexdigest()}"
        return PublishedFile(f"{folder}/{name}.bin", checksum, ("", ".xz"), url=url)

    url = f"{server}/{archive.name}"
    checksum = f"md5:{hashlib.md5(archive.read_bytes()).hexdigest()}"
    whole = PublishedFile("cifar10/cifar-10-binary.tar", packed=(".gz",), archives={".gz": checksum}, url=url)
    monkeypatch.setattr(sources, "_CIFAR10_ARCHIVE", whole)
    monkeypatch.setattr(sources, "_CIFAR10_TRAIN", tuple(file_of(name, contents[name], url) for name in TRAIN_BATCHES))
    first = file_of("test_batch_first1000", bytes([9]) + bytes(3072), None)
    monkeypatch.setattr(
        sources, "_CIFAR10_TEST", {10_000: file_of("test_batch", contents["test_batch"], url), 1_000: first}
    )
    return contents


TRAIN_BATCHES = tuple(f"data_batch_{k}" for k in range(1, 6))


def test_cifar10_is_fetched_as_an_archive_once_and_when_asked(tmp_path, small_cifar10):
    data = tmp_path / "data"
    with pytest.raises(
        DataError, match=r"data_batch_1\.bin: there is no such file.*cifar-10-binary.tar.gz with --download"
    ):
        cifar10(data)
    assert not data.exists()
    told = []
    for options in ({"download": True, "progress": lambda *news: told.append(news[0])}, {}):
        train, test = cifar10(data, **options)
        assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 2, 3, 4], [5])
    assert set(told) == {"cifar-10-binary.tar.gz"}
    assert [path.name for path in (data / "cifar10").iterdir()] == ["cifar-10-binary.tar.gz"]


def test_files_of_cifar10_go_before_its_archive(tmp_path, small_cifar10):
    folder = tmp_path / "data/cifar10/cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name in TRAIN_BATCHES:
        (folder / f"{name}.bin.xz").write_bytes(lzma.compress(small_cifar10[name]))
    (folder / "test_batch_first1000.bin").write_bytes(bytes([9]) + bytes(3072))
    train, test = cifar10(
        tmp_path / "data", test_samples=1_000, download=True
    )  # nothing is missing, nothing is fetched
    assert (len(train), test.labels.tolist()) == (5, [9])
    assert not list(folder.parent.glob("*.gz"))
    cifar10(tmp_path / "data", download=True)
    assert list(folder.parent.glob("*.gz"))
    (folder / "test_batch_first1000.bin").unlink()  # which is in no archive
    with pytest.raises(DataError, match=r"test_batch_first1000\.bin: there is no such file.*it is not offered"):
        cifar10(tmp_path / "data", test_samples=1_000, download=True)


@pytest.mark.parametrize("member", ["wrong", "missing", "folder", "archive"])
def test_a_bad_archive_of_cifar10(tmp_path, small_cifar10, monkeypatch, member):
    path = tmp_path / "data/cifar10/cifar-10-binary.tar.gz"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as file:
        info = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        if member == "folder":
            info.type = tarfile.DIRTYPE
        if member == "missing":
            info.name = "../data_batch_1.bin"
        info.size = 5
        file.addfile(info, io.BytesIO(b"wrong"))
    if member == "archive":
        path.write_bytes(gzip.compress(b"no archive"))
    message = {
        "wrong": "data_batch_1.bin: the checksum does not match",
        "missing": "cannot be unpacked: .*not found",
        "folder": "data_batch_1.bin: the checksum does not match",
        "archive": "cannot be unpacked",
    }[member]
    archive = replace(sources._CIFAR10_ARCHIVE, archives={})
    monkeypatch.setattr(sources, "_CIFAR10_ARCHIVE", archive)
    with pytest.raises(DataError, match=message):
        cifar10(tmp_path / "data")
