"""Errors that a ridge regression makes on each row when it is fitted to all others, summed over rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn._namespace import float_dtype, like, namespace
from ooclearn.backend import backend_of
from ooclearn.exceptions import DataError
from ooclearn.statistics.checks import refuse_nonfinite, refuse_weights
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["LeftOut", "LeftOutState", "Model"]


@dataclass(frozen=True, eq=False)
class Model:
    """Ridge regressions that differ in their penalty, all in the axes of one singular value decomposition.

    Attributes
    ----------
    x_mean, y_mean : ndarray
        What rows and targets are centred by.
    axes : ndarray of shape (columns, k)
        The right singular vectors of the rows.
    coef : ndarray of shape (k, penalties, targets)
        Coefficients in these axes.
    share : ndarray of shape (k, penalties)
        What the leverage of a row has of its squares in these axes: ``1 / (s**2 + alpha)``.
    constant : float
        What the intercept adds to the leverage of a row of weight 1.
    """

    x_mean: Array
    y_mean: Array
    axes: Array
    coef: Array
    share: Array
    constant: float


@dataclass(frozen=True, eq=False)
class LeftOutState:
    """State of :class:`LeftOut`.

    Attributes
    ----------
    rows : int
        Rows seen.
    squares : ndarray of shape (penalties, targets)
        The weighted sum of the squared errors.
    """

    rows: int
    squares: Array

    def __repr__(self) -> str:
        return f"LeftOut: rows={self.rows:_} | penalties={self.squares.shape[0]}"


@dataclass(frozen=True, eq=False)
class LeftOut:
    r"""Squared errors of leaving out one row at a time, for each of several penalties and each target.

    The error of row i for the fit to all other rows is :math:`e_i / (1 - h_i)` with its residual and its leverage in the
    fit to all rows, so nothing is fitted again.

    Parameters
    ----------
    model : Model or None
        The fits to all rows. None stands for one that is known only after another pass, in a plan.

    References
    ----------
    R. M. Rifkin and R. A. Lippert, "Notes on regularized least squares", MIT-CSAIL-TR-2007-025 (2007).
    """

    model: Model | None = None
    parts: frozenset[str] = frozenset("Xyw")

    def of(self, rows: Rows, /) -> LeftOutState:
        """Return the state of one block."""
        model = self.model
        assert model is not None
        x, y, w = rows.X, rows.y, rows.w
        if not rows.n:
            return LeftOutState(0, np.zeros(model.coef.shape[1:]))
        if w is not None:
            refuse_weights(w)
        # What is not finite is looked for afterwards, in the sums.
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            out = _squares(model, x, y, w)
        if not np.isfinite(out).all():
            self._refuse(x, y)
        return LeftOutState(rows.n, out)

    def _refuse(self, x: Array, y: Any) -> None:
        refuse_nonfinite(x)
        refuse_nonfinite(y, role="y")
        raise DataError(
            "a row determines a coefficient alone: without it there is no fit to compare with. Raise the smallest of the "
            "alphas, or scale the columns"
        )

    def merge(self, a: LeftOutState, b: LeftOutState, /) -> LeftOutState:
        """Return the state of the rows of `a` and `b`."""
        return LeftOutState(a.rows + b.rows, a.squares + b.squares)


def _squares(model: Model, x: Array, y: Any, w: Array | None) -> Array:
    """Return the weighted sum of squared errors, of shape (penalties, targets)."""
    xp = namespace(x)
    wide = float_dtype(x)
    z = _minus(xp.astype(x, wide, copy=False), model.x_mean) @ like(model.axes, x, wide)
    off = _minus(xp.reshape(xp.astype(y, wide, copy=False), (y.shape[0], -1)), model.y_mean)
    z2 = z * z
    weight = None if w is None else xp.reshape(xp.astype(w, wide, copy=False), (-1, 1))
    sums = []
    # One penalty at a time: what is held beside the tile does not grow with their number.
    for k in range(model.share.shape[1]):
        leverage = z2 @ like(model.share[:, [k]], x, wide) + model.constant
        if weight is not None:
            leverage = leverage * weight
        errors = (off - z @ like(model.coef[:, k, :], x, wide)) / (1.0 - leverage)
        errors = errors * errors
        sums.append(xp.sum(errors if weight is None else errors * weight, axis=0))
    total = xp.stack(sums)
    return np.asarray(backend_of(total).to_host(total), dtype=np.float64)


def _minus(x: Array, mean: Array) -> Array:
    """Return ``x - mean``, in two steps where the device holds fewer digits than the mean has."""
    xp = namespace(x)
    held = like(mean, x, x.dtype)
    out = x - held
    if xp.finfo(x.dtype).bits < 64:
        out = out - like(mean - np.asarray(backend_of(held).to_host(held), dtype=np.float64), x, x.dtype)
    return out
