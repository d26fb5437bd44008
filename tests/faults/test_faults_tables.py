"""Parts of a table that do not fit together: lengths, cuts, names, widths, weights."""

from __future__ import annotations

import time
import warnings
from itertools import pairwise

import numpy as np
import pytest
from sklearn import preprocessing as sk
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import IncrementalPCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.pipeline import make_pipeline as sk_make_pipeline

import ooclearn
from ooclearn import Incremental, ParallelPostFit
from ooclearn._compat import InvalidParameterError
from ooclearn.exceptions import DataError, PerformanceWarning, SourceChangedError
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import Binarizer, MaxAbsScaler, MinMaxScaler, Normalizer, StandardScaler
from ooclearn.testing import CountingBlocks, FaultySource

HOST = ("numpy", "memmap", "scan", "dask")
FRAMES = ("pandas", "polars")


def frame_of(library: str, X: np.ndarray, **more: np.ndarray):
    frames = pytest.importorskip(library)
    columns = {name: X[:, j] for j, name in enumerate("abcde"[: X.shape[1]])}
    return frames.DataFrame(columns | more)


# Lengths and cuts.


@pytest.mark.parametrize("n", [900, 0])
def test_01_y_shorter_than_x(container, trained, refused, X, y, n):
    data, target = container(X), container(y[:n], "y")
    with refused(trained, "X has 1000 rows and y has", str(n), container.inside("y")):
        trained.fit(data, target)


def test_01_sample_weight_shorter_than_x(any_container, refused, X):
    data, weights = any_container(X), any_container(np.ones(900), "w")
    scaler = StandardScaler()
    with refused(scaler, "X has 1000 rows and sample_weight has 900", weights_of(any_container)):
        scaler.fit(data, sample_weight=weights)


def weights_of(container):
    """Return what messages call weights that lie in w.npy or nowhere."""
    return container.inside("w") if container.name in {"memmap", "scan"} else "(in sample_weight"


def test_01_is_seen_before_anything_is_read(trained, refused, X, y):
    counted = CountingBlocks(X, [100] * 10)
    with refused(trained, "1000", "900"):
        trained.fit(counted, y[:900])
    assert counted.reads == []


def test_01_is_seen_before_a_dask_array_is_computed(trained, refused, X, y):
    da = pytest.importorskip("dask.array")
    computed = []

    def chunk(block):
        computed.append(block.shape)
        return block

    lazy = da.from_array(np.array(X), chunks=(100, 5)).map_blocks(chunk, meta=np.empty((0, 0)))
    with refused(trained, "1000", "900"):
        trained.fit(lazy, y[:900])
    assert computed == []


def test_01_score_of_a_shorter_y(container, trained, refused, X, y):
    trained.fit(X, y)
    data, target = container(X), container(y[:900], "y")
    with refused(trained, "1000", "900"):
        trained.score(data, target)


def test_02_y_longer_than_x(container, trained, refused, X, y):
    data, longer = container(X), container(np.concatenate([y, y[:100]]), "y")
    with refused(trained, "X has 1000 rows and y has 1100", container.inside("y")):
        trained.fit(data, longer)


def test_03_x_and_y_cut_at_other_rows(container, same, X, y):
    model = Incremental(SGDClassifier(random_state=0), shuffle=False)
    cut_elsewhere = model.fit(container(X, rows=250), container(y, "y", rows=300)).estimator_
    same(
        Incremental(SGDClassifier(random_state=0), shuffle=False)
        .fit(container(X, rows=250), container(y, "z", rows=250))
        .estimator_,
        cut_elsewhere,
    )


@pytest.mark.parametrize("of_x", HOST)
@pytest.mark.parametrize("of_y", [*HOST, "list", "pandas"])
def test_04_x_and_y_of_different_containers(containers, same, of_x, of_y, X, y):
    if of_y in HOST:
        target = containers(of_y)(y, "y")
    else:
        target = y.tolist() if of_y == "list" else pytest.importorskip("pandas").Series(y)
    data = containers(of_x)(X)
    alike = containers(of_x)(y, "z")
    same(
        make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(data, target),
        make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(data, alike),
    )


# A target in a column.


