"""What runs inside Dask tasks: on chunks, in whatever thread or process Dask chooses. Imports no Dask."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Self

import numpy as np
import sklearn

from ooclearn import config
from ooclearn._namespace import namespace
from ooclearn.backend import backend_of
from ooclearn.blocks import Blocks
from ooclearn.events import Work, record
from ooclearn.exceptions import DataError
from ooclearn.folding import tile_rows
from ooclearn.rowmaps import RowMap
from ooclearn.statistics.protocol import Statistic, merge_all, parts_of
from ooclearn.storage.arrays import converted, host_dtype
from ooclearn.table import Rows, Table, TargetTable
from ooclearn.types import Array
from ooclearn.workers import keep_pages

__all__ = [
    "Cuts",
    "Folded",
    "Folding",
    "Grouping",
    "Mapping",
    "Promise",
    "Settings",
    "fold_chunk",
    "lengths_in",
    "listed",
    "map_chunk",
    "merge_folded",
    "read_block",
    "rows_of",
    "values_of",
]


_ROLES = ("X", "y", "sample_weight")


class Cuts:
    """Where blocks begin and how many rows they have; small for any number of blocks that are alike.

    It is sent to every worker, so runs of equal blocks are kept as one.

    Parameters
    ----------
    lengths : sequence of int
        Rows of each block.

    Examples
    --------
    >>> from ooclearn_backends._dask_tasks import Cuts
    >>> cuts = Cuts([10] * 1000 + [3])
    >>> cuts[999], cuts[1000]
    ((9990, 10), (10000, 3))
    """

    __slots__ = ("_blocks", "_lengths", "_rows")

    def __init__(self, lengths: Sequence[int]) -> None:
        self._blocks: list[int] = []  # the first block of each run
        self._rows: list[int] = []  # and its first row
        self._lengths: list[int] = []
        block = row = 0
        for length, run in groupby(lengths):
            count = sum(1 for _ in run)
            self._blocks.append(block)
            self._rows.append(row)
            self._lengths.append(int(length))
            block += count
            row += count * int(length)

    def __getitem__(self, i: int) -> tuple[int, int]:
        k = bisect_right(self._blocks, i) - 1
        return self._rows[k] + (i - self._blocks[k]) * self._lengths[k], self._lengths[k]


@dataclass(frozen=True)
class Settings:
    """The configurations of the thread that asked, which its tasks work under."""

    sklearn: dict[str, Any]
    ooclearn: dict[str, Any]

    @classmethod
    def current(cls) -> Self:
        """Return those of this thread; a task is one of many, and starts no threads of its own."""
        return cls(sklearn.get_config(), {**config.get_config(), "workers": 1, "progress": False})

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Work under them inside a ``with`` block."""
        keep_pages()
        with sklearn.config_context(**self.sklearn), config.config_context(**self.ooclearn):
            yield


@dataclass(frozen=True)
class Promise:
    """What a Dask array says of its chunks; chunks that are otherwise are refused.

    Attributes
    ----------
    source : str
        For messages.
    row : tuple of int
        Shape of a row.
    dtype : dtype
        Of the elements.
    cuts : Cuts or None
        Rows of each chunk; None where only computing tells.
    names : sequence of str or None
        Names of the columns.
    """

    source: str
    row: tuple[int, ...]
    dtype: np.dtype[Any]
    cuts: Cuts | None = None
    names: Any = None

    def kept(self, chunk: Array, i: int, /) -> Array:
        """Return chunk `i` as a plain array of the promised dtype.

        Raises
        ------
        DataError
            Its shape is another, or its dtype cannot be made the promised one without loss.
        """
        rows = self.cuts[i] if self.cuts is not None else None
        shape = tuple(getattr(chunk, "shape", ()))
        if not shape or shape[1:] != self.row or (rows is not None and shape[0] != rows[1]):
            expected = (rows[1] if rows is not None else "any number of rows", *self.row)
            raise self._broken(
                f"got a chunk of shape {shape} where {expected} was declared; "
                "give the right chunks or meta where the Dask array is made",
                i,
            )
        if isinstance(chunk, np.ma.MaskedArray):
            raise self._broken("got a masked chunk; fill what is masked first, for example with x.filled(nan)", i)
        if isinstance(chunk, np.ndarray) and type(chunk) is not np.ndarray:
            chunk = np.asarray(chunk)
        dtype = host_dtype(chunk)
        if dtype == self.dtype or self.dtype.kind in "OUS":
            return chunk
        if dtype.kind not in "fiubc" or not np.can_cast(dtype, self.dtype, "safe"):
            raise self._broken(
                f"got a chunk of dtype {dtype} where {self.dtype} was declared; "
                "give the right dtype or meta where the Dask array is made",
                i,
            )
        if isinstance(chunk, np.ndarray) or hasattr(chunk, "tocsr"):
            try:
                return converted(chunk, self.dtype)
            except DataError as error:
                raise self.placed(error, i) from None
        xp = namespace(chunk)
        return xp.astype(chunk, getattr(xp, self.dtype.name))

    def _broken(self, message: str, i: int) -> DataError:
        rows = self.cuts[i] if self.cuts is not None else None
        where = None if rows is None or not rows[1] else (rows[0], rows[0] + rows[1])
        return DataError(message, source=self.source, block=i, rows=where)

    def placed(self, error: DataError, i: int, first: int = 0, /) -> DataError:
        """Return `error`, whose rows count from row `first` of chunk `i`, with its place in the whole."""
        if error.block is not None:
            return error
        out = error.located()
        out.source, out.block = self.source, i
        if error.rows is not None:
            start = first + (self.cuts[i][0] if self.cuts is not None else 0)
            out.rows = error.rows[0] + start, error.rows[1] + start
            if self.cuts is None:
                # Where the chunk begins in the whole is not known, and rows count over the whole.
                out.message = f"{error.message} (row {out.rows[0]} of that block)"
                out.rows = None
        out.__cause__ = error.__cause__
        return out.located(names=self.names)


