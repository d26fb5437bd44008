"""Rows whose classes a linear model can learn, with some that lie on the wrong side."""

from __future__ import annotations

import numpy as np


def table(k=2, n=600, d=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = (X @ rng.standard_normal((d, k)) + 0.5 * rng.gumbel(size=(n, k)) + 0.3 * np.arange(k)).argmax(axis=1)
    return X, y
