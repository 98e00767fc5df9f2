"""The Triton kernels of the neuron against the reference and autograd."""

from types import ModuleType
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from computing import computed_by
from ops.spiking_cases import DAMPENING, SHARPNESS, Case, Given
from ops.triton_kernels import DEVICE, compiling, laid_out, load, running
from rheobase import surrogate as surrogates
from rheobase.ops.integrate import reference as integrate_reference
from rheobase.ops.lif import ResetGradient, fused, reference, synaptic_lif

RESETS = ("subtract", "zero", "none")
SHAPES = ("FastSigmoid", "Arctan", "Rectangular", "Triangular", "Exponential", "Gaussian", "Sigmoid", "MultiGaussian")
TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    """The kernels, in programs of 4 lanes and tiles of 2 steps: several of both in a small test."""
    return laid_out(load("lif"), block=4, warps=1, tile=2)


def make_case(steps: int, lanes: int, states: int = 1, dtype: torch.dtype = torch.float32, seed: int = 0) -> Case:
    generator = torch.Generator().manual_seed(seed)
    state = torch.float64 if dtype == torch.float64 else torch.float32

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=state)

    return Case(
        x=normal(steps, lanes).to(dtype),
        decay=torch.sigmoid(1 + normal(states, lanes)),
        threshold=0.3 + torch.sigmoid(normal(lanes)),
        initial=normal(states, lanes),
        on_spikes=normal(steps, lanes).to(dtype),
        on_last=normal(states, lanes),
        slope=normal(steps, lanes),
    )


def expected(case: Case, reset: Any, shape: str, reset_gradient: str) -> list[Tensor]:
    """Spikes, last states, and the gradients of x, initial, decay and threshold, by the reference and autograd."""
    state = case.decay.dtype
    leaves = [case.x.to(state), case.initial, case.decay, case.threshold]
    x, initial, decay, threshold = (leaf.clone().requires_grad_() for leaf in leaves)
    rule = Given(case.slope) if shape == "given" else getattr(surrogates, shape)(DAMPENING, SHARPNESS)
    current, last_current = x, []
    if len(decay) == 2:
        current, last = integrate_reference.integrate(x, decay[1], initial[1])
        last_current = [last]
    spikes, last = reference.lif(current, decay[0], threshold, initial[0], reset, rule, reset_gradient)
    last = torch.stack([last, *last_current])
    total = (spikes * case.on_spikes.to(state)).sum() + (last * case.on_last).sum()
    gradients = torch.autograd.grad(total, (x, initial, decay, threshold), allow_unused=True, materialize_grads=True)
    return [tensor.detach() for tensor in (spikes, last, *gradients)]


def computed(
    gpu: ModuleType, case: Case, reset: Any, shape: str, reset_gradient: str, learn: bool = True, compact: bool = False
) -> list[Tensor]:
    """The same by the kernels."""
    x, decay, threshold, initial, on_spikes, on_last, slope = (tensor.to(DEVICE) for tensor in vars(case).values())
    slope = slope if shape == "given" else slope.new_empty(0, 0)
    with running():
        spikes, last, membrane = gpu.forward(x, decay, threshold, initial, reset, True, compact)
        gradients = gpu.backward(
            on_spikes, on_last, membrane, slope, decay, threshold, initial,
            reset, shape, DAMPENING, SHARPNESS, reset_gradient, learn,
        )  # fmt: skip
    assert spikes.dtype == gradients[0].dtype == x.dtype
    assert membrane.dtype == (torch.bfloat16 if compact else decay.dtype)
    return [tensor.cpu() for tensor in (spikes, last, *gradients)]


