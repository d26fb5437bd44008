"""Means as two numbers a column: near ones, which tiles are centred by, merged ones, and mapped ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from ooclearn._namespace import matmul, namespace, ones, run_of
from ooclearn.rowmaps import Affine, RowMap
from ooclearn.types import Array

__all__ = ["affine_mean", "merged_mean", "near_mean", "projected_mean", "representable", "shift_near", "sum_and_rest"]

# Rows whose mean a tile is centred by. Any shift within some deviations of the mean keeps the digits, and the mean
# of so many rows of the tile itself is: at the very worst (one far row among the others) a factor of the tile's rows
# over this number is lost, 5 bits. Looking at all rows first would cost another reading of the tile.
_SHIFT_ROWS = 1024

# Rows that show whether there is anything to centre: from all over the tile, since the first may differ from the others.
_LOOK_ROWS = 256


def sum_and_rest(a: Array, b: Array) -> tuple[Array, Array]:
    """Return ``a + b`` rounded, and exactly what rounding has left out (Knuth's two-sum)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def near_mean(x: Array, w: Array | None, total: float) -> Array:
    """Return a row near the mean of `x`, which lies where `x` does; of no weight at all, the first row.

    Rows of no weight may lie far from the others, so for weighted rows it is their weighted mean.

    Parameters
    ----------
    x : array of shape (rows, columns)
        One row at least, in the widest float of its device.
    w : array of shape (rows,) or None
        Their weights.
    total : float
        The sum of these.
    """
    if w is not None:
        return matmul(w, x) / total if total else run_of(x, 0, 1)[0, ...]
    first = run_of(x, 0, min(_SHIFT_ROWS, x.shape[0]))
    return matmul(ones(first.shape[0], x), first) / first.shape[0]


def shift_near(x: Array, w: Array | None, total: float, like: Array) -> Array | None:
    """Return the row that `x` is best centred by, one that cells of `like` can have; None for rows that lie about 0.

    About 0 is where the mean of no column is more than two of its deviations away: sums of squares about 0 are then
    five times those about the mean at most, and lose two bits, fewer than a mean of some rows of the tile may. To
    subtract would be a third of all the work.
    """
    # On a device, nothing is looked at before the end. Rows that lie otherwise in memory are best copied by centring.
    if w is None and isinstance(x, np.ndarray) and x.flags.c_contiguous and _lies_about_0(x):
        return None
    return representable(near_mean(x, w, total), like)


def _lies_about_0(x: Array) -> bool:
    some = x[:: -(-len(x) // _LOOK_ROWS)]
    mean = matmul(ones(len(some), some), some) / len(some)
    squares = np.einsum("ij,ij->j", some, some) / len(some)
    # NaN compares as False: the sums about a shift will show it. So do squares that are too small for float64.
    return bool(((mean == 0) | (mean * mean < 0.8 * squares)).all())


def representable(shift: Array, like: Array) -> Array:
    """Return `shift` rounded to a value that cells of `like` can have.

    Differences from it are then exact, and so have no bias whose squares would add up.
    """
    xp = namespace(like)
    if not xp.isdtype(like.dtype, "real floating"):
        return xp.round(shift)
    return shift if like.dtype == shift.dtype else xp.astype(xp.astype(shift, like.dtype), shift.dtype)


def merged_mean(a: Any, b: Any) -> tuple[Array, Array, Array, float]:
    """Return the mean of all rows of two states, as two numbers, and what the products about it have more.

    That is the difference of the two means, and the weight with which its products count.

    Parameters
    ----------
    a, b : state
        With `weight`, above 0, `mean` and `rest`.
    """
    share = b.weight / (a.weight + b.weight)
    delta = (b.mean - a.mean) + (b.rest - a.rest)
    mean, rest = sum_and_rest(a.mean, a.rest + delta * share)
    return mean, rest, delta, a.weight * share


def affine_mean(mean: Array, rest: Array, row_map: RowMap) -> tuple[Array, Array, Array]:
    """Return the mean behind a diagonal map, as two numbers a column, and the factors of the columns.

    The centre is subtracted before anything else, so that a mean that it takes away leaves no rounding behind.
    """
    assert isinstance(row_map, Affine)
    assert row_map.diagonal
    center = 0.0 if row_map.center is None else np.asarray(row_map.center, dtype=np.float64)
    scale = 1.0 if row_map.scale is None else np.asarray(row_map.scale, dtype=np.float64)
    offset = 0.0 if row_map.offset is None else np.asarray(row_map.offset, dtype=np.float64)
    factor = 1.0 / scale if row_map.divide else scale
    shifted, left = sum_and_rest(mean - center, rest)
    if row_map.divide:
        shifted, left = shifted / scale, left / scale
    else:
        shifted, left = shifted * scale, left * scale
    total, rounding = sum_and_rest(shifted, offset + np.zeros_like(shifted))
    return total, rounding + left, np.broadcast_to(factor, mean.shape)


def projected_mean(mean: Array, rest: Array, row_map: RowMap) -> tuple[Array, Array, Array]:
    """Return the same behind a map by a matrix, and the matrix."""
    assert isinstance(row_map, Affine)
    assert row_map.scale is not None
    matrix = np.asarray(row_map.scale, dtype=np.float64)
    center = 0.0 if row_map.center is None else row_map.center
    shifted, left = sum_and_rest(mean - center, rest)
    mean, rest = sum_and_rest(shifted @ matrix, left @ matrix)
    if row_map.offset is not None:
        mean, more = sum_and_rest(mean, row_map.offset + np.zeros_like(mean))
        rest = rest + more
    return mean, rest, matrix
