r"""Mini-batch stochastic gradient descent of linear models, in array-API code that looks at no value.

A step over a batch of :math:`B` rows is the mean gradient times the sum of the steps that as many rows would make one by
one, but never more than is stable. Row by row, a step is stable up to about :math:`1 / c\beta`, where :math:`c` bounds
the second derivative of the loss and :math:`\beta` the squared length of a row; for the mean over a batch that becomes

.. math:: \frac{B}{c \, (\beta + (B - 1) \lambda)}

with :math:`\lambda` the largest eigenvalue of the mean of :math:`x x^T` (S. Ma, R. Bassily and M. Belkin, "The power of
interpolation", ICML 2018). Its eigenvector is followed by one step of the power method a batch, which rides in the two
matrix products that predictions and gradients are made by. For losses with corners, whose slope does not fade towards the
optimum, this bound is divided by :math:`\sqrt{1 + b / 16}` after :math:`b` batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np

from ooclearn._namespace import device_of, float_dtype, is_numpy, like, matmul, namespace
from ooclearn.linear_model._sgd_losses import SgdLoss, at_least, at_most
from ooclearn.types import Array

__all__ = ["Batch", "Descent", "Held", "Penalty", "Schedule", "begun", "descended", "of_model", "side_by_side"]

# The arrays that training goes on from, by name; on the device of the rows, or on the host.
Held = dict[str, Any]

# Steps of the power method on the first batch; later batches make one each.
_FIRST_STEPS = 8
# Batches after which steps are shorter by the square root of 2, for losses with corners.
_CORNERS = 16
# What is held once, not for each model.
_OF_ALL = ("top", "weight")
# For so many batches settings are sent to a device at once: some libraries wait for it to send anything.
_AHEAD = 32


@dataclass(frozen=True)
class Schedule:
    """The steps of rows that are learned from one by one, as scikit-learn's SGD makes them."""

    kind: str
    eta0: float
    power_t: float
    alpha: float

    def total(self, t: float, rows: int, /) -> float:
        """Return the sum of the steps of so many rows, of which the first is row `t` of all, counted from 1."""
        if self.kind == "constant":
            return self.eta0 * rows
        if self.kind == "optimal":
            # The first step is that by which coefficients get a size that is typical of this penalty.
            first = math.sqrt(1.0 / math.sqrt(self.alpha))
            row = np.arange(rows) + (1.0 / (first * self.alpha) + (t - 1.0))
            return float(np.sum(1.0 / row)) / self.alpha
        return self.eta0 * _powers(self.power_t, t, rows)


@lru_cache(maxsize=4096)
def _total(schedule: Schedule, t: int, rows: int) -> float:
    return schedule.total(t, rows)


@lru_cache(maxsize=64)
def _powers(power_t: float, t: float, rows: int) -> float:
    """Return the sum over rows of their numbers to the power ``-power_t``; models trained side by side ask for the same."""
    return float(np.sum((t + np.arange(rows)) ** -float(power_t)))


@dataclass(frozen=True)
class Penalty:
    """The factors of half the squares of the coefficients, and of their absolute values."""

    l2: float
    l1: float

    @classmethod
    def named(cls, name: str | None, alpha: float, l1_ratio: float | None) -> Penalty:
        """Return a penalty by scikit-learn's name for it."""
        share = {None: 0.0, "l2": 0.0, "l1": 1.0}.get(name, l1_ratio)
        assert share is not None
        return cls(0.0, 0.0) if name is None else cls(alpha * (1.0 - share), alpha * share)


@dataclass(frozen=True, eq=False)
class Descent:
    """How linear models are trained; several at once, each with a penalty and a schedule of its own.

    Attributes
    ----------
    losses, penalties, schedules : sequence of SgdLoss, Penalty, Schedule
        One for each model; it is best if equal losses are side by side.
    fit_intercept : bool
        Whether models have constants, which are not penalised.
    average : int
        From which row on the models are averaged; 0 for never.
    batch_rows : int
        Rows of a batch that is no epoch's last.
    """

    losses: Sequence[SgdLoss]
    penalties: Sequence[Penalty]
    schedules: Sequence[Schedule]
    fit_intercept: bool = True
    average: int = 0
    batch_rows: int = 1
    # What has been sent to a device for the coming batches.
    ahead: dict[Any, Array] = field(default_factory=dict, init=False, repr=False)

    def settings(self, t: int, rows: int, /) -> list[list[float]]:
        """Return bound of the curvature, both factors of the penalty, and sum of the steps, of each model for a batch."""
        corners = math.sqrt(1.0 + (t - 1) / self.batch_rows / _CORNERS)
        return [
            [one.curvature * (1.0 if one.smooth else corners) / rows for one in self.losses],
            [one.l2 for one in self.penalties],
            [one.l1 for one in self.penalties],
            [_total(one, t, rows) for one in self.schedules],
        ]

    @property
    def models(self) -> int:
        """How many models are trained."""
        return len(self.penalties)


