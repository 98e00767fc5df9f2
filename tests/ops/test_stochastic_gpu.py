"""The Triton kernels of stochastic firing against the reference and autograd, and their two ways against each other."""

from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from computing import computed_by
from ops.triton_kernels import DEVICE, compiling, laid_out, load, running
from rheobase.ops import stochastic_lif
from rheobase.ops.stochastic import fused, reference

TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
FIRINGS = ("bernoulli", "gumbel", "threshold", "expected")


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    """The kernels, in programs of 4 lanes and tiles of 2 steps: several of both in a small test."""
    return laid_out(load("stochastic"), block=4, warps=1, tile=2)


@pytest.fixture
def cut(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """Sets how many steps a chunk has; None is all of them."""

    def set_length(length: int | None) -> None:
        monkeypatch.setattr(
            gpu.integration, "chunk_length", lambda steps, lanes, device: min(length or steps, max(steps, 1))
        )

    set_length(None)
    return set_length


Case = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def make_case(steps: int, lanes: int, dtype: torch.dtype = torch.float32, seed: int = 0, start: int = 3) -> Case:
    """x, decay, slope, offset, initial, noise, and the gradients of the outputs and of the last states."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.float64 if dtype == torch.float64 else torch.float32

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=state)

    decay, slope = torch.sigmoid(1 + normal(2, lanes)), normal(lanes).exp()
    noise = torch.tensor([0x299F31D0_A4093822, start])
    x, on_outputs = (normal(steps, lanes).to(dtype) for _ in range(2))
    return x, decay, slope, normal(lanes), normal(2, lanes), noise, on_outputs, normal(2, lanes)


def expected(case: Case, firing: str) -> list[Tensor]:
    """The outputs, the last states, and the gradients of x, initial, decay, slope and offset, by the reference."""
    x, *parameters, noise, on_outputs, on_last = case
    state = parameters[0].dtype
    leaves = [leaf.clone().requires_grad_() for leaf in (x.to(state), *parameters)]
    x_leaf, decay, slope, offset, initial = leaves
    outputs, *last = reference.stochastic_lif(
        x_leaf, list(decay), slope, offset, list(initial), noise, firing, temperature=0.5
    )
    total = (outputs * on_outputs.to(state)).sum() + (torch.stack(last) * on_last).sum()
    gradients = torch.autograd.grad(
        total, (x_leaf, initial, decay, slope, offset), allow_unused=True, materialize_grads=True
    )
    return [outputs.detach().to(x.dtype), torch.stack(last).detach(), gradients[0].to(x.dtype), *gradients[1:]]


def computed(gpu: ModuleType, case: Case, firing: str, learn: bool = True) -> list[Tensor]:
    """The same by the kernels."""
    x, decay, slope, offset, initial, noise, on_outputs, on_last = (tensor.to(DEVICE) for tensor in case)
    parameters = decay, slope, offset, initial, noise
    with running():
        outputs, last, membrane = gpu.forward(x, *parameters, firing, True)
        gradients = gpu.backward(on_outputs, on_last, membrane, *parameters, firing, 0.5, learn)
    return [tensor.cpu() for tensor in (outputs, last, *gradients)]


def check(outputs: list[Tensor], rights: list[Tensor], steps: int) -> None:
    for output, right in zip(outputs, rights, strict=True):
        allowed = 16 * max(steps, 1) * torch.finfo(right.dtype).eps
        scale = 1 + (right.abs().max().item() if right.numel() else 0)
        torch.testing.assert_close(output, right, rtol=allowed, atol=allowed * scale)


@settings(max_examples=8)
@given(
    st.integers(0, 9),
    st.sampled_from([0, 1, 5]),
    st.sampled_from(TYPES),
    st.booleans(),
    st.integers(0, 5),
    st.integers(0, 2**16),
)
@pytest.mark.parametrize("firing", FIRINGS)
def test_equals_the_reference(gpu, firing, steps, lanes, dtype, learn, start, seed):
    case = make_case(steps, lanes, dtype, seed, start)
    outputs, rights = computed(gpu, case, firing, learn), expected(case, firing)
    if firing != "expected":
        assert torch.equal(outputs[0], rights[0])
    assert torch.equal(outputs[1], rights[1])
    if not learn:
        rights[4:] = [torch.zeros_like(right) for right in rights[4:]]
    check(outputs, rights, steps)


@pytest.mark.parametrize(("dtype", "learn"), [(torch.float64, True), (torch.bfloat16, False)], ids=str)
@pytest.mark.parametrize("firing", FIRINGS)
def test_in_chunks_it_is_the_same(gpu, cut, firing, dtype, learn):
    case = make_case(13, 5, dtype)
    whole = computed(gpu, case, firing, learn)
    cut(4)
    check(computed(gpu, case, firing, learn), whole, 13)


@pytest.mark.parametrize("length", [None, 4])
def test_without_a_gradient_nothing_is_kept(gpu, cut, length):
    cut(length)
    x, *parameters, _, _ = (tensor.to(DEVICE) for tensor in make_case(9, 5))
    with running():
        outputs, _, membrane = gpu.forward(x, *parameters, "bernoulli", False)
        kept, _, _ = gpu.forward(x, *parameters, "bernoulli", True)
    assert membrane.shape == (0, 0)
    assert torch.equal(outputs, kept)


@pytest.mark.parametrize("length", [None, 2])
def test_the_operation_hands_over_what_the_kernels_expect(gpu, cut, monkeypatch, length):
    monkeypatch.setattr(fused, "kernels_for", lambda operation, x: gpu)
    cut(length)

    def results(computer: str) -> list[Tensor]:
        torch.manual_seed(3)
        x = torch.linspace(-1, 2, 30).view(3, 2, 5).transpose(0, 1).to(DEVICE).requires_grad_()
        decay = torch.full((5,), 0.8, device=DEVICE, requires_grad=True)
        with computed_by(computer), running():
            outputs, (membrane, current, _) = stochastic_lif(x, 0.5, decay, firing="gumbel")
            loss = (outputs * x.detach()).sum() + membrane.sum() + current.sum()
            return [outputs, membrane, current, *torch.autograd.grad(loss, (x, decay))]

    check(results("kernels"), results("reference"), 3)


def test_compiles_to_machine_code(tmp_path):
    gpu = laid_out(load("stochastic", interpret=False), tile=2)
    x, *parameters, on_outputs, on_last = make_case(9, 3, torch.bfloat16)
    with compiling(str(tmp_path)) as compiled:
        for length in (9, 4):
            gpu.integration.chunk_length = lambda steps, lanes, device, length=length: length
            _, _, membrane = gpu.forward(x, *parameters, "gumbel", True)
            gpu.backward(on_outputs, on_last, membrane, *parameters, "gumbel", 1.0, True)
    walks = ["_walk", "_carry", "_walk"]
    assert compiled == ["_forward", "_backward", *walks, "_fire", "_on_logits", *walks]
