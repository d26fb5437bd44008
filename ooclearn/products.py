"""Products of rows: sums over them of products of two columns, and rows times a matrix, both in small pieces."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ooclearn._namespace import matmul, namespace
from ooclearn.types import Array
from ooclearn.workers import blas_architectures

__all__ = ["product", "rows_times"]

# Kernels of OpenBLAS that have others beside them for small matrices, which copy nothing before they begin.
_WITH_SMALL = {"SkylakeX", "Cooperlake", "SapphireRapids"}

# Columns of the left matrix that are multiplied at a time, and how many there may be for it to be worth it: that of more
# is slower than one symmetric product.
_WIDTH, _MOST = 8, 64

# Cells of the rows that are multiplied at a time; OpenBLAS takes up to 1e6 products of two numbers for small.
_CELLS = 40_960
_SMALL = 990_000

# NumPy's stacked product keeps the interpreter's lock where fewer numbers come out.
_UNLOCKED = 500

# Fewer rows at a time are not worth a call.
_SHORTEST = 64


def product(a: Array, b: Array, /) -> Array:
    """Return the sums of products of the columns of `a` with those of `b`, over all rows.

    Of NumPy arrays with few columns, short runs of rows are multiplied where BLAS has kernels for that: 2 to 2.6 times as
    fast for 20 columns as one symmetric product of all rows. Which way is taken depends on shapes and the machine alone.

    Parameters
    ----------
    a, b : array of shape (n_rows, n_columns)
        Of one library; `a` and `b` may be one array.

    Returns
    -------
    array of shape (columns of a, columns of b)
        On the device of both.
    """
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        runs = _runs(a, b) if _small_is_fast() else 0
        if runs:
            return _by_runs(a, b, runs)
    return matmul(namespace(a).matrix_transpose(a), b)


def rows_times(x: Array, matrix: Array, /, out: Array | None = None) -> Array:
    """Return ``x @ matrix``.

    Of NumPy arrays, a small matrix is multiplied with so few rows at a time that BLAS has a kernel for it: 1.5 to 2.2 times
    as fast for 20 columns as all rows at once.

    Parameters
    ----------
    x : array of shape (n_rows, d)
        The rows.
    matrix : array of shape (d, k)
        Of the same library.
    out : ndarray of shape (n_rows, k), optional
        Where the result goes, for NumPy arrays.

    Returns
    -------
    array of shape (n_rows, k)
        On the device of both.
    """
    if not isinstance(x, np.ndarray):
        return x @ matrix
    n, (d, k) = x.shape[0], matrix.shape
    if not (k > 1 and x.dtype == matrix.dtype and _for_blas(x) and _small_is_fast()):
        return np.matmul(x, matrix, out=out)
    runs = -(-n * d * k // _SMALL)
    if runs < 2 or n < runs * _SHORTEST:
        return np.matmul(x, matrix, out=out)
    matrix = np.ascontiguousarray(matrix)  # there is no small kernel for one that lies by columns
    out = np.empty((n, k), dtype=x.dtype) if out is None else out
    whole = n - n % runs
    by_run = (runs, whole // runs, -1)
    np.matmul(x[:whole].reshape(by_run), matrix, out=out[:whole].reshape(by_run))
    if whole < n:
        np.matmul(x[whole:], matrix, out=out[whole:])
    return out


@lru_cache(maxsize=1)
def _small_is_fast() -> bool:
    return not _WITH_SMALL.isdisjoint(blas_architectures())


def _parts(n_left: int, n_right: int, *, symmetric: bool) -> list[tuple[int, int, int]]:
    """Return the first and last column of each part of the left matrix, and the first column of the right beside it.

    Above the diagonal of a symmetric product, that is. No part is a product of a matrix with itself, in which NumPy would
    see a symmetric one, and call another kernel.
    """
    width = min(_WIDTH, -(-n_left // 2)) if symmetric else min(_WIDTH, n_left)
    parts = [(first, min(first + width, n_left), first if symmetric else 0) for first in range(0, n_left, width)]
    if symmetric:
        first, last, _ = parts[-1]
        parts[-1] = first, last, max(0, n_right - 2 * width)
    return parts


@lru_cache(maxsize=8)
def _beside_diagonal(n: int) -> tuple[Array, Array]:
    """Return where the cells above the diagonal of a matrix of `n` columns lie, and those that mirror them."""
    i, j = np.triu_indices(n, 1)
    return i * n + j, j * n + i


def _runs(a: Array, b: Array) -> int:
    """Return into how many runs the rows are cut, or 0 where one product of all is better."""
    n, p = a.shape
    q = b.shape[1]
    symmetric = a is b
    if not (1 < p <= _MOST and 1 < q <= _MOST) or not all(_for_blas(x) for x in (a, b)):
        return 0
    fewest = min((last - first) * (q - right) for first, last, right in _parts(p, q, symmetric=symmetric))
    runs = max(-(-n * max(p, q) // _CELLS), _UNLOCKED // fewest + 1)
    return runs if n >= runs * _SHORTEST else 0


def _for_blas(x: Array) -> bool:
    """Say whether the rows, or the columns, lie in memory one number behind the other."""
    return x.dtype.kind == "f" and x.dtype.itemsize in (4, 8) and x.itemsize in x.strides


def _by_runs(a: Array, b: Array, runs: int) -> Array:
    n, p = a.shape
    q = b.shape[1]
    symmetric = a is b
    whole = n - n % runs
    left, right = (x[:whole].reshape(runs, whole // runs, -1) for x in (a, b))
    # Below the diagonal of a symmetric product nothing is multiplied.
    out: Any = np.zeros((p, q), dtype=np.result_type(a, b))
    for first, last, start in _parts(p, q, symmetric=symmetric):
        part = np.matmul(left[:, :, first:last].transpose(0, 2, 1), right[:, :, start:]).sum(axis=0)
        out[first:last, start:] = part
    if whole < n:
        out += matmul(a[whole:].T, b[whole:])
    if symmetric:  # to the last bit, also where BLAS adds in another order below the diagonal
        above, below = _beside_diagonal(p)
        out.reshape(-1)[below] = out.reshape(-1)[above]
    return out