@dataclass(frozen=True, eq=False)
class Batch:
    """The rows of a step.

    Attributes
    ----------
    x : array of shape (rows, columns)
        In a floating dtype.
    target : array of shape (outputs, rows)
        What each output of a model is to be for each row, in the dtype of `x`.
    weight : array of shape (1, rows) or (outputs, rows), or None
        Weights of the rows, if they have any; in the dtype of `x`.
    """

    x: Array
    target: Array
    weight: Array | None = None


def begun(descent: Descent, batch: Batch, /) -> Held:
    """Return models of zeros, on the device of a batch, whose rows the power method is begun with."""
    x = batch.x
    xp = namespace(x)
    wide, device = float_dtype(x), device_of(x)
    rows, columns = descent.models * batch.target.shape[0], x.shape[1]
    curves = 1 if batch.weight is None else batch.weight.shape[0]
    # No column may be left out by chance, and all runs are to be the same.
    start = np.random.default_rng(0).standard_normal((1, columns + 1))
    start[:, -1] *= descent.fit_intercept
    top = like(np.tile(start / np.linalg.norm(start), (curves, 1)), x, wide)
    held = {
        "coef": xp.zeros((rows, columns), dtype=wide, device=device),
        "constant": xp.zeros((rows, 1), dtype=wide, device=device),
        "trouble": xp.zeros((rows, 1), dtype=wide, device=device),
    }
    for _ in range(_FIRST_STEPS):
        top = _followed(*_gradients(descent, batch, top, _raw(batch, top)), top)[0]
    return held | {"top": top}


def descended(held: Held, descent: Descent, batch: Batch, t: int, /) -> Held:
    """Return the models after a step.

    Parameters
    ----------
    held : dict
        The models before it. Its arrays are not written to.
    descent : Descent
        How to train.
    batch : Batch
        The rows.
    t : int
        The number of the first of them, counted from 1 over all that were learned from.
    """
    xp = namespace(batch.x)
    rows, models = batch.x.shape[0], descent.models
    coef, constant, top = held["coef"], held["constant"], held["top"]
    n, outputs, curves = coef.shape[0], coef.shape[0] // models, top.shape[0]
    raw = _raw(batch, xp.concat([xp.concat([coef, constant], axis=1), top], axis=0))
    slope = _slopes(descent, raw[:n, :], batch.target)
    gradient, offset = _gradients(descent, batch, top, xp.concat([slope, raw[n:, :]], axis=0))
    top, curve = _followed(gradient[n:, :], offset[n:, :], top)

    longest = _longest_row(descent, batch)
    bend = xp.astype(longest, curve.dtype, copy=False) + (rows - 1) * curve
    curvature, l2, l1, total = _of_models(descent, t, rows, outputs, coef)
    bend = curvature * (bend if curves == 1 else _for_each(bend, models))
    step = at_most(1.0 / (bend + l2), total)

    coef = coef - step * (l2 * coef + gradient[:n, :])
    constant = constant - step * offset[:n, :]
    # Rows that are too long for their square would stop the descent without a word.
    trouble = held["trouble"] + 0.0 * bend
    out = held | {"coef": coef, "constant": constant, "top": top, "trouble": trouble}
    if any(one.l1 for one in descent.penalties):
        out |= _shrunk(coef, held, step * l1)
    seen = t + rows - descent.average
    if descent.average and seen > 0:
        share = min(rows, seen) / seen
        for name in ("coef", "constant"):
            mean = held.get(f"mean_{name}", out[name])
            out[f"mean_{name}"] = mean + share * (out[name] - mean)
    return out


def side_by_side(descents: Sequence[Descent], helds: Sequence[Held | None], /) -> tuple[Descent, Held | None]:
    """Return models, each trained with the same rows so far or with none, as models that are trained at once."""
    descent = replace(
        descents[0],
        losses=[one for descent in descents for one in descent.losses],
        penalties=[one for descent in descents for one in descent.penalties],
        schedules=[one for descent in descents for one in descent.schedules],
    )
    first = helds[0]
    if first is None:
        return descent, None
    xp = namespace(first["coef"])
    out = {}
    for name in dict.fromkeys(name for held in helds if held for name in held):
        # Models without a penalty on absolute values have not been owed anything.
        shaped = {"owed": "constant", "paid": "coef"}.get(name, name)
        every = [held.get(name, xp.zeros_like(held[shaped])) for held in helds if held]
        out[name] = first[name] if name in _OF_ALL else xp.concat(every, axis=0)
    return descent, out


def of_model(held: Held, descent: Descent, model: int, /) -> Held:
    """Return what is held for one of several models, as if it had been trained alone."""
    outputs = held["coef"].shape[0] // descent.models
    penalised = descent.penalties[model].l1 > 0.0
    return {
        name: value if name in _OF_ALL else value[model * outputs : (model + 1) * outputs, :]
        for name, value in held.items()
        if penalised or name not in ("owed", "paid")
    }


