"""Count, mean and centred sum of squares of each column."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn._namespace import column_sums, column_sums_of_squares, minus, namespace, run_of
from ooclearn.backend import backend_of
from ooclearn.exceptions import DataError
from ooclearn.rowmaps import Columns, Kind, RowMap
from ooclearn.statistics.added import added, digits_lost, first_mean, rounding_of, weight_sums, widened
from ooclearn.statistics.centred import centred, weights_of
from ooclearn.statistics.checks import refuse_infinite, refuse_weights
from ooclearn.statistics.means import affine_mean, representable, shift_near, sum_and_rest
from ooclearn.statistics.protocol import Statistic, Sums
from ooclearn.statistics.stored import stored_moments
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["Moments", "MomentsState"]


@dataclass(frozen=True, eq=False)
class MomentsState:
    """State of :class:`Moments`; host arrays of shape (columns,).

    Attributes
    ----------
    rows : int
        Rows seen, whatever is in them.
    weight : float
        The sum of the weights of these rows, or their number.
    n : ndarray
        Values that are not missing, or the sum of their weights.
    mean : ndarray
        Their weighted mean; 0 where there is none.
    rest : ndarray
        What float64 cannot hold of that mean, so that the difference of two means keeps its digits.
    m2 : ndarray
        Their weighted sum of squared deviations from the mean; not finite where that overflows.
    rounding : float
        The rounding unit of what computed it: that of float64, or of float32 on a device that has no more.
    """

    rows: int
    weight: float
    n: Array
    mean: Array
    rest: Array
    m2: Array
    rounding: float = 0.0

    def variance(self, *, correction: float = 0.0) -> Array:
        """Return the variance of each column.

        Parameters
        ----------
        correction : float, default=0.0
            The divisor is ``n - correction``: 1 for the unbiased estimate.

        Returns
        -------
        ndarray of shape (columns,)
            NaN where there are no values, or no more than `correction`.

        Raises
        ------
        DataError
            The sums of squares of a column overflow float64.
        """
        _refuse_overflow(self.m2, "squares of deviations from the mean")
        n = self.n - correction
        return np.divide(self.m2, n, out=np.full_like(self.m2, np.nan), where=n > 0)

    def means(self) -> Array:
        """Return the mean of each column.

        Returns
        -------
        ndarray of shape (columns,)
            NaN where there are no values.

        Raises
        ------
        DataError
            The sum of a column overflows float64.
        """
        _refuse_overflow(self.mean, "sums of columns")
        return np.where(self.n > 0, self.mean, np.nan)

    def __repr__(self) -> str:
        return f"Moments: rows={self.rows:_} | columns={self.mean.shape[0]}"


@dataclass(frozen=True)
class Moments:
    r"""Weighted count, mean and centred sum of squares of each column; missing values (NaN) left out.

    A block is centred by its own mean before squaring, and blocks are merged by

    .. math:: M_2 = M_2^a + M_2^b + \delta^2 \frac{n_a n_b}{n}, \quad \delta = \bar x_b - \bar x_a

    so that no digits are lost to a large offset. The mean is kept as two numbers, its float64 and the rest, since
    the difference of two block means that lie far from 0 would otherwise be mostly rounding. The relative error of a
    variance grows with the number of merges on a path of the tree, its logarithm, not with the number of rows.

    References
    ----------
    T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for computing the sample variance: analysis and
    recommendations", The American Statistician 37 (1983).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.statistics import Moments
    >>> from ooclearn.table import Rows
    >>> moments = Moments()
    >>> a, b = moments.of(Rows(np.array([[1.0]]))), moments.of(Rows(np.array([[3.0]])))
    >>> moments.merge(a, b).variance()
    array([1.])
    """

    parts: frozenset[str] = frozenset("Xw")

    def before(self, kind: Kind, /) -> Statistic[Any]:
        """Return what to ask of the input of a map: moments again, or the scatter if it is not by column."""
        from ooclearn.statistics.scatter import Scatter  # it builds on this module

        return Scatter() if kind == "affine" else self

    def after(self, state: Any, row_map: RowMap, /) -> MomentsState:
        """Return the moments behind a map."""
        if not isinstance(state, MomentsState):
            return state.through(row_map).moments()  # type: ignore[no-any-return]  # a ScatterState
        if isinstance(row_map, Columns):
            at = np.asarray(row_map.positions, dtype=np.int64)
            taken = {name: getattr(state, name)[at] for name in ("n", "mean", "rest", "m2")}
            return replace(state, **taken)
        mean, rest, factor = affine_mean(state.mean, state.rest, row_map)
        there = state.n > 0
        return replace(
            state, mean=np.where(there, mean, 0.0), rest=np.where(there, rest, 0.0), m2=state.m2 * factor * factor
        )

    def of(self, rows: Rows, /) -> MomentsState:
        """Return the state of one block."""
        x, w = rows.X, rows.w
        n, d = x.shape
        if n == 0:
            zeros = np.zeros(d)
            return MomentsState(0, 0.0, zeros, zeros, zeros, zeros)
        if hasattr(x, "tocsr"):
            return _of_sparse(x, w)
        x = widened(x)
        w, total = weights_of(rows)
        if total == 0.0:
            refuse_infinite(x)  # as it is where other rows of the block have a weight
            zeros = np.zeros(d)
            return MomentsState(n, 0.0, zeros, zeros, zeros, zeros)
        with np.errstate(invalid="ignore", over="ignore"):
            near = shift_near(x, w, total, rows.X)
            off, m2 = _about(centred(x, near), w, total)
            shift, off, m2 = _on_host(np.zeros(d) if near is None else near, off, m2)
        if not np.isfinite(m2).all():
            return self._with_missing(x, w, total)
        return MomentsState(n, total, np.full(d, total), *sum_and_rest(shift, off), m2, rounding_of(x))

    def _with_missing(self, x: Array, w: Array | None, total: float) -> MomentsState:
        xp = namespace(x)
        refuse_infinite(x)
        missing = xp.isnan(x)
        there = xp.astype(xp.logical_not(missing), x.dtype)
        x = xp.where(missing, xp.zeros_like(run_of(x, 0, 1)), x)
        with np.errstate(invalid="ignore", over="ignore"):
            count = column_sums(there, w)
            safe = xp.where(count > 0, count, xp.ones_like(count))
            mean = column_sums(x, w) / safe
            centred = minus(x, mean)
            centred = np.multiply(centred, there, out=centred) if isinstance(centred, np.ndarray) else centred * there
            shift = column_sums(centred, w) / safe
            m2 = column_sums_of_squares(centred, w) - shift * shift * count
        count, mean, shift, m2 = _on_host(count, mean, shift, xp.where(m2 < 0, xp.zeros_like(m2), m2))
        with np.errstate(invalid="ignore"):
            mean, rest = sum_and_rest(mean, np.where(count > 0, shift, 0.0))
        return MomentsState(int(x.shape[0]), total, count, mean, rest, m2, rounding_of(x))

    def merge(self, a: MomentsState, b: MomentsState, /) -> MomentsState:
        """Return the state of the rows of `a` and `b`."""
        n = a.n + b.n
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(n > 0, b.n / n, 0.0)
        # What overflows is not finite, and is refused when it is asked for.
        with np.errstate(invalid="ignore", over="ignore"):
            # A side without values has mean 0, and must not pull.
            delta = np.where((a.n > 0) & (b.n > 0), (b.mean - a.mean) + (b.rest - a.rest), 0.0)
            mean, rest = sum_and_rest(a.mean, a.rest + delta * share)
            mean, rest = np.where(a.n == 0, b.mean, mean), np.where(a.n == 0, b.rest, rest)
            m2 = a.m2 + b.m2 + delta * delta * (a.n * share)
        return MomentsState(a.rows + b.rows, a.weight + b.weight, n, mean, rest, m2, max(a.rounding, b.rounding))

    def origin(self, rows: Rows, /) -> Sums:
        """Return what all blocks are centred by: the mean of the first rows, without what is missing."""
        return {"shift": representable(first_mean(rows), rows.X), "rounding": rounding_of(rows.X)}

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return, by column, the count and the sums of what differs from the origin, and of its squares."""
        x, w = widened(rows.X), rows.w
        xp = namespace(x)
        missing = xp.isnan(x)
        weight, bad = weight_sums(w, x)
        with np.errstate(invalid="ignore", over="ignore"):
            centred = xp.where(missing, xp.zeros_like(x), x - origin["shift"])
            return {
                "count": column_sums(xp.astype(xp.logical_not(missing), x.dtype), weight),
                "off": column_sums(centred, weight),
                "squares": column_sums(centred * centred, weight),
                "bad": bad,
                "weight": None if weight is None else xp.sum(weight),
            }

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks."""
        return added(a, b)

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> MomentsState | None:
        """Return the state of all rows; None where a cell is infinite, a weight is none, or too many digits are lost."""
        count, off, squares = sums["count"], sums["off"], sums["squares"]
        if sums["bad"] or not np.isfinite(squares).all():
            return None
        there = count > 0
        offset = np.divide(off, count, out=np.zeros_like(off), where=there)
        mean, rest = sum_and_rest(np.where(there, origin["shift"], 0.0), offset)
        m2 = np.maximum(squares - off * offset, 0.0)
        if digits_lost(offset, count, m2, origin["shift"], origin["rounding"]):
            return None
        weight = float(rows if sums["weight"] is None else sums["weight"])
        return MomentsState(rows, weight, count, mean, rest, m2, float(origin["rounding"]))


def _refuse_overflow(values: Array, what: str) -> None:
    overflown = np.flatnonzero(~np.isfinite(values))
    if len(overflown):
        raise DataError(
            f"{what} overflow float64, in {len(overflown):,} of {len(values):,} columns; scale the columns to a size near 1 "
            "first. This is the first",
            column=int(overflown[0]),
            part="X",
        )


def _of_sparse(x: Array, w: Array | None) -> MomentsState:
    if w is not None:
        refuse_weights(w)
    with np.errstate(invalid="ignore", over="ignore"):
        count, mean, rest, m2 = stored_moments(x, w)
        mean, rest = sum_and_rest(mean, rest)
    total = float(x.shape[0] if w is None else np.sum(w, dtype=np.float64))
    return MomentsState(int(x.shape[0]), total, count, mean, rest, m2, float(np.finfo(np.float64).eps))


def _about(x: Array, w: Array | None, total: float) -> tuple[Array, Array]:
    """Return the mean of rows that lie about 0, and the sum of squares about the mean, by column."""
    xp = namespace(x)
    off = column_sums(x, w) / total
    m2 = column_sums_of_squares(x, w) - off * off * total
    # A negative rest is rounding; NaN must stay, it tells of missing values.
    return off, xp.where(m2 < 0, xp.zeros_like(m2), m2)


def _on_host(*values: Array) -> tuple[Array, ...]:
    """Return rows of numbers as float64 on the host, in one copy; what is added there loses no more digits."""
    if isinstance(values[0], np.ndarray):
        return values
    stacked = namespace(values[0]).stack(list(values))
    return tuple(np.asarray(backend_of(stacked).to_host(stacked), dtype=np.float64))
