"""Max pooling of neurons that fire once is refused, and is there under a name that says what it does."""

import pytest
import torch
from torch import nn

import rheobase as rb
from rheobase import LIF, Dropout, Hold, Recompute, Sequential, SingleSpike, SpikeMaxPool2d

MAXIMUM = [
    nn.MaxPool1d(2),
    nn.MaxPool2d(2),
    nn.MaxPool3d(2),
    nn.AdaptiveMaxPool1d(2),
    nn.AdaptiveMaxPool2d(2),
    nn.AdaptiveMaxPool3d(2),
    nn.FractionalMaxPool2d(2, 2),
    nn.FractionalMaxPool3d(2, 2),
]


@pytest.mark.parametrize("layer", MAXIMUM, ids=lambda layer: type(layer).__name__)
def test_it_is_refused_with_the_reason_and_the_remedy(layer):
    message = rf"layer 2, {type(layer).__name__}, .*of layer 1.*more than once.*nn.AvgPool.*rheobase.SpikeMaxPool2d"
    with pytest.raises(TypeError, match=message):
        Sequential(nn.Conv2d(1, 2, 3), SingleSpike(2), layer)


@pytest.mark.parametrize(
    "between",
    [
        *(nn.Identity(), nn.Flatten(), nn.Unflatten(2, (2, 2)), nn.Dropout(), nn.Dropout2d(), Dropout(0.1)),
        *(nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(4), nn.ReLU(), nn.BatchNorm2d(2), SpikeMaxPool2d(2)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_also_behind_what_leaves_spikes_apart(between):
    with pytest.raises(TypeError, match=r"layer 2, MaxPool2d, .*of layer 0"):
        Sequential(SingleSpike(2), between, nn.MaxPool2d(2))


@pytest.mark.parametrize(
    "network",
    [
        lambda: Sequential(Sequential(LIF(2), SingleSpike(2)), nn.Sequential(nn.Dropout(), nn.MaxPool2d(2))),
        lambda: Sequential(Recompute(Sequential(SingleSpike(2))), nn.MaxPool2d(2)),
    ],
)
def test_also_across_containers(network):
    with pytest.raises(TypeError, match="takes the maximum over spikes"):
        network()


@pytest.mark.parametrize(
    "layers",
    [
        (SingleSpike(2), SpikeMaxPool2d(2)),
        (SingleSpike(2), nn.AvgPool2d(2)),
        (SingleSpike(2), nn.Conv2d(2, 2, 3), nn.MaxPool2d(2)),  # of currents
        (SingleSpike(2), nn.Conv2d(2, 2, 3), LIF(2), nn.MaxPool2d(2)),
        (LIF(2), nn.MaxPool2d(2)),  # which fire more than once anyway
        (nn.MaxPool2d(2), Hold(4), SingleSpike(2)),
    ],
)
def test_all_else_is_taken(layers):
    assert len(Sequential(*layers)) == len(layers)


def test_the_maximum_by_its_name_computes_the_maximum():
    x = (torch.rand(6, 2, 3, 8, 8) < 0.2).float()
    assert torch.equal(Sequential(SpikeMaxPool2d(2))(x), Sequential(nn.MaxPool2d(2))(x))
    assert not list(SpikeMaxPool2d(2).parameters())


@pytest.mark.parametrize(("steps", "fires"), [(4, 2.73), (8, 3.31), (16, 3.64)])
def test_why_it_is_refused(steps, fires):
    """Of 2 x 2 neurons that fire once in T steps, the maximum fires several times, the average passes each spike once."""
    torch.manual_seed(0)
    when = torch.randint(steps, (1, 50, 1, 40, 40))
    spikes = torch.zeros(steps, 50, 1, 40, 40).scatter_(0, when, 1.0)
    maximum, average = (Sequential(layer)(spikes).sum(0) for layer in (SpikeMaxPool2d(2), nn.AvgPool2d(2)))
    assert maximum.mean().item() == pytest.approx(steps * (1 - (1 - 1 / steps) ** 4), abs=0.02)
    assert maximum.mean().item() == pytest.approx(fires, abs=0.02)
    assert (maximum > 1).float().mean() == pytest.approx(1 - steps**-3, abs=0.005)
    assert (average == 1).all()


def test_the_public_name():
    assert rb.SpikeMaxPool2d is SpikeMaxPool2d
