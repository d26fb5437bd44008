"""Scores of columns against a target, each computed from one mergeable statistic."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import DataConversionWarning

from ooclearn._compat import InvalidParameterError
from ooclearn.exceptions import DataError
from ooclearn.passes import Fit, Stage, run
from ooclearn.statistics.by_class import ClassMoments, ClassMomentsState
from ooclearn.statistics.class_sums import ClassSums, ClassSumsState
from ooclearn.statistics.cross import CrossScatter, CrossScatterState
from ooclearn.statistics.protocol import Statistic
from ooclearn.table import Table
from ooclearn.types import Array
from ooclearn.validation import checked_table

__all__ = ["Score", "chi2", "f_classif", "f_regression", "r_regression", "score_of_function", "scored_table"]

# The bound under which a column counts as constant grows with the rows up to here; see `StandardScaler`.
_BOUND_ROWS = 10_000
_EPS = float(np.finfo(np.float64).eps)


class _Rows(BaseEstimator):
    """Stands for an estimator where a function checks its rows."""


@dataclass(frozen=True)
class Score:
    """A score function as what it asks of a table, and how the scores follow from the answer.

    Attributes
    ----------
    statistic : Statistic
        What is asked.
    follow : callable
        Takes its state, returns the scores, or a pair of scores and p-values.
    numbers : bool
        Whether the target must be numbers.
    """

    statistic: Statistic[Any]
    follow: Callable[[Any], Any]
    numbers: bool = False


def f_classif(X: Any, y: Any) -> tuple[Array, Array]:
    """Compute the ANOVA F-value of each column between the classes, in one pass.

    As :func:`sklearn.feature_selection.f_classif`, over any container, from the moments of each class. Memory: a few
    tiles of a block for each worker, and three numbers for each class and column.

    Parameters
    ----------
    X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
        The rows.
    y : array-like or Blocks of shape (n_samples,)
        The class of each.

    Returns
    -------
    f_statistic : ndarray of shape (n_features,)
        F-value of each column.
    p_values : ndarray of shape (n_features,)
        Their p-values.

    Notes
    -----
    Sums of squares within and between the classes are accumulated about the means (Chan, Golub and LeVeque 1983), where
    scikit-learn subtracts sums of squares about 0.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.feature_selection import f_classif
    >>> f_statistic, p_values = f_classif(np.array([[1.0], [2.0], [5.0], [6.0]]), [0, 0, 1, 1])
    >>> float(f_statistic[0])
    32.0
    """
    scores: tuple[Array, Array] = _scored(score_of_function(f_classif), X, y, "f_classif")
    return scores


def chi2(X: Any, y: Any) -> tuple[Array, Array]:
    """Compute Pearson's chi-squared statistic of each column of counts between the classes, in one pass.

    As :func:`sklearn.feature_selection.chi2`, over any container, from the sums of each class. Memory: a few tiles of a
    block for each worker, and one number for each class and column.

    Parameters
    ----------
    X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
        The rows: counts or shares, 0 or more.
    y : array-like or Blocks of shape (n_samples,)
        The class of each.

    Returns
    -------
    chi2 : ndarray of shape (n_features,)
        Statistic of each column.
    p_values : ndarray of shape (n_features,)
        Their p-values.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.feature_selection import chi2
    >>> statistic, p_values = chi2(np.array([[1, 4], [3, 4], [0, 4], [0, 4]]), [0, 0, 1, 1])
    >>> statistic.tolist()
    [4.0, 0.0]
    """
    scores: tuple[Array, Array] = _scored(score_of_function(chi2), X, y, "chi2")
    return scores


def r_regression(X: Any, y: Any, *, center: bool = True, force_finite: bool = True) -> Array:
    """Compute Pearson's r of each column with the target, in one pass.

    As :func:`sklearn.feature_selection.r_regression`, over any container, from centred products. Memory: a few tiles of
    a block for each worker, and four numbers for each column.

    Parameters
    ----------
    X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
        The rows.
    y : array-like or Blocks of shape (n_samples,)
        The target of each, a number.
    center : bool, default=True
        Centre columns and target by their means.
    force_finite : bool, default=True
        Return 0 for constant columns, and for all where the target is constant; with False, NaN.

    Returns
    -------
    ndarray of shape (n_features,)
        The correlation of each column.

    Notes
    -----
    Products are accumulated about the means (Chan, Golub and LeVeque 1983), where scikit-learn subtracts a squared mean
    from a sum of squares.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.feature_selection import r_regression
    >>> r_regression(np.array([[1.0, 7.0], [2.0, 7.0], [3.0, 7.0]]), [5.0, 4.0, 3.0]).round(12).tolist()
    [-1.0, 0.0]
    """
    function = partial(r_regression, center=center, force_finite=force_finite)
    scores: Array = _scored(score_of_function(function), X, y, "r_regression")
    return scores


def f_regression(X: Any, y: Any, *, center: bool = True, force_finite: bool = True) -> tuple[Array, Array]:
    """Compute the F-value of the linear regression of the target on each column alone, in one pass.

    As :func:`sklearn.feature_selection.f_regression`, over any container; the F-values follow from the correlations
    (see :func:`r_regression`). Memory: a few tiles of a block for each worker, and four numbers for each column.

    Parameters
    ----------
    X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
        The rows.
    y : array-like or Blocks of shape (n_samples,)
        The target of each, a number.
    center : bool, default=True
        Centre columns and target by their means.
    force_finite : bool, default=True
        Return 0, and a p-value of 1, for constant columns or a constant target, and the largest float, with a p-value
        of 0, for columns that the target follows exactly; with False, NaN and infinity.

    Returns
    -------
    f_statistic : ndarray of shape (n_features,)
        F-value of each column.
    p_values : ndarray of shape (n_features,)
        Their p-values.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.feature_selection import f_regression
    >>> f_statistic, p_values = f_regression(np.array([[1.0], [2.0], [3.0], [4.0]]), [1.0, -1.0, 1.0, -1.0])
    >>> round(float(f_statistic[0]), 6)
    0.5
    """
    function = partial(f_regression, center=center, force_finite=force_finite)
    scores: tuple[Array, Array] = _scored(score_of_function(function), X, y, "f_regression")
    return scores


def score_of_function(function: Any, /) -> Score:
    """Return what a score function asks of a table: one of ours, the same of scikit-learn, or a ``partial`` of these.

    Raises
    ------
    ValueError
        For any other function: it would want all rows in memory.
    """
    keywords: dict[str, Any] = {}
    allowed: set[str] = set()
    inner = function
    while isinstance(inner, partial) and not inner.args:
        keywords = {**inner.keywords, **keywords}
        inner = inner.func
    if inner is f_classif or _is_theirs(inner, "f_classif"):
        score = Score(ClassMoments(), _f_of_classes)
    elif inner is chi2 or _is_theirs(inner, "chi2"):
        score = Score(ClassSums(counts=True), _chi2_of_classes)
    elif inner is r_regression or _is_theirs(inner, "r_regression"):
        score, allowed = Score(CrossScatter(), partial(_correlation, **keywords), numbers=True), _OPTIONS
    elif inner is f_regression or _is_theirs(inner, "f_regression"):
        score, allowed = Score(CrossScatter(), partial(_f_of_correlation, **keywords), numbers=True), _OPTIONS
    else:
        name = getattr(inner, "__qualname__", type(inner).__name__)
        raise ValueError(
            f"score_func={name} wants all rows in memory at once; out of core the scores must follow from statistics "
            "of blocks, as those of f_classif, f_regression, r_regression and chi2 of ooclearn.feature_selection (or of "
            "scikit-learn, for which ours are taken) do. Pass one of these, or use scikit-learn's selector on a sample"
        )
    strange = sorted(set(keywords) - allowed)
    if strange:
        raise TypeError(f"{inner.__name__}() got an unexpected keyword argument {strange[0]!r}")
    for key, value in keywords.items():
        if not isinstance(value, (bool, np.bool_)):
            raise InvalidParameterError(
                f"The {key!r} parameter of {inner.__name__} must be True or False, got {value!r}"
            )
    return score


_OPTIONS = {"center", "force_finite"}


def _is_theirs(function: Any, name: str) -> bool:
    # Whoever passes a function of scikit-learn has imported its module, which takes its time.
    module = sys.modules.get("sklearn.feature_selection")
    return module is not None and function is getattr(module, name)


def scored_table(owner: Any, table: Table, score: Score, /) -> Table:
    """Return a table whose target is fit for a score; `owner` is who asks, by name."""
    y = table.y
    if y is None:
        raise ValueError(f"{owner} requires y to be passed, but the target y is None")
    if y.ndim > 2 or (y.ndim == 2 and y.n_columns != 1):
        raise DataError(f"y should be a 1d array, got an array of shape {y.shape} instead.")
    if y.ndim == 2:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected. Please change the shape of y to "
            "(n_samples, ), for example using ravel().",
            DataConversionWarning,
            stacklevel=5,
        )
    if y.dtype.kind == "c":
        raise DataError(
            f"Complex data not supported: y has dtype {y.dtype}; expected real numbers or labels", source=y.name
        )
    if score.numbers and y.dtype.kind not in "fiub":
        raise DataError(f"Unknown label type: y has dtype {y.dtype}; expected numbers", source=y.name)
    return table


def _scored(score: Score, X: Any, y: Any, name: str) -> Any:
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None")
    table = scored_table(name, checked_table(_Rows(), X, y, reset=True), score)
    answer: list[Any] = []

    def ask() -> Fit:
        answer.append((yield score.statistic))

    run([Stage(name, ask())], table)
    return score.follow(answer[0])


def _constant(m2: Array, weight: Any, mean: Array, rounding: float) -> Array:
    """Return which sums of squares are those of equal values but for rounding."""
    noise = np.maximum(np.minimum(weight, _BOUND_ROWS) * _EPS, 2 * rounding)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.where(weight > 0, m2 / weight, 0.0)
    out: Array = variance <= noise * variance + (noise * mean) ** 2
    return out


def _f_of_classes(state: ClassMomentsState) -> tuple[Array, Array]:
    from scipy.special import fdtrc  # takes its time

    weight = state.weight[:, None]
    m2 = np.where(_constant(state.m2, weight, state.mean, state.rounding), 0.0, state.m2)
    mean, _, delta = state.center()
    within = m2.sum(axis=0)
    # Classes of one constant value each, of which no two differ by a rounding, are of the same.
    same = (within == 0) & (np.abs(delta).max(axis=0, initial=0.0) <= max(_EPS / 8, state.rounding / 8) * np.abs(mean))
    between = np.where(same, 0.0, state.weight @ (delta * delta))
    k, n = len(state.classes), state.total
    with np.errstate(invalid="ignore", divide="ignore"):
        between = between / np.float64(k - 1)
        within = within / np.float64(n - k)
        constant = np.flatnonzero(within == 0.0)
        if np.count_nonzero(between) != between.size and constant.size:
            warnings.warn(f"Features {constant} are constant.", UserWarning, stacklevel=2)
        f = between / within
    return f, np.asarray(fdtrc(k - 1, n - k, f))


def _chi2_of_classes(state: ClassSumsState) -> tuple[Array, Array]:
    from scipy.special import chdtrc  # takes its time

    classes = state.classes
    if classes.dtype.kind == "f" and not np.array_equal(classes, np.trunc(classes)):
        raise DataError(
            "Unknown label type: continuous. chi2 expects discrete classes; use f_regression for a target of numbers",
            part="y",
        )
    # A single class is one of two, of which the other did not occur.
    sums = state.sums if len(classes) > 1 else np.concatenate([state.sums, np.zeros_like(state.sums)])
    weight = state.weight if len(classes) > 1 else np.append(state.weight, 0.0)
    expected = np.outer(weight / weight.sum(), sums.sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        statistic = ((sums - expected) ** 2 / expected).sum(axis=0)
    return statistic, np.asarray(chdtrc(len(sums) - 1, statistic))


def _correlation(state: CrossScatterState, *, center: bool = True, force_finite: bool = True) -> Array:
    d = state.n_columns
    xy, m2 = state.xy[:, 0], state.m2
    if center:
        constant = _constant(m2, state.weight, state.mean, state.rounding)
        m2 = np.where(constant, 0.0, m2)
        xy = np.where(constant[:d] | constant[d], 0.0, xy)
    else:
        mean = state.mean + state.rest
        m2 = m2 + state.weight * mean * mean
        xy = xy + state.weight * mean[:d] * mean[d]
    norm = np.sqrt(m2)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.clip(xy / norm[:d] / norm[d], -1.0, 1.0)
    return np.where(np.isnan(r), 0.0, r) if force_finite else r


def _f_of_correlation(
    state: CrossScatterState, *, center: bool = True, force_finite: bool = True
) -> tuple[Array, Array]:
    from scipy.special import fdtrc  # takes its time

    r = _correlation(state, center=center, force_finite=force_finite)
    freedom = state.weight - (2 if center else 1)
    squared = r * r
    with np.errstate(invalid="ignore", divide="ignore"):
        f = squared / (1 - squared) * freedom
        p = np.asarray(fdtrc(1, freedom, f))
    p = np.where(np.isnan(f), np.nan, p)
    if force_finite:
        p = np.where(np.isnan(f), 1.0, np.where(np.isinf(f), 0.0, p))
        f = np.where(np.isnan(f), 0.0, np.where(np.isinf(f), np.finfo(np.float64).max, f))
    return f, p
