"""Standardisation by mean and variance."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np

from ooclearn.exceptions import DataError
from ooclearn.preprocessing.scaling import Scaler
from ooclearn.rowmaps import Affine, Kind, RowMap
from ooclearn.statistics import Moments, MomentsState, Statistic
from ooclearn.table import Schema
from ooclearn.types import Array

__all__ = ["StandardScaler"]

# scikit-learn's bound for "constant" grows with the number of rows, as the error of its algorithm may: at 1e9 rows
# it takes a column of Unix times with a deviation of minutes for constant. Blocks centred one by one do not lose
# digits with their number, so the bound stops growing here.
_BOUND_ROWS = 10_000


class StandardScaler(Scaler):
    """Standardise columns: subtract the mean and divide by the standard deviation.

    As :class:`sklearn.preprocessing.StandardScaler`, from one pass over the rows, on every backend. Missing values
    (NaN) are left out of the statistics and kept by ``transform``; infinities are refused. Memory: a few tiles of a
    block for each worker. Fitted attributes are float64 whatever the dtype of `X`.

    Parameters
    ----------
    copy : bool, default=True
        With False, a result that equals its input (neither centring nor scaling) may be the input itself.
        Input is never written to.
    with_mean : bool, default=True
        Centre the columns.
    with_std : bool, default=True
        Scale the columns to unit variance.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,) or None
        Mean of each column; None with neither `with_mean` nor `with_std`.
    var_ : ndarray of shape (n_features,) or None
        Variance of each column (of the population); None without `with_std`.
    scale_ : ndarray of shape (n_features,) or None
        What columns are divided by: the standard deviation, and 1 for constant columns; None without `with_std`.
    n_samples_seen_ : float or ndarray of shape (n_features,)
        Rows, or the sum of their weights; one number for each column where they differ (missing values).
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    Mean and variance are accumulated in float64 whatever the dtype, by centred blocks and merging (Chan, Golub and
    LeVeque 1983): the relative error stays near rounding at a mean of 1e8 standard deviations. Beyond 10,000 rows
    the bound under which a column counts as constant stays that of 10,000 rows, where scikit-learn's goes on growing.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.preprocessing import StandardScaler
    >>> scaler = StandardScaler().fit(np.array([[0.0], [2.0], [4.0]]))
    >>> scaler.mean_
    array([2.])
    >>> scaler.transform(np.array([[2.0]]))
    array([[0.]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "copy": ["boolean"],
        "with_mean": ["boolean"],
        "with_std": ["boolean"],
    }

    def __init__(self, *, copy: bool = True, with_mean: bool = True, with_std: bool = True) -> None:
        self.copy = copy
        self.with_mean = with_mean
        self.with_std = with_std

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:  # noqa: ARG002  (scikit-learn's signature)
        """Compute the mean and variance of each column, in one pass.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array, sparse array or data frame of shape (n_samples, n_features)
            The rows; sparse ones only with ``with_mean=False``.
        y : None
            Not used.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows, 0 or more.

        Returns
        -------
        self : object
            This scaler, fitted.

        Raises
        ------
        NonFiniteError
            A cell is infinite; the message says where. NaN is allowed.
        """
        return self._fit(X, None, sample_weight)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:  # noqa: ARG002  (as above)
        """Learn from more rows, in one pass over them; the result is that of one fit to all rows.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array, sparse array or data frame of shape (n_samples, n_features)
            The rows; sparse ones only with ``with_mean=False``.
        y : None
            Not used.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows, 0 or more.

        Returns
        -------
        self : object
            This scaler, fitted to all rows so far.
        """
        return self._grow(X, sample_weight)

    def _statistic(self, schema: Schema) -> Statistic[MomentsState]:  # noqa: ARG002  (the protocol's signature)
        return Moments()

    def _set_from(self, state: MomentsState) -> None:
        if state.rows and not state.weight:
            raise DataError(
                f"all of the {state.rows:,} sample weights are zero; expected at least one above 0, leave sample_weight out "
                "to count each row once"
            )
        n: Array = state.n
        # Weights may have been added up column by column, each sum with its own rounding.
        noise = 0.0 if state.weight == state.rows else 16 * max(np.finfo(np.float64).eps, state.rounding)
        if n.size and np.ptp(n) <= noise * n.max():
            n = n[0]
        if not self.with_mean and not self.with_std:
            self.mean_ = self.var_ = self.scale_ = None
            self.n_samples_seen_ = n.astype(np.int64)
            return
        self.n_samples_seen_ = n
        self.mean_ = state.means()
        self.var_ = state.variance() if self.with_std else None
        self.scale_ = None
        if self.var_ is not None:
            # Where a device has float32 only, that is coarser.
            noise = np.maximum(np.minimum(n, _BOUND_ROWS) * np.finfo(np.float64).eps, 2 * state.rounding)
            constant = self.var_ <= noise * self.var_ + (noise * self.mean_) ** 2
            self.scale_ = np.sqrt(self.var_)
            self.scale_[constant] = 1.0

    def _why_dense(self) -> str:
        return "Cannot center sparse matrices: pass `with_mean=False` instead, which keeps the zeros; or make the rows dense"

    def _map_kind(self) -> Kind | None:
        return "diagonal"

    def _row_map(self) -> RowMap | None:
        mean = self.mean_ if self.with_mean else None
        if mean is None and self.scale_ is None and not self.copy:
            return None
        return Affine(self.scale_, center=mean, divide=True)

    def _unscaling(self) -> RowMap | None:
        return Affine(self.scale_, offset=self.mean_ if self.with_mean else None)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not self.with_mean
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
