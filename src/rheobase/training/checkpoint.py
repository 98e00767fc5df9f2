"""Checkpoints: one safetensors file that holds all that a run needs to go on, bit for bit.

Weights and the optimizer's moments are tensors, and the rest (which epoch, which best) is a few numbers in the file's metadata:
so a single file holds a consistent state, it is replaced in one step, and nothing in it can execute code. A digest of it all
tells a damaged file from a whole one: a bit that flips in a weight would otherwise train on unseen. The state of random
generators is not in it because there is none: every draw of a run is a function of the seed and of what it is for (see
`rheobase.randomness`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from rheobase.compiled import original
from rheobase.errors import RunError
from rheobase.files import atomic_write
from rheobase.training.described import differences, surrogates_of_training

_WEIGHTS = "network."
_MOMENTS = "optimizer."


@dataclass(frozen=True)
class Position:
    """Where a run stands after an epoch."""

    epoch: int
    """Epochs that are done."""
    best_epoch: int
    """The epoch, counted from 1, whose weights were best on the validation set; 0 before the first."""
    best_accuracy: float
    """0 where there are no classes."""
    best_loss: float
    seconds: float
    """Time spent in training so far, over all the pieces of an interrupted run."""
    data: str
    """The fingerprint of the data: a run goes on with the data that it started with, or not at all."""
    settings: str
    """The settings of training, as JSON: a run that went on with others would not end as if it had never stopped."""


def save(path: Path, network: nn.Module, position: Position, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Write weights, position and, if given, the optimizer's state, atomically."""
    tensors = {_WEIGHTS + name: tensor for name, tensor in original(network).state_dict().items()}
    if optimizer is not None:
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"{_MOMENTS}{index}.{key}": _number(optimizer, key, value) for key, value in moments.items()}
    # safetensors refuses tensors that share memory, as tied weights do: each gets its own copy.
    # And of a single element that was expanded even a contiguous tensor has a stride of 0.
    plain = torch.contiguous_format
    tensors = {name: tensor.detach().cpu().clone(memory_format=plain) for name, tensor in tensors.items()}
    where = json.dumps(asdict(position))
    metadata = {"position": where, "sha256": _digest(tensors, where)}
    if optimizer is not None:
        metadata["optimizer"] = type(optimizer).__name__
    with atomic_write(path) as file:
        file.write(serialize(tensors, metadata=metadata))


def position_of(path: Path) -> Position:
    """Where the run stood; nothing is filled.

    Raises:
        RunError: if there is no such file, or it is damaged.
    """
    return _read(path)[1]


def _number(optimizer: torch.optim.Optimizer, key: str, value: object) -> Tensor:
    if not isinstance(value, Tensor | int | float):
        raise TypeError(
            f"optimizer: {type(optimizer).__name__} keeps {key!r}, a {type(value).__name__}, which a checkpoint cannot hold; "
            "train without run="
        )
    return torch.as_tensor(value)


