"""Which gradient an adaptive neuron learns by."""

from typing import Literal

Credit = Literal["sequential", "blocks"]
"""`"sequential"` goes back through the neuron step by step, `"blocks"` is the rule of the block algorithm's authors."""
