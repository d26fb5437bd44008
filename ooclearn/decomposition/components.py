"""What decompositions share: rows times components, and the covariance that components stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils.validation import check_is_fitted

from ooclearn.base import MergeableTransformer
from ooclearn.decisions import finite
from ooclearn.exceptions import DataError
from ooclearn.passes import Fit, Request
from ooclearn.rowmaps import Affine, Kind, RowMap, Rowwise, compose
from ooclearn.spectral import axes_of_product, axes_of_scatter
from ooclearn.statistics import Scatter, ScatterState, Statistic
from ooclearn.table import Schema
from ooclearn.types import Array

__all__ = ["Components", "PrincipalComponents"]


class Components(ClassNamePrefixFeaturesOutMixin, MergeableTransformer):
    """Rows times the transpose of ``components_``, which one scatter matrix gives."""

    components_: Array

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002  (scikit-learn's signature)
        """Find the components, in one pass.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : None
            Not used.

        Returns
        -------
        self : object
            This transformer, fitted.

        Raises
        ------
        NonFiniteError
            A cell is missing or infinite; the message says where.
        ValueError
            There are fewer rows or columns than `n_components`.
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
            This transformer, fitted to all rows so far.
        """
        return self._grow(X)

    def _check_shape(self, n_rows: int | None, n_columns: int | None) -> None:
        """Refuse tables that have too few rows or columns, as far as that is known."""

    def _check(self, schema: Schema) -> None:
        if schema.weighted:
            raise TypeError(f"{type(self).__name__}.fit() got an unexpected keyword argument 'sample_weight'")
        self._check_shape(schema.n_rows, schema.n_columns)

    def _requests(self, schema: Schema) -> Sequence[Request]:
        self._check(schema)
        return super()._requests(schema)

    def _passes(self, schema: Schema) -> Fit:
        self._check(schema)
        yield from super()._passes(schema)

    def _statistic(self, schema: Schema) -> Statistic[ScatterState]:  # noqa: ARG002  (the protocol's signature)
        return Scatter()

    @property
    def _n_features_out(self) -> int:
        return int(self.components_.shape[0])

    def _map_kind(self) -> Kind | None:
        return "affine"

    def _transform_map(self) -> RowMap | None:
        # Behind the map, where there are fewer columns to look at.
        return compose(self._row_map(), Rowwise(finite))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class PrincipalComponents(Components):
    """Components of centred rows, and the Gaussian model of Tipping and Bishop that they stand for."""

    whiten: bool
    explained_variance_: Array
    mean_: Array
    n_components_: int
    noise_variance_: float

    def _check_shape(self, n_rows: int | None, n_columns: int | None) -> None:  # noqa: ARG002  (of the base class)
        if n_rows == 1:
            raise DataError(
                f"Found array with 1 sample(s) (n_samples=1) while a minimum of 2 is required by {type(self).__name__}: "
                "one row has no variance"
            )

    def _set_axes(self, state: ScatterState, *, squared: bool = False) -> tuple[Array, Array]:
        """Set the mean; return the variances along all axes that there can be, and all axes."""
        n, d = state.rows, state.n_columns
        self._check_shape(n, d)
        self.mean_ = state.mean.copy()
        values, axes = axes_of_product(state.xx) if squared else axes_of_scatter(state.xx)
        return values[: min(n, d)] / (n - 1), axes

    def _keep(self, k: int, variance: Array, axes: Array, n: int) -> None:
        """Set what depends on how many components are kept."""
        # NaN, where the rows do not vary at all.
        with np.errstate(invalid="ignore"):
            ratio = variance / np.sum(variance)
        self.n_components_ = k
        self.components_ = axes[:k].copy()
        self.explained_variance_ = variance[:k].copy()
        self.explained_variance_ratio_ = ratio[:k]
        self.singular_values_ = np.sqrt(variance[:k] * (n - 1))
        self.noise_variance_ = float(np.mean(variance[k:])) if k < len(variance) else 0.0

    def _row_map(self) -> RowMap | None:
        axes = self.components_.T
        if self.whiten:
            # What does not vary stays at zero, rather than becoming noise of the size of the others.
            there = self._varies(self.explained_variance_)
            axes = axes * np.where(there, 1.0 / np.sqrt(np.where(there, self.explained_variance_, 1.0)), 0.0)
        return Affine(axes, center=self.mean_)

    def _inverse_row_map(self) -> RowMap | None:
        axes = self.components_
        if self.whiten:
            axes = axes * np.sqrt(self.explained_variance_)[:, None]
        return compose(Affine(axes, offset=self.mean_), Rowwise(finite))

    def _varies(self, variance: Array) -> Array:
        """Return which variances are more than the rounding of a standard deviation."""
        size = self.components_.shape[1] * np.finfo(np.float64).eps
        out: Array = variance > size * size * np.max(self.explained_variance_, initial=self.noise_variance_)
        return out

    def get_covariance(self) -> Array:
        """Return the covariance of the probabilistic model.

        ``components_.T @ diag(explained_variance_ - noise_variance_) @ components_ + noise_variance_ *
        eye(n_features)``, whether the rows are whitened or not.

        Returns
        -------
        ndarray of shape (n_features, n_features)
            The covariance, in float64.
        """
        check_is_fitted(self)
        over = np.maximum(self.explained_variance_ - self.noise_variance_, 0.0)
        out: Array = (self.components_.T * over) @ self.components_
        out[np.diag_indices_from(out)] += self.noise_variance_
        return out

    def get_precision(self) -> Array:
        """Return the inverse of the covariance of the probabilistic model.

        Returns
        -------
        ndarray of shape (n_features, n_features)
            The precision, in float64.

        Raises
        ------
        numpy.linalg.LinAlgError
            The covariance is singular.
        """
        check_is_fitted(self)
        half, _ = self._precision_root()
        out: Array = half @ half.T
        return out

    def _precision_root(self) -> tuple[Array, float]:
        """Return L with ``L @ L.T`` the precision, and the logarithm of its determinant."""
        k, d = self.components_.shape
        variance = np.full(d, self.noise_variance_)
        variance[:k] = np.maximum(self.explained_variance_, self.noise_variance_)
        singular = int(d - np.sum(self._varies(variance)))
        if singular:
            raise np.linalg.LinAlgError(
                f"Singular matrix: the covariance of the model has no variance along {singular} of {d} directions "
                f"(n_components_={k}, noise_variance_={self.noise_variance_:.3g}), so it has no inverse; fit to more "
                "rows, or keep fewer components so that the others make a noise variance"
            )
        axes = self.components_.T
        if k < d:
            # The directions that are left, whatever they are: the noise is the same along all of them.
            axes = np.concatenate([axes, np.linalg.qr(axes, mode="complete")[0][:, k:]], axis=1)
        return axes / np.sqrt(variance), -float(np.sum(np.log(variance)))
