"""Check and time the GPU kernels on the GPU of this machine.

    python benchmarks/gpu_kernels.py checks times --output benchmarks/results/gpu-kernels.json
    python benchmarks/gpu_kernels.py sweep --output benchmarks/results/gpu-layouts.json

`checks` compares the kernels of the neuron, the adaptive neuron and the integrator with the reference in float32, the neuron
on one sequence of more than 2^31 elements, too. `times` measures a layer of neurons with T = 1000 and 32 x 512 neurons (W4), a
long sequence with T = 10,000 and 4 x 128 neurons (W5), and a convolutional layer of 64 x 32 x 28 x 28 neurons for 8 steps. The
floor of a time is the number of bytes that have to move, at the bandwidth of a copy in the same run. `sweep` goes through the
layouts of `rheobase.ops.tiles` and the lengths of chunks of `rheobase.ops.integrate.gpu`. Each takes a few minutes.

Without a GPU, `TRITON_INTERPRET=1 python benchmarks/gpu_kernels.py ...` runs all of it on a few numbers in Triton's
interpreter. That is a check of this script; the times mean nothing.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor

from rheobase import surrogate as surrogates
from rheobase.files import write_json
from rheobase.ops.adaptive import gpu as adaptive
from rheobase.ops.adaptive import pieces
from rheobase.ops.adaptive import reference as adaptive_reference
from rheobase.ops.integrate import gpu as integrate
from rheobase.ops.integrate import reference as integrate_reference
from rheobase.ops.lif import gpu as lif
from rheobase.ops.lif import reference as lif_reference
from rheobase.ops.tiles import Layout

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
WORKLOADS = {"W4": (1000, 32 * 512), "W5": (10_000, 4 * 128), "conv": (8, 64 * 32 * 28 * 28)}
if not GPU:
    WORKLOADS = {"W4": (4, 8), "W5": (9, 2), "conv": (2, 16)}


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers, the same on every machine unless there are very many."""
    generator = torch.Generator(DEVICE).manual_seed(seed)
    return torch.randn(*shape, generator=generator, device=DEVICE, dtype=dtype)


