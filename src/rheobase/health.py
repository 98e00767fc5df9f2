"""The health of a network: which neurons fire, which never do, and what the spikes cost.

A neuron that fires for no sample of a set is dead on that set: it carries no information, and learns only as far as its
surrogate reaches below the threshold. One that fires at almost every step carries none either. Both are invisible in the loss.
`Recorder` counts them while the network runs, for any network, through hooks that are removed afterwards; it reports only on
the samples that it saw.

Synaptic operations are the currency of neuromorphic hardware: one addition for each spike and each synapse that it crosses. A
spike into a linear layer costs its fan-out; into a convolution, one kernel's worth of outputs. In a recurrent layer, a spike
also crosses the synapses to its own layer. Values other than spikes, such as the brightness of an image, cost one
multiplication for each nonzero value.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from rheobase.compiled import as_written, path_without_wrappers
from rheobase.layers.delayed_linear import DelayedLinear
from rheobase.layers.held import is_held
from rheobase.layers.parametrized import kind_of
from rheobase.layers.recompute import in_one_piece
from rheobase.layers.synapses import Synapses
from rheobase.neurons import Neuron, RecurrentAdaptiveLIF, RecurrentLIF, SingleSpike
from rheobase.origins import Origin, Origins
from rheobase.padding import mask_on

SATURATED = 0.9
"""A neuron that fires at this share of all steps, or more, is called saturated."""


@dataclass(frozen=True)
class LayerHealth:
    """What one layer of neurons did, over all recorded samples.

    Args:
        name: the layer's position and kind, `"1 LIF(128)"`.
        neurons: how many neurons it has (channels times space for maps).
        rate: spikes per neuron and step; steps that are padding (`rheobase.padding`) do not count.
        dead: the share of neurons without a single spike.
        silent: the share of neurons without a spike in a sample, averaged over the samples. A dead neuron is silent in all.
        saturated: the share of neurons that fire at 90 % of the steps or more.
        spikes_per_sample: spikes of the whole layer per sample.
        synaptic_operations_per_sample: what these spikes cost in the layers that receive them, including this one if it is
            recurrent.
        fires_once_in: the steps in which its neurons fire once, if they are `SingleSpike`; else None.
        rates: the firing rate of each neuron, `(neurons,)`, spikes per step.
    """

    name: str
    neurons: int
    rate: float
    dead: float
    silent: float
    saturated: float
    spikes_per_sample: float
    synaptic_operations_per_sample: float
    fires_once_in: int | None
    rates: Float[Tensor, " neurons"] = field(repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Everything except the rates of single neurons, for JSON."""
        return {name: value for name, value in vars(self).items() if name != "rates"}


@dataclass(frozen=True)
class InputHealth:
    """What the network received, over all recorded samples.

    Args:
        spikes_per_sample: the sum of the spike counts; for other values, how many are not zero.
        synaptic_operations_per_sample: what they cost in the layers that receive them.
        analog: whether they are other values: in some batch, one was below zero, or not a whole number.
    """

    spikes_per_sample: float
    synaptic_operations_per_sample: float
    analog: bool = False


