"""Scaling by the greatest absolute value."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np

from ooclearn.preprocessing.min_max import clipped, nonzero_scale, statistics_dtype
from ooclearn.preprocessing.scaling import Scaler
from ooclearn.rowmaps import Affine, Kind, RowMap, compose
from ooclearn.statistics import Extrema, ExtremaState, Statistic
from ooclearn.table import Schema

__all__ = ["MaxAbsScaler"]


class MaxAbsScaler(Scaler):
    """Divide each column by its greatest absolute value.

    As :class:`sklearn.preprocessing.MaxAbsScaler`, from one pass over the rows, on every backend. Missing values
    (NaN) are left out of the statistics and kept by ``transform``; infinities are refused. Memory: a few tiles of a
    block for each worker. Fitted attributes have the dtype of the rows if that is floating, and else are float64.

    Parameters
    ----------
    copy : bool, default=True
        Kept for scikit-learn's signature: input is never written to, and a scaled result is always new.
    clip : bool, default=False
        Keep transformed values within -1 and 1.

    Attributes
    ----------
    max_abs_ : ndarray of shape (n_features,)
        Greatest absolute value of each column.
    scale_ : ndarray of shape (n_features,)
        What columns are divided by; 1 for columns of zeros.
    n_samples_seen_ : int
        Rows seen.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.preprocessing import MaxAbsScaler
    >>> MaxAbsScaler().fit(np.array([[1.0], [-4.0]])).transform(np.array([[2.0]]))
    array([[0.5]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"copy": ["boolean"], "clip": ["boolean"]}

    def __init__(self, *, copy: bool = True, clip: bool = False) -> None:
        self.copy = copy
        self.clip = clip

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002  (scikit-learn's signature)
        """Find the greatest absolute value of each column, in one pass.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array, sparse array or data frame of shape (n_samples, n_features)
            The rows; sparse ones stay sparse.
        y : None
            Not used.

        Returns
        -------
        self : object
            This scaler, fitted.

        Raises
        ------
        NonFiniteError
            A cell is infinite; the message says where. NaN is allowed.
        """
        return self._fit(X)

    def partial_fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002  (as above)
        """Learn from more rows, in one pass over them; the result is that of one fit to all rows.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array, sparse array or data frame of shape (n_samples, n_features)
            The rows.
        y : None
            Not used.

        Returns
        -------
        self : object
            This scaler, fitted to all rows so far.
        """
        return self._grow(X)

    def _statistic(self, schema: Schema) -> Statistic[ExtremaState]:  # noqa: ARG002  (the protocol's signature)
        return Extrema()

    def _set_from(self, state: ExtremaState) -> None:
        dtype = statistics_dtype(self._dtype_)
        greatest = np.maximum(np.abs(state.least()), np.abs(state.greatest()))
        self.max_abs_ = greatest.astype(dtype)
        self.scale_ = nonzero_scale(greatest, dtype).astype(dtype)
        self.n_samples_seen_ = state.rows

    def _map_kind(self) -> Kind | None:
        return None if self.clip else "diagonal"

    def _row_map(self) -> RowMap:
        scaled = Affine(self.scale_, divide=True)
        return compose(scaled, clipped(-1.0, 1.0)) if self.clip else scaled

    def _unscaling(self) -> RowMap:
        return Affine(self.scale_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
