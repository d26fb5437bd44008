"""Tiles of rows less a row near their mean, and sums of products of what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import numpy as np

from ooclearn._namespace import column_sums, float_dtype, minus, namespace
from ooclearn.exceptions import DataError
from ooclearn.statistics.added import as_columns, rounding_of, target_of, widened
from ooclearn.statistics.checks import refuse_nonfinite, refuse_weights
from ooclearn.statistics.coded import host
from ooclearn.statistics.means import shift_near
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["Tile", "centred", "proper", "refuse", "rooted", "shift_on_host", "weights_of"]


def centred(x: Array, shift: Array | None) -> Array:
    """Return rows less a row; `x` itself, which must not be written to, where there is none to subtract."""
    return x if shift is None else minus(x, shift)


def shift_on_host(x: Array, shift: Array | None) -> Array:
    """Return what :func:`centred` has subtracted from `x`, on the host."""
    return np.zeros(x.shape[1]) if shift is None else host(shift)


class Tile:
    """One tile of X, and of y where that is asked for, less a row near its mean.

    Attributes
    ----------
    n, weight : int, float
        How many rows there are, and the sum of their weights.
    n_targets : int
        How many columns y has.
    parts : list of array
        The rows of X, and of y, in the widest float of their device; none if there is no row.
    w : array or None
        Their weights.
    shift : ndarray
        What was subtracted, of all columns; 0 for rows that lie about it.
    rounding : float
        The rounding unit of that float.
    """

    def __init__(self, rows: Rows, *, target: bool) -> None:
        x, y = rows.X, target_of(rows) if target else None
        self.n, d = x.shape
        self.n_targets = 0 if y is None else 1 if y.ndim == 1 else y.shape[1]
        self.weight = self.rounding = 0.0
        self.w: Array | None = None
        self.parts: list[Array] = []
        self.shift = np.zeros(d + self.n_targets)
        self._read = x, y
        if not self.n:
            return
        self.rounding = rounding_of(x)
        self.w, self.weight = weights_of(rows)
        parts = [widened(x)] if y is None else [widened(x), as_columns(y)]
        with np.errstate(invalid="ignore", over="ignore"):
            shifts = [shift_near(part, self.w, self.weight, part) for part in parts]
            self.parts = [centred(part, shift) for part, shift in zip(parts, shifts, strict=True)]
            self.shift = np.concatenate([shift_on_host(*pair) for pair in zip(parts, shifts, strict=True)])

    def off(self) -> Array:
        """Return how far the mean lies from what was subtracted, of all columns."""
        return np.concatenate([host(column_sums(part, self.w)) for part in self.parts]) / self.weight

    def of_no_weight(self) -> tuple[int, float, Array, Array]:
        """Return rows, weight and mean where there is no weight; the cells must be numbers all the same."""
        self.refuse_cells()
        zeros = np.zeros_like(self.shift)
        return self.n, 0.0, zeros, zeros

    def refuse_cells(self) -> None:
        """Raise for what is not finite; name the cell only where there is reason to."""
        if not all(bool(namespace(part).all(namespace(part).isfinite(part))) for part in self.parts):
            self.refuse("deviations from the mean")

    def refuse(self, what: str) -> NoReturn:
        """Raise for a cell that is not finite, or else because sums overflow."""
        refuse(*self._read, what=what)


def weights_of(rows: Rows, /) -> tuple[Array | None, float]:
    """Return the weights of some rows in the widest float of the device of X, and their sum; None and how many rows."""
    if rows.w is None:
        return None, float(rows.n)
    refuse_weights(rows.w)
    xp = namespace(rows.X)
    w = xp.astype(rows.w, float_dtype(rows.X), copy=False)
    return w, float(xp.sum(w))


def rooted(x: Array, w: Array | None) -> Array:
    """Return rows times the roots of their weights, so that weights count once in products."""
    xp = namespace(x)
    return x if w is None else x * xp.reshape(xp.sqrt(w), (-1, 1))


def proper(scatter: Array) -> Array:
    """Return a scatter, or some, whose diagonal is not negative, which it can be by rounding; writes to it."""
    diagonal = np.einsum("...ii->...i", scatter)
    np.maximum(diagonal, 0.0, out=diagonal)
    return scatter


def refuse(x: Array, y: Array | None = None, *, what: str = "products of the deviations of two columns") -> NoReturn:
    """Raise for the first cell that is not finite, or else because sums of `what` overflow."""
    refuse_nonfinite(x)
    if y is not None:
        refuse_nonfinite(y, role="y")
    raise DataError(f"{what} overflow float64; scale the columns to a size near 1 first")
