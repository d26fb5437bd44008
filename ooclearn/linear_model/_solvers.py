"""Newton's method and L-BFGS as coroutines: each yield is a reading of the table."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ooclearn.exceptions import DataError
from ooclearn.linear_model._loss_sums import LossSums, LossSumsState
from ooclearn.linear_model._losses import Loss
from ooclearn.types import Array

__all__ = ["SOLVERS", "Point", "Problem", "Solved", "column_scale", "newton_step"]

# Armijo's share of the decrease that the slope promises; scikit-learn's.
_ARMIJO = 2.0**-11
_EPS = float(np.finfo(np.float64).eps)


def column_scale(variance: Array, center: Array, /) -> Array:
    """Return the deviations of columns; 1 for those that are constant but for rounding."""
    constant = variance <= (64 * _EPS * center) ** 2
    return np.where(constant, 1.0, np.sqrt(np.where(constant, 1.0, variance)))


@dataclass(eq=False)
class Problem:
    """What is minimised: the mean loss, and half of `l2` times the sum of squares of the coefficients.

    Solvers see columns that are centred and of unit variance, whatever those of the table are; the penalty stays that
    of the coefficients of the columns of the table. Without an intercept they are scaled alone.

    Parameters
    ----------
    loss : Loss
        Of one row.
    center, scale : ndarray of shape (columns,)
        Of the columns.
    total : float
        The sum of the weights.
    l2 : float
        The strength of the penalty.
    intercept : bool
        Whether there is one.
    tol : float
        The largest entry of the gradient to stop at.
    max_iter : int
        The most steps.
    rounding : float
        The rounding unit of what sums: that of float64, or of float32 on a device that has no more.
    cell : float
        The rounding unit of the cells of the table.
    """

    loss: Loss
    center: Array
    scale: Array
    total: float
    l2: float
    intercept: bool
    tol: float
    max_iter: int
    rounding: float = _EPS
    cell: float = _EPS
    passes: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        d = len(self.center)
        # The constant is the last column of the working parameters: neither scaled nor penalised.
        self._scale = np.append(self.scale, 1.0)
        self.penalty = np.append(self.l2 / self.scale**2, 0.0)
        self.rounding = max(self.rounding, _EPS)
        # How far cells lie from what they stand for, in deviations of their column.
        self.blur = np.append(self.cell * (np.abs(self.center) / self.scale + 1.0), 0.0)
        self._free = np.append(np.ones(d), float(self.intercept))

    @property
    def shape(self) -> tuple[int, int]:
        """Of the parameters."""
        return self.loss.n_raw, len(self._scale)

    def nothing(self, gain: float, value: float) -> bool:
        """Say whether a gain cannot be told from rounding; scikit-learn's bound."""
        return gain <= 64 * self.rounding * max(abs(value), 1.0)

    @property
    def exhausted(self) -> bool:
        """Whether the readings are used up: a fit makes one more at most, for the Hessian behind a shortened step."""
        return self.passes >= 2 * self.max_iter

    def parameters(self, coef: Array, intercept: Array) -> Array:
        """Return the working parameters of a model."""
        constant = intercept + coef @ self.center if self.intercept else np.zeros(len(coef))
        return self._symmetric(np.column_stack([coef * self.scale, constant]))

    def resumed(self, coef: Array, intercept: Any) -> Point:
        """Return where a search goes on from what an earlier fit has found; the objective there is not known."""
        shape = (self.loss.n_raw, len(self.center))
        if np.atleast_2d(coef).shape != shape:
            raise ValueError(
                f"Initialization coef is of shape {coef.shape}, expected shape {shape[-coef.ndim :]}: warm_start goes on "
                f"from a fit with the same columns{' and number of classes' if coef.ndim > 1 else ''}"
            )
        return Point(self.parameters(np.atleast_2d(coef), np.atleast_1d(intercept)), np.inf)

    def _symmetric(self, v: Array) -> Array:
        """Return parameters of several classes, or a gradient, less what all classes have in common.

        A constant added to all classes changes no prediction, and so the optimum, of the smallest penalty, has sum 0:
        scikit-learn's choice where there is no penalty.
        """
        return v - v.mean(axis=0) if self.loss.n_raw > 1 else v

    def model(self, v: Array) -> tuple[Array, Array]:
        """Return coefficients and intercepts."""
        v = self._symmetric(v)
        coef = v[:, :-1] / self.scale
        return coef, (v[:, -1] - coef @ self.center if self.intercept else np.zeros(len(coef)))

    def ask(self, vectors: list[Array], *, hessian: bool) -> LossSums:
        """Return the question about these parameters."""
        self.passes += 1
        return LossSums(self.loss, self.center, tuple(v / self._scale for v in vectors), hessian)

    def points(self, vectors: list[Array], state: LossSumsState) -> list[Point]:
        """Return what was found, with the penalty."""
        out: list[Point] = []
        for i, v in enumerate(vectors):
            value = float(state.loss[i]) / self.total + 0.5 * float((self.penalty * v * v).sum())
            if not np.isfinite(value):
                out.append(Point(v, np.inf))
                continue
            point = Point(v, value)
            if i < len(state.gradient):
                point.gradient = self.sloped(state.gradient[i] / self.total, v)
            if i == 0 and state.hessian is not None:
                point.hessian = self.curved(state.hessian / self.total)
            out.append(point)
        return out

    def sloped(self, gradient: Array, v: Array) -> Array:
        """Return the gradient by the working parameters."""
        return self._symmetric((gradient / self._scale + self.penalty * v) * self._free)

    def diagonal(self, diagonal: Array) -> Array:
        """Return the diagonal of the Hessian by the working parameters, of their shape; the same for all classes."""
        diagonal = diagonal / self._scale**2 + self.penalty
        return np.broadcast_to(diagonal.mean(axis=0), diagonal.shape)

    def curved(self, hessian: Array) -> Array:
        """Return the Hessian by the working parameters, as a matrix."""
        k, d = self.shape
        hessian = hessian / (self._scale[:, None, None] * self._scale)
        matrix: Array = hessian.reshape(k * d, k * d)
        at = np.arange(k * d)
        matrix[at, at] += np.tile(self.penalty, k)
        if k > 1:
            # What all classes have in common the gradient has no part in: it is given a curvature, so that there is one
            # solution.
            blocks = matrix.reshape(k, d, k, d)
            for j in range(d):
                blocks[:, j, :, j] += max(float(np.trace(blocks[:, j, :, j])) / k, _EPS) / k
        if not self.intercept:
            last = np.arange(k) * d + d - 1
            matrix[last, :] = matrix[:, last] = 0.0
            matrix[last, last] = 1.0
        return matrix


