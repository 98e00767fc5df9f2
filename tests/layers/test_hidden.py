"""When a `Sequential` computes layers as one, that nothing else changes by it, and when it must not."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

import rheobase as rb
from computing import computed_by
from rheobase.health import Recorder, record_spikes
from rheobase.layers import hidden
from rheobase.ops import hidden_single_spike as op
from rheobase.ops import pooled_single_spike as pooled_op
from rheobase.padding import mask_of, masked
from rheobase.surrogate import FastSigmoid, MultiGaussian
from rheobase.training import Display, fit
from training.tiny import CHANNELS, CLASSES, arrays, settings

STEPS, BATCH, INPUTS, NEURONS, OUTPUTS = 32, 32, 6, 128, 3
"""Work that is just enough for three layers as one."""


@pytest.fixture
def calls(monkeypatch):
    """Whether three layers were computed as one, of each three that could be."""
    seen = []

    def asked(*arguments):
        worthwhile = op.worthwhile(*arguments)
        if not worthwhile:
            seen.append(False)
        return worthwhile

    def spied(*arguments):
        y = op.in_one(*arguments)
        seen.append(y is not None)
        return y

    monkeypatch.setattr(hidden, "worthwhile", asked)
    monkeypatch.setattr(hidden, "in_one", spied)
    return seen


def numbers(*shape, seed=0):
    """Halves and quarters, of which sums are exact in any order: no spike hangs on a rounding."""
    return torch.randint(-64, 80, shape, generator=torch.Generator().manual_seed(seed)) / 64


def three(inputs=INPUTS, neurons=NEURONS, outputs=OUTPUTS, kind=rb.SingleSpike, **how):
    """A linear layer, neurons that fire once, and a linear layer."""
    how = {"decay": 0.5, "surrogate": FastSigmoid(1.0, 5.0), "learn": ("decay", "threshold")} | how
    layers = nn.Linear(inputs, neurons), kind(neurons, **how), nn.Linear(neurons, outputs)
    with torch.no_grad():
        for seed, parameter in enumerate([*layers[0].parameters(), *layers[2].parameters()]):
            parameter.copy_(numbers(*parameter.shape, seed=seed))
    return layers


def network(**how):
    return rb.Sequential(*three(**how), rb.LeakyReadout(OUTPUTS), input_rate=None)


def spikes(*shape, density=0.3):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(1)) < density).float()


@pytest.fixture
def x():
    return spikes(STEPS, BATCH, INPUTS)


def results(net, x):
    """The output, and the gradients of all parameters."""
    y = net(x)
    on_y = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    return [y.detach(), *torch.autograd.grad(y, list(net.parameters()), on_y)]


def one_by_one(net, x):
    """The same with a hook that looks on."""
    handle = net[1].register_forward_hook(lambda *_: None)
    try:
        return results(net, x)
    finally:
        handle.remove()


def assert_close(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        allowed = 8 * STEPS * torch.finfo(mine.dtype).eps
        torch.testing.assert_close(mine, other, rtol=allowed, atol=allowed * (1 + other.abs().max().item()))


def test_three_layers_are_one_and_the_numbers_are_those_of_three(calls, x):
    net = network()
    ours = results(net, x)
    assert calls == [True]
    assert_close(ours, one_by_one(net, x))
    assert calls == [True]
    _, output = record_spikes(net, x)
    torch.testing.assert_close(output, ours[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"learn": ()},
        {"features": None},
        {"fire_by_end": True},
        {"bias": False},
    ],
    ids=str,
)
def test_settings_of_the_layers(calls, x, change):
    how = {name: value for name, value in change.items() if name in ("learn", "fire_by_end")}
    first, neurons, behind = three(**how)
    if "features" in change:
        neurons = rb.SingleSpike(decay=0.5, surrogate=FastSigmoid(1.0, 5.0), learn=("decay", "threshold"))
    if "bias" in change:
        first.bias = behind.bias = None
    net = rb.Sequential(first, neurons, behind, rb.LeakyReadout(OUTPUTS), input_rate=None)
    assert_close(results(net, x), one_by_one(net, x))
    assert calls == [True]


def test_wherever_in_a_network_they_stand(calls, x):
    """Behind what learns nothing, in a container, named, and as the last layers."""
    net = rb.Sequential(nn.Identity(), rb.Sequential(*three(), input_rate=None), input_rate=None)
    y = net(x)
    assert calls == [True]
    assert y.shape == (STEPS, BATCH, OUTPUTS)
    torch.testing.assert_close(y, rb.Sequential(*net[1], nn.Identity(), input_rate=None)(x))


def test_in_evaluation_without_gradients(calls, x):
    net = network().eval()
    expected = net(x).detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(net(x), expected)
    assert calls == [True] * 3


def test_copies_and_those_that_were_pickled(calls, x):
    net = network()
    expected = net(x)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):  # noqa: S301
        assert torch.equal(other(x), expected)
    assert calls == [True] * 3


def nothing(*_):
    return None


# PyTorch says so where the input of a layer wants no gradient.
@pytest.mark.filterwarnings("ignore:Full backward hook is firing when gradients are computed:UserWarning")
@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize(
    "register",
    [
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ],
)
def test_not_under_a_hook_which_is_called(calls, x, position, register):
    net, seen = network(), []
    expected = results(net, x)
    handle = getattr(net[position], register)(lambda *_: seen.append(1))
    assert_close(results(net, x), expected)
    assert (calls, seen) == ([True], [1])
    handle.remove()
    results(net, x)
    assert (calls, seen) == ([True, True], [1])


def test_a_hook_on_the_network_or_the_readout_does_not_mind(calls, x):
    net, seen = network(), []
    for layer in (net, net[3]):
        layer.register_forward_hook(lambda *_: seen.append(1))
    net(x)
    assert (calls, seen) == ([True], [1, 1])


def test_not_under_a_hook_for_all_modules(calls, x):
    net, seen = network(), []
    handle = register_module_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    try:
        net(x)
    finally:
        handle.remove()
    assert calls == []
    assert seen == ["Linear", "SingleSpike", "Linear", "LeakyReadout", "Sequential"]
    net(x)
    assert calls == [True]


def test_not_with_a_forward_of_the_users(calls, x):
    for position in range(3):
        net, seen = network(), []
        inner = net[position].forward
        net[position].forward = lambda y, inner=inner, seen=seen: seen.append(1) or inner(y)
        net(x)
        assert (calls, seen) == ([], [1])


class Mine(rb.SingleSpike):
    def forward(self, x):
        return super().forward(x) * 0


class MyLinear(nn.Linear):
    pass


def test_not_with_layers_of_another_class(calls, x):
    assert rb.Sequential(*three(kind=Mine), input_rate=None)(x).count_nonzero() > 0  # the bias behind
    first, neurons, behind = three()
    for layers in (
        (rb.SpikeLinear(INPUTS, NEURONS), neurons, behind),
        (first, neurons, rb.SpikeLinear(NEURONS, OUTPUTS)),
        (MyLinear(INPUTS, NEURONS), neurons, behind),
        (first, neurons, MyLinear(NEURONS, OUTPUTS)),
        (first, rb.LIF(NEURONS), behind),
        (first, neurons, nn.Identity(), behind),
        (first, neurons),
    ):
        rb.Sequential(*layers, input_rate=None)(x)
    assert calls == []


def standardized(**how):
    """The network with weights that are standardized on both sides of the neurons."""
    net = network(**how)
    for position in (0, 2):
        rb.standardize(net[position], 0.3)
        with torch.no_grad():
            net[position].parametrizations.weight[0].gain.add_(numbers(len(net[position].weight), seed=3) / 4)
    return net


@pytest.mark.parametrize("credit", ["product", "ramp"])
def test_standardized_weights_are_one_too_and_learn_as_those_of_three(calls, x, credit):
    net = standardized(credit=credit)
    ours = results(net, x)
    assert calls == [True]
    names = [name for name, _ in net.named_parameters()]
    assert "0.parametrizations.weight.original" in names
    assert "2.parametrizations.weight.0.gain" in names
    assert all(gradient.any() for gradient in ours[1:])
    assert_close(ours, one_by_one(net, x))
    assert calls == [True]


def test_a_weight_is_standardized_once_for_a_pass_also_of_little_work(calls, x):
    net, seen = standardized(), []
    net[0].parametrizations.weight[0].register_forward_hook(lambda *_: seen.append(1))
    net(x)
    net(x[:4])
    assert (calls, seen) == ([True, False], [1, 1])


@pytest.mark.parametrize("steps", [4, STEPS], ids=["one by one", "as one"])
def test_folded_they_compute_the_same_bit_for_bit(calls, x, steps):
    net = standardized()
    y, folded = net(x[:steps]), rb.fold(net)(x[:steps])
    assert calls == [steps == STEPS] * 2
    assert torch.equal(y, folded)


def test_not_with_weights_that_are_computed_in_other_ways(calls, x):
    norm = nn.utils.parametrizations
    for change in (
        norm.weight_norm,
        norm.spectral_norm,  # which changes whenever the weight is looked at
        lambda layer: norm.spectral_norm(rb.standardize(layer, 0.1)),
    ):
        for position in (0, 2):
            net = network()
            change(net[position])
            net(x)
    assert calls == []


def test_not_while_masked(calls, x):
    net, lengths = network(), torch.full((BATCH,), STEPS)
    expected = net(x)
    with masked(net, mask_of(lengths, STEPS)):
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-4)
    assert calls == [True]
    lengths[0] = 1
    with masked(net, mask_of(lengths, STEPS)):
        y = net(x)
    assert y[1:, 0].count_nonzero() == 0
    assert calls == [True]


def test_not_in_streaming(calls, x):
    net = network()
    expected = net(x)
    first, state = net.run(x[:10])
    second, state = net.run(x[10:], state)
    assert calls == [True]
    assert len(state) == 4
    assert state[1] is not None
    torch.testing.assert_close(torch.cat((first, second)), expected, rtol=1e-4, atol=1e-4)


def test_a_recorder_counts_the_spikes(calls, x):
    net = network()
    net(x)
    with Recorder(net) as recorder:
        net(x)
    net(x)
    assert calls == [True, True]
    (layer,) = recorder.layers()
    fired = net[1](net[0](x)).sum().item()
    assert 0 < fired < BATCH * NEURONS
    assert layer.spikes_per_sample * BATCH == pytest.approx(fired)
    assert layer.synaptic_operations_per_sample * BATCH == pytest.approx(fired * OUTPUTS)
    assert recorder.input().synaptic_operations_per_sample * BATCH == pytest.approx(x.sum().item() * NEURONS)


class TestTwoHiddenLayers:
    """Which share the linear layer between them."""

    def test_the_first_is_one_with_its_neighbours(self, calls, x):
        net = rb.Sequential(
            *three(outputs=32),
            rb.SingleSpike(32, decay=0.5),
            nn.Linear(32, OUTPUTS),
            rb.LeakyReadout(OUTPUTS),
            input_rate=None,
        )
        assert_close(results(net, x), one_by_one(net, x))
        assert calls == [True, False]  # with a hook on the first, the second three want the gradient of their input

    def test_the_second_only_where_nobody_wants_the_gradient_of_its_input(self, calls, x):
        # What is between them is too wide.
        net = rb.Sequential(
            *three(outputs=NEURONS), *three(inputs=NEURONS)[1:], rb.LeakyReadout(OUTPUTS), input_rate=None
        )
        ours = results(net, x)
        assert calls == [False, False]
        with torch.no_grad():
            y = net(x)
        assert calls == [False, False, False, True]
        torch.testing.assert_close(y, ours[0], rtol=1e-4, atol=1e-4)

    def test_with_a_frozen_first_layer_the_second_is(self, calls, x):
        net = rb.Sequential(
            *three(outputs=NEURONS), *three(inputs=NEURONS)[1:], rb.LeakyReadout(OUTPUTS), input_rate=None
        )
        for layer in net[:2]:
            layer.requires_grad_(False)
        net(x).sum().backward()
        assert calls == [False, True]
        assert net[2].weight.grad is not None
        assert net[0].weight.grad is None


def test_not_where_the_input_wants_a_gradient(calls, x):
    net = network()
    net(x.requires_grad_()).sum().backward()
    assert calls == [False]
    assert x.grad.shape == x.shape


def test_not_without_kernels(calls, x):
    net = network()
    expected = net(x)
    with computed_by("reference"):
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-4)
    assert calls == [True, False]


def test_what_does_not_fit_names_its_layer(calls):
    with pytest.raises(RuntimeError, match=r"Sequential: layer 0, Linear.*failed on steps of shape \(5,\)"):
        network()(spikes(STEPS, BATCH, 5))
    first, neurons, behind = three()
    with pytest.raises(ValueError, match=r"SingleSpike\(128\): x must be \(T, B, 128, ...\)"):
        rb.Sequential(three(neurons=130)[0], neurons, behind, input_rate=None)(spikes(STEPS, BATCH, INPUTS))
    with pytest.raises(RuntimeError, match=r"Sequential: layer 2, Linear.*failed on steps of shape \(128,\)"):
        rb.Sequential(first, neurons, nn.Linear(130, 3), input_rate=None)(spikes(STEPS, BATCH, INPUTS))
    assert True not in calls


@pytest.mark.parametrize("position", [0, 2])
@pytest.mark.usefixtures("as_a_user")
def test_a_bias_that_does_not_fit_is_pytorchs(calls, x, position):
    net = network()
    net[position].bias = nn.Parameter(torch.ones(1))  # which takes one for all
    expected = net[position].bias.expand(len(net[position].weight)).detach()
    with torch.no_grad():
        y = net(x)
        net[position].bias = nn.Parameter(expected)
        torch.testing.assert_close(y, net(x), rtol=1e-4, atol=1e-4)
    assert calls == [False, True]


def test_more_axes_are_not_a_hidden_layer(calls):
    net = rb.Sequential(nn.Linear(6, 8), rb.SingleSpike(decay=0.5), nn.Linear(8, 3), input_rate=None)
    assert net(spikes(20, 30, 40, 6)).shape == (20, 30, 40, 3)
    assert calls == [False]


def test_training_is_the_same(calls, monkeypatch):
    monkeypatch.setattr(op, "_LEAST_WORK", 1)
    trained = []
    for watched in (False, True):
        torch.manual_seed(3)
        neurons = rb.SingleSpike(16, credit="detached", surrogate=MultiGaussian(), learn=("decay", "threshold"))
        net = rb.Sequential(nn.Linear(CHANNELS, 16), neurons, nn.Linear(16, CLASSES), rb.LeakyReadout(CLASSES))
        start = copy.deepcopy(net.state_dict())
        if watched:
            neurons.register_forward_hook(nothing)
        fit(net, arrays(), arrays(7, 2), settings=settings(epochs=2), display=Display())
        trained.append(net.state_dict())
    assert calls == [True] * 10  # two epochs of five batches; the evaluation counts spikes
    for name, value in trained[0].items():
        torch.testing.assert_close(value, trained[1][name], rtol=1e-4, atol=1e-4)
    assert not torch.equal(trained[0]["0.weight"], start["0.weight"])


CHANNELS_OF_MAPS, SIDE = 3, 12


@pytest.fixture
def pooled_calls(monkeypatch):
    """Whether neurons and pooling were computed as one, of each two that could be."""
    seen = []

    def spied(*arguments):
        y = pooled_op.in_one(*arguments)
        seen.append(y is not None)
        return y

    monkeypatch.setattr(hidden, "pooled_in_one", spied)
    monkeypatch.setattr(pooled_op, "_LEAST_WORK", 1)
    return seen


def maps(steps=5, batch=4, side=SIDE):
    generator = torch.Generator().manual_seed(3)
    return torch.randint(-16, 24, (steps, batch, CHANNELS_OF_MAPS, side, side), generator=generator) / 32


def convolutional(hold=None, pooling=None, kind=rb.SingleSpike, **how):
    """Neurons in maps, pooling, and what reads them out; with `hold`, of a picture that is seen for so many steps."""
    how = {"decay": 0.5, "surrogate": FastSigmoid(1.0, 5.0), "learn": ("decay", "threshold")} | how
    layers = [kind(CHANNELS_OF_MAPS, **how), nn.AvgPool2d(2) if pooling is None else pooling, nn.Flatten()]
    return rb.Sequential(*([] if hold is None else [rb.Hold(hold)]), *layers, input_rate=None)


def gradients_of(net, x):
    x = x.detach().requires_grad_()
    y = net(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *net.parameters()], torch.linspace(-1, 1, y.numel()).view(y.shape))]


class TestPooling:
    """Neurons that fire once, and pooling behind them."""

    @pytest.mark.parametrize("pooling", [nn.AvgPool2d(2), rb.SpikeMaxPool2d(2), rb.SpikeMaxPool2d((2, 2))], ids=str)
    @pytest.mark.parametrize("hold", [None, 6])
    @pytest.mark.parametrize("fire_by_end", [False, True])
    def test_they_are_one_and_the_numbers_are_those_of_two(self, pooled_calls, hold, fire_by_end, pooling):
        net, x = convolutional(hold, pooling, fire_by_end=fire_by_end), maps(steps=1 if hold else 5)
        ours = gradients_of(net, x)
        assert pooled_calls == [True]
        net[0 if hold is None else 1].register_forward_hook(nothing)
        assert_close(ours, gradients_of(net, x))
        assert pooled_calls == [True]
        assert 0 < ours[0].count_nonzero() < ours[0].numel()

    def test_in_the_middle_of_a_network(self, pooled_calls):
        layers = nn.Conv2d(CHANNELS_OF_MAPS, 4, 3, padding=1), rb.Hold(4), rb.SingleSpike(decay=1.0), nn.AvgPool2d(2)
        more = nn.Conv2d(4, 8, 3, padding=1), rb.SingleSpike(8), nn.AvgPool2d((2, 2)), nn.Flatten(), nn.Linear(72, 2)
        net = rb.Sequential(*layers, *more)
        net(maps(steps=1)).sum().backward()
        assert pooled_calls == [True, True]
        assert net[0].weight.grad.abs().sum() > 0

    def test_in_mixed_precision(self, pooled_calls):
        net = rb.Sequential(nn.Conv2d(CHANNELS_OF_MAPS, 4, 3, padding=1), rb.SingleSpike(4), nn.AvgPool2d(2))
        with torch.autocast("cpu", torch.bfloat16):
            y = net(maps())
            assert pooled_calls == [True]
            _, expected = record_spikes(net, maps())
        assert y.dtype == torch.bfloat16
        assert torch.equal(y, expected)

    @pytest.mark.parametrize("hold", [None, 6])
    @pytest.mark.parametrize(
        ("of_x", "of_neurons"), [(torch.float64, torch.float32), (torch.float32, torch.float64)], ids=str
    )
    def test_in_mixed_types(self, pooled_calls, hold, of_x, of_neurons):
        """Membrane potentials have the type of the input, whatever that of the neurons."""
        net = convolutional(hold).to(of_neurons)
        x = maps(steps=1 if hold else 5).to(of_x)
        ours = gradients_of(net, x)
        assert pooled_calls == [True]
        assert [each.dtype for each in ours] == [of_x, of_x, of_neurons, of_neurons]
        net[0 if hold is None else 1].register_forward_hook(nothing)
        for mine, other in zip(ours, gradients_of(net, x), strict=True):
            torch.testing.assert_close(mine, other, rtol=2e-5, atol=2e-5)
        assert pooled_calls == [True]

    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_not_under_a_hook(self, pooled_calls, position):
        net, seen = convolutional(hold=3), []
        net[position].register_forward_hook(lambda *_: seen.append(1))
        net(maps(steps=1))
        # Without the hold in front the other two are still one.
        assert (pooled_calls, seen) == ([True] if position == 0 else [], [1])

    def test_not_in_streaming(self, pooled_calls):
        net, x = convolutional(), maps()
        first, state = net.run(x[:2])
        second, _ = net.run(x[2:], state)
        assert pooled_calls == []
        assert torch.equal(torch.cat((first, second)), net(x))

    @pytest.mark.parametrize(
        "pooling",
        [
            nn.AvgPool2d(3),
            nn.AvgPool2d(2, stride=1),
            nn.AvgPool2d(2, padding=1),
            nn.AvgPool2d(2, divisor_override=1),
            rb.SpikeMaxPool2d(3),
            rb.SpikeMaxPool2d(2, padding=1),
            rb.SpikeMaxPool2d(2, ceil_mode=True),
        ],
        ids=str,
    )
    def test_not_with_other_windows(self, pooled_calls, pooling):
        net = convolutional(pooling=pooling)
        y = net(maps())
        assert pooled_calls == []
        assert torch.equal(y, record_spikes(net, maps())[1])

    def test_not_with_neurons_of_another_class(self, pooled_calls):
        assert convolutional(kind=Mine)(maps()).count_nonzero() == 0
        assert pooled_calls == []

    def test_pictures_of_another_number_of_channels_are_refused_as_always(self, pooled_calls):
        with pytest.raises(ValueError, match="SingleSpike"):
            convolutional()(torch.zeros(3, 2, CHANNELS_OF_MAPS + 1, 4, 4))
        assert pooled_calls == []

    def test_a_sequence_that_is_held_is_no_picture(self, pooled_calls):
        """Each of its steps is held in turn; neurons and pooling are one all the same."""
        net = convolutional(hold=2)
        y = net(maps(steps=3))
        assert pooled_calls == [True]
        assert torch.equal(y, record_spikes(net, maps(steps=3))[1])
