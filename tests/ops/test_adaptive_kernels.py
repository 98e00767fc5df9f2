"""The kernels of adaptive neurons against the reference, for all that a user may hand in; and as PyTorch wants them."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from computing import computed_by
from rheobase.ops import memory
from rheobase.ops.adaptive import adaptive_lif, recurrent_adaptive_lif
from rheobase.ops.adaptive.cpu import SEGMENT
from rheobase.surrogate import Exponential, FastSigmoid, MultiGaussian, Surrogate, Triangular


@dataclass(frozen=True)
class Bump(Surrogate):
    """A shape that kernels do not know, and that looks at the axes of what it is asked about."""

    def shape(self, u: Tensor) -> Tensor:
        return (1 + u.square()).rsqrt() * torch.linspace(0.1, 1.0, u.shape[-1])


F64, F32, BF16, F16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
# Type, surrogate, credit, and whether parameters learn: what a kernel is compiled for.
VARIANTS = [
    (F64, FastSigmoid(), "sequential", True),
    (F64, FastSigmoid(), "blocks", True),
    (F32, MultiGaussian.published(), "blocks", True),
    (F32, Bump(0.8, 3.0), "sequential", False),
    (F32, Bump(), "blocks", False),
    (BF16, Triangular(0.5), "sequential", False),
    (BF16, Exponential(1.0, 2.0), "blocks", True),
    (F16, FastSigmoid(), "sequential", True),
]
variants = pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"{v[0]}-{type(v[1]).__name__}-{v[2]}-{v[3]}")


def case(variant, seed, refractory, steps, batch, features, recurrent=False):
    """All arguments, with gradients where the variant has them, and the gradients of spikes, membrane potential and trace."""
    dtype, _, _, learn = variant
    generator = torch.Generator().manual_seed(seed)
    state, step = F64 if dtype == F64 else F32, (batch, *features)

    def uniform(*shape, low=0.0, high=1.0):
        return (low + (high - low) * torch.rand(shape, generator=generator, dtype=F64)).to(state)

    x = uniform(steps, *step, low=-0.3).to(dtype).requires_grad_()
    ranges = (0.7, 1), (0.4, 1.2), (0.6, 1), (0, 0.5)
    parameters = [uniform(*features, low=low, high=high).requires_grad_(learn) for low, high in ranges]
    resting = torch.randint(0, refractory + 1, step, generator=generator).to(state)
    # Whoever sets a state may set one of a neuron that fires in the midst of its rest.
    membrane = (torch.where(resting > 0, 3.0, 1.0) * uniform(*step, low=-0.5, high=0.5)).requires_grad_()
    after = [membrane, uniform(*step).requires_grad_(), resting]
    weight = [uniform(*features, *features, low=-0.6).requires_grad_()] if recurrent else []
    if recurrent:
        after.append((uniform(refractory + 1, *step) < 0.2).to(dtype).requires_grad_())
    on = [torch.randn(steps, *step, generator=generator).to(dtype)]
    on += [torch.randn(step, generator=generator).to(state) for _ in range(2)]
    return [x, *weight, *parameters], after, on


def run(variant, refractory, arguments, state, on, **options):
    """Outputs, and the gradients of all that has one."""
    _, surrogate, credit, _ = variant
    operation = recurrent_adaptive_lif if len(state) == 4 else adaptive_lif
    rule = {"refractory": refractory, "surrogate": surrogate, "credit": credit}
    spikes, after = operation(*arguments, tuple(state), **rule, **options)
    leaves = [value for value in (*arguments, *state) if value.requires_grad]
    # What came out of no step has no gradient in the reference.
    reached = [each for each in zip((spikes, *after[:2]), on, strict=True) if each[0].requires_grad]
    gradients = torch.autograd.grad(
        [output for output, _ in reached], leaves, [on for _, on in reached], allow_unused=True
    )
    zeros = (torch.zeros_like(leaf) if on is None else on for leaf, on in zip(leaves, gradients, strict=True))
    return [output.detach() for output in (spikes, *after)], list(zeros)


def assert_agree(ours, theirs, dtype):
    """Spikes are equal. The reference's blocks add in another order than time; sums of gradients do in any case."""
    (outputs, gradients), (their_outputs, their_gradients) = ours, theirs
    assert torch.equal(outputs[0], their_outputs[0])
    unit = torch.finfo(F64 if dtype == F64 else F32).eps
    for our, their in zip((*outputs, *gradients), (*their_outputs, *their_gradients), strict=True):
        assert our.dtype == their.dtype
        assert our.shape == their.shape
        scale = max(their.double().abs().max().item(), 1.0) if their.numel() else 1.0
        rounded = torch.finfo(dtype).eps if our.dtype == dtype else 0.0
        torch.testing.assert_close(our.double(), their.double(), rtol=rounded, atol=64 * unit * scale)


