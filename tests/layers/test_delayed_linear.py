"""Learned delays: what is computed, what is learned, how training narrows them, and the networks that they are in."""

import copy
import math
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

import rheobase as rb
from rheobase.layers.initialization import is_untouched
from rheobase.scheduled import is_settled, set_progress
from training.tiny import CHANNELS, CLASSES, Killed, Stop, arrays
from training.tiny import settings as plan


def layer(*sizes: int, longest: int = 4, progress: float = 1.0, **options: Any) -> rb.DelayedLinear:
    torch.manual_seed(sum(sizes))
    made = rb.DelayedLinear(*sizes, longest=longest, **options).double()
    set_progress(made, progress)
    return made


def by_loops(made: rb.DelayedLinear, x: Tensor) -> Tensor:
    """The sum as it is written in the documentation, number by number."""
    sigma = made.longest / 2 * (1 / made.longest) ** min(4 * made.progress.item(), 1)
    taps = range(made.longest + 1)
    y = torch.zeros(*x.shape[:2], made.out_features, dtype=x.dtype)
    for o in range(made.out_features):
        y[..., o] += 0.0 if made.bias is None else made.bias[o].item()
        for i in range(made.in_features):
            delay = made.delay[o, i].item()
            bump = [math.exp(-((k - delay) ** 2) / (2 * sigma**2)) for k in taps]
            if not made.training:
                bump = [float(k == round(delay)) for k in taps]
            for k in taps:
                part = made.weight[o, i].item() * bump[k] / sum(bump)
                for t in range(k, len(x)):
                    y[t, :, o] += part * x[t - k, :, i]
    return y


@settings(max_examples=40)
@given(st.integers(0, 7), st.integers(1, 6), st.sampled_from([0.0, 0.1, 0.2, 1.0]), st.booleans(), st.booleans())
def test_is_the_sum_over_synapses(steps: int, longest: int, progress: float, training: bool, bias: bool) -> None:
    made = layer(3, 2, longest=longest, progress=progress, bias=bias).train(training)
    x = torch.rand(steps, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(made(x), by_loops(made, x))


@given(st.integers(0, 9), st.booleans(), st.data())
def test_cut_anywhere(steps: int, training: bool, data: st.DataObject) -> None:
    made, x = layer(3, 2, progress=0.1).train(training), torch.rand(steps, 2, 3, dtype=torch.float64)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, steps), max_size=3))), steps]
    pieces, state = [], None
    for start, end in pairwise(cuts):
        piece, state = made.run(x[start:end], state)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces), made(x))


def test_cut_anywhere_where_lists_compute_it() -> None:
    torch.manual_seed(0)
    made, x = rb.DelayedLinear(70, 40, longest=9), (torch.rand(100, 10, 70) < 0.05).float()
    first, state = made.run(x[:60])
    second, _ = made.run(x[60:], state)
    torch.testing.assert_close(torch.cat((first, second)), made(x))


