"""Simulated N-MNIST: what an event camera would send if it made the movements of N-MNIST before MNIST's digits.

The recordings of N-MNIST are not always available, MNIST is. The simulation stands in for them when trying a method on events:
the same format, size, duration, movement and about as many events, but **not N-MNIST**, and accuracies on the two are not
comparable. So it lies in a folder of a different name, with a record of how it was made, and its events say what they are.

The model. In three saccades of 105 ms, the digit's image moves by (3.5, 7), (3.5, -7) and (-7, 0) pixels to the right and down,
an isosceles triangle (Orchard and others, 2015), each from rest to rest along a cosine. A pixel sees the logarithm of the
brightness at its position, interpolated linearly between MNIST's pixels, of a digit that is darker than its background (in
N-MNIST, too, its leading edge sends "darker"). When this has changed by a threshold since it last looked, it sends an event, is
blind for a refractory time, and then looks again. Each pixel has its own thresholds, for brighter and darker, since the
transistors of a camera differ; and pixels send a few spurious events, most of them "brighter", caused by leakage currents
(Lichtsteiner, Posch and Delbruck, "A 128x128 120 dB 15 us Latency Asynchronous Temporal Contrast Vision Sensor", 2008).
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Int64, UInt8, UInt16

from rheobase.data.files import read_bytes
from rheobase.data.images import Images
from rheobase.data.n_mnist_files import PARTS, RECORD, SENSOR, SIMULATED, pack_n_mnist
from rheobase.data.published import data_folder
from rheobase.data.sources import mnist
from rheobase.errors import DataError
from rheobase.files import write_json

_SACCADE = 105_000.0
_CORNERS = np.array([[0.0, 0.0], [3.5, 7.0], [7.0, 0.0], [0.0, 0.0]])
"""The position of the image, right and down, before and after each saccade."""
_STEP = 1000.0
"""Microseconds between the moments at which the image is computed; in between, what a pixel sees changes linearly."""
_BORDER = 8
"""Background around the digit: more than the image ever moves."""
_BLOCK = 500
"""Samples that are written before the record is updated."""
_VERSION = 1
"""To be raised with every change that gives different events for the same settings."""


@dataclass(frozen=True)
class Camera:
    """The simulated event camera; the defaults make as many events as the recordings of N-MNIST have.

    Attributes:
        contrast: the share of the background's light that the blackest ink absorbs, in (0, 1).
        threshold: the change of the logarithm of the brightness that makes an event, > 0.
        spread: standard deviation of the thresholds over the pixels, as a share of the threshold.
        refractory: microseconds for which a pixel is blind after an event, at least 1,000.
        noise: spurious events, per pixel and second.
        noise_on: the share of these that are "brighter".
    """

    contrast: float = 0.85
    threshold: float = 0.3
    spread: float = 0.1
    refractory: float = 1700.0
    noise: float = 0.35
    noise_on: float = 0.85

    def __post_init__(self) -> None:
        if not (0 < self.contrast < 1 and self.threshold > 0 and 0 <= self.spread <= 0.2):
            raise ValueError(f"{self}: expected contrast in (0, 1), threshold above 0, spread in [0, 0.2]")
        if not (self.refractory >= _STEP and 0 <= self.noise <= 100 and 0 <= self.noise_on <= 1):
            raise ValueError(f"{self}: expected refractory of at least {_STEP}, noise in [0, 100], noise_on in [0, 1]")


class Simulator:
    """A camera whose pixels are drawn from a seed, and what it sends when it looks at an image.

    Args:
        seed: >= 0.
        camera: the camera's constants.

    Example:
        >>> image = np.zeros((28, 28), np.uint8)
        >>> image[10:18, 12:16] = 255
        >>> times, units = Simulator(seed=0).record(image, sample=0)
        >>> times.dtype, int(times.max()) < 315_000, int(units.max()) < 2312
        (dtype('int64'), True, True)
    """

    def __init__(self, seed: int, camera: Camera = Camera()) -> None:
        self.seed, self.camera = seed, camera
        spread = 1 + camera.spread * np.random.default_rng(seed).standard_normal((2, 34, 34)).clip(-4, 4)
        self._thresholds = camera.threshold * spread
        moments = np.arange(0, 3 * _SACCADE + _STEP, _STEP)
        saccade = np.minimum(moments // _SACCADE, 2).astype(np.int64)
        way = (1 - np.cos(np.pi * (moments / _SACCADE - saccade))) / 2
        self._path = _CORNERS[saccade] + (_CORNERS[saccade + 1] - _CORNERS[saccade]) * way[:, None]

    def record(
        self, image: UInt8[np.ndarray, "28 28"], sample: int
    ) -> tuple[Int64[np.ndarray, " events"], UInt16[np.ndarray, " events"]]:
        """The times, in microseconds and ascending, and the channels of the events that an image makes.

        Args:
            image: a digit, 0 to 255, 255 the ink.
            sample: a number >= 0 from which, with the seed, the spurious events are drawn.
        """
        ink = np.pad(image / 255.0, _BORDER)
        camera = self.camera
        most = 34 * 34 * (int(3 * _SACCADE / camera.refractory) + 1)
        times, units = np.empty(most), np.empty(most, np.uint16)
        events = _kernel()(ink, self._path, self._thresholds, camera.contrast, camera.refractory, times, units)
        rng = np.random.default_rng((self.seed, sample))
        noise = rng.poisson(camera.noise * 34 * 34 * 3 * _SACCADE / 1e6)
        places = rng.integers(0, 34 * 34, noise) + 34 * 34 * (rng.random(noise) < camera.noise_on)
        times = np.concatenate([times[:events], rng.uniform(0, 3 * _SACCADE, noise)]).astype(np.int64)
        units = np.concatenate([units[:events], places.astype(np.uint16)])
        # By time, and by channel where times are equal, so that the order does not depend on the sort.
        order = np.lexsort((units, times))
        return times[order], units[order]


def simulate_n_mnist(
    data_dir: str | Path | None = None,
    *,
    seed: int = 0,
    samples: int | None = None,
    download: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Simulate N-MNIST from MNIST and write it to `n_mnist_simulated/` in N-MNIST's own layout, for `n_mnist(simulated=True)`.

    The same seed makes the same files. An interrupted run continues where the record in the folder says it stopped.

    Args:
        data_dir: the data folder, which holds `mnist/`; see `data_folder`.
        seed: >= 0; the camera's pixels and the spurious events are drawn from it.
        samples: only this many of the first images of each part; by default all, 60,000 and 10,000.
        download: whether to download MNIST if it is missing.
        progress: called, for "Train" and for "Test", with the number of recordings so far and in all.

    Returns:
        The folder.

    Raises:
        ValueError: if the seed is negative or `samples` below 1.
        DataError: if MNIST is missing or damaged, or the folder holds something other than the beginning of this simulation.
    """
    if seed < 0:
        raise ValueError(f"seed: got {seed}, expected an integer >= 0")
    if samples is not None and samples < 1:
        raise ValueError(f"samples: got {samples}, expected at least 1")
    pictures = dict(zip(PARTS, mnist(data_dir, download=download), strict=True))
    return _write(data_folder(data_dir) / SIMULATED, pictures, Simulator(seed), samples, progress)


