"""Published claims, put to the test: what `rheobase reproduce` runs."""

from collections.abc import Mapping
from types import MappingProxyType

from rheobase.reproduce import single_spike, stability, thresholds
from rheobase.reproduce.study import Study

STUDIES: Mapping[str, Study] = MappingProxyType(
    {study.name: study for study in (thresholds.STUDY, single_spike.STUDY, stability.STUDY)}
)

__all__ = ["STUDIES", "Study"]
