"""The Triton kernels of neurons that fire once against the reference and autograd."""

from dataclasses import fields
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from computing import computed_by
from ops.spiking_cases import DAMPENING, SHARPNESS, Case, Given
from ops.triton_kernels import DEVICE, compiling, laid_out, load, running
from rheobase import surrogate as surrogates
from rheobase.ops import first_spikes, single_spike
from rheobase.ops.single_spike import Credit, fused, reference

CREDITS = ("ramp", "early_ramp", "product", "detached")
SHAPES = ("FastSigmoid", "Arctan", "Rectangular", "Triangular", "Exponential", "Gaussian", "Sigmoid", "given")
TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    """The kernels, in programs of 4 lanes and tiles of 2 steps: several of both in a small test."""
    return laid_out(load("single_spike"), block=4, warps=1, tile=2)


def make_case(steps: int, lanes: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Case:
    generator = torch.Generator().manual_seed(seed)
    state = torch.float64 if dtype == torch.float64 else torch.float32

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=state)

    fired = (normal(lanes) > 1).to(state)
    return Case(
        x=(0.2 + normal(steps, lanes)).to(dtype),
        decay=torch.sigmoid(1 + normal(lanes)),
        threshold=0.3 + torch.sigmoid(normal(lanes)),
        initial=torch.stack((normal(lanes), fired, fired)),
        on_spikes=normal(steps, lanes).to(dtype),
        on_last=normal(3, lanes),
        slope=normal(steps, lanes),
    )


def expected(case: Case, credit: Credit, shape: str, fire_by_end: bool, whole: bool) -> list[Tensor]:
    """Spikes, state, and the gradients of x, initial state, decay and threshold, by the reference and autograd."""
    start = torch.zeros_like(case.initial) if whole else case.initial
    leaves = [case.x.to(case.decay.dtype), start, case.decay, case.threshold]
    x, initial, decay, threshold = (leaf.clone().requires_grad_() for leaf in leaves)
    # The step that is forced asks for no derivative.
    rule = Given(case.slope[: len(x) - fire_by_end]) if shape == "given" else None
    rule = rule or getattr(surrogates, shape)(DAMPENING, SHARPNESS)
    spikes, *last = reference.single_spike(x, decay, threshold, list(initial), credit, fire_by_end, rule, whole)
    last = torch.stack(last)
    total = (spikes * case.on_spikes).sum() + (0 if whole else (last * case.on_last).sum())
    total = total if len(x) else total + 0 * decay.sum()  # without a step, there may be nothing that has a gradient
    gradients = torch.autograd.grad(total, (x, initial, decay, threshold), allow_unused=True, materialize_grads=True)
    return [tensor.detach() for tensor in (spikes, last, *gradients)]


def computed(
    gpu: ModuleType, case: Case, credit: Credit, shape: str, fire_by_end: bool, whole: bool, learn: bool = True
) -> list[Tensor]:
    """The same by the kernels."""
    x, decay, threshold, initial, on_spikes, on_last, slope = (
        getattr(case, field.name).to(DEVICE) for field in fields(case)
    )
    nothing = decay.new_empty(0, 0)
    initial, on_last = (nothing, nothing) if whole else (initial, on_last)
    with running():
        spikes, last, membrane, crossings = gpu.forward(x, decay, threshold, initial, credit, fire_by_end, True, whole)
        gradients = gpu.backward(
            on_spikes, on_last, membrane, crossings, slope if shape == "given" else nothing, decay, threshold, initial,
            credit, fire_by_end, shape, DAMPENING, SHARPNESS, learn, whole,
        )  # fmt: skip
    return [tensor.cpu() for tensor in (spikes, last, *gradients)]


