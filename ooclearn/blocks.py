"""Blocks: a re-readable sequence of row blocks. Lazy, immutable; a mapped ``Blocks`` is a ``Blocks``."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from ooclearn._namespace import namespace, run_of
from ooclearn.backend import Backend, get_backend
from ooclearn.buffers import local_buffers
from ooclearn.config import Config, get_config
from ooclearn.events import Work
from ooclearn.exceptions import BlockMemoryError, DataError, PerformanceWarning, ReadError, warn
from ooclearn.rowmaps import RowMap
from ooclearn.types import Array

if TYPE_CHECKING:
    import os

__all__ = ["Blocks", "Buffered", "Source", "SourceBlocks", "even_cuts"]

Buffered = Callable[[tuple[int, ...], "np.dtype[Any]"], Array]

# A read that fails is tried again after these pauses (seconds), since network file systems do hiccup.
PAUSES = (0.05, 0.2, 0.8)


class Source(Protocol):
    """Rows that can be read from any row to any other: an array, a file."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    in_memory: bool
    """Reading copies nothing."""

    def read(self, start: int, stop: int, /, out: Array | None = None) -> Array:
        """Return rows `start` to `stop`, in `out` if it is given; a result in memory is never written to."""


class Blocks:
    """A re-readable sequence of row blocks; made by :func:`ooclearn.scan`.

    Nothing is read until a fit, a result file or ``np.asarray`` asks for it. Blocks never change: every
    method returns new ones.

    Attributes
    ----------
    name : str
        Where the rows come from, for messages.
    shape : tuple
        Rows (None where only reading tells) and columns.
    dtype : dtype
        Of the elements.
    lengths : tuple of int or None
        Rows of each block; None where only reading tells.
    n_blocks : int
        How many blocks there are.
    names : ndarray of str or None
        Names of the columns.
    sparse : bool
        Whether the rows are known to be sparse before they are read.
    """

    name: str
    shape: tuple[Any, ...]
    dtype: np.dtype[Any]
    lengths: tuple[int, ...] | None
    n_blocks: int
    names: Array | None = None
    backend_name: str = "numpy"
    sparse: bool = False

    # What a subclass gives.

    def read(self, i: int, /) -> Array:
        """Return block `i`."""
        raise NotImplementedError(f"{type(self).__name__} must define read")  # a subclass's duty, not a path

    def recut(self, lengths: Sequence[int], /) -> Blocks:
        """Return the same rows in blocks of these lengths."""
        raise NotImplementedError(f"{type(self).__name__} must define recut")  # a subclass's duty, not a path

    def map(self, row_map: RowMap, /) -> Blocks:
        """Return blocks to which `row_map` is applied when they are read."""
        from ooclearn.mapped import MappedBlocks  # it builds on this module

        return MappedBlocks(self, row_map)

    # What follows from it.

    @property
    def backend(self) -> Backend:
        """The adapter that works on these blocks."""
        return get_backend(self.backend_name)

    @property
    def n_rows(self) -> int | None:
        """How many rows there are; None where only reading tells."""
        return cast("int | None", self.shape[0])

    @property
    def n_columns(self) -> int | None:
        """How many columns there are; None for one-dimensional blocks."""
        return self.shape[1] if len(self.shape) > 1 else None

    @property
    def ndim(self) -> int:
        """Number of dimensions of a block."""
        return len(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row; for sparse rows, on average."""
        known = getattr(getattr(self, "source", None), "row_bytes", None)
        return known if known is not None else int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    @property
    def nbytes(self) -> int | None:
        """Bytes of all rows; None where only reading tells."""
        return None if self.n_rows is None else self.n_rows * self.row_bytes

    @property
    def cuttable(self) -> bool:
        """Whether cutting elsewhere costs nothing."""
        return False

    def starts(self) -> list[int]:
        """Return the first row of each block, counted over the whole, and the total at the end."""
        return [0, *accumulate(self.lengths or ())]

    def tiles(self, i: int, rows: int, /) -> Iterator[Array]:
        """Yield block `i` in runs of at most `rows` rows; each is lent until the next is asked for."""
        block = self.read(i)
        n = block.shape[0]
        for start in range(0, n, rows) if n else (0,):
            yield block if n <= rows else run_of(block, start, min(start + rows, n))

    def gather(self, group: Sequence[int], buffered: Buffered | None = None, /) -> Array:  # noqa: ARG002  (a subclass uses it)
        """Return the rows of several blocks as one array."""
        blocks = [self.read(i) for i in group]
        return blocks[0] if len(blocks) == 1 else concatenated(blocks)

    def expect(self, group: Sequence[int], /) -> None:
        """Take note that these blocks are read soon: what takes time to come may be sent for."""

    def counted(self, purpose: str, /) -> Blocks:  # noqa: ARG002  (a subclass uses it)
        """Return the same rows with known lengths; where only reading tells, all of them are read, with a warning."""
        return self

    def align(self, role: str, part: Blocks, /) -> Blocks:
        """Return `part` (y or sample_weight) cut where these blocks are cut."""
        if part.n_rows is None:
            part = part.counted(f"putting {role} beside X")
        if part.n_rows != self.n_rows:
            raise DataError(
                f"X has {self.n_rows} rows and {role} has {part.n_rows}; there must be one entry for each row",
                source=part.name,
            )
        assert self.lengths is not None
        return part if part.lengths == self.lengths else part.recut(self.lengths)

    def name_at(self, row: int, /) -> str:  # noqa: ARG002  (a subclass uses it)
        """Return the name of the file that `row` lies in, for messages."""
        return self.name

    def release(self) -> None:
        """Let go of what a pass has opened or kept; called at the end of each, whether it went well or not."""

    def held(self, row_bytes: int) -> AbstractContextManager[None]:  # noqa: ARG002  (a subclass uses it)
        """Keep what later passes can use again, for the length of a ``with`` block; rows of the table have so many bytes."""
        return nullcontext()

    def on_host(self) -> Blocks:
        """Return the rows where they are read, if that is the host and they are copied to a device from there."""
        return self

    def returned(self, mapped: Blocks | None = None, /) -> Blocks:
        """Return what these rows, or `mapped` that is made of them, become when brought to the host, the shortest way."""
        return self if mapped is None else mapped

    def bring(self, put: Callable[[Sequence[int], int, Array], None], /, *, work: Work) -> bool:  # noqa: ARG002  (a subclass uses it)
        """Give all rows to ``put(blocks, first_row, rows)``, from several threads and in any order.

        False, and nothing done, if these blocks know no better way than one block after the other.
        """
        return False

    def on(self, backend: str, /) -> Any:
        """Return these rows as a lazy container of another backend, such as ``"dask"``.

        Parameters
        ----------
        backend : str
            Name of an installed backend.
        """
        return get_backend(backend).adopt(self)

    def to_dask(self) -> Any:
        """Return a Dask array of one chunk a block; each task reads its block when it runs.

        ``dask.array.from_array(memmap)`` copies the file into the graph; this does not.
        """
        return self.on("dask")

    def to_npy(self, path: str | os.PathLike[str], /) -> None:
        """Compute all blocks in parallel and write them to one ``.npy`` file.

        The file appears under its name when it is whole. Free space is checked first. One pass, memory for a
        few blocks.

        Parameters
        ----------
        path : path-like
            Where to; a file there is replaced.

        Raises
        ------
        OSError
            There is not enough free space (checked before anything is computed), or a write failed.
        DataError
            The dtype cannot be stored without pickling.
        """
        from ooclearn.storage.npy import write_npy  # storage is above blocks

        write_npy(self, path)

    def to_numpy(self) -> np.ndarray[Any, Any]:
        """Read all blocks into one NumPy array, sparse rows made dense; refused where it is larger than ``memory_limit``."""
        limit = get_config()["memory_limit"]
        row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        if limit is not None and self.n_rows is not None and self.n_rows * row_bytes > limit:
            raise BlockMemoryError(
                f"{self.name} as one array takes {self.n_rows * row_bytes:,} bytes, memory_limit is {limit:,}; "
                "work by blocks, write it with to_npy, or raise the limit"
            )
        return self.whole()

    def whole(self) -> np.ndarray[Any, Any]:
        """Read all blocks into one NumPy array, whatever it takes."""
        blocks = self.returned()
        to_host = _dense_on_host(blocks.backend)
        if self.lengths is None or self.dtype.hasobject:
            return cast("np.ndarray[Any, Any]", concatenated([to_host(blocks.read(i)) for i in range(self.n_blocks)]))
        out = np.empty(self.shape, dtype=self.dtype)

        def put(_: Sequence[int], start: int, rows: Array) -> None:
            out[start : start + len(rows)] = rows

        if blocks.bring(put, work=Work("map", f"read {self.name}", self.n_rows, self.nbytes, self.n_blocks)):
            return out
        for i, start in enumerate(self.starts()[:-1]):
            out[start : start + self.lengths[i]] = to_host(blocks.read(i))
        return out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if copy is False:
            raise ValueError("Blocks become an array only by copying; do not pass copy=False")
        out = self.to_numpy()
        return out if dtype is None else out.astype(dtype, copy=False)

    def __len__(self) -> int:
        if self.n_rows is None:
            raise TypeError(f"the number of rows of {self.name} is known only after reading it")
        return self.n_rows

    def __iter__(self) -> Iterator[Array]:
        return (self.read(i) for i in range(self.n_blocks))

    def __eq__(self, other: object) -> bool:
        # By default two Blocks that are not one object are unlike, and `np.mean(predictions == y)` is 0.0 without a word.
        if other is self or other is None:
            return other is self
        if hasattr(other, "__array__") and not isinstance(other, Blocks):
            return NotImplemented  # an array compares cell by cell, and reads these blocks
        raise TypeError(
            "Blocks are not compared cell by cell; take arrays, np.asarray(a) == np.asarray(b), or a model's score, "
            "which reads by blocks"
        )

    __hash__ = object.__hash__

    def _size(self) -> str:
        rows = "?" if self.n_rows is None else f"{self.n_rows:,}"
        shape = " x ".join([rows, *(f"{n:,}" for n in self.shape[1:])])
        size = "" if self.nbytes is None else f", {self.nbytes / 1e9:.3g} GB"
        return f"{shape} {self.dtype}{size}, {self.n_blocks:,} block{'s' if self.n_blocks != 1 else ''}"

    def __repr__(self) -> str:
        return f"Blocks({self.name!r}: {self._size()})"


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


def _dense_on_host(backend: Backend) -> Callable[[Array], Array]:
    """Return what copies a block to the host as a dense array."""

    def dense(block: Array) -> Array:
        block = backend.to_host(block)
        return block.toarray() if hasattr(block, "tocsr") else block

    return dense


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


def concatenated(blocks: Sequence[Array], /) -> Array:
    """Return blocks, NumPy's, SciPy's sparse or the array API's, one after the other."""
    first = blocks[0]
    if isinstance(first, np.ndarray):
        return np.concatenate(blocks)
    if hasattr(first, "tocsr"):
        from scipy.sparse import vstack  # imported with the first sparse block, not with the library

        return vstack(blocks, format="csr")
    return namespace(first).concat(list(blocks))


def _runs(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges that follow one another, so that they are read at once."""
    runs: list[tuple[int, int]] = []
    for start, stop in ranges:
        if runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((start, stop))
    return runs
