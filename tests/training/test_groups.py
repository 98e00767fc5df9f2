"""Which parameter learns at which rate."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rheobase as rb
from rheobase.training import Display, fit, parameter_groups
from training.tiny import arrays, network, settings

LEARNED = ("synapse_decay", "decay", "threshold")


def net() -> rb.Sequential:
    return rb.Sequential(
        nn.Linear(4, 3),
        rb.SynapticLIF(3, learn=LEARNED),
        rb.SpikeLinear(3, 3),
        rb.RecurrentLIF(3, learn=("threshold",)),
        rb.LeakyReadout(3, learn=("decay",)),
    )


def sizes(groups: list[dict[str, Any]]) -> dict[str, tuple[float, float, int]]:
    return {group["name"]: (group["lr"], group["weight_decay"], len(group["params"])) for group in groups}


def test_without_rates_there_are_matrices_and_the_rest() -> None:
    groups = parameter_groups(net(), 0.1, weight_decay=0.3)
    assert sizes(groups) == {"weights": (0.1, 0.3, 3), "others": (0.1, 0.0, 2 + 3 + 1 + 1)}


def test_a_name_stands_for_all_values_that_end_in_it() -> None:
    groups = parameter_groups(net(), 0.1, rates={"threshold": 0.2, "decay": 0.3, "synapse_decay": 0.4})
    assert sizes(groups) == {
        "weights": (0.1, 0.0, 3),
        "others": (0.1, 0.0, 2),
        "threshold": (0.2, 0.0, 2),
        "decay": (0.3, 0.0, 2),
        "synapse_decay": (0.4, 0.0, 1),
    }


def test_every_parameter_is_in_one_group() -> None:
    network = net()
    network[0].weight.requires_grad_(False)
    groups = parameter_groups(network, 0.1, rates={"decay": 0.0})
    found = [parameter for group in groups for parameter in group["params"]]
    expected = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert {id(parameter) for parameter in found} == {id(parameter) for parameter in expected}
    assert len(found) == len(expected)
    torch.optim.Adam(groups)


def test_thresholds_of_parallel_neurons_have_their_rate() -> None:
    neurons = rb.Sequential(rb.PSN(5), rb.MaskedPSN(5, order=2), rb.SlidingPSN(2))
    groups = parameter_groups(neurons, 0.1, rates={"threshold": 0.2}, weight_decay=0.3)
    assert sizes(groups) == {"weights": (0.1, 0.3, 2), "others": (0.1, 0.0, 1), "threshold": (0.2, 0.0, 3)}


def test_a_negative_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="the learning rate 'threshold' must be at least 0, got -1"):
        parameter_groups(net(), 0.1, rates={"threshold": -1.0})


@pytest.mark.parametrize("name", ["", "weights", "others", "treshold"])
def test_a_name_that_no_value_has_is_refused(name: str) -> None:
    message = f"this network's layers, 'decay', 'synapse_decay', 'threshold'; got '{name}'"
    with pytest.raises(ValueError, match=message):
        parameter_groups(net(), 0.1, rates={name: 0.1})
    with pytest.raises(ValueError, match="layers, none; got 'threshold'"):
        parameter_groups(nn.Linear(2, 2), 0.1, rates={"threshold": 0.1})


def test_a_rate_of_fixed_values_has_no_effect() -> None:
    groups = parameter_groups(rb.Sequential(nn.Linear(4, 3), rb.LIF(3)), 0.1, rates={"threshold": 0.2})
    assert sizes(groups) == {"weights": (0.1, 0.0, 1), "others": (0.1, 0.0, 1)}


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def trained(**changes: Any) -> dict[str, Tensor]:
    net = network(dropout=0.0)
    fit(net, arrays(), arrays(7, 2), settings=settings(epochs=1, **changes), display=Display())
    return weights_of(net)


def test_thresholds_that_learn_at_rate_0_stand_still() -> None:
    before, after = weights_of(network()), trained(threshold_learning_rate=0.0)
    assert torch.equal(after["1.raw_threshold"], before["1.raw_threshold"])
    assert not torch.equal(after["1.raw_decay"], before["1.raw_decay"])


def test_the_rates_follow_the_schedule() -> None:
    # Adam's steps do not depend on the gradient's size, so the way that thresholds go is proportional to their rate.
    start = weights_of(network())["1.raw_threshold"]
    slow, fast = (trained(threshold_learning_rate=rate)["1.raw_threshold"] - start for rate in (1e-6, 2e-6))
    torch.testing.assert_close(2 * slow, fast, rtol=0.05, atol=3e-7)
    assert fast.abs().max() > 2e-6
