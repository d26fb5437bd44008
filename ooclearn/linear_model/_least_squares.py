"""Least-squares problems of a few rows that stand for those of a whole table, and their solutions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ooclearn.exceptions import DataError
from ooclearn.statistics import ScatterState
from ooclearn.types import Array

__all__ = ["Problem", "Spectrum", "least_squares", "non_negative", "problem_of", "ridge", "spectrum_of"]

_EPS = float(np.finfo(np.float64).eps)
# Coefficients solved for from products of columns lose as many digits as the condition number of the correlation
# matrix has. Up to here six are left; beyond, the table is read again for a triangular factor, which loses half as many.
_LIMIT = 1e10
# The bound under which a column counts as constant grows with the rows up to here; see `StandardScaler`.
_BOUND_ROWS = 10_000


@dataclass(frozen=True, eq=False)
class Problem:
    """A few rows A and targets b with the same products ``A.T @ A``, ``A.T @ b``, ``b.T @ b`` as all rows of a table.

    Attributes
    ----------
    A : ndarray of shape (k, columns)
        The rows.
    b : ndarray of shape (k, targets)
        The targets.
    residual : ndarray of shape (targets,)
        What no combination of the columns reaches of the targets: their sum of squares beside those of `b`.
    x_mean, y_mean : ndarray
        What rows and targets are centred by; in extended precision, where there is any.
    rows : int
        Rows of the table.
    weight : float
        The sum of their weights.
    """

    A: Array
    b: Array
    residual: Array
    x_mean: Array
    y_mean: Array
    rows: int
    weight: float

    def intercept(self, coef: Array, /) -> Array:
        """Return the intercept for each row of coefficients."""
        out: Array = (self.y_mean - coef.astype(np.longdouble) @ self.x_mean).astype(np.float64)
        return out


def problem_of(state: Any, /, *, centred: bool, cutoff: float = 0.0) -> Problem:
    """Return the problem that a scatter matrix or a triangular factor stands for.

    Parameters
    ----------
    state : ScatterState or TriangleState
        Of ``[X, y]``.
    centred : bool
        Whether rows and targets are centred by their mean; if not, the mean is one more row.
    cutoff : float
        Directions whose singular value, of standardised columns, is less than this share of the largest are left out.
    """
    if not state.weight:
        raise DataError(
            f"all of the {state.rows:,} sample weights are zero; expected at least one above 0, leave sample_weight out "
            "to count each row once"
        )
    d = state.n_columns
    if isinstance(state, ScatterState):
        A, b = _root(state, cutoff)
        residual = np.diagonal(state.yy) - np.sum(b * b, axis=0)
    else:
        A, b = state.xx, state.xy
        residual = np.sum(state.yy**2, axis=0)
    mean = state.mean.astype(np.longdouble) + state.rest
    problem = Problem(A, b, np.maximum(residual, 0.0), mean[:d], mean[d:], state.rows, state.weight)
    if centred:
        return problem
    # No product is formed with it, so that columns far from 0 keep their digits.
    row = (np.sqrt(np.longdouble(state.weight)) * mean).astype(np.float64)
    none = np.zeros_like(mean)
    return replace(problem, A=np.vstack([A, row[:d]]), b=np.vstack([b, row[d:]]), x_mean=none[:d], y_mean=none[d:])


def _root(state: ScatterState, cutoff: float) -> tuple[Array, Array]:
    """Return A and b by the eigenvectors of the correlation matrix, where all columns have one scale."""
    correlation, scale = _correlation(state)
    varies = scale > 0
    values, vectors = np.linalg.eigh(correlation)
    kept = values > max(cutoff * cutoff, len(values) * _EPS) * values[-1]
    vectors, roots = vectors[:, kept], np.sqrt(values[kept])[:, None]
    xy = np.where(varies[:, None], state.xy / np.where(varies, scale, 1.0)[:, None], 0.0)
    return roots * vectors.T * scale, vectors.T @ xy / roots


def _correlation(state: ScatterState, penalty: float = 0.0) -> tuple[Array, Array]:
    """Return ``S + penalty I`` with ones on its diagonal, and what its columns were divided by; 0 for constant ones."""
    squares = np.where(_constant(state), 0.0, np.diagonal(state.xx)) + penalty
    varies = squares > 0
    scale = np.sqrt(squares)
    safe = np.where(varies, scale, 1.0)
    correlation = state.xx / safe / safe[:, None]
    np.fill_diagonal(correlation, varies)
    return np.where(varies & varies[:, None], correlation, 0.0), scale


def _constant(state: ScatterState) -> Array:
    """Say which columns vary by no more than rounding."""
    noise = max(min(state.weight, _BOUND_ROWS) * _EPS, 2 * state.rounding)
    out: Array = np.diagonal(state.xx) <= state.weight * (noise * state.x_mean) ** 2
    return out


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues of the correlation matrix of the columns that are not constant, from the smallest up."""

    values: Array

    @property
    def condition(self) -> float:
        """The condition number; infinite where columns depend on each other to within rounding."""
        if not len(self.values):
            return 1.0
        low, high = float(self.values[0]), float(self.values[-1])
        return high / low if low > len(self.values) * _EPS * high else float("inf")

    def loses_digits(self, cutoff: float = 0.0) -> bool:
        """Say whether a solution from products loses too many digits, directions below the cutoff left out."""
        if not len(self.values):
            return False
        high = float(self.values[-1])
        # Eigenvalues are known to a few roundings: only where the cutoff is clear of these is it known what is left out.
        low = cutoff * cutoff * high if cutoff * cutoff > 4 * len(self.values) * _EPS else -np.inf
        return bool(np.any((self.values > low) & (self.values * _LIMIT < high)))


