"""Gaussian naive Bayes."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np

from ooclearn._compat import Interval
from ooclearn.classifying import checked_priors
from ooclearn.naive_bayes._joint import NaiveBayes
from ooclearn.quadratics import Quadratics
from ooclearn.rowmaps import RowMap, Rowwise
from ooclearn.statistics import (
    ClassMoments,
    ClassMomentsState,
    DistinctState,
    Join,
    Moments,
    MomentsState,
    Statistic,
)
from ooclearn.statistics.join import Unweighted
from ooclearn.table import Schema
from ooclearn.types import Array

__all__ = ["GaussianNB"]

_CLASSES, _ROWS = ClassMoments(), Moments()


@dataclass(frozen=True, eq=False)
class _State:
    """Moments by class, and those of all rows without weights."""

    by_class: ClassMomentsState
    unweighted: MomentsState

    @property
    def classes(self) -> Array:
        return self.by_class.classes

    @property
    def weight(self) -> Array:
        return self.by_class.weight

    def distinct(self) -> DistinctState:
        return self.by_class.distinct()

    def among(self, classes: Array, /) -> Self:
        return type(self)(self.by_class.among(classes), self.unweighted)


class GaussianNB(NaiveBayes):
    """Naive Bayes with a Gaussian density of each column in each class.

    As :class:`sklearn.naive_bayes.GaussianNB`, from one pass over the rows, on every backend. Memory: a few tiles of a
    block for each worker, and two numbers for each class and column. Fitted attributes are float64 whatever the dtype
    of `X`.

    Parameters
    ----------
    priors : array-like of shape (n_classes,) or None, default=None
        Probabilities of the classes; by default their shares of the rows.
    var_smoothing : float, default=1e-9
        Share of the largest variance of a column over all rows that is added to every variance.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    class_count_ : ndarray of shape (n_classes,)
        Rows of each class, or the sum of their weights.
    class_prior_ : ndarray of shape (n_classes,)
        Probabilities of the classes.
    theta_ : ndarray of shape (n_classes, n_features)
        Mean of each column in each class.
    var_ : ndarray of shape (n_classes, n_features)
        Variance of each column in each class, with ``epsilon_`` added.
    epsilon_ : float
        What is added to the variances.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    After ``partial_fit`` or ``merge``, ``epsilon_`` is that of all rows seen, as after one ``fit``; scikit-learn takes
    that of the last rows. As there, weights have no part in it. Means and variances are merged by Chan, Golub and
    LeVeque (1983).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.naive_bayes import GaussianNB
    >>> X = np.array([[-1, -1], [-2, -1], [-3, -2], [1, 1], [2, 1], [3, 2]])
    >>> y = np.array([1, 1, 1, 2, 2, 2])
    >>> GaussianNB().fit(X, y).predict(np.array([[-0.8, -1]]))
    array([1])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "priors": ["array-like", None],
        "var_smoothing": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, *, priors: Any = None, var_smoothing: float = 1e-9) -> None:
        self.priors = priors
        self.var_smoothing = var_smoothing

    def _statistic(self, schema: Schema | None) -> Statistic[Any]:
        if schema is None or not schema.weighted:
            return _CLASSES
        return Join(by_class=_CLASSES, unweighted=Unweighted(_ROWS))

    def _state_of(self, answer: Any) -> _State:
        return _State(**answer) if isinstance(answer, dict) else _State(answer, answer.moments())

    def _merged(self, a: Any, b: Any) -> _State:
        return _State(_CLASSES.merge(a.by_class, b.by_class), _ROWS.merge(a.unweighted, b.unweighted))

    def _set_from(self, state: _State) -> None:
        found = state.by_class
        weight = found.weight[:, None]
        self.epsilon_ = self.var_smoothing * float(np.max(state.unweighted.variance()))
        self.theta_ = found.mean
        # Of a class that has not occurred nothing is known but the smoothing.
        self.var_ = np.divide(found.m2, weight, out=np.zeros_like(found.m2), where=weight > 0) + self.epsilon_
        self.class_count_ = found.weight
        if self.priors is None:
            self.class_prior_ = found.weight / found.total
            return
        self.class_prior_ = checked_priors(self.priors, len(found.classes))
        if not np.isclose(self.class_prior_.sum(), 1.0):
            raise ValueError("The sum of the priors should be 1.")

    def _score_map(self) -> RowMap:
        with np.errstate(divide="ignore"):
            constants = np.log(self.class_prior_) - 0.5 * np.sum(np.log(2.0 * np.pi * self.var_), axis=1)
            scores = Quadratics(self.theta_, 1.0 / self.var_, constants)
        return Rowwise(scores, n_columns=len(self.classes_), out_dtype=np.float64)