def _write(
    folder: Path,
    pictures: dict[str, Images],
    simulator: Simulator,
    samples: int | None,
    progress: Callable[[str, int, int], None] | None,
) -> Path:
    wanted = {part: len(images) if samples is None else min(len(images), samples) for part, images in pictures.items()}
    record = {
        "what": "Simulated events of an event camera in front of MNIST's digits. These are not the recordings of N-MNIST.",
        "version": _VERSION,
        "seed": simulator.seed,
        "camera": asdict(simulator.camera),
        "pictures": {part: images.digest for part, images in pictures.items()},
        "samples": wanted,
    }
    done = _begun(folder, record)
    write_json(folder / RECORD, {**record, "done": done})
    for number, (part, images) in enumerate(pictures.items()):
        for digit in range(10):
            (folder / part / str(digit)).mkdir(parents=True, exist_ok=True)
        while done[part] < wanted[part]:
            block = range(done[part], min(done[part] + _BLOCK, wanted[part]))
            for index in block:
                times, units = simulator.record(images.pixels[index], index + number * 1_000_000)
                # Not atomically, file by file, which would take hours on some disks: until the record says that a block is
                # there, its files do not count, and are written again.
                name = f"{part}/{images.labels[index]}/{index + 1:05d}.bin"
                (folder / name).write_bytes(pack_n_mnist(times, units))
            _reach_the_disk()
            done[part] = block.stop
            write_json(folder / RECORD, {**record, "done": done})
            if progress is not None:
                progress(part, done[part], wanted[part])
    return folder


