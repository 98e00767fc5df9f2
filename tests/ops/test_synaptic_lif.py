"""The neuron of two states, by its reference and by its kernels, against a recursion written independently, in NumPy."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rheobase.ops import integrate, lif, synaptic_lif
from rheobase.surrogate import Triangular

pytestmark = pytest.mark.usefixtures("computer")

RESETS = ("subtract", "zero", "none")


def recursion(x, synapse_decay, decay, threshold, membrane, current, reset, on_spikes, on_membrane, on_current):
    """Spikes and last states by definition, and the gradient of each argument, detached resets, a triangle for surrogate.

    Backwards in time, `d_i` and `d_r` are the gradients of the states after a step. The membrane potential before the reset
    passes its gradient to the current of the same step, which collects that of the next step.
    """
    step = x.shape[1:]
    parameters = [np.broadcast_to(value, step) for value in (synapse_decay, decay, threshold, membrane, current)]
    spikes, last, last_current = np.zeros_like(x), np.zeros(step), np.zeros(step)
    d_x, d_parameters = np.zeros_like(x), [np.zeros(step) for _ in parameters]
    for neuron in product(*map(range, step)):
        a, b, theta, r, i = (value[neuron] for value in parameters)
        trace = []
        for t in range(len(x)):
            before = r, i
            i = a * i + x[(t, *neuron)]
            v = b * r + i
            s = 1.0 if v >= theta else 0.0
            trace.append((*before, v, s))
            spikes[(t, *neuron)] = s
            r = {"subtract": v - s * theta, "zero": 0.0 if s else v, "none": v}[reset]
        last[neuron], last_current[neuron] = r, i
        d_r, d_i = on_membrane[neuron], on_current[neuron]
        d_a = d_b = d_theta = 0.0
        for t in range(len(x) - 1, -1, -1):
            r, i, v, s = trace[t]
            d_u = on_spikes[(t, *neuron)] * max(0.0, 1 - abs(v - theta))
            d_theta -= d_u + (s * d_r if reset == "subtract" else 0.0)
            d_v = d_u + (d_r if reset != "zero" or not s else 0.0)
            d_i += d_v
            d_x[(t, *neuron)] = d_i
            d_a, d_b = d_a + d_i * i, d_b + d_v * r
            d_r, d_i = d_v * b, d_i * a
        for gradient, value in zip(d_parameters, (d_a, d_b, d_theta, d_r, d_i), strict=True):
            gradient[neuron] = value
    return (spikes, last, last_current), (d_x, *d_parameters)


@settings(max_examples=25)
@given(
    st.integers(0, 9),
    st.integers(0, 3),
    st.sampled_from([(), (0,), (1,), (5,), (2, 3)]),
    st.lists(st.sampled_from(["number", "neuron", "sample", "step"]), min_size=5, max_size=5),
    st.integers(0, 2**32 - 1),
)
@pytest.mark.parametrize("reset", RESETS)
def test_equals_the_recursion(reset, steps, batch, features, shared, seed):
    generator = np.random.default_rng(seed)
    step = (batch, *features)
    shapes = {"number": (), "neuron": features, "sample": (batch, *[1] * len(features)), "step": step}
    low, high = (0.0, 0.0, 0.1, -1.0, -1.0), (1.0, 1.0, 1.5, 1.0, 1.0)
    arguments = [generator.normal(0.1, 0.7, (steps, *step))]
    arguments += [generator.uniform(*bounds, shapes[kind]) for *bounds, kind in zip(low, high, shared, strict=True)]
    given_gradients = generator.normal(size=(steps, *step)), generator.normal(size=step), generator.normal(size=step)
    expected, expected_gradients = recursion(*arguments, reset, *given_gradients)

    tensors = [torch.from_numpy(np.asarray(value)).requires_grad_() for value in arguments]
    *parameters, membrane, current = tensors
    spikes, last = synaptic_lif(*parameters, (membrane, current), reset=reset, surrogate=Triangular())
    np.testing.assert_array_equal(spikes.detach(), expected[0])
    for ours, theirs in zip(last, expected[1:], strict=True):
        np.testing.assert_allclose(ours.detach(), theirs, rtol=1e-12, atol=1e-12)
    loss = sum((output * torch.from_numpy(g)).sum() for output, g in zip((spikes, *last), given_gradients, strict=True))
    gradients = torch.autograd.grad(loss, tensors, materialize_grads=True, allow_unused=True)
    for tensor, ours, theirs in zip(tensors, gradients, expected_gradients, strict=True):
        theirs = torch.from_numpy(theirs).sum_to_size(tensor.shape)
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-11)


def random(seed: int, *shape: int) -> Tensor:
    """Normal numbers that a gradient is wanted of, as in training."""
    return torch.from_numpy(np.random.default_rng(seed).normal(0.1, 1.0, shape)).float().requires_grad_()


def test_by_hand():
    # i = 1, 0.5, 1.25;  v = 1 fires, leaving 0; 0.5; 1.5 fires, leaving 0.5.
    x = torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1)
    spikes, (membrane, current) = synaptic_lif(x, 0.5, 0.5)
    assert spikes.flatten().tolist() == [1, 0, 1]
    assert membrane.item() == 0.5
    assert current.item() == 1.25


@pytest.mark.parametrize("reset", RESETS)
def test_a_synapse_that_forgets_is_none(reset):
    x, membrane = random(1, 20, 2, 3), random(2, 2, 3)
    spikes, last = lif(x, 0.9, 0.8, membrane, reset=reset)
    with_synapse, (last_with_synapse, current) = synaptic_lif(x, 0.0, 0.9, 0.8, (membrane, random(3, 3)), reset=reset)
    assert torch.equal(with_synapse, spikes)
    assert torch.equal(last_with_synapse, last)
    assert torch.equal(current, x[-1])


def test_the_synapse_is_a_leaky_integrator():
    x, decay = random(4, 20, 2, 3), random(5, 3).sigmoid()
    spikes, (_, current) = synaptic_lif(x, decay, 0.9)
    currents, last = integrate(x, decay)
    assert torch.equal(spikes, lif(currents, 0.9)[0])
    assert torch.equal(current, last)


@given(st.integers(0, 12), st.sampled_from(RESETS), st.integers(0, 2**32 - 1))
def test_cut_anywhere_is_the_whole(cut, reset, seed):
    x = random(seed, 12, 2, 3)
    whole, last = synaptic_lif(x, 0.7, 0.93, 0.8, reset=reset)
    first, state = synaptic_lif(x[:cut], 0.7, 0.93, 0.8, reset=reset)
    second, state = synaptic_lif(x[cut:], 0.7, 0.93, 0.8, state, reset=reset)
    assert torch.equal(torch.cat((first, second)), whole)
    assert all(map(torch.equal, state, last))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_are_integrated_in_float32(dtype):
    x = (random(6, 50, 2, 4) / 2).to(dtype)
    spikes, last = synaptic_lif(x, 0.99, 0.999, 3.0)
    expected, expected_last = synaptic_lif(x.float(), 0.99, 0.999, 3.0)
    assert spikes.dtype == dtype
    assert torch.equal(spikes.float(), expected)
    assert all(map(torch.equal, last, expected_last))


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"initial": torch.zeros(2, 2, 3)}, TypeError, r"initial must be a pair \(membrane, current\), got Tensor"),
        ({"initial": (torch.zeros(3),)}, TypeError, r"initial must be a pair \(membrane, current\), got tuple"),
        (
            {"initial": (torch.zeros(3), torch.zeros(2))},
            ValueError,
            r"initial must broadcast .*\(2, 3\), got shape \(2,\)",
        ),
        ({"synapse_decay": torch.ones(2)}, ValueError, "synaptic_lif: synapse_decay must broadcast"),
        ({"decay": torch.ones(2)}, ValueError, "synaptic_lif: decay must broadcast"),
        ({"threshold": torch.ones(2)}, ValueError, "synaptic_lif: threshold must broadcast"),
        ({"reset": "hard"}, ValueError, "synaptic_lif: reset must be one of"),
        ({"surrogate": Triangular}, TypeError, "synaptic_lif: surrogate must be an object"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        synaptic_lif(torch.ones(4, 2, 3), **{"synapse_decay": 0.5, "decay": 0.9} | arguments)
