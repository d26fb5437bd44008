"""Mean and triangular factor of the centred columns of X, and of the targets beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn._namespace import like, namespace, ones
from ooclearn.rowmaps import Columns, Kind, RowMap
from ooclearn.statistics.added import about, added, digits_lost, offset_of, origins
from ooclearn.statistics.centred import Tile, rooted
from ooclearn.statistics.coded import host
from ooclearn.statistics.means import merged_mean, sum_and_rest
from ooclearn.statistics.protocol import Sums
from ooclearn.statistics.scatter import ScatterState, mapped
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["Triangle", "TriangleState"]

# So many columns are reflected at a time.
_LAPACK_BLOCK = 64


@dataclass(frozen=True, eq=False)
class TriangleState:
    """State of :class:`Triangle`; host arrays of the columns of X and behind them those of y.

    Attributes
    ----------
    rows, weight, mean, rest, n_targets, rounding
        As of :class:`ScatterState`.
    factor : ndarray of shape (columns, columns)
        Upper triangular, its diagonal 0 or more; ``factor.T @ factor`` is the centred scatter matrix.
    """

    rows: int
    weight: float
    mean: Array
    rest: Array
    factor: Array
    n_targets: int = 0
    rounding: float = 0.0

    @property
    def n_columns(self) -> int:
        """How many columns X has."""
        return int(self.mean.shape[0]) - self.n_targets

    @property
    def xx(self) -> Array:
        """The factor of the columns of X: its singular values are those of the centred rows."""
        return self.factor[: self.n_columns, : self.n_columns]

    @property
    def xy(self) -> Array:
        """The targets in the axes of `xx`, of shape (columns, targets): least squares solves ``xx @ coef = xy``."""
        return self.factor[: self.n_columns, self.n_columns :]

    @property
    def yy(self) -> Array:
        """The factor of what least squares leaves of the targets."""
        return self.factor[self.n_columns :, self.n_columns :]

    def features(self) -> TriangleState:
        """Return the state of the columns of X alone.

        Returns
        -------
        TriangleState
            Without targets.
        """
        d = self.n_columns
        return replace(self, mean=self.mean[:d], rest=self.rest[:d], factor=self.factor[:d, :d], n_targets=0)

    def scatter(self) -> ScatterState:
        """Return the scatter that the factor is a root of.

        Returns
        -------
        ScatterState
            ``factor.T @ factor`` and the means; exact to a few roundings of its diagonal.
        """
        scatter = self.factor.T @ self.factor
        return ScatterState(
            self.rows, self.weight, self.mean, self.rest, (scatter + scatter.T) / 2, self.n_targets, self.rounding
        )

    def through(self, row_map: RowMap, /) -> TriangleState:
        """Return the state of the rows that come out of a map of the columns of X; targets stay as they are.

        Parameters
        ----------
        row_map : Affine or Columns
            The map, fitted.

        Returns
        -------
        TriangleState
            Of the columns that come out.
        """
        mean, rest, how = mapped(self, row_map)
        if isinstance(row_map, Columns):
            factor = triangular(self.factor[:, how])
        elif how.ndim == 1:
            factor = _signed(self.factor * how)
        else:
            factor = triangular(self.factor @ how)
        return replace(self, mean=mean, rest=rest, factor=factor)

    def __repr__(self) -> str:
        return f"Triangle: rows={self.rows:_} | columns={self.n_columns} | targets={self.n_targets}"


@dataclass(frozen=True)
class Triangle:
    r"""Weighted mean of the columns of X, or of ``[X, y]``, and the triangular factor R of the centred rows.

    A tile is centred and reduced to its factor by Householder reflections, and blocks are merged by the factor of

    .. math:: \begin{pmatrix} R^a \\ R^b \\ \sqrt{n_a n_b / n} \, \delta^T \end{pmatrix}, \quad
              \delta = \bar x_b - \bar x_a

    so that products are never summed: squares would leave nothing of a direction whose spread is below 1e-8 of the
    greatest, where R tells spreads down to 1e-15. It costs some times what :class:`Scatter` does; ask for it where the
    columns are nearly dependent. Rows are multiplied by the root of their weight. Missing values and infinities are
    refused, with the place. Where columns are dependent, R is one of several; ``R.T @ R`` is the same for all.

    Parameters
    ----------
    target : bool
        Take the columns of y in, behind those of X.

    References
    ----------
    J. Demmel, L. Grigori, M. Hoemmen and J. Langou, "Communication-optimal parallel and sequential QR and LU
    factorizations", SIAM Journal on Scientific Computing 34 (2012).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.statistics import Triangle
    >>> from ooclearn.table import Rows
    >>> Triangle().of(Rows(np.array([[1.0, 2.0], [4.0, 6.0], [1.0, 7.0]]))).factor.round(3)
    array([[2.449, 1.225],
           [0.   , 3.536]])
    """

    target: bool = False

    @property
    def parts(self) -> frozenset[str]:
        """What is read."""
        return frozenset("Xyw" if self.target else "Xw")

    def before(self, kind: Kind, /) -> Triangle:  # noqa: ARG002  (the same for every kind of map)
        """Return what to ask of the input of a map: the factor again."""
        return self

    def after(self, state: TriangleState, row_map: RowMap, /) -> TriangleState:
        """Return the factor behind a map."""
        return state.through(row_map)

    def contains(self, other: Any, /) -> Callable[[TriangleState], Any] | None:
        """Return how the factor of X alone follows: it is a corner of the factor of ``[X, y]``."""
        return TriangleState.features if other == Triangle() and self.target else None

    def of(self, rows: Rows, /) -> TriangleState:
        """Return the state of one block."""
        tile = Tile(rows, target=self.target)
        if not tile.weight:
            zeros = np.zeros((len(tile.shift), len(tile.shift)))
            return TriangleState(*tile.of_no_weight(), zeros, tile.n_targets)
        # What a library's reflections make of cells that are no numbers is not said.
        tile.refuse_cells()
        with np.errstate(invalid="ignore", over="ignore"):
            off = tile.off()
            centred = _joined(tile.parts)
            factor = triangular(rooted(centred - like(off, centred, centred.dtype), tile.w))
        if not np.isfinite(factor).all():
            tile.refuse("deviations from the mean")
        mean, rest = sum_and_rest(tile.shift, off)
        return TriangleState(tile.n, tile.weight, mean, rest, factor, tile.n_targets, tile.rounding)

    def merge(self, a: TriangleState, b: TriangleState, /) -> TriangleState:
        """Return the state of the rows of `a` and `b`."""
        if not a.weight or not b.weight:
            full = b if not a.weight else a
            return replace(full, rows=a.rows + b.rows)
        mean, rest, delta, weight = merged_mean(a, b)
        factor = triangular(np.concatenate([a.factor, b.factor, (delta * np.sqrt(weight))[None, :]]))
        rounding = max(a.rounding, b.rounding)
        return TriangleState(a.rows + b.rows, a.weight + b.weight, mean, rest, factor, a.n_targets, rounding)

    def origin(self, rows: Rows, /) -> Sums:
        """Return what all blocks are centred by: the mean of the first rows."""
        return origins(rows, target=self.target)

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return the sums of what differs from the origin, and the factor of it beside a column of ones.

        Behind the row and column of the ones, which take the mean out, stands the factor of the centred rows.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            parts, weight, sums = about(rows, origin)
            xp = namespace(parts[0])
            n = parts[0].shape[0]
            beside = xp.concat([xp.reshape(ones(n, parts[0]), (n, 1)), *parts], axis=1)
            sums["factor"] = _reduced(rooted(beside, weight))
        return sums

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks, and the factor of both their factors."""
        both = namespace(a["factor"]).concat([a["factor"], b["factor"]], axis=0)
        rest = {name: value for name, value in a.items() if name != "factor"}
        return {**added(rest, b), "factor": _reduced(both)}

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> TriangleState | None:
        """Return the state of all rows; None where a cell or a weight will not do, or too many digits are lost."""
        # Sums of columns tell what is not finite, too, whatever a library's reflections make of it.
        told = [sums[name] for name in ("factor", "off", "off_y") if sums[name] is not None]
        if sums["bad"] or not all(np.isfinite(one).all() for one in told):
            return None
        total, shift, offset = offset_of(origin, sums, rows)
        t = len(shift) - len(origin["x"])
        if not total:
            zeros = np.zeros_like(shift)
            return TriangleState(rows, 0.0, zeros, zeros, np.zeros((len(shift), len(shift))), t)
        factor = _square(sums["factor"])[1:, 1:]
        m2 = np.einsum("ij,ij->j", factor, factor)
        if digits_lost(offset, total, m2, shift, origin["rounding"]):
            return None
        return TriangleState(rows, total, *sum_and_rest(shift, offset), _signed(factor), t, float(origin["rounding"]))


