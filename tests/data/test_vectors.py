"""Tests of rheobase.data.vectors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rheobase import encoding
from rheobase.data import VectorDataset, Vectors, split
from rheobase.errors import DataError

RNG = np.random.default_rng(0)
VECTORS = Vectors(RNG.random((9, 4)), np.arange(9) % 3, ("a", "b", "c"))


@pytest.mark.parametrize("how", ["direct", "latency", "latency_all"])
def test_a_batch_is_what_the_encoding_makes_of_its_vectors(how):
    data = VectorDataset(VECTORS, steps=7, encoding=how)
    x, labels = data.batch(np.array([4, 1]), (0, 1))
    assert x.shape == (7, 2, 4)
    assert x.is_contiguous()
    assert torch.equal(x, encoding.encode(torch.from_numpy(VECTORS.values[[4, 1]]), 7, how))
    assert labels.tolist() == [1, 1]
    assert torch.equal(data.subset(np.array([1, 4])).batch(np.array([1, 0]))[0], x)
    assert (data.features, data.steps, data.classes, len(data)) == ((4,), 7, ("a", "b", "c"), 9)
    rest, part = split(data, 0.4, seed=0)
    assert (len(rest), len(part)) == (6, 3)


def test_the_fingerprint_tells_every_setting():
    data = VectorDataset(VECTORS, steps=4)
    changes = [
        {"steps": 3},
        {"encoding": "direct"},
        {"vectors": replace(VECTORS, values=VECTORS.values[::-1])},
        {"vectors": replace(VECTORS, labels=VECTORS.labels[::-1])},
        {"indices": np.arange(8)},
    ]
    assert len({data.fingerprint(), *(replace(data, **change).fingerprint() for change in changes)}) == 6
    assert replace(data, vectors=replace(VECTORS)).fingerprint() == data.fingerprint()


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        (np.array([[0.5, 1.5]]), [0], "vectors: vector 0 has 1.5, expected 0 to 1"),
        (np.array([[0.5, 0.5], [0.5, np.nan]]), [0, 0], "vectors: vector 1 has nan, expected 0 to 1"),
        (np.array([[0.5]]), [0, 0], "got 2 labels for 1 vectors"),
        (np.array([0.5]), [0], r"got values of shape \(1,\), expected \(n, \*features\)"),
        (np.array([[0.5]]), [7], "labels: sample 0 has 7, expected 0 to 2"),
    ],
)
def test_bad_vectors_are_refused(values, labels, message):
    with pytest.raises(DataError, match=message):
        Vectors(values, np.array(labels), ("a", "b", "c"))


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="steps must be a whole number, at least 1, got 0"):
        VectorDataset(VECTORS, steps=0)
