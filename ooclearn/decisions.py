"""Linear decisions as row maps, which collapse with the scaling before them into one product."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ooclearn._namespace import float_dtype, holds, int_dtype, like, namespace
from ooclearn.backend import backend_of
from ooclearn.exceptions import NonFiniteError
from ooclearn.rowmaps import Affine, RowMap, Rowwise, compose
from ooclearn.types import Array
from ooclearn.unlooked import only_counted

__all__ = ["decided", "finite", "linear", "linear_labels", "linear_scores", "winners"]


def linear_scores(coef: Array, intercept: Any, /, *, squeeze: bool) -> RowMap:
    """Return :func:`linear` as a map that refuses what is not finite in x."""
    return compose(linear(coef, intercept, squeeze=squeeze), Rowwise(finite))


def linear_labels(coef: Array, intercept: Any, classes: Array, /, *, squeeze: bool) -> RowMap:
    """Return the map of rows to the labels that their linear scores decide on."""
    answer = Rowwise(partial(decided, classes=classes), n_columns=None, out_dtype=classes.dtype)
    return compose(linear(coef, intercept, squeeze=squeeze), answer)


def linear(coef: Array, intercept: Any, /, *, squeeze: bool) -> Affine:
    """Return ``x @ coef.T + intercept`` in float64; of one dimension if it is to be squeezed."""
    matrix = coef.reshape(-1, coef.shape[-1]).T.astype(np.float64)
    offset = np.broadcast_to(np.asarray(intercept, dtype=np.float64), (matrix.shape[1],))
    return Affine(matrix, offset=np.array(offset), squeeze=squeeze, out_dtype=np.dtype(np.float64))


def finite(scores: Array, /) -> Array:
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


def decided(scores: Array, /, *, classes: Array) -> Array:
    """Return :func:`winners` of scores that must be finite."""
    return winners(finite(scores), classes=classes)


def winners(scores: Array, /, *, classes: Array) -> Array:
    """Return the label with the largest score in each row; of a single score, that of its sign."""
    xp = namespace(scores)
    if isinstance(scores, np.ndarray) and scores.ndim == 1 and len(classes) == 2 and classes.dtype.kind in "iu":
        return _one_of_two(scores > 0, classes)
    at = xp.astype(scores > 0, int_dtype(scores)) if scores.ndim == 1 else xp.argmax(scores, axis=1)
    return _labels_at(at, scores, classes)


def _one_of_two(second: Array, classes: Array) -> Array:
    """Return one of two whole numbers for each row; by arithmetic, which costs half of looking them up."""
    labels = second.astype(classes.dtype)
    step = classes[1:] - classes[:1]  # as an array: where that overflows it comes round again below
    if step[0] != 1:
        labels *= step
    if classes[0] != 0:
        labels += classes[0]
    return labels


def _labels_at(at: Array, scores: Array, classes: Array, /) -> Array:
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