@pytest.mark.parametrize("library", FRAMES)
@pytest.mark.parametrize(
    "make",
    [
        lambda: Incremental(SGDClassifier(random_state=0)),
        lambda: make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))),
        lambda: make_pipeline(sk.StandardScaler(), Incremental(SGDClassifier(random_state=0))),
        lambda: make_pipeline(sk.FunctionTransformer(), Incremental(SGDClassifier(random_state=0))),
        lambda: ParallelPostFit(SGDClassifier(random_state=0)),
    ],
    ids=["incremental", "pipeline", "by steps", "stateless first", "post fit"],
)
def test_05_y_as_the_name_of_a_column(library, make, X, y):
    frame = frame_of(library, X, target=y)
    features = frame_of(library, X)
    named, given = make().fit(frame, "target"), make().fit(features, y)
    np.testing.assert_array_equal(named.predict(features), given.predict(features))
    assert named.score(frame, "target") == given.score(features, y) > 0.8
    assert list(named.feature_names_in_) == list("abcde")
    assert named.n_features_in_ == 5


@pytest.mark.parametrize("library", FRAMES)
def test_05_y_as_the_name_of_a_column_in_a_plan(library, X, y):
    frame = frame_of(library, X, target=y)
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier()))
    assert pipe.explain(frame, "target").n_passes == 2


def test_05_y_as_the_name_of_a_column_of_a_dask_data_frame(X, y):
    dd = pytest.importorskip("dask.dataframe")
    frame = dd.from_pandas(frame_of("pandas", X, target=y), npartitions=4)
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(frame, "target")
    assert pipe.score(frame, "target") > 0.8
    assert list(pipe.feature_names_in_) == list("abcde")


@pytest.mark.parametrize("library", FRAMES)
def test_05_y_as_the_name_of_no_column(library, trained, refused, X, y):
    with refused(trained, "y='goal'", "'a', 'b', 'c', 'd', 'e', 'target'", "pass the target itself"):
        trained.fit(frame_of(library, X, target=y), "goal")


def test_05_y_as_a_name_where_columns_have_none(container, trained, refused, X):
    data = container(X)
    with refused(trained, "y='target'", "no names of columns", "pass the target itself"):
        trained.fit(data, "target")


# Names and widths.


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


# Few rows, or none.


def _with_empty_blocks(name, values, tmp_path):
    """Return values in blocks, some of them empty: the first, the last and two in the middle."""
    lengths = (0, 300, 0, 0, 450, 250, 0)
    if name == "dask":
        return pytest.importorskip("dask.array").from_array(np.array(values), chunks=(lengths, *values.shape[1:]))
    starts = np.cumsum((0, *lengths))
    pieces = [values[a:b] for a, b in pairwise(starts)]
    if name == "callable":
        return lambda: iter(pieces)
    if name == "blocks":
        return ooclearn.scan(np.array(values)).recut(lengths)
    for i, piece in enumerate(pieces):
        np.save(tmp_path / f"{values.ndim}-{i}.npy", piece)
    return ooclearn.scan([tmp_path / f"{values.ndim}-{i}.npy" for i in range(len(pieces))])


@pytest.mark.parametrize("name", ["dask", "callable", "blocks", "files"])
def test_28_empty_blocks(name, tmp_path, X, y):
    data, target = _with_empty_blocks(name, X, tmp_path), _with_empty_blocks(name, y, tmp_path)
    expected = sk.StandardScaler().fit(X)
    scaler = StandardScaler().fit(data)
    np.testing.assert_allclose(scaler.mean_, expected.mean_, rtol=1e-12)
    np.testing.assert_allclose(scaler.var_, expected.var_, rtol=1e-12)
    model = Incremental(SGDClassifier(random_state=0)).fit(data, target)
    predicted = model.predict(ooclearn.scan(data))
    np.testing.assert_array_equal(predicted.to_numpy(), model.predict(X))
    assert model.score(data, target) == model.score(X, y) > 0.8


def test_28_predictions_for_an_empty_block_are_empty(container, X, y):
    model = Incremental(SGDClassifier(random_state=0)).fit(X, y)
    forest = ParallelPostFit(model.estimator_)
    for lazy in (model.predict(ooclearn.scan(X).recut([0, 1000])), forest.predict(ooclearn.scan(X).recut([0, 1000]))):
        assert lazy.read(0).shape == (0,)
        assert lazy.read(0).dtype == y.dtype
        np.testing.assert_array_equal(lazy.to_numpy(), model.predict(X))


def test_28_a_filter_that_leaves_empty_chunks(X, y):
    da = pytest.importorskip("dask.array")
    data, target = da.from_array(np.array(X), chunks=(100, 5)), da.from_array(np.array(y), chunks=100)
    wanted = data[:, 4] > 2.5  # few rows: some chunks have none
    chosen = X[:, 4] > 2.5
    assert 0 in [int(part.sum()) for part in np.split(chosen, 10)]
    scaler = StandardScaler().fit(data[wanted])
    np.testing.assert_allclose(scaler.mean_, X[chosen].mean(axis=0), rtol=1e-12)
    model = Incremental(SGDClassifier(random_state=0), classes=[0, 1]).fit(data[wanted], target[wanted])
    assert model.predict(data[wanted]).compute().shape == (chosen.sum(),)


