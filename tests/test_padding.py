"""Padding neither drives a neuron nor fires, whatever stands in it."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import rheobase as rb
from rheobase.health import Recorder
from rheobase.padding import mask_on

T, B = 12, 3


def first_steps(*lengths: int) -> torch.Tensor:
    """A mask as of `mask_of`, also of sequences without any step."""
    return torch.arange(T).unsqueeze(1) < torch.tensor(lengths)


def network() -> rb.Sequential:
    torch.manual_seed(0)
    neurons = rb.LIF(5, threshold=0.3), rb.SPSN(4), rb.SynapticReadout(2)
    return rb.Sequential(nn.Linear(2, 5), neurons[0], nn.Linear(5, 4), neurons[1], nn.Linear(4, 2), neurons[2])


def test_a_padded_sequence_gives_what_the_sequence_gives():
    # Without noise there is nothing to align: the numbers must be those of the sequence alone, wherever the padding stands.
    layers = network().eval()
    layers[3].evaluation = "expected"
    with torch.no_grad():
        layers[0].bias.fill_(0.4)
        layers[2].bias.fill_(0.2)
        x = torch.rand(7, 1, 2)
        alone = layers(x)
        for before in (0, 2, 5):
            padded, mask = torch.full((T, 1, 2), torch.nan), torch.zeros(T, 1, dtype=torch.bool)
            padded[before : before + 7], mask[before : before + 7] = x, True
            with rb.masked(layers, mask):
                y = layers(padded)
            torch.testing.assert_close(y[before : before + 7], alone)
            assert y[~mask].eq(0).all()
            torch.testing.assert_close(rb.decoding.mean(y, mask), alone.mean(0))


@pytest.mark.parametrize("neurons", [rb.LIF, rb.SynapticLIF])
def test_delays_bring_nothing_of_the_padding_before_a_sequence(neurons):
    torch.manual_seed(0)
    layers = rb.Sequential(
        nn.Linear(2, 4),
        rb.Delay(0, 2),
        nn.Linear(8, 5),
        neurons(5),
        rb.DelayedLinear(5, 3, longest=4),
        rb.LeakyReadout(3),
    )
    nn.init.constant_(layers[0].bias, 0.9)
    x, weights = 3 * torch.rand(7, 1, 2), list(layers.parameters())
    alone = layers(x)
    along = torch.randn_like(alone)
    gradients = torch.autograd.grad(alone, weights, along)
    padded, mask = torch.zeros(T, 1, 2), torch.zeros(T, 1, dtype=torch.bool)
    padded[3:10], mask[3:10] = x, True
    with rb.masked(layers, mask):
        y = layers(padded)[3:10]
    torch.testing.assert_close(y, alone)
    for ours, theirs in zip(torch.autograd.grad(y, weights, along), gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_feedback_says_nothing_before_a_sequence():
    neurons = rb.ParaLIF(3, recurrent=True, threshold=0.2)
    assert neurons.feedback is not None
    nn.init.constant_(neurons.feedback.bias, 1.0)
    x = torch.rand(6, 1, 3)
    padded, mask = torch.zeros(T, 1, 3), torch.zeros(T, 1, dtype=torch.bool)
    padded[4:10], mask[4:10] = x, True
    alone = neurons(x)
    along = torch.randn_like(alone)
    (gradient,) = torch.autograd.grad(alone, neurons.feedback.weight, along)
    with rb.masked(neurons, mask):
        y = neurons(padded)[4:10]
    assert torch.equal(y, alone)
    torch.testing.assert_close(torch.autograd.grad(y, neurons.feedback.weight, along)[0], gradient)


class Past(rb.Temporal):
    """What came a step before, by somebody else, who keeps a mean of it besides."""

    def run(self, x, state=None):
        before = torch.zeros_like(x[:1]) if state is None else state
        return torch.cat((before, x[:-1])), x[-1:]


def test_layers_of_ones_own_see_no_padding():
    layers = rb.Sequential(nn.Linear(2, 4), Past(), rb.LIF(4), input_rate=None)
    nn.init.constant_(layers[0].bias, 2.0)
    x = torch.rand(7, 1, 2)
    padded, mask = torch.zeros(T, 1, 2), torch.zeros(T, 1, dtype=torch.bool)
    padded[3:10], mask[3:10] = x, True
    with rb.masked(layers, mask):
        y = layers(padded)
    assert torch.equal(y[3:10], layers(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_means_of_many_steps_in_half_precision(dtype):
    output, mask = torch.full((1000, 2, 1), 100.0, dtype=dtype), torch.ones(1000, 2, dtype=torch.bool)
    y = rb.decoding.mean(output, mask)
    assert y.dtype == dtype
    assert torch.equal(y, rb.decoding.mean(output))
    spikes = {"0 LIF": torch.ones(1000, 400, 1, dtype=dtype)}
    mask = torch.ones(1000, 400, dtype=torch.bool)
    for penalty in (rb.regularizers.TotalRate(0.5), rb.regularizers.Sparsity(), rb.regularizers.RateBounds(upper=0.5)):
        torch.testing.assert_close(penalty(spikes, 1.0, mask), penalty(spikes, 1.0))


def test_no_step_at_all_costs_nothing():
    spikes, mask = {"0 LIF": torch.ones(5, 2, 3)}, torch.zeros(5, 2, dtype=torch.bool)
    assert rb.regularizers.Sparsity()(spikes, 1.0, mask) == 0


def test_spikes_and_rates_are_those_of_the_steps_that_are_there():
    layers = network()
    nn.init.constant_(layers[0].bias, 0.2)
    mask = first_steps(0, 5, T)
    with rb.masked(layers, mask), Recorder(layers) as recorder, rb.health.listening(layers) as spikes:
        layers(torch.rand(T, B, 2))
    for activity in spikes.values():
        assert activity[~mask].eq(0).all()
        assert activity.sum() > 0
    counted = [layer.spikes_per_sample * B for layer in recorder.layers()]
    assert counted == [activity.sum().item() for activity in spikes.values()]
    for layer, activity in zip(recorder.layers(), spikes.values(), strict=True):
        torch.testing.assert_close(layer.rates, activity[mask].mean(0))
    with Recorder(layers) as recorder, rb.health.listening(layers) as spikes:  # the block has ended
        layers(torch.rand(T, B, 2))
    torch.testing.assert_close(recorder.layers()[0].rates, next(iter(spikes.values())).mean((0, 1)))


def test_what_two_masks_leave_is_there():
    layers = network()
    outer, inner = first_steps(0, 5, T), rb.mask_of(torch.tensor([3, 3, 3]), T)
    with rb.masked(layers, outer):
        with rb.masked(layers, inner):
            assert torch.equal(mask_on(layers[1]), outer & inner)
        assert torch.equal(mask_on(layers[1]), outer)
    assert mask_on(layers[1]) is None


def test_padding_has_no_gradient_and_the_block_ends():
    layers, x = network(), torch.rand(T, B, 2, requires_grad=True)
    mask = rb.mask_of(torch.tensor([3, 5, T]), T)
    with rb.masked(layers, mask):
        layers(x).sum().backward()
    assert x.grad is not None
    assert x.grad[~mask].eq(0).all()
    assert x.grad[mask].count_nonzero() > 0
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in layers.modules())
    assert layers(x)[~mask].count_nonzero() > 0


def test_the_mean_over_no_step_at_all_is_0():
    output = torch.ones(T, 2, 3)
    mask = first_steps(0, 4)
    assert rb.decoding.mean(output, mask).tolist() == [[0.0] * 3, [1.0] * 3]


def test_each_sample_is_decoded_as_it_would_be_alone():
    output = torch.randn(T, 3, 2, generator=torch.Generator().manual_seed(0)) - 3
    mask = torch.zeros(T, 3, dtype=torch.bool)
    mask[2:7, 0], mask[:, 1] = True, True  # padding on both sides, none, and nothing else
    output[~mask] = torch.nan
    output.requires_grad_()
    spikes = torch.where(mask.unsqueeze(-1), (output > -3).float(), torch.nan)
    assert rb.decoding.spike_count(spikes, mask).equal(spikes.nansum(0))
    for decode in (rb.decoding.sum, rb.decoding.mean, rb.decoding.max, rb.decoding.last):
        y = decode(output, mask)
        torch.testing.assert_close(y[:2], torch.cat((decode(output[2:7, :1]), decode(output[:, 1:2]))))
        assert y[2].tolist() == [0, 0]
        (gradient,) = torch.autograd.grad(y.sum(), output)
        assert gradient[~mask].eq(0).all()
        assert gradient[mask].count_nonzero() > 0


def test_losses_are_those_of_each_sample_alone():
    output, labels = torch.rand(T, 2, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([2, 0])
    mask = rb.mask_of([4, T], T)
    output[~mask] = torch.nan
    output.requires_grad_()
    for loss in (rb.losses.cross_entropy_per_step, rb.losses.rate_mse):
        y = loss(output, labels, mask=mask)
        torch.testing.assert_close(y, (loss(output[:4, :1], labels[:1]) + loss(output[:, 1:], labels[1:])) / 2)
        (gradient,) = torch.autograd.grad(y, output)
        assert gradient[~mask].eq(0).all()
        assert gradient[mask].isfinite().all()


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("pictures", [False, True])
def test_a_batch_normalization_knows_the_steps_that_are_there_alone(momentum, running, pictures):
    torch.manual_seed(0)
    kind, shape = (nn.BatchNorm2d, (4, 3)) if pictures else (nn.BatchNorm1d, ())
    norm = kind(5, momentum=momentum, track_running_stats=running)
    nn.init.uniform_(norm.weight)
    alone = copy.deepcopy(norm)
    network = rb.Sequential(norm)
    lengths = [3, 5, T]
    mask = rb.mask_of(lengths, T)
    x = torch.rand(T, B, 5, *shape)
    x[~mask] = torch.nan
    x.requires_grad_()
    with rb.masked(network, mask):
        y = network(x)
    expected = alone(x[mask])
    assert torch.equal(y[mask], expected)
    assert not y[~mask].any()
    (on_x,) = torch.autograd.grad(y.square().sum() + y.sum(), x)
    (expected_on_x,) = torch.autograd.grad(expected.square().sum() + expected.sum(), x)
    assert torch.equal(on_x, expected_on_x.nan_to_num(0.0))
    for name, buffer in alone.named_buffers():
        assert torch.equal(norm.get_buffer(name), buffer)
    if running:
        with rb.masked(network.eval(), mask):
            assert torch.equal(network(x)[mask], alone.eval()(x[mask]))
    assert "forward" not in vars(norm)
    assert mask_on(norm) is None
    network.train()(torch.rand(T, B, 5, *shape))  # a call like any other


def test_a_mask_within_a_mask_counts_for_a_batch_normalization_too():
    norm, x = nn.BatchNorm1d(5), torch.rand(T, B, 5)
    network, outer, inner = rb.Sequential(norm), rb.mask_of([3, 5, T], T), rb.mask_of([T, 2, 6], T)
    with rb.masked(network, outer):
        with rb.masked(network, inner):
            torch.testing.assert_close(network(x)[inner & outer].mean(0), torch.zeros(5), atol=1e-6, rtol=0)
        torch.testing.assert_close(network(x)[outer].mean(0), torch.zeros(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(network(x).mean((0, 1)), torch.zeros(5), atol=1e-6, rtol=0)


def test_a_batch_normalization_that_sees_something_else_than_rows_is_refused():
    norm = nn.BatchNorm1d(T)
    with rb.masked(norm, rb.mask_of([3, 5, T], T)), pytest.raises(
        ValueError, match=r"masked: BatchNorm1d at '' must get the T \* B = 36 steps .* got shape \(3, 12, 5\)"
    ):  # fmt: skip
        norm.train()(torch.rand(B, T, 5))


@pytest.mark.usefixtures("as_a_user")
def test_a_mask_of_numbers_is_refused():
    with pytest.raises(TypeError, match=r"last: mask must be boolean, .* got torch.float32; use mask.bool\(\)"):
        rb.decoding.last(torch.ones(T, B, 2), torch.ones(T, B))
    with pytest.raises(ValueError, match=r"max: the mask is \(T, B\) = \(3, 12\), the sequence has the shape"):
        rb.decoding.max(torch.ones(T, B, 2), torch.ones(B, T, dtype=torch.bool))


def test_a_mask_of_another_shape_is_refused():
    layers, mask = network(), torch.ones(T, B + 1, dtype=torch.bool)
    with rb.masked(layers, mask), pytest.raises(ValueError, match=r"\(T, B\) = \(12, 4\), .* \(12, 3, 5\)"):
        layers(torch.rand(T, B, 2))


class Streaming(rb.Temporal):
    """A module that others see nothing of: it never calls what it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = rb.LIF(2)

    def run(self, x: torch.Tensor, state: object = None) -> tuple[torch.Tensor, object]:
        return self.inner.run(x, state)  # pyright: ignore[reportArgumentType]


