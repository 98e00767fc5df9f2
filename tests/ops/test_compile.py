"""Operations inside `torch.compile`, which sees operators instead of kernels."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import pytest
import torch
from torch import Tensor

from rheobase import PSN, MaskedPSN, SlidingPSN
from rheobase.ops import first_spikes, integrate, lif, single_spike, stochastic_lif, synaptic_integrate, synaptic_lif
from rheobase.ops.sliding import slide
from rheobase.surrogate import Arctan, Surrogate


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[ProcessPoolExecutor]:
    """A process where rheobase is as its users have it: the compiler does not get through run-time checks of annotations."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        yield process


@dataclass(frozen=True)
class Bump(Surrogate):
    """A shape that kernels do not know."""

    def shape(self, u: Tensor) -> Tensor:
        return (1 + u.square()).rsqrt()


def one_state(x: Tensor, decay: Tensor, threshold: Tensor) -> Tensor:
    spikes, membrane = lif(2 * x, decay.sigmoid(), threshold, reset="zero", reset_gradient="attached")
    return (spikes * x).sum() + membrane.square().sum()


def two_states(x: Tensor, decay: Tensor, threshold: Tensor) -> Tensor:
    initial = torch.ones(3), torch.zeros(())
    spikes, (membrane, current) = synaptic_lif(
        2 * x,
        decay.sigmoid(),
        0.9,
        threshold,
        initial,
        reset="zero",
        surrogate=Arctan(0.5, 2.0),
        reset_gradient="attached",
    )
    return (spikes * x).sum() + (membrane * current).sum()


def no_reset(x: Tensor, decay: Tensor, threshold: Tensor) -> Tensor:
    states, last = integrate(2 * x, decay.sigmoid(), threshold)
    return (states * x).sum() + last.sum()


def a_shape_of_its_own(x: Tensor, decay: Tensor, threshold: Tensor) -> Tensor:
    spikes, membrane = lif(2 * x, decay.sigmoid(), threshold, surrogate=Bump(sharpness=2.0))
    return (spikes * x).sum() + membrane.sum()


def one_spike(x: Tensor, decay: Tensor, threshold: Tensor) -> Tensor:
    spikes, (membrane, fired, ramp) = single_spike(2 * x, decay.sigmoid(), threshold, credit="product")
    last = first_spikes(x, decay.sigmoid(), threshold, surrogate=Arctan(), fire_by_end=True)
    return ((spikes + last) * x).sum() + (membrane + fired + ramp).square().sum()


def drawn(x: Tensor, decay: Tensor, threshold: Tensor) -> Tensor:
    initial = torch.ones(3), torch.zeros(()), torch.tensor([7, 2])
    decays = 0.5, decay.sigmoid()
    spikes, (membrane, current, noise) = stochastic_lif(2 * x, *decays, threshold, 0.1, initial, firing="gumbel")
    states, last = synaptic_integrate(x, *decays)
    return (spikes * x).sum() + (membrane * current).sum() * noise[1] + states.sum() + last[0].sum()


def over_time(x: Tensor, decay: Tensor, threshold: Tensor) -> Tensor:
    # Three weights that slide, over all numbers of a step.
    return (slide(decay, 2 * x.flatten(1)) * threshold).square().sum()