def check(gpu: ModuleType, case: Case, credit: Credit, shape: str, fire_by_end: bool, whole: bool, **options) -> None:
    """Outputs are equal to the last bit, gradients to rounding."""
    ours = computed(gpu, case, credit, shape, fire_by_end, whole, **options)
    theirs = expected(case, credit, shape, fire_by_end, whole)
    if not options.get("learn", True):
        theirs[4:] = map(torch.zeros_like, theirs[4:])
    for of_sequence in (0, 2):
        theirs[of_sequence] = theirs[of_sequence].to(case.x.dtype)
    assert torch.equal(ours[0], theirs[0])
    rtol = {torch.float64: 1e-11, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
    for position, (mine, right) in enumerate(zip(ours, theirs, strict=True)):
        if whole and position in (1, 3):  # there is no state
            assert mine.shape == (0, 0)
            continue
        allowed = 0 if position == 1 else rtol[mine.dtype]
        scale = 1 + (right.abs().nan_to_num(posinf=0).max().item() if right.numel() else 0)
        torch.testing.assert_close(mine, right, rtol=allowed, atol=allowed * scale, equal_nan=True)


@pytest.mark.parametrize("fire_by_end", [False, True])
@pytest.mark.parametrize("credit", CREDITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_reference(gpu, shape, credit, fire_by_end):
    check(gpu, make_case(6, 5), credit, shape, fire_by_end, whole=False)


@settings(max_examples=30)
@given(
    st.integers(0, 9),
    st.sampled_from([0, 1, 4, 9]),
    st.sampled_from(TYPES),
    st.sampled_from(CREDITS),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_any_shape_and_type(gpu, steps, lanes, dtype, credit, fire_by_end, whole, learn, seed):
    fire_by_end = fire_by_end and steps > 0
    check(gpu, make_case(steps, lanes, dtype, seed), credit, "FastSigmoid", fire_by_end, whole, learn=learn)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("credit", CREDITS)
def test_what_is_not_finite_propagates(gpu, credit, whole):
    case = make_case(6, 8)
    case.x[1] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0] * 2)
    case.on_spikes[4, 4:] = torch.nan
    case.threshold[3], case.threshold[7], case.decay[6] = torch.nan, torch.inf, torch.nan
    check(gpu, case, credit, "FastSigmoid", False, whole)


def test_the_layout_in_use():
    check(load("single_spike"), make_case(19, 33), "product", "FastSigmoid", False, False)


@pytest.mark.parametrize("credit", CREDITS)
def test_the_operations_hand_over_what_the_kernels_expect(gpu, monkeypatch, credit):
    monkeypatch.setattr(fused, "kernels_for", lambda operation, x: gpu)

    def results(computer: str) -> list[Tensor]:
        x = torch.linspace(-1, 2, 30).view(3, 2, 5).transpose(0, 1).to(DEVICE).requires_grad_()
        decay, threshold = (torch.full((5,), value, device=DEVICE, requires_grad=True) for value in (0.8, 0.7))
        with computed_by(computer), running():
            spikes, (membrane, fired, ramp) = single_spike(x, decay, threshold, credit=credit)
            of_whole = first_spikes(x, decay, threshold, credit=credit, fire_by_end=True)
            loss = (spikes * x.detach()).sum() + (membrane + 2 * fired + 3 * ramp).sum() + (of_whole * x.detach()).sum()
            return [spikes, membrane, of_whole, *torch.autograd.grad(loss, (x, decay, threshold))]

    for output, right in zip(results("kernels"), results("reference"), strict=True):
        torch.testing.assert_close(output, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "credit", "shape", "whole", "learn"),
    [
        (torch.float32, "ramp", "FastSigmoid", True, True),
        (torch.float64, "product", "given", False, True),
        (torch.bfloat16, "early_ramp", "Gaussian", True, True),
        (torch.float16, "detached", "Triangular", False, False),
    ],
)
def test_compiles_to_machine_code(tmp_path, dtype, credit, shape, whole, learn):
    # What the interpreter does not check: types that change in a loop, Python that Triton does not know, arguments.
    module = laid_out(load("single_spike", interpret=False), tile=2)
    case = make_case(5, 3, dtype)
    nothing = case.decay.new_empty(0, 0)
    initial, on_last = (nothing, nothing) if whole else (case.initial, case.on_last)
    parameters = case.decay, case.threshold, initial, credit, True
    with compiling(str(tmp_path)) as compiled:
        _, _, membrane, crossings = module.forward(case.x, *parameters, True, whole)
        module.backward(
            case.on_spikes, on_last, membrane, crossings, case.slope, *parameters,
            shape, DAMPENING, SHARPNESS, learn, whole,
        )  # fmt: skip
    assert compiled == ["_forward", "_backward"]
