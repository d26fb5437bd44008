"""Statistics by class on a device: launches alone in a pass, and the answer of `of`."""

from __future__ import annotations

import numpy as np
import pytest

from ooclearn.exceptions import DataError
from ooclearn.statistics import ClassMoments, ClassScatter, Join
from ooclearn.statistics.class_sums import ClassSums
from ooclearn.statistics.join import Unweighted
from ooclearn.table import Rows
from summed_rows import added_up, assert_like, blocks, refused, table

BY_CLASS = {
    "moments": ClassMoments(),
    "scatter": ClassScatter(),
    "pooled scatter": ClassScatter(pooled=True),
    "sums": ClassSums(),
    "sums above": ClassSums(threshold=0.25),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", BY_CLASS)
def test_by_class_is_the_answer_of_the_host(name, dtype, weighted):
    X, y, w = table(dtype=dtype, weighted=weighted)
    assert_like(added_up(BY_CLASS[name], blocks(X, y, w)), BY_CLASS[name].of(Rows(X, y, w)))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["moments", "scatter", "pooled scatter"])
@pytest.mark.parametrize(("offset", "apart"), [(1e8, 1e3), (-1e8, 0.0), (0.0, 1e8)])
def test_by_class_keeps_its_digits(name, offset, apart, weighted):
    X, y, w = table(offset=offset, apart=apart, weighted=weighted)
    got = added_up(BY_CLASS[name], blocks(X, y, w))
    weight = np.ones(len(X)) if w is None else w
    pooled = np.zeros((3, 3))
    for k, label in enumerate(got.classes):
        x = X[y == label].astype(np.longdouble)
        share = weight[y == label].astype(np.longdouble)
        mean = share @ x / share.sum()
        products = ((x - mean).T * share) @ (x - mean)
        pooled = pooled + products
        np.testing.assert_allclose(got.mean[k], mean.astype(float), rtol=1e-15, atol=1e-14)
        if name == "moments":
            np.testing.assert_allclose(got.m2[k], np.diagonal(products).astype(float), rtol=1e-12)
        elif name == "scatter":
            room = 1e-12 * float(np.max(products))
            np.testing.assert_allclose(got.scatter[k], products.astype(float), rtol=1e-12, atol=room)
    if name == "pooled scatter":
        np.testing.assert_allclose(got.scatter, pooled.astype(float), rtol=1e-12, atol=1e-12 * float(pooled.max()))


@pytest.mark.parametrize("labels", [True, False], ids=["labels on the host", "y on the device"])
@pytest.mark.parametrize(
    "kinds",
    [[3, -1, 7], [2.0, -1.0, 0.0], [True, False], [2**62, 5, -(2**62)], [0.5]],
    ids=["whole", "floats", "booleans", "large", "one class"],
)
def test_labels_of_every_type(kinds, labels):
    X, y, w = table(names=kinds, weighted=True)
    for statistic in BY_CLASS.values():
        got = added_up(statistic, blocks(X, y, w, labels=labels), silent=labels)
        assert_like(got, statistic.of(Rows(X, y, w)))
        assert got.classes.dtype == y.dtype


@pytest.mark.parametrize("cuts", [range(0, 4000, 250), (0,)], ids=["few in a block", "more than bytes tell apart"])
def test_many_classes(cuts):
    rng = np.random.default_rng(0)
    y = np.sort(rng.integers(0, 300, 4000))
    y[::97] = 299 - y[::97]
    X = rng.normal(size=(4000, 2)) + y[:, None]
    for statistic in BY_CLASS.values():
        assert_like(added_up(statistic, blocks(X, y, cuts=cuts)), statistic.of(Rows(X, y)), rtol=1e-10)


def test_many_classes_in_runs_of_classes(monkeypatch):
    from ooclearn.statistics import met_classes

    monkeypatch.setattr(met_classes, "_CELLS", 1000)
    X, y, w = table(names=list(range(40)), weighted=True)
    for statistic in BY_CLASS.values():
        assert_like(added_up(statistic, blocks(X, y, w)), statistic.of(Rows(X, y, w)))


