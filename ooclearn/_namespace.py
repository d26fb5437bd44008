"""Small array-API helpers: which namespace, which device, how wide a float, one copy to a device."""

from __future__ import annotations

from functools import lru_cache

import array_api_compat
import numpy as np

from ooclearn.buffers import local_buffers
from ooclearn.types import Array, Namespace

__all__ = [
    "column_sums",
    "column_sums_of_squares",
    "device_of",
    "float_dtype",
    "int_dtype",
    "is_numpy",
    "like",
    "minus",
    "namespace",
    "ones",
    "run_of",
    "shareable",
    "unwiden",
    "widen",
]

# A row of 20 numbers is too short for vector instructions: broadcasting along it pays a loop set-up a
# row. Seen as fewer, longer rows the same memory is worked through 1.2 (subtract) to 5 times (min) faster.
_WIDE = 1024


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
    """Return the device of `x`, or None for NumPy, which has just one."""
    return None if isinstance(x, np.ndarray) else array_api_compat.device(x)


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


def widen(x: Array, /) -> tuple[Array, int]:
    """Return `x` seen as rows that are `k` times longer, without copying, and `k`.

    Every ``k`` consecutive rows become one. Where the memory is not laid out for it, or the number of
    rows is not a multiple of ``k``, `x` itself and 1 are returned.
    """
    n, d = x.shape
    k = 1
    while d and 2 * k * d <= _WIDE and n % (2 * k) == 0:
        k *= 2
    if k == 1 or n == 0 or (isinstance(x, np.ndarray) and not x.flags.c_contiguous):
        return x, 1
    return namespace(x).reshape(x, (n // k, d * k)), k


def unwiden(x: Array, n: int, /) -> Array:
    """Undo :func:`widen` for an array of `n` rows."""
    return x if x.shape[0] == n else namespace(x).reshape(x, (n, -1))


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
    if isinstance(x, np.ndarray):
        return unwiden(np.subtract(seen, row, out=local_buffers().empty(seen.shape, np.result_type(seen, row))), n)
    return unwiden(seen - row, n)


def column_sums(x: Array, weights: Array | None, /) -> Array:
    """Return ``weights @ x``, for None the plain sums, by column.

    Plain sums go over the wide view: each of its columns adds up fewer numbers, so that ten times fewer digits are lost.
    """
    if weights is not None:
        return weights @ x
    seen, k = widen(x)
    sums = ones(seen.shape[0], seen) @ seen
    xp = namespace(x)
    return sums if k == 1 else xp.sum(xp.reshape(sums, (k, -1)), axis=0)


def column_sums_of_squares(x: Array, weights: Array | None, /) -> Array:
    """Return ``weights @ x**2`` for an `x` from :func:`minus`, whose memory is used up; for None the plain sums."""
    return column_sums(np.multiply(x, x, out=x) if isinstance(x, np.ndarray) else x * x, weights)