def test_what_would_escape_the_mask_is_named() -> None:
    network = rb.Sequential(rb.LIF(2), Streaming())
    message = r"masked: 1\.inner LIF did not run in a call .* rheobase\.Temporal"
    mask = rb.padding.mask_of(torch.tensor([1, 3]), 4)
    with rb.masked(network, mask), pytest.raises(RuntimeError, match=message):
        network(torch.ones(4, 2, 2))


def test_nan_in_the_padding_reaches_no_gradient() -> None:
    torch.manual_seed(0)
    network, x = rb.Sequential(nn.Linear(2, 4), rb.LIF(4), nn.Linear(4, 2)), torch.rand(5, 2, 2)
    x[3:, 0] = float("nan")
    mask = rb.padding.mask_of(torch.tensor([3, 5]), 5)
    with rb.masked(network, mask):
        rb.decoding.mean(network(x), mask).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_nothing_is_cut_in_pieces_that_would_escape_the_mask() -> None:
    torch.manual_seed(0)
    layers, x = rb.Sequential(nn.Linear(2, 4), rb.LIF(4)), torch.rand(16, 2, 2)
    nn.init.constant_(layers[0].bias, 1.0)
    mask = rb.padding.mask_of(torch.tensor([3, 16]), 16)
    with rb.masked(layers, mask):
        whole = layers(x)
    network = rb.Recompute(layers, steps=4)
    with rb.masked(network, mask):
        assert torch.equal(network(x), whole)
    assert not whole[3:, 0].any()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("steps", [100, 256, 40_000])
