"""Naive Bayes of counts: multinomial, its complement, and of zeros and ones."""

from __future__ import annotations

from functools import partial
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ooclearn._compat import Interval
from ooclearn._namespace import float_dtype, namespace
from ooclearn.base import mapped
from ooclearn.naive_bayes._smoothing import CountNB, joint_scores
from ooclearn.rowmaps import RowMap, Rowwise, compose
from ooclearn.scoring import score_of
from ooclearn.statistics import Statistic
from ooclearn.statistics.checks import refuse_nonfinite
from ooclearn.statistics.class_sums import ClassSums, ClassSumsState
from ooclearn.storage.arrays import host_dtype
from ooclearn.table import Schema, Table
from ooclearn.types import Array
from ooclearn.unlooked import only_counted
from ooclearn.validation import as_table, checked_rows, checked_table, split_target

__all__ = ["BernoulliNB", "ComplementNB", "MultinomialNB"]


class _SparseCountNB(CountNB):
    """One that takes sparse rows, which stay so."""

    def _table(self, X: Any, y: Any = None, sample_weight: Any = None, *, reset: bool = True) -> Table:
        X, y = split_target(X, y)
        self._require_target(y)
        return self._with_target(checked_table(self, X, y, sample_weight, reset=reset, sparse=True))

    def _mapped(self, method: str, X: Any) -> Any:
        check_is_fitted(self)
        X = checked_rows(self, X, reset=False, sparse=True)
        return mapped(self._method_map(method, n_columns=X.shape[1], dtype=host_dtype(X)), X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of the predictions for `X`, in one pass.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array, sparse array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks of shape (n_samples,)
            The true labels.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows, 0 or more.

        Returns
        -------
        float
            The share of rows whose prediction is right, at best 1.
        """
        check_is_fitted(self)
        X, y = split_target(X, y)
        table = as_table(checked_rows(self, X, reset=False, sparse=True), y, sample_weight)
        return score_of(self, table, self._method_map)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.classifier_tags.poor_score = True
        return tags


class MultinomialNB(_SparseCountNB):
    """Naive Bayes for counts, such as those of words, or for other amounts of 0 or more.

    As :class:`sklearn.naive_bayes.MultinomialNB`, from one pass over the rows, on every backend. Memory: a few tiles
    of a block for each worker, and one number for each class and column. The decision is an affine map. Fitted
    attributes are float64 whatever the dtype of `X`.

    Parameters
    ----------
    alpha : float or array-like of shape (n_features,), default=1.0
        Added to every count, so that what has not occurred is not impossible; 0 or more.
    force_alpha : bool, default=True
        Take an `alpha` below 1e-10 as it is, rather than raise it to that.
    fit_prior : bool, default=True
        Take the shares of the rows for the probabilities of the classes; otherwise all are equal.
    class_prior : array-like of shape (n_classes,) or None, default=None
        Probabilities of the classes; by default as `fit_prior` says.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    class_count_ : ndarray of shape (n_classes,)
        Rows of each class, or the sum of their weights.
    class_log_prior_ : ndarray of shape (n_classes,)
        Logarithms of the probabilities of the classes.
    feature_count_ : ndarray of shape (n_classes, n_features)
        The (weighted) sum of each column in each class.
    feature_log_prob_ : ndarray of shape (n_classes, n_features)
        Logarithms of the smoothed shares of the columns in a class.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    References
    ----------
    C. D. Manning, P. Raghavan and H. Schuetze, "Introduction to Information Retrieval" (2008), section 13.2.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.naive_bayes import MultinomialNB
    >>> X = np.array([[2, 1, 0], [3, 0, 0], [0, 1, 4]])
    >>> MultinomialNB().fit(X, np.array(["a", "a", "b"])).predict(np.array([[1, 1, 0]]))
    array(['a'], dtype='<U1')
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {**CountNB._parameter_constraints}

    def __init__(
        self, *, alpha: Any = 1.0, force_alpha: bool = True, fit_prior: bool = True, class_prior: Any = None
    ) -> None:
        self.alpha = alpha
        self.force_alpha = force_alpha
        self.fit_prior = fit_prior
        self.class_prior = class_prior

    def _statistic(self, schema: Schema | None) -> Statistic[ClassSumsState]:  # noqa: ARG002  (the protocol's)
        return ClassSums(counts=True)

    def _count(self, state: ClassSumsState) -> None:
        self.feature_count_ = state.sums

    def _set_log_prob(self, alpha: Any) -> None:
        smoothed = self.feature_count_ + alpha
        self.feature_log_prob_ = np.log(smoothed) - np.log(smoothed.sum(axis=1, keepdims=True))

    def _score_map(self) -> RowMap:
        return joint_scores(self.feature_log_prob_, self.class_log_prior_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags


class ComplementNB(_SparseCountNB):
    """Multinomial naive Bayes that learns from what is *not* of a class, for classes of very different sizes.

    As :class:`sklearn.naive_bayes.ComplementNB`, from one pass over the rows, on every backend. Memory: a few tiles of
    a block for each worker, and one number for each class and column. The decision is an affine map. Fitted attributes
    are float64 whatever the dtype of `X`.

    Parameters
    ----------
    alpha : float or array-like of shape (n_features,), default=1.0
        Added to every count.
    force_alpha : bool, default=True
        Take an `alpha` below 1e-10 as it is, rather than raise it to that.
    fit_prior : bool, default=True
        Take the shares of the rows for the probabilities of the classes, which matter only if there is a single class.
    class_prior : array-like of shape (n_classes,) or None, default=None
        Probabilities of the classes; by default as `fit_prior` says.
    norm : bool, default=False
        Divide the weights of each class by their sum.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    class_count_ : ndarray of shape (n_classes,)
        Rows of each class, or the sum of their weights.
    class_log_prior_ : ndarray of shape (n_classes,)
        Logarithms of the probabilities of the classes.
    feature_all_ : ndarray of shape (n_features,)
        The (weighted) sum of each column.
    feature_count_ : ndarray of shape (n_classes, n_features)
        The same in each class.
    feature_log_prob_ : ndarray of shape (n_classes, n_features)
        Weights of the complements of the classes.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    References
    ----------
    J. D. Rennie, L. Shih, J. Teevan and D. R. Karger, "Tackling the poor assumptions of naive Bayes text classifiers",
    ICML (2003).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.naive_bayes import ComplementNB
    >>> X = np.array([[2, 1, 0], [3, 0, 0], [0, 1, 4]])
    >>> ComplementNB().fit(X, np.array([1, 1, 2])).predict(np.array([[1, 1, 0]]))
    array([1])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {**CountNB._parameter_constraints, "norm": ["boolean"]}

    def __init__(
        self,
        *,
        alpha: Any = 1.0,
        force_alpha: bool = True,
        fit_prior: bool = True,
        class_prior: Any = None,
        norm: bool = False,
    ) -> None:
        self.alpha = alpha
        self.force_alpha = force_alpha
        self.fit_prior = fit_prior
        self.class_prior = class_prior
        self.norm = norm

    def _statistic(self, schema: Schema | None) -> Statistic[ClassSumsState]:  # noqa: ARG002  (the protocol's)
        return ClassSums(counts=True)

    def _count(self, state: ClassSumsState) -> None:
        self.feature_count_ = state.sums
        self.feature_all_ = state.sums.sum(axis=0)

    def _set_log_prob(self, alpha: Any) -> None:
        complement = self.feature_all_ + alpha - self.feature_count_
        logs = np.log(complement / complement.sum(axis=1, keepdims=True))
        self.feature_log_prob_ = logs / logs.sum(axis=1, keepdims=True) if self.norm else -logs

    def _score_map(self) -> RowMap:
        k = len(self.classes_)
        return joint_scores(self.feature_log_prob_, self.class_log_prior_ if k == 1 else np.zeros(k))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags


class BernoulliNB(_SparseCountNB):
    """Naive Bayes for columns of zeros and ones.

    As :class:`sklearn.naive_bayes.BernoulliNB`, from one pass over the rows, on every backend. Memory: a few tiles of a
    block for each worker, and one number for each class and column. Fitted attributes are float64 whatever the dtype of
    `X`.

    Parameters
    ----------
    alpha : float or array-like of shape (n_features,), default=1.0
        Added to every count, so that what has not occurred is not impossible; 0 or more.
    force_alpha : bool, default=True
        Take an `alpha` below 1e-10 as it is, rather than raise it to that.
    binarize : float or None, default=0.0
        What is above counts as 1, the rest as 0. None for columns that hold nothing else.
    fit_prior : bool, default=True
        Take the shares of the rows for the probabilities of the classes; otherwise all are equal.
    class_prior : array-like of shape (n_classes,) or None, default=None
        Probabilities of the classes; by default as `fit_prior` says.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    class_count_ : ndarray of shape (n_classes,)
        Rows of each class, or the sum of their weights.
    class_log_prior_ : ndarray of shape (n_classes,)
        Logarithms of the probabilities of the classes.
    feature_count_ : ndarray of shape (n_classes, n_features)
        Ones of each column in each class, or the sum of their weights.
    feature_log_prob_ : ndarray of shape (n_classes, n_features)
        Logarithms of the smoothed shares of ones.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    References
    ----------
    C. D. Manning, P. Raghavan and H. Schuetze, "Introduction to Information Retrieval" (2008), section 13.3.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.naive_bayes import BernoulliNB
    >>> X = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1]])
    >>> BernoulliNB().fit(X, np.array([True, True, False])).predict(np.array([[1, 1, 0]]))
    array([ True])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CountNB._parameter_constraints,
        "binarize": [None, Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        alpha: Any = 1.0,
        force_alpha: bool = True,
        binarize: float | None = 0.0,
        fit_prior: bool = True,
        class_prior: Any = None,
    ) -> None:
        self.alpha = alpha
        self.force_alpha = force_alpha
        self.binarize = binarize
        self.fit_prior = fit_prior
        self.class_prior = class_prior

    def _statistic(self, schema: Schema | None) -> Statistic[ClassSumsState]:  # noqa: ARG002  (the protocol's)
        return ClassSums(threshold=self.binarize)

    def _count(self, state: ClassSumsState) -> None:
        self.feature_count_ = state.sums

    def _set_log_prob(self, alpha: Any) -> None:
        total = self.class_count_[:, None] + alpha * 2
        self.feature_log_prob_ = np.log(self.feature_count_ + alpha) - np.log(total)

    def _score_map(self) -> RowMap:
        with np.errstate(divide="ignore", invalid="ignore"):
            absent = np.log(1.0 - np.exp(self.feature_log_prob_))
            scores = joint_scores(self.feature_log_prob_ - absent, self.class_log_prior_ + absent.sum(axis=1))
        if self.binarize is None:
            return scores
        return compose(Rowwise(partial(_ones, threshold=self.binarize), out_dtype=np.float64), scores)


def _ones(block: Array, *, threshold: float) -> Array:
    """Return 1 for what is above the threshold, 0 for the rest, in the widest float."""
    if not only_counted(block):
        refuse_nonfinite(block)
    if hasattr(block, "tocsr"):
        return (block > threshold).astype(np.float64)
    xp = namespace(block)
    wide = float_dtype(block)
    return xp.astype(xp.astype(block, wide, copy=False) > threshold, wide)
