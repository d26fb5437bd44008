"""Truncated singular value decomposition from one scatter matrix."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np

from ooclearn._compat import Interval
from ooclearn.decisions import finite
from ooclearn.decomposition.components import Components
from ooclearn.exceptions import DataError
from ooclearn.rowmaps import Affine, RowMap, Rowwise, compose
from ooclearn.spectral import axes_of, root
from ooclearn.statistics import ScatterState

__all__ = ["TruncatedSVD"]


class TruncatedSVD(Components):
    r"""Project rows, which are not centred, on the singular vectors of their largest singular values.

    As :class:`sklearn.decomposition.TruncatedSVD`, from one pass over the rows, on every backend, and exact. Memory: a
    few tiles of a block for each worker, and some matrices of n_features by n_features. Fitted attributes are float64
    whatever the dtype of `X`; ``transform`` keeps float32.

    Parameters
    ----------
    n_components : int, default=2
        How many components to keep, at most n_features.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        The right singular vectors; as many as there are rows, if these are fewer. The entry of each that is largest in
        absolute value is positive.
    explained_variance_ : ndarray of shape (n_components,)
        Variance (of the population) of the columns that ``transform`` gives.
    explained_variance_ratio_ : ndarray of shape (n_components,)
        Their share of the variance of all columns; NaN where the rows do not vary.
    singular_values_ : ndarray of shape (n_components,)
        Lengths of the columns that ``transform`` gives.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    In the second moment, :math:`X^T X = S + n m m^T`, a large mean m would drown the centred scatter S. So a small
    matrix is decomposed whose product with itself is the second moment: one row :math:`\sqrt n\, m` above the root of S
    that :class:`PCA` decomposes. Where the mean is large, the result is more exact than that of the rows themselves.

    Parameters of scikit-learn's randomised and iterative solvers (`algorithm`, `n_iter`, `n_oversamples`,
    `power_iteration_normalizer`, `random_state`, `tol`) have nothing to do here and are left out. Rows must be dense.

    References
    ----------
    G. H. Golub and C. F. Van Loan, "Matrix Computations", 4th ed. (2013), section 2.4.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.decomposition import TruncatedSVD
    >>> X = np.array([[3.0, 0.0, 4.0], [6.0, 0.0, 8.0], [0.0, 2.0, 0.0]])
    >>> TruncatedSVD(n_components=1).fit(X).singular_values_.round(6)
    array([11.18034])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, n_components: int = 2) -> None:
        self.n_components = n_components

    def _check_shape(self, n_rows: int | None, n_columns: int | None) -> None:  # noqa: ARG002  (of the base class)
        if n_columns == 1:
            raise DataError(
                f"Found array with 1 feature(s) while a minimum of 2 is required by {type(self).__name__}: one column "
                "cannot be reduced"
            )
        if n_columns is not None and self.n_components > n_columns:
            raise ValueError(f"n_components({self.n_components}) must be <= n_features({n_columns}).")

    def _set_from(self, state: ScatterState) -> None:
        n, d = state.rows, state.n_columns
        self._check_shape(n, d)
        centred = root(state.xx)
        values, axes = axes_of(np.concatenate([np.sqrt(n) * state.mean[None, :], centred]))
        k = min(self.n_components, n)
        self.components_ = axes[:k].copy()
        self.singular_values_ = np.sqrt(values[:k])
        along = centred @ self.components_.T
        self.explained_variance_ = np.sum(along * along, axis=0) / n
        with np.errstate(invalid="ignore"):
            self.explained_variance_ratio_ = self.explained_variance_ / (np.trace(state.xx) / n)

    def _row_map(self) -> RowMap | None:
        return Affine(self.components_.T)

    def _inverse_row_map(self) -> RowMap | None:
        return compose(Affine(self.components_), Rowwise(finite))
