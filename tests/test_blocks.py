"""Blocks: the same rows however they are cut, read, mapped or put together, from every source."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_union

import ooclearn
from ooclearn.exceptions import BlockMemoryError, DataError, NonFiniteError, PerformanceWarning
from ooclearn.naive_bayes import GaussianNB
from ooclearn.preprocessing import Normalizer, StandardScaler
from ooclearn.rowmaps import Affine, Columns
from ooclearn.sources import SourceBlocks, even_cuts
from ooclearn.statistics import Moments
from ooclearn.storage.arrays import ArraySource
from ooclearn.storage.joined import JoinedSource
from ooclearn.table import Table
from ooclearn.testing import CountingBlocks
from ooclearn.testing.strategies import cuts
from ooclearn.testing.tables import uneven_cut
from ooclearn.validation import as_table

N, D = 37, 3
X = np.arange(N * D, dtype=np.float64).reshape(N, D)


def scanned(tmp_path, values):
    np.save(tmp_path / "rows.npy", values)
    return ooclearn.scan(tmp_path / "rows.npy")


def joined(tmp_path, values):
    np.save(tmp_path / "first.npy", values[:5])
    np.save(tmp_path / "second.npy", values[5:6])
    return ooclearn.scan([tmp_path / "first.npy", tmp_path / "second.npy", values[6:6], values[6:]])


def called(tmp_path, values):
    return ooclearn.scan(lambda: iter(np.split(values, [4, 4, 30])))


def mapped(tmp_path, values):
    return scanned(tmp_path, values - 1).map(Affine(offset=np.ones(values.shape[1])))


def mapped_memmap(tmp_path, values):
    np.save(tmp_path / "map.npy", values)
    return (
        StandardScaler(with_mean=False, with_std=False)
        .fit(values)
        .transform(np.load(tmp_path / "map.npy", mmap_mode="r"))
    )


def from_callable(values):
    return ooclearn.scan(lambda: np.split(values, [4, 30]))


def recut_callable(tmp_path, values):
    return called(tmp_path, values).recut((10, 0, len(values) - 10))


SOURCES = {
    "array": lambda _, values: ooclearn.scan(values),
    "file": scanned,
    "list": joined,
    "callable": called,
    "mapped": mapped,
    "memmap": mapped_memmap,
    "callable cut elsewhere": recut_callable,
    "counted": lambda _, values: CountingBlocks(values),
}


@pytest.fixture(params=SOURCES.values(), ids=SOURCES)
def blocks(request, tmp_path):
    return request.param(tmp_path, X)


def test_rows_are_those_of_the_source(blocks):
    assert blocks.shape == (N, D)
    assert (len(blocks), blocks.n_rows, blocks.n_columns, blocks.ndim) == (N, N, D, 2)
    assert blocks.dtype == np.float64
    assert blocks.nbytes == X.nbytes
    assert sum(blocks.lengths) == N
    for _ in range(2):  # they can be read again
        np.testing.assert_array_equal(np.concatenate(list(blocks)), X)
    np.testing.assert_array_equal(np.asarray(blocks), X)
    np.testing.assert_array_equal(np.asarray(blocks, dtype=np.float32), X.astype(np.float32))
    with pytest.raises(ValueError, match="copy=False"):
        np.array(blocks, copy=False)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(cuts(N), st.integers(1, N + 1))
def test_cut_anywhere(cut, tile):
    for make in (
        ooclearn.scan,
        CountingBlocks,
        from_callable,
    ):
        blocks = make(X).recut(cut)
        assert blocks.lengths == tuple(cut)
        assert [len(block) for block in blocks] == list(cut)
        np.testing.assert_array_equal(np.concatenate(list(blocks)), X)
        for i in range(blocks.n_blocks):
            tiles = [np.array(one) for one in blocks.tiles(i, tile)]
            assert all(len(one) <= tile for one in tiles)
            assert tiles, "a block of no rows is one tile of no rows"
            np.testing.assert_array_equal(np.concatenate(tiles), blocks.read(i))
        order = [i for i in reversed(range(blocks.n_blocks)) if cut[i]]
        np.testing.assert_array_equal(blocks.gather(order), np.concatenate([blocks.read(i) for i in order]))


def test_cut_again_and_again(blocks):
    again = blocks.recut((1, 0, N - 1)).recut((N,)).recut(uneven_cut(N))
    np.testing.assert_array_equal(np.concatenate(list(again)), X)
    mapped = again.map(Columns((2,))).recut((20, 17))
    np.testing.assert_array_equal(np.concatenate(list(mapped)), X[:, [2]])


def test_pickled(blocks):
    if "lambda" in repr(getattr(blocks, "_make", None)) or "lambda" in repr(
        getattr(getattr(blocks, "_blocks", None), "_make", None)
    ):
        blocks = ooclearn.scan(made)
    again = pickle.loads(pickle.dumps(blocks))
    np.testing.assert_array_equal(np.asarray(again), X)
    assert repr(again) == repr(blocks)


def made():
    return np.split(X, [4, 30])


def test_mapped_blocks_are_blocks_and_read_nothing():
    counted = CountingBlocks(X, [10, 27])
    both = counted.map(Affine(np.full(D, 2.0))).map(Columns((1, 0)))
    assert isinstance(both, ooclearn.Blocks)
    assert (both.shape, both.dtype, both.lengths) == ((N, 2), np.float64, (10, 27))
    assert counted.reads == []
    np.testing.assert_array_equal(both.to_numpy(), X[:, [1, 0]] * 2)
    assert counted.passes == 1


def test_too_large_for_one_array():
    with (
        ooclearn.config_context(memory_limit=100),
        pytest.raises(BlockMemoryError, match="888 bytes, memory_limit is 100"),
    ):
        ooclearn.scan(X).to_numpy()


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 10**4), st.integers(1, 10**5), st.integers(1, 10**8))
def test_even_cuts(n, row_bytes, block_bytes):
    lengths = even_cuts(n, row_bytes, block_bytes=block_bytes)
    most = max(1, block_bytes // row_bytes)
    assert sum(lengths) == n
    assert max(lengths) <= most
    assert len(lengths) <= 1 + -(-n // max(1, most // 64 * 64 or most))
    assert len(set(lengths[:-1])) <= 1
    assert not lengths[:-1] or lengths[0] >= lengths[-1] > 0
    if len(lengths) > 1 and lengths[0] > 64:
        assert lengths[0] % 64 == 0


def test_block_rows():
    assert ooclearn.scan(X, block_rows=10).lengths == (10, 10, 10, 7)
    assert ooclearn.scan(X, block_rows=np.int64(N)).lengths == (N,)
    assert ooclearn.scan(X[:0], block_rows=10).lengths == (0,)
    for wrong in (0, -1, 2.5, "3"):
        with pytest.raises(ValueError, match="block_rows must be a whole number above 0"):
            ooclearn.scan(X, block_rows=wrong)


@pytest.mark.parametrize("values", [X[:0], X[:, :1], X[:, 0], X.astype(np.int8), X > 3, X.astype("U9")])
def test_shapes_and_dtypes(tmp_path, values):
    for make in (SOURCES["array"], scanned, SOURCES["counted"]):
        blocks = make(tmp_path, values)
        assert (blocks.shape, blocks.dtype) == (values.shape, values.dtype)
        np.testing.assert_array_equal(blocks.to_numpy(), values)


def test_sparse_rows_have_the_bytes_that_they_store_on_average():
    """Blocks are cut, and memory is counted, by them."""
    rows = sparse.random_array((1000, 50), density=0.1, format="csr", rng=0)
    stored = (rows.data.nbytes + rows.indices.nbytes + rows.indptr.nbytes) / 1000
    for blocks in (ooclearn.scan(rows), ooclearn.scan([rows, rows]), ooclearn.scan(lambda: [rows[:300], rows[300:]])):
        assert blocks.row_bytes == pytest.approx(stored, rel=0.05)


def test_a_subclass_that_forgets_its_shape_is_told_so():
    class Forgetful(ooclearn.Blocks):
        name = "rows"

    for asked in ("shape", "ndim", "nbytes", "n_rows"):
        with pytest.raises(AttributeError, match="'shape'"):
            getattr(Forgetful(), asked)


def test_reprs_say_where_what_and_how_much():
    blocks = ooclearn.scan(X, block_rows=20)
    assert repr(blocks) == "Blocks('array': 37 x 3 float64, 8.88e-07 GB, 2 blocks)"


# Errors say where, once: whatever the way to the rows.


def spoilt(row, column=1):
    values = X.copy()
    values[row, column] = np.inf
    return values


@pytest.mark.parametrize("row", [0, 9, 10, 20, 36])
@pytest.mark.parametrize("tile", [4, 100])
def test_the_place_of_an_error_in_a_map_under_a_fit(row, tile, monkeypatch):
    """The map is the one that refuses, tile by tile, while a fit reads the mapped blocks."""
    monkeypatch.setattr("ooclearn.folding.run_of_rows", lambda *_: tile)
    blocks = ooclearn.scan(spoilt(row)).recut((10, 0, 10, 17))
    mapped = Normalizer().fit(blocks).transform(blocks)
    for call in (lambda: StandardScaler().fit(mapped), mapped.to_numpy):
        with pytest.raises(NonFiniteError) as error:
            call()
        found = error.value
        block = [10, 10, 20, 37].index(next(stop for stop in (10, 20, 37) if row < stop))
        block = {0: 0, 2: 2, 3: 3}[block]
        assert (found.rows, found.block, found.column, found.source) == ((row, row + 1), block, 1, "array")


@pytest.mark.parametrize("row", [0, 9, 10, 36])
@pytest.mark.parametrize("tile", [4, 100])
def test_the_place_of_an_error_in_a_statistic(row, tile, monkeypatch):
    monkeypatch.setattr("ooclearn.folding.run_of_rows", lambda *_: tile)
    with pytest.raises(NonFiniteError) as error:
        StandardScaler().fit(ooclearn.scan(spoilt(row), block_rows=10))
    found = error.value
    assert (found.rows, found.block, found.column, found.source) == ((row, row + 1), row // 10, 1, "array")
    assert f"row {row}, column 1" in str(found)


class Short(ArraySource):
    def read(self, start, stop, /, out=None):
        return super().read(start, stop)[: 5 if start else None]


def test_a_source_that_gives_fewer_rows_is_named():
    blocks = SourceBlocks(Short(X, name="short"), (20, 17))
    with pytest.raises(DataError, match=r"got rows of shape \(5, 3\) .* where \(17, 3\) ") as error:
        StandardScaler().fit(blocks)
    assert (error.value.rows, error.value.block, error.value.source) == ((20, 37), 1, "short")


# Tables.


@settings(deadline=None, derandomize=True, max_examples=40)
@given(cuts(N), cuts(N), cuts(N), st.integers(1, N))
def test_y_and_weights_follow_the_cuts_of_x(of_x, of_y, of_w, tile):
    y, w = np.arange(N), np.arange(N) / 2
    table = Table(ooclearn.scan(X).recut(of_x), ooclearn.scan(y).recut(of_y), ooclearn.scan(w).recut(of_w))
    assert table.y.lengths == table.w.lengths == table.X.lengths == tuple(of_x)
    for i in range(table.n_blocks):
        for rows in table.tiles(i, tile):
            np.testing.assert_array_equal(rows.X[:, 0], 3 * rows.y)
            np.testing.assert_array_equal(rows.w, rows.y / 2)
    assert table.nbytes == X.nbytes + y.nbytes + w.nbytes


@pytest.mark.parametrize(("role", "n"), [("y", N - 1), ("y", N + 1), ("sample_weight", 1)])
def test_another_length_is_refused_before_anything_is_read(role, n):
    counted = CountingBlocks(X, [10, 27])
    other = ooclearn.scan(np.ones(n))
    with pytest.raises(DataError, match=f"X has 37 rows and {role} has {n}"):
        Table(counted, other if role == "y" else None, other if role != "y" else None)
    assert counted.reads == []


def test_only_the_targets():
    table = Table(CountingBlocks(X, [10, 27]), ooclearn.scan(np.arange(N)), ooclearn.scan(np.ones(N)))
    targets = table.only(frozenset("y"))
    rows = [rows for i in range(targets.n_blocks) for rows in targets.tiles(i, 100)]
    assert all(one.X is None and one.w is None for one in rows)
    np.testing.assert_array_equal(np.concatenate([one.y for one in rows]), np.arange(N))
    assert table.only(frozenset("Xyw")) is table
    assert table.only(frozenset("Xw")).y is None
    assert table.X.reads == []


def test_a_schema_says_what_is_known():
    schema = Table(ooclearn.scan(X), ooclearn.scan(np.ones((N, 2), dtype=np.int32))).schema
    assert (schema.n_rows, schema.n_columns, schema.dtype) == (N, D, np.float64)
    assert (schema.target, schema.n_targets, schema.weighted) == (np.int32, 2, False)
    narrower = schema.mapped(Columns((1,)))
    assert (narrower.n_columns, narrower.names) == (1, None)


def test_blocks_are_not_compared_without_a_word(tmp_path):
    """By Python's default `np.mean(predictions == y)` would be 0.0."""
    blocks, other = scanned(tmp_path, X), ooclearn.scan(X)
    for what in (other, 1, "yes", [1.0]):
        with pytest.raises(TypeError, match="not compared cell by cell; take arrays"):
            assert blocks == what
        with pytest.raises(TypeError, match="not compared cell by cell; take arrays"):
            assert blocks != what
    assert blocks == blocks  # noqa: PLR0124  (a list is searched by `==`)
    assert blocks != None  # noqa: E711  (the same)
    assert len({blocks, other, blocks}) == 2
    for one in (blocks == X, X == blocks):  # noqa: SIM300  (both ways)
        np.testing.assert_array_equal(one, np.ones_like(X, dtype=bool))


