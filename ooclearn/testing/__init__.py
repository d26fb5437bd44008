"""The laws, shipped: what every statistic, backend and estimator is put through, a stranger's too."""

from ooclearn.testing.backends import check_backend
from ooclearn.testing.estimators import check_estimator
from ooclearn.testing.leftovers import nothing_left
from ooclearn.testing.naturality import check_contained, check_naturality
from ooclearn.testing.sources import CountingBlocks, CountingSource, FaultySource
from ooclearn.testing.statistics import check_statistic

__all__ = [
    "CountingBlocks",
    "CountingSource",
    "FaultySource",
    "check_backend",
    "check_contained",
    "check_estimator",
    "check_naturality",
    "check_statistic",
    "nothing_left",
]
