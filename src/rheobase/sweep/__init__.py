"""Many settings of one recipe, each trained as a run of its own, and chosen by the validation set alone.

`space` reads what is to be varied, `search` trains it: by Optuna, which proposes the settings, with a journal file that several
processes write to at once, and from which a sweep goes on. `command` is what the terminal shows.
"""

from rheobase.sweep.search import Outcome, Sampler, Sweep, sweep
from rheobase.sweep.space import Axis, parse_axis, with_settings

__all__ = ["Axis", "Outcome", "Sampler", "Sweep", "parse_axis", "sweep", "with_settings"]
