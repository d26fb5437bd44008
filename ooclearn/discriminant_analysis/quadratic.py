"""Quadratic discriminant analysis."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np

from ooclearn._compat import Interval, StrOptions
from ooclearn.classifying import ByClassClassifier, checked_priors
from ooclearn.discriminant_analysis.solvers import covariances_of, shrunk
from ooclearn.quadratics import Quadratics
from ooclearn.rowmaps import RowMap, Rowwise
from ooclearn.spectral import axes_of_scatter
from ooclearn.statistics import ClassScatter, ClassScatterState, Statistic
from ooclearn.table import Schema
from ooclearn.types import Array

__all__ = ["QuadraticDiscriminantAnalysis"]


class QuadraticDiscriminantAnalysis(ByClassClassifier):
    """Classify by Gaussian densities, one for each class, each with its own covariance.

    As :class:`sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis`, from one pass over the rows, on every
    backend. Memory: a few tiles of a block for each worker, and a matrix of ``n_features`` squared for each class. Of
    scikit-learn's parameters, ``covariance_estimator``, which would be given all rows of a class, is left out.

    Parameters
    ----------
    solver : {"svd", "eigen"}, default="svd"
        "svd" takes `reg_param`, "eigen" takes `shrinkage`.
    shrinkage : float or None, default=None
        Weight, from 0 to 1, of the mean variance times the identity in each covariance. scikit-learn's ``"auto"`` is
        not offered: it needs fourth moments of each class.
    priors : array-like of shape (n_classes,) or None, default=None
        Probabilities of the classes; by default their shares of the rows.
    reg_param : float, default=0.0
        Weight, from 0 to 1, of the identity in each covariance. A class with fewer rows than columns
        is an error all the same, as in scikit-learn; "eigen" with `shrinkage` takes it.
    store_covariance : bool, default=False
        Keep ``covariance_``.
    tol : float, default=1e-4
        Variances up to which a direction counts as having none; a class with such a direction is an error.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    priors_ : ndarray of shape (n_classes,)
        Probabilities of the classes.
    means_ : ndarray of shape (n_classes, n_features)
        Means of the classes.
    covariance_ : list of ndarray of shape (n_features, n_features)
        Covariance of each class; only with `store_covariance`.
    rotations_ : list of ndarray of shape (n_features, n_features)
        Principal axes of each class, as columns. The largest entry of each is positive.
    scalings_ : list of ndarray of shape (n_features,)
        Variances along these axes.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    Sample weights are supported, unlike in scikit-learn; classes without any weight are left out. Fitted attributes are
    float64 whatever the dtype of `X`.

    References
    ----------
    T. Hastie, R. Tibshirani and J. Friedman, "The Elements of Statistical Learning", 2nd ed. (2009), section 4.3.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.discriminant_analysis import QuadraticDiscriminantAnalysis
    >>> X = np.array([[-1, -1], [-2, -1], [-3, -2], [1, 1], [2, 1], [3, 2]])
    >>> y = np.array([1, 1, 1, 2, 2, 2])
    >>> QuadraticDiscriminantAnalysis().fit(X, y).predict(np.array([[-0.8, -1]]))
    array([1])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "solver": [StrOptions({"svd", "eigen"})],
        "shrinkage": [Interval(Real, 0, 1, closed="both"), None],
        "priors": ["array-like", None],
        "reg_param": [Interval(Real, 0, 1, closed="both")],
        "store_covariance": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        solver: str = "svd",
        shrinkage: float | None = None,
        priors: Any = None,
        reg_param: float = 0.0,
        store_covariance: bool = False,
        tol: float = 1e-4,
    ) -> None:
        self.solver = solver
        self.shrinkage = shrinkage
        self.priors = priors
        self.reg_param = reg_param
        self.store_covariance = store_covariance
        self.tol = tol

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.solver == "svd" and self.shrinkage is not None:
            raise ValueError("shrinkage not supported with 'svd' solver; use reg_param, or solver='eigen'")

    def _statistic(self, schema: Schema | None) -> Statistic[ClassScatterState]:  # noqa: ARG002  (the protocol's)
        return ClassScatter()

    def _set_from(self, state: ClassScatterState) -> None:
        state = state.with_weight()
        self.classes_ = state.classes
        k = len(state.classes)
        if k < 2:
            raise ValueError(f"The number of classes has to be greater than one. Got {k} class.")
        lone = state.rows == 1
        if lone.any():
            raise ValueError(f"y has only 1 sample in class {state.classes[lone][0]}, covariance is ill defined.")
        shares: Array = state.weight / state.total
        self.priors_ = shares if self.priors is None else checked_priors(self.priors, k)
        self.means_ = state.mean
        self.scalings_: list[Array] = []
        self.rotations_: list[Array] = []
        covariances = covariances_of(state)
        if self.solver == "eigen":
            covariances = shrunk(covariances, self.shrinkage)
        for i, covariance in enumerate(covariances):
            variances, axes = axes_of_scatter(covariance)
            if self.solver == "svd":
                variances = (1.0 - self.reg_param) * variances + self.reg_param
            self._refuse_flat(state, i, variances)
            self.scalings_.append(variances)
            self.rotations_.append(axes.T)
        if self.store_covariance:
            regular = self.reg_param if self.solver == "svd" else 0.0
            self.covariance_ = [
                (1.0 - regular) * one + regular * np.eye(state.n_columns) if regular else one for one in covariances
            ]

    def _refuse_flat(self, state: ClassScatterState, i: int, variances: Array) -> None:
        """Raise, in scikit-learn's words, if a class has no extent in some direction."""
        d, n = state.n_columns, int(state.rows[i])
        # Its "svd" knows no variances but those along as many directions as there are rows: `reg_param` adds no others.
        rank = np.sum(variances > self.tol)
        if (min(rank, n) if self.solver == "svd" else rank) >= d:
            return
        text = f"The covariance matrix of class {state.classes[i]} is not full rank. "
        if self.solver == "svd" and n <= d:
            raise np.linalg.LinAlgError(
                f"{text}When using `solver='svd'` the number of samples in each class should be more than the number of "
                f"features, but class {state.classes[i]} has {n} samples and {d} features. Try using `solver='eigen'` "
                "and setting the parameter `shrinkage` for regularization."
            )
        name = "shrinkage" if self.solver == "eigen" else "reg_param"
        raise np.linalg.LinAlgError(f"{text}Increase the value of `{name}` to reduce the collinearity.")

    def _score_map(self) -> RowMap:
        roots = [axes / np.sqrt(variances) for axes, variances in zip(self.rotations_, self.scalings_, strict=True)]
        logs = np.array([np.sum(np.log(variances)) for variances in self.scalings_])
        with np.errstate(divide="ignore"):
            constants = np.log(self.priors_) - logs / 2
        k = len(self.classes_)
        scores = Quadratics(self.means_, roots, constants, ahead=k == 2)
        return Rowwise(scores, n_columns=None if k == 2 else k, out_dtype=np.float64)

    def decision_function(self, X: Any) -> Any:
        """Return the logarithm of the joint probability of each class, but for a constant, by blocks, in parallel.

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
