"""Distinct values of the target, and how often each occurs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ooclearn.backend import backend_of
from ooclearn.buffers import local_buffers
from ooclearn.exceptions import DataError
from ooclearn.statistics.checks import refuse_nonfinite, refuse_weights
from ooclearn.statistics.coded import by_sorting, host
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["Counts", "Distinct", "DistinctState"]

# Counting whole numbers by position beats sorting them tenfold, while the positions fit the processor's cache.
_POSITIONS = 2**16


@dataclass(frozen=True, eq=False)
class Counts:
    """Sorted distinct values of one column, and how often each occurs.

    Attributes
    ----------
    values : ndarray of shape (values,)
        Sorted.
    counts : ndarray of shape (values,)
        Rows of each.
    weights : ndarray of shape (values,)
        The sum of their weights, or their number.
    """

    values: Array
    counts: Array
    weights: Array


@dataclass(frozen=True, eq=False)
class DistinctState:
    """State of :class:`Distinct`.

    Attributes
    ----------
    rows : int
        Rows seen.
    columns : tuple of Counts
        Sorted ``values`` of each column with their ``counts`` and ``weights``, arrays of one length; one entry for a
        one-dimensional y, none where no rows were seen.
    """

    rows: int
    columns: tuple[Counts, ...] = ()

    def __repr__(self) -> str:
        found = ", ".join(str(len(column.values)) for column in self.columns)
        return f"Distinct: rows={self.rows:_} | values={found}"


@dataclass(frozen=True)
class Distinct:
    """Sorted distinct values of y, or of each of its columns, with counts; exact.

    Parameters
    ----------
    limit : int
        Give up with an error beyond so many distinct values in a column: such a target is not a class.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.statistics import Distinct
    >>> from ooclearn.table import Rows
    >>> Distinct().of(Rows(None, np.array(["b", "a", "b"]))).columns[0].counts
    array([1, 2])
    """

    limit: int = 100_000
    parts: frozenset[str] = frozenset("yw")

    def of(self, rows: Rows, /) -> DistinctState:
        """Return the state of one block."""
        y: Array = rows.labels if rows.labels is not None else backend_of(rows.y).to_host(rows.y)
        if y.shape[0] == 0:
            return DistinctState(0)
        if y.dtype.kind == "f":
            refuse_nonfinite(y, role="y")
        w = None
        if rows.w is not None:
            refuse_weights(rows.w)
            w = host(rows.w)
        columns = [y] if y.ndim == 1 else [y[:, j] for j in range(y.shape[1])]
        return DistinctState(y.shape[0], tuple(self._column(column, w) for column in columns))

    def _column(self, y: Array, w: Array | None) -> Counts:
        found = _by_position(y, w) or _by_sorting(y, w)
        self._check(found.values)
        return found

    def _check(self, values: Array) -> None:
        if len(values) > self.limit:
            raise DataError(
                f"y has more than {self.limit:,} distinct values, as a continuous target has; expected classes. "
                "Unknown label type: use a regressor, or cut the target into classes",
                part="y",
            )

    def merge(self, a: DistinctState, b: DistinctState, /) -> DistinctState:
        """Return the state of the rows of `a` and `b`."""
        if not a.rows or not b.rows:
            return b if not a.rows else a
        columns = tuple(_merged(x, y) for x, y in zip(a.columns, b.columns, strict=True))
        for column in columns:
            self._check(column.values)
        return DistinctState(a.rows + b.rows, columns)


def _by_position(y: Array, w: Array | None) -> Counts | None:
    """Count whole numbers that lie close together; None for any other column."""
    if y.dtype.kind not in "iubf":
        return None
    low, high = y.min(), y.max()
    if not float(high) - float(low) < _POSITIONS or abs(float(low)) > 2**52:
        return None
    if w is None and y.dtype.kind in "iu" and int(high) - int(low) <= 1:
        # Two classes at most, the usual case: a comparison is several times as fast as counting by position.
        there = np.asarray([low] if low == high else [low, high], dtype=y.dtype)
        n_high = int(np.count_nonzero(y == high))
        found = np.asarray([n_high] if low == high else [len(y) - n_high, n_high])
        return Counts(there, found, found.astype(np.float64))
    at = y
    if y.dtype.kind in "bf" or y.dtype == np.uint64 or low < 0 or high >= _POSITIONS:
        at = local_buffers().empty(y.shape, np.dtype(np.int64))
        if y.dtype.kind == "b":
            low = np.int64(0)
        elif y.dtype.kind == "i":
            low = np.int64(low)  # the difference of two small integers may be none
        np.subtract(y, low, out=at, casting="unsafe")
        if y.dtype.kind == "f":
            again = local_buffers().empty(y.shape, y.dtype)
            if not np.array_equal(np.add(at, low, out=again, casting="unsafe"), y):
                return None
    else:
        low = np.int64(0)
    counts = np.bincount(at)
    there = np.flatnonzero(counts)
    counts = counts[there]
    weights = counts.astype(np.float64) if w is None else np.bincount(at, weights=w)[there]
    values = (there + int(low)).astype(y.dtype) if y.dtype.kind != "f" else (there + low).astype(y.dtype)
    return Counts(values, counts, weights)


def _by_sorting(y: Array, w: Array | None) -> Counts:
    values, codes = by_sorting(y)
    counts = np.bincount(codes, minlength=len(values))
    weights = counts.astype(np.float64) if w is None else np.bincount(codes, weights=w, minlength=len(values))
    return Counts(values, counts, weights)


def _merged(a: Counts, b: Counts) -> Counts:
    if len(a.values) == len(b.values) and np.array_equal(a.values, b.values):
        return Counts(a.values, a.counts + b.counts, a.weights + b.weights)
    values, at = np.unique(np.concatenate([a.values, b.values]), return_inverse=True)
    counts = np.zeros(len(values), dtype=np.int64)
    weights = np.zeros(len(values))
    np.add.at(counts, at, np.concatenate([a.counts, b.counts]))
    np.add.at(weights, at, np.concatenate([a.weights, b.weights]))
    return Counts(values, counts, weights)
