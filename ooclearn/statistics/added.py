"""What statistics that are added up on a device share; nothing here looks at a value before the pass is over."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn._namespace import column_sums, float_dtype, namespace, ones, run_of
from ooclearn.statistics.protocol import Sums
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = [
    "about",
    "added",
    "as_columns",
    "digits_lost",
    "first_mean",
    "offset_of",
    "origins",
    "rounding_of",
    "target_of",
    "weight_sums",
    "widened",
]

# Rows whose mean all blocks of a pass are centred by. Digits are lost where the mean of all rows lies many deviations
# from it; since the first rows are of the table, by no more than about the number of blocks.
_FIRST_ROWS = 1024
# What may be lost of the digits of a sum of squares, as a share of their number: of float64's 16, 6.
_SHARE_LOST = 0.4


def widened(x: Array, /) -> Array:
    """Return numbers in the widest float of their device."""
    return namespace(x).astype(x, float_dtype(x), copy=False)


def target_of(rows: Rows, /) -> Array:
    """Return the targets of some rows, which must be there."""
    if rows.y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    return rows.y


def as_columns(y: Array, /) -> Array:
    """Return targets of some rows in the widest float of their device, one column each."""
    return namespace(y).reshape(widened(y), (y.shape[0], -1))


def rounding_of(x: Array, /) -> float:
    """Return the rounding unit of the widest float of the device of `x`."""
    return float(namespace(x).finfo(float_dtype(x)).eps)


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
    """Return the weighted mean of the first rows, by column; of cells that are numbers, 0 where there are none.

    Where none of these rows has a weight, their plain mean, which is at least of the table.
    """
    n = min(_FIRST_ROWS, rows.n)
    x = widened(run_of(rows.X, 0, n))
    xp = namespace(x)
    there = xp.isfinite(x)
    cells = xp.where(there, x, xp.zeros_like(x))
    one = ones(n, x)
    plain = xp.astype(there, x.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = _mean(one @ cells, one @ plain)
        if rows.w is None:
            return mean
        weight, _ = weight_sums(run_of(rows.w, 0, n), x)
        assert weight is not None
        weight = xp.where(xp.isfinite(weight) & (weight > 0), weight, xp.zeros_like(weight))
        total = weight @ plain
        return xp.where(total > 0, _mean(weight @ cells, total), mean)


def _mean(sums: Array, count: Array) -> Array:
    xp = namespace(sums)
    return sums / xp.where(count > 0, count, xp.ones_like(count))


def origins(rows: Rows, /, *, target: bool) -> Sums:
    """Return the mean of the first rows of X, and of y where that is asked for; they stay on the device."""
    y = first_mean(replace(rows, X=as_columns(target_of(rows)))) if target else None
    return {"x": first_mean(rows), "y": y, "rounding": rounding_of(rows.X)}


def about(rows: Rows, origin: Sums, /) -> tuple[list[Array], Array | None, Sums]:
    """Return X, and y if it is meant, minus their origin; the weights; and the first sums of these."""
    parts = [widened(rows.X) - origin["x"]]
    if origin["y"] is not None:
        parts.append(as_columns(rows.y) - origin["y"])
    weight, bad = weight_sums(rows.w, parts[0])
    return (
        parts,
        weight,
        {
            "off": column_sums(parts[0], weight),
            "off_y": column_sums(parts[1], weight) if len(parts) > 1 else None,
            "bad": bad,
            "weight": None if weight is None else namespace(weight).sum(weight),
        },
    )


def offset_of(origin: Sums, sums: Sums, rows: int, /) -> tuple[float, Array, Array]:
    """Return the sum of the weights, the origin of all columns, and how far the mean lies from it."""
    total = float(rows if sums["weight"] is None else sums["weight"])
    shift, off = origin["x"], sums["off"]
    if origin["y"] is not None:
        shift, off = np.concatenate([shift, origin["y"]]), np.concatenate([off, sums["off_y"]])
    return total, shift, off / (total or 1.0)


def digits_lost(offset: Array, weight: Any, m2: Array, origin: Array, rounding: float, /) -> bool:
    """Say whether sums of squares about an origin have left too few digits of those about the mean.

    It takes first rows that say nothing of the others: all missing, or all of no weight.

    Parameters
    ----------
    offset : ndarray
        By column, how far the mean lies from the origin.
    weight : float or ndarray
        How much is summed.
    m2 : ndarray
        The sums of squares about the mean.
    origin : ndarray
        What was subtracted; the mean of equal cells may lie some roundings from them.
    rounding : float
        The rounding unit of the sums.
    """
    lost = offset * offset * weight * rounding**_SHARE_LOST > m2
    return bool(np.any(lost & (np.abs(offset) > 1024 * rounding * np.abs(origin))))
