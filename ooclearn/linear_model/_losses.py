"""Losses of linear models, one value a row: what is summed, its slope and its curvature, in array-API code.

The values leave out what does not depend on the model, as scikit-learn's losses do. Raw predictions have the shape
(models, raw values a row, rows): several parameter vectors are evaluated at a time, and long rows of numbers are worked
through fastest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ooclearn._namespace import device_of, int_dtype, like, namespace
from ooclearn.backend import backend_of
from ooclearn.exceptions import DataError
from ooclearn.statistics.checks import refuse_nonfinite
from ooclearn.statistics.coded import codes_beside, codes_of, labels_of
from ooclearn.statistics.protocol import Sums
from ooclearn.types import Array

if TYPE_CHECKING:
    from ooclearn.table import Rows

__all__ = ["Binomial", "Loss", "Multinomial", "Tweedie"]


class Loss(Protocol):
    """What a sum of losses asks of a loss."""

    @property
    def n_raw(self) -> int:
        """Raw predictions of a row: 1, or one for each class."""

    @property
    def convex(self) -> bool:
        """Whether no second derivative is below 0."""

    def target(self, rows: Rows, x: Array, /) -> tuple[Array, Array | None]:
        """Return the targets as the loss takes them, and factors of the weights or None; of the library of `x`."""

    def constants(self, rows: Rows, /) -> Sums:
        """Return what targets on the device of ``rows.X`` are made with; it goes there once a pass."""

    def beside(self, rows: Rows, constants: Sums, x: Array, /) -> tuple[Array, Array | None, Any]:
        """Return the same as `target` on a device, with no look at a value, and how many targets are none."""

    def values(self, raw: Array, y: Array, /) -> Array:
        """Return the loss of each row, of shape (models, rows)."""

    def slopes(self, raw: Array, y: Array, /) -> tuple[Array, Array]:
        """Return values, and their derivatives by the raw predictions, of the shape of `raw`."""

    def curved(self, raw: Array, y: Array, /) -> tuple[Array, Array, Array]:
        """Return values, derivatives and, for the one model that `raw` has, what the second derivatives follow from.

        For one raw prediction a row these are the second derivatives, of shape (rows,); for several the probabilities
        of the classes, of shape (classes, rows).
        """


@dataclass(frozen=True, eq=False)
class _OfClasses:
    """What losses of classifications share.

    Parameters
    ----------
    classes : ndarray
        The labels, sorted.
    class_weight : ndarray or None
        A weight for each.
    """

    classes: Array
    class_weight: Array | None = None
    convex: bool = True


@dataclass(frozen=True, eq=False)
class Binomial(_OfClasses):
    """Minus the log-likelihood of two classes; the raw prediction is the log-odds of the second."""

    n_raw: int = 1

    def target(self, rows: Rows, x: Array, /) -> tuple[Array, Array | None]:
        """Return -1 for rows of the second class and 1 for those of the first: what the raw prediction is times."""
        second = labels_of(rows) == self.classes[1]
        sign = like(np.where(second, -1.0, 1.0), x, x.dtype)
        if self.class_weight is None:
            return sign, None
        return sign, like(np.where(second, self.class_weight[1], self.class_weight[0]), x, x.dtype)

    def constants(self, rows: Rows, /) -> Sums:  # noqa: ARG002  (the protocol's)
        """Return nothing."""
        return {}

    def beside(self, rows: Rows, constants: Sums, x: Array, /) -> tuple[Array, Array | None, Any]:  # noqa: ARG002  (the protocol's)
        """Return the signs; labels are compared where they are."""
        xp = namespace(x)
        bad: Any = 0
        if _labels_there(rows):
            y = xp.reshape(rows.y, (-1,))
            second, bad = y == self.classes[1].item(), _not_finite(y, x.dtype)
        else:
            second = like(labels_of(rows) == self.classes[1], x, xp.bool)

        def chosen(yes: float, no: float) -> Array:
            return xp.where(second, xp.full_like(x[0, :], yes), xp.full_like(x[0, :], no))

        weight = None if self.class_weight is None else chosen(float(self.class_weight[1]), float(self.class_weight[0]))
        return chosen(-1.0, 1.0), weight, bad

    def values(self, raw: Array, y: Array, /) -> Array:
        """Return the loss of each row."""
        return self._parts(raw, y)[0][:, 0, :]

    def _parts(self, raw: Array, y: Array) -> tuple[Array, Array, Array]:
        """Return losses, and the exponentials and whether the sign is wrong, from which the derivatives follow."""
        xp = namespace(raw)
        wrong = raw * y
        small = xp.exp(-xp.abs(wrong))
        over = wrong > 0
        return xp.where(over, wrong, xp.zeros_like(wrong)) + xp.log1p(small), small, over

    def slopes(self, raw: Array, y: Array, /) -> tuple[Array, Array]:
        """Return values and derivatives."""
        xp = namespace(raw)
        loss, small, over = self._parts(raw, y)
        return loss[:, 0, :], y * (xp.where(over, xp.ones_like(small), small) / (1.0 + small))

    def curved(self, raw: Array, y: Array, /) -> tuple[Array, Array, Array]:
        """Return values, derivatives and second derivatives."""
        xp = namespace(raw)
        loss, small, over = self._parts(raw, y)
        share = 1.0 / (1.0 + small)
        slope = y * (xp.where(over, xp.ones_like(small), small) * share)
        return loss[:, 0, :], slope, (small * share * share)[0, 0, ...]


@dataclass(frozen=True, eq=False)
class Multinomial(_OfClasses):
    """Minus the log-likelihood of three classes or more; raw predictions are log-probabilities but for a constant."""

    @property
    def n_raw(self) -> int:
        """One raw prediction for each class."""
        return len(self.classes)

    def target(self, rows: Rows, x: Array, /) -> tuple[Array, Array | None]:
        """Return the position of each row's class."""
        codes = self._codes(rows)
        weight = None if self.class_weight is None else like(self.class_weight[codes], x, x.dtype)
        return like(codes, x, int_dtype(x)), weight

    def _codes(self, rows: Rows) -> Array:
        found, codes = codes_of(labels_of(rows), len(self.classes))
        places: Array = np.searchsorted(self.classes, found)
        return places[codes]

    def constants(self, rows: Rows, /) -> Sums:
        """Return the weights of the classes, and the labels where they are looked up on the device."""
        weight = None if self.class_weight is None else like(self.class_weight, rows.X)
        y: Any = rows.y
        return {"class_weight": weight, "labels": like(self.classes, y, y.dtype) if _labels_there(rows) else None}

    def beside(self, rows: Rows, constants: Sums, x: Array, /) -> tuple[Array, Array | None, Any]:
        """Return the position of each row's class; labels are looked up where they are."""
        xp = namespace(x)
        bad: Any = 0
        if constants["labels"] is not None:
            y = xp.reshape(rows.y, (-1,))
            codes, bad = xp.searchsorted(constants["labels"], y), _not_finite(y, x.dtype)
            # NaN has no place among them; any one will do where nothing is made of the sums.
            codes = xp.where(codes < self.n_raw, codes, xp.zeros_like(codes))
        else:
            codes = codes_beside(self._codes(rows), self.n_raw, x)
        weight = None if self.class_weight is None else xp.take(constants["class_weight"], codes, axis=0)
        return codes, weight, bad

    def values(self, raw: Array, y: Array, /) -> Array:
        """Return the loss of each row."""
        return self._parts(raw, y)[0]

    def _parts(self, raw: Array, y: Array) -> tuple[Array, Array, Array]:
        xp = namespace(raw)
        classes = xp.arange(self.n_raw, dtype=y.dtype, device=device_of(y))
        member = xp.astype(xp.expand_dims(y, axis=0) == xp.expand_dims(classes, axis=1), raw.dtype)
        shifted = raw - xp.max(raw, axis=1, keepdims=True)
        expected = xp.exp(shifted)
        total = xp.sum(expected, axis=1, keepdims=True)
        loss = xp.log(total)[:, 0, :] - xp.sum(shifted * member, axis=1)
        return loss, expected / total, member

    def slopes(self, raw: Array, y: Array, /) -> tuple[Array, Array]:
        """Return values and derivatives."""
        loss, share, member = self._parts(raw, y)
        return loss, share - member

    def curved(self, raw: Array, y: Array, /) -> tuple[Array, Array, Array]:
        """Return values, derivatives and the probabilities of the classes."""
        loss, share, member = self._parts(raw, y)
        return loss, share - member, share[0, ...]


