"""Host numbers on a device that may hold fewer digits of them."""

from __future__ import annotations

import numpy as np

from ooclearn._namespace import float_dtype, like, namespace
from ooclearn.types import Array

__all__ = ["as_held", "held_and_rest", "less"]


def as_held(values: Array, x: Array, /) -> Array:
    """Return host `values` as the widest float of the device of `x` holds them; on the host, asking nothing of it."""
    if isinstance(x, np.ndarray) or namespace(x).finfo(float_dtype(x)).bits >= 64:
        return values
    return values.astype(np.float32).astype(np.float64)


def held_and_rest(values: Array, x: Array, /) -> tuple[Array, Array | None]:
    """Return `values` on the device of `x`, and what that does not hold of them; None where it holds all."""
    held = as_held(values, x)
    return like(held, x), None if held is values else like(values - held, x)


def less(x: Array, row: Array, rest: Array | None, /) -> Array:
    """Return ``x - row``, in the second step what the device does not hold of that row."""
    return x - row if rest is None else (x - row) - rest
