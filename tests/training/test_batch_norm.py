"""Batch normalization that several processes share, here with one process's sums standing for all."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rheobase.training.batch_norm import SharedBatchNorm, give_back_statistics, share_statistics


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: None)


@given(st.integers(0, 2), st.sampled_from([0.1, 0.5, None]), st.booleans(), st.integers(0, 2**31))
def test_alone_it_is_batch_normalization(space: int, momentum: float | None, affine: bool, seed: int) -> None:
    torch.manual_seed(seed)
    kind = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d)[space]
    ours = nn.Sequential(kind(3, momentum=momentum, affine=affine)).double()
    if affine:
        nn.init.normal_(ours[0].weight)
        nn.init.normal_(ours[0].bias)
    theirs = copy.deepcopy(ours)
    share_statistics(ours)
    assert isinstance(ours[0], SharedBatchNorm)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for training in (True, True, False):
        ours.train(training)
        theirs.train(training)
        x = torch.randn(5, 3, *[4] * space, dtype=torch.float64)
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        outputs = [network(one) for network, one in zip((ours, theirs), inputs, strict=True)]
        torch.testing.assert_close(*outputs)
        weight = torch.randn(x.shape, dtype=torch.float64)
        for output in outputs:
            (output * weight).sum().backward()
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    for (name, value), expected in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, msg=name)
    for value, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(value.grad, expected.grad)


def test_it_is_given_back() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(nn.BatchNorm2d(2)))
    calls: list[str] = []
    network[0].register_forward_hook(lambda *_: calls.append("called"))
    weights = [id(parameter) for parameter in network.parameters()]
    share_statistics(network)
    give_back_statistics(network)
    assert [type(layer) for layer in (network[0], network[1][0])] == [nn.BatchNorm1d, nn.BatchNorm2d]
    assert [id(parameter) for parameter in network.parameters()] == weights
    assert "own_kind" not in vars(network[0])
    network[0](torch.randn(4, 3))
    assert calls == ["called"]


def test_half_precision_is_computed_in_float32() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3))
    share_statistics(network)
    x = torch.randn(64, 3).bfloat16()
    y = network(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), nn.BatchNorm1d(3)(x.float()), rtol=2**-8, atol=1e-6)


def test_without_running_statistics() -> None:
    network, x = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)), torch.randn(9, 3)
    share_statistics(network)
    torch.testing.assert_close(network.eval()(x), nn.BatchNorm1d(3)(x))


def test_what_is_no_batch_is_refused() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3))
    share_statistics(network)
    with pytest.raises(ValueError, match=r"x must be \(B, features, ...\), got shape \(3,\)"):
        network(torch.randn(3))


@pytest.mark.parametrize("rows", [0, 1])
def test_a_single_value_has_no_variance(rows: int) -> None:
    network = nn.Sequential(nn.BatchNorm1d(3))
    share_statistics(network)
    with pytest.raises(
        ValueError, match=f"more than one value for each feature, in all processes together, got {rows}"
    ):
        network(torch.randn(rows, 3))
