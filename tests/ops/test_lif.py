"""The operation, by its reference and by its kernels, against recursions written independently, in NumPy."""

from dataclasses import dataclass
from itertools import cycle, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from computing import computed_by
from rheobase.ops.lif import lif
from rheobase.surrogate import (
    Arctan,
    Exponential,
    FastSigmoid,
    Gaussian,
    QPseudoSpike,
    Rectangular,
    Sigmoid,
    Surrogate,
    Triangular,
)

pytestmark = pytest.mark.usefixtures("computer")

RESETS = ("subtract", "zero", "none")


def recursion(x, decay, threshold, initial, reset):
    """Spikes and final membrane potential, by definition."""
    decay, threshold, initial = (np.broadcast_to(value, x.shape[1:]) for value in (decay, threshold, initial))
    spikes, last = np.zeros_like(x), np.array(initial, dtype=x.dtype)
    for neuron in product(*map(range, x.shape[1:])):
        r = initial[neuron]
        for t in range(len(x)):
            v = decay[neuron] * r + x[(t, *neuron)]
            fires = v >= threshold[neuron]
            spikes[(t, *neuron)] = fires
            if reset == "subtract":
                r = v - threshold[neuron] if fires else v
            elif reset == "zero":
                r = 0.0 if fires else v
            else:
                r = v
        last[neuron] = r
    return spikes, last


def adjoint(x, decay, threshold, initial, reset, f, on_spikes, on_last):
    """Gradients of `sum(on_spikes * spikes) + sum(on_last * last)`, the reset detached; `f` is the surrogate's derivative.

    Backwards in time with `g = dL/dr[t]`:  the spike depends on `v - threshold`, and `r` on `v` with a slope that is 1 for
    "subtract" and "none", 1 - s for "zero"; the threshold that is subtracted is -s of a gradient of its own.
    """
    shape = x.shape[1:]
    decay, threshold, initial = (np.broadcast_to(value, shape) for value in (decay, threshold, initial))
    d_x = np.zeros_like(x)
    d_decay, d_threshold, d_initial = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for neuron in product(*map(range, shape)):
        a, theta = decay[neuron], threshold[neuron]
        r, trace = initial[neuron], []
        for t in range(len(x)):
            v = a * r + x[(t, *neuron)]
            s = float(v >= theta)
            trace.append((r, v, s))
            r = {"subtract": v - theta * s, "zero": v * (1 - s), "none": v}[reset]
        g = on_last[neuron]
        for t in reversed(range(len(x))):
            before, v, s = trace[t]
            on_spike = on_spikes[(t, *neuron)] * f(v - theta)
            if reset == "subtract":
                d_threshold[neuron] -= s * g
            d_threshold[neuron] -= on_spike
            g_v = g * (1 - s if reset == "zero" else 1.0) + on_spike
            d_x[(t, *neuron)] = g_v
            d_decay[neuron] += g_v * before
            g = g_v * a
        d_initial[neuron] = g
    return d_x, d_decay, d_threshold, d_initial


@dataclass(frozen=True)
class Smooth(Surrogate):
    """No step at all: a sigmoid whose own derivative autograd takes, so that finite differences can check it."""

    def spike(self, u: Tensor) -> Tensor:
        return torch.sigmoid(4 * u)


def random(seed, *shape, scale=1.0):
    return torch.from_numpy(np.random.default_rng(seed).normal(0.1, scale, shape))


