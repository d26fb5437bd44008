"""Tables: X, y and sample weights as Blocks cut at the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import array_api_compat
import numpy as np

from ooclearn._namespace import device_of, holds, int_dtype, like, namespace
from ooclearn.backend import Backend, backend_of
from ooclearn.blocks import Blocks, Buffered
from ooclearn.exceptions import DataError
from ooclearn.rowmaps import RowMap
from ooclearn.types import Array

__all__ = ["Rows", "Schema", "Table"]


@dataclass(frozen=True, slots=True)
class Rows:
    """X, y and w of the same consecutive rows: one block, or a tile of it.

    Attributes
    ----------
    X : array of shape (n, columns) or None
        The rows; None where only targets are read.
    y : array of shape (n,) or (n, targets), or None
        The targets.
    w : array of shape (n,) or None
        The sample weights.
    start : int or None
        The number of the first row in the table, where a statistic has asked for it and it is known without reading.
    labels : ndarray or None
        y where it was read, if that is the host and X lies on a device.
    """

    X: Array
    y: Array | None = None
    w: Array | None = None
    start: int | None = None  # the number of the first row in the table, where a statistic has asked for it
    labels: Array | None = None  # y where it was read, if that is the host and X lies on a device

    @property
    def n(self) -> int:
        """How many rows there are."""
        return int((self.X if self.X is not None else self.y).shape[0])  # type: ignore[union-attr]  # one is there


@dataclass(frozen=True, slots=True)
class Schema:
    """What is known of a table before it is read.

    Attributes
    ----------
    n_rows : int or None
        Rows; None where only reading tells.
    n_columns : int or None
        Columns of X; None where a map above is not fitted yet, or X is one-dimensional.
    dtype : dtype
        Of X.
    names : ndarray of str or None
        Names of the columns of X.
    target : dtype or None
        Of y.
    n_targets : int or None
        Columns of y; None for a one-dimensional y or none.
    weighted : bool
        Whether there are sample weights.
    """

    n_rows: int | None
    n_columns: int | None
    dtype: np.dtype[Any]
    names: Array | None = None
    target: np.dtype[Any] | None = None
    n_targets: int | None = None
    weighted: bool = False

    def mapped(self, row_map: RowMap) -> Schema:
        """Return the schema of the rows that come out of a map.

        Parameters
        ----------
        row_map : RowMap
            A fitted map of X.

        Returns
        -------
        Schema
            With the columns and the dtype that come out; their names are not known.
        """
        return replace(self, n_columns=row_map.columns(self.n_columns), dtype=row_map.dtype(self.dtype), names=None)


class Table:
    """X, y and w as Blocks cut at the same rows.

    Parameters
    ----------
    X : Blocks
        The rows; its cuts rule.
    y, w : Blocks or None
        Targets and sample weights; cut again where X is cut.

    Attributes
    ----------
    X : Blocks
        The rows.
    y, w : Blocks or None
        Targets and sample weights, cut at the rows of X.

    Raises
    ------
    DataError
        `y` or `w` is of another length than `X`.

    Examples
    --------
    >>> import numpy as np
    >>> import ooclearn
    >>> from ooclearn.table import Table
    >>> X, y = ooclearn.scan(np.ones((6, 2)), block_rows=4), ooclearn.scan(np.arange(6.0), block_rows=3)
    >>> table = Table(X, y)
    >>> table.y.lengths
    (4, 2)
    """

    def __init__(self, X: Blocks, y: Blocks | None = None, w: Blocks | None = None) -> None:
        self.X = X
        self.y = None if y is None else X.align("y", y)
        self.w = None if w is None else X.align("sample_weight", w)

    @property
    def backend(self) -> Backend:
        """The backend of X, which reads the table."""
        return self.X.backend

    @property
    def parts(self) -> tuple[Blocks, ...]:
        """X, y and w, those that are there."""
        return tuple(part for part in (self.X, self.y, self.w) if part is not None)

    def part(self, role: str) -> Blocks:
        """Return the part of a name.

        Parameters
        ----------
        role : {"X", "y", "sample_weight"}
            Its name.

        Returns
        -------
        Blocks
            The first part there is, where there is none of this name.
        """
        found = {"X": self.X, "y": self.y, "sample_weight": self.w}.get(role)
        return found if found is not None else self.parts[0]

    def release(self) -> None:
        """Let go of what a pass over the parts has opened or kept."""
        for part in self.parts:
            part.release()

    @property
    def n_blocks(self) -> int:
        """How many blocks each part is cut into."""
        return self.X.n_blocks

    @property
    def n_rows(self) -> int | None:
        """How many rows there are; None where only reading tells."""
        return self.X.n_rows

    @property
    def nbytes(self) -> int | None:
        """Bytes of all parts; None where only reading tells."""
        sizes = [part.nbytes for part in self.parts]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def schema(self) -> Schema:
        """What is known before reading."""
        y = self.y
        return Schema(
            self.X.n_rows,
            self.X.n_columns,
            self.X.dtype,
            self.X.names,
            None if y is None else y.dtype,
            None if y is None else y.n_columns,
            self.w is not None,
        )

    def only(self, parts: frozenset[str]) -> Table:
        """Return the table with some of its parts.

        Parameters
        ----------
        parts : frozenset of str
            What is kept, of ``"X"``, ``"y"`` and ``"w"``.

        Returns
        -------
        Table
            Without X, one whose y is read in its place.
        """
        y = self.y if "y" in parts else None
        w = self.w if "w" in parts else None
        if "X" in parts or y is None:
            return self if y is self.y and w is self.w else _made(self.X, y, w)
        return TargetTable(y, w)

    def on_host(self) -> Table:
        """Return the table without copies to a device, where its rows are read on the host.

        Returns
        -------
        Table
            This one, where nothing is copied to a device.
        """
        parts = [None if part is None else part.on_host() for part in (self.X, self.y, self.w)]
        X, y, w = parts
        assert X is not None
        return self if X is self.X else _made(X, y, w)

    def recut(self, lengths: Sequence[int]) -> Table:
        """Return the same rows cut into other blocks; nothing is read, if the number of rows is known.

        Parameters
        ----------
        lengths : sequence of int
            Rows of each new block; together all rows.

        Returns
        -------
        Table
            All parts, cut anew.
        """
        parts = [None if part is None else part.recut(lengths) for part in (self.X, self.y, self.w)]
        X, y, w = parts
        assert X is not None
        return _made(X, y, w)

    def tiles(self, i: int, rows: int) -> Iterator[Rows]:
        """Yield one block in runs of a few rows.

        Parameters
        ----------
        i : int
            Number of the block.
        rows : int
            Rows of a run, at most.

        Yields
        ------
        Rows
            Each is lent until the next is asked for.
        """
        X = self.X.tiles(i, rows)
        y = self.y.tiles(i, rows) if self.y is not None else None
        w = self.w.tiles(i, rows) if self.w is not None else None
        for tile in X:
            yield _beside(tile, next(y) if y is not None else None, next(w) if w is not None else None)

    def expect(self, group: Sequence[int]) -> None:
        """Announce that some blocks are read soon, so that what is slow to come can be sent for.

        Parameters
        ----------
        group : sequence of int
            Numbers of the blocks.
        """
        for part in self.parts:
            part.expect(group)

    def gather(self, group: Sequence[int], buffered: Buffered | None = None) -> Rows:
        """Return the rows of several blocks, one block after the other.

        Parameters
        ----------
        group : sequence of int
            Numbers of the blocks, in the order wanted.
        buffered : callable, optional
            Takes a shape and a dtype, returns an array to fill with the rows of X; without it a new array is made.

        Returns
        -------
        Rows
            Those of all blocks.
        """
        return _beside(
            self.X.gather(group, buffered),
            None if self.y is None else self.y.gather(group),
            None if self.w is None else self.w.gather(group),
        )


class TargetTable(Table):
    """A table of which only the targets are read: `y` stands in the place of X, and is passed on as y."""

    def __init__(self, y: Blocks, w: Blocks | None = None) -> None:
        super().__init__(y, None, w)
        self.y = y

    @property
    def parts(self) -> tuple[Blocks, ...]:
        """y and w, those that are there."""
        return tuple(part for part in (self.y, self.w) if part is not None)

    def tiles(self, i: int, rows: int) -> Iterator[Rows]:
        """Yield block `i` in runs of at most `rows` rows."""
        assert self.y is not None
        w = self.w.tiles(i, rows) if self.w is not None else None
        for tile in self.y.tiles(i, rows):
            yield Rows(None, tile, next(w) if w is not None else None)

    def gather(self, group: Sequence[int], buffered: Buffered | None = None) -> Rows:  # noqa: ARG002  (y is small)
        """Return the rows of the blocks `group`, one block after the other."""
        assert self.y is not None
        return Rows(None, self.y.gather(group), None if self.w is None else self.w.gather(group))


def _made(X: Blocks, y: Blocks | None, w: Blocks | None) -> Table:
    table = object.__new__(Table)
    table.X, table.y, table.w = X, y, w
    return table


def _beside(X: Array, y: Array | None, w: Array | None) -> Rows:
    """Put rows together; numbers follow X to its library and device, labels stay on the host."""
    n = X.shape[0]
    for role, part in (("y", y), ("sample_weight", w)):
        if part is not None and part.shape[0] != n:
            raise DataError(f"X has {n} rows and {role} has {part.shape[0]} in the same block")
    if isinstance(X, np.ndarray):
        return Rows(X, _on_host(y), _on_host(w))
    if not array_api_compat.is_array_api_obj(X):
        return Rows(X, y, w)

    def follow(part: Array | None) -> Array | None:
        if part is None or not array_api_compat.is_array_api_obj(part):
            return part
        if not isinstance(part, np.ndarray):
            part = _beside_on_device(part, X)
        if not isinstance(part, np.ndarray) or part.dtype.kind not in "fiub":
            return part
        if part.dtype.kind == "f" or not holds(part, X):
            return like(part, X)
        return like(part, X, namespace(X).bool if part.dtype.kind == "b" else int_dtype(X))

    return Rows(X, follow(y), follow(w), labels=y if isinstance(y, np.ndarray) else None)


def _beside_on_device(part: Array, X: Array) -> Array:
    """Return an array on the device of `X`; a host array of one of another library."""
    device = device_of(X)
    same = namespace(part) is namespace(X)
    if same and device_of(part) == device:
        return part
    return array_api_compat.to_device(part, device) if same else _on_host(part)


def _on_host(part: Array | None) -> Array | None:
    """Return numbers of another library as a host array; what else there is, as it is."""
    if part is None or isinstance(part, np.ndarray) or not array_api_compat.is_array_api_obj(part):
        return part
    return backend_of(part).to_host(part)
