"""Reading host or device blocks with threads: what most backends share."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ooclearn.buffers import Buffers
from ooclearn.config import get_config, n_workers
from ooclearn.events import Work, record, working
from ooclearn.exceptions import BlockMemoryError, DataError
from ooclearn.statistics.join import Join
from ooclearn.statistics.protocol import MergeTree, Statistic, parts_of
from ooclearn.summing import Summing
from ooclearn.table import Rows, Table
from ooclearn.tiles import TILE_BYTES, run_of_rows
from ooclearn.types import Array
from ooclearn.workers import one_blas_thread, ordered

__all__ = ["DeviceReading", "Room", "ThreadedReading", "fold_block", "located", "room_to_fold", "tile_rows"]

T = TypeVar("T")


# Of a tile and its temporary copies, so many take memory at a time, at most.
_TILES = 6


@dataclass(frozen=True)
class Room:
    """How a table is folded within ``memory_limit``.

    Attributes
    ----------
    workers : int
        Threads that may fold at a time.
    tile : int
        Rows that each works on at a time.
    memory : int
        Bytes that all of them take, an upper bound: tiles with their temporary copies, and blocks that cannot be read
        in parts.
    """

    workers: int
    tile: int
    memory: int


def room_to_fold(table: Table, /) -> Room:
    """Return how to fold `table`; fewer workers and smaller tiles where ``memory_limit`` asks for it.

    Raises
    ------
    BlockMemoryError
        Not even one worker fits.
    """
    row_bytes = _tile_row_bytes(table)
    lengths = () if table.X.cuttable else table.X.lengths or ()
    whole = max(lengths, default=0) * sum(part.row_bytes for part in table.parts)
    workers, tile_bytes = n_workers(), TILE_BYTES
    limit: int | None = get_config()["memory_limit"]
    if limit is not None:
        workers = min(workers, limit // (whole + _TILES * row_bytes))
        if not workers:
            raise BlockMemoryError(
                f"to read {table.X.name}, one worker takes {whole + _TILES * row_bytes:,} bytes at least, "
                + (f"a block of {max(lengths):,} rows and " if whole else "")
                + f"{_TILES} copies of a row, memory_limit is {limit:,}; "
                + ("cut the rows into smaller blocks, or set a greater limit" if whole else "set a greater limit")
            )
        tile_bytes = min(TILE_BYTES, (limit // workers - whole) // _TILES)
    return Room(workers, run_of_rows(row_bytes, tile_bytes), workers * (whole + _TILES * tile_bytes))


def tile_rows(table: Table, /) -> int:
    """Return how many rows of `table` fit a tile."""
    return run_of_rows(_tile_row_bytes(table))


def _tile_row_bytes(table: Table) -> int:
    """Return the bytes of a row of the widest part, measured before row maps narrow it."""
    return max(1, *(int(getattr(part, "blocks", part).row_bytes) for part in table.parts))


def fold_block(table: Table, statistic: Statistic[Any], i: int, tile: int, /) -> Any:
    """Return the state of block `i`, folded tile by tile; errors say where in the table."""
    apart = _targets_apart(table, statistic)
    if apart is not None:
        states: dict[str, Any] = {}
        for part, join in apart:
            # As many bytes of each: rows of the targets are shorter than those of X.
            states |= fold_block(part, join, i, max(1, tile * _tile_row_bytes(table) // _tile_row_bytes(part)))
        return {name: states[name] for name in statistic.statistics}  # type: ignore[attr-defined]  # a Join
    state = None
    first = 0
    asked = "i" in parts_of(statistic) and table.X.lengths is not None
    begin = sum((table.X.lengths or ())[:i]) if asked else None
    try:
        for rows in table.tiles(i, tile):
            seen = statistic.of(rows if begin is None else replace(rows, start=begin + first))
            state = seen if state is None else statistic.merge(state, seen)
            first += rows.n
    except DataError as error:
        raise located(error, table, i, first) from error.__cause__
    return state


def _brought(table: Table, statistic: Statistic[Any], work: Work) -> Any:
    """Return the state over rows that come back from a device by a ring; None where they come block by block."""
    y, w, starts, tile = table.y, table.w, table.X.starts(), run_of_rows(table.X.row_bytes)
    if any(part.backend_name != "numpy" for part in table.parts):
        return None
    numbered = "i" in parts_of(statistic)
    states: dict[int, Any] = {}

    def put(blocks: Sequence[int], start: int, X: Array) -> None:
        whole = Rows(X, None if y is None else y.gather(blocks), None if w is None else w.gather(blocks))
        state = None
        first = 0
        try:
            for first in range(0, whole.n, tile):
                rows = _part(whole, first, first + tile)
                seen = statistic.of(replace(rows, start=start + first) if numbered else rows)
                state = seen if state is None else statistic.merge(state, seen)
        except DataError as error:
            at = start + first + (0 if error.rows is None else error.rows[0])
            i = bisect_right(starts, at, hi=len(starts) - 1) - 1
            raise located(error, table, i, start + first - starts[i]) from error.__cause__
        states[start] = state

    with one_blas_thread():
        if not table.X.bring(put, work=work):
            return None
    tree: MergeTree[Any] = MergeTree(statistic)
    for start in sorted(states):
        tree.add(states[start])
    return tree.result()


def _part(rows: Rows, start: int, stop: int) -> Rows:
    return Rows(*(None if part is None else part[start:stop] for part in (rows.X, rows.y, rows.w)))


def _targets_apart(table: Table, statistic: Statistic[Any]) -> list[tuple[Table, Join]] | None:
    """Return what is asked of the targets alone and the rest, if they read nothing in common; else None.

    Targets are short: a tile of them is a whole block, where a tile of the rows is a fraction of one.
    """
    if not isinstance(statistic, Join) or table.y is None:
        return None
    alone = {name: one for name, one in statistic.statistics.items() if "X" not in parts_of(one)}
    rest = {name: one for name, one in statistic.statistics.items() if name not in alone}
    if not alone or not rest:
        return None
    joins = Join(**rest), Join(**alone)
    there = frozenset("Xyw" if table.w is not None else "Xy")
    if joins[0].parts & joins[1].parts & there:
        return None
    return [(table.only(join.parts), join) for join in joins]


def located(error: DataError, table: Table, i: int, first: int) -> DataError:
    """Return `error` with the source, the block, and rows counted over the whole table."""
    start = table.X.starts()[i] + first if table.X.lengths is not None else first
    at = start if error.rows is None else start + error.rows[0]
    source = table.part(error.part).name_at(at)
    return error.located(source=source, block=i, first_row=start, names=table.X.names)


class DeviceReading:
    """The verb ``fold`` over blocks of a device: statistics are added up there, and come back once.

    It stands before :class:`ThreadedReading` among the bases of a backend.
    """

    to_host: Callable[[Any], Any]

    def deliver(self, table: Table, take: Callable[[int, Rows], None], end: Callable[[], T], /, *, work: Work) -> T:
        """Give each block of the table to `take`, in order, then call `end`."""
        with ExitStack() as stack:
            stack.callback(table.release)
            stack.enter_context(working(work))
            for group in self._together(table):
                n = 0 if table.X.lengths is None else sum(table.X.lengths[i] for i in group)
                with record(work, "fold", group[0], n, n * sum(part.row_bytes for part in table.parts)):
                    take(group[0], table.gather(group))
            return end()

    def run_bytes(self) -> int:
        """Return how many bytes of rows in the device's memory are best worked on as one; 0 for each block alone."""
        return 0

    def _together(self, table: Table) -> Iterator[range]:
        """Yield runs of blocks that are worked on as one: of an array in memory, which is cut by looking at parts of it."""
        n, lengths = table.n_blocks, table.X.lengths
        most = self.run_bytes() // max(1, table.X.row_bytes) if table.X.cuttable else 0
        start = rows = 0
        for i in range(n):
            length = 0 if lengths is None else lengths[i]
            if i > start and rows + length > most:
                yield range(start, i)
                start, rows = i, 0
            rows += length
        if n:
            yield range(start, n)

    def fold(self, table: Table, statistic: Statistic[Any], /, *, work: Work) -> Any:
        """Read the table once; return the state of `statistic`. One synchronisation, one copy to the host.

        Where a sum turns out to be no number, the table is read again block by block, as by other backends, which
        names the cell that has spoilt it, or does without it.
        """
        summing = Summing(statistic)
        careful = super().fold  # type: ignore[misc]  # of what it is mixed with
        if not summing.summed:
            return careful(table, statistic, work=work)

        numbered = "i" in parts_of(statistic) and table.X.lengths is not None
        starts = table.X.starts() if numbered else []

        def take(i: int, rows: Rows) -> None:
            try:
                summing.take(replace(rows, start=starts[i]) if numbered else rows)
            except DataError as error:
                raise located(error, table, i, 0) from error.__cause__

        states, left = self.deliver(table, take, lambda: summing.result(self.to_host), work=work)
        if left is not None:
            states |= careful(table.only(left.parts), left, work=replace(work, title=f"{work.title}, block by block"))
        return summing.whole(states)


