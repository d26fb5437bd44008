"""Statistics: questions about a table with mergeable answers, one a file."""

from ooclearn.statistics.distinct import Distinct, DistinctState
from ooclearn.statistics.extrema import Extrema, ExtremaState
from ooclearn.statistics.join import Join, Through
from ooclearn.statistics.moments import Moments, MomentsState
from ooclearn.statistics.protocol import MergeTree, Statistic, merge_all
from ooclearn.statistics.scatter import Scatter, ScatterState

__all__ = [
    "Distinct",
    "DistinctState",
    "Extrema",
    "ExtremaState",
    "Join",
    "MergeTree",
    "Moments",
    "MomentsState",
    "Scatter",
    "ScatterState",
    "Statistic",
    "Through",
    "merge_all",
]
