"""passes=1: what is fed behind scalers learns in one reading, and the scalers are as exact as ever."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import Perceptron, SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import PolynomialFeatures

import ooclearn
from ooclearn import Incremental
from ooclearn.one_pass import sampled
from ooclearn.pipeline import Pipeline, make_pipeline
from ooclearn.preprocessing import MaxAbsScaler, MinMaxScaler, Normalizer, StandardScaler
from ooclearn.table import Table
from ooclearn.testing import CountingBlocks
from ooclearn.validation import as_table


def made(n=20_000, d=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * rng.uniform(0.1, 50, d) + rng.normal(size=d) * 100
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    y = (scaled @ rng.normal(size=d) + rng.normal(scale=0.3, size=n) > 0).astype(np.int64)
    return X, y


SCALERS = {
    "standard": lambda: [StandardScaler()],
    "min-max": lambda: [MinMaxScaler((-1.0, 3.0))],
    "max-abs": lambda: [MaxAbsScaler()],
    "two": lambda: [StandardScaler(), MinMaxScaler()],
    "centred only": lambda: [StandardScaler(with_std=False)],
}
MODELS = {
    "SGDClassifier": lambda: SGDClassifier(random_state=0),
    "log loss": lambda: SGDClassifier(loss="log_loss", random_state=0),
    "SGDRegressor": lambda: SGDRegressor(random_state=0),
    "Perceptron": lambda: Perceptron(random_state=0),
    "MLPClassifier": lambda: MLPClassifier(hidden_layer_sizes=(5,), random_state=0),
    "MLPRegressor": lambda: MLPRegressor(hidden_layer_sizes=(4, 3), random_state=0),
    "MiniBatchKMeans": lambda: MiniBatchKMeans(3, random_state=0, n_init=1),
}


def pipe_of(scalers, model, **options):
    return make_pipeline(*SCALERS[scalers](), Incremental(MODELS[model](), epochs=2), **options)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("scalers", SCALERS)
def test_the_decision_is_the_one_that_was_trained(scalers, model, monkeypatch):
    """What the fitted pipeline says of rows is what the model said of them in the columns that it was trained on."""
    X, y = made(4000)
    seen = {}
    one_pass = ooclearn.one_pass
    express = one_pass._re_express

    def noted(step, ratio, shift):
        seen["model"] = clone(step.estimator).__class__.__new__(type(step.estimator_))
        seen["model"].__dict__ = {k: _copied(v) for k, v in vars(step.estimator_).items()}
        express(step, ratio, shift)

    provisional = one_pass.OnePassFit._provisional

    def mapped(self, table):
        seen["map"] = provisional(self, table)
        return seen["map"]

    monkeypatch.setattr(one_pass, "_re_express", noted)
    monkeypatch.setattr(one_pass.OnePassFit, "_provisional", mapped)
    pipe = pipe_of(scalers, model, passes=1).fit(X, y)
    before = seen["model"]
    method = "decision_function" if hasattr(before, "decision_function") else "predict_proba"
    method = method if hasattr(before, method) else "predict"
    got = getattr(pipe[-1].estimator_, method)(pipe[:-1].transform(X))
    if model == "MiniBatchKMeans":
        # Distances are measured in other columns, so a row may change its cluster; the centres lie where they lay.
        centers = pipe[-1].estimator_.cluster_centers_
        for scaler in reversed([step for _, step in pipe.steps[:-1]]):
            centers = scaler.inverse_transform(centers)
        line = ooclearn.one_pass._line(seen["map"], X.shape[1])
        expected = (before.cluster_centers_ - line[2]) / line[0] + line[1]
        np.testing.assert_allclose(centers, expected, rtol=1e-9)
    else:
        np.testing.assert_allclose(got, getattr(before, method)(seen["map"](X)), rtol=1e-9, atol=1e-9)


def _copied(value):
    if isinstance(value, list):
        return [_copied(one) for one in value]
    return value.copy() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("name", ["scan", "dask", "numpy"])
@pytest.mark.parametrize("scalers", SCALERS)
def test_scalers_are_those_of_an_exact_fit(scalers, name, tmp_path):
    X, y = made(5000)
    if name == "scan":
        np.save(tmp_path / "X.npy", X)
        data = ooclearn.scan(tmp_path / "X.npy")
    elif name == "dask":
        data = pytest.importorskip("dask.array").from_array(X, chunks=(700, 6))
    else:
        data = X
    one = pipe_of(scalers, "SGDClassifier", passes=1).fit(data, y)
    two = pipe_of(scalers, "SGDClassifier").fit(data, y)
    for a, b in zip(one[:-1], two[:-1], strict=True):
        found = {name: value for name, value in vars(a).items() if name.endswith("_") and not name.startswith("_")}
        assert set(found) == {name for name in vars(b) if name.endswith("_") and not name.startswith("_")}
        for name_, value in found.items():
            if value is not None:
                np.testing.assert_allclose(value, getattr(b, name_), rtol=1e-12, atol=1e-12, err_msg=name_)


@pytest.mark.parametrize("ordered", [False, True], ids=["as drawn", "sorted by class"])
def test_as_accurate(ordered):
    X, y = made(300_000)
    (X, held), (y, labels) = np.split(X, [200_000]), np.split(y, [200_000])
    if ordered:
        order = np.argsort(y, kind="stable")
        X, y = X[order], y[order]
    one = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0)), passes=1).fit(X, y)
    two = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(X, y)
    assert abs(one.score(held, labels) - two.score(held, labels)) < 0.003
    assert one.score(held, labels) > 0.9


def test_reads_the_rows_once_and_a_sample():
    X, y = made(100_000, d=2)
    source = CountingBlocks(X, [1000] * 100)
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0)), passes=1)
    plan = pipe.explain(source, y)
    assert not source.reads
    assert plan.n_passes == 1
    assert "a sample" in str(plan)
    pipe.fit(source, y)
    read = sum(stop - start for start, stop in source.reads)
    assert len(X) < read <= 1.02 * len(X)
    times = np.zeros(len(X), dtype=int)
    for start, stop in source.reads:
        times[start:stop] += 1
    assert times.min() == 1


def test_the_sample_is_from_all_over_the_table():
    X = np.arange(100_000.0)[:, None]
    rows = sampled(as_table(ooclearn.scan(X), X[:, 0])).X[:, 0]
    assert len(rows) == len(set(rows)) == 2000 - 2000 % 64
    assert abs(rows.mean() - 50_000) < 1000
    table = Table(ooclearn.scan(X).recut([20_000] * 5))
    assert len(sampled(table).X) == len(rows)


@pytest.mark.filterwarnings("ignore::ooclearn.exceptions.PerformanceWarning")  # of the small chunks
@pytest.mark.parametrize("known", [True, False], ids=["lengths known", "lengths unknown"])
@pytest.mark.parametrize("chunk", [7, 5000])
def test_the_sample_of_whole_chunks_is_from_all_over_the_table(chunk, known):
    """One chunk is not like another where rows are in order; and not all are read, where no one knows how long they are."""
    da = pytest.importorskip("dask.array")
    read = []

    def noted(block, block_info=None):
        if block.size:
            read.append(block_info[0]["chunk-location"][0])
        return block

    n = min(40_000, 1000 * chunk)
    data = da.arange(float(n), chunks=chunk)[:, None].map_blocks(noted, dtype=float)
    if not known:
        data = data[da.ones(n, chunks=chunk, dtype=bool)]
    rows = sampled(as_table(data)).X[:, 0]
    assert 1024 <= len(rows) == len(set(rows)) < 2500
    assert abs(rows.mean() - n / 2) < 0.03 * n
    np.testing.assert_allclose(rows.std(), n / 12**0.5, rtol=0.1)
    if chunk == 5000:
        assert len(set(read)) == 5


def test_in_order_and_in_whole_chunks():
    da = pytest.importorskip("dask.array")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40_000, 4))
    X[:, 0] = np.sort(50 * X[:, 0])
    y = (X @ [0.3 / 50, 1.0, -1.0, 0.5] + rng.normal(scale=0.3, size=len(X)) > 0).astype(np.int64)
    data = da.from_array(X, chunks=(5000, 4))
    one = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0)), passes=1).fit(data, y)
    two = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(data, y)
    assert one.score(X, y) > two.score(X, y) - 0.02


@pytest.mark.parametrize("model", ["SGDClassifier", "Perceptron", "MLPClassifier", "SGDRegressor"])
@pytest.mark.parametrize("scalers", ["standard", "min-max", "two"])
@pytest.mark.parametrize("n", [60, 174, 330, 1000])
def test_few_rows_are_all_in_the_sample(n, scalers, model):
    """What one sweep over few rows learns depends on every digit of the scaling, so it is the exact one."""
    X, y = made(n, seed=n)
    one, two = pipe_of(scalers, model, passes=1).fit(X, y), pipe_of(scalers, model).fit(X, y)
    np.testing.assert_allclose(one.predict(X), two.predict(X), rtol=1e-9)


@pytest.mark.parametrize("n", [2, 5, 63, 64, 65, 257, 1000])
def test_few_rows(n):
    X, y = made(n)
    y = np.arange(n) % 2
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0), classes=[0, 1]), passes=1)
    assert pipe.fit(X, y).predict(X).shape == (n,)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: make_pipeline(Normalizer(), Incremental(SGDClassifier()), passes=1), "normalizer"),
        (lambda: make_pipeline(MinMaxScaler(clip=True), Incremental(SGDClassifier()), passes=1), "minmaxscaler"),
        (lambda: make_pipeline(StandardScaler(), passes=1), "StandardScaler"),
        (lambda: make_pipeline(StandardScaler(), Incremental(SGDClassifier(average=True)), passes=1), "Incremental"),
        (lambda: make_pipeline(PolynomialFeatures(), Incremental(SGDClassifier()), passes=1), "polynomialfeatures"),
    ],
    ids=["no scaler", "clipped", "no feed", "averaged", "foreign"],
)
def test_what_cannot_be_corrected_is_refused(make, words):
    X, y = made(500)
    with pytest.raises(ValueError, match=words):
        make().fit(X, y)


def test_parameter():
    pipe = Pipeline([("scale", StandardScaler())], passes=1)
    assert clone(pipe).passes == 1
    with pytest.raises(ValueError, match="passes"):
        make_pipeline(StandardScaler(), Incremental(SGDClassifier()), passes=2).fit(*made(100))


def test_weights():
    X, y = made(3000)
    w = np.random.default_rng(1).integers(0, 3, len(X)).astype(float)
    one = pipe_of("standard", "SGDClassifier", passes=1)
    one.fit(X, y, standardscaler__sample_weight=w, incremental__sample_weight=w)
    np.testing.assert_allclose(one[0].mean_, StandardScaler().fit(X, sample_weight=w).mean_, rtol=1e-12)
