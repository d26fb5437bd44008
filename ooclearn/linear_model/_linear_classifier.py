"""Classifiers whose decision is linear in the columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ooclearn.decisions import linear, linear_labels, linear_scores
from ooclearn.predictors import Classifier
from ooclearn.rowmaps import RowMap, Rowwise, compose
from ooclearn.types import Array

__all__ = ["LinearClassifier"]


class LinearClassifier(Classifier):
    """A classifier with ``coef_`` and ``intercept_``: one row of them for two classes, else one for each class.

    A subclass gives ``_shares(log)``.
    """

    coef_: Array
    intercept_: Array

    def _shares(self, *, log: bool) -> Callable[[Array], Array]:
        """Return the function of scores that gives the probability of each class, or its logarithm."""
        raise NotImplementedError(f"{type(self).__name__} must define _shares")  # a subclass's duty, not a path

    def _method_map(self, method: str, *, n_columns: int | None, dtype: np.dtype[Any]) -> RowMap:  # noqa: ARG002  (the protocol's)
        single = len(self.classes_) == 2
        if method == "decision_function":
            return linear_scores(self.coef_, self.intercept_, squeeze=single)
        if method == "predict":
            return linear_labels(self.coef_, self.intercept_, self.classes_, squeeze=single)
        shares = Rowwise(
            self._shares(log=method == "predict_log_proba"), n_columns=len(self.classes_), out_dtype="float"
        )
        return compose(linear(self.coef_, self.intercept_, squeeze=single), shares)

    def decision_function(self, X: Any) -> Any:
        """Return the decision of each row, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples,) or (n_samples, n_classes)
            For two classes one number, above 0 for ``classes_[1]``; else a score for each class, of which the largest
            wins.
        """
        return self._mapped("decision_function", X)
