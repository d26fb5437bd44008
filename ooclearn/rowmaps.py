"""Row maps: what ``transform`` and ``predict`` do to rows, as data.

A row map is called with one block of any array library and returns one block of the same library, on the same
device, of as many rows. It states how many columns and which dtype will come out without being run, so that
results can be lazy, and it is a frozen dataclass of host arrays, so that it can be pickled, sent to a worker or
looked into: two affine maps in a row are one affine map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from ooclearn._namespace import int_dtype, namespace
from ooclearn.affine import Affine, floating, refused_by_either, sent
from ooclearn.backend import backend_of
from ooclearn.exceptions import NonFiniteError
from ooclearn.types import Array
from ooclearn.unlooked import counting

__all__ = [
    "Affine",
    "Chain",
    "Columns",
    "Kind",
    "RowMap",
    "Rowwise",
    "compose",
    "kind_of",
    "launched",
    "map_into",
    "on_host",
    "refused_by_either",
    "refusing_infinite",
]

# What is known of a map before it is fitted, as far as statistics can be seen through it.
# "mixed" is affine, but not as a whole: some columns come out of a matrix, others of themselves alone.
Kind = Literal["same", "diagonal", "affine", "columns", "mixed"]


@runtime_checkable
class RowMap(Protocol):
    """What ``transform`` or ``predict`` does to rows, as data that can be pickled and sent to a worker.

    Called with one block of any array library, it returns one block of the same library, on the same device, of as many
    rows; each row comes from its own row alone.

    Methods
    -------
    launched(block)
        Optional, for maps that refuse cells: return the mapped rows and how many cells are refused, as an array,
        without looking at a value; see :func:`launched`.
    """

    def __call__(self, block: Array, /) -> Array:
        """Return the mapped rows of one block."""

    def columns(self, n_columns: int | None, /) -> int | None:
        """Return the number of columns that come out, without running the map.

        Parameters
        ----------
        n_columns : int or None
            How many go in; None where that is not known yet.

        Returns
        -------
        int or None
            None for a one-dimensional result, or where it follows from an unknown `n_columns`.
        """

    def dtype(self, dtype: np.dtype[Any], /) -> np.dtype[Any]:
        """Return the dtype that comes out, without running the map.

        Parameters
        ----------
        dtype : dtype
            What goes in.

        Returns
        -------
        dtype
            What comes out.
        """


@dataclass(frozen=True)
class Columns:
    """Keep some columns, in a given order.

    Parameters
    ----------
    positions : tuple of int
        Which columns, counted from 0.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.rowmaps import Columns
    >>> Columns((2, 0))(np.array([[1.0, 2.0, 3.0]]))
    array([[3., 1.]])
    """

    positions: tuple[int, ...]
    # The positions on devices.
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": {}}

    def then(self, after: RowMap, /) -> RowMap | None:
        """Return this selection followed by another map, as one map.

        Parameters
        ----------
        after : RowMap
            What is done to the columns that are kept.

        Returns
        -------
        RowMap or None
            None if there is no one map for both.
        """
        if isinstance(after, Columns):
            return Columns(tuple(self.positions[at] for at in after.positions))
        behind = getattr(after, "behind", None)
        merged: RowMap | None = None if behind is None else behind(self)
        return merged

    def __call__(self, block: Array, /) -> Array:
        xp = namespace(block)
        where = sent(self._kept, (), np.asarray(self.positions, dtype=np.int64), block, int_dtype(block))
        return xp.take(block, where, axis=1)

    def columns(self, n_columns: int | None, /) -> int | None:  # noqa: ARG002  (the protocol's signature)
        """Return the number of columns that come out."""
        return len(self.positions)

    def dtype(self, dtype: np.dtype[Any], /) -> np.dtype[Any]:
        """Return the dtype that comes out for one that goes in."""
        return dtype


@dataclass(frozen=True, eq=False)
class Rowwise:
    """A function applied to the rows of a block, each row by itself.

    Parameters
    ----------
    function : callable
        Takes one block, returns one of as many rows. Picklable, so no lambda.
    n_columns : int, None or "same"
        Columns that come out; None for a one-dimensional result.
    out_dtype : dtype, "same" or "float"
        The dtype that comes out: a fixed one, the same, or the same if it is floating and else float64.
    host : bool
        The function takes and returns host NumPy arrays only: blocks are copied there and its result is
        copied back to where the block was.
    unlooked : callable, optional
        For a function that refuses cells: the same without looking at a value. Takes one block, returns what comes out
        and how many cells are refused, as an array.
        Without it, what the function's checks count is taken (:mod:`ooclearn.unlooked`).

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.rowmaps import Rowwise
    >>> Rowwise(np.square, out_dtype="float")(np.array([[3.0, 5.0]]))
    array([[ 9., 25.]])
    """

    function: Callable[[Array], Array]
    n_columns: int | str | None = "same"
    out_dtype: Any = "same"
    host: bool = False
    unlooked: Callable[[Array], tuple[Array, Any]] | None = None

    def __call__(self, block: Array, /) -> Array:
        if not self.host:
            return self.function(block)
        backend = backend_of(block)
        out = self.function(backend.to_host(block))
        # Sparse rows are SciPy's, and stay on the host.
        return out if hasattr(out, "tocsr") else backend.from_host(out, like=block)

    def launched(self, block: Array, /) -> tuple[Array, Any]:
        """Return the mapped rows and how many cells are refused; see :func:`launched`."""
        if self.unlooked is not None:
            return self.unlooked(block)
        with counting() as refused:
            return self(block), refused()

    def columns(self, n_columns: int | None, /) -> int | None:
        """Return the number of columns that come out; None for a one-dimensional result."""
        return self.n_columns if self.n_columns is None or isinstance(self.n_columns, int) else n_columns

    def dtype(self, dtype: np.dtype[Any], /) -> np.dtype[Any]:
        """Return the dtype that comes out for one that goes in."""
        if isinstance(self.out_dtype, str) and self.out_dtype in ("same", "float"):
            return dtype if self.out_dtype == "same" else floating(dtype)
        out: np.dtype[Any] = np.dtype(self.out_dtype)
        return out


@dataclass(frozen=True, eq=False)
class Chain:
    """Several row maps, one after the other; made by :func:`compose`.

    Parameters
    ----------
    maps : tuple of RowMap
        From first to last.
    """

    maps: tuple[RowMap, ...] = field(default=())

    def __call__(self, block: Array, /) -> Array:
        out = block
        try:
            for row_map in self.maps:
                out = row_map(out)
        except NonFiniteError as error:
            # What was seen in a result began in a cell, which is easier to find.
            from ooclearn.statistics.checks import refuse_infinite, refuse_nonfinite  # they look through row maps, too

            if error.missing_allowed:
                refuse_infinite(block, self._refused(block))
            else:
                refuse_nonfinite(block)
            raise
        return out

    def launched(self, block: Array, /) -> tuple[Array, Any]:
        """Return the mapped rows and how many cells are refused; see :func:`launched`."""
        refused: Any = 0
        for row_map in self.maps:
            block, more = launched(row_map, block)
            refused = refused + more
        return block, refused

    def _refused(self, block: Array) -> bool | Array:
        """Return the columns of a block in which infinities are refused, where the maps begin with a selection."""
        first, second = (*self.maps, None, None)[:2]
        if not isinstance(first, Columns) or not isinstance(second, Affine):
            return True
        columns = np.zeros(block.shape[1], dtype=bool)
        positions = np.asarray(first.positions)
        columns[positions[np.broadcast_to(second.refuses_infinite, positions.shape)]] = True
        return columns

    def columns(self, n_columns: int | None, /) -> int | None:
        """Return the number of columns that come out; None for a one-dimensional result."""
        for row_map in self.maps:
            n_columns = row_map.columns(n_columns)
        return n_columns

    def dtype(self, dtype: np.dtype[Any], /) -> np.dtype[Any]:
        """Return the dtype that comes out for one that goes in."""
        for row_map in self.maps:
            dtype = row_map.dtype(dtype)
        return dtype


def refusing_infinite(row_map: RowMap | None, /) -> RowMap | None:
    """Return a map that begins with an affine one, and refuses infinities in the rows that it gets.

    Parameters
    ----------
    row_map : RowMap or None
        A map.

    Returns
    -------
    RowMap or None
        The map as it is, if it does not begin with an affine one.
    """
    if isinstance(row_map, Chain):
        first = refusing_infinite(row_map.maps[0])
        assert first is not None
        return Chain((first, *row_map.maps[1:]))
    return replace(row_map, refuses_infinite=True) if isinstance(row_map, Affine) else row_map


def map_into(row_map: RowMap, block: Array, out: Array, /) -> None:
    """Map a NumPy block into an array that is there.

    Parameters
    ----------
    row_map : RowMap
        The map.
    block : ndarray
        What goes in.
    out : ndarray
        Where the result goes, of its shape and dtype. May be `block`, if the map is affine.
    """
    if isinstance(row_map, Affine):
        row_map.into(block, out)
    else:
        out[...] = row_map(block)


def launched(row_map: RowMap | None, block: Array, /) -> tuple[Array, Any]:
    """Apply a map to a block of a device by giving work to it alone; no value is looked at.

    Parameters
    ----------
    row_map : RowMap or None
        The map; None does nothing.
    block : array
        What goes in, on the device.

    Returns
    -------
    out : array
        What comes out; of no use where cells are refused.
    refused : array or int
        How many cells the map would have raised for; 0 or more.
    """
    if row_map is None:
        return block, 0
    own: Callable[[Array], tuple[Array, Any]] | None = getattr(row_map, "launched", None)
    return (row_map(block), 0) if own is None else own(block)


def on_host(row_map: RowMap | None, /) -> bool:
    """Say whether a map copies the rows of a device to the host and back.

    Parameters
    ----------
    row_map : RowMap or None
        A map; None does nothing.

    Returns
    -------
    bool
        True also for maps that do not say.
    """
    maps = getattr(row_map, "maps", None)  # one after the other, or side by side
    if maps is not None:
        return any(on_host(one) for one in maps)
    return row_map is not None and not isinstance(row_map, (Affine, Columns)) and bool(getattr(row_map, "host", True))


def kind_of(row_map: RowMap | None, /) -> Kind | None:
    """Return the kind of a map, which says what statistics can be seen through it.

    Parameters
    ----------
    row_map : RowMap or None
        A fitted map; None does nothing.

    Returns
    -------
    {"same", "diagonal", "affine", "columns"} or None
        None if statistics cannot be seen through it.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.rowmaps import Affine, kind_of
    >>> kind_of(Affine(np.array([2.0, 4.0]))), kind_of(Affine(np.ones((2, 1))))
    ('diagonal', 'affine')
    """
    if row_map is None:
        return "same"
    if isinstance(row_map, Affine) and not row_map.squeeze:
        return "diagonal" if row_map.diagonal else "affine"
    return "columns" if isinstance(row_map, Columns) else None


def compose(*maps: RowMap | None) -> RowMap:
    """Return several maps as one; neighbouring affine maps and selections collapse.

    Parameters
    ----------
    *maps : RowMap or None
        Applied from left to right; None does nothing.

    Returns
    -------
    RowMap
        One that does what all do, to a few roundings: affine maps in a row are one product.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.rowmaps import Affine, compose
    >>> scaled = Affine(np.array([2.0, 4.0]), center=np.array([1.0, 1.0]), divide=True)
    >>> both = compose(scaled, Affine(np.array([[1.0], [1.0]])))
    >>> type(both).__name__
    'Affine'
    >>> both(np.array([[3.0, 5.0]]))
    array([[2.]])
    """
    flat: list[RowMap] = []
    for row_map in maps:
        if row_map is None:
            continue
        for one in row_map.maps if isinstance(row_map, Chain) else (row_map,):
            _append(flat, one)
    return flat[0] if len(flat) == 1 else Chain(tuple(flat))


def _append(flat: list[RowMap], one: RowMap) -> None:
    """Put a map behind others, as one with the last of them if it can be."""
    last = flat[-1] if flat else None
    if isinstance(one, Columns) and isinstance(last, Affine) and last.diagonal and not last.squeeze:
        # What is not kept need not be mapped.
        flat.pop()
        _append(flat, one)
        _append(flat, last.taken(one.positions))
        return
    merged = last.then(one) if isinstance(last, (Affine, Columns)) else None
    if merged is None:
        flat.append(one)
    else:
        flat[-1] = merged
