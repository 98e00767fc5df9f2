"""Run by `test_engine.py` in two processes at once: the same runs that the test then makes in one.

A network without dropout: dropout is drawn by each process for its own samples, so that it
differs, as it should, from that of one process.
"""

import atexit
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import rheobase as rb
from rheobase.data import ArrayDataset
from rheobase.regularizers import RateBounds
from rheobase.training import Display, Engine, JsonLines, Result, fit
from rheobase.training.trainer import Trainer
from training.tiny import CHANNELS, CLASSES, STEPS, Killed, arrays, network, settings

EPOCHS = 4


def run(path: Path, *, resume: bool = False, stop_after: int | None = None, display: Display | None = None) -> Result:
    """A run of four epochs: batches of 8 with 5 left over, then of 4 with 1 left over, so that a process goes without."""
    train_epoch = Trainer.epoch

    def stopping(self: Trainer, epoch: int) -> tuple[float, float]:
        if stop_after is not None and epoch > stop_after:
            raise Killed
        return train_epoch(self, epoch)

    Trainer.epoch = stopping
    try:
        return fit(
            normalized(),
            arrays(),
            arrays(3, 2),
            arrays(11, 3),
            settings(epochs=EPOCHS, batch_size=4, learning_rate=0.02),
            loss=lambda output, labels: functional.cross_entropy(output.mean(0), labels),
            run=path,
            resume=resume,
            also_test={"one sample": arrays(1, 6)},
            display=display or Display(),
        )
    finally:
        Trainer.epoch = train_epoch


def normalized() -> rb.Sequential:
    """A network with learned decays and thresholds, and with layers that look at the whole batch.

    No bias in front of a normalization: it has no effect, its gradient is rounding alone, and Adam makes steps of that.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return rb.Sequential(
            nn.Linear(CHANNELS, 10, bias=False),
            nn.BatchNorm1d(10),
            rb.LIF(10, decay=0.8, threshold=0.5, learn=("decay", "threshold")),
            nn.Linear(10, CLASSES, bias=False),
            nn.BatchNorm1d(CLASSES, momentum=None, affine=False),
            rb.LeakyReadout(CLASSES, learn=("decay",)),
        )


def of_lengths(samples: int = 37, seed: int = 1) -> ArrayDataset:
    """Samples of different lengths, some of a single step, zeros behind them."""
    data = arrays(samples, seed)
    lengths = np.random.default_rng(seed).integers(1, STEPS, samples)
    return ArrayDataset(data.x * rb.mask_of(lengths, STEPS).unsqueeze(-1), data.y, data.classes, lengths=lengths)


def run_of_lengths(path: Path, net: rb.Sequential | None = None, batch_size: int = 4, accumulate: int = 1) -> Result:
    """A run on samples of different lengths, with a penalty that is a mean over samples; a process goes without at times."""
    return fit(
        net or network(dropout=0.0),
        of_lengths(),
        of_lengths(3, 2),
        of_lengths(11, 3),
        settings(batch_size=batch_size, accumulate=accumulate, learning_rate=0.02),
        regularizers=[RateBounds(upper=0.05)],
        run=path,
        display=Display(),
    )


def say(line: str) -> None:
    """A line in one piece: the processes share one stream, and `print` writes the line break on its own."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def say_threads() -> None:
    """The threads that are still there, by their names (on Linux)."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    say(f"process {os.environ['RANK']} ends with threads {sorted(name for name in names if 'gloo' in name)}")


def diverge(path: Path, engine: Engine) -> None:
    """NaN in the samples of one process alone: both must stop, and say where."""
    net = network(dropout=0.0)

    def loss(output: Tensor, labels: Tensor) -> Tensor:
        return output.mean() * (torch.nan if engine.process == 1 else 1.0)

    try:
        fit(net, arrays(), arrays(3, 2), settings=settings(), loss=loss, run=path, display=Display())
    except Exception as error:
        say(f"process {engine.process}: {type(error).__name__}: {error}")


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    atexit.register(say_threads)  # what is registered later runs before
    engine = Engine.start(settings())
    assert engine.processes == 2
    assert engine.agree(f"name of {engine.process}") == "name of 0"
    result = run(folder / "two", display=JsonLines())
    assert len(result.metrics) == EPOCHS
    for name in ("resumed by two", "resumed by one"):
        try:
            run(folder / name, stop_after=2)
        except Killed:
            engine.wait_for_all()
    result = run(folder / "resumed by two", resume=True)
    say(f"process {engine.process} has {len(result.metrics)} epochs")
    fit(normalized(), arrays(), arrays(3, 2), arrays(11, 3), settings(), run=folder / "normalized", display=Display())
    run_of_lengths(folder / "of lengths")
    run_of_lengths(folder / "of lengths, normalized", normalized(), batch_size=5)
    run_of_lengths(folder / "of lengths, in parts", batch_size=5, accumulate=3)  # of which one process has two
    diverge(folder / "diverged", engine)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
