"""What the count-based naive Bayes classifiers share: smoothing, priors, parameters."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from ooclearn._compat import Interval
from ooclearn._namespace import float_dtype, like, namespace
from ooclearn.decisions import linear_scores
from ooclearn.naive_bayes._joint import NaiveBayes
from ooclearn.products import rows_times
from ooclearn.rowmaps import RowMap, Rowwise
from ooclearn.statistics.checks import refuse_nonfinite
from ooclearn.types import Array
from ooclearn.unlooked import only_counted

__all__ = ["CountNB", "joint_scores"]

_LEAST_ALPHA = 1e-10


class CountNB(NaiveBayes):
    """A naive Bayes classifier of counts.

    A subclass gives ``_statistic``, ``_count(state)``, which sets its counts, and ``_set_log_prob(alpha)``.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "alpha": [Interval(Real, 0, None, closed="left"), "array-like"],
        "force_alpha": ["boolean"],
        "fit_prior": ["boolean"],
        "class_prior": ["array-like", None],
    }

    alpha: Any
    force_alpha: bool
    fit_prior: bool
    class_prior: Any

    def _count(self, state: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _count")  # a subclass's duty, not a path

    def _set_log_prob(self, alpha: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _set_log_prob")  # a subclass's duty, not a path

    def _set_from(self, state: Any) -> None:
        self.class_count_: Array = state.weight
        self._count(state)
        with np.errstate(divide="ignore", invalid="ignore"):
            self._set_log_prob(self._smoothing(self._n_columns(state)))
            self.class_log_prior_ = self._log_prior()

    def _n_columns(self, state: Any) -> int:
        return int(state.sums.shape[1])

    def _log_prior(self) -> Array:
        k = len(self.classes_)
        if self.class_prior is not None:
            prior = np.asarray(self.class_prior, dtype=np.float64)
            if len(prior) != k:
                raise ValueError("Number of priors must match number of classes.")
            given: Array = np.log(prior)
            return given
        if self.fit_prior:
            shares: Array = np.log(self.class_count_) - np.log(self.class_count_.sum())
            return shares
        return np.full(k, -np.log(k))

    def _smoothing(self, n_columns: int) -> Any:
        alpha: Any = self.alpha if isinstance(self.alpha, Real) else np.asarray(self.alpha, dtype=np.float64)
        if isinstance(alpha, np.ndarray):
            if alpha.shape[0] != n_columns:
                raise ValueError(
                    "When alpha is an array, it should contains `n_features`. Got "
                    f"{alpha.shape[0]} elements instead of {n_columns}."
                )
            if alpha.min() < 0:
                raise ValueError("All values in alpha must be greater than 0.")
        if np.min(alpha) < _LEAST_ALPHA and not self.force_alpha:
            warnings.warn(
                f"alpha too small will result in numeric errors, setting alpha = {_LEAST_ALPHA:.1e}. Use "
                "`force_alpha=True` to keep alpha unchanged.",
                UserWarning,
                stacklevel=2,
            )
            return np.maximum(alpha, _LEAST_ALPHA)
        return alpha


def joint_scores(weights: Array, offset: Array, /) -> RowMap:
    """Return ``x @ weights.T + offset`` as a map that refuses what is not finite in x."""
    if np.isfinite(weights).all() and np.isfinite(offset).all():
        return linear_scores(weights, offset, squeeze=False)
    # Chances of 0 have an infinite logarithm, so the cells must be looked at themselves.
    return Rowwise(_Infinite(weights, offset), n_columns=len(weights), out_dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _Infinite:
    """A linear map whose results need not be finite."""

    weights: Array
    offset: Array

    def __call__(self, block: Array) -> Array:
        if not only_counted(block):
            refuse_nonfinite(block)
        with np.errstate(invalid="ignore"):
            if hasattr(block, "tocsr"):
                return block @ self.weights.T + self.offset
            wide = float_dtype(block)
            x = namespace(block).astype(block, wide, copy=False)
            return rows_times(x, like(self.weights.T.copy(), x, wide)) + like(self.offset, x, wide)
