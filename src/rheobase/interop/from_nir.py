"""A network from a NIR graph, such as one written by another library or a chip's tools.

The graph must be a chain: nodes in sequence, in which neurons may have synapses back to themselves, as libraries write
sequential networks. A graph with branches is refused.
"""

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from rheobase.errors import InteropError
from rheobase.interop.chain import Link, chain
from rheobase.interop.steps import Array, check_dt, decay_and_gain, near_one, nir_package, numbers
from rheobase.layers import Delay, LeakyReadout, Sequential, SynapticReadout
from rheobase.neurons import LIF, RecurrentLIF, SynapticLIF

if TYPE_CHECKING:
    import nir

Reset = Literal["zero", "subtract"]

_MOST = 10_000
"""The limit of kernels, strides, paddings and delays in steps: a damaged one would request all memory."""

_WRONG = (InteropError, ValueError, TypeError, RuntimeError, ArithmeticError, LookupError)
"""The exceptions that a node's content may raise."""


def from_nir(graph: "nir.NIRGraph", *, dt: float | None = None, reset: Reset | None = None) -> Sequential:
    """The network of a graph, in steps of `dt` by Euler's rule, see `rheobase.interop.steps`.

    A resistance other than `tau / dt` multiplies the input of a neuron, which is equivalent to dividing its threshold, and the
    input of an integrator, which is absorbed into the weights in front. A leak potential that is also the reset potential is
    taken as 0, with the threshold relative to it.

    Args:
        graph: a chain of nodes, from an `Input` to an `Output`, as `nir.read` returns it.
        dt: the duration of a step, in seconds. None is that with which the graph was written, if its metadata have it.
        reset: to 0, as in NIR, or by subtracting the threshold; None takes it from the metadata of the neurons, or `"zero"`.

    Returns:
        The network, whose weights stay unchanged when it becomes part of another.

    Raises:
        InteropError: if the graph is not a chain, a node has no counterpart here, or its content is out of range; the message
            names the node. Or if the package nir is not installed.
        TypeError: if `graph` is not a NIR graph.
        ValueError: if `dt` is out of range, or missing, or `reset` is unknown.

    Source: as of `to_nir`.

    Example:
        >>> import rheobase as rb
        >>> network = rb.Sequential(nn.Linear(4, 3), rb.LIF(3, decay=0.9), nn.Linear(3, 2), rb.LeakyReadout(2))
        >>> again = rb.interop.from_nir(rb.interop.to_nir(network, (4,), dt=0.001))
        >>> x = (torch.rand(20, 8, 4) < 0.5).float()
        >>> torch.allclose(again(x), network(x), atol=1e-5)
        True
    """
    package = nir_package("from_nir")
    if not isinstance(graph, package.NIRGraph):
        raise TypeError(f"from_nir: graph must be a NIR graph, got a {type(graph).__name__}; nir.read(path) reads one")
    if reset not in (None, "zero", "subtract"):
        raise ValueError(f"from_nir: reset must be 'zero', 'subtract' or None, got {reset!r}")
    dt = check_dt(graph.metadata.get("dt") if dt is None else dt, "from_nir")
    reader = _Reader(package, dt, reset)
    for link in chain(package, graph):
        try:
            reader.read(link)
        except _WRONG as error:
            raise InteropError(f"from_nir: node {link.name!r}, {type(link.node).__name__}: {error}") from error
    return Sequential(*reader.layers, input_rate=None)


