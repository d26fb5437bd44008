"""Small array-API helpers: which namespace, which device, how wide a float, one copy to a device."""

from __future__ import annotations

from functools import lru_cache
from math import isqrt
from typing import Any

import array_api_compat
import numpy as np

from ooclearn.buffers import local_buffers
from ooclearn.types import Array, Namespace

__all__ = [
    "column_sums",
    "column_sums_of_squares",
    "device_of",
    "float_dtype",
    "holds",
    "int_dtype",
    "is_numpy",
    "like",
    "matmul",
    "minus",
    "namespace",
    "ones",
    "run_of",
    "shareable",
    "surely_finite",
    "unwiden",
    "widen",
]

# A row of 20 numbers is too short for vector instructions: broadcasting along it pays a loop set-up a
# row. Seen as fewer, longer rows the same memory is worked through 1.2 (subtract) to 5 times (min) faster.
_WIDE = 1024

# So many numbers are made wider at a time.
_CAST = 2**17

# So many rows of the wide view are added up one after the other.
_GROUP = 16

# So many rows that have weights are.
_RUN = 128


def is_numpy(x: Array, /) -> bool:
    """Say whether `x` is a NumPy array, the one whose memory layout we may look at."""
    return isinstance(x, np.ndarray)


def namespace(x: Array, /) -> Namespace:
    """Return the array-API namespace of `x`."""
    if isinstance(x, np.ndarray):
        return np
    if hasattr(x, "tocsr"):
        raise TypeError("Sparse data was passed where dense rows are required; make them dense with '.toarray()'.")
    return array_api_compat.array_namespace(x)


def device_of(x: Array, /) -> object:
    """Return the device of `x`, or None for NumPy, which has just one.

    Of an array that JAX has spread over several devices: what gives each of them a copy of all that is put beside it.
    """
    if isinstance(x, np.ndarray):
        return None
    device = array_api_compat.device(x)
    return type(device)(device.mesh, type(device.spec)()) if _spread(x) else device


def _spread(x: Array) -> bool:
    return getattr(array_api_compat.device(x), "spec", None) is not None


def float_dtype(x: Array, /) -> Array:
    """Return the widest real floating dtype that the device of `x` has."""
    if isinstance(x, np.ndarray):
        return np.float64
    xp = namespace(x)
    if not hasattr(xp, "__array_namespace_info__"):
        return xp.float64
    kinds = xp.__array_namespace_info__().dtypes(kind="real floating", device=device_of(x))
    return kinds.get("float64", kinds["float32"])


def int_dtype(x: Array, /) -> Array:
    """Return the widest signed integer dtype that the device of `x` has."""
    xp = namespace(x)
    if isinstance(x, np.ndarray) or not hasattr(xp, "__array_namespace_info__"):
        return xp.int64
    kinds = xp.__array_namespace_info__().dtypes(kind="signed integer", device=device_of(x))
    return kinds.get("int64", kinds["int32"])


def holds(values: Array, x: Array, /) -> bool:
    """Say whether host integers fit the widest integer of the device of `x`: JAX has 32 bits unless asked for more."""
    if values.dtype.kind not in "iu" or not values.size:
        return True
    there, here = namespace(x).iinfo(int_dtype(x)), np.iinfo(values.dtype)
    if there.min <= here.min and here.max <= there.max:
        return True
    return bool(there.min <= values.min() and values.max() <= there.max)


def like(values: Array, x: Array, /, dtype: Array | None = None) -> Array:
    """Return host `values` as an array of the library and on the device of `x`."""
    if isinstance(x, np.ndarray):
        return np.asarray(values, dtype=dtype)
    xp = namespace(x)
    return xp.asarray(shareable(values), dtype=dtype or float_dtype(x), device=device_of(x))


def shareable(values: Array, /) -> Array:
    """Return host `values` as an array that a library may share; PyTorch warns of memory that is read-only."""
    values = np.asarray(values)
    return values if values.flags.writeable else values.copy()


@lru_cache(maxsize=64)
def _host_ones(n: int) -> Array:
    out = np.ones(n)
    out.flags.writeable = False
    return out


def ones(n: int, x: Array, /) -> Array:
    """Return `n` ones in the widest float of the device of `x`; column sums are ``ones @ x``."""
    if isinstance(x, np.ndarray):
        return _host_ones(n)
    return namespace(x).ones(n, dtype=float_dtype(x), device=device_of(x))


