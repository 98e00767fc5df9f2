"""Training and evaluation on targets that are numbers, for each sample and at every step."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import rheobase as rb
from rheobase.data import Dataset, TargetDataset, split
from rheobase.errors import DataError
from rheobase.report import write_report
from rheobase.training import Display, PlainLines, Result, evaluate, fit
from training.tiny import Stop, assert_same_run, read_lines, settings

T, N, K = 12, 40, 2


def targets(every_step: bool, lengths: bool = False) -> TargetDataset:
    """How much has come in so far, or in all, from either half of the inputs."""
    draw = torch.Generator().manual_seed(1)
    busy = torch.rand(N, 2, generator=draw).repeat_interleave(3, 1)
    x = (torch.rand(T, N, 6, generator=draw) < busy).float()
    halves = torch.stack((x[..., :3].sum(2), x[..., 3:].sum(2)), dim=2)
    y = halves.cumsum(0) / T if every_step else halves.mean(0)
    real = torch.randint(4, T + 1, (N,), generator=draw) if lengths else None
    return TargetDataset(x, y, every_step=every_step, lengths=real)


def network() -> rb.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return rb.Sequential(
            nn.Linear(6, 24), rb.LIF(24, decay=0.8), nn.Linear(24, K), rb.LeakyReadout(K, decay=0.9), input_rate=0.3
        )


def train(data: Dataset, run: Path | None = None, **changes: Any) -> Result:
    rest, validation = split(data, 0.25, seed=0)
    display = changes.pop("display", None) or Display()
    resume = changes.pop("resume", False)
    return fit(network(), rest, validation, validation, settings(**changes), run=run, resume=resume, display=display)


both = pytest.mark.parametrize("every_step", [False, True])


@both
@pytest.mark.parametrize("lengths", [False, True])
def test_it_learns(every_step: bool, lengths: bool) -> None:
    data = targets(every_step, lengths)
    _, validation = split(data, 0.25, seed=0)
    result = train(data, epochs=20)
    losses = [epoch["validation_loss"] for epoch in result.metrics]
    assert result.best_epoch == 1 + int(np.argmin(losses))
    wanted = validation.batch(np.arange(len(validation)))[1]
    assert min(losses) < 0.5 * float(wanted.var())  # what a constant answer could come to
    assert math.isnan(result.validation.accuracy)
    assert all(epoch["train_accuracy"] is None for epoch in result.metrics)


@both
def test_loss_and_answers_are_those_of_a_single_pass(every_step: bool) -> None:
    data, net = targets(every_step), network().eval()
    seen = evaluate(net, data, batch_size=7)
    with torch.no_grad():
        output = net(data.x)
    expected = output if every_step else output.mean(0)
    assert torch.allclose(seen.predictions, expected, atol=1e-6)
    assert seen.loss == pytest.approx(float(((expected - data.y) ** 2).mean()), rel=1e-5)
    assert seen.confusion.shape == (0, 0)


def test_padding_counts_in_no_loss() -> None:
    data, net = targets(True, lengths=True), network().eval()
    seen = evaluate(net, data, batch_size=7)
    lengths = np.asarray(data.lengths)
    expected = 0.0
    with torch.no_grad():
        for k, length in enumerate(lengths.tolist()):
            x, y = data[k]
            expected += float(((net(x.unsqueeze(1))[:, 0] - y) ** 2).mean()) / N
            assert (seen.predictions[length:, k] == 0).all()
    assert seen.loss == pytest.approx(expected, rel=1e-5)


def test_a_loss_and_a_decoder_of_the_user() -> None:
    data = targets(False)

    def absolute(output: Tensor, wanted: Tensor) -> Tensor:
        return (rb.decoding.last(output) - wanted).abs().mean()

    seen = evaluate(network(), data, loss=absolute, decode=rb.decoding.last)
    with torch.no_grad():
        last = network().eval()(data.x)[-1]
    assert torch.allclose(seen.predictions, last, atol=1e-6)
    assert seen.loss == pytest.approx(float((last - data.y).abs().mean()), rel=1e-5)


def classes_at_steps(lengths: bool) -> TargetDataset:
    """Which half of the inputs was busier so far; at the first two steps nobody asks."""
    source = targets(True, lengths)
    busier = torch.as_tensor(source.y).argmax(2)
    busier[:2] = rb.losses.NO_CLASS
    return TargetDataset(source.x, busier, every_step=True, lengths=source.lengths)


@pytest.mark.parametrize("lengths", [False, True])
def test_a_class_at_every_step_is_learned_and_counted_sample_by_sample(tmp_path: Path, lengths: bool) -> None:
    rest, validation = split(classes_at_steps(lengths), 0.25, seed=0)
    net, run = network(), tmp_path / "run"
    result = fit(net, rest, validation, settings=settings(epochs=8), run=run, display=Display())
    shares, losses, confusion = [], [], torch.zeros(2, 2, dtype=torch.int64)
    for index, (x, wanted) in enumerate(validation):
        output = net(x.unsqueeze(1))[:, 0]
        asked, said = wanted >= 0, output.argmax(1)
        shares.append((said == wanted)[asked].float().mean().item())
        losses.append(functional.cross_entropy(output[asked], wanted[asked]).item())
        for true, found in zip(wanted[asked].tolist(), said[asked].tolist(), strict=True):
            confusion[true, found] += 1
        predictions = result.validation.predictions[:, index]
        assert torch.equal(predictions[: len(x)][asked], said[asked])
        assert predictions[: len(x)][~asked].eq(rb.losses.NO_CLASS).all()
        assert predictions[len(x) :].eq(rb.losses.NO_CLASS).all()
    assert result.validation.accuracy == pytest.approx(np.mean(shares), rel=1e-6)
    assert result.validation.accuracy > 0.7
    assert result.validation.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert torch.equal(result.validation.confusion, confusion)
    # Chosen by accuracy, as among samples.
    best = max(
        read_lines(run / "metrics.jsonl"), key=lambda line: (line["validation_accuracy"], -line["validation_loss"])
    )
    assert best["epoch"] == result.best_epoch
    assert 0.4 < read_lines(run / "metrics.jsonl")[-1]["train_accuracy"] < 1
    page = write_report(run).read_text()
    assert "Confusions" in page
    assert "of its steps)" in page
    assert "numbers are steps" in page


@pytest.mark.parametrize("source", ["tensors", "array", "PyTorch", "elsewhere"])
def test_class_156_in_a_byte_is_a_class(source: str) -> None:
    """Where -100 is compared in uint8, it is 156."""

    class Elsewhere(TargetDataset):
        def batch(self, indices: Any, seed: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
            x, y = super().batch(indices, seed)
            return x, y.to(torch.uint8)

    x, labels = targets(True).x, torch.full((T, N), 156, dtype=torch.uint8)
    assert isinstance(x, Tensor)
    if source == "PyTorch":
        data = rb.data.from_torch(list(zip(x.unbind(1), labels.unbind(1), strict=True)), every_step=True)
    else:
        kind = Elsewhere if source == "elsewhere" else TargetDataset
        data = kind(x, labels.numpy() if source == "array" else labels, every_step=True)
    net = rb.Sequential(nn.Linear(6, 200), rb.LeakyReadout(200, decay=0.9))
    net[0].bias.data[156] = 10  # right at every step
    seen, same = evaluate(net, data), evaluate(net, TargetDataset(x, labels.long(), every_step=True))
    assert seen.accuracy == 1
    assert seen.loss == same.loss > 0
    assert seen.predictions.eq(156).all()
    if source != "elsewhere":
        assert data.batch(np.array([0]))[1].dtype == torch.int64


def test_training_counts_the_steps_that_are_right() -> None:
    """In a single step at a learning rate of 0, by hand."""
    data, net = classes_at_steps(True), network()
    plan = settings(epochs=1, batch_size=N, learning_rate=1e-30)
    result = fit(net, data, data, settings=plan, display=Display())
    shares = []
    for x, wanted in data:
        asked = wanted >= 0
        shares.append((net(x.unsqueeze(1))[:, 0].argmax(1) == wanted)[asked].float().mean().item())
    assert result.metrics[0]["train_accuracy"] == pytest.approx(np.mean(shares), rel=1e-6)


@pytest.mark.parametrize(("worst", "kept"), [(2, -100), (-1, 0)])
def test_classes_that_there_are_not_are_named(worst: int, kept: int) -> None:
    data = classes_at_steps(False)
    y = torch.as_tensor(data.y).clone()
    y[3, 5], y[4, 6] = worst, kept
    wrong = TargetDataset(data.x, y, every_step=True)

    def loss(output: Tensor, labels: Tensor) -> Tensor:
        return output.square().mean()

    with pytest.raises(ValueError, match=r"must be one of the 2 .*, 0 to 1, or -100 where there is none, got"):
        evaluate(network(), wrong, loss=loss)
    with pytest.raises(
        ValueError, match=r"must decode to \(T, B, C\), with a class at every step .* got shape \(12, 40\)"
    ):
        evaluate(network(), data, loss=loss, decode=lambda output: output.argmax(2))


def test_whole_targets_have_no_squared_error(as_a_user: None) -> None:
    data = TargetDataset(targets(True).x, torch.zeros(T, N, K, dtype=torch.int64), every_step=True)
    with pytest.raises(
        TypeError,
        match=r"squared_error: targets must be floating point, got torch.int64; convert numbers, y.float\(\), .*_per_step",
    ):
        evaluate(network(), data)


@both
@pytest.mark.parametrize("stop", [Stop(step=(2, 1)), Stop(epoch=2)])
def test_interrupted_and_resumed_is_the_same_as_the_whole(tmp_path: Path, every_step: bool, stop: Stop) -> None:
    data = targets(every_step)
    train(data, tmp_path / "whole")
    with pytest.raises(Exception, match=r"^$"):
        train(data, tmp_path / "parts", display=stop)
    train(data, tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@both
def test_what_a_run_leaves_behind(tmp_path: Path, every_step: bool, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    result = train(targets(every_step), run, display=PlainLines())
    assert [line["validation_accuracy"] for line in read_lines(run / "metrics.jsonl")] == [None] * 3
    summary = json.loads((run / "summary.json").read_text())
    assert summary["test_accuracy"] is None
    assert summary["test_loss"] == result.validation.loss
    with np.load(run / "evaluation.npz") as found:
        assert found["targets"].shape == found["predictions"].shape == ((10, T, K) if every_step else (10, K))
    page = write_report(run).read_text()
    assert "Targets and predictions" in page
    assert "Confusions" not in page
    assert "test loss" in page
    lines = capsys.readouterr().out.splitlines()
    assert "train " not in lines[1].replace("training", "")
    assert lines[-1].startswith(
        f"best epoch {result.best_epoch}: validation loss {result.validation.loss:.4f}, test loss"
    )


@both
def test_what_does_not_fit_is_refused(every_step: bool) -> None:
    data = targets(every_step)
    rest, validation = split(data, 0.25, seed=0)
    narrow = rb.Sequential(nn.Linear(6, 1), rb.LeakyReadout(1))
    with pytest.raises(ValueError, match=r"and the targets .*values and targets must have the same shape"):
        fit(narrow, rest, validation, settings=settings(), display=Display())
    with pytest.raises(ValueError, match="validation must have a target at every step where train has"):
        fit(network(), rest, targets(not every_step), settings=settings(), display=Display())
    classes = rb.data.ArrayDataset(data.x, np.arange(N) % 2)
    for one, other in ((classes, validation), (rest, classes)):
        with pytest.raises(
            ValueError, match=r"both have classes, or both targets, got ArrayDataset\(.*TargetDataset\("
        ):
            fit(network(), one, other, settings=settings(), display=Display())
    with pytest.raises(ValueError, match=r"must decode to \((T, )?B, \*K\) with B = 40 samples"):
        evaluate(network(), data, decode=lambda output: output[:1, :3], loss=lambda output, wanted: output.mean())

    class Short(TargetDataset):
        def batch(self, indices: np.ndarray, seed: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
            x, y = super().batch(indices, seed)
            return x, (y[:, 1:] if self.every_step else y[1:])

    with pytest.raises(DataError, match=r"dataset.batch: targets have shape .*, expected \((T, )?40, \*K\)"):
        evaluate(network(), Short(data.x, data.y, every_step=every_step))


def test_a_network_without_time_or_samples_is_refused() -> None:
    data = targets(False)
    with pytest.raises(
        ValueError, match=r"output must be \(T, B, C\), time first, with B = 8 samples, got shape \(96,\)"
    ):
        fit(nn.Sequential(nn.Linear(6, 1), nn.Flatten(0)), data, data, settings=settings(), display=Display())


def test_targets_of_a_single_output_want_an_axis() -> None:
    data = TargetDataset(targets(False).x, torch.zeros(N))
    with pytest.raises(
        ValueError, match=r"got \(40, 1\) and \(40,\); targets of a single output are y.unsqueeze\(-1\)"
    ):
        evaluate(rb.Sequential(nn.Linear(6, 1), rb.LeakyReadout(1)), data)


def test_a_report_asks_for_nothing_in_padding(tmp_path: Path) -> None:
    data = targets(True, lengths=True)
    padding = torch.arange(T)[:, None] >= torch.as_tensor(np.asarray(data.lengths))
    data = TargetDataset(
        data.x, torch.as_tensor(data.y) + 100 * padding[:, :, None], every_step=True, lengths=data.lengths
    )
    result = train(data, tmp_path / "run")
    with np.load(tmp_path / "run" / "evaluation.npz") as found:
        there = np.isfinite(found["targets"])
        assert there.sum() == K * np.asarray(split(data, 0.25, seed=0)[1].lengths).sum()
        assert ((found["predictions"] - found["targets"])[there] ** 2).mean() < 4 * result.validation.loss + 1
    page = write_report(tmp_path / "run").read_text()
    assert '<span class="key c2 dashed">target</span>' in page  # of the sample that is shown, without its padding


def test_a_report_on_one_number_of_several_outputs(tmp_path: Path) -> None:
    data = TargetDataset(targets(False).x, torch.as_tensor(targets(False).y).sum(1))
    rest, validation = split(data, 0.25, seed=0)
    both = lambda output: output.mean(0).sum(1)  # noqa: E731
    fit(network(), rest, validation, settings=settings(epochs=1), decode=both, run=tmp_path / "run", display=Display())
    page = write_report(tmp_path / "run").read_text()
    assert "Targets and predictions" in page
    assert ">target</span>" not in page  # of which output, nobody knows


def test_a_report_on_more_steps_than_the_samples_have(tmp_path: Path) -> None:
    class AndThreeMore(rb.Temporal):
        def run(self, x: Tensor, state: None = None) -> tuple[Tensor, None]:
            return torch.cat((x, x[-1:].expand(3, *x.shape[1:]))), None

    source = targets(True)
    y = torch.as_tensor(source.y)
    data = TargetDataset(source.x, torch.cat((y, y[-3:])), every_step=True)
    longer = rb.Sequential(nn.Linear(6, 8), rb.LIF(8), AndThreeMore(), nn.Linear(8, K), rb.LeakyReadout(K))
    fit(longer, data, data, settings=settings(epochs=1), run=tmp_path / "run", display=Display())
    with np.load(tmp_path / "run" / "evaluation.npz") as found:
        assert found["raster_0"].shape == (T + 3, 8)
        assert found["raster_0"].any()
        assert not found["raster_0"][T:].any()
    assert '<span class="key c2 dashed">target</span>' in write_report(tmp_path / "run").read_text()


def test_the_doctor_takes_a_class_at_every_step() -> None:
    data = classes_at_steps(False)
    labels = torch.as_tensor(data.y)
    seen = [rb.doctor(network(), data.x, labels, loss) for loss in (None, rb.losses.cross_entropy_per_step)]
    assert "labels do not fit" not in [finding.kind for finding in seen[0].findings]
    assert str(seen[0]) == str(seen[1])


def test_the_doctor_takes_targets_with_a_loss() -> None:
    for every_step in (False, True):
        data = targets(every_step)
        wrong = rb.doctor(network(), data.x, torch.as_tensor(data.y))
        assert "labels do not fit" in [finding.kind for finding in wrong.findings]
        decode = rb.decoding.every_step if every_step else rb.decoding.mean
        seen = rb.doctor(
            network(),
            data.x,
            torch.as_tensor(data.y),
            lambda output, y, d=decode: rb.losses.squared_error(d(output), y),
        )
        assert "labels do not fit" not in [finding.kind for finding in seen.findings]


def test_long_sets_of_targets_are_written_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rheobase.training.record._MOST_NUMBERS", 3 * T * K)
    train(targets(True), tmp_path / "run", epochs=1)
    with np.load(tmp_path / "run" / "evaluation.npz") as found:
        assert found["targets"].shape == found["predictions"].shape == (3, T, K)


def test_weights_of_a_single_element_are_saved(tmp_path: Path) -> None:
    net = rb.Sequential(nn.Linear(6, 1), rb.LIF(1, learn=("decay", "threshold")), nn.Linear(1, 1), rb.LeakyReadout(1))
    data = TargetDataset(targets(False).x, torch.zeros(N, 1))
    fit(net, data, data, settings=settings(epochs=1), run=tmp_path / "run", display=Display())
    rb.training.checkpoint.load(tmp_path / "run" / "best.safetensors", net)
