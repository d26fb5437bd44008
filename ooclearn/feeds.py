"""Feeds: ordered consumers of blocks, and how the rows of a pass are ordered for them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np

from ooclearn.config import get_config, n_workers
from ooclearn.exceptions import DataError
from ooclearn.sources import even_cuts
from ooclearn.table import Rows, Table
from ooclearn.tiles import run_of_rows
from ooclearn.types import Array

__all__ = ["Feed", "Grouped", "Joint", "Order", "blocks_at_a_time", "consuming", "read_ahead"]

# Rows are mixed within windows, each put together from this many runs of rows from all over the table.
_STRIPS = 8


@dataclass(frozen=True)
class Order:
    """In which order, and in blocks of how many rows, a feed wants the table.

    Attributes
    ----------
    block_rows : int or None
        Rows of a block; None for blocks of ``block_bytes``.
    shuffle : bool
        Draw the rows of a block from all over the table, and mix them.
    seed : int
        Of the shuffling: the same seed gives the same order.
    """

    block_rows: int | None = None
    shuffle: bool = False
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Joint:
    """How several consumers are fed as one.

    Attributes
    ----------
    key : hashable
        Consumers whose keys are equal can be, where they are given the same rows; their feeds check alike.
    member : object
        The consumer, for `of`; a plan needs none.
    of : callable
        Takes the members. Returns a context manager: inside, what consumes the blocks for all of them; at its end, each
        is as if it had been fed alone.
    """

    key: Hashable
    member: Any
    of: Callable[[Sequence[Any]], AbstractContextManager[Callable[[Rows], None]]]


@dataclass(frozen=True, eq=False)
class Feed:
    """A request for the table, block by block, in order.

    Attributes
    ----------
    consume : callable
        Takes the :class:`Rows` of one block.
    order : Order
        The order of the rows.
    mark : callable
        Returns a snapshot of the consumer at a block boundary, from which a later run goes on to the same bits.
    check : callable or None
        Looks at the :class:`Rows` of a block in a worker, before they are mixed and mapped, and raises if the targets
        or weights will not do.
    finite : bool
        Refuse NaN and infinities in X, naming the place.
    notices : bool
        The consumer notices them on a device by itself, without waiting for it: rows that lie there are left to it.
    title : str
        For plans.
    host : bool
        The consumer takes host arrays only: what lies on a device is copied by the workers, ahead of it.
    reads_only : bool
        The consumer writes to no row, so that several can be given the same ones.
    joint : Joint or None
        How it is fed as one with others.
    """

    consume: Callable[[Rows], None]
    order: Order = field(default_factory=Order)
    mark: Callable[[], Any] = lambda: None
    check: Callable[[Rows], None] | None = None
    finite: bool = False
    notices: bool = False
    title: str = "feed"
    host: bool = False
    reads_only: bool = False
    joint: Joint | None = None
    parts: frozenset[str] = frozenset("Xyw")


@contextmanager
def consuming(feeds: Sequence[Feed], /) -> Iterator[Callable[[Rows], None]]:
    """Give what consumes the blocks for feeds that are fed as one."""
    first = feeds[0]
    if len(feeds) == 1 or first.joint is None:
        yield first.consume
        return
    with first.joint.of([one.joint.member for one in feeds if one.joint is not None]) as consume:
        yield consume


class Grouped:
    """A table and the groups of its blocks that make up the blocks of a feed, which are `prepared` in so many ways."""

    def __init__(self, table: Table, order: Order, prepared: int = 1) -> None:
        self.order = order
        self.prepared = prepared
        self.given = table
        X = table.X
        row_bytes = sum(part.row_bytes for part in table.parts)
        block_rows = order.block_rows or rows_that_fit(row_bytes, prepared)
        if not order.shuffle:
            table, windows = self._in_order(table, block_rows, row_bytes)
        elif X.cuttable:
            table, windows = self._from_all_over(table, block_rows, row_bytes)
        else:
            windows = self._whole_blocks(table, block_rows)
        self.table = table
        self.windows = windows
        self.groups = [tuple(k for window in block for k in window) for block in windows]
        self.largest = max((self._rows(group) for group in self.groups), default=0)
        self._sizes = [[self._rows(window) for window in block] for block in windows] if order.shuffle else []
        rng = np.random.default_rng([order.seed, 1])
        longest = max((rows for sizes in self._sizes for rows in sizes), default=0)
        self._mixing = np.tile(rng.permutation(longest), 2)
        self._firsts = [0, *accumulate(map(len, windows))]
        self._turns = rng.integers(max(1, longest), size=self._firsts[-1])

    def __getstate__(self) -> dict[str, Any]:
        # A worker of a cluster is told how rows are mixed; the table stays here.
        return {
            name: value for name, value in vars(self).items() if name not in {"given", "table", "groups", "windows"}
        }

    def _in_order(self, table: Table, block_rows: int, row_bytes: int) -> tuple[Table, list[list[tuple[int, ...]]]]:
        """Return the table, cut into blocks as they are to be fed where that costs nothing, and these blocks."""
        n = table.n_rows
        if table.X.cuttable:
            assert n is not None
            even = self.order.block_rows is None
            table = table.recut(
                even_cuts(n, row_bytes, block_bytes=block_rows * row_bytes) if even else _cut_every(n, block_rows)
            )
        return table, [[group] for group in _joined(range(table.n_blocks), table.X.lengths, block_rows)]

    def _from_all_over(
        self, table: Table, block_rows: int, row_bytes: int
    ) -> tuple[Table, list[list[tuple[int, ...]]]]:
        """Return the table, cut into short strips, and which strips make up the windows of each block.

        The table is divided into as many stretches as a block has strips, and each stretch gives every block one.
        Blocks drawn freely from rows that are sorted by class would differ in their shares of the classes, and a model
        would lean towards the last of them.
        """
        n = table.n_rows
        assert n is not None
        if n <= block_rows:
            return self._in_order(table, block_rows, row_bytes)
        windows = max(1, -(-block_rows // run_of_rows(row_bytes)))
        n_strips = max(1, min(windows * _STRIPS, block_rows))
        n_blocks = -(-n // block_rows)
        while (most := max(lengths := _strips(n, n_strips * n_blocks))) * n_strips > block_rows and most > 1:
            n_blocks += 1
        rng = np.random.default_rng([self.order.seed, 0])
        drawn = np.stack([stretch * n_blocks + rng.permutation(n_blocks) for stretch in range(n_strips)])
        # The strips of a window are read in order, and the first bad one is the first.
        blocks = [
            [tuple(strip for strip in block[k::windows].tolist() if lengths[strip]) for k in range(windows)]
            for block in drawn.T
        ]
        return table.recut(lengths), [kept for block in blocks if (kept := [window for window in block if window])]

    def _whole_blocks(self, table: Table, block_rows: int) -> list[list[tuple[int, ...]]]:
        """Return groups of the blocks of a table that cannot be cut elsewhere, each from all over the table."""
        rng = np.random.default_rng([self.order.seed, 0])
        n, n_rows = table.n_blocks, table.X.n_rows
        a_group = max(1, min(n, block_rows * n // n_rows)) if n_rows else 1
        stretches = np.array_split(np.arange(n), a_group)
        drawn = np.full((a_group, len(stretches[0])), -1)
        for places, stretch in zip(drawn, stretches, strict=True):
            places[: len(stretch)] = rng.permutation(stretch)
        order = drawn.T.reshape(-1)
        groups = _joined(order[order >= 0].tolist(), table.X.lengths, block_rows)
        if len(groups) > 2 and table.X.lengths is not None:
            # What was left over is short, and from one part of the table: a model would lean towards what it saw last.
            groups.insert(1, groups.pop())
        return [[tuple(sorted(group))] for group in groups]

    def _rows(self, group: Sequence[int]) -> int:
        lengths = self.table.X.lengths
        return 0 if lengths is None else sum(lengths[i] for i in group)

    def orders(self, i: int, n: int) -> list[Array] | None:
        """Return for each window of group `i`, of `n` rows, which row comes first, second, ...; or None for none mixed.

        Windows hold other rows each; one random order, turned by a random amount for each, mixes them as well as one
        drawn anew would, at a tenth of the cost.
        """
        if not self.order.shuffle:
            return None
        sizes = self._sizes[i]
        if n != sum(sizes):  # the rows of a block of unknown length
            return [np.random.default_rng([self.order.seed, 1, i]).permutation(n)]
        longest = len(self._mixing) // 2
        turned = [self._mixing[turn : turn + longest] for turn in self._turns[self._firsts[i] : self._firsts[i + 1]]]
        return [order if n == longest else order[order < n] for n, order in zip(sizes, turned, strict=True)]

    def located(self, error: DataError, i: int, /) -> DataError:
        """Return `error`, whose rows count within group `i` unless its source is known, with its place in the table.

        Blocks are those of the table that was given, not of the runs of rows that a group is put together from.
        """
        X, part = self.given.X, self.given.part(error.part)
        out = error.located(names=X.names)
        if X.lengths is None:
            if out.source is None and out.rows is not None:
                # Where the block begins is not known, and rows count over the whole.
                out.message, out.rows = f"{out.message} (row {out.rows[0]} of the block)", None
            return out.located(source=part.name, block=self.groups[i][0])
        if out.source is None and out.rows is not None:
            row = self._row_of(i, out.rows[0])
            out.rows = (row, row + 1)
        if out.rows is None:
            return out.located(source=part.name)
        row = out.rows[0]
        out.source = out.source or part.name_at(row)
        out.block = bisect_right(X.starts(), row) - 1
        return out

    def _row_of(self, i: int, row: int) -> int:
        """Return the row of the whole table that lies at `row` of group `i`."""
        X = self.table.X
        group = self.groups[i]
        assert X.lengths is not None
        ends = list(accumulate(X.lengths[k] for k in group))
        k = bisect_right(ends, row)
        before = ends[k - 1] if k else 0
        return X.starts()[group[k]] + row - before


def read_ahead() -> int:
    """Return how many blocks of a feed may exist before the one that is being fed."""
    return n_workers() + 2


def blocks_at_a_time(prepared: int = 1, /) -> int:
    """Return how many blocks of a feed may lie in memory: those ahead and the one being fed, as read and as prepared.

    They are as often prepared as feeds are given different rows.
    """
    return (1 + prepared) * (read_ahead() + 1)


def rows_that_fit(row_bytes: int, prepared: int = 1, /) -> int:
    """Return how many rows a block has that nobody has asked for: of ``block_bytes``, or less under a memory limit."""
    settings = get_config()
    size: int = settings["block_bytes"]
    limit: int | None = settings["memory_limit"]
    if limit is not None:
        size = min(size, limit // blocks_at_a_time(prepared))
    return max(1, size // max(1, row_bytes))


def _cut_every(n: int, rows: int) -> tuple[int, ...]:
    lengths = [rows] * (n // rows)
    if n % rows or not lengths:
        lengths.append(n % rows)
    return tuple(lengths)


def _strips(n: int, count: int) -> tuple[int, ...]:
    """Return the lengths of so many strips of `n` rows, as even as they can be."""
    # Multiples of 64 rows are open to the wide view of narrow rows; the last strip takes what is left of one.
    unit = 64 if n >= 512 * count else 1
    ends = np.minimum(n, unit * (-(-n // unit) * np.arange(count + 1) // count))
    return tuple(np.diff(ends).tolist())


def _joined(order: Iterable[int], lengths: Sequence[int] | None, block_rows: int) -> list[tuple[int, ...]]:
    """Return blocks in groups of at most `block_rows` rows; one that is longer stands alone, empty ones are left out."""
    if lengths is None:
        return [(i,) for i in order]
    groups: list[tuple[int, ...]] = []
    group: list[int] = []
    rows = 0
    for i in order:
        if group and rows + lengths[i] > block_rows:
            groups.append(tuple(group))
            group, rows = [], 0
        if lengths[i]:
            group.append(i)
            rows += lengths[i]
    return [*groups, tuple(group)] if group else groups