class _Reader:
    """The layers so far; the weights in front of an integrator absorb its resistance."""

    def __init__(self, package: Any, dt: float, reset: Reset | None) -> None:
        self.nir, self.dt = package, dt
        self.reset: Reset | None = reset
        self.layers: list[nn.Module] = []

    def read(self, link: Link) -> None:
        """Add the layer of a node."""
        node, nir = link.node, self.nir
        if link.recurrent is not None and not isinstance(node, nir.LIF | nir.IF | nir.CubaLIF):
            raise InteropError("its output returns to it, which is only supported for neurons")
        if isinstance(node, nir.Affine | nir.Linear | nir.Conv1d | nir.Conv2d):
            self.layers.append(_synapses(nir, node))
        elif isinstance(node, nir.LIF | nir.IF | nir.CubaLIF):
            self.layers.append(self._neurons(node, link.recurrent))
        elif isinstance(node, nir.LI | nir.I | nir.CubaLI):
            self._readout(node)
        elif isinstance(node, nir.Threshold):
            self._threshold(node)
        elif isinstance(node, nir.Scale):
            self._scale(numbers(node.scale, "scale"))
        elif isinstance(node, nir.Delay):
            self.layers.append(Delay(self._steps(numbers(node.delay, "delay"))))
        elif isinstance(node, nir.AvgPool2d | nir.SumPool2d):
            size, stride = (_whole(getattr(node, name), name, 2) for name in ("kernel_size", "stride"))
            padding = _whole(node.padding, "padding", 2, least=0)
            if any(2 * more > length for more, length in zip(padding, size, strict=True)):
                raise InteropError(f"padding must be at most half of the size {size}, got {padding}")
            divisor = 1 if isinstance(node, nir.SumPool2d) else None
            self.layers.append(nn.AvgPool2d(size, stride, padding, divisor_override=divisor))
        elif isinstance(node, nir.Flatten):
            axes = (_whole(dim, "an axis", 1, least=-8)[0] for dim in (node.start_dim, node.end_dim))
            self.layers.append(nn.Flatten(*(axis if axis < 0 else axis + 1 for axis in axes)))  # behind the batch
        else:
            raise InteropError("it has no counterpart here")

    def _neurons(self, node: Any, recurrent: Array | None) -> nn.Module:
        threshold, rest = numbers(node.v_threshold, "v_threshold"), 0.0
        if not isinstance(node, self.nir.IF):
            rest = numbers(node.v_leak, "v_leak")
        if not np.array_equal(numbers(node.v_reset, "v_reset"), rest + np.zeros_like(threshold)):
            raise InteropError("neurons start from their leak potential, so v_reset must be v_leak")
        kept, gain = self._membrane(node)
        if not (gain > 0).all():
            raise InteropError("resistances must be above 0, since they multiply currents in front of a threshold")
        values = {**kept, "threshold": (threshold - rest) / gain}
        features, values = _per_feature(values)
        reset = _text(node.metadata.get("reset", "zero")) if self.reset is None else self.reset
        if reset not in ("zero", "subtract"):
            raise InteropError(f"its metadata have the reset {reset!r}, expected 'zero' or 'subtract'")
        if recurrent is None:
            kind = SynapticLIF if "synapse_decay" in values else LIF
            return kind(features, **values, reset=reset)
        if "synapse_decay" in values:
            raise InteropError("current-based neurons with synapses back to themselves are not supported")
        weight = torch.from_numpy(numbers(recurrent, "the weight of what comes back"))
        layer = RecurrentLIF(len(weight), **values, reset=reset)
        if weight.shape != layer.recurrent_weight.shape:
            raise InteropError(f"what comes back must have weights (N, N), got shape {tuple(weight.shape)}")
        with torch.no_grad():
            layer.recurrent_weight.copy_(weight)
        return layer

    def _membrane(self, node: Any) -> tuple[dict[str, Array], Array]:
        """What the states of a node keep per step, and the factor of its input."""
        nir, r = self.nir, numbers(node.r, "r")
        if isinstance(node, nir.IF | nir.I):
            return {"decay": np.ones_like(r)}, near_one(r * self.dt)
        if isinstance(node, nir.LIF | nir.LI):
            decay, gain = decay_and_gain(node.tau, r, self.dt)
            return {"decay": decay}, gain
        decay, gain = decay_and_gain(node.tau_mem, r, self.dt)
        synapse_decay, into = decay_and_gain(node.tau_syn, numbers(node.w_in, "w_in"), self.dt)
        return {"synapse_decay": synapse_decay, "decay": decay}, near_one(gain * into)

    def _readout(self, node: Any) -> None:
        if not isinstance(node, self.nir.I) and np.any(numbers(node.v_leak, "v_leak")):
            raise InteropError("an integrator leaks to 0 here, so v_leak must be 0")
        kept, gain = self._membrane(node)
        if isinstance(node, self.nir.CubaLI):
            if (kept["decay"] == 1).any():
                raise InteropError("its time constant is too long to tell from none")
            gain = near_one(gain / (1 - kept["decay"]))  # our readout outputs `(1 - decay) v`
        self._scale(gain)
        features, values = _per_feature(kept)
        kind = SynapticReadout if "synapse_decay" in values else LeakyReadout
        self.layers.append(kind(features, **values))

    def _threshold(self, node: Any) -> None:
        """Neurons without a reset: an integrator in front, or none and so no memory."""
        found = {"threshold": numbers(node.threshold, "threshold")}
        features, values = _per_feature(found)
        before = self.layers[-1] if self.layers else None
        if isinstance(before, LeakyReadout):
            self.layers.pop()
            features = features if before.features is None else before.features
            self.layers.append(LIF(features, decay=before.decay, **values, reset="none"))
        elif isinstance(before, SynapticReadout):
            raise InteropError("current-based neurons without a reset are not supported")
        else:
            self.layers.append(LIF(features, decay=0.0, **values, reset="none"))

    def _scale(self, gain: Array) -> None:
        """Scale the next layer's input by scaling the weights in front."""
        if (gain == 1).all():
            return
        before = self.layers[-1] if self.layers else None
        if not isinstance(before, nn.Linear | nn.Conv1d | nn.Conv2d):
            raise InteropError(
                "it multiplies its input, and there are no weights directly in front to absorb the factor"
            )
        (features, values) = _per_feature({"gain": gain})
        factor = torch.as_tensor(values["gain"], dtype=torch.float64)
        with torch.no_grad():
            before.weight.mul_(factor.view(-1, *[1] * (before.weight.ndim - 1)) if features else factor)
            if before.bias is not None:
                before.bias.mul_(factor)
        if not all(parameter.isfinite().all() for parameter in before.parameters()):
            raise InteropError("the factor of its input makes the weights in front infinite")

    def _steps(self, seconds: Array) -> int:
        steps = np.unique(seconds / self.dt) if seconds.size else np.array([-1.0])
        whole = round(float(steps[0]))
        if not 0 <= whole <= _MOST or np.abs(steps - whole).max() > 1e-3:
            raise InteropError(
                f"delays must be the same whole number of steps for all, from 0 to {_MOST}, got {steps.min():g} to "
                f"{steps.max():g}"
            )
        return whole


