"""Methods of fitted estimators (``predict``, ``transform``, ...) as row maps."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.frozen import FrozenEstimator

from ooclearn._compat import linear_classes
from ooclearn._namespace import float_dtype, holds, int_dtype, like, namespace
from ooclearn.backend import backend_of
from ooclearn.exceptions import NonFiniteError
from ooclearn.rowmaps import Affine, RowMap, Rowwise, compose
from ooclearn.statistics.checks import refuse_nonfinite
from ooclearn.types import Array
from ooclearn.unlooked import only_counted

__all__ = ["METHODS", "framed", "labels_at", "method_map", "named"]

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
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what is not there
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
        decision = _affine(coef, estimator.intercept_, squeeze=coef.size == coef.shape[-1])
        if method == "decision_function":
            return compose(decision, Rowwise(_finite))
        if method == "predict" and cls.predict is known.classifier.predict:
            labels = partial(_labels, classes=estimator.classes_)
            return compose(decision, Rowwise(labels, n_columns=None, out_dtype=estimator.classes_.dtype))
        return None
    plain = (isinstance(estimator, known.model) and cls.predict is known.model.predict) or (
        isinstance(estimator, known.sgd_regressor) and cls.predict is known.sgd_regressor.predict
    )
    if method == "predict" and plain:
        return compose(_affine(coef, estimator.intercept_, squeeze=coef.ndim == 1), Rowwise(_finite))
    return None


def _affine(coef: Array, intercept: Any, *, squeeze: bool) -> Affine:
    matrix = coef.reshape(-1, coef.shape[-1]).T.astype(np.float64)
    offset = np.broadcast_to(np.asarray(intercept, dtype=np.float64), (matrix.shape[1],))
    return Affine(matrix, offset=np.array(offset), squeeze=squeeze, out_dtype=np.dtype(np.float64))


def _finite(scores: Array) -> Array:
    """Return `scores`; raise where a missing value or an infinity in X has made one of them NaN or infinite."""
    xp = namespace(scores)
    if only_counted(scores):
        return scores
    with np.errstate(invalid="ignore", over="ignore"):
        if bool(xp.isfinite(xp.sum(scores))):
            return scores
    fine = xp.isfinite(scores)
    if scores.ndim == 2:
        fine = xp.all(fine, axis=1)
    bad = xp.astype(xp.logical_not(fine), int_dtype(scores))
    count = int(xp.sum(bad))
    if not count:
        return scores
    row = int(xp.argmax(bad))
    raise NonFiniteError(
        f"Input X contains NaN, infinity or a value too large for a decision in {count:,} of the {fine.shape[0]:,} rows "
        "that were looked at together; this is the first. Fill, clip or drop these rows first",
        rows=(row, row + 1),
    )


def _labels(scores: Array, *, classes: Array) -> Array:
    xp = namespace(scores)
    _finite(scores)
    if isinstance(scores, np.ndarray) and scores.ndim == 1 and len(classes) == 2 and classes.dtype.kind in "iu":
        return _one_of_two(scores > 0, classes)
    at = xp.astype(scores > 0, int_dtype(scores)) if scores.ndim == 1 else xp.argmax(scores, axis=1)
    return labels_at(at, scores, classes)


def _one_of_two(second: Array, classes: Array) -> Array:
    """Return one of two whole numbers for each row; by arithmetic, which costs half of looking them up."""
    labels = second.astype(classes.dtype)
    step = classes[1:] - classes[:1]  # as an array: where that overflows it comes round again below
    if step[0] != 1:
        labels *= step
    if classes[0] != 0:
        labels += classes[0]
    return labels


def labels_at(at: Array, scores: Array, classes: Array, /) -> Array:
    """Return the labels at these positions, where `scores` are; on the host what is not had there, such as text."""
    xp = namespace(scores)
    if isinstance(at, np.ndarray):
        return classes[at]
    if classes.dtype.kind not in "fiub" or not holds(classes, scores):
        return classes[backend_of(at).to_host(at)]
    kind, name = classes.dtype.kind, classes.dtype.name
    dtype = float_dtype(scores) if kind == "f" else xp.bool if kind == "b" else int_dtype(scores)
    if classes.dtype.itemsize < 8:
        dtype = getattr(xp, name, dtype)
    return xp.take(like(classes, scores, dtype), at, axis=0)
