"""Neurons that fire at most once in a sequence: the time of the spike is the message."""

import math
from collections.abc import Collection

import torch
from jaxtyping import Float
from torch import Tensor

from rheobase.neurons.neuron import IntegrateAndFire
from rheobase.ops.arguments import state_type
from rheobase.ops.integrate import integrate
from rheobase.ops.single_spike import Credit, check_rule, first_spikes, single_spike
from rheobase.surrogate import DEFAULT, Arctan, Surrogate


class SingleSpike(IntegrateAndFire):
    """Leaky neurons without a reset that fire when they first reach the threshold, and then never again.

    With the membrane potential `v` and the step `f` at which first `v >= threshold`,

        v[t] = decay * v[t-1] + x[t]
        s[t] = 1 if t == f else 0

    Without a reset the membrane potential is linear in the input, and the gradient has a choice in how it credits the steps
    that led to the one spike: `credit`, whose four rules are written out in `rheobase.ops.single_spike.single_spike`.

    Sources: with `"ramp"`, FastSigmoid(sharpness=5) as the surrogate and learned decays, this is the neuron of Taylor, King and
    Harper, arXiv 2205.15286, whose first version had `"early_ramp"` and FastSigmoid(sharpness=50). With decay 1, `"product"`
    and `fire_by_end` it is the neuron of time-to-first-spike networks in Che et al., arXiv 2410.23619, which integrates without
    a leak: `integrate_and_fire`.

    Args:
        features: the size of the axis after B: units, or channels of a map (broadcast over space). Without it, one decay and
            one threshold serve all neurons.
        decay: what the membrane potential keeps per step, in [0, 1], `exp(-dt / tau)`; a number or one per feature. 1 is no
            leak: integrate and fire.
        threshold: where a neuron fires, above 0; a number or one per feature.
        surrogate: the gradient of a threshold crossing; None is `FastSigmoid()`.
        credit: which steps are credited with the spike: `"product"`, `"ramp"`, `"early_ramp"` or `"detached"`.
        fire_by_end: a neuron that has not fired before the last step of a sequence fires there.
        learn: which of `"decay"` and `"threshold"` are learned. Learned decays stay in (0, 1), learned thresholds above 0.
            After a linear layer with a bias a learned threshold adds nothing that the neuron could not compute before: `v` is
            linear in weight and bias, and both divided by the threshold give the same spikes at threshold 1. What it adds is a
            width of the surrogate and a step size for each neuron.

    Raises:
        ValueError: if a value lies outside its range or has a wrong shape, `learn` names anything else, or `credit` is unknown.
        TypeError: if `learn` is a string, or `surrogate` is not a `Surrogate`.

    Example:
        >>> import torch
        >>> layer = SingleSpike(3, decay=0.9, learn=("decay",))
        >>> spikes = layer(torch.full((5, 1, 3), 0.4))  # v = 0.4, 0.76, 1.084 fires
        >>> spikes[:, 0, 0].detach()
        tensor([0., 0., 1., 0., 0.])
    """

    def __init__(
        self,
        features: int | None = None,
        *,
        decay: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        surrogate: Surrogate | None = None,
        credit: Credit = "product",
        fire_by_end: bool = False,
        learn: Collection[str] = (),
    ) -> None:
        check_rule(credit, surrogate or DEFAULT, type(self).__name__)
        super().__init__(features, decay, threshold, surrogate, "none", "detached", learn)
        self.credit: Credit = credit
        self.fire_by_end = fire_by_end

    @classmethod
    def integrate_and_fire(
        cls,
        features: int | None = None,
        *,
        width: float = 1.0,
        threshold: float | Tensor = 1.0,
        fire_by_end: bool = False,
        learn: Collection[str] = (),
    ) -> "SingleSpike":
        """The neuron of time-to-first-spike networks: no leak, an arctan surrogate, and the `"product"` rule of credit.

        Args:
            features: as for the class.
            width: of the surrogate, relative to that of peak 1 and area 1; above 0. With 1, gradients are even at any depth if
                weights are drawn by `rheobase.initialize_single_spike`. A wider one reaches more neurons, but its gradients
                grow with depth.
            threshold: as for the class.
            fire_by_end: as for the class.
            learn: `("threshold",)`, or nothing.

        Raises:
            ValueError: if `width` is not above 0 and finite, or as for the class.

        Source: the neuron of Che et al., arXiv 2410.23619, as others restate it; the surrogate is the default of the authors'
        framework.

        Example:
            >>> SingleSpike.integrate_and_fire(width=3.0)
            SingleSpike(decay=1, threshold=1, surrogate=Arctan(dampening=1, sharpness=0.333), reset='none', credit='product')
        """
        if not 0 < width < math.inf:
            raise ValueError(f"{cls.__name__}.integrate_and_fire: width must be above 0 and finite, got {width}")
        return cls(
            features,
            decay=1.0,
            threshold=threshold,
            surrogate=Arctan(sharpness=1 / width),
            credit="product",
            fire_by_end=fire_by_end,
            learn=learn,
        )

    def run(
        self,
        x: Float[Tensor, "T B *features"],
        state: tuple[Float[Tensor, "B *features"], Float[Tensor, "B *features"], Float[Tensor, "B *features"]]
        | None = None,
    ) -> tuple[
        Float[Tensor, "T B *features"],
        tuple[Float[Tensor, "B *features"], Float[Tensor, "B *features"], Float[Tensor, "B *features"]],
    ]:
        """Spikes for `x`, and the state after it, starting from `state`; None is rest.

        Raises:
            TypeError: if `x` is not a floating-point tensor.
            ValueError: if shapes do not match, or if `fire_by_end` is set, since a piece does not know where the sequence ends.
        """
        self.check(x, state, parts=3)
        if self.fire_by_end:
            raise ValueError(
                f"{type(self).__name__}: fire_by_end needs the whole sequence, run(x, state) gets a piece; call the "
                "layer or the network as such, or compute pieces by rheobase.ops.single_spike, the last one with fire_by_end"
            )
        decay, threshold = self.per_feature("decay", x), self.per_feature("threshold", x)
        return single_spike(x, decay, threshold, state, surrogate=self.surrogate, credit=self.credit)

    def forward(self, x: Float[Tensor, "T B *features"]) -> Float[Tensor, "T B *features"]:
        """The spikes for the whole sequence `x`, from rest; faster than `run`, which also computes a state."""
        self.check(x, None)
        decay, threshold = self.per_feature("decay", x), self.per_feature("threshold", x)
        rule = {"surrogate": self.surrogate, "credit": self.credit, "fire_by_end": self.fire_by_end}
        return first_spikes(x, decay, threshold, **rule)

    @torch.no_grad()
    def distance(self, x: Float[Tensor, "T B *features"]) -> Float[Tensor, "T B *features"]:
        """How far the membrane potential is above the threshold at every step, also after the spike; see `Neuron.distance`."""
        self.check(x, None)
        x = x.to(state_type(x))
        return integrate(x, self.per_feature("decay", x))[0] - self.per_feature("threshold", x)

    def extra_repr(self) -> str:
        """The settings, for `print(network)`."""
        ending = ", fire_by_end=True" if self.fire_by_end else ""
        return f"{super().extra_repr()}, credit={self.credit!r}{ending}"
