"""A network as a NIR graph, which simulators and neuromorphic chips read.

The graph computes what the network computes in evaluation: dropout is removed, batch normalization is folded into the weights,
standardized weights are plain, and delayed copies (`Delay`) are synapses behind delays. What NIR cannot express is refused,
layer by layer, rather than written as something else.
"""

import copy
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from rheobase.compiled import original
from rheobase.errors import InteropError
from rheobase.files import atomic_write
from rheobase.interop.dynamics import nodes_of
from rheobase.interop.steps import Array, as_array, check_dt, nir_package
from rheobase.layers import (
    Delay,
    DelayedLinear,
    Dropout,
    Hold,
    LeakyReadout,
    Recompute,
    Residual,
    Sequential,
    SpikeLinear,
    SynapticReadout,
)
from rheobase.layers.order import InSequence, in_order
from rheobase.layers.parametrized import kind_of
from rheobase.neurons import (
    LIF,
    PSN,
    SPSN,
    AdaptiveLIF,
    MaskedPSN,
    ParaLIF,
    RecurrentAdaptiveLIF,
    RecurrentLIF,
    Rouser,
    SingleSpike,
    SlidingPSN,
    SynapticLIF,
)
from rheobase.temporal import Temporal
from rheobase.training.growing_steps import GrowingSteps

if TYPE_CHECKING:
    import nir

_NOT_THERE = {
    SingleSpike: "its neurons remember that they have fired; those that fire again are rheobase.LIF",
    SPSN: "its spikes are drawn at random",
    ParaLIF: "its spike functions are not a threshold",
    PSN: "it mixes all steps of a sequence, which no neuron on a chip sees",
    MaskedPSN: "its weights differ from step to step",
    SlidingPSN: "it mixes a window of steps",
    AdaptiveLIF: "its threshold adapts, and NIR's neurons have a fixed one",
    RecurrentAdaptiveLIF: "its threshold adapts, and NIR's neurons have a fixed one",
    nn.MaxPool2d: "NIR has no maximum; pool with nn.AvgPool2d",
}
"""Layers without a counterpart in NIR, and why."""


def to_nir(network: nn.Module, features: Sequence[int], *, dt: float) -> "nir.NIRGraph":
    """The graph of a network in evaluation, for `nir.write`, for chips, and for other libraries.

    Time constants and resistances are those with which Euler's rule in steps of `dt` computes what the network computes, see
    `rheobase.interop.steps`. Two differences remain for the program that runs the graph. NIR's neurons fire above the
    threshold, not at it. And NIR resets to a potential, here 0; in continuous time that is the same as subtracting the
    threshold, in steps it is not, so the node's metadata say which it was: `reset` is `"zero"` or `"subtract"`.

    Neurons with `reset="none"` are written as an integrator and a threshold, recurrent ones as a graph within the graph, in
    which a spike takes a step to come back, `Hold` as nothing, since the input is present at every step anyway.

    Args:
        network: layers in sequence, such as an `rb.Sequential`; may include `rb.Residual`.
        features: the shape of a step of one sample, `(700,)` or `(2, 34, 34)`.
        dt: the duration of a step, in seconds; above 0.

    Returns:
        The graph, from its node `"input"` to its node `"output"`; nodes are named by position and kind: `"0_linear"`.

    Raises:
        InteropError: if a layer, or a setting of it, has no counterpart in NIR; the message says why. Or if the package nir is
            not installed.
        ValueError: if `dt` is not from 1e-9 to 1000, or `features` is not a shape, or does not fit.

    Source: Pedersen et al., "Neuromorphic intermediate representation: A unified instruction set for interoperable
    brain-inspired computing", Nature Communications 15, 2024.

    Example:
        >>> import rheobase as rb
        >>> network = rb.Sequential(nn.Linear(4, 3), rb.LIF(3, decay=0.9), nn.Linear(3, 2), rb.LeakyReadout(2))
        >>> graph = rb.interop.to_nir(network, (4,), dt=0.001)
        >>> " ".join(behind for _, behind in graph.edges)
        '0_linear 1_lif 2_linear 3_leakyreadout output'
        >>> graph.nodes["1_lif"].tau
        array([0.01, 0.01, 0.01], dtype=float32)
    """
    nir = nir_package("to_nir")
    if (
        not isinstance(features, Sequence)
        or not features
        or not all(isinstance(size, int) and size > 0 for size in features)
    ):
        raise ValueError(
            f"to_nir: features must be the shape of a step of one sample, such as (700,), got "
            f"{type(features).__name__ if isinstance(features, Tensor) else repr(features)}"
        )
    writer = _Writer(nir, features, check_dt(dt, "to_nir"))
    network = original(network)
    _check_known(network)
    with torch.no_grad():
        writer.write(copy.deepcopy(network).eval().to("cpu", torch.float32))
    return writer.graph()


