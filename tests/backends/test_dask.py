"""Dask arrays and data frames as tables: every form of them, and what is wrong with some."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn import preprocessing as reference
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.pipeline import make_pipeline as sklearn_pipeline

import ooclearn
from ooclearn import Incremental
from ooclearn.backend import get_backend
from ooclearn.exceptions import BackendError, DataError, PerformanceWarning
from ooclearn.preprocessing import MinMaxScaler, StandardScaler
from ooclearn.table import Rows, Table
from ooclearn.testing import CountingBlocks, check_backend
from ooclearn.testing.tables import uneven_cut

dask = pytest.importorskip("dask", reason="the extra `dask` is not installed")
da = pytest.importorskip("dask.array", reason="the extra `dask` is not installed")
pd = pytest.importorskip("pandas", reason="data frames need pandas")
dd = pytest.importorskip("dask.dataframe", reason="data frames need pandas and PyArrow")

from dask_arrays import chunked, unknown  # noqa: E402  (it needs Dask, too)

DASK = get_backend("dask")
RNG = np.random.default_rng(7)
X = RNG.normal(3.0, 2.0, (97, 4))
Y = (X[:, 0] + X[:, 1] > 6).astype(int)
LABELS = np.array(["no", "yes"])[Y]
W = RNG.uniform(0.5, 2.0, 97)
NAMES = ["a", "b", "c", "d"]


def filtered(x, column, bound):
    """The rows in which a column is above a bound: their number is known only after computing."""
    return x[(x[:, column] if isinstance(x, da.Array) else x[column]) > bound]


def frame(values, npartitions=3):
    return dd.from_pandas(pd.DataFrame(values, columns=NAMES), npartitions=npartitions)


CONTAINERS = {
    "even": lambda values: da.from_array(values, chunks=(20, -1)),
    "uneven": lambda values: chunked(values, (1, 40, 3, 53)),
    "one chunk": lambda values: da.from_array(values, chunks=-1),
    "one row a chunk": lambda values: da.from_array(values, chunks=(1, -1)),
    "empty chunks": lambda values: chunked(values, (0, 30, 0, 0, 66, 1, 0)),
    "unknown": unknown,
    "filtered": lambda values: filtered(da.from_array(values, chunks=(20, -1)), 0, -np.inf),
    "lazily made": lambda values: CountingBlocks(values, (30, 67)).to_dask(),
    "column after column": lambda values: da.from_array(np.asfortranarray(values), chunks=(20, -1)),
    "frame": frame,
    "frame, filtered": lambda values: filtered(frame(values), "a", 3),
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(StandardScaler, reference.StandardScaler), (MinMaxScaler, reference.MinMaxScaler)],
    ids=["StandardScaler", "MinMaxScaler"],
)
def test_scalers_give_the_numbers_of_scikit_learn(name, ours, theirs):
    container = CONTAINERS[name](X)
    rows = X[X[:, 0] > 3] if name == "frame, filtered" else X
    fitted, expected = ours().fit(container), theirs().fit(rows)
    for attribute in ("mean_", "var_", "scale_", "data_min_", "data_max_"):
        if hasattr(expected, attribute):
            np.testing.assert_allclose(getattr(fitted, attribute), getattr(expected, attribute), rtol=1e-13)
    out = fitted.transform(container)
    assert isinstance(out, da.Array)
    assert out.dtype == X.dtype
    np.testing.assert_allclose(out.compute(), expected.transform(rows), rtol=1e-12, atol=1e-14)
    back = fitted.inverse_transform(out)
    np.testing.assert_allclose(back.compute(), rows, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint8", "bool", "float16"])
def test_dtypes_are_those_of_the_numpy_backend(dtype):
    values = (X * 10).clip(0, 100).astype(dtype)
    container = da.from_array(values, chunks=(20, -1))
    fitted = StandardScaler().fit(container)
    expected = StandardScaler().fit(ooclearn.scan(values).recut((20, 20, 20, 20, 17)))
    assert np.array_equal(fitted.mean_, expected.mean_)
    assert np.array_equal(fitted.var_, expected.var_)
    out = fitted.transform(container)
    assert out.dtype == expected.transform(values).dtype == out.compute().dtype


def test_the_duties_of_a_backend():
    check_backend(DASK, lambda values: chunked(np.array(values), uneven_cut(len(values))))


def test_a_narrow_block_is_an_error_that_names_it():
    def make(block_id=None):
        return X[:10, : 3 if block_id[0] == 2 else 4]

    x = da.map_blocks(make, chunks=((10,) * 4, (4,)), dtype=float, meta=np.empty((0, 0)), name="narrow")
    with pytest.raises(DataError, match=r"chunk of shape \(10, 3\) where \(10, 4\)") as caught:
        StandardScaler().fit(x)
    assert (caught.value.block, caught.value.rows, caught.value.source) == (2, (20, 30), "X")
    scaled = StandardScaler().fit(X).transform(x)
    with pytest.raises(DataError, match=r"\(10, 3\)"):
        scaled.compute()
    with pytest.raises(DataError, match=r"\(10, 3\)"):
        Incremental(SGDRegressor()).fit(x, np.arange(40.0))


def test_a_block_of_fewer_rows_is_an_error_that_names_it():
    def make(block_id=None):
        return X[: 9 if block_id[0] == 1 else 10]

    x = da.map_blocks(make, chunks=((10,) * 3, (4,)), dtype=float, meta=np.empty((0, 0)), name="short")
    with pytest.raises(DataError, match=r"chunk of shape \(9, 4\) where \(10, 4\)") as caught:
        StandardScaler().fit(x)
    assert caught.value.block == 1


def test_a_chunk_of_another_dtype_is_cast_if_nothing_is_lost_and_else_refused():
    narrow = da.from_delayed(dask.delayed(X.astype(np.float32)), shape=X.shape, dtype=float)
    assert StandardScaler().fit(X).transform(narrow).compute().dtype == np.float64
    wide = da.from_delayed(dask.delayed(X), shape=X.shape, dtype=int)
    with pytest.raises(DataError, match="dtype float64 where int64 was declared"):
        StandardScaler().fit(wide)
    with pytest.raises(DataError, match="dtype float64 where int64 was declared"):
        ooclearn.scan(wide).to_numpy()


def test_masked_chunks_are_refused():
    x = da.ma.masked_greater(da.from_array(X, chunks=(50, -1)), 4.0)
    with pytest.raises(DataError, match="masked"):
        StandardScaler().fit(x)


@pytest.mark.parametrize("length", [90, 100])
@pytest.mark.parametrize("kind", ["list", "array", "dask", "weights"])
def test_other_lengths_are_refused_before_the_first_block(kind, length):
    source = CountingBlocks(X, (50, 47))
    y = np.arange(length) % 2
    given = {"list": y.tolist(), "array": y, "dask": da.from_array(y, chunks=30), "weights": Y}[kind]
    weights = np.ones(length) if kind == "weights" else None
    with pytest.raises(DataError, match=f"X has 97 rows and (y|sample_weight) has {length}"):
        Incremental(SGDClassifier()).fit(source.to_dask(), given, sample_weight=weights)
    assert not source.reads


def _trained(x, y, w=None):
    return Incremental(SGDClassifier(random_state=0), shuffle=False, block_rows=20).fit(x, y, sample_weight=w)


TARGETS = {
    "other chunks": lambda y: da.from_array(y, chunks=(33, 30, 34)),
    "empty chunks": lambda y: da.from_array(y, chunks=((0, 33, 0, 64),)),
    "array": np.asarray,
    "list": list,
    "blocks": lambda y: ooclearn.scan(y, block_rows=11),
    "series": lambda y: dd.from_pandas(pd.Series(y), npartitions=3),
}


@pytest.mark.parametrize("labels", [Y, LABELS], ids=["numbers", "text"])
@pytest.mark.parametrize("kind", TARGETS)
def test_targets_and_weights_follow_the_chunks_of_x(kind, labels):
    x = da.from_array(X, chunks=(20, -1))
    expected = _trained(ooclearn.scan(X).recut((20, 20, 20, 20, 17)), labels, W)
    if kind == "series":
        with pytest.warns(PerformanceWarning, match="chunk sizes of y are not known"):
            got = _trained(x, TARGETS[kind](labels), TARGETS["other chunks"](W))
    else:
        got = _trained(x, TARGETS[kind](labels), TARGETS[kind](W))
    assert np.array_equal(got.coef_, expected.coef_)
    assert got.classes_.tolist() == expected.classes_.tolist()


def test_targets_in_a_memory_map(tmp_path):
    np.save(tmp_path / "y.npy", Y)
    x = da.from_array(X, chunks=(20, -1))
    got = _trained(x, np.load(tmp_path / "y.npy", mmap_mode="r"))
    assert np.array_equal(got.coef_, _trained(x, Y).coef_)


def test_as_many_unknown_chunks_are_taken_to_be_alike():
    lengths = (20, 20, 57)
    got = _trained(unknown(X, lengths), unknown(Y, lengths), unknown(W, lengths))
    assert np.array_equal(got.coef_, _trained(chunked(X, lengths), Y, W).coef_)
    got = _trained(unknown(X, lengths), chunked(Y, lengths))
    assert np.array_equal(got.coef_, _trained(chunked(X, lengths), Y).coef_)


def test_unknown_chunks_that_are_not_alike_are_found_out():
    with pytest.raises(DataError, match="X has 20 rows and y has 21 in the same block") as caught:
        _trained(unknown(X, (20, 77)), unknown(Y, (21, 76)))
    assert caught.value.block == 0
    with pytest.raises(DataError, match=r"X has (20|77) rows and sample_weight has (21|76)"):
        StandardScaler().fit(unknown(X, (20, 77)), sample_weight=unknown(W, (21, 76)))


def test_targets_of_unknown_chunks_beside_rows_of_another_container(tmp_path):
    np.save(tmp_path / "x.npy", X)
    for rows in (X, ooclearn.scan(X, block_rows=40), np.load(tmp_path / "x.npy", mmap_mode="r")):
        with pytest.warns(
            PerformanceWarning, match="chunk sizes of y are not known, and putting y beside X needs them"
        ):
            got = _trained(rows, unknown(Y, (40, 57)))
        np.testing.assert_array_equal(got.coef_, _trained(rows, Y).coef_)


@pytest.mark.parametrize(
    "make",
    [np.asarray, lambda y: unknown(y, (40, 57)), lambda y: da.from_array(y, chunks=50)],
    ids=["array", "unknown", "known"],
)
def test_unknown_chunks_beside_other_cuts_are_counted_first(make):
    x = unknown(X, (20, 20, 57))
    with pytest.warns(PerformanceWarning, match="chunk sizes of .* are not known"):
        got = _trained(x, make(Y))
    assert np.array_equal(got.coef_, _trained(chunked(X, (20, 20, 57)), Y).coef_)
    assert np.isnan(x.chunks[0][0]), "the array that the user holds was changed"


def test_counting_is_done_once_for_y_and_weights():
    source = CountingBlocks(X, (30, 67))
    x = source.to_dask()
    x = da.Array(x.dask, x.name, ((np.nan, np.nan), (4,)), meta=x)
    with pytest.warns(PerformanceWarning, match="chunk sizes of X are not known") as caught:
        Table(DASK.blocks(x, name="X"), ooclearn.scan(Y), ooclearn.scan(W))
    assert source.passes == 1
    assert len(caught) == 1


def test_split_columns_are_merged_with_a_warning():
    x = da.from_array(X, chunks=(30, 2))
    with pytest.warns(PerformanceWarning, match="columns of X are split into 2 chunks"):
        fitted = StandardScaler().fit(x)
    assert np.array_equal(fitted.mean_, StandardScaler().fit(da.from_array(X, chunks=(30, 4))).mean_)
    with pytest.warns(PerformanceWarning, match="split into 2 chunks"):
        out = fitted.transform(x)
    np.testing.assert_allclose(out.compute(), reference.scale(X), rtol=1e-12, atol=1e-14)
    with pytest.warns(PerformanceWarning, match="split into 2 chunks"):
        model = Incremental(SGDClassifier(random_state=0)).fit(x, Y)
    assert model.coef_.shape == (1, 4)


def test_empty_chunks():
    x = chunked(X, (0, 20, 0, 77, 0))
    model = _trained(x, Y)
    assert np.array_equal(model.coef_, _trained(chunked(X, (20, 77)), Y).coef_)
    out = model.predict(x)
    assert out.chunks == x.chunks[:1]
    assert np.array_equal(out.compute(), model.predict(X))


def test_no_rows_at_all_are_refused_with_the_source():
    x = da.from_array(X, chunks=(30, -1))
    with pytest.raises(DataError, match="0 sample"):
        StandardScaler().fit(x[:0])
    with pytest.raises(DataError, match="there are no rows") as caught:
        StandardScaler().fit(x[x[:, 0] > 1e9])
    assert caught.value.source == "X"


def test_thousands_of_tiny_chunks_are_put_together():
    values = RNG.normal(size=(3000, 3))
    x = da.from_array(values, chunks=(1, -1))
    with pytest.warns(PerformanceWarning, match="3,000 chunks of 24 bytes .* into 1 blocks"):
        blocks = DASK.blocks(x, name="X")
    assert blocks.n_blocks == 1
    with pytest.warns(PerformanceWarning, match="3,000 chunks"):
        fitted = StandardScaler().fit(x)
    np.testing.assert_allclose(fitted.mean_, values.mean(axis=0), rtol=1e-13)
    with ooclearn.config_context(block_bytes=24_000), pytest.warns(PerformanceWarning, match="into 3 blocks"):
        assert DASK.blocks(x).lengths == (1000, 1000, 1000)
    out = fitted.transform(x)
    assert out.chunks == x.chunks, "a result is cut as what it is the result of"


def test_a_pipeline_of_scikit_learn_stays_lazy():
    source = CountingBlocks(X, (30, 30, 37))
    pipe = sklearn_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0)))
    pipe.fit(source.to_dask(), Y)
    assert source.passes == 2
    out = pipe.predict(source.to_dask())
    assert isinstance(out, da.Array)
    assert source.passes == 2
    assert np.mean(out.compute() == Y) > 0.8


# Data frames.


def test_names_of_columns_are_kept_and_compared():
    x = frame(X)
    fitted = StandardScaler().fit(x)
    assert fitted.feature_names_in_.tolist() == NAMES
    assert fitted.get_feature_names_out().tolist() == NAMES
    with pytest.raises(DataError, match="same order"):
        fitted.transform(x[NAMES[::-1]])
    with pytest.raises(DataError, match="unseen at fit time:\n- e\n"):
        fitted.transform(x.rename(columns={"a": "e"}))
    with pytest.raises(DataError, match="yet now missing:\n- d\n"):
        fitted.transform(x[NAMES[:3]])
    with pytest.warns(UserWarning, match="was fitted without feature names"):
        StandardScaler().fit(X).transform(x)


def test_columns_of_text_are_refused_by_name():
    x = frame(X).assign(word="text", when=pd.Timestamp("2026-01-01"))
    with pytest.raises(DataError, match=r"columns 'word' .*, 'when' .* are not numeric"):
        StandardScaler().fit(x)


def test_missing_integers_are_nan_in_every_partition():
    table = pd.DataFrame({"i": pd.array([1, 2, None, 4], dtype="Int64"), "f": np.arange(4.0)})
    fitted = StandardScaler().fit(dd.from_pandas(table, npartitions=2))
    np.testing.assert_allclose(fitted.mean_, [7 / 3, 1.5])
    assert fitted.n_samples_seen_.tolist() == [3, 4]


def test_a_target_that_is_a_column_of_the_frame():
    table = pd.DataFrame(X, columns=NAMES).assign(y=LABELS)
    x = dd.from_pandas(table, npartitions=4)
    model = Incremental(SGDClassifier(random_state=0), shuffle=False).fit(x, "y")
    lengths = [len(part) for part in np.array_split(X, 4)]
    got = Incremental(SGDClassifier(random_state=0), shuffle=False).fit(x[NAMES], x["y"])
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.feature_names_in_.tolist() == NAMES
    assert np.array_equal(model.coef_, got.coef_)
    assert sum(lengths) == len(X)
    assert set(model.predict(x[NAMES]).compute()) == {"no", "yes"}


def test_graphs_of_two_frames_are_never_taken_for_one(monkeypatch):
    """Dask names the layer of a frame by its id(), and a frame that is gone leaves its id to the next."""
    of_frames_alike = lambda x: id(x) if hasattr(x, "chunks") else 7  # noqa: E731  (a function to be put in a place)
    monkeypatch.setattr("dask.highlevelgraph.id", of_frames_alike, raising=False)
    table = pd.DataFrame(X, columns=NAMES).assign(y=LABELS)
    x = dd.from_pandas(table, npartitions=4)
    model = Incremental(SGDClassifier(random_state=0), shuffle=False).fit(x[NAMES], x["y"])
    assert model.classes_.tolist() == ["no", "yes"]


def test_what_x_and_y_have_in_common_is_made_once_a_pass():
    made = []

    def make(i):
        made.append(i)
        return pd.DataFrame(X[i * 20 : i * 20 + 20], columns=NAMES).assign(y=Y[i * 20 : i * 20 + 20])

    meta = pd.DataFrame(X[:0], columns=NAMES).assign(y=Y[:0])
    x = dd.from_map(make, range(4), meta=meta)
    with ooclearn.config_context(workers=2):
        Incremental(SGDClassifier(), classes=[0, 1]).fit(x[NAMES], x["y"])
    assert sorted(made) == [0, 1, 2, 3]
    made.clear()
    StandardScaler().fit(x[NAMES], sample_weight=x["y"] + 1)
    assert sorted(made) == [0, 1, 2, 3]


def test_x_and_y_of_a_parquet_file_are_cut_alike_though_y_is_one_column_of_many(tmp_path):
    rows = np.random.default_rng(0).normal(size=(1000, 30))
    table = pd.DataFrame(rows, columns=[f"c{j}" for j in range(30)]).assign(y=rows[:, 0] > 0)
    table.to_parquet(tmp_path / "table.parquet", row_group_size=100)
    read = dd.read_parquet(tmp_path / "table.parquet", split_row_groups=True)
    # Dask would put the parts of a column by itself together.
    assert read["y"].optimize(fuse=False).npartitions < read.npartitions == 10
    x = read.drop(columns="y")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = Incremental(SGDClassifier(random_state=0), shuffle=False, block_rows=100).fit(x, read["y"])
        narrow = StandardScaler().fit(read[["c0", "c1"]], sample_weight=read["c2"] ** 2)
    alone = Incremental(SGDClassifier(random_state=0), shuffle=False, block_rows=100).fit(rows, table["y"])
    np.testing.assert_allclose(model.coef_, alone.coef_, rtol=1e-12)
    np.testing.assert_allclose(narrow.mean_, np.average(rows[:, :2], axis=0, weights=rows[:, 2] ** 2))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x[NAMES[::-1]], "must be in the same order"),
        (lambda x: x.assign(extra=1.0), "Feature names unseen at fit time:\n- extra"),
        (lambda x: x.drop(columns="a"), "seen at fit time, yet now missing:\n- a"),
    ],
    ids=["order", "more", "fewer"],
)
def test_frames_with_other_columns_are_refused_by_name(change, said):
    fitted = StandardScaler().fit(frame(X))
    with pytest.raises(DataError, match=f"should match (.|\n)*{said}") as caught:
        fitted.transform(change(frame(X)))
    assert str(caught.value).endswith("(in X)")


def test_errors_name_the_column_of_a_frame():
    values = X.copy()
    values[70, 2] = np.inf
    with pytest.raises(DataError, match="infinity") as caught:
        StandardScaler().fit(frame(values))
    assert caught.value.column == "c"
    assert caught.value.block == 2


# Other libraries' chunks.


def _strict(block):
    import array_api_strict as xp

    return xp.asarray(np.array(block))


def _torch(block):
    torch = pytest.importorskip("torch", reason="PyTorch is large; ci/test --torch installs it")
    return torch.asarray(np.array(block))


@pytest.mark.parametrize("make", [_strict, _torch])
def test_the_backend_of_a_chunk_does_the_work(make):
    make(X)
    x = da.from_array(X, chunks=(20, -1)).map_blocks(make, dtype=float, meta=np.empty((0, 0)))
    fitted = StandardScaler().fit(x, sample_weight=W)
    np.testing.assert_allclose(fitted.var_, StandardScaler().fit(X, sample_weight=W).var_, rtol=1e-12)
    out = fitted.transform(x)
    kind = type(make(X))
    chunk = ooclearn.scan(out).read(0)
    assert type(chunk) is kind
    np.testing.assert_allclose(ooclearn.scan(out).to_numpy(), fitted.transform(X), rtol=1e-12)
    model = Incremental(SGDClassifier(random_state=0), shuffle=False).fit(out, Y)
    expected = Incremental(SGDClassifier(random_state=0), shuffle=False).fit(
        da.from_array(fitted.transform(X), chunks=(20, -1)), Y
    )
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-9)


# Installation.


def test_dask_is_imported_when_it_is_used():
    code = (
        "import sys, numpy, ooclearn\n"
        "from ooclearn.backend import backends\n"
        "assert 'dask' in backends()\n"
        "ooclearn.preprocessing.StandardScaler().fit(numpy.ones((3, 2)))\n"
        "assert 'dask' not in sys.modules, 'Dask was imported'\n"
    )
    code = code.replace("ooclearn\n", "ooclearn, ooclearn.preprocessing\n", 1)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_missing_dask_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(BackendError, match=r'pip install "ooclearn\[dask\]"'):
        ooclearn.scan(X).to_dask()


def test_arrays_of_another_kind_are_refused_with_what_to_do():
    x = da.from_array(X, chunks=(20, -1))
    with (
        dask.config.set({"array.query-planning": True}),
        pytest.raises(BackendError, match="query-planning is switched on"),
    ):
        StandardScaler().fit(x)


def test_what_is_not_a_table_is_not_owned():
    assert not DASK.owns(dask.delayed(1))
    assert not DASK.owns(X)
    assert DASK.owns(da.ones(3))
    assert DASK.owns(frame(X))
    assert DASK.owns(frame(X)["a"])
    with pytest.raises(DataError, match=r"shape \(\)"):
        DASK.blocks(da.from_array(X).sum())


def test_host_and_back():
    x = da.from_array(X, chunks=(20, -1))
    assert np.array_equal(DASK.to_host(x), X)
    assert np.array_equal(DASK.to_host(_strict(X)), X)
    assert type(DASK.from_host(X, like=_strict(X))) is type(_strict(X))
    assert DASK.from_host(X) is X
    assert isinstance(DASK.blocks(x).gather([3, 0]), np.ndarray)
    rows = Rows(DASK.blocks(x).gather([3, 0]))
    assert np.array_equal(rows.X, np.concatenate([X[60:80], X[:20]]))
