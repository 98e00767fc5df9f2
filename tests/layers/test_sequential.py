import copy
import io
import itertools
import pickle
import re
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import rheobase as rb
from rheobase import LIF, Dropout, LeakyReadout, Sequential


def dense():
    torch.manual_seed(0)
    return Sequential(
        nn.Linear(6, 8),
        LIF(8, decay=0.8, threshold=0.4, learn=("decay",)),
        nn.Dropout(0.5),
        Dropout(0.5),
        Sequential(nn.Linear(8, 5, bias=False), LIF(reset="zero", threshold=0.2)),
        nn.Linear(5, 2),
        LeakyReadout(2, decay=0.95),
    ).eval()


def convolutional():
    torch.manual_seed(1)
    layers = (
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 3),
    )
    layers[1].running_mean.uniform_(-1, 1)
    layers[1].running_var.uniform_(0.5, 2)
    return Sequential(*layers).eval()


@pytest.mark.parametrize("batch_first", [False, True])
def test_folding_equals_a_loop_over_time(batch_first):
    network = convolutional()
    x = torch.randn(4, 5, 2, 6, 6).transpose(0, 1) if batch_first else torch.randn(5, 4, 2, 6, 6)
    loop = []
    for step in x:
        for layer in network:
            step = layer(step)
        loop.append(step)
    torch.testing.assert_close(network(x), torch.stack(loop))
    assert network(x).shape == (5, 4, 3)


def test_folding_with_neurons_equals_a_loop_over_time():
    network, x = dense(), torch.randn(9, 3, 6)
    steps, states = [], [None] * 7
    for step in x:
        y = step.unsqueeze(0)
        for position, layer in enumerate(network):
            if hasattr(layer, "run"):
                y, states[position] = layer.run(y, states[position])
            else:
                y = layer(y.squeeze(0)).unsqueeze(0)
        steps.append(y)
    torch.testing.assert_close(network(x), torch.cat(steps))


def test_batch_statistics_are_taken_over_time_and_batch():
    norm = nn.BatchNorm1d(3)
    x = torch.randn(4, 5, 3)
    expected = (x - x.mean((0, 1))) / (x.var((0, 1), unbiased=False) + norm.eps).sqrt()
    torch.testing.assert_close(Sequential(norm)(x), expected)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 14), max_size=5), st.integers(0, 1000))
def test_cut_anywhere_is_the_whole(cuts, seed):
    # A matrix product may round otherwise when it has other rows; sums of few multiples of 1/4 are exact in any order.
    network = dense()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "raw" not in name:
                parameter.copy_((4 * parameter).round() / 4)
    x = torch.randint(-4, 5, (14, 2, 6), generator=torch.Generator().manual_seed(seed)) / 4
    whole, last = network.run(x)
    state, pieces = None, []
    for start, stop in itertools.pairwise([0, *sorted(cuts), 14]):
        piece, state = network.run(x[start:stop], state)
        pieces.append(piece)
    assert torch.equal(torch.cat(pieces), whole)
    assert all(map(torch.equal, flat(state), flat(last)))
    assert torch.equal(network(x), whole)


def flat(state):
    for entry in state:
        if isinstance(entry, list):
            yield from flat(entry)
        elif entry is not None:
            yield entry


def test_nothing_is_remembered_between_calls():
    network, x = dense(), torch.randn(5, 2, 6)
    first = network(x)
    network(torch.randn(3, 7, 6))
    network.run(torch.randn(4, 1, 6))
    assert torch.equal(network(x), first)


def test_a_state_that_was_passed_is_left_alone():
    network, x = dense(), torch.randn(5, 2, 6)
    _, state = network.run(x)
    before = [entry.clone() for entry in flat(state)]
    first, _ = network.run(x, state)
    assert all(map(torch.equal, flat(state), before))
    assert torch.equal(network.run(x, state)[0], first)


@pytest.mark.parametrize(("steps", "batch"), [(0, 3), (4, 0), (0, 0)])
def test_empty_sequences(steps, batch):
    assert dense()(torch.zeros(steps, batch, 6)).shape == (steps, batch, 2)
    assert convolutional()(torch.zeros(steps, batch, 2, 6, 6)).shape == (steps, batch, 3)


def test_an_empty_network_is_the_identity():
    x = torch.rand(3, 2, 1)
    assert torch.equal(Sequential()(x), x)


def test_hooks_of_every_layer_fire_once_a_call():
    network, seen = dense(), []
    for position, layer in enumerate(network):
        layer.register_forward_hook(lambda _, x, y, position=position: seen.append((position, x[0].shape, y.shape)))
    network(torch.rand(4, 3, 6))
    assert [position for position, _, _ in seen] == list(range(7))
    assert seen[0] == (0, (12, 6), (12, 8))  # plain layers see time folded into the batch
    assert seen[1] == (1, (4, 3, 8), (4, 3, 8))


