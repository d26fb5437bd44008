"""Blocks of Dask chunks, Dask arrays of host blocks, and maps, which stay in the graph."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import MiniBatchKMeans
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier

import ooclearn
from ooclearn import Incremental
from ooclearn.backend import get_backend, owner_of
from ooclearn.exceptions import DataError, PerformanceWarning
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler
from ooclearn.rowmaps import Affine, Rowwise

dask = pytest.importorskip("dask", reason="the extra `dask` is not installed")
cloudpickle = pytest.importorskip("cloudpickle", reason="the extra `dask` is not installed")
da = pytest.importorskip("dask.array", reason="the extra `dask` is not installed")
pd = pytest.importorskip("pandas", reason="data frames need pandas")
dd = pytest.importorskip("dask.dataframe", reason="data frames need pandas and PyArrow")

from dask_arrays import chunked, unknown  # noqa: E402  (it needs Dask, too)

DASK = get_backend("dask")
NUMPY = get_backend("numpy")
RNG = np.random.default_rng(7)
X = RNG.normal(3.0, 2.0, (97, 4))
Y = (X[:, 0] + X[:, 1] > 6).astype(int)
LABELS = np.array(["no", "yes"])[Y]


class Counting:
    """A scheduler that counts what it is asked to compute."""

    def __init__(self):
        self.calls = 0

    def __call__(self, graph, keys, **kwargs):
        self.calls += 1
        return dask.get(graph, keys, **kwargs)


# Blocks.


def test_blocks_of_dask(tmp_path):
    x = chunked(X, (0, 20, 76, 1))
    blocks = ooclearn.scan(x)
    assert blocks.lengths == (0, 20, 76, 1)
    assert "97 x 4 float64" in repr(blocks)
    assert blocks.to_dask() is x
    assert np.array_equal(np.asarray(blocks), X)
    scaled = blocks.map(Affine(np.full(4, 2.0)))
    assert owner_of(scaled) is DASK
    assert np.array_equal(scaled.to_numpy(), X * 2)
    scaled.to_npy(tmp_path / "scaled.npy")
    assert np.array_equal(np.load(tmp_path / "scaled.npy"), X * 2)
    assert [path.name for path in tmp_path.iterdir()] == ["scaled.npy"]
    with pytest.raises(ooclearn.exceptions.BlockMemoryError), ooclearn.config_context(memory_limit=100):
        blocks.to_numpy()
    again = pickle.loads(pickle.dumps(blocks))
    assert np.array_equal(again.read(2), X[20:96])


def test_blocks_of_unknown_lengths(tmp_path):
    blocks = ooclearn.scan(unknown(X))
    assert blocks.lengths is None
    assert "? x 4" in repr(blocks)
    assert np.array_equal(blocks.to_numpy(), X)
    with pytest.warns(PerformanceWarning, match="to_npy needs them"):
        blocks.to_npy(tmp_path / "x.npy")
    assert np.array_equal(np.load(tmp_path / "x.npy"), X)
    with pytest.warns(PerformanceWarning, match="not known"):
        other = ooclearn.scan(unknown(X)).recut((90, 7))
    assert np.array_equal(other.read(1), X[90:])


def test_text_that_would_be_cut_off_is_refused(tmp_path):
    y = da.from_delayed(dask.delayed(np.array(["long"])), shape=(1,), dtype="U2")
    with pytest.raises(DataError, match="would cut it off"):
        ooclearn.scan(y).to_npy(tmp_path / "y.npy")
    with pytest.raises(DataError, match="would cut it off"):
        ooclearn.scan(y).to_numpy()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_blocks_can_be_cut_anywhere(data):
    def cut(n):
        ends = sorted(data.draw(st.lists(st.integers(0, n), max_size=5)))
        return tuple(np.diff([0, *ends, n]).tolist())

    n = data.draw(st.integers(0, 20))
    values = np.arange(2.0 * n).reshape(n, 2) if data.draw(st.booleans()) else np.arange(n)
    lengths = cut(n)
    blocks = DASK.blocks(chunked(values, cut(n))).recut(lengths)
    assert blocks.lengths == lengths
    starts = np.cumsum([0, *lengths])
    for i in range(len(lengths)):
        assert np.array_equal(blocks.read(i), values[starts[i] : starts[i + 1]])
    assert np.array_equal(blocks.to_numpy(), values)


# Host blocks as Dask arrays.


def test_a_file_as_a_dask_array_keeps_data_out_of_the_graph(tmp_path):
    path = tmp_path / "x.npy"
    values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(1_000_000, 4))
    values[::1000] = 1.0
    del values
    x = ooclearn.scan(path, block_rows=1000).to_dask()
    assert isinstance(x, da.Array)
    assert x.numblocks == (1000, 1)
    assert len(pickle.dumps(x.__dask_graph__())) < 10_000
    assert float(x[:2000].sum().compute()) == 8.0
    same = np.load(path, mmap_mode="r")
    assert len(pickle.dumps(DASK.adopt(NUMPY.blocks(same)).__dask_graph__())) < 10_000
    scaled = ooclearn.scan(path, block_rows=100_000).map(Affine(np.full(4, 3.0))).to_dask()
    assert float(scaled.sum().compute()) == 12_000.0


def test_a_file_that_changed_is_found_out_in_a_task(tmp_path):
    np.save(tmp_path / "x.npy", X)
    x = ooclearn.scan(tmp_path / "x.npy").to_dask()
    np.save(tmp_path / "x.npy", X[:50])
    with pytest.raises(ooclearn.exceptions.SourceChangedError):
        StandardScaler().fit(x)


def test_an_array_as_a_dask_array_is_not_copied():
    x = ooclearn.scan(X, block_rows=20).to_dask()
    assert x.chunks[0] == (20, 20, 20, 20, 17)
    assert all(np.shares_memory(value, X) for value in dict(x.__dask_graph__()).values())
    assert np.array_equal(x.compute(), X)


def test_the_setting_backend_folds_files_with_dask(tmp_path):
    np.save(tmp_path / "x.npy", X)
    scheduler = Counting()
    blocks = ooclearn.scan(tmp_path / "x.npy", block_rows=10)
    with dask.config.set(scheduler=scheduler), ooclearn.config_context(backend="dask"):
        fitted = StandardScaler().fit(blocks)
    assert scheduler.calls == 1
    assert np.array_equal(fitted.var_, StandardScaler().fit(blocks).var_)


# Maps.


def test_maps_call_nothing_on_made_up_rows():
    def refuse(block):
        assert len(block) >= 10, "called on rows that are not the user's"
        return block * 2

    x = da.from_array(X, chunks=(10, -1))[:90]
    out = DASK.map(Rowwise(refuse, n_columns=4), x)
    assert np.array_equal(out.compute(), X[:90] * 2)


def test_predictions_of_one_dimension_and_of_text():
    x = da.from_array(X, chunks=(20, -1))
    model = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(x, LABELS)
    out = model.predict(x)
    assert out.ndim == 1
    assert out.dtype == out.compute().dtype == LABELS.dtype
    assert np.array_equal(out.compute(), model.predict(X))
    assert model.score(x, LABELS) == pytest.approx(np.mean(model.predict(X) == LABELS))
    clusters = Incremental(MiniBatchKMeans(3, random_state=0)).fit(x)
    assert clusters.predict(x).dtype == clusters.predict(X).dtype
    assert clusters.transform(x).shape == (97, 3)


def test_maps_of_unknown_chunks_and_of_series():
    out = DASK.map(Affine(np.full(4, 2.0)), unknown(X))
    assert np.isnan(out.shape[0])
    assert np.array_equal(out.compute(), X * 2)
    lengths = Rowwise(np.char.str_len, n_columns=None, out_dtype=np.int64)
    series = dd.from_pandas(pd.Series(LABELS), npartitions=2)
    words = DASK.map(Rowwise(lambda y: lengths(y.astype(str)), n_columns=None, out_dtype=np.int64), series)
    assert np.array_equal(words.compute(), np.char.str_len(LABELS))


def _times(block, *, table):
    return block * table[0]


def test_text_becomes_sparse_rows():
    words = np.array(["ab", "abc", "b", "c ab"] * 10, dtype=object)
    x = da.from_array(words, chunks=7)
    vectorizer = HashingVectorizer(n_features=16)
    out = DASK.map(Rowwise(vectorizer.transform, n_columns=16, out_dtype=np.float64, host=False), x)
    assert out.shape == (40, 16)
    chunk = ooclearn.scan(out).read(1)
    assert hasattr(chunk, "tocsr")
    assert np.array_equal(chunk.toarray(), vectorizer.transform(words[7:14]).toarray())


def test_a_large_model_stands_in_the_graph_once():
    model = Rowwise(partial(_times, table=np.ones(100_000)), n_columns=4)
    out = DASK.map(model, da.from_array(np.ones((5000, 4)), chunks=(100, -1)))
    tasks = [len(cloudpickle.dumps(task)) for task in dict(dask.optimize(out)[0].__dask_graph__()).values()]
    assert sum(size > 500_000 for size in tasks) == 1
    assert np.array_equal(out.compute(), np.full((5000, 4), 1.0))
