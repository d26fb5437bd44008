"""What workers make of the rows of a feed's block: checked, mapped, mixed, looked through for NaN."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ooclearn._namespace import int_dtype, like, namespace, surely_finite
from ooclearn.backend import backend_of
from ooclearn.blocks import Blocks
from ooclearn.buffers import Buffers, local_buffers
from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.feeds import Grouped
from ooclearn.rowmaps import Affine, RowMap, map_into
from ooclearn.statistics.checks import refuse_nonfinite
from ooclearn.statistics.join import Join
from ooclearn.table import Rows, Table
from ooclearn.tiles import run_of_rows
from ooclearn.types import Array

__all__ = ["Preparation", "Prepare", "Prepared"]

# The rows of a window come out in this many tiles, which lie in the second cache while they are mapped.
_TILES = 4

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
    host : bool
        Copy it to the host, if it lies on a device.
    notices : bool
        Leave what lies on a device to the consumer, which notices what is not finite without waiting for it.
    """

    row_map: RowMap | None
    finite: bool
    buffers: Buffers
    host: bool = False
    notices: bool = False

    def rows(self, X: Array, y: Array | None, w: Array | None, /) -> Rows:
        """Return prepared rows, on the host if they are wanted there."""
        if not self.host:
            return Rows(X, y, w)
        X, y, w = (part if part is None or is_host(part) else backend_of(part).to_host(part) for part in (X, y, w))
        return Rows(X, y, w)

    def whole(self, X: Array, orders: Sequence[Array] | None, /) -> Array:
        """Return the rows of a group that were read as one array, mixed within windows."""
        if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "fiub":
            n = X.shape[0]
            out = self.room(n, X)
            if orders is not None:
                for rows, order in windows_of(n, orders):
                    with counted_from(rows.start):
                        self.window(X[rows], order, out[rows])
                return out
            step = run_of_rows(X.nbytes // max(1, n))
            for start in range(0, n, step):
                with counted_from(start):
                    self.tile(X[start : start + step], out, start)
            return out
        mapped = X if self.row_map is None else self.row_map(X)
        if self.finite:
            self._refuse(X, mapped)
        return mapped if orders is None else in_order(mapped, joined_orders(orders))

    def room(self, n: int, X: Array, /) -> Array:
        """Return memory for `n` prepared rows that come from rows like those of `X`."""
        columns = X.shape[1] if self.row_map is None else self.row_map.columns(X.shape[1])
        dtype = X.dtype if self.row_map is None else self.row_map.dtype(X.dtype)
        return self.buffers.empty((n,) if columns is None else (n, columns), dtype)

    def tile(self, X: Array, room: Array, start: int, /) -> None:
        """Put what comes of a tile, whose first row is row `start` of the group, in its place in `room`."""
        out = room[start : start + X.shape[0]]
        self._map(X, out)
        if self.finite:
            self._refuse(X, out)

    def window(self, X: Array, order: Array, out: Array, /, again: Callable[[], Array] | None = None) -> None:
        """Fill `out` with what comes of row ``order[0]`` of `X`, row ``order[1]``, ...

        Rows are mapped before they are mixed: they were just read, and lie in the cache, as `out` does not. Where X can
        be read `again`, it is written to.
        """
        n = len(order)
        row_map = self.row_map
        by_column = isinstance(row_map, Affine) and row_map.diagonal
        own = again is not None and by_column and (out.dtype, out.shape[1:]) == (X.dtype, X.shape[1:])
        mapped = X if row_map is None or own else local_buffers().empty(out.shape, out.dtype)
        step = max(64, run_of_rows(X.nbytes // max(1, n)) // _TILES // 64 * 64)
        finite = True
        for start in range(0, n, step):
            some = mapped[start : start + step]
            if row_map is not None:
                with counted_from(start):
                    self._map(X[start : start + step], some)
            finite = finite and (not self.finite or surely_finite(some))
        if not finite:
            # In the order in which they were read, so that the first bad cell is named.
            if own and again is not None:
                X = again()
                mapped = X if row_map is None else row_map(X)
            self._refuse(X, mapped)
        for start in range(0, n, step):
            # The order is known to lie within; "clip" spares NumPy a copy that it would make to raise without traces.
            np.take(mapped, order[start : start + step], axis=0, out=out[start : start + step], mode="clip")

    def _map(self, X: Array, out: Array) -> None:
        row_map = self.row_map
        if row_map is None:
            out[...] = X
            return
        if self.finite and isinstance(row_map, Affine):
            row_map = row_map.unlooked()  # what comes out is looked at once
        map_into(row_map, X, out)

    def _refuse(self, X: Array, mapped: Array) -> None:
        """Raise for NaN and infinities; the first bad cell, if it can be, of the rows as they were read."""
        if self.notices and not is_host(mapped):
            return
        if hasattr(mapped, "tocsr"):
            refuse_nonfinite(mapped)
            return
        if surely_finite(mapped):
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
        orders = self.grouped.orders(i, rows.n)
        order = None if orders is None else joined_orders(orders)
        try:
            self._check(rows)
            state = self._state(rows)
            parts = (rows.y, rows.w, rows.labels)
            y, w, read = (part if part is None or order is None else in_order(part, order) for part in parts)
            # What the host gets is y as it was read there, with the dtype that it had.
            at_home = y if read is None else read
            given = [(one, at_home if one.host else y) for one in self.preparations]
            return [one.rows(one.whole(rows.X, orders), target, w) for one, target in given], state, None
        except DataError as error:
            return [], None, error

    def _state(self, rows: Rows) -> Any:
        """Return the state of the statistics that ride along; of tiles, where the rows lie in memory of the host."""
        if not self.join.statistics or not isinstance(rows.X, np.ndarray) or rows.X.ndim != 2:
            return self.join.of(rows) if self.join.statistics else None
        state = None
        step = run_of_rows(rows.X.nbytes // max(1, rows.n))
        for start in range(0, max(1, rows.n), step):
            stop = start + step
            tile: list[Any] = [part if part is None else part[start:stop] for part in (rows.X, rows.y, rows.w)]
            with counted_from(start):
                of = self.join.of(Rows(*tile))
                state = of if state is None else self.join.merge(state, of)
        return state

    def _check(self, rows: Rows) -> None:
        for check in self.checks:
            check(rows)

    def by_tiles(self, i: int, table: Table, group: Sequence[int], /) -> Prepared | None:
        """Return what comes of group `i`, read bit by bit; None if its rows must be read as one block.

        What is read is mapped and looked through while it is in the processor's cache: tiles, of rows in order, and
        of rows that are mixed the windows within which they are. The memory that a window is read into is written
        again for the next, before the system has moved it out of the cache: that halves the cost of reading.
        """
        X = table.X
        if X.ndim != 2 or X.dtype.kind not in "fiub" or X.lengths is None or X.backend_name != "numpy":
            return None
        n = sum(X.lengths[k] for k in group)
        y, w = (None if part is None else part.gather(group) for part in (table.y, table.w))
        orders = self.grouped.orders(i, n)
        start = 0
        state = None
        rooms: list[Array] = []
        try:
            self._check(Rows(None, y, w))
            read = _Reading(X)
            for k, rows in enumerate(self._read(i, read, group)):
                if not isinstance(rows, np.ndarray):
                    return None
                if not rooms:
                    rooms = [one.room(n, rows) for one in self.preparations]
                stop = start + rows.shape[0]
                state = self._seen(state, rows, *(part if part is None else part[start:stop] for part in (y, w)))
                for left, (one, room) in enumerate(zip(self.preparations, rooms, strict=True), 1 - len(rooms)):
                    if orders is None:
                        one.tile(rows, room, start)
                    else:
                        one.window(rows, orders[k], room[start:stop], None if left else read.again)
                start = stop
        except DataError as error:
            return [], None, error if error.source is not None else error.located(first_row=start)
        if orders is not None:
            order = joined_orders(orders)
            y, w = (part if part is None else in_order(part, order) for part in (y, w))
        return [Rows(room, y, w) for room in rooms], state, None

    def _read(self, i: int, read: _Reading, group: Sequence[int]) -> Iterator[Array]:
        """Yield the rows of a group bit by bit; each is lent until the next is asked for."""
        if self.grouped.order.shuffle:
            for window in self.grouped.windows[i]:
                yield read.gather(window)
            return
        for k in group:
            yield from read.blocks.tiles(k, run_of_rows(read.blocks.row_bytes))

    def _seen(self, state: Any, tile: Array, y: Array | None, w: Array | None) -> Any:
        """Take a tile into the statistics that ride along."""
        if not self.join.statistics:
            return None
        of = self.join.of(Rows(tile, y, w))
        return of if state is None else self.join.merge(state, of)


class _Reading:
    """Reads windows into memory of this thread.

    Attributes
    ----------
    again : callable or None
        Reads the window once more, elsewhere; None where what was read lies in memory of others, such as the user's.
    """

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self.again: Callable[[], Array] | None = None

    def gather(self, window: Sequence[int]) -> Array:
        """Return the rows of a window."""
        lent: list[Array] = []

        def room(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
            lent.append(local_buffers().empty(shape, dtype))
            return lent[-1]

        rows = self.blocks.gather(window, room)
        own = any(rows is one for one in lent)
        self.again = partial(self.blocks.gather, window) if own else None
        return rows


@contextmanager
def counted_from(first: int, /) -> Iterator[None]:
    """Raise errors of rows that begin at row `first` of more rows with the row counted among these."""
    try:
        yield
    except DataError as error:
        raise error.located(first_row=first) from error.__cause__


def is_host(x: Array, /) -> bool:
    """Say whether rows lie on the host: NumPy's, or SciPy's sparse ones."""
    return isinstance(x, np.ndarray) or hasattr(x, "tocsr")


def windows_of(n: int, orders: Sequence[Array], /) -> Iterator[tuple[slice, Array]]:
    """Yield the rows of each window, and the order within it."""
    start = 0
    for order in orders:
        yield slice(start, start + len(order)), order
        start += len(order)
    assert start == n


def joined_orders(orders: Sequence[Array], /) -> Array:
    """Return the orders of windows, one behind the other, as one of all their rows."""
    n = sum(map(len, orders))
    return np.concatenate([order + rows.start for rows, order in windows_of(n, orders)])


def in_order(values: Array, order: Array, /) -> Array:
    """Return the rows of an array of any library in an order."""
    if isinstance(values, np.ndarray):
        return np.take(values, order, axis=0)
    if hasattr(values, "tocsr"):
        return values[order]
    return namespace(values).take(values, like(order, values, int_dtype(values)), axis=0)