def load(path: str | Path, network: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Position:
    """Fill `network` and, if given, `optimizer` from `path`; nothing is changed unless everything fits.

    Surrogates get the dampening that they had in training, which `rheobase.stabilize` may have chosen. Surrogates of another
    shape or sharpness, rules of gradients and dropout are no weights, and stay as they are in `network`. All else that layers
    are told when they are made must be as it was in training, such as a reset: the weights would fit, and compute something
    else.

    Returns:
        Where the run stood.

    Raises:
        RunError: if there is no such file, it is damaged, or it is of another network or another optimizer; the message names
            what differs.
    """
    path, network = Path(path), original(network)
    tensors, position, kind = _read(path)
    weights = {name.removeprefix(_WEIGHTS): value for name, value in tensors.items() if name.startswith(_WEIGHTS)}
    _check_same_network(path, network.state_dict(), weights)
    words = _words(position)
    if different := differences(network, words):
        raise RunError(f"{path}: a checkpoint of a network with other layers: {'; '.join(different[:3])}")
    try:
        surrogates = surrogates_of_training(network, words)
    except ValueError as error:
        raise RunError(f"{path}: damaged: {error}") from error
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    try:
        _load_weights(path, network, weights)
        if optimizer is not None:
            _load_moments(path, optimizer, {k: v for k, v in tensors.items() if k.startswith(_MOMENTS)}, kind)
    except RunError:
        network.load_state_dict(before)
        raise
    for layer, surrogate in surrogates.items():
        layer.surrogate = surrogate  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    return position


def _read(path: Path) -> tuple[dict[str, Tensor], Position, str | None]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        _check_digest(metadata["sha256"], tensors, metadata["position"])
        return tensors, _position(json.loads(metadata["position"])), metadata.get("optimizer")
    except FileNotFoundError:
        raise RunError(f"{path}: there is no such checkpoint") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: not a checkpoint of this library, or damaged ({error})") from error


def _check_digest(expected: str, tensors: Mapping[str, Tensor], position: str) -> None:
    if _digest(tensors, position) != expected:
        raise ValueError("its content does not match its digest")


def _digest(tensors: Mapping[str, Tensor], position: str) -> str:
    sha = hashlib.sha256(position.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(f"|{name}|{tensor.dtype}{tuple(tensor.shape)}|".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _position(values: dict[str, Any]) -> Position:
    position = Position(**values)
    for name, kind in Position.__annotations__.items():
        if not isinstance(getattr(position, name), (int, float) if kind is float else kind):
            raise TypeError(f"{name} must be {kind.__name__}, got {getattr(position, name)!r}")
    return position


def _check_same_network(path: Path, ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    difference = [f"{name} is missing" for name in ours if name not in theirs]
    difference += [f"{name} is not in this network" for name in theirs if name not in ours]
    difference += [
        f"{name} is {_kind(theirs[name])}, here {_kind(ours[name])}"
        for name in ours
        if name in theirs and _kind(theirs[name]) != _kind(ours[name])
    ]
    if difference:
        more = f" and {len(difference) - 3} more differences" if len(difference) > 3 else ""
        raise RunError(f"{path}: a checkpoint of another network: {'; '.join(difference[:3])}{more}")


def _words(position: Position) -> dict[str, Any]:
    """What the network was trained with, by `rheobase.training.described`."""
    try:
        words = json.loads(position.settings)
    except (ValueError, RecursionError):
        return {}
    return words if isinstance(words, dict) else {}


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _load_weights(path: Path, network: nn.Module, weights: dict[str, Tensor]) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:  # a layer refuses them: their shapes fit, and what they are relative to does not
        refused = str(error).partition("\n\t")[2]
        raise RunError(f"{path}: a checkpoint of another network: {refused}") from error


def _load_moments(path: Path, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], kind: str | None) -> None:
    ours = type(optimizer).__name__
    if kind is None and not tensors:
        raise RunError(f"{path}: holds weights alone, without the optimizer's state: training cannot go on from it")
    kind = kind or "AdamW"  # it is not said in checkpoints of before there was a choice
    if kind != ours:
        raise RunError(f"{path}: was made by {kind}, not {ours}; resume it with the same optimizer")
    state: dict[int, dict[str, Tensor]] = {}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, value in tensors.items():
        index, _, key = name.removeprefix(_MOMENTS).partition(".")
        if not index.isdecimal() or int(index) >= len(parameters):
            raise RunError(f"{path}: damaged: the optimizer has {len(parameters)} parameters, got a state {name!r}")
        state.setdefault(int(index), {})[key] = value
    for key in {key for moments in state.values() for key in moments}:
        found = {index: moments[key] for index, moments in state.items() if key in moments}
        if all(value.ndim == 0 for value in found.values()):  # such as the number of steps
            continue
        for index, value in found.items():
            if not _fits(value, parameters[index]):
                raise RunError(f"{path}: damaged: '{_MOMENTS}{index}.{key}' has shape {tuple(value.shape)}")
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _fits(value: Tensor, parameter: Tensor) -> bool:
    """Whether it may be a part of the parameter's state: a number for each of its, or for each row or column of them."""
    pairs = zip(value.shape, parameter.shape, strict=False)
    return value.ndim == parameter.ndim and all(ours in (1, theirs) for ours, theirs in pairs)
