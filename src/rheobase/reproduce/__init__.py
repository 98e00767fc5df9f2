"""Tests of published claims: what `rheobase reproduce` runs."""

from collections.abc import Mapping
from types import MappingProxyType

from rheobase.reproduce import single_spike, stability, stochastic_parallel, thresholds, ttfs
from rheobase.reproduce.study import Study

_STUDIES = (thresholds.STUDY, single_spike.STUDY, ttfs.STUDY, stability.STUDY, stochastic_parallel.STUDY)
STUDIES: Mapping[str, Study] = MappingProxyType({study.name: study for study in _STUDIES})

__all__ = ["STUDIES", "Study"]