@st.composite
def sequences(draw):
    """An input, laid out in memory in one of the ways that users produce, and matching values."""
    steps, batch = draw(st.integers(0, 9)), draw(st.integers(0, 3))
    features = draw(st.sampled_from([(), (0,), (1,), (3,), (7,), (2, 3), (3, 1, 2), (2, 2, 2, 2)]))
    seed = draw(st.integers(0, 2**32 - 1))
    layout = draw(st.sampled_from(["contiguous", "transposed", "strided", "expanded", "flipped features"]))
    if layout == "transposed":  # what a batch-first tensor becomes
        x = random(seed, batch, steps, *features).transpose(0, 1)
    elif layout == "strided":
        x = random(seed, 2 * steps, batch, *features)[::2]
    elif layout == "expanded":  # what direct encoding makes
        x = random(seed, batch, *features).expand(steps, batch, *features)
    elif layout == "flipped features":
        x = random(seed, steps, batch, *reversed(features))
        x = x.permute(0, 1, *reversed(range(2, x.ndim)))
    else:
        x = random(seed, steps, batch, *features)

    def value(low, high):
        kind = draw(st.sampled_from(["number", "scalar", "step", "feature", "sample"]))
        if kind == "number":
            return draw(st.floats(low, high))
        shape = {
            "scalar": (),
            "step": x.shape[1:],
            "feature": features and (features[0], *[1] * (len(features) - 1)),
            "sample": (batch, *[1] * len(features)),
        }[kind]
        return torch.from_numpy(np.random.default_rng(seed + 1).uniform(low, high, shape))

    initial = value(-1.0, 2.0) if draw(st.booleans()) else None
    return x, value(0.0, 1.0), value(0.05, 1.5), initial if isinstance(initial, Tensor) else None


@settings(max_examples=150)
@given(sequences(), st.sampled_from(RESETS))
def test_equals_the_recursion(case, reset):
    x, decay, threshold, initial = case
    spikes, last = lif(x, decay, threshold, initial, reset=reset)
    expected, expected_last = recursion(
        x.numpy(), np.asarray(decay), np.asarray(threshold), 0.0 if initial is None else initial.numpy(), reset
    )
    assert spikes.dtype == last.dtype == torch.float64
    np.testing.assert_array_equal(spikes.numpy(), expected)
    np.testing.assert_allclose(last.numpy(), expected_last, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("reset", "potentials", "when"),
    [
        ("zero", [0.3, 0.57, 0.813, 1.0317] * 5, [3, 7, 11, 15, 19]),
        ("none", [0.3 * (1 - 0.9 ** (t + 1)) / 0.1 for t in range(20)], list(range(3, 20))),
    ],
)
def test_constant_current_by_hand(reset, potentials, when, dtype):
    x = torch.full((20, 1, 1), 0.3, dtype=dtype)
    spikes, _ = lif(x, 0.9, 1.0, reset=reset)
    assert spikes.flatten().nonzero().flatten().tolist() == when
    for steps in range(1, 20):
        # The state after fewer steps is the potential after the reset.
        _, last = lif(x[:steps], 0.9, 1.0, reset=reset)
        expected = 0.0 if reset == "zero" and steps - 1 in when else potentials[steps - 1]
        assert last.item() == pytest.approx(expected, rel=1e-5)


def test_subtract_by_hand():
    # v = 0.3, 0.57, 0.813, 1.0317 fires and leaves 0.0317; then 0.32853, 0.595677, 0.836109, 1.052498 fires, 0.052498 is left.
    spikes, last = lif(torch.full((8, 1), 0.3, dtype=torch.float64), 0.9, 1.0)
    assert spikes.flatten().tolist() == [0, 0, 0, 1, 0, 0, 0, 1]
    assert last.item() == pytest.approx(0.05249837, abs=1e-12)


@pytest.mark.parametrize("reset", RESETS)
def test_a_membrane_on_the_threshold_fires(reset):
    spikes, _ = lif(torch.tensor([[1.0], [np.nextafter(np.float32(1), np.float32(0)).item()]]), 0.0, 1.0, reset=reset)
    assert spikes.flatten().tolist() == [1, 0]


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("per_neuron", [False, True])
@pytest.mark.parametrize("features", [(3,), (2, 2)])
def test_gradcheck_with_a_smooth_spike(reset, per_neuron, features):
    shape = features if per_neuron else ()
    arguments = (
        random(1, 6, 2, *features, scale=0.6).requires_grad_(),
        random(2, *shape, scale=0.1).sigmoid().requires_grad_(),
        (random(3, *shape, scale=0.1) + 0.8).requires_grad_(),
        random(4, 2, *features).requires_grad_(),
    )
    assert torch.autograd.gradcheck(
        lambda x, decay, threshold, initial: lif(
            x, decay, threshold, initial, reset=reset, surrogate=Smooth(), reset_gradient="attached"
        ),
        arguments,
    )


