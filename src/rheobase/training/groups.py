"""Parameter groups: which parameters learn at which rate.

A weight is one of many, while a threshold or a decay is one per neuron and affects everything its neuron does; their best
learning rates may differ by an order of magnitude. And weight decay pulls matrices and kernels towards 0, where a bias, a decay
or a threshold does not belong. Optimizers have parameter groups for that; here the groups are found by the names of the layers'
values.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from rheobase.neurons.psn import ParallelNeuron
from rheobase.parameters import FeatureParameters


def parameter_groups(
    network: nn.Module,
    learning_rate: float,
    *,
    rates: Mapping[str, float] | None = None,
    weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer of PyTorch.

    Args:
        network: the network.
        learning_rate: that of all parameters not named in `rates`.
        rates: the learning rates of learned values, by name: `{"threshold": 1e-2, "decay": 1e-4}`. A name stands for every
            learned value that ends in it, so `"decay"` also for `"synapse_decay"`; the longest match counts. Where the values
            of that name are fixed, a rate has no effect.
        weight_decay: that of weight matrices and kernels; everything else has none.

    Returns:
        Groups with `"params"`, `"lr"`, `"weight_decay"`, and with `"name"`: "weights", "others", and the names in `rates`.
        Groups without a parameter are left out.

    Raises:
        ValueError: if a rate is negative, or no layer of the network has a value of that name.

    Example:
        >>> import torch, rheobase as rb
        >>> network = rb.Sequential(nn.Linear(4, 3), rb.LIF(3, learn=("threshold",)))
        >>> groups = parameter_groups(network, 1e-3, rates={"threshold": 1e-2})
        >>> [(group["name"], group["lr"], len(group["params"])) for group in groups]
        [('weights', 0.001, 1), ('others', 0.001, 1), ('threshold', 0.01, 1)]
        >>> optimizer = torch.optim.Adam(groups)
    """
    rates = dict(rates or {})
    modules = [module for module in network.modules() if isinstance(module, FeatureParameters)]
    # Parallel neurons have a different kind of thresholds, one per step and unbounded.
    thresholds = {module.threshold for module in modules if isinstance(module, ParallelNeuron)}
    known = sorted({value for module in modules for value in module.values} | {"threshold" for _ in thresholds})
    for name in rates:
        if not name or not any(value.endswith(name) for value in known):
            there_are = ", ".join(map(repr, known)) or "none"
            raise ValueError(
                f"parameter_groups: rates may name values of this network's layers, {there_are}; got {name!r}"
            )
    for name, rate in {"learning_rate": learning_rate, **rates}.items():
        if not rate >= 0:
            raise ValueError(f"parameter_groups: the learning rate {name!r} must be at least 0, got {rate}")
    groups: dict[str, dict[str, Any]] = {
        name: {"params": [], "lr": rates.get(name, learning_rate), "weight_decay": 0.0, "name": name}
        for name in ("weights", "others", *rates)
    }
    groups["weights"]["weight_decay"] = weight_decay
    values = {getattr(module, f"raw_{value}"): value for module in modules for value in module.learn}
    values |= dict.fromkeys(thresholds, "threshold")
    for parameter in network.parameters():
        if not parameter.requires_grad:
            continue
        fitting = [name for name in rates if values.get(parameter, "").endswith(name)]
        is_weight = parameter.ndim >= 2 and parameter not in values
        group = max(fitting, key=len) if fitting else "weights" if is_weight else "others"
        groups[group]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]
