"""Tiles of rows less the mean of the class of each, and sums of products by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ooclearn._namespace import int_dtype, like, namespace, run_of
from ooclearn.buffers import local_buffers
from ooclearn.products import product
from ooclearn.statistics.added import rounding_of, widened
from ooclearn.statistics.centred import refuse, rooted
from ooclearn.statistics.checks import refuse_weights
from ooclearn.statistics.coded import ClassSummer, class_weights, codes_of, host, labels_of
from ooclearn.statistics.means import sum_and_rest
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["ClassTile", "Means", "products_by_class"]

# Classes, rows, weights, means and their rests.
Means: TypeAlias = tuple[Array, Array, Array, Array, Array]


class ClassTile:
    """One tile of rows, centred by the means of its classes.

    Attributes
    ----------
    classes, rows, weight : ndarray
        The labels in it, sorted; the rows and the weight of each.
    centred : array or None
        The rows less the mean of their class, nearly; None if there is no row.
    off : ndarray
        How far the means lie from what was subtracted.
    """

    def __init__(self, rows: Rows, limit: int) -> None:
        y = labels_of(rows)
        self.classes, codes = codes_of(y, limit)
        k = len(self.classes)
        x, w = rows.X, rows.w
        self.n_columns = int(x.shape[1])
        self.rows = np.bincount(codes, minlength=k)
        self.weight: Array = self.rows.astype(np.float64)
        self.centred: Array | None = None
        self._x, self._codes = x, codes
        if not k:
            return
        x = widened(x)
        self.rounding = rounding_of(x)
        if w is not None:
            refuse_weights(w)
            on_host = host(w)
            w = on_host if isinstance(x, np.ndarray) else namespace(x).astype(w, x.dtype, copy=False)
            self.weight = class_weights(codes, k, on_host)
        self._w = w
        summer = ClassSummer(codes, k, x, w)
        self.sums = summer.sums
        # A class without weight stays where it is: its squares count nothing.
        safe = np.where(self.weight > 0, self.weight, 1.0)
        with np.errstate(invalid="ignore", over="ignore"):
            shift = self.sums(x) / like(safe[:, None], x, x.dtype)
            if isinstance(x, np.ndarray):
                centred = summer.spread(shift, local_buffers().empty(x.shape, np.dtype(np.float64)))
                np.subtract(x, centred, out=centred)
            else:
                centred = x - summer.spread(shift)
            self.off = host(self.sums(centred)) / safe[:, None]
        self._shift = host(shift)
        self.centred = centred

    def empty(self) -> Means:
        """Return classes, rows, weights and means where there is no row."""
        zeros = np.zeros((len(self.classes), self.n_columns))
        return self.classes, self.rows, self.weight, zeros, zeros

    def means(self) -> Means:
        """Return classes, rows, weights and means."""
        there = self.weight[:, None] > 0
        mean, rest = sum_and_rest(np.where(there, self._shift, 0.0), np.where(there, self.off, 0.0))
        return self.classes, self.rows, self.weight, mean, rest

    def scatter(self) -> Array:
        """Return the sum of products about what was subtracted, over all rows."""
        x = rooted(self.centred, self._w)
        return host(product(x, x))

    def scatters(self) -> Array:
        """Return the same by class."""
        return host(products_by_class(rooted(self.centred, self._w), self._codes, self.rows))

    def refuse(self, squares: Array) -> None:
        """Raise for what is not finite; look at the cells only where there is reason to."""
        if not (np.isfinite(squares).all() and np.isfinite(self._shift).all()):
            refuse(self._x)


def products_by_class(x: Array, codes: Array, rows: Array) -> Array:
    """Return sums of products of the columns by class, given each row's class and how many rows each has, on the host."""
    if len(rows) == 1:
        return product(x, x)[None, :, :]
    xp = namespace(x)
    # Sorted by class, each class is one run of rows.
    few = len(rows) <= np.iinfo(np.uint16).max
    order = np.argsort(codes.astype(np.uint16) if few else codes, kind="stable")
    x = xp.take(x, like(order, x, int_dtype(x)), axis=0)
    stops = np.cumsum(rows)
    runs = [run_of(x, int(stop) - int(n), int(stop)) for stop, n in zip(stops, rows, strict=True)]
    return xp.stack([product(run, run) for run in runs])
