"""Selecting the columns that score best against a target."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np

from ooclearn._compat import Interval, StrOptions
from ooclearn.feature_selection.base import Selector
from ooclearn.feature_selection.scores import f_classif, score_of_function, scored_table
from ooclearn.statistics import Statistic
from ooclearn.table import Schema, Table
from ooclearn.types import Array

__all__ = ["SelectKBest", "SelectPercentile"]


class _Filter(Selector):
    """A selector by scores; a subclass gives ``_get_support_mask``."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"score_func": [callable]}
    score_func: Any

    def fit(self, X: Any, y: Any = None) -> Self:
        """Score the columns against the target, in one pass.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks of shape (n_samples,)
            The target: labels or numbers, as the score function wants.

        Returns
        -------
        self : object
            This selector, fitted.

        Raises
        ------
        NonFiniteError
            A cell is missing or infinite; the message says where.
        ValueError
            The score function is none of those that can be computed by blocks.
        """
        return self._fit(X, y)

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn from more rows, in one pass over them; the result is that of one fit to all rows.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks of shape (n_samples,)
            Their targets.

        Returns
        -------
        self : object
            This selector, fitted to all rows so far.
        """
        return self._grow(X, y=y)

    def _table(self, X: Any, y: Any = None, sample_weight: Any = None, *, reset: bool = True) -> Table:
        return self._with_target(super()._table(X, y, sample_weight, reset=reset))

    def _with_target(self, table: Table) -> Table:
        """Return the table; refuse targets that the score function does not take."""
        return scored_table(type(self).__name__, table, score_of_function(self.score_func))

    def _statistic(self, schema: Schema) -> Statistic[Any]:  # noqa: ARG002  (the protocol's signature)
        return score_of_function(self.score_func).statistic

    def _set_from(self, state: Any) -> None:
        scores = score_of_function(self.score_func).follow(state)
        self.scores_, self.pvalues_ = scores if isinstance(scores, tuple) else (scores, None)

    def _ranked(self) -> Array:
        """Return the scores, those that are NaN below all others."""
        return np.where(np.isnan(self.scores_), np.finfo(np.float64).min, self.scores_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


class SelectKBest(_Filter):
    """Select the columns with the `k` highest scores.

    As :class:`sklearn.feature_selection.SelectKBest`, from one pass over the rows, on every backend. Memory: a few
    tiles of a block for each worker, and what the score function needs for each column.

    Parameters
    ----------
    score_func : callable, default=f_classif
        One of :func:`f_classif`, :func:`chi2`, :func:`f_regression`, :func:`r_regression`; scikit-learn's functions of
        these names stand for them, and so does a :func:`functools.partial` that sets an option of theirs. Any other
        function would want all rows in memory, and is refused.
    k : int or "all", default=10
        How many columns to keep; more than there are keeps all, with a warning.

    Attributes
    ----------
    scores_ : ndarray of shape (n_features,)
        Score of each column, in float64.
    pvalues_ : ndarray of shape (n_features,) or None
        Their p-values; None where the score function gives none.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    Of columns with equal scores the last are kept, as scikit-learn does.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.feature_selection import SelectKBest, f_regression
    >>> X = np.array([[1.0, 9.0, 2.0], [2.0, 7.0, 4.1], [3.0, 8.0, 6.0], [4.0, 8.5, 8.0]])
    >>> SelectKBest(f_regression, k=1).fit(X, [1.0, 2.1, 3.0, 4.0]).get_support().tolist()
    [False, False, True]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_Filter._parameter_constraints,
        "k": [StrOptions({"all"}), Interval(Integral, 0, None, closed="left")],
    }

    def __init__(self, score_func: Any = f_classif, *, k: Any = 10) -> None:
        self.score_func = score_func
        self.k = k

    def _set_from(self, state: Any) -> None:
        super()._set_from(state)
        d = len(self.scores_)
        if not isinstance(self.k, str) and self.k > d:
            warnings.warn(
                f"k={self.k} is greater than n_features={d}. All the features will be returned.",
                UserWarning,
                stacklevel=2,
            )

    def _get_support_mask(self) -> Array:
        d = len(self.scores_)
        if self.k == "all":
            return np.ones(d, dtype=bool)
        mask = np.zeros(d, dtype=bool)
        if self.k > 0:
            mask[np.argsort(self._ranked(), kind="stable")[-self.k :]] = True
        return mask


class SelectPercentile(_Filter):
    """Select the columns whose scores are in the highest percentile.

    As :class:`sklearn.feature_selection.SelectPercentile`, from one pass over the rows, on every backend. Memory: a few
    tiles of a block for each worker, and what the score function needs for each column.

    Parameters
    ----------
    score_func : callable, default=f_classif
        One of :func:`f_classif`, :func:`chi2`, :func:`f_regression`, :func:`r_regression`, or what
        :class:`SelectKBest` takes in their place.
    percentile : float, default=10
        How many of the columns to keep, in per cent.

    Attributes
    ----------
    scores_ : ndarray of shape (n_features,)
        Score of each column, in float64.
    pvalues_ : ndarray of shape (n_features,) or None
        Their p-values; None where the score function gives none.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    Of columns whose scores equal the percentile the first are kept, as scikit-learn does.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.feature_selection import SelectPercentile
    >>> X = np.array([[1.0, 9.0], [2.0, 7.0], [5.0, 8.0], [6.0, 8.5]])
    >>> SelectPercentile(percentile=50).fit_transform(X, [0, 0, 1, 1])[:, 0].tolist()
    [1.0, 2.0, 5.0, 6.0]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_Filter._parameter_constraints,
        "percentile": [Interval(Real, 0, 100, closed="both")],
    }

    def __init__(self, score_func: Any = f_classif, *, percentile: float = 10) -> None:
        self.score_func = score_func
        self.percentile = percentile

    def _get_support_mask(self) -> Array:
        d = len(self.scores_)
        if self.percentile in (0, 100):
            return np.full(d, self.percentile == 100)
        scores = self._ranked()
        threshold = np.percentile(scores, 100 - self.percentile)
        mask: Array = scores > threshold
        ties = np.flatnonzero(scores == threshold)
        if len(ties):
            mask[ties[: int(d * self.percentile / 100) - mask.sum()]] = True
        return mask