class _Loaded(Blocks):
    """Chunks in memory as Blocks."""

    def __init__(self, chunks: Sequence[Array], promise: Promise) -> None:
        self._chunks = chunks
        self.name = promise.source
        self.lengths = tuple(int(chunk.shape[0]) for chunk in chunks)
        self.n_blocks = len(chunks)
        self.shape = (sum(self.lengths), *promise.row)
        self.dtype = host_dtype(chunks[0])
        self.backend_name = backend_of(chunks[0]).name

    def read(self, i: int, /) -> Array:
        return self._chunks[i]


def _table(group: Sequence[int], parts: Sequence[Sequence[Array]], promises: Sequence[Promise | None]) -> Table:
    """Return the chunks of X, y and w, those that are promised, as a table."""
    given = iter(parts)
    loaded: list[_Loaded | None] = []
    first: list[Array] | None = None
    lead = "X"
    for role, promise in zip(_ROLES, promises, strict=True):
        if promise is None:
            loaded.append(None)
            continue
        kept = [promise.kept(chunk, i) for i, chunk in zip(group, next(given), strict=True)]
        if first is None:
            first, lead = kept, role
        for i, a, b in zip(group, first, kept, strict=True):
            if a.shape[0] != b.shape[0]:
                raise DataError(
                    f"{lead} has {a.shape[0]} rows and {role} has {b.shape[0]} in the same block; cut {role} "
                    f"at the rows of {lead}, or make the lengths known with compute_chunk_sizes()",
                    source=promise.source,
                    block=i,
                )
        loaded.append(_Loaded(kept, promise))
    X, y, w = loaded
    if X is not None:
        return Table(X, y, w)
    assert y is not None
    return TargetTable(y, w)


# Folding.


@dataclass(frozen=True, eq=False)
class Folded:
    """State of some blocks, and how many rows they had."""

    rows: int
    state: Any


@dataclass(frozen=True, eq=False)
class Folding:
    """How a chunk is folded; the same for all, and sent to a worker once."""

    statistic: Statistic[Any]
    promises: tuple[Promise | None, ...]
    settings: Settings
    work: Work | None  # None where no one watches: in another process
    flat: tuple[bool, ...]  # whether a part is one-dimensional, and was made two-dimensional to lie beside X

    def fold(self, given: Sequence[Array], i: int) -> Folded:
        """Return the state of block `i`, folded tile by tile."""
        parts = [[chunk[:, 0] if flat else chunk] for chunk, flat in zip(given, self.flat, strict=True)]
        with self.settings.in_force():
            table = _table((i,), parts, self.promises)
            rows = int(table.n_rows or 0)
            if self.work is None:
                return Folded(rows, self._folded(table, i))
            with record(self.work, "fold", i, rows, rows * sum(part.row_bytes for part in table.parts)):
                return Folded(rows, self._folded(table, i))

    def _folded(self, table: Table, i: int) -> Any:
        state = None
        first = 0
        lead = next(promise for promise in self.promises if promise is not None)
        asked = "i" in parts_of(self.statistic) and lead.cuts is not None
        begin = lead.cuts[i][0] if asked and lead.cuts is not None else None
        try:
            for rows in table.tiles(0, tile_rows(table)):
                seen = self.statistic.of(rows if begin is None else replace(rows, start=begin + first))
                state = seen if state is None else self.statistic.merge(state, seen)
                first += rows.n
        except DataError as error:
            raise self._promise_of(error).placed(error, i, first) from error.__cause__
        return state

    def _promise_of(self, error: DataError) -> Promise:
        """Return the promise of the part of the table that an error is about."""
        promised = {role: promise for role, promise in zip(_ROLES, self.promises, strict=True) if promise is not None}
        return promised.get(error.part) or next(iter(promised.values()))


