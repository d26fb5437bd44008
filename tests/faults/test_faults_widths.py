"""Faults of the catalogue that lie in names and widths: 23 to 27."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import preprocessing as sk
from sklearn.decomposition import IncrementalPCA
from sklearn.linear_model import SGDClassifier

import ooclearn
from ooclearn import Incremental
from ooclearn.exceptions import DataError, PerformanceWarning, SourceChangedError
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler
from ooclearn.testing import FaultySource

FRAMES = ("pandas", "polars")


def frame_of(library: str, X: np.ndarray, **more: np.ndarray):
    frames = pytest.importorskip(library)
    columns = {name: X[:, j] for j, name in enumerate("abcde"[: X.shape[1]])}
    return frames.DataFrame(columns | more)


@pytest.mark.parametrize("library", FRAMES)
@pytest.mark.parametrize("call", ["transform", "partial_fit"])
def test_23_columns_in_another_order(library, call, scaler, refused, X):
    scaler.fit(frame_of(library, X))
    shuffled = frame_of(library, X)[list("bacde")]
    with refused(scaler, "must be in the same order", error=ValueError):
        getattr(scaler, call)(shuffled)


@pytest.mark.parametrize("library", FRAMES)
def test_23_columns_in_another_order_for_a_trained_estimator(library, trained, refused, X, y):
    frame = frame_of(library, X)
    trained.fit(frame, y)
    for call in (trained.predict, trained.decision_function, lambda frame: trained.score(frame, y)):
        with refused(trained, "must be in the same order", error=ValueError):
            call(frame[list("edcba")])


@pytest.mark.parametrize("call", ["transform", "partial_fit"])
def test_23_columns_of_a_dask_data_frame_in_another_order(call, scaler, refused, X):
    dd = pytest.importorskip("dask.dataframe")
    frame = dd.from_pandas(frame_of("pandas", X), npartitions=3)
    scaler.fit(frame)
    with refused(scaler, "must be in the same order", error=ValueError):
        getattr(scaler, call)(frame[list("bacde")])


@pytest.mark.parametrize("width", [1, 4, 6])
def test_24_another_number_of_columns(any_container, scaler, refused, width, X):
    scaler.fit(X)
    other = any_container(np.ones((1000, width)))
    for call in (scaler.transform, scaler.inverse_transform, scaler.partial_fit):
        with refused(scaler, f"X has {width} features", "5 features", error=ValueError):
            call(other)


def test_24_another_number_of_columns_for_a_trained_estimator(container, trained, refused, X, y):
    trained.fit(X, y)
    for width in (1, 4, 6):
        other = container(np.ones((1000, width)))
        for call in (trained.predict, trained.decision_function, lambda data: trained.score(data, y)):
            with refused(trained, f"X has {width} features", "5 features", error=ValueError):
                call(other)


def test_24_another_number_of_columns_to_train_on(container, refused, X, y):
    model = Incremental(SGDClassifier()).fit(X, y)
    data = container(X[:, :4])
    with refused(model, "X has 4 features", "5 features", error=ValueError):
        model.partial_fit(data, y)


def test_24_another_number_of_columns_to_take_back(container, refused, X):
    model = Incremental(IncrementalPCA(n_components=2)).fit(X)
    data = container(np.ones((1000, 3)))
    with refused(model, "X has 3 features", "2 features", error=ValueError):
        model.inverse_transform(data)


def _lying(X, change, rows=100):
    """Return a Dask array of which chunk 6 is not what it says."""
    da = pytest.importorskip("dask.array")

    def chunk(block, block_info=None):
        return change(block) if block_info[0]["chunk-location"][0] == 6 else block

    lazy = da.from_array(np.array(X), chunks=(rows, X.shape[1]))
    return lazy.map_blocks(chunk, dtype=X.dtype, chunks=lazy.chunks, meta=np.empty((0, 0)))


def _changing(X, change):
    """Return a function that makes blocks, of which block 6 is another from the second time on."""
    times = []

    def blocks():
        times.append(None)
        for i in range(10):
            block = X[100 * i : 100 * i + 100]
            yield change(block) if i == 6 and len(times) > 1 else block

    return blocks


NARROW = {
    "dask": lambda X: _lying(X, lambda block: block[:, :4]),
    "source": lambda X: FaultySource(X, 6, "narrow", name="narrow.npy").blocks([100] * 10),
    "callable": lambda X: _changing(X, lambda block: block[:, :4]),
}
SHORT = {
    "dask": lambda X: _lying(X, lambda block: block[:-1]),
    "source": lambda X: FaultySource(X, 6, "short", name="short.npy").blocks([100] * 10),
    "callable": lambda X: _changing(X, lambda block: block[:-1]),
}
ONE_ROW = {
    "dask": lambda X: _lying(X, lambda block: block[:1]),
    "source": lambda X: FaultySource(X, 6, lambda block: block[:1], name="one.npy").blocks([100] * 10),
    "callable": lambda X: _changing(X, lambda block: block[:1]),
}


@pytest.mark.parametrize("make", NARROW.values(), ids=NARROW)
def test_25_a_block_narrower_than_declared(make, scaler, refused, X):
    with refused(scaler, "(100, 4)", "(100, 5)", "block 6"):
        scaler.fit(make(X))


@pytest.mark.parametrize("make", NARROW.values(), ids=NARROW)
def test_25_a_block_to_train_on_narrower_than_declared(make, refused, X, y):
    model = Incremental(SGDClassifier(shuffle=False))
    with refused(model, "4)", "5)", "block"):
        model.fit(make(X), y)


def test_25_names_the_block_of_a_callable_when_it_is_first_run(scaler, refused, X):
    def blocks():
        yield X[:100]
        yield X[100:200, :4]

    with refused(scaler, "(100, 4)", "(5,)", "block 1", "blocks"):
        scaler.fit(blocks)


def test_25_names_both_files_of_a_folder(tmp_path, X):
    np.save(tmp_path / "a.npy", X[:500])
    np.save(tmp_path / "b.npy", X[500:, :4])
    with pytest.raises(DataError, match=r"rows of shape \(4,\) cannot follow rows of shape \(5,\)") as caught:
        ooclearn.scan(tmp_path)
    assert "a.npy" in str(caught.value)
    assert "b.npy" in str(caught.value)


@pytest.mark.parametrize(
    "make", [*SHORT.values(), *ONE_ROW.values()], ids=[*SHORT, *(f"{name}, one row" for name in ONE_ROW)]
)
def test_26_a_block_with_fewer_rows_than_declared(make, scaler, refused, X):
    with refused(scaler, "(100, 5)", "block 6"):
        scaler.fit(make(X))


@pytest.mark.parametrize(
    "make", [*SHORT.values(), *ONE_ROW.values()], ids=[*SHORT, *(f"{name}, one row" for name in ONE_ROW)]
)
def test_26_a_result_with_fewer_rows_than_declared(make, tmp_path, X):
    data = make(X)
    scaler = StandardScaler().fit(X)
    lazy = scaler.transform(ooclearn.scan(data))
    with pytest.raises(DataError, match="block 6"):
        lazy.to_npy(tmp_path / "out.npy")
    assert list(tmp_path.iterdir()) == []
    if not isinstance(data, ooclearn.Blocks):  # the source fails once
        with pytest.raises(DataError, match="block 6"):
            np.asarray(scaler.transform(ooclearn.scan(make(X))))


def test_26_a_callable_that_ends_early(refused, X):
    def blocks(times=[]):  # noqa: B006  (it is to remember)
        times.append(None)
        yield X[:100]
        if len(times) == 1:
            yield X[100:]

    scaler = StandardScaler()
    with refused(scaler, "gave nothing where it gave (900, 5)", "block 1", error=SourceChangedError):
        scaler.fit(blocks)


@pytest.mark.parametrize("call", ["fit", "transform"])
def test_27_columns_split_into_chunks(call, X):
    da = pytest.importorskip("dask.array")
    split = da.from_array(np.array(X), chunks=(100, 2))
    scaler = sk.StandardScaler().fit(X)
    with pytest.warns(PerformanceWarning, match="3 chunks") as caught:
        if call == "fit":
            np.testing.assert_allclose(StandardScaler().fit(split).mean_, scaler.mean_, rtol=1e-12)
        else:
            scaled = StandardScaler().fit(X).transform(split)
            np.testing.assert_allclose(scaled.compute(), scaler.transform(X), rtol=1e-9, atol=1e-12)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_27_columns_split_into_chunks_to_train_on(same, X, y):
    da = pytest.importorskip("dask.array")
    split, whole = da.from_array(np.array(X), chunks=(100, 2)), da.from_array(np.array(X), chunks=(100, 5))
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0)))
    with pytest.warns(PerformanceWarning, match="3 chunks") as caught:
        pipe.fit(split, y)
    assert len(caught) == 1
    assert pipe[-1].coef_.shape == (1, 5)
    same(make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(whole, y), pipe)
    with pytest.warns(PerformanceWarning, match="3 chunks"):
        predicted = pipe.predict(split)
    np.testing.assert_array_equal(predicted.compute(), pipe.predict(X))
