"""The Triton kernels of adaptive neurons against the reference and autograd."""

from dataclasses import dataclass
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from computing import computed_by
from ops.spiking_cases import DAMPENING, SHARPNESS, Given
from ops.triton_kernels import DEVICE, compiling, laid_out, load, running
from rheobase import surrogate as surrogates
from rheobase.ops import adaptive_lif, recurrent_adaptive_lif
from rheobase.ops.adaptive import fused, pieces, reference
from rheobase.ops.kernels import kernels_for

TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
RULES = pytest.mark.parametrize("blocks", [False, True], ids=["sequential", "blocks"])


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    """The kernels, in programs of 4 lanes, tiles of 4 steps and segments of 2: several of each in a small test."""
    module = laid_out(load("adaptive"), block=4, warps=1, tile=4)
    vars(module)["SEGMENT"] = 2
    return module


@dataclass
class Case:
    """All that goes into a forward and a backward pass."""

    x: Tensor
    parameters: Tensor
    initial: Tensor
    on_spikes: Tensor
    on_last: Tensor
    slope: Tensor
    blocks: bool
    refractory: int

    def tensors(self) -> list[Tensor]:
        given = (self.x, self.parameters, self.initial, self.on_spikes, self.on_last, self.slope)
        return [tensor.to(DEVICE) for tensor in given]


