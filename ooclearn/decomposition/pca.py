"""Principal component analysis from one scatter matrix."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ooclearn._compat import Interval, RealNotInt, StrOptions
from ooclearn.base import mapped
from ooclearn.decomposition.components import PrincipalComponents
from ooclearn.decomposition.dimension import most_likely_rank
from ooclearn.gaussian import log_likelihood
from ooclearn.rowmaps import RowMap
from ooclearn.scoring import score_of
from ooclearn.statistics import ScatterState
from ooclearn.storage.arrays import host_dtype
from ooclearn.types import Array
from ooclearn.validation import as_table, checked_rows

__all__ = ["PCA"]


class PCA(PrincipalComponents):
    """Principal component analysis: project rows on the axes along which they vary most.

    As :class:`sklearn.decomposition.PCA`, from one pass over the rows, on every backend: exact, whatever the number of
    rows and however they are cut. Memory: a few tiles of a block for each worker, and some matrices of n_features by
    n_features. Fitted attributes are float64 whatever the dtype of `X`; ``transform`` keeps float32.

    Parameters
    ----------
    n_components : int, float, 'mle' or None, default=None
        How many components to keep. An int: that many. A float between 0 and 1: as many as explain more than this
        share of the variance. ``'mle'``: as many as Minka's estimate. None: all, ``min(n_samples, n_features)``.
    whiten : bool, default=False
        Scale the columns that ``transform`` gives to unit variance. Components without variance are mapped to 0.
    svd_solver : {'auto', 'full', 'covariance_eigh'}, default='auto'
        ``'full'`` finds the eigenvectors of the correlation matrix, and with them the singular vectors of a matrix
        whose product with itself is the scatter matrix: small variances beside large ones are as exact as by a singular
        value decomposition of the rows. ``'covariance_eigh'`` finds the eigenvectors of the covariance matrix, in about
        a third of the time (of a step that does not depend on the number of rows), and variances below 1e-16 of the
        largest are lost. ``'auto'`` is ``'full'``.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features)
        The axes, those of largest variance first. The entry of each that is largest in absolute value is positive.
    explained_variance_ : ndarray of shape (n_components_,)
        Variance along each axis, with ``n_samples - 1`` as the divisor.
    explained_variance_ratio_ : ndarray of shape (n_components_,)
        Share of each axis in the variance of all columns; NaN where the rows do not vary.
    singular_values_ : ndarray of shape (n_components_,)
        Lengths of the columns that ``transform`` gives without whitening.
    mean_ : ndarray of shape (n_features,)
        Mean of each column.
    n_components_ : int
        How many components are kept.
    n_samples_ : int
        Rows seen.
    noise_variance_ : float
        Mean variance along the axes that are not kept.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    The scatter matrix is summed from centred tiles and merged by Chan, Golub and LeVeque (1983), so a mean far from 0
    costs no digits; scikit-learn's ``'covariance_eigh'`` subtracts the mean from raw sums.

    ``get_covariance``, ``get_precision`` and ``score`` do not depend on `whiten`. scikit-learn, with ``whiten=True``,
    multiplies by the variances twice.

    Parameters of scikit-learn's randomised and iterative solvers (`tol`, `iterated_power`, `n_oversamples`,
    `power_iteration_normalizer`, `random_state`) and `copy` have nothing to do here and are left out.

    References
    ----------
    M. E. Tipping and C. M. Bishop, "Probabilistic principal component analysis", Journal of the Royal Statistical
    Society B 61 (1999). T. P. Minka, "Automatic choice of dimensionality for PCA", NIPS (2000).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.decomposition import PCA
    >>> X = np.array([[-1.0, -1.0], [-2.0, -1.0], [-3.0, -2.0], [1.0, 1.0], [2.0, 1.0], [3.0, 2.0]])
    >>> pca = PCA(n_components=1).fit(X)
    >>> pca.explained_variance_ratio_.round(4)
    array([0.9924])
    >>> pca.transform(X[:1]).shape
    (1, 1)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [
            Interval(Integral, 0, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            StrOptions({"mle"}),
            None,
        ],
        "whiten": ["boolean"],
        "svd_solver": [StrOptions({"auto", "full", "covariance_eigh"})],
    }
    _score_of_blocks: ClassVar[str] = "mean"

    def __init__(self, n_components: Any = None, *, whiten: bool = False, svd_solver: str = "auto") -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.svd_solver = svd_solver

    def _check_shape(self, n_rows: int | None, n_columns: int | None) -> None:
        super()._check_shape(n_rows, n_columns)
        if self.n_components == "mle":
            if n_rows is not None and n_columns is not None and n_rows < n_columns:
                raise ValueError("n_components='mle' is only supported if n_samples >= n_features")
            return
        known = [n for n in (n_rows, n_columns) if n is not None]
        if known and self.n_components is not None and self.n_components > min(known):
            raise ValueError(
                f"n_components={self.n_components} must be between 0 and min(n_samples, n_features)={min(known)} with "
                f"svd_solver={self.svd_solver!r}"
            )

    def _set_from(self, state: ScatterState) -> None:
        variance, axes = self._set_axes(state, squared=self.svd_solver == "covariance_eigh")
        self.n_samples_ = state.rows
        self._keep(self._how_many(variance, state.rows), variance, axes, state.rows)

    def _how_many(self, variance: Array, n: int) -> int:
        wanted = self.n_components
        if wanted is None:
            return len(variance)
        if isinstance(wanted, str):
            return most_likely_rank(variance, n)
        if 0 < wanted < 1:
            total = np.sum(variance)
            if total == 0:
                return 1
            # More than the fraction, never just that much.
            found = int(np.searchsorted(np.cumsum(variance / total), wanted, side="right")) + 1
            return min(found, len(variance))
        return int(wanted)

    def _method_map(self, method: str, *, n_columns: int | None, dtype: Any) -> RowMap:
        if method != "score_samples":
            return super()._method_map(method, n_columns=n_columns, dtype=dtype)
        return log_likelihood(self.mean_, *self._precision_root())

    def score_samples(self, X: Any) -> Any:
        """Return the log-likelihood of each row under the probabilistic model, by blocks, in parallel.

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
        X = checked_rows(self, X, reset=False)
        return mapped(self._method_map("score_samples", n_columns=X.shape[1], dtype=host_dtype(X)), X)

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ARG002  (scikit-learn's signature)
        """Return the mean log-likelihood of the rows under the probabilistic model, in one pass.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : None
            Not used.

        Returns
        -------
        float
            The mean of :meth:`score_samples`.
        """
        check_is_fitted(self)
        return score_of(self, as_table(checked_rows(self, X, reset=False)), self._method_map)
