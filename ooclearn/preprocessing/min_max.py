"""Scaling to a given range."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Self

import numpy as np

from ooclearn._namespace import device_of, namespace
from ooclearn.preprocessing.scaling import Scaler
from ooclearn.preprocessing.stored import with_data
from ooclearn.rowmaps import Affine, Kind, RowMap, Rowwise, compose
from ooclearn.statistics import Extrema, ExtremaState, Statistic
from ooclearn.table import Schema
from ooclearn.types import Array

__all__ = ["MinMaxScaler", "clipped", "nonzero_scale", "statistics_dtype"]


class MinMaxScaler(Scaler):
    """Map the values of each column to a given range.

    As :class:`sklearn.preprocessing.MinMaxScaler`, from one pass over the rows, on every backend. Missing values
    (NaN) are left out of the statistics and kept by ``transform``; infinities are refused. Memory: a few tiles of a
    block for each worker. Fitted attributes have the dtype of the rows if that is floating, and else are float64.

    Parameters
    ----------
    feature_range : tuple (min, max), default=(0, 1)
        The range that the least and the greatest value of a column are mapped to.
    copy : bool, default=True
        Kept for scikit-learn's signature: input is never written to, and a scaled result is always new.
    clip : bool, default=False
        Keep transformed values within the range.

    Attributes
    ----------
    data_min_, data_max_, data_range_ : ndarray of shape (n_features,)
        Least and greatest value of each column, and their difference.
    scale_ : ndarray of shape (n_features,)
        Factor of each column; for a constant one, the width of the range.
    min_ : ndarray of shape (n_features,)
        What 0 is mapped to: ``feature_range[0] - data_min_ * scale_``.
    n_samples_seen_ : int
        Rows seen.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    Rows are mapped as ``(X - data_min_) * scale_ + feature_range[0]``, which keeps the digits of columns that lie
    far from 0; scikit-learn's ``X * scale_ + min_`` is the same in exact arithmetic.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.preprocessing import MinMaxScaler
    >>> MinMaxScaler().fit(np.array([[1.0], [5.0]])).transform(np.array([[2.0]]))
    array([[0.25]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "feature_range": [tuple],
        "copy": ["boolean"],
        "clip": ["boolean"],
    }

    def __init__(self, feature_range: tuple[float, float] = (0, 1), *, copy: bool = True, clip: bool = False) -> None:
        self.feature_range = feature_range
        self.copy = copy
        self.clip = clip

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002  (scikit-learn's signature)
        """Find the least and greatest value of each column, in one pass.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
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
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : None
            Not used.

        Returns
        -------
        self : object
            This scaler, fitted to all rows so far.
        """
        return self._grow(X)

    def _validate_params(self) -> None:
        super()._validate_params()
        low, high = self.feature_range
        if low >= high:
            raise ValueError(
                f"Minimum of desired feature range must be smaller than maximum. Got {self.feature_range}."
            )

    def _statistic(self, schema: Schema) -> Statistic[ExtremaState]:  # noqa: ARG002  (the protocol's signature)
        return Extrema()

    def _set_from(self, state: ExtremaState) -> None:
        dtype = statistics_dtype(self._dtype_)
        low, high = self.feature_range
        data_range = state.greatest() - state.least()
        scale = (high - low) / nonzero_scale(data_range, dtype)
        self.data_min_ = state.least().astype(dtype)
        self.data_max_ = state.greatest().astype(dtype)
        self.data_range_ = data_range.astype(dtype)
        self.scale_ = scale.astype(dtype)
        self.min_ = (low - state.least() * scale).astype(dtype)
        self.n_samples_seen_ = state.rows

    def _why_dense(self) -> str:
        return (
            "MinMaxScaler does not support sparse input, whose zeros it would move. Consider using MaxAbsScaler instead, or "
            "make the rows dense"
        )

    def _map_kind(self) -> Kind | None:
        return None if self.clip else "diagonal"

    def _row_map(self) -> RowMap:
        low, high = self.feature_range
        scaled = Affine(self.scale_, center=self.data_min_, offset=self._lowest())
        return compose(scaled, clipped(low, high)) if self.clip else scaled

    def _unscaling(self) -> RowMap:
        return Affine(self.scale_, center=self._lowest(), offset=self.data_min_, divide=True)

    def _lowest(self) -> Array | None:
        """Return the lower end of the range for each column; None for 0, which need not be added."""
        low = float(self.feature_range[0])
        return np.full(self.scale_.shape, low) if low else None


def nonzero_scale(scale: Array, dtype: np.dtype[Any], /) -> Array:
    """Return `scale` with 1 in the place of what is 0 but for rounding, by scikit-learn's bound."""
    return np.where(scale < 10 * np.finfo(dtype).eps, 1.0, scale)


def statistics_dtype(dtype: np.dtype[Any], /) -> np.dtype[Any]:
    """Return the dtype in which scikit-learn keeps extrema: that of the rows if it is floating."""
    return dtype if dtype.kind == "f" else np.dtype(np.float64)


def clipped(low: float, high: float, /) -> Rowwise:
    """Return the row map that keeps values within a range."""
    # The standard compares floating numbers with floating bounds alone.
    return Rowwise(partial(_clip, low=float(low), high=float(high)))


def _clip(block: Array, *, low: float, high: float) -> Array:
    if hasattr(block, "tocsr"):
        return with_data(block, np.clip(block.data, low, high))
    xp = namespace(block)
    if isinstance(block, np.ndarray):
        return xp.clip(block, low, high)
    # array_api_compat's clip assigns through a mask, and a device has to be waited for to know how many it is for.
    bottom, top = (xp.full((), bound, dtype=block.dtype, device=device_of(block)) for bound in (low, high))
    return xp.where(block < bottom, bottom, xp.where(block > top, top, block))
