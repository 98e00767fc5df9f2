"""The numbers behind the figures: what `evaluation.npz` holds."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from rheobase import decoding
from rheobase.data import ArrayDataset
from rheobase.training import evaluate
from rheobase.training.record import write_evaluation
from training.tiny import CHANNELS, CLASSES, STEPS, arrays, events, network


def test_everything_is_there_in_its_shape(tmp_path: Path) -> None:
    net, data = network().eval(), events(9, 3)
    seen = evaluate(net, data)
    write_evaluation(tmp_path / "evaluation.npz", net, data, seen, decoding.mean)
    with np.load(tmp_path / "evaluation.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["confusion"], seen.confusion.numpy())
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
