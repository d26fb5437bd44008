"""What linear regressions share that are fitted from the scatter matrix of rows and targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import MultiOutputMixin

from ooclearn.base import Mergeable
from ooclearn.decisions import linear_scores
from ooclearn.exceptions import DataError, DataWarning, warn
from ooclearn.linear_model._least_squares import Problem, Spectrum, spectrum_of
from ooclearn.passes import Fit, Request
from ooclearn.predictors import Regressor
from ooclearn.rowmaps import RowMap
from ooclearn.statistics import Scatter, ScatterState, Statistic
from ooclearn.statistics.triangle import Triangle
from ooclearn.table import Schema
from ooclearn.types import Array

__all__ = ["LinearRegressor", "MergeableRegressor"]


class LinearRegressor(MultiOutputMixin, Regressor):
    """A linear regression of any number of targets: it predicts by one affine map."""

    _multi_output: ClassVar[bool] = True
    fit_intercept: bool
    _n_targets_: int | None

    def _meet(self, schema: Schema) -> None:
        """Take note of whether there is one target or a table of them."""
        if schema.n_targets != getattr(self, "_n_targets_", schema.n_targets):
            raise DataError(
                f"y has {_targets(schema.n_targets)}, but {type(self).__name__} was fitted to "
                f"{_targets(self._n_targets_)}; pass targets of the same shape"
            )
        self._n_targets_ = schema.n_targets

    def _set_coef(self, problem: Problem, coef: Array, dtype: np.dtype[Any], *, ravel: bool) -> None:
        """Set coefficients and intercept as scikit-learn does.

        Parameters
        ----------
        problem : Problem
            What was solved.
        coef : ndarray of shape (targets, columns)
            In float64.
        dtype : dtype
            Of X: coefficients of rows in float32 are in float32 too.
        ravel : bool
            Whether a table of one target gives coefficients of one dimension.
        """
        kept = np.dtype(np.float32 if dtype == np.float32 else np.float64)
        flat = self._n_targets_ is None
        self.coef_ = (coef + 0.0).astype(kept)  # no -0.0
        intercept = problem.intercept(self.coef_).astype(kept)
        if flat or (ravel and len(coef) == 1):
            self.coef_ = self.coef_[0]
        self.intercept_: Any = 0.0
        if self.fit_intercept:
            self.intercept_ = intercept[0] if flat else intercept

    def _method_map(self, method: str, *, n_columns: int | None, dtype: np.dtype[Any]) -> RowMap:  # noqa: ARG002  (the protocol's)
        return linear_scores(self.coef_, self.intercept_, squeeze=self.coef_.ndim == 1)


class MergeableRegressor(LinearRegressor, Mergeable):
    """A linear regression whose fit is one scatter matrix, and so has ``partial_fit`` and ``merge``.

    A subclass gives ``_solve(state)``; where solutions from products can lose digits, ``_spectrum_of(state)`` and
    ``_cutoff``, and the fit makes a second pass for a triangular factor if they do.
    """

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from more rows, in one pass over them; the result is that of one fit to all rows.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks of shape (n_samples,) or (n_samples, n_targets)
            Their targets, as many as before.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows, 0 or more.

        Returns
        -------
        self : object
            This estimator, fitted to all rows so far.
        """
        return self._grow(X, sample_weight, y)

    def merge(self, other: Self, /) -> Self:
        """Add what `other` has learned, as if `self` had been fitted to the rows of both. Reads no data.

        Parameters
        ----------
        other : estimator of the same class, fitted
            Its `n_features_in_` and the number of its targets must be the same. It is not changed.

        Returns
        -------
        self : object
            This estimator, with the rows of both.
        """
        here, there = (getattr(one, "_n_targets_", None) for one in (self, other))
        if here != there:
            raise DataError(f"y has {_targets(there)} in the other and {_targets(here)} here")
        return super().merge(other)

    def _statistic(self, schema: Schema) -> Statistic[ScatterState]:  # noqa: ARG002  (the protocol's signature)
        return Scatter(target=True)

    def _requests(self, schema: Schema) -> Sequence[Request]:
        return [self._statistic(schema)]

    def _passes(self, schema: Schema) -> Fit:
        self._meet(schema)
        state = yield self._statistic(schema)
        spectrum = self._spectrum_of(state)
        if spectrum is None or not spectrum.loses_digits(self._cutoff()):
            self._take(state, schema.dtype)
            return
        exact = yield Triangle(target=True)
        self._remember(state, schema.dtype)
        self._solve(exact, spectrum)

    def _set_from(self, state: ScatterState) -> None:
        spectrum = self._spectrum_of(state)
        if spectrum is not None and spectrum.loses_digits(self._cutoff()):
            warn(
                f"the columns nearly depend on each other (condition number {spectrum.condition:.1e}): from sums of "
                "products, which is what partial_fit and merge keep, the coefficients have few digits. Fit on all rows "
                "at once, which reads them a second time for more, or drop or combine columns",
                DataWarning,
            )
        self._solve(state, spectrum)

    def _cutoff(self) -> float:
        """Return up to which share of the largest singular values are left out of the solution."""
        return 0.0

    def _spectrum_of(self, state: ScatterState) -> Spectrum | None:
        """Return what tells how many digits a solution from products loses; None if that does not matter."""
        return spectrum_of(state)

    def _solve(self, state: Any, spectrum: Spectrum | None) -> None:
        """Set the fitted attributes from a scatter matrix or a triangular factor."""
        raise NotImplementedError(f"{type(self).__name__} must define _solve")  # a subclass's duty, not a path


def _targets(n: int | None) -> str:
    return "one dimension" if n is None else f"{n} column{'s' if n != 1 else ''}"
