"""The Triton kernels of leaky integration against the reference and autograd, and its two ways against each other."""

from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from computing import computed_by
from ops.triton_kernels import DEVICE, compiling, laid_out, load, running
from rheobase.ops.integrate import fused, integrate, reference

TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    """The kernels, in programs of 4 lanes and tiles of 2 steps: several of both in a small test."""
    return laid_out(load("integrate"), block=4, warps=1, tile=2)


@pytest.fixture
def cut(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """Sets how many steps a chunk has; None is all of them."""

    def set_length(length: int | None) -> None:
        monkeypatch.setattr(gpu, "chunk_length", lambda steps, lanes, device: length or max(steps, 1))

    set_length(None)
    return set_length


def make_case(steps: int, lanes: int, states: int = 1, dtype: torch.dtype = torch.float32, seed: int = 0):
    """x, decay, initial, and the gradients of the membrane and of the last states."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.float64 if dtype == torch.float64 else torch.float32

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=state)

    decay = torch.sigmoid(1 + normal(states, lanes))
    return normal(steps, lanes).to(dtype), decay, normal(states, lanes), normal(steps, lanes), normal(states, lanes)


def expected(x: Tensor, decay: Tensor, initial: Tensor, on_membrane: Tensor, on_last: Tensor) -> list[Tensor]:
    """The membrane, the last states, and the gradients of x, initial and decay, by the reference and autograd."""
    x, initial, decay = (leaf.clone().requires_grad_() for leaf in (x.to(decay.dtype), initial, decay))
    current, last_current = x, []
    if len(decay) == 2:
        current, last = reference.integrate(x, decay[1], initial[1])
        last_current = [last]
    membrane, last = reference.integrate(current, decay[0], initial[0])
    last = torch.stack([last, *last_current])
    total = (membrane * on_membrane).sum() + (last * on_last).sum()
    gradients = torch.autograd.grad(total, (x, initial, decay), allow_unused=True, materialize_grads=True)
    return [tensor.detach() for tensor in (membrane, last, *gradients)]


def computed(gpu: ModuleType, case: tuple[Tensor, ...], learn: bool = True) -> list[Tensor]:
    """The same by the kernels."""
    x, decay, initial, on_membrane, on_last = (tensor.to(DEVICE) for tensor in case)
    with running():
        membrane, last = gpu.forward(x, decay, initial)
        saved = membrane if learn else membrane.new_empty(0, 0)
        gradients = gpu.backward(on_membrane, on_last, saved, decay, initial, learn)
    return [tensor.cpu() for tensor in (membrane, last, *gradients)]


def check(outputs: list[Tensor], rights: list[Tensor]) -> None:
    for output, right in zip(outputs, rights, strict=True):
        tolerance = 1e-12 if right.dtype == torch.float64 else 1e-5
        torch.testing.assert_close(output, right, rtol=tolerance, atol=tolerance, equal_nan=True)


@settings(max_examples=25)
@given(
    st.integers(0, 9),
    st.sampled_from([0, 1, 4, 5]),
    st.integers(1, 2),
    st.sampled_from(TYPES),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_equals_the_reference(gpu, steps, lanes, states, dtype, learn, seed):
    case = make_case(steps, lanes, states, dtype, seed)
    outputs, rights = computed(gpu, case, learn), expected(*case)
    assert torch.equal(outputs[0], rights[0])
    assert torch.equal(outputs[1], rights[1])
    if not learn:
        rights[4] = torch.zeros_like(rights[4])
    check(outputs, rights)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("states", [1, 2])
@pytest.mark.parametrize(("steps", "length"), [(13, 4), (16, 8), (9, 8), (5, 1)])
def test_in_chunks_it_is_the_same(gpu, cut, steps, length, states, dtype):
    case = make_case(steps, 5, states, dtype)
    whole = computed(gpu, case)
    cut(length)
    in_chunks = computed(gpu, case)
    check(in_chunks, whole)
    check(in_chunks, expected(*case))


@pytest.mark.parametrize("states", [1, 2])
def test_chunks_with_decays_of_0_and_1_and_equal_decays(gpu, cut, states):
    x, decay, initial, on_membrane, on_last = make_case(40, 6, states, torch.float64)
    decay[0] = torch.tensor([0.0, 1.0, 0.5, 1e-30, 0.9, 0.25])
    decay[-1] = torch.tensor([0.0, 1.0, 0.5, 0.5, 1.0, 0.0])
    case = x, decay, initial, on_membrane, on_last
    cut(16)
    check(computed(gpu, case), expected(*case))


@pytest.mark.parametrize("length", [None, 4])
def test_what_is_not_finite_propagates(gpu, cut, length):
    case = make_case(9, 3, 1)
    case[0][1] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    cut(length)
    outputs, rights = computed(gpu, case), expected(*case)
    assert not outputs[0][1:].isfinite().any()
    check(outputs, rights)


def test_the_operation_hands_over_what_the_kernels_expect(gpu, cut, monkeypatch):
    monkeypatch.setattr(fused, "kernels_for", lambda operation, x: gpu)
    cut(2)

    def results(computer: str, learn: bool) -> list[Tensor]:
        x = torch.linspace(-1, 2, 30).view(3, 2, 5).transpose(0, 1).to(DEVICE).requires_grad_()
        decay = torch.full((5,), 0.8, device=DEVICE, requires_grad=learn)
        with computed_by(computer), running():
            membrane, last = integrate(x, decay)
            loss = (membrane * membrane.detach()).sum() + last.sum()
            return [membrane, last, *torch.autograd.grad(loss, (x, decay) if learn else (x,))]

    for learn in (True, False):
        check(results("kernels", learn), results("reference", learn))


def test_few_lanes_and_long_sequences_are_cut():
    gpu = load("integrate")
    assert gpu.chunk_length(2100, 3, DEVICE) == 64
    assert gpu.chunk_length(2100, 10**6, DEVICE) == 2100
    x, decay, initial, *_ = case = make_case(2100, 3)
    with running():
        membrane, last = gpu.forward(x.to(DEVICE), decay.to(DEVICE), initial.to(DEVICE))
    assert torch.equal(membrane[:64].cpu(), expected(*case)[0][:64])
    check([membrane.cpu(), last.cpu()], expected(*case)[:2])


@pytest.mark.parametrize(("states", "dtype"), [(1, torch.float32), (2, torch.bfloat16), (2, torch.float64)])
def test_compiles_to_machine_code(tmp_path, states, dtype):
    gpu = laid_out(load("integrate", interpret=False), tile=2)
    gpu.chunk_length = lambda steps, lanes, device: 4
    x, decay, initial, on_membrane, on_last = make_case(9, 3, states, dtype)
    with compiling(str(tmp_path)) as compiled:
        membrane, _ = gpu.forward(x, decay, initial)
        gpu.backward(on_membrane, on_last, membrane, decay, initial, True)
    assert compiled == ["_walk", "_carry", "_walk"] * 2
