"""Distances of rows to centres: by matrix products, after a common centre is taken away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ooclearn._namespace import float_dtype, like, minus, namespace, run_of, surely_finite
from ooclearn.buffers import local_buffers
from ooclearn.products import rows_times
from ooclearn.statistics.checks import refuse_nonfinite
from ooclearn.statistics.held import as_held
from ooclearn.types import Array
from ooclearn.unlooked import only_counted

__all__ = ["centred", "distances", "labels_on_host", "nearest", "nearest_label", "runs_there", "squares_on_host"]

# Products of a run of rows with all centres take so many bytes: they nearly stay in the processor's second cache, and
# calls are long enough for threads not to wait for one another between them. Elsewhere what is given to a device in one
# piece should be large.
_RUN_BYTES = 2**21
_RUN_BYTES_THERE = 2**25
# NumPy's argmin along short rows pays a call for each; up to so many centres are compared as rows, and up to so few one
# after the other.
_FEW = 32
_VERY_FEW = 8


def _runs(n: int, n_centers: int, n_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield the first row and the one after the last of runs whose distances to all centres are looked at together."""
    rows = max(64, n_bytes // (8 * max(1, n_centers)))
    for start in range(0, n, rows):
        yield start, min(start + rows, n)


def runs_there(n: int, n_centers: int, /) -> Iterator[tuple[int, int]]:
    """Yield such runs for a device."""
    return _runs(n, n_centers, _RUN_BYTES_THERE)


def centred(x: Array, center: Array, /) -> tuple[Array, Array]:
    """Return ``x - center`` in the widest float of the device, and what was subtracted: `center` as far as that holds it."""
    xp = namespace(x)
    if isinstance(x, np.ndarray):
        return minus(x, center), center
    held = as_held(center, x)
    return minus(xp.astype(x, float_dtype(x), copy=False), like(held, x)), held


def nearest(x: Array, centers: Array, /) -> tuple[Array, Array]:
    """Return the position of the nearest centre of each row, the first of equals, and the squared distance to it.

    Which is the nearest is told by products; the distance to it is then summed from differences, so that a row that
    equals its centre is at distance 0, and rows close to a centre that lies far away keep their digits.

    Parameters
    ----------
    x : array of shape (n, d)
        Rows in floating numbers, about a centre common with `centers`.
    centers : array of shape (k, d)
        Of the same library, on the same device.
    """
    if isinstance(x, np.ndarray):
        found = labels_on_host(x, centers)
        return found, squares_on_host(x, centers, found)
    xp = namespace(x)
    norms = xp.sum(centers * centers, axis=1)
    factors = xp.matrix_transpose(centers) * -2.0
    labels, squares = [], []
    for start, stop in runs_there(x.shape[0], centers.shape[0]):
        part = run_of(x, start, stop)
        label = xp.argmin(part @ factors + norms, axis=1)
        off = part - xp.take(centers, label, axis=0)
        labels.append(label)
        squares.append(xp.sum(off * off, axis=1))
    return xp.concat(labels), xp.concat(squares)


def labels_on_host(x: Array, centers: Array, /) -> Array:
    """Return the position of the nearest centre of each row of a host array, the first of equals, as int32."""
    n, k = x.shape[0], centers.shape[0]
    norms = np.einsum("ij,ij->i", centers, centers)
    # Both laid out by rows: what is transposed otherwise is multiplied slower.
    factors = np.multiply(centers.T, -2.0, order="C")
    labels = np.empty(n, dtype=np.int32)
    # All runs but the last are as long as the first.
    longest = next((stop for _, stop in _runs(n, k, _RUN_BYTES)), 0)
    few = k <= _FEW
    least = _first_of_few if k <= _VERY_FEW else _first_least
    products = local_buffers().empty((k, longest) if few else (longest, k), np.dtype(np.float64))
    for start, stop in _runs(n, k, _RUN_BYTES):
        part, label = x[start:stop], labels[start:stop]
        if few:
            by_center = products[:, : stop - start]
            rows_times(part, factors, out=by_center.T)
            by_center += norms[:, None]
            least(by_center, label)
        else:
            by_row = products[: stop - start]
            rows_times(part, factors, out=by_row)
            by_row += norms
            label[...] = np.argmin(by_row, axis=1)
    return labels


def squares_on_host(x: Array, centers: Array, labels: Array, off: Array | None = None, /) -> Array:
    """Return the squared distance of each row of a host array, less `off`, to the centre that is its label."""
    n, d = x.shape
    squares = np.empty(n)
    longest = next((stop for _, stop in _runs(n, d, _RUN_BYTES)), 0)
    differences = local_buffers().empty((longest, d), np.dtype(np.float64))
    for start, stop in _runs(n, d, _RUN_BYTES):
        difference = differences[: stop - start]
        np.take(centers, labels[start:stop], axis=0, out=difference, mode="clip")
        np.subtract(x[start:stop] if off is None else minus(x[start:stop], off), difference, out=difference)
        np.einsum("ij,ij->i", difference, difference, out=squares[start:stop])
    return squares


def _first_of_few(values: Array, out: Array) -> None:
    """Write the position of the least value of each column, the first of equals; the first row is used up."""
    least = values[0]
    # Positions only grow while less is found, so that the last is the greatest; bytes are the fastest to compare.
    at, found = np.zeros(least.shape, dtype=np.uint8), np.empty(least.shape, dtype=np.uint8)
    for k in range(1, values.shape[0]):
        np.less(values[k], least, out=found.view(bool))
        np.multiply(found, np.uint8(k), out=found)
        np.maximum(at, found, out=at)
        np.minimum(least, values[k], out=least)
    out[...] = at


def _first_least(values: Array, out: Array) -> None:
    """Do the same in a few calls, whatever the number of rows, which is below 256."""
    k = values.shape[0]
    found = np.equal(values, np.minimum.reduce(values, axis=0)).view(np.uint8)
    # The first has the greatest number. Where NaN is among the values, none is equal to the least.
    np.multiply(found, np.arange(k, 0, -1, dtype=np.uint8)[:, None], out=found)
    np.subtract(np.uint8(k), np.maximum(np.maximum.reduce(found, axis=0), np.uint8(1)), out=out, casting="unsafe")


def nearest_label(x: Array, *, centers: Array) -> Array:
    """Return the position of the nearest centre of each row of a block."""
    _refuse(x)
    xp = namespace(x)
    if x.shape[0] == 0:
        return xp.astype(x[:, 0], xp.int32)
    rows, around = _about(x, centers)
    if isinstance(rows, np.ndarray):
        return labels_on_host(rows, around)
    return xp.astype(nearest(rows, around)[0], xp.int32)


def distances(x: Array, *, centers: Array) -> Array:
    """Return the distance of each row of a block to each centre, in the dtype of the block if that is floating."""
    _refuse(x)
    xp = namespace(x)
    kept = x.dtype if xp.isdtype(x.dtype, "real floating") else float_dtype(x)
    rows, around = _about(x, centers)
    if isinstance(rows, np.ndarray):
        return _distances_on_host(rows, around, kept)
    squares = xp.sum(rows * rows, axis=1)[:, None] + xp.sum(around * around, axis=1)[None, :]
    squares = squares - 2.0 * (rows @ xp.matrix_transpose(around))
    # Below 0 by rounding only.
    return xp.astype(xp.sqrt(xp.where(squares > 0, squares, xp.zeros_like(squares))), kept)


def _distances_on_host(x: Array, centers: Array, dtype: np.dtype[Any]) -> Array:
    n, k = x.shape[0], centers.shape[0]
    norms = np.einsum("ij,ij->i", centers, centers)
    factors = np.multiply(centers.T, -2.0, order="C")
    out = np.empty((n, k), dtype=dtype)
    longest = next((stop for _, stop in _runs(n, k, _RUN_BYTES)), 0)
    products = local_buffers().empty((longest, k), np.dtype(np.float64))
    for start, stop in _runs(n, k, _RUN_BYTES):
        part, squares = x[start:stop], products[: stop - start]
        rows_times(part, factors, out=squares)
        squares += np.einsum("ij,ij->i", part, part)[:, None]
        squares += norms
        np.maximum(squares, 0.0, out=squares)  # below 0 by rounding only
        np.sqrt(squares, out=out[start:stop], casting="same_kind")
    return out


def _about(x: Array, centers: Array) -> tuple[Array, Array]:
    """Return rows and centres about the mean of the centres, or as they are where that lies near 0."""
    centers = np.asarray(centers, dtype=np.float64)
    center = centers.mean(axis=0)
    if isinstance(x, np.ndarray) and x.dtype == np.float64 and x.flags.c_contiguous:
        # Over the centres, squares about 0 are then twice those about their mean at most, which costs about a bit; to
        # subtract would be a third of all the work.
        off = centers - center
        with np.errstate(over="ignore"):
            near = len(centers) * np.vdot(center, center) <= np.vdot(off, off)
        if near:
            return x, centers
    rows, held = centred(x, center)
    return rows, like(centers - held, x, float_dtype(x))


def _refuse(x: Array) -> None:
    xp = namespace(x)
    if not xp.isdtype(x.dtype, "real floating") or only_counted(x):
        return
    with np.errstate(invalid="ignore", over="ignore"):
        if surely_finite(x):
            return
    refuse_nonfinite(x)
