"""Least and greatest value of each column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ooclearn._namespace import device_of, float_dtype, namespace, widen
from ooclearn.rowmaps import Columns, Kind, RowMap
from ooclearn.statistics.added import widened
from ooclearn.statistics.checks import refuse_infinite
from ooclearn.statistics.coded import host
from ooclearn.statistics.protocol import Sums
from ooclearn.statistics.stored import stored_extrema
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["Extrema", "ExtremaState"]


@dataclass(frozen=True, eq=False)
class ExtremaState:
    """State of :class:`Extrema`; host arrays of shape (columns,).

    Attributes
    ----------
    rows : int
        Rows seen, whatever is in them.
    low : ndarray
        The least values; inf where there is none.
    high : ndarray
        The greatest values; -inf where there is none.
    """

    rows: int
    low: Array
    high: Array

    def least(self) -> Array:
        """Return the least value of each column.

        Returns
        -------
        ndarray of shape (columns,)
            NaN where all values are missing.
        """
        return np.where(self.low > self.high, np.nan, self.low)

    def greatest(self) -> Array:
        """Return the greatest value of each column.

        Returns
        -------
        ndarray of shape (columns,)
            NaN where all values are missing.
        """
        return np.where(self.low > self.high, np.nan, self.high)

    def __repr__(self) -> str:
        return f"Extrema: rows={self.rows:_} | columns={self.low.shape[0]}"


@dataclass(frozen=True)
class Extrema:
    """Least and greatest value of each column, exact; missing values (NaN) left out.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.statistics import Extrema
    >>> from ooclearn.table import Rows
    >>> Extrema().of(Rows(np.array([[1.0], [5.0], [np.nan]]))).greatest()
    array([5.])
    """

    parts: frozenset[str] = frozenset("X")

    def before(self, kind: Kind, /) -> Extrema | None:
        """Return what to ask of the input of a map: extrema again; nothing tells them behind a rotation."""
        return None if kind == "affine" else self

    def after(self, state: ExtremaState, row_map: RowMap, /) -> ExtremaState:
        """Return the extrema behind a map."""
        if isinstance(row_map, Columns):
            at = np.asarray(row_map.positions, dtype=np.int64)
            return ExtremaState(state.rows, state.low[at], state.high[at])
        there = state.low <= state.high
        ends = np.where(there, np.stack([state.low, state.high]), 0.0)
        ends = row_map(ends)
        return ExtremaState(
            state.rows, np.where(there, ends.min(axis=0), np.inf), np.where(there, ends.max(axis=0), -np.inf)
        )

    def of(self, rows: Rows, /) -> ExtremaState:
        """Return the state of one block."""
        x = rows.X
        n, d = x.shape
        if n == 0:
            return ExtremaState(0, np.full(d, np.inf), np.full(d, -np.inf))
        if hasattr(x, "tocsr"):
            return ExtremaState(n, *stored_extrema(x))
        xp = namespace(x)
        if not xp.isdtype(x.dtype, "real floating"):
            x = xp.astype(x, float_dtype(x))
        low, high = _extrema(x)
        if not np.isfinite(low).all() or not np.isfinite(high).all():
            # CuPy's min and max are wrong where there are infinities (its issue 7424), so look at the cells.
            refuse_infinite(x)
            bound = xp.asarray(xp.inf, dtype=x.dtype, device=device_of(x))
            missing = xp.isnan(x)
            low = host(xp.min(xp.where(missing, bound, x), axis=0))
            high = host(xp.max(xp.where(missing, -bound, x), axis=0))
        return ExtremaState(n, low, high)

    def merge(self, a: ExtremaState, b: ExtremaState, /) -> ExtremaState:
        """Return the state of the rows of `a` and `b`."""
        return ExtremaState(a.rows + b.rows, np.minimum(a.low, b.low), np.maximum(a.high, b.high))

    def origin(self, rows: Rows, /) -> Sums:  # noqa: ARG002  (the protocol's signature)
        """Return nothing: cells are compared with one another."""
        return {}

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:  # noqa: ARG002  (the protocol's signature)
        """Return, by column, the least and the greatest of what is finite, and how many cells are infinite."""
        x = rows.X
        xp = namespace(x)
        if not xp.isdtype(x.dtype, "real floating"):
            x = widened(x)
            return {"low": _by_column(xp.min, x), "high": _by_column(xp.max, x), "infinite": 0}
        # CuPy's min and max are wrong where there are infinities (its issue 7424). A column without a value is left
        # with a least one above its greatest.
        bound = xp.full((), xp.finfo(x.dtype).max, dtype=x.dtype, device=device_of(x))
        there = xp.isfinite(x)
        return {
            "low": _by_column(xp.min, xp.where(there, x, bound)),
            "high": _by_column(xp.max, xp.where(there, x, -bound)),
            "infinite": xp.sum(xp.astype(xp.isinf(x), x.dtype)),
        }

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return what two runs of blocks come to."""
        xp = namespace(a["low"])
        return {
            "low": xp.minimum(a["low"], b["low"]),
            "high": xp.maximum(a["high"], b["high"]),
            "infinite": a["infinite"] + b["infinite"],
        }

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> ExtremaState | None:  # noqa: ARG002  (as above)
        """Return the state of all rows; None where a cell is infinite."""
        if sums["infinite"]:
            return None
        low, high = sums["low"], sums["high"]
        there = low <= high
        return ExtremaState(rows, np.where(there, low, np.inf), np.where(there, high, -np.inf))


def _extrema(x: Array) -> tuple[Array, Array]:
    xp = namespace(x)
    return host(_by_column(xp.min, x)), host(_by_column(xp.max, x))


def _by_column(extreme: Callable[..., Array], x: Array) -> Array:
    """Return the least or the greatest value of each column, on the device."""
    seen, k = widen(x)
    found = extreme(seen, axis=0)
    return found if k == 1 else extreme(namespace(x).reshape(found, (k, -1)), axis=0)
