"""Sources, which are read from any row to any other, as Blocks; how a table is cut into blocks."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np

from ooclearn.blocks import Blocks, Buffered, concatenated
from ooclearn.buffers import local_buffers
from ooclearn.config import Config, get_config
from ooclearn.exceptions import DataError, PerformanceWarning, ReadError, warn
from ooclearn.types import Array

__all__ = ["PAUSES", "Source", "SourceBlocks", "even_cuts", "warn_of_small_blocks"]

# A read that fails is tried again after these pauses (seconds), since network file systems do hiccup.
PAUSES = (0.05, 0.2, 0.8)


class Source(Protocol):
    """Rows that can be read from any row to any other: an array, a file.

    Several threads may read at a time. Reading the same rows again gives the same values, or an error.

    Attributes
    ----------
    name : str
        For messages.
    shape : tuple of int
        Rows, and columns if there are two dimensions.
    dtype : dtype
        Of the elements.
    in_memory : bool
        Reading copies nothing.

    Methods
    -------
    expect(runs)
        Optional: take note that these runs of rows, pairs of a first row and one after the last, are read soon.
    opened()
        Optional: return a context manager that gives ``read`` with a file kept open for several runs of rows.
    name_at(row)
        Optional: return the name of the file that a row lies in.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    in_memory: bool
    """Reading copies nothing."""

    def read(self, start: int, stop: int, /, out: Array | None = None) -> Array:
        """Return a run of rows.

        Parameters
        ----------
        start, stop : int
            The first row, and the one after the last.
        out : ndarray, optional
            Where to put them, of their shape and dtype. What is in memory may be returned as a view of it instead.

        Returns
        -------
        array of shape (stop - start, ...)
            The rows. The caller never writes to them where they are a view.
        """


class SourceBlocks(Blocks):
    """Blocks of a source that is read from any row to any other, so that cutting it is free.

    Parameters
    ----------
    source : Source
        What is read.
    lengths : sequence of int, optional
        Rows of each block; even blocks of ``block_bytes`` by default.
    backend_name : str
        The backend of what `source` gives.
    names : ndarray of str, optional
        Names of the columns.
    """

    def __init__(
        self,
        source: Source,
        lengths: Sequence[int] | None = None,
        *,
        backend_name: str = "numpy",
        names: Array | None = None,
    ) -> None:
        if not source.shape:
            raise DataError("got a single number; expected an array of rows", source=source.name)
        self.source = source
        self.name = source.name
        self.shape = source.shape
        self.dtype = source.dtype
        self.sparse = bool(getattr(source, "sparse", False))
        self.lengths = tuple(lengths) if lengths is not None else even_cuts(source.shape[0], self.row_bytes)
        self.n_blocks = len(self.lengths)
        self.names = names
        self.backend_name = backend_name
        self._starts = self.starts()

    @property
    def cuttable(self) -> bool:
        """Cutting elsewhere costs nothing."""
        return True

    def recut(self, lengths: Sequence[int], /) -> Blocks:
        """Return the same rows in blocks of these lengths."""
        return SourceBlocks(self.source, lengths, backend_name=self.backend_name, names=self.names)

    def name_at(self, row: int, /) -> str:
        """Return the name of the file that `row` lies in, for messages."""
        of_row = getattr(self.source, "name_at", None)
        return self.name if of_row is None else str(of_row(row))

    def _opened(self) -> AbstractContextManager[Callable[..., Array]]:
        """Give the source's ``read``; a file is then opened once for several runs of rows."""
        opened = getattr(self.source, "opened", None)
        return nullcontext(self.source.read) if opened is None else opened()

    def _read(self, start: int, stop: int, out: Array | None = None, read: Callable[..., Array] | None = None) -> Array:
        read = read or self.source.read
        for pause in (*PAUSES, None):
            try:
                rows = read(start, stop, out)
                break
            except DataError as error:
                raise error.located(
                    source=self.name_at(start), block=bisect_right(self._starts, start) - 1, first_row=start
                ) from error.__cause__
            except OSError as error:
                if pause is None or isinstance(error, (FileNotFoundError, PermissionError)):
                    raise ReadError(
                        f"could not read: {error}",
                        source=self.name_at(start),
                        block=bisect_right(self._starts, start) - 1,
                        rows=(start, stop),
                    ) from error
                time.sleep(pause)
                # Opened anew: what has gone stale does not come back.
                read = self.source.read
        wrong_dtype = isinstance(rows, np.ndarray) and rows.dtype != self.dtype
        if wrong_dtype or rows.shape != (stop - start, *self.shape[1:]):
            raise DataError(
                f"got rows of shape {tuple(rows.shape)} and dtype {rows.dtype} where "
                f"{(stop - start, *self.shape[1:])} and {self.dtype} were declared",
                source=self.name_at(start),
                block=bisect_right(self._starts, start) - 1,
                rows=(start, stop),
            )
        return rows

    def read(self, i: int, /) -> Array:
        """Return block `i`."""
        if not 0 <= i < self.n_blocks:
            raise IndexError(f"there is no block {i} of {self.name}; its blocks are 0 to {self.n_blocks - 1}")
        return self._read(self._starts[i], self._starts[i + 1])

    def tiles(self, i: int, rows: int, /) -> Iterator[Array]:
        """Yield block `i` in runs of at most `rows` rows; each is lent until the next is asked for."""
        start, stop = self._starts[i], self._starts[i + 1]
        # One buffer small enough to stay in the processor's cache is filled again and again.
        out = None
        if not self.source.in_memory and not self.dtype.hasobject:
            out = local_buffers().empty((min(rows, stop - start), *self.shape[1:]), self.dtype)
        with self._opened() as read:
            for first in range(start, stop, rows) if stop > start else (start,):
                last = min(first + rows, stop)
                yield self._read(first, last, None if out is None else out[: last - first], read)

    def _runs(self, group: Sequence[int]) -> list[tuple[int, int]]:
        return _runs([(self._starts[i], self._starts[i + 1]) for i in group])

    def expect(self, group: Sequence[int], /) -> None:
        """Take note that these blocks are read soon: what takes time to come may be sent for."""
        expect = getattr(self.source, "expect", None)
        runs = self._runs(group)
        if expect is not None and len(runs) > 1:  # that rows follow one another, the system sees by itself
            expect(runs)

    def gather(self, group: Sequence[int], buffered: Buffered | None = None, /) -> Array:
        """Return the rows of several blocks as one array."""
        runs = self._runs(group)
        if self.source.in_memory or self.dtype.hasobject:
            pieces = [self._read(start, stop) for start, stop in runs]
            if buffered is not None and len(pieces) > 1 and all(type(piece) is np.ndarray for piece in pieces):
                shape = (sum(map(len, pieces)), *self.shape[1:])
                return np.concatenate(pieces, out=buffered(shape, self.dtype))
            return pieces[0] if len(pieces) == 1 else concatenated(pieces)
        shape = (sum(stop - start for start, stop in runs), *self.shape[1:])
        out = buffered(shape, self.dtype) if buffered is not None else np.empty(shape, dtype=self.dtype)
        read_runs = getattr(self.source, "read_runs", None)
        if read_runs is not None and read_runs(runs, out):
            return out
        at = 0
        with self._opened() as read:
            for start, stop in runs:
                self._read(start, stop, out[at : at + stop - start], read)
                at += stop - start
        return out