class Recorder:
    """Counts spikes and synaptic operations of every layer of neurons, while the network runs inside its `with` block.

    It records calls of the network, `network(x)`; hooks do not see pieces streamed through `network.run`. Where a network adds
    or concatenates the spikes of several layers, what they cost after that is attributed to the layer that ran last.

    Args:
        network: any module; each `rheobase.Neuron` in it is recorded.

    Example:
        >>> import rheobase as rb
        >>> layers = nn.Linear(4, 3), rb.LIF(3, threshold=1e6), nn.Linear(3, 2), rb.LeakyReadout(2)
        >>> network = rb.Sequential(*layers, input_rate=None)
        >>> with Recorder(network) as recorder:
        ...     _ = network(torch.ones(10, 2, 4))
        >>> [(layer.name, layer.dead) for layer in recorder.layers()]
        [('1 LIF(3)', 1.0)]
        >>> recorder.input().synaptic_operations_per_sample  # 10 steps x 4 inputs x fan-out 3
        120.0
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._names: dict[nn.Module, str] = {module: name for name, module in neuron_layers(network)}
        self._inside = {part: name for neurons, name in self._names.items() for part in neurons.modules()}
        self._last: str | None = None  # the layer that spiked last; None outside a call of the network
        self._origins = Origins()
        self._spikes: dict[str, Tensor] = {}
        # Samples times steps, for each layer: one that is used twice has twice as many.
        self._steps: dict[str, Tensor] = {}
        self._silences: dict[str, Tensor] = {}  # pairs of a sample and a neuron silent in it, and all pairs
        self._operations: dict[str, Tensor] = {}
        self._longest: dict[str, int] = {}  # sequence, of layers of neurons that fire once in it
        self._samples = torch.zeros((), dtype=torch.float64)
        self._analog = torch.zeros((), dtype=torch.float64)  # batches of the input
        self._handles: list[RemovableHandle] = []
        self._stack = ExitStack()

    def __enter__(self) -> "Recorder":
        self._stack.enter_context(as_written())
        self._handles.append(self._network.register_forward_pre_hook(self._on_input, with_kwargs=True))
        self._handles.append(self._network.register_forward_hook(self._on_output, always_call=True))
        for module in self._network.modules():
            if isinstance(module, Neuron):
                self._handles.append(module.register_forward_hook(self._on_spikes))
            elif isinstance(module, Synapses):
                self._handles.append(module.register_forward_pre_hook(self._on_synapses, with_kwargs=True))
            elif module not in self._inside and next(module.children(), None) is None:
                self._handles.append(module.register_forward_hook(self._on_passing, with_kwargs=True))
        return self

    def __exit__(self, *exception: object) -> None:
        while self._handles:
            self._handles.pop().remove()
        self._stack.close()

    def _on_input(self, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if (x := _first_tensor(arguments, named)) is None:
            return
        self._samples = self._samples + x.shape[1]
        self._last = _INPUT
        counted = _are_counts(x)
        self._analog += not counted
        self._origins.clear()
        self._origins.put(x, Origin(_INPUT, 1.0 if counted else None))
        _add(self._spikes, _INPUT, _spikes_in(x, 1.0 if counted else None))

    def _on_output(self, *_: Any) -> None:
        self._last = None
        self._origins.clear()

    def _on_passing(self, module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], y: Any) -> None:
        x = _first_tensor(arguments, named)
        if x is not None and isinstance(y, Tensor):
            self._origins.passed(module, x, y)

    def _on_spikes(self, module: nn.Module, _: tuple[Any, ...], spikes: Tensor) -> None:
        self._last = name = self._names[module]
        self._origins.put(spikes, Origin(name, 1.0))
        # Spikes are 0 or 1: their sums are their counts, ten times as fast as counting nonzero values. All types are exact up
        # to 256, and float32 up to 2**24, more than one neuron's spikes in a batch.
        exact = spikes.dtype in (torch.float32, torch.float64) or len(spikes) <= 256
        counts = spikes.sum(0, dtype=None if exact else torch.float32)
        before = self._spikes.get(name)
        _check_as_before(name, None if before is None else before.numel(), math.prod(counts.shape[1:]))
        _add(self._spikes, name, counts.float().sum(0).flatten().cpu().double())
        pairs = torch.tensor(counts.numel(), device=counts.device)
        silences = torch.stack((pairs - counts.count_nonzero(), pairs))
        _add(self._silences, name, silences)
        mask = mask_on(module)  # padding has no steps
        if isinstance(module, SingleSpike):
            longest = len(spikes) if mask is None else int(mask.any(1).sum())
            self._longest[name] = max(longest, self._longest.get(name, 0))
        steps = math.prod(spikes.shape[:2]) if mask is None else mask.sum().item()
        _add(self._steps, name, torch.tensor(steps, dtype=torch.float64))
        if recurrent := _recurrent_fan_out(module):
            _add(self._operations, name, counts.sum(dtype=torch.float64).cpu() * recurrent)

    def _on_synapses(self, module: Synapses, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        x = _first_tensor(arguments, named)
        if self._last is None or x is None:
            return
        # Synapses inside a layer of neurons are crossed by its own spikes. Layers run in the order of the data: spikes of
        # unknown origin are those of the neurons that ran last, or derived from them.
        name = self._inside.get(module)
        origin = self._origins.of(x) if name is None else None
        origin = origin or Origin(name or self._last, 1.0 if _are_counts(x) else None)
        _add(self._operations, origin.name, _spikes_in(x, origin.spike) * _fan_out(module))

    def combine(self, sum_over_processes: Callable[[Tensor], Tensor]) -> None:
        """Add up what several processes recorded, each from its own samples.

        Args:
            sum_over_processes: takes a tensor and returns its sum over all processes.
        """
        self._samples, self._analog = map(sum_over_processes, (self._samples, self._analog))
        for counts in (self._spikes, self._steps, self._silences, self._operations):
            for name in counts:
                counts[name] = sum_over_processes(counts[name])

    def layers(self) -> list[LayerHealth]:
        """The health of every layer of neurons that has run, in the order of the data."""
        samples = self._samples.item()
        health = []
        for name, spikes in self._spikes.items():
            if name == _INPUT:
                continue
            rates = spikes.cpu().double() / max(self._steps[name].item(), 1)
            silences, pairs = self._silences[name].tolist()
            health.append(
                LayerHealth(
                    name=name,
                    neurons=len(rates),
                    rate=rates.mean().item(),
                    dead=(rates == 0).double().mean().item(),
                    silent=silences / max(pairs, 1),
                    saturated=(rates >= SATURATED).double().mean().item(),
                    spikes_per_sample=spikes.sum().item() / max(samples, 1),
                    synaptic_operations_per_sample=self._operations_of(name) / max(samples, 1),
                    fires_once_in=self._longest.get(name),
                    rates=rates.float(),
                )
            )
        return health

    def unseen(self) -> list[str]:
        """The layers of neurons that were not called, and so not recorded, such as those only streamed through `layer.run`."""
        return [name for name in self._names.values() if name not in self._steps]

    def input(self) -> InputHealth:
        """What the network received."""
        samples = max(self._samples.item(), 1)
        spikes = self._spikes.get(_INPUT, torch.zeros(()))
        return InputHealth(spikes.item() / samples, self._operations_of(_INPUT) / samples, self._analog.item() > 0)

    def _operations_of(self, name: str) -> float:
        return self._operations[name].item() if name in self._operations else 0.0


@torch.no_grad()
def record_spikes(
    network: nn.Module, x: Float[Tensor, "T B *features"]
) -> tuple[dict[str, Float[Tensor, "_ B *_"]], Float[Tensor, "_ B *out"]]:
    """The spikes of every layer of neurons for the input `x`, by layer name, and the network's output: for a raster.

    Args:
        network: any module with `rheobase.Neuron` layers.
        x: the input, `(T, B, *features)`.

    Returns:
        `{name: spikes (T, B, *features)}` in the order of the data, and the output `(T, B, *features_out)`.

    Example:
        >>> import rheobase as rb
        >>> spikes, output = record_spikes(rb.Sequential(rb.LIF(3), nn.Linear(3, 2)), torch.ones(5, 1, 3))
        >>> spikes["0 LIF(3)"].shape, output.shape
        (torch.Size([5, 1, 3]), torch.Size([5, 1, 2]))
    """
    with listening(network) as recorded:
        output = network(x)
    return recorded, output


@contextmanager
def listening(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Fills a dictionary with the spikes of every layer of neurons that runs inside the `with` block, gradients included.

    They are those of the last call of the network. A layer that runs several times in it has all of them, one after the other
    in time: `(2 T, B, *features)` for two runs of T steps.

    Args:
        network: any module with `rheobase.Neuron` layers.

    Example:
        >>> import rheobase as rb
        >>> network = rb.Sequential(nn.Linear(2, 3), rb.LIF(3))
        >>> with listening(network) as spikes:
        ...     _ = network(torch.ones(5, 1, 2))
        >>> spikes["1 LIF(3)"].shape, spikes["1 LIF(3)"].requires_grad
        (torch.Size([5, 1, 3]), True)
    """
    recorded: dict[str, Tensor] = {}

    def add(name: str, _module: nn.Module, _arguments: tuple[Any, ...], spikes: Tensor) -> None:
        before = recorded.get(name)
        _check_as_before(name, None if before is None else math.prod(before.shape[2:]), math.prod(spikes.shape[2:]))
        recorded[name] = spikes if before is None else torch.cat((before, spikes))

    handles = [network.register_forward_pre_hook(lambda *_: recorded.clear())]
    handles += [module.register_forward_hook(partial(add, name)) for name, module in neuron_layers(network)]
    try:
        with in_one_piece(network), as_written():
            yield recorded
    finally:
        for handle in handles:
            handle.remove()