def parameters(states: int, lanes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Decays, thresholds, initial states."""
    decay = torch.sigmoid(2 + random(states, lanes, seed=1))
    return decay, 0.5 + torch.sigmoid(random(lanes, seed=2)), random(states, lanes, seed=3)


# Checks


def errors(outputs: list[Tensor], rights: list[Tensor]) -> list[float]:
    """The largest difference of each output, relative to its largest number."""
    return [
        ((output - right).abs().max() / right.abs().max().clamp(min=1e-30)).item() if right.numel() else 0.0
        for output, right in zip(outputs, rights, strict=True)
    ]


def reference(x: Tensor, decay: Tensor, initial: Tensor, then: Callable[..., Any]) -> tuple[Any, ...]:
    """What `then` gives for the current, and the last state of the synapse if there is one."""
    if len(decay) == 1:
        return *then(x, decay[0], initial[0]), []
    current, last = integrate_reference.integrate(x, decay[1], initial[1])
    return *then(current, decay[0], initial[0]), [last]


def check_lif(steps: int, lanes: int, states: int, reset: Any, shape: str, reset_gradient: str) -> dict[str, Any]:
    """One comparison of the neuron's kernels with the reference; spikes have to be equal bit for bit."""
    x, on_spikes, on_last = random(steps, lanes, seed=4), random(steps, lanes, seed=5), random(states, lanes, seed=6)
    decay, threshold, initial = parameters(states, lanes)
    rule = getattr(surrogates, shape)(0.7, 1.3)
    leaves = [leaf.clone().requires_grad_() for leaf in (x, initial, decay, threshold)]
    i, v, d, at = leaves
    spikes, last, synapse = reference(
        i, d, v, lambda i, d, v: lif_reference.lif(i, d, at, v, reset, rule, reset_gradient)
    )
    last = torch.stack([last, *synapse])
    rights = torch.autograd.grad((spikes * on_spikes).sum() + (last * on_last).sum(), leaves)
    runs = []
    for _ in range(2):
        spikes_here, last_here, membrane = lif.forward(x, decay, threshold, initial, reset, True)
        gradients = lif.backward(
            on_spikes, on_last, membrane, x.new_empty(0, 0), decay, threshold, initial,
            reset, shape, 0.7, 1.3, reset_gradient, True,
        )  # fmt: skip
        runs.append([spikes_here, last_here, *gradients])
    return verdict(
        f"lif T={steps} M={lanes} S={states} {reset} {shape} {reset_gradient}",
        exact=torch.equal(runs[0][0], spikes) and torch.equal(runs[0][1], last),
        repeatable=all(map(torch.equal, *runs)),
        errors=errors(runs[0][2:], list(rights)),
    )


def check_adaptive(steps: int, lanes: int, blocks: bool, refractory: int) -> dict[str, Any]:
    """One comparison of the adaptive neuron's kernels with the reference, whose spikes are those of `sequential`."""
    x, on_spikes, on_last = random(steps, lanes, seed=4), random(steps, lanes, seed=5), random(3, lanes, seed=6)
    decay, threshold, _ = parameters(1, lanes)
    values, rest = torch.stack((decay[0], threshold, decay[0].sqrt(), 0.2 * threshold)), torch.zeros_like(on_last)
    leaves = [leaf.clone().requires_grad_() for leaf in (x, rest, values)]
    arguments = leaves[0], *leaves[2], list(leaves[1]), refractory, surrogates.FastSigmoid(0.7, 1.3)
    spikes, last = adaptive_reference.sequential(*arguments)
    learning, after = adaptive_reference.blocks(*arguments) if blocks else (spikes, last)
    rights = torch.autograd.grad((learning * on_spikes).sum() + (torch.stack(after) * on_last)[:2].sum(), leaves)
    same = (learning == spikes).all(0)  # among millions, a block's sums may put one on the other side of the threshold
    runs = []
    for _ in range(2):
        found = pieces.forward(adaptive, x, values, rest, None, None, blocks, refractory, True)
        gradients = pieces.backward(
            adaptive, on_spikes, on_last, *found[2:], x.new_empty(0, 0), values, None, None, None,
            blocks, refractory, "FastSigmoid", 0.7, 1.3, True, True,
        )  # fmt: skip
        runs.append([*found[:2], *gradients[:3]])
    exact = torch.equal(runs[0][0], spikes) and torch.equal(runs[0][1], torch.stack(last))
    return verdict(
        f"adaptive T={steps} M={lanes} R={refractory} {'blocks' if blocks else 'sequential'}",
        exact=exact and bool(same.double().mean() > 0.999),
        repeatable=all(map(torch.equal, *runs)),
        errors=errors([each[:, same] for each in runs[0][2:]], [right[:, same] for right in rights]),
    )


def check_integrate(steps: int, lanes: int, states: int, length: int | None) -> dict[str, Any]:
    """One comparison of the integrator's kernels, in chunks of a length or in one go, with the reference."""
    x, on_membrane, on_last = random(steps, lanes, seed=4), random(steps, lanes, seed=5), random(states, lanes, seed=6)
    decay, _, initial = parameters(states, lanes)
    leaves = [leaf.clone().requires_grad_() for leaf in (x, initial, decay)]
    membrane, last, synapse = reference(leaves[0], leaves[2], leaves[1], integrate_reference.integrate)
    last = torch.stack([last, *synapse])
    gradients = torch.autograd.grad((membrane * on_membrane).sum() + (last * on_last).sum(), leaves)
    runs = []
    for _ in range(2):
        with chunks_of(length or steps):
            membrane_here, last_here = integrate.forward(x, decay, initial)
            gradients_here = integrate.backward(on_membrane, on_last, membrane_here, decay, initial, True)
            runs.append([membrane_here, last_here, *gradients_here])
    return verdict(
        f"integrate T={steps} M={lanes} S={states} chunks of {length or steps}",
        exact=length is not None or (torch.equal(runs[0][0], membrane) and torch.equal(runs[0][1], last)),
        repeatable=all(map(torch.equal, *runs)),
        errors=errors(runs[0], [membrane.detach(), last.detach(), *gradients]),
    )


def check_long(steps: int, lanes: int) -> dict[str, Any]:
    """A sequence of more than 2^31 elements: the end of it, which a wrong address would not reach, against a run of its own."""
    x = random(steps, lanes, seed=7, dtype=torch.bfloat16)
    decay, threshold, initial = parameters(1, lanes)
    cut = steps - 5
    spikes, last, membrane = lif.forward(x, decay, threshold, initial, "subtract", True, True)
    _, state, _ = lif.forward(x[:cut], decay, threshold, initial, "subtract", False)
    end, last_of_end, membrane_of_end = lif.forward(x[cut:], decay, threshold, state, "subtract", True, True)
    exact = torch.equal(spikes[cut:], end) and torch.equal(last, last_of_end)
    exact = exact and torch.equal(membrane[cut:], membrane_of_end)
    slope, rule = decay.new_empty(0, 0), ("subtract", "FastSigmoid", 1.0, 1.0, "detached", False)
    on_x, *_ = lif.backward(x, state, membrane, slope, decay, threshold, initial, *rule)
    on_end, on_state, *_ = lif.backward(x[cut:], state, membrane[cut:], slope, decay, threshold, state, *rule)
    on_begin, *_ = lif.backward(x[:cut], on_state, membrane[:cut], slope, decay, threshold, initial, *rule)
    exact = exact and torch.equal(on_x[cut:], on_end) and torch.equal(on_x[:cut], on_begin)
    return verdict(f"lif of {steps * lanes} elements", exact=exact, repeatable=True, errors=[])


def verdict(name: str, exact: bool, repeatable: bool, errors: list[float]) -> dict[str, Any]:
    """What a check found, printed where it is not right."""
    right = exact and repeatable and all(error < 1e-5 for error in errors)
    found = {"check": name, "right": right, "exact": exact, "repeatable": repeatable, "errors": errors}
    if not right:
        print("WRONG:", found)
    return found


def checks() -> Iterator[dict[str, Any]]:
    """All comparisons."""
    every_shape = [(shape, "subtract", "detached") for shape in ("Arctan", "Triangular", "Exponential", "Gaussian")]
    every_rule = [("FastSigmoid", *rule) for rule in product(("subtract", "zero", "none"), ("detached", "attached"))]
    sizes = [(1, 1), (37, 1001), (100, 200_003)]  # both layouts
    # Not every pair of a shape and a rule: each is compiled.
    for (steps, lanes), states, (shape, reset, reset_gradient) in product(sizes, (1, 2), every_shape + every_rule):
        if GPU or (steps == 1 and shape == "FastSigmoid" and reset == "subtract" and reset_gradient == "detached"):
            yield check_lif(steps, lanes, states, reset, shape, reset_gradient)
    for (steps, lanes), blocks, refractory in product(sizes, (False, True), (0, 3)):
        if GPU or (steps == 1 and refractory == 3):
            yield check_adaptive(steps, lanes, blocks, refractory)
    for (steps, lanes), states, length in product([(1, 1), (300, 1001), (3000, 77)], (1, 2), (None, 64)):
        if GPU or steps == states == 1:
            yield check_integrate(steps, lanes, states, length)
    enough = GPU and torch.cuda.get_device_properties(DEVICE).total_memory > 40 * 2**30
    yield check_long(70_000, 32_768) if enough else check_long(7, 3)


# Times


def milliseconds(call: Callable[[], Any]) -> float:
    """The GPU's time for a call: the median, with a cold cache."""
    if GPU:
        return triton.testing.do_bench(call, warmup=20, rep=200, return_mode="median")
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def wall_milliseconds(call: Callable[[], Any], expected: float) -> float:
    """The time of a call among many: what Python takes to launch it, or what the GPU takes, whichever is longer."""
    repeat, times = max(1, min(100, int(200 / expected))), []
    for _ in range(3):
        synchronize()
        start = time.perf_counter()
        for _ in range(repeat):
            call()
        synchronize()
        times.append(1000 * (time.perf_counter() - start) / repeat)
    return statistics.median(times)


def synchronize() -> None:
    """Wait for the GPU."""
    if GPU:
        torch.cuda.synchronize()


def bandwidth() -> float:
    """Bytes per millisecond of a copy, read and written."""
    source = torch.ones((1 << 30) if GPU else 1024, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * source.numel() / milliseconds(lambda: target.copy_(source))


@contextmanager
def chunks_of(length: int) -> Iterator[None]:
    """Integration in chunks of a length."""
    before = integrate.chunk_length
    integrate.chunk_length = lambda steps, lanes, device: length
    try:
        yield
    finally:
        integrate.chunk_length = before


@contextmanager
def laid_out(layout: Layout) -> Iterator[None]:
    """Kernels in a layout."""
    before = lif.layout
    lif.layout = integrate.layout = lambda lanes, device: layout
    try:
        yield
    finally:
        lif.layout = integrate.layout = before


def lif_calls(steps: int, lanes: int, states: int, dtype: torch.dtype) -> Iterator[tuple[str, Callable[[], Any], int]]:
    """The passes of the neuron: name, call, and the bytes that it has to move."""
    x = random(steps, lanes, seed=4, dtype=dtype)
    decay, threshold, initial = parameters(states, lanes)
    compact = dtype != torch.float32
    membrane = lif.forward(x, decay, threshold, initial, "subtract", True, compact)[2]
    slope, rule = decay.new_empty(0, 0), ("subtract", "FastSigmoid", 1.0, 1.0, True)
    sequence, saved = x.numel() * x.element_size(), membrane.numel() * membrane.element_size()
    yield "forward", lambda: lif.forward(x, decay, threshold, initial, "subtract", True, compact), 2 * sequence + saved
    yield "inference", lambda: lif.forward(x, decay, threshold, initial, "subtract", False), 2 * sequence
    for name, learn in (("backward", False), ("backward, learning", True)):
        arguments = x, initial, membrane, slope, decay, threshold, initial, *rule, learn
        yield name, lambda arguments=arguments: lif.backward(*arguments), 2 * sequence + saved


def integrate_calls(steps: int, lanes: int, states: int) -> Iterator[tuple[str, Callable[[], Any], int]]:
    """The passes of the integrator."""
    x = random(steps, lanes, seed=4)
    decay, _, initial = parameters(states, lanes)
    membrane, _ = integrate.forward(x, decay, initial)
    sequence = x.numel() * x.element_size()
    yield "forward", lambda: integrate.forward(x, decay, initial), 2 * sequence
    for name, learn in (("backward", False), ("backward, learning", True)):
        arguments = x, initial, membrane, decay, initial, learn
        yield name, lambda arguments=arguments: integrate.backward(*arguments), (3 if learn else 2) * sequence


def loop_calls(steps: int, lanes: int) -> Iterator[tuple[str, Callable[[], Any], int]]:
    """The reference, which is what a loop over time in PyTorch takes."""
    x = random(steps, lanes, seed=4)
    decay, threshold, initial = parameters(1, lanes)
    rule = "subtract", surrogates.FastSigmoid(), True
    leaf = x.clone().requires_grad_()

    def step() -> None:
        leaf.grad = None
        lif_reference.lif(leaf, decay[0], threshold, initial[0], *rule)[0].backward(x)

    yield "training step", step, 6 * x.numel() * x.element_size()


def measure(name: str, calls: Iterator[tuple[str, Callable[[], Any], int]], rate: float) -> Iterator[dict[str, Any]]:
    """Times of calls, and how far each is from its floor."""
    for part, call, size in calls:
        call()  # compiles
        spent, floor = milliseconds(call), size / rate
        found = {
            "workload": name,
            "pass": part,
            "gpu_ms": spent,
            "wall_ms": wall_milliseconds(call, spent),
            "floor_ms": floor,
            "times_the_floor": spent / floor,
        }
        print(f"{name:28} {part:20} {spent:9.3f} ms, {found['times_the_floor']:7.2f} x floor", flush=True)
        yield found


def times(rate: float) -> Iterator[dict[str, Any]]:
    """The times of all workloads."""
    for name, (steps, lanes) in WORKLOADS.items():
        for states, dtype in ((1, torch.float32), (2, torch.float32), (1, torch.bfloat16)):
            title = f"{name} lif S={states} {str(dtype).removeprefix('torch.')}"
            yield from measure(title, lif_calls(steps, lanes, states, dtype), rate)
        for states in (1, 2):
            yield from measure(f"{name} integrate S={states}", integrate_calls(steps, lanes, states), rate)
    for name in ("W4", "W5"):
        yield from measure(f"{name} PyTorch loop", loop_calls(*WORKLOADS[name]), rate)


def sweep(rate: float) -> Iterator[dict[str, Any]]:
    """The times of layouts and of lengths of chunks."""
    shapes = [(32, 1), (64, 1), (64, 2), (128, 4), (256, 4)] if GPU else [(32, 1)]
    for (block, warps), tile in product(shapes, (4, 8, 16, 24) if GPU else (4,)):
        layout = Layout(block, warps, tile)
        with laid_out(layout):
            for name, (steps, lanes) in WORKLOADS.items():
                chosen = (call for call in lif_calls(steps, lanes, 1, torch.float32) if call[0] != "inference")
                yield from measure(f"{name} lif {block}/{warps}/{tile}", chosen, rate)
    for name, steps, lanes in (("W5", *WORKLOADS["W5"]), ("2048 x 512", 2048 if GPU else 9, 512 if GPU else 2)):
        for length in (32, 64, 128, 256, 512, steps) if GPU else (4, steps):
            with chunks_of(length):
                calls = (call for call in integrate_calls(steps, lanes, 1) if call[0] != "backward")
                yield from measure(f"{name} chunks of {length}", calls, rate)


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "gpu": "none: interpreted",
    }
    if GPU:
        properties = torch.cuda.get_device_properties(DEVICE)
        found |= {
            "gpu": properties.name,
            "multiprocessors": properties.multi_processor_count,
            "memory_GiB": round(properties.total_memory / 2**30, 1),
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
        }
    return found


def main() -> None:
    """Run what was asked for; the exit code is 1 if a check fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=("checks", "times", "sweep"))
    parser.add_argument("--output", type=Path, required=True, help="where the results go, JSON")
    arguments = parser.parse_args()
    if not GPU and os.environ.get("TRITON_INTERPRET") != "1":
        parser.error(
            "PyTorch finds no GPU; with TRITON_INTERPRET=1 this script runs in Triton's interpreter, to check itself"
        )
    rate = bandwidth()
    results: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        "machine": machine(),
        "copy_GB_per_s": rate / 1e6,
    }
    print(results)
    wrong = 0
    for part in arguments.parts:
        results[part] = list(checks() if part == "checks" else times(rate) if part == "times" else sweep(rate))
        write_json(arguments.output, results)  # after each part, should time run out
        if part == "checks":
            wrong = sum(not check["right"] for check in results["checks"])
            print(f"{len(results['checks'])} checks, {wrong} wrong", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
