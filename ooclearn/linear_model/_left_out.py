"""Errors that a ridge regression makes on each row when it is fitted to all others, summed over rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn._namespace import like, namespace
from ooclearn.exceptions import DataError
from ooclearn.products import rows_times
from ooclearn.statistics.added import added, as_columns, weight_sums, widened
from ooclearn.statistics.checks import refuse_nonfinite, refuse_weights
from ooclearn.statistics.coded import host
from ooclearn.statistics.held import held_and_rest, less
from ooclearn.statistics.protocol import Sums
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["LeftOut", "LeftOutState", "Model"]

# What is left of 1 once the leverage is subtracted has few digits below this, and the error of the row no more.
_LEAST_REST = 1e-10


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

    The error of row i for the fit to all other rows is :math:`e_i / (1 - h_i)` with its residual and its leverage in
    the fit to all rows, so nothing is fitted again.

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
            weight = None if w is None else widened(w)
            out = host(_squares(self.origin(rows), model.constant, rows, weight))
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

    def origin(self, rows: Rows, /) -> Sums:
        """Return the model on the device."""
        model, x = self.model, rows.X
        assert model is not None
        (x_mean, x_rest), (y_mean, y_rest) = held_and_rest(model.x_mean, x), held_and_rest(model.y_mean, x)
        means = {"x_mean": x_mean, "x_rest": x_rest, "y_mean": y_mean, "y_rest": y_rest}
        return {**means, "axes": like(model.axes, x), "coef": like(model.coef, x), "share": like(model.share, x)}

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return the sums of squared errors, and how many weights are none."""
        assert self.model is not None
        with np.errstate(all="ignore"):
            weight, bad = weight_sums(rows.w, widened(rows.X))
            return {"squares": _squares(origin, self.model.constant, rows, weight), "bad": bad}

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks."""
        return added(a, b)

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> LeftOutState | None:  # noqa: ARG002  (the protocol's)
        """Return the state of all rows; None where a cell or a weight is none, or a row determines a coefficient."""
        if sums["bad"] or not np.isfinite(sums["squares"]).all():
            return None
        return LeftOutState(rows, sums["squares"])


def _squares(model: Sums, constant: float, rows: Rows, w: Array | None) -> Array:
    """Return the weighted sum of squared errors, of shape (penalties, targets)."""
    assert rows.y is not None
    x, y = widened(rows.X), as_columns(rows.y)
    xp = namespace(x)
    z = rows_times(less(x, model["x_mean"], model["x_rest"]), model["axes"])
    off = less(y, model["y_mean"], model["y_rest"])
    z2 = z * z
    weight = None if w is None else xp.reshape(w, (-1, 1))
    sums = []
    # One penalty at a time: what is held beside the tile does not grow with their number.
    for k in range(model["share"].shape[1]):
        leverage = z2 @ model["share"][:, k : k + 1] + constant
        if weight is not None:
            leverage = leverage * weight
        rest = 1.0 - leverage
        rest = xp.where(rest > _LEAST_REST, rest, xp.zeros_like(rest))
        errors = (off - z @ model["coef"][:, k, :]) / rest
        errors = errors * errors
        sums.append(xp.sum(errors if weight is None else errors * weight, axis=0))
    return xp.stack(sums)
