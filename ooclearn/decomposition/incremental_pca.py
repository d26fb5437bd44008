"""Principal component analysis of rows that come in parts."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np

from ooclearn._compat import Interval
from ooclearn.decomposition.components import PrincipalComponents
from ooclearn.statistics import ScatterState

__all__ = ["IncrementalPCA"]


class IncrementalPCA(PrincipalComponents):
    """Principal component analysis of rows that come in parts, with the exact result for all of them.

    With the attributes of :class:`sklearn.decomposition.IncrementalPCA`. That one keeps some components of the rows
    before and forgets the others, so its result depends on the size of the batches; this one keeps the scatter matrix,
    and its result is that of :class:`PCA`. One pass over the rows. Memory: a few tiles of a block for each worker, and
    some matrices of n_features by n_features. Fitted attributes are float64 whatever the dtype of `X`; ``transform``
    keeps float32.

    Parameters
    ----------
    n_components : int or None, default=None
        How many components to keep; None for all, ``min(n_samples_seen_, n_features)``.
    whiten : bool, default=False
        Scale the columns that ``transform`` gives to unit variance. Components without variance are mapped to 0.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features)
        The axes, those of largest variance first. The entry of each that is largest in absolute value is positive.
    explained_variance_ : ndarray of shape (n_components_,)
        Variance along each axis, with ``n_samples_seen_ - 1`` as the divisor.
    explained_variance_ratio_ : ndarray of shape (n_components_,)
        Share of each axis in the variance of all columns; NaN where the rows do not vary.
    singular_values_ : ndarray of shape (n_components_,)
        Lengths of the columns that ``transform`` gives without whitening.
    mean_, var_ : ndarray of shape (n_features,)
        Mean and variance (of the population) of each column.
    noise_variance_ : float
        Mean variance along the axes that are not kept.
    n_components_ : int
        How many components are kept.
    n_samples_seen_ : int
        Rows seen.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    scikit-learn's `batch_size` and `copy` are left out: rows are read as their blocks come, the result does not depend
    on it, and input is never written to. With ``n_components=None`` the number of components goes on growing with the
    rows until it is that of the columns; scikit-learn's stays that of the first batch.

    References
    ----------
    T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for computing the sample variance: analysis and
    recommendations", The American Statistician 37 (1983).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.decomposition import PCA, IncrementalPCA
    >>> X = np.random.default_rng(0).normal(size=(100, 4))
    >>> grown = IncrementalPCA(2)
    >>> for part in np.split(X, 10):
    ...     grown = grown.partial_fit(part)
    >>> bool(np.allclose(grown.components_, PCA(2).fit(X).components_, rtol=1e-12))
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "whiten": ["boolean"],
    }

    def __init__(self, n_components: int | None = None, *, whiten: bool = False) -> None:
        self.n_components = n_components
        self.whiten = whiten

    def _check_shape(self, n_rows: int | None, n_columns: int | None) -> None:
        super()._check_shape(n_rows, n_columns)
        wanted = self.n_components
        if wanted is not None and n_columns is not None and wanted > n_columns:
            raise ValueError(
                f"n_components={wanted} invalid for n_features={n_columns}, need more rows than columns for "
                f"{type(self).__name__} processing: pass at most n_features"
            )
        if wanted is not None and n_rows is not None and wanted > n_rows:
            raise ValueError(
                f"n_components={wanted} must be less or equal to the batch number of samples {n_rows} for the first "
                "partial_fit call."
            )

    def _set_from(self, state: ScatterState) -> None:
        variance, axes = self._set_axes(state)
        self.n_samples_seen_ = state.rows
        self.var_ = np.diagonal(state.xx) / state.rows
        self._keep(self.n_components or len(variance), variance, axes, state.rows)
