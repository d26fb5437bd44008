"""Least squares with a penalty on the squares of the coefficients."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np

from ooclearn._compat import Interval
from ooclearn.linear_model._from_scatter import MergeableRegressor
from ooclearn.linear_model._least_squares import Spectrum, non_negative, problem_of, ridge, spectrum_of
from ooclearn.statistics import ScatterState
from ooclearn.table import Schema
from ooclearn.types import Array

__all__ = ["Ridge"]


class Ridge(MergeableRegressor):
    r"""Least squares with a penalty on the squares of the coefficients.

    Minimises :math:`\sum_i w_i (y_i - x_i^T \beta - \beta_0)^2 + \alpha \|\beta\|^2` as
    :class:`sklearn.linear_model.Ridge`, from the scatter matrix of rows and targets: one pass over the rows, on every
    backend. Memory: a few tiles of a block for each worker, and some matrices of n_features by n_features. The solution
    is exact, so of scikit-learn's parameters those of its iterative solvers (``solver``, ``max_iter``, ``tol``,
    ``random_state``) are left out, and ``copy_X``, as input is never written to.

    Parameters
    ----------
    alpha : float or array-like of shape (n_targets,), default=1.0
        Strength of the penalty, for all targets or for each; 0 or more.
    fit_intercept : bool, default=True
        Fit an intercept, which is not penalised.
    positive : bool, default=False
        Allow no negative coefficients.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        The coefficients: float32 for float32 rows, else float64.
    intercept_ : float or ndarray of shape (n_targets,)
        The intercept; 0.0 without `fit_intercept`.
    n_iter_ : None
        The solution takes no iterations.
    condition_number_ : float
        Condition number of what is solved, with the smallest of the penalties and ones on the diagonal.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    If the condition number exceeds 1e10 (columns that nearly depend on each other, under next to no penalty), the table
    is read a second time for its triangular factor, of which only the square root of the condition number is lost.
    ``explain`` shows the first pass, which is all that is known beforehand. ``partial_fit`` and ``merge`` cannot read
    again: they warn.

    References
    ----------
    A. E. Hoerl and R. W. Kennard, "Ridge regression: biased estimation for nonorthogonal problems", Technometrics 12
    (1970).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.linear_model import Ridge
    >>> X = np.array([[0.0], [1.0], [2.0]])
    >>> model = Ridge(alpha=2.0).fit(X, np.array([0.0, 2.0, 4.0]))
    >>> model.coef_.round(6).tolist(), round(float(model.intercept_), 6)
    ([1.0], 1.0)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "alpha": [Interval(Real, 0, None, closed="left"), "array-like"],
        "fit_intercept": ["boolean"],
        "positive": ["boolean"],
    }

    def __init__(self, alpha: Any = 1.0, *, fit_intercept: bool = True, positive: bool = False) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.positive = positive

    def _meet(self, schema: Schema) -> None:
        super()._meet(schema)
        self._penalties(schema.n_targets or 1)

    def _penalties(self, n_targets: int) -> Array:
        """Return the penalty of each target."""
        alpha = np.asarray(self.alpha, dtype=np.float64).reshape(-1)
        if len(alpha) not in {1, n_targets}:
            raise ValueError(
                f"Number of targets and number of penalties do not correspond: y has {n_targets} targets and alpha "
                f"{len(alpha)} values; expected one for all or one for each"
            )
        if not np.all(np.isfinite(alpha) & (alpha >= 0)):
            raise ValueError("alpha has negative or infinite entries or NaN; expected penalties of 0 or more")
        out: Array = np.broadcast_to(alpha, (n_targets,))
        return out

    def _spectrum_of(self, state: ScatterState) -> Spectrum:
        return spectrum_of(state, float(self._penalties(state.n_targets).min()))

    def _solve(self, state: Any, spectrum: Spectrum | None) -> None:
        assert spectrum is not None
        penalties = self._penalties(state.n_targets)
        problem = problem_of(state, centred=self.fit_intercept)
        coef = non_negative(problem, penalties) if self.positive else ridge(problem, penalties)
        self.n_iter_ = None
        self.condition_number_ = spectrum.condition
        self._set_coef(problem, coef, self._dtype_, ravel=True)
