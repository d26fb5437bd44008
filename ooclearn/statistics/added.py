"""What statistics that are added up on a device share; nothing here looks at a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ooclearn._namespace import float_dtype, namespace, ones, run_of
from ooclearn.statistics.protocol import Sums
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["added", "first_mean", "weight_sums", "widened"]

# Rows whose mean all blocks of a pass are centred by. Digits are lost where the mean of all rows lies many deviations
# from it; since the first rows are of the table, by no more than about the number of blocks.
_FIRST_ROWS = 1024


def widened(x: Array, /) -> Array:
    """Return numbers in the widest float of their device."""
    return namespace(x).astype(x, float_dtype(x), copy=False)


def added(a: Sums, b: Sums, /) -> Sums:
    """Return the sums of two runs of blocks; what is None stays so."""
    return {name: None if value is None else value + b[name] for name, value in a.items()}


def weight_sums(w: Array | None, x: Array, /) -> tuple[Array | None, Any]:
    """Return weights in the dtype of `x`, and how many of them are none: below 0, or not finite."""
    if w is None:
        return None, 0
    xp = namespace(x)
    weight = xp.astype(w, x.dtype, copy=False)
    bad = xp.logical_not(xp.isfinite(weight)) | (weight < 0)
    return weight, xp.sum(xp.astype(bad, x.dtype))


def first_mean(rows: Rows, /) -> Array:
    """Return the weighted mean of the first rows, by column; of cells that are numbers, 0 where there are none."""
    n = min(_FIRST_ROWS, rows.n)
    x = widened(run_of(rows.X, 0, n))
    xp = namespace(x)
    there = xp.isfinite(x)
    shares = xp.astype(there, x.dtype)
    if rows.w is not None:
        weight, _ = weight_sums(run_of(rows.w, 0, n), x)
        assert weight is not None
        # Where all weights are 0, or one of them is none, any row will do.
        usable = xp.isfinite(weight) & (weight > 0)
        shares = shares * xp.reshape(xp.where(usable, weight, xp.zeros_like(weight)), (-1, 1))
    values = xp.where(there, x, xp.zeros_like(x))
    one = ones(n, x)
    total = one @ shares
    safe = xp.where(total > 0, total, xp.ones_like(total))
    return (one @ (values * shares)) / safe
