"""Mean and centred scatter matrix of the columns of X, and of the targets beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn._namespace import column_sums, float_dtype, minus, namespace, ones, run_of
from ooclearn.backend import backend_of
from ooclearn.exceptions import DataError
from ooclearn.rowmaps import Affine, Columns, Kind, RowMap
from ooclearn.statistics.added import about, added, digits_lost, offset_of, origins
from ooclearn.statistics.checks import refuse_nonfinite, refuse_weights
from ooclearn.statistics.cross import CrossScatter, CrossScatterState
from ooclearn.statistics.moments import Moments, MomentsState, affine_mean, sum_and_rest
from ooclearn.statistics.protocol import Sums
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["Scatter", "ScatterState"]

# Rows whose mean a tile is centred by before its products are summed; see `ooclearn.statistics.moments`.
_SHIFT_ROWS = 1024


@dataclass(frozen=True, eq=False)
class ScatterState:
    """State of :class:`Scatter`; host arrays of the columns of X and behind them those of y.

    Attributes
    ----------
    rows : int
        Rows seen.
    weight : float
        The sum of their weights, or their number.
    mean : ndarray of shape (columns,)
        Their weighted mean.
    rest : ndarray of shape (columns,)
        What float64 cannot hold of that mean.
    scatter : ndarray of shape (columns, columns)
        The weighted sum of products of deviations from the mean.
    n_targets : int
        How many of the columns are targets; the last ones.
    rounding : float
        The rounding unit of what computed it.
    """

    rows: int
    weight: float
    mean: Array
    rest: Array
    scatter: Array
    n_targets: int = 0
    rounding: float = 0.0

    @property
    def n_columns(self) -> int:
        """How many columns X has."""
        return int(self.mean.shape[0]) - self.n_targets

    @property
    def x_mean(self) -> Array:
        """The mean of the columns of X."""
        return self.mean[: self.n_columns]

    @property
    def y_mean(self) -> Array:
        """The mean of the targets."""
        return self.mean[self.n_columns :]

    @property
    def xx(self) -> Array:
        """The scatter of the columns of X."""
        return self.scatter[: self.n_columns, : self.n_columns]

    @property
    def xy(self) -> Array:
        """The scatter of the columns of X with the targets, of shape (columns, targets)."""
        return self.scatter[: self.n_columns, self.n_columns :]

    @property
    def yy(self) -> Array:
        """The scatter of the targets."""
        return self.scatter[self.n_columns :, self.n_columns :]

    def covariance(self, *, correction: float = 1.0) -> Array:
        """Return the covariance of the columns of X, with ``weight - correction`` below the line."""
        return self.xx / (self.weight - correction)

    def features(self) -> ScatterState:
        """Return the state of X alone."""
        d = self.n_columns
        return replace(self, mean=self.mean[:d], rest=self.rest[:d], scatter=self.scatter[:d, :d], n_targets=0)

    def moments(self) -> MomentsState:
        """Return count, mean and sum of squares of each column of X."""
        one = self.features()
        count = np.full(one.mean.shape, float(one.weight))
        return MomentsState(
            one.rows, one.weight, count, one.mean, one.rest, np.diagonal(one.scatter).copy(), one.rounding
        )

    def through(self, row_map: RowMap, /) -> ScatterState:
        """Return the state of the rows that come out of a map of the columns of X."""
        mean, rest, how = mapped(self, row_map)
        if isinstance(row_map, Columns):
            scatter = self.scatter[np.ix_(how, how)]
        elif how.ndim == 1:
            scatter = self.scatter * how[:, None] * how
        else:
            scatter = how.T @ self.scatter @ how
            scatter = (scatter + scatter.T) / 2
        return replace(self, mean=mean, rest=rest, scatter=scatter)

    def __repr__(self) -> str:
        return f"Scatter: rows={self.rows:_} | columns={self.n_columns} | targets={self.n_targets}"


@dataclass(frozen=True)
class Scatter:
    r"""Weighted mean and centred scatter matrix of the columns of X, or of ``[X, y]``.

    A tile is centred before its products are summed, by one symmetric matrix product, and blocks are merged by

    .. math:: S = S^a + S^b + \delta \delta^T \frac{n_a n_b}{n}, \quad \delta = \bar x_b - \bar x_a

    so that no digits are lost to a large offset. Missing values and infinities are refused, with the place.

    Parameters
    ----------
    target : bool
        Take the columns of y in, behind those of X.

    References
    ----------
    T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for computing the sample variance: analysis and
    recommendations", The American Statistician 37 (1983).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.statistics import Scatter
    >>> from ooclearn.table import Rows
    >>> Scatter().of(Rows(np.array([[1.0, 2.0], [3.0, 6.0]]))).covariance()
    array([[2., 4.],
           [4., 8.]])
    """

    target: bool = False

    @property
    def parts(self) -> frozenset[str]:
        """What is read."""
        return frozenset("Xyw" if self.target else "Xw")

    def before(self, kind: Kind, /) -> Scatter:  # noqa: ARG002  (the same for every kind of map)
        """Return what to ask of the input of a map: the scatter again."""
        return self

    def after(self, state: ScatterState, row_map: RowMap, /) -> ScatterState:
        """Return the scatter behind a map."""
        return state.through(row_map)

    def contains(self, other: Any, /) -> Callable[[ScatterState], Any] | None:
        """Return how moments, the scatter of X alone, or the products with the targets alone, follow."""
        if other == Moments():
            return ScatterState.moments
        if other == CrossScatter() and self.target:
            return CrossScatterState.of_scatter
        return ScatterState.features if other == Scatter() and self.target else None

    def of(self, rows: Rows, /) -> ScatterState:
        """Return the state of one block."""
        x, y = rows.X, rows.y if self.target else None
        if self.target and y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        n, d = x.shape
        t = 0 if y is None else 1 if y.ndim == 1 else y.shape[1]
        if n == 0:
            return ScatterState(0, 0.0, np.zeros(d + t), np.zeros(d + t), np.zeros((d + t, d + t)), t)
        xp = namespace(x)
        wide = float_dtype(x)
        total, w = float(n), None
        if rows.w is not None:
            refuse_weights(rows.w)
            w = xp.astype(rows.w, wide, copy=False)
            total = float(xp.sum(w))
        with np.errstate(invalid="ignore", over="ignore"):
            centred, shift = _centred(x, y, w, wide)
            if total == 0.0:
                self._refuse(x, y, centred)
                return ScatterState(n, 0.0, np.zeros(d + t), np.zeros(d + t), np.zeros((d + t, d + t)), t)
            off = np.concatenate([_host(column_sums(part, w)) for part in centred]) / total
            scatter = _products(centred if w is None else [_weighted(part, w) for part in centred])
        if not np.isfinite(scatter).all():
            self._refuse(x, y, None)
        scatter = scatter - off[:, None] * off * total
        # The diagonal cannot be negative but by rounding.
        np.fill_diagonal(scatter, np.maximum(np.diagonal(scatter), 0.0))
        mean, rest = sum_and_rest(shift, off)
        return ScatterState(n, total, mean, rest, scatter, t, float(xp.finfo(wide).eps))

    def _refuse(self, x: Array, y: Array | None, centred: list[Array] | None) -> None:
        """Raise for what is not finite; look at the cells only where there is reason to."""
        if centred is not None and all(bool(namespace(one).all(namespace(one).isfinite(one))) for one in centred):
            return
        refuse_nonfinite(x)
        if y is not None:
            refuse_nonfinite(y, role="y")
        if centred is None:
            raise DataError(
                "products of the deviations of two columns overflow float64; scale the columns to a size near 1 first"
            )

    def merge(self, a: ScatterState, b: ScatterState, /) -> ScatterState:
        """Return the state of the rows of `a` and `b`."""
        if not a.weight or not b.weight:
            full = b if not a.weight else a
            return replace(full, rows=a.rows + b.rows)
        weight = a.weight + b.weight
        delta = (b.mean - a.mean) + (b.rest - a.rest)
        mean, rest = sum_and_rest(a.mean, a.rest + delta * (b.weight / weight))
        scatter = a.scatter + b.scatter + delta[:, None] * delta * (a.weight * (b.weight / weight))
        return ScatterState(a.rows + b.rows, weight, mean, rest, scatter, a.n_targets, max(a.rounding, b.rounding))

    def origin(self, rows: Rows, /) -> Sums:
        """Return what all blocks are centred by: the mean of the first rows."""
        return origins(rows, target=self.target)

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return the sums of what differs from the origin, and of its products."""
        with np.errstate(invalid="ignore", over="ignore"):
            parts, weight, sums = about(rows, origin)
            if weight is not None:
                parts = [_weighted(part, weight) for part in parts]
            x, y = parts[0], parts[1] if self.target else None
            sums["xx"] = _product(x, x)
            sums["xy"] = None if y is None else _product(x, y)
            sums["yy"] = None if y is None else _product(y, y)
        return sums

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks."""
        return added(a, b)

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> ScatterState | None:
        """Return the state of all rows; None where a cell or a weight will not do, or too many digits are lost."""
        scatter, t = sums["xx"], 0
        if self.target:
            xy, yy = sums["xy"], sums["yy"]
            scatter, t = np.block([[scatter, xy], [xy.T, yy]]), len(yy)
        if sums["bad"] or not np.isfinite(scatter).all():
            return None
        total, shift, offset = offset_of(origin, sums, rows)
        if not total:
            zeros = np.zeros_like(shift)
            return ScatterState(rows, 0.0, zeros, zeros, np.zeros_like(scatter), t)
        scatter = scatter - offset[:, None] * offset * total
        np.fill_diagonal(scatter, np.maximum(np.diagonal(scatter), 0.0))
        if digits_lost(offset, total, np.diagonal(scatter), shift, origin["rounding"]):
            return None
        return ScatterState(rows, total, *sum_and_rest(shift, offset), scatter, t, float(origin["rounding"]))


def mapped(state: Any, row_map: RowMap, /) -> tuple[Array, Array, Array]:
    """Return the mean behind a map of the columns of X, as two numbers a column, and what becomes of all columns.

    That is, for a selection, the positions of the columns that are kept, for a diagonal map the factor of each column,
    else a matrix; targets are left as they are.

    Parameters
    ----------
    state : ScatterState or TriangleState
        With `mean`, `rest`, `weight` and `n_targets`.
    row_map : Columns or Affine
        The map.
    """
    d, t = state.n_columns, state.n_targets
    if isinstance(row_map, Columns):
        at = np.concatenate([np.asarray(row_map.positions, dtype=np.int64), np.arange(d, d + t)])
        return state.mean[at], state.rest[at], at
    assert isinstance(row_map, Affine)
    if row_map.diagonal:
        mean, rest, factor = affine_mean(state.mean[:d], state.rest[:d], row_map)
        how = np.concatenate([factor, np.ones(t)])
    else:
        assert row_map.scale is not None
        matrix = np.asarray(row_map.scale, dtype=np.float64)
        center = 0.0 if row_map.center is None else row_map.center
        shifted, left = sum_and_rest(state.mean[:d] - center, state.rest[:d])
        mean, rest = sum_and_rest(shifted @ matrix, left @ matrix)
        if row_map.offset is not None:
            mean, more = sum_and_rest(mean, row_map.offset + np.zeros_like(mean))
            rest = rest + more
        how = np.zeros((d + t, matrix.shape[1] + t))
        how[:d, : matrix.shape[1]] = matrix
        how[d:, matrix.shape[1] :] = np.eye(t)
    if not state.weight:
        mean, rest = np.zeros_like(mean), np.zeros_like(rest)  # of no rows there is none to be mapped
    return np.concatenate([mean, state.mean[d:]]), np.concatenate([rest, state.rest[d:]]), how


def _host(x: Array) -> Array:
    return x if isinstance(x, np.ndarray) else np.asarray(backend_of(x).to_host(x), dtype=np.float64)


def _centred(x: Array, y: Array | None, w: Array | None, wide: Any) -> tuple[list[Array], Array]:
    """Return X, and y if it is there, minus a row near its mean, and that row on the host."""
    xp = namespace(x)
    parts = [xp.astype(x, wide, copy=False)]
    if y is not None:
        parts.append(xp.reshape(xp.astype(y, wide, copy=False), (y.shape[0], -1)))
    shifts = [_shift(part, w) for part in parts]
    centred = [minus(part, shift) for part, shift in zip(parts, shifts, strict=True)]
    return centred, np.concatenate([_host(shift) for shift in shifts])


def _products(parts: list[Array]) -> Array:
    """Return the products of all columns of the parts, on the host. Those of a part with itself are symmetric: half."""
    rows = [[_host(_product(a, b)) for b in parts[k:]] for k, a in enumerate(parts)]
    if len(parts) == 1:
        return rows[0][0]
    (xx, xy), (yy,) = rows
    return np.block([[xx, xy], [xy.T, yy]])


def _product(a: Array, b: Array) -> Array:
    xp = namespace(a)
    return xp.matmul(xp.matrix_transpose(a), b)


def _shift(x: Array, w: Array | None) -> Array:
    """Return the mean of the first rows; of weighted rows, those of weight, as the others may lie far away."""
    if w is not None:
        total = float(namespace(w).sum(w))
        return (w @ x) / total if total else run_of(x, 0, 1)[0, ...]
    first = run_of(x, 0, min(_SHIFT_ROWS, x.shape[0]))
    return (ones(first.shape[0], x) @ first) / first.shape[0]


def _weighted(centred: Array, w: Array) -> Array:
    xp = namespace(centred)
    return centred * xp.reshape(xp.sqrt(w), (-1, 1))
