"""Networks of first spikes: one spike at most of every neuron, whatever the choices, with random and with trained weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from rheobase import (
    Dropout,
    GrowingSteps,
    Hold,
    LeakyReadout,
    Sequential,
    SingleSpike,
    SpikeMaxPool2d,
    data,
    decoding,
    first_spike,
    fold,
    report,
)
from rheobase.data import EventDataset, Events, ImageDataset, Images, Splits
from rheobase.first_spike import LearnedWeights
from rheobase.health import Recorder, listening
from rheobase.layers import standardized
from rheobase.layers.standardized import free_weight
from rheobase.recipes import RECIPES, TimeToFirstSpike, find, from_config, ttfs
from rheobase.recipes.recipe import Recipe
from rheobase.recipes.ttfs import FASHION_MNIST, MNIST, MOST_SPIKES
from rheobase.stability import spike_moment
from rheobase.surrogate import Arctan, FastSigmoid, Triangular
from rheobase.training import Display, Result, RunFolder, Training, checkpoint, evaluate, fit
from training.tiny import Killed, Stop


def training(**changes: Any) -> Training:
    settings = {"epochs": 2, "batch_size": 16, "learning_rate": 3e-2, "weight_decay": 0.0, "threads": 1}
    return Training(**{**settings, **changes})


PERCEPTRON = TimeToFirstSpike(channels=(), hidden=(12, 10), steps=5, training=training())
CONVOLUTIONS = TimeToFirstSpike(channels=(3, 4), hidden=(8,), steps=5, training=training())
VGG = TimeToFirstSpike(task="cifar10", channels=(3, 4, 5), convolutions=2, hidden=(8,), steps=4, training=training())
GESTURES = TimeToFirstSpike(task="dvs128-gesture", channels=(2,) * 5, hidden=(8,), steps=6, training=training())
ALL = {
    "perceptron": PERCEPTRON,
    "perceptron, latency": replace(PERCEPTRON, encoding="latency"),
    "convolutions": CONVOLUTIONS,
    "convolutions, latency": replace(CONVOLUTIONS, encoding="latency"),
    "vgg": replace(VGG, initialization="measured"),
    "vgg, latency": replace(VGG, encoding="latency", initialization="measured"),
    "reduced": replace(VGG, convolutions=1, initialization="measured"),
    "gestures": replace(GESTURES, initialization="measured"),
}
SHIPPED = {name: entry.recipe for name, entry in RECIPES.items() if isinstance(entry.recipe, TimeToFirstSpike)}


def pictures(recipe: TimeToFirstSpike, count: int, seed: int) -> ImageDataset:
    """A bright half on one side or the other, in noise."""
    rng = np.random.default_rng(seed)
    channels, side = ttfs._SHAPES[recipe.task]
    pixels, labels = rng.integers(0, 80, (count, channels, side, side)), np.arange(count) % 10
    for picture, label in zip(pixels, labels, strict=True):
        picture[:, (label * side) // 10 : (label * side) // 10 + side // 5] += 150
    images = Images(pixels.astype(np.uint8), labels, tuple("0123456789"))
    steps = 1 if recipe.encoding == "direct" else recipe.steps
    return ImageDataset(images, steps=steps, encoding=recipe.encoding, flatten=not recipe.channels)


def events(recipe: TimeToFirstSpike, count: int, seed: int) -> EventDataset:
    """Events of the shape of DVS128 Gesture: 2 x 128 x 128 channels, some of them a single time and some often."""
    rng = np.random.default_rng(seed)
    each = 4_000
    times = np.sort(rng.random((count, each)) * recipe.seconds, axis=1).astype(np.float32).ravel()
    units = (rng.integers(0, 9_000, (count, each)) + 2_000 * (np.arange(count) % 11)[:, None]).ravel()
    recordings = Events(
        times,
        units,
        each * np.arange(count + 1),
        np.arange(count) % 11,
        2 * 128**2,
        data.gestures.GESTURES,
        sensor=(2, 128, 128),
    )
    return EventDataset(
        recordings, dt=recipe.seconds / recipe.steps, steps=recipe.steps, clip=1, flatten=not recipe.channels
    )


def splits(recipe: TimeToFirstSpike, count: int = 80, held_out: int = 22) -> Splits:
    make = events if recipe.task == "dvs128-gesture" else pictures
    return Splits(make(recipe, count, 0), make(recipe, held_out, 1), make(recipe, held_out, 2))


def inner(network: nn.Module) -> Sequential:
    found = network.network if isinstance(network, GrowingSteps) else network
    assert isinstance(found, Sequential)
    return found


def fires_once(network: nn.Module, x: Tensor) -> float:
    """Asserts that no neuron fires twice, in any layer, the output's included; the share of those that fire."""
    with listening(network) as spikes, torch.no_grad():
        output = network.eval()(x)
    counts = [layer.sum(0) for layer in spikes.values()]
    neurons = [module for module in network.modules() if isinstance(module, SingleSpike)]
    assert len(counts) == len(neurons) > 0
    for layer, count in zip(spikes.values(), counts, strict=True):
        assert ((layer == 0) | (layer == 1)).all()
        assert count.max() <= 1
    if not any(isinstance(module, LearnedWeights) for module in network.modules()):
        assert first_spike.spikes_of(output).sum(0).max() <= 1
    return torch.cat([count.flatten() for count in counts]).mean().item()


