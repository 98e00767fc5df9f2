"""Initialisation from theory: networks that are alive from the first step."""

from rheobase.stability.single_spike import (
    Initialised,
    change_steps,
    initialise_single_spike,
    spike_moment,
    weight_variance,
)

__all__ = ["Initialised", "change_steps", "initialise_single_spike", "spike_moment", "weight_variance"]
