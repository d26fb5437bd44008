"""Affine row maps: of each column by itself, or through a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn._namespace import device_of, float_dtype, like, minus, namespace, surely_finite, unwiden, widen
from ooclearn.exceptions import DataError
from ooclearn.products import rows_times
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.rowmaps import RowMap

__all__ = ["Affine", "floating", "refused_by_either", "sent"]

# Up to this ratio of a centre to the scale of its column, the centre can be moved into the constant term of
# a linear map at a cost of at most 1e3 roundings (2e-13 of a standard deviation); beyond, it is subtracted first.
_SAFE_OFFSET = 1e3


def floating(dtype: np.dtype[Any], /) -> np.dtype[Any]:
    """Return a dtype if it is floating, and else float64."""
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
    refuses_infinite : bool or ndarray of bool of shape (d,)
        Raise for infinities in the rows, or in these columns of them; NaN may be there. Only the sum of what comes
        out is looked at, while it is in the processor's cache, and the rows themselves where that is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from ooclearn.rowmaps import Affine
    >>> scaled = Affine(np.array([2.0, 4.0]), center=np.array([1.0, 1.0]), divide=True)
    >>> scaled(np.array([[3.0, 5.0]]))
    array([[1., 1.]])
    """

    scale: Array | None = None
    center: Array | None = None
    offset: Array | None = None
    divide: bool = False
    squeeze: bool = False
    out_dtype: np.dtype[Any] | None = None
    refuses_infinite: bool | Array = False
    # What has been made of the arrays above for a device or for tiles of some length; not part of the map.
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": {}}

    @property
    def diagonal(self) -> bool:
        """Whether each column is mapped by itself."""
        return self.scale is None or self.scale.ndim == 1

    def __call__(self, block: Array, /) -> Array:
        """Return the mapped rows of one block."""
        if hasattr(block, "tocsr"):
            return self._looked_at(block, self._sparse(block))
        xp = namespace(block)
        wide = float_dtype(block)
        kept = block.dtype if self.out_dtype is None and xp.isdtype(block.dtype, "real floating") else wide
        if xp is np and self.diagonal and not self.squeeze:
            return self.into(block, np.empty(block.shape, dtype=kept))
        out = self._diagonal(block, wide, self._steps()) if self.diagonal else self._matrix(block, wide)
        if self.squeeze:
            out = out[:, 0]
        return self._looked_at(block, out if out.dtype == kept else xp.astype(out, kept))

    def _looked_at(self, block: Array, out: Array) -> Array:
        """Return `out`, what has come of `block`; raise for infinities there if this is asked for."""
        if self.refuses_infinite is not False and not surely_finite(out):
            from ooclearn.statistics.checks import refuse_infinite  # statistics look through row maps, too

            # NaN that came in, or values so large that sums of them overflow, are no fault.
            refuse_infinite(block, self.refuses_infinite)
        return out

    def into(self, block: Array, out: Array, /) -> Array:
        """Map a NumPy block into `out`, without temporary arrays where each column is mapped by itself.

        Parameters
        ----------
        block : ndarray of shape (n, d)
            What goes in.
        out : ndarray
            Where the result goes, of its shape and a floating dtype. May be the block itself.

        Returns
        -------
        ndarray
            `out`.
        """
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
        return self._looked_at(block, out)

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
            self._kept[k] = [(_tiled(values, k), function) for values, function in self._steps()]
        steps: list[tuple[Array, Any]] = self._kept[k]
        return steps

    def _diagonal(self, block: Array, wide: Array, steps: list[tuple[Array, Any]]) -> Array:
        xp = namespace(block)
        n = block.shape[0]
        x, k = widen(block)
        x = xp.astype(x, wide, copy=False)
        for values, step in steps:
            narrow = step is np.subtract and xp.finfo(wide).bits < 64
            for j, part in enumerate(_held(values) if narrow else (values,)):
                row = sent(self._kept, (step.__name__, j, k), _tiled(part, k), block, wide)
                x = getattr(xp, step.__name__)(x, row)
        return unwiden(x if steps else xp.asarray(x, copy=True), n)

    def _matrix(self, block: Array, wide: Array) -> Array:
        xp = namespace(block)
        if self.center is None:
            x = block
        elif isinstance(block, np.ndarray):
            x = minus(block, np.broadcast_to(np.asarray(self.center, dtype=np.float64), block.shape[1:]))
        else:
            x = self._diagonal(block, wide, self._steps()[:1])
        x = xp.astype(x, wide, copy=False)
        # Infinities make NaN, which whoever asked looks for; NumPy would warn besides, without a place.
        with np.errstate(invalid="ignore"):
            x = rows_times(x, sent(self._kept, ("matrix",), self.scale, block, wide))
        if self.offset is not None and isinstance(x, np.ndarray):
            return np.add(x, self.offset, out=x)
        return x if self.offset is None else x + sent(self._kept, ("offset",), self.offset, block, wide)

    def launched(self, block: Array, /) -> tuple[Array, Any]:
        """Return the mapped rows and how many cells are refused; see :func:`launched`."""
        if self.refuses_infinite is False:
            return self(block), 0
        columns = None if isinstance(self.refuses_infinite, bool) else self.refuses_infinite
        return self.unlooked()(block), _infinite(block, columns, self._kept)

    def unlooked(self) -> Affine:
        """Return this map for callers that look at the result: infinities that go in come out, as such or as NaN.

        Returns
        -------
        Affine
            The same map, which refuses nothing.
        """
        if self.refuses_infinite is False:
            return self
        if "unlooked" not in self._kept:
            self._kept["unlooked"] = replace(self, refuses_infinite=False)
        unlooked: Affine = self._kept["unlooked"]
        return unlooked

    def _sparse(self, block: Array) -> Array:
        """Map sparse rows: scaled by column they stay sparse, through a matrix the result is dense."""
        if self.center is not None or (self.diagonal and self.offset is not None):
            raise DataError(
                "Cannot center sparse matrices: all the zeros that are not stored would become something else; pass "
                "`with_mean=False` to a StandardScaler, or make the rows dense"
            )
        if self.diagonal and not self.squeeze:
            return self._sparse_by_column(block.tocsr())
        out = block @ np.asarray(self.scale, dtype=np.float64)
        out = out if self.offset is None else out + self.offset
        out = out[:, 0] if self.squeeze else out
        return out if self.out_dtype is None else out.astype(self.out_dtype, copy=False)

    def _sparse_by_column(self, block: Array) -> Array:
        data = block.data.astype(np.float64)
        for values, function in self._steps():
            function(data, values if values.size == 1 else values[block.indices], out=data)
        kept = block.dtype if self.out_dtype is None and block.dtype.kind == "f" else np.float64
        cells = (data.astype(kept, copy=False), block.indices.copy(), block.indptr.copy())
        return type(block)(cells, shape=block.shape)

    def columns(self, n_columns: int | None, /) -> int | None:
        """Return the number of columns that come out; None for a one-dimensional result."""
        if self.squeeze:
            return None
        return n_columns if self.scale is None or self.scale.ndim == 1 else int(self.scale.shape[1])

    def dtype(self, dtype: np.dtype[Any], /) -> np.dtype[Any]:
        """Return the dtype that comes out for one that goes in."""
        return floating(dtype) if self.out_dtype is None else self.out_dtype

    def factor(self) -> Array | None:
        """Return what columns are multiplied by.

        Returns
        -------
        ndarray of shape (d,) or (d, k), or None
            The scale, or one over it if the map divides; None for 1.
        """
        if self.scale is None:
            return None
        return 1.0 / self.scale if self.divide else self.scale

    def taken(self, positions: Sequence[int], /) -> Affine:
        """Return what a diagonal map does to some of its columns.

        Parameters
        ----------
        positions : sequence of int
            Which columns, in the order wanted.

        Returns
        -------
        Affine
            A diagonal map of so many columns.
        """
        at = np.asarray(positions, dtype=np.int64)

        def of(values: Array | None) -> Array | None:
            return values if values is None or np.size(values) == 1 else np.asarray(values)[at]

        refused = self.refuses_infinite
        return replace(
            self,
            scale=of(self.scale),
            center=of(self.center),
            offset=of(self.offset),
            refuses_infinite=refused if isinstance(refused, bool) else np.asarray(refused)[at],
        )

    def then(self, after: RowMap, /) -> Affine | None:
        """Return this map followed by another, as one map.

        Parameters
        ----------
        after : RowMap
            What is done to the rows that come out.

        Returns
        -------
        Affine or None
            None where there is no one map for both, or it would lose digits or take more work than the two.
        """
        if self.squeeze or not isinstance(after, Affine):
            return None
        if not self.diagonal:
            return self._matrix_then(after)
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
                held = np.broadcast_to(np.asarray(center, dtype=np.float64), (scale.shape[0],))
                offset = offset - held @ scale
                center = None
        one = np.ndim(scale) == 0 and scale == 1.0
        return self._joined(after, None if one else np.atleast_1d(scale), center, offset)

    def _matrix_then(self, after: Affine) -> Affine | None:
        """Return a product with a matrix followed by `after` as one, where that takes no more work than the two."""
        assert self.scale is not None
        inner, outer = np.asarray(self.scale, dtype=np.float64), after.factor()
        shift = _as(self.offset, 0.0) - _as(after.center, 0.0)
        if outer is None or outer.ndim == 1:
            scale: Array = inner * _as(outer, 1.0)
            offset: Array = shift * _as(outer, 1.0) + _as(after.offset, 0.0)
        else:
            d, k = inner.shape
            if d * outer.shape[1] > k * (d + outer.shape[1]):
                return None
            scale = inner @ outer
            offset = np.broadcast_to(shift, (k,)) @ outer + _as(after.offset, 0.0)
        return self._joined(after, scale, self.center, offset)

    def _joined(self, after: Affine, scale: Array | None, center: Array | None, offset: Array) -> Affine:
        """Return one map in the place of this and `after`."""
        return Affine(
            scale,
            center,
            np.atleast_1d(offset) if np.any(offset) else None,
            squeeze=after.squeeze,
            out_dtype=after.out_dtype or self.out_dtype,
            # An infinity that `after` would meet is one of the rows that come in here, which are looked at at the end.
            refuses_infinite=refused_by_either(self.refuses_infinite, after.refuses_infinite),
        )


