"""Tests of rheobase.data.images."""

import gzip
import lzma
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rheobase.data import Flip, ImageDataset, Images, Perspective, PixelNoise, ShiftPixels, read_cifar10, read_idx
from rheobase.data.images import CIFAR10_CLASSES, parse_cifar10, parse_idx, parse_idx_images
from rheobase.errors import DataError

RNG = np.random.default_rng(0)
GREY = Images(RNG.integers(0, 256, (6, 7, 5)).astype(np.uint8), np.arange(6) % 3)
COLOUR = Images(RNG.integers(0, 256, (6, 3, 4, 4)).astype(np.uint8), np.arange(6))


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("pack", [None, gzip])
@pytest.mark.parametrize("shape", [(4,), (2, 3), (3, 2, 2), (1, 2, 3, 4), (0, 3, 3)])
def test_idx_files_are_read(tmp_path, shape, pack):
    array = RNG.integers(0, 256, shape).astype(np.uint8)
    path = tmp_path / ("a-ubyte.gz" if pack else "a-ubyte")
    path.write_bytes(pack.compress(idx(array)) if pack else idx(array))
    assert np.array_equal(read_idx(path), array)


GOOD = idx(np.zeros((2, 3, 4)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an idx file of bytes: it starts with , expected 00 00 08"),
        (b"\x1f\x8b\x08\x00" + GOOD, "not an idx file of bytes: it starts with 1f 8b 08 00"),
        (b"\0\0\x0d\3" + GOOD[4:], "not an idx file of bytes: it starts with 00 00 0d 03"),
        (b"\0\0\x08\0", "not an idx file of bytes"),
        (GOOD[:15], "truncated: the header ends after 15 of 16 bytes"),
        (GOOD[:-1], r"truncated: got 39 bytes, expected 40 for the shape \(2, 3, 4\)"),
        (GOOD + b"x", "followed by other bytes: got 41 bytes, expected 40"),
        (b"\0\0\x08\4" + b"\xff" * 16, r"truncated: got 20 bytes, expected 34028236\d+ for the shape"),
    ],
)
def test_bad_idx_files_are_refused_by_name(content, message):
    with pytest.raises(DataError, match=f"here: {message}"):
        parse_idx(content, "here")


@given(content=st.binary(max_size=60), header=st.sampled_from([b"", b"\0\0\x08", GOOD[:4], GOOD[:16]]))
def test_random_idx_bytes_are_read_or_refused(content, header):
    try:
        array = parse_idx(header + content, "here")
    except DataError as error:
        assert str(error).startswith("here: ")  # noqa: PT017
    else:
        assert array.size == len(header + content) - 4 - 4 * array.ndim


def test_images_and_labels_must_fit_together():
    pixels, labels = (idx(np.zeros((3, 4, 4))), "images"), (idx(np.array([0, 1, 1])), "labels")
    assert len(parse_idx_images(pixels, labels, ("a", "b"))) == 3
    with pytest.raises(DataError, match=r"labels: got shape \(3,\), expected \(n, height, width\)"):
        parse_idx_images(labels, labels, ("a", "b"))
    with pytest.raises(DataError, match="labels: got 2 labels for 3 images"):
        parse_idx_images(pixels, (idx(np.array([0, 1])), "labels"), ("a", "b"))
    with pytest.raises(DataError, match="labels: labels: sample 2 has 2, expected 0 to 1"):
        parse_idx_images(pixels, (idx(np.array([0, 1, 2])), "labels"), ("a", "b"))
    with pytest.raises(DataError, match="images: labels: the data set is empty"):
        parse_idx_images((idx(np.zeros((0, 4, 4))), "x"), (idx(np.array([])), "images"), ("a", "b"))
    with pytest.raises(DataError, match=r"got pixels of shape \(3, 4\)"):
        Images(np.zeros((3, 4), np.uint8), np.arange(3))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            RNG.random((3, 4, 4)),
            r"got pixels of float64 from 0.\d+ to 0.9\d+, expected integers from 0 to 255; .*255 \* pix",
        ),
        (np.full((3, 4, 4), 1000), r"got pixels of int64 from 1000 to 1000, expected .*; rescale them to 0..255"),
        (np.full((3, 4, 4), -5, np.int8), r"got pixels of int8 from -5 to -5, expected .* from 0 to 255"),
        (np.full((3, 4, 4), 200.0, np.float32), r"got pixels of float32 from 200 to 200, .*; round them, .*astype"),
        (np.full((3, 4, 4), np.nan), r"got pixels of float64 from nan to nan, .*; rescale them"),
        (np.ones((3, 4, 4), bool), r"got pixels of bool, expected .*\(255 \* pixels\)"),
    ],
)
def test_pixels_that_are_no_bytes_are_refused(pixels, message):
    with pytest.raises(DataError, match=f"mine: {message}"):
        Images(pixels, np.arange(3), source="mine")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64])
