"""What `rheobase.stabilize` did to a network, layer by layer, and how that is shown."""

from dataclasses import dataclass


@dataclass
class LayerChange:
    """What was done to one layer of neurons, and what that did.

    Args:
        name: the layer's position and kind, `"1 LIF(128)"`.
        frozen: whether the weights in front of it require no gradient, and so were left as they are.
        centred: whether the weights in front of it were made orthogonal to their mean input, and the biases equal.
        scale: what the weights and the bias in front of it were multiplied with, and its recurrent weights.
        shift: what was added to the bias in front of it, or else to its recurrent weights.
        balance: what its recurrent weights were multiplied with besides.
        dampening: of its surrogate, before and after; None if it has no surrogate.
        limited: whether the dampening came to the most that it may become, before the gradient was as large as others.
        rate: spikes per neuron and step, before and after.
        gradient: the norm of the gradient of the weights in front of it, before and after; 0 if there are none.
    """

    name: str
    frozen: bool = False
    centred: bool = False
    scale: float = 1.0
    shift: float = 0.0
    balance: float = 1.0
    dampening: tuple[float, float] | None = None
    limited: bool = False
    rate: tuple[float, float] = (0.0, 0.0)
    gradient: tuple[float, float] = (0.0, 0.0)

    def _cells(self) -> tuple[str, ...]:
        changed = ["weights are frozen"] if self.frozen else []
        changed += ["centred"] if self.centred else []
        changed += [f"weights x {self.scale:.3g}"] if self.scale != 1 else []
        changed += [f"mean {self.shift:+.3g}"] if self.shift else []
        changed += [f"recurrent x {self.balance:.3g}"] if self.balance != 1 else []
        if self.dampening is not None and (self.limited or self.dampening[0] != self.dampening[1]):
            most = " (the most)" if self.limited else ""
            changed.append(f"dampening {self.dampening[0]:.3g} -> {self.dampening[1]:.3g}{most}")
        rates, gradients = (f"{100 * rate:.2g} %" for rate in self.rate), (f"{norm:.2g}" for norm in self.gradient)
        learned = " -> ".join(gradients) if any(self.gradient) else "none"
        return self.name, " -> ".join(rates), learned, ", ".join(changed) or "nothing"


@dataclass(frozen=True)
class Calibration:
    """What `stabilize` changed; `print` shows it as a table.

    Args:
        layers: each layer of neurons, in the order in which they run.
    """

    layers: tuple[LayerChange, ...]

    def __str__(self) -> str:
        rows = [("layer", "firing rate", "gradient norm", "changed"), *(layer._cells() for layer in self.layers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
