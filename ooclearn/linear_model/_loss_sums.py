"""The sum of a loss over a table, its gradient and its Hessian, for several linear models in one reading."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn._namespace import float_dtype, int_dtype, like, matmul, namespace, ones, run_of
from ooclearn.backend import backend_of
from ooclearn.buffers import local_buffers
from ooclearn.exceptions import DataError
from ooclearn.linear_model._losses import Loss, Tweedie, is_finite
from ooclearn.products import product
from ooclearn.rowmaps import Affine
from ooclearn.statistics.added import added, weight_sums, widened
from ooclearn.statistics.checks import refuse_nonfinite, refuse_weights
from ooclearn.statistics.coded import host
from ooclearn.statistics.held import held_and_rest, less
from ooclearn.statistics.protocol import Sums
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["InDomain", "LossSums", "LossSumsState"]

# Products of class probabilities and columns that are held at a time.
_CELLS = 2**17
# Raw predictions that are held at a time, over all models and classes.
_RAW = 2**20
# The same on a device, where what is given to it in one piece should be large: some of these beside a block of 64 MiB.
_CELLS_THERE = 2**22
_RAW_THERE = 2**21


@dataclass(frozen=True, eq=False)
class LossSumsState:
    """State of :class:`LossSums`.

    Attributes
    ----------
    loss : ndarray of shape (models,)
        The weighted sum of the loss for each parameter vector; infinite where it overflows.
    gradient : ndarray of shape (models, raw, columns + 1) or (1, raw, columns + 1)
        The derivatives by the parameters, at each of the vectors, or at the first alone.
    hessian : ndarray of shape (raw, columns + 1, raw, columns + 1) or None
        The second derivatives at the first vector.
    """

    loss: Array
    gradient: Array
    hessian: Array | None = None

    def __repr__(self) -> str:
        return f"LossSums: models={len(self.loss)} | columns={self.gradient.shape[-1] - 1}"


@dataclass(frozen=True, eq=False)
class LossSums:
    """Weighted sum of a loss for several linear models, with gradients, and a Hessian at the first.

    A tile is centred, and the Hessian is one product of it with itself, weighted by the second derivatives, so columns
    far from 0 lose no digits. Missing values and infinities are refused, with the place.

    Memory on a device: beside a block, three of its size in the widest float, and some runs of 16 MiB.

    Parameters
    ----------
    loss : Loss
        Of one row.
    center : ndarray of shape (columns,)
        What is subtracted from the rows first.
    parameters : tuple of ndarray of shape (raw, columns + 1)
        The coefficients of each model, and behind them its constant, for rows that are centred.
    hessian : bool
        Give gradient and Hessian at the first vector; else gradients at all.
    """

    loss: Loss
    center: Array
    parameters: tuple[Array, ...]
    hessian: bool = True
    parts: frozenset[str] = frozenset("Xyw")

    def of(self, rows: Rows, /) -> LossSumsState:
        """Return the state of one block."""
        n, d = rows.X.shape
        m, k = len(self.parameters), self.loss.n_raw
        if n == 0:
            sums = np.zeros((k, d + 1, k, d + 1)) if self.hessian else None
            return LossSumsState(np.zeros(m), np.zeros((1 if self.hessian else m, k, d + 1)), sums)
        step = max(64, _RAW // (m * k))
        if n > step:
            return self._in_runs(rows, step)
        with np.errstate(all="ignore"):
            state = self._of(rows, m, k)
        if not is_finite(state.loss, state.gradient) or (state.hessian is not None and not is_finite(state.hessian)):
            refuse_nonfinite(rows.X)
            if rows.w is not None and bool(namespace(rows.w).any(rows.w == 0)):
                return self.of(_of_weight(rows))
            # An overflow: a step that went too far.
            return LossSumsState(np.where(np.isfinite(state.loss), state.loss, np.inf), state.gradient, state.hessian)
        return state

    def _in_runs(self, rows: Rows, step: int) -> LossSumsState:
        """Return the state of a tile that has too many raw predictions to be held at once."""
        state = None
        for start in range(0, rows.n, step):
            try:
                of = self.of(_run(rows, start, min(start + step, rows.n)))
            except DataError as error:
                raise error.located(first_row=start) from error.__cause__
            state = of if state is None else self.merge(state, of)
        assert state is not None
        return state

    def _of(self, rows: Rows, m: int, k: int) -> LossSumsState:
        a = _augmented(rows.X, self.center)
        xp = namespace(a)
        y, w = self.loss.target(rows, a)
        if rows.w is not None:
            refuse_weights(rows.w)
            given = xp.astype(rows.w, a.dtype, copy=False)
            w = given if w is None else w * given
        raw = xp.reshape(like(self._stacked(), a, a.dtype) @ a, (m, k, a.shape[1]))
        loss, gradient, products = self._products(a, raw, y, w, _CELLS)
        return self._state(host(loss), host(gradient), None if products is None else host(products))

    def _stacked(self) -> Array:
        """Return the parameters, one row for each raw prediction of each model."""
        stacked: Array = np.stack(self.parameters)
        return stacked.reshape(-1, stacked.shape[-1])

    def _products(
        self, a: Array, raw: Array, y: Array, w: Array | None, cells: int
    ) -> tuple[Array, Array, Array | None]:
        """Return sums of losses, of slopes with columns, and of curvatures with pairs of columns; uses `a` up."""
        xp = namespace(a)
        m, k, n = raw.shape
        if not self.hessian:
            loss, slope = self.loss.slopes(raw, y)
            slope = xp.reshape(slope if w is None else slope * w, (m * k, n))
            return _summed(loss, w), matmul(slope, xp.matrix_transpose(a)), None
        loss, slope, curve = self.loss.curved(raw[:1, ...], y)
        sums = _summed(loss, w)
        if m > 1:
            sums = xp.concat([sums, _summed(self.loss.values(raw[1:, ...], y), w)])
        slope = xp.reshape(slope if w is None else slope * w, (k, n))
        gradient = matmul(slope, xp.matrix_transpose(a))
        if k == 1:
            return sums, gradient, _single(a, curve, w, convex=self.loss.convex)
        return sums, gradient, _several(a, curve, w, cells)

    def _state(self, loss: Array, gradient: Array, products: Array | None) -> LossSumsState:
        """Return the state from sums on the host."""
        k, d = self.loss.n_raw, gradient.shape[-1]
        gradient = gradient.reshape(-1, k, d)
        if products is None:
            return LossSumsState(loss, gradient)
        return LossSumsState(loss, gradient, products[None, :, None, :] if k == 1 else _with_diagonal(products, k, d))

    def merge(self, a: LossSumsState, b: LossSumsState, /) -> LossSumsState:
        """Return the state of the rows of `a` and `b`."""
        with np.errstate(invalid="ignore", over="ignore"):
            hessian = None if a.hessian is None or b.hessian is None else a.hessian + b.hessian
            return LossSumsState(a.loss + b.loss, a.gradient + b.gradient, hessian)

    def origin(self, rows: Rows, /) -> Sums:
        """Return what the host knows and the device needs: the centre, the parameters, and constants of the loss."""
        center, rest = held_and_rest(self.center, rows.X)
        constants = self.loss.constants(rows)
        return {"center": center, "rest": rest, "theta": like(self._stacked(), rows.X), **constants}

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:
        """Return the sums of losses, slopes and curvatures, and what tells of cells that are none."""
        step = max(64, _RAW_THERE // (len(self.parameters) * self.loss.n_raw))
        total: Sums | None = None
        with np.errstate(all="ignore"):
            for start in range(0, rows.n, step):
                run = rows if rows.n <= step else _run(rows, start, min(start + step, rows.n))
                sums = self._sums(run, origin)
                total = sums if total is None else self.add(total, sums)
        assert total is not None
        return total

    def _sums(self, rows: Rows, origin: Sums) -> Sums:
        x = less(widened(rows.X), origin["center"], origin["rest"])
        xp = namespace(x)
        columns = xp.matrix_transpose(x)
        a = xp.concat([columns, xp.ones_like(columns[:1, :])], axis=0)
        y, w, bad = self.loss.beside(rows, origin, a)
        given, none = weight_sums(rows.w, x)
        if given is not None:
            w = given if w is None else w * given
        raw = xp.reshape(origin["theta"] @ a, (len(self.parameters), self.loss.n_raw, rows.n))
        if w is not None:
            # Where rows count nothing, their losses must be finite: infinity times 0 is none.
            raw = xp.where(w > 0, raw, xp.ones_like(raw))
        # Cells that are not finite leave their mark here; elsewhere it may be an overflow.
        cells = matmul(a, ones(rows.n, a))
        loss, gradient, products = self._products(a, raw, y, w, _CELLS_THERE)
        return {"loss": loss, "gradient": gradient, "products": products, "cells": cells, "bad": bad + none}

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sums of two runs of blocks."""
        return added(a, b)

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> LossSumsState | None:  # noqa: ARG002  (the protocol's)
        """Return the state of all rows; None where a cell is not finite, or a target or a weight is none."""
        if sums["bad"] or not is_finite(sums["cells"]):
            return None
        # An overflow, of a step that went too far, is an infinite loss.
        loss = np.where(np.isfinite(sums["loss"]), sums["loss"], np.inf)
        with np.errstate(invalid="ignore"):
            return self._state(loss, sums["gradient"], sums["products"])