def test_integers_of_any_size_are_pixels(dtype):
    images = Images(np.array([[[0, 128, 255]]], dtype), np.array([0]))
    assert images.pixels.dtype == np.uint8
    x, _ = ImageDataset(images, steps=1)[0]
    torch.testing.assert_close(x[0], torch.tensor([0, 128 / 255, 1]))
    assert images.digest == Images(np.array([[[0, 128, 255]]], np.uint8), np.array([0])).digest


@pytest.mark.usefixtures("as_a_user")
def test_pixels_of_a_tensor_are_refused_with_the_remedy():
    with pytest.raises(
        TypeError, match=r"got pixels in a Tensor, expected a NumPy array; of a tensor, pixels.numpy\(\)"
    ):
        Images(torch.zeros(3, 4, 4, dtype=torch.uint8), np.arange(3))  # pyright: ignore[reportArgumentType]


def cifar(labels: list[int]) -> bytes:
    rng = np.random.default_rng(0)
    return b"".join(bytes([label]) + rng.integers(0, 256, 3072).astype(np.uint8).tobytes() for label in labels)


def test_cifar10_files_are_read_one_after_the_other(tmp_path):
    (tmp_path / "a.bin").write_bytes(cifar([3, 9]))
    (tmp_path / "b.bin.xz").write_bytes(lzma.compress(cifar([0])))
    images = read_cifar10(tmp_path / "a.bin", tmp_path / "b.bin.xz")
    assert images.labels.tolist() == [3, 9, 0]
    assert images.classes == CIFAR10_CLASSES
    assert images.pixels.shape == (3, 3, 32, 32)
    raw = np.frombuffer(cifar([3, 9]), np.uint8)
    assert np.array_equal(images.pixels[1].ravel(), raw[3074:])
    assert images.pixels[1, 2, 1, 0] == raw[3073 + 1 + 2 * 1024 + 32]  # Blue, second row.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (cifar([1, 2])[:-1], "got 6145 bytes, expected a multiple of 3073"),
        (cifar([1, 2]) + b"x", "got 6147 bytes, expected a multiple of 3073"),
        (cifar([1, 10]), "labels: sample 1 has 10, expected 0 to 9"),
        (b"", "labels: the data set is empty"),
    ],
)
def test_bad_cifar10_files_are_refused_by_name(content, message):
    with pytest.raises(DataError, match=f"there: {message}"):
        parse_cifar10((cifar([1]), "here"), (content, "there"))


def test_direct_encoding_gives_the_brightness_at_every_step():
    for images, features in ((GREY, (1, 7, 5)), (COLOUR, (3, 4, 4))):
        data = ImageDataset(images, steps=3, flatten=False)
        flat = ImageDataset(images, steps=3)
        x, labels = data.batch(np.array([4, 1]))
        assert data.features == features
        assert flat.features == (np.prod(features),)
        assert x.shape == (3, 2, *features)
        assert labels.tolist() == images.labels[[4, 1]].tolist()
        expected = torch.from_numpy(images.pixels[[4, 1]] / np.float32(255)).reshape(2, *features)
        assert all(torch.equal(step, expected) for step in x)
        assert torch.equal(flat.batch(np.array([4, 1]))[0], x.flatten(2))


def test_latency_encoding_spikes_once_the_brighter_the_earlier():
    images = Images(np.uint8([[[0, 255, 128]]]), np.array([0]))
    x, _ = ImageDataset(images, steps=11, encoding="latency").batch(np.array([0]))
    assert x.sum(0).tolist() == [[0, 1, 1]]
    assert x[:, 0, 1].argmax() == 0
    assert x[:, 0, 2].argmax() == 5


def test_latency_of_all_pixels_is_the_published_encoding():
    images = Images(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), np.array([0]))
    x, _ = ImageDataset(images, steps=100, encoding="latency_all").batch(np.array([0]))
    assert torch.equal(x.sum(0), torch.ones(1, 256))
    when = x[:, 0].argmax(0)
    assert when.tolist() == [int((1 - np.float32(value) / np.float32(255)) * 99) for value in range(256)]
    assert (when[0], when[-1]) == (99, 0)


