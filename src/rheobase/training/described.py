"""What is trained, and how, in words: what no weight says, and a resumed run must not change.

Weights are numbers, and a checkpoint holds them. The shape of a surrogate, the rule of a reset, a loss function are not: a
network rebuilt with others would take the weights and silently end elsewhere.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from rheobase.layers import DelayedLinear, Dropout, Hold
from rheobase.neurons import Neuron
from rheobase.surrogate import Surrogate
from rheobase.training.growing_steps import GrowingSteps

_ELSEWHERE = {"params", "name", "lr", "initial_lr", "weight_decay"}
"""What an optimizer group has besides its settings, and settings determined by those of training."""
_OF_GRADIENTS = {"surrogate", "reset_gradient", "credit", "detach_recurrent", "temperature"}
_OF_TRAINING = {"p", "momentum", "growing"}
_SIZES = {"in_features", "out_features", "in_channels", "out_channels", "num_features"}
"""What weights also tell; they report a difference in their own words."""
_WITHOUT_EFFECT = _OF_GRADIENTS | _OF_TRAINING | {"features", "inplace", "path"}
"""Layer settings that change no output in evaluation; also a number that the weights hold too, and how it is computed."""
_PLAIN = bool | int | float | str | Surrogate | None


def described(
    network: nn.Module, loss: Any, decode: Any, regularizers: Sequence[Any], optimizer: Optimizer, schedule: Any = None
) -> dict[str, str]:
    """A word, by name, for each thing that must stay the same when a run resumes.

    Args:
        network: for its neurons, and for the other layers of PyTorch and of this library, the kind and all settings that are
            not tensors. Your own other layers may keep anything in their attributes, and are not described.
        loss: by the name of the function; likewise `decode`.
        decode: from the output to one value per class.
        regularizers: by their settings.
        optimizer: by its kind and the settings of its groups.
        schedule: by its name, in place of the setting of this name; None keeps that.

    Example:
        >>> import torch, rheobase as rb
        >>> network = nn.Sequential(nn.Linear(2, 2), rb.LIF())
        >>> sgd = torch.optim.SGD(network.parameters(), momentum=0.9)
        >>> words = described(network, None, rb.decoding.mean, [rb.regularizers.Sparsity()], sgd)
        >>> words["decode"], words["0"], words["1.reset"], words["optimizer"], words["optimizer.momentum"]
        ('mean', 'Linear', 'subtract', 'SGD', '0.9')
        >>> words["regularizers"]
        '[Sparsity(target=0.01, weight=1.0, schedule=linear_annealing)]'
    """
    words = {"loss": _word(loss), "decode": _word(decode), "regularizers": _word(list(regularizers))}
    words["optimizer"] = type(optimizer).__name__
    words |= {} if schedule is None else {"schedule": _word(schedule)}
    for name in sorted(optimizer.param_groups[0].keys() - _ELSEWHERE):
        settings = [_word(group[name]) for group in optimizer.param_groups]
        words[f"optimizer.{name}"] = settings[0] if len(set(settings)) == 1 else _word(settings)
    return words | _layers(network)


def differences(network: nn.Module, words: Mapping[str, Any]) -> list[str]:
    """What makes `network` compute something different, with the same weights, from the network that `words` describe.

    What only changes training is left out, such as surrogates and dropout; so is what one of the two has no word for.

    Example:
        >>> import rheobase as rb
        >>> differences(nn.Sequential(rb.LIF(reset="zero")), {"0": "LIF", "0.reset": "subtract"})
        ['0.reset is subtract, here zero']
    """
    of_training = {name for name, module in network.named_modules() if isinstance(module, Dropout | _DropoutNd)}
    ours = {
        name: word
        for name, word in _layers(network).items()
        if name not in of_training and name.rpartition(".")[2] not in _WITHOUT_EFFECT
    }
    return [f"{name} is {words[name]}, here {word}" for name, word in ours.items() if words.get(name, word) != word]


def surrogates_of_training(network: nn.Module, words: Mapping[str, Any]) -> dict[nn.Module, Surrogate]:
    """By layer, the surrogate of the network that `words` describe, where it is that of `network` with another dampening.

    A dampening is what `rheobase.stabilize` and a new `rheobase.Sequential` choose, and what nobody writes down.

    Raises:
        ValueError: if a dampening is not positive and finite.

    Example:
        >>> import rheobase as rb
        >>> network = nn.Sequential(rb.LIF(surrogate=rb.surrogate.Arctan()))
        >>> word = "Arctan(dampening=0.3, sharpness=1.0)"
        >>> list(surrogates_of_training(network, {"0.surrogate": word}).values())
        [Arctan(dampening=0.3, sharpness=1.0)]
        >>> surrogates_of_training(network, {"0.surrogate": word.replace("Arctan", "FastSigmoid")})
        {}
    """
    found: dict[nn.Module, Surrogate] = {}
    for name, module in network.named_modules():
        ours, word = getattr(module, "surrogate", None), words.get(f"{name}.surrogate")
        number = re.search(r"\bdampening=([-+.\w]+)", word) if isinstance(word, str) else None
        if number is None or not isinstance(ours, Surrogate) or _word(ours) == word:
            continue
        theirs = replace(ours, dampening=float(number[1]))
        if _word(theirs) == word:
            found[module] = theirs
    return found


def _layers(network: nn.Module) -> dict[str, str]:
    words: dict[str, str] = {}
    growing = [module for module in network.modules() if isinstance(module, GrowingSteps)]
    held = {
        part for module in growing for part in module.modules() if isinstance(part, Hold)
    }  # for as long as weights say
    for name, module in network.named_modules():
        if isinstance(module, GrowingSteps):
            words[f"{name}.growing"] = _word(module.steps)
        if module in held:
            continue
        kind = parametrize.type_before_parametrizations(module)
        holds_layers = any(child != "parametrizations" for child, _ in module.named_children())
        known = kind.__module__.startswith(("torch.", "rheobase.")) and not holds_layers
        if not (known or isinstance(module, Neuron | DelayedLinear)):
            continue
        words[name] = _kind(kind)
        for key, value in vars(module).items():
            if isinstance(value, _PLAIN | tuple) and not key.startswith("_") and key not in _SIZES:
                words[f"{name}.{key}"] = _word(value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value)
        words.pop(f"{name}.training", None)  # which changes between training and evaluation
    return words


def _kind(kind: type) -> str:
    """The name of a class; for one that stands in for a layer of PyTorch, that layer's name."""
    if issubclass(kind, _BatchNorm):  # several processes have their own instead
        return "BatchNorm"
    of_torch = next(base for base in kind.__mro__ if base.__module__.startswith("torch."))
    return kind.__name__ if of_torch is nn.Module else of_torch.__name__


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_word, value))}]"
    if is_dataclass(value) and not isinstance(value, type):
        settings = [f"{field.name}={_word(getattr(value, field.name))}" for field in fields(value)]
        return f"{type(value).__name__}({', '.join(settings)})"
    if isinstance(value, _PLAIN):
        return str(value)
    return getattr(value, "__name__", type(value).__name__)
