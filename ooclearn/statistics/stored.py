"""Sums over columns of sparse rows: the cells that are stored, and beside them the zeros that are not."""

from __future__ import annotations

from typing import Any

import numpy as np

from ooclearn.statistics.checks import refuse_infinite
from ooclearn.types import Array

__all__ = ["stored_extrema", "stored_moments"]


def stored_moments(x: Array, w: Array | None, /) -> tuple[Array, Array, Array, Array]:
    """Return by column the count of what is not missing, its mean in two parts, and the centred sum of squares.

    Parameters
    ----------
    x : sparse rows
        CSR, or what can be turned into it.
    w : ndarray or None
        Weights of the rows, checked.
    """
    x = _summed_up(x)
    n, d = x.shape
    data = x.data.astype(np.float64, copy=False)
    each = None if w is None else np.repeat(np.asarray(w, dtype=np.float64), np.diff(x.indptr))
    total = float(n if w is None else np.sum(w, dtype=np.float64))
    there = ~np.isnan(data)
    if not np.isfinite(data[there].sum()):
        refuse_infinite(x)

    def sums(values: Array | None, chosen: Array | slice = slice(None)) -> Array:
        """Return the weighted sums by column of values, for None the sums of weights, of chosen cells."""
        weights = values if each is None else each[chosen] if values is None else values * each[chosen]
        return np.bincount(x.indices[chosen], weights=weights, minlength=d).astype(np.float64)

    count = np.full(d, total)
    if not there.all():
        count -= sums(None, ~there)
        # With weights, what is left of a difference where all is missing.
        count[np.bincount(x.indices[~there], minlength=d) == n] = 0.0
    some = count > 0
    data = data[there]
    mean = np.divide(sums(data, there), count, out=np.zeros(d), where=some)
    off = data - mean[x.indices[there]]
    # A column whose cells are all stored has no zeros beside them, whatever rounding leaves of the weights.
    full = np.bincount(x.indices, minlength=d) == n
    zeros = np.where(full, 0.0, np.maximum(count - sums(None, there), 0.0))
    rest = np.divide(sums(off, there) - zeros * mean, count, out=np.zeros(d), where=some)
    m2 = sums(off * off, there) + zeros * mean * mean - rest * rest * count
    return count, mean, rest, np.maximum(m2, 0.0)


def stored_extrema(x: Array, /) -> tuple[Array, Array]:
    """Return the least and the greatest value of each column, NaN left out; inf and -inf where there is none."""
    x = _summed_up(x)
    n, d = x.shape
    low, high = np.full(d, np.inf), np.full(d, -np.inf)
    zero = np.bincount(x.indices, minlength=d) < n
    low[zero] = high[zero] = 0.0
    data = x.data.astype(np.float64, copy=False)
    there = ~np.isnan(data)
    np.minimum.at(low, x.indices[there], data[there])
    np.maximum.at(high, x.indices[there], data[there])
    if np.isinf(data[there]).any():
        refuse_infinite(x)
    return low, high


def _summed_up(x: Any) -> Any:
    """Return sparse rows in which no cell is stored twice; `x` is not written to."""
    x = x.tocsr()
    if not x.has_canonical_format:
        x = x.copy()
        x.sum_duplicates()
    return x
