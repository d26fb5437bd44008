"""The sum of a loss over a table, its gradient and its Hessian, for several linear models in one reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ooclearn._namespace import float_dtype, int_dtype, like, namespace, run_of
from ooclearn.backend import backend_of
from ooclearn.buffers import local_buffers
from ooclearn.exceptions import DataError
from ooclearn.linear_model._losses import Loss, Tweedie, is_finite
from ooclearn.rowmaps import Affine
from ooclearn.statistics.checks import refuse_nonfinite, refuse_weights
from ooclearn.statistics.coded import host
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["InDomain", "LossSums", "LossSumsState"]

# Products of class probabilities and columns that are held at a time.
_CELLS = 2**17
# Raw predictions that are held at a time, over all models and classes.
_RAW = 2**20


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
            state = self._sums(rows, m, k)
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
            stop = min(start + step, rows.n)
            run = (part if part is None else run_of(part, start, stop) for part in (rows.X, rows.y, rows.w))
            try:
                of = self.of(type(rows)(*run))
            except DataError as error:
                raise error.located(first_row=start) from error.__cause__
            state = of if state is None else self.merge(state, of)
        assert state is not None
        return state

    def _sums(self, rows: Rows, m: int, k: int) -> LossSumsState:
        a = _augmented(rows.X, self.center)
        xp = namespace(a)
        n = a.shape[1]
        y, w = self.loss.target(rows, a)
        if rows.w is not None:
            refuse_weights(rows.w)
            given = xp.astype(rows.w, a.dtype, copy=False)
            w = given if w is None else w * given
        theta = like(np.stack(self.parameters).reshape(m * k, -1), a, a.dtype)
        raw = xp.reshape(theta @ a, (m, k, n))
        if not self.hessian:
            loss, slope = self.loss.slopes(raw, y)
            slope = xp.reshape(slope if w is None else slope * w, (m * k, n))
            gradient = slope @ xp.matrix_transpose(a)
            return LossSumsState(_summed(loss, w), host(gradient).reshape(m, k, -1))
        first = raw if m == 1 else raw[:1, ...]
        loss, slope, curve = self.loss.curved(first, y)
        sums = [_summed(loss, w)]
        if m > 1:
            sums.append(_summed(self.loss.values(raw[1:, ...], y), w))
        slope = xp.reshape(slope if w is None else slope * w, (k, n))
        gradient = host(slope @ xp.matrix_transpose(a)).reshape(1, k, -1)
        hessian = _single(a, curve, w, convex=self.loss.convex) if k == 1 else _several(a, curve, w)
        return LossSumsState(np.concatenate(sums), gradient, hessian)

    def merge(self, a: LossSumsState, b: LossSumsState, /) -> LossSumsState:
        """Return the state of the rows of `a` and `b`."""
        with np.errstate(invalid="ignore", over="ignore"):
            hessian = None if a.hessian is None or b.hessian is None else a.hessian + b.hessian
            return LossSumsState(a.loss + b.loss, a.gradient + b.gradient, hessian)


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
    return host(namespace(loss).sum(loss, axis=1) if w is None else loss @ w)


def _single(a: Array, curve: Array, w: Array | None, *, convex: bool) -> Array:
    """Return the Hessian of one raw prediction a row; uses up the memory of `a`."""
    xp = namespace(a)
    curve = curve if w is None else curve * w
    if not convex:
        return host((a * curve) @ xp.matrix_transpose(a))[None, :, None, :]
    # The product of a matrix with itself is half the work.
    root = xp.sqrt(curve)
    weighted = np.multiply(a, root, out=a) if isinstance(a, np.ndarray) else a * root
    return host(weighted @ xp.matrix_transpose(weighted))[None, :, None, :]


def _several(a: Array, share: Array, w: Array | None) -> Array:
    """Return the Hessian of one raw prediction for each class.

    The blocks of two classes are sums of products of their probabilities; those of one class with itself follow, since
    the probabilities of a row add up to 1, without subtracting nearly equal numbers.
    """
    xp = namespace(a)
    k, n, d = share.shape[0], a.shape[1], a.shape[0]
    root = share if w is None else share * xp.sqrt(w)
    sums = np.zeros((k * d, k * d))
    step = max(16, _CELLS // (k * d))
    for start in range(0, n, step):
        run = slice(start, min(start + step, n))
        both = xp.expand_dims(root[:, run], axis=1) * xp.expand_dims(a[:, run], axis=0)
        both = xp.reshape(both, (k * d, run.stop - run.start))
        sums += host(both @ xp.matrix_transpose(both))
    hessian = -sums.reshape(k, d, k, d)
    for one in range(k):
        hessian[one, :, one, :] = 0.0
        hessian[one, :, one, :] = -hessian[one].sum(axis=1)
    return hessian


def _of_weight(rows: Rows) -> Rows:
    """Return the rows that have a weight."""
    assert rows.w is not None
    at = np.flatnonzero(backend_of(rows.w).to_host(rows.w))

    def taken(part: Array) -> Array:
        if isinstance(part, np.ndarray):
            return part[at]
        return namespace(part).take(part, like(at, part, int_dtype(part)), axis=0)

    return type(rows)(taken(rows.X), taken(rows.y), taken(rows.w))