def test_slices_and_names():
    network = Sequential(OrderedDict(inner=nn.Linear(6, 4), spikes=LIF(4), outer=nn.Linear(4, 2)))
    assert list(dict(network.named_children())) == ["inner", "spikes", "outer"]
    x = torch.rand(5, 2, 6)
    tail = network[1:]
    assert isinstance(tail, Sequential)
    assert torch.equal(tail(network[:1](x)), network(x))
    assert isinstance(network[1], LIF)
    assert network.spikes is network[1]
    assert "inner.weight" in network.state_dict()


def test_copies_compute_the_same():
    network, x = dense(), torch.randn(9, 3, 6)
    loaded = dense()
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.zero_()
    loaded.load_state_dict(network.state_dict())
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network)), loaded):  # noqa: S301 (our own bytes)
        assert torch.equal(other(x), network(x))


def test_in_float64_throughout():
    network = dense().double()
    assert {value.dtype for value in network.state_dict().values()} == {torch.float64}
    y, state = network.run(torch.randn(9, 3, 6, dtype=torch.float64))
    assert y.dtype == state[1].dtype == state[-1].dtype == torch.float64


class TestSpikeLists:
    """Large enough and sparse enough that plain linear layers compute by lists."""

    def network(self, kind=nn.Linear):
        torch.manual_seed(0)
        return Sequential(
            *(kind(300, 64), LIF(64), Dropout(0.2)),
            Sequential(rb.Delay(0, 3), kind(128, 64, bias=False), LIF(64, learn=("threshold",))),
            *(kind(64, 16), LeakyReadout(16)),
        )

    def spikes(self, steps=60, batch=32):
        return (torch.rand(steps, batch, 300, generator=torch.Generator().manual_seed(1)) < 0.03).float()

    def dense_layer(self, *arguments, **options):
        return rb.SpikeLinear(*arguments, **options, path="dense")

    def test_they_change_no_result(self, monkeypatch):
        cpu = pytest.importorskip("rheobase.ops.linear.cpu")
        x, results, by_lists, forward = self.spikes(), [], [], cpu.forward
        monkeypatch.setattr(
            cpu, "forward", lambda *arguments: by_lists.append(arguments[1].shape) or forward(*arguments)
        )
        on_y = torch.randn(60, 32, 16, generator=torch.Generator().manual_seed(2))
        for kind in (nn.Linear, self.dense_layer):
            network = self.network(kind).double()
            torch.manual_seed(3)
            y = network(x.double())
            results.append((y, *torch.autograd.grad(y, list(network.parameters()), on_y.double())))
        assert results[0][0].abs().max() > 0.1
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs)
        assert by_lists == [(64, 300), (64, 128)]  # the plain layers of the first network, but for the small one

    def test_they_change_nothing_that_is_recorded(self):
        recorded = []
        for kind in (nn.Linear, self.dense_layer):
            network = self.network(kind).double().eval()
            with rb.health.Recorder(network) as recorder:
                network(self.spikes().double())
            recorded.append((recorder.input(), recorder.layers()))
        assert recorded[0] == recorded[1]
        assert recorded[0][0].synaptic_operations_per_sample == self.spikes().sum().item() / 32 * 64

    def test_streaming(self):
        network, x = self.network().eval().double(), self.spikes().double()
        first, state = network.run(x[:25])
        second, _ = network.run(x[25:], state)
        torch.testing.assert_close(torch.cat((first, second)), network(x))

    @pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
    @pytest.mark.usefixtures("as_a_user")
    def test_torch_compile_takes_them_whole(self):
        network, x = self.network().eval(), self.spikes(steps=5, batch=400)
        compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
        gradients = []
        for function in (compiled, network):
            network.zero_grad()
            y = function(x)
            y.square().sum().backward()
            gradients.append((y, *(parameter.grad for parameter in network.parameters())))
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, theirs)


# The compiler's own warning, about itself.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.usefixtures("as_a_user")
def test_torch_compile_takes_it_whole():
    network, x = dense(), torch.randn(4, 3, 6)
    assert torch.equal(torch.compile(network, backend="eager", fullgraph=True)(x), network(x))


