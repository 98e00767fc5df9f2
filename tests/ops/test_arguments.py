import pytest
import torch

from rheobase.ops.arguments import as_step, check_sequence, state_type


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.float8_e4m3fn, torch.float32),
    ],
)
def test_states_have_at_least_float32(dtype, expected):
    assert state_type(torch.zeros(1, dtype=dtype)) == expected


@pytest.mark.parametrize("shape", [(0, 1), (1, 0, 3), (2, 3, 4, 5, 6)])
def test_empty_and_large_sequences_are_sequences(shape):
    check_sequence(torch.zeros(shape), "test")


@pytest.mark.parametrize("value", [0.5, torch.tensor(0.5), torch.full((3,), 0.5), torch.full((2, 1), 0.5)])
def test_what_broadcasts_is_taken(value):
    tensor = as_step(value, "decay", torch.zeros(7, 2, 3), "test")
    assert tensor.dtype == torch.float32
    assert bool((tensor.expand(2, 3) == 0.5).all())


def test_none_is_zero():
    assert as_step(None, "initial", torch.zeros(7, 2, 3), "test").item() == 0


def test_gradients_pass_through_a_change_of_type():
    value = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    as_step(value, "decay", torch.zeros(7, 2, 3), "test").backward()
    assert value.grad == 1


@pytest.mark.parametrize("shape", [(2,), (7, 2, 3), (3, 2), (1, 1, 3), (0,)])
def test_what_does_not_broadcast_to_one_step_is_refused(shape):
    with pytest.raises(ValueError, match=r"test: decay must broadcast to one time step of x, \(2, 3\)"):
        as_step(torch.zeros(shape), "decay", torch.zeros(7, 2, 3), "test")


def test_another_device_is_refused_by_name():
    with pytest.raises(ValueError, match=r"test: decay is on meta, x is on cpu; move them together"):
        as_step(torch.zeros(3, device="meta"), "decay", torch.zeros(7, 2, 3), "test")
