"""KMeans: scikit-learn's results where the table fits the sample, its quality where it does not, and few passes."""

from __future__ import annotations

import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
import sklearn.cluster
import sklearn.pipeline
import sklearn.preprocessing
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression as TheirRegression

import ooclearn
from ooclearn.cluster import KMeans, starts
from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.linear_model import LinearRegression
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler
from ooclearn.sources import SourceBlocks
from ooclearn.testing import CountingBlocks
from ooclearn.testing.tables import uneven_cut
from ooclearn.validation import host_array

DIGITS = load_digits().data
# Whole numbers have ties, which rounding decides.
UNTIED = DIGITS[:600] + np.random.default_rng(0).normal(0, 0.01, (600, 64))


def table(n=900, offset=0.0, seed=0):
    """Three clusters that do not overlap, in three columns."""
    rng = np.random.default_rng(seed)
    X = np.concatenate([rng.normal(m, 1, (n // 3, 3)) for m in ([0, 0, 0], [9, 0, 0], [0, 9, 9])]) + offset
    return rng.permutation(X)


def passes_over(blocks):
    """Return how often the rows were read."""
    return sum(stop - start for start, stop in blocks.source.reads) / blocks.n_rows


@pytest.fixture
def small_sample(monkeypatch):
    """Make tables of a test too large for the sample of the first pass."""
    monkeypatch.setattr(starts, "_SAMPLE_BYTES", 0)


def assert_same(ours, theirs, rtol=1e-9):
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(ours.inertia_, theirs.inertia_, rtol=rtol)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    assert np.asarray(ours.labels_).dtype == theirs.labels_.dtype
    assert ours.cluster_centers_.dtype == theirs.cluster_centers_.dtype


@pytest.mark.parametrize("tol", [0.0, 1e-2])
@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("k", [1, 10, 50])
def test_scikit_learns_numbers_where_the_sample_is_the_table(k, init, tol):
    given = {"init": init, "tol": tol, "n_init": 2 if k == 10 else 1, "random_state": 3}
    ours = KMeans(k, **given).fit(UNTIED)
    theirs = sklearn.cluster.KMeans(k, **given).fit(UNTIED)
    assert_same(ours, theirs)
    np.testing.assert_allclose(ours.transform(UNTIED), theirs.transform(UNTIED), rtol=1e-9, atol=1e-6)
    np.testing.assert_array_equal(ours.predict(UNTIED), theirs.predict(UNTIED))
    np.testing.assert_allclose(ours.score(UNTIED), theirs.score(UNTIED), rtol=1e-9)
    assert list(ours.get_feature_names_out()) == list(theirs.get_feature_names_out())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("max_iter", [1, 2, 300])
def test_from_given_centers(backend, max_iter, weighted):
    """Every step is scikit-learn's, on every container."""
    X = DIGITS[:400, 2:6] + np.random.default_rng(0).normal(0, 0.1, (400, 4))
    dtype = np.float64 if backend.has(np.float64) else np.float32
    X = X.astype(dtype)
    w = np.random.default_rng(1).uniform(0.5, 2, 400).astype(dtype) if weighted else None
    # One centre far off is empty at once, and relocated.
    init = np.concatenate([X[:5], [[1e3] * 4]]).astype(dtype)
    given = {"init": init, "n_init": 1, "max_iter": max_iter, "tol": 0.0}
    ours = KMeans(6, **given).fit(backend.make(X), sample_weight=None if w is None else backend.make(w))
    theirs = sklearn.cluster.KMeans(6, **given).fit(X.astype(np.float64), sample_weight=w)
    rtol = backend.within(1e4)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(ours.inertia_, theirs.inertia_, rtol=rtol)
    np.testing.assert_array_equal(np.asarray(ours.labels_), theirs.labels_)
    np.testing.assert_array_equal(backend.back(ours.predict(backend.make(X))), theirs.labels_)
    distances = backend.back(ours.transform(backend.make(X)))
    assert distances.dtype == dtype
    np.testing.assert_allclose(distances, theirs.transform(X.astype(np.float64)), rtol=rtol, atol=1e2 * rtol)
    assert ours.score(backend.make(X)) == pytest.approx(theirs.score(X.astype(np.float64)), rel=rtol)
    if dtype == np.float64:
        assert ours.n_iter_ == theirs.n_iter_


def test_several_empty_clusters_are_relocated():
    X = DIGITS[:300]
    init = np.concatenate([X[:3], 1e4 + np.arange(5)[:, None] * np.ones(64)])
    given = {"init": init, "n_init": 1, "tol": 0.0}
    assert_same(KMeans(8, **given).fit(X), sklearn.cluster.KMeans(8, **given).fit(X))


def test_far_from_zero():
    """At an offset of 1e8 the centres are as exact as the table, and the result that of the table without it."""
    X = np.round(table() * 2**10) / 2**10
    near = KMeans(3, random_state=0).fit(X)
    far = KMeans(3, random_state=0).fit(X + 2.0**27)
    np.testing.assert_array_equal(far.labels_, near.labels_)
    np.testing.assert_allclose(far.cluster_centers_ - 2.0**27, near.cluster_centers_, atol=4e-8)
    assert far.inertia_ == pytest.approx(near.inertia_, rel=1e-12)
    assert -far.score(X + 2.0**27) == pytest.approx(near.inertia_, rel=1e-9)


BLOBS = make_blobs(6_000, 10, centers=50, random_state=1)[0]


@pytest.mark.parametrize("X", [BLOBS, DIGITS], ids=["blobs", "digits"])
def test_inertia_of_k_means_parallel(X, small_sample):
    """Within 2 % of scikit-learn's k-means++ at 50 clusters, on average; no cluster empty."""
    blocks = ooclearn.scan(X).recut(uneven_cut(len(X), 3))
    ours = [KMeans(50, random_state=seed).fit(blocks) for seed in range(3)]
    theirs = [sklearn.cluster.KMeans(50, random_state=seed).fit(X).inertia_ for seed in range(3)]
    assert np.mean([one.inertia_ for one in ours]) <= 1.02 * np.mean(theirs)
    assert all(len(np.unique(one.labels_)) == 50 for one in ours)
    assert all(np.isfinite(one.cluster_centers_).all() for one in ours)


def test_small_clusters_far_off_are_found(small_sample):
    """A uniform sample misses the ten rows of each of five far clusters: the rounds find them."""
    rng = np.random.default_rng(0)
    far = [rng.normal(m, 0.1, (10, 2)) for m in rng.uniform(-1, 1, (5, 2)) * 1e4]
    X = rng.permutation(np.concatenate([rng.normal(0, 1, (8000, 2)), *far]))
    k_means = KMeans(6, random_state=0).fit(ooclearn.scan(X).recut(uneven_cut(len(X))))
    assert sorted(np.bincount(k_means.labels_)) == [10] * 5 + [8000]


def test_several_runs_share_their_passes():
    counted = CountingBlocks(UNTIED, uneven_cut(len(UNTIED)))
    best = KMeans(10, init="random", n_init=4, random_state=0).fit(counted)
    random = np.random.RandomState(0)
    alone = [KMeans(10, init="random", n_init=1, random_state=random).fit(UNTIED) for _ in range(4)]
    assert best.inertia_ == pytest.approx(min(one.inertia_ for one in alone))
    # The sample, a pass a step of the longest run, and the inertia of its last centres.
    assert passes_over(counted) <= 2 + max(one.n_iter_ for one in alone)


@pytest.mark.parametrize("init", ["k-means||", "random"])
def test_one_cut_gives_the_same_bits_for_any_number_of_workers(host_backend, init, small_sample):
    X = table(1500)
    given = {"init": init, "n_init": 2, "random_state": 5, "tol": 0.0}
    results = []
    for workers in (1, 3):
        with ooclearn.config_context(workers=workers):
            results.append(KMeans(7, **given).fit(host_backend.make(X)))
    a, b = results
    np.testing.assert_array_equal(a.cluster_centers_, b.cluster_centers_)
    assert (a.inertia_, a.n_iter_) == (b.inertia_, b.n_iter_)


def test_random_state():
    X = table()
    state = np.random.RandomState(0)
    a, b = (KMeans(4, random_state=state).fit(X) for _ in range(2))
    assert not np.array_equal(a.cluster_centers_, b.cluster_centers_)
    again = KMeans(4, random_state=np.random.RandomState(0)).fit(X)
    np.testing.assert_array_equal(again.cluster_centers_, a.cluster_centers_)
    np.random.seed(0)
    np.testing.assert_array_equal(KMeans(4).fit(X).cluster_centers_, a.cluster_centers_)


def test_passes(small_sample):
    """The sample, two rounds, the weights, one a step, and one for the inertia unless nothing has moved."""
    blocks = CountingBlocks(DIGITS, uneven_cut(len(DIGITS)))
    k_means = KMeans(10, random_state=0, max_iter=4, tol=0.0)
    plan = k_means.explain(blocks)
    assert blocks.source.reads == []
    assert plan.n_passes == 1 + 2 + 1 + 5
    k_means.fit(blocks)
    assert k_means.n_iter_ == 4
    assert passes_over(blocks) == plan.n_passes
    converged = CountingBlocks(table(), uneven_cut(900))
    k_means = KMeans(3, random_state=0, tol=0.0).fit(converged)
    assert passes_over(converged) == 1 + 2 + 1 + k_means.n_iter_
    assert "5 to 9 readings" in str(plan)
    # Weights of 0 may leave so few rows that the sample holds them.
    weighted = KMeans(10, max_iter=4).explain(blocks, sample_weight=np.ones(len(DIGITS)))
    assert (weighted.n_certain, weighted.n_passes) == (2, 9)


def test_passes_of_a_table_that_fits_the_sample():
    blocks = CountingBlocks(table(), uneven_cut(900))
    plan = KMeans(3, max_iter=7).explain(blocks)
    assert plan.n_passes == 1 + 8
    k_means = KMeans(3, random_state=0, tol=0.0).fit(blocks)
    assert passes_over(blocks) == 1 + k_means.n_iter_


def test_labels_of_lazy_rows_are_lazy():
    X = table()
    blocks = CountingBlocks(X, uneven_cut(900))
    k_means = KMeans(3, random_state=0).fit(blocks)
    before = passes_over(blocks)
    labels = k_means.labels_
    assert isinstance(labels, ooclearn.Blocks)
    assert labels.shape == (900,)
    assert passes_over(blocks) == before
    np.testing.assert_array_equal(np.asarray(labels), k_means.predict(X))
    copied = pickle.loads(pickle.dumps(k_means))
    assert not hasattr(copied, "labels_")
    np.testing.assert_array_equal(copied.predict(X), k_means.predict(X))
    kept = KMeans(3, random_state=0).fit(X)
    assert isinstance(kept.labels_, np.ndarray)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(kept)).labels_, kept.labels_)


def test_weights_of_zero_leave_rows_out():
    X = table()
    w = np.ones(len(X))
    w[::3] = 0.0
    given = {"init": X[[1, 2, 4]], "n_init": 1, "tol": 0.0}
    ours = KMeans(3, **given).fit(X, sample_weight=w)
    theirs = KMeans(3, **given).fit(X[w > 0])
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-12)
    assert ours.inertia_ == pytest.approx(theirs.inertia_)
    # The start: no row of no weight is a centre.
    X[::3] = 1e6
    started = KMeans(3, random_state=0).fit(ooclearn.scan(X).recut(uneven_cut(900)), sample_weight=w)
    assert np.abs(started.cluster_centers_).max() < 100


@pytest.mark.parametrize("init", ["k-means||", "k-means++", "random"])
@pytest.mark.parametrize("large", [False, True])
def test_fewer_distinct_rows_than_clusters(init, large, monkeypatch):
    if large:
        monkeypatch.setattr(starts, "_SAMPLE_BYTES", 0)
    X = np.repeat([[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]], 50, axis=0)
    counted = CountingBlocks(X, uneven_cut(150))
    with pytest.warns(
        ConvergenceWarning, match=r"Number of distinct clusters \([123]\) found smaller than n_clusters \(5"
    ):
        k_means = KMeans(5, init=init, n_init=2, random_state=0, init_max_iter=20).fit(counted)
    assert passes_over(counted) < 12, "no more rows are drawn once all are found"
    assert np.isfinite(k_means.cluster_centers_).all()
    if init != "random":
        assert k_means.inertia_ == pytest.approx(0.0, abs=1e-20)


def test_constant_table():
    with pytest.warns(ConvergenceWarning):
        k_means = KMeans(2, random_state=0).fit(np.full((30, 2), 0.1))
    np.testing.assert_array_equal(k_means.cluster_centers_, np.full((2, 2), 0.1))
    assert k_means.inertia_ == 0.0


def test_float32_stays():
    X = table().astype(np.float32)
    ours = KMeans(3, random_state=0).fit(X)
    exact = KMeans(3, random_state=0).fit(X.astype(np.float64))
    assert ours.cluster_centers_.dtype == ours.transform(X).dtype == np.float32
    np.testing.assert_allclose(ours.cluster_centers_, exact.cluster_centers_, rtol=1e-6, atol=1e-6)
    assert KMeans(3).fit(X.astype(np.int64)).cluster_centers_.dtype == np.float64


def test_centers_from_a_function():
    X = table()
    seen = []

    def init(rows, n_clusters, random_state):
        seen.append(rows)
        return rows[random_state.permutation(len(rows))[:n_clusters]]

    k_means = KMeans(3, init=init, n_init=3, random_state=0).fit(X)
    np.testing.assert_array_equal(seen[0], X)
    assert len(seen) == 3
    assert np.isfinite(k_means.inertia_)


def test_given_centers_run_once():
    X = table()
    with pytest.warns(RuntimeWarning, match="performing only one init"):
        KMeans(3, init=X[:3], n_init=4).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KMeans(3, init=X[:3]).fit(X)


@pytest.mark.parametrize(
    ("k_means", "message"),
    [
        (KMeans(1000), r"n_samples=900 should be >= n_clusters=1000"),
        (KMeans(3, init=np.zeros((2, 3))), "does not match the number of clusters 3"),
        (KMeans(3, init=np.zeros((3, 4))), "does not match the number of features of the data 3"),
        (KMeans(3, init=np.diag([0.0, np.nan, 0.0])), "initial centers contain NaN"),
        (KMeans(3, init=np.zeros(3)), "initial centers have shape"),
        (KMeans(3, init=lambda X, n_clusters, random_state: X[:2]), "does not match the number of clusters 3"),
        (KMeans(0), "n_clusters"),
        (KMeans(3, init="k-means"), "init"),
    ],
)
def test_refused(k_means, message):
    with pytest.raises(ValueError, match=message):
        k_means.fit(table())
    with pytest.raises(NotFittedError):
        k_means.predict(table())


@pytest.mark.parametrize("init", ["k-means||", "random", np.eye(3)], ids=["k-means||", "random", "given"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_not_finite_is_refused_with_the_place(init, bad, weight):
    X = table()
    X[700, 1] = bad
    w = np.ones(900)
    w[700] = weight
    with pytest.raises(NonFiniteError) as caught:
        KMeans(3, init=init, random_state=0).fit(ooclearn.scan(X).recut((300, 300, 300)), sample_weight=w)
    assert (caught.value.rows, caught.value.column, caught.value.block) == ((700, 701), 1, 2)
    k_means = KMeans(3, random_state=0).fit(table())
    for method in (k_means.predict, k_means.transform, k_means.score):
        with pytest.raises(NonFiniteError) as caught:
            method(X)
        assert caught.value.column == 1


def test_all_weights_zero():
    with pytest.raises(DataError, match="sample weights are zero"):
        KMeans(3).fit(table(), sample_weight=np.zeros(900))


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_overflow_is_refused():
    with pytest.raises(DataError, match="overflow"):
        KMeans(2, random_state=0).fit(np.array([[1e200], [-1e200], [3e200]]))


@pytest.mark.parametrize("size", [1.0, 1e154, 1e160])
def test_rows_at_their_centers_whatever_their_size(size):
    X = np.repeat([[1.0, 1.0]], 6, axis=0) * size
    with np.errstate(over="raise"):
        fitted = KMeans(1, init=X[:1], n_init=1).fit(X)
        np.testing.assert_array_equal(fitted.predict(X), np.zeros(6))
        np.testing.assert_array_equal(fitted.transform(X), np.zeros((6, 1)))


def test_behind_a_scaler():
    """The scaler, the means and the sample share a pass; each step is one more."""
    X = table() * [1.0, 100.0, 0.01]
    blocks = CountingBlocks(X, uneven_cut(900))
    pipe = make_pipeline(StandardScaler(), KMeans(3, random_state=0, tol=0.0))
    plan = pipe.explain(blocks)
    assert plan.n_passes == 1 + 301
    pipe.fit(blocks)
    assert passes_over(blocks) == 1 + pipe[-1].n_iter_
    theirs = sklearn.cluster.KMeans(3, random_state=0, tol=0.0).fit(sklearn.preprocessing.scale(X))
    np.testing.assert_allclose(pipe[-1].cluster_centers_, theirs.cluster_centers_, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(np.asarray(pipe.predict(blocks)), theirs.labels_)
    assert isinstance(pipe[-1].labels_, ooclearn.Blocks)
    np.testing.assert_array_equal(np.asarray(pipe[-1].labels_), theirs.labels_)
    np.testing.assert_array_equal(np.asarray(pipe.fit_predict(blocks)), theirs.labels_)
    in_memory = pipe.fit(X)[-1].labels_
    assert isinstance(in_memory, np.ndarray)
    np.testing.assert_array_equal(in_memory, theirs.labels_)
    assert pipe.score(blocks) == pytest.approx(-theirs.inertia_)
    assert list(pipe.get_feature_names_out()) == ["kmeans0", "kmeans1", "kmeans2"]


def test_as_a_transformer():
    """What comes behind waits for the centres, and gets the distances."""
    X = table()
    y = X @ [1.0, 2.0, 3.0]
    pipe = make_pipeline(KMeans(4, random_state=0), StandardScaler(), LinearRegression())
    theirs = sklearn.pipeline.make_pipeline(
        sklearn.cluster.KMeans(4, random_state=0), sklearn.preprocessing.StandardScaler(), TheirRegression()
    )
    blocks = ooclearn.scan(X).recut(uneven_cut(900))
    np.testing.assert_allclose(np.asarray(pipe.fit(blocks, y).predict(blocks)), theirs.fit(X, y).predict(X), rtol=1e-6)
    assert pipe.explain(blocks, y).n_passes == 1 + 301 + 1


def test_verbose(capsys):
    k_means = KMeans(3, random_state=0, verbose=1, tol=0.0).fit(table())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Iteration 0, inertia ")
    assert len(lines) == k_means.n_iter_


class Noise:
    """Rows made when they are asked for."""

    in_memory = False
    name = "noise"
    dtype = np.dtype(np.float64)

    def __init__(self, n):
        self.shape = (n, 10)

    def read(self, start, stop, /, out=None):
        rows = np.random.default_rng(start).normal(size=(stop - start, 10))
        if out is None:
            return rows
        out[...] = rows
        return out


def test_memory_does_not_grow_with_the_rows():
    peaks = []
    for n in (24_000, 96_000):
        tracemalloc.start()
        with ooclearn.config_context(workers=1):
            KMeans(10, random_state=0, max_iter=1).fit(SourceBlocks(Noise(n), [4000] * (n // 4000)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_behind_a_step_on_every_container(backend):
    X = table(n=90)
    pipe = make_pipeline(StandardScaler(), KMeans(3, init=X[:3], n_init=1, max_iter=2))
    expected = pipe.fit(X)[-1].labels_
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = pipe.fit(backend.make(X))[-1].labels_
    assert np.mean(host_array(labels) == expected) > 0.95
