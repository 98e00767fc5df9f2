"""Networks that fail on purpose: each is named correctly, and a healthy one has no finding."""

import copy
import json
import math

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune

import rheobase as rb
from diagnosis.patients import CLASSES, HIDDEN, INPUTS, labels, linears, network, spikes, with_bias
from rheobase.diagnosis import Diagnosis, doctor
from rheobase.diagnosis.finding import RAISE

LAYERS = {
    "LIF": {"make": rb.LIF},
    "SynapticLIF": {"make": rb.SynapticLIF, "gain": 0.4},
    "RecurrentLIF": {"make": rb.RecurrentLIF},
    "AdaptiveLIF": {"make": rb.AdaptiveLIF, "refractory": 2},
    "RecurrentAdaptiveLIF": {"make": rb.RecurrentAdaptiveLIF},
    "Rouser": {"make": rb.Rouser, "gain": 0.3},
    "SingleSpike": {"make": rb.SingleSpike},
}


def kinds(diagnosis: Diagnosis) -> list[tuple[str, str | None]]:
    """What was found, and where."""
    return [(finding.kind, finding.layer) for finding in diagnosis.findings]


# Health


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("known", [True, False])
def test_a_healthy_network_has_no_finding(layer: str, known: bool) -> None:
    diagnosis = doctor(network(**LAYERS[layer]), spikes(), labels() if known else None)
    assert diagnosis.healthy, str(diagnosis)
    assert "Nothing is wrong" in str(diagnosis)


def test_a_healthy_network_of_convolutions() -> None:
    torch.manual_seed(0)
    net = rb.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), rb.LIF(8), nn.Conv2d(8, 8, 3, stride=3), rb.LIF(8), nn.Flatten(),
        nn.Linear(32, CLASSES), rb.LeakyReadout(CLASSES),
    )  # fmt: skip
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.normal_(0, 3 / math.sqrt(module.weight[0].numel()))
                module.bias.zero_()
    x = (torch.rand(30, 8, 1, 8, 8) < 0.2).float()
    diagnosis = doctor(net, x, labels(8))
    assert diagnosis.healthy, str(diagnosis)
    first, second = diagnosis.measures.layers
    assert (first.neurons, second.neurons) == (8 * 64, 8 * 4)
    assert first.gain == pytest.approx(first.expected_gain, rel=0.5)


# Failures


def test_dead() -> None:
    diagnosis = doctor(with_bias(1, -2.0), spikes(), labels())
    assert kinds(diagnosis) == [("dead", "3 LIF(50)")]
    assert "of its neurons are dead: no sample makes them fire" in diagnosis.findings[0].what
    assert diagnosis.findings[0].remedy == f"rb.stabilize(network, batch){RAISE}"  # for some of them fire


@pytest.mark.parametrize("held", [1, 12], ids=["spikes", "held"])
def test_silent_neurons_that_fire_once(held: int) -> None:
    net = network(gain=0.05, make=rb.SingleSpike)
    batch = spikes(steps=12, rate=0.3)
    if held > 1:  # the batch has one step, the neurons have more
        net, batch = rb.Sequential(rb.Hold(held), *net), batch[:1]
    diagnosis = doctor(net, batch, labels())
    assert {kind for kind, _ in kinds(diagnosis)} == {"dead", "threshold out of reach"}
    for finding in diagnosis.findings:
        assert finding.remedy.startswith(
            "rb.initialize_single_spike(network, steps=12, batch=batch), which redraws all "
        )


def test_thresholds_out_of_reach() -> None:
    diagnosis = doctor(network(threshold=40.0), spikes(), labels())
    # The second layer hears nothing: it is not to blame.
    assert kinds(diagnosis) == [("dead", "1 LIF(50)"), ("threshold out of reach", "1 LIF(50)")]
    assert "its threshold of 40 is out of reach" in diagnosis.findings[1].what
    assert "times as large" in diagnosis.findings[1].remedy


def test_saturated() -> None:
    diagnosis = doctor(with_bias(0, 5.0), spikes(), labels())
    assert kinds(diagnosis)[0] == ("saturated", "1 LIF(50)")
    assert "all of its neurons are saturated" in diagnosis.findings[0].what
    assert "RateBounds(upper=" in diagnosis.findings[0].remedy