CHOICES: list[dict[str, Any]] = [
    {},
    {"decay": 0.8},
    {"surrogate": "fast sigmoid"},
    {"surrogate": "triangular", "width": 3.0},
    {"credit": "detached"},
    {"fire_by_end": True},
    {"initialization": "pytorch"},
    {"identity": 0.9, "width": 1.0},
    {"normalization": "layer"},
    {"normalization": "none"},
    {"affine": "membrane"},
    {"affine": "none"},
    {"pooling": "maximum"},
    {"decoder": "linear"},
    {"decoder": "learned"},
    {"decoder": "count"},
    {"decoder": "membrane"},
    {"error": "squared"},
    {"encoding": "latency"},
    {"grow": (2, 3)},
    {"dropout": 0.3, "shift": 1, "flip": True},
]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_one_spike_at_most_whatever_is_chosen(choice: dict[str, Any]) -> None:
    recipe = replace(PERCEPTRON if choice.get("affine") else CONVOLUTIONS, **choice)
    parts = splits(recipe, 40)
    x, _ = parts.test.batch(np.arange(22))
    random = recipe.seeded_network()
    recipe.prepare(random, parts)
    assert (fires_once(random, x) > 0.1) == (recipe.initialization != "pytorch")
    network, result = train(recipe, parts)
    fires_once(network, x)
    measures = result.summary["measures"]
    assert 0 <= measures["spikes / neuron"] <= 1
    assert measures[MOST_SPIKES] in (0, 1)
    assert 1 <= measures["steps / decision"] <= recipe.steps
    with torch.no_grad():
        assert torch.equal(fold(network)(x), network(x))


def train(recipe: TimeToFirstSpike, parts: Splits) -> tuple[nn.Module, Result]:
    """As `recipe.train`, which keeps the network to itself."""
    network = recipe.seeded_network()
    recipe.prepare(network, parts)
    rule = {"loss": recipe.loss, "decode": recipe.decode, "measure": recipe.measure}
    return network, fit(network, parts.train, parts.validation, parts.test, recipe.training, **rule, display=Display())


@pytest.mark.parametrize("name", ALL)
def test_one_spike_at_most_in_every_network(name: str) -> None:
    recipe = ALL[name]
    parts = splits(recipe, 11, 11)
    x, _ = parts.test.batch(np.arange(11))
    random = recipe.seeded_network()
    recipe.prepare(random, parts)
    assert fires_once(random, x) > 0.02  # most pixels of a camera have no event
    before = {name: value.clone() for name, value in random.named_parameters()}
    network, _ = train(replace(recipe, training=training(epochs=4, batch_size=3)), parts)  # 16 steps
    assert all(not torch.equal(value, before[name]) for name, value in network.named_parameters() if value.ndim > 1)
    fires_once(network, x)
    assert network(x).shape == (recipe.steps, 11, len(parts.test.classes))