def _runs(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges that follow one another, so that they are read at once."""
    runs: list[tuple[int, int]] = []
    for start, stop in ranges:
        if runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((start, stop))
    return runs


def even_cuts(n_rows: int, row_bytes: int, /, *, block_bytes: int | None = None) -> tuple[int, ...]:
    """Return the lengths of the fewest blocks of at most `block_bytes` bytes, alike to one row."""
    block_bytes = block_bytes or get_config()["block_bytes"]
    rows = max(1, block_bytes // max(row_bytes, 1))
    n_blocks = max(1, -(-n_rows // rows))
    # Multiples of 64 rows keep every block but the last open to the wide view of narrow rows.
    length = -(-n_rows // n_blocks)
    if n_blocks > 1 and length > 64:
        length = min(-(-length // 64) * 64, max(rows // 64 * 64, 64))
    lengths = [length] * (n_rows // length) if length else []
    if n_rows - sum(lengths):
        lengths.append(n_rows - sum(lengths))
    return tuple(lengths) or (0,)


# Blocks of fewer bytes cost more than the work on them, if there are so many: some milliseconds a pass.
_SMALL, _MANY, _MANY_ROWS = 2**14, 2000, 100


def warn_of_small_blocks(blocks: Blocks, /) -> None:
    """Warn where the setting ``block_bytes`` has cut a table into blocks far too small; not of a table that is small."""
    if not isinstance(blocks, SourceBlocks) or blocks.ndim != 2:
        return
    setting = get_config()["block_bytes"]
    rows = max(blocks.lengths or (0,))
    if rows * blocks.row_bytes >= _SMALL or blocks.n_blocks < (_MANY_ROWS if rows == 1 else _MANY):
        return
    warn(
        f"{blocks.name} is cut into {blocks.n_blocks:,} blocks of {rows:,} row{'s' if rows > 1 else ''}, "
        f"{rows * blocks.row_bytes:,} bytes, since block_bytes is {setting:,}, and each costs a call and more by itself. "
        f"Set block_bytes to some MiB; the default is {Config().block_bytes:,}",
        PerformanceWarning,
    )
