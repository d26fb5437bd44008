"""Several sources of rows, one after the other, as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from ooclearn.blocks import Blocks, concatenated
from ooclearn.exceptions import DataError
from ooclearn.sources import Source, SourceBlocks
from ooclearn.storage.arrays import common_dtype, converted
from ooclearn.types import Array

__all__ = ["JoinedSource"]


class JoinedSource:
    """The rows of several files or host arrays, one after the other.

    Raises
    ------
    DataError
        The parts differ in columns, or some hold numbers and others text.
    """

    in_memory = False

    def __init__(self, parts: Sequence[Blocks]) -> None:
        sources = []
        for part in parts:
            if not isinstance(part, SourceBlocks) or part.backend_name != "numpy":
                raise DataError(f"a list to scan takes files and host arrays; {part.name} is neither", source=part.name)
            if part.shape[1:] != parts[0].shape[1:]:
                raise DataError(
                    f"rows of shape {part.shape[1:]} cannot follow rows of shape {parts[0].shape[1:]} "
                    f"in {parts[0].name}",
                    source=part.name,
                )
            sources.append(part.source)
        self._sources = sources
        self._starts = [0, *accumulate(source.shape[0] for source in sources)]
        self.name = sources[0].name if len(sources) == 1 else f"{sources[0].name} and {len(sources) - 1} more"
        self.dtype = common_dtype([source.dtype for source in sources], source=self.name)
        self.shape = (self._starts[-1], *sources[0].shape[1:])
        self._take_sparse(parts)

    def _take_sparse(self, parts: Sequence[Blocks]) -> None:
        """Find out whether the rows are sparse; all parts must be, or none."""
        self.row_bytes: int | None = None
        self.sparse = parts[0].sparse
        for part in parts:
            if part.sparse != self.sparse:
                raise DataError(
                    "sparse rows and dense rows cannot be one table; make them all of one kind", source=part.name
                )
        if self.sparse:
            # SciPy puts them together; there is no memory to read them into.
            self.in_memory = True
            self.row_bytes = max(1, sum(part.nbytes or 0 for part in parts) // max(1, self.shape[0]))

    def expect(self, runs: Sequence[tuple[int, int]], /) -> None:
        """Have files fetch runs of rows while others are worked on."""
        for start, stop in runs:
            for source, rows, _ in self._pieces(start, stop):
                expect = getattr(source, "expect", None)
                if expect is not None:
                    expect([(rows.start, rows.stop)])

    def read(self, start: int, stop: int, /, out: Array | None = None) -> Array:
        """Return rows `start` to `stop`."""
        if self.sparse:
            return self._stacked(start, stop)
        if out is None:
            out = np.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        for source, rows, places in self._pieces(start, stop):
            room = out[places]
            piece = self._read(source, rows, room if source.dtype == self.dtype else None)
            if not np.may_share_memory(piece, room):
                room[...] = piece
        return out

    def _stacked(self, start: int, stop: int) -> Array:
        pieces = [self._read(source, rows) for source, rows, _ in self._pieces(start, stop)]
        if not pieces:
            return self._sources[0].read(0, 0).astype(self.dtype)
        return pieces[0] if len(pieces) == 1 else concatenated(pieces)

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[Source, range, slice]]:
        """Yield the parts that hold rows `start` to `stop`: which of their rows, and their places in what is read."""
        at = start
        while at < stop:
            k = bisect_right(self._starts, at) - 1
            last = min(stop, self._starts[k + 1])
            first = self._starts[k]
            yield self._sources[k], range(at - first, last - first), slice(at - start, last - start)
            at = last

    def _read(self, source: Source, rows: range, room: Array | None = None) -> Array:
        """Return rows of one part in the dtype of the whole; errors count rows over the whole."""
        first = self._starts[self._sources.index(source)]
        try:
            piece = source.read(rows.start, rows.stop, room)
        except DataError as error:
            if error.rows is not None:
                error.rows = (error.rows[0] + first, error.rows[1] + first)
            raise
        except OSError as error:
            error.add_note(f"while reading {source.name}")
            raise
        if piece.shape != (len(rows), *self.shape[1:]):
            raise DataError(
                f"got rows of shape {piece.shape} where {(len(rows), *self.shape[1:])} was declared",
                source=source.name,
                rows=(first + rows.start, first + rows.stop),
            )
        try:
            return converted(piece, self.dtype)
        except DataError as error:
            raise error.located(source=source.name, first_row=first + rows.start) from None

    def name_at(self, row: int, /) -> str:
        """Return the name of the file or array that `row` lies in, and which of its rows it is."""
        k = max(0, min(bisect_right(self._starts, row) - 1, len(self._sources) - 1))
        return f"{self._sources[k].name} (row {row - self._starts[k]} there)"
