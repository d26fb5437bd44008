"""Generalised linear models: Poisson, gamma and Tweedie regression."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from ooclearn._compat import Interval, StrOptions
from ooclearn._namespace import namespace
from ooclearn.decisions import finite, linear
from ooclearn.exceptions import DataError
from ooclearn.linear_model._deviance import Deviance
from ooclearn.linear_model._loss_sums import InDomain, LossSums
from ooclearn.linear_model._losses import Tweedie
from ooclearn.linear_model._solvers import SOLVERS, Point, Problem, column_scale, newton_step
from ooclearn.passes import Fit, Request
from ooclearn.plan import Repeated
from ooclearn.predictors import Regressor
from ooclearn.rowmaps import RowMap, Rowwise, compose
from ooclearn.statistics import Join, Scatter, ScatterState
from ooclearn.table import Schema
from ooclearn.types import Array

__all__ = ["GammaRegressor", "PoissonRegressor", "TweedieRegressor"]

POISSON = Tweedie(1.0, log=True, name="HalfPoissonLoss")
GAMMA = Tweedie(2.0, log=True, name="HalfGammaLoss")


class _GeneralizedLinearRegressor(Regressor):
    """What generalised linear models share: the fit by blocks, predictions, and the share of deviance explained."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "alpha": [Interval(Real, 0.0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "solver": [StrOptions({"newton-cholesky", "lbfgs"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0.0, None, closed="neither")],
        "warm_start": ["boolean"],
    }

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        fit_intercept: bool = True,
        solver: str = "newton-cholesky",
        max_iter: int = 100,
        tol: float = 1e-4,
        warm_start: bool = False,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start

    def _loss(self) -> Tweedie:
        """Return the loss of a row."""
        return POISSON

    def _first(self) -> Join:
        """Return what the first pass is asked for."""
        return Join(targets=InDomain(self._loss()), columns=Scatter(target=True))

    def _requests(self, schema: Schema) -> Sequence[Request]:  # noqa: ARG002  (the same for every table)
        return [self._first(), Repeated(LossSums(self._loss(), np.zeros(0), ()), 2 * self.max_iter + 1)]

    def _passes(self, schema: Schema) -> Fit:
        state: ScatterState = (yield self._first())["columns"]
        if not state.weight:
            raise DataError(f"all of the {state.rows:,} sample weights are zero; expected at least one above 0")
        variance = np.diagonal(state.xx) / state.weight
        center = state.x_mean + state.rest[: state.n_columns]
        if not self.fit_intercept:
            variance, center = variance + center**2, np.zeros_like(center)
        problem = Problem(
            self._loss(),
            center,
            column_scale(variance, state.x_mean),
            float(state.weight),
            float(self.alpha),
            self.fit_intercept,
            self.tol,
            self.max_iter,
            state.rounding,
            float(np.finfo(schema.dtype).eps) if schema.dtype.kind == "f" else float(np.finfo(np.float64).eps),
        )
        learned = getattr(self, "_learned", {}) if self.warm_start else {}
        if "coef_" in learned:
            point, step = problem.resumed(learned["coef_"], learned["intercept_"]), None
        else:
            point, step = self._start(problem, state)
        solved = yield from SOLVERS[self.solver](problem, point, step)
        coef, intercept = problem.model(solved.v)
        self.coef_ = coef[0]
        self.intercept_ = float(intercept[0])
        self.n_iter_ = solved.n_iter

    def _start(self, problem: Problem, state: ScatterState) -> tuple[Point, Array | None]:
        """Return the model that predicts the mean for every row, with its derivatives, and the first step.

        They follow from the scatter matrix: the objective and its gradient are exact, the Hessian is expected.
        Without an intercept the search starts from coefficients of 0, which are looked at first.
        """
        loss, d = problem.loss, state.n_columns
        assert isinstance(loss, Tweedie)
        v = np.zeros(problem.shape)
        mean = float(state.y_mean[0])
        if not self.fit_intercept:
            if not loss.log and loss.power != 0:
                # A mean of 0 has no deviance: least squares gives a first guess.
                moment = state.xx / state.weight + np.outer(state.x_mean, state.x_mean)
                cross = state.xy[:, 0] / state.weight + state.x_mean * mean
                v[0, :d] = np.linalg.lstsq(moment, cross, rcond=None)[0] * problem.scale
            return Point(v, np.inf), None
        if mean <= 0 and (loss.log or loss.power != 0):
            raise DataError(
                "the mean of y is not above 0, and so no mean that this model can predict; expected targets with a mean "
                "above 0",
                part="y",
            )
        v[0, -1] = loss.link(mean)
        slope = loss.slope_of_null(mean)
        curve = max(loss.curvature_of_null(mean), np.finfo(np.float64).tiny)
        gradient = np.append(-slope * state.xy[:, 0], 0.0)[None] / state.weight
        point = Point(v, loss.null(mean, float(state.yy[0, 0]) / state.weight), problem.sloped(gradient, v))
        spread = np.append(np.diagonal(state.xx) / state.weight, 1.0)
        if self.solver == "lbfgs":
            point.diagonal = problem.diagonal(curve * spread[None])
            return point, None
        hessian = np.zeros((d + 1, d + 1))
        hessian[:d, :d] = state.xx / state.weight
        hessian[d, d] = 1.0
        point.hessian = problem.curved(curve * hessian[None, :, None, :])
        return point, newton_step(point, problem)

    def _method_map(self, method: str, *, n_columns: int | None, dtype: np.dtype[Any]) -> RowMap:  # noqa: ARG002  (the protocol's)
        raw = linear(self.coef_[None], self.intercept_, squeeze=True)
        return compose(raw, Rowwise(_means if self._loss().log else finite, n_columns=None, out_dtype="float"))

    def _score_statistic(self, predict: RowMap) -> Deviance:
        """Return what :meth:`score` asks for; its state gives the score."""
        return Deviance(predict, self._loss())

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return D^2, the share of the deviance that the predictions for `X` explain, in one pass.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.
        y : array-like or Blocks of shape (n_samples,)
            The true targets.
        sample_weight : array-like or Blocks of shape (n_samples,), optional
            Weights of the rows, 0 or more.

        Returns
        -------
        float
            At best 1; 0 for predicting the mean, and less for predicting worse than that.
        """
        return super().score(X, y, sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = self._positive()
        return tags

    def _positive(self) -> bool:
        return self._loss().power > 0


class PoissonRegressor(_GeneralizedLinearRegressor):
    r"""Poisson regression: a generalised linear model with the logarithm as link.

    As :class:`sklearn.linear_model.PoissonRegressor`: it minimises

    .. math:: \frac{1}{\sum_i w_i} \sum_i w_i \tfrac12 d(y_i, \hat y_i) + \tfrac{\alpha}{2} \lVert \text{coef} \rVert^2

    with the deviance `d`; the intercept is not penalised. Targets must be 0 or more. Passes over the data: one for the
    scatter of columns and target, which gives the first step, and then one for each further step, most often 3 to 6.
    Each of them sums loss, gradient and Hessian by blocks, and the loss at smaller steps too, so that a line search
    reads nothing extra. Memory: a few tiles of a block for each worker, and a matrix of n_features by n_features. Of
    scikit-learn's parameters, ``verbose`` is left out.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty, 0 or more; 0 is none.
    fit_intercept : bool, default=True
        Add a constant to the linear predictor.
    solver : {'newton-cholesky', 'lbfgs'}, default='newton-cholesky'
        Both reach the same optimum. Newton's method takes the fewest passes, and so is the default here
        (scikit-learn's is "lbfgs"). Where columns almost depend on one another (singular values a million times apart),
        the gradient is below `tol` far from the optimum, and "lbfgs" stops there, here as in scikit-learn.
    max_iter : int, default=100
        The most steps.
    tol : float, default=1e-4
        Stop when no entry of the gradient of the objective, in columns of unit variance, is larger, and for
        "newton-cholesky" a further step promises no larger gain.
    warm_start : bool, default=False
        Start from the solution of the previous fit.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Coefficients of the linear predictor, in float64 whatever the dtype of `X`.
    intercept_ : float
        Its constant; 0 without `fit_intercept`.
    n_iter_ : int
        Steps taken.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    References
    ----------
    P. McCullagh and J. A. Nelder, "Generalized Linear Models", 2nd ed. (1989).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.linear_model import PoissonRegressor
    >>> model = PoissonRegressor(alpha=0.0).fit(np.array([[0.0], [0.0], [1.0]]), [1.0, 3.0, 4.0])
    >>> model.predict(np.array([[0.0], [1.0]])).round(6)
    array([2., 4.])
    """


class GammaRegressor(_GeneralizedLinearRegressor):
    """Gamma regression: a generalised linear model with the logarithm as link.

    As :class:`sklearn.linear_model.GammaRegressor`; the objective is that of :class:`PoissonRegressor`, with the
    deviance of the gamma distribution. Targets must be above 0. Passes over the data: one for the first step, and one
    for each further step, most often 3 to 6. Memory: a few tiles of a block for each worker, and a matrix of n_features
    by n_features. Of scikit-learn's parameters, ``verbose`` is left out.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty on the squares of the coefficients, 0 or more; 0 is none.
    fit_intercept : bool, default=True
        Add a constant, which is not penalised, to the linear predictor.
    solver : {'newton-cholesky', 'lbfgs'}, default='newton-cholesky'
        Both reach the same optimum. Newton's method takes the fewest passes, and so is the default here
        (scikit-learn's is "lbfgs").
    max_iter : int, default=100
        The most steps.
    tol : float, default=1e-4
        Stop when no entry of the gradient of the objective, in columns of unit variance, is larger, and for
        "newton-cholesky" a further step promises no larger gain.
    warm_start : bool, default=False
        Start from the solution of the previous fit.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Coefficients of the linear predictor, in float64 whatever the dtype of `X`.
    intercept_ : float
        Its constant; 0 without `fit_intercept`.
    n_iter_ : int
        Steps taken.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    References
    ----------
    P. McCullagh and J. A. Nelder, "Generalized Linear Models", 2nd ed. (1989).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.linear_model import GammaRegressor
    >>> model = GammaRegressor(alpha=0.0).fit(np.array([[0.0], [0.0], [1.0]]), [1.0, 3.0, 4.0])
    >>> model.predict(np.array([[0.0], [1.0]])).round(6)
    array([2., 4.])
    """

    def _loss(self) -> Tweedie:
        return GAMMA


class TweedieRegressor(_GeneralizedLinearRegressor):
    """Regression by a generalised linear model with a Tweedie distribution.

    As :class:`sklearn.linear_model.TweedieRegressor`; the objective is that of :class:`PoissonRegressor`, with the
    deviance of the distribution that `power` chooses. Passes over the data: one for the first step, and one for each
    further step, most often 3 to 6. Memory: a few tiles of a block for each worker, and a matrix of n_features by
    n_features. Of scikit-learn's parameters, ``verbose`` is left out.

    Parameters
    ----------
    power : float, default=0.0
        The variance of a target grows with its mean to this power: 0 is normal, 1 Poisson, between 1 and 2 compound
        Poisson-gamma, 2 gamma, 3 inverse Gaussian. Targets must be 0 or more if it is above 0, and above 0 from 2 on.
    alpha : float, default=1.0
        Strength of the penalty on the squares of the coefficients, 0 or more; 0 is none.
    fit_intercept : bool, default=True
        Add a constant, which is not penalised, to the linear predictor.
    link : {'auto', 'identity', 'log'}, default='auto'
        What of the mean is linear: "identity" the mean itself, "log" its logarithm; "auto" is "identity" for a power of
        0 or less, and "log" otherwise.
    solver : {'newton-cholesky', 'lbfgs'}, default='newton-cholesky'
        Both reach the same optimum. Newton's method takes the fewest passes, and so is the default here
        (scikit-learn's is "lbfgs").
    max_iter : int, default=100
        The most steps.
    tol : float, default=1e-4
        Stop when no entry of the gradient of the objective, in columns of unit variance, is larger, and for
        "newton-cholesky" a further step promises no larger gain.
    warm_start : bool, default=False
        Start from the solution of the previous fit.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Coefficients of the linear predictor, in float64 whatever the dtype of `X`.
    intercept_ : float
        Its constant; 0 without `fit_intercept`.
    n_iter_ : int
        Steps taken.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    References
    ----------
    B. Jorgensen, "Exponential dispersion models", Journal of the Royal Statistical Society B 49 (1987).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.linear_model import TweedieRegressor
    >>> model = TweedieRegressor(power=1.5, alpha=0.0).fit(np.array([[0.0], [0.0], [1.0]]), [1.0, 3.0, 4.0])
    >>> model.predict(np.array([[0.0], [1.0]])).round(6)
    array([2., 4.])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **_GeneralizedLinearRegressor._parameter_constraints,
        "power": [Interval(Real, None, None, closed="neither")],
        "link": [StrOptions({"auto", "identity", "log"})],
    }

    def __init__(
        self,
        *,
        power: float = 0.0,
        alpha: float = 1.0,
        fit_intercept: bool = True,
        link: str = "auto",
        solver: str = "newton-cholesky",
        max_iter: int = 100,
        tol: float = 1e-4,
        warm_start: bool = False,
    ) -> None:
        super().__init__(
            alpha=alpha, fit_intercept=fit_intercept, solver=solver, max_iter=max_iter, tol=tol, warm_start=warm_start
        )
        self.power = power
        self.link = link

    def _loss(self) -> Tweedie:
        log = self.power > 0 if self.link == "auto" else self.link == "log"
        return Tweedie(float(self.power), log, "HalfTweedieLoss" if log else "HalfTweedieLossIdentity")

    def _positive(self) -> bool:
        # Asked of estimators whose parameters are not checked yet.
        return isinstance(self.power, Real) and self.power > 0


def _means(raw: Array) -> Array:
    return namespace(raw).exp(finite(raw))