def _begun(folder: Path, record: dict[str, Any]) -> dict[str, int]:
    """The number of recordings of each part already there; none in a new folder."""
    if not folder.exists() or not any(folder.iterdir()):
        return dict.fromkeys(record["samples"], 0)
    remedy = "delete the folder to simulate again"
    try:
        there = json.loads(read_bytes(folder / RECORD, limit=2**20))
        done = {part: int(there["done"][part]) for part in record["samples"]}
    except (DataError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise DataError(f"{folder}: holds files, but no record of a simulation; {remedy}") from None
    for name, expected in record.items():
        if there.get(name) != expected:
            raise DataError(
                f"{folder}: holds a simulation with {name} {there.get(name)}, requested is {expected}; {remedy}"
            )
    if not all(0 <= done[part] <= record["samples"][part] for part in done):
        raise DataError(f"{folder / RECORD}: got {done} recordings done of {record['samples']}; {remedy}")
    return done


def _reach_the_disk() -> None:
    if hasattr(os, "sync"):  # not on Windows, where files reach the disk when they are closed or soon after
        os.sync()


@cache
def _kernel() -> Callable[..., int]:
    return _compile()


@no_type_check
def _compile() -> Callable[..., int]:
    """The loop over pixels and moments as machine code; it writes the events and returns their number."""
    from numba import float64, int64, uint16

    from rheobase.ops.compiler import compiled

    side, border, step = SENSOR[1], _BORDER, _STEP

    def see(ink, path, thresholds, contrast, refractory, times, units):
        events = 0
        for y in range(side):
            for x in range(side):
                # The window of the image that passes by this pixel: where there is no ink, there is nothing to see.
                black = False
                for row in range(y, y + border + 2):
                    for column in range(x, x + border + 2):
                        black |= ink[row, column] > 0
                if not black:
                    continue
                before, reference, free = 0.0, 0.0, 0.0
                for moment in range(len(path)):
                    right, down = x + border - path[moment, 0], y + border - path[moment, 1]
                    column, row = int(right), int(down)
                    across, along = right - column, down - row
                    upper = (1 - across) * ink[row, column] + across * ink[row, column + 1]
                    lower = (1 - across) * ink[row + 1, column] + across * ink[row + 1, column + 1]
                    now = math.log(1 - contrast * ((1 - along) * upper + along * lower))
                    time = moment * step
                    if moment == 0:
                        before, reference = now, now
                        continue
                    if free > time:
                        before = now
                        continue
                    begin, slope = time - step, (now - before) / step
                    if free > begin:  # It looks again within this step, at what is there then.
                        begin, reference = free, before + slope * (free - begin)
                        free = 0.0
                    change = now - reference
                    brighter = change > 0
                    threshold = thresholds[1 if brighter else 0, y, x]
                    if abs(change) >= threshold:
                        level = reference + (threshold if brighter else -threshold)
                        fired = time - (now - level) / slope
                        fired = min(max(fired, begin), time)
                        times[events] = fired
                        units[events] = x + side * (y + side * (1 if brighter else 0))
                        events += 1
                        free = fired + refractory
                    before = now
        return events

    signature = int64(float64[:, ::1], float64[:, ::1], float64[:, :, ::1], float64, float64, float64[::1], uint16[::1])
    return compiled(see, signature, "saccades")
