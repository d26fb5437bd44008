"""Blocks that a row map is applied to when they are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

from ooclearn.blocks import Blocks
from ooclearn.exceptions import DataError
from ooclearn.rowmaps import RowMap, compose, kind_of
from ooclearn.types import Array

__all__ = ["MappedBlocks"]


class MappedBlocks(Blocks):
    """Blocks to which a row map is applied when they are read."""

    blocks: Blocks
    row_map: RowMap

    def __init__(self, blocks: Blocks, row_map: RowMap) -> None:
        if isinstance(blocks, MappedBlocks):
            row_map = compose(blocks.row_map, row_map)
            blocks = blocks.blocks
        self.blocks = blocks
        self.row_map = row_map
        columns = row_map.columns(blocks.n_columns)
        self.name = blocks.name
        self.shape = (blocks.shape[0],) if columns is None else (blocks.shape[0], columns)
        self.dtype = row_map.dtype(blocks.dtype)
        self.lengths = blocks.lengths
        self.n_blocks = blocks.n_blocks
        self.backend_name = blocks.backend_name
        self.sparse = blocks.sparse and kind_of(row_map) == "diagonal"

    @property
    def cuttable(self) -> bool:
        """Whether cutting elsewhere costs nothing."""
        return self.blocks.cuttable

    def recut(self, lengths: Sequence[int], /) -> Blocks:
        """Return the same rows in blocks of these lengths."""
        return MappedBlocks(self.blocks.recut(lengths), self.row_map)

    def read(self, i: int, /) -> Array:
        """Return block `i`."""
        return self._mapped(self.blocks.read(i), i)

    def tiles(self, i: int, rows: int, /) -> Iterator[Array]:
        """Yield block `i` in runs of at most `rows` rows; each is lent until the next is asked for."""
        first = 0
        for tile in self.blocks.tiles(i, rows):
            yield self._mapped(tile, i, first)
            first += tile.shape[0]

    def returned(self, mapped: Blocks | None = None, /) -> Blocks:
        """Return what these rows, or `mapped` that is made of them, become when brought to the host, the shortest way."""
        return self.blocks.returned(self if mapped is None else mapped)

    def held(self, beside: Sequence[Blocks]) -> AbstractContextManager[None]:
        """Keep what later passes can use again, for the length of a ``with`` block, of the rows that these are made of."""
        return self.blocks.held(beside)

    def expect(self, group: Sequence[int], /) -> None:
        """Take note that these blocks are read soon: what takes time to come may be sent for."""
        self.blocks.expect(group)

    def name_at(self, row: int, /) -> str:
        """Return the name of the file that `row` lies in, for messages."""
        return self.blocks.name_at(row)

    def release(self) -> None:
        """Let go of what a pass has opened or kept."""
        self.blocks.release()

    def _mapped(self, block: Array, i: int, first: int = 0) -> Array:
        try:
            out = self.row_map(block)
        except DataError as error:
            start = first + (self.starts()[i] if self.lengths is not None else 0)
            at = start if error.rows is None else start + error.rows[0]
            source = self.name_at(at)
            raise error.located(source=source, block=i, first_row=start, names=self.blocks.names) from None
        if out.shape[0] != block.shape[0]:
            raise DataError(
                f"a map gave {out.shape[0]} rows for {block.shape[0]}; row maps keep the rows",
                source=self.name,
                block=i,
            )
        return out