class ThreadedReading:
    """The verbs ``fold`` and ``stream`` over Blocks, with threads of this process."""

    def workers(self) -> int:
        """Return how many threads to use."""
        return n_workers()

    def taken_along(self) -> Callable[[], AbstractContextManager[Any]]:
        """Return what threads that work for this one enter first: what a library keeps by thread, as this one has it."""
        return nullcontext

    def fold(self, table: Table, statistic: Statistic[Any], /, *, work: Work) -> Any:
        """Read the table once; return the state of `statistic`, merged in block order in a fixed tree."""
        brought = _brought(table, statistic, work)
        if brought is not None:
            return brought
        room = room_to_fold(table)
        workers, tile = min(self.workers(), room.workers), room.tile
        tree: MergeTree[Any] = MergeTree(statistic)

        def task(i: int) -> Any:
            rows = 0 if table.X.lengths is None else table.X.lengths[i]
            with record(work, "fold", i, rows, rows * sum(part.row_bytes for part in table.parts)):
                return fold_block(table, statistic, i, tile)

        with ExitStack() as stack:
            stack.callback(table.release)
            stack.enter_context(working(work))
            if table.n_blocks > 1:
                stack.enter_context(one_blas_thread())
            states = ordered(task, table.n_blocks, workers=workers, name="worker")
            stack.callback(states.close)  # type: ignore[attr-defined]  # `ordered` is a generator
            for state in states:
                tree.add(state)
        return tree.result()

    def stream(
        self,
        table: Table,
        groups: Sequence[Sequence[int]],
        function: Callable[[int, Rows], T],
        /,
        *,
        ahead: int,
        work: Work,
    ) -> Iterator[T]:
        """Yield ``function(i, rows)`` for each group of blocks, in order, at most `ahead` groups early."""
        workers = max(1, min(self.workers(), ahead))
        buffers = Buffers(keep=workers + ahead)
        row_bytes = sum(part.row_bytes for part in table.parts)

        # A function that can take a block tile by tile is let read it itself, in cache.
        by_tiles = getattr(function, "by_tiles", None)

        def task(i: int) -> T:
            # While this group is worked on, the next one of this worker may come from the disk.
            for soon in range(i if i < workers else i + workers, min(i + workers + 1, len(groups)), workers):
                table.expect(groups[soon])
            if by_tiles is not None:
                with record(work, "transform", i) as span:
                    done: T | None = by_tiles(i, table, groups[i])
                    span.bytes = sum(table.X.lengths[k] for k in groups[i]) * row_bytes if table.X.lengths else 0
                if done is not None:
                    return done
            with record(work, "read", i) as span:
                rows = table.gather(groups[i], buffers.empty)
                span.bytes = rows.n * row_bytes
            with record(work, "transform", i):
                return function(i, rows)

        along = self.taken_along()

        def task_there(i: int) -> T:
            with along():
                return task(i)

        with ExitStack() as stack:
            stack.callback(table.release)
            stack.enter_context(one_blas_thread())
            yield from ordered(
                task_there, len(groups), workers=workers, ahead=max(0, ahead - workers), name="reader", yielding=True
            )