@pytest.mark.parametrize("progress", [0.0, 0.1, 1.0])
def test_gradients_are_those_of_finite_differences(progress: float) -> None:
    made = layer(3, 2, progress=progress)
    parameters = dict(made.named_parameters())
    x = torch.rand(6, 2, 3, dtype=torch.float64, requires_grad=True)

    def compute(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(made, dict(zip(parameters, values, strict=True)), (x,))

    assert set(parameters) == {"weight", "bias", "raw_delay"}
    assert torch.autograd.gradcheck(compute, (x, *parameters.values()))


def test_the_gradient_of_a_delay_is_the_slope_of_the_loss_over_it() -> None:
    made, x = layer(1, 1, progress=0.1, delay=1.3), torch.rand(9, 1, 1, dtype=torch.float64)

    def loss(delay: float) -> Tensor:
        made.delay = delay
        return made(x).square().sum()

    loss(1.3).backward()
    expected = (loss(1.3 + 1e-5) - loss(1.3 - 1e-5)).item() / 2e-5
    one_of_raw = torch.func.grad(made._ranges["delay"].value)(made.raw_delay.detach()[0, 0])
    assert made.raw_delay.grad.item() / one_of_raw.item() == pytest.approx(expected, rel=1e-5)


@given(st.floats(-0.499, 8.499), st.sampled_from([0.0, 0.1, 1.0]))
def test_in_evaluation_a_synapse_has_one_delay_and_in_training_all(delay: float, progress: float) -> None:
    made = layer(2, 3, longest=8, delay=delay, progress=progress)
    blurred, whole = made.bump(), made.eval().bump()
    torch.testing.assert_close(blurred.sum(1), torch.ones_like(blurred[:, 0]))
    assert bool((blurred > 0).all() or progress == 1)
    expected = made.delay[0, 0].round().item()
    assert whole.count_nonzero() == 6
    assert bool((whole[:, int(expected)] == 1).all())
    assert abs(expected - delay) <= 0.5 + 1e-6


@pytest.mark.parametrize("longest", [1, 2, 25])
def test_the_width_falls_exponentially_in_the_first_quarter(longest: int) -> None:
    made, widths = rb.DelayedLinear(2, 2, longest=longest), []
    assert made.width == 0.5
    for progress in (0.0, 0.125, 0.25, 0.6, 1.0):
        set_progress(made, progress)
        widths.append(made.width.item())
        assert made.is_settled() == (progress >= 0.25)
    assert widths == pytest.approx([longest / 2, math.sqrt(longest) / 2, 0.5, 0.5, 0.5])


def test_delays_start_where_asked_the_ends_too() -> None:
    delays = torch.tensor([[0.0, 7.0, 3.25], [6.9, 0.5, 1.0]])
    torch.testing.assert_close(rb.DelayedLinear(3, 2, longest=7, delay=delays).delay.detach(), delays)
    assert rb.DelayedLinear(3, 2, longest=7, delay=2.0).delay.detach().round().unique().tolist() == [2]


def test_drawn_delays_are_as_often_each_number_of_steps() -> None:
    torch.manual_seed(0)
    made = rb.DelayedLinear(200, 100, longest=4)
    counts = made.delay.round().long().flatten().bincount()
    assert len(counts) == 5
    assert counts.min() > 3700
    assert made.delay.std().item() == pytest.approx(5 / math.sqrt(12), rel=0.02)
    before = made.raw_delay.detach().clone()
    torch.manual_seed(0)
    assert torch.equal(rb.DelayedLinear(200, 100, longest=4).raw_delay, before)
    made.reset_parameters()
    assert not torch.equal(made.raw_delay, before)


def test_weights_are_drawn_as_those_of_a_linear_layer() -> None:
    torch.manual_seed(0)
    plain = nn.Linear(30, 20)
    torch.manual_seed(0)
    made = rb.DelayedLinear(30, 20, longest=3)
    assert torch.equal(made.weight, plain.weight)
    assert torch.equal(made.bias, plain.bias)


@given(st.integers(0, 2**32 - 1), st.floats(0, 1e6), st.sampled_from([torch.float32, torch.float64]))
def test_learned_delays_cannot_leave_their_range(seed: int, size: float, dtype: torch.dtype) -> None:
    made = rb.DelayedLinear(20, 10, longest=25).to(dtype).eval()
    with torch.no_grad():
        made.raw_delay += size * torch.randn(10, 20, generator=torch.Generator().manual_seed(seed)).to(dtype)
    assert made.delay.round().min() >= 0
    assert made.delay.round().max() <= 25
    assert bool((made.bump().sum(1) == 1).all())


@given(st.floats(-0.49, 25.49))
def test_the_free_parameter_counts_in_units_of_the_longest_delay(delay: float) -> None:
    made = layer(1, 1, longest=25, delay=delay)
    (slope,) = torch.autograd.grad(made.delay.sum(), made.raw_delay)
    nearest = min(delay + 0.5, 25.5 - delay)
    assert slope.item() / 25 == pytest.approx(1 - math.exp(-nearest), abs=0.01)


def test_a_delay_is_assigned() -> None:
    made = rb.DelayedLinear(3, 2, longest=7)
    made.delay = 4.0
    assert made.delay.detach().round().unique().tolist() == [4]
    assert made.raw_delay.requires_grad
    with pytest.raises(ValueError, match=r"a learned delay must be in \(-0.5, 7.5\), got 8"):
        made.delay = 8.0
    with pytest.raises(
        ValueError, match=r"delay must be a number or have shape \(2, 3\), one per synapse; got \(3, 2\)"
    ):
        made.delay = torch.ones(3, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"longest": 0}, "longest must be a whole number, at least 1, got 0"),
        ({"longest": 2.5}, "longest must be a whole number, at least 1, got 2.5"),
        ({"in_features": 0}, "in_features must be a whole number, at least 1, got 0"),
        ({"delay": -1.0}, r"a learned delay must be in \(-0.5, 4.5\), got -1"),
        ({"delay": torch.tensor([5.0])}, r"delay must be a number or have shape \(2, 3\)"),
    ],
)
def test_what_it_refuses(change: dict[str, Any], message: str, as_a_user: None) -> None:
    with pytest.raises(ValueError, match=f"DelayedLinear: {message}"):
        rb.DelayedLinear(**{"in_features": 3, "out_features": 2, "longest": 4, **change})


