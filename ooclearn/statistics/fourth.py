"""Scatter, and the third and fourth moments of pairs of columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn._namespace import column_sums, namespace
from ooclearn.buffers import local_buffers
from ooclearn.products import product
from ooclearn.rowmaps import Affine, Columns, Kind, RowMap
from ooclearn.statistics.added import about, added, digits_lost, offset_of, origins, rounding_of, widened
from ooclearn.statistics.centred import proper, refuse, rooted, weights_of
from ooclearn.statistics.checks import refuse_nonfinite
from ooclearn.statistics.coded import host
from ooclearn.statistics.means import affine_mean, near_mean, sum_and_rest
from ooclearn.statistics.protocol import Sums
from ooclearn.statistics.scatter import Scatter, ScatterState
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["FourthMoments", "FourthMomentsState"]


@dataclass(frozen=True, eq=False)
class FourthMomentsState:
    """State of :class:`FourthMoments`; `u` are the deviations of the rows from their mean.

    Attributes
    ----------
    scatter : ScatterState
        Rows, mean and scatter.
    third : ndarray of shape (columns, columns)
        The weighted sums of ``u[j]**2 * u[k]``.
    fourth : ndarray of shape (columns, columns)
        The weighted sums of ``u[j]**2 * u[k]**2``.
    """

    scatter: ScatterState
    third: Array
    fourth: Array

    def about(self, d: Array, /) -> tuple[Array, Array]:
        """Return the third and fourth moments about another point than the mean.

        Parameters
        ----------
        d : ndarray of shape (columns,)
            The point less the mean.

        Returns
        -------
        third : ndarray of shape (columns, columns)
            As the attribute, about the mean plus `d`.
        fourth : ndarray of shape (columns, columns)
            As the attribute, about the mean plus `d`.
        """
        s, n = self.scatter.xx, self.scatter.weight
        squares = np.diagonal(s)
        pairs = d[:, None] * d
        third = self.third - 2 * d[:, None] * s - squares[:, None] * d - n * d[:, None] * pairs
        fourth = self.fourth - 2 * (self.third * d + self.third.T * d[:, None])
        fourth += squares[:, None] * (d * d) + (d * d)[:, None] * squares + 4 * pairs * s + n * pairs * pairs
        return third, fourth

    def through(self, row_map: RowMap, /) -> FourthMomentsState:
        """Return the state of the rows that come out of a map by column.

        Parameters
        ----------
        row_map : Affine or Columns
            The map, fitted; an affine one is diagonal.

        Returns
        -------
        FourthMomentsState
            Of the columns that come out.
        """
        scatter = self.scatter.through(row_map)
        if isinstance(row_map, Columns):
            at = np.ix_(row_map.positions, row_map.positions)
            return FourthMomentsState(scatter, self.third[at], self.fourth[at])
        assert isinstance(row_map, Affine)
        _, _, factor = affine_mean(self.scatter.mean, self.scatter.rest, row_map)
        squares = (factor * factor)[:, None]
        return FourthMomentsState(scatter, self.third * squares * factor, self.fourth * squares * (factor * factor))

    def __repr__(self) -> str:
        return f"FourthMoments: rows={self.scatter.rows:_} | columns={self.scatter.n_columns}"


@dataclass(frozen=True)
class FourthMoments:
    r"""Weighted mean, centred scatter and centred third and fourth moments of pairs of columns.

    A tile is centred, its squares are put beside it, and one symmetric matrix product gives all sums; it costs four
    times that of :class:`~ooclearn.statistics.Scatter`. Blocks are merged by expanding the powers about the common
    mean, as Pébay does for one column. Seen through maps by column, not through a matrix. Missing values and
    infinities are refused, with the place.

    References
    ----------
    P. Pébay, "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order statistical
    moments", Sandia report SAND2008-6212 (2008).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.statistics import FourthMoments
    >>> from ooclearn.table import Rows
    >>> FourthMoments().of(Rows(np.array([[1.0, 2.0], [3.0, 6.0]]))).fourth
    array([[ 2.,  8.],
           [ 8., 32.]])
    """

    parts: frozenset[str] = frozenset("Xw")

    def before(self, kind: Kind, /) -> FourthMoments | None:
        """Return what to ask of the input of a map: the same again, if it is by column."""
        return self if kind in ("same", "diagonal", "columns") else None

    def after(self, state: FourthMomentsState, row_map: RowMap, /) -> FourthMomentsState:
        """Return the moments behind a map."""
        return state.through(row_map)

    def contains(self, other: Any, /) -> Callable[[FourthMomentsState], Any] | None:
        """Return how the scatter and the moments follow."""
        if other == Scatter():
            return _scatter
        inner = Scatter().contains(other)
        return None if inner is None else lambda state: inner(state.scatter)

    def of(self, rows: Rows, /) -> FourthMomentsState:
        """Return the state of one block."""
        x = rows.X
        n, d = x.shape
        w, total = weights_of(rows)
        if total == 0.0:
            refuse_nonfinite(x)  # as it is where other rows of the block have a weight
            zeros = np.zeros((d, d))
            return FourthMomentsState(ScatterState(n, 0.0, np.zeros(d), np.zeros(d), zeros), zeros, zeros)
        with np.errstate(invalid="ignore", over="ignore"):
            both, mean, rest = _beside_squares(widened(x), w, total)
            if w is not None:
                xp = namespace(x)
                roots = xp.reshape(xp.sqrt(w), (-1, 1))
                both = np.multiply(both, roots, out=both) if isinstance(both, np.ndarray) else both * roots
            products = host(product(both, both))
        if not np.isfinite(products).all():
            refuse(x)
        scatter = ScatterState(n, total, mean, rest, products[:d, :d].copy(), 0, rounding_of(x))
        return FourthMomentsState(scatter, products[d:, :d].copy(), products[d:, d:].copy())

    def merge(self, a: FourthMomentsState, b: FourthMomentsState, /) -> FourthMomentsState:
        """Return the state of the rows of `a` and `b`."""
        scatter = Scatter().merge(a.scatter, b.scatter)
        if not a.scatter.weight or not b.scatter.weight:
            full = b if not a.scatter.weight else a
            return FourthMomentsState(scatter, full.third, full.fourth)
        delta = (b.scatter.mean - a.scatter.mean) + (b.scatter.rest - a.scatter.rest)
        left = a.about(delta * (b.scatter.weight / scatter.weight))
        right = b.about(-delta * (a.scatter.weight / scatter.weight))
        return FourthMomentsState(scatter, left[0] + right[0], left[1] + right[1])

    def origin(self, rows: Rows, /) -> Sums:
        """Return what all blocks are centred by: the mean of the first rows."""
        return origins(rows, target=False)

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return the sums of what differs from the origin, and of the products of it and its squares."""
        with np.errstate(invalid="ignore", over="ignore"):
            (u,), weight, sums = about(rows, origin)
            both = namespace(u).concat([u, u * u], axis=1)
            both = rooted(both, weight)
            sums["products"] = product(both, both)
        return sums

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks."""
        return added(a, b)

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> FourthMomentsState | None:
        """Return the state of all rows; None where a cell or a weight will not do, or too many digits are lost."""
        products, d = sums["products"], len(sums["off"])
        if sums["bad"] or not np.isfinite(products).all():
            return None
        total, shift, offset = offset_of(origin, sums, rows)
        if not total:
            zeros = np.zeros((d, d))
            return FourthMomentsState(ScatterState(rows, 0.0, zeros[0], zeros[0], zeros), zeros, zeros)
        second = proper(products[:d, :d] - offset[:, None] * offset * total)
        if digits_lost(offset, total, np.diagonal(second), shift, origin["rounding"]):
            return None
        mean, rest = sum_and_rest(shift, offset)
        scatter = ScatterState(rows, total, mean, rest, second, 0, float(origin["rounding"]))
        # Moments about the origin are those about the mean and what lower ones add to them; the latter goes.
        none = np.zeros((d, d))
        third = products[d:, :d] - FourthMomentsState(scatter, none, none).about(-offset)[0]
        fourth = proper(products[d:, d:] - FourthMomentsState(scatter, third, none).about(-offset)[1])
        return FourthMomentsState(scatter, third, fourth)


def _scatter(state: FourthMomentsState) -> ScatterState:
    return state.scatter


def _beside_squares(x: Array, w: Array | None, total: float) -> tuple[Array, Array, Array]:
    """Return the deviations of `x` from its mean and their squares side by side, and that mean as two numbers."""
    d = x.shape[1]
    shift = near_mean(x, w, total)
    if isinstance(x, np.ndarray):
        both = local_buffers().empty((x.shape[0], 2 * d), np.dtype(np.float64))
        u = np.subtract(x, shift, out=both[:, :d])
        off = column_sums(u, w) / total
        # Powers of deviations from anything but the mean would cancel.
        np.subtract(u, off, out=u)
        np.multiply(u, u, out=both[:, d:])
    else:
        u = x - shift
        off = column_sums(u, w) / total
        u = u - off
        both = namespace(x).concat([u, u * u], axis=1)
    return both, *sum_and_rest(host(shift), host(off))
