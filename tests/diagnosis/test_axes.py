"""Which axis is time, by the look of it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rheobase.diagnosis.axes import looks_batch_first, roughness


def test_roughness_by_hand() -> None:
    x = torch.tensor([0.0, 1.0, 2.0, 3.0]).view(4, 1, 1)
    # Neighbours differ by 1; over all pairs the mean square is (3 * 1 + 2 * 4 + 1 * 9) / 6.
    assert roughness(x, 0) == pytest.approx(1 / (20 / 6))
    assert roughness(torch.ones(4, 3, 2), 0) != roughness(torch.ones(4, 3, 2), 0)  # NaN: nothing changes


@given(seed=st.integers(0, 10_000), rate=st.floats(0.02, 0.5), steps=st.integers(8, 60), samples=st.integers(8, 60))
def test_noise_is_no_evidence(seed: int, rate: float, steps: int, samples: int) -> None:
    torch.manual_seed(seed)
    noise = (torch.rand(steps, samples, 20) < rate).float()
    assert not looks_batch_first(noise)
    # Each sample with rates of its own: still the order of samples means nothing, nor that of steps.
    assert not looks_batch_first((torch.rand(steps, samples, 20) < rate * torch.rand(1, samples, 20)).float())


@given(seed=st.integers(0, 10_000), steps=st.integers(30, 80), samples=st.integers(100, 120))
def test_waves_are(seed: int, steps: int, samples: int) -> None:
    torch.manual_seed(seed)
    time = torch.linspace(0, 3, steps).view(-1, 1, 1)
    x = (torch.rand(steps, samples, 200) < 0.5 + 0.5 * torch.sin(time + 6 * torch.rand(1, samples, 1))).float()
    assert not looks_batch_first(x)
    assert looks_batch_first(x.transpose(0, 1).contiguous())


def test_samples_that_differ_in_brightness_alone_seldom_look_like_time() -> None:
    torch.manual_seed(0)
    batches = [(torch.rand(20, 16, 40) < 0.5 * torch.rand(1, 16, 1)).float() for _ in range(300)]
    assert sum(map(looks_batch_first, batches)) <= 2


def test_a_picture_shown_at_all_steps() -> None:
    x = torch.rand(1, 20, 50).expand(12, 20, 50)
    assert not looks_batch_first(x)
    assert looks_batch_first(x.transpose(0, 1))
    assert not looks_batch_first(x[:, :7].transpose(0, 1))  # too few samples to tell
    assert not looks_batch_first(torch.ones(12, 20, 50))
