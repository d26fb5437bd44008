"""Moments of the columns of X and of the targets, and the centred products of the one with the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn._namespace import column_sums, column_sums_of_squares, float_dtype, minus, namespace, run_of
from ooclearn.exceptions import DataError
from ooclearn.products import product
from ooclearn.rowmaps import Columns, Kind, RowMap
from ooclearn.statistics.added import about, added, as_columns, digits_lost, offset_of, origins, target_of, widened
from ooclearn.statistics.centred import weights_of
from ooclearn.statistics.checks import refuse_nonfinite
from ooclearn.statistics.coded import host
from ooclearn.statistics.means import affine_mean, merged_mean, near_mean, sum_and_rest
from ooclearn.statistics.moments import Moments, MomentsState
from ooclearn.statistics.protocol import Statistic, Sums
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.statistics.scatter import ScatterState
    from ooclearn.table import Rows

__all__ = ["CrossScatter", "CrossScatterState"]

# Roundings that the mean of equal values may lie from them.
_EQUAL = 1000


@dataclass(frozen=True, eq=False)
class CrossScatterState:
    """State of :class:`CrossScatter`; host arrays of the columns of X and behind them those of y.

    Attributes
    ----------
    rows : int
        Rows seen.
    weight : float
        The sum of their weights, or their number.
    mean : ndarray of shape (columns + targets,)
        Their weighted mean.
    rest : ndarray of shape (columns + targets,)
        What float64 cannot hold of that mean.
    m2 : ndarray of shape (columns + targets,)
        Their weighted sum of squared deviations from the mean.
    xy : ndarray of shape (columns, targets)
        The weighted sum of products of the deviations of a column with those of a target.
    rounding : float
        The rounding unit of what computed it.
    """

    rows: int
    weight: float
    mean: Array
    rest: Array
    m2: Array
    xy: Array
    rounding: float = 0.0

    @property
    def n_columns(self) -> int:
        """How many columns X has."""
        return int(self.xy.shape[0])

    @property
    def n_targets(self) -> int:
        """How many targets there are."""
        return int(self.xy.shape[1])

    @classmethod
    def of_scatter(cls, state: ScatterState) -> CrossScatterState:
        """Return what the scatter matrix of ``[X, y]`` says of X and y.

        Parameters
        ----------
        state : ScatterState
            Of ``Scatter(target=True)``.

        Returns
        -------
        CrossScatterState
            Of the same rows.
        """
        m2 = np.diagonal(state.scatter).copy()
        return cls(state.rows, state.weight, state.mean, state.rest, m2, state.xy, state.rounding)

    def moments(self) -> MomentsState:
        """Return count, mean and sum of squares of each column of X.

        Returns
        -------
        MomentsState
            As :class:`Moments` of the same rows gives them.
        """
        d = self.n_columns
        count = np.full(d, float(self.weight))
        return MomentsState(self.rows, self.weight, count, self.mean[:d], self.rest[:d], self.m2[:d], self.rounding)

    def through(self, row_map: RowMap, /) -> CrossScatterState:
        """Return the state of the rows that come out of a map of X by column; targets stay as they are.

        Parameters
        ----------
        row_map : Affine or Columns
            The map, fitted; an affine one is diagonal.

        Returns
        -------
        CrossScatterState
            Of the columns that come out.
        """
        d = self.n_columns
        if isinstance(row_map, Columns):
            chosen = np.asarray(row_map.positions, dtype=np.int64)
            at = np.concatenate([chosen, np.arange(d, len(self.mean))])
            return replace(self, mean=self.mean[at], rest=self.rest[at], m2=self.m2[at], xy=self.xy[chosen])
        mean, rest, factor = affine_mean(self.mean[:d], self.rest[:d], row_map)
        if not self.weight:
            mean, rest = np.zeros(d), np.zeros(d)  # of no rows there is none to be mapped
        return replace(
            self,
            mean=np.concatenate([mean, self.mean[d:]]),
            rest=np.concatenate([rest, self.rest[d:]]),
            m2=np.concatenate([self.m2[:d] * factor * factor, self.m2[d:]]),
            xy=self.xy * factor[:, None],
        )

    def __repr__(self) -> str:
        return f"CrossScatter: rows={self.rows:_} | columns={self.n_columns} | targets={self.n_targets}"


@dataclass(frozen=True)
class CrossScatter:
    r"""Weighted mean and centred sum of squares of each column of X and y, and their centred products with each other.

    What a correlation of each column with each target follows from, at the cost of the moments: unlike
    :class:`Scatter` it leaves out the products of the columns of X with one another. A tile is centred before its
    products are summed, and blocks are merged by

    .. math:: C = C^a + C^b + \delta_x \delta_y \frac{n_a n_b}{n}, \quad \delta = \bar x_b - \bar x_a

    so that no digits are lost to a large offset; a constant column has exactly no deviations. Missing values and
    infinities are refused, with the place.

    References
    ----------
    T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for computing the sample variance: analysis and
    recommendations", The American Statistician 37 (1983).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.statistics import CrossScatter
    >>> from ooclearn.table import Rows
    >>> state = CrossScatter().of(Rows(np.array([[1.0, 2.0], [3.0, -2.0]]), np.array([0.0, 5.0])))
    >>> state.xy[:, 0].tolist()
    [5.0, -10.0]
    """

    parts: frozenset[str] = frozenset("Xyw")

    def before(self, kind: Kind, /) -> Statistic[Any]:
        """Return what to ask of the input of a map: the same, or the whole scatter if it is not by column."""
        from ooclearn.statistics.scatter import Scatter  # it builds on this module

        return Scatter(target=True) if kind == "affine" else self

    def after(self, state: Any, row_map: RowMap, /) -> CrossScatterState:
        """Return the state behind a map."""
        if isinstance(state, CrossScatterState):
            return state.through(row_map)
        return CrossScatterState.of_scatter(state.through(row_map))

    def contains(self, other: Any, /) -> Callable[[CrossScatterState], Any] | None:
        """Return how the moments of X follow."""
        return CrossScatterState.moments if other == Moments() else None

    def of(self, rows: Rows, /) -> CrossScatterState:
        """Return the state of one block."""
        x, y = rows.X, _numbers(rows)
        n, d = x.shape
        t = 1 if y.ndim == 1 else y.shape[1]
        zeros, none = np.zeros(d + t), np.zeros((d, t))
        if n == 0:
            return CrossScatterState(0, 0.0, zeros, zeros, zeros, none)
        xp = namespace(x)
        wide = float_dtype(x)
        x, y = xp.astype(x, wide, copy=False), xp.reshape(xp.astype(y, wide, copy=False), (n, t))
        w, total = weights_of(rows)
        if total == 0.0:
            self._refuse(rows)
            return CrossScatterState(n, 0.0, zeros, zeros, zeros, none)
        with np.errstate(invalid="ignore", over="ignore"):
            shifts = [_shift(part, w, total) for part in (x, y)]
            x, y = minus(x, shifts[0]), minus(y, shifts[1])
            weighted = y if w is None else y * xp.reshape(w, (-1, 1))
            xy = host(product(x, weighted))
            off = _by_column(x, y, lambda part: column_sums(part, w)) / total
            m2 = _by_column(x, y, lambda part: column_sums_of_squares(part, w))
        if not (np.isfinite(m2).all() and np.isfinite(xy).all()):
            self._refuse(rows)
            raise DataError(
                "products of the deviations of a column and the target overflow float64; scale them to a size near 1 "
                "first"
            )
        xy = xy - off[:d, None] * off[d:] * total
        # A negative sum of squares is rounding.
        m2 = np.maximum(m2 - off * off * total, 0.0)
        mean, rest = sum_and_rest(np.concatenate([host(shift) for shift in shifts]), off)
        return CrossScatterState(n, total, mean, rest, m2, xy, float(xp.finfo(wide).eps))

    def _refuse(self, rows: Rows) -> None:
        refuse_nonfinite(rows.X)
        refuse_nonfinite(rows.y, role="y")

    def merge(self, a: CrossScatterState, b: CrossScatterState, /) -> CrossScatterState:
        """Return the state of the rows of `a` and `b`."""
        if not a.weight or not b.weight:
            full = b if not a.weight else a
            return replace(full, rows=a.rows + b.rows)
        d = a.n_columns
        mean, rest, delta, weight = merged_mean(a, b)
        m2 = a.m2 + b.m2 + delta * delta * weight
        xy = a.xy + b.xy + delta[:d, None] * delta[d:] * weight
        rounding = max(a.rounding, b.rounding)
        return CrossScatterState(a.rows + b.rows, a.weight + b.weight, mean, rest, m2, xy, rounding)

    def origin(self, rows: Rows, /) -> Sums:
        """Return what all blocks are centred by: the mean of the first rows, the value itself where they are equal."""
        y = _numbers(rows)
        found = origins(rows, target=True)
        first = {"x": widened(run_of(rows.X, 0, 1))[0, ...], "y": as_columns(run_of(y, 0, 1))[0, ...]}
        return {**found, **{role: _constant(found[role], one) for role, one in first.items()}}

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return the sums of what differs from the origin, of its squares, and of its products with the targets'."""
        with np.errstate(invalid="ignore", over="ignore"):
            (x, y), weight, sums = about(rows, origin)
            xp = namespace(x)
            weighted = y if weight is None else y * xp.reshape(weight, (-1, 1))
            sums["xy"] = product(x, weighted)
            sums["squares"] = column_sums(x * x, weight)
            sums["squares_y"] = column_sums(y * y, weight)
        return sums

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks."""
        return added(a, b)

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> CrossScatterState | None:
        """Return the state of all rows; None where a cell or a weight will not do, or too many digits are lost."""
        xy = sums["xy"]
        m2 = np.concatenate([sums["squares"], sums["squares_y"]])
        if sums["bad"] or not (np.isfinite(m2).all() and np.isfinite(xy).all()):
            return None
        total, shift, offset = offset_of(origin, sums, rows)
        if not total:
            zeros = np.zeros_like(shift)
            return CrossScatterState(rows, 0.0, zeros, zeros, zeros, np.zeros_like(xy))
        d = len(xy)
        xy = xy - offset[:d, None] * offset[d:] * total
        m2 = np.maximum(m2 - offset * offset * total, 0.0)
        if digits_lost(offset, total, m2, shift, origin["rounding"]):
            return None
        return CrossScatterState(rows, total, *sum_and_rest(shift, offset), m2, xy, float(origin["rounding"]))


def _numbers(rows: Rows) -> Array:
    y = target_of(rows)
    if isinstance(y, np.ndarray) and y.dtype.kind not in "fiub":
        raise DataError(f"y has dtype {y.dtype}; expected numbers")
    return y


def _by_column(x: Array, y: Array, sums: Callable[[Array], Array]) -> Array:
    return np.concatenate([host(sums(part)) for part in (x, y)])


def _shift(x: Array, w: Array | None, total: float) -> Array:
    """Return a row near the mean, the value itself where a column is constant: its deviations are then exactly 0."""
    return _constant(near_mean(x, w, total), run_of(x, 0, 1)[0, ...])


def _constant(mean: Array, first: Array) -> Array:
    """Return the first cell of a column in place of a mean that equals it but for rounding."""
    xp = namespace(mean)
    return xp.where(xp.abs(mean - first) <= _EQUAL * float(xp.finfo(mean.dtype).eps) * xp.abs(first), first, mean)
