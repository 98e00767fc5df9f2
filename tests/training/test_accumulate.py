"""Steps that are computed in parts: the same step, for less memory."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rheobase as rb
from rheobase.errors import DivergenceError
from rheobase.training import Display, Training, fit
from training.tiny import (
    CHANNELS,
    CLASSES,
    STEPS,
    Killed,
    Stop,
    arrays,
    assert_same_run,
    network,
    read_lines,
    settings,
    train,
)


@pytest.mark.parametrize("accumulate", [2, 3, 8, 50])
def test_parts_make_the_step_of_the_whole(tmp_path: Path, accumulate: int) -> None:
    for count in (1, accumulate):
        fit(
            network(dropout=0.0),
            arrays(21),  # of which the last batch is smaller
            arrays(9, 2),
            settings=settings(accumulate=count),
            run=tmp_path / str(count),
            display=Display(),
        )
    whole, parts = (read_lines(tmp_path / name / "metrics.jsonl") for name in ("1", str(accumulate)))
    assert len(whole) == len(parts) == 3
    for ours, theirs in zip(whole, parts, strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-4)
        assert theirs["train_accuracy"] == ours["train_accuracy"]
        assert theirs["validation_loss"] == pytest.approx(ours["validation_loss"], rel=1e-4)


@pytest.mark.parametrize("every_step", [False, True])
def test_parts_of_targets(every_step: bool) -> None:
    x = torch.rand(STEPS, 21, CHANNELS, generator=torch.Generator().manual_seed(0)).round()
    y = x[..., :CLASSES] if every_step else x[..., :CLASSES].mean(0)
    lengths = np.arange(21) % STEPS + 1
    data = rb.data.TargetDataset(x, y, every_step=every_step, lengths=lengths)
    losses = [
        fit(network(dropout=0.0), data, data, settings=settings(accumulate=count), display=Display()).validation.loss
        for count in (1, 3)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_network_sees_no_more_than_a_part() -> None:
    seen: list[int] = []
    net = network()
    net[0].register_forward_hook(lambda module, given, output: seen.append(given[0].shape[0] // STEPS))
    fit(net, arrays(21), arrays(9, 2), settings=settings(epochs=1, accumulate=3), display=Display())
    assert seen[:9] == [3, 3, 2, 3, 3, 2, 2, 2, 1]
    assert max(seen) == 5  # in evaluation, 2 * 8 // 3


def test_each_part_draws_for_itself() -> None:
    drawn: list[Tensor] = []
    net = network(dropout=0.5)
    net[2].register_forward_hook(lambda module, given, output: drawn.append((output == 0).float()) and None)
    x = torch.ones(STEPS, 8, CHANNELS)
    same = rb.data.ArrayDataset(x, np.zeros(8, np.int64), tuple("abc"))
    fit(net, same, same, settings=settings(epochs=1, accumulate=2), display=Display())
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("stop", [Stop(step=(2, 1)), Stop(epoch=2)])
def test_interrupted_and_resumed_is_the_same_as_the_whole(tmp_path: Path, stop: Stop) -> None:
    train(tmp_path / "whole", accumulate=3)
    with pytest.raises(Killed):
        train(tmp_path / "parts", display=stop, accumulate=3)
    train(tmp_path / "parts", resume=True, accumulate=3)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["config"]["accumulate"] == 3


def test_the_part_that_diverged_is_explained() -> None:
    def loss(output: Tensor, labels: Tensor) -> Tensor:
        return output.mean() * torch.where((labels == 2).any(), torch.inf, 1.0)

    y = np.array([0, 1, 0, 1, 2, 2, 0, 1])
    data = rb.data.ArrayDataset(torch.rand(STEPS, 8, CHANNELS).round(), y, tuple("abc"))
    net = rb.Sequential(nn.Linear(CHANNELS, CLASSES), rb.LeakyReadout(CLASSES))
    given = Training(epochs=1, batch_size=8, accumulate=4, device="cpu")
    with pytest.raises(DivergenceError, match=r"in epoch 1, step 1: .*but the loss of them is -?(inf|nan)"):
        fit(net, data, data, settings=given, loss=loss, display=Display())
