"""Faults of the catalogue that lie in parameters and sources: 35, 36, 58, 59."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
from sklearn import preprocessing as sk
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline as sk_make_pipeline

import ooclearn
from ooclearn import Incremental, ParallelPostFit
from ooclearn._compat import InvalidParameterError
from ooclearn.exceptions import PerformanceWarning, SourceChangedError
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import Binarizer, MaxAbsScaler, MinMaxScaler, Normalizer, StandardScaler
from ooclearn.testing import CountingBlocks


def frame_of(library: str, X: np.ndarray, **more: np.ndarray):
    frames = pytest.importorskip(library)
    columns = {name: X[:, j] for j, name in enumerate("abcde"[: X.shape[1]])}
    return frames.DataFrame(columns | more)


@pytest.mark.parametrize(
    "estimator",
    [
        StandardScaler(with_mean="no"),
        StandardScaler(with_std=3),
        StandardScaler(copy=None),
        MinMaxScaler(feature_range=[0, 1]),
        MinMaxScaler(clip="yes"),
        MaxAbsScaler(copy="never"),
        Normalizer(norm="l3"),
        Binarizer(threshold="high"),
        Incremental(SGDClassifier(), epochs=0),
        Incremental(SGDClassifier(), epochs=1.5),
        Incremental(SGDClassifier(), shuffle="always"),
        Incremental(SGDClassifier(), block_rows=-1),
        Incremental(SGDClassifier(), scoring=3.0),
        Incremental(SGDClassifier(), random_state="seven"),
        Incremental("SGDClassifier"),
        ParallelPostFit(7),
        make_pipeline(StandardScaler(with_mean="no"), Incremental(SGDClassifier())),
        make_pipeline(StandardScaler(), Incremental(SGDClassifier(), epochs=-3)),
    ],
    ids=str,
)
def test_35_parameters_that_make_no_sense(estimator, refused, X, y):
    counted = CountingBlocks(X, [100] * 10)
    with refused(estimator, "parameter of", "must be", error=InvalidParameterError):
        estimator.fit(counted, y)
    assert counted.reads == []


def test_35_a_range_the_wrong_way_round(refused, X):
    scaler = MinMaxScaler(feature_range=(1, 0))
    with refused(scaler, "Minimum of desired feature range must be smaller than maximum", error=ValueError):
        scaler.fit(X)


def _chunks_of_a_csv_file(X):
    pandas = pytest.importorskip("pandas")
    import io

    return pandas.read_csv(io.StringIO(frame_of("pandas", X).to_csv(index=False)), chunksize=100)


@pytest.mark.parametrize(
    "once",
    [
        lambda X: (X[i : i + 100] for i in range(0, 1000, 100)),
        lambda X: map(np.asarray, [X]),
        lambda X: iter([X]),
        _chunks_of_a_csv_file,
    ],
    ids=["generator", "map", "iterator", "csv"],
)
def test_36_what_can_be_read_once(once, scaler, trained, refused, X, y):
    with refused(scaler, "can be read once", "pass a callable"):
        scaler.fit(once(X))
    with refused(scaler, "can be read once", "pass a callable"):
        scaler.partial_fit(once(X))
    with refused(trained, "can be read once", "pass a callable"):
        trained.fit(once(X), y)
    with refused(trained, "can be read once", "pass a callable"):
        trained.fit(X, once(y.astype(np.float64)[:, None]))
    fitted = trained.fit(X, y)
    with refused(fitted, "can be read once", "pass a callable"):
        fitted.predict(once(X))


def test_36_the_function_that_makes_the_generator(X, y):
    def rows():
        yield from (X[i : i + 100] for i in range(0, 1000, 100))

    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(rows, y)
    assert pipe.score(rows, y) > 0.8


def test_36_a_function_that_gives_the_same_iterator_again(trained, refused, X, y):
    used_up = iter([X[:500], X[500:]])
    with refused(trained, "gave nothing where it gave (500, 5)", "new iterator", "block 0", error=SourceChangedError):
        trained.fit(lambda: used_up, y)


# Many small chunks; staying lazy.


def test_58_thousands_of_chunks_of_one_row(same):
    da = pytest.importorskip("dask.array")
    rng = np.random.default_rng(0)
    X = rng.standard_normal((5000, 3))
    y = (X[:, 0] > 0).astype(np.int64)
    data, target = da.from_array(X, chunks=(1, 3)), da.from_array(y, chunks=1)
    with ooclearn.config_context(block_bytes=2**24), pytest.warns(PerformanceWarning, match="5,000 chunks") as caught:
        start = time.perf_counter()
        scaler = StandardScaler().fit(data)
        assert time.perf_counter() - start < 20
    assert len(caught) == 1
    assert caught[0].filename == __file__
    np.testing.assert_allclose(scaler.mean_, X.mean(axis=0), atol=1e-12)
    with ooclearn.config_context(block_bytes=2**24), pytest.warns(PerformanceWarning, match="5,000 chunks"):
        model = Incremental(SGDClassifier(random_state=0)).fit(data, target)
        assert model.estimator_.t_ == 5001
        assert model.score(data, target) > 0.9


@pytest.mark.parametrize("kind", ["scan", "callable"])
def test_58_thousands_of_blocks_of_one_row(kind, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((5000, 3))
    y = (X[:, 0] > 0).astype(np.int64)
    np.save(tmp_path / "X.npy", X)
    if kind == "scan":
        data, target = ooclearn.scan(tmp_path / "X.npy", block_rows=1), y
    else:
        data, target = (
            ooclearn.scan(lambda: (row[None] for row in X)),
            ooclearn.scan(lambda: (y[i : i + 2] for i in range(0, 5000, 2))),
        )
    with ooclearn.config_context(block_bytes=2**24):
        start = time.perf_counter()
        scaler = StandardScaler().fit(data)
        model = Incremental(SGDClassifier(random_state=0)).fit(data, target)
        assert model.score(data, target) > 0.9
        assert time.perf_counter() - start < 20
    np.testing.assert_allclose(scaler.mean_, X.mean(axis=0), atol=1e-12)
    assert model.estimator_.t_ == 5001


@pytest.fixture
def lazy(X):
    """A Dask array, and a list of the chunks that were computed."""
    da = pytest.importorskip("dask.array")
    computed = []

    def chunk(block):
        computed.append(block.shape)
        return block

    return da.from_array(np.array(X), chunks=(uneven_chunks(), 5)).map_blocks(chunk, meta=np.empty((0, 0))), computed


def uneven_chunks():
    return (100, 1, 299, 0, 600)


def test_59_dask_stays_lazy_in_scalers(lazy, X):
    data, computed = lazy
    for ours, theirs in (
        (StandardScaler(), sk.StandardScaler()),
        (MinMaxScaler(), sk.MinMaxScaler()),
        (MaxAbsScaler(), sk.MaxAbsScaler()),
        (Normalizer(), sk.Normalizer()),
        (Binarizer(threshold=3.0), sk.Binarizer(threshold=3.0)),
    ):
        ours.fit(X)
        scaled = ours.transform(data)
        back = ours.inverse_transform(scaled) if hasattr(ours, "inverse_transform") else data
        assert computed == []
        assert type(scaled) is type(back) is type(data)
        assert scaled.chunks == data.chunks
        np.testing.assert_allclose(scaled.compute(), theirs.fit(X).transform(X), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(back.compute(), X, rtol=1e-9)
        computed.clear()


@pytest.mark.parametrize("make", [make_pipeline, sk_make_pipeline], ids=["ours", "scikit-learn's"])
def test_59_dask_stays_lazy_in_pipelines(make, lazy, X, y):
    data, computed = lazy
    pipe = make(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(data, y)
    # The classes are found in y, so each of the two passes computes each chunk once (and an empty one is not fed).
    assert len([shape for shape in computed if shape[0]]) == 2 * 4
    computed.clear()
    for method in ("predict", "decision_function"):
        predicted = getattr(pipe, method)(data)
        assert computed == []
        assert type(predicted) is type(data)
        assert predicted.chunks == (uneven_chunks(),)
        np.testing.assert_allclose(predicted.compute(), getattr(pipe, method)(X), rtol=1e-9)
        computed.clear()


def test_59_dask_stays_lazy_in_what_was_fitted_in_memory(lazy, X, y):
    data, computed = lazy
    model = ParallelPostFit(SGDClassifier(random_state=0)).fit(X, y)
    predicted = model.predict(data)
    assert computed == []
    np.testing.assert_array_equal(predicted.compute(), model.predict(X))


@pytest.mark.parametrize("name", ["memmap", "scan"])
def test_59_files_stay_on_disk_too(containers, name, X, y):
    data = containers(name)(X)
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(data, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predicted = pipe.predict(data)
    assert isinstance(predicted, ooclearn.Blocks)
    np.testing.assert_array_equal(predicted.to_numpy(), pipe.predict(X))
