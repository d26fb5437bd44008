"""The Dask backend: arrays and data frames cut into chunks, on threads, processes or a cluster.

A pass that folds is one graph: a task for each chunk, and a few that merge. Streams keep a bounded number of
groups of chunks under way. Maps stay in the graph. Importing this module imports no Dask.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from ooclearn.backend import backend_of
from ooclearn.blocks import Blocks
from ooclearn.config import get_config
from ooclearn.events import Work, record, working
from ooclearn.exceptions import BlockMemoryError, DataError
from ooclearn.rowmaps import RowMap
from ooclearn.statistics.protocol import Statistic
from ooclearn.table import Rows, Table, TargetTable
from ooclearn.types import Array
from ooclearn.workers import one_blas_thread, ordered
from ooclearn_backends._dask_blocks import DaskBlocks, lazily_read, promise_of
from ooclearn_backends._dask_graph import Groups, Scheduler, dask_array, new_name, optimized, scheduler_for
from ooclearn_backends._dask_tasks import (
    Folded,
    Folding,
    Grouping,
    Promise,
    Settings,
    fold_chunk,
    merge_folded,
)

__all__ = ["BACKEND", "DaskBackend"]

T = TypeVar("T")

# States merged by one task: a power of 2, so that each run of them is a subtree of the fixed tree.
_MERGED = 16


class DaskBackend:
    """Dask arrays, data frames and series; the work on a chunk is done by the backend of its library."""

    name = "dask"
    generic = False

    def owns(self, x: object, /) -> bool:
        """Say whether `x` is a Dask array, data frame or series, or Blocks of such."""
        if isinstance(x, Blocks):
            return x.backend_name == self.name
        modules = {cls.__module__ for cls in type(x).__mro__}
        return any(module.startswith(("dask.array", "dask.dataframe")) for module in modules) and hasattr(
            x, "__dask_graph__"
        )

    def blocks(self, x: Any, /, *, name: str | None = None) -> Blocks:
        """Return a Dask container as Blocks, a block for each chunk; nothing is computed.

        Chunks that split columns, and thousands of tiny chunks, are put together, with a PerformanceWarning.
        """
        return x if isinstance(x, Blocks) else DaskBlocks.of(x, name=name)

    def adopt(self, blocks: Blocks, /) -> Any:
        """Return host `blocks` as a Dask array of one chunk a block; each task reads its own block.

        Raises
        ------
        BackendError
            Dask is not installed.
        """
        return lazily_read(blocks)

    def map(self, row_map: RowMap, x: Any, /) -> Any:
        """Apply `row_map` lazily, chunk by chunk: arrays and data frames give arrays, Blocks give Blocks."""
        if isinstance(x, Blocks):
            return x.map(row_map)
        return DaskBlocks.of(x, coalesce=False).map(row_map).array  # type: ignore[attr-defined]  # of Dask as they are

    def to_host(self, block: Array, /) -> Any:
        """Copy one chunk to host memory, by the backend of its library; or compute a whole container."""
        if self.owns(block):
            return self.blocks(block).to_numpy()
        return backend_of(block).to_host(block)

    def from_host(self, values: Array, /, *, like: Array | None = None) -> Array:
        """Copy host values to the library and device of the chunk `like`."""
        return values if like is None else backend_of(like).from_host(values, like=like)

    # Folding.

    def fold(self, table: Table, statistic: Statistic[Any], /, *, work: Work) -> Any:
        """Compute one graph; return the state of `statistic`, merged in block order in a fixed tree.

        The graph has a task for each chunk, which holds all that fuses with it, and one for each 16 states to
        merge. Only the final state comes back.

        Raises
        ------
        DataError
            There are no rows, a chunk is not what was declared, or the statistic refuses what it holds.
        BlockMemoryError
            The chunks that are worked on at a time take more than ``memory_limit``.
        """
        arrays = _parts(table)
        scheduler = scheduler_for(arrays[0])
        _refuse_over_limit(table, scheduler)
        promises = _promises(table)
        spec = Folding(
            statistic,
            promises,
            Settings.current(),
            None if scheduler.remote else work,
            tuple(array.ndim == 1 for array in arrays),
        )
        tasks, key = _fold_graph(spec, arrays)
        with ExitStack() as stack:
            stack.callback(table.release)
            stack.enter_context(working(work))
            if not scheduler.remote:
                stack.enter_context(one_blas_thread())
            # Where tasks run in other processes, nobody here sees them; so all of them are told of as one.
            span = stack.enter_context(record(work, "fold")) if scheduler.remote else None
            try:
                folded: Folded = scheduler.whole(tasks, key)
            except DataError as error:
                raise _placed(error, table) from error.__cause__
            if span is not None:
                span.rows = folded.rows
        if not folded.rows:
            raise DataError(
                "Found array with 0 sample(s) while a minimum of 1 is required: there are no rows",
                source=table.X.name,
            )
        return folded.state

    # Streaming.

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
        """Yield ``function(i, rows)`` for each group of blocks, in order, at most `ahead` groups early.

        In this process reader threads compute a group each; on a cluster so many groups are under way, and
        `function` runs on the workers if it can be pickled. When the consumer stops, what is under way is
        cancelled.
        """
        if not groups:
            return
        arrays = _parts(table)
        scheduler = scheduler_for(arrays[0])
        chunks = Groups(arrays, groups, scheduler, ahead=ahead)
        grouping = Grouping(function, _promises(table), Settings.current())
        with ExitStack() as stack:
            stack.callback(table.release)
            stack.callback(chunks.close)
            if scheduler.client is not None:
                yield from _from_cluster(chunks, grouping, groups, scheduler.client, ahead)
            else:
                yield from _from_threads(chunks, grouping, groups, scheduler, ahead, work)


def _refuse_over_limit(table: Table, scheduler: Scheduler) -> None:
    """Raise, before anything is computed, if chunks would take more memory than ``memory_limit``."""
    limit = get_config()["memory_limit"]
    if limit is None or not table.X.lengths:
        return
    # A worker of a cluster has memory of its own.
    workers = 1 if scheduler.remote else min(scheduler.workers(), table.n_blocks)
    row_bytes = max(1, sum(part.row_bytes for part in table.parts))
    largest = max(table.X.lengths)
    need = workers * largest * row_bytes
    if need > limit:
        fits = limit // (workers * row_bytes)
        raise BlockMemoryError(
            f"chunks of {largest:,} rows of {table.X.name} take {need:,} bytes ({workers} at a time, of "
            f"{largest * row_bytes:,} bytes each), memory_limit is {limit:,}; "
            + (
                f"cut the array into chunks of {fits:,} rows or fewer where it is made, or work with fewer workers"
                if fits
                else "not even one row at a time would fit"
            )
        )


def _parts(table: Table) -> list[Any]:
    """Return X, y and w, those that are read, as Dask arrays that are cut alike."""
    return [lazily_read(part) for part in table.parts]


def _promises(table: Table) -> tuple[Promise | None, ...]:
    """Return what the chunks of X, y and w are to be; None for a part that is not read."""
    X = None if isinstance(table, TargetTable) else table.X
    return tuple(None if part is None else promise_of(part) for part in (X, table.y, table.w))


def _fold_graph(spec: Folding, arrays: Sequence[Any]) -> tuple[dict[Any, Any], Any]:
    """Return the graph that folds `arrays`, and the key of the state of all of it."""
    import dask

    da = dask_array()
    n = arrays[0].numblocks[0]
    # One task holds the statistic, so that a large one is sent to each worker once, and not with every chunk.
    held = dask.delayed(spec, name=new_name("fold-of"), pure=False, traverse=False)
    states = da.map_blocks(
        fold_chunk,
        *[array[:, None] if array.ndim == 1 else array for array in arrays],
        spec=held,
        chunks=((1,) * n, (1,)),
        dtype=object,
        meta=np.empty((0, 0), dtype=object),
        name=new_name("fold"),
    )
    tasks, keys = optimized(states)
    tasks[held.key] = spec
    name = new_name("merge")
    level = 0
    while len(keys) > 1 or level == 0:
        runs = [keys[start : start + _MERGED] for start in range(0, len(keys), _MERGED)]
        keys = [(name, level, k) for k in range(len(runs))]
        tasks.update({key: (merge_folded, held.key, run) for key, run in zip(keys, runs, strict=True)})
        level += 1
    return tasks, keys[0]


def _placed(error: DataError, table: Table) -> DataError:
    """Return an error of a task with what the task could not know of its place: the file, the block."""
    # A process scheduler puts errors into others that tell of the process.
    inner = getattr(error, "exception", error)
    out = (inner if isinstance(inner, DataError) else error).located()
    part = table.part(out.part)
    if out.rows is None or part.lengths is None:
        return out
    row = out.rows[0]
    if out.block is None:
        out.block = bisect_right(part.starts(), row) - 1
    if out.source == part.name:
        out.source = part.name_at(row)
    return out


def _from_threads(
    chunks: Groups,
    grouping: Grouping,
    groups: Sequence[Sequence[int]],
    scheduler: Scheduler,
    ahead: int,
    work: Work,
) -> Iterator[Any]:
    workers = max(1, min(scheduler.workers(), ahead))

    def task(i: int) -> Any:
        with record(work, "read", i) as span:
            rows = grouping.rows(groups[i], chunks.compute(i))
            span.bytes = sum(int(getattr(part, "nbytes", 0)) for part in (rows.X, rows.y, rows.w))
        with record(work, "transform", i):
            return grouping.function(i, rows)

    early = 0 if scheduler.sync else max(0, ahead - workers)
    with one_blas_thread():
        yield from ordered(task, len(groups), workers=workers, ahead=early, name="reader")


def _from_cluster(
    chunks: Groups, grouping: Grouping, groups: Sequence[Sequence[int]], client: Any, ahead: int
) -> Iterator[Any]:
    import cloudpickle  # type: ignore[import-untyped]  # Dask brings it; it ships no types

    try:
        pickled = cloudpickle.dumps(grouping)
    except Exception:  # noqa: BLE001  (libraries say in many ways that something cannot be pickled)
        # What holds a lock, a file or a device cannot be sent: the rows come here, and it works on them here.
        here = grouping.function
        pickled = cloudpickle.dumps(replace(grouping, function=_as_is))
    else:
        here = _given
    sent = client.submit(cloudpickle.loads, pickled, pure=False)
    early: deque[Any] = deque()
    begun = 0
    try:
        for i in range(len(groups)):
            while begun < min(len(groups), i + max(1, ahead)):
                blocks = chunks.submit(begun)
                early.append(client.submit(_worked, sent, begun, groups[begun], blocks, pure=False))
                del blocks  # the cluster keeps chunks as long as their group needs them, and no longer
                begun += 1
            result = early[0].result()
            early.popleft().release()
            yield here(i, result)
            del result
    finally:
        # Groups that are under way when the consumer stops are of no use to anybody.
        if early:
            client.cancel(list(early), force=True)
        sent.release()


def _worked(grouping: Grouping, i: int, group: Sequence[int], blocks: Any) -> Any:
    return grouping(i, group, blocks)


def _as_is(_: int, rows: Rows) -> Rows:
    return rows


def _given(_: int, result: Any) -> Any:
    return result


BACKEND = DaskBackend()
