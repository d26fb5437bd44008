"""Statistics: questions about a table with mergeable answers, one a file."""

from ooclearn.statistics.by_class import ClassMoments, ClassMomentsState, ClassScatter, ClassScatterState
from ooclearn.statistics.cross import CrossScatter, CrossScatterState
from ooclearn.statistics.distinct import Distinct, DistinctState
from ooclearn.statistics.extrema import Extrema, ExtremaState
from ooclearn.statistics.fourth import FourthMoments, FourthMomentsState
from ooclearn.statistics.join import Join, Through
from ooclearn.statistics.moments import Moments, MomentsState
from ooclearn.statistics.protocol import MergeTree, Statistic, merge_all
from ooclearn.statistics.sample import Sample, SampleState
from ooclearn.statistics.scatter import Scatter, ScatterState
from ooclearn.statistics.triangle import Triangle, TriangleState

__all__ = [
    "ClassMoments",
    "ClassMomentsState",
    "ClassScatter",
    "ClassScatterState",
    "CrossScatter",
    "CrossScatterState",
    "Distinct",
    "DistinctState",
    "Extrema",
    "ExtremaState",
    "FourthMoments",
    "FourthMomentsState",
    "Join",
    "MergeTree",
    "Moments",
    "MomentsState",
    "Sample",
    "SampleState",
    "Scatter",
    "ScatterState",
    "Statistic",
    "Through",
    "Triangle",
    "TriangleState",
    "merge_all",
]
