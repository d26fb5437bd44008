"""Scaling and thresholds of sparse rows, cell by stored cell."""

from __future__ import annotations

from typing import Any

import numpy as np

from ooclearn.exceptions import DataError
from ooclearn.types import Array

__all__ = ["stored_above", "stored_of_norm_one", "with_data"]


def with_data(x: Any, data: Array, /) -> Any:
    """Return sparse rows with other values in the stored cells; they share no memory with `x`."""
    return type(x)((data, x.indices.copy(), x.indptr.copy()), shape=x.shape)


def stored_above(x: Any, threshold: float, /) -> Any:
    """Return which cells are above a threshold, which must be 0 or more, as sparse rows of ones."""
    if threshold < 0:
        raise DataError(
            f"Cannot binarize a sparse matrix with threshold < 0 (it is {threshold:g}): all cells that are not stored would "
            "become 1; make the rows dense, or take a threshold of 0 or more"
        )
    x = _summed_up(x)
    out = with_data(x, (x.data > threshold).astype(x.dtype))
    out.eliminate_zeros()
    return out


def stored_of_norm_one(x: Any, norm: str, /) -> Any:
    """Return rows of norm 1; rows of zeros stay."""
    x = _summed_up(x)
    n = x.shape[0]
    values = x.data.astype(np.float64)
    row = np.repeat(np.arange(n), np.diff(x.indptr))
    greatest = np.zeros(n)
    np.maximum.at(greatest, row, np.abs(values))
    # Brought near 1 first: squares of what is far above or below leave the range of numbers.
    near = np.abs(np.divide(values, greatest[row], out=np.zeros_like(values), where=greatest[row] > 0))
    if norm == "l1":
        norms = np.bincount(row, near, n)
    elif norm == "l2":
        norms = np.sqrt(np.bincount(row, near * near, n))
    else:
        norms = (greatest > 0).astype(np.float64)
    near = np.divide(np.copysign(near, values), norms[row], out=near, where=norms[row] > 0)
    return with_data(x, near.astype(x.dtype if x.dtype.kind == "f" else np.float64))


def _summed_up(x: Any) -> Any:
    x = x.tocsr()
    if not x.has_canonical_format:
        x = x.copy()
        x.sum_duplicates()
    return x