def _tiled(values: Array, k: int) -> Array:
    """Return the numbers of columns for `k` rows seen as one; one number for all columns stays one."""
    return np.tile(values, k) if k > 1 and values.size > 1 else values


def sent(kept: dict[Any, Any], what: tuple[Any, ...], values: Array | None, block: Array, dtype: Array) -> Array:
    """Return host `values` where a block is. On a device they are kept, so that they go there once and not a block."""
    if isinstance(block, np.ndarray):
        return like(values, block, dtype)
    key = (*what, namespace(block).__name__, str(device_of(block)), str(dtype))
    if key not in kept:
        kept[key] = like(values, block, dtype)
    return kept[key]


def _infinite(block: Array, columns: Array | None, kept: dict[Any, Any]) -> Any:
    """Return how many cells are infinite, in the columns that a mask says; as an array, without looking at it."""
    xp = namespace(block)
    if not xp.isdtype(block.dtype, "real floating"):
        return 0
    found = xp.isinf(block)
    if columns is not None:
        found = found & sent(kept, ("refused",), columns, block, xp.bool)
    return xp.sum(xp.astype(found, float_dtype(block)))


def refused_by_either(a: bool | Array, b: bool | Array, /) -> bool | Array:
    """Return the columns in which one of two maps refuses infinities.

    Parameters
    ----------
    a, b : bool or ndarray of bool of shape (d,)
        Where each refuses them: everywhere, nowhere, or in some columns.

    Returns
    -------
    bool or ndarray of bool of shape (d,)
        Where one does.
    """
    either = np.logical_or(a, b)
    return bool(either) if either.ndim == 0 else either


def _held(values: Array) -> tuple[Array, ...]:
    """Return `values`, and after them what float32 cannot hold of them."""
    rest = values - values.astype(np.float32)
    return (values, rest) if rest.any() else (values,)


def _as(values: Array | None, neutral: float) -> Array:
    return np.float64(neutral) if values is None else np.asarray(values, dtype=np.float64)
