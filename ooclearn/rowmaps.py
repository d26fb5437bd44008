"""Row maps: what ``transform`` and ``predict`` do to rows, as data.

A row map is called with one block of any array library and returns one block of the same library, on the same
device, of as many rows. It states how many columns and which dtype will come out without being run, so that
results can be lazy, and it is a frozen dataclass of host arrays, so that it can be pickled, sent to a worker or
looked into: two affine maps in a row are one affine map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from ooclearn._namespace import float_dtype, int_dtype, like, namespace, unwiden, widen
from ooclearn.backend import backend_of
from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.types import Array

__all__ = ["Affine", "Chain", "Columns", "Kind", "RowMap", "Rowwise", "compose", "kind_of", "map_into", "on_host"]

# What is known of a map before it is fitted, as far as statistics can be seen through it.
# "mixed" is affine, but not as a whole: some columns come out of a matrix, others of themselves alone.
Kind = Literal["same", "diagonal", "affine", "columns", "mixed"]

# Up to this ratio of a centre to the scale of its column, the centre can be moved into the constant term of
# a linear map at a cost of at most 1e3 roundings (2e-13 of a standard deviation); beyond, it is subtracted first.
_SAFE_OFFSET = 1e3


@runtime_checkable
class RowMap(Protocol):
    """What every row map can do."""

    def __call__(self, block: Array, /) -> Array:
        """Return the mapped rows of one block."""

    def columns(self, n_columns: int | None, /) -> int | None:
        """Return the number of columns that come out; None for a one-dimensional result."""

    def dtype(self, dtype: np.dtype[Any], /) -> np.dtype[Any]:
        """Return the dtype that comes out for one that goes in."""


def _floating(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.kind == "f" else np.dtype(np.float64)


@dataclass(frozen=True, eq=False)
class Affine:
    """``(x - center) * scale + offset`` by column, or ``(x - center) @ scale + offset``.

    Parameters
    ----------
    scale : ndarray of shape (d,), (d, k) or None
        A factor for each column, or a matrix. ``None`` is a factor of 1.
    center, offset : ndarray or None
        What is subtracted before and added after. ``None`` is 0. Keeping the centre apart from the offset
        keeps the digits of columns that lie far from 0.
    divide : bool
        Divide by `scale`, a factor for each column, rather than multiply: one rounding less.
    squeeze : bool
        Return a one-dimensional block: the one column that comes out.
    out_dtype : dtype, optional
        What comes out; by default the dtype of the block if it is floating, and else float64.
    """

    scale: Array | None = None
    center: Array | None = None
    offset: Array | None = None
    divide: bool = False
    squeeze: bool = False
    out_dtype: np.dtype[Any] | None = None
    _kept: dict[int, list[tuple[Array, Any]]] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": {}}

    @property
    def diagonal(self) -> bool:
        """Whether each column is mapped by itself."""
        return self.scale is None or self.scale.ndim == 1

    def __call__(self, block: Array, /) -> Array:
        """Return the mapped rows of one block."""
        if hasattr(block, "tocsr"):
            return self._sparse(block)
        xp = namespace(block)
        wide = float_dtype(block)
        kept = block.dtype if self.out_dtype is None and xp.isdtype(block.dtype, "real floating") else wide
        if xp is np and self.diagonal and not self.squeeze:
            return self.into(block, np.empty(block.shape, dtype=kept))
        out = self._diagonal(block, wide) if self.diagonal else self._matrix(block, wide)
        if self.squeeze:
            out = out[:, 0]
        return out if out.dtype == kept else xp.astype(out, kept)

    def into(self, block: Array, out: Array, /) -> Array:
        """Map a NumPy block into `out`, which may be the block itself; without temporary arrays."""
        if not self.diagonal or self.squeeze:
            out[...] = self(block)
            return out
        seen, k = widen(block)
        wide = out.reshape(seen.shape) if out.flags.c_contiguous else None
        if wide is None:
            seen, wide, k = block, out, 1
        for row, function in self._wide_steps(k):
            # Computed in float64 whatever goes in and comes out: NumPy casts in small runs that stay in cache.
            function(seen, row, out=wide, casting="same_kind", dtype=np.float64)
            seen = wide
        if seen is not wide:
            wide[...] = seen
        return out

    def _steps(self) -> list[tuple[Array, Any]]:
        steps = [
            (self.center, np.subtract),
            (self.scale, np.divide if self.divide else np.multiply),
            (self.offset, np.add),
        ]
        return [(np.asarray(values, dtype=np.float64), step) for values, step in steps if values is not None]

    def _wide_steps(self, k: int) -> list[tuple[Array, Any]]:
        """Return the steps for `k` rows seen as one; kept, since they are asked for with every tile."""
        if k not in self._kept:
            self._kept[k] = [(np.tile(values, k), function) for values, function in self._steps()]
        return self._kept[k]

    def _diagonal(self, block: Array, wide: Array) -> Array:
        xp = namespace(block)
        n = block.shape[0]
        x, k = widen(block)
        x = xp.astype(x, wide, copy=False)
        steps = self._steps()
        for values, step in steps:
            narrow = step is np.subtract and xp.finfo(wide).bits < 64
            for part in _held(values) if narrow else (values,):
                row = like(np.tile(part, k) if k > 1 else part, block, wide)
                x = getattr(xp, step.__name__)(x, row)
        return unwiden(x if steps else xp.asarray(x, copy=True), n)

    def _matrix(self, block: Array, wide: Array) -> Array:
        xp = namespace(block)
        x = block if self.center is None else Affine(center=self.center)._diagonal(block, wide)
        x = xp.astype(x, wide, copy=False)
        # Infinities make NaN, which whoever asked looks for; NumPy would warn besides, without a place.
        with np.errstate(invalid="ignore"):
            x = x @ like(self.scale, block, wide)
        return x if self.offset is None else x + like(self.offset, block, wide)

    def _sparse(self, block: Array) -> Array:
        """Map sparse rows through a matrix: the result is dense."""
        if self.diagonal or self.center is not None:
            raise DataError("sparse rows cannot be centred or scaled by column here; make them dense, or leave it out")
        out = block @ np.asarray(self.scale, dtype=np.float64)
        out = out if self.offset is None else out + self.offset
        out = out[:, 0] if self.squeeze else out
        return out if self.out_dtype is None else out.astype(self.out_dtype, copy=False)

    def columns(self, n_columns: int | None, /) -> int | None:
        """Return the number of columns that come out; None for a one-dimensional result."""
        if self.squeeze:
            return None
        return n_columns if self.scale is None or self.scale.ndim == 1 else int(self.scale.shape[1])

    def dtype(self, dtype: np.dtype[Any], /) -> np.dtype[Any]:
        """Return the dtype that comes out for one that goes in."""
        return _floating(dtype) if self.out_dtype is None else self.out_dtype

    def factor(self) -> Array | None:
        """Return what columns are multiplied by (None for 1)."""
        if self.scale is None:
            return None
        return 1.0 / self.scale if self.divide else self.scale

    def taken(self, positions: Sequence[int], /) -> Affine:
        """Return what the map of each column by itself does to the columns at these positions."""
        at = np.asarray(positions, dtype=np.int64)

        def of(values: Array | None) -> Array | None:
            return values if values is None or np.size(values) == 1 else np.asarray(values)[at]

        return replace(self, scale=of(self.scale), center=of(self.center), offset=of(self.offset))

    def then(self, after: RowMap, /) -> Affine | None:
        """Return this map followed by `after` as one map, or None where that would lose digits."""
        if not self.diagonal or self.squeeze or not isinstance(after, Affine):
            return None
        d = _as(self.factor(), 1.0)
        shift = _as(self.offset, 0.0) - _as(after.center, 0.0)
        outer = after.factor()
        center = self.center
        if outer is None or outer.ndim == 1:
            scale: Array = d * _as(outer, 1.0)
            offset: Array = shift * _as(outer, 1.0) + _as(after.offset, 0.0)
        else:
            scale = (d[:, None] if np.ndim(d) else d) * outer
            full = np.broadcast_to(shift, (outer.shape[0],))
            offset = full @ outer + _as(after.offset, 0.0)
            if center is not None and np.all(np.abs(center) * np.abs(d) <= _SAFE_OFFSET):
                # One product instead of a subtraction and a product: memory is read once.
                offset = offset - np.asarray(center, dtype=np.float64) @ scale
                center = None
        zero = np.ndim(offset) == 0 and offset == 0.0
        one = np.ndim(scale) == 0 and scale == 1.0
        return Affine(
            None if one else np.atleast_1d(scale),
            center,
            None if zero else np.atleast_1d(offset),
            squeeze=after.squeeze,
            out_dtype=after.out_dtype or self.out_dtype,
        )


def _held(values: Array) -> tuple[Array, ...]:
    """Return `values`, and after them what float32 cannot hold of them."""
    rest = values - values.astype(np.float32)
    return (values, rest) if rest.any() else (values,)


def _as(values: Array | None, neutral: float) -> Array:
    return np.float64(neutral) if values is None else np.asarray(values, dtype=np.float64)


@dataclass(frozen=True)
class Columns:
    """Keep the columns at these positions, in this order."""

    positions: tuple[int, ...]

    def then(self, after: RowMap, /) -> RowMap | None:
        """Return this selection followed by `after` as one map; None if there is none."""
        if isinstance(after, Columns):
            return Columns(tuple(self.positions[at] for at in after.positions))
        behind = getattr(after, "behind", None)
        merged: RowMap | None = None if behind is None else behind(self)
        return merged

    def __call__(self, block: Array, /) -> Array:
        xp = namespace(block)
        where = like(np.asarray(self.positions, dtype=np.int64), block, int_dtype(block))
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
    """

    function: Callable[[Array], Array]
    n_columns: int | str | None = "same"
    out_dtype: Any = "same"
    host: bool = False

    def __call__(self, block: Array, /) -> Array:
        if not self.host:
            return self.function(block)
        backend = backend_of(block)
        return backend.from_host(self.function(backend.to_host(block)), like=block)

    def columns(self, n_columns: int | None, /) -> int | None:
        """Return the number of columns that come out; None for a one-dimensional result."""
        return self.n_columns if self.n_columns is None or isinstance(self.n_columns, int) else n_columns

    def dtype(self, dtype: np.dtype[Any], /) -> np.dtype[Any]:
        """Return the dtype that comes out for one that goes in."""
        if isinstance(self.out_dtype, str) and self.out_dtype in ("same", "float"):
            return dtype if self.out_dtype == "same" else _floating(dtype)
        out: np.dtype[Any] = np.dtype(self.out_dtype)
        return out


