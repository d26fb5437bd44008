"""Law 5: where scikit-learn loses digits, ours is at least as exact, shown against extended precision."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.decomposition as theirs
import sklearn.pipeline
import sklearn.preprocessing

import ooclearn
import ooclearn.decomposition as ours
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler
from ooclearn.testing import CountingBlocks
from ooclearn.testing.tables import uneven_cut

pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="this platform has no floating point wider than float64"
)

Long = np.longdouble
ROWS = 3000
EQUAL = 16
"""Roundings that two right algorithms may differ by: to be nearer by less says nothing."""


def table(offset, scales, seed=0):
    rng = np.random.default_rng(seed)
    d = len(scales)
    mixed = rng.normal(size=(ROWS, d)) * np.linspace(1, 2, d) @ (np.eye(d) + 0.3 * rng.normal(size=(d, d)))
    return (mixed + offset) * np.asarray(scales)


def jacobi(rows):
    """Squared singular values and right singular vectors (signed as scikit-learn's), by one-sided rotations of columns."""
    a = rows.astype(Long)
    d = a.shape[1]
    vectors = np.eye(d, dtype=Long)
    for _ in range(12):
        for i in range(d):
            for j in range(i + 1, d):
                left, right, both = a[:, i] @ a[:, i], a[:, j] @ a[:, j], a[:, i] @ a[:, j]
                if abs(both) <= Long(1e-19) * np.sqrt(left * right):
                    continue
                half = (right - left) / (2 * both)
                t = (1 if half >= 0 else -1) / (abs(half) + np.hypot(half, Long(1)))
                turn = np.array([[1, t], [-t, 1]], dtype=Long) / np.sqrt(t * t + 1)
                a[:, [i, j]], vectors[:, [i, j]] = a[:, [i, j]] @ turn, vectors[:, [i, j]] @ turn
    values = (a * a).sum(axis=0)
    order = np.argsort(-values)
    axes = vectors[:, order].T
    largest = axes[np.arange(d), np.abs(axes).argmax(axis=1)]
    return values[order], axes * np.sign(largest)[:, None]


def exact(X, *, standardised=False, centred=True):
    rows = X.astype(Long)
    if centred:
        rows = rows - rows.mean(axis=0)
    if standardised:
        rows = rows / np.sqrt((rows * rows).mean(axis=0))
    return jacobi(rows)


def worst(got, expected):
    return float(np.max(np.abs(np.asarray(got, dtype=Long) - expected) / np.max(np.abs(expected))))


def relative(got, expected):
    return float(np.max(np.abs(np.asarray(got, dtype=Long) / expected - 1)))


EVEN, GRADED = (1.0,) * 5, (1.0, 1e-2, 1e-4, 1e-6, 1e-8)


@pytest.mark.parametrize("scales", [EVEN, GRADED], ids=["even", "graded"])
@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_pca(offset, scales):
    """As exact as a singular value decomposition of all rows, and at 1e8 more so; small variances, too."""
    X = table(offset, scales)
    values, axes = exact(X)
    values = values / (ROWS - 1)
    mine = ours.PCA().fit(ooclearn.scan(X).recut(uneven_cut(ROWS)))
    reference = theirs.PCA(svd_solver="full").fit(X)
    room = EQUAL * np.finfo(float).eps
    assert worst(mine.explained_variance_, values) <= worst(reference.explained_variance_, values) + room
    assert worst(mine.components_, axes) <= worst(reference.components_, axes) + room
    # Relative to each variance itself: what the cells determine is their rounding, offset times that of float64.
    assert relative(mine.explained_variance_, values) <= max(1e-13, 1e-17 * offset)
    if offset == 1e8:
        assert relative(mine.explained_variance_, values) <= relative(reference.explained_variance_, values)


def test_the_default_of_scikit_learn_loses_everything_at_a_large_offset():
    X = table(1e8, EVEN)
    values, _ = exact(X)
    assert relative(theirs.PCA().fit(X).explained_variance_, values / (ROWS - 1)) > 0.1
    assert relative(ours.PCA().fit(X).explained_variance_, values / (ROWS - 1)) < 1e-9


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4, 1e6])
def test_a_scaler_and_a_pca_are_one_reading(offset):
    X = table(offset, (1e-3, 1.0, 1e3, 1e-2, 10.0))
    rows = CountingBlocks(X, uneven_cut(ROWS))
    mine = make_pipeline(StandardScaler(), ours.PCA(3))
    plan = mine.explain(rows)
    mine.fit(rows)
    assert plan.n_passes == rows.passes == 1
    reference = sklearn.pipeline.make_pipeline(sklearn.preprocessing.StandardScaler(), theirs.PCA(3)).fit(X)
    for step in (0, 1):
        for name, expected in vars(reference[step]).items():
            if name.endswith("_") and not name.startswith("_") and name != "mean_":
                got = getattr(mine[step], name)
                np.testing.assert_allclose(
                    got, expected, rtol=1e-10, atol=1e-10 * np.max(np.abs(expected)), err_msg=name
                )
    np.testing.assert_allclose(mine[0].mean_, reference[0].mean_, rtol=1e-10)
    # The mean of what has been standardised: 0, but for the rounding of the mean that was subtracted.
    np.testing.assert_allclose(mine[1].mean_, 0.0, atol=1e-15 * max(offset, 1.0))
    assert rows.passes == 1
    out = mine.transform(X)
    np.testing.assert_allclose(out, reference.transform(X), rtol=1e-9, atol=1e-15 * max(offset, 1e4))