def test_exploding_through_depth() -> None:
    net = network(depth=6, surrogate=rb.surrogate.FastSigmoid(dampening=3.0))
    diagnosis = doctor(net, spikes(), labels())
    assert [kind for kind, _ in kinds(diagnosis)] == ["exploding through depth"]
    assert "the gradient in 1 LIF(50) is " in diagnosis.findings[0].what


def test_vanishing_through_depth() -> None:
    net = network(depth=6, surrogate=rb.surrogate.FastSigmoid(dampening=0.05))
    diagnosis = doctor(net, spikes(), labels())
    assert [kind for kind, _ in kinds(diagnosis)] == ["vanishing through depth"]
    assert "times smaller than that in 11 LIF(50)" in diagnosis.findings[0].what


def test_the_layer_where_the_gradient_vanishes_is_named() -> None:
    net = network(depth=4)
    net[5].surrogate = rb.surrogate.FastSigmoid(dampening=1e-5)
    assert kinds(doctor(net, spikes(), labels())) == [("vanishing through depth", "5 LIF(50)")]


def test_a_gradient_that_ends_in_a_layer() -> None:
    class Wall(rb.surrogate.FastSigmoid):
        def shape(self, u: Tensor) -> Tensor:
            return torch.zeros_like(u)

    net = network(depth=4)
    net[3].surrogate = Wall()
    found = doctor(net, spikes(), labels()).findings
    assert [finding.kind for finding in found] == ["surrogate too narrow", "vanishing through depth"]
    assert {finding.layer for finding in found} == {"3 LIF(50)"}
    assert "the gradient in 1 LIF(50) is 0, unlike that in 7 LIF(50)" in found[1].what