@dataclass(frozen=True)
class InDomain:
    """Refuse targets outside the domain of a loss before anything else is done; the state is the number of rows."""

    loss: Tweedie
    parts: frozenset[str] = frozenset("y")

    def of(self, rows: Rows, /) -> int:
        """Return the number of rows."""
        y = rows.y
        assert y is not None
        refuse_nonfinite(y, role="y")
        self.loss.refuse(namespace(y).astype(y, float_dtype(y), copy=False))
        return int(y.shape[0])

    def merge(self, a: int, b: int, /) -> int:
        """Return the sum."""
        return a + b

    def origin(self, rows: Rows, /) -> Sums:  # noqa: ARG002  (nothing is centred)
        """Return nothing."""
        return {}

    def sums(self, rows: Rows, origin: Sums, /) -> Sums:  # noqa: ARG002  (the protocol's)
        """Return how many targets are none of the domain."""
        assert rows.y is not None
        return {"outside": self.loss.outside(widened(rows.y))}

    def add(self, a: Sums, b: Sums, /) -> Sums:
        """Return the sum."""
        return added(a, b)

    def state(self, origin: Sums, sums: Sums, rows: int, /) -> int | None:  # noqa: ARG002  (the protocol's)
        """Return the number of rows; None where one is outside."""
        return None if sums["outside"] else rows