@pytest.mark.parametrize("name", SHIPPED)
def test_one_spike_at_most_in_every_recipe_as_it_is(name: str) -> None:
    recipe = SHIPPED[name]
    parts = splits(recipe, 2, 2)
    network = recipe.seeded_network()
    recipe.prepare(network, parts)
    assert fires_once(network, parts.train.batch(np.arange(2))[0]) > 0.01


@pytest.mark.parametrize("name", SHIPPED)
def test_with_measured_variances_every_recipe_is_alive_in_every_layer(name: str) -> None:
    recipe = replace(SHIPPED[name], initialization="measured", dropout=0.0)
    assert recipe.initialization == SHIPPED[name].initialization or len(recipe.channels) * recipe.convolutions < 4
    parts = splits(recipe, 2, 2)
    network = recipe.seeded_network()
    recipe.prepare(network, parts)
    currents: list[float] = []
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    for layer in layers:
        layer.register_forward_hook(lambda _, __, current: currents.append(current.square().mean().item()))
    x, labels = parts.train.batch(np.arange(2))
    with Recorder(network) as recorder:
        loss = recipe.loss(network(x), labels)
    assert currents == pytest.approx([1.0] * len(layers), rel=0.01)
    assert all(recipe.steps * layer.rate > 0.05 for layer in recorder.layers())  # most pixels of a camera have no event
    weights = [free_weight(layer) for layer in layers]
    gradients = [gradient.norm().item() for gradient in torch.autograd.grad(loss, weights)]
    assert min(gradients) > 0
    assert max(gradients) < 100 * min(gradients)


@pytest.mark.parametrize("choice", [{}, {"decoder": "membrane", "scale": 1.0}, {"grow": (2,)}], ids=str)
def test_it_learns(choice: dict[str, Any]) -> None:
    recipe = replace(PERCEPTRON, hidden=(40, 40), training=training(epochs=6), **choice)
    result = recipe.train(splits(recipe, 200), display=Display())
    assert result.summary["test_accuracy"] > 0.8


def kinds(network: nn.Module) -> list[str]:
    return [type(layer).__name__.removeprefix("Parametrized") for layer in inner(network)]