def test_a_spike_at_rest_does_not_end_the_rest_of_its_block():
    """The block goes on as if the spike had done nothing: it hears as little as before."""
    x = torch.zeros(5, 1, 1, dtype=F64, requires_grad=True)
    state = [torch.full((1, 1), value, dtype=F64) for value in (2.0, 0.0, 3.0)]
    rule = {"decay": 0.5, "threshold": 0.5, "adaptation": 0.0, "refractory": 4, "credit": "blocks"}
    for computer in ("kernels", "reference"):
        with computed_by(computer):
            spikes, _ = adaptive_lif(x, state=tuple(state), **rule)
        assert spikes.flatten().tolist() == [1, 0, 0, 0, 0]
        (on,) = torch.autograd.grad(spikes.sum(), x)
        assert not on[:3].any(), computer
        assert (on[3:] > 0).all(), computer


@settings(max_examples=8)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from((0, 1, 4, SEGMENT - 1, SEGMENT, 40)), st.integers(0, 50),
    st.sampled_from([(0, ()), (1, ()), (2, (0,)), (2, (3,)), (1, (2, 3)), (1, (520,))]),
)  # fmt: skip
@variants
def test_agree_with_the_reference(variant, seed, refractory, steps, size):
    arguments = case(variant, seed, refractory, steps, *size)
    ours = run(variant, refractory, *arguments)
    with computed_by("reference"):
        theirs = run(variant, refractory, *arguments)
    assert_agree(ours, theirs, variant[0])


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.sampled_from((0, 1, 4, 40)), st.integers(0, 50), st.booleans(), st.integers(0, 6))
@pytest.mark.parametrize("variant", [VARIANTS[row] for row in (0, 1, 4, 7)], ids=str)
def test_recurrent_neurons_agree_with_the_reference(variant, seed, refractory, steps, detach, neurons):
    arguments = case(variant, seed, refractory, steps, 2, (neurons,), recurrent=True)
    ours = run(variant, refractory, *arguments, detach_recurrent=detach)
    with computed_by("reference"):
        theirs = run(variant, refractory, *arguments, detach_recurrent=detach)
    assert_agree(ours, theirs, variant[0])


@pytest.mark.parametrize("detach", [True, False])
def test_a_large_recurrent_product_is_a_sum_over_spikes(detach):
    # Large enough for lists, and sparse enough.
    variant = (F64, FastSigmoid(), "sequential", True)
    arguments, state, on = case(variant, 0, 9, 35, 20, (210,), recurrent=True)
    with torch.no_grad():
        arguments[1] *= 0.1
        arguments[0] *= 0.3
    ours = run(variant, 9, arguments, state, on, detach_recurrent=detach)
    with computed_by("reference"):
        theirs = run(variant, 9, arguments, state, on, detach_recurrent=detach)
    assert 0.005 < ours[0][0].mean() < 0.1
    assert_agree(ours, theirs, F64)


def test_weights_may_be_fixed():
    variant = (F64, FastSigmoid(), "sequential", True)
    arguments, state, on = case(variant, 7, 2, 20, 2, (6,), recurrent=True)
    _, expected = run(variant, 2, arguments, state, on, detach_recurrent=False)
    arguments[1].requires_grad_(False)
    _, gradients = run(variant, 2, arguments, state, on, detach_recurrent=False)
    assert all(map(torch.equal, gradients, expected[:1] + expected[2:]))
    assert gradients[-1].any()


def test_autocast_does_not_reach_the_recurrence():
    variant = (F32, Bump(), "blocks", False)
    arguments = case(variant, 6, 2, 20, 2, (30,), recurrent=True)
    expected = run(variant, 2, *arguments, detach_recurrent=False)
    with torch.autocast("cpu", torch.bfloat16):
        again = run(variant, 2, *arguments, detach_recurrent=False)
    for outputs, known in zip(again, expected, strict=True):
        assert all(map(torch.equal, outputs, known))


@variants
@pytest.mark.parametrize("recurrent", [False, True])
def test_every_number_is_written(variant, recurrent, monkeypatch):
    if recurrent and variant[0] != F64:
        return  # the kernels are the same
    arguments = case(variant, 1, 4, 37, 2, (15,), recurrent)
    expected = run(variant, 4, *arguments)
    monkeypatch.setattr(memory, "empty", poisoned)
    again = run(variant, 4, *arguments)
    for outputs, known in zip(again, expected, strict=True):
        assert all(map(torch.equal, outputs, known))


def poisoned(shape, dtype):
    return torch.full(shape, math.nan if dtype.is_floating_point else -1, dtype=dtype)


@pytest.mark.parametrize("variant", VARIANTS[:2], ids=str)
def test_what_is_not_finite_stays_with_its_neuron_and_spreads_as_in_the_reference(variant):
    arguments, state, on = case(variant, 2, 3, 30, 1, (5,))
    with torch.no_grad():
        arguments[0][16:20, :, 1:4] = -1.0  # so that no neuron is refractory when it comes
        arguments[0][20, :, 1:4] = torch.tensor([math.nan, math.inf, -math.inf])
    outputs, gradients = run(variant, 3, arguments, state, on)
    with computed_by("reference"):
        theirs, their_gradients = run(variant, 3, arguments, state, on)
    if variant[2] == "sequential":
        for our, their in zip((*outputs, *gradients), (*theirs, *their_gradients), strict=True):
            assert torch.equal(our.isnan(), their.isnan())
            torch.testing.assert_close(our, their, equal_nan=True)
    # The reference's sum over a block lets a NaN go back to the beginning of it; here it follows the order of time.
    assert torch.equal(outputs[0][:, :, [0, 4]], theirs[0][:, :, [0, 4]])
    assert not outputs[0][20:, :, 1].any()  # NaN never fires
    assert outputs[1].isnan().tolist() == [[False, True, False, False, False]]
    for gradient in gradients:
        assert bool(gradient[..., [0, 4]].isfinite().all())