def _synapses(package: Any, node: Any) -> nn.Module:
    weight = numbers(node.weight, "weight")
    bias = None if isinstance(node, package.Linear) else numbers(node.bias, "bias")
    if isinstance(node, package.Affine | package.Linear):
        if weight.ndim != 2:
            raise InteropError(f"weights must be (outputs, inputs), got shape {weight.shape}")
        layer: Any = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    else:
        kind = nn.Conv1d if isinstance(node, package.Conv1d) else nn.Conv2d
        if weight.ndim != (3 if kind is nn.Conv1d else 4):
            raise InteropError(f"weights have shape {weight.shape}, which does not fit a convolution of its kind")
        axes, (groups,) = weight.ndim - 2, _whole(node.groups, "groups", 1)
        settings: dict[str, Any] = {name: _whole(getattr(node, name), name, axes) for name in ("stride", "dilation")}
        words = isinstance(node.padding, str | bytes)
        settings["padding"] = _text(node.padding) if words else _whole(node.padding, "padding", axes, least=0)
        layer = kind(weight.shape[1] * groups, weight.shape[0], weight.shape[2:], groups=groups, **settings)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        if bias is not None:
            if bias.shape != layer.bias.shape:
                raise InteropError(f"its bias has shape {bias.shape}, expected {tuple(layer.bias.shape)}")
            layer.bias.copy_(torch.from_numpy(bias))
    return layer


def _per_feature(values: dict[str, Array]) -> tuple[int | None, dict[str, Any]]:
    """The number of features, and one number for each; for maps, whose neurons must be alike, one per channel.

    Values that were one number for all stay one number; there are no features then.
    """
    values = {name: numbers(value, name) for name, value in values.items()}  # may have become infinite by division
    shape = np.broadcast_shapes(*(value.shape for value in values.values()))
    if math.prod(shape) == 1:
        return None, {name: float(np.float32(value.reshape(()))) for name, value in values.items()}
    found = {}
    for name, value in values.items():
        rows = np.broadcast_to(value, shape).reshape(shape[0], -1)
        if (rows != rows[:, :1]).any():
            raise InteropError(f"{name} must be the same for all neurons of a map, got values that differ")
        found[name] = torch.from_numpy(rows[:, 0].astype(np.float32))  # in which they must be in range
    return shape[0], found


def _whole(value: Any, name: str, length: int, least: int = 1) -> Any:
    """A setting of an operation: one whole number per axis, given as one for all or one for each."""
    found = np.atleast_1d(numbers(value, name))
    if found.shape not in ((1,), (length,)) or (found % 1).any() or not (found >= least).all() or (found > _MOST).any():
        raise InteropError(f"{name} must be whole numbers from {least} to {_MOST}, one or {length}, got {value}")
    return tuple(int(number) for number in np.broadcast_to(found, length))


def _text(value: Any) -> str:
    return value.decode("utf8", "replace") if isinstance(value, bytes) else str(value)
