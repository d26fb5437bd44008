"""Moments and scatter by class: labels of every type, classes far apart, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.statistics import ClassMoments, ClassScatter, Moments, merge_all
from ooclearn.statistics.class_sums import ClassCategories, ClassSums
from ooclearn.table import Rows
from ooclearn.testing import check_statistic
from ooclearn.testing.strategies import tables
from ooclearn.testing.tables import Column, made_rows, part_of, uneven_cut

KINDS = ("normal", "constant", "integers", "outlier")
LABELS = {
    "whole numbers": np.array([3, -1, 7], dtype=np.int32),
    "large whole numbers": np.array([2**62, 5, -(2**62)]),
    "unsigned": np.array([2**64 - 1, 0, 9], dtype=np.uint64),
    "whole floats": np.array([2.0, -1.0, 0.0]),
    "fractions": np.array([0.5, 1.0, -2.5]),
    "booleans": np.array([True, False, True]),
    "text": np.array(["b", "a", "long"]),
    "objects": np.array(["b", "a", "long"], dtype=object),
}


def cut(rows, seed=0):
    stops = np.cumsum(uneven_cut(rows.n, seed))
    return [part_of(rows, start, stop) for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


def named(statistic):
    # Sets print themselves in another order in each process.
    return repr(statistic).partition("limit")[0].rstrip(", (")


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_every_type(kind):
    rng = np.random.default_rng(0)
    y = LABELS[kind][rng.integers(0, 3, 90)]
    X = rng.standard_normal((90, 3)) + 10.0
    state = merge_all(ClassMoments(), [ClassMoments().of(part) for part in cut(Rows(X, y))])
    classes = np.unique(y)
    assert np.array_equal(state.classes, classes)
    assert state.classes.dtype == y.dtype
    for k, label in enumerate(classes):
        assert state.rows[k] == (y == label).sum()
        np.testing.assert_allclose(state.mean[k], X[y == label].mean(axis=0), rtol=1e-14)
        np.testing.assert_allclose(state.variance()[k], X[y == label].var(axis=0), rtol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 40, 2000])
def test_many_classes(n_classes):
    rng = np.random.default_rng(1)
    y, w = rng.integers(0, n_classes, 6000), rng.uniform(0, 2, 6000)
    X = rng.standard_normal((6000, 2)) + 1e3
    scatter = merge_all(ClassScatter(), [ClassScatter().of(part) for part in cut(Rows(X, y, w))])
    pooled = merge_all(ClassScatter(pooled=True), [ClassScatter(pooled=True).of(part) for part in cut(Rows(X, y, w))])
    within = np.zeros((2, 2))
    for k, label in enumerate(scatter.classes):
        x, v = X[y == label], w[y == label]
        x = x - v @ x / v.sum()
        np.testing.assert_allclose(scatter.scatter[k], (x.T * v) @ x, rtol=1e-8, atol=1e-9)
        within += (x.T * v) @ x
    np.testing.assert_allclose(scatter.within, within, rtol=1e-9)
    np.testing.assert_allclose(pooled.scatter, within, rtol=1e-9)


def test_classes_that_lie_far_apart_keep_their_digits(backend):
    """A common centre for all classes would leave a variance of rounding: (1e8 * 2**-53)**2 is 1e-16 of 1."""
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 400)
    X = (rng.integers(-512, 513, (400, 2)) / 256.0 + np.array([-(2.0**26), 0.0, 2.0**26])[y][:, None]).astype(
        np.float64
    )
    if backend.rounding > 1e-10:
        X = (X % 2.0**20 + np.array([0, 1024, 4096.0])[y][:, None]).astype(np.float32).astype(np.float64)
    made = [backend.backend.blocks(backend.make(part)) for part in (X, y)]
    made[1] = made[1] if made[1].lengths == made[0].lengths else made[1].recut(made[0].lengths)
    blocks = [Rows(made[0].read(i), made[1].read(i)) for i in range(made[0].n_blocks)]
    state = merge_all(ClassMoments(), [ClassMoments().of(part) for part in blocks])
    scatter = merge_all(ClassScatter(), [ClassScatter().of(part) for part in blocks])
    exact = X.astype(np.longdouble)
    for k in range(3):
        expected = exact[y == k].var(axis=0).astype(float)
        np.testing.assert_allclose(state.variance()[k], expected, rtol=max(1e-12, backend.within(200)))
        covariance = scatter.scatter[k] / scatter.weight[k]
        np.testing.assert_allclose(np.diagonal(covariance), expected, rtol=max(1e-12, backend.within(200)))
    both = state.moments()
    if backend.rounding < 1e-10:
        np.testing.assert_allclose(both.variance(), exact.var(axis=0).astype(float), rtol=1e-12)
        direct = Moments().of(Rows(X))
        np.testing.assert_allclose(both.mean, direct.mean, rtol=1e-12, atol=1e-7)


def test_a_class_of_no_weight_is_known_and_counts_nothing():
    X = np.array([[1.0], [3.0], [1e100]])
    state = ClassMoments().of(Rows(X, np.array(["a", "a", "far"]), np.array([1.0, 1.0, 0.0])))
    assert state.classes.tolist() == ["a", "far"]
    assert state.weight.tolist() == [2.0, 0.0]
    assert state.moments().variance().tolist() == [1.0]
    assert np.isnan(state.variance()[1]).all()


STATISTICS = [ClassMoments(), ClassScatter(), ClassScatter(pooled=True), ClassSums(), ClassCategories()]


@pytest.mark.parametrize("statistic", STATISTICS, ids=named)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_with_the_place(statistic, bad):
    X = np.ones((9, 3))
    X[4, 1] = bad
    with pytest.raises(NonFiniteError, match="Input X contains") as caught:
        statistic.of(Rows(X, np.zeros(9, dtype=int), np.zeros(9)))
    assert (caught.value.rows, caught.value.column) == ((4, 5), 1)
    y = np.zeros(9)
    y[2] = bad
    with pytest.raises(NonFiniteError, match="Input y contains") as caught:
        statistic.of(Rows(np.ones((9, 3)), y))
    assert caught.value.rows == (2, 3)


@pytest.mark.parametrize("statistic", STATISTICS, ids=named)
def test_what_is_no_label_is_refused(statistic):
    X = np.ones((300, 1))
    with pytest.raises(ValueError, match="requires y"):
        statistic.of(Rows(X))
    with pytest.raises(DataError, match="1d array"):
        statistic.of(Rows(X, np.ones((300, 2))))
    with pytest.raises(DataError, match="Unknown label type"):
        statistic.of(Rows(X, np.linspace(0.0, 1.0, 300)))
    with pytest.raises(DataError, match="cannot be put in order"):
        statistic.of(Rows(X, np.array(["a", 1] * 150, dtype=object)))
    with pytest.raises(NonFiniteError, match="Input y contains NaN") as caught:
        statistic.of(Rows(X, np.array(["a"] * 7 + [None] + ["b"] * 292, dtype=object)))
    assert caught.value.rows == (7, 8)
    a, b = (statistic.of(Rows(X, np.array([label] * 300, dtype=object))) for label in ("a", 1))
    with pytest.raises(DataError, match="cannot be put in order"):
        statistic.merge(a, b)


def test_too_many_classes_are_refused_in_a_tile_and_in_a_merge():
    statistic = ClassMoments(limit=10)
    with pytest.raises(DataError, match="more than 10 distinct"):
        statistic.of(Rows(np.ones((11, 1)), np.arange(11)))
    halves = [statistic.of(Rows(np.ones((6, 1)), np.arange(6) + start)) for start in (0, 6)]
    with pytest.raises(DataError, match="more than 10 distinct"):
        statistic.merge(*halves)


def test_products_that_overflow_are_refused():
    X = np.array([[1e200], [-1e200]])
    with pytest.raises(DataError, match="overflow"):
        ClassScatter().of(Rows(X, np.zeros(2)))


@pytest.mark.parametrize("statistic", [ClassSums(), ClassSums(threshold=0.5)], ids=named)
def test_sums_under_the_laws(statistic):
    check_statistic(statistic, rows=tables(kinds=KINDS))


def test_counts_of_categories_under_the_laws():
    rng = np.random.default_rng(3)
    drawn = [made_rows(n, [Column()] * 3, weights=w, seed=n) for n in (0, 1, 2, 37) for w in (None, "some zero")]
    rows = [Rows(rng.integers(0, 5, one.X.shape), one.y, one.w) for one in drawn]
    check_statistic(ClassCategories(), rows=rows)


def test_counts_are_refused_that_are_none():
    rows = Rows(np.array([[0.0, 1.0], [2.0, -1.0]]), np.zeros(2))
    for statistic in (ClassSums(counts=True), ClassCategories()):
        with pytest.raises(DataError, match="Negative values in data") as caught:
            statistic.of(rows)
        assert (caught.value.rows, caught.value.column) == ((1, 2), 1)
    with pytest.raises(DataError, match="categories above") as caught:
        ClassCategories().of(Rows(np.array([[0, 10**9]]), np.zeros(1)))
    assert caught.value.column == 1