def check(gpu: ModuleType, case: Case, reset: Any, shape: str, reset_gradient: str, **options: Any) -> None:
    """Outputs are equal to the last bit, gradients to rounding."""
    spikes, last, *gradients = computed(gpu, case, reset, shape, reset_gradient, **options)
    expected_spikes, expected_last, *expected_gradients = expected(case, reset, shape, reset_gradient)
    assert torch.equal(spikes, expected_spikes.to(case.x.dtype))
    torch.testing.assert_close(last, expected_last, rtol=0, atol=0, equal_nan=True)
    if not options.get("learn", True):
        expected_gradients[2:] = map(torch.zeros_like, expected_gradients[2:])
    expected_gradients[0] = expected_gradients[0].to(case.x.dtype)
    # Half-precision gradients are equal but for the last bit, which the last bit of a float32 may turn.
    rtol = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
    for gradient, right in zip(gradients, expected_gradients, strict=True):
        tolerance = rtol[gradient.dtype]
        torch.testing.assert_close(gradient, right, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("states", [1, 2])
@pytest.mark.parametrize("reset_gradient", get_args(ResetGradient))
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("shape", [*SHAPES, "given"])
def test_equals_the_reference(gpu, shape, reset, reset_gradient, states):
    check(gpu, make_case(5, 3, states), reset, shape, reset_gradient)


@settings(max_examples=40)
@given(
    st.integers(0, 13),
    st.sampled_from([0, 1, 3, 4, 9]),
    st.integers(1, 2),
    st.sampled_from(TYPES),
    st.sampled_from(RESETS),
    st.sampled_from(["FastSigmoid", "given"]),
    st.sampled_from(get_args(ResetGradient)),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_any_shape_and_type(gpu, steps, lanes, states, dtype, reset, shape, reset_gradient, learn, seed):
    check(gpu, make_case(steps, lanes, states, dtype, seed), reset, shape, reset_gradient, learn=learn)


@pytest.mark.parametrize("lanes", [33, 520], ids=["few", "many"])
def test_the_layouts_in_use(lanes):
    check(load("lif"), make_case(19, lanes, 2), "subtract", "FastSigmoid", "detached")


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("shape", ["Triangular", "Gaussian"])
def test_what_is_not_finite_propagates(gpu, shape, reset):
    case = make_case(6, 8)
    case.x[1] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0] * 2)
    case.on_spikes[4, 4:] = torch.nan
    case.threshold[3], case.threshold[7], case.decay[0, 6] = torch.nan, torch.inf, torch.nan
    outputs = computed(gpu, case, reset, shape, "detached")
    assert outputs[1].isnan().any()
    assert outputs[2].isnan().any()
    for output, right in zip(outputs, expected(case, reset, shape, "detached"), strict=True):
        torch.testing.assert_close(output, right, rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("reset", RESETS)
def test_compact_states_recover_the_spikes_and_nearly_the_gradients(gpu, reset):
    case = make_case(9, 5, 1, torch.bfloat16)
    case.x[0, 0] = case.threshold[0] = case.initial[0, 0] = 0  # on the threshold, where a rounded membrane would err
    exact = computed(gpu, case, reset, "FastSigmoid", "detached")
    compact = computed(gpu, case, reset, "FastSigmoid", "detached", compact=True)
    assert torch.equal(exact[0], expected(case, reset, "FastSigmoid", "detached")[0].bfloat16())
    assert exact[0][0, 0] == 1
    assert torch.equal(exact[0], compact[0])
    assert torch.equal(exact[1], compact[1])
    for a, b in zip(exact[2:], compact[2:], strict=True):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02 * a.abs().max().item())


def test_without_save_there_is_no_membrane(gpu):
    case = make_case(5, 3)
    arguments = (tensor.to(DEVICE) for tensor in (case.x, case.decay, case.threshold, case.initial))
    spikes, _, membrane = gpu.forward(*arguments, "zero", False)
    assert torch.equal(spikes.cpu(), expected(case, "zero", "Arctan", "detached")[0])
    assert membrane.shape == (0, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_operation_hands_over_what_the_kernels_expect(gpu, monkeypatch, dtype):
    monkeypatch.setattr(fused, "kernels_for", lambda operation, x: gpu)

    def results(computer: str) -> list[Tensor]:
        x = torch.linspace(-1, 2, 30).view(3, 2, 5).transpose(0, 1).to(DEVICE, dtype).requires_grad_()
        decay, threshold = (torch.full((5,), value, device=DEVICE, requires_grad=True) for value in (0.8, 0.7))
        with computed_by(computer), running():
            spikes, (membrane, current) = synaptic_lif(x, 0.5, decay, threshold, reset_gradient="attached")
            loss = (spikes * spikes.detach().cumsum(0)).sum() + membrane.sum() + 2 * current.sum()
            return [spikes, membrane, *torch.autograd.grad(loss, (x, decay, threshold))]

    for output, right in zip(results("kernels"), results("reference"), strict=True):
        assert output.dtype == right.dtype
        torch.testing.assert_close(output, right, rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=1e-5)


@pytest.mark.parametrize(
    ("states", "dtype", "reset", "shape", "reset_gradient", "learn", "compact"),
    [
        (1, torch.float32, "subtract", "FastSigmoid", "detached", False, False),
        (2, torch.float32, "zero", "Gaussian", "attached", True, False),
        (2, torch.bfloat16, "subtract", "given", "detached", True, True),
        (1, torch.float16, "none", "Triangular", "detached", True, False),
        (1, torch.float64, "subtract", "Exponential", "attached", True, False),
        (1, torch.bfloat16, "zero", "Arctan", "ignored", True, True),
    ],
)
def test_compiles_to_machine_code(tmp_path, states, dtype, reset, shape, reset_gradient, learn, compact):
    # What the interpreter does not check: types that change in a loop, Python that Triton does not know, arguments.
    gpu = laid_out(load("lif", interpret=False), tile=2)
    case = make_case(5, 3, states, dtype)
    with compiling(str(tmp_path)) as compiled:
        _, _, membrane = gpu.forward(case.x, case.decay, case.threshold, case.initial, reset, True, compact)
        gpu.backward(
            case.on_spikes, case.on_last, membrane, case.slope, case.decay, case.threshold, case.initial,
            reset, shape, DAMPENING, SHARPNESS, reset_gradient, learn,
        )  # fmt: skip
    assert compiled == ["_forward", "_backward"]