class TestNetworks:
    def test_perceptron(self) -> None:
        network = replace(PERCEPTRON, hidden=(400, 400)).network()
        block = ["Linear", "SingleSpike", "Dropout"]
        assert kinds(network) == ["Linear", "Hold", *block[1:], *block, "Linear", "LeakyReadout"]
        sizes = [(layer.in_features, layer.out_features) for layer in inner(network) if isinstance(layer, nn.Linear)]
        assert sizes == [(784, 400), (400, 400), (400, 10)]
        assert all(layer.decay == 1 for layer in inner(network) if isinstance(layer, SingleSpike | LeakyReadout))

    def test_convolutions(self) -> None:
        network = CONVOLUTIONS.network()
        block = ["Conv2d", "SingleSpike", "AvgPool2d"]
        dense = ["Linear", "SingleSpike", "Dropout", "Linear", "LeakyReadout"]
        assert kinds(network) == ["Conv2d", "Hold", *block[1:], *block, "Flatten", *dense]

    def test_like_vgg(self) -> None:
        layers = kinds(find("ttfs-cifar10").recipe.network())
        assert (layers.count("Conv2d"), layers.count("AvgPool2d"), layers.count("Linear")) == (6, 3, 2)

    def test_gestures_begin_with_the_first_events(self) -> None:
        recipe = find("ttfs-gesture").recipe
        assert isinstance(recipe, TimeToFirstSpike)
        layers = inner(recipe.network())
        assert kinds(layers).count("Conv2d") == kinds(layers).count("AvgPool2d") == 5
        assert not [layer for layer in layers if isinstance(layer, Hold)]
        x = torch.zeros(4, 1, 2, 1, 1)
        x[1:, 0, 0] = 1
        assert layers[0](x)[:, 0, 0].flatten().tolist() == [0, 1, 0, 0]
        convolution = next(layer for layer in layers if isinstance(layer, nn.Conv2d))
        assert convolution.weight.shape == (128, 2, 3, 3)

    def test_the_first_layer_is_computed_once(self) -> None:
        network, samples = CONVOLUTIONS.network(), []
        inner(network)[0].register_forward_hook(lambda _, arguments, __: samples.append(len(arguments[0])))
        assert network(torch.rand(1, 7, 1, 28, 28)).shape == (5, 7, 10)
        assert samples == [7]

    def test_a_leak_is_in_all_neurons(self) -> None:
        layers = inner(replace(CONVOLUTIONS, decay=0.7).network())
        values = [float(layer.decay) for layer in layers if isinstance(layer, SingleSpike | LeakyReadout)]
        assert values == pytest.approx([0.7] * 4)

    def test_the_maximum_instead_of_the_average(self) -> None:
        layers = inner(replace(CONVOLUTIONS, pooling="maximum").network())
        assert len([layer for layer in layers if isinstance(layer, SpikeMaxPool2d)]) == 2
        assert "AvgPool2d" not in kinds(layers)

    @pytest.mark.parametrize(
        ("name", "kind"), [("arctan", Arctan), ("fast sigmoid", FastSigmoid), ("triangular", Triangular)]
    )
    def test_surrogates_have_the_peak_1_and_a_width(self, name: Any, kind: type) -> None:
        layers = inner(replace(PERCEPTRON, surrogate=name, width=3.0).network())
        (first, second) = (layer.surrogate for layer in layers if isinstance(layer, SingleSpike))
        assert first == second == kind(dampening=1.0, sharpness=1 / 3)

    def test_affine_maps(self) -> None:
        names = {}
        for affine in ("current", "membrane", "none"):
            network = replace(PERCEPTRON, affine=affine).network()
            names[affine] = {name.rpartition(".")[2] for name, _ in network.named_parameters()}
        assert names["current"] == {"original", "gain", "bias"}
        assert names["membrane"] == {"original", "gain", "raw_threshold", "bias"}
        assert names["none"] == {"original"}
        plain = replace(PERCEPTRON, normalization="none").network()
        assert {name.rpartition(".")[2] for name, _ in plain.named_parameters()} == {"weight", "bias"}

    def test_dropout_is_between_linear_layers(self) -> None:
        found = [layer.p for layer in inner(replace(PERCEPTRON, dropout=0.3).network()) if isinstance(layer, Dropout)]
        assert found == [0.3, 0.3]


class TestInitialization:
    def deviations(self, recipe: TimeToFirstSpike) -> list[float]:
        network, parts = recipe.seeded_network(), splits(recipe, 40)
        recipe.prepare(network, parts)
        weights = [layer.weight for layer in inner(network) if isinstance(layer, nn.Linear | nn.Conv2d)]
        return [weight.square().mean().sqrt().item() for weight in weights]

    @pytest.mark.parametrize("normalization", ["output", "layer", "none"])
    def test_by_the_steps(self, normalization: Any) -> None:
        recipe = replace(CONVOLUTIONS, channels=(16, 24), hidden=(30,), normalization=normalization)
        x, _ = splits(recipe, 40).train.batch(np.arange(40))
        moments = [x.square().mean().item(), spike_moment(5, 4), spike_moment(5, 4), 1 / 5]
        expected = [(moment * inputs) ** -0.5 for moment, inputs in zip(moments, (9, 144, 1176, 30), strict=True)]
        assert self.deviations(recipe) == pytest.approx(expected, rel=0.15)

    @pytest.mark.parametrize("normalization", ["output", "none"])
    def test_pytorch_s(self, normalization: Any) -> None:
        recipe = replace(PERCEPTRON, hidden=(60, 60), initialization="pytorch", normalization=normalization)
        expected = [(3 * inputs) ** -0.5 for inputs in (784, 60, 60)]
        assert self.deviations(recipe) == pytest.approx(expected, rel=0.05)

    def test_it_is_the_same_each_time(self) -> None:
        assert self.deviations(CONVOLUTIONS) == self.deviations(CONVOLUTIONS)
        other = replace(CONVOLUTIONS, normalization="none", training=training(seed=1))
        assert self.deviations(other) != self.deviations(replace(other, training=training(seed=0)))

    def test_growing_steps_begin_with_weights_for_the_last(self) -> None:
        growing = replace(CONVOLUTIONS, grow=(2,))
        assert self.deviations(growing) == self.deviations(CONVOLUTIONS)
        assert isinstance(growing.network(), GrowingSteps)


