"""Yin-Yang: points in a disc, in three classes that no linear classifier separates.

The data set of Kriener, Göltz and Petrovici, "The Yin-Yang dataset" (2022, MIT licence): small enough for a network of a
hundred neurons, hard enough to tell a good training method from a poor one. The authors publish three fixed sets, and the
procedure that draws any number of points; both are here, and both give the same points for the same seed.
"""

import io
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64, Int, Shaped

from rheobase.data.published import PublishedFile, data_folder
from rheobase.data.vectors import Vectors
from rheobase.errors import DataError

YIN_YANG_CLASSES = ("yin", "yang", "dot")

_HOME = "https://github.com/lkriener/yin_yang_data_set"


def yin_yang(data_dir: str | Path | None = None) -> tuple[Vectors, Vectors, Vectors]:
    """The fixed sets of Yin-Yang, (train, validation, test): 5,000 + 1,000 + 1,000 points, from `yin_yang/`.

    Each vector is (x, y, 1 - x, 1 - y). `draw_yin_yang` gives the same points, and more, without reading a file.

    Args:
        data_dir: the data folder; see `data_folder`.

    Raises:
        DataError: if a file is missing, damaged, or does not match its checksum.
    """
    folder = data_folder(data_dir)
    train, validation, test = (_read(folder, *files) for files in _FILES)
    return train, validation, test


def draw_yin_yang(samples: int, seed: int, *, r_big: float = 0.5, r_small: float = 0.1) -> Vectors:
    """Points of Yin-Yang, drawn by the published procedure.

    For each sample a class is drawn, and then points in the square around the disc until one lies in the disc and has that
    class, so the classes are balanced. The numbers are drawn in the order of the authors' program, from its generator: 5,000 of
    seed 42, 1,000 of seed 41 and 1,000 of seed 40 are the fixed sets for training, validation and test.

    Args:
        samples: the number of samples, at least 1.
        seed: 0 to 2^32 - 1.
        r_big: the radius of the disc, in (0, 0.5].
        r_small: the radius of the dots, above 0 and below r_big / 2.

    Returns:
        Vectors (x, y, 1 - x, 1 - y), classes "yin", "yang" and "dot".

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> points = draw_yin_yang(300, seed=42)
        >>> points.values.shape, np.bincount(points.labels).tolist()
        ((300, 4), [93, 99, 108])
    """
    if samples < 1:
        raise ValueError(f"samples: got {samples}, expected at least 1")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed: got {seed}, expected 0 to 2^32 - 1")
    if not (0 < r_big <= 0.5 and 0 < r_small < r_big / 2):
        raise ValueError(f"got r_big {r_big} and r_small {r_small}, expected r_big in (0, 0.5], r_small below its half")
    values, labels = _draw(samples, seed, r_big, r_small)
    return Vectors(values, labels, YIN_YANG_CLASSES, source="yin_yang")


def _draw(
    samples: int, seed: int, r_big: float, r_small: float
) -> tuple[Float64[np.ndarray, "samples 4"], Int[np.ndarray, " samples"]]:
    rng = np.random.RandomState(seed)
    points, labels = np.empty((samples, 2)), np.empty(samples, np.int64)
    for sample in range(samples):
        goal = rng.randint(3)
        while True:
            x, y = rng.rand(2) * 2.0 * r_big
            if (x - r_big) ** 2 + (y - r_big) ** 2 <= r_big**2 and _class(x, y, r_big, r_small) == goal:
                break
        points[sample], labels[sample] = (x, y), goal
    return np.concatenate([points, 1 - points], axis=1), labels


def yin_yang_classes(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], *, r_big: float = 0.5, r_small: float = 0.1
) -> Int[np.ndarray, " n"]:
    """The class of each point of the disc, an index into "yin", "yang" and "dot"; meaningless for points outside.

    Example:
        >>> yin_yang_classes(np.array([0.5, 0.5, 0.25]), np.array([0.1, 0.9, 0.5]))
        array([0, 1, 2])
    """
    return np.array([_class(*point, r_big, r_small) for point in zip(x.tolist(), y.tolist(), strict=True)], np.int64)


def _class(x: float, y: float, r_big: float, r_small: float) -> int:
    left, right = (((x - share * r_big) ** 2 + (y - r_big) ** 2) ** 0.5 for share in (0.5, 1.5))
    if left < r_small or right < r_small:
        return 2
    # The upper half of the disc is class 1, plus the left and minus the right of two discs of half its size.
    return int(left <= r_big / 2 or (y > r_big and right > r_big / 2))


def _read(folder: Path, samples: PublishedFile, labels: PublishedFile) -> Vectors:
    values, source = _array(*samples.read(folder), "f")
    classes, _ = _array(*labels.read(folder), "iu")
    return Vectors(values, classes, YIN_YANG_CLASSES, source=source)


def _array(content: bytes, source: str, kinds: str) -> tuple[Shaped[np.ndarray, "..."], str]:
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{source}: not a NumPy file of numbers ({error})") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
        raise DataError(f"{source}: got {getattr(array, 'dtype', 'an archive')}, expected numbers")
    return array, source


def _file(name: str, checksum: str) -> PublishedFile:
    return PublishedFile(f"yin_yang/{name}.npy", f"sha256:{checksum}", homepage=_HOME)


_FILES = (
    (
        _file("train_samples", "88ce43d8e7620b4dcd0712a582882325e609183eb71f2368cce8e87930e122d5"),
        _file("train_labels", "d38863599b41c3d67d5e606b21c3ea10f7956758471e946adcb120c4e5ae31c9"),
    ),
    (
        _file("validation_samples", "88f7e23daf578da390fe3ca10370d38fdb6060a08249ecb1be832e3e6cce75d3"),
        _file("validation_labels", "abd956deb8e62f528a271d323c7498e6d331cd261f143b539b1219d274936008"),
    ),
    (
        _file("test_samples", "1559e64b45a5e28df8a9d1158d891383d5745b0af2edbbca31ca4e2faeb95b4c"),
        _file("test_labels", "b4337aa983ea3928d1d8ee78268e8e266ede6ca3a401ade7b02eb47c9d90be93"),
    ),
)
