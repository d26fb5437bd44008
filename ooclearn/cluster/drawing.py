"""Rows drawn at random, each with odds of its own, in one pass: the sampling step of k-means||."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn._namespace import device_of, float_dtype, int_dtype, like, namespace, run_of
from ooclearn.cluster.distances import centred, nearest
from ooclearn.rowmaps import Kind, RowMap
from ooclearn.statistics.added import weight_sums, widened
from ooclearn.statistics.checks import refuse_nonfinite, refuse_weights
from ooclearn.statistics.coded import host
from ooclearn.statistics.held import as_held
from ooclearn.statistics.protocol import Sums
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
    seeded by `seed` and by its rows: for one cut, the same rows are drawn whatever the number of workers. On a device
    blocks come one after the other, and one generator goes through them all. All rows are kept, in order, where there
    are no more of them.

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
            weights = host(rows.w)
        odds = weights
        if self.centers is not None:
            assert self.center is not None
            with np.errstate(invalid="ignore", over="ignore"):
                moved, held = centred(x, self.center)
                at = like(self.centers - (held - self.center), x, float_dtype(x))
                odds = weights * host(nearest(moved, at)[1])
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

    def origin(self, rows: Rows, /) -> Sums:
        """Return the centres on the device, and where the random numbers come from."""
        x = rows.X
        drawing = _Drawing(np.random.default_rng(self.seed))
        if self.centers is None:
            return {"drawing": drawing}
        assert self.center is not None
        held = as_held(self.center, x)
        return {
            "drawing": drawing,
            "center": like(held, x),
            "centers": like(self.centers - (held - self.center), x),
        }

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return the rows of the smallest keys of one block, and how many could be drawn."""
        with np.errstate(all="ignore"):
            x = widened(rows.X)
            xp = namespace(x)
            start, keys = origin["drawing"].next(rows.n)
            w, bad = weight_sums(rows.w, x)
            weights = odds = xp.ones_like(x[:, 0]) if w is None else w
            if self.centers is not None:
                odds = odds * nearest(x - origin["center"], origin["centers"])[1]
            there = odds > 0
            one = xp.ones_like(odds)
            keys = like(keys, x) / xp.where(there, odds, one)
            whole = int_dtype(x)
            drawn = {
                # What cannot be drawn comes last.
                "keys": xp.where(there, keys, xp.full_like(keys, float("inf"))),
                "rows": x,
                "weights": weights,
                "at": xp.arange(start, start + rows.n, dtype=whole, device=device_of(x)),
            }
            possible = xp.sum(xp.astype(there, whole))
            return {"possible": possible, "odds": xp.sum(odds), "bad": bad, **self._drawn(drawn)}

    def _drawn(self, drawn: Sums) -> Sums:
        """Return those of some rows that have the smallest keys."""
        keys, rows = drawn["keys"], drawn["rows"]
        xp = namespace(keys)
        if keys.shape[0] <= self.at_most(rows.shape[1]):
            return drawn
        at = run_of(xp.argsort(keys, stable=True), 0, self.at_most(rows.shape[1]))
        return {name: xp.take(values, at, axis=0) for name, values in drawn.items()}

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the same of two runs of blocks."""
        xp = namespace(a["keys"])
        drawn = {name: xp.concat([a[name], b[name]], axis=0) for name in _DRAWN}
        return {**{name: a[name] + b[name] for name in a if name not in _DRAWN}, **self._drawn(drawn)}

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> DrawnRowsState | None:  # noqa: ARG002  (the protocol's)
        """Return the state of all rows; None where a weight is none, or distances are not finite."""
        if sums["bad"] or not np.isfinite(sums["odds"]):
            return None
        at = np.argsort(sums["at"])
        at = at[np.isfinite(sums["keys"][at])]
        return DrawnRowsState(int(sums["possible"]), *(sums[name][at] for name in ("keys", "rows", "weights")))


# What is kept of rows that are drawn on a device.
_DRAWN = ("keys", "rows", "weights", "at")


class _Drawing:
    """Random numbers for the rows of a table, one block after the other."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._seen = 0

    def next(self, n: int) -> tuple[int, Array]:
        """Return the number of the first of the next `n` rows, and an exponential random number for each."""
        start = self._seen
        self._seen += n
        return start, self._generator.standard_exponential(n)


def _smallest(keys: Array, count: int) -> Array:
    """Return the positions of the smallest keys, in order."""
    if keys.shape[0] <= count:
        return np.arange(keys.shape[0])
    return np.sort(np.argpartition(keys, count - 1)[:count])


def _rows(x: Array, at: Array) -> Array:
    """Return the rows at these positions on the host, in float64."""
    if isinstance(x, np.ndarray):
        return x[at].astype(np.float64, copy=False)
    return host(namespace(x).take(x, like(at, x, int_dtype(x)), axis=0))