@pytest.mark.parametrize("tensor", [False, True])
def test_lengths_of_any_integer_type(dtype: Any, steps: int, tensor: bool) -> None:
    lengths = np.array([100, 1], dtype)
    mask = rb.mask_of(torch.from_numpy(lengths) if tensor else lengths, steps)
    assert mask.shape == (steps, 2)
    assert mask.sum(0).tolist() == [100, 1]


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        (
            [3, 500],
            ValueError,
            r"mask_of: lengths must be from 1 to steps = 50, got 500 for sequence 1; .* len\(x\)",
        ),
        ([0, 3], ValueError, "got 0 for sequence 0; .* leave out empty sequences"),
        (np.array([-1]), ValueError, "got -1 for sequence 0"),
        (
            torch.tensor([[3]]),
            ValueError,
            r"lengths must be \(B,\), one for each sequence, got shape \(1, 1\); use lengths.fl",
        ),
        (torch.tensor([3.0]), TypeError, r"lengths must be integers, .* got torch.float32; use lengths.long\(\)"),
    ],
)
def test_lengths_that_cannot_be(lengths: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rb.mask_of(lengths, 50)


@pytest.mark.parametrize(
    "wrap", [lambda layers: layers, rb.Recompute, lambda _: rb.LIF(2)], ids=["net", "pieces", "layer"]
)
def test_what_streams_is_not_masked_and_says_so(wrap: Callable[[rb.Sequential], rb.Temporal]) -> None:
    layers = wrap(rb.Sequential(nn.Linear(2, 5), rb.LIF(5), nn.Linear(5, 2), rb.LeakyReadout(2)))
    x, mask = torch.rand(T, B, 2), rb.mask_of([3, 5, T], T)
    whole = layers.run(x)[0]
    message = r"masked: \w+.run was called, .* network\(x\)"
    with rb.masked(layers, mask):
        with rb.masked(layers, mask), pytest.raises(RuntimeError, match=message):
            layers.run(x)
        with pytest.raises(RuntimeError, match=message):
            layers.run(x)
        assert layers(x)[3:, 0].eq(0).all()  # whose `forward` may be its `run`
        with pytest.raises(RuntimeError, match=message):
            layers.run(x)
    assert torch.equal(layers.run(x)[0], whole)
    assert "run" not in vars(layers)


def test_neurons_that_fire_by_the_end_need_all_sequences_to_be_there() -> None:
    layers = rb.Sequential(nn.Linear(2, 5), rb.SingleSpike(5, fire_by_end=True))
    behind = rb.mask_of([3, T], T)
    with (
        rb.masked(layers, behind),
        pytest.raises(ValueError, match=r"SingleSpike with fire_by_end=True .* fire_by_end=False"),
    ):
        layers(torch.rand(T, 2, 2))
    with rb.masked(layers, behind.flip(0)):  # padding in front
        assert layers(torch.rand(T, 2, 2)).sum(0).eq(1).all()


def test_a_call_that_fails_is_over() -> None:
    layers = network()
    with rb.masked(layers, rb.mask_of([3, 5, T], T)):
        with pytest.raises(ValueError, match="the mask is"):
            layers(torch.rand(T + 1, B, 2))
        with pytest.raises(RuntimeError, match="not masked"):
            layers.run(torch.rand(T, B, 2))


def test_what_is_in_the_padding_is_no_input() -> None:
    layers, mask = network(), rb.mask_of([3, 5, T], T)
    x = torch.ones(T, B, 2)
    with Recorder(layers) as recorder, rb.masked(layers, mask):
        layers(x)
    assert recorder.input().spikes_per_sample == 2 * mask.sum().item() / B


def test_neurons_that_fire_once_do_so_in_the_longest_sequence() -> None:
    layers = rb.Sequential(nn.Linear(2, 5), rb.SingleSpike(5))
    with Recorder(layers) as recorder, rb.masked(layers, rb.mask_of([3, 5], T)):
        layers(torch.rand(T, 2, 2))
    assert recorder.layers()[0].fires_once_in == 5


@pytest.mark.parametrize(
    "penalty",
    [
        rb.regularizers.Sparsity(0.1, schedule=rb.regularizers.constant),
        rb.regularizers.RateBounds(upper=0.2, lower=0.1),
        rb.regularizers.RateBounds(upper=0.2, of="population"),
        rb.regularizers.TotalRate(limit=0.1),
    ],
    ids=lambda penalty: repr(penalty)[:12],
)
def test_penalties_are_those_of_the_steps_that_are_there(penalty: Any) -> None:
    spikes = (torch.rand(T, 2, 4, generator=torch.Generator().manual_seed(0)) < 0.5).double()
    one, two = first_steps(4, T), torch.ones(T, 2, dtype=torch.bool)
    torch.testing.assert_close(penalty({"a": spikes}, 0.0, two), penalty({"a": spikes}, 0.0))
    # More padding, with anything in it, changes nothing; nor does a layer that runs twice.
    padded = torch.cat((torch.where(one.unsqueeze(-1), spikes, torch.nan), torch.full((5, 2, 4), torch.nan).double()))
    longer = torch.cat((one, torch.zeros(5, 2, dtype=torch.bool)))
    expected = penalty({"a": spikes}, 0.0, one)
    torch.testing.assert_close(penalty({"a": padded}, 0.0, longer), expected)
    torch.testing.assert_close(penalty({"a": padded.repeat(2, 1, 1)}, 0.0, longer), expected)
    assert not torch.isclose(expected, penalty({"a": spikes}, 0.0))
    # Of one sample, they are those of the sample alone.
    alone = penalty({"a": spikes[:4, :1]}, 0.0)
    torch.testing.assert_close(penalty({"a": padded[:, :1]}, 0.0, longer[:, :1]), alone)


def test_biases_are_fitted_to_the_steps_that_are_there() -> None:
    torch.manual_seed(0)
    layers = rb.Sequential(nn.Linear(2, 20), rb.LIF(20), nn.Linear(20, 10), rb.LIF(10))
    x, mask = torch.rand(T, B, 2), rb.mask_of([2, 4, 6], T)
    with rb.masked(layers, mask):
        fitted = rb.fit_initial_rates(layers, x, rate=0.3, tolerance=0.05)
    with Recorder(layers) as recorder, rb.masked(layers, mask):
        layers(x)
    for layer in recorder.layers():
        assert fitted.after[layer.name] == pytest.approx(layer.rate, abs=1e-4)
        assert layer.rate == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("look", [rb.stabilize, rb.doctor], ids=["stabilize", "doctor"])
def test_what_takes_padding_for_steps_refuses_a_mask(look: Callable[..., object]) -> None:
    layers = network()
    with (
        rb.masked(layers, rb.mask_of([3, 5, T], T)),
        pytest.raises(ValueError, match=r"must not be within rheobase.masked, .* x\[: min\(lengths\)\]"),
    ):
        look(layers, torch.rand(T, B, 2))
