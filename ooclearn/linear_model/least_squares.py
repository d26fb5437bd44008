"""Ordinary least squares."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from ooclearn._compat import Interval
from ooclearn.linear_model._from_scatter import MergeableRegressor
from ooclearn.linear_model._least_squares import Spectrum, least_squares, non_negative, problem_of

__all__ = ["LinearRegression"]


class LinearRegression(MergeableRegressor):
    """Linear regression by ordinary least squares.

    As :class:`sklearn.linear_model.LinearRegression`, from the scatter matrix of rows and targets: one pass over the
    rows, on every backend. Where columns nearly depend on each other, a second pass takes their triangular factor (see
    Notes). Memory: a few tiles of a block for each worker, and some matrices of n_features by n_features. Of
    scikit-learn's parameters, ``copy_X`` and ``n_jobs`` are left out: input is never written to, and the system to be
    solved is of the size of the columns.

    Parameters
    ----------
    fit_intercept : bool, default=True
        Fit an intercept; without it the rows are taken as they are, not centred.
    tol : float, default=1e-6
        Singular values of the (centred) rows up to this share of the largest count as 0, and the solution of smallest
        norm is taken.
    positive : bool, default=False
        Allow no negative coefficients.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        The coefficients: float32 for float32 rows, else float64.
    intercept_ : float or ndarray of shape (n_targets,)
        The intercept; 0.0 without `fit_intercept`.
    rank_ : int
        The number of singular values that count. Not with `positive`.
    singular_ : ndarray of shape (min(n_samples, n_features),)
        Singular values of the (centred) rows. Not with `positive`.
    condition_number_ : float
        Condition number of the correlation matrix of the columns that are not constant; infinite where columns depend
        on each other. What is solved from one pass loses as many digits as this has.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    The scatter matrix is centred block by block and factored on the correlation scale, so that columns far from 0 or of
    different scales cost no digits. If the condition number, leaving out what `tol` leaves out, exceeds 1e10, the table
    is read a second time for its triangular factor, of which the square root of the condition number is lost.
    ``explain`` shows the first pass, which is all that is known beforehand. ``partial_fit`` and ``merge`` cannot read
    again: they warn.

    References
    ----------
    T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for computing the sample variance: analysis and
    recommendations", The American Statistician 37 (1983).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.linear_model import LinearRegression
    >>> X = np.array([[1.0, 1.0], [1.0, 2.0], [2.0, 2.0], [2.0, 3.0]])
    >>> model = LinearRegression().fit(X, X @ [1.0, 2.0] + 3.0)
    >>> model.coef_.round(6).tolist(), round(float(model.intercept_), 6)
    ([1.0, 2.0], 3.0)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "fit_intercept": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "positive": ["boolean"],
    }

    def __init__(self, *, fit_intercept: bool = True, tol: float = 1e-6, positive: bool = False) -> None:
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.positive = positive

    def _cutoff(self) -> float:
        return 0.0 if self.positive else float(self.tol)

    def _solve(self, state: Any, spectrum: Spectrum | None) -> None:
        assert spectrum is not None
        problem = problem_of(state, centred=self.fit_intercept, cutoff=self._cutoff())
        if self.positive:
            coef = non_negative(problem)
        else:
            coef, self.rank_, self.singular_ = least_squares(problem, cutoff=float(self.tol))
        self.condition_number_ = spectrum.condition
        self._set_coef(problem, coef, self._dtype_, ravel=False)