@pytest.mark.parametrize("name", ["numpy", "scan", "dask", "strict"])  # the system maps no empty file
def test_29_no_rows_at_all(containers, name, scaler, refused, X):
    empty = containers(name)(X[:0])
    for call in (scaler.fit, scaler.partial_fit):
        with refused(scaler, "0 sample(s)", f"there are no rows in {containers(name).source()}"):
            call(empty)


@pytest.mark.parametrize("name", ["numpy", "scan", "dask"])
def test_29_no_rows_to_train_on(containers, name, trained, refused, X, y):
    data, target = containers(name)(X[:0]), containers(name)(y[:0], "y")
    with refused(trained, "0 sample(s)", f"there are no rows in {containers(name).source()}"):
        trained.fit(data, target)


def test_29_no_block_at_all(scaler, trained, refused, X, y):
    with refused(scaler, "there are no rows", "nothing_there"):
        scaler.fit(_nothing_there)
    with refused(trained, "there are no rows", "nothing_there"):
        trained.fit(_nothing_there, y[:0])


def _nothing_there():
    return iter(())


def test_29_a_filter_that_leaves_nothing(scaler, refused, X):
    da = pytest.importorskip("dask.array")
    data = da.from_array(np.array(X), chunks=(100, 5))
    with refused(scaler, "0 sample(s)", "there are no rows"):
        scaler.fit(data[data[:, 0] > 1e9])


def test_29_an_empty_folder(tmp_path):
    with pytest.raises(DataError, match=r"no \.npy file") as caught:
        ooclearn.scan(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    "estimator", [MiniBatchKMeans(8, random_state=0), IncrementalPCA(4)], ids=["clusters", "components"]
)
@pytest.mark.parametrize("lengths", [(2, 1, 0, 497, 500), (498, 500, 2), (1,) * 1000], ids=["first", "last", "all"])
def test_30_a_block_smaller_than_the_estimator_needs(estimator, lengths, X):
    data = ooclearn.scan(lambda: (X[a:b] for a, b in zip(np.cumsum((0, *lengths)), np.cumsum(lengths), strict=False)))
    model = Incremental(estimator, shuffle=False, block_rows=None if len(lengths) < 1000 else 50).fit(data)
    fitted = model.estimator_
    centres = fitted.cluster_centers_ if hasattr(fitted, "cluster_centers_") else fitted.components_
    assert len(centres) == (8 if hasattr(fitted, "cluster_centers_") else 4)
    assert np.isfinite(centres).all()
    if hasattr(fitted, "n_samples_seen_"):
        assert fitted.n_samples_seen_ == 1000


# Shapes and states.


@pytest.mark.parametrize("shape", [(40,), (2, 20, 1), (1, 40, 1, 1)], ids=len)
def test_31_x_of_one_or_three_dimensions(any_container, scaler, refused, shape, X):
    data = any_container(np.full(shape, 987654.25))
    fitted = type(scaler)().fit(X)
    for estimator, call in (
        (scaler, scaler.fit),
        (scaler, scaler.partial_fit),
        (fitted, fitted.transform),
        (fitted, fitted.inverse_transform),
    ):
        with refused(estimator, str(shape), never=("987654", "9.8")) as caught:
            call(data)
        assert len(str(caught.value)) < 300


def test_31_a_list_of_one_or_three_dimensions(scaler, refused):
    for values in ([987654.25] * 40, [[[987654.25]] * 40]):
        with refused(scaler, str(np.shape(values)), never=("987654", "9.8")):
            scaler.fit(values)


def test_31_x_of_one_or_three_dimensions_to_train_on(container, trained, refused, y):
    for shape in [(1000,), (1000, 5, 1)]:
        data = container(np.full(shape, 987654.25))
        with refused(trained, str(shape), never=("987654", "9.8")) as caught:
            trained.fit(data, y)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("call", ["transform", "inverse_transform"])
def test_32_transform_before_fit(any_container, scaler, call, X):
    with pytest.raises(NotFittedError, match=type(scaler).__name__):
        getattr(scaler, call)(any_container(X))
    with pytest.raises(NotFittedError, match=type(scaler).__name__):
        scaler.merge(type(scaler)().fit(X))


def test_32_predict_before_fit(container, trained, X, y):
    data = container(X)
    for call in (trained.predict, trained.decision_function, lambda data: trained.score(data, y)):
        with pytest.raises(NotFittedError):
            call(data)
    with pytest.raises(NotFittedError):
        ParallelPostFit(SGDClassifier()).predict(data)


