"""Modules that know how far training is."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

import rheobase as rb
from rheobase.scheduled import Scheduled, is_settled, set_progress
from training.tiny import arrays, network, settings


class Watching(Scheduled):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.append(self.progress.item())
        return x


def test_fit_tells_how_far_training_is_and_keeps_the_best_epoch_as_it_was_trained() -> None:
    module = Watching()
    result = rb.fit(
        rb.Sequential(module, *network()),
        arrays(),
        arrays(7, 2),
        settings=settings(epochs=5),
        display=rb.training.Display(),
    )
    assert sorted(set(module.seen)) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert module.progress.item() == (result.best_epoch - 1) / 4


def test_a_training_of_one_epoch_is_at_its_end() -> None:
    module, asked = Watching(), set[float]()

    def penalty(spikes: Mapping[str, Tensor], progress: float) -> Tensor:
        asked.add(progress)
        return torch.zeros(())

    layers, display = rb.Sequential(module, *network()), rb.training.Display()
    rb.fit(layers, arrays(), arrays(7, 2), settings=settings(epochs=1), regularizers=[penalty], display=display)
    assert set(module.seen) == asked == {1.0}
    assert module.progress == 1


def test_outside_training_all_is_done() -> None:
    assert nn.Sequential(Scheduled()).state_dict()["0.progress"] == 1


def test_progress_has_a_range() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 1.5"):
        set_progress(nn.Identity(), 1.5)
    module = Scheduled()
    set_progress(module, 0.0)
    assert torch.equal(module.progress, torch.zeros(()))


def test_a_module_hears_of_progress_when_it_is_set() -> None:
    class Doubling(Scheduled):
        def proceed(self, progress: float) -> None:
            super().proceed(progress)
            self.doubled = 2 * progress

    module = Doubling()
    set_progress(nn.Sequential(module), 0.25)
    assert (module.progress.item(), module.doubled) == (0.25, 0.5)


def test_a_mask_is_settled_when_it_has_closed() -> None:
    masked = rb.MaskedPSN(6, order=2)
    net = rb.Sequential(nn.Linear(8, 4), masked, nn.Linear(4, 3), rb.LeakyReadout(3))
    assert is_settled(net)
    set_progress(net, 0.99)
    assert not is_settled(net)
    result = rb.fit(net, arrays(), arrays(7, 2), settings=settings(epochs=4), display=rb.training.Display())
    assert result.best_epoch == 4
    assert is_settled(net)
    x = torch.rand(6, 2, 8)
    torch.testing.assert_close(net.run(x)[0], net(x))  # it does not look ahead
