"""Samples of different lengths: what is padding changes nothing of what is learned, counted or answered."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import rheobase as rb
from rheobase import randomness
from rheobase.data import ArrayDataset
from rheobase.errors import DataError, DivergenceError, RunError
from rheobase.regularizers import RateBounds, Sparsity, TotalRate, constant
from rheobase.training import Display, Result, evaluate, fit
from training.processes import of_lengths
from training.tiny import (
    CLASSES,
    STEPS,
    Killed,
    Stop,
    Wrapped,
    arrays,
    assert_same_run,
    network,
    settings,
    untimed,
)

QUIET = Display()
PENALTIES = (
    RateBounds(upper=0.05, weight=5.0),
    Sparsity(0.02, weight=5.0, schedule=constant),
    TotalRate(limit=0.02, weight=0.01),
)


def padded(data: ArrayDataset, more: int, *, noise: bool = True) -> ArrayDataset:
    """The same samples with more steps of padding, in all of which there is noise."""
    x = torch.cat((data.x, torch.zeros(more, *data.x.shape[1:], dtype=data.x.dtype)))
    real = rb.mask_of(data.lengths, len(x)).unsqueeze(-1)
    rng = torch.Generator().manual_seed(9)
    return replace(data, x=torch.where(real, x, 5 * torch.rand(x.shape, generator=rng).to(x) if noise else 0))


def double(data: ArrayDataset) -> ArrayDataset:
    return replace(data, x=data.x.double())


def lively() -> rb.Sequential:
    """A network that fires without input, as through padding."""
    net = network(dropout=0.0)
    nn.init.constant_(net[0].bias, 0.3)
    return net


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def assert_close(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_close(value, other[key])
    elif isinstance(one, list):
        for ours, theirs in zip(one, other, strict=True):
            assert_close(ours, theirs)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-7)
    else:
        assert one == other


def normalized() -> rb.Sequential:
    """The same with batch normalization behind each linear layer."""
    net = lively()
    return rb.Sequential(net[0], nn.BatchNorm1d(10), *net[1:], nn.BatchNorm1d(CLASSES))


def train_doubly(
    more: int, keep: bool = True, network: Callable[[], rb.Sequential] = lively
) -> tuple[Result, dict[str, Tensor]]:
    """A training in float64 on samples with more padding; without their lengths, on all steps."""
    sets = [padded(double(of_lengths(samples, seed)), more) for samples, seed in ((37, 1), (7, 2), (11, 3))]
    if not keep:
        sets = [replace(data, lengths=None) for data in sets]
    net = network().double()
    return fit(net, *sets, settings(), regularizers=PENALTIES, display=QUIET), weights(net)


@pytest.mark.parametrize("network", [lively, normalized])
def test_more_padding_and_other_values_in_it_change_nothing(network: Callable[[], rb.Sequential]) -> None:
    result, learned = train_doubly(0, network=network)
    for more in (1, 7):
        other, others = train_doubly(more, network=network)
        assert_close(untimed(result.metrics), untimed(other.metrics))
        assert_close(result.test.loss, other.test.loss)
        assert torch.equal(result.test.confusion, other.test.confusion)
        assert_close(result.summary["layers"], other.summary["layers"])
        assert_close(result.summary["input"], other.summary["input"])
        for name, value in learned.items():
            torch.testing.assert_close(value, others[name], rtol=1e-4, atol=1e-6)
    # It would, if padding were taken for steps: the test tells it.
    wrong, others = train_doubly(7, keep=False, network=network)
    assert abs(wrong.metrics[0]["loss"] - result.metrics[0]["loss"]) > 1e-2
    assert not torch.allclose(others["0.weight"], learned["0.weight"], rtol=1e-2)


def test_an_epoch_is_what_it_is_by_hand_with_samples_one_by_one() -> None:
    data, plan = padded(of_lengths(), 3), settings(epochs=1, clip_gradient=float("inf"), weight_decay=0.0)
    net, by_hand = lively(), lively()
    result = fit(net, data, of_lengths(7, 2), settings=plan, display=QUIET)
    optimizer = torch.optim.AdamW(by_hand.parameters(), weight_decay=0.0, fused=True)
    order = randomness.order(plan.seed, 1, 37)
    losses = []
    for step in range(5):
        samples = [data[index] for index in order[8 * step : 8 * step + 8]]
        each = [
            functional.cross_entropy(by_hand(x.unsqueeze(1)).mean(0), torch.tensor([label])) for x, label in samples
        ]
        optimizer.zero_grad()
        torch.stack(each).mean().backward()
        for group in optimizer.param_groups:
            group["lr"] = plan.rate_at(step, 5)
        optimizer.step()
        losses += [loss.item() for loss in each]
    assert result.metrics[0]["loss"] == pytest.approx(sum(losses) / 37, rel=1e-5)
    for name, value in weights(by_hand).items():
        torch.testing.assert_close(weights(net)[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 5, 23])
@pytest.mark.parametrize("decode", [rb.decoding.mean, rb.decoding.max, rb.decoding.last, rb.decoding.sum])
def test_an_evaluation_is_that_of_every_sample_alone(batch_size: int, decode: Callable[..., Tensor]) -> None:
    data, net = of_lengths(23, 4), lively().eval()
    seen = evaluate(net, padded(data, 4), batch_size=batch_size, decode=decode)
    spikes, inputs, correct, losses = torch.zeros(10), 0, 0, []
    for x, label in data:
        recorded, output = rb.health.record_spikes(net, x.unsqueeze(1))
        logits = decode(output)
        spikes += recorded["1 LIF(10)"].sum((0, 1))
        inputs += x.sum().item()
        correct += int(logits.argmax(1) == label)
        losses.append(functional.cross_entropy(logits, torch.tensor([label])).item())
    assert seen.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert seen.accuracy == correct / 23
    assert seen.layers[0].spikes_per_sample * 23 == pytest.approx(spikes.sum().item())
    torch.testing.assert_close(seen.layers[0].rates, spikes / data.lengths.sum())
    assert seen.layers[0].dead == (spikes == 0).double().mean().item()
    assert seen.input.spikes_per_sample * 23 == pytest.approx(inputs)


def test_samples_that_are_all_as_long_as_can_be_are_as_without_lengths() -> None:
    nets = lively(), lively()
    whole = arrays(), arrays(7, 2)
    results = [
        fit(net, *sets, settings=settings(), regularizers=PENALTIES, display=QUIET)
        for net, sets in zip(nets, (whole, [replace(d, lengths=[STEPS] * len(d)) for d in whole]), strict=True)
    ]
    assert_close(*(untimed(result.metrics) for result in results))


def test_interrupted_and_resumed_is_the_same_as_the_whole(tmp_path: Path) -> None:
    def go(path: Path, *, display: Display = QUIET, resume: bool = False, **changes: Any) -> Result:
        sets = [padded(of_lengths(samples, seed), 2) for samples, seed in ((37, 1), (7, 2), (11, 3))]
        sets[0] = replace(sets[0], **changes)
        return fit(
            network(),
            *sets,
            settings(),
            regularizers=[RateBounds(upper=0.05)],
            run=path,
            resume=resume,
            display=display,
        )

    go(tmp_path / "whole")
    for number, stop in enumerate((Stop(epoch=1), Stop(step=(2, 3)))):
        with pytest.raises(Killed):
            go(tmp_path / str(number), display=stop)
        with pytest.raises(RunError, match="the data is not what this run was started with"):
            go(tmp_path / str(number), resume=True, lengths=[STEPS] * 37)
        go(tmp_path / str(number), resume=True)
        assert_same_run(tmp_path / str(number), tmp_path / "whole")


class Own(Wrapped):
    """A data set of one's own: the members that training asks for, and lengths if there are some."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class OwnWithLengths(Own):
    lengths = property(lambda self: self.inner.lengths.tolist())

    def batch(self, indices: np.ndarray, seed: tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
        x, labels = self.inner.batch(indices, seed)
        return torch.where(rb.mask_of(self.inner.lengths[indices], STEPS).unsqueeze(-1), x, torch.nan), labels


def test_a_data_set_of_ones_own() -> None:
    def learned(train: Any, validation: Any) -> dict[str, Tensor]:
        net = network()
        fit(net, train, validation, settings=settings(), display=QUIET)
        return weights(net)

    # With lengths, whatever stands in the padding; and without the attribute as ever.
    for wrap, sets in (OwnWithLengths, (of_lengths(), of_lengths(7, 2))), (Own, (arrays(), arrays(7, 2))):
        one, other = learned(*sets), learned(*map(wrap, sets))
        assert all(torch.equal(value, other[name]) for name, value in one.items())


class Rude(nn.Module):
    """A loss that takes no mask."""

    def forward(self, output: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(output.mean(0), labels)


def no_mask(spikes: Mapping[str, Tensor], progress: float) -> Tensor:
    return torch.stack([layer.mean() for layer in spikes.values()]).sum()


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        (
            {"loss": Rude()},
            r"loss must take mask=.* since train has samples of different lengths; got Rude, which .*cross_entropy_per",
        ),
        (
            {"decode": lambda output: output.mean(0)},
            r"decode must take mask=, \(T, B\), .* lambda output, mask: rheobase.deco",
        ),
        ({"regularizers": [PENALTIES[0], no_mask]}, "regularizers must take mask=.* got no_mask, .* def penalty"),
    ],
)
def test_functions_that_would_take_padding_for_steps_are_refused(functions: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        fit(network(), of_lengths(), of_lengths(7, 2), settings=settings(epochs=1), display=QUIET, **functions)
    # Of samples of one length, they are taken.
    fit(network(), arrays(), arrays(7, 2), settings=settings(epochs=1), display=QUIET, **functions)


def test_an_evaluation_refuses_them_too_and_a_test_set() -> None:
    with pytest.raises(TypeError, match=r"decode must take mask=.* since dataset has samples"):
        evaluate(network(), of_lengths(), decode=lambda output: output.mean(0))
    with pytest.raises(TypeError, match=r"loss must take mask=.* since test has samples"):
        fit(network(), arrays(), arrays(7, 2), of_lengths(), settings(), loss=Rude(), display=QUIET)


def test_functions_of_the_user_are_given_the_mask_of_the_batch() -> None:
    masks = []

    def loss(output: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        masks.append(mask)
        return rb.losses.cross_entropy_per_step(output, labels, mask=mask)

    data = of_lengths()
    evaluate(network(), data, loss=loss, batch_size=20)
    assert torch.cat(masks, dim=1).sum(0).tolist() == data.lengths.tolist()
    masks.clear()
    fit(network(), data, of_lengths(7, 2), settings=settings(epochs=1), loss=loss, display=QUIET)
    order = randomness.order(settings().seed, 1, 37)
    assert torch.cat(masks, dim=1).sum(0)[:37].tolist() == data.lengths[order].tolist()


def test_bad_lengths_are_refused() -> None:
    own = OwnWithLengths(of_lengths())
    own.inner = replace(own.inner, x=own.inner.x[:3], lengths=None)
    object.__setattr__(own.inner, "lengths", np.full(37, 4))
    with pytest.raises(DataError, match="validation: lengths: sample 0 has 4, expected 1 to 3"):
        fit(network(), of_lengths(), own, settings=settings(), display=QUIET)


def test_what_diverges_is_looked_at_under_the_mask() -> None:
    net = network()
    with torch.no_grad():
        net[3].weight[0, 0] = torch.nan
    with pytest.raises(DivergenceError, match=r"layer 3 \(Linear\): 1 values of its weight are not finite"):
        fit(net, OwnWithLengths(of_lengths()), of_lengths(7, 2), settings=settings(), display=QUIET)


def test_the_figures_show_the_steps_that_are_there(tmp_path: Path) -> None:
    net, test = lively(), of_lengths(11, 3)
    fit(net, of_lengths(), of_lengths(7, 2), padded(test, 4), settings(epochs=1), run=tmp_path / "run", display=QUIET)
    spikes, output = rb.health.record_spikes(net, test[0][0].unsqueeze(1))
    with np.load(tmp_path / "run" / "evaluation.npz") as shown:
        assert len(output) == test.lengths[0] < STEPS
        np.testing.assert_allclose(shown["output"], output[:, 0].numpy(), rtol=1e-5)
        assert np.array_equal(shown["raster_0"], spikes["1 LIF(10)"][:, 0].numpy())
        assert np.array_equal(shown["raster_input"], test[0][0].numpy())
        assert shown["sample_prediction"] == output.mean(0).argmax()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["samples"]["test"] == 11
    rb.report.write_report(tmp_path / "run")
