"""What a Gaussian model says of rows, as row maps."""

from __future__ import annotations

from functools import partial
from math import log, pi

import numpy as np

from ooclearn._namespace import namespace
from ooclearn.decisions import finite
from ooclearn.rowmaps import Affine, RowMap, Rowwise, compose
from ooclearn.types import Array

__all__ = ["log_likelihood", "squared_distance"]


def squared_distance(mean: Array, half: Array, /) -> RowMap:
    """Return the map of rows to their squared Mahalanobis distance from `mean`; ``half @ half.T`` is the precision."""
    return _of_whitened(mean, half, partial(_scaled_squares, factor=1.0, constant=0.0))


def log_likelihood(mean: Array, half: Array, logdet: float, /) -> RowMap:
    """Return the map of rows to their log-likelihood; `logdet` is the logarithm of the precision's determinant."""
    constant = 0.5 * (logdet - half.shape[0] * log(2.0 * pi))
    return _of_whitened(mean, half, partial(_scaled_squares, factor=-0.5, constant=constant))


def _of_whitened(mean: Array, half: Array, function: partial[Array]) -> RowMap:
    # A sum of squares cannot come out negative, as rows times the precision times rows can.
    whitened = Affine(half, center=mean, out_dtype=np.dtype(np.float64))
    return compose(whitened, Rowwise(finite), Rowwise(function, n_columns=None))


def _scaled_squares(z: Array, *, factor: float, constant: float) -> Array:
    xp = namespace(z)
    return factor * xp.sum(z * z, axis=1) + constant
