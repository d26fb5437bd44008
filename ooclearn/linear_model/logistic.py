"""Logistic regression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from ooclearn._compat import Interval, StrOptions
from ooclearn._namespace import namespace
from ooclearn.decisions import finite
from ooclearn.exceptions import DataError
from ooclearn.labels import classes_from
from ooclearn.linear_model._linear_classifier import LinearClassifier
from ooclearn.linear_model._loss_sums import LossSums
from ooclearn.linear_model._losses import Binomial, Multinomial
from ooclearn.linear_model._solvers import SOLVERS, Point, Problem, column_scale, newton_step
from ooclearn.passes import Fit, Request
from ooclearn.plan import Repeated
from ooclearn.statistics import ClassMoments, ClassScatter
from ooclearn.table import Schema
from ooclearn.types import Array

__all__ = ["LogisticRegression"]

# The share that a class without weight is taken to have where the search starts.
_LEAST_SHARE = 1e-10


class LogisticRegression(LinearClassifier):
    r"""Classify by logistic regression with an L2 penalty, binary or multinomial.

    As :class:`sklearn.linear_model.LogisticRegression` with its solvers "newton-cholesky" and "lbfgs": it minimises

    .. math:: C \sum_i w_i \, \ell(y_i, x_i) + \tfrac12 \lVert \text{coef} \rVert^2

    where the intercept is not penalised. Passes over the data: one for the classes and the scatter of the columns, by
    which the search starts from a linear discriminant analysis, and then one for each step, most often 3 to 6. Each of
    them sums loss, gradient and Hessian by blocks, and the loss at smaller steps too, so that a line search reads
    nothing extra. Memory: some tiles of a block for each worker, and for "newton-cholesky" a matrix of as many rows and
    columns as there are coefficients. Of scikit-learn's parameters those of its other solvers (``dual``,
    ``intercept_scaling``, ``random_state``), ``n_jobs``, ``verbose`` and ``penalty``, which it deprecates, are left
    out.

    Parameters
    ----------
    C : float, default=1.0
        Inverse of the strength of the penalty, above 0; ``numpy.inf`` is no penalty.
    l1_ratio : float, default=0.0
        The share of the L1 penalty. Only 0 is allowed: an L1 penalty cannot be fitted from sums over blocks.
    tol : float, default=1e-4
        Stop when no entry of the gradient of the mean loss, in columns of unit variance, is larger, and for
        "newton-cholesky" a further step promises no larger gain.
    fit_intercept : bool, default=True
        Add a constant to the decision function.
    class_weight : dict, 'balanced' or None, default=None
        Weights of the classes, by label; those left out have 1. "balanced" is inversely proportional to the weight of
        the rows of each class.
    solver : {'newton-cholesky', 'lbfgs'}, default='newton-cholesky'
        Both reach the same optimum. Newton's method takes the fewest passes, and so is the default here
        (scikit-learn's is "lbfgs"); "lbfgs" takes 10 to 30 and no Hessian, for thousands of coefficients.
    max_iter : int, default=100
        The most steps.
    warm_start : bool, default=False
        Start from the solution of the previous fit.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Coefficients, in float64 whatever the dtype of `X`; one row for two classes.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Constants; 0 without `fit_intercept`.
    n_iter_ : ndarray of shape (1,)
        Steps taken.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Names of the columns, if `X` has them.

    Notes
    -----
    Columns are centred and scaled to unit variance inside, so that the search does not depend on their units; the
    penalty is that of the coefficients of the columns as they are. Everything is computed in float64 whatever the dtype
    of `X`.

    References
    ----------
    S. Boyd and L. Vandenberghe, "Convex Optimization" (2004), section 9.5.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.linear_model import LogisticRegression
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> model = LogisticRegression().fit(X, ["no", "no", "yes", "yes"])
    >>> model.predict(np.array([[0.5], [2.5]])).tolist()
    ['no', 'yes']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "C": [Interval(Real, 0, None, closed="right")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "solver": [StrOptions({"newton-cholesky", "lbfgs"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
    }

    def __init__(
        self,
        *,
        C: float = 1.0,
        l1_ratio: float = 0.0,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        class_weight: Any = None,
        solver: str = "newton-cholesky",
        max_iter: int = 100,
        warm_start: bool = False,
    ) -> None:
        self.C = C
        self.l1_ratio = l1_ratio
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.max_iter = max_iter
        self.warm_start = warm_start

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.l1_ratio != 0:
            raise ValueError(
                f"Solver {self.solver} supports only 'l2' or None penalties, got l1_ratio={self.l1_ratio}; set it to 0. "
                "For an L1 penalty, train Incremental(SGDClassifier(loss='log_loss', penalty='elasticnet'))"
            )

    def _first(self) -> ClassScatter | ClassMoments:
        """Return what the first pass is asked for."""
        return ClassMoments() if self.solver == "lbfgs" else ClassScatter(pooled=True)

    def _requests(self, schema: Schema) -> Sequence[Request]:  # noqa: ARG002  (the same for every table)
        sums = LossSums(Binomial(np.array([0, 1])), np.zeros(0), ())
        return [self._first(), Repeated(sums, 2 * self.max_iter + 1)]

    def _passes(self, schema: Schema) -> Fit:  # noqa: ARG002  (the width comes with the answer)
        state = yield self._first()
        self.classes_ = classes_from(state.distinct(), None, several=False)
        if len(self.classes_) < 2:
            raise ValueError(
                "This solver needs samples of at least 2 classes in the data, but the data contains only one class: "
                f"{self.classes_[0]!r}"
            )
        if not state.total:
            raise DataError(
                f"all of the {int(state.rows.sum()):,} sample weights are zero; expected at least one above 0"
            )
        factors = self._class_factors(state.weight)
        start = _Start(state, factors, intercept=self.fit_intercept)
        loss = (Binomial if len(self.classes_) == 2 else Multinomial)(
            self.classes_, None if self.class_weight is None else factors
        )
        l2 = 0.0 if np.isinf(self.C) else 1.0 / (self.C * start.total)
        problem = Problem(
            loss,
            start.center,
            start.scale,
            start.total,
            l2,
            self.fit_intercept,
            self.tol,
            self.max_iter,
            state.rounding,
        )
        learned = getattr(self, "_learned", {}) if self.warm_start else {}
        if "coef_" in learned:
            point, step = problem.resumed(learned["coef_"], learned["intercept_"]), None
        else:
            point, step = start.point(problem, newton=self.solver != "lbfgs")
        solved = yield from SOLVERS[self.solver](problem, point, step)
        self.coef_, self.intercept_ = problem.model(solved.v)
        self.n_iter_ = np.array([solved.n_iter], dtype=np.int32)

    def _class_factors(self, weight: Array) -> Array:
        """Return the weight of each class."""
        if self.class_weight == "balanced":
            factors: Array = np.divide(weight.sum(), len(weight) * weight, out=np.ones_like(weight), where=weight > 0)
            return factors
        out: Array = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_)
        return out

    def _shares(self, *, log: bool) -> Callable[[Array], Array]:
        return _log_probabilities if log else _probabilities

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class for each row, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_classes)
            Columns in the order of ``classes_``. At once or lazily, as :meth:`predict` does it.
        """
        return self._mapped("predict_proba", X)

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of the probability of each class for each row, by blocks, in parallel.

        Parameters
        ----------
        X : array, Blocks, memory map, Dask array or data frame of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        Same container as `X`, of shape (n_samples, n_classes)
            Columns in the order of ``classes_``; exact where the probability itself rounds to 0, too.
        """
        return self._mapped("predict_log_proba", X)


class _Start:
    """Where the search starts, from what the first pass has found: the model of no columns, and a step from it.

    Objective and gradient of the model that predicts the shares of the classes for every row follow from the means of
    the classes. With the scatter within the classes in place of the Hessian's, Newton's step from there is a linear
    discriminant analysis: the optimum itself for normal classes of one covariance.
    """

    def __init__(self, state: Any, factors: Array, *, intercept: bool) -> None:
        weight = factors * state.weight
        self.total = float(weight.sum())
        self.share = weight / self.total
        shift = state.mean[int(np.argmax(weight))]
        delta = np.where(weight[:, None] > 0, (state.mean - shift) + state.rest, 0.0)
        middle = self.share @ delta
        self.off = np.where(weight[:, None] > 0, delta - middle, 0.0)
        self.center = shift + middle
        # Weights of classes move the scatter within them little, and only the start depends on it.
        self.within = state.scatter if hasattr(state, "scatter") else state.m2.sum(axis=0)
        self.within = self.within / state.total
        variance = (np.diagonal(self.within) if self.within.ndim == 2 else self.within) + self.share @ self.off**2
        if not intercept:
            variance = variance + self.center**2
            self.within = self.within + (
                (self.off.T * self.share) @ self.off + np.outer(self.center, self.center)
                if self.within.ndim == 2
                else self.share @ self.off**2 + self.center**2
            )
            self.off = self.off + self.center
            self.center = np.zeros_like(self.center)
        self.scale = column_scale(variance, self.center)
        self._intercept = intercept

    def point(self, problem: Problem, *, newton: bool) -> tuple[Point, Array | None]:
        """Return the start with its derivatives, the Hessian a guess, and the first step if `newton`."""
        classes, binary = len(self.share), problem.loss.n_raw == 1
        guess = np.maximum(self.share, _LEAST_SHARE) if self._intercept else np.ones(classes)
        guess = guess / guess.sum()
        constant = np.log(guess)
        v = np.zeros(problem.shape)
        v[:, -1] = constant[1] - constant[0] if binary else constant - constant.mean()
        if not self._intercept:
            v[:, -1] = 0.0
        # Row k: what the derivative by the raw predictions is for rows of class k.
        slopes = guess - np.eye(classes)
        rows = np.column_stack([self.off, np.ones(classes)])
        gradient = (slopes.T * self.share) @ rows
        curve = np.diag(guess) - np.outer(guess, guess)
        if binary:
            gradient, curve = gradient[1:], curve[1:, 1:]
        start = Point(v, -float(self.share @ constant), problem.sloped(gradient, v))
        if not newton:
            spread = np.append(self.within, 1.0) if self.within.ndim == 1 else np.append(np.diagonal(self.within), 1.0)
            start.diagonal = problem.diagonal(np.diagonal(curve)[:, None] * spread)
            return start, None
        spread = np.zeros((len(self.scale) + 1, len(self.scale) + 1))
        spread[:-1, :-1] = self.within
        spread[-1, -1] = 1.0
        start.hessian = problem.curved(curve[:, None, :, None] * spread[:, None, :])
        step = newton_step(start)
        if self._intercept:
            means = self.off / self.scale
            if binary:
                step[:, -1] -= 0.5 * (means[0] + means[1]) @ step[0, :-1]
            else:
                step[:, -1] -= 0.5 * (means * step[:, :-1]).sum(axis=1)
        return start, step


def _log_probabilities(scores: Array) -> Array:
    xp = namespace(scores)
    finite(scores)
    if scores.ndim == 1:
        small = xp.log1p(xp.exp(-xp.abs(scores)))
        zero = xp.zeros_like(scores)
        return xp.stack([-small - xp.maximum(scores, zero), -small - xp.maximum(-scores, zero)], axis=1)
    shifted = scores - xp.max(scores, axis=1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))


def _probabilities(scores: Array) -> Array:
    xp = namespace(scores)
    finite(scores)
    if scores.ndim == 1:
        small = xp.exp(-xp.abs(scores))
        less, more = small / (1.0 + small), 1.0 / (1.0 + small)
        over = scores > 0
        return xp.stack([xp.where(over, less, more), xp.where(over, more, less)], axis=1)
    expected = xp.exp(scores - xp.max(scores, axis=1, keepdims=True))
    return expected / xp.sum(expected, axis=1, keepdims=True)
