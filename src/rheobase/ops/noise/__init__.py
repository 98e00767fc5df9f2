"""Random numbers that are a function of where they are used: a seed, a step and a neuron.

A generator with a state has to be called in order, by one thread, and what it gave has to be kept for the backward pass. A
counter-based one is a function: what neuron m draws at step t is computed where and whenever it is needed, in any order, on
any number of threads, forwards and again backwards, in the whole sequence or in a piece of it.

The function is Philox-4x32 with ten rounds (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC
2011), which passes all of TestU01's BigCrush, and is what PyTorch draws with on GPUs. The seed is its key; its counter is the
neuron and the step divided by four, and its four words are those of four steps.

A word becomes *logistic* noise: a neuron that fires where `z + noise >= 0` fires with probability `sigmoid(z)`. This says the
same as comparing a uniform number with that probability, but its arithmetic can be the same everywhere: here in PyTorch, in
`cpu` for numba, in `gpu` for Triton, it consists of the same IEEE 754 operations in the same order, with no `exp` or `log`
of somebody's library, so that all three draw the same bits.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85
"""What is added to the two words of the key after each round."""

SERIES = tuple(1 / k for k in (11, 9, 7, 5, 3, 1))
"""`atanh(s) / s` as a polynomial in the square of `s`, the highest power first: to 1e-7 for `s` in [-1/3, 1/3]."""
LN2 = 0.6931471805599453

_WORD = 0xFFFFFFFF


def draw_seed(device: torch.device) -> Int[Tensor, "2"]:
    """A new seed from PyTorch's generator of a device, and the step 0: where a layer's draws begin.

    Example:
        >>> _ = torch.manual_seed(7)
        >>> seed, step = draw_seed(torch.device("cpu"))
        >>> step
        tensor(0)
    """
    seed = torch.randint(1 << 62, (1,), dtype=torch.int64, device=device)
    return torch.cat((seed, torch.zeros_like(seed)))


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Four random words of 32 bits for each counter of four words; words are int64 tensors that broadcast."""
    a, b, c, d = counter
    first, second = key
    for _ in range(ROUNDS):
        # Products of 32-bit words wrap around in int64, and leave all of their 64 bits right.
        with_a, with_c = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b = (with_c >> 32 & _WORD) ^ b ^ first, with_c & _WORD
        c, d = (with_a >> 32 & _WORD) ^ d ^ second, with_a & _WORD
        first, second = (first + WEYL[0]) & _WORD, (second + WEYL[1]) & _WORD
    return a, b, c, d


def words(noise: Int[Tensor, "2"], steps: int, lanes: int) -> Int[Tensor, "steps lanes"]:
    """The random words of all lanes for some steps, each in [0, 2^32).

    Args:
        noise: the seed, and the number of the first step.
        steps: how many steps.
        lanes: how many lanes.
    """
    seed, start = noise
    first = start >> 2
    # One group more than there may be: where the first step lies in its group is not known before it is looked at.
    group = first + torch.arange(steps // 4 + 2, device=noise.device).unsqueeze(1)
    lane = torch.arange(lanes, device=noise.device).expand(len(group), lanes)
    zero = torch.zeros_like(lane)
    drawn = philox((group & _WORD, lane, zero, zero), (seed & _WORD, seed >> 32 & _WORD))
    by_step = torch.stack(drawn, dim=1).flatten(0, 1)
    return by_step.index_select(0, (start & 3) + torch.arange(steps, device=noise.device))


def logistic(word: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Noise with the standard logistic distribution, float32, from random words.

    The highest bit is the sign; the others are the probability `w`, in (0, 1/2], of anything farther out:
    `noise = log((1 - w) / w)`. With `w = m * 2^e`, m in [1/2, 1), that is `2 atanh(((1-w) - m) / ((1-w) + m)) - e ln 2`.

    Example:
        >>> logistic(torch.tensor([0, 0x40000000, 0x7FFFFFFF, 0xC0000000]))
        tensor([22.8739,  1.0986,  0.0000, -1.0986])
    """
    w = ((word & 0x7FFFFFFF).float() + 0.5) * 2.0**-32
    bits = w.view(torch.int32)
    e = ((bits >> 23) - 126).float()
    m = ((bits & 0x7FFFFF) | 0x3F000000).view(torch.float32)
    rest = 1 - w
    s = (rest - m) / (rest + m)
    square = s * s
    series = torch.full_like(s, SERIES[0])
    for coefficient in SERIES[1:]:
        series = series * square + coefficient
    noise = (s + s) * series - e * LN2
    return torch.where(word < 0x80000000, noise, -noise)