# Weights.


@pytest.mark.parametrize("of_w", [*HOST, "list"])
def test_33_weights_are_cut_with_the_rows(any_container, containers, of_w, X):
    w = np.random.default_rng(1).integers(0, 4, 1000)
    weights = w.tolist() if of_w == "list" else containers(of_w)(w, "w", rows=130)
    scaler = StandardScaler().fit(any_container(X), sample_weight=weights)
    copies = sk.StandardScaler().fit(np.repeat(X, w, axis=0))
    np.testing.assert_allclose(scaler.mean_, copies.mean_, rtol=1e-12)
    np.testing.assert_allclose(scaler.var_, copies.var_, rtol=1e-12)


def test_33_weights_are_fed_with_the_rows(container, X, y):
    w = np.random.default_rng(1).uniform(0.0, 2.0, 1000)
    fed = Incremental(SGDRegressor(shuffle=False)).fit(
        container(X), container(y, "y", rows=170), container(w, "w", rows=130)
    )
    whole = SGDRegressor(shuffle=False).partial_fit(X, y, sample_weight=w)
    np.testing.assert_allclose(fed.coef_, whole.coef_, rtol=1e-12)
    for model in (fed, Incremental(SGDRegressor(random_state=0)).fit(container(X), y, w)):
        assert model.score(container(X), y, w) == pytest.approx(model.estimator_.score(X, y, w), rel=1e-12)


def test_33_rows_of_no_weight_are_as_if_they_were_not_there(container, X, y):
    w = (np.arange(1000) % 3 > 0).astype(np.float64)
    w[200:400] = 0.0
    fed = Incremental(SGDClassifier(random_state=0), shuffle=False).fit(container(X), y, container(w, "w"))
    # Each row counts as a step of the learning rate, with weight or without; blocks that have none are left out.
    assert fed.estimator_.t_ <= 1001
    kept = w > 0
    scaler = StandardScaler().fit(container(X), sample_weight=w)
    np.testing.assert_allclose(scaler.mean_, X[kept].mean(axis=0), rtol=1e-12)


BAD_WEIGHTS = {"negative": -0.625, "missing": np.nan, "infinite": np.inf}


@pytest.mark.parametrize("kind", BAD_WEIGHTS)
def test_34_bad_weights(any_container, refused, kind, X):
    w = np.ones(1000)
    w[[437, 438]] = BAD_WEIGHTS[kind]
    data, weights = any_container(X), any_container(w, "w")
    scaler = StandardScaler().fit(X)
    where = (f"block {any_container.block_of(data, 437)}", "row 437", "sample_weight", weights_of(any_container))
    for call in (scaler.fit, scaler.partial_fit):
        with refused(scaler, *where, "2", never=("0.625",)):
            call(data, sample_weight=weights)


@pytest.mark.parametrize("kind", BAD_WEIGHTS)
def test_34_bad_weights_to_train_on(container, refused, kind, X, y):
    w = np.ones(1000)
    w[[437, 438]] = BAD_WEIGHTS[kind]
    data, weights = container(X), container(w, "w")
    where = (f"block {container.block_of(data, 437)}", "row 437", "sample_weight")
    for model in (Incremental(SGDClassifier(random_state=0)), Incremental(SGDClassifier(shuffle=False))):
        with refused(model, *where, never=("0.625",)):
            model.fit(data, y, weights)
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier()))
    with refused(pipe, *where):
        pipe.fit(data, y, standardscaler__sample_weight=weights)
    with refused(pipe, *where):
        pipe.fit(data, y, incremental__sample_weight=weights)
    fitted = Incremental(SGDClassifier(random_state=0)).fit(X, y)
    with refused(fitted, *where):
        fitted.score(data, y, weights)


def test_34_weights_that_are_all_zero(any_container, refused, X, y):
    data, nothing = any_container(X), any_container(np.zeros(1000), "w")
    scaler = StandardScaler()
    with refused(scaler, "sample weights are zero"):
        scaler.fit(data, sample_weight=nothing)
    model = Incremental(SGDClassifier())
    with refused(model, "sample weights are zero"):
        model.fit(data, y, nothing)


def test_34_weights_that_are_no_numbers(any_container, refused, X):
    scaler = StandardScaler()
    data, column = any_container(X), any_container(np.ones((1000, 1)), "w")
    with refused(scaler, "sample_weight", "expected numbers", never=("secret",)):
        scaler.fit(data, sample_weight=["secret"] * 1000)
    with refused(scaler, "Sample weights must be 1D array or scalar", "(1000, 1)"):
        scaler.fit(data, sample_weight=column)


# Parameters and sources.


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