def test_wrong_inputs(as_a_user: None) -> None:
    made = rb.DelayedLinear(3, 2, longest=4)
    with pytest.raises(ValueError, match=r"x must be \(T, B, 3\), got shape \(5, 1, 4\); put an nn.Flatten"):
        made(torch.rand(5, 1, 4))
    with pytest.raises(ValueError, match=r"x must be \(T, B, 3\), got shape \(5, 1, 2, 3\)"):
        made(torch.rand(5, 1, 2, 3))
    with pytest.raises(ValueError, match=r"state must be the last 4 steps, \(4, 1, 3\), got shape \(4, 2, 3\)"):
        made.run(torch.rand(5, 1, 3), torch.zeros(4, 2, 3))


def test_it_says_its_sizes() -> None:
    expected = "DelayedLinear(in_features=3, out_features=2, bias=False, longest=4)"
    assert repr(rb.DelayedLinear(3, 2, longest=4, bias=False)) == expected


def test_a_state_dict_has_how_far_training_is() -> None:
    made, other = layer(3, 2, progress=0.1), layer(3, 2)
    other.reset_parameters()
    other.load_state_dict(made.state_dict())
    assert set(made.state_dict()) == {"weight", "bias", "raw_delay", "progress", "longest"}
    assert other.width == made.width != 0.5
    x = torch.rand(6, 2, 3, dtype=torch.float64)
    for training in (True, False):
        assert torch.equal(made.train(training)(x), other.train(training)(x))
    assert torch.equal(copy.deepcopy(made)(x), made(x))


