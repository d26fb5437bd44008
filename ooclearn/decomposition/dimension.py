"""Minka's estimate of how many principal components there are."""

from __future__ import annotations

from math import lgamma, log, pi

import numpy as np

from ooclearn.types import Array

__all__ = ["most_likely_rank"]

# A variance below this is none; scikit-learn's bound.
_NONE = 1e-15


def most_likely_rank(variance: Array, n: int, /) -> int:
    """Return the number of components, between 1 and one less than there are, whose evidence is greatest.

    Parameters
    ----------
    variance : ndarray of shape (d,)
        Along the axes, from the largest down.
    n : int
        Rows.

    Returns
    -------
    int
        0 for a single column.

    References
    ----------
    T. P. Minka, "Automatic choice of dimensionality for PCA", NIPS (2000).
    """
    evidence = [-np.inf, *(_log_evidence(variance, rank, n) for rank in range(1, len(variance)))]
    return int(np.argmax(evidence))


def _log_evidence(variance: Array, rank: int, n: int) -> float:
    """Return the logarithm of the evidence for so many components, by Laplace's method (Minka's equation 30)."""
    d = len(variance)
    if variance[rank - 1] < _NONE:
        return -np.inf
    left = np.arange(d, d - rank, -1)
    prior = -rank * log(2.0) + sum(lgamma(k / 2.0) - log(pi) * k / 2.0 for k in left)
    kept = -float(np.sum(np.log(variance[:rank]))) * n / 2.0
    noise = max(_NONE, float(np.sum(variance[rank:])) / (d - rank))
    others = -log(noise) * n * (d - rank) / 2.0
    m = d * rank - rank * (rank + 1.0) / 2.0
    smoothed = np.concatenate([variance[:rank], np.full(d - rank, noise)])
    first, second = np.triu_indices(d, 1)
    first, second = first[first < rank], second[first < rank]
    apart = (variance[first] - variance[second]) * (1.0 / smoothed[second] - 1.0 / smoothed[first])
    if not np.all(apart > 0):
        # Two axes of one variance: there is no reason to cut between them.
        return -np.inf
    curvature = float(np.sum(np.log(apart))) + m * log(n)
    return prior + kept + others + log(2.0 * pi) * (m + rank) / 2.0 - curvature / 2.0 - rank * log(n) / 2.0
