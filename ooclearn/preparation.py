"""What workers make of the rows of a feed's block: checked, mapped, mixed, looked through for NaN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ooclearn._namespace import int_dtype, like, namespace, ones
from ooclearn.buffers import Buffers, local_buffers
from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.feeds import Grouped
from ooclearn.rowmaps import RowMap, map_into
from ooclearn.statistics.checks import refuse_nonfinite
from ooclearn.statistics.join import Join
from ooclearn.table import Rows, Table
from ooclearn.tiles import run_of_rows
from ooclearn.types import Array

__all__ = ["Preparation", "Prepare", "Prepared"]

Prepared = tuple[list[Rows], Any, "DataError | None"]


@dataclass(frozen=True, eq=False)
class Preparation:
    """What is done to X for one feed.

    Attributes
    ----------
    row_map : RowMap or None
        The composed map of the stages above.
    finite : bool
        Refuse NaN and infinities in what comes out.
    buffers : Buffers
        Where the prepared block lies.
    """

    row_map: RowMap | None
    finite: bool
    buffers: Buffers

    def whole(self, X: Array, mixed: Array | None, /) -> Array:
        """Return the rows of a group that were read as one array, the row `r` at ``mixed[r]``."""
        if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "fiub":
            n = X.shape[0]
            out = self.room(n, X)
            step = run_of_rows(X.nbytes // max(1, n))
            for start in range(0, n, step):
                self.tile(X[start : start + step], out, start, mixed)
            return out
        mapped = X if self.row_map is None else self.row_map(X)
        if self.finite:
            self._refuse(X, mapped)
        return mapped if mixed is None else mixed_rows(mapped, mixed)

    def room(self, n: int, X: Array, /) -> Array:
        """Return memory for `n` prepared rows that come from rows like those of `X`."""
        columns = X.shape[1] if self.row_map is None else self.row_map.columns(X.shape[1])
        dtype = X.dtype if self.row_map is None else self.row_map.dtype(X.dtype)
        return self.buffers.empty((n,) if columns is None else (n, columns), dtype)

    def tile(self, X: Array, room: Array, start: int, mixed: Array | None, /) -> None:
        """Put the rows of a tile, the first of which is row `start` of the group, where they belong in `room`."""
        n = X.shape[0]
        straight = room[start : start + n]
        if mixed is None:
            out = straight
            if self.row_map is None:
                out[...] = X
        elif self.row_map is None:
            out = np.ascontiguousarray(X)
        else:
            out = local_buffers().empty(straight.shape, room.dtype)
        if self.row_map is not None:
            map_into(self.row_map, X, out)
        if self.finite:
            self._refuse(X, out)
        if mixed is not None:
            # Rows as single items of many bytes: NumPy then copies each at once, twice as fast.
            _items(room)[mixed[start : start + n]] = _items(out)

    def _refuse(self, X: Array, mapped: Array) -> None:
        """Raise for NaN and infinities; the first bad cell, if it can be, of the rows as they were read."""
        if hasattr(mapped, "tocsr"):
            refuse_nonfinite(mapped)
            return
        xp = namespace(mapped) if hasattr(mapped, "dtype") else None
        if xp is None or not mapped.shape[0] or mapped.dtype == object:
            return
        if not xp.isdtype(mapped.dtype, "real floating"):
            return
        # A sum is finite unless a cell is not (or the sum overflows: then the cells are looked at).
        # As a product it is faster with NumPy; other libraries multiply only what is of one dtype.
        product = mapped.ndim == 2 and isinstance(mapped, np.ndarray)
        total = xp.sum(ones(mapped.shape[0], mapped) @ mapped) if product else xp.sum(mapped)
        if bool(xp.isfinite(total)):
            return
        refuse_nonfinite(X)
        try:
            refuse_nonfinite(mapped)
        except NonFiniteError as error:
            # Numbers of columns are those of the table as long as each is mapped by itself.
            error.column = error.column if getattr(self.row_map, "diagonal", False) else None
            raise


@dataclass(frozen=True, eq=False)
class Prepare:
    """What a worker makes of a group, for all feeds of a pass and the statistics that ride along.

    It can be pickled, and sent to a worker of a cluster. An error of the data is part of the answer: whoever is
    given it knows where in the table the group lies.
    """

    grouped: Grouped
    checks: Sequence[Callable[[Rows], None]]
    join: Join
    preparations: Sequence[Preparation]

    def __call__(self, i: int, rows: Rows, /) -> Prepared:
        """Return what comes of group `i`, whose rows were read as one block."""
        mixed = self.grouped.permutation(i, rows.n)
        try:
            self._check(rows)
            state = self.join.of(rows) if self.join.statistics else None
            y, w = (part if part is None or mixed is None else mixed_rows(part, mixed) for part in (rows.y, rows.w))
            return [Rows(one.whole(rows.X, mixed), y, w) for one in self.preparations], state, None
        except DataError as error:
            return [], None, error

    def _check(self, rows: Rows) -> None:
        for check in self.checks:
            check(rows)

    def by_tiles(self, i: int, table: Table, group: Sequence[int], /) -> Prepared | None:
        """Return what comes of group `i`, read tile by tile; None if its rows must be read as one block.

        Each tile is mapped and looked through while it is in the processor's cache, and its rows go straight to
        their places in the mixed block.
        """
        X = table.X
        if X.ndim != 2 or X.dtype.kind not in "fiub" or X.lengths is None or X.backend_name != "numpy":
            return None
        n = sum(X.lengths[k] for k in group)
        mixed = self.grouped.permutation(i, n)
        y, w = (None if part is None else part.gather(group) for part in (table.y, table.w))
        start = 0
        state = None
        rooms: list[Array] = []
        try:
            self._check(Rows(None, y, w))
            for k in group:
                for tile in X.tiles(k, run_of_rows(X.row_bytes)):
                    if not isinstance(tile, np.ndarray):
                        return None
                    if not rooms:
                        rooms = [one.room(n, tile) for one in self.preparations]
                    for one, room in zip(self.preparations, rooms, strict=True):
                        one.tile(tile, room, start, mixed)
                    state = self._seen(state, tile, y, w, start)
                    start += tile.shape[0]
        except DataError as error:
            return [], None, error if error.source is not None else error.located(first_row=start)
        if mixed is not None:
            y, w = (part if part is None else mixed_rows(part, mixed) for part in (y, w))
        return [Rows(room, y, w) for room in rooms], state, None

    def _seen(self, state: Any, tile: Array, y: Array | None, w: Array | None, start: int) -> Any:
        """Take a tile into the statistics that ride along."""
        if not self.join.statistics:
            return None
        stop = start + tile.shape[0]
        of = self.join.of(Rows(tile, None if y is None else y[start:stop], None if w is None else w[start:stop]))
        return of if state is None else self.join.merge(state, of)


def _items(rows: Array) -> Array:
    """Return C-ordered rows as a vector of items, one a row."""
    width = rows.nbytes // max(1, rows.shape[0])
    return rows.reshape(rows.shape[0], -1).view(np.dtype((np.void, width)))[:, 0]


def mixed_rows(values: Array, places: Array, /) -> Array:
    """Return an array whose row ``places[r]`` is row `r` of `values`."""
    if isinstance(values, np.ndarray) and not values.dtype.hasobject:
        out = np.empty(values.shape, dtype=values.dtype)
        out[places] = values
        return out
    order = np.empty_like(places)
    order[places] = np.arange(len(places))
    if isinstance(values, np.ndarray) or hasattr(values, "tocsr"):
        return values[order]
    return namespace(values).take(values, like(order, values, int_dtype(values)), axis=0)