def fold_chunk(*chunks: Array, spec: Folding, block_id: tuple[int, ...] | None = None) -> Folded:
    """Return the state of one block; Dask passes the number of the chunk."""
    assert block_id is not None
    return spec.fold(chunks, block_id[0])


def merge_folded(spec: Folding, folded: Sequence[Folded]) -> Folded:
    """Return the state of consecutive blocks, merged in the fixed tree."""
    with spec.settings.in_force():
        state = merge_all(spec.statistic, [one.state for one in folded])
    return Folded(sum(one.rows for one in folded), state)


# Mapping.


@dataclass(frozen=True, eq=False)
class Mapping:
    """How a chunk is mapped; the same for all, and sent to a worker once."""

    row_map: RowMap
    promise: Promise
    settings: Settings
    columns: int | None

    def mapped(self, chunk: Array, i: int) -> Array:
        """Return chunk `i`, mapped by the backend of its library; of two dimensions in any case."""
        with self.settings.in_force():
            chunk = self.promise.kept(chunk, i)
            try:
                out = backend_of(chunk).map(self.row_map, chunk)
            except DataError as error:
                raise self.promise.placed(error, i) from error.__cause__
        expected = (chunk.shape[0],) if self.columns is None else (chunk.shape[0], self.columns)
        if tuple(out.shape) != expected:
            raise DataError(
                f"the map gave a block of shape {tuple(out.shape)} where it stated {expected}",
                source=self.promise.source,
                block=i,
            )
        return out[:, None] if self.columns is None else out


def map_chunk(chunk: Array, spec: Mapping, block_id: tuple[int, ...] | None = None) -> Array:
    """Return one chunk, mapped; Dask passes its number."""
    assert block_id is not None
    return spec.mapped(chunk, block_id[0])


# Streaming.


@dataclass(frozen=True, eq=False)
class Grouping:
    """How the chunks of a group become rows, and what is done with them."""

    function: Callable[[int, Rows], Any]
    promises: tuple[Promise | None, ...]
    settings: Settings

    def rows(self, group: Sequence[int], blocks: Sequence[Sequence[Array]]) -> Rows:
        """Return the rows of the blocks `group`, each given as its chunks of X, y and w."""
        return _table(group, list(zip(*blocks, strict=True)), self.promises).gather(range(len(group)))

    def __call__(self, i: int, group: Sequence[int], blocks: Sequence[Sequence[Array]]) -> Any:
        """Return what the function makes of group `i`; runs on a worker of a cluster."""
        with self.settings.in_force():
            return self.function(i, self.rows(group, blocks))


# Reading.


def read_block(spec: Blocks, block_id: tuple[int, ...] | None = None) -> Array:
    """Return one block of Blocks; Dask passes its number."""
    assert block_id is not None
    return spec.read(block_id[0])


def listed(*chunks: Array) -> list[Array]:
    """Return the chunks of one block, those of X, y and w, as a list."""
    return list(chunks)


def rows_of(chunk: Array) -> Array:
    """Return the number of rows of a chunk, as an array of as many dimensions."""
    return np.full((1,) * chunk.ndim, chunk.shape[0], dtype=np.int64)


def lengths_in(counts: Sequence[Array]) -> tuple[int, ...]:
    """Return the numbers of rows of all chunks."""
    return tuple(int(count.item()) for count in counts)


def values_of(part: Any, dtype: np.dtype[Any]) -> Array:
    """Return the values of a part of a data frame as a NumPy array; missing ones become NaN."""
    if dtype.kind == "f":
        return part.to_numpy(dtype=dtype, na_value=np.nan)
    return part.to_numpy(dtype=dtype)
