"""Labels of a block as positions among their sorted distinct values, and what to do with rows by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn._namespace import device_of, like, matmul, namespace, ones
from ooclearn.backend import backend_of
from ooclearn.exceptions import DataError
from ooclearn.statistics.added import target_of
from ooclearn.statistics.checks import missing_labels, refuse_missing_labels, refuse_nonfinite
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = [
    "ClassSummer",
    "by_sorting",
    "class_weights",
    "classes_of_both",
    "codes_beside",
    "codes_of",
    "host",
    "labels_of",
    "placed",
]

# Whole numbers that lie this close together are looked up by position, which beats sorting tenfold.
_POSITIONS = 2**16
# So many distinct numbers with a fraction are no labels: each class would cost the memory of a table of its own.
_FRACTIONS = 100
# So many rows, or more of many classes, are added up one after the other on the host, and then the sums of these runs:
# a column of few different values would lose 4 of its 16 digits in one long chain.
_RUN = 512
# Where a library has no sparse product, membership is a matrix of zeros and ones, of so many cells at a time.
_CELLS = 2**20


def host(x: Array, /) -> Array:
    """Return an array of numbers on the host, in float64."""
    return np.asarray(x if isinstance(x, np.ndarray) else backend_of(x).to_host(x), dtype=np.float64)


def labels_of(rows: Rows, /) -> Array:
    """Return the labels of rows, one-dimensional, on the host; missing ones are refused, with the place."""
    read = target_of(rows)
    y: Array = rows.labels if rows.labels is not None else backend_of(read).to_host(read)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise DataError(f"y should be a 1d array, got an array of shape {y.shape} instead.")
    if y.dtype.kind == "f":
        refuse_nonfinite(y, role="y")
    return y


def codes_of(y: Array, limit: int, /) -> tuple[Array, Array]:
    """Return the sorted distinct labels of `y`, and the position of each row's label among them.

    Parameters
    ----------
    y : ndarray of shape (rows,)
        On the host.
    limit : int
        Raise beyond so many distinct labels.
    """
    if not y.shape[0]:
        return y[:0].copy(), np.zeros(0, dtype=np.int64)
    found = _by_position(y) or by_sorting(y)
    _check(found[0], limit)
    return found


def classes_of_both(a: Array, b: Array, limit: int, /) -> Array:
    """Return the sorted union of two sorted arrays of labels."""
    if len(a) == len(b) and np.array_equal(a, b):
        return a
    try:
        classes = np.unique(np.concatenate([a, b]))
    except TypeError as error:
        raise _disorder(error) from error
    _check(classes, limit)
    return classes


def placed(values: Array, classes: Array, among: Array, /) -> Array:
    """Return `values`, one for each of `classes`, as one for each of the labels `among`; zeros for those not there."""
    if len(classes) == len(among):
        return values
    out = np.zeros((len(among), *values.shape[1:]), dtype=values.dtype)
    out[np.searchsorted(among, classes)] = values
    return out


def _check(classes: Array, limit: int) -> None:
    fractions = classes.dtype.kind == "f" and len(classes) > _FRACTIONS and bool((classes != np.trunc(classes)).any())
    if fractions or len(classes) > limit:
        raise DataError(
            f"y has more than {_FRACTIONS if fractions else limit:,} distinct values, as a continuous target has; "
            "expected classes. Unknown label type: use a regressor, or cut the target into classes",
            part="y",
        )


def _disorder(error: TypeError) -> DataError:
    return DataError(f"the labels in y cannot be put in order: {error}; make them all of one type", part="y")


def _by_position(y: Array) -> tuple[Array, Array] | None:
    """Look whole numbers up that lie close together; None for any other labels."""
    if y.dtype.kind not in "iubf":
        return None
    low, high = y.min(), y.max()
    if not float(high) - float(low) < _POSITIONS or abs(float(low)) > 2**52:
        return None
    at = y.astype(np.int64)
    if y.dtype.kind == "f" and not np.array_equal(at, y):
        return None
    low = np.int64(low)
    at -= low
    there = np.flatnonzero(np.bincount(at))
    codes = at
    if len(there) != int(there[-1]) + 1:
        positions = np.zeros(int(there[-1]) + 1, dtype=np.int64)
        positions[there] = np.arange(len(there))
        codes = positions[at]
    return (there + low).astype(y.dtype), codes


def by_sorting(y: Array, /) -> tuple[Array, Array]:
    """Do as :func:`codes_of` for labels of any kind, however many; missing ones are refused, with the place."""
    try:
        if y.dtype.kind == "O":
            missing = missing_labels(y)
            if missing.any():
                np.unique(y[~missing])
                refuse_missing_labels(missing)
        classes, codes = np.unique(y, return_inverse=True)
    except TypeError as error:
        raise _disorder(error) from error
    return classes, codes


def class_weights(codes: Array, n_classes: int, w: Array, /) -> Array:
    """Return the sums of the weights of rows by class; all on the host."""
    at, runs = _by_runs(codes, n_classes)
    sums = np.bincount(at, weights=w, minlength=runs * n_classes)
    return sums if runs == 1 else _over_runs(sums, runs)


def _by_runs(codes: Array, n_classes: int) -> tuple[Array, int]:
    """Return codes that tell runs of rows apart too, and how many runs there are; rows that are left join the last."""
    length = max(_RUN, 32 * n_classes)
    runs = len(codes) // length
    if runs < 2:
        return codes, 1
    at = codes.copy()
    at[: runs * length].reshape(runs, length)[...] += np.arange(0, runs * n_classes, n_classes)[:, None]
    at[runs * length :] += (runs - 1) * n_classes
    return at, runs


def _over_runs(sums: Array, runs: int) -> Array:
    """Return sums by class, given those by run and class."""
    wide = sums.reshape(runs, -1)
    return matmul(ones(runs, wide), wide).reshape(-1, *sums.shape[1:])


def codes_beside(codes: Array, n_classes: int, x: Array, /) -> Array:
    """Return codes on the device of `x`; of few classes one byte a row goes there."""
    xp = namespace(x)
    if n_classes > np.iinfo(np.uint8).max:
        return like(codes, x, xp.int32)
    return xp.astype(like(codes.astype(np.uint8), x, xp.uint8), xp.int32)


class ClassSummer:
    """Sums by class of the rows of one tile, and the value of each row's class.

    Sums are a matrix product with a row of zeros and ones (or weights) for each class: a sparse one on the host, which
    takes no longer for more classes, and a dense one on other devices.

    Parameters
    ----------
    codes : ndarray of shape (rows,)
        The position of each row's class, on the host.
    n_classes : int
        How many there are.
    x : array
        Of the library and on the device of what will be summed; in its widest float.
    w : array or None
        Weights of the rows, of that library.
    cells : int
        How many cells a dense matrix has at most.
    """

    def __init__(self, codes: Array, n_classes: int, x: Array, w: Array | None, *, cells: int = _CELLS) -> None:
        self._xp = namespace(x)
        self._w = w
        self._cells = cells
        self.n_classes = n_classes
        self._numpy = isinstance(x, np.ndarray)
        self._codes: Array = codes if self._numpy else codes_beside(codes, n_classes, x)
        self._members: Any = None
        self._runs = 1
        if self._numpy:
            import scipy.sparse  # imported with the first table, not with the library

            n = len(codes)
            weights = ones(n, x) if w is None else w
            if x.ndim > 1:  # not the cells of sparse rows
                codes, self._runs = _by_runs(codes, n_classes)
            # A row of the table has one entry, in the column of its run and class.
            shape = (n, self._runs * n_classes)
            self._members = scipy.sparse.csr_array((weights, codes, np.arange(n + 1)), shape=shape).T
        elif n_classes * len(codes) <= cells:
            self._members = self._columns(0, n_classes, x.dtype)

    def _columns(self, start: int, stop: int, dtype: Any) -> Array:
        xp = self._xp
        classes = xp.arange(start, stop, dtype=self._codes.dtype, device=device_of(self._codes))
        members = xp.astype(xp.reshape(classes, (-1, 1)) == xp.reshape(self._codes, (1, -1)), dtype)
        return members if self._w is None else members * xp.reshape(self._w, (1, -1))

    def sums(self, x: Array, /) -> Array:
        """Return the (weighted) sums of the rows of `x` by class, of shape (classes, columns)."""
        if self._members is not None:
            sums = matmul(self._members, x)
            return sums if self._runs == 1 else _over_runs(sums, self._runs)
        step = max(1, self._cells // x.shape[0])
        runs = range(0, self.n_classes, step)
        parts = [matmul(self._columns(start, min(start + step, self.n_classes), x.dtype), x) for start in runs]
        return self._xp.concat(parts, axis=0)

    def spread(self, values: Array, out: Array | None = None) -> Array:
        """Return for each row the row of `values` that belongs to its class."""
        if self._numpy:
            return np.take(values, self._codes, axis=0, out=out, mode="clip")
        return self._xp.take(values, self._codes, axis=0)