def _augmented(x: Array, center: Array) -> Array:
    """Return the centred rows as columns, below them a row of ones."""
    n, d = x.shape
    if isinstance(x, np.ndarray):
        out = local_buffers().empty((d + 1, n), np.dtype(np.float64))
        np.subtract(x.T, center[:, None], out=out[:d])
        out[d] = 1.0
        return out
    xp = namespace(x)
    wide = xp.astype(x, float_dtype(x), copy=False)
    centred: Any = Affine(center=center)(wide)
    return xp.concat([xp.matrix_transpose(centred), xp.ones_like(xp.matrix_transpose(centred)[:1, :])], axis=0)


def _summed(loss: Array, w: Array | None) -> Array:
    """Return the sums over rows, of shape (models,)."""
    return namespace(loss).sum(loss, axis=1) if w is None else matmul(loss, w)


def _single(a: Array, curve: Array, w: Array | None, *, convex: bool) -> Array:
    """Return the Hessian of one raw prediction a row; uses up the memory of `a`."""
    xp = namespace(a)
    curve = curve if w is None else curve * w
    if not convex:
        return product(xp.matrix_transpose(a * curve), xp.matrix_transpose(a))
    # The product of a matrix with itself is half the work.
    root = xp.sqrt(curve)
    weighted = xp.matrix_transpose(np.multiply(a, root, out=a) if isinstance(a, np.ndarray) else a * root)
    return product(weighted, weighted)


def _several(a: Array, share: Array, w: Array | None, cells: int) -> Array:
    """Return the sums of products of probabilities of two classes and two columns; `cells` are held at a time."""
    xp = namespace(a)
    k, n, d = share.shape[0], a.shape[1], a.shape[0]
    root = share if w is None else share * xp.sqrt(w)
    sums: Any = None
    step = max(16, cells // (k * d))
    for start in range(0, n, step):
        run = slice(start, min(start + step, n))
        both = xp.expand_dims(root[:, run], axis=1) * xp.expand_dims(a[:, run], axis=0)
        both = xp.matrix_transpose(xp.reshape(both, (k * d, run.stop - run.start)))
        if sums is None:
            sums = product(both, both)
        else:
            sums += product(both, both)
    return sums


def _with_diagonal(products: Array, k: int, d: int) -> Array:
    """Return the Hessian of one raw prediction for each class.

    The blocks of two classes are sums of products of their probabilities; those of one class with itself follow, since
    the probabilities of a row add up to 1, without subtracting nearly equal numbers.
    """
    hessian = -products.reshape(k, d, k, d)
    for one in range(k):
        hessian[one, :, one, :] = 0.0
        hessian[one, :, one, :] = -hessian[one].sum(axis=1)
    return hessian


def _run(rows: Rows, start: int, stop: int) -> Rows:
    """Return a run of rows."""
    parts = {
        name: None if part is None else run_of(part, start, stop)
        for name, part in (("X", rows.X), ("y", rows.y), ("w", rows.w), ("labels", rows.labels))
    }
    return replace(rows, **parts)


def _of_weight(rows: Rows) -> Rows:
    """Return the rows that have a weight."""
    assert rows.w is not None
    at = np.flatnonzero(backend_of(rows.w).to_host(rows.w))

    def taken(part: Array) -> Array:
        if isinstance(part, np.ndarray):
            return part[at]
        return namespace(part).take(part, like(at, part, int_dtype(part)), axis=0)

    labels = None if rows.labels is None else taken(rows.labels)
    return replace(rows, X=taken(rows.X), y=taken(rows.y), w=taken(rows.w), labels=labels)
