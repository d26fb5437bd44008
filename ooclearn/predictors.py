"""What estimators that learn a target share: checks of y, methods that are row maps, scores by blocks."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.validation import check_is_fitted

from ooclearn._namespace import namespace
from ooclearn.base import Estimator, mapped
from ooclearn.exceptions import DataError
from ooclearn.rowmaps import RowMap, Rowwise
from ooclearn.scoring import score_of
from ooclearn.storage.arrays import host_dtype
from ooclearn.table import Table
from ooclearn.types import Array
from ooclearn.validation import as_table, checked_rows, is_plain, split_target

__all__ = ["Classifier", "Predictor", "Regressor"]


class Predictor(Estimator):
    """An estimator that is fitted to rows and targets, and whose methods are row maps over any container.

    A subclass gives ``_requests``, ``_passes`` and ``_method_map(method, n_columns=, dtype=)``. With
    ``_multi_output`` a two-dimensional y of any number of columns is taken as it is.
    """

    _multi_output: ClassVar[bool] = False
    _score_of_blocks: ClassVar[str] = ""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model to rows and their targets; the class says in how many passes.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks of shape (n_samples,) or (n_samples, n_targets)
            The targets: labels for a classifier, numbers for a regressor. Several targets where the class says so.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows, 0 or more; by default each counts once.

        Returns
        -------
        self : object
            This estimator, fitted.

        Raises
        ------
        NonFiniteError
            A cell is missing or infinite; the message says where.
        DataError
            `y` or `sample_weight` has another length than `X`, values of the wrong kind, or negative weights.
        """
        return self._fit(X, y, sample_weight)

    def _table(self, X: Any, y: Any = None, sample_weight: Any = None, *, reset: bool = True) -> Table:
        X, y = split_target(X, y)
        self._require_target(y)
        return self._with_target(super()._table(X, y, sample_weight, reset=reset))

    def _require_target(self, y: Any) -> None:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")

    def _with_target(self, table: Table) -> Table:
        """Return the table with targets as this estimator takes them; refuse those that it does not."""
        self._require_target(table.y)
        assert table.y is not None
        self._check_target(table)
        if table.y.ndim > 1 and not self._multi_output:
            table = Table(table.X, table.y.map(Rowwise(_only_column, n_columns=None)), table.w)
        return table

    def _check_target(self, table: Table) -> None:
        """Refuse targets by their shape and dtype, before anything is read."""
        y = table.y
        assert y is not None
        if y.ndim > 2 or (y.ndim == 2 and y.n_columns == 0):
            raise DataError(f"y should be a 1d array or a table of targets, got an array of shape {y.shape} instead.")
        if y.ndim == 2 and not self._multi_output:
            if y.n_columns != 1:
                raise DataError(f"y should be a 1d array, got an array of shape {y.shape} instead.")
            warnings.warn(
                "A column-vector y was passed when a 1d array was expected. Please change the shape of y to "
                "(n_samples, ), for example using ravel().",
                DataConversionWarning,
                stacklevel=5,
            )

    def _method_map(self, method: str, *, n_columns: int | None, dtype: np.dtype[Any]) -> RowMap:
        raise NotImplementedError(f"{type(self).__name__} must define _method_map")  # a subclass's duty, not a path

    def _row_map(self) -> RowMap | None:
        return self._method_map("predict", n_columns=self.n_features_in_, dtype=np.dtype(np.float64))

    def _mapped(self, method: str, X: Any) -> Any:
        check_is_fitted(self)
        X = checked_rows(self, X, reset=False)
        return mapped(self._method_map(method, n_columns=X.shape[1], dtype=host_dtype(X)), X)

    def predict(self, X: Any) -> Any:
        """Predict the target of each row, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples,) or (n_samples, n_targets)
            Computed at once for arrays in memory; lazily for Blocks, memory maps and Dask arrays. Labels have the dtype
            of ``classes_``; numbers are float64, or the widest float that the device has.

        Raises
        ------
        NonFiniteError
            A cell is missing or infinite; the message says where. A lazy result raises when it is computed.
        """
        return self._mapped("predict", X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Score the predictions for `X` in one pass: accuracy for a classifier, R^2 for a regressor.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks of shape (n_samples,) or (n_samples, n_targets)
            The true targets.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows, 0 or more.

        Returns
        -------
        float
            At best 1. The predictions are summed up block by block and never kept.
        """
        check_is_fitted(self)
        X, y = split_target(X, y)
        table = as_table(checked_rows(self, X, reset=False), y, sample_weight)
        return score_of(self, table, self._method_map)


class Regressor(RegressorMixin, Predictor):
    """A predictor of numbers."""

    _score_of_blocks: ClassVar[str] = "r2"
    score = Predictor.score

    def _table(self, X: Any, y: Any = None, sample_weight: Any = None, *, reset: bool = True) -> Table:
        X, y = split_target(X, y)
        return super()._table(X, _numbers(y), sample_weight, reset=reset)

    def _with_target(self, table: Table) -> Table:
        y = table.y
        # A pipeline makes the table, and knows of no regressor in it.
        if y is not None and y.dtype.kind == "O":
            numbers = y.map(Rowwise(_numbers, n_columns=y.n_columns, out_dtype=np.float64))
            table = Table(table.X, numbers, table.w)
        return super()._with_target(table)

    def _check_target(self, table: Table) -> None:
        super()._check_target(table)
        assert table.y is not None
        if table.y.dtype.kind not in "fiub":
            raise DataError(f"y has dtype {table.y.dtype}; expected numbers", source=table.y.name)


class Classifier(ClassifierMixin, Predictor):
    """A predictor of classes; it sets ``classes_``."""

    _score_of_blocks: ClassVar[str] = "accuracy"
    score = Predictor.score

    def _with_target(self, table: Table) -> Table:
        table = super()._with_target(table)
        y = table.y
        if y is not None and y.dtype.kind == "O":
            labels = y.map(Rowwise(_no_bytes, n_columns=y.n_columns))
            table = Table(table.X, labels, table.w)
        return table

    def _check_target(self, table: Table) -> None:
        super()._check_target(table)
        y = table.y
        assert y is not None
        if y.dtype.kind == "c":
            raise DataError(f"Complex data not supported: y has dtype {y.dtype}; expected labels", source=y.name)
        if y.dtype.kind == "S":
            raise DataError(_BYTES, source=y.name)
        if y.dtype.kind == "V":
            raise DataError(f"Unknown label type: y has dtype {y.dtype}; expected numbers or text", source=y.name)


_BYTES = (
    "y has labels that are bytes. Support for labels represented as bytes is not supported. Convert the labels to a string "
    "or integer format"
)


def _no_bytes(y: Array) -> Array:
    """Return labels in an array of objects; refuse bytes, by the first as scikit-learn does."""
    if y.size and isinstance(y.reshape(-1)[0], bytes):
        raise DataError(_BYTES, rows=(0, 1), part="y")
    return y


def _only_column(y: Array) -> Array:
    return namespace(y).reshape(y, (-1,))


def _numbers(y: Any) -> Any:
    """Return targets in an array or series of objects as numbers, if they are."""
    if getattr(getattr(y, "dtype", None), "kind", None) != "O" or not is_plain(y):
        return y
    try:
        return np.asarray(y).astype(np.float64)
    except (TypeError, ValueError):
        raise DataError("y has dtype object, and not all that is in it are numbers; expected numbers") from None
