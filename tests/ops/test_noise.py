"""The counter-based generator: known answers, the same bits from all three, and what is random about them."""

import math

import numpy as np
import pytest
import torch
from numba import njit
from torch import Tensor

from rheobase.ops.noise import draw_seed, logistic, philox, words

# Of the authors' own table of known answers, philox4x32 with 10 rounds.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def noise(seed: int, step: int = 0) -> Tensor:
    return torch.tensor([seed, step])


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter, key, expected):
    counter, key = ([torch.tensor(word) for word in part] for part in (counter, key))
    assert tuple(word.item() for word in philox(tuple(counter), tuple(key))) == expected


def test_a_word_is_a_function_of_seed_step_and_lane():
    seed = 0x299F31D0_A4093822
    whole = words(noise(seed), 50, 7)
    assert whole.min() >= 0
    assert whole.max() < 1 << 32
    for start in (0, 1, 2, 3, 4, 17):
        assert torch.equal(words(noise(seed, start), 20, 5), whole[start : start + 20, :5])
    group, lane = torch.tensor(4), torch.tensor(6)
    zero = torch.tensor(0)
    four = philox((group, lane, zero, zero), (torch.tensor(0xA4093822), torch.tensor(0x299F31D0)))
    assert [word.item() for word in four] == whole[16:20, 6].tolist()
    # Far along a stream: numbers of steps beyond 32 bits do not run into others.
    assert torch.equal(words(noise(seed, (1 << 34) - 8), 4, 3), words(noise(seed, (1 << 34) - 8), 8, 3)[:4])
    assert words(noise(seed), 0, 5).shape == (0, 5)


def test_numba_draws_the_same_bits():
    from rheobase.ops.noise.cpu import logistic as compiled_logistic
    from rheobase.ops.noise.cpu import philox as compiled_philox

    @njit
    def draw(groups, lanes, first, second):
        out, values = np.empty((4 * groups, lanes), np.uint32), np.empty((4 * groups, lanes), np.float32)
        for group in range(groups):
            for lane in range(lanes):
                four = compiled_philox(np.uint32(group), np.uint32(lane), np.uint32(first), np.uint32(second))
                for k in range(4):
                    out[4 * group + k, lane] = four[k]
                    values[4 * group + k, lane] = compiled_logistic(four[k])
        return out, values

    out, values = draw(300, 33, 0xA4093822, 0x299F31D0)
    expected = words(noise(0x299F31D0_A4093822), 1200, 33)
    assert np.array_equal(out, expected.numpy())
    assert np.array_equal(values, logistic(expected).numpy())


def test_the_logistic_function_is_exact_enough():
    edges = torch.tensor([0, 1, 2, 3, 0x3FFFFFFF, 0x40000000, 0x7FFFFFFE, 0x7FFFFFFF])
    inside = torch.arange(0, 1 << 31, 40_009)
    word = torch.cat((edges, inside))
    w = (word.double() + 0.5) * 2.0**-32
    exact = torch.log1p(-w) - torch.log(w)
    torch.testing.assert_close(logistic(word).double(), exact, rtol=3e-7, atol=3e-7)
    assert torch.equal(logistic(word + (1 << 31)), -logistic(word))
    assert logistic(word).isfinite().all()


def test_firing_is_as_likely_as_asked_for():
    drawn = logistic(words(noise(11), 4000, 250)).flatten()  # a million
    for probability in (0.5, 0.1, 0.01, 0.001, 0.9, 0.999):
        logit = math.log(probability / (1 - probability))
        share = (logit + drawn >= 0).double().mean().item()
        assert abs(share - probability) < 4 * math.sqrt(probability * (1 - probability) / len(drawn))


def test_words_are_uniform_in_every_bit_and_byte():
    drawn = words(noise(12), 4000, 250).flatten()
    ones = torch.stack([(drawn >> bit & 1).double().mean() for bit in range(32)])
    assert (ones - 0.5).abs().max() < 5 * 0.5 / 1000
    for shift in (0, 8, 16, 24):
        counts = torch.bincount(drawn >> shift & 255, minlength=256).double()
        chi_squared = ((counts - len(drawn) / 256).square() / (len(drawn) / 256)).sum().item()
        assert abs(chi_squared - 255) < 5 * math.sqrt(2 * 255)


def correlation(a: Tensor, b: Tensor) -> float:
    a, b = a.flatten().double() / 2**32 - 0.5, b.flatten().double() / 2**32 - 0.5
    return (a * b).mean().item() * 12


def test_draws_of_steps_lanes_and_seeds_do_not_know_of_each_other():
    drawn = words(noise(13), 1000, 500)
    allowed = 5 / math.sqrt(drawn.numel() / 2)
    for lag in (1, 2, 3, 4, 5, 8, 16, 64):
        assert abs(correlation(drawn[lag:], drawn[:-lag])) < allowed
        assert abs(correlation(drawn[:, lag:], drawn[:, :-lag])) < allowed
    for other in (14, 13 ^ 1 << 32, 13 + (1 << 61), 0):
        assert abs(correlation(drawn, words(noise(other), 1000, 500))) < allowed
    # No row is another one shifted: that is how a generator whose steps are added to its lanes fails.
    values = set(drawn[0].tolist())
    assert all(len(values & set(row.tolist())) <= 1 for row in drawn[1:200])


def test_seeds_come_from_the_generator_of_pytorch():
    torch.manual_seed(5)
    first, second = draw_seed(torch.device("cpu")), draw_seed(torch.device("cpu"))
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(draw_seed(torch.device("cpu")), first)
    assert first[1] == 0