@dataclass(frozen=True)
class Tweedie:
    """Half the deviance of the Tweedie family (normal, Poisson, gamma, inverse Gaussian, and between).

    Parameters
    ----------
    power : float
        The variance goes with the mean to this power.
    log : bool
        The raw prediction is the logarithm of the mean rather than the mean.
    name : str
        What scikit-learn calls this loss.
    """

    power: float
    log: bool
    name: str
    n_raw: int = 1

    @property
    def convex(self) -> bool:
        """Whether no second derivative is below 0."""
        return 1 <= self.power <= 2 if self.log else 0 <= self.power <= 1

    def link(self, mean: float) -> float:
        """Return the raw prediction for a mean."""
        return float(np.log(mean)) if self.log else float(mean)

    def refuse(self, y: Array, /) -> None:
        """Raise if a target is outside the domain, with its row."""
        xp = namespace(y)
        if self.power <= 0 or not y.shape[0]:
            return
        wrong = self._wrong(y)
        if not bool(xp.any(wrong)):
            return
        bad = backend_of(wrong).to_host(wrong)
        row = int(np.argmax(bad))
        allowed = "0 or more" if self.power < 2 else "above 0"
        raise DataError(
            f"Some value(s) of y are out of the valid range of the loss {self.name!r}: expected numbers {allowed}; "
            f"{int(bad.sum()):,} of the {len(bad):,} rows that were looked at together are not. This is the first",
            rows=(row, row + 1),
            part="y",
        )

    def _wrong(self, y: Array) -> Array:
        return y < 0 if self.power < 2 else y <= 0

    def outside(self, y: Array, /) -> Array:
        """Return how many targets, in floating numbers, are outside the domain or not finite; it stays on the device."""
        xp = namespace(y)
        bad = xp.logical_not(xp.isfinite(y))
        return xp.sum(xp.astype(bad if self.power <= 0 else bad | self._wrong(y), y.dtype))

    def constants(self, rows: Rows, /) -> Sums:  # noqa: ARG002  (the protocol's)
        """Return nothing."""
        return {}

    def beside(self, rows: Rows, constants: Sums, x: Array, /) -> tuple[Array, Array | None, Any]:  # noqa: ARG002  (the protocol's)
        """Return the targets."""
        xp = namespace(x)
        y = xp.reshape(xp.astype(rows.y, x.dtype, copy=False), (-1,))
        return y, None, self.outside(y)

    def target(self, rows: Rows, x: Array, /) -> tuple[Array, Array | None]:
        """Return the targets."""
        xp = namespace(x)
        assert rows.y is not None
        y = xp.reshape(xp.astype(rows.y, x.dtype, copy=False), (-1,))
        if not bool(xp.isfinite(xp.sum(y))):
            refuse_nonfinite(y, role="y")
        self.refuse(y)
        return y, None

    def values(self, raw: Array, y: Array, /) -> Array:
        """Return the loss of each row; infinite where the raw prediction is no mean."""
        return self._parts(raw, y)[0][:, 0, :]

    def slopes(self, raw: Array, y: Array, /) -> tuple[Array, Array]:
        """Return values and derivatives."""
        loss, slope, _ = self._parts(raw, y)
        return loss[:, 0, :], slope

    def curved(self, raw: Array, y: Array, /) -> tuple[Array, Array, Array]:
        """Return values, derivatives and second derivatives."""
        loss, slope, curve = self._parts(raw, y)
        return loss[:, 0, :], slope, curve[0, 0, ...]

    def _parts(self, raw: Array, y: Array) -> tuple[Array, Array, Array]:
        return self._log(raw, y) if self.log else self._identity(raw, y)

    def _log(self, raw: Array, y: Array) -> tuple[Array, Array, Array]:
        xp, p = namespace(raw), self.power
        if p == 1:
            mean = xp.exp(raw)
            return mean - y * raw, mean - y, mean
        if p == 2:
            ratio = y * xp.exp(-raw)
            return raw + ratio, 1.0 - ratio, ratio
        mean = xp.exp(raw)
        if p == 0:
            off = mean - y
            return 0.5 * off * off, off * mean, mean * (mean + off)
        a, b = xp.exp((2.0 - p) * raw), y * xp.exp((1.0 - p) * raw)
        return a / (2.0 - p) - b / (1.0 - p), a - b, (2.0 - p) * a - (1.0 - p) * b

    def _identity(self, raw: Array, y: Array) -> tuple[Array, Array, Array]:
        xp, p = namespace(raw), self.power
        if p == 0:
            off = raw - y
            return 0.5 * off * off, off, xp.ones_like(raw)
        there = raw > 0
        mean = xp.where(there, raw, xp.ones_like(raw))
        if p == 1:
            loss, slope, curve = mean - y * xp.log(mean), 1.0 - y / mean, y / (mean * mean)
        elif p == 2:
            ratio = y / mean
            loss, slope, curve = xp.log(mean) + ratio, (1.0 - ratio) / mean, (2.0 * ratio - 1.0) / (mean * mean)
        else:
            a, b = mean ** (1.0 - p), y * mean ** (-p)
            loss = a * mean / (2.0 - p) - b * mean / (1.0 - p)
            slope, curve = a - b, ((1.0 - p) * a + p * b) / mean
        return xp.where(there, loss, xp.full_like(loss, float("inf"))), slope, curve

    def null(self, mean: float, variance: float) -> float:
        """Return the mean loss of the model that predicts the mean of the targets for every row."""
        value = float(self.values(np.full((1, 1, 1), self.link(mean)), np.array([mean]))[0, 0])
        return value + 0.5 * variance if self.power == 0 else value

    def to_zero(self, y: Array) -> Array:
        """Return what the loss of each row lacks to be 0 for a perfect prediction; host arrays."""
        p = self.power
        with np.errstate(divide="ignore", invalid="ignore"):
            if p == 0:
                return np.zeros_like(y)
            if p == 1:
                return np.where(y > 0, y * np.log(y), 0.0) - y
            if p == 2:
                return -np.log(y) - 1.0
            return np.maximum(y, 0.0) ** (2.0 - p) / (1.0 - p) / (2.0 - p)

    def curvature_of_null(self, mean: float) -> float:
        """Return the expected second derivative where every row is predicted the mean."""
        return float(mean ** (2.0 - self.power) if self.log else mean ** (-self.power))

    def slope_of_null(self, mean: float) -> float:
        """Return what the derivative there is per unit of prediction minus target."""
        return float(mean ** (1.0 - self.power) if self.log else mean ** (-self.power))


def _labels_there(rows: Rows) -> bool:
    """Say whether labels are numbers on a device, and the host does not have them."""
    return rows.labels is None and rows.y is not None and not isinstance(rows.y, np.ndarray)


def _not_finite(y: Array, dtype: Any) -> Any:
    """Return how many labels are not finite."""
    xp = namespace(y)
    if not xp.isdtype(y.dtype, "real floating"):
        return 0
    return xp.sum(xp.astype(xp.logical_not(xp.isfinite(y)), dtype))


def is_finite(*values: Any) -> bool:
    """Say whether all host arrays are finite."""
    return all(bool(np.isfinite(value).all()) for value in values)
