"""Mean and centred scatter matrix of the columns of X, and of the targets beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn.products import product
from ooclearn.rowmaps import Affine, Columns, Kind, RowMap
from ooclearn.statistics.added import about, added, digits_lost, offset_of, origins
from ooclearn.statistics.centred import Tile, proper, rooted
from ooclearn.statistics.coded import host
from ooclearn.statistics.cross import CrossScatter, CrossScatterState
from ooclearn.statistics.means import affine_mean, merged_mean, projected_mean, sum_and_rest
from ooclearn.statistics.moments import Moments, MomentsState
from ooclearn.statistics.protocol import Sums
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["Scatter", "ScatterState"]


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
        """Return the covariance matrix of the columns of X.

        Parameters
        ----------
        correction : float, default=1.0
            The divisor is ``weight - correction``: 1 for the unbiased estimate, 0 for that of maximum likelihood.

        Returns
        -------
        ndarray of shape (columns, columns)
            Symmetric.
        """
        return self.xx / (self.weight - correction)

    def features(self) -> ScatterState:
        """Return the state of the columns of X alone.

        Returns
        -------
        ScatterState
            Without targets.
        """
        d = self.n_columns
        return replace(self, mean=self.mean[:d], rest=self.rest[:d], scatter=self.scatter[:d, :d], n_targets=0)

    def moments(self) -> MomentsState:
        """Return count, mean and sum of squares of each column of X.

        Returns
        -------
        MomentsState
            As :class:`Moments` of the same rows gives them.
        """
        one = self.features()
        count = np.full(one.mean.shape, float(one.weight))
        return MomentsState(
            one.rows, one.weight, count, one.mean, one.rest, np.diagonal(one.scatter).copy(), one.rounding
        )

    def through(self, row_map: RowMap, /) -> ScatterState:
        """Return the state of the rows that come out of a map of the columns of X; targets stay as they are.

        Parameters
        ----------
        row_map : Affine or Columns
            The map, fitted.

        Returns
        -------
        ScatterState
            Of the columns that come out.
        """
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
        tile = Tile(rows, target=self.target)
        if not tile.weight:
            zeros = np.zeros((len(tile.shift), len(tile.shift)))
            return ScatterState(*tile.of_no_weight(), zeros, tile.n_targets)
        with np.errstate(invalid="ignore", over="ignore"):
            off = tile.off()
            scatter = _products([rooted(part, tile.w) for part in tile.parts])
        if not np.isfinite(scatter).all():
            tile.refuse("products of the deviations of two columns")
        scatter = proper(scatter - off[:, None] * off * tile.weight)
        mean, rest = sum_and_rest(tile.shift, off)
        return ScatterState(tile.n, tile.weight, mean, rest, scatter, tile.n_targets, tile.rounding)

    def merge(self, a: ScatterState, b: ScatterState, /) -> ScatterState:
        """Return the state of the rows of `a` and `b`."""
        if not a.weight or not b.weight:
            full = b if not a.weight else a
            return replace(full, rows=a.rows + b.rows)
        mean, rest, delta, weight = merged_mean(a, b)
        scatter = a.scatter + b.scatter + delta[:, None] * delta * weight
        rounding = max(a.rounding, b.rounding)
        return ScatterState(a.rows + b.rows, a.weight + b.weight, mean, rest, scatter, a.n_targets, rounding)

    def origin(self, rows: Rows, /) -> Sums:
        """Return what all blocks are centred by: the mean of the first rows."""
        return origins(rows, target=self.target)

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return the sums of what differs from the origin, and of its products."""
        with np.errstate(invalid="ignore", over="ignore"):
            parts, weight, sums = about(rows, origin)
            parts = [rooted(part, weight) for part in parts]
            x, y = parts[0], parts[1] if self.target else None
            sums["xx"] = product(x, x)
            sums["xy"] = None if y is None else product(x, y)
            sums["yy"] = None if y is None else product(y, y)
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
        scatter = proper(scatter - offset[:, None] * offset * total)
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
        mean, rest, matrix = projected_mean(state.mean[:d], state.rest[:d], row_map)
        how = np.zeros((d + t, matrix.shape[1] + t))
        how[:d, : matrix.shape[1]] = matrix
        how[d:, matrix.shape[1] :] = np.eye(t)
    if not state.weight:
        mean, rest = np.zeros_like(mean), np.zeros_like(rest)  # of no rows there is none to be mapped
    return np.concatenate([mean, state.mean[d:]]), np.concatenate([rest, state.rest[d:]]), how


def _products(parts: list[Array]) -> Array:
    """Return the products of all columns of the parts, on the host. Those of a part with itself are symmetric: half."""
    rows = [[host(product(a, b)) for b in parts[k:]] for k, a in enumerate(parts)]
    if len(parts) == 1:
        return rows[0][0]
    (xx, xy), (yy,) = rows
    return np.block([[xx, xy], [xy.T, yy]])