def arguments(dtype: torch.dtype, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(steps, 2, 3, generator=generator).to(dtype)
    return (
        x.requires_grad_(),
        torch.randn(3, generator=generator).requires_grad_(),
        torch.tensor(0.7, requires_grad=True),
    )


def compare(function: Callable[..., Tensor], dtype: torch.dtype, lengths: Sequence[int]) -> None:
    torch.set_num_threads(1)
    # A compiler for C++, which would write the machine code around the operators, is not on every machine.
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    for steps in lengths:
        given = arguments(dtype, steps)
        expected, value = function(*given), compiled(*given)
        torch.testing.assert_close(value, expected)
        ours = torch.autograd.grad(value, given, allow_unused=True, materialize_grads=True)
        theirs = torch.autograd.grad(expected, given, allow_unused=True, materialize_grads=True)
        torch.testing.assert_close(ours, theirs)
        with torch.no_grad():
            torch.testing.assert_close(compiled(*given), expected)


@pytest.mark.parametrize(
    ("function", "dtype", "lengths"),
    [
        (one_state, torch.float32, (8, 9, 0)),  # after the second length, the compiler takes it for an unknown number
        (one_state, torch.bfloat16, (8,)),
        (two_states, torch.float32, (8,)),
        (no_reset, torch.bfloat16, (8,)),
        (a_shape_of_its_own, torch.float32, (8,)),
        (over_time, torch.float32, (8, 9)),
        (one_spike, torch.float32, (8, 9)),
        (drawn, torch.float32, (8, 9)),
        (drawn, torch.bfloat16, (8,)),
    ],
)
def test_compiled_is_what_eager_is(elsewhere, function, dtype, lengths):
    elsewhere.submit(compare, function, dtype, lengths).result(300)


def compare_parallel() -> None:
    x = torch.randn(6, 2, 4, generator=torch.Generator().manual_seed(0))
    for layer in (PSN(6), MaskedPSN(6, order=3), SlidingPSN(3)):
        found = []
        for called in (layer, torch.compile(layer, backend="aot_eager", fullgraph=True)):
            inputs = x.clone().requires_grad_()
            spikes = called(inputs)
            spikes.sum().backward()
            found.append((spikes.detach(), inputs.grad))
        torch.testing.assert_close(*found)


def test_parallel_neurons_compile(elsewhere):
    elsewhere.submit(compare_parallel).result(300)


def seeded(calls: int) -> list[Tensor]:
    """What a compiled neuron draws, seeded each time by the same number."""
    neuron = torch.compile(lambda x: stochastic_lif(x, 0.5, 0.5)[0], backend="aot_eager", fullgraph=True)
    drawings = []
    for _ in range(calls):
        torch.manual_seed(3)
        drawings += [neuron(torch.zeros(50, 2, 3)), neuron(torch.zeros(50, 2, 3))]
    torch.manual_seed(3)
    return [*drawings, stochastic_lif(torch.zeros(50, 2, 3), 0.5, 0.5)[0]]


def test_the_seed_decides_what_is_drawn_in_compiled_code(elsewhere):
    first, second, again, _, eager = elsewhere.submit(seeded, 2).result(300)
    assert torch.equal(first, again)
    assert torch.equal(first, eager)
    assert not torch.equal(first, second)


def operators(steps: int) -> tuple[list[str], int]:
    """Our operators in the graph of a neuron over that many steps, and how many operators there are at all."""
    graphs = []

    def look(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph.graph)
        return graph

    torch.compile(lambda x: lif(x, 0.9)[0], backend=look, fullgraph=True)(torch.ones(steps, 2, 3))
    (graph,) = graphs
    return [str(node.target) for node in graph.nodes if "rheobase" in str(node.target)], len(graph.nodes)


def test_the_compiler_sees_no_loop_over_time(elsewhere):
    names, count = elsewhere.submit(operators, 50).result(300)
    assert names == ["rheobase.lif"]
    assert count < 30


@pytest.mark.parametrize(
    ("dtype", "states", "rule", "learn"),
    [
        (torch.float32, 1, ("subtract", "FastSigmoid", 1.0, 1.0, "detached"), False),
        (torch.float64, 2, ("subtract", "Triangular", 1.0, 1.0, "ignored"), True),
        (torch.bfloat16, 2, ("none", "Arctan", 1.0, 1.0, "detached"), True),
    ],
)
def test_the_operators_are_what_pytorch_asks_of_operators(dtype, states, rule, learn):
    state, lanes = torch.float64 if dtype == torch.float64 else torch.float32, 6
    x = torch.randn(4, lanes).to(dtype).requires_grad_()
    decay = torch.rand(states, lanes, dtype=state).requires_grad_(learn)
    threshold = torch.rand(lanes, dtype=state).requires_grad_(learn)
    initial = torch.randn(states, lanes, dtype=state).requires_grad_()
    torch.library.opcheck(torch.ops.rheobase.lif, (x, decay, threshold, initial, *rule))
    constants = decay.detach(), threshold.detach(), initial.detach()
    current, membrane_decay = x.detach().to(state).requires_grad_(), constants[0][:1].clone().requires_grad_(learn)
    torch.library.opcheck(torch.ops.rheobase.integrate, (current, membrane_decay, constants[2][:1]))
    with torch.no_grad():
        _, last, membrane = torch.ops.rheobase.lif(x, *constants, *rule)
    backward = torch.ones_like(x).detach(), last, membrane, *constants, *rule, learn
    torch.library.opcheck(torch.ops.rheobase.lif_backward, backward)
    backward = torch.ones_like(membrane), last[:1], membrane, constants[0][:1], constants[2][:1], learn
    torch.library.opcheck(torch.ops.rheobase.integrate_backward, backward)


@pytest.mark.parametrize(("dtype", "credit"), [(torch.float32, "ramp"), (torch.bfloat16, "product")])
def test_the_operators_of_single_spikes_are_what_pytorch_asks_of_operators(dtype, credit):
    lanes, rule = 6, (credit, True, "FastSigmoid", 1.0, 1.0)
    x = torch.randn(4, lanes).to(dtype).requires_grad_()
    decay, threshold = torch.rand(lanes).requires_grad_(), torch.rand(lanes).requires_grad_()
    initial = torch.zeros(3, lanes).requires_grad_()
    torch.library.opcheck(torch.ops.rheobase.single_spike, (x, decay, threshold, initial, *rule))
    constants = decay.detach(), threshold.detach(), initial.detach()
    with torch.no_grad():
        _, last, *saved = torch.ops.rheobase.single_spike(x, *constants, *rule)
    backward = torch.ones_like(x).detach(), last, *saved, *constants, *rule, True
    torch.library.opcheck(torch.ops.rheobase.single_spike_backward, backward)