def test_gradients_reach_every_parameter():
    network = dense().train()
    network(torch.randn(9, 3, 6)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert bool(parameter.grad.isfinite().all()), name
        assert bool((parameter.grad != 0).any()), name


@pytest.mark.usefixtures("as_a_user")
class TestErrors:
    @pytest.mark.parametrize("layer", [nn.RNN(4, 4), nn.LSTM(4, 4), nn.GRU(4, 4), nn.LSTMCell(4, 4)])
    def test_recurrent_layers(self, layer):
        with pytest.raises(TypeError, match=rf"Sequential: layer 1 is a {type(layer).__name__}; .*rheobase.Temporal"):
            Sequential(nn.Linear(4, 4), layer)

    @pytest.mark.parametrize("hidden", [LIF(4), LIF(), LeakyReadout(4), Dropout(0.5), nn.GRU(4, 4)])
    def test_layers_over_time_inside_a_plain_container(self, hidden):
        message = rf"layer 0 is a Sequential that holds a {type(hidden).__name__}; .*Use rheobase.Sequential"
        with pytest.raises(TypeError, match=message):
            Sequential(nn.Sequential(nn.Linear(4, 4), nn.Sequential(hidden)))

    def test_a_single_sample_or_feature(self):
        message = r"x must be \(T, B, \*features\), got shape \(5, 6\);.*x.unsqueeze\(1\).*x.unsqueeze\(-1\)"
        with pytest.raises(ValueError, match=message):
            dense()(torch.ones(5, 6))

    @pytest.mark.parametrize(
        ("x", "error", "message"),
        [
            (
                torch.ones(5, 2, 6, dtype=torch.uint8),
                TypeError,
                "floating point, got torch.uint8; convert it: x.float()",
            ),
            (torch.ones(5, 2, 6, dtype=torch.bool), TypeError, "floating point, got torch.bool"),
            (torch.ones(5, 2, 6).numpy(), TypeError, "x must be a torch.Tensor, got ndarray"),
            (torch.ones(6), ValueError, "x must be (T, B, *features), got shape (6,)"),
        ],
    )
    def test_no_sequence(self, x, error, message):
        for call in (dense(), dense().run):
            with pytest.raises(error, match=re.escape(message)):
                call(x)

    def test_features_in_the_wrong_place(self):
        with pytest.raises(ValueError, match=r"LIF\(6\).*axis 2 has size 3, axis 3 has size 6: move it with x.movedim"):
            Sequential(LIF(6))(torch.ones(5, 2, 3, 6))

    def test_a_layer_that_returns_no_tensor(self):
        class Pair(nn.Linear):
            def forward(self, x):
                return x, x

        network = Sequential(nn.Linear(4, 4), Pair(4, 4))
        with pytest.raises(TypeError, match="layer 1, Pair, must return a tensor, got a tuple"):
            network(torch.ones(5, 2, 4))

    @pytest.mark.parametrize("layer", [nn.Linear(6, 2), nn.Conv2d(1, 2, 3)])
    def test_a_plain_layer_that_cannot_take_its_input(self, layer):
        message = rf"layer 1, {re.escape(str(layer))}, failed on steps of shape \(4,\), from \(5, 2, 4\) read as"
        with pytest.raises(RuntimeError, match=message):
            Sequential(LIF(4), layer)(torch.ones(5, 2, 4))

    def test_an_error_of_another_kind_passes_as_it_is(self):
        class Full(nn.Module):
            def forward(self, x):
                raise torch.OutOfMemoryError("full")

        with pytest.raises(torch.OutOfMemoryError, match=r"^full$"):
            Sequential(Full())(torch.ones(5, 2, 4))

    def test_a_state_of_another_network(self):
        with pytest.raises(ValueError, match="state must hold one entry per layer, 7, got 2"):
            dense().run(torch.ones(5, 2, 6), [None, None])

    def test_a_state_of_another_batch(self):
        _, state = dense().run(torch.ones(5, 2, 6))
        with pytest.raises(ValueError, match=r"LIF: state must have the shape .*\(3, 8\), got \(2, 8\)"):
            dense().run(torch.ones(5, 3, 6), state)


def test_the_public_names():
    assert rb.Sequential is Sequential


def pairs(count: int) -> list[nn.Module]:
    torch.manual_seed(0)
    return [layer for _ in range(count) for layer in (nn.Linear(20, 20), LIF(20))]


def assert_alike(network: Sequential, other: Sequential) -> None:
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two)
    surrogates = [[layer.surrogate for layer in each.modules() if isinstance(layer, LIF)] for each in (network, other)]
    assert surrogates[0] == surrogates[1]


def test_layers_that_are_added_one_by_one_are_initialized_as_in_the_constructor():
    layers, network = pairs(3), Sequential()
    for layer in layers[:-2]:
        network.append(layer)
    network.extend(layers[-1:]).insert(4, layers[-2])
    assert_alike(network, Sequential(*pairs(3)))
    network[0] = nn.Linear(5, 20)
    assert network[0].weight.abs().max() > 5**-0.5
    kept = Sequential(input_rate=None).append(nn.Linear(20, 20)).append(LIF(20))
    assert kept[0].weight.abs().max() <= 20**-0.5


