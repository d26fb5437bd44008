"""A uniform random sample of rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ooclearn._namespace import int_dtype, like, namespace
from ooclearn.backend import backend_of
from ooclearn.rowmaps import Kind, RowMap
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["Sample", "SampleState"]

# By so many of its rows a tile is told from others. Those that agree in all of them get other keys when merged.
_TELLING_ROWS = 64


@dataclass(frozen=True, eq=False)
class SampleState:
    """State of :class:`Sample`; host arrays of the rows that are kept, those of the least keys first.

    Attributes
    ----------
    rows : int
        Rows seen.
    keys : ndarray of shape (kept,)
        A random number in [0, 1) for each, ascending.
    X, y, w : ndarray or None
        The rows.
    """

    rows: int
    keys: Array
    X: Array
    y: Array | None = None
    w: Array | None = None

    def __repr__(self) -> str:
        return f"Sample: rows={self.rows:_} | kept={self.keys.shape[0]:_} | columns={self.X.shape[1]}"


@dataclass(frozen=True)
class Sample:
    """A uniform random sample of `n` rows (X, y and w), without replacement; all rows where there are fewer.

    Each row gets a random key, and the rows of the least keys are kept: in random order, and so that samples of two
    parts of a table merge to a sample of both. Where it is known which row of the table is the first of a tile, keys
    follow from the numbers of the rows, and however the table is cut, the sample is the same. Where only reading tells
    (blocks that do not say how many rows they have), keys are drawn by a generator that is seeded with what is in the
    tile: one cut gives one sample, whatever the number of workers, and another cut another; and of tiles that hold the
    same rows, the same ones are candidates. Rows are drawn alike whatever their weight; they may hold NaN. Memory is
    that of `n` rows for each state.

    Parameters
    ----------
    n : int
        How many rows.
    seed : int
        For the generator.

    References
    ----------
    P. S. Efraimidis and P. G. Spirakis, "Weighted random sampling with a reservoir", Information Processing
    Letters 97 (2006), with equal weights.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.statistics import Sample
    >>> from ooclearn.table import Rows
    >>> Sample(10, seed=0).of(Rows(np.arange(200).reshape(100, 2)))
    Sample: rows=100 | kept=10 | columns=2
    """

    n: int
    seed: int = 0
    parts: frozenset[str] = frozenset("Xywi")

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"a sample must have at least 1 row, got n={self.n}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")

    def before(self, kind: Kind, /) -> Sample:  # noqa: ARG002  (the same for every kind of map)
        """Return what to ask of the input of a map: a sample, whose rows are mapped.

        It is as uniform as one of the mapped rows, but not the same one.
        """
        return self

    def after(self, state: SampleState, row_map: RowMap, /) -> SampleState:
        """Return the sample behind a map."""
        return replace(state, X=row_map(state.X))

    def of(self, rows: Rows, /) -> SampleState:
        """Return the state of one block."""
        n = rows.n
        if rows.start is not None:
            keys = self._keys(rows.start, n)
        else:
            telling = np.unique(np.linspace(0, max(0, n - 1), min(n, _TELLING_ROWS)).astype(np.int64))
            keys = self._generator(n, *(_taken(part, telling) for part in (rows.X, rows.y, rows.w))).random(n)
        kept = _least(keys, self.n)
        x = _taken(rows.X, kept)
        assert x is not None
        return SampleState(n, keys[kept], x, _taken(rows.y, kept), _taken(rows.w, kept))

    def merge(self, a: SampleState, b: SampleState, /) -> SampleState:
        """Return the state of the rows of `a` and `b`."""
        if not a.rows or not b.rows:
            return b if not a.rows else a
        if np.isin(b.keys, a.keys).any():
            b = self._redrawn(b, a.rows)
        kept = _least(np.concatenate([a.keys, b.keys]), self.n)

        def both(x: Array | None, y: Array | None) -> Array | None:
            return None if x is None or y is None else np.concatenate([x, y])[kept]

        x = both(a.X, b.X)
        assert x is not None
        keys = np.concatenate([a.keys, b.keys])[kept]
        return SampleState(a.rows + b.rows, keys, x, both(a.y, b.y), both(a.w, b.w))

    def _keys(self, start: int, n: int) -> Array:
        """Return the keys of rows `start` to ``start + n`` of the table, of a generator that can start anywhere."""
        generator = np.random.Philox(np.random.SeedSequence(self.seed))
        past = start % 4  # it makes four numbers at a time
        return np.random.Generator(generator.advance(start // 4)).random(past + n)[past:]

    def _redrawn(self, state: SampleState, rows: int) -> SampleState:
        """Return a sample with other keys: tiles that hold the same have the same ones, and would be kept in step.

        Of n least keys, all but the greatest are uniform below it, and any row may have the greatest. Keys of all rows
        are uniform.
        """
        kept = state.keys.shape[0]
        generator = self._generator(rows, state.keys)
        if kept == state.rows:
            keys = generator.random(kept)
        else:
            keys = np.append(generator.random(kept - 1) * state.keys[-1], state.keys[-1])
        order = generator.permutation(kept)
        return replace(
            state,
            keys=np.sort(keys),
            X=state.X[order],
            y=None if state.y is None else state.y[order],
            w=None if state.w is None else state.w[order],
        )

    def _generator(self, number: int, *parts: Array | None) -> np.random.Generator:
        digest = hashlib.blake2b(digest_size=16)
        for part in parts:
            # The bytes of an object are an address, another one each time.
            if part is not None and not part.dtype.hasobject:
                digest.update(part.tobytes())
        return np.random.default_rng([self.seed, number, int.from_bytes(digest.digest(), "little")])


def _least(keys: Array, n: int) -> Array:
    """Return the positions of the `n` least keys, ascending."""
    if len(keys) <= n:
        return np.argsort(keys, kind="stable")
    least = np.argpartition(keys, n - 1)[:n]
    return least[np.argsort(keys[least], kind="stable")]


def _taken(part: Array | None, at: Array) -> Array | None:
    """Return rows of one part, on the host."""
    if part is None or isinstance(part, np.ndarray):
        return None if part is None else part[at]
    taken = namespace(part).take(part, like(at, part, int_dtype(part)), axis=0)
    return np.asarray(backend_of(taken).to_host(taken))
