"""Many settings of one recipe, each trained as a run of its own, and selected by the validation set alone.

`space` parses what to vary, `search` trains it: Optuna proposes the settings, and a journal file, to which several processes
write concurrently, lets a sweep resume. `command` is the terminal interface.
"""

from rheobase.sweep.search import Outcome, Sampler, Sweep, sweep
from rheobase.sweep.space import Axis, parse_axis, with_settings

__all__ = ["Axis", "Outcome", "Sampler", "Sweep", "parse_axis", "sweep", "with_settings"]
