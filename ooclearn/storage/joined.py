"""Several sources of rows, one after the other, as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from ooclearn.blocks import Blocks, SourceBlocks
from ooclearn.exceptions import DataError
from ooclearn.storage.arrays import common_dtype
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

    def read(self, start: int, stop: int, /, out: Array | None = None) -> Array:
        """Return rows `start` to `stop`."""
        if out is None:
            out = np.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        at = start
        while at < stop:
            k = bisect_right(self._starts, at) - 1
            last = min(stop, self._starts[k + 1])
            source, first = self._sources[k], self._starts[k]
            room = out[at - start : last - start]
            try:
                rows = source.read(at - first, last - first, room if source.dtype == self.dtype else None)
            except DataError as error:
                if error.rows is not None:
                    error.rows = (error.rows[0] + first, error.rows[1] + first)
                raise
            except OSError as error:
                error.add_note(f"while reading {source.name}")
                raise
            if rows.shape != room.shape:
                raise DataError(
                    f"got rows of shape {rows.shape} where {room.shape} was declared",
                    source=source.name,
                    rows=(at, last),
                )
            if not np.may_share_memory(rows, room):
                room[...] = rows
            at = last
        return out

    def name_at(self, row: int, /) -> str:
        """Return the name of the file or array that `row` lies in, and which of its rows it is."""
        k = max(0, min(bisect_right(self._starts, row) - 1, len(self._sources) - 1))
        return f"{self._sources[k].name} (row {row - self._starts[k]} there)"