def test_a_class_that_gains_weight_late_is_centred_by_rows_of_weight():
    X, y, w = table(offset=1e8, weighted=True)
    X[:80] = 1e100  # of no weight
    got = added_up(ClassMoments(), blocks(X, y, w))
    for k, label in enumerate(got.classes):
        x, share = X[(y == label) & (w > 0)], w[(y == label) & (w > 0)]
        mean = np.average(x - 1e8, weights=share, axis=0)
        np.testing.assert_allclose(got.m2[k], share @ (x - 1e8 - mean) ** 2, rtol=1e-6)
    none = added_up(ClassMoments(), blocks(X, y, np.zeros(len(X))))
    assert not none.weight.any()
    assert not none.mean.any()


def test_a_class_met_as_one_far_row_of_hardly_any_weight_is_read_again():
    X, y, _ = table()
    w = np.ones(700)
    late = int(np.flatnonzero(y == "c")[0])
    X[late], w[late] = 1e9, 1e-15
    cuts = (0, late, late + 1)
    for statistic in (ClassMoments(), ClassScatter()):
        assert added_up(statistic, blocks(X, y, w, cuts=cuts)) is None
    w[late] = 1.0
    for statistic in BY_CLASS.values():
        assert_like(added_up(statistic, blocks(X, y, w, cuts=cuts)), statistic.of(Rows(X, y, w)))


def test_several_statistics_keep_origins_of_their_own():
    X, y, w = table(offset=1e8, weighted=True)
    joined = Join(inner=Join(a=ClassMoments(), b=ClassScatter(pooled=True)), c=Unweighted(ClassMoments()))
    got = added_up(joined, blocks(X, y, w))
    expected = joined.of(Rows(X, y, w))
    assert_like(got["inner"]["a"], expected["inner"]["a"])
    assert_like(got["inner"]["b"], expected["inner"]["b"])
    assert_like(got["c"], expected["c"])
    X[333, 1] = np.nan
    assert added_up(joined, blocks(X, y, w)) is None


def test_a_device_without_float64():
    X, y, w = table(dtype="float32", weighted=True, offset=64.0)
    for statistic in (ClassMoments(), ClassScatter(), ClassScatter(pooled=True), ClassSums()):
        got = added_up(statistic, blocks(X, y, w, device="no_float64"))
        assert_like(got, statistic.of(Rows(X, y, w)), rtol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, "negative weight", "infinite weight", "missing weight"])
@pytest.mark.parametrize("name", BY_CLASS)
def test_what_spoils_sums_by_class_is_named(name, bad):
    X, y, w = table(weighted=True)
    w[:] = np.maximum(w, 0.0)
    if isinstance(bad, str):
        w[333] = {"negative weight": -1.0, "infinite weight": np.inf, "missing weight": np.nan}[bad]
    else:
        X[333, 1] = bad
    assert added_up(BY_CLASS[name], blocks(X, y, w)) is None
    error = refused(BY_CLASS[name], X, y, w)
    assert error.rows == (333, 334)
    assert error.part == ("sample_weight" if isinstance(bad, str) else "X")


def test_counts_refuse_what_is_negative():
    X, y, _ = table()
    X = np.abs(X)
    assert_like(added_up(ClassSums(counts=True), blocks(X, y)), ClassSums().of(Rows(X, y)))
    X[333, 1] = -1.0
    assert added_up(ClassSums(counts=True), blocks(X, y)) is None
    assert refused(ClassSums(counts=True), X, y).column == 1


def test_labels_that_are_none_are_refused_in_a_block():
    X, _, _ = table()
    y = np.zeros(700)
    y[333] = np.nan
    assert refused(ClassMoments(), X, y).rows == (333, 334)
    mixed = np.array(["a"] * 350 + [1] * 350, dtype=object)
    with pytest.raises(DataError, match="cannot be put in order"):
        added_up(ClassMoments(), blocks(X, mixed))
    with pytest.raises(DataError, match="more than 10 distinct"):
        added_up(ClassMoments(limit=10), blocks(X, np.arange(700) // 60))