@dataclass(eq=False)
class Point:
    """Parameters, the objective there, and its derivatives where they are known."""

    v: Array
    value: float
    gradient: Array | None = None
    hessian: Array | None = None
    diagonal: Array | None = None

    @property
    def steepest(self) -> float:
        """The largest entry of the gradient."""
        assert self.gradient is not None
        return float(np.abs(self.gradient).max(initial=0.0))


@dataclass(frozen=True, eq=False)
class Solved:
    """The parameters found, and the steps taken."""

    v: Array
    n_iter: int


Solving = Generator[LossSums, Any, Solved]


def _give_up(name: str, steps: int, why: str = "") -> None:
    warnings.warn(
        f"{name} did not converge after {steps} iterations{why}. Increase max_iter, scale the columns, or penalise more",
        ConvergenceWarning,
        stacklevel=2,
    )


def newton(problem: Problem, start: Point, first: Array | None = None) -> Solving:
    """Minimise by Newton's method; an accepted full step costs one reading.

    Each reading gives the objective at several step sizes, and gradient and Hessian at the full step.

    Parameters
    ----------
    problem : Problem
        What to minimise.
    start : Point
        Where to start; with gradient and Hessian where they are known already.
    first : ndarray, optional
        The first step, in place of Newton's.
    """
    here = start
    if here.gradient is None:
        (here,) = problem.points([here.v], (yield problem.ask([here.v], hessian=True)))
        _refuse_start(here)
    steps = 0
    while True:
        assert here.gradient is not None
        step = first if first is not None else newton_step(here, problem)
        slope = float((here.gradient * step).sum())
        decrement = -0.5 * slope
        # As scikit-learn: a flat gradient, and little to gain. What is below rounding cannot be gained at all.
        flat = here.steepest <= problem.tol and decrement <= problem.tol
        if first is None and steps and (flat or decrement <= 8 * problem.rounding * abs(here.value)):
            # This close the step is as good as sure (Boyd and Vandenberghe, section 9.5): it is taken unread.
            return Solved(here.v + step, steps)
        if steps >= problem.max_iter or problem.exhausted:
            _give_up("Newton solver", steps)
            return Solved(here.v, steps)
        steps += 1
        sizes = (1.0, 0.5, 0.25, 0.125) if first is not None or decrement > 0.01 else (1.0, 0.5)
        first = None
        found = yield from _searched(problem, here, step, slope, sizes)
        if found is None:
            # Large coefficients that cancel out leave their rounding in every prediction.
            blurred = problem.rounding * float(np.abs(here.v).max())
            if decrement <= blurred or problem.nothing(decrement, here.value):
                return Solved(here.v, steps)
            # Where there is next to no curvature a Newton step leads anywhere; as scikit-learn's, this solver goes on
            # by gradients then.
            return (yield from lbfgs(problem, here, steps=steps))
        here = found