def make_case(
    steps: int, lanes: int, blocks: bool, refractory: int, dtype: torch.dtype = torch.float32, seed: int = 0
) -> Case:
    """A case in which neurons fire, are refractory, and are tired."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.float64 if dtype == torch.float64 else torch.float32

    def uniform(*shape, low=0.0, high=1.0):
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=state)

    ranges = (0.7, 1), (0.3, 1), (0.6, 1), (0, 0.5)
    resting = torch.randint(0, min(refractory, 4) + 1, (lanes,), generator=generator).to(state)
    membrane = torch.where(resting > 0, 3.0, 1.0) * uniform(lanes, low=-0.5, high=0.5)
    return Case(
        x=uniform(steps, lanes, low=-0.3).to(dtype),
        parameters=torch.stack([uniform(lanes, low=low, high=high) for low, high in ranges]),
        initial=torch.stack([membrane, uniform(lanes), resting]),
        on_spikes=uniform(steps, lanes, low=-1).to(dtype),
        on_last=uniform(3, lanes, low=-1),
        slope=uniform(steps, lanes),
        blocks=blocks,
        refractory=refractory,
    )


def expected(case: Case, shape: str) -> list[Tensor]:
    """Spikes and last state, step by step; and the gradients of x, initial and parameters, by the rule."""
    state = case.parameters.dtype
    leaves = [leaf.clone().requires_grad_() for leaf in (case.x.to(state), case.initial, case.parameters)]
    x, initial, parameters = leaves
    results = []
    for compute in (reference.sequential, reference.blocks if case.blocks else reference.sequential):
        rule = getattr(surrogates, shape)(DAMPENING, SHARPNESS) if shape != "given" else given_slope(case)
        spikes, last = compute(x, *parameters, list(initial), case.refractory, rule)
        results.append((spikes, torch.stack(last)))
    (spikes, last), (rule_spikes, rule_last) = results
    total = (rule_spikes * case.on_spikes.to(state)).sum() + (rule_last * case.on_last)[:2].sum()
    gradients = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    return [tensor.detach() for tensor in (spikes, last, *gradients)]


def given_slope(case: Case) -> Given:
    # The reference asks for the derivative step by step, or block by block.
    return Given(case.slope.split(case.refractory + 1) if case.blocks else case.slope)


def computed(gpu: ModuleType, case: Case, shape: str, learn: bool = True) -> list[Tensor]:
    """The same by the kernels."""
    x, parameters, initial, on_spikes, on_last, slope = case.tensors()
    slope = slope if shape == "given" else slope.new_empty(0, 0)
    with running():
        spikes, last, distance, kept = pieces.forward(
            gpu, x, parameters, initial, None, None, case.blocks, case.refractory, True
        )
        on_x, on_initial, on_parameters, _, _ = pieces.backward(
            gpu, on_spikes, on_last, distance, kept, slope, parameters, None, None, None,
            case.blocks, case.refractory, shape, DAMPENING, SHARPNESS, True, learn,
        )  # fmt: skip
    assert spikes.dtype == on_x.dtype == x.dtype
    assert distance.dtype == kept.dtype == parameters.dtype
    return [tensor.cpu() for tensor in (spikes, last, on_x, on_initial, on_parameters)]


def check(gpu: ModuleType, case: Case, shape: str, learn: bool = True) -> None:
    """Outputs are equal to the last bit, gradients to rounding."""
    spikes, last, *gradients = computed(gpu, case, shape, learn)
    expected_spikes, expected_last, *rights = expected(case, shape)
    assert torch.equal(spikes, expected_spikes.to(case.x.dtype))
    assert torch.equal(last, expected_last)
    if not learn:
        rights[2] = torch.zeros_like(rights[2])
    compare(gradients, rights)


def compare(gradients: list[Tensor], rights: list[Tensor]) -> None:
    """Equal to rounding, which is that of sums; those of 16 bits are rounded once more."""
    for gradient, right in zip(gradients, rights, strict=True):
        unit = torch.finfo(right.dtype).eps
        rounded = torch.finfo(gradient.dtype).eps if gradient.dtype.itemsize == 2 else 0.0
        scale = max(right.abs().max().item(), 1.0) if right.numel() else 1.0
        torch.testing.assert_close(gradient.to(right.dtype), right, rtol=rounded, atol=64 * unit * scale)


@RULES
@pytest.mark.parametrize("refractory", [0, 1, 3, 10])
def test_equals_the_reference(gpu, refractory, blocks):
    case = make_case(13, 9, blocks, refractory)
    assert 0.05 < expected(case, "FastSigmoid")[0].mean() < 0.5
    check(gpu, case, "FastSigmoid")


@settings(max_examples=30)
@given(
    st.integers(0, 13),
    st.sampled_from([0, 1, 3, 4, 9]),
    st.booleans(),
    st.sampled_from([0, 1, 3, 10]),
    st.sampled_from(TYPES),
    st.sampled_from(["MultiGaussian", "given"]),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_any_shape_and_type(gpu, steps, lanes, blocks, refractory, dtype, shape, learn, seed):
    check(gpu, make_case(steps, lanes, blocks, refractory, dtype, seed), shape, learn)


@RULES
@pytest.mark.parametrize("lanes", [33, 520], ids=["few", "many"])
def test_the_layouts_in_use(lanes, blocks):
    check(load("adaptive"), make_case(19, lanes, blocks, 2), "FastSigmoid")


@RULES
def test_a_neuron_may_be_refractory_for_good(gpu, blocks):
    check(gpu, make_case(7, 9, blocks, 2**40), "FastSigmoid")


@RULES
def test_what_is_not_finite_stays_with_its_neuron(gpu, blocks):
    case = make_case(9, 6, blocks, 2, torch.float64)
    finite = computed(gpu, case, "Gaussian")
    case.x[1:4, 1:4] = -1.0  # so that no neuron is refractory when it comes
    case.x[4, 1:4] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    case.parameters[1, 4] = torch.nan
    case.on_spikes[6, 5] = torch.nan
    outputs = computed(gpu, case, "Gaussian")
    for output, known in zip(outputs, finite, strict=True):
        assert torch.equal(output[:, 0], known[:, 0])
    assert outputs[1][0].isnan().any()
    assert not outputs[0].isnan().any()  # NaN never fires
    if not blocks:  # there the reference's sums go back in time
        for output, right in zip(outputs, expected(case, "Gaussian"), strict=True):
            torch.testing.assert_close(output, right, equal_nan=True)


def test_without_save_nothing_is_kept(gpu):
    case = make_case(9, 5, True, 2)
    x, parameters, initial, *_ = case.tensors()
    with running():
        spikes, last, *kept = pieces.forward(gpu, x, parameters, initial, None, None, True, 2, False)
    right, right_last, *_ = expected(case, "Arctan")
    assert torch.equal(spikes.cpu(), right)
    assert torch.equal(last.cpu(), right_last)
    assert [tensor.numel() for tensor in kept] == [0, 0]


class Bump(surrogates.Surrogate):
    """A shape that kernels do not know, and that looks at the axes of what it is asked about."""

    def shape(self, u: Tensor) -> Tensor:
        return (1 + u.square()).rsqrt() * torch.linspace(0.1, 1.0, u.shape[-1], device=u.device)


@pytest.mark.parametrize("credit", ["sequential", "blocks"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_operation_hands_over_what_the_kernels_expect(gpu, monkeypatch, dtype, credit):
    monkeypatch.setattr(fused, "kernels_for", lambda operation, x: gpu)

    def results(computer: str) -> list[Tensor]:
        x = torch.linspace(-1, 2, 60).view(3, 4, 5).transpose(0, 1).to(DEVICE, dtype).requires_grad_()
        decay, adaptation = (torch.full((5,), value, device=DEVICE, requires_grad=True) for value in (0.8, 0.3))
        state = tuple(torch.full((3, 1), value, device=DEVICE) for value in (0.0, 0.5, 1.0))
        state[1].requires_grad_()
        rule = {"refractory": 1, "credit": credit, "surrogate": Bump()}
        with computed_by(computer), running():
            spikes, (membrane, trace, resting) = adaptive_lif(x, decay, 0.7, 0.9, adaptation, state, **rule)
            loss = (spikes * spikes.detach().cumsum(0)).sum() + membrane.sum() + 2 * trace.sum()
            return [spikes, membrane, trace, resting, *torch.autograd.grad(loss, (x, decay, adaptation, state[1]))]

    ours, theirs = results("kernels"), results("reference")
    assert torch.equal(ours[0], theirs[0])
    for output, right in zip(ours, theirs, strict=True):
        assert output.dtype == right.dtype
        torch.testing.assert_close(output, right, rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=1e-5)


@pytest.mark.parametrize("credit", ["sequential", "blocks"])
@pytest.mark.parametrize(("refractory", "detach"), [(0, True), (2, False), (9, False)])
def test_recurrent_neurons(gpu, monkeypatch, refractory, detach, credit):
    monkeypatch.setattr(fused, "kernels_for", lambda operation, x: gpu)
    generator = torch.Generator().manual_seed(refractory)

    def random(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(DEVICE)

    given = [
        random(5, 2, 3).sub(0.2),
        random(3, 3).sub(0.4),
        *random(4, 3).mul(0.5).add(0.4),
        random(2, 3),
        random(2, 3),
    ]
    leaves = [leaf.requires_grad_() for leaf in (*given, random(refractory + 1, 2, 3).gt(0.7).double())]
    x, weight, *parameters, membrane, trace, sent = leaves
    state = membrane, trace, torch.zeros(2, 3, dtype=torch.float64, device=DEVICE), sent
    on = random(5, 2, 3)

    def results(computer: str) -> list[Tensor]:
        rule = {"refractory": refractory, "credit": credit, "detach_recurrent": detach}
        with computed_by(computer), running():
            spikes, after = recurrent_adaptive_lif(x, weight, *parameters, state, **rule)
            loss = (spikes * on).sum() + after[0].square().sum() + after[1].sum()
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        return [spikes, *after, *gradients]

    ours, theirs = results("kernels"), results("reference")
    assert torch.equal(ours[0], theirs[0])
    assert ours[6].any()  # the gradient of the weights
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("recurrent", [False, True])
def test_the_operators_know_what_the_kernels_return(gpu, monkeypatch, recurrent):
    monkeypatch.setattr(fused, "kernels_for", lambda operation, x: gpu)
    case = make_case(5, 6, True, 1, torch.float64)
    x, parameters, initial, *_ = case.tensors()
    recurrence = (torch.eye(3).to(x), torch.ones(2, 2, 3).to(x)) if recurrent else (None, None)
    rule = True, 1, "FastSigmoid", 1.0, 1.0, False
    checks = ("test_schema", "test_faketensor")
    with running():
        arguments = x, parameters, initial, *recurrence
        torch.library.opcheck(torch.ops.rheobase.adaptive_lif, (*arguments, *rule), test_utils=checks)
        spikes, last, distance, kept = torch.ops.rheobase.adaptive_lif(*arguments, *rule)
        backward = torch.ones_like(spikes), last, distance, kept, parameters, *recurrence, spikes, *rule, True
        torch.library.opcheck(torch.ops.rheobase.adaptive_lif_backward, backward, test_utils=checks)


class Asked(Exception):
    pass


def ask(x: Tensor, *_: object) -> None:
    raise Asked(x.dtype)


def test_they_are_what_computes_on_a_gpu(monkeypatch):
    with FakeTensorMode():  # no number is there, and no GPU needed
        x = torch.empty(5, 2, 3, device="cuda", dtype=torch.float16)
        assert kernels_for("adaptive", x).__name__ == "rheobase.ops.adaptive.gpu"
        arguments = x.view(5, 6), x.new_empty(4, 6).float(), x.new_empty(3, 6).float(), None, None
        returned = torch.ops.rheobase.adaptive_lif(*arguments, True, 3, "FastSigmoid", 1.0, 1.0, True)
        assert [tuple(tensor.shape) for tensor in returned] == [(5, 6), (3, 6), (5, 6), (1, 5, 6)]
        monkeypatch.setattr(fused, "adaptive_lif", ask)
        with pytest.raises(Asked, match="float16"):
            adaptive_lif(x, 0.9)
        with pytest.raises(Asked, match="float32"):
            recurrent_adaptive_lif(x, x.new_empty(3, 3), 0.9)


@pytest.mark.parametrize(
    ("blocks", "dtype", "shape", "learn"),
    [
        (False, torch.float32, "FastSigmoid", False),
        (False, torch.float16, "given", True),
        (True, torch.bfloat16, "MultiGaussian", True),
        (True, torch.float64, "given", False),
    ],
)
def test_compiles_to_machine_code(tmp_path, blocks, dtype, shape, learn):
    # What the interpreter does not check: types that change in a loop, Python that Triton does not know, arguments.
    gpu = laid_out(load("adaptive", interpret=False), tile=4)
    vars(gpu)["SEGMENT"] = 2
    case = make_case(5, 3, blocks, 3, dtype)
    rule = blocks, case.refractory
    with compiling(str(tmp_path)) as compiled:
        _, _, distance, kept = pieces.forward(gpu, case.x, case.parameters, case.initial, None, None, *rule, True)
        pieces.backward(
            gpu, case.on_spikes, case.on_last, distance, kept, case.slope, case.parameters, None, None, None,
            *rule, shape, DAMPENING, SHARPNESS, True, learn,
        )  # fmt: skip
    assert compiled == ["_forward", "_backward"]