def test_delays_keep_their_precision_in_half_precision() -> None:
    made = rb.DelayedLinear(3, 2, longest=100, delay=77.3).to(torch.bfloat16)
    assert made.delay.detach().unique().item() == pytest.approx(77.3)
    assert made(torch.rand(5, 1, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16


# In networks


def network(*sizes: int, longest: int = 20, decay: float = 0.9, input_rate: float | None = 0.02) -> rb.Sequential:
    layers = [
        part for a, b in pairwise(sizes) for part in (rb.DelayedLinear(a, b, longest=longest), rb.LIF(b, decay=decay))
    ]
    return rb.Sequential(*layers, input_rate=input_rate)


def rates(net: nn.Module, x: Tensor) -> list[float]:
    with rb.health.Recorder(net) as recorder, torch.no_grad():
        net(x)
    return [found.rate for found in recorder.layers()]


@pytest.mark.parametrize(("decay", "low", "high"), [(0.5, 0.04, 0.4), (0.9, 0.04, 0.2), (0.97, 0.04, 0.2)])
@pytest.mark.parametrize("longest", [1, 5, 20])
def test_a_new_network_is_alive_wide_narrow_and_rounded(decay: float, low: float, high: float, longest: int) -> None:
    torch.manual_seed(0)
    net, x = network(300, 128, 128, 128, longest=longest, decay=decay), (torch.rand(100, 16, 300) < 0.02).float()
    for progress, training in ((0.0, True), (1.0, True), (1.0, False)):
        set_progress(net, progress)
        found = rates(net.train(training), x)
        assert all(low < rate < high for rate in found), (progress, training, found)


def test_without_it_the_same_network_is_dead() -> None:
    torch.manual_seed(0)
    net = network(300, 128, 128, 128, input_rate=None)
    assert rates(net, (torch.rand(100, 16, 300) < 0.02).float())[1:] == [0, 0]


def test_weights_that_were_set_are_left_alone() -> None:
    made = rb.DelayedLinear(30, 20, longest=3)
    assert is_untouched(made)
    before = nn.init.normal_(made.weight).detach().clone()
    assert torch.equal(rb.Sequential(made, rb.LIF(20))[0].weight, before)
    assert not is_untouched(made)


def test_a_spike_costs_a_synaptic_operation_for_each_output() -> None:
    net = rb.Sequential(rb.DelayedLinear(3, 5, longest=7), rb.LIF(5, threshold=1e9))
    with rb.health.Recorder(net) as recorder:
        net(torch.ones(10, 2, 3))
    assert recorder.input().synaptic_operations_per_sample == 10 * 3 * 5


def test_stabilize_is_for_the_start_of_training_and_leaves_progress_as_it_is() -> None:
    torch.manual_seed(0)
    net, x = network(60, 64, 64, 64), (torch.rand(100, 16, 60) < 0.05).float()
    nn.init.normal_(net[2].weight, std=0.01)
    done = rb.stabilize(net.eval(), x)
    assert all(found.centred and found.rate[1] == pytest.approx(0.1, rel=0.02) for found in done.layers)
    assert not any(module.training for module in net.modules())
    assert net[0].progress == 1
    set_progress(net, 0.0)
    assert rates(net.train(), x) == pytest.approx([0.1] * 3, rel=0.02)
    (alone,) = torch.autograd.grad(net(x).sum(), net[0].weight, retain_graph=True)
    assert alone.norm() > 0


def test_the_doctor_tells_gradients_of_weights_from_those_of_delays() -> None:
    torch.manual_seed(0)
    net = rb.Sequential(rb.DelayedLinear(20, 16, longest=5), rb.LIF(16), nn.Linear(16, 3), rb.LeakyReadout(3))
    x = (torch.rand(40, 8, 20) < 0.1).float()
    before = rb.doctor(net, x, torch.arange(8) % 3).measures.layers[0].gradient
    net[0].raw_delay.requires_grad_(False)
    assert rb.doctor(net, x, torch.arange(8) % 3).measures.layers[0].gradient == pytest.approx(before, rel=1e-5)


def test_the_framework_of_single_spikes_refuses_it() -> None:
    net = rb.Sequential(rb.DelayedLinear(4, 3, longest=2), rb.SingleSpike(3), nn.Linear(3, 2))
    with pytest.raises(TypeError, match="layer 0 is a DelayedLinear, and of delays nothing is known here"):
        rb.initialize_single_spike(net, steps=8, batch=torch.rand(8, 2, 4))


def test_the_earliest_answer_is_that_of_the_whole() -> None:
    torch.manual_seed(0)
    out = rb.DelayedLinear(8, 2, longest=2, bias=False)
    net = rb.Sequential(rb.DelayedLinear(9, 8, longest=3), rb.LIF(8), out, rb.LeakyReadout(2)).eval()
    x = (torch.rand(12, 6, 9) < 0.3).float()
    whole, early = rb.first_spike.decide(net(x), 0.3), rb.first_spike.decide_early(net, x, 0.3)
    assert torch.equal(early.predictions, whole.predictions)
    assert torch.equal(early.steps, whole.steps)
    assert len(whole.steps.unique()) > 1


def test_delays_have_a_rate_of_their_own_and_no_weight_decay() -> None:
    net = rb.Sequential(rb.DelayedLinear(4, 3, longest=2), rb.LIF(3))
    for rates, expected in ((None, ("others", 1e-3)), ({"delay": 0.1}, ("delay", 0.1))):
        groups = rb.parameter_groups(net, 1e-3, rates=rates, weight_decay=0.3)
        found = {id(parameter): group for group in groups for parameter in group["params"]}
        group = found[id(net[0].raw_delay)]
        assert (group["name"], group["lr"], group["weight_decay"]) == (*expected, 0.0)
        assert found[id(net[0].weight)]["weight_decay"] == 0.3


# In training


def small(longest: int = 3) -> rb.Sequential:
    torch.manual_seed(0)
    return rb.Sequential(
        rb.DelayedLinear(CHANNELS, 10, longest=longest),
        rb.LIF(10, decay=0.8),
        nn.Linear(10, CLASSES),
        rb.LeakyReadout(CLASSES),
    )


def train(net: nn.Module, run: Path | None = None, stop: Stop | None = None, resume: bool = False, **changes: Any):
    display = stop or rb.training.Display()
    return rb.fit(net, arrays(), arrays(7, 2), settings=plan(**changes), display=display, run=run, resume=resume)


def test_fit_narrows_delays_and_the_best_epoch_is_one_that_is_narrow() -> None:
    net = small()
    result = train(net, epochs=9, learning_rate=1e-30)  # which learns nothing: all epochs are as good
    assert result.best_epoch == 3
    assert net[0].progress == 0.25
    assert is_settled(net)


@pytest.mark.parametrize("stop", [Stop(epoch=1), Stop(epoch=2), Stop(epoch=3)])
def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path: Path, stop: Stop) -> None:
    whole, part = small(), small()
    train(whole, tmp_path / "whole", epochs=5)
    with pytest.raises(Killed):
        train(small(), tmp_path / "part", stop, epochs=5)
    train(part, tmp_path / "part", resume=True, epochs=5)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, part.state_dict()[name]), name


