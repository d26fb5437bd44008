"""Statistics and functions that tell what a backend does with them.

They stand in a module of their own so that they can be pickled and sent to other processes. The first column
of the rows that they are given is the number of the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np

from ooclearn.backend import backend_of
from ooclearn.exceptions import DataError
from ooclearn.table import Rows
from ooclearn.types import Array

__all__ = ["Beside", "Count", "Odd", "Refusing", "RefusingMap", "Seen", "Timed", "Tree", "reversed_columns"]


def _ids(rows: Rows) -> Array:
    return backend_of(rows.X).to_host(rows.X)[:, 0].astype(int)


@dataclass(frozen=True)
class Seen:
    """The rows in the order in which they were merged: the free monoid, so nothing is hidden by symmetry."""

    parts: frozenset[str] = frozenset("X")

    def of(self, rows: Rows, /) -> tuple[int, ...]:
        return tuple(_ids(rows).tolist())

    def merge(self, a: tuple[int, ...], b: tuple[int, ...], /) -> tuple[int, ...]:
        return a + b


@dataclass(frozen=True)
class Tree:
    """The tree in which blocks were merged, written out."""

    parts: frozenset[str] = frozenset("X")

    def of(self, rows: Rows, /) -> str:
        return ",".join(map(str, _ids(rows)))

    def merge(self, a: str, b: str, /) -> str:
        return f"({a} {b})"


@dataclass(frozen=True)
class Beside:
    """What lies beside each row: its y and its weight."""

    parts: frozenset[str] = frozenset("Xyw")

    def of(self, rows: Rows, /) -> tuple[tuple[float, ...], ...]:
        y, w = (np.asarray(backend_of(part).to_host(part), dtype=float) for part in (rows.y, rows.w))
        return tuple(zip(_ids(rows).tolist(), y.tolist(), w.tolist(), strict=True))

    def merge(self, a: Any, b: Any, /) -> Any:
        return a + b


class Odd(Exception):  # noqa: N818  (it stands for any error of a user's code)
    """An error that nobody expects."""


@dataclass(frozen=True)
class Refusing:
    """Refuses one row: as bad data, or with an error that nobody expects."""

    row: int
    odd: bool = False
    parts: frozenset[str] = frozenset("X")

    def of(self, rows: Rows, /) -> int:
        self.look(rows)
        return rows.n

    def look(self, rows: Rows) -> None:
        at = np.flatnonzero(_ids(rows) == self.row)
        if len(at):
            if self.odd:
                raise Odd("as anybody's code may")
            raise DataError("refused", rows=(int(at[0]), int(at[0]) + 1), column=2)

    def merge(self, a: int, b: int, /) -> int:
        return a + b


@dataclass(frozen=True)
class Count:
    """The number of rows, by the targets alone."""

    parts: frozenset[str] = frozenset("y")

    def of(self, rows: Rows, /) -> int:
        assert rows.X is None, "X is read though only y was asked for"
        return rows.n

    def merge(self, a: int, b: int, /) -> int:
        return a + b


@dataclass(frozen=True)
class Timed:
    """Returns the number of a group, its rows, and when it was worked on, by a clock that processes share."""

    fails: int | None = None

    def __call__(self, i: int, rows: Rows) -> tuple[int, list[int], list[float], float]:
        begun = monotonic()
        if i == self.fails:
            raise Odd("as anybody's code may")
        y = [] if rows.y is None else np.asarray(backend_of(rows.y).to_host(rows.y), dtype=float).tolist()
        return i, _ids(rows).tolist(), y, begun


def reversed_columns(block: Array) -> Array:
    """Return a host block with its columns in reverse."""
    return np.ascontiguousarray(np.asarray(block)[:, ::-1])


@dataclass(frozen=True)
class RefusingMap:
    """A row map that changes nothing and refuses one row."""

    row: int

    def __call__(self, block: Array, /) -> Array:
        Refusing(self.row).look(Rows(block))
        return block

    def columns(self, n_columns: int | None, /) -> int | None:
        return n_columns

    def dtype(self, dtype: np.dtype[Any], /) -> np.dtype[Any]:
        return dtype
