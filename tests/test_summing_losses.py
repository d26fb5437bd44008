"""Sums of losses, of folds and of clusters on a device, and whole fits: launches alone in a pass, and the answer of `of`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ooclearn
from ooclearn.cluster import KMeans
from ooclearn.cluster.drawing import DrawnRows
from ooclearn.cluster.sums import ClusterSums
from ooclearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from ooclearn.exceptions import NonFiniteError
from ooclearn.folding import DeviceReading
from ooclearn.linear_model import LogisticRegression, PoissonRegressor, RidgeCV
from ooclearn.linear_model._folds import FoldScatter
from ooclearn.linear_model._left_out import LeftOut, Model
from ooclearn.linear_model._loss_sums import InDomain, LossSums
from ooclearn.linear_model._losses import Binomial, Multinomial, Tweedie
from ooclearn.naive_bayes import GaussianNB
from ooclearn.table import Rows
from ooclearn.testing import CountingBlocks
from summed_rows import BACKEND, CUTS, added_up, assert_like, blocks, on_device, refused, table


def models(n_raw, d=3, m=4):
    rng = np.random.default_rng(5)
    return tuple(rng.normal(size=(n_raw, d + 1)) * 0.3 for _ in range(m))


def losses(kind, *, weights=False):
    """Return a loss, and targets that it takes."""
    rng = np.random.default_rng(7)
    if kind == "two classes":
        return Binomial(np.array(["a", "b"]), np.array([0.5, 3.0]) if weights else None), rng.choice(["a", "b"], 700)
    if kind == "classes":
        labels = np.array([2, 5, 9])
        return Multinomial(labels, np.array([0.5, 3.0, 1.0]) if weights else None), rng.choice(labels, 700)
    power, log = {"poisson": (1.0, True), "gamma": (2.0, True), "mean": (1.0, False), "inverse": (3.0, True)}[kind]
    return Tweedie(power, log, kind), rng.gamma(2.0, 1.0, 700)


LOSSES = ("two classes", "classes", "poisson", "gamma", "mean", "inverse")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("hessian", [False, True], ids=["gradients", "hessian"])
@pytest.mark.parametrize("kind", LOSSES)
def test_loss_sums_are_those_of_the_host(kind, hessian, weighted):
    loss, y = losses(kind, weights=weighted)
    offset = 1e8 if kind == "two classes" else 0.0
    X, _, w = table(offset=offset, weighted=weighted)
    X = np.abs(X) if kind == "mean" else X
    parameters = tuple(np.abs(one) for one in models(loss.n_raw)) if kind == "mean" else models(loss.n_raw)
    statistic = LossSums(loss, np.full(3, offset), parameters, hessian)
    got = added_up(statistic, blocks(X, y, w))
    expected = statistic.of(Rows(X, y, w))
    assert np.isfinite(expected.loss).all()
    assert_like(got, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "int64"])
@pytest.mark.parametrize("kind", ["two classes", "classes", "poisson"])
def test_loss_sums_of_other_dtypes_and_devices(kind, dtype):
    loss, y = losses(kind)
    X = (10 * table()[0]).astype(dtype) / (10 if dtype == "float32" else 1)
    X = X.astype(dtype)
    statistic = LossSums(loss, np.array([0.1, 0.2, 0.3]), tuple(one * 0.1 for one in models(loss.n_raw)))
    expected = statistic.of(Rows(X, y))
    assert_like(added_up(statistic, blocks(X, y)), expected, rtol=1e-12)
    if dtype == "float32":
        assert_like(added_up(statistic, blocks(X, y, device="no_float64")), expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_labels_on_the_device_stay_there(kind):
    """What is compared with labels that are known is compared on the device: nothing is read back."""
    if kind == "classes":
        loss, y = losses(kind, weights=True)
    else:
        y = np.random.default_rng(0).choice([0, 1], 700)
        loss = Binomial(np.array([0, 1]), np.array([0.5, 3.0]))
    X, _, w = table(weighted=True)
    for dtype in (np.int64, np.float64):
        given = y.astype(dtype)
        loss = type(loss)(loss.classes.astype(dtype), loss.class_weight)
        statistic = LossSums(loss, np.zeros(3), models(loss.n_raw))
        assert_like(added_up(statistic, blocks(X, given, w, labels=False)), statistic.of(Rows(X, given, w)), rtol=1e-12)
    given[333] = np.nan
    assert added_up(statistic, blocks(X, given, w, labels=False)) is None


@pytest.mark.parametrize("kind", ["two classes", "classes", "poisson"])
@pytest.mark.parametrize("hessian", [False, True], ids=["gradients", "hessian"])
def test_raw_predictions_are_held_in_runs(kind, hessian, monkeypatch):
    from ooclearn.linear_model import _loss_sums

    monkeypatch.setattr(_loss_sums, "_RAW_THERE", 640)
    monkeypatch.setattr(_loss_sums, "_CELLS_THERE", 1000)
    loss, y = losses(kind, weights=True)
    X, _, w = table(weighted=True)
    statistic = LossSums(loss, np.zeros(3), models(loss.n_raw), hessian)
    held = []
    products = LossSums._products

    def watched(self, a, raw, *others):
        held.append(raw.shape[2])
        return products(self, a, raw, *others)

    monkeypatch.setattr(LossSums, "_products", watched)
    got = added_up(statistic, blocks(X, y, w))
    assert max(held) == max(64, 640 // (4 * loss.n_raw))
    assert_like(got, statistic.of(Rows(X, y, w)), rtol=1e-12)


def test_an_overflow_is_an_infinite_loss():
    loss, y = losses("poisson")
    X, _, _ = table()
    w = np.ones(700)
    w[:80] = 0.0
    far = np.array([[1e4, 0.0, 0.0, 0.0]])
    for weights in (None, w):
        for vectors in ((models(1)[0], far), (far, models(1)[0])):
            statistic = LossSums(loss, np.zeros(3), vectors)
            got, expected = added_up(statistic, blocks(X, y, weights)), statistic.of(Rows(X, y, weights))
            np.testing.assert_array_equal(np.isinf(got.loss), np.isinf(expected.loss))
            there = np.isfinite(expected.loss)
            assert there.sum() == 1
            np.testing.assert_allclose(got.loss[there], expected.loss[there], rtol=1e-12)
    # Rows of no weight may overflow.
    X[:80, 0] = 1.0
    X[80:, 0] = 0.0
    statistic = LossSums(loss, np.zeros(3), (models(1)[0] + far * 10,))
    got = added_up(statistic, blocks(X, y, w))
    assert np.isfinite(got.loss).all()
    assert_like(got, statistic.of(Rows(X, y, w)), rtol=1e-12)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("hessian", [False, True], ids=["gradients", "hessian"])
def test_what_spoils_sums_of_losses_is_named(kind, hessian):
    loss, y = losses(kind)
    statistic = LossSums(loss, np.zeros(3), tuple(np.abs(one) for one in models(loss.n_raw)), hessian)
    for bad in (np.nan, np.inf, -np.inf):
        X, _, _ = table()
        X = np.abs(X)
        X[333, 1] = bad
        assert added_up(statistic, blocks(X, y)) is None
        error = refused(statistic, X, y)
        assert isinstance(error, NonFiniteError)
        assert (error.rows, error.column) == ((333, 334), 1)
    X, w = np.abs(table()[0]), np.ones(700)
    w[333] = -1.0
    assert added_up(statistic, blocks(X, y, w)) is None
    assert refused(statistic, X, y, w).part == "sample_weight"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_targets_outside_the_domain_are_named(bad):
    loss, y = losses("poisson")
    X, _, _ = table()
    assert added_up(InDomain(loss), blocks(X, y)) == 700
    y[333] = bad
    for statistic in (InDomain(loss), LossSums(loss, np.zeros(3), models(1))):
        assert added_up(statistic, blocks(X, y)) is None
        error = refused(statistic, X, y)
        assert (error.rows, error.part) == ((333, 334), "y")


@pytest.mark.parametrize("weighted", [False, True])
def test_rows_left_out_one_by_one(weighted):
    X, _, w = table(weighted=weighted, offset=1e6)
    y = np.stack([X[:, 0] - X[:, 1], X[:, 2]], axis=1)
    values, axes = np.linalg.eigh((X - X.mean(axis=0)).T @ (X - X.mean(axis=0)))
    share = 1.0 / (values[:, None] + np.array([0.1, 10.0]))
    coef = share[:, :, None] * (axes.T @ (X - X.mean(axis=0)).T @ (y - y.mean(axis=0)))[:, None, :]
    statistic = LeftOut(Model(X.mean(axis=0), y.mean(axis=0), axes, coef, share, 1.0 / len(X)))
    assert_like(added_up(statistic, blocks(X, y, w)), statistic.of(Rows(X, y, w)))
    X[333, 1] = np.nan
    assert added_up(statistic, blocks(X, y, w)) is None
    assert refused(statistic, X, y, w).rows == (333, 334)


@pytest.mark.parametrize("weighted", [False, True])
def test_folds_of_rows(weighted):
    """Each is centred by rows of its own; a block may lie in several, and a fold begin in any block."""
    X, _, w = table(weighted=weighted, offset=1e6, apart=1e4)
    y = X[:, 0] - X[:, 1]
    parts = [replace(part, start=start) for part, start in zip(blocks(X, y, w), CUTS[:-1], strict=True)]
    for n_folds in (2, 5, 60):
        statistic = FoldScatter.of_rows(700, n_folds)
        got, expected = added_up(statistic, parts), statistic.of(Rows(X, y, w, 0))
        for mine, theirs in zip(got.folds, expected.folds, strict=True):
            assert_like(mine, theirs, rtol=1e-9)
    X[333, 1] = np.nan
    parts = [replace(part, start=start) for part, start in zip(blocks(X, y, w), CUTS[:-1], strict=True)]
    assert added_up(statistic, parts) is None
    assert refused(statistic, X, y, w).rows == (333, 334)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n_far", [0, 3, 400])
def test_cluster_sums_are_those_of_the_host(n_far, dtype, weighted):
    offset = 1e8 if dtype == "float64" else 0.0
    X, _, w = table(dtype=dtype, weighted=weighted, offset=offset)
    centers = np.random.default_rng(1).normal(size=(5, 3))
    statistic = ClusterSums(centers, np.full(3, offset), n_far)
    assert_like(added_up(statistic, blocks(X, None, w)), statistic.of(Rows(X, None, w)))


def test_of_rows_equally_far_the_first_are_kept():
    X = np.tile(np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), (175, 1))
    statistic = ClusterSums(np.zeros((1, 2)), np.zeros(2), 200)
    got = added_up(statistic, blocks(X))
    assert_like(got, statistic.of(Rows(X)))
    np.testing.assert_array_equal(got.far.rows[175:179, 0], [2.0, -2.0, 2.0, -2.0])


def test_cluster_sums_of_a_device_without_float64():
    X, _, w = table(dtype="float32", weighted=True)
    statistic = ClusterSums(np.random.default_rng(1).normal(size=(5, 3)), np.array([0.1, 0.2, 0.3]), 3)
    got, expected = added_up(statistic, blocks(X, None, w, device="no_float64")), statistic.of(Rows(X, None, w))
    np.testing.assert_allclose(got.sums, expected.sums, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(got.far.squares, expected.far.squares, rtol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, "weight"])
def test_what_spoils_sums_of_clusters_is_named(bad):
    X, _, w = table(weighted=True)
    if bad == "weight":
        w[333] = -1.0
    else:
        X[333, 1] = bad
    statistic = ClusterSums(np.random.default_rng(1).normal(size=(5, 3)), np.zeros(3), 3)
    assert added_up(statistic, blocks(X, None, w)) is None
    assert refused(statistic, X, None, w).rows == (333, 334)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("far", [False, True], ids=["by weight", "by distance"])
def test_rows_are_drawn_on_the_device(far, weighted):
    X, _, w = table(weighted=weighted)
    centers = X[100:103] if far else None
    given = {} if centers is None else {"centers": centers - 0.5, "center": np.full(3, 0.5)}
    everything = DrawnRows(0, 1000, **given)
    assert_like(
        replace(added_up(everything, blocks(X, None, w)), keys=np.zeros(0)),
        replace(everything.of(Rows(X, None, w)), keys=np.zeros(0)),
    )
    statistic = DrawnRows(0, 40, **given)
    got, again = (added_up(statistic, blocks(X, None, w)) for _ in range(2))
    assert_like(got, again, rtol=0.0)
    assert got.possible == everything.of(Rows(X, None, w)).possible
    at = [int(np.flatnonzero((row == X).all(axis=1))[0]) for row in got.rows]
    assert len(at) == 40
    assert at == sorted(set(at))
    assert np.all(got.weights > 0)
    assert np.array_equal(got.weights, np.ones(40) if w is None else w[at])
    assert not far or not set(at) & {100, 101, 102}
    assert added_up(DrawnRows(1, 40, **given), blocks(X, None, w)).rows.tolist() != got.rows.tolist()
    if far:
        X[333, 1] = np.nan
        assert added_up(statistic, blocks(X, None, w)) is None
        assert refused(statistic, X, None, w).rows == (333, 334)


def test_rows_are_drawn_on_the_device_by_their_odds():
    X = np.zeros((11, 1))
    X[1:, 0] = np.sqrt(np.arange(1, 11))
    statistics = [DrawnRows(seed, 1, centers=np.zeros((1, 1)), center=np.zeros(1)) for seed in range(2000)]
    drawn = np.array([added_up(one, [Rows(X[:4]), Rows(X[4:])], silent=False).rows[0, 0] ** 2 for one in statistics])
    share = np.array([np.isclose(drawn, k).mean() for k in range(11)])
    assert share[0] == 0
    np.testing.assert_allclose(share[1:], np.arange(1, 11) / 55, atol=0.04)


def test_a_whole_k_means_comes_back_once_a_pass(monkeypatch):
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(6, 3)) * 20.0
    X = rng.normal(size=(60_000, 3)) + middles[rng.integers(0, 6, 60_000)]
    asked = counted_copies(monkeypatch)
    model = KMeans(6, random_state=0)
    passes = []
    monkeypatch.setattr(DeviceReading, "deliver", spied(DeviceReading.deliver, passes))
    got = model.fit(BACKEND.blocks(on_device(X)).recut([20_000, 1, 39_999]))
    assert len(asked) <= len(passes)
    expected = KMeans(6, random_state=0).fit(X)
    assert got.inertia_ == pytest.approx(expected.inertia_, rel=1e-10)
    order, other = (np.argsort(one.cluster_centers_[:, 0]) for one in (got, expected))
    np.testing.assert_allclose(got.cluster_centers_[order], expected.cluster_centers_[other], rtol=1e-8)


def counted_copies(monkeypatch):
    """Return a list that takes up the shape of whatever is copied to the host from now on."""
    asked = []
    monkeypatch.setattr(type(BACKEND), "to_host", spied(type(BACKEND).to_host, asked))
    return asked


def spied(function, calls):
    def called(self, first, *others, **named):
        calls.append(getattr(first, "shape", None))
        return function(self, first, *others, **named)

    return called


FITS = {
    "GaussianNB": (GaussianNB(), "classes"),
    "LinearDiscriminantAnalysis": (LinearDiscriminantAnalysis(), "classes"),
    "LinearDiscriminantAnalysis, lsqr": (LinearDiscriminantAnalysis(solver="lsqr", priors=[0.2] * 5), "classes"),
    "QuadraticDiscriminantAnalysis": (QuadraticDiscriminantAnalysis(), "classes"),
    "LogisticRegression": (LogisticRegression(), "classes"),
    "LogisticRegression, balanced": (LogisticRegression(class_weight="balanced"), "classes"),
    "LogisticRegression, lbfgs": (LogisticRegression(solver="lbfgs"), "classes"),
    "LogisticRegression, two": (LogisticRegression(), "two"),
    "PoissonRegressor": (PoissonRegressor(), "counts"),
    "PoissonRegressor, lbfgs": (PoissonRegressor(solver="lbfgs"), "counts"),
    "RidgeCV": (RidgeCV(), "numbers"),
    "RidgeCV, folds": (RidgeCV(cv=3), "numbers"),
    "KMeans": (KMeans(5, init=np.random.default_rng(3).normal(size=(5, 4)) * 3), None),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", FITS)
def test_whole_fits_come_back_once_a_pass(name, weighted, monkeypatch):
    model, kind = FITS[name]
    rng = np.random.default_rng(2)
    at = np.sort(rng.integers(0, 5, 1200))
    at[:300] = rng.permutation(at[:300])
    X = rng.normal(size=(1200, 4)) + np.eye(5, 4)[at] * 3.0 + 10.0
    y = {
        "classes": np.array(["e", "a", "dd", "b", "c"])[at],
        "two": np.array(["no", "yes"])[at % 2],
        "counts": rng.poisson(np.exp(0.2 * (X[:, 0] - 10.0))).astype(float),
        "numbers": X @ np.arange(4.0) + rng.normal(size=1200),
        None: None,
    }[kind]
    w = rng.integers(0, 3, 1200).astype(float) if weighted else None
    lengths = [1, 299, 0, 200, 350, 350]
    if isinstance(getattr(model, "init", None), np.ndarray):
        model = KMeans(5, init=model.init + 10.0)
    counted = CountingBlocks(X, lengths)
    expected = type(model)(**model.get_params()).fit(counted, y, sample_weight=w)

    asked = counted_copies(monkeypatch)
    given = [None if part is None else ooclearn.scan(part) for part in (y, w)]
    got = type(model)(**model.get_params()).fit(
        BACKEND.blocks(on_device(X)).recut(lengths), given[0], sample_weight=given[1]
    )
    assert len(asked) <= counted.passes, f"{asked} in {counted.passes} passes"
    for field, value in vars(expected).items():
        if not field.endswith("_") or field.startswith("_") or field == "labels_":
            continue
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            np.testing.assert_allclose(getattr(got, field), value, rtol=1e-7, atol=1e-9, err_msg=field)
        elif isinstance(value, (np.ndarray, int, float, str)):
            assert np.all(getattr(got, field) == value) or np.allclose(getattr(got, field), value), field
