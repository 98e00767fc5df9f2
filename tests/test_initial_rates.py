"""Initial rates by biases: they are reached, in every kind of network, and nothing but biases changes."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

import rheobase as rb
from rheobase.health import Recorder

X = (torch.rand(25, 12, 20, generator=torch.Generator().manual_seed(0)) < 0.2).float()


def dense(*neurons: nn.Module, norm: bool = False) -> rb.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for layer in neurons:
        layers += [nn.Linear(20, 20), *([nn.BatchNorm1d(20)] if norm else []), layer]
    net = rb.Sequential(*layers, nn.Linear(20, 3), rb.LeakyReadout(3))
    with torch.no_grad():
        for module in net:
            if isinstance(module, nn.Linear):
                module.weight.normal_(0, 1 / math.sqrt(20))
                module.bias.zero_()
    return net


def convolutions() -> rb.Sequential:
    torch.manual_seed(0)
    return rb.Sequential(
        nn.Unflatten(1, (1, 4, 5)), nn.Conv2d(1, 6, 3, padding=1), rb.LIF(6), nn.Conv2d(6, 4, 3), rb.LIF(4), nn.Flatten()
    )  # fmt: skip


NETWORKS = {
    "LIF": lambda: dense(rb.LIF(20), rb.LIF(20, reset="zero"), rb.LIF(20)),
    "with batch normalization": lambda: dense(rb.LIF(20), rb.LIF(20), norm=True),
    "recurrent": lambda: dense(rb.RecurrentLIF(20), rb.RecurrentAdaptiveLIF(20)),
    "adaptive": lambda: dense(rb.AdaptiveLIF(20, refractory=1), rb.SynapticLIF(20)),
    "convolutions": convolutions,
}


def rates(net: nn.Module, x: Tensor = X) -> list[float]:
    with torch.no_grad(), Recorder(net) as recorder:
        net(x)
    return [layer.rate for layer in recorder.layers()]


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_rates_are_reached(kind: str, rate: float) -> None:
    net = NETWORKS[kind]()
    before = copy.deepcopy(net.state_dict())
    fit = rb.fit_initial_rates(net, X, rate, learning_rate=0.03)
    assert fit.reached, str(fit)
    assert all(abs(after - rate) < 0.01 for after in fit.after.values())
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.endswith("bias") for name in moved)
    assert rates(net) == pytest.approx(list(fit.after.values()), abs=1e-6)


def test_only_the_bias_nearest_to_the_neurons_moves() -> None:
    net = dense(rb.LIF(20), norm=True)
    rb.fit_initial_rates(net, X, 0.3)
    assert not net[0].bias.any()  # batch normalization takes it away again
    assert net[1].bias.any()
    assert not net[-2].bias.any()  # behind the neurons


def test_it_is_deterministic_and_leaves_everything_else_alone() -> None:
    first, second = (
        rb.Sequential(nn.Linear(20, 8), rb.LIF(8, learn=("decay",)), rb.Dropout(0.5), nn.Linear(8, 8), rb.LIF(8))
        for _ in "ab"
    )
    second.load_state_dict(first.state_dict())
    first[3].weight.requires_grad_(False)
    first[0].bias.grad = torch.full((8,), 7.0)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = rb.fit_initial_rates(first, X, 0.2)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        torch.rand(5)
        other = rb.fit_initial_rates(second, X, 0.2)
    assert one == other
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert [p.requires_grad for p in first.parameters()] == [name != "3.weight" for name, _ in first.named_parameters()]
    assert torch.equal(first[0].bias.grad, torch.full((8,), 7.0))
    assert all(p.grad is None for name, p in first.named_parameters() if name != "0.bias")
    assert first.training
    assert not any(module._forward_hooks for module in first.modules())


def test_running_statistics_are_put_back() -> None:
    net = dense(rb.LIF(20), norm=True)
    rb.fit_initial_rates(net, X, 0.3)
    assert net[1].num_batches_tracked == 0
    assert not net[1].running_mean.any()


def test_progress_is_told_and_ends_in_time() -> None:
    told: list[tuple[int, dict[str, float]]] = []
    net = dense(rb.LIF(20, surrogate=rb.surrogate.Triangular(sharpness=1000.0), threshold=50.0))
    fit = rb.fit_initial_rates(net, X, 0.2, steps=4, progress=lambda step, rates: told.append((step, rates)))
    assert not fit.reached  # nobody is within reach of the surrogate
    assert fit.steps == 4
    assert told == [(step, {"1 LIF(20)": 0.0}) for step in (1, 2, 3, 4)]
    assert str(fit) == "1 LIF(20)    0.00% ->   0.00%\ntarget 20.00%, not reached in all layers after 4 steps"


def test_nothing_to_do() -> None:
    net = dense(rb.LIF(20))
    now = rates(net)[0]
    fit = rb.fit_initial_rates(net, X, now)
    assert (fit.steps, fit.reached, fit.before) == (0, True, fit.after)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, r"rate must be in \(0, 1\), got 0.0"),
        ({"rate": 1.5}, r"rate must be in \(0, 1\), got 1.5"),
        ({"tolerance": 0.0}, r"tolerance must be in \(0, 1\), got 0.0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"learning_rate": -0.1}, "learning_rate must be above 0, got -0.1"),
    ],
)
def test_a_slip(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rb.fit_initial_rates(dense(rb.LIF(20)), X, **options)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (X.index_fill(0, torch.tensor(3), math.nan), "fit_initial_rates: batch holds 240 values that are not finite"),
        (X[:, :0], r"fit_initial_rates: batch must hold samples, got shape \(25, 0, 20\)"),
    ],
    ids=["NaN", "empty"],
)
def test_a_batch_on_which_nothing_can_be_fitted(batch: Tensor, message: str) -> None:
    net = dense(rb.LIF(20))
    with pytest.raises(ValueError, match=message):
        rb.fit_initial_rates(net, batch)
    assert not net[0].bias.any()


def test_the_bias_of_a_feedback_is_not_in_front_of_neurons() -> None:
    net = dense(rb.ParaLIF(20, recurrent=True), rb.LIF(20))
    feedback = net[1].feedback.bias.detach().clone()
    rb.fit_initial_rates(net, X, 0.3, steps=3)
    assert net[0].bias.any()
    assert net[2].bias.any()
    assert torch.equal(net[1].feedback.bias, feedback)


def test_neurons_without_a_bias() -> None:
    for net in (rb.Sequential(nn.Linear(20, 4, bias=False), rb.LIF(4)), rb.Sequential(rb.LIF(20), nn.Linear(20, 3))):
        with pytest.raises(ValueError, match=r"there is no bias in front of the layer [01] LIF\(\d+\); make one with"):
            rb.fit_initial_rates(net, X)
    with pytest.raises(ValueError, match="none ran in this Linear"):
        rb.fit_initial_rates(nn.Linear(20, 3), X)
