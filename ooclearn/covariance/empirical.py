"""Maximum likelihood covariance from one scatter matrix."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils import metadata_routing
from sklearn.utils.validation import check_is_fitted

from ooclearn.base import Mergeable, mapped
from ooclearn.gaussian import log_likelihood, squared_distance
from ooclearn.passes import Fit, Request
from ooclearn.rowmaps import RowMap
from ooclearn.scoring import score_of
from ooclearn.spectral import inverse_root
from ooclearn.statistics import FourthMomentsState, Scatter, ScatterState, Statistic
from ooclearn.table import Schema
from ooclearn.types import Array
from ooclearn.validation import as_table, checked_rows

__all__ = ["EmpiricalCovariance", "GaussianCovariance"]


class GaussianCovariance(Mergeable):
    """A covariance matrix and the Gaussian model with it; what the estimators of covariance share.

    A subclass gives ``_estimate(state)``.
    """

    # X_test should have been called X, says scikit-learn, which has the same.
    __metadata_request__score: ClassVar[dict[str, str]] = {"X_test": metadata_routing.UNUSED}
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "store_precision": ["boolean"],
        "assume_centered": ["boolean"],
    }
    _score_of_blocks: ClassVar[str] = "mean"

    location_: Array
    covariance_: Array
    precision_: Array | None

    def __init__(self, *, store_precision: bool = True, assume_centered: bool = False) -> None:
        self.store_precision = store_precision
        self.assume_centered = assume_centered

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002  (scikit-learn's signature)
        """Estimate the covariance of the columns, in one pass.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : None
            Not used.

        Returns
        -------
        self : object
            This estimator, fitted.

        Raises
        ------
        NonFiniteError
            A cell is missing or infinite; the message says where.
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
            This estimator, fitted to all rows so far.
        """
        return self._grow(X)

    def _requests(self, schema: Schema) -> Sequence[Request]:
        self._refuse_weights(schema)
        return super()._requests(schema)

    def _passes(self, schema: Schema) -> Fit:
        self._refuse_weights(schema)
        yield from super()._passes(schema)

    def _refuse_weights(self, schema: Schema) -> None:
        if schema.weighted:
            raise TypeError(f"{type(self).__name__}.fit() got an unexpected keyword argument 'sample_weight'")

    def _statistic(self, schema: Schema) -> Statistic[Any]:  # noqa: ARG002  (the protocol's signature)
        return Scatter()

    def _estimate(self, state: Any) -> Array:
        """Return the covariance; set what else is found."""
        raise NotImplementedError(f"{type(self).__name__} must define _estimate")  # a subclass's duty, not a path

    def _set_from(self, state: Any) -> None:
        scatter: ScatterState = state.scatter if isinstance(state, FourthMomentsState) else state
        if scatter.rows == 1:
            warnings.warn(
                "Only one sample available. You may want to reshape your data array", UserWarning, stacklevel=2
            )
        self.location_ = np.zeros_like(scatter.mean) if self.assume_centered else scatter.mean.copy()
        self.covariance_ = self._estimate(state)
        self.precision_ = self._inverse()[0] if self.store_precision else None

    def _second_moment(self, state: ScatterState) -> Array:
        """Return the empirical covariance, about the mean or about 0."""
        about_mean = state.xx / state.rows
        return about_mean + state.mean[:, None] * state.mean if self.assume_centered else about_mean

    def _inverse(self) -> tuple[Array, Array, float]:
        half, logdet = inverse_root(self.covariance_)
        return half @ half.T, half, logdet

    def _row_map(self) -> RowMap | None:
        return None

    def _method_map(self, method: str, *, n_columns: int | None, dtype: Any) -> RowMap:  # noqa: ARG002  (the protocol's)
        """Return the log-likelihood of rows (``"score_samples"``), or their squared Mahalanobis distance."""
        _, half, logdet = self._inverse()
        if method == "score_samples":
            return log_likelihood(self.location_, half, logdet)
        return squared_distance(self.location_, half)

    def get_precision(self) -> Array:
        """Return the precision matrix: the inverse of the covariance, or its pseudo-inverse if it is singular.

        Returns
        -------
        ndarray of shape (n_features, n_features)
            The precision, in float64.
        """
        check_is_fitted(self)
        return self._inverse()[0] if self.precision_ is None else self.precision_

    def mahalanobis(self, X: Any) -> Any:
        """Return the squared Mahalanobis distance of each row from the location, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples,)
            Computed at once for arrays in memory; lazily for Blocks, memory maps and Dask arrays.
        """
        check_is_fitted(self)
        return mapped(squared_distance(self.location_, self._inverse()[1]), checked_rows(self, X, reset=False))

    def score(self, X_test: Any, y: Any = None) -> float:  # noqa: ARG002  (scikit-learn's signature)
        """Return the mean log-likelihood of rows under the Gaussian model, in one pass.

        Parameters
        ----------
        X_test : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : None
            Not used.

        Returns
        -------
        float
            Minus infinity where the covariance is singular.
        """
        check_is_fitted(self)
        return score_of(self, as_table(checked_rows(self, X_test, reset=False)), self._method_map)

    def error_norm(self, comp_cov: Array, norm: str = "frobenius", scaling: bool = True, squared: bool = True) -> float:
        """Return the mean squared error between two estimates of a covariance.

        Parameters
        ----------
        comp_cov : ndarray of shape (n_features, n_features)
            The covariance to compare with.
        norm : {"frobenius", "spectral"}, default="frobenius"
            Norm of the difference.
        scaling : bool, default=True
            Divide the squared norm by n_features.
        squared : bool, default=True
            Return the squared norm rather than the norm.

        Returns
        -------
        float
            The error, 0 or more.
        """
        check_is_fitted(self)
        error = np.asarray(comp_cov, dtype=np.float64) - self.covariance_
        if norm == "frobenius":
            found = float(np.sum(error**2))
        elif norm == "spectral":
            found = float(np.linalg.norm(error, 2)) ** 2
        else:
            # The class of scikit-learn's error.
            raise NotImplementedError(f"Only spectral and frobenius norms are implemented, got norm={norm!r}")
        if scaling:
            found /= len(error)
        return found if squared else float(np.sqrt(found))


class EmpiricalCovariance(GaussianCovariance):
    """Estimate the covariance matrix of the columns by maximum likelihood.

    As :class:`sklearn.covariance.EmpiricalCovariance`, from one pass over the rows, on every backend. Memory: a few
    tiles of a block for each worker, and some matrices of n_features by n_features.

    Parameters
    ----------
    store_precision : bool, default=True
        Keep the precision matrix; without it ``get_precision`` computes it at each call.
    assume_centered : bool, default=False
        Take the mean to be 0 rather than estimate it.

    Attributes
    ----------
    location_ : ndarray of shape (n_features,)
        Mean of each column; zeros with `assume_centered`.
    covariance_ : ndarray of shape (n_features, n_features)
        The covariance, with ``n_samples`` as the divisor, in float64.
    precision_ : ndarray of shape (n_features, n_features) or None
        Its inverse, or pseudo-inverse if it is singular; None without `store_precision`.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    The precision is found on the scale of the correlations, so that columns of very different scales are not taken for
    a singular matrix; where it is singular on that scale, too, ``score`` is minus infinity. The scatter is summed from
    centred tiles and merged by Chan, Golub and LeVeque (1983), so a mean far from 0 costs no digits.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.covariance import EmpiricalCovariance
    >>> EmpiricalCovariance().fit(np.array([[0.0, 0.0], [2.0, 2.0], [0.0, 2.0], [2.0, 0.0]])).covariance_
    array([[1., 0.],
           [0., 1.]])
    """

    def _estimate(self, state: ScatterState) -> Array:
        return self._second_moment(state)