@pytest.mark.parametrize("variant", VARIANTS[:2], ids=str)
@pytest.mark.parametrize("recurrent", [False, True])
def test_the_number_of_threads_changes_nothing(variant, recurrent):
    arguments = case(variant, 3, 9, 60, 64, (130,), recurrent)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = run(variant, 9, *arguments)
        torch.set_num_threads(3)
        again = run(variant, 9, *arguments)
    finally:
        torch.set_num_threads(before)
    skip = 1 if recurrent else len(expected[1])  # dense products over the batch are PyTorch's
    assert all(map(torch.equal, again[0], expected[0]))
    assert all(map(torch.equal, again[1][:skip], expected[1][:skip]))


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("credit", ["sequential", "blocks"])
def test_torch_compile_takes_it_whole(credit, recurrent):
    variant = (F64, FastSigmoid(), credit, True)
    arguments, state, _ = case(variant, 4, 3, 10, 2, (5,), recurrent)
    leaves = [value for value in (*arguments, *state) if value.requires_grad]
    operation = recurrent_adaptive_lif if recurrent else adaptive_lif
    surrogate = FastSigmoid(sharpness=2.0)

    def loss(*arguments):
        rule = {"refractory": 3, "credit": credit, "surrogate": surrogate}
        spikes, (membrane, trace, *_) = operation(*arguments, tuple(state), **rule)
        return spikes.sum() + membrane.square().sum() + trace.sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    # Recurrent spikes are detached: what was sent before the first step gets no gradient.
    ours, theirs = (torch.autograd.grad(each(*arguments), leaves, allow_unused=True) for each in (compiled, loss))
    for our, their in zip(ours, theirs, strict=True):
        expected = torch.zeros_like(our) if their is None and our is not None else their
        torch.testing.assert_close(our, expected)


@pytest.mark.parametrize("recurrent", [False, True])
def test_the_operators_are_registered_as_pytorch_wants_them(recurrent):
    variant = (F64, FastSigmoid(), "blocks", True)
    (x, *weight), state, _ = case(variant, 5, 3, 10, 2, (3,), recurrent)
    adaptive_lif(x, 0.9)  # defines the operators
    parameters = torch.rand(4, 6, dtype=F64, requires_grad=True)
    initial = torch.stack([part.detach().flatten() for part in state[:3]]).requires_grad_()
    recurrence = (weight[0], state[3]) if recurrent else (None, None)
    arguments = x.detach().view(10, 6).requires_grad_(), parameters, initial, *recurrence
    rule = True, 3, "FastSigmoid", 1.0, 1.0, False
    torch.library.opcheck(torch.ops.rheobase.adaptive_lif, (*arguments, *rule))
    constants = [None if tensor is None else tensor.detach() for tensor in arguments]
    spikes, last, distance, kept = torch.ops.rheobase.adaptive_lif(*constants, *rule)
    backward = torch.ones_like(spikes), last, distance, kept, constants[1], *constants[3:], spikes, *rule, True
    torch.library.opcheck(torch.ops.rheobase.adaptive_lif_backward, backward)


def test_a_number_for_each_neuron_and_step_is_kept_for_the_backward_pass():
    x = torch.ones(160, 2, 30, dtype=F64, requires_grad=True)
    decay = torch.tensor(0.9, dtype=F64, requires_grad=True)
    for credit, states in (("sequential", 3), ("blocks", 5)):
        kept: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda _: None):
            adaptive_lif(x, decay, refractory=5, credit=credit)
        whole_states = math.ceil(160 / SEGMENT) * states * 60
        assert sum(tensor.numel() for tensor in kept) == x.numel() + whole_states + 4 * 60
    with torch.no_grad():
        assert not adaptive_lif(x, decay)[0].requires_grad


def test_outputs_may_be_changed_in_place_and_a_second_derivative_is_refused():
    x = torch.ones(3, 2, 4, dtype=F64, requires_grad=True)
    decay = torch.tensor(0.9, dtype=F64, requires_grad=True)
    spikes, _ = adaptive_lif(x, decay)
    (expected,) = torch.autograd.grad(2 * spikes.sum(), x, retain_graph=True)
    with pytest.raises(RuntimeError, match=r"first derivatives, .*create_graph=True"):
        torch.autograd.grad(spikes.sum(), x, create_graph=True)
    changed, _ = adaptive_lif(x, decay)
    changed.mul_(2)
    assert torch.equal(torch.autograd.grad(changed.sum(), x)[0], expected)
