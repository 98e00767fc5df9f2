"""Images read one pixel a step."""

import numpy as np
import pytest
import torch

from rheobase.data import Images, PixelSequences

RNG = np.random.default_rng(0)
GREY = Images(RNG.integers(0, 256, (5, 4, 3), dtype=np.uint8), np.arange(5) % 2)
COLOUR = Images(RNG.integers(0, 256, (5, 2, 4, 3), dtype=np.uint8), np.arange(5) % 2)


def test_pixels_come_row_by_row():
    x, labels = PixelSequences(GREY).batch(np.array([3, 1]))
    assert x.shape == (12, 2, 1)
    expected = torch.from_numpy(GREY.pixels[[3, 1]].reshape(2, 12)).float() / 255
    assert torch.equal(x[:, :, 0], expected.T)
    assert labels.tolist() == [1, 1]


def test_colours_are_features():
    data = PixelSequences(COLOUR)
    assert (data.steps, data.features, data.classes) == (12, (2,), ("0", "1"))
    x, _ = data.batch(np.array([4]))
    assert torch.equal(x[5, 0], torch.from_numpy(COLOUR.pixels[4, :, 1, 2]).float() / 255)


def test_one_random_order_for_all_images():
    plain, permuted, other = (PixelSequences(GREY, permutation) for permutation in (None, 0, 1))
    every = np.arange(5)
    x, y, z = (data.batch(every)[0] for data in (plain, permuted, other))
    order = np.random.default_rng(0).permutation(12)
    assert torch.equal(y, x[order])
    assert not torch.equal(y, z)
    assert torch.equal(permuted.subset(np.array([2, 4])).batch(np.array([1]))[0], y[:, 4:5])


def test_fingerprints():
    kinds = [PixelSequences(GREY), PixelSequences(GREY, 0), PixelSequences(GREY, 1), PixelSequences(COLOUR)]
    kinds.append(kinds[0].subset(np.array([1, 2])))
    assert len({data.fingerprint() for data in kinds}) == 5
    assert PixelSequences(GREY, 0).fingerprint() == kinds[1].fingerprint()


def test_errors():
    with pytest.raises(ValueError, match="permutation must be a seed, at least 0, or None, got -1"):
        PixelSequences(GREY, -1)
    with pytest.raises(IndexError, match="got 5, expected 0 to 4"):
        PixelSequences(GREY).batch(np.array([5]))