def test_what_takes_them_for_an_array_is_told(tmp_path):
    blocks = scanned(tmp_path, X)
    for one in (blocks, StandardScaler().fit(blocks).transform(blocks)):
        for name in ("T", "reshape", "astype"):
            assert not hasattr(one, name)
            with pytest.raises(AttributeError, match=rf"rows.npy.* has no {name!r}, as an array .*ParallelPostFit"):
                getattr(one, name)
        assert not hasattr(one, "__getitem__")  # or scikit-learn would pick rows by it
        for key in (0, slice(3), (slice(None), 1), [1, 2]):
            with pytest.raises(AttributeError, match=r"nothing is picked from it by \[...\].*ParallelPostFit"):
                one[key]
        with pytest.raises(AttributeError, match="object has no attribute 'nothing'"):
            one.nothing  # noqa: B018  (it is the asking)


def test_scikit_learn_reads_no_large_table_whole_without_a_word(tmp_path):
    blocks, y = scanned(tmp_path, X), ooclearn.scan(np.arange(N) % 2)
    with ooclearn.config_context(block_bytes=X.nbytes - 1):
        with pytest.warns(PerformanceWarning, match=r"scikit-learn takes arrays here.*rows.npy.* 888 bytes") as caught:
            LogisticRegression().fit(blocks, y)
        assert caught[0].filename == __file__
        with pytest.warns(PerformanceWarning, match="fit them by ooclearn.fit_all"):
            cross_val_score(GaussianNB(), blocks, y, cv=2)
        with pytest.warns(PerformanceWarning, match="scikit-learn takes arrays here"):  # by way of NumPy's hstack
            make_union(StandardScaler(), Normalizer()).fit_transform(blocks)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.asarray(blocks)  # it is asked for by name
            cross_val_score(GaussianNB(), X, y, cv=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LogisticRegression().fit(blocks, y)  # no more than one block of the usual size


def test_a_block_that_is_not_there():
    blocks = ooclearn.scan(X, block_rows=10)
    for i in (4, -1):
        with pytest.raises(IndexError, match=f"there is no block {i} of array; its blocks are 0 to 3"):
            blocks.read(i)


def test_joined_parts_must_fit():
    with pytest.raises(DataError, match="cannot follow rows of shape"):
        ooclearn.scan([X, X[:, :2]])
    with pytest.raises(DataError, match="text do not go together"):
        ooclearn.scan([X, X.astype("U5")])
    assert ooclearn.scan([X.astype(np.float32), X]).dtype == np.float64
    assert isinstance(ooclearn.scan([X, X]).source, JoinedSource)


def test_counted_by_statistics():
    counted = CountingBlocks(X, uneven_cut(N))
    StandardScaler().fit(counted)
    assert counted.passes == 1
    assert Moments().of(next(Table(counted).tiles(0, 100))).rows == counted.lengths[0]


def test_names_that_blocks_have_of_themselves_stay():
    blocks = ooclearn.scan(X)
    assert as_table(blocks, names=np.array(["a", "b", "c"])).X.names.tolist() == ["a", "b", "c"]
    assert blocks.names is None
    blocks.names = np.array(["d", "e", "f"])
    assert as_table(blocks, names=np.array(["a", "b", "c"])).X is blocks


@pytest.mark.parametrize("mapped", [False, True])
def test_a_single_number_is_refused(mapped, tmp_path):
    number = np.array(5.0)
    number.tofile(tmp_path / "number")
    with pytest.raises(DataError, match="single number; expected an array of rows"):
        ooclearn.scan(np.memmap(tmp_path / "number", dtype=float, mode="r", shape=()) if mapped else number)
