"""Naive Bayes of categories."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from ooclearn._compat import Interval
from ooclearn._namespace import device_of, float_dtype, int_dtype, like, namespace
from ooclearn.affine import sent
from ooclearn.exceptions import DataError
from ooclearn.naive_bayes._smoothing import CountNB
from ooclearn.rowmaps import RowMap, Rowwise
from ooclearn.statistics import Statistic
from ooclearn.statistics.checks import refuse_negative, refuse_nonfinite
from ooclearn.statistics.class_sums import ClassCategories, ClassCategoriesState
from ooclearn.table import Schema
from ooclearn.types import Array

__all__ = ["CategoricalNB"]


class CategoricalNB(CountNB):
    """Naive Bayes for columns of categories, which are whole numbers from 0.

    As :class:`sklearn.naive_bayes.CategoricalNB`, from one pass over the rows, on every backend; categories are counted
    on the host, where rows that are sent to a device from there stay for the fit. Memory: a few tiles of a block for each
    worker, and a count for each class and category.

    Parameters
    ----------
    alpha : float, default=1.0
        Added to every count, so that what has not occurred is not impossible; 0 or more.
    force_alpha : bool, default=True
        Take an `alpha` below 1e-10 as it is, rather than raise it to that.
    fit_prior : bool, default=True
        Take the shares of the rows for the probabilities of the classes; otherwise all are equal.
    class_prior : array-like of shape (n_classes,) or None, default=None
        Probabilities of the classes; by default as `fit_prior` says.
    min_categories : int, array-like of shape (n_features,) or None, default=None
        The least number of categories of each column; by default as many as have occurred.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    class_count_ : ndarray of shape (n_classes,)
        Rows of each class, or the sum of their weights.
    class_log_prior_ : ndarray of shape (n_classes,)
        Logarithms of the probabilities of the classes.
    category_count_ : list of ndarray of shape (n_classes, n_categories)
        For each column, how often each category occurs in each class.
    feature_log_prob_ : list of ndarray of shape (n_classes, n_categories)
        For each column, logarithms of the smoothed shares of the categories in a class,
        ``(category_count_ + alpha) / (class_count_ + alpha * n_categories_)``.
    n_categories_ : ndarray of shape (n_features,)
        Categories of each column.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    After ``partial_fit`` or ``merge``, ``n_categories_`` are those of all rows seen, where scikit-learn takes those of
    the last.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.naive_bayes import CategoricalNB
    >>> X = np.array([[0, 1], [0, 2], [1, 0]])
    >>> CategoricalNB().fit(X, np.array([1, 1, 2])).predict(np.array([[0, 1]]))
    array([1])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CountNB._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="left")],
        "min_categories": [None, "array-like", Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        force_alpha: bool = True,
        fit_prior: bool = True,
        class_prior: Any = None,
        min_categories: Any = None,
    ) -> None:
        self.alpha = alpha
        self.force_alpha = force_alpha
        self.fit_prior = fit_prior
        self.class_prior = class_prior
        self.min_categories = min_categories

    def _statistic(self, schema: Schema | None) -> Statistic[ClassCategoriesState]:  # noqa: ARG002  (the protocol's)
        return ClassCategories()

    def _n_columns(self, state: ClassCategoriesState) -> int:
        return len(state.columns)

    def _count(self, state: ClassCategoriesState) -> None:
        self.n_categories_ = self._sizes(np.array([column.shape[1] for column in state.columns], dtype=np.int64))
        self.category_count_ = [
            np.pad(column, [(0, 0), (0, int(size) - column.shape[1])])
            for column, size in zip(state.columns, self.n_categories_, strict=True)
        ]

    def _sizes(self, seen: Array) -> Array:
        if self.min_categories is None:
            return seen
        least = np.asarray(self.min_categories)
        if not np.issubdtype(least.dtype, np.signedinteger):
            raise ValueError(f"'min_categories' should have integral type. Got {least.dtype} instead.")
        if least.ndim and least.shape != seen.shape:
            raise ValueError(
                f"'min_categories' should have shape ({len(seen)},) when an array-like is provided. Got {least.shape} "
                "instead."
            )
        sizes: Array = np.maximum(seen, least, dtype=np.int64)
        return sizes

    def _set_log_prob(self, alpha: Any) -> None:
        self.feature_log_prob_ = []
        for count in self.category_count_:
            smoothed = count + alpha
            self.feature_log_prob_.append(np.log(smoothed) - np.log(smoothed.sum(axis=1, keepdims=True)))

    def _score_map(self) -> RowMap:
        scores = _Looked(tuple(table.T.copy() for table in self.feature_log_prob_), self.class_log_prior_)
        return Rowwise(scores, n_columns=len(self.classes_), out_dtype=np.float64, unlooked=scores.unlooked)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        tags.input_tags.positive_only = True
        tags.classifier_tags.poor_score = True
        return tags


@dataclass(frozen=True, eq=False)
class _Looked:
    """Sums of what stands in one table a column for the category of each row."""

    tables: tuple[Array, ...]
    offset: Array

    # The tables on devices.
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": {}}

    def __call__(self, block: Array) -> Array:
        refuse_nonfinite(block)
        categories = _categories(block)
        if categories.shape[0]:
            if bool(namespace(block).any(categories < 0)):
                refuse_negative(categories)
            self._refuse_unknown(categories)
        return self._sums(categories, block)

    def unlooked(self, block: Array) -> tuple[Array, Any]:
        """Return the same, and how many cells are no category of their column, without looking at a value."""
        xp = namespace(block)
        categories = _categories(block)
        sizes = sent(self._kept, ("sizes",), self._sizes(), block, categories.dtype)
        there = (categories >= 0) & (categories < sizes)  # neither is true of NaN
        out = self._sums(xp.where(there, categories, xp.zeros_like(categories)), block)
        return out, xp.sum(xp.astype(xp.logical_not(there), float_dtype(block)))

    def _sizes(self) -> Array:
        return np.array([len(table) for table in self.tables], dtype=np.int64)

    def _sums(self, categories: Array, block: Array) -> Array:
        """Return the sums for categories that are all there."""
        xp = namespace(block)
        wide = float_dtype(block)
        at = xp.astype(categories, int_dtype(block), copy=False)
        out = xp.zeros((at.shape[0], len(self.offset)), dtype=wide, device=device_of(block))
        if not at.shape[0]:
            return out
        for j, table in enumerate(self.tables):
            out = out + xp.take(sent(self._kept, ("table", j), table, block, wide), at[:, j], axis=0)
        return out + sent(self._kept, ("offset",), self.offset, block, wide)

    def _refuse_unknown(self, at: Array) -> None:
        xp = namespace(at)
        sizes = self._sizes()
        unknown = at >= like(sizes, at, at.dtype)
        if not bool(xp.any(unknown)):
            return
        row = int(xp.argmax(xp.astype(xp.any(unknown, axis=1), at.dtype)))
        column = int(xp.argmax(xp.astype(unknown[row, :], at.dtype)))
        raise DataError(
            f"X has a category that did not occur in the fit: the index is out of bounds for the {sizes[column]:,} "
            "categories of its column. Fit with min_categories, or on rows that have all of them",
            rows=(row, row + 1),
            column=column,
        )


def _categories(block: Array) -> Array:
    """Return whole numbers: floating ones as such, since what is not finite or very large is no integer."""
    xp = namespace(block)
    if xp.isdtype(block.dtype, "real floating"):
        return xp.trunc(xp.astype(block, float_dtype(block), copy=False))
    return xp.astype(block, int_dtype(block), copy=False)
