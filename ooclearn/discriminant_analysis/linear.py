"""Linear discriminant analysis."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ooclearn._compat import Interval, StrOptions
from ooclearn.backend import backend_of
from ooclearn.base import gives_frames, mapped
from ooclearn.classifying import ByClassClassifier, checked_priors
from ooclearn.decisions import finite
from ooclearn.discriminant_analysis.solvers import (
    Discriminants,
    Groups,
    by_eigenvalues,
    by_singular_values,
    by_solving,
)
from ooclearn.exceptions import DataError
from ooclearn.rowmaps import Affine, Kind, RowMap, Rowwise, compose
from ooclearn.statistics import ClassScatter, ClassScatterState, Statistic
from ooclearn.table import Schema
from ooclearn.types import Array
from ooclearn.validation import checked_rows

__all__ = ["LinearDiscriminantAnalysis"]


class LinearDiscriminantAnalysis(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ByClassClassifier):
    """Classify by Gaussian densities that share one covariance, or project on the directions that separate the classes.

    As :class:`sklearn.discriminant_analysis.LinearDiscriminantAnalysis`, from one pass over the rows, on every
    backend: the means of the classes and the scatter matrix within them are all that is needed. Memory: a few tiles of
    a block for each worker, and some matrices of ``n_features`` squared; one for each class if `priors` are given and
    a covariance is asked for. Of scikit-learn's parameters, ``covariance_estimator``, which would be given all rows of
    a class, is left out.

    Parameters
    ----------
    solver : {"svd", "lsqr", "eigen"}, default="svd"
        "svd" drops directions without scatter. "lsqr" classifies only. "eigen" finds the directions with the largest
        ratio of the scatter between classes to that within. The last two take `shrinkage`.
    shrinkage : float or None, default=None
        Weight, from 0 to 1, of the mean variance times the identity in the covariance. scikit-learn's ``"auto"`` is not
        offered: it needs fourth moments of each class.
    priors : array-like of shape (n_classes,) or None, default=None
        Probabilities of the classes; by default their shares of the rows.
    n_components : int or None, default=None
        Components that ``transform`` keeps; by default all ``min(n_classes - 1, n_features)``.
    store_covariance : bool, default=False
        Compute ``covariance_`` with solver "svd" too.
    tol : float, default=1e-4
        With solver "svd", singular values up to which a direction counts as having no scatter.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    priors_ : ndarray of shape (n_classes,)
        Probabilities of the classes.
    means_ : ndarray of shape (n_classes, n_features)
        Means of the classes.
    xbar_ : ndarray of shape (n_features,)
        Mean of these, weighted by the priors; with solver "svd".
    covariance_ : ndarray of shape (n_features, n_features)
        Covariance within the classes, weighted by the priors; with solver "svd" only with `store_covariance`.
    coef_ : ndarray of shape (n_classes, n_features) or (1, n_features)
        Coefficients of the decision; one row for two classes.
    intercept_ : ndarray of shape (n_classes,) or (1,)
        Constants of the decision.
    scalings_ : ndarray of shape (n_features, rank)
        The directions that rows are projected on; not with solver "lsqr". The largest entry of each column is positive.
    explained_variance_ratio_ : ndarray of shape (n_components,)
        Share of the variance between classes in each component; not with solver "lsqr".
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    The scatter is accumulated in float64 by centred tiles, and solved on the correlation scale. Singular values are
    the square roots of its eigenvalues, so those below about 1e-8 of the largest count as zero, whatever `tol`. Sample
    weights are supported, unlike in scikit-learn; classes without any weight are left out. Fitted attributes are
    float64 whatever the dtype of `X`.

    Decisions are affine maps that subtract the centre of the classes first: behind a scaler both collapse into one
    matrix product.

    References
    ----------
    T. Hastie, R. Tibshirani and J. Friedman, "The Elements of Statistical Learning", 2nd ed. (2009), section 4.3.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.discriminant_analysis import LinearDiscriminantAnalysis
    >>> X = np.array([[-1, -1], [-2, -1], [-3, -2], [1, 1], [2, 1], [3, 2]])
    >>> y = np.array([1, 1, 1, 2, 2, 2])
    >>> model = LinearDiscriminantAnalysis().fit(X, y)
    >>> model.predict(np.array([[-0.8, -1]]))
    array([1])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "solver": [StrOptions({"svd", "lsqr", "eigen"})],
        "shrinkage": [Interval(Real, 0, 1, closed="both"), None],
        "priors": ["array-like", None],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "store_covariance": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        solver: str = "svd",
        shrinkage: float | None = None,
        priors: Any = None,
        n_components: int | None = None,
        store_covariance: bool = False,
        tol: float = 1e-4,
    ) -> None:
        self.solver = solver
        self.shrinkage = shrinkage
        self.priors = priors
        self.n_components = n_components
        self.store_covariance = store_covariance
        self.tol = tol

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.solver == "svd" and self.shrinkage is not None:
            raise ValueError("shrinkage not supported with 'svd' solver; use solver='lsqr' or 'eigen'")

    def _statistic(self, schema: Schema | None) -> Statistic[ClassScatterState]:  # noqa: ARG002  (the protocol's)
        # Covariances that are not counted by the shares of their classes must be had one by one.
        covariance = self.solver != "svd" or self.store_covariance
        return ClassScatter(pooled=self.priors is None or not covariance)

    def _merged(self, a: Any, b: Any) -> Any:
        if a.scatter.ndim != b.scatter.ndim:
            a, b = a.pooled(), b.pooled()
        return ClassScatter(pooled=a.scatter.ndim == 2).merge(a, b)

    def _set_from(self, state: ClassScatterState) -> None:
        state = state.with_weight()
        self.classes_ = state.classes
        k, n = len(state.classes), int(state.rows.sum())
        if n < 2:
            raise DataError(
                f"Found array with {n} sample(s) while a minimum of 2 is required by {type(self).__name__}: n_samples = {n}"
            )
        if n == k:
            raise ValueError("The number of samples must be more than the number of classes.")
        self.priors_ = self._priors(state)
        groups = Groups(state, self.priors_)
        limit = min(k - 1, state.n_columns)
        if self.n_components is not None and self.n_components > limit:
            raise ValueError("n_components cannot be larger than min(n_features, n_classes - 1).")
        kept = limit if self.n_components is None else self.n_components
        self.means_ = state.mean
        if self.solver != "svd" or self.store_covariance:
            if self.priors is not None and state.scatter.ndim == 2:
                raise ValueError("priors, solver and store_covariance must be set before the first partial_fit")
            self.covariance_ = groups.covariance(self.shrinkage)
        if self.solver == "svd":
            self.xbar_ = groups.center
            found = by_singular_values(groups, self.tol)
        elif self.solver == "lsqr":
            found = by_solving(groups, self.covariance_)
        else:
            found = by_eigenvalues(groups, self.covariance_, groups.total_covariance(self.shrinkage))
        self._set_decision(groups, found, kept)

    def _priors(self, state: ClassScatterState) -> Array:
        if self.priors is None:
            shares: Array = state.weight / state.total
            return shares
        priors = checked_priors(self.priors, len(state.classes))
        if abs(priors.sum() - 1.0) > 1e-5:
            warnings.warn("The priors do not sum to 1. Renormalizing", UserWarning, stacklevel=2)
            priors = priors / priors.sum()
        return priors

    def _set_decision(self, groups: Groups, found: Discriminants, kept: int) -> None:
        coef, offset = found.coef, found.offset
        whole, whole_offset = coef + found.common, offset + found.common_offset
        if len(self.classes_) == 2:
            # Differences first: what is common to both goes without rounding.
            coef, offset = coef[1:] - coef[:1], offset[1:] - offset[:1]
            whole, whole_offset = coef, offset
        self.coef_ = whole
        self.intercept_ = whole_offset - groups.center @ whole.T - groups.rest @ whole.T
        # Decisions at the centre, for rows from which that is subtracted first.
        self._center_ = groups.center
        self._scores_ = coef, offset - groups.rest @ coef.T
        self._decision_ = whole, whole_offset - groups.rest @ whole.T
        if found.scalings is not None and found.ratio is not None:
            self.scalings_ = found.scalings
            self.explained_variance_ratio_ = found.ratio[:kept]
            scalings = found.scalings[:, :kept]
            centred = self.solver == "svd"
            self._projection_ = (
                Affine(scalings, center=groups.center, offset=-(groups.rest @ scalings))
                if centred
                else Affine(scalings)
            )

    def _linear(self, weights: tuple[Array, Array], out_dtype: Any = None) -> Affine:
        coef, offset = weights
        return Affine(coef.T.copy(), self._center_, offset, squeeze=len(coef) == 1, out_dtype=out_dtype)

    def _score_map(self) -> RowMap:
        return compose(self._linear(self._scores_, np.dtype(np.float64)), Rowwise(finite))

    def _method_map(self, method: str, *, n_columns: int | None, dtype: np.dtype[Any]) -> RowMap:
        if method == "transform":
            return self._transform_map()
        if method == "decision_function":
            return compose(self._linear(self._decision_), Rowwise(finite))
        return super()._method_map(method, n_columns=n_columns, dtype=dtype)

    def _map_kind(self) -> Kind | None:
        return None if self.solver == "lsqr" else "affine"

    def _row_map(self) -> RowMap:
        if self.solver == "lsqr":
            raise AttributeError(
                "transform needs the components that solver='lsqr' does not find; use 'svd' or 'eigen'"
            )
        return self._projection_

    def _transform_map(self) -> RowMap:
        return compose(self._row_map(), Rowwise(finite))

    @property
    def _n_features_out(self) -> int:
        if hasattr(self, "_projection_"):
            return self._projection_.columns(None) or 0
        limit = min(len(self.classes_) - 1, self.coef_.shape[1])
        return limit if self.n_components is None else int(self.n_components)

    def decision_function(self, X: Any) -> Any:
        """Return a linear score of each class for each row, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples,) or (n_samples, n_classes)
            For two classes one number, the logarithm of the odds of ``classes_[1]``; else one column for each class.
        """
        return self._mapped("decision_function", X)

    def transform(self, X: Any) -> Any:
        """Project rows on the directions that separate the classes best.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_components)
            Computed at once for arrays in memory; lazily for Blocks, memory maps and Dask arrays.

        Raises
        ------
        AttributeError
            With solver "lsqr", which classifies only.
        """
        check_is_fitted(self)
        X = checked_rows(self, X, reset=False)
        framed = gives_frames(self, X)
        out = mapped(self._transform_map(), X)
        return backend_of(out).to_host(out) if framed else out
