"""The numbers behind the figures: what `evaluation.npz` holds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import rheobase as rb
from rheobase import decoding
from rheobase.data import ArrayDataset
from rheobase.report import write_report
from rheobase.training import Display, evaluate, fit
from rheobase.training.record import write_evaluation
from training.tiny import CHANNELS, CLASSES, STEPS, arrays, events, network, settings


def test_everything_is_there_in_its_shape(tmp_path: Path) -> None:
    net, data = network().eval(), events(9, 3)
    seen = evaluate(net, data)
    write_evaluation(tmp_path / "evaluation.npz", net, data, seen, decoding.mean)
    with np.load(tmp_path / "evaluation.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["confusion"], seen.confusion.numpy())
        assert np.mean(arrays["labels"] == arrays["predictions"]) == pytest.approx(seen.accuracy)
        assert np.array_equal(arrays["predictions"], seen.predictions.numpy())
        assert arrays["classes"].tolist() == ["low", "middle", "high"]
        assert arrays["layers"].tolist() == ["1 LIF(10)"]
        assert np.array_equal(arrays["rates_0"], seen.layers[0].rates.numpy())
        x, label = data[0]
        assert np.array_equal(arrays["raster_input"], x.numpy())
        assert arrays["raster_0"].shape == (STEPS, 10)
        assert set(np.unique(arrays["raster_0"])) <= {0, 1}
        with torch.no_grad():
            output = net(x.unsqueeze(1))
        assert np.array_equal(arrays["output"], output[:, 0].numpy())
        assert arrays["sample_label"] == label
        assert arrays["sample_prediction"] == output.mean(0).argmax()
        assert arrays["dt"] == 0.01


def test_data_without_seconds_and_maps_of_neurons(tmp_path: Path) -> None:
    data = ArrayDataset(arrays().x.unflatten(2, (2, 2, 2)), arrays().labels)
    net = nn.Sequential(nn.Identity(), nn.Flatten(2), network()).eval()
    write_evaluation(tmp_path / "evaluation.npz", net, data, evaluate(net, data), decoding.mean)
    with np.load(tmp_path / "evaluation.npz", allow_pickle=False) as found:
        assert np.isnan(found["dt"])
        assert found["raster_input"].shape == (STEPS, CHANNELS)
        assert found["output"].shape == (STEPS, CLASSES)
        assert found["layers"].tolist() == ["2.1 LIF(10)"]


def test_layers_of_fewer_steps_and_probabilities_are_reported(tmp_path: Path) -> None:
    layers = (
        nn.Linear(CHANNELS, 5),
        rb.SPSN(5, evaluation="expected"),
        rb.Hold(2),
        nn.Linear(5, CLASSES),
        rb.LIF(CLASSES),
    )
    net = rb.Sequential(*layers, rb.LeakyReadout(CLASSES))
    fit(net, arrays(), arrays(7, 2), settings=settings(epochs=1), run=tmp_path / "run", display=Display())
    with np.load(tmp_path / "run" / "evaluation.npz", allow_pickle=False) as found:
        probabilities, spikes = found["raster_0"], found["raster_1"]
    expected = net[:2](torch.as_tensor(arrays(7, 2).x[:, :1]))[:, 0].detach().numpy()
    np.testing.assert_allclose(probabilities, expected.repeat(2, axis=0), atol=1e-3)
    assert spikes.dtype == np.uint8
    assert f"{100 * probabilities.mean(dtype=np.float64):.1f}% of steps with a spike, expected" in write_report(
        tmp_path / "run"
    ).read_text(encoding="utf-8")
