"""Transformers that look at one row at a time, and so have nothing to fit."""

from __future__ import annotations

from functools import partial
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np

from ooclearn._compat import StrOptions
from ooclearn._namespace import float_dtype, namespace
from ooclearn.base import RowMapTransformer, busy, commit, unfitted_copy
from ooclearn.passes import Fit
from ooclearn.preprocessing.stored import stored_above, stored_of_norm_one
from ooclearn.rowmaps import RowMap, Rowwise
from ooclearn.statistics.checks import refuse_nonfinite
from ooclearn.table import Schema
from ooclearn.types import Array
from ooclearn.validation import checked_rows

__all__ = ["Binarizer", "Normalizer"]


class _Stateless(RowMapTransformer):
    """Fit looks at the columns only: no pass."""

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002  (scikit-learn's signature)
        """Check the parameters and the columns; no data is read.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array, sparse array or data frame of shape (n_samples, n_features)
            The rows; sparse ones stay sparse.
        y : None
            Not used.

        Returns
        -------
        self : object
            This transformer.
        """
        with busy(self):
            self._validate_params()
            working = unfitted_copy(self)
            checked_rows(working, X, reset=True, finite=True, sparse=True)
            commit(self, working)
        return self

    def _requests(self, schema: Schema) -> list[Any]:  # noqa: ARG002  (the protocol's signature)
        return []

    def _passes(self, schema: Schema) -> Fit:  # noqa: ARG002  (the protocol's signature)
        yield from ()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.sparse = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return True


class Normalizer(_Stateless):
    """Scale each row to unit norm.

    As :class:`sklearn.preprocessing.Normalizer`, on every backend. ``fit`` makes no pass over the data; ``transform``
    works row by row, with a few tiles of a block in memory for each worker. Rows of zeros stay as they are.

    Parameters
    ----------
    norm : {"l1", "l2", "max"}, default="l2"
        The norm that becomes 1: the sum of absolute values, the root of the sum of squares, or the greatest absolute
        value.
    copy : bool, default=True
        Kept for scikit-learn's signature: input is never written to, and the result is always new.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.preprocessing import Normalizer
    >>> Normalizer().transform(np.array([[3.0, 4.0]]))
    array([[0.6, 0.8]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "norm": [StrOptions({"l1", "l2", "max"})],
        "copy": ["boolean"],
    }

    def __init__(self, norm: str = "l2", *, copy: bool = True) -> None:
        self.norm = norm
        self.copy = copy

    def _row_map(self) -> RowMap:
        function, unlooked = (partial(of, norm=self.norm) for of in (_normalized, _normalized_unlooked))
        return Rowwise(function, out_dtype="float", unlooked=unlooked)


class Binarizer(_Stateless):
    """Set values above a threshold to 1 and all others to 0.

    As :class:`sklearn.preprocessing.Binarizer`, on every backend. ``fit`` makes no pass over the data; ``transform``
    works cell by cell, with a few tiles of a block in memory for each worker, and keeps the dtype.

    Parameters
    ----------
    threshold : float, default=0.0
        The threshold; what equals it becomes 0. For sparse rows 0 or more.
    copy : bool, default=True
        Kept for scikit-learn's signature: input is never written to, and the result is always new.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.preprocessing import Binarizer
    >>> Binarizer(threshold=1.0).transform(np.array([[0.5, 2.0]]))
    array([[0., 1.]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"threshold": [Real], "copy": ["boolean"]}

    def __init__(self, *, threshold: float = 0.0, copy: bool = True) -> None:
        self.threshold = threshold
        self.copy = copy

    def _row_map(self) -> RowMap:
        function, unlooked = (partial(of, threshold=self.threshold) for of in (_binarized, _binarized_unlooked))
        return Rowwise(function, unlooked=unlooked)


def _normalized(block: Array, *, norm: str) -> Array:
    refuse_nonfinite(block)
    if hasattr(block, "tocsr"):
        return stored_of_norm_one(block, norm)
    return _of_norm_one(block, norm, look=isinstance(block, np.ndarray))


def _normalized_unlooked(block: Array, *, norm: str) -> tuple[Array, Any]:
    return _of_norm_one(block, norm, look=False), _nonfinite(block)


def _of_norm_one(block: Array, norm: str, *, look: bool) -> Array:
    """Return rows of norm 1; `look` whether there are any far from 1, which costs less than to bring all near it."""
    xp = namespace(block)
    wide = float_dtype(block)
    kept = block.dtype if xp.isdtype(block.dtype, "real floating") else wide
    x = xp.astype(block, wide, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = _norms(x, norm)
        # Squares of what is far above or below 1 leave the range of numbers: such rows are brought near 1 first.
        far = xp.logical_not(xp.isfinite(norms)) | (norms < xp.finfo(wide).smallest_normal ** 0.25)
        if not look or bool(xp.any(far)):
            greatest = _norms(x, "max")
            x = x / xp.where(far & (greatest > 0), greatest, xp.ones_like(greatest))
            norms = _norms(x, norm)
        return xp.astype(x / xp.where(norms == 0, xp.ones_like(norms), norms), kept, copy=False)


def _norms(x: Array, norm: str) -> Array:
    xp = namespace(x)
    if norm == "l1":
        return xp.sum(xp.abs(x), axis=1, keepdims=True)
    if norm == "l2":
        return xp.sqrt(xp.sum(x * x, axis=1, keepdims=True))
    return xp.max(xp.abs(x), axis=1, keepdims=True)


def _nonfinite(block: Array) -> Any:
    """Return how many cells are not finite, as an array."""
    xp = namespace(block)
    if not xp.isdtype(block.dtype, "real floating"):
        return 0
    return xp.sum(xp.astype(xp.logical_not(xp.isfinite(block)), float_dtype(block)))


def _binarized(block: Array, *, threshold: float) -> Array:
    refuse_nonfinite(block)
    if hasattr(block, "tocsr"):
        return stored_above(block, threshold)
    return _above(block, threshold)


def _binarized_unlooked(block: Array, *, threshold: float) -> tuple[Array, Any]:
    return _above(block, threshold), _nonfinite(block)


def _above(block: Array, threshold: float) -> Array:
    xp = namespace(block)
    # The standard compares whole numbers and booleans with a fraction only once they are floating.
    x = block if xp.isdtype(block.dtype, "real floating") else xp.astype(block, float_dtype(block))
    return xp.astype(x > threshold, block.dtype)
