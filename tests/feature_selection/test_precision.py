"""Law 5: where scikit-learn loses digits ours is at least as exact, shown against extended precision."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.feature_selection as theirs

import ooclearn
import ooclearn.feature_selection as ours
from ooclearn.testing.tables import uneven_cut

CASES = [(ratio, np.float64) for ratio in (1.0, 1e4, 1e6, 1e8)] + [(ratio, np.float32) for ratio in (1.0, 1e3)]


def table(ratio, dtype, n=3000, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n)
    X = rng.normal(size=(n, 4)) + np.outer(y, [0.0, 0.3, 1.0, -5.0]) + ratio
    return X.astype(dtype), y, y + rng.normal(size=n) + ratio


def exact_f_classif(X, y):
    X = X.astype(np.longdouble)
    X = X - X[0]
    mean = X.mean(axis=0)
    between = within = np.zeros(X.shape[1], dtype=np.longdouble)
    for k in np.unique(y):
        part = X[y == k]
        center = part.mean(axis=0)
        between = between + len(part) * (center - mean) ** 2
        within = within + ((part - center) ** 2).sum(axis=0)
    k = len(np.unique(y))
    return between / (k - 1) / (within / (len(y) - k))


def exact_r(X, y):
    X, y = X.astype(np.longdouble) - X[0].astype(np.longdouble), y.astype(np.longdouble) - np.longdouble(y[0])
    X, y = X - X.mean(axis=0), y - y.mean()
    return (X * y[:, None]).sum(axis=0) / np.sqrt((X**2).sum(axis=0) * (y**2).sum())


def worst(got, expected):
    return float(np.max(np.abs((got - expected) / expected)))


@pytest.mark.parametrize(("ratio", "dtype"), CASES)
@pytest.mark.parametrize("cut", ["whole", "in blocks"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:Features .* are constant")  # scikit-learn says so
def test_nearer_than_scikit_learn(ratio, dtype, cut):
    X, classes, numbers = table(ratio, dtype)
    data = X if cut == "whole" else ooclearn.scan(X).recut(uneven_cut(len(X)))
    exact = exact_f_classif(X, classes)
    mine = worst(ours.f_classif(data, classes)[0], exact)
    # The weakest column's score is a difference of means of a hundredth of a deviation.
    assert mine <= 1e-10
    assert mine <= worst(theirs.f_classif(X, classes)[0], exact) + 1e-12
    exact = exact_r(X, numbers)
    mine = worst(ours.r_regression(data, numbers), exact)
    assert mine <= 1e-10
    assert mine <= worst(theirs.r_regression(X, numbers), exact) + 1e-12


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_perfect_correlation(offset):
    x = np.random.default_rng(0).normal(size=500) + offset
    r = ours.r_regression(ooclearn.scan(np.stack([x, -x], axis=1)).recut(uneven_cut(500)), x)
    assert (np.abs(r) <= 1.0).all()
    np.testing.assert_allclose(r, [1.0, -1.0], rtol=1e-14)


def test_counts_in_single_precision():
    """scikit-learn adds up float32 in float32."""
    rng = np.random.default_rng(0)
    X = rng.poisson(300.0, (20_000, 3)).astype(np.float32)
    y = rng.integers(0, 2, len(X))
    expected = theirs.chi2(X.astype(float), y)[0]
    np.testing.assert_allclose(ours.chi2(ooclearn.scan(X).recut(uneven_cut(len(X))), y)[0], expected, rtol=1e-12)
