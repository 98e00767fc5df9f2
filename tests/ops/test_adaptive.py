"""Adaptive neurons: what they are, against a recursion in NumPy; how they learn, against the rules written out literally."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from computing import computed_by
from rheobase.ops.adaptive import adaptive_lif, recurrent_adaptive_lif, reference
from rheobase.ops.lif import lif
from rheobase.surrogate import FastSigmoid, MultiGaussian, Surrogate

CREDITS = ("sequential", "blocks")
COMPUTERS = ("kernels", "reference")
PERIODS = (0, 1, 3, 10, 40)
credits = pytest.mark.parametrize("credit", CREDITS)


def recursion(x, weight, decay, threshold, trace_decay, adaptation, state, refractory):
    """By definition, one neuron at a time, each with the time of its last spike."""
    steps, batch, neurons = x.shape
    v, a, resting, sent = (np.array(part) for part in state)
    spikes = np.concatenate((sent, np.zeros_like(x)))
    for b, i in itertools.product(range(batch), range(neurons)):
        last_spike = resting[b, i] - refractory - 1
        for t in range(steps):
            current = x[t, b, i] + sum(weight[i, j] * spikes[t, b, j] for j in range(neurons))
            if t - last_spike <= refractory:
                current = 0.0
            v[b, i] = decay[i] * v[b, i] + current
            if v[b, i] - (threshold[i] + adaptation[i] * a[b, i]) >= 0:
                spikes[t + len(sent), b, i] = 1.0
                v[b, i], last_spike = 0.0, t
            a[b, i] = trace_decay[i] * a[b, i] + spikes[t + len(sent), b, i]
        resting[b, i] = max(last_spike + refractory + 1 - steps, 0)
    return spikes[len(sent) :], (v, a, resting, spikes[steps:])


def recursion_in_time(x, weight, *arguments):
    """The same for neurons that hear one another, L steps at a time: what they hear is known before these begin."""
    state, refractory = arguments[-2:]
    pieces = []
    for start in range(0, len(x), refractory + 1):
        piece, state = recursion(x[start : start + refractory + 1], weight, *arguments[:-2], state, refractory)
        pieces.append(piece)
    return np.concatenate((x[:0], *pieces)), state


def case(seed, refractory, steps, batch, neurons, recurrent):
    """`x`, recurrent weights, the four parameters of each neuron, and a state in the midst of things."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape, low=0.0, high=1.0):
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)

    x = uniform(steps, batch, neurons, low=-0.3)
    weight = uniform(neurons, neurons, low=-0.6) * recurrent
    parameters = [uniform(neurons, low=low, high=high) for low, high in ((0.7, 1), (0.4, 1.2), (0.6, 1), (0, 0.5))]
    resting = torch.randint(0, refractory + 1, (batch, neurons), generator=generator).double()
    membrane = torch.where(resting > 0, 3.0, 1.0) * uniform(batch, neurons, low=-0.5, high=0.5)
    sent = (uniform(refractory + 1, batch, neurons) < 0.2).double()
    return x, weight, parameters, (membrane, uniform(batch, neurons), resting, sent)


def run(x, weight, parameters, state, recurrent, **rule):
    if recurrent:
        return recurrent_adaptive_lif(x, weight, *parameters, state, **rule)
    return adaptive_lif(x, *parameters, state[:3], **rule)


SIZES = st.tuples(st.integers(0, 50), st.integers(0, 2), st.integers(0, 5))


