"""A callable that returns an iterator of blocks, as Blocks: anything that can be started anew."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from uuid import uuid4

import numpy as np

from ooclearn._namespace import run_of
from ooclearn.backend import owner_of
from ooclearn.blocks import Blocks, concatenated
from ooclearn.exceptions import DataError, ReadError, SourceChangedError
from ooclearn.sources import PAUSES
from ooclearn.storage.arrays import common_dtype, converted, host_dtype, stored_bytes
from ooclearn.types import Array

__all__ = ["CallableBlocks"]


# Blocks kept for workers that come late, and for cuts that share a block.
_KEPT = 8


class CallableBlocks(Blocks):
    """Blocks made one after the other by what a callable returns.

    The callable is run once to learn the rows, columns and dtype, and once a pass. Blocks are made in order by
    one thread at a time; what is done with them runs in parallel.

    Parameters
    ----------
    make : callable
        Without arguments; returns an iterable of NumPy arrays, the same each time.
    """

    def __init__(self, make: Callable[[], Iterable[Array]], *, name: str | None = None) -> None:
        self._make = make
        self.name = name or str(getattr(make, "__name__", type(make).__name__))
        lengths: list[int] = []
        dtypes = set()
        row: tuple[int, ...] | None = None
        stored = 0
        for i, block in enumerate(self._started()):
            if row is None:
                row = tuple(block.shape[1:])
            if not block.shape or tuple(block.shape[1:]) != row:
                raise DataError(
                    f"got a block of shape {tuple(block.shape)} after blocks with rows of shape {row}; "
                    "all blocks must have the same columns",
                    source=self.name,
                    block=i,
                )
            lengths.append(int(block.shape[0]))
            dtypes.add(host_dtype(block))
            stored += stored_bytes(block)
            self.sparse = self.sparse or hasattr(block, "tocsr")
        if row is None:
            raise DataError("there are no rows: the callable gave no block at all", source=self.name)
        self.lengths = tuple(lengths)
        self.n_blocks = len(lengths)
        self.dtype = common_dtype(dtypes, source=self.name)
        self.shape = (sum(lengths), *row)
        self._stored = stored
        self._lock = threading.Lock()
        self._iterator: Iterator[Array] = iter(())
        self._at = self.n_blocks
        self._recent: dict[int, Array] = {}
        # A pickle of a function is its name: joblib's memory would take what it gives later for what it gave before.
        self._token = uuid4().hex

    @property
    def row_bytes(self) -> int:
        """Bytes of one row; for sparse rows, on average."""
        return max(1, self._stored // max(1, self.shape[0])) if self.sparse else super().row_bytes

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"_iterator": iter(()), "_at": self.n_blocks, "_recent": {}}
        del state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def _started(self) -> Iterator[Array]:
        made = self._make()
        if not isinstance(made, Iterable) and not hasattr(made, "__getitem__"):
            raise DataError(
                f"the callable returned a {type(made).__name__}, which cannot be iterated over; expected blocks",
                source=self.name,
            )
        iterator = iter(made)
        return (self._as_array(i, block) for i, block in enumerate(iterator))

    def _as_array(self, i: int, block: Any) -> Array:
        if hasattr(block, "shape"):
            if owner_of(block) is None and not hasattr(block, "tocsr"):
                raise DataError(
                    f"got a {type(block).__name__} for a block; expected an array: of a data frame give to_numpy() of the "
                    "columns of numbers, and its target by a callable of its own",
                    source=self.name,
                    block=i,
                )
            return block
        if isinstance(block, (tuple, list)) and any(getattr(part, "ndim", 0) > 1 for part in block):
            raise DataError(
                f"got a {type(block).__name__} of arrays for a block; expected one array of rows. "
                "Scan X and y each by a callable of its own",
                source=self.name,
                block=i,
            )
        return np.asarray(block)

    def read(self, i: int, /) -> Array:
        """Return block `i`."""
        # Workers take numbers in order, so a block asked for late is one of the last few.
        with self._lock:
            for pause in (*PAUSES, None):
                try:
                    return self._read(i)
                except OSError as error:
                    # An iterator that has failed is done for; the next attempt starts anew.
                    failed = self._at
                    self._start_anew()
                    if pause is None or isinstance(error, (FileNotFoundError, PermissionError)):
                        raise ReadError(
                            f"the callable could not make a block: {error}", source=self.name, block=failed
                        ) from error
                    time.sleep(pause)
                except BaseException:
                    self._start_anew()
                    raise
        raise AssertionError  # the last attempt returns or raises

    def _read(self, i: int) -> Array:
        if i not in self._recent and i < self._at:
            self._at = 0
        while i not in self._recent:
            self._recent[self._at] = self._next()
            self._at += 1
            while len(self._recent) > _KEPT:
                del self._recent[min(self._recent)]
        return self._recent[i]

    def _start_anew(self) -> None:
        self._iterator, self._at = iter(()), self.n_blocks
        self._recent.clear()

    def release(self) -> None:
        """Let go of the iterator, which may hold a file open, and of the blocks kept."""
        with self._lock:
            self._start_anew()

    def _next(self) -> Array:
        assert self.lengths is not None
        if self._at == 0:
            self._recent.clear()
            self._iterator = self._started()
        block = next(self._iterator, None)
        expected = (self.lengths[self._at], *self.shape[1:])
        if block is None or tuple(block.shape) != expected:
            got = "nothing" if block is None else f"a block of shape {tuple(block.shape)}"
            raise SourceChangedError(
                f"the callable gave {got} where it gave {expected} when it was scanned; it must return a new iterator "
                "over the same blocks each time it is called",
                source=self.name,
                block=self._at,
            )
        if self._at + 1 == self.n_blocks and next(self._iterator, None) is not None:
            raise SourceChangedError(
                f"the callable gave more than the {self.n_blocks} blocks that it gave when it was scanned; it must return "
                "a new iterator over the same blocks each time it is called",
                source=self.name,
                block=self.n_blocks,
            )
        if not np.can_cast(host_dtype(block), self.dtype, "same_kind"):
            raise SourceChangedError(
                f"the callable gave a block of dtype {block.dtype} where {self.dtype} was found when it was scanned",
                source=self.name,
                block=self._at,
            )
        try:
            return converted(block, self.dtype)
        except DataError as error:
            raise error.located(source=self.name, block=self._at, first_row=sum(self.lengths[: self._at])) from None

    def recut(self, lengths: Sequence[int], /) -> Blocks:
        """Return the same rows in blocks of these lengths, put together as they are read."""
        if tuple(lengths) == self.lengths:
            return self
        return RecutBlocks(self, lengths)


class RecutBlocks(Blocks):
    """Other cuts of blocks that cannot be cut freely: each is put together from those it overlaps."""

    def __init__(self, blocks: Blocks, lengths: Sequence[int]) -> None:
        if sum(lengths) != blocks.n_rows:
            raise DataError(f"{sum(lengths)} rows asked of {blocks.n_rows}", source=blocks.name)
        self._blocks = blocks
        self.name = blocks.name
        self.lengths = tuple(lengths)
        self.n_blocks = len(self.lengths)
        self.shape, self.dtype = blocks.shape, blocks.dtype
        self.names, self.backend_name = blocks.names, blocks.backend_name
        self.sparse = blocks.sparse
        self._starts, self._theirs = self.starts(), blocks.starts()

    def read(self, i: int, /) -> Array:
        """Return block `i`."""
        start, stop = self._starts[i], self._starts[i + 1]
        theirs = self._theirs
        pieces = []
        k = bisect_right(theirs, start) - 1
        while k < self._blocks.n_blocks and theirs[k] < stop:
            first, last = theirs[k], theirs[k + 1]
            if last > start and last > first:
                pieces.append(run_of(self._blocks.read(k), max(start, first) - first, min(stop, last) - first))
            k += 1
        if not pieces:
            return run_of(self._blocks.read(0), 0, 0)
        return pieces[0] if len(pieces) == 1 else concatenated(pieces)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row; for sparse rows, on average."""
        return self._blocks.row_bytes

    def recut(self, lengths: Sequence[int], /) -> Blocks:
        """Return the same rows in blocks of these lengths."""
        return self._blocks.recut(lengths)

    def name_at(self, row: int, /) -> str:
        """Return the name of the file that `row` lies in, for messages."""
        return self._blocks.name_at(row)

    def release(self) -> None:
        """Let go of what a pass has opened or kept."""
        self._blocks.release()
