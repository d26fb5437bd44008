"""Covariances shrunk towards a multiple of the identity by as much as the rows themselves suggest."""

from __future__ import annotations

from typing import Any

import numpy as np

from ooclearn.covariance.empirical import GaussianCovariance
from ooclearn.statistics import FourthMoments, FourthMomentsState, ScatterState, Statistic
from ooclearn.table import Schema
from ooclearn.types import Array

__all__ = ["OAS", "LedoitWolf"]


class _Shrunk(GaussianCovariance):
    shrinkage_: float

    def _shrunk(self, covariance: Array, shrinkage: float) -> Array:
        """Set the shrinkage; return the covariance shrunk by it."""
        d = len(covariance)
        self.shrinkage_ = shrinkage
        out = (1.0 - shrinkage) * covariance
        out[np.diag_indices(d)] += shrinkage * np.trace(covariance) / d
        return out


class LedoitWolf(_Shrunk):
    """Estimate a covariance matrix with the shrinkage of Ledoit and Wolf.

    As :class:`sklearn.covariance.LedoitWolf`, from one pass over the rows, on every backend. The estimate is
    ``(1 - shrinkage_) * covariance + shrinkage_ * trace(covariance) / n_features * identity``. Memory: a few tiles of a
    block for each worker, and some matrices of n_features by n_features.

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
        The shrunk covariance, in float64.
    precision_ : ndarray of shape (n_features, n_features) or None
        Its inverse, or pseudo-inverse if it is singular; None without `store_precision`.
    shrinkage_ : float
        The weight of the identity in the estimate, between 0 and 1.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    The shrinkage needs, besides the scatter, the sum over rows of the fourth power of their distance from the mean. The
    :class:`~ooclearn.statistics.FourthMoments` of pairs of columns give it in the same pass, behind a scaler that is
    not fitted yet, too. scikit-learn's `block_size` only saves memory there and is left out.

    References
    ----------
    O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of
    Multivariate Analysis 88 (2004).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.covariance import LedoitWolf
    >>> X = np.random.default_rng(0).normal(size=(50, 2)) * [1.0, 2.0]
    >>> 0 < LedoitWolf().fit(X).shrinkage_ < 0.5
    True
    """

    def _statistic(self, schema: Schema) -> Statistic[Any]:  # noqa: ARG002  (the protocol's signature)
        return FourthMoments()

    def _estimate(self, state: FourthMomentsState) -> Array:
        covariance = self._second_moment(state.scatter)
        n, d = state.scatter.rows, len(covariance)
        if d == 1:
            # A multiple of the identity already.
            return self._shrunk(covariance, 0.0)
        fourth = state.about(-state.scatter.mean)[1] if self.assume_centered else state.fourth
        beta = float(np.sum(fourth) / n - np.sum(covariance * covariance)) / (n * d)
        off = covariance - np.trace(covariance) / d * np.eye(d)
        delta = float(np.sum(off * off)) / d
        beta = min(max(beta, 0.0), delta)
        return self._shrunk(covariance, beta / delta if beta else 0.0)


class OAS(_Shrunk):
    """Estimate a covariance matrix with the oracle approximating shrinkage of Chen, Wiesel, Eldar and Hero.

    As :class:`sklearn.covariance.OAS`, from one pass over the rows, on every backend. The estimate is
    ``(1 - shrinkage_) * covariance + shrinkage_ * trace(covariance) / n_features * identity``. Memory: a few tiles of a
    block for each worker, and some matrices of n_features by n_features.

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
        The shrunk covariance, in float64.
    precision_ : ndarray of shape (n_features, n_features) or None
        Its inverse, or pseudo-inverse if it is singular; None without `store_precision`.
    shrinkage_ : float
        The weight of the identity in the estimate, between 0 and 1.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    As scikit-learn's, it leaves out the terms with ``2 / n_features`` of the article's equation 23.

    References
    ----------
    Y. Chen, A. Wiesel, Y. C. Eldar and A. O. Hero, "Shrinkage algorithms for MMSE covariance estimation", IEEE
    Transactions on Signal Processing 58 (2010).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.covariance import OAS
    >>> X = np.random.default_rng(0).normal(size=(50, 2)) * [1.0, 2.0]
    >>> 0 < OAS().fit(X).shrinkage_ < 0.5
    True
    """

    def _estimate(self, state: ScatterState) -> Array:
        covariance = self._second_moment(state)
        n, d = state.rows, len(covariance)
        if d == 1:
            # A multiple of the identity already.
            return self._shrunk(covariance, 0.0)
        mean = float(np.trace(covariance)) / d
        alpha = float(np.mean(covariance * covariance))
        # What scikit-learn calls alpha - mu**2 / n_features, without its cancellation.
        off = covariance - mean * np.eye(d)
        below = (n + 1) * float(np.mean(off * off))
        return self._shrunk(covariance, 1.0 if below == 0 else min((alpha + mean * mean) / below, 1.0))