_INPUT = "input"
_PIECE = 1 << 16  # numbers


def _first_tensor(arguments: tuple[Any, ...], named: dict[str, Any]) -> Tensor | None:
    return next((value for value in (*arguments, *named.values()) if isinstance(value, Tensor)), None)


def _are_counts(x: Tensor) -> bool:
    """Whether these are spike counts: whole, and not below zero."""
    if not x.is_floating_point():
        return bool((x >= 0).all())
    if is_held(x):
        x = x[:1]
    # In pieces that stay in the cache: without fresh memory, and of a picture the first one decides.
    pieces = x.split(max(1, _PIECE // max(x[:1].numel(), 1)))
    return all(bool(((piece >= 0) & (piece == piece.round())).all()) for piece in pieces)


def _spikes_in(x: Tensor, spike: float | None) -> Tensor:
    """How many spikes these are, if one has the value `spike`; for other values, how many are not zero."""
    if spike is None:
        return x.count_nonzero().cpu().double()
    # In two steps, since PyTorch copies all of it into the wider type.
    narrow = x.is_floating_point() and x.dtype not in (torch.float32, torch.float64)
    return x.sum(0, dtype=torch.float32 if narrow else None).cpu().sum(dtype=torch.float64) / spike


def _check_as_before(name: str, before: int | None, neurons: int) -> None:
    """Refuse a layer that runs with different numbers of neurons, none of which its name then stands for."""
    if before is not None and before != neurons:
        raise ValueError(
            f"layer {name} runs with {before} and with {neurons} neurons, which cannot be told apart by its name; make "
            "a layer of its own for each"
        )


def _add(counts: dict[str, Tensor], name: str, more: Tensor) -> None:
    counts[name] = counts[name] + more if name in counts else more


def neuron_layers(network: nn.Module) -> Iterator[tuple[str, Neuron]]:
    """The layers of neurons in `network`, each with its name: position and kind, `"1 LIF(128)"`."""
    for path, module in network.named_modules():
        if isinstance(module, Neuron):
            features = "" if module.features is None else f"({module.features})"
            yield f"{path_without_wrappers(path)} {kind_of(module)}{features}".strip(), module


def outside_neurons(network: nn.Module) -> Iterator[nn.Module]:
    """The modules of `network`, without those inside its layers of neurons, such as the `feedback` of `ParaLIF`."""
    inside = {part for _, layer in neuron_layers(network) for part in layer.modules() if part is not layer}
    return (module for module in network.modules() if module not in inside)


def _recurrent_fan_out(neurons: nn.Module) -> int:
    """The synapses from one neuron to those of its own layer, if they are weights of the neurons themselves."""
    if isinstance(neurons, RecurrentLIF):
        return neurons.features if neurons.self_connections else neurons.features - 1
    return neurons.features if isinstance(neurons, RecurrentAdaptiveLIF) else 0


def _fan_out(layer: Synapses) -> float:
    """The synapses of one input unit; for a convolution, ignoring its borders."""
    if isinstance(layer, nn.Linear | DelayedLinear):  # a synapse ends up with one delay
        return float(layer.out_features)
    positions = math.prod(layer.kernel_size) / (1 if layer.transposed else math.prod(layer.stride))
    return layer.out_channels / layer.groups * positions
