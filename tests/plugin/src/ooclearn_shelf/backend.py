"""The adapter of shelves."""

from __future__ import annotations

from typing import Any

import numpy as np

from ooclearn.blocks import Blocks
from ooclearn.folding import ThreadedReading
from ooclearn.rowmaps import RowMap
from ooclearn.sources import SourceBlocks
from ooclearn.storage.arrays import ArraySource
from ooclearn_shelf.array import Shelf

__all__ = ["BACKEND"]


class ShelfBackend(ThreadedReading):
    """Shelves in memory; reading, folding and streaming by threads are ooclearn's."""

    name = "shelf"
    generic = False

    def owns(self, x: object, /) -> bool:
        """Say whether `x` is a shelf, or Blocks of shelves."""
        return isinstance(x, Shelf) or (isinstance(x, Blocks) and x.backend_name == self.name)

    def blocks(self, x: Any, /, *, name: str | None = None) -> Blocks:
        """Return a shelf as Blocks."""
        return (
            x if isinstance(x, Blocks) else SourceBlocks(ArraySource(x, name=name or "shelf"), backend_name=self.name)
        )

    def adopt(self, blocks: Blocks, /) -> Any:
        """Refuse: a shelf is in memory."""
        raise ValueError(f"a shelf is in memory; put {blocks.name} on one first, if it fits")

    def map(self, row_map: RowMap, x: Any, /) -> Any:
        """Apply `row_map` at once."""
        return x.map(row_map) if isinstance(x, Blocks) else row_map(x)

    def to_host(self, block: Any, /) -> np.ndarray:
        """Take the values down."""
        return block.taken_down() if isinstance(block, Shelf) else np.asarray(block)

    def from_host(self, values: Any, /, *, like: Any = None) -> Any:
        """Put values on a shelf; text stays."""
        values = np.asarray(values)
        return Shelf(values) if values.dtype.kind in "fiub" else values


BACKEND = ShelfBackend()
