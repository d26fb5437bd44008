"""Ridge regression that chooses its penalty."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from ooclearn._compat import Interval
from ooclearn.exceptions import DataError
from ooclearn.linear_model._folds import FoldScatter, held_out_scores
from ooclearn.linear_model._from_scatter import LinearRegressor
from ooclearn.linear_model._least_squares import Problem, problem_of, ridge, spectrum_of
from ooclearn.linear_model._left_out import LeftOut, Model
from ooclearn.passes import Fit, Request
from ooclearn.statistics import Scatter
from ooclearn.statistics.triangle import Triangle
from ooclearn.table import Schema
from ooclearn.types import Array

__all__ = ["RidgeCV"]


class RidgeCV(LinearRegressor):
    r"""Ridge regression whose penalty is chosen by cross-validation, all penalties from the same passes.

    As :class:`sklearn.linear_model.RidgeCV`, to the same numbers. With folds (``cv=5``): one pass takes the scatter
    matrix of each, from which the regressions on all other folds follow, and their errors on the fold. Leaving out one
    row at a time (``cv=None``): two passes, the first for the scatter matrix, the second sums the squared errors that
    the regression for each penalty makes on each row when fitted to all others. Memory: a few tiles of a block for each
    worker, and some matrices of n_features by n_features, one of them for each fold.

    Of scikit-learn's parameters, ``gcv_mode`` is left out, as there is one way to do it here; ``store_cv_results``, as
    it keeps numbers of every row; and ``scoring``: it is what scikit-learn's None means.

    Parameters
    ----------
    alphas : float or array-like of shape (n_alphas,), default=(0.1, 1.0, 10.0)
        The penalties to try, each above 0.
    fit_intercept : bool, default=True
        Fit an intercept, which is not penalised.
    cv : int or None, default=None
        The number of folds, runs of consecutive rows as in :class:`sklearn.model_selection.KFold`; None to leave out
        one row at a time. Other ways to split need the rows at hand: use :class:`sklearn.model_selection.GridSearchCV`.
    alpha_per_target : bool, default=False
        Choose a penalty for each target, rather than one for all; with ``cv=None``.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
        The coefficients: float32 for float32 rows, else float64.
    intercept_ : float or ndarray of shape (n_targets,)
        The intercept; 0.0 without `fit_intercept`.
    alpha_ : float or ndarray of shape (n_targets,)
        The penalty that was chosen.
    best_score_ : float or ndarray of shape (n_targets,)
        What was best with that penalty: minus the mean squared error of leaving out one row, or, of folds, the mean of
        :math:`R^2`.
    condition_number_ : float
        Condition number of what is solved, with the smallest of the penalties and ones on the diagonal.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    If the condition number exceeds 1e10, one more pass takes the triangular factor of the rows, as for :class:`Ridge`.
    Weights count in the fits and in the scores. In a pipeline, the steps before are fitted to all rows, held out or
    not, as with scikit-learn's. A penalty so small that the fit goes through a row whatever its target is refused with
    ``cv=None``: rounding alone would be its score.

    References
    ----------
    R. M. Rifkin and R. A. Lippert, "Notes on regularized least squares", MIT-CSAIL-TR-2007-025 (2007).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.linear_model import RidgeCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((100, 5))
    >>> float(RidgeCV(alphas=[0.1, 10.0, 1000.0]).fit(X, X[:, 0] + rng.standard_normal(100)).alpha_)
    10.0
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "alphas": ["array-like", Interval(Real, 0, None, closed="neither")],
        "fit_intercept": ["boolean"],
        "cv": [None, Interval(Integral, 2, None, closed="left")],
        "alpha_per_target": ["boolean"],
    }

    def __init__(
        self,
        alphas: Any = (0.1, 1.0, 10.0),
        *,
        fit_intercept: bool = True,
        cv: int | None = None,
        alpha_per_target: bool = False,
    ) -> None:
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.alpha_per_target = alpha_per_target

    def _requests(self, schema: Schema) -> Sequence[Request]:
        return [Scatter(target=True), LeftOut()] if self.cv is None else [FoldScatter.of_rows(schema.n_rows, self.cv)]

    def _passes(self, schema: Schema) -> Fit:
        self._meet(schema)
        alphas = self._checked_alphas()
        if self.cv is None:
            state = folds = yield Scatter(target=True)
        else:
            if self.alpha_per_target:
                raise ValueError("cv!=None and alpha_per_target=True are incompatible")
            folds = yield FoldScatter.of_rows(schema.n_rows, self.cv)
            state = folds.all()
        spectrum = spectrum_of(state, float(alphas.min()))
        if spectrum.loses_digits():
            state = yield Triangle(target=True)
        problem = problem_of(state, centred=self.fit_intercept)
        if self.cv is None:
            if state.rows < 2:
                raise DataError("leaving out one row takes more than one sample, got n_samples = 1")
            errors = yield LeftOut(_model(problem, alphas, centred=self.fit_intercept))
            self._choose(alphas, -errors.squares / errors.rows)
        else:
            self._choose(alphas, held_out_scores(folds, alphas, centred=self.fit_intercept).mean(axis=0)[:, None])
        penalties = np.broadcast_to(np.asarray(self.alpha_), (problem.b.shape[1],))
        self.condition_number_ = spectrum.condition
        self._set_coef(problem, ridge(problem, penalties), schema.dtype, ravel=True)

    def _choose(self, alphas: Array, scores: Array) -> None:
        """Set the best penalty and its score; `scores` is of shape (penalties, targets)."""
        if self.alpha_per_target and self._n_targets_ is not None:
            best = np.argmax(scores, axis=0)
            self.alpha_: Any = alphas[best] if len(best) > 1 else float(alphas[best[0]])
            self.best_score_: Any = scores[best, np.arange(len(best))]
            return
        means = np.mean(scores, axis=1)
        chosen = int(np.argmax(means))
        self.alpha_, self.best_score_ = float(alphas[chosen]), means[chosen]

    def _checked_alphas(self) -> Array:
        alphas = np.asarray(self.alphas, dtype=np.float64).reshape(-1)
        if not len(alphas):
            raise ValueError("alphas is empty; expected at least one penalty to try")
        for index, alpha in enumerate(alphas):
            if not (np.isfinite(alpha) and alpha > 0):
                name = "alphas" if len(alphas) == 1 else f"alphas[{index}]"
                raise ValueError(f"{name} == {alpha}, must be > 0.0.")
        return alphas


def _model(problem: Problem, alphas: Array, *, centred: bool) -> Model:
    left, singular, right = np.linalg.svd(problem.A, full_matrices=False)
    b = left.T @ problem.b
    share = 1.0 / (singular[:, None] ** 2 + alphas)
    coef = (share * singular[:, None])[:, :, None] * b[:, None, :]
    means = problem.x_mean.astype(np.float64), problem.y_mean.astype(np.float64)
    return Model(*means, right.T, coef, share, 1.0 / problem.weight if centred else 0.0)
