import weakref

import pytest
import torch
from torch import nn

import rheobase as rb
from rheobase.ops import memory


def network():
    torch.manual_seed(0)
    return rb.Sequential(
        nn.Linear(5, 16),
        rb.LIF(16, threshold=0.5, learn=("decay", "threshold")),
        rb.Delay(0, 3),
        rb.Dropout(0.3),
        rb.RecurrentLIF(32, threshold=0.5),
        nn.Dropout(0.2),
        nn.Linear(32, 2),
        rb.LeakyReadout(2),
        input_rate=None,
    )


@pytest.mark.parametrize("steps", [None, 1, 7, 50, 200])
def test_outputs_and_gradients_are_those_of_the_whole(steps):
    plain = network()
    x = torch.rand(50, 3, 5, requires_grad=True)
    torch.manual_seed(1)
    expected = plain.eval()(x)
    wanted = torch.autograd.grad(expected.square().sum(), [x, *plain.parameters()])
    layer = rb.Recompute(plain, steps)
    y = layer.eval()(x)
    assert torch.equal(y, expected)
    for ours, theirs in zip(torch.autograd.grad(y.square().sum(), [x, *plain.parameters()]), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_second_pass_drops_the_same_units():
    # A mask drawn anew in the second pass would give a gradient to an input whose unit was dropped in the first.
    x = torch.rand(30, 4, 64, requires_grad=True)
    layer = rb.Recompute(rb.Sequential(rb.Dropout(0.5), nn.Dropout(0.5)), steps=6)
    y = layer(x)
    y.sum().backward()
    assert torch.equal(y == 0, x.grad == 0)


def test_the_state_goes_on():
    layer = rb.Recompute(network().eval(), steps=4)
    x = torch.rand(20, 3, 5)
    whole, _ = layer.run(x)
    first, state = layer.run(x[:9])
    second, _ = layer.run(x[9:], state)
    assert torch.equal(torch.cat((first, second)), whole)


def kept(monkeypatch, layer, x):
    """The bytes that are kept between the passes, of those that kernels have asked for."""
    sizes = []
    empty = memory.empty

    def counted(shape, dtype):
        tensor = empty(shape, dtype)
        nbytes = tensor.numel() * tensor.element_size()
        sizes.append(nbytes)
        weakref.finalize(tensor.untyped_storage(), sizes.remove, nbytes)
        return tensor

    monkeypatch.setattr(memory, "empty", counted)
    y = layer(x)
    monkeypatch.undo()
    total = sum(sizes)
    y.sum().backward()
    return total


def test_what_is_kept_does_not_grow_with_the_steps(monkeypatch):
    layer = rb.Sequential(nn.Linear(2, 64), rb.LIF(64), nn.Linear(64, 1), rb.LeakyReadout(1))
    plain, recomputed = (kept(monkeypatch, each, torch.rand(400, 8, 2)) for each in (layer, rb.Recompute(layer)))
    assert plain >= 400 * 8 * 64 * 4
    assert recomputed < plain / 10


def test_evaluation_is_seen_by_hooks():
    layer = rb.Recompute(network().eval())
    with torch.no_grad(), rb.health.Recorder(layer) as recorder:
        layer(torch.rand(30, 2, 5))
    assert [health.name for health in recorder.layers()] == ["layer.1 LIF(16)", "layer.4 RecurrentLIF(32)"]


@pytest.mark.usefixtures("as_a_user")
class TestErrors:
    def test_a_plain_layer(self):
        with pytest.raises(
            TypeError, match=r"layer must be a layer over time, got Linear; put it into an rb\.Sequential"
        ):
            rb.Recompute(nn.Linear(2, 2))

    def test_steps(self):
        with pytest.raises(ValueError, match="steps must be a whole number, at least 1, got 0"):
            rb.Recompute(rb.LIF(), steps=0)

    def test_batch_normalization(self):
        with pytest.raises(TypeError, match="must hold no batch normalization, got BatchNorm1d at 1"):
            rb.Recompute(rb.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))


