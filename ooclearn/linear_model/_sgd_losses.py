"""What mini-batch descent asks of a loss: its slope, row by row, and the most that the slope can bend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from ooclearn._namespace import namespace
from ooclearn.types import Array

__all__ = ["CLASSIFICATION", "REGRESSION", "SgdLoss", "at_least", "at_most", "sgd_loss"]


@dataclass(frozen=True)
class SgdLoss:
    """A loss of one raw prediction and its target; the signs -1 and 1 stand for classes.

    Attributes
    ----------
    slope : callable
        Takes raw predictions and targets, and returns the derivatives by the former; as scikit-learn's losses have
        them.
    curvature : float
        A bound of the second derivative; 1 for losses with corners.
    smooth : bool
        Whether the slope has no jumps. Where it has, a step of one length for ever goes to and fro about the corners.
    """

    slope: Callable[[Array, Array], Array]
    curvature: float
    smooth: bool = True


# Some libraries' `clip` selects the cells that it changes, and waits for the device to know how many these are.


def at_least(x: Array, low: float, /) -> Array:
    """Return numbers, raised to a least one."""
    xp = namespace(x)
    return xp.maximum(x, xp.full_like(x, low))


def at_most(x: Array, high: Any, /) -> Array:
    """Return numbers, lowered to a largest one, or one for each row."""
    xp = namespace(x)
    return xp.minimum(x, xp.full_like(x, high) if isinstance(high, float) else high)


def _indicator(condition: Array, like: Array) -> Array:
    return namespace(like).astype(condition, like.dtype)


def _hinge(threshold: float) -> Callable[[Array, Array], Array]:
    def slope(raw: Array, sign: Array) -> Array:
        return -sign * _indicator(sign * raw <= threshold, raw)

    return slope


def _log_loss(raw: Array, sign: Array) -> Array:
    return -sign / (1.0 + namespace(raw).exp(sign * raw))


def _squared_hinge(raw: Array, sign: Array) -> Array:
    return -2.0 * sign * at_least(1.0 - sign * raw, 0.0)


def _modified_huber(raw: Array, sign: Array) -> Array:
    return -sign * at_most(at_least(2.0 * (1.0 - sign * raw), 0.0), 4.0)


def _squared_error(raw: Array, y: Array) -> Array:
    return raw - y


def _huber(epsilon: float) -> Callable[[Array, Array], Array]:
    def slope(raw: Array, y: Array) -> Array:
        return at_most(at_least(raw - y, -epsilon), epsilon)

    return slope


def _epsilon_insensitive(epsilon: float) -> Callable[[Array, Array], Array]:
    def slope(raw: Array, y: Array) -> Array:
        error = raw - y
        return _indicator(error > epsilon, raw) - _indicator(error < -epsilon, raw)

    return slope


def _squared_epsilon_insensitive(epsilon: float) -> Callable[[Array, Array], Array]:
    def slope(raw: Array, y: Array) -> Array:
        error = raw - y
        return 2.0 * (error - at_most(at_least(error, -epsilon), epsilon))

    return slope


CLASSIFICATION = {
    "hinge": SgdLoss(_hinge(1.0), 1.0, smooth=False),
    "log_loss": SgdLoss(_log_loss, 0.25),
    "modified_huber": SgdLoss(_modified_huber, 2.0),
    "squared_hinge": SgdLoss(_squared_hinge, 2.0),
    "perceptron": SgdLoss(_hinge(0.0), 1.0, smooth=False),
}
REGRESSION = ("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive")


@cache
def sgd_loss(name: str, epsilon: float = 0.1) -> SgdLoss:
    """Return a loss by scikit-learn's name for it; the same one for the same arguments."""
    if name in CLASSIFICATION:
        return CLASSIFICATION[name]
    return {
        "squared_error": SgdLoss(_squared_error, 1.0),
        "huber": SgdLoss(_huber(epsilon), 1.0),
        "epsilon_insensitive": SgdLoss(_epsilon_insensitive(epsilon), 1.0, smooth=False),
        "squared_epsilon_insensitive": SgdLoss(_squared_epsilon_insensitive(epsilon), 2.0),
    }[name]