def _check_known(network: nn.Module) -> None:
    """Refuse modules with additional behaviour: hooks, and containers with their own `forward`.

    Raises:
        InteropError: naming the module.
    """
    forwards = [kind.forward for kind in (nn.Sequential, Sequential, Recompute, GrowingSteps)]
    for name, module in network.named_modules():
        where = f"to_nir: {name or 'the network'}, {kind_of(module)}"
        if isinstance(module, nn.Sequential | InSequence) and type(module).forward not in forwards:
            raise InteropError(f"{where}, has its own forward, and it is unknown what that does with its layers")
        if module._forward_hooks or module._forward_pre_hooks:
            raise InteropError(
                f"{where}, has hooks, which may change its values; remove them (of pruning: torch.nn.utils.prune.remove)"
            )


def write_nir(graph: "nir.NIRGraph", path: str | Path) -> None:
    """Write a graph to a file, as `nir.write` does, but atomically: it is never seen half-written.

    Args:
        graph: any NIR graph.
        path: the file; an existing one is replaced.

    Raises:
        InteropError: if the package nir is not installed.
    """
    package, content = nir_package("write_nir"), io.BytesIO()
    package.write(content, graph)
    with atomic_write(Path(path)) as file:
        file.write(content.getvalue())


class _LayerError(InteropError):
    """One that names its layer."""