def _refuse_start(here: Point) -> None:
    if not np.isfinite(here.value):
        raise DataError(
            "the loss is infinite where the search starts: the model predicts means there that its distribution cannot "
            "have, or they overflow. Fit an intercept, use the logarithm as link, or scale the columns",
            part="y",
        )


def _searched(
    problem: Problem, here: Point, step: Array, slope: float, sizes: tuple[float, ...]
) -> Generator[LossSums, Any, Point | None]:
    """Return a point along a step that is low enough, with its derivatives; None if there is none.

    It is the first such, unless a shorter step gains far more: a step that overshoots leads to where the loss is
    straight and its curvature nothing.
    """
    best: Point | None = None
    while sizes[0] > 1e-7 and not problem.exhausted:
        vectors = [here.v + size * step for size in sizes]
        points = problem.points(vectors, (yield problem.ask(vectors, hessian=True)))
        low = [one for size, one in zip(sizes, points, strict=True) if _accepted(problem, here, one, size * slope)]
        lowest = min(low, key=lambda one: one.value, default=None)
        if best is None and lowest is not None and low[0].value - lowest.value <= 0.5 * (here.value - low[0].value):
            best = low[0]
            break
        if best is not None and (lowest is None or lowest.value >= best.value):
            break
        best = lowest
        if best is not None and best is not points[-1]:
            break
        sizes = tuple(sizes[-1] / factor for factor in (2.0, 4.0, 8.0, 16.0))
    if best is not None and best.hessian is None:
        (best,) = problem.points([best.v], (yield problem.ask([best.v], hessian=True)))
    return best


def _accepted(problem: Problem, here: Point, point: Point, slope: float) -> bool:
    """Say whether a point is low enough (Armijo), or as low as rounding can tell and flatter."""
    if not np.isfinite(point.value):
        return False
    if point.value <= here.value + _ARMIJO * slope:
        return True
    if point.gradient is None or abs(point.value - here.value) > 16 * problem.rounding * abs(here.value):
        return False
    assert here.gradient is not None
    return float(np.abs(point.gradient).sum()) < float(np.abs(here.gradient).sum())