SHAPES = [
    (FastSigmoid(), lambda u: 1 / (1 + 2 * abs(u)) ** 2),
    (Arctan(0.5, 2.0), lambda u: 0.5 / (1 + (np.pi * 2 * u) ** 2)),
    (Triangular(0.3, 0.4), lambda u: 0.3 * max(1 - abs(0.4 * u), 0)),
    (Exponential(), lambda u: np.exp(-2 * abs(u))),
    (Gaussian(1.0, 0.5), lambda u: np.exp(-np.pi * u * u / 4)),
    (Sigmoid(0.6, 0.8), lambda u: 0.6 / np.cosh(1.6 * u) ** 2),
    (Rectangular(1.2, 0.9), lambda u: 1.2 * (abs(1.8 * u) < 1)),
    (QPseudoSpike(0.9, 1.1, 3.0), lambda u: 0.9 / (1 + 1.1 * abs(u)) ** 3),
]


# By the reference in all combinations. By the kernels, which cost a second each to compile, every shape and every reset:
# `test_fused.py` compares them with the reference where the two meet.
ADJOINTS = [("reference", reset, *shape) for reset in RESETS for shape in SHAPES]
ADJOINTS += [("kernels", reset, *shape) for reset, shape in zip(cycle(RESETS), SHAPES, strict=False)]


