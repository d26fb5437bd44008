"""Rows drawn at random, each with odds of its own, in one pass: the sampling step of k-means||."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn._namespace import float_dtype, int_dtype, like, namespace
from ooclearn.backend import backend_of
from ooclearn.cluster.distances import centred, nearest
from ooclearn.rowmaps import Kind, RowMap
from ooclearn.statistics.checks import refuse_nonfinite, refuse_weights
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["DrawnRows", "DrawnRowsState"]

# A tile is told from others by so many of its rows: enough to differ wherever tiles do, cheap beside reading it.
_TOLD_BY = 256


@dataclass(frozen=True, eq=False)
class DrawnRowsState:
    """State of :class:`DrawnRows`; host arrays.

    Attributes
    ----------
    possible : int
        Rows seen that could be drawn: those of odds above 0.
    keys : ndarray of shape (m,)
        Random numbers; those of the smallest are kept.
    rows : ndarray of shape (m, d)
        The rows drawn, in the order of the table.
    weights : ndarray of shape (m,)
        Their weights.
    """

    possible: int
    keys: Array
    rows: Array
    weights: Array

    @property
    def complete(self) -> bool:
        """Whether every row that could be drawn is here."""
        return self.possible == len(self.keys)

    def take(self, at: Array, /) -> DrawnRowsState:
        """Return the state with the drawn rows at these positions."""
        return replace(self, keys=self.keys[at], rows=self.rows[at], weights=self.weights[at])

    def __repr__(self) -> str:
        return f"DrawnRows: {len(self.keys):_} of {self.possible:_} rows"


@dataclass(frozen=True, eq=False)
class DrawnRows:
    """A fixed number of rows, drawn without replacement; each with odds of its weight times its squared distance.

    Each row gets a key, an exponential random number divided by its odds, and the rows of the smallest keys are kept.
    So the sum of the odds need not be known beforehand, and the state is bounded. The random numbers of a tile are
    seeded by `seed` and by its rows: for one cut, the same rows are drawn whatever the number of workers. All rows are
    kept, in order, where there are no more of them.

    Parameters
    ----------
    seed : int
        Seed of the random numbers.
    count : int
        How many rows to draw.
    n_bytes : int
        Draw as many more as fit this.
    centers : ndarray of shape (k, d), optional
        The centres that distances are measured to, about `center`. By default, all distances count as 1.
    center : ndarray of shape (d,), optional
        What is subtracted from rows first.

    References
    ----------
    P. S. Efraimidis and P. G. Spirakis, "Weighted random sampling with a reservoir", Information Processing Letters 97
    (2006).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.cluster.drawing import DrawnRows
    >>> from ooclearn.table import Rows
    >>> DrawnRows(0, 2).of(Rows(np.arange(10.0)[:, None]))
    DrawnRows: 2 of 10 rows
    """

    seed: int
    count: int
    n_bytes: int = 0
    centers: Array | None = None
    center: Array | None = None
    parts: frozenset[str] = frozenset("Xw")

    def at_most(self, n_columns: int, /) -> int:
        """Return how many rows of so many columns are kept."""
        return max(self.count, self.n_bytes // (8 * max(1, n_columns)))

    def before(self, kind: Kind, /) -> DrawnRows | None:  # noqa: ARG002  (whatever the map, its rows are those of its input)
        """Return what to ask of the input of a map: the same, if all distances count as 1."""
        return self if self.centers is None else None

    def after(self, state: DrawnRowsState, row_map: RowMap, /) -> DrawnRowsState:
        """Return the state behind a map."""
        return replace(state, rows=np.asarray(row_map(state.rows), dtype=np.float64))

    def of(self, rows: Rows, /) -> DrawnRowsState:
        """Return the state of one block."""
        x, n = rows.X, int(rows.X.shape[0])
        if n == 0:
            return DrawnRowsState(0, np.zeros(0), np.zeros((0, x.shape[1])), np.zeros(0))
        weights = np.ones(n)
        if rows.w is not None:
            refuse_weights(rows.w)
            weights = _host(rows.w)
        odds = weights
        if self.centers is not None:
            assert self.center is not None
            with np.errstate(invalid="ignore", over="ignore"):
                moved, held = centred(x, self.center)
                at = like(self.centers - (held - self.center), x, float_dtype(x))
                odds = weights * _host(nearest(moved, at)[1])
                if not np.isfinite(odds.sum()):
                    refuse_nonfinite(x)
        drawable = np.flatnonzero(odds > 0)
        keys = self._random(x).standard_exponential(n)[drawable] / odds[drawable]
        kept = _smallest(keys, self.at_most(x.shape[1]))
        chosen = drawable[kept]
        return DrawnRowsState(len(drawable), keys[kept], _rows(x, chosen), weights[chosen])

    def _random(self, x: Array) -> np.random.Generator:
        n = int(x.shape[0])
        told = _rows(x, np.arange(0, n, max(1, n // _TOLD_BY)))
        digest = blake2b(told.tobytes(), digest_size=16, salt=n.to_bytes(16, "little")).digest()
        return np.random.default_rng([self.seed, int.from_bytes(digest, "little")])

    def merge(self, a: DrawnRowsState, b: DrawnRowsState, /) -> DrawnRowsState:
        """Return the state of the rows of `a` and `b`."""
        parts: list[Any] = [
            np.concatenate([getattr(a, name), getattr(b, name)]) for name in ("keys", "rows", "weights")
        ]
        merged = DrawnRowsState(a.possible + b.possible, *parts)
        at_most = self.at_most(merged.rows.shape[1])
        if merged.possible <= at_most:
            return merged
        # Tiles that are equal have equal keys, and would be drawn all or none.
        once = np.sort(np.unique(merged.keys, return_index=True)[1])
        return merged.take(once[_smallest(merged.keys[once], at_most)])


def _smallest(keys: Array, count: int) -> Array:
    """Return the positions of the smallest keys, in order."""
    if keys.shape[0] <= count:
        return np.arange(keys.shape[0])
    return np.sort(np.argpartition(keys, count - 1)[:count])


def _rows(x: Array, at: Array) -> Array:
    """Return the rows at these positions on the host, in float64."""
    if isinstance(x, np.ndarray):
        return x[at].astype(np.float64, copy=False)
    return _host(namespace(x).take(x, like(at, x, int_dtype(x)), axis=0))


def _host(x: Array) -> Array:
    return np.asarray(backend_of(x).to_host(x), dtype=np.float64)
