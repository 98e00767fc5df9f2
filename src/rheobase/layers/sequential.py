"""Layers one after another, over time, with plain PyTorch layers in between.

A linear or convolutional layer treats every time step alike, so it can treat them all at once: time is merged into the batch,
`(T, B, *features) -> (T * B, *features)`, and one large product replaces T small ones. Most of what reaches a linear layer of a
spiking network is zero, so the product is a sum over spike lists wherever that is faster. An input that is the same at every
step, such as an image, passes the layers before the first neurons once. Most of a network's speed comes from this, with nothing
for the user to do: `Sequential` merges time into the batch for every layer that does not know about time, and measures the
density of the input of each linear layer.

A new network is active: linear and convolutional layers in front of neurons are scaled for them, see
`rheobase.layers.initialization`.
"""

from collections import OrderedDict
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from rheobase.layers.held import is_held, steps_are_alike
from rheobase.layers.hidden import MOST, together
from rheobase.layers.initialization import INPUT_RATE, initialize, leave
from rheobase.layers.order import in_order
from rheobase.layers.pooling import check_pooling
from rheobase.layers.products import call_folded
from rheobase.ops.arguments import check_sequence
from rheobase.temporal import Temporal


class Sequential(nn.Sequential, Temporal):  # pyright: ignore[reportIncompatibleVariableOverride]
    """A network of layers in sequence: `(T, B, *features)` in, `(T, B, *features_out)` out, from rest.

    Layers of this library see the sequence; all other modules see `(T * B, *features)`, every step as a sample of its own. An
    `nn.Linear` uses spike lists when most of its input is zero, see `rheobase.ops.linear`; the results are the same up to
    rounding. To fix how a layer computes, use `rheobase.SpikeLinear(..., path="dense")` or `path="lists"`. A layer of
    `SingleSpike` neurons between two linear layers is computed together with them, where that is faster and there are no hooks,
    see `rheobase.ops.hidden_single_spike`, and one before pooling together with that, see `rheobase.ops.pooled_single_spike`.
    If all steps of the input are one in memory, as from `rheobase.encoding.direct`, the linear and convolutional layers before
    the first neurons see one step.

    The weights of an `nn.Linear`, or of an `nn.Conv1d` to `nn.Conv3d`, that are still as PyTorch drew them are scaled so that
    the neurons behind them fire at about 10 % of the steps, and the surrogate of these, if none was chosen, so that gradients
    are even from layer to layer. Weights that were set, loaded, copied, trained, shared or parametrized are left as they are,
    and so are those in front of a normalization or a readout. `rheobase.stabilize` does better, given a batch. A single
    unpickled layer looks new, unless it was trained for long: a network of such layers needs `input_rate=None`.

    Args:
        layers: modules, in order; or one `OrderedDict` of them, to name them.
        input_rate: the assumed rate of the input, in spikes per step, in (0, 1); it may be wrong by a factor of ten. None
            leaves all weights and surrogates unchanged.

    Raises:
        ValueError: if `input_rate` is not in (0, 1).
        TypeError: if a layer works over time but would not see it: a recurrent layer of PyTorch (RNN, LSTM, GRU), attention, or
            a module that holds one of these, or a `Temporal`, without being a `Temporal`; if a layer is an `nn.Embedding`,
            which takes integers; or if max pooling follows `SingleSpike` neurons, see `rheobase.layers.pooling`.

    Example:
        >>> import torch, rheobase as rb
        >>> network = rb.Sequential(nn.Linear(5, 8), rb.LIF(8), nn.Linear(8, 2), rb.LeakyReadout(2))
        >>> network(torch.ones(10, 3, 5)).shape
        torch.Size([10, 3, 2])
        >>> first, state = network.run(torch.ones(4, 3, 5))     # streaming: the state goes from call to call
        >>> second, state = network.run(torch.ones(6, 3, 5), state)
    """

    def __init__(self, *layers: nn.Module | OrderedDict[str, nn.Module], input_rate: float | None = INPUT_RATE) -> None:
        if input_rate is not None and not 0 < input_rate < 1:
            raise ValueError(f"Sequential: input_rate must be in (0, 1), or None, got {input_rate}")
        super().__init__(*layers)  # pyright: ignore[reportArgumentType, reportCallIssue]
        self.input_rate = input_rate
        self._take_in()

    def append(self, module: nn.Module) -> "Sequential":
        """Add a layer at the end; it is checked, and scaled for the neurons behind it, as in the constructor."""
        _check(len(self), module)
        super().append(module)
        self._take_in()
        return self

    def insert(self, index: int, module: nn.Module) -> "Sequential":
        """Add a layer in front of the one at `index`; as `append`."""
        _check(index, module)
        super().insert(index, module)
        self._take_in()
        return self

    def __add__(self, other: nn.Sequential) -> "Sequential":  # pyright: ignore[reportIncompatibleMethodOverride]
        """One network of the layers of both, which are shared; as if constructed from them."""
        if not isinstance(other, nn.Sequential):
            return NotImplemented
        return type(self)(*self, *other, input_rate=self.input_rate)

    def __radd__(self, other: nn.Sequential) -> "Sequential":
        """As `+`, behind a `torch.nn.Sequential`."""
        if not isinstance(other, nn.Sequential):
            return NotImplemented
        return type(self)(*other, *self, input_rate=self.input_rate)

    def __mul__(self, other: int) -> "Sequential":
        """A network that passes through the same layers, with the same weights, several times."""
        return type(self)(*super().__mul__(other), input_rate=self.input_rate)

    def __rmul__(self, other: int) -> "Sequential":
        """As `*`."""
        return self * other

    def __iadd__(self, other: nn.Sequential) -> "Sequential":  # pyright: ignore[reportIncompatibleMethodOverride]
        """The layers of `other` at the end, as by `append`."""
        if not isinstance(other, nn.Sequential):
            return NotImplemented
        for position, layer in enumerate(other, start=len(self)):
            _check(position, layer)
        super().__iadd__(other)
        self._take_in()
        return self

    def __imul__(self, other: int) -> "Sequential":
        """The same layers, with the same weights, several times one after the other."""
        super().__imul__(other)
        self._take_in()
        return self

    def __setitem__(self, idx: int, module: nn.Module) -> None:
        _check(idx, module)
        super().__setitem__(idx, module)
        self._take_in()

    def __getitem__(self, idx: int | slice) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        if isinstance(idx, slice):  # a part of a network keeps the weights that the network has
            return type(self)(OrderedDict(list(self._modules.items())[idx]), input_rate=None)  # pyright: ignore[reportArgumentType]
        return super().__getitem__(idx)

    def _take_in(self) -> None:
        for position, layer in enumerate(self):
            _check(position, layer)
        check_pooling(in_order(self))
        layers = [layer for _, layer in in_order(self)]
        if self.input_rate is None:
            leave(layers)
        else:
            initialize(layers, self.input_rate)

    def run(
        self, x: Float[Tensor, "T B *features"], state: list[Any] | None = None
    ) -> tuple[Float[Tensor, "T_out B *out"], list[Any]]:
        """The outputs for `x` and the states of all layers after it, starting from `state`; None is rest.

        The states are a list with an entry for each layer, and carry gradients back into the piece before: to call `backward`
        after each piece, pass `rb.detach(state)` to the next.

        Raises:
            TypeError: if `x` is not a floating-point tensor, `state` is no list, or a layer returns something other than a
                tensor.
            ValueError: if `x` is not `(T, B, *features)`, or `state` does not belong to this network.
            RuntimeError: if a plain layer cannot process its input; the message names the layer.
        """
        return self._walk(x, state, streaming=True)

    def forward(self, x: Float[Tensor, "T B *features"]) -> Float[Tensor, "T_out B *out"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The outputs for the whole sequence `x`, from rest."""
        return self._walk(x, None, streaming=False)[0]

    def _walk(self, x: Tensor, state: list[Any] | None, *, streaming: bool) -> tuple[Tensor, list[Any]]:
        check_sequence(x, "Sequential")
        if x.ndim < 3:
            raise ValueError(
                f"Sequential: x must be (T, B, *features), got shape {tuple(x.shape)}; "
                "a single sample needs a batch axis, x.unsqueeze(1), a single feature needs x.unsqueeze(-1)"
            )
        if state is not None and not isinstance(state, list | tuple):
            raise TypeError(
                f"Sequential: state must be a list with an entry per layer, as run returned it, got a {type(state).__name__}"
            )
        if state is not None and len(state) != len(self):
            raise ValueError(f"Sequential: state must hold one entry per layer, {len(self)}, got {len(state)}")
        layers = list(self)
        states: list[Any] = []
        x, held = (x[:1], len(x)) if is_held(x) else (x, 0)
        while (position := len(states)) < len(layers):
            layer, before = layers[position], None if state is None else state[position]
            if held and not steps_are_alike(layer, x):
                x, held = x.expand(held, *x.shape[1:]), 0
            joined = None if streaming or held else together(layers[position : position + MOST], x)
            if joined is not None:
                x, count = joined
                states += [None] * count
                continue
            if not isinstance(layer, Temporal):
                y = self._folded(position, layer, x, held or len(x))
                if not isinstance(y, Tensor):
                    raise TypeError(
                        f"Sequential: layer {position}, {type(layer).__name__}, must return a tensor, "
                        f"got a {type(y).__name__}; write a module around it"
                    )
                x, after = y.unflatten(0, x.shape[:2]), None
            elif streaming:
                x, after = layer.run(x, before)
            else:  # through __call__, so that hooks see the layer's output
                x, after = layer(x), None
            states.append(after)
        return x.expand(held, *x.shape[1:]) if held else x, states

    def _folded(self, position: int, layer: nn.Module, x: Tensor, steps: int) -> Any:
        try:
            return call_folded(layer, x.flatten(0, 1))
        except RuntimeError as error:
            if type(error) is not RuntimeError:  # such as an accelerator running out of memory
                raise
            where = f"Sequential: layer {position}, {layer}"
            weights = {parameter.dtype for parameter in layer.parameters() if parameter.is_floating_point()}
            if weights and x.dtype not in weights:
                kind = str(next(iter(weights))).removeprefix("torch.")
                raise RuntimeError(f"{where}, has weights of {kind} and got {x.dtype}: x.to(torch.{kind})") from error
            raise RuntimeError(
                f"{where}, failed on steps of shape {tuple(x.shape[2:])}, from {(steps, *x.shape[1:])} read as "
                f"(T, B, *features): {error}"
            ) from error


def _check(position: int, layer: nn.Module) -> None:
    """Refuse a layer that works over time but would have it merged into the batch."""
    if isinstance(layer, Temporal):
        return
    if isinstance(layer, nn.Embedding):
        raise TypeError(
            f"Sequential: layer {position} is an Embedding, which takes integers, and sequences are floating point; "
            "call it before the network: network(embedding(tokens)), with tokens (T, B)"
        )
    for module in layer.modules():
        if isinstance(module, nn.RNNBase | nn.RNNCellBase | nn.MultiheadAttention | Temporal):
            inside = "is" if module is layer else f"is a {type(layer).__name__} that holds"
            raise TypeError(
                f"Sequential: layer {position} {inside} a {type(module).__name__}; plain layers get every step as a "
                "sample of its own, so it would not see time. Use rheobase.Sequential for a container, or write a "
                "rheobase.Temporal around it"
            )