@dataclass(frozen=True, eq=False)
class Chain:
    """Several row maps, one after the other; made by :func:`compose`."""

    maps: tuple[RowMap, ...] = field(default=())

    def __call__(self, block: Array, /) -> Array:
        out = block
        try:
            for row_map in self.maps:
                out = row_map(out)
        except NonFiniteError:
            # What was seen in a result began in a cell, which is easier to find.
            from ooclearn.statistics.checks import refuse_nonfinite  # statistics look through row maps, too

            refuse_nonfinite(block)
            raise
        return out

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


def map_into(row_map: RowMap, block: Array, out: Array, /) -> None:
    """Map a NumPy block into `out`."""
    if isinstance(row_map, Affine):
        row_map.into(block, out)
    else:
        out[...] = row_map(block)


def on_host(row_map: RowMap | None, /) -> bool:
    """Say whether a map copies the rows of a device to the host and back."""
    if isinstance(row_map, Chain):
        return any(on_host(one) for one in row_map.maps)
    return row_map is not None and not isinstance(row_map, (Affine, Columns)) and bool(getattr(row_map, "host", True))


def kind_of(row_map: RowMap | None, /) -> Kind | None:
    """Return the kind of a map; None if statistics cannot be seen through it."""
    if row_map is None:
        return "same"
    if isinstance(row_map, Affine) and not row_map.squeeze:
        return "diagonal" if row_map.diagonal else "affine"
    return "columns" if isinstance(row_map, Columns) else None


def compose(*maps: RowMap | None) -> RowMap:
    """Return the maps, applied from left to right, as one; neighbouring affine maps and selections collapse.

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