class TestOutput:
    membrane = torch.randn(5, 30, 10, generator=torch.Generator().manual_seed(0)) + 0.4
    labels = torch.arange(30) % 10

    def test_answers_are_first_spikes(self) -> None:
        for decoder in ("exponential", "linear"):
            recipe = replace(PERCEPTRON, decoder=decoder)
            assert torch.equal(recipe.decode(self.membrane).argmax(1), first_spike.decide(self.membrane).predictions)

    def test_exponential(self) -> None:
        recipe = replace(PERCEPTRON, base=2.0, scale=7.0)
        logits = 7 * first_spike.weighted(first_spike.spikes_of(self.membrane), first_spike.exponential(5, 2.0))
        torch.testing.assert_close(
            recipe.loss(self.membrane, self.labels), functional.cross_entropy(logits, self.labels)
        )

    def test_squared_error(self) -> None:
        recipe = replace(PERCEPTRON, decoder="linear", error="squared")
        decoded = first_spike.weighted(first_spike.spikes_of(self.membrane), first_spike.linear(5))
        expected = (decoded - torch.eye(10)[self.labels]).square().sum(1).mean()
        torch.testing.assert_close(recipe.loss(self.membrane, self.labels), expected)

    def test_membrane(self) -> None:
        recipe = replace(PERCEPTRON, decoder="membrane", scale=2.0)
        assert torch.equal(recipe.decode(self.membrane), decoding.mean(self.membrane))
        expected = functional.cross_entropy(2 * self.membrane.mean(0), self.labels)
        torch.testing.assert_close(recipe.loss(self.membrane, self.labels), expected)

    def test_a_count_decides_by_the_potential_among_equals(self) -> None:
        recipe = replace(PERCEPTRON, decoder="count")
        fired = first_spike.spikes_of(self.membrane).sum(0)
        candidates = torch.where(fired == fired.amax(1, keepdim=True), self.membrane[-1], -torch.inf)
        assert torch.equal(recipe.decode(self.membrane).argmax(1), candidates.argmax(1))

    def test_learned_weights_are_in_the_network(self) -> None:
        network = replace(PERCEPTRON, decoder="learned", scale=3.0).network()
        last = inner(network)[-1]
        assert isinstance(last, LearnedWeights)
        assert (last.scale, len(last.weights)) == (3.0, 5)


def test_measures() -> None:
    recipe = PERCEPTRON
    parts = splits(recipe)
    network = recipe.seeded_network().eval()
    recipe.prepare(network, parts)
    x, _ = parts.test.batch(np.arange(22))
    found = first_spike.decide(network(x))
    with listening(network) as spikes:
        network(x)
    measures = recipe.measure(network, parts.test)
    assert measures["steps / decision"] == pytest.approx((found.steps + 1).clamp(max=5).float().mean().item())
    assert measures["undecided, %"] == pytest.approx(100 * (found.steps == 5).float().mean().item())
    each = torch.cat([layer.sum(0) for layer in spikes.values()], dim=1)
    assert measures["spikes / neuron"] == pytest.approx(each.mean().item())
    assert measures[MOST_SPIKES] == 1
    waiting = replace(recipe, decoder="membrane").measure(network, parts.test)
    assert (waiting["steps / decision"], waiting["undecided, %"]) == (5, 0)