def test_resume_refuses_another_longest(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(small(), tmp_path / "part", Stop(epoch=1))
    with pytest.raises(rb.errors.RunError, match=r"was started with 0\.longest 3, not 4"):
        train(small(longest=4), tmp_path / "part", resume=True)


@pytest.mark.parametrize("schedule", [True, False])
def test_a_wide_delay_finds_what_a_narrow_one_does_not(schedule: bool) -> None:
    torch.manual_seed(0)
    made = rb.DelayedLinear(1, 1, longest=20, bias=False, delay=2.0)
    with torch.no_grad():
        made.weight.fill_(1.0)
    made.weight.requires_grad_(False)
    x = (torch.rand(100, 4, 1) < 0.05).float()
    wanted = torch.cat((torch.zeros(15, 4, 1), x[:-15]))
    optimizer = torch.optim.Adam(made.parameters(), lr=0.01)
    for step in range(400):
        set_progress(made, step / 399 if schedule else 1.0)
        optimizer.zero_grad()
        (made(x) - wanted).square().mean().backward()
        optimizer.step()
    assert bool((made.eval()(x) == wanted).all()) == schedule
    assert (round(made.delay.item()) == 15) == schedule


def order_of_two(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """A spike of one channel, and 12 steps later one of the other; the label says which comes first."""
    generator = torch.Generator().manual_seed(seed)
    labels, first = (torch.randint(0, most, (samples,), generator=generator) for most in (2, 10))
    x, sample = torch.zeros(34, samples, 2), torch.arange(samples)
    x[first, sample, labels] = 1
    x[first + 12, sample, 1 - labels] = 1
    return x, labels


def accuracy_of_order(synapses: nn.Module) -> float:
    net = rb.Sequential(synapses, rb.LIF(8, decay=0.5), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    x, labels = order_of_two(64, seed=0)
    for epoch in range(30):
        set_progress(net, epoch / 29)
        for _ in range(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x).sum(0), labels).backward()
            optimizer.step()
    x, labels = order_of_two(200, seed=1)
    return (net.eval()(x).sum(0).argmax(1) == labels).float().mean().item()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_learns_an_order_that_neurons_have_forgotten(seed: int) -> None:
    torch.manual_seed(seed)
    assert accuracy_of_order(rb.DelayedLinear(2, 8, longest=14)) == 1
    torch.manual_seed(seed)
    assert accuracy_of_order(nn.Linear(2, 8)) < 0.8


def test_it_can_be_pickled() -> None:
    made = layer(3, 2)
    again = pickle.loads(pickle.dumps(made))  # noqa: S301 (our own)
    assert torch.equal(again.delay, made.delay)


def test_weights_of_another_longest_delay_are_refused() -> None:
    network = rb.Sequential(rb.DelayedLinear(3, 2, longest=4))
    with pytest.raises(
        RuntimeError, match=r"0.longest: delays of up to 5 steps do not fit a layer with delays of up to 4"
    ):
        network.load_state_dict(rb.Sequential(rb.DelayedLinear(3, 2, longest=5)).state_dict())
    network.load_state_dict(rb.Sequential(rb.DelayedLinear(3, 2, longest=4)).state_dict())


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize("delays", [rb.DelayedLinear(3, 2, longest=4), rb.Delay(4)])
def test_a_state_that_is_none(delays: rb.Temporal) -> None:
    with pytest.raises(TypeError, match=f"{type(delays).__name__}: state must be a tensor"):
        delays.run(torch.ones(2, 1, 3), [1])


def test_the_state_is_no_larger_than_it_must_be() -> None:
    for delays in (rb.DelayedLinear(3, 2, longest=4), rb.Delay(4)):
        _, state = delays.run(torch.ones(100, 1, 3))
        assert state.untyped_storage().nbytes() == 4 * 3 * 4