class Comparing(rb.Neuron):
    """Neurons whose author forgot the surrogate."""

    def __init__(self, features: int) -> None:
        super().__init__(features, (), learnable=())

    def run(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        spikes, v = [], torch.zeros_like(x[0])
        for current in x.unbind():
            v = 0.9 * v + current
            spikes.append((v > 1).float())
            v = v - spikes[-1]
        return torch.stack(spikes), v


@pytest.mark.parametrize("position", [1, 5])
def test_spikes_without_a_gradient(position: int) -> None:
    net = network(depth=3)
    net[position] = Comparing(HIDDEN)
    found = doctor(net, spikes(), labels()).findings
    assert [(finding.kind, finding.layer) for finding in found if finding.kind not in ("dead", "saturated")] == [
        ("no gradient", f"{position} Comparing(50)")
    ]
    assert "self.surrogate.spike" in found[-1].remedy


def test_nothing_to_learn() -> None:
    net = network().requires_grad_(False)
    assert kinds(doctor(net, spikes(), labels())) == [("nothing to learn", None)]
    net[0].bias.requires_grad_(True)
    assert kinds(doctor(net, spikes(), labels())) == []


def test_a_pruned_network() -> None:
    net = network()
    prune.l1_unstructured(net[2], "weight", amount=0.3)
    net(spikes())
    pruned = net[2].weight
    diagnosis = doctor(net, spikes(), labels())
    assert diagnosis.healthy, str(diagnosis)
    assert net[2].weight is pruned


@pytest.mark.parametrize("position", [1, 3])
def test_exploding_through_time(position: int) -> None:
    net = network(make=rb.RecurrentLIF)
    net[position].surrogate = rb.surrogate.FastSigmoid(dampening=10.0)
    diagnosis = doctor(net, spikes(), labels())
    # It explodes in this layer: another one in front of it, whose gradient is as large, is not to blame.
    assert ("exploding through time", f"{position} RecurrentLIF(50)") in kinds(diagnosis)
    assert sum(kind == "exploding through time" for kind, _ in kinds(diagnosis)) == 1
    assert "detach_recurrent=True" in diagnosis.findings[0].remedy


def test_a_gradient_that_overflows_explodes() -> None:
    net = network(make=rb.RecurrentLIF, surrogate=rb.surrogate.FastSigmoid(dampening=50.0))
    diagnosis = doctor(net, spikes(100), labels())
    assert not diagnosis.measures.finite
    assert {kind for kind, _ in kinds(diagnosis)} == {"exploding through time"}
    assert "overflows" in diagnosis.findings[0].what


def test_vanishing_through_time() -> None:
    diagnosis = doctor(network(decay=0.3, readout_decay=0.3), spikes(400), labels())
    assert kinds(diagnosis) == [("vanishing through time", None)]
    assert "the decays are too small" in diagnosis.findings[0].what
    assert "decay=0.988" in diagnosis.findings[0].remedy
    assert doctor(network(decay=0.3, readout_decay=0.99), spikes(400), labels()).healthy  # the readout remembers
    assert doctor(network(decay=0.3, readout_decay=0.3), spikes(30), labels()).healthy  # long enough for that


@pytest.mark.parametrize(
    ("steps", "options", "kind"),
    [
        (60, {"make": rb.RecurrentLIF, "surrogate": rb.surrogate.FastSigmoid(dampening=5.0)}, "exploding through time"),
        (200, {"decay": 0.3, "readout_decay": 0.3}, "vanishing through time"),
    ],
    ids=["exploding", "vanishing"],
)
def test_steps_are_those_of_the_layer(steps: int, options: dict, kind: str) -> None:
    net, x = network(**options), spikes(1, rate=0.3)
    held, repeated = doctor(rb.Sequential(*net[:1], rb.Hold(steps), *net[1:]), x), doctor(net, x.expand(steps, -1, -1))
    assert kind in [finding.kind for finding in repeated.findings]
    assert [finding.kind for finding in held.findings] == [finding.kind for finding in repeated.findings]
    assert [layer.steps for layer in held.measures.layers] == [steps, steps]
    assert held.measures.steps == 1


def test_one_step_has_nothing_to_remember() -> None:
    forgetful = network(decay=0.3, readout_decay=0.3)
    assert ("vanishing through time", None) not in kinds(doctor(forgetful, spikes(1, rate=0.5), labels()))
    # Of layers in front of a `Hold` and behind it, the first that can remember anything is looked at.
    encoder = rb.Sequential(nn.Linear(INPUTS, INPUTS), rb.LIF(INPUTS, threshold=0.1))
    diagnosis = doctor(rb.Sequential(*encoder, rb.Hold(200), *forgetful), spikes(1, rate=0.5), labels())
    assert [layer.steps for layer in diagnosis.measures.layers] == [1, 200, 200]
    assert ("vanishing through time", None) in kinds(diagnosis)


def test_a_loss_that_looks_at_the_end_alone() -> None:
    at_the_end = lambda output, labels: functional.cross_entropy(rb.decoding.last(output), labels)  # noqa: E731
    diagnosis = doctor(network(), spikes(200), labels(), at_the_end)
    assert kinds(diagnosis) == [("vanishing through time", None)]
    assert "the loss hardly depends on the first third of the 200 steps" in diagnosis.findings[0].what


def test_surrogates_too_narrow() -> None:
    diagnosis = doctor(network(surrogate=rb.surrogate.Triangular(sharpness=300.0)), spikes(), labels())
    assert kinds(diagnosis) == [("surrogate too narrow", "1 LIF(50)"), ("surrogate too narrow", "3 LIF(50)")]


@pytest.mark.parametrize("how", ["weights of 0", "detached", "not used"])
def test_a_readout_that_ignores_its_input(how: str) -> None:
    class Detached(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach() if how == "detached" else x * 0

    net = network()
    if how == "weights of 0":
        nn.init.zeros_(linears(net)[-1].weight)
    else:
        net = rb.Sequential(*net[:4], Detached(), *net[4:])
    assert kinds(doctor(net, spikes(), labels())) == [("readout ignores its input", "3 LIF(50)")]


# Data


def test_batch_first_by_its_labels() -> None:
    diagnosis = doctor(network(), spikes().transpose(0, 1).contiguous(), labels())
    assert ("wrong time axis", None) in kinds(diagnosis)
    assert "there are 16 labels: it is batch-first" in diagnosis.findings[0].what
    assert diagnosis.findings[0].remedy == "time comes first: batch.transpose(0, 1).contiguous()"


def speech() -> Tensor:
    data = rb.data.EventDataset(rb.data.spoken_digits()[0], dt=0.02, steps=40)
    return data.batch(torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:24].numpy())[0]


def test_batch_first_by_what_it_looks_like() -> None:
    net = rb.Sequential(nn.Linear(140, HIDDEN), rb.LIF(HIDDEN))
    nn.init.normal_(net[0].weight, 0, 0.1)
    wrong, right = doctor(net, speech().transpose(0, 1).contiguous()), doctor(net, speech())
    assert ("wrong time axis", None) in kinds(wrong)
    assert "it looks batch-first" in wrong.findings[0].what
    assert ("wrong time axis", None) not in kinds(right)


def test_layers_that_nobody_calls() -> None:
    class Streaming(rb.Temporal):
        def __init__(self) -> None:
            super().__init__()
            self.inner = rb.LIF(50)

        def run(self, x: Tensor, state: object = None) -> tuple[Tensor, object]:
            return self.inner.run(x, state)  # pyright: ignore[reportArgumentType]

    diagnosis = doctor(rb.Sequential(*list(network())[:2], Streaming(), *list(network())[2:]), spikes())
    assert kinds(diagnosis)[0] == ("not seen", None)
    assert "2.inner LIF(50) did not run in a call" in str(diagnosis.findings[0])
    assert not diagnosis.healthy


def test_input_of_zeros() -> None:
    diagnosis = doctor(network(), torch.zeros(20, 4, INPUTS), labels(4))
    assert kinds(diagnosis) == [("input is zero", None)]


def test_input_too_large() -> None:
    diagnosis = doctor(network(), 255 * spikes(), labels())
    assert kinds(diagnosis)[0] == ("input is too large", None)
    assert diagnosis.findings[0].remedy == "divide it: batch / 255"
    assert all(kind != "surrogate too narrow" for kind, _ in kinds(diagnosis))
    normalized = rb.Sequential(network()[0], nn.BatchNorm1d(HIDDEN), *network()[1:])
    assert doctor(normalized, 255 * spikes(), labels()).healthy  # any size will do


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_input_that_is_not_finite(value: float) -> None:
    x = spikes()
    x[3, 2, :7] = value
    diagnosis = doctor(network(), x, labels())
    assert kinds(diagnosis) == [("not finite", None)]
    assert diagnosis.findings[0].what == "the batch holds 7 values that are not finite"
    assert diagnosis.measures is None
    assert json.loads(json.dumps(diagnosis.as_dict(), allow_nan=False))["measures"] is None


def test_weights_that_are_not_finite() -> None:
    net = network()
    with torch.no_grad():
        linears(net)[1].weight[3, 4] = math.nan
    diagnosis = doctor(net, spikes(), labels())
    assert kinds(diagnosis) == [("not finite", None)]
    assert diagnosis.findings[0].what.startswith("layer 2 (Linear): 1 values of its weight are not finite")
    json.dumps(diagnosis.as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("given", "what", "remedy"),
    [
        (labels() + 1, "the labels go from 1 to 5, and the network's output has 5 classes, 0 to 4", "labels - 1"),
        (labels() + 2, "the labels go from 2 to 6", "an output of 7 units"),
        (labels()[:-1], r"the labels are (15,), of 16 samples", "one label per sample, (B,)"),
        (labels().float(), "the labels are torch.float32, where classes are whole numbers", "labels.long()"),
        (functional.one_hot(labels()), "the labels are (16, 5), not one class per sample", "labels.argmax(1), if one-hot"),
        (torch.tensor(1), "the labels are (), of 16 samples", "one label per sample, (B,)"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit(given: Tensor, what: str, remedy: str) -> None:
    diagnosis = doctor(network(), spikes(), given)
    assert kinds(diagnosis) == [("labels do not fit", None)]
    assert diagnosis.findings[0].what.startswith(what)
    assert diagnosis.findings[0].remedy == remedy


def test_a_loss_of_its_own_may_have_other_targets() -> None:
    targets = torch.rand(16, CLASSES)
    mse = lambda output, targets: functional.mse_loss(output.mean(0), targets)  # noqa: E731
    assert doctor(network(), spikes(), targets, mse).healthy
    assert kinds(doctor(network(), spikes(), targets[:3], mse)) == [("labels do not fit", None)]


# What the doctor leaves behind


def test_the_network_is_left_as_it_was() -> None:
    net = rb.Sequential(*network()[:2], nn.BatchNorm1d(HIDDEN), rb.Dropout(0.5), *network()[2:]).eval()
    net(spikes()).sum().backward()
    before = copy.deepcopy(net.state_dict())
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    generator = torch.get_rng_state()
    first, second = doctor(net, spikes(), labels()), doctor(net, spikes(), labels())
    assert first.as_dict() == second.as_dict()
    assert not net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), generator)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_in_evaluation_without_gradients_it_is_the_same() -> None:
    expected = doctor(network(), spikes(), labels()).as_dict()
    with torch.no_grad():
        assert doctor(network(), spikes(), labels()).as_dict() == expected
    frozen = network()
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    assert doctor(frozen, spikes(), labels()).measures.layers[0].error == expected["measures"]["layers"][0]["error"]


def test_layers_that_are_recomputed_are_seen() -> None:
    plain, wrapped = (doctor(net, spikes(), labels()) for net in (network(), rb.Recompute(network(), steps=7)))
    assert [layer.name for layer in wrapped.measures.layers] == ["layer.1 LIF(50)", "layer.3 LIF(50)"]
    for one, other in zip(plain.measures.layers, wrapped.measures.layers, strict=True):
        assert one.gradient == pytest.approx(other.gradient, rel=1e-5)


# What it says


def test_all_of_it_is_json() -> None:
    values = json.loads(json.dumps(doctor(network(threshold=40.0), spikes(), labels()).as_dict(), allow_nan=False))
    assert values["healthy"] is False
    assert values["findings"][0].keys() == {"kind", "layer", "what", "remedy"}
    assert values["measures"]["steps"] == 60
    layer = values["measures"]["layers"][0]
    assert layer["dead"] == 1
    assert layer["membrane"]["threshold"] == 40
    assert layer["membrane"].keys() == {"threshold", "drive", "mean", "std", "top", "within_reach", "slope"}


def test_what_is_printed() -> None:
    text = str(doctor(network(threshold=40.0), spikes(), labels()))
    assert text.startswith("Sequential on T = 60 steps, B = 16 samples, 40 inputs: spikes, ")
    assert "1 LIF(50)  0.0%  100%         0%  " in text
    assert "1. dead\n   1 LIF(50): all of its neurons are dead" in text
    assert "   remedy: rb.stabilize(network, batch)" in text
    assert all(line == line.rstrip() for line in text.splitlines())
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(doctor(network(), spikes()))
    assert max(map(len, captured.get().splitlines())) <= 80
    assert "…" not in captured.get()


def test_analog_input_is_described() -> None:
    title = doctor(network(), torch.rand(20, 4, INPUTS) - 0.5).title
    assert title.startswith("Sequential on T = 20 steps, B = 4 samples, 40 inputs: values from -0.")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((spikes().long(),), TypeError, "doctor.batch|floating|Float"),
        ((torch.zeros(0, 3, INPUTS),), ValueError, r"doctor: batch must hold samples, got shape \(0, 3, 40\)"),
        ((spikes(), None, functional.cross_entropy), ValueError, "doctor: a loss needs labels, got None"),
        ((torch.ones(5, 3, 7),), RuntimeError, "Sequential: layer 0, .*, failed on steps of shape"),
    ],
)
def test_a_slip(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        doctor(network(), *arguments)


def test_networks_that_there_is_nothing_to_say_about() -> None:
    with pytest.raises(ValueError, match="none ran in this Linear"):
        doctor(nn.Linear(INPUTS, 3), spikes())

    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, None]:
            return rb.LIF()(x), None

    with pytest.raises(TypeError, match=r"network must return a tensor, \(T, B, \*out\), got a tuple"):
        doctor(Pair(), spikes())


def test_one_sample_and_one_step() -> None:
    for x in (spikes(1, 16), spikes(60, 1), spikes(2, 2)):
        json.dumps(doctor(network(), x).as_dict(), allow_nan=False)


def test_classes_at_every_step_of_a_held_picture():
    torch.manual_seed(0)
    held = rb.Sequential(nn.Linear(6, 20), rb.Hold(5), rb.LIF(20), nn.Linear(20, 3), rb.LeakyReadout(3))
    x, classes = torch.rand(1, 8, 6) * 3, torch.randint(0, 3, (5, 8))
    diagnosis = doctor(held, x, classes)
    assert all(finding.kind != "labels do not fit" for finding in diagnosis.findings)
    assert diagnosis.measures is not None
    assert diagnosis.measures.loss == pytest.approx(rb.losses.cross_entropy_per_step(held(x), classes).item(), rel=1e-5)