def test_networks_within_a_network_are_initialized_as_one():
    layers = pairs(4)
    inner = nn.Sequential(layers[0]), layers[1], Sequential(*layers[2:6]), rb.Recompute(Sequential(*layers[6:]))
    assert_alike(Sequential(*inner), Sequential(*pairs(4)))


def test_a_network_within_a_network_that_was_trained_is_left_alone():
    trained = Sequential(*pairs(1))
    with torch.no_grad():
        trained[0].weight += 0.1
    before = trained[0].weight.clone()
    Sequential(*pairs(1), trained)
    assert torch.equal(trained[0].weight, before)


@pytest.mark.parametrize("layer", [nn.TransformerEncoderLayer(20, 2), nn.LSTM(20, 20), nn.Sequential(LIF(20))])
@pytest.mark.parametrize("add", ["append", "insert", "set", "constructor"])
def test_layers_that_would_not_see_time_are_refused_wherever_they_come_in(layer, add):
    network = Sequential(*pairs(2))
    ways = {
        "append": lambda: network.append(layer),
        "insert": lambda: network.insert(2, layer),
        "set": lambda: network.__setitem__(2, layer),
        "constructor": lambda: Sequential(layer),
    }
    with pytest.raises(TypeError, match=r"Sequential: layer \d is a .*it would not see time"):
        ways[add]()
    assert layer not in list(network)


def test_integers_are_embedded_in_front_of_a_network():
    embedding = nn.Embedding(10, 8)
    with pytest.raises(
        TypeError, match=r"layer 0 is an Embedding, .* network\(embedding\(tokens\)\), with tokens \(T, B\)"
    ):
        Sequential(embedding, LIF(8))
    assert Sequential(LIF(8))(embedding(torch.randint(0, 10, (30, 4)))).shape == (30, 4, 8)


def test_networks_add_up():
    first, second, plain = Sequential(*pairs(1)), Sequential(*pairs(2)), nn.Sequential(nn.ReLU())
    x = torch.rand(5, 3, first[0].in_features)
    both = first + second
    assert isinstance(both, Sequential)
    assert list(both) == [*first, *second]
    assert torch.equal(both(x), second(first(x)))
    for network, layers in ((first + plain, [*first, *plain]), (plain + first, [*plain, *first])):
        assert isinstance(network, Sequential)
        assert list(network) == layers
    twice = second * 2
    assert isinstance(twice, Sequential)
    assert list(twice) == list(2 * second) == [*second, *second]
    with pytest.raises(TypeError):
        first + nn.ReLU()


def test_networks_that_add_up_are_initialized_as_one():
    torch.manual_seed(0)
    front, behind = Sequential(nn.Linear(20, 20)), Sequential(LIF(20))
    before = front[0].weight.clone()
    network = front + behind
    assert not torch.equal(network[0].weight, before)  # there are neurons behind it now
    again = network[0].weight.clone()
    assert torch.equal((network + Sequential(nn.ReLU()))[0].weight, again)


def test_a_part_of_a_network_has_its_weights():
    network = Sequential(*pairs(2), input_rate=None)
    buffer = io.BytesIO()
    torch.save(network, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    part = loaded[:2]
    assert isinstance(part, Sequential)
    assert torch.equal(part[0].weight, network[0].weight)


@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Conv1d(1, 2, 3)])
def test_another_precision_than_that_of_the_weights_is_named(layer: nn.Module) -> None:
    network = rb.Sequential(layer, rb.LIF(), input_rate=None)
    x = torch.rand(5, 2, 1, 4, dtype=torch.float64)
    with pytest.raises(
        RuntimeError, match=r"layer 0, .* has weights of float32 and got torch.float64: x.to\(torch.float32\)"
    ):
        network(x)


@pytest.mark.usefixtures("as_a_user")
def test_a_state_is_a_list():
    with pytest.raises(TypeError, match=r"Sequential: state must be a list with an entry per layer, .* got a Tensor"):
        Sequential(LIF(4), LIF(4)).run(torch.rand(3, 5, 4), torch.zeros(2, 5, 4))


def test_what_is_added_in_place_is_initialized_and_checked():
    network = Sequential(nn.Linear(20, 20))
    before = network[0].weight.clone()
    same = network
    network += Sequential(LIF(20))
    assert network is same
    assert network[0].weight.std() > 1.5 * before.std()
    with pytest.raises(TypeError, match=r"layer 2 is .*it would not see time"):
        network += nn.Sequential(nn.LSTM(20, 20))
    assert len(network) == 2
    network *= 2
    assert list(network) == [network[0], network[1], network[0], network[1]]