def triangular(rows: Array, /) -> Array:
    """Return the square triangular factor of rows of any library, on the host, its diagonal 0 or more."""
    return _signed(_square(host(_reduced(rows))))


def _reduced(rows: Array) -> Array:
    """Return the triangular factor where the rows are; on the host if their library has no such function."""
    # An extension of the standard, which a library may lack.
    linalg: Any = None if isinstance(rows, np.ndarray) else getattr(namespace(rows), "linalg", None)
    return _reflected(host(rows)) if linalg is None or not hasattr(linalg, "qr") else linalg.qr(rows, mode="reduced")[1]


def _reflected(rows: Array) -> Array:
    """Return the triangular factor of host rows. NumPy's function would keep the interpreter's lock for as long."""
    from scipy.linalg.lapack import get_lapack_funcs  # a tenth of a second to import

    n, d = rows.shape
    if not n:
        return np.empty((0, d))  # LAPACK would print that it takes none
    reflect = get_lapack_funcs("geqrf", (rows,))
    # A copy in the order of columns, which it may write to.
    packed: Array = reflect(np.array(rows, order="F"), lwork=max(1, _LAPACK_BLOCK * d), overwrite_a=True)[0]
    return np.triu(packed[:d])


def _square(factor: Array) -> Array:
    """Return a factor of fewer rows than columns with rows of zeros."""
    lacking = factor.shape[1] - factor.shape[0]
    return factor if lacking <= 0 else np.concatenate([factor, np.zeros((lacking, factor.shape[1]))])


def _signed(factor: Array) -> Array:
    return np.where(np.diagonal(factor) < 0, -1.0, 1.0)[:, None] * factor


def _joined(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else namespace(parts[0]).concat(parts, axis=1)
