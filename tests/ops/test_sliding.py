"""Sums that slide along time, by the kernel and by products of blocks, against their definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rheobase.ops import threads
from rheobase.ops.sliding import cpu, reference, slide


def by_definition(weight, seen):
    steps = len(seen) - len(weight) + 1
    return sum((w * seen[k : k + steps] for k, w in enumerate(weight)), torch.zeros(steps, seen.shape[1]).to(seen))


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Lengths about those of chunks, lanes about those of strips.
sizes = st.tuples(st.sampled_from([0, 1, 5, 63, 64, 65, 150]), st.sampled_from([1, 2, 4, 31, 33, 70, 130]))
lanes = st.sampled_from([0, 1, 31, 32, 33, 64, 65, 100])


@pytest.mark.parametrize("module", [reference, cpu])
@settings(max_examples=40)
@given(sizes, lanes, st.integers(0, 3))
def test_is_its_definition(module, size, lanes, beyond):
    steps, order = size
    weight, seen = random(order), random(steps + order - 1, lanes, seed=1)
    torch.testing.assert_close(module.slid(weight, seen), by_definition(weight, seen))
    padded = torch.nn.functional.pad(seen, (0, 0, beyond, beyond))
    torch.testing.assert_close(module.slid(weight, seen, beyond), by_definition(weight, padded))
    on_h = random(steps, lanes, seed=2)
    expected = torch.stack([(on_h * seen[k : k + steps]).sum() for k in range(order)])
    torch.testing.assert_close(module.on_weight(weight, seen, on_h), expected)


@pytest.mark.parametrize("seen", [random(40, 37), random(37, 40).T, random(80, 37)[::2]])
def test_gradients(seen):
    weight = random(6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(slide, (weight, seen.clone().requires_grad_()))
    given = random(35, 37, seed=2)
    (on_weight,) = torch.autograd.grad((slide(weight, seen) * given).sum(), weight)
    torch.testing.assert_close(on_weight, reference.on_weight(weight.detach(), seen, given))


def test_in_single_precision_and_what_is_no_number_stays_where_it_is():
    weight, seen = random(5, dtype=torch.float32), random(90, 70, seed=1, dtype=torch.float32)
    torch.testing.assert_close(slide(weight, seen), by_definition(weight, seen))
    seen[40, 3] = torch.nan
    assert slide(weight, seen).isnan().nonzero().tolist() == [[t, 3] for t in range(36, 41)]


def test_neither_threads_nor_where_it_is_cut_matter(monkeypatch):
    weight, seen = random(33, dtype=torch.float32), random(500, 700, seed=1, dtype=torch.float32)
    on_h = random(468, 700, seed=2, dtype=torch.float32)
    alone = cpu.slid(weight, seen), cpu.on_weight(weight, seen, on_h)
    monkeypatch.setattr(threads, "_WORTH_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    together = cpu.slid(weight, seen), cpu.on_weight(weight, seen, on_h)
    assert all(map(torch.equal, alone, together))
    pieces = [cpu.slid(weight, seen[low : high + 32]) for low, high in ((0, 7), (7, 300), (300, 468))]
    assert torch.equal(torch.cat(pieces), alone[0])


def test_elsewhere_blocks_compute():
    weight, seen = random(4), random(10, 3, seed=1)
    half = slide(weight.bfloat16(), seen.bfloat16())
    torch.testing.assert_close(half.double(), by_definition(weight, seen), rtol=0.05, atol=0.05)
    assert slide(weight.to("meta"), seen.to("meta")).shape == (7, 3)
