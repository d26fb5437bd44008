"""Eigenvectors and inverses of scatter matrices, found on the correlation scale."""

from __future__ import annotations

import numpy as np

from ooclearn.types import Array

__all__ = ["axes_of", "axes_of_product", "axes_of_scatter", "inverse_root", "root", "signed"]

# Columns whose scales differ by no more than this lose less than two digits of small eigenvalues to the largest.
_EVEN = 16.0


def root(scatter: Array, /) -> Array:
    r"""Return a matrix G of full row rank with ``G.T @ G == scatter``.

    The scatter matrix is brought to the correlation scale, :math:`S = D R D` with ones on the diagonal of R, and
    :math:`G = \Lambda^{1/2} Q^T D` is made of the eigenvectors of R. Rounding in S is relative to the scale of the
    columns, so R holds all the digits that there are, however different the scales. Eigenvalues of R that are rounding
    alone count as zero.

    Parameters
    ----------
    scatter : ndarray of shape (d, d)
        Symmetric and positive semi-definite but for rounding.

    Returns
    -------
    ndarray of shape (rank, d)
        Its rows decrease; there is at least one, which may be zero.
    """
    scale = np.sqrt(np.diagonal(scatter))
    safe = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(scatter / safe[:, None] / safe)
    values, vectors = values[::-1], vectors[:, ::-1]
    rank = max(1, int(np.sum(values > _noise(values))))
    out: Array = np.sqrt(np.maximum(values[:rank], 0.0))[:, None] * vectors[:, :rank].T * scale
    return out


def axes_of(factor: Array, /) -> tuple[Array, Array]:
    """Return the eigenvalues of ``factor.T @ factor`` from the largest down, and the eigenvectors as rows.

    They are the singular values squared and the right singular vectors of `factor`: forming the product would square
    its condition. The signs are scikit-learn's.
    """
    _, singular, axes = np.linalg.svd(factor)
    values = np.zeros(factor.shape[1])
    values[: len(singular)] = singular * singular
    return values, signed(axes)


def axes_of_product(scatter: Array, /) -> tuple[Array, Array]:
    """Return what :func:`axes_of` does, from the product itself: faster, and eigenvalues that are rounding are zero."""
    values, vectors = np.linalg.eigh(scatter)
    return np.where(values > _noise(values), values, 0.0)[::-1], signed(vectors.T[::-1])


def axes_of_scatter(scatter: Array, /) -> tuple[Array, Array]:
    """Return eigenvalues from the largest down, and eigenvectors as rows, of a scatter matrix.

    Where the scales of the columns differ, by way of its root on the correlation scale, which keeps the digits of small
    eigenvalues; where they are alike, as behind a scaler, there are none to keep, and it takes a third of the time.
    """
    scale = np.sqrt(np.diagonal(scatter))
    scale = scale[scale > 0]
    if len(scale) and float(scale.max()) <= _EVEN * float(scale.min()):
        return axes_of_product(scatter)
    return axes_of(root(scatter))


def signed(axes: Array, /) -> Array:
    """Return rows with signs such that the entry of each that is largest in absolute value is positive."""
    largest = np.take_along_axis(axes, np.argmax(np.abs(axes), axis=1)[:, None], axis=1)
    out: Array = axes * np.where(largest < 0, -1.0, 1.0)
    return out


def inverse_root(covariance: Array, /) -> tuple[Array, float]:
    """Return L with ``L @ L.T`` the inverse of a covariance matrix, and the logarithm of that inverse's determinant.

    The inverse is found on the correlation scale. A matrix that is singular there gets its pseudo-inverse, and -inf.
    """
    scale = np.sqrt(np.diagonal(covariance))
    if np.all(scale > 0):
        values, vectors = np.linalg.eigh(covariance / scale[:, None] / scale)
        if values[0] > _noise(values):
            logdet = -float(np.sum(np.log(values))) - 2.0 * float(np.sum(np.log(scale)))
            return vectors / np.sqrt(values) / scale[:, None], logdet
    # The scales of a pseudo-inverse cannot be put back afterwards.
    values, vectors = np.linalg.eigh(covariance)
    kept = values > _noise(values)
    return vectors[:, kept] / np.sqrt(values[kept]), -np.inf


def _noise(values: Array) -> float:
    """Return up to where eigenvalues are rounding."""
    return float(len(values) * np.finfo(np.float64).eps * np.max(np.abs(values), initial=0.0))
