"""Recurrent neurons, by the reference and by the kernels, against a recursion written independently, in NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from computing import computed_by
from rheobase.ops.lif import lif
from rheobase.ops.recurrent import recurrent_lif
from rheobase.surrogate import Arctan, Exponential, FastSigmoid, Surrogate

RESETS = ("subtract", "zero", "none")


def recursion(x, weight, decay, threshold, membrane, sent, reset):
    """By definition, one neuron at a time."""
    steps, batch, neurons = x.shape
    spikes, r, s = np.zeros_like(x), np.array(membrane), np.array(sent)
    for t in range(steps):
        arriving = s.copy()
        for b in range(batch):
            for i in range(neurons):
                v = decay[i] * r[b, i] + x[t, b, i] + sum(weight[i, j] * arriving[b, j] for j in range(neurons))
                s[b, i] = float(v >= threshold[i])
                r[b, i] = {"subtract": v - threshold[i] * s[b, i], "zero": v * (1 - s[b, i]), "none": v}[reset]
                spikes[t, b, i] = s[b, i]
    return spikes, r, s


def sixteenths(generator, *shape, scale=1.0):
    """Random multiples of 1/16, whose sums are exact in whatever order they are added."""
    return torch.round(torch.randn(*shape, generator=generator, dtype=torch.float64) * scale * 16) / 16


def case(seed, steps, batch, neurons, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    values = (
        sixteenths(generator, steps, batch, neurons),
        sixteenths(generator, neurons, neurons, scale=0.5),
        sixteenths(generator, neurons).abs() / 4,
        sixteenths(generator, neurons).abs() / 4 + 0.5,
        sixteenths(generator, batch, neurons),
        (torch.rand(batch, neurons, generator=generator) < 0.4).double(),
    )
    return [value.to(dtype) for value in values]


SIZES = st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 9))


@settings(max_examples=40)
@given(SIZES, st.sampled_from(RESETS), st.integers(0, 2**32 - 1), st.sampled_from(["kernels", "reference"]))
def test_equals_the_recursion(size, reset, seed, computer):
    x, weight, decay, threshold, membrane, sent = case(seed, *size)
    with computed_by(computer):
        spikes, (last, last_spikes) = recurrent_lif(x, weight, decay, threshold, (membrane, sent), reset=reset)
    expected, r, s = recursion(*(value.numpy() for value in (x, weight, decay, threshold, membrane, sent)), reset)
    np.testing.assert_array_equal(spikes.numpy(), expected)
    np.testing.assert_allclose(last.numpy(), r, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(last_spikes.numpy(), s)


class Own(Surrogate):
    """A shape that no kernel knows."""

    def shape(self, u: Tensor) -> Tensor:
        return (1 + u.abs()).reciprocal()


def gradients(computer, values, on, **options):
    leaves = [value.clone().requires_grad_() for value in values]
    with computed_by(computer):
        outputs = recurrent_lif(*leaves[:4], tuple(leaves[4:]), **options)
        outputs = [outputs[0], *outputs[1]]
        return [*map(Tensor.detach, outputs), *torch.autograd.grad(outputs, leaves, on, allow_unused=True)]


@pytest.mark.parametrize("size", [(9, 3, 7), (1, 1, 1), (6, 2, 33), (3, 0, 3), (3, 2, 0)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reset": "zero", "reset_gradient": "attached", "surrogate": Arctan()},
        {"reset": "none", "detach_recurrent": True},
        {"reset_gradient": "attached", "surrogate": Exponential(0.5, 2.0)},
        {"surrogate": Own(), "detach_recurrent": True},
    ],
    ids=str,
)
def test_the_kernels_agree_with_the_reference(size, options):
    values = case(3, *size, dtype=torch.float32)
    generator = torch.Generator().manual_seed(4)
    on = [torch.randn(shape, generator=generator) for shape in (size, size[1:], size[1:])]
    kernels, reference = (gradients(computer, values, on, **options) for computer in ("kernels", "reference"))
    assert torch.equal(kernels[0], reference[0])
    for ours, expected in zip(kernels, reference, strict=True):
        if expected is None:  # with a detached recurrence, nothing goes back through the first spikes
            assert ours is None or not ours.any()
        else:
            torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_the_recurrent_gradient_can_be_detached():
    values = case(5, 8, 2, 4)
    on = [torch.ones(8, 2, 4), torch.zeros(2, 4), torch.zeros(2, 4)]
    on = [gradient.double() for gradient in on]
    attached = gradients("kernels", values, on)
    detached = gradients("kernels", values, on, detach_recurrent=True)
    assert torch.equal(attached[0], detached[0])
    assert not torch.allclose(attached[3], detached[3])
    # The weights learn all the same.
    assert detached[4].abs().sum() > 0


def test_without_recurrent_weights_it_is_lif():
    x, _, decay, threshold, membrane, sent = case(6, 12, 3, 5, dtype=torch.float32)
    spikes, (last, _) = recurrent_lif(x, torch.zeros(5, 5), decay, threshold, (membrane, sent))
    expected, expected_last = lif(x, decay, threshold, membrane)
    assert torch.equal(spikes, expected)
    assert torch.equal(last, expected_last)


@given(st.integers(0, 10), st.integers(0, 2**32 - 1))
def test_cut_anywhere_is_the_whole(cut, seed):
    x, weight, decay, threshold, *state = case(seed, 10, 2, 5, dtype=torch.float32)
    whole, last = recurrent_lif(x, weight, decay, threshold, tuple(state))
    first, between = recurrent_lif(x[:cut], weight, decay, threshold, tuple(state))
    second, end = recurrent_lif(x[cut:], weight, decay, threshold, between)
    assert torch.equal(torch.cat((first, second)), whole)
    assert all(map(torch.equal, end, last))


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_changes_nothing(threads):
    values = case(7, 40, 65, 64, dtype=torch.float32)
    on = [torch.ones(40, 65, 64), torch.zeros(65, 64), torch.zeros(65, 64)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = gradients("kernels", values, on)
        torch.set_num_threads(threads)
        for one, several in zip(expected[:3], gradients("kernels", values, on)[:3], strict=True):
            assert torch.equal(one, several)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x, weight, decay, threshold, *_ = case(8, 6, 2, 4, dtype=torch.float32)
    spikes, (last, last_spikes) = recurrent_lif(x.to(dtype), weight, decay, threshold)
    expected, (expected_last, _) = recurrent_lif(x.to(dtype).float(), weight, decay, threshold)
    assert spikes.dtype == last_spikes.dtype == dtype
    assert torch.equal(spikes.float(), expected)
    assert torch.equal(last, expected_last)


@pytest.mark.usefixtures("as_a_user")
def test_torch_compile_takes_it_whole():
    values = [value.requires_grad_() for value in case(9, 6, 2, 4, dtype=torch.float32)]
    surrogate = FastSigmoid(sharpness=2.0)

    def loss(*values):
        spikes, (membrane, _) = recurrent_lif(*values[:4], tuple(values[4:]), surrogate=surrogate)
        return spikes.sum() + membrane.square().sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    expected = torch.autograd.grad(loss(*values), values)
    for ours, theirs in zip(torch.autograd.grad(compiled(*values), values), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_operator_is_registered_as_pytorch_wants_it():
    values = [value.requires_grad_() for value in case(10, 5, 2, 3, dtype=torch.float32)]
    with torch.no_grad():
        values[2:4] = [value.expand(2, 3).reshape(6).clone().requires_grad_() for value in values[2:4]]
    recurrent_lif(values[0], values[1], 0.9)  # defines the operator
    torch.library.opcheck(
        torch.ops.rheobase.recurrent_lif, (*values, "subtract", "FastSigmoid", 1.0, 1.0, "detached", False)
    )


@pytest.mark.usefixtures("as_a_user")
class TestErrors:
    def test_maps_have_no_recurrent_weights(self):
        with pytest.raises(ValueError, match=r"recurrent_lif: x must be \(T, B, N\), got shape \(2, 1, 3, 3\)"):
            recurrent_lif(torch.ones(2, 1, 3, 3), torch.ones(3, 3), 0.9)

    def test_weight(self):
        with pytest.raises(ValueError, match=r"weight must be \(N, N\), \(3, 3\) as x has it, got \(3, 4\)"):
            recurrent_lif(torch.ones(2, 1, 3), torch.ones(3, 4), 0.9)