def stochastic(outputs: int = 2) -> rb.Sequential:
    torch.manual_seed(0)
    return rb.Sequential(
        nn.Linear(3, 32),
        rb.SPSN(32),
        nn.Linear(32, 32),
        rb.SPSN(32),
        nn.Linear(32, outputs),
        rb.SynapticReadout(outputs),
    )


def most_in_use(monkeypatch, layer, x):
    """The most bytes at one time that kernels have asked for and that are still in use, over both passes."""
    in_use, most = 0, 0
    empty = memory.empty

    def counted(shape, dtype):
        nonlocal in_use, most
        tensor = empty(shape, dtype)
        nbytes = tensor.numel() * tensor.element_size()
        in_use += nbytes
        most = max(most, in_use)

        def free():
            nonlocal in_use
            in_use -= nbytes

        weakref.finalize(tensor.untyped_storage(), free)
        return tensor

    monkeypatch.setattr(memory, "empty", counted)
    layer(x).sum().backward()
    monkeypatch.undo()
    return most


@pytest.mark.parametrize(("steps", "piece"), [(10_000, 200), (100_000, 5_000)])
def test_long_sequences_train_in_the_memory_of_a_piece(monkeypatch, steps, piece):
    of_a_piece = most_in_use(monkeypatch, stochastic(), torch.rand(piece, 1, 3))
    layer, x = rb.Recompute(stochastic(), piece), torch.rand(steps, 1, 3)
    assert most_in_use(monkeypatch, layer, x) < 2 * of_a_piece
    if steps == 10_000:  # and what it takes otherwise
        assert most_in_use(monkeypatch, layer.layer, x) > 25 * of_a_piece


def test_truncated_the_gradient_ends_where_a_piece_begins():
    x = torch.rand(12, 2, 3, requires_grad=True)
    plain, truncated = rb.Recompute(stochastic(), 4), rb.Recompute(stochastic(), 4, truncated=True)
    for layer in (plain, truncated):
        torch.manual_seed(3)
        y = layer(x)
        (gradient,) = torch.autograd.grad(y[8:].sum(), x)
        assert gradient[8:].count_nonzero() > 0
        assert bool(gradient[:8].eq(0).all()) == layer.truncated
    torch.manual_seed(3)
    whole = plain(x)
    torch.manual_seed(3)
    assert torch.equal(truncated(x), whole)


def test_truncated_the_gradients_are_those_of_pieces_with_a_given_state():
    layer, x = stochastic(), torch.rand(12, 2, 3)
    torch.manual_seed(3)
    rb.Recompute(layer, 4, truncated=True)(x).square().sum().backward()
    ours = [parameter.grad.clone() for parameter in layer.parameters()]
    layer.zero_grad()
    torch.manual_seed(3)
    state = None
    for piece in x.split(4):
        y, state = layer.run(piece, state)
        y.square().sum().backward()
        state = [None if s is None else tuple(part.detach() for part in s) for s in state]
    for mine, parameter in zip(ours, layer.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad)


def test_penalties_see_the_layers_inside_and_so_do_those_who_look_within_each_other():
    layer = rb.Recompute(rb.LIF(3), steps=2)
    network, x = rb.Sequential(nn.Linear(4, 3), layer), torch.rand(8, 2, 4)
    with rb.health.listening(network) as outer:
        with rb.health.listening(network) as inner:
            y = network(x)
        network(x)
    assert inner.keys() == outer.keys() == {"1.layer LIF(3)"}
    assert torch.equal(inner["1.layer LIF(3)"], y)
    assert "forward" not in vars(layer)
    assert rb.regularizers.RateBounds(lower=1.0)(inner, 0.0).requires_grad
    assert [layer.name for layer in rb.doctor(network, x).measures.layers] == ["1.layer LIF(3)"]
    rb.stabilize(network, x)
