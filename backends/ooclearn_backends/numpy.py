"""The NumPy backend: arrays in memory, memory maps, and any Blocks of host blocks, on a pool of threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from ooclearn.blocks import Blocks
from ooclearn.exceptions import DataError
from ooclearn.folding import ThreadedReading
from ooclearn.rowmaps import RowMap, map_into
from ooclearn.sources import SourceBlocks
from ooclearn.storage.arrays import ArraySource, map_source
from ooclearn.tiles import run_of_rows
from ooclearn.types import Array
from ooclearn.workers import one_blas_thread, ordered

__all__ = ["BACKEND", "NumpyBackend"]


class NumpyBackend(ThreadedReading):
    """Host blocks: NumPy arrays (and SciPy's sparse rows, which only estimators that know them are fed)."""

    name = "numpy"
    generic = False

    def owns(self, x: object, /) -> bool:
        """Say whether `x` is a NumPy array, a sparse array in memory, or Blocks of such."""
        if isinstance(x, np.ndarray):
            return True
        if isinstance(x, Blocks):
            return x.backend_name == self.name
        return type(x).__module__.startswith("scipy.sparse") and hasattr(x, "tocsr")

    def blocks(self, x: Any, /, *, name: str | None = None) -> Blocks:
        """Return an array or memory map as Blocks, without reading it."""
        if isinstance(x, Blocks):
            return x
        if isinstance(x, np.memmap) and x.ndim:
            return SourceBlocks(map_source(x))
        if not isinstance(x, np.ndarray):
            x = x.tocsr()
        return SourceBlocks(ArraySource(x, name=name or "array"))

    def adopt(self, blocks: Blocks, /) -> Blocks:
        """Return host `blocks` as they are."""
        return blocks

    def map(self, row_map: RowMap, x: Any, /) -> Any:
        """Apply `row_map`: at once, in threads, to an array in memory; lazily to Blocks and memory maps."""
        if isinstance(x, Blocks):
            return x.map(row_map)
        if isinstance(x, np.memmap):
            return self.blocks(x).map(row_map)
        if not isinstance(x, np.ndarray):
            return _run(row_map, x.tocsr(), 0, x.shape[0])
        return self._mapped(row_map, x)

    def _mapped(self, row_map: RowMap, x: Array) -> Array:
        n = x.shape[0]
        rows = run_of_rows(x.nbytes // max(n, 1))
        if n <= rows or x.dtype.hasobject:
            return _run(row_map, x, 0, n)
        with one_blas_thread():
            return self._mapped_by_runs(row_map, x, rows)

    def _mapped_by_runs(self, row_map: RowMap, x: Array, rows: int) -> Array:
        n = x.shape[0]
        # A few rows tell what comes out; text and sparse rows are not put together from runs.
        begin = min(64, rows)
        first = _run(row_map, x, 0, begin)
        if not isinstance(first, np.ndarray) or first.dtype.hasobject or first.dtype.kind in "US":
            return _run(row_map, x, 0, n)
        out = np.empty((n, *first.shape[1:]), dtype=first.dtype)
        out[:begin] = first
        workers = self.workers()
        # Long stretches a task, so that handing tasks out costs nothing.
        step = rows * max(1, min(16, -(-n // (rows * workers * 8))))

        def task(i: int) -> None:
            for start in range(begin + i * step, min(begin + (i + 1) * step, n), rows):
                stop = min(start + rows, n)
                _run(row_map, x, start, stop, out[start:stop])

        for _ in ordered(task, -(-(n - begin) // step), workers=workers, name="worker"):
            pass
        return out

    def to_host(self, block: Array, /) -> Any:
        """Return the block: it is on the host."""
        return block

    def from_host(self, values: Array, /, *, like: Array | None = None) -> Array:  # noqa: ARG002  (one place only)
        """Return the values: they are where they should be."""
        return values


def _run(row_map: RowMap, x: Array, start: int, stop: int, out: Array | None = None) -> Array:
    """Map rows `start` to `stop`; errors count rows over the whole array."""
    rows = x if (start, stop) == (0, x.shape[0]) else x[start:stop]
    try:
        if out is None:
            return row_map(rows)
        map_into(row_map, rows, out)
    except DataError as error:
        raise error.located(source="X", first_row=start) from None
    return out


BACKEND = NumpyBackend()
