"""Selecting columns by what one pass tells of each, with the names of :mod:`sklearn.feature_selection`."""

from ooclearn.feature_selection.scores import chi2, f_classif, f_regression, r_regression
from ooclearn.feature_selection.univariate import SelectKBest, SelectPercentile
from ooclearn.feature_selection.variance_threshold import VarianceThreshold

__all__ = [
    "SelectKBest",
    "SelectPercentile",
    "VarianceThreshold",
    "chi2",
    "f_classif",
    "f_regression",
    "r_regression",
]
