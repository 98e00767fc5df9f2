"""A network from a graph of NIR, such as another library or a designer of chips has written it.

What is read is a chain: nodes one behind the other, among which neurons may have synapses back to themselves. That is what
libraries write of networks in sequence. A graph with branches is refused.
"""

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from rheobase.errors import InteropError
from rheobase.interop.chain import Link, chain
from rheobase.interop.steps import Array, decay_and_gain, near_one, nir_package
from rheobase.layers import Delay, LeakyReadout, Sequential, SynapticReadout
from rheobase.neurons import LIF, RecurrentLIF, SynapticLIF

if TYPE_CHECKING:
    import nir

Reset = Literal["zero", "subtract"]


def from_nir(graph: "nir.NIRGraph", *, dt: float | None = None, reset: Reset | None = None) -> Sequential:
    """The network of a graph, in steps of `dt` by Euler's rule, see `rheobase.interop.steps`.

    A resistance that is not `tau / dt` multiplies the input of a neuron, which is the same as a threshold that is divided by
    it, and the input of an integrator, which the weights in front of it take up. A leak potential to which neurons are reset,
    too, is taken as 0, and the threshold from there.

    Args:
        graph: a chain of nodes, from an `Input` to an `Output`, as `nir.read` returns it.
        dt: the duration of a step, in seconds. None is that with which the graph was written, if its metadata tell.
        reset: to 0, as in NIR, or by subtracting the threshold; None is what the metadata of the neurons tell, or `"zero"`.

    Returns:
        The network, whose weights are left as they are when it is put into another.

    Raises:
        InteropError: if the graph is no chain, a node has no counterpart here, or what it holds is out of range; the message
            names the node. Or if the package nir is not installed.
        ValueError: if `dt` is not above 0, or not known.

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
    dt = graph.metadata.get("dt") if dt is None else dt
    if dt is None or not 0 < (dt := float(dt)) < math.inf:
        raise ValueError(f"from_nir: dt must be above 0, the seconds of a step, got {dt}; the graph does not tell it")
    reader = _Reader(package, dt, reset)
    for link in chain(package, graph):
        try:
            reader.read(link)
        except (InteropError, ValueError, TypeError, RuntimeError) as error:
            raise InteropError(f"from_nir: node {link.name!r}, {type(link.node).__name__}: {error}") from error
    return Sequential(*reader.layers, input_rate=None)


class _Reader:
    """The layers so far; what stands in front of an integrator takes up its resistance."""

    def __init__(self, package: Any, dt: float, reset: Reset | None) -> None:
        self.nir, self.dt = package, dt
        self.reset: Reset | None = reset
        self.layers: list[nn.Module] = []

    def read(self, link: Link) -> None:
        """Add the layer of a node."""
        node, nir = link.node, self.nir
        if link.recurrent is not None and not isinstance(node, nir.LIF | nir.IF | nir.CubaLIF):
            raise InteropError("what it hands on comes back to it, which only neurons do here")
        if isinstance(node, nir.Affine | nir.Linear | nir.Conv1d | nir.Conv2d):
            self.layers.append(_synapses(nir, node))
        elif isinstance(node, nir.LIF | nir.IF | nir.CubaLIF):
            self.layers.append(self._neurons(node, link.recurrent))
        elif isinstance(node, nir.LI | nir.I | nir.CubaLI):
            self._readout(node)
        elif isinstance(node, nir.Threshold):
            self._threshold(node)
        elif isinstance(node, nir.Scale):
            self._scale(_numbers(node.scale, "scale"))
        elif isinstance(node, nir.Delay):
            self.layers.append(Delay(self._steps(_numbers(node.delay, "delay"))))
        elif isinstance(node, nir.AvgPool2d | nir.SumPool2d):
            size, stride, padding = (_pair(value) for value in (node.kernel_size, node.stride, node.padding))
            divisor = 1 if isinstance(node, nir.SumPool2d) else None
            self.layers.append(nn.AvgPool2d(size, stride, padding, divisor_override=divisor))
        elif isinstance(node, nir.Flatten):
            start, end = (int(dim) if dim < 0 else int(dim) + 1 for dim in (node.start_dim, node.end_dim))
            self.layers.append(nn.Flatten(start, end))
        else:
            raise InteropError("there is nothing like it here")

    def _neurons(self, node: Any, recurrent: Array | None) -> nn.Module:
        threshold, rest = _numbers(node.v_threshold, "v_threshold"), 0.0
        if not isinstance(node, self.nir.IF):
            rest = _numbers(node.v_leak, "v_leak")
        if not np.array_equal(_numbers(node.v_reset, "v_reset"), rest + np.zeros_like(threshold)):
            raise InteropError("neurons start from their leak potential, so v_reset must be v_leak")
        kept, gain = self._membrane(node)
        if not (gain > 0).all():
            raise InteropError("resistances must be above 0, as what multiplies currents in front of a threshold")
        values = {**kept, "threshold": (threshold - rest) / gain}
        features, values = _per_feature(values)
        told: Reset = "subtract" if _text(node.metadata.get("reset", "zero")) == "subtract" else "zero"
        reset = told if self.reset is None else self.reset
        if recurrent is None:
            kind = SynapticLIF if "synapse_decay" in values else LIF
            return kind(features, **values, reset=reset)
        if "synapse_decay" in values:
            raise InteropError("current-based neurons with synapses back to themselves are not known here")
        layer = RecurrentLIF(len(recurrent), **values, reset=reset)
        with torch.no_grad():
            layer.recurrent_weight.copy_(torch.from_numpy(_numbers(recurrent, "the weight of what comes back")))
        return layer

    def _membrane(self, node: Any) -> tuple[dict[str, Array], Array]:
        """What the states of a node keep per step, and what its input is multiplied with."""
        nir, r = self.nir, _numbers(node.r, "r")
        if isinstance(node, nir.IF | nir.I):
            return {"decay": np.ones_like(r)}, near_one(r * self.dt)
        if isinstance(node, nir.LIF | nir.LI):
            decay, gain = decay_and_gain(node.tau, r, self.dt)
            return {"decay": decay}, gain
        decay, gain = decay_and_gain(node.tau_mem, r, self.dt)
        synapse_decay, into = decay_and_gain(node.tau_syn, _numbers(node.w_in, "w_in"), self.dt)
        return {"synapse_decay": synapse_decay, "decay": decay}, near_one(gain * into)

    def _readout(self, node: Any) -> None:
        if not isinstance(node, self.nir.I) and np.any(_numbers(node.v_leak, "v_leak")):
            raise InteropError("an integrator leaks to 0 here, so v_leak must be 0")
        kept, gain = self._membrane(node)
        if isinstance(node, self.nir.CubaLI):
            if (kept["decay"] == 1).any():
                raise InteropError("its time constant is too long to tell from none")
            gain = near_one(gain / (1 - kept["decay"]))  # our readout hands on `(1 - decay) v`
        self._scale(gain)
        features, values = _per_feature(kept)
        kind = SynapticReadout if "synapse_decay" in values else LeakyReadout
        self.layers.append(kind(features, **values))

    def _threshold(self, node: Any) -> None:
        """Neurons without a reset: of an integrator in front, or without a memory."""
        found = {"threshold": _numbers(node.threshold, "threshold")}
        features, values = _per_feature(found)
        before = self.layers[-1] if self.layers else None
        if isinstance(before, LeakyReadout):
            self.layers.pop()
            features = features if before.features is None else before.features
            self.layers.append(LIF(features, decay=before.decay, **values, reset="none"))
        elif isinstance(before, SynapticReadout):
            raise InteropError("current-based neurons without a reset are not read")
        else:
            self.layers.append(LIF(features, decay=0.0, **values, reset="none"))

    def _scale(self, gain: Array) -> None:
        """Multiply what comes next to enter, by multiplying the weights in front."""
        if (gain == 1).all():
            return
        before = self.layers[-1] if self.layers else None
        if not isinstance(before, nn.Linear | nn.Conv1d | nn.Conv2d):
            raise InteropError(
                "it multiplies its input, and there are no weights right in front that could take that up"
            )
        (features, values) = _per_feature({"gain": gain})
        factor = torch.as_tensor(values["gain"], dtype=torch.float64)
        with torch.no_grad():
            before.weight.mul_(factor.view(-1, *[1] * (before.weight.ndim - 1)) if features else factor)
            if before.bias is not None:
                before.bias.mul_(factor)

    def _steps(self, seconds: Array) -> int:
        steps = np.unique(seconds / self.dt)
        whole = round(float(steps[0]))
        if whole < 0 or np.abs(steps - whole).max() > 1e-3:
            raise InteropError(
                f"delays must be the same whole number of steps for all, got {steps.min():g} to {steps.max():g}"
            )
        return whole


def _synapses(package: Any, node: Any) -> nn.Module:
    weight = _numbers(node.weight, "weight")
    bias = None if isinstance(node, package.Linear) else _numbers(node.bias, "bias")
    if isinstance(node, package.Affine | package.Linear):
        if weight.ndim != 2:
            raise InteropError(f"weights must be (outputs, inputs), got shape {weight.shape}")
        layer: Any = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    else:
        kind = nn.Conv1d if isinstance(node, package.Conv1d) else nn.Conv2d
        if weight.ndim != (3 if kind is nn.Conv1d else 4):
            raise InteropError(f"weights have shape {weight.shape}, which is of no convolution of its kind")
        groups = int(node.groups)
        settings = {name: _setting(getattr(node, name)) for name in ("stride", "padding", "dilation")}
        layer = kind(weight.shape[1] * groups, weight.shape[0], weight.shape[2:], groups=groups, **settings)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        if bias is not None:
            if bias.shape != layer.bias.shape:
                raise InteropError(f"its bias has shape {bias.shape}, expected {tuple(layer.bias.shape)}")
            layer.bias.copy_(torch.from_numpy(bias))
    return layer


def _per_feature(values: dict[str, Array]) -> tuple[int | None, dict[str, Any]]:
    """The number of features, and one number for each: of maps, whose neurons must be alike, one per channel.

    Values that were one number for all stay one number; there are no features then.
    """
    shape = np.broadcast_shapes(*(value.shape for value in values.values()))
    if math.prod(shape) == 1:
        return None, {name: float(value.reshape(())) for name, value in values.items()}
    found = {}
    for name, value in values.items():
        rows = np.broadcast_to(value, shape).reshape(shape[0], -1)
        if (rows != rows[:, :1]).any():
            raise InteropError(f"{name} must be the same for all neurons of a map, got values that differ")
        found[name] = torch.from_numpy(rows[:, 0].copy())
    return shape[0], found


def _numbers(value: Any, name: str) -> Array:
    """An array of a node, in float64."""
    found = np.asarray(value)
    if found.dtype.kind not in "fiub" or not np.isfinite(found).all():
        raise InteropError(f"{name} must be finite numbers")
    return found.astype(np.float64)


def _setting(value: Any) -> Any:
    if isinstance(value, bytes | str):
        return _text(value)
    numbers = np.asarray(value)
    return int(numbers) if numbers.ndim == 0 else tuple(int(number) for number in numbers)


def _pair(value: Any) -> tuple[int, int]:
    found = _setting(value)
    return (found, found) if isinstance(found, int) else found


def _text(value: Any) -> str:
    return value.decode("utf8", "replace") if isinstance(value, bytes) else str(value)