def newton_step(here: Point, problem: Problem | None = None) -> Array:
    """Return minus the gradient over the Hessian, solved with columns of unit curvature.

    Parameters
    ----------
    here : Point
        With gradient and Hessian.
    problem : Problem, optional
        Whose rounding tells which slopes are none; without it, directions of next to no curvature are left out.
    """
    assert here.hessian is not None
    assert here.gradient is not None
    root = np.sqrt(np.abs(np.diagonal(here.hessian)))
    root = np.where(root > 0, root, 1.0)
    matrix = here.hessian / root[:, None] / root
    right = -here.gradient.reshape(-1) / root
    try:
        factor = np.linalg.cholesky(matrix)
        if float(np.diagonal(factor).min()) ** 2 > 1e3 * len(root) * _EPS:
            half = np.linalg.solve(factor, right)
            return (np.linalg.solve(factor.T, half) / root).reshape(here.v.shape)
    except np.linalg.LinAlgError:
        pass
    # Columns that depend on one another: the shortest of the steps that do equally well. Where the objective is not
    # convex, directions of negative curvature are gone down as if it were positive.
    values, vectors = np.linalg.eigh(matrix)
    values = np.abs(values)
    along = vectors.T @ right
    largest = len(root) * float(values.max())
    kept = values > 1e2 * _EPS * largest
    if problem is not None and np.isfinite(here.value):
        # A curvature that may be rounding alone is still a direction to go where the slope is not: where the objective
        # falls along it by more than rounding, even if the curvature is as large as rounding can make it, and where the
        # slope is more than columns that depend on one another but for the rounding of their cells would have.
        values = np.where(kept, values, np.maximum(values, problem.rounding * largest))
        blurred = np.tile(problem.blur, len(here.v)) @ np.abs(vectors)
        bound = max(abs(here.value), 1.0) * np.maximum(128 * problem.rounding * values, blurred**2)
        kept |= along * along > bound
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=kept)
    return (vectors @ (inverse * along) / root).reshape(here.v.shape)


def lbfgs(
    problem: Problem,
    start: Point,
    first: Array | None = None,  # noqa: ARG001  (as newton)
    steps: int = 0,
) -> Solving:
    """Minimise by L-BFGS; each reading gives objective and gradient at several step sizes.

    References
    ----------
    J. Nocedal and S. J. Wright, "Numerical Optimization", 2nd ed. (2006), algorithms 7.4 and 7.5.
    """
    here = start
    # The diagonal of the Hessian where the search starts, as far as it is known, is the first guess of all of it.
    curvature = np.ones(problem.shape) if here.diagonal is None else np.where(here.diagonal > 0, here.diagonal, 1.0)
    if here.gradient is None:
        (here,) = problem.points([here.v], (yield problem.ask([here.v], hessian=False)))
        _refuse_start(here)
    pairs: list[tuple[Array, Array]] = []
    while True:
        assert here.gradient is not None
        if steps and here.steepest <= problem.tol:
            return Solved(here.v, steps)
        if steps >= problem.max_iter or problem.exhausted:
            _give_up("lbfgs", steps)
            return Solved(here.v, steps)
        steps += 1
        step = _two_loops(here.gradient, pairs, curvature)
        slope = float((here.gradient * step).sum())
        best = None
        sizes: tuple[float, ...] = (1.0, 0.5, 0.25, 2.0)
        while best is None and sizes[0] > 1e-7 and not problem.exhausted:
            vectors = [here.v + size * step for size in sizes]
            points = problem.points(vectors, (yield problem.ask(vectors, hessian=False)))
            fine = [one for size, one in zip(sizes, points, strict=True) if _accepted(problem, here, one, size * slope)]
            best = min(fine, key=lambda one: one.value, default=None)
            sizes = tuple(size / 16.0 for size in sizes)
        if best is None:
            if not problem.nothing(-0.5 * slope, here.value):
                _give_up("lbfgs", steps, ": no step makes the objective smaller")
            return Solved(here.v, steps)
        gained = here.value - best.value
        s, y = best.v - here.v, best.gradient - here.gradient
        if float((s * y).sum()) > _EPS * float((y * y).sum()):
            pairs = [*pairs[-9:], (s, y)]
        here = best
        if problem.nothing(gained, here.value):
            return Solved(here.v, steps)


def _two_loops(gradient: Array, pairs: list[tuple[Array, Array]], curvature: Array) -> Array:
    """Return the direction: minus the gradient times the inverse Hessian that steps and their slopes make."""
    q = gradient.copy()
    shares = []
    for s, y in reversed(pairs):
        share = float((s * q).sum()) / float((s * y).sum())
        q -= share * y
        shares.append(share)
    q = q / curvature
    if pairs:
        s, y = pairs[-1]
        q *= float((s * y).sum()) / float((y * y / curvature).sum())
    for (s, y), share in zip(pairs, reversed(shares), strict=True):
        q += (share - float((y * q).sum()) / float((s * y).sum())) * s
    return -q


SOLVERS: dict[str, Any] = {"newton-cholesky": newton, "lbfgs": lbfgs}
