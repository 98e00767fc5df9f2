"""The settings of training: ranges, and the learning rate as a function of the position."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from rheobase.training import Training


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("epochs", 0, "at least 1"),
        ("batch_size", 0, "at least 1"),
        ("accumulate", 0, "at least 1"),
        ("patience", 0, "at least 1"),
        ("seed", -1, "at least 0"),
        ("learning_rate", 0.0, "above 0"),
        ("learning_rate", math.inf, "finite"),
        ("learning_rate", math.nan, "above 0"),
        ("clip_gradient", 0.0, "above 0"),
        ("clip_gradient", math.nan, "above 0"),
        ("weight_decay", -0.1, "at least 0"),
        ("weight_decay", math.inf, "finite"),
        ("weight_decay", math.nan, "at least 0"),
        ("warmup", 1.0, r"in \[0, 1\)"),
        ("warmup", -0.1, r"in \[0, 1\)"),
        ("warmup", math.nan, r"in \[0, 1\)"),
    ],
)
def test_values_out_of_range(name: str, value: float, words: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*{words}.*, got {value}"):
        Training(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("learning_rate", "1e-3", "got '1e-3'"),
        ("clip_gradient", None, "got None; math.inf does not clip"),
        ("weight_decay", None, "got None"),
        ("warmup", True, "got True"),
        ("decay_learning_rate", "fast", "got 'fast'"),
    ],
)
def test_what_is_no_number(as_a_user: None, name: str, value: object, words: str) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be a number, {words}$"):
        Training(**{name: value})


@pytest.mark.parametrize(("name", "value"), [("precision", "bf16"), ("device", "tpu")])
def test_words_that_mean_nothing_are_no_silent_default(name: str, value: str) -> None:
    with pytest.raises(TypeCheckError):  # the annotation, as the tests check it
        Training(**{name: value})
    settings = Training()
    object.__setattr__(settings, name, value)
    with pytest.raises(ValueError, match=f"{name} must be one of .*, got '{value}'"):  # and as it is without them
        settings.__post_init__()


def test_a_gpu_has_one_name_in_what_is_kept() -> None:
    assert Training(device="cuda") == Training(device="gpu")
    assert Training(device="cuda").device == "gpu"


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(("name", "value"), [("epochs", 1.5), ("epochs", "3"), ("epochs", None), ("patience", 2.0)])
def test_counts_are_whole_numbers(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{name} must be a whole number, got {value!r}"):
        Training(**{name: value})


def test_the_ends_of_the_ranges_are_allowed() -> None:
    Training(epochs=1, batch_size=1, patience=1, seed=0, weight_decay=0.0, warmup=0.0, clip_gradient=math.inf)


def test_the_learning_rate_rises_and_falls() -> None:
    settings = Training(learning_rate=2.0, warmup=0.1)
    rates = [settings.rate_at(step, 100) for step in range(100)]
    # A tenth of 100 steps rises linearly: 1/10, 2/10, ..., times the cosine, which has hardly begun to fall.
    assert rates[0] == pytest.approx(0.2)
    assert rates[4] == pytest.approx(1.0 * 0.5 * (1 + math.cos(math.pi * 0.04)))
    assert rates[9] == pytest.approx(2.0 * 0.5 * (1 + math.cos(math.pi * 0.09)))
    assert rates[50] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(2.0 * 0.5 * (1 + math.cos(math.pi * 0.99)))
    assert max(rates) == rates[9]


def test_the_learning_rate_may_stay() -> None:
    settings = Training(learning_rate=2.0, warmup=0.1, schedule="constant")
    rates = [settings.rate_at(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * step for step in range(1, 11)])
    assert rates[10:] == [2.0] * 90


@given(steps=st.integers(1, 500), warmup=st.floats(0, 0.9), rate=st.floats(1e-6, 10))
def test_the_learning_rate_stays_above_0_and_under_its_peak(steps: int, warmup: float, rate: float) -> None:
    settings = Training(learning_rate=rate, warmup=warmup)
    assert all(0 < settings.rate_at(step, steps) <= rate for step in range(steps))
