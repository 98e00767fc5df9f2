"""A readout: output units that integrate and never fire, so that the loss sees a smooth number."""

from collections.abc import Collection

from jaxtyping import Float
from torch import Tensor

from rheobase.ops.integrate import integrate, synaptic_integrate
from rheobase.parameters import UNIT_INTERVAL, FeatureParameters, Value
from rheobase.temporal import Temporal


class LeakyReadout(Temporal, FeatureParameters):
    """Leaky integrators as output units, `v[t] = decay * v[t-1] + x[t]`; the output is `v` at every step.

    Decode it with `rheobase.decoding`: the mean, the maximum, the last value.

    Args:
        features: the size of the axis after B. Without it, one decay serves all units.
        decay: what the state keeps per step, in [0, 1]; a number or one per feature. 1 sums without forgetting.
        learn: `("decay",)` to learn the decay; it then stays in (0, 1).

    Raises:
        ValueError: if the decay lies outside its range or has a wrong shape, or `learn` names anything else.

    Example:
        >>> import torch
        >>> LeakyReadout(decay=0.5)(torch.ones(3, 1, 1)).flatten()
        tensor([1.0000, 1.5000, 1.7500])
    """

    decay = Value("What the state keeps per step")

    def __init__(
        self, features: int | None = None, *, decay: float | Tensor = 0.9, learn: Collection[str] = ()
    ) -> None:
        super().__init__(features, learn, learnable=("decay",))
        self.define("decay", decay, UNIT_INTERVAL)

    def run(
        self, x: Float[Tensor, "T B *features"], state: Float[Tensor, "B *features"] | None = None
    ) -> tuple[Float[Tensor, "T B *features"], Float[Tensor, "B *features"]]:
        """The state at every step, and after the last one, starting from `state`; None is rest."""
        self.check(x, state)
        return integrate(x, self.per_feature("decay", x), state)


class SynapticReadout(Temporal, FeatureParameters):
    """Leaky integrators behind a synapse as output units: the neurons of `SPSN` that do not fire.

        i[t] = synapse_decay * i[t-1] + x[t]
        v[t] = decay * v[t-1] + i[t]
        y[t] = (1 - decay) * v[t]

    Args:
        features: the size of the axis after B. Without it, one value of each kind serves all units.
        synapse_decay: what the synaptic current keeps per step, in [0, 1]; a number or one per feature.
        decay: what the membrane potential keeps per step; likewise.
        learn: which of `"synapse_decay"` and `"decay"` are learned; they then stay in (0, 1).

    Raises:
        ValueError: if a decay lies outside its range or has a wrong shape, or `learn` names anything else.

    Example:
        >>> import torch
        >>> SynapticReadout(synapse_decay=0.5, decay=0.5)(torch.eye(4)[0].view(4, 1, 1)).flatten()
        tensor([0.5000, 0.5000, 0.3750, 0.2500])
    """

    synapse_decay = Value("What the synaptic current keeps per step")
    decay = Value("What the membrane potential keeps per step")

    def __init__(
        self,
        features: int | None = None,
        *,
        synapse_decay: float | Tensor = 0.8,
        decay: float | Tensor = 0.9,
        learn: Collection[str] = (),
    ) -> None:
        super().__init__(features, learn, learnable=("synapse_decay", "decay"))
        self.define("synapse_decay", synapse_decay, UNIT_INTERVAL)
        self.define("decay", decay, UNIT_INTERVAL)

    def run(
        self,
        x: Float[Tensor, "T B *features"],
        state: tuple[Float[Tensor, "B *features"], Float[Tensor, "B *features"]] | None = None,
    ) -> tuple[Float[Tensor, "T B *features"], tuple[Float[Tensor, "B *features"], Float[Tensor, "B *features"]]]:
        """The output at every step, and the states `(v, i)` after the last one, starting from `state`; None is rest."""
        self.check(x, state, parts=2)
        decay = self.per_feature("decay", x)
        membrane, state = synaptic_integrate(x, self.per_feature("synapse_decay", x), decay, state)
        return (1 - decay) * membrane, state
