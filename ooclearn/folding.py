"""Reading host or device blocks with threads: what most backends share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

from ooclearn.buffers import Buffers
from ooclearn.config import n_workers
from ooclearn.events import Work, record, working
from ooclearn.exceptions import DataError
from ooclearn.statistics.join import Join
from ooclearn.statistics.protocol import MergeTree, Statistic, parts_of
from ooclearn.summing import Summing
from ooclearn.table import Rows, Table
from ooclearn.tiles import run_of_rows
from ooclearn.workers import one_blas_thread, ordered

__all__ = ["DeviceReading", "ThreadedReading", "fold_block", "located", "tile_rows"]

T = TypeVar("T")


def tile_rows(table: Table, /) -> int:
    """Return how many rows of `table` fit a tile, measured before row maps narrow them."""
    return run_of_rows(max(int(getattr(part, "blocks", part).row_bytes) for part in table.parts))


def fold_block(table: Table, statistic: Statistic[Any], i: int, tile: int, /) -> Any:
    """Return the state of block `i`, folded tile by tile; errors say where in the table."""
    apart = _targets_apart(table, statistic)
    if apart is not None:
        states: dict[str, Any] = {}
        for part, join in apart:
            states |= fold_block(part, join, i, tile_rows(part))
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

    def fold(self, table: Table, statistic: Statistic[Any], /, *, work: Work) -> Any:
        """Read the table once; return the state of `statistic`, merged in block order in a fixed tree."""
        workers = self.workers()
        tile = tile_rows(table)
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

        with ExitStack() as stack:
            stack.callback(table.release)
            stack.enter_context(one_blas_thread())
            yield from ordered(task, len(groups), workers=workers, ahead=max(0, ahead - workers), name="reader")