def run_of(x: Array, start: int, stop: int, /) -> Array:
    """Return rows `start` to `stop`; the standard knows no slice that leaves other axes unsaid."""
    if isinstance(x, np.ndarray) or not hasattr(type(x), "__array_namespace__"):
        return x[start:stop]
    return x[start:stop, ...]


def matmul(a: Array, b: Array, /) -> Array:
    """Return ``a @ b`` of matrices or vectors; other threads run meanwhile.

    Of few numbers that come out of many, such as sums over rows: NumPy's ``@`` keeps the interpreter's lock where they
    are fewer than 500, its ``dot`` never does.
    """
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape[-1] > 1:
        return np.dot(a, b)
    return a @ b  # of NumPy's, single numbers: 0 times infinity is 0 to `dot`, which leaves products by 0 out


def widen(x: Array, /) -> tuple[Array, int]:
    """Return `x` seen as rows that are `k` times longer, without copying, and `k`.

    Every ``k`` consecutive rows become one. Where the memory is not laid out for it, or the number of
    rows is not a multiple of ``k``, `x` itself and 1 are returned.
    """
    n, d = x.shape
    k = _rows_in_one(n & -n, d)  # of the largest power of 2 that divides the rows
    if k == 1 or (not x.flags.c_contiguous if isinstance(x, np.ndarray) else _spread(x)):
        return x, 1
    return namespace(x).reshape(x, (n // k, d * k)), k


def _rows_in_one(n: int, d: int) -> int:
    """Return how many rows of `d` columns are seen as one, a power of 2 and at most `n`."""
    k = 1
    while d and 2 * k * d <= _WIDE and 2 * k <= n:
        k *= 2
    return k


def unwiden(x: Array, n: int, /) -> Array:
    """Undo :func:`widen` for an array of `n` rows."""
    return x if x.shape[0] == n else namespace(x).reshape(x, (n, -1))


def surely_finite(values: Array, /) -> bool:
    """Say whether all cells are known to be finite, or need not be looked at; False if each has to be.

    A sum is finite unless a cell is not (or the sum overflows: then the cells are looked at). It is said of dense and
    of sparse rows of any library.
    """
    if hasattr(values, "tocsr"):
        values = values.data
    if not hasattr(values, "dtype") or not values.shape[0]:
        return True
    if isinstance(values, np.ndarray):
        return values.dtype.kind != "f" or bool(np.isfinite(_sum(values)))
    xp = namespace(values)
    return not xp.isdtype(values.dtype, "real floating") or bool(xp.isfinite(xp.sum(values)))


def _sum(values: Array) -> Array:
    """Return a sum of all values, by a product where that is faster; digits do not matter."""
    with np.errstate(invalid="ignore", over="ignore"):
        if values.ndim == 2 and values.dtype.itemsize >= 4:
            seen, _ = widen(values)
            values = matmul(seen, _like_ones(seen.shape[1], values.dtype))
        return values.sum(dtype=np.float64)


@lru_cache(maxsize=64)
def _like_ones(n: int, dtype: np.dtype[Any]) -> Array:
    return np.ones(n, dtype=dtype)


def minus(x: Array, row: Array, /) -> Array:
    """Return ``x - row`` for a tile `x`.

    With NumPy in memory that this thread uses again: a fresh array of the size of a tile is large enough for the
    allocator to ask the system for its pages every time, which costs more than the arithmetic.
    """
    n = x.shape[0]
    seen, k = widen(x)
    xp = namespace(x)
    if k > 1:
        row = xp.tile(row, (k,))
    if not isinstance(x, np.ndarray):
        return unwiden(seen - row, n)
    out = local_buffers().empty(seen.shape, np.result_type(seen, row))
    if out.dtype == seen.dtype:
        return unwiden(np.subtract(seen, row, out=out), n)
    # NumPy turns numbers into wider ones a few thousand at a time; by runs that stay in cache it is twice as fast.
    rows = max(1, _CAST // max(1, seen.shape[1]))
    for start in range(0, seen.shape[0], rows):
        part = out[start : start + rows]
        np.copyto(part, seen[start : start + rows])
        np.subtract(part, row, out=part)
    return unwiden(out, n)


def column_sums(x: Array, weights: Array | None, /) -> Array:
    """Return ``weights @ x``, for None the plain sums, by column.

    Plain sums go over the wide view: each of its columns adds up fewer numbers, so that ten times fewer digits are lost.
    On a device without float64 that is not enough, and rows that have weights cannot be seen as longer ones: there sums
    of runs of rows are added up.
    """
    if isinstance(x, np.ndarray):
        if weights is not None:
            return _sums_of_runs(x, weights, _RUN)
        seen, rest = _wide_and_rest(x)
        sums = _folded(matmul(_host_ones(len(seen)), seen), x.shape[1])
        return sums + _folded(rest, x.shape[1]) if len(rest) else sums
    if namespace(x).finfo(x.dtype).bits < 64:
        if _spread(x):  # rows are not cut here where the devices do not; JAX's sums keep their digits
            return namespace(x).sum(x if weights is None else x * weights[:, None], axis=0)
        return _sums_of_runs(x, ones(x.shape[0], x) if weights is None else weights, isqrt(x.shape[0]))
    if weights is not None:
        return weights @ x
    seen, _ = widen(x)
    return _folded(ones(seen.shape[0], seen) @ seen, x.shape[1])


def _sums_of_runs(x: Array, weights: Array, k: int) -> Array:
    """Return ``weights @ x`` by way of sums of `k` rows each.

    JAX on a CPU makes a product of a vector and a matrix row after row, which in float32 leaves 4 digits of 300 000 rows.
    So does NumPy, which in float64 leaves 12 of 16 digits of the squares of a column of zeros and ones.
    """
    n, d = x.shape
    runs = n // k if k >= _GROUP else 0
    if runs < 2:
        return matmul(weights, x)
    whole = runs * k
    reshape = np.ndarray.reshape if isinstance(x, np.ndarray) else namespace(x).reshape
    of_runs = reshape(weights[:whole], (runs, 1, k)) @ reshape(run_of(x, 0, whole), (runs, k, d))
    of_runs = reshape(of_runs, (runs, d))
    # Of many runs, the sums make a long chain in their turn.
    sums = column_sums(of_runs, None) if runs > 2 * k else matmul(ones(runs, x), of_runs)
    return sums if whole == n else sums + matmul(weights[whole:], run_of(x, whole, n))


def column_sums_of_squares(x: Array, weights: Array | None, /) -> Array:
    """Return ``weights @ x**2``, for None the plain sums, by column; nothing is written to `x`.

    With NumPy, plain sums need no array of the squares, and so read the rows once. They are added up in groups of a few
    rows, since a long chain of additions loses a digit.
    """
    if not isinstance(x, np.ndarray):
        return column_sums(x * x, weights)
    if weights is not None:
        return column_sums(np.multiply(x, x, out=local_buffers().empty(x.shape, x.dtype)), weights)
    seen, rest = _wide_and_rest(x)
    whole = seen.shape[0] // _GROUP * _GROUP
    groups = seen[:whole].reshape(-1, _GROUP, seen.shape[1])
    sums = matmul(_host_ones(len(groups)), np.einsum("gij,gij->gj", groups, groups))
    if whole < seen.shape[0]:
        sums = sums + np.einsum("ij,ij->j", seen[whole:], seen[whole:])
    sums = _folded(sums, x.shape[1])
    return sums + _folded(rest * rest, x.shape[1]) if len(rest) else sums


def _wide_and_rest(x: Array) -> tuple[Array, Array]:
    """Return rows of a NumPy array seen as longer ones, as :func:`widen` does, and the cells that are left behind them."""
    n, d = x.shape
    k = _rows_in_one(n, d)
    if k == 1 or not x.flags.c_contiguous:
        return x, np.empty(0)
    whole = n // k * k
    return x[:whole].reshape(n // k, k * d), x[whole:].reshape(-1)


def _folded(sums: Array, d: int) -> Array:
    """Return sums of `d` columns, given sums of runs of them side by side; NumPy adds what lies in a row by pairs."""
    if sums.ndim == 1 and sums.shape[0] == d:
        return sums
    xp = namespace(sums)
    if isinstance(sums, np.ndarray):
        return np.ascontiguousarray(sums.reshape(-1, d).T).sum(axis=1)
    return xp.sum(xp.reshape(sums, (-1, d)), axis=0)