@settings(max_examples=40)
@given(SIZES, st.sampled_from((0, 1, 3, 10)), st.booleans(), st.sampled_from(CREDITS), st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("computer", COMPUTERS)
def test_equals_the_recursion(computer, size, refractory, recurrent, credit, seed):
    x, weight, parameters, state = case(seed, refractory, *size, recurrent)
    arrays = [value.numpy() for value in (x, weight, *parameters)]
    expected, last = recursion_in_time(*arrays, [part.numpy() for part in state], refractory)
    with computed_by(computer):
        spikes, after = run(x, weight, parameters, state, recurrent, refractory=refractory, credit=credit)
    np.testing.assert_array_equal(spikes.numpy(), expected)
    for ours, theirs in zip(after, last, strict=False):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-12, atol=1e-12)


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1), st.integers(100, 200))
@pytest.mark.parametrize("recurrent", [False, True], ids=["feed-forward", "recurrent"])
@pytest.mark.parametrize("refractory", PERIODS)
def test_block_by_block_has_the_spikes_of_step_by_step(refractory, recurrent, seed, steps):
    x, weight, parameters, state = case(seed, refractory, steps, 2, 6, recurrent)
    rule = refractory, FastSigmoid(), *((weight, state[3]) if recurrent else ())
    expected, last = reference.sequential(x, *parameters, state[:3], *rule)
    spikes, after = reference.blocks(x, *parameters, state[:3], *rule)
    assert torch.equal(spikes, expected)
    assert torch.equal(after[2], last[2])
    for ours, theirs in zip(after[:2], last[:2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert 0 < spikes.mean() <= 1 / (refractory + 1) + 1 / steps


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_spikes_of_the_kernels_are_the_same_by_either_rule_in_every_type(dtype):
    x, _, parameters, state = case(0, 3, 300, 4, 50, recurrent=False)
    arguments = [value.to(torch.float32) for value in parameters], tuple(part.float() for part in state)
    outputs = [run(x.to(dtype), None, *arguments, False, refractory=3, credit=credit) for credit in CREDITS]
    with computed_by("reference"):
        outputs.append(run(x.to(dtype), None, *arguments, False, refractory=3))
    spikes, states = zip(*outputs, strict=True)
    assert torch.equal(spikes[0], spikes[1])
    assert torch.equal(spikes[0], spikes[2])
    for parts in zip(*states, strict=True):
        assert torch.equal(parts[0], parts[1])
        assert torch.equal(parts[0], parts[2])


# The rules of credit, as literally as possible.


def literal_sequential(x, weight, decay, threshold, trace_decay, adaptation, refractory, surrogate, detach):
    """The authors' baseline, in time: reset and refractory steps by products with what is detached."""
    v, a, spikes = torch.zeros_like(x[0]), torch.zeros_like(x[0]), []
    th = threshold.expand(x.shape[1:])
    for t in range(len(x)):
        current = x[t]
        if weight is not None and t > refractory:
            arriving = spikes[t - refractory - 1]
            current = current + functional.linear(arriving.detach() if detach else arriving, weight)
        for spike in spikes[max(t - refractory, 0) : t]:
            current = current * (1 - spike.detach())
        v = decay * v + current
        spikes.append(surrogate.spike(v - th))
        v = v * (1 - spikes[t].detach())
        a = trace_decay * a + spikes[t]
        th = threshold + adaptation * a
    return torch.stack(spikes)


def literal_blocks(x, weight, decay, threshold, trace_decay, adaptation, refractory, surrogate, detach):
    """The authors' recipe: padded to whole blocks, a trace that lags a step behind, every convolution written out."""
    length = refractory + 1
    padded = torch.cat((x, torch.zeros(-len(x) % length, *x.shape[1:], dtype=x.dtype)))
    ramp = torch.arange(1, length + 1, dtype=x.dtype)
    v0, a0 = torch.zeros_like(x[0]), torch.zeros_like(x[0])
    fired, k = torch.zeros_like(x[0]).bool(), torch.zeros_like(x[0])
    blocks: list[Tensor] = []
    for block in padded.split(length):
        current = block
        if weight is not None and blocks:
            current = current + functional.linear(blocks[-1].detach() if detach else blocks[-1], weight)
        offsets = torch.arange(length).view(-1, 1, 1)
        current = current * ~(fired & (offsets < k))
        trace = torch.stack([a0 * trace_decay ** (j + 1) for j in range(length)])
        current = torch.cat((current[:1] + decay * v0, current[1:]))
        v = torch.stack([sum(decay ** (j - i) * current[i] for i in range(j + 1)) for j in range(length)])
        faulty = surrogate.spike(v - (threshold + adaptation * trace))
        z = torch.stack([sum(ramp[j - i] * faulty[i] for i in range(j + 1)) for j in range(length)])
        spikes = z - torch.where(z == 1, torch.zeros_like(z), z).detach()  # straight through for every z
        constant = spikes.detach()
        fired, k = constant.any(0), (constant * offsets).sum(0)
        v0 = torch.where(fired, torch.zeros_like(v0), v[-1])
        after = ((constant * trace).sum(0) + 1 / trace_decay) * trace_decay ** (length - 1 - k)
        a0 = torch.where(fired, after, trace[-1])
        blocks.append(spikes)
    return torch.cat(blocks)[: len(x)]


LITERAL = {"sequential": literal_sequential, "blocks": literal_blocks}


@pytest.mark.parametrize("computer", COMPUTERS)
@pytest.mark.parametrize(
    ("recurrent", "detach"),
    [(False, True), (True, True), (True, False)],
    ids=["feed-forward", "recurrent-detached", "recurrent-attached"],
)
@pytest.mark.parametrize("refractory", PERIODS)
@credits
def test_credit_is_that_of_a_literal_implementation(credit, refractory, recurrent, detach, computer):
    x, weight, parameters, _ = case(refractory, refractory, 97, 2, 4, recurrent)
    on_spikes = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    leaves = [value.requires_grad_() for value in (x, *([weight] if recurrent else []), *parameters)]
    surrogate = FastSigmoid(sharpness=2.0)
    values = leaves if recurrent else [leaves[0], None, *leaves[1:]]
    theirs = LITERAL[credit](*values, refractory, surrogate, detach)
    expected = torch.autograd.grad(theirs, leaves, on_spikes)
    rule = {"refractory": refractory, "credit": credit, "surrogate": surrogate}
    with computed_by(computer):
        if recurrent:
            spikes, _ = recurrent_adaptive_lif(*leaves, detach_recurrent=detach, **rule)
        else:
            spikes, _ = adaptive_lif(*leaves, **rule)
        gradients = torch.autograd.grad(spikes, leaves, on_spikes)
    assert torch.equal(spikes, theirs)
    assert spikes.any()
    for ours, their in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, their, rtol=1e-10, atol=1e-10 * their.abs().max().item())


def test_within_a_block_credit_is_a_double_sum_from_the_end():
    x = torch.rand(21, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    on_spikes = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    spikes, _ = adaptive_lif(
        x, 0.0, 0.9, refractory=20, credit="blocks"
    )  # without a leak, nothing else goes back in time
    (ours,) = torch.autograd.grad(spikes, x, on_spikes)
    sums = on_spikes.flip(0).cumsum(0).cumsum(0).flip(0)
    torch.testing.assert_close(ours, sums * FastSigmoid().derivative(x.detach() - 0.9))


@credits
@pytest.mark.parametrize("computer", COMPUTERS)
def test_without_refractory_period_and_adaptation_it_is_lif(credit, computer):
    x, _, (decay, threshold, *_), state = case(4, 0, 40, 2, 5, recurrent=False)
    leaves = [value.requires_grad_() for value in (x, decay, threshold)]
    with computed_by(computer):
        spikes, (membrane, *_) = adaptive_lif(*leaves, 0.9, 0.0, state[:3], credit=credit)
        expected, last = lif(*leaves, state[0], reset="zero")
        assert torch.equal(spikes, expected)
        assert torch.equal(membrane, last)
        ours, theirs = (
            torch.autograd.grad((fired.square().sum(), potential.sum()), leaves)
            for fired, potential in ((spikes, membrane), (expected, last))
        )
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their)


def gradients_of_pieces(cuts, recurrent, credit, detach=False):
    """Spikes, last state and all gradients of a sequence that is cut into pieces."""
    x, weight, parameters, state = case(5, 3, 30, 2, 4, recurrent)
    leaves = [value.clone().requires_grad_() for value in (x, weight, *parameters)]
    starts = [part.clone().requires_grad_() for part in (state[0], state[1], state[3])]
    after = (starts[0], starts[1], state[2], starts[2])
    rule = {"refractory": 3, "credit": credit} | ({"detach_recurrent": detach} if recurrent else {})
    pieces = []
    for first, end in itertools.pairwise((0, *cuts, 30)):
        piece, after = run(leaves[0][first:end], leaves[1], leaves[2:], after, recurrent, **rule)
        pieces.append(piece)
    outputs = torch.cat(pieces), *after
    weights = torch.Generator().manual_seed(6)
    loss = sum((each * torch.randn(each.shape, generator=weights, dtype=each.dtype)).sum() for each in outputs)
    gradients = torch.autograd.grad(loss, (*leaves, *starts), allow_unused=True)
    return outputs, [gradient for gradient in gradients if gradient is not None]


@settings(max_examples=8)
@given(st.lists(st.integers(0, 30), max_size=4).map(sorted), st.booleans(), st.sampled_from(CREDITS))
@pytest.mark.parametrize("computer", COMPUTERS)
def test_cut_anywhere_is_the_whole(computer, cuts, recurrent, credit):
    with computed_by(computer):
        whole, expected = gradients_of_pieces((), recurrent, credit)
        # A cut begins a new block, so the gradient by blocks is that of the whole if the cuts are between blocks.
        pieces, _ = gradients_of_pieces(cuts, recurrent, credit)
        aligned = [cut // 4 * 4 for cut in cuts] if credit == "blocks" else cuts
        _, gradients = gradients_of_pieces(aligned, recurrent, credit)
    assert torch.equal(pieces[0], whole[0])
    for ours, theirs in zip(pieces[1:], whole[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@credits
def test_a_recurrence_that_is_detached_teaches_its_weights_alone(credit):
    _, attached = gradients_of_pieces((), True, credit)
    _, detached = gradients_of_pieces((), True, credit, detach=True)
    assert not torch.allclose(attached[0], detached[0])
    assert detached[1].abs().sum() > 0


@credits
def test_a_dead_neuron_learns(credit):
    x, decay = torch.zeros(30, 1, 3, dtype=torch.float64), torch.tensor(0.9, dtype=torch.float64)
    spikes, _ = adaptive_lif(x.requires_grad_(), decay.requires_grad_(), refractory=4, credit=credit)
    assert not spikes.any()
    spikes.sum().backward()
    assert bool((x.grad > 0).all())


@credits
def test_what_is_heard_in_a_refractory_step_gets_no_gradient(credit):
    x = torch.zeros(8, 1, 1, dtype=torch.float64)
    x[3] = 2.0  # a spike in the midst of the first block of 5, so that step 7 is the last to be refractory
    decay = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    spikes, _ = adaptive_lif(x.requires_grad_(), decay, refractory=4, credit=credit)
    assert spikes.flatten().tolist() == [0, 0, 0, 1, 0, 0, 0, 0]
    spikes.sum().backward()
    # By blocks, the input after the spike still counts until its block is over.
    silent = [4, 5, 6, 7] if credit == "sequential" else [5, 6, 7]
    assert (x.grad.flatten() == 0).nonzero().flatten().tolist() == silent


@pytest.mark.usefixtures("as_a_user")
class TestErrors:
    @pytest.mark.parametrize("refractory", [-1, 1.5, True])
    def test_refractory(self, refractory):
        with pytest.raises(ValueError, match="adaptive_lif: refractory must be a whole number, at least 0, got"):
            adaptive_lif(torch.ones(3, 1, 2), 0.9, refractory=refractory)

    def test_credit(self):
        with pytest.raises(ValueError, match="credit must be one of 'sequential', 'blocks', got 'block'"):
            recurrent_adaptive_lif(torch.ones(3, 1, 2), torch.eye(2), 0.9, credit="block")

    def test_surrogate(self):
        class Smooth(Surrogate):
            def spike(self, u: Tensor) -> Tensor:
                return torch.sigmoid(u)

        with pytest.raises(
            TypeError, match=r"surrogate must be an object such as FastSigmoid\(\), got .*MultiGaussian"
        ):
            adaptive_lif(torch.ones(3, 1, 2), 0.9, surrogate=MultiGaussian)
        with pytest.raises(TypeError, match=r"surrogate must fire or not fire, .* Smooth has a spike of its own"):
            adaptive_lif(torch.ones(3, 1, 2), 0.9, surrogate=Smooth())

    def test_shapes(self):
        with pytest.raises(
            ValueError, match=r"adaptive_lif: adaptation must broadcast to .* \(1, 2\), got shape \(3,\)"
        ):
            adaptive_lif(torch.ones(3, 1, 2), 0.9, adaptation=torch.ones(3))
        with pytest.raises(ValueError, match=r"weight must be \(N, N\), \(2, 2\) as x has it, got \(2, 3\)"):
            recurrent_adaptive_lif(torch.ones(3, 1, 2), torch.ones(2, 3), 0.9)
        with pytest.raises(ValueError, match=r"x must be \(T, B, N\), got shape \(3, 1, 2, 2\)"):
            recurrent_adaptive_lif(torch.ones(3, 1, 2, 2), torch.eye(2), 0.9)

    def test_state(self):
        _, state = recurrent_adaptive_lif(torch.ones(3, 1, 2), torch.eye(2), 0.9, refractory=2)
        with pytest.raises(ValueError, match=r"spikes of the last refractory \+ 1 steps, \(2, 1, 2\), got \(3, 1, 2\)"):
            recurrent_adaptive_lif(torch.ones(3, 1, 2), torch.eye(2), 0.9, state=state, refractory=1)
        with pytest.raises(TypeError, match=r"state must be a tuple \(membrane, trace, resting\), got tuple of 4"):
            adaptive_lif(torch.ones(3, 1, 2), 0.9, state=state)