def test_a_neuron_that_fires_twice_is_told_of() -> None:
    """It may be one of many, on one sample of another batch than the last, in any layer; the mean says nothing of it."""
    recipe = replace(PERCEPTRON, training=training(batch_size=5))
    parts = splits(recipe)
    network = recipe.seeded_network().eval()
    recipe.prepare(network, parts)
    first = next(layer for layer in network.modules() if isinstance(layer, SingleSpike))
    calls: list[int] = []

    def fires_often(*arguments: Any) -> Tensor:
        calls.append(1)
        spikes = arguments[-1].clone()
        if len(calls) == 1:
            spikes[:3, 2, 4] = 1
            spikes[3:, 2, 4] = 0
        return spikes

    first.register_forward_hook(fires_often)
    measures = recipe.measure(network, parts.test)
    assert len(calls) == 3
    assert measures["spikes / neuron"] < 1
    assert measures[MOST_SPIKES] == 3


def test_measures_in_bfloat16_are_of_the_network_in_bfloat16() -> None:
    recipe = replace(PERCEPTRON, training=training(precision="bfloat16"))
    parts = splits(recipe)
    network, result = train(recipe, parts)
    with torch.autocast("cpu", torch.bfloat16):
        measures = recipe.measure(network, parts.test)
        output = network(parts.test.batch(np.arange(22))[0])
    assert result.summary["measures"] == measures
    found = first_spike.decide(output.float())
    assert measures["steps / decision"] == pytest.approx(found.latency(len(output)).float().mean().item())