@pytest.mark.parametrize(
    ("computer", "reset", "surrogate", "f"),
    ADJOINTS,
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
    indirect=["computer"],
)
@pytest.mark.parametrize("shape", [(), (3,), (2, 1)], ids=["scalar", "feature", "sample"])
def test_gradients_equal_a_hand_written_adjoint(reset, shape, surrogate, f):
    x = random(5, 11, 2, 3, scale=0.8).requires_grad_()
    decay = random(6, *shape, scale=0.2).sigmoid().requires_grad_()
    threshold = (random(7, *shape, scale=0.05) + 0.5).requires_grad_()
    initial = random(8, 2, 3).requires_grad_()
    on_spikes, on_last = random(9, 11, 2, 3), random(10, 2, 3)
    spikes, last = lif(x, decay, threshold, initial, reset=reset, surrogate=surrogate)
    assert 5 < spikes.sum() < 60
    ((spikes * on_spikes).sum() + (last * on_last).sum()).backward()
    numpy = [value.detach().numpy() for value in (x, decay, threshold, initial)]
    expected = adjoint(*numpy, reset, f, on_spikes.numpy(), on_last.numpy())
    for value, gradient in zip((x, decay, threshold, initial), expected, strict=True):
        np.testing.assert_allclose(
            value.grad, torch.from_numpy(gradient).sum_to_size(value.shape), rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_detaching_the_reset_matters(reset):
    x = random(11, 11, 2, 3, scale=0.8).float()
    gradients = []
    for how in ("detached", "attached"):
        x = x.detach().requires_grad_()
        lif(x, 0.9, 0.5, reset=reset, reset_gradient=how)[0].sum().backward()
        gradients.append(x.grad)
    assert not torch.allclose(*gradients)


def graph(tensor):
    """The names of all nodes behind `tensor`."""
    seen, waiting, names = set(), [tensor.grad_fn], []
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            names.append(node.name())
            waiting.extend(parent for parent, _ in node.next_functions)
    return names


@pytest.mark.parametrize("reset", RESETS)
def test_the_reference_goes_backward_in_linear_time(reset):
    def nodes(steps):
        x = torch.ones(steps, 2, 3, requires_grad=True)
        decay, threshold = torch.tensor(0.9, requires_grad=True), torch.ones(3, requires_grad=True)
        with computed_by("reference"):
            spikes, last = lif(x, decay, threshold, reset=reset, reset_gradient="attached")
        return graph(spikes.sum() + last.sum())

    ten, twenty, forty = nodes(10), nodes(20), nodes(40)
    assert len(forty) - len(twenty) == 2 * (len(twenty) - len(ten)) > 0
    # An index in the loop would make each step's gradient as large as the sequence.
    assert not {"SelectBackward0", "SliceBackward0", "IndexBackward0"} & set(forty)
    assert forty.count("UnbindBackward0") == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reset", RESETS)
def test_half_precision_inputs_are_integrated_in_float32(dtype, reset):
    x = random(12, 50, 2, 4, scale=0.5).to(dtype)
    decay, threshold = torch.full((4,), 0.999), torch.full((4,), 0.7123)
    spikes, last = lif(x, decay, threshold, reset=reset)
    expected, expected_last = lif(x.float(), decay, threshold, reset=reset)
    assert spikes.dtype == dtype
    assert last.dtype == torch.float32
    assert torch.equal(spikes.float(), expected)
    assert torch.equal(last, expected_last)


def test_half_precision_gradients_arrive_in_the_inputs_type():
    x = random(13, 10, 2, 4).bfloat16().requires_grad_()
    threshold = torch.ones(4, requires_grad=True)
    lif(x, 0.9, threshold)[0].float().sum().backward()
    y = x.detach().float().requires_grad_()
    lif(y, 0.9, 1.0)[0].sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert torch.equal(x.grad, y.grad.bfloat16())
    assert threshold.grad.dtype == torch.float32


def test_float64_stays_float64_whatever_the_parameters_are():
    spikes, last = lif(torch.ones(2, 1, 1, dtype=torch.float64), torch.tensor(0.5), torch.tensor([1.0]))
    assert spikes.dtype == last.dtype == torch.float64


@given(st.integers(0, 12), st.sampled_from(RESETS), st.integers(0, 2**32 - 1))
def test_cut_anywhere_is_the_whole(cut, reset, seed):
    x = random(seed, 12, 2, 3).float()
    whole, last = lif(x, 0.93, 0.8, reset=reset)
    first, state = lif(x[:cut], 0.93, 0.8, reset=reset)
    second, state = lif(x[cut:], 0.93, 0.8, state, reset=reset)
    assert torch.equal(torch.cat((first, second)), whole)
    assert torch.equal(state, last)


def test_arguments_are_left_alone():
    x, decay, threshold, initial = random(14, 5, 2, 3), random(15, 3), random(16, 3).abs(), random(17, 2, 3)
    copies = [value.clone() for value in (x, decay, threshold, initial)]
    lif(x, decay, threshold, initial)
    assert all(map(torch.equal, copies, (x, decay, threshold, initial)))


@pytest.mark.usefixtures("as_a_user")
class TestErrors:
    def test_an_unknown_reset_is_answered_with_the_known_ones(self):
        with pytest.raises(ValueError, match=r"lif: reset must be one of 'subtract', 'zero', 'none', got 'hard'"):
            lif(torch.ones(2, 1, 1), 0.9, reset="hard")

    @pytest.mark.parametrize("name", ["decay", "threshold", "initial"])
    def test_values_that_do_not_fit_are_named(self, name):
        arguments = {"decay": 0.9, name: torch.ones(4)}
        with pytest.raises(ValueError, match=rf"lif: {name} must broadcast.*\(2, 3\), got shape \(4,\)"):
            lif(torch.ones(5, 2, 3), **arguments)

    def test_a_state_of_a_larger_batch_is_refused(self):
        with pytest.raises(ValueError, match=r"initial .*\(1, 3\), got shape \(2, 3\)"):
            lif(torch.ones(5, 1, 3), 0.9, initial=torch.zeros(2, 3))

    @pytest.mark.parametrize(
        ("x", "error", "message"),
        [
            (np.ones((2, 1, 1)), TypeError, "must be a torch.Tensor, got ndarray"),
            (
                torch.ones(2, 1, 1, dtype=torch.int64),
                TypeError,
                r"floating point, got torch.int64; convert it: x.float\(\)",
            ),
            (torch.ones(2, 1, 1, dtype=torch.complex64), TypeError, "floating point, got torch.complex64"),
            (torch.ones(2), ValueError, r"\(T, B, \*features\), got shape \(2,\)"),
        ],
    )
    def test_no_sequence(self, x, error, message):
        with pytest.raises(error, match=message):
            lif(x, 0.9)
