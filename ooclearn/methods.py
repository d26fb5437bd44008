"""Methods of fitted estimators (``predict``, ``transform``, ...) as row maps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.frozen import FrozenEstimator

from ooclearn._compat import linear_classes
from ooclearn._filters import quietly
from ooclearn.decisions import linear_labels, linear_scores
from ooclearn.rowmaps import RowMap, Rowwise
from ooclearn.statistics.checks import refuse_nonfinite
from ooclearn.types import Array

__all__ = ["METHODS", "framed", "method_map", "named"]

METHODS = (
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "score_samples",
    "transform",
    "inverse_transform",
)


def method_map(estimator: Any, method: str, /, *, n_columns: int | None, dtype: np.dtype[Any]) -> RowMap:
    """Return a method of a fitted estimator as a row map.

    Linear decisions become affine maps, which collapse with the scaling before them into one product. Any other
    method is called block by block, on the host.

    Parameters
    ----------
    estimator : estimator
        Fitted. Estimators of this library give their own row map.
    method : str
        One of ``METHODS``.
    n_columns, dtype
        Of the rows that will come in.
    """
    if isinstance(estimator, FrozenEstimator):
        estimator = estimator.estimator
    if hasattr(estimator, "_method_map"):
        own: RowMap = estimator._method_map(method, n_columns=n_columns, dtype=dtype)
        return own
    linear = _linear(estimator, method)
    if linear is not None:
        return linear
    call = _Called(estimator, method)
    empty = _empty(call, n_columns, dtype)
    columns = empty.shape[1] if empty.ndim > 1 else None
    return Rowwise(replace(call, empty=empty), n_columns=columns, out_dtype=empty.dtype, host=True)


@dataclass(frozen=True, eq=False)
class _Called:
    """A method of an estimator, called with one block on the host.

    ``empty`` is what it gives for no rows, which scikit-learn refuses.
    """

    estimator: Any
    method: str
    empty: Array | None = None

    def __call__(self, block: Array, /) -> Array:
        if self.empty is not None and block.shape[0] == 0:
            return self.empty
        try:
            result = self._result(block)
        except ValueError as error:
            if not isinstance(block, np.ndarray) or block.dtype.kind != "f":
                raise
            refuse_nonfinite(block)  # says where
            if "Buffer dtype mismatch" not in str(error):
                raise
            # k-means compares rows of one dtype alone with its centres.
            result = self._result(block.astype(np.float32 if block.dtype == np.float64 else np.float64))
        if isinstance(result, list):
            # MultiOutputClassifier.predict_proba gives a list, one array a target: side by side in one block.
            return np.concatenate(result, axis=1)
        return result.to_numpy() if hasattr(result, "columns") else result

    def _result(self, block: Array) -> Any:
        # A class that was given and has never occurred has the share 0, of which naive Bayes takes the logarithm.
        with np.errstate(divide="ignore"):
            return getattr(self.estimator, self.method)(named(block, self.estimator))


def named(block: Array, estimator: Any, /) -> Any:
    """Return a block as a data frame if the estimator was fitted on one: it looks for the names."""
    names = getattr(estimator, "feature_names_in_", None)
    return block if names is None else framed(block, names)


def framed(rows: Array, names: Array, /) -> Any:
    """Return rows as a data frame, as far as that can be: dense rows, with pandas installed."""
    if not isinstance(rows, np.ndarray) or rows.ndim != 2:
        return rows
    try:
        import pandas as pd
    except ImportError:
        return rows
    return pd.DataFrame(rows, columns=names, copy=False)


def _empty(call: _Called, n_columns: int | None, dtype: np.dtype[Any]) -> Array:
    """Return what a method gives for no rows: its shape and dtype, found by asking it about one made-up row."""
    for value in ("", {}) if dtype.kind in "OUS" else (0, 1):
        row = np.empty((1,) if n_columns is None else (1, n_columns), dtype=dtype)
        row[...] = value
        try:
            with quietly():  # of what is not there
                result = call(row)
        except (ValueError, TypeError, IndexError, AttributeError, KeyError):
            continue
        if hasattr(result, "shape") and hasattr(result, "dtype"):
            return result[:0]
    # An estimator that takes none of these: go by what the method means.
    estimator, method = call.estimator, call.method
    if method == "predict" and is_classifier(estimator) and isinstance(estimator.classes_, np.ndarray):
        return np.empty(0, dtype=estimator.classes_.dtype)
    if method in ("predict_proba", "predict_log_proba"):
        return np.empty((0, len(estimator.classes_)))
    if method == "transform" and hasattr(estimator, "get_feature_names_out"):
        return np.empty((0, len(estimator.get_feature_names_out())))
    return np.empty(0)


def _linear(estimator: Any, method: str) -> RowMap | None:
    """Return a linear decision or regression as a row map; None if it is not known to be one."""
    coef = getattr(estimator, "coef_", None)
    if not isinstance(coef, np.ndarray):
        return None
    cls, known = type(estimator), linear_classes()
    if isinstance(estimator, known.classifier) and cls.decision_function is known.classifier.decision_function:
        single = coef.size == coef.shape[-1]
        if method == "decision_function":
            return linear_scores(coef, estimator.intercept_, squeeze=single)
        if method == "predict" and cls.predict is known.classifier.predict:
            return linear_labels(coef, estimator.intercept_, estimator.classes_, squeeze=single)
        return None
    plain = (isinstance(estimator, known.model) and cls.predict is known.model.predict) or (
        isinstance(estimator, known.sgd_regressor) and cls.predict is known.sgd_regressor.predict
    )
    if method == "predict" and plain:
        return linear_scores(coef, estimator.intercept_, squeeze=coef.ndim == 1)
    return None
