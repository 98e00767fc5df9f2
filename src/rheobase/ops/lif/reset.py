"""What becomes of the membrane potential of a neuron that has just fired, and of the gradient that meets the reset."""

from typing import Literal

Reset = Literal["subtract", "zero", "none"]
"""`"subtract"` subtracts the threshold, `"zero"` restarts from 0, `"none"` leaves the potential unchanged."""

ResetGradient = Literal["detached", "attached", "ignored"]
"""`"detached"` takes the spike in the reset for a constant, as is usual; past a reset to 0 nothing flows back. `"attached"`
gives that spike the surrogate's gradient, too. `"ignored"` goes back as if there had been no reset, which is the adjoint of
SLAYER and lava-dl: the gradient passes a spike undiminished, and meets the threshold nowhere but in the spike."""
