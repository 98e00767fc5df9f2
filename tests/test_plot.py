"""Pictures: what is drawn is what was measured."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from torch import nn

import rheobase as rb
from rheobase import plot


def spikes(units: int = 20) -> torch.Tensor:
    torch.manual_seed(0)
    return (torch.rand(50, 4, units) < 0.1).float()


def marks(axes: Axes) -> list[tuple[int, int]]:
    """The steps and units of what is marked."""
    (lines,) = axes.collections
    ends = np.asarray([path.vertices for path in lines.get_paths()])
    return sorted((round(step), round(unit)) for step, unit in ends.mean(1).tolist())


@pytest.mark.parametrize("units", [1, 20])
def test_a_raster_has_a_mark_for_each_spike(units: int) -> None:
    x = spikes(units)
    axes = plot.raster(x, sample=2)
    assert marks(axes) == sorted(map(tuple, x[:, 2].nonzero().tolist()))
    assert axes.get_title() == f"{100 * x[:, 2].mean():.2g} %"


def test_features_of_a_picture_are_numbered_row_by_row() -> None:
    x = torch.zeros(3, 1, 2, 4)
    x[1, 0, 1, 2] = 1
    assert marks(plot.raster(x)) == [(1, 6)]


def test_very_many_units_are_shades() -> None:
    x = spikes(1000)
    (picture,) = plot.raster(x, sample=1).images
    assert np.array_equal(np.asarray(picture.get_array()), x[:, 1].T.numpy())


def test_values_that_are_no_spikes_are_shades() -> None:
    x = torch.rand(5, 2, 3)
    axes = plot.raster(x, sample=1, title="pixels")
    (picture,) = axes.images
    assert np.allclose(np.asarray(picture.get_array()), x[:, 1].T.numpy())
    assert axes.get_title() == "pixels"


def test_traces_are_the_values_and_the_chosen_one_stands_out() -> None:
    x = torch.randn(30, 2, 3, requires_grad=True)
    axes = plot.traces(x, 1, chosen=2, names=("a", "b", "c"), threshold=0.5)
    *lines, threshold = axes.lines
    assert [np.asarray(line.get_ydata()).tolist() for line in lines] == [
        x[:, 1, unit].tolist() for unit in (0, 1, 2, 2)
    ]
    assert lines[3].get_label() == "c"
    assert lines[3].get_color() != lines[2].get_color()
    assert set(np.asarray(threshold.get_ydata())) == {0.5}


def test_all_layers_of_a_network_as_it_is_evaluated() -> None:
    torch.manual_seed(0)
    network = rb.Sequential(
        *(
            nn.Linear(20, 16),
            rb.LIF(16),
            rb.Dropout(0.5),
            nn.Linear(16, 8),
            rb.LIF(8),
            nn.Linear(8, 3),
            rb.LeakyReadout(3),
        )
    )
    x = spikes()
    figure = plot.activity(network, x, sample=3, label=1, names=("a", "b", "c"))
    assert network[2].training
    seen, output = rb.health.record_spikes(network.eval(), x)
    titles = [axes.get_title().partition(",")[0] for axes in figure.axes]
    assert titles == ["input", "1 LIF(16)", "4 LIF(8)", "output"]
    for axes, layer in zip(figure.axes[1:3], seen.values(), strict=True):
        assert marks(axes) == sorted(map(tuple, layer[:, 3].nonzero().tolist()))
    chosen = figure.axes[-1].lines[-1]
    assert np.allclose(np.asarray(chosen.get_ydata()), output[:, 3, 1].detach().numpy(), atol=1e-6)
    assert chosen.get_label() == "b"


def test_on_axes_of_the_user() -> None:
    figure, (left, right) = plt.subplots(1, 2)
    assert plot.raster(spikes(), axes=left) is left
    assert plot.traces(spikes(), axes=right) is right
    plt.close(figure)


@pytest.mark.usefixtures("as_a_user")
def test_what_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match=r"raster: spikes must be \(T, B, \*features\), got shape \(4, 5\)"):
        plot.raster(torch.zeros(4, 5))
    with pytest.raises(ValueError, match="raster: sample must be one of the 4 in spikes, from 0, got 4"):
        plot.raster(spikes(), sample=4)
    with pytest.raises(ValueError, match="traces: chosen must be a unit, 0 to 19, got 20"):
        plot.traces(spikes(), chosen=20)
    network = rb.Sequential(nn.Linear(20, 3), rb.LeakyReadout(3))
    with pytest.raises(ValueError, match="activity: label must be one of the 3 outputs, from 0, got 3"):
        plot.activity(network, spikes(), label=3)
    with pytest.raises(ValueError, match="activity: sample must be one of the 4 in x"):
        plot.activity(network, spikes(), sample=-1)


def test_without_matplotlib_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['matplotlib.figure'] = None\n"
        "import torch, rheobase as rb\n"
        "try:\n    rb.plot.raster(torch.zeros(2, 1, 3))\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert "pip install 'rheobase[plots]'" in done.stdout
