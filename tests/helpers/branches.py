"""What tests of branches share: rows, a source that counts its reads, and either library."""

from __future__ import annotations

import numpy as np
import sklearn.compose
import sklearn.decomposition
import sklearn.linear_model
import sklearn.pipeline
import sklearn.preprocessing

import ooclearn
import ooclearn.compose
import ooclearn.decomposition
import ooclearn.linear_model
import ooclearn.pipeline
import ooclearn.preprocessing
from ooclearn.testing import CountingBlocks

N, D = 300, 6


def rows(offset=3.0, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(offset, 2.0, (N, D)) * np.geomspace(0.1, 10, D)
    return X, X @ np.linspace(-1, 1, D) + rng.normal(size=N)


def counted(values):
    return CountingBlocks(values, (100, 0, 1, len(values) - 101))


def both(make):
    """Return what is made of this library, and of scikit-learn."""
    return make(ooclearn), make(sklearn)