def test_a_scaler_and_a_pca_are_nearer_to_the_truth_at_an_offset_of_1e8():
    X = table(1e8, (1e-3, 1.0, 1e3, 1e-2, 10.0))
    values, axes = exact(X, standardised=True)
    values = values / (ROWS - 1)
    mine = make_pipeline(StandardScaler(), ours.PCA()).fit(ooclearn.scan(X).recut(uneven_cut(ROWS)))[1]
    reference = sklearn.pipeline.make_pipeline(sklearn.preprocessing.StandardScaler(), theirs.PCA()).fit(X)[1]
    assert worst(mine.explained_variance_, values) <= worst(reference.explained_variance_, values)
    assert worst(mine.components_, axes) <= worst(reference.components_, axes)
    assert worst(mine.explained_variance_, values) < 1e-14


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6, 1e8])
def test_truncated_svd(offset):
    """The large first singular value drowns none of the others; in the rows themselves it does."""
    X = table(offset, EVEN)
    values, axes = exact(X, centred=False)
    singular = np.sqrt(values[:3])
    mine = ours.TruncatedSVD(3).fit(ooclearn.scan(X).recut(uneven_cut(ROWS)))
    reference = theirs.TruncatedSVD(3, n_iter=30, random_state=0).fit(X)
    room = EQUAL * np.finfo(float).eps
    assert relative(mine.singular_values_, singular) <= relative(reference.singular_values_, singular) + room
    assert worst(mine.components_, axes[:3]) <= worst(reference.components_, axes[:3]) + room
    assert relative(mine.singular_values_, singular) <= 1e-13
    assert worst(mine.components_, axes[:3]) <= 1e-12
    along = (X.astype(Long) - X.astype(Long).mean(axis=0)) @ axes[:3].T
    assert relative(mine.explained_variance_[1:], (along * along).mean(axis=0)[1:]) <= 1e-12


@pytest.mark.parametrize("offset", [1.0, 1e2, 1e4])
def test_float32_rows_are_summed_in_float64(offset):
    X = table(offset, EVEN).astype(np.float32)
    values, axes = exact(X.astype(np.float64))
    mine = ours.PCA().fit(X)
    assert relative(mine.explained_variance_, values / (ROWS - 1)) < 1e-12
    assert worst(mine.components_, axes) < 1e-13
    reference = theirs.PCA(svd_solver="full").fit(X)
    assert relative(mine.explained_variance_, values / (ROWS - 1)) < relative(
        reference.explained_variance_, values / (ROWS - 1)
    )