class _Writer:
    """The traversal of a network: the nodes and edges so far, and what the next layer receives.

    The next layer receives `x`, zeros in the shape of one step of one sample. It is the sum of the outputs of the nodes in a
    group; after a `Delay` there are several such groups, side by side on the features axis.
    """

    def __init__(self, package: Any, features: Sequence[int], dt: float) -> None:
        self.nir, self.dt = package, dt
        self.nodes: dict[str, Any] = {"input": package.Input(input_type={"input": np.array(features)})}
        self.edges: list[tuple[str, str]] = []
        self.groups: list[list[str]] = [["input"]]
        self.forks: set[str] = set()
        self.in_time = False
        self.x = torch.zeros(1, 1, *features)

    def graph(self) -> "nir.NIRGraph":
        """The whole graph, once the last layer is written."""
        try:
            self._add("output", self.nir.Output(output_type={"output": np.array(self.x.shape[2:])}))
        except InteropError as error:
            raise InteropError(f"to_nir: the end of the network: {error}") from None
        return self.nir.NIRGraph(self.nodes, self.edges, metadata={"dt": self.dt})

    def write(self, network: nn.Module, name: str = "") -> None:
        """Append the layers of a network."""
        for place, layer in in_order(network, name):
            where = f"to_nir: layer {place}, {layer}" if place else f"to_nir: {layer}"
            before = self.x
            try:
                if isinstance(layer, Residual):
                    self._residual(layer, place)
                    continue
                self._layer(layer, place, before)
                self.in_time |= isinstance(layer, Temporal) and not isinstance(layer, Hold | Dropout)
                self.x = layer(before) if isinstance(layer, Temporal) else layer(before[0]).unsqueeze(0)
            except _LayerError:
                raise  # from a layer within, which it names
            except InteropError as error:
                raise _LayerError(f"{where}: {error}") from None
            except (RuntimeError, ValueError) as error:
                raise ValueError(f"{where}, cannot take a step of {tuple(before.shape[2:])}: {error}") from error

    def _residual(self, layer: Residual, place: str) -> None:
        x, groups = self.x, self.groups
        self.forks.update(*groups)
        self.write(layer.body, f"{place}.body")
        body, shape = self._sources(), self.x.shape
        self.x, self.groups = x, groups
        self.write(layer.shortcut, f"{place}.shortcut")
        passing = self._sources()
        if self.x.shape != shape:
            raise InteropError(f"its layers return shape {tuple(shape[2:])}, its shortcut {tuple(self.x.shape[2:])}")
        if set(body) & set(passing):  # nothing in between: NIR has no two edges between the same nodes
            passing = [self._new("copy", self.nir.Scale(np.ones(shape[2:], np.float32)), passing)]
        self.groups = [body + passing]

    def _layer(self, layer: Any, place: str, before: Tensor) -> None:
        kind = type_before_parametrizations(layer)
        node = f"{place.replace('.', '_')}_{kind.__name__.lower()}".lstrip("_")
        if kind in (nn.Linear, SpikeLinear, nn.Conv1d, nn.Conv2d):
            self._synapses(layer, node, before)
        elif kind in (nn.BatchNorm1d, nn.BatchNorm2d):
            self._normalized(layer)
        elif kind in (LIF, SynapticLIF, Rouser, RecurrentLIF, LeakyReadout, SynapticReadout):
            *integrators, last = nodes_of(self.nir, layer, before, self.dt)
            for integrator in integrators:
                self._add(f"{node}_membrane", integrator)
            self._add(node, last)
        elif kind is Delay:
            self.groups = self._delayed(layer.steps, node, before)
        elif kind is DelayedLinear:
            self._delayed_synapses(layer, node, before)
        elif kind is nn.AvgPool2d:
            if layer.ceil_mode or layer.divisor_override or not layer.count_include_pad:
                raise InteropError("NIR's pooling has no settings other than size, stride and padding")
            self._add(node, self.nir.AvgPool2d(*map(_pair, (layer.kernel_size, layer.stride, layer.padding))))
        elif kind is nn.Flatten:
            if layer.start_dim == 0:
                raise InteropError("it flattens the batch, too")
            start, end = (dim - 1 if dim > 0 else dim for dim in (layer.start_dim, layer.end_dim))  # without the batch
            shape = {"input": np.array(before.shape[2:])}
            self._add(node, self.nir.Flatten(shape, start_dim=start, end_dim=end))
        elif kind is Hold and self.in_time:
            raise InteropError(
                "it holds values that change from step to step, and NIR has no steps; hold the input of the network"
            )
        elif kind not in (nn.Dropout, nn.Dropout2d, Dropout, nn.Identity, Hold):
            reasons = (reason for known, reason in _NOT_THERE.items() if isinstance(layer, known))
            raise InteropError(f"it has no counterpart in NIR: {next(reasons, 'it is unknown what it computes')}")

    def _synapses(self, layer: nn.Linear | nn.Conv1d | nn.Conv2d, node: str, before: Tensor) -> None:
        """Weights, separate ones for each of the incoming groups; the bias goes with the first."""
        parts = len(self.groups)
        if isinstance(layer, nn.Linear) and before.ndim > 3:
            raise InteropError(
                f"it is folded over the axes in front of the last of {tuple(before.shape[2:])}; flatten them"
            )
        names = [node] if parts == 1 else [f"{node}_{k}" for k in range(parts)]
        weights, biases = _weight(layer).chunk(parts, dim=1), [layer.bias, *[None] * (parts - 1)]
        parts_of = zip(names, weights, biases, self.groups, strict=True)
        made = [
            (name, _synapses(self.nir, layer, weight, bias, before), group) for name, weight, bias, group in parts_of
        ]
        self.groups = [[self._new(*each) for each in made]]

    def _normalized(self, layer: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        """Scale the weights in front, and shift their bias."""
        names, mean, variance = self._sources(), layer.running_mean, layer.running_var
        in_front = (self.nir.Linear, self.nir.Affine, self.nir.Conv1d, self.nir.Conv2d)
        if not all(isinstance(self.nodes[name], in_front) and name not in self.forks for name in names):
            raise InteropError("it must directly follow a linear layer or a convolution, whose weights it can join")
        if mean is None or variance is None:
            raise InteropError("it keeps no running statistics, so that what it does depends on the batch")
        gain = (variance.double() + layer.eps).rsqrt() * (1 if layer.weight is None else layer.weight)
        shift = (0 if layer.bias is None else layer.bias) - mean * gain
        for name in names:
            node = self.nodes[name]
            weight = as_array(torch.from_numpy(node.weight) * gain.view(-1, *[1] * (node.weight.ndim - 1)))
            bias = as_array(torch.from_numpy(getattr(node, "bias", np.zeros(len(gain)))) * gain + shift)
            shift = torch.zeros_like(shift)  # once, if several are summed
            if isinstance(node, self.nir.Linear):
                self.nodes[name] = self.nir.Affine(weight, bias)
            else:
                node.weight, node.bias = weight, bias

    def _delayed(self, delays: Sequence[int], node: str, before: Tensor) -> list[list[str]]:
        """The input, once for each delay."""
        sources, groups = self._sources(), []
        for steps in delays:
            seconds = np.full(tuple(before.shape[2:]), steps * self.dt, np.float32)
            groups += [sources if steps == 0 else [self._new(f"{node}_{steps}", self.nir.Delay(seconds), sources)]]
        return groups

    def _delayed_synapses(self, layer: DelayedLinear, node: str, before: Tensor) -> None:
        """For each delay that occurs, the weights of the synapses that have it; the bias goes with the first."""
        bumps = layer.bump()
        delays = [steps for steps in range(layer.longest + 1) if bumps[:, steps].any()]
        names, bias = [], layer.bias
        for steps, sources in zip(delays, self._delayed(delays, node, before), strict=True):
            weight = as_array(layer.weight * bumps[:, steps])
            made = self.nir.Linear(weight) if bias is None else self.nir.Affine(weight, as_array(bias))
            names += [self._new(f"{node}_weights_{steps}", made, sources)]
            bias = None
        self.groups = [names]

    def _sources(self) -> list[str]:
        if len(self.groups) > 1:
            raise InteropError("the copies of a Delay must reach a linear layer or a convolution first")
        return self.groups[0]

    def _add(self, name: str, node: Any) -> None:
        self.groups = [[self._new(name, node, self._sources())]]

    def _new(self, name: str, node: Any, sources: list[str]) -> str:
        while name in self.nodes:  # "a.b" and "a_b" get the same name here
            name += "_"
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return name


def _synapses(
    package: Any, layer: nn.Linear | nn.Conv1d | nn.Conv2d, weight: Tensor, bias: Tensor | None, before: Tensor
) -> Any:
    """The weight node for a part of the inputs of `layer`."""
    if isinstance(layer, nn.Linear):
        return package.Linear(as_array(weight)) if bias is None else package.Affine(as_array(weight), as_array(bias))
    if layer.padding_mode != "zeros":
        raise InteropError(f"it pads with {layer.padding_mode!r}, and NIR with zeros only")
    settings: dict[str, Any] = {name: getattr(layer, name) for name in ("stride", "padding", "dilation")}
    shape: Any = tuple(before.shape[3:])
    kind = package.Conv2d
    if isinstance(layer, nn.Conv1d):
        kind, shape = package.Conv1d, shape[0]
        settings = {name: value if isinstance(value, str) else value[0] for name, value in settings.items()}
    if len(set(layer.kernel_size)) > 1:
        raise InteropError(f"its kernel is {layer.kernel_size}, and the package nir takes kernels to be square")
    offset = weight.new_zeros(layer.out_channels) if bias is None else bias
    return kind(shape, as_array(weight), groups=1, bias=as_array(offset), **settings)


def _weight(layer: nn.Linear | nn.Conv1d | nn.Conv2d) -> Tensor:
    """The weights from all inputs: those between groups of channels, which the package nir ignores, are 0."""
    if isinstance(layer, nn.Linear) or layer.groups == 1:
        return layer.weight
    blocks = layer.weight.chunk(layer.groups)
    weight = layer.weight.new_zeros(layer.out_channels, layer.in_channels, *layer.kernel_size)
    for g, block in enumerate(blocks):
        outputs, inputs = block.shape[:2]
        weight[g * outputs : (g + 1) * outputs, g * inputs : (g + 1) * inputs] = block
    return weight


def _pair(value: int | tuple[int, int]) -> Array:
    return np.array((value, value) if isinstance(value, int) else value)