@given(shift=st.integers(0, 4), seed=st.integers(0, 2**32))
def test_images_move_and_what_comes_in_is_black(shift, seed):
    data = ImageDataset(GREY, steps=1, flatten=False, augment=(ShiftPixels(shift),))
    x, _ = data.batch(np.arange(6), (seed,))
    frame = np.zeros((7 + 2 * shift, 5 + 2 * shift), np.float32)
    for sample in range(6):
        frame[shift : shift + 7, shift : shift + 5] = GREY.pixels[sample] / np.float32(255)
        windows = np.lib.stride_tricks.sliding_window_view(frame, (7, 5))
        assert (windows == x[0, sample, 0].numpy()).all((2, 3)).any()


def test_shifts_reach_all_places_and_half_of_the_images_are_mirrored():
    one = Images(np.zeros((400, 5, 5), np.uint8), np.zeros(400, np.int64))
    one.pixels[:, 2, 2] = 255
    x, _ = ImageDataset(one, steps=1, augment=(ShiftPixels(1),)).batch(np.arange(400), (0,))
    counts = x[0].sum(0).view(5, 5)[1:4, 1:4]
    assert counts.sum() == 400
    assert counts.min() > 20
    left = Images(np.zeros((400, 1, 2), np.uint8), np.zeros(400, np.int64))
    left.pixels[:, 0, 0] = 255
    x, _ = ImageDataset(left, steps=1, augment=(Flip(),)).batch(np.arange(400), (0,))
    assert 160 < x[0, :, 1].sum() < 240
    assert torch.equal(x[0].sum(1), torch.ones(400))


def test_augmentation_does_not_depend_on_batches_or_subsets():
    everything = (Perspective(0.5, 0.7), ShiftPixels(1), Flip(), PixelNoise(0.05, 0.5))
    data = ImageDataset(COLOUR, steps=2, flatten=False, augment=everything)
    whole, _ = data.batch(np.arange(6), (7, 1))
    part, _ = data.subset(np.array([5, 2, 3])).batch(np.array([2, 0]), (7, 1))
    assert torch.equal(part, whole[:, [3, 5]])
    assert not torch.equal(whole, data.batch(np.arange(6), (7, 2))[0])
    assert not torch.equal(whole, data.batch(np.arange(6))[0])
    plain = ImageDataset(COLOUR, steps=2, flatten=False)
    assert torch.equal(data.batch(np.arange(6))[0], plain.batch(np.arange(6))[0])
    assert torch.equal(plain.augmented(*everything).batch(np.arange(6), (7, 1))[0], whole)
    with pytest.raises(ValueError, match="seed"):
        data.batch(np.arange(6), (-1,))


def test_the_fingerprint_tells_every_setting():
    data = ImageDataset(GREY, steps=4)
    other = replace(GREY, pixels=255 - GREY.pixels)
    changes = [
        {"steps": 3}, {"encoding": "latency"}, {"flatten": False}, {"augment": (ShiftPixels(1),)},
        {"augment": (Flip(),)}, {"images": other},
        {"images": replace(GREY, labels=GREY.labels[::-1])},
    ]  # fmt: skip
    assert len({data.fingerprint(), *(replace(data, **change).fingerprint() for change in changes)}) == 8
    assert replace(data, images=replace(GREY)).fingerprint() == data.fingerprint()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be a whole number, at least 1, got 0"),
        ({"steps": 1, "encoding": "rate"}, "encoding: got 'rate', expected 'direct', 'latency' or 'latency_all'"),
    ],
)
@pytest.mark.usefixtures("as_a_user")
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ImageDataset(GREY, **settings)


@pytest.mark.usefixtures("as_a_user")
def test_settings_of_another_type_are_refused():
    with pytest.raises(ValueError, match=r"steps must be a whole number, at least 1, got 2\.5"):
        ImageDataset(GREY, steps=2.5)
    with pytest.raises(TypeError, match=r"expected a tuple of augmentations; a single one is \(Flip\(.*\),\)"):
        ImageDataset(GREY, steps=2, augment=Flip())
    with pytest.raises(ValueError, match=r"ShiftPixels: max is 2\.5, expected a whole number"):
        ShiftPixels(2.5)
