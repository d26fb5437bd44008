"""Squared distances of rows from the centres of classes, as a row map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ooclearn._namespace import float_dtype, like, minus, namespace, ones
from ooclearn.products import rows_times
from ooclearn.statistics.checks import refuse_nonfinite
from ooclearn.types import Array
from ooclearn.unlooked import only_counted

__all__ = ["Quadratics"]


@dataclass(frozen=True, eq=False)
class Quadratics:
    """``constant - |(x - center) @ root|**2 / 2`` for each class; the logarithms of Gaussian densities are such.

    Parameters
    ----------
    centers : ndarray of shape (classes, columns)
        What is subtracted first, so that no digits are lost to a large offset.
    roots : sequence of ndarray
        One matrix for each class; or one row of it where the matrix is diagonal, already squared.
    constants : ndarray of shape (classes,)
        What is added.
    ahead : bool
        Of two classes, return by how much the second is ahead of the first.
    """

    centers: Array
    roots: Sequence[Array]
    constants: Array
    ahead: bool = False

    def __call__(self, block: Array) -> Array:
        """Return one column for each class, or one number for each row; raise for what is not finite."""
        xp = namespace(block)
        wide = float_dtype(block)
        x = xp.astype(block, wide, copy=False)
        with np.errstate(invalid="ignore", over="ignore"):
            distances = [self._distance(x, center, root) for center, root in zip(self.centers, self.roots, strict=True)]
            out = xp.stack(distances, axis=1)
            if not only_counted(block) and not bool(xp.isfinite(xp.sum(out))):
                refuse_nonfinite(block)
            out = like(self.constants, x, wide) - out / 2
            return out[:, 1] - out[:, 0] if self.ahead else out

    def _distance(self, x: Array, center: Array, root: Array) -> Array:
        xp = namespace(x)
        if isinstance(x, np.ndarray):
            off = minus(x, center)
        else:
            off = x - like(center, x, x.dtype)
            if xp.finfo(x.dtype).bits < 64:
                off = off - like(center - center.astype(np.float32), x, x.dtype)
        if root.ndim == 1:
            return (np.multiply(off, off, out=off) if isinstance(off, np.ndarray) else off * off) @ like(
                root, x, x.dtype
            )
        off = rows_times(off, like(root, x, x.dtype))
        return (off * off) @ ones(root.shape[1], x)
