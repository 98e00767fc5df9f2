"""Published claims, put to the test: what `rheobase reproduce` runs."""

from collections.abc import Mapping
from types import MappingProxyType

from rheobase.reproduce import single_spike, stochastic_parallel, thresholds, ttfs
from rheobase.reproduce.study import Study

STUDIES: Mapping[str, Study] = MappingProxyType(
    {study.name: study for study in (thresholds.STUDY, single_spike.STUDY, ttfs.STUDY, stochastic_parallel.STUDY)}
)

__all__ = ["STUDIES", "Study"]