def _slopes(descent: Descent, raw: Array, target: Array) -> Array:
    """Return the slopes of the losses, for raw predictions of all models."""
    xp = namespace(raw)
    rows = raw.shape[1]
    found, start = [], 0
    for loss, run in groupby(descent.losses):
        models = len(list(run))
        stop = start + models * target.shape[0]
        # No target is copied for a model.
        part = xp.reshape(raw[start:stop, :], (models, *target.shape))
        found.append(xp.reshape(loss.slope(part, xp.expand_dims(target, axis=0)), (stop - start, rows)))
        start = stop
    return found[0] if len(found) == 1 else xp.concat(found, axis=0)


def _shrunk(coef: Array, held: Held, more: Array) -> Held:
    """Return coefficients nearer to 0 by the penalty on absolute values, but not beyond it.

    What a coefficient could have been moved by so far is ``owed``, what it was is ``paid``: the noise of a batch does
    not undo what was owed before (Y. Tsuruoka, J. Tsujii and S. Ananiadou, "Stochastic gradient descent training for
    L1-regularized log-linear models with cumulative penalty", ACL 2009), as in scikit-learn.
    """
    xp = namespace(coef)
    owed = held["owed"] + more if "owed" in held else more + xp.zeros_like(coef[:, :1])
    paid = held["paid"] if "paid" in held else xp.zeros_like(coef)
    down, up = at_least(coef - (owed + paid), 0.0), at_most(coef + (owed - paid), 0.0)
    shrunk = xp.where(coef > 0.0, down, up)
    return {"coef": shrunk, "owed": owed, "paid": paid + (shrunk - coef)}


def _raw(batch: Batch, parameters: Array) -> Array:
    """Return what linear functions, whose last parameter is the constant, give for the rows."""
    xp = namespace(batch.x)
    parameters = xp.astype(parameters, batch.x.dtype, copy=False)
    return parameters[:, :-1] @ xp.matrix_transpose(batch.x) + parameters[:, -1:]


def _gradients(descent: Descent, batch: Batch, top: Array, slopes: Array) -> tuple[Array, Array]:
    """Return the mean over rows of ``slopes * x``, and of ``slopes`` alone, in the dtype of `top`.

    The last slopes, as many as `top` has rows, are those of the power method.
    """
    xp = namespace(batch.x)
    if batch.weight is not None:
        rest = slopes.shape[0] - top.shape[0]
        weight = batch.weight
        if weight.shape[0] > 1:
            weight = _for_each(weight, rest // weight.shape[0] + 1)
        slopes = slopes * weight
    rows = batch.x.shape[0]
    gradient = xp.astype(matmul(slopes, batch.x), top.dtype, copy=False) / rows
    offset = xp.astype(xp.sum(slopes, axis=1, keepdims=True), top.dtype, copy=False) / rows
    return gradient, offset if descent.fit_intercept else xp.zeros_like(offset)


def _followed(gradient: Array, offset: Array, top: Array) -> tuple[Array, Array]:
    """Return the next vectors of the power method and how much longer they had become."""
    xp = namespace(top)
    longer = xp.concat([gradient, offset], axis=1)
    curve = xp.sqrt(xp.sum(longer * longer, axis=1, keepdims=True))
    return xp.where(curve > 0.0, longer / xp.where(curve > 0.0, curve, xp.ones_like(curve)), top), curve


def _longest_row(descent: Descent, batch: Batch) -> Array:
    """Return the largest squared length of a row, times its weight."""
    xp = namespace(batch.x)
    squares = xp.vecdot(batch.x, batch.x) if is_numpy(batch.x) else xp.sum(batch.x * batch.x, axis=1)
    squares = squares + (1.0 if descent.fit_intercept else 0.0)
    squares = xp.expand_dims(squares, axis=0)
    return xp.max(squares if batch.weight is None else squares * batch.weight, axis=1, keepdims=True)


def _for_each(values: Array, models: int) -> Array:
    """Return the rows of `values`, one for each output, as one for each output of each model."""
    return values if models == 1 else namespace(values).tile(values, (models, 1))


def _of_models(descent: Descent, t: int, rows: int, outputs: int, x: Array) -> list[Any]:
    """Return each of the settings as one for each row of the coefficients; as a number if those of all models are equal."""
    settings = descent.settings(t, rows)
    numbers = [float(values[0]) if all(value == values[0] for value in values) else None for values in settings]
    if None not in numbers:
        return numbers
    columns = _sent(descent, t, rows, outputs, x)
    return [columns[:, k : k + 1] if number is None else number for k, number in enumerate(numbers)]


def _sent(descent: Descent, t: int, rows: int, outputs: int, x: Array) -> Array:
    """Return the settings for a batch, one row for each row of the coefficients, on their device."""

    def repeated(first: int) -> Array:
        return np.repeat(np.asarray(descent.settings(first, rows), dtype=np.float64).T, outputs, axis=0)

    if is_numpy(x):
        return repeated(t)
    there = f"{x.dtype} {device_of(x)}"
    if (t, rows, there) not in descent.ahead:
        count = _AHEAD if rows == descent.batch_rows else 1
        sent = like(np.stack([repeated(t + k * rows) for k in range(count)]), x, x.dtype)
        descent.ahead.clear()
        descent.ahead.update({(t + k * rows, rows, there): sent[k, ...] for k in range(count)})
    return descent.ahead[t, rows, there]