def spectrum_of(state: ScatterState, /, penalty: float = 0.0) -> Spectrum:
    """Return the spectrum of the correlation matrix that is solved, with a penalty on its diagonal."""
    correlation, scale = _correlation(state, penalty)
    varies = scale > _EPS * np.max(scale, initial=0.0)
    return Spectrum(np.linalg.eigvalsh(correlation[np.ix_(varies, varies)]))


def least_squares(problem: Problem, /, *, cutoff: float) -> tuple[Array, int, Array]:
    """Return the least-squares solution of smallest norm, of shape (targets, columns), the rank and the singular values.

    Singular values up to `cutoff` times the largest count as 0, as in :func:`scipy.linalg.lstsq`.
    """
    A, b = problem.A, problem.b
    d = A.shape[1]
    left, singular, right = np.linalg.svd(A, full_matrices=False)
    kept = singular > cutoff * singular[:1]
    rank = int(np.sum(kept))
    every = np.zeros(min(problem.rows, d))
    every[: len(singular)] = singular[: len(every)]
    if rank == d:
        return _full_rank(A, b).T, rank, every
    coef = right[kept].T @ (left[:, kept].T @ b / singular[kept, None])
    coef[~A.any(axis=0)] = 0.0
    return coef.T, rank, every


def _full_rank(A: Array, b: Array) -> Array:
    """Solve by QR with columns of one length, so that their scales cost no digits."""
    from scipy.linalg import solve_triangular  # a tenth of a second to import

    length = np.linalg.norm(A, axis=0)
    Q, R = np.linalg.qr(A / length)
    out: Array = solve_triangular(R, Q.T @ b) / length[:, None]
    return out


def ridge(problem: Problem, penalties: Array, /) -> Array:
    """Return the coefficients with a penalty for each target, of shape (targets, columns)."""
    d = problem.A.shape[1]
    coef = np.empty((problem.b.shape[1], d))
    for penalty in np.unique(penalties):
        at = penalties == penalty
        b = problem.b[:, at]
        if penalty == 0.0:
            coef[at] = least_squares(replace(problem, b=b), cutoff=10 * d * _EPS)[0]
            continue
        A, b = _penalised(problem.A, b, float(penalty))
        coef[at] = _full_rank(A, b).T
    return coef


def _penalised(A: Array, b: Array, penalty: float) -> tuple[Array, Array]:
    """Return the problem whose least squares hold the penalty: a row for each coefficient."""
    d = A.shape[1]
    return np.vstack([A, np.sqrt(penalty) * np.eye(d)]), np.vstack([b, np.zeros((d, b.shape[1]))])


def non_negative(problem: Problem, penalties: Array | None = None, /) -> Array:
    """Return the coefficients that are not negative, of shape (targets, columns), by the active set method."""
    from scipy.optimize import nnls  # as above

    coef = np.zeros((problem.b.shape[1], problem.A.shape[1]))
    for j in range(len(coef)):
        A, b = problem.A, problem.b[:, [j]]
        if penalties is not None and penalties[j] > 0:
            A, b = _penalised(A, b, float(penalties[j]))
        length = np.linalg.norm(A, axis=0)
        varies = length > 0
        if varies.any():
            coef[j, varies] = nnls(A[:, varies] / length[varies], b[:, 0])[0] / length[varies]
    return coef
