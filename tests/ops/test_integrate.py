import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from computing import computed_by
from rheobase.ops.integrate import integrate

pytestmark = pytest.mark.usefixtures("computer")


def recursion(x, decay, initial):
    """By definition, one neuron and one step at a time."""
    decay, initial = np.broadcast_to(decay, x.shape[1:]), np.broadcast_to(initial, x.shape[1:])
    states, last = np.zeros_like(x), np.array(initial, dtype=x.dtype)
    for neuron in np.ndindex(x.shape[1:]):
        for t in range(len(x)):
            last[neuron] = decay[neuron] * last[neuron] + x[(t, *neuron)]
            states[(t, *neuron)] = last[neuron]
    return states, last


def random(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@given(
    st.integers(0, 9),
    st.integers(0, 3),
    st.sampled_from([(), (0,), (1,), (5,), (2, 3)]),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_equals_the_recursion(steps, batch, features, seed, batch_first):
    x = random(seed, batch, steps, *features).transpose(0, 1) if batch_first else random(seed, steps, batch, *features)
    decay, initial = random(seed + 1, *x.shape[1:]).sigmoid(), random(seed + 2, *features)
    states, last = integrate(x, decay, initial)
    expected, expected_last = recursion(x.numpy(), decay.numpy(), initial.numpy())
    np.testing.assert_allclose(states.numpy(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(last.numpy(), expected_last, rtol=1e-12, atol=1e-12)


def test_a_decay_of_one_sums_and_of_zero_forgets():
    x = torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1)
    assert integrate(x, 1.0)[0].flatten().tolist() == [1, 3, 7]
    assert integrate(x, 0.0)[0].flatten().tolist() == [1, 2, 4]


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_gradcheck(shape):
    x, decay, initial = random(1, 5, 2, 3), random(2, *shape).sigmoid(), random(3, *shape)
    assert torch.autograd.gradcheck(integrate, [value.requires_grad_() for value in (x, decay, initial)])


def test_the_reference_takes_the_input_apart_once():
    with computed_by("reference"):
        states, _ = integrate(torch.ones(20, 1, 1, requires_grad=True), 0.9)
    names, node = set(), states.grad_fn
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node is not None:
            names.add(node.name())
            waiting.extend({parent for parent, _ in node.next_functions})
    assert "UnbindBackward0" in names
    assert not {"SelectBackward0", "SliceBackward0", "IndexBackward0"} & names


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs_give_float32_states(dtype):
    x = random(4, 100, 2, 3).to(dtype)
    states, last = integrate(x, torch.tensor(0.999))
    expected, _ = integrate(x.float(), torch.tensor(0.999))
    assert states.dtype == last.dtype == torch.float32
    assert torch.equal(states, expected)
    assert torch.equal(last, expected[-1])


@given(st.integers(0, 10), st.integers(0, 2**32 - 1))
def test_cut_anywhere_is_the_whole(cut, seed):
    x = random(seed, 10, 2, 3).float()
    whole, last = integrate(x, 0.93)
    first, state = integrate(x[:cut], 0.93)
    second, state = integrate(x[cut:], 0.93, state)
    assert torch.equal(torch.cat((first, second)), whole)
    assert torch.equal(state, last)


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("x", "arguments", "error", "message"),
    [
        (torch.ones(2, 1, dtype=torch.int32), {}, TypeError, "integrate: x must be floating point, got torch.int32"),
        (torch.ones(3), {}, ValueError, r"integrate: x must be \(T, B"),
        (torch.ones(2, 1, 3), {"decay": torch.ones(2)}, ValueError, "integrate: decay must broadcast"),
        (torch.ones(2, 1, 3), {"initial": torch.ones(2)}, ValueError, "integrate: initial must broadcast"),
    ],
)
def test_errors(x, arguments, error, message):
    with pytest.raises(error, match=message):
        integrate(x, **{"decay": 0.9} | arguments)
