"""What tests of Incremental share: rows to learn from, and an estimator that keeps what it is fed."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose

from ooclearn import Incremental

ONE_EPOCH = {"max_iter": 1, "tol": None, "shuffle": False}


def table(n=600, *, classes=2, columns=4, seed=0):
    """Return rows whose classes (or values) a linear model can learn."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, columns))
    y = X @ np.arange(1.0, columns + 1) + 0.1 * rng.standard_normal(n)
    return X, np.digitize(y, np.quantile(y, np.arange(1, classes) / classes)) if classes else y


def close(got, expected, rtol=1e-12):
    assert_allclose(got, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


class Recorder:
    """Has ``partial_fit``, and nothing of scikit-learn's."""

    def __init__(self, fail=None, error=None):
        self.fail, self.error = fail, error
        self.X, self.y, self.w = [], [], []

    def partial_fit(self, X, y=None, sample_weight=None):
        if len(self.X) == self.fail:
            raise self.error
        self.X.append(X.copy(order="K"))
        self.y.append(None if y is None else y.copy())
        self.w.append(sample_weight)


def fed(X, y=None, w=None, **settings):
    """Return the recorder that was fed by these settings."""
    return Incremental(Recorder(), **settings).fit(X, y, w).estimator_