class TestData:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def images(count: int, *shape: int) -> Images:
            return Images(
                np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.uint8), np.arange(count) % 10
            )

        for name in ("mnist", "fashion_mnist"):
            monkeypatch.setattr(ttfs, name, lambda *_, **__: (images(100, 28, 28), images(20, 28, 28)))

        def colours(*_: Any, test_samples: int, **__: Any) -> tuple[Images, Images]:
            return images(50_000, 3, 1, 1), images(test_samples, 3, 1, 1)

        monkeypatch.setattr(ttfs, "cifar10", colours)

    def test_direct_pictures_have_one_step(self) -> None:
        parts = replace(CONVOLUTIONS, shift=2, flip=True).splits()
        assert (len(parts.train), len(parts.validation), len(parts.test)) == (90, 10, 20)
        assert (parts.train.steps, parts.train.features) == (1, (1, 28, 28))
        assert isinstance(parts.train, ImageDataset)
        assert [str(change) for change in parts.train.augment] == ["ShiftPixels(max=2)", "Flip(probability=0.5)"]
        assert isinstance(parts.test, ImageDataset)
        assert parts.test.augment == ()
        assert replace(PERCEPTRON, task="mnist").splits().train.features == (784,)

    def test_latency_has_all_steps(self) -> None:
        train = replace(PERCEPTRON, encoding="latency").splits().train
        assert train.steps == 5
        assert train.batch(np.arange(9))[0].sum(0).max() == 1

    def test_cifar10_holds_a_batch_out(self) -> None:
        parts = VGG.splits()
        assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [36_000, 4_000, 10_000]
        assert {name: len(part) for name, part in parts.also_test.items()} == {
            "first 1,000 official test images": 1_000
        }
        assert isinstance(parts.test, ImageDataset)
        assert parts.test.chosen.min() == 40_000
        official = replace(VGG, official_test=10_000).splits()
        assert [len(part) for part in (official.train, official.validation, official.test)] == [45_000, 5_000, 10_000]
        assert official.also_test == {}

    def test_fewer_samples(self) -> None:
        first, second = (
            replace(CONVOLUTIONS, samples=30, training=training(seed=seed)).splits().train for seed in (0, 1)
        )
        assert len(first) == 30
        assert first.fingerprint() == second.fingerprint()
        with pytest.raises(ValueError, match="samples must be from 1 to 89, or None for all, got 90"):
            replace(CONVOLUTIONS, samples=90).splits()

    def test_gestures_are_binned_into_the_steps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        recorded = events(GESTURES, 44, 0).events
        monkeypatch.setattr(ttfs, "dvs128_gesture", lambda *_, **__: (recorded, recorded))
        parts = GESTURES.splits()
        assert (parts.train.steps, parts.train.features) == (6, (2, 128, 128))
        assert isinstance(parts.train, EventDataset)
        assert (parts.train.dt, parts.train.clip) == (pytest.approx(0.25), 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"convolutions": 0}, "convolutions must be at least 1, got 0"),
        ({"shift": -1}, "shift must be at least 0, got -1"),
        ({"width": 0.0}, "width must be above 0 and finite, got 0"),
        ({"scale": float("inf")}, "scale must be above 0 and finite, got inf"),
        ({"channels": (3, 0)}, "at least 1 neuron"),
        ({"base": 0.5}, "base must be at least 1 and finite, got 0.5"),
        ({"grow": (4,)}, r"grow must ascend from at least 1 to below steps, 4, got \(4,\)"),
        ({"grow": (2, 1)}, "grow must ascend"),
        ({"task": "dvs128-gesture", "encoding": "latency"}, "encoding 'latency' is for pictures"),
        ({"task": "dvs128-gesture", "flip": True}, "shift and flip are for pictures"),
        ({"channels": (), "convolutions": 2}, "convolutions is for networks with channels"),
        ({"channels": (), "pooling": "maximum"}, "pooling is for networks with channels"),
        ({"identity": 0.5, "initialization": "pytorch"}, "identity goes with the other initializations"),
        ({"grow": (2,), "encoding": "latency"}, "grow needs direct input"),
        ({"grow": (2,), "task": "dvs128-gesture"}, "grow needs direct input"),
        ({"affine": "membrane", "normalization": "none"}, "affine 'membrane' goes with normalization"),
        ({"error": "squared", "decoder": "learned"}, "error 'squared' goes with decoders .*, got decoder 'learned'"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TimeToFirstSpike(**changes)


def test_a_run_folder_is_evaluated_and_resumed(tmp_path: Path) -> None:
    recipe = replace(PERCEPTRON, grow=(2,))
    parts = splits(recipe)
    about = {"recipe": "ttfs"}
    recipe.train(parts, run=tmp_path / "run", about=about, display=Display())
    with pytest.raises(Killed):
        recipe.train(parts, run=tmp_path / "part", about=about, display=Stop(epoch=1))
    recipe.train(parts, run=tmp_path / "part", resume=True, about=about, display=Display())
    whole, part = (recipe.seeded_network() for _ in range(2))
    for name, found in (("run", whole), ("part", part)):
        checkpoint.load(tmp_path / name / "best.safetensors", found)
    assert all(torch.equal(value, part.state_dict()[name]) for name, value in whole.state_dict().items())
    network = recipe.seeded_network()
    folder = RunFolder(tmp_path / "run")
    assert from_config(folder.config) == recipe
    checkpoint.load(folder.best, network)
    seen = evaluate(network, parts.test, decode=recipe.decode)
    assert folder.summary is not None
    assert seen.accuracy == folder.summary["test_accuracy"]
    assert "</html>" in report.write_report(tmp_path / "run").read_text(encoding="utf-8")


def test_recipes_are_offered() -> None:
    names = [name for name, entry in RECIPES.items() if isinstance(entry.recipe, TimeToFirstSpike)]
    assert names == ["ttfs", "ttfs-mnist", "ttfs-mlp", "ttfs-cifar10-reduced", "ttfs-cifar10", "ttfs-gesture"]
    assert isinstance(find("ttfs").recipe, Recipe)
    assert (find("ttfs").recipe, find("ttfs-mnist").recipe) == (FASHION_MNIST, MNIST)
    assert (FASHION_MNIST.flip, MNIST.flip) == (True, False)
    assert all("to reach" in entry.aim for entry in RECIPES.values() if "published" in entry.aim)
    assert standardized(inner(find("ttfs").recipe.network())[0]) is not None
