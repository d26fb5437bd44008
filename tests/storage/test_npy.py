""".npy files: read in any place, written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ooclearn
from ooclearn.exceptions import DataError, DataWarning, PerformanceWarning, ReadError, SourceChangedError
from ooclearn.linear_model import LinearRegression
from ooclearn.preprocessing import MaxAbsScaler, StandardScaler
from ooclearn.testing import CountingBlocks, nothing_left
from ooclearn.testing.strategies import cuts
from ooclearn.testing.tables import uneven_cut

X = np.random.default_rng(0).normal(0, 10, (57, 3))
DTYPES = ["float64", "float32", "float16", "int64", "uint8", "bool", "complex64", "U7", "S3", "<M8[s]"]


@pytest.mark.parametrize("shape", [(57, 3), (57,), (0, 3), (1, 1), (5, 2, 4)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_there_and_back(tmp_path, shape, dtype, leaves_nothing):
    values = np.arange(np.prod(shape)).reshape(shape).astype("i8").astype(dtype)
    np.save(tmp_path / "in.npy", values)
    blocks = ooclearn.scan(tmp_path / "in.npy").recut(uneven_cut(shape[0]))
    assert (blocks.shape, blocks.dtype) == (shape, np.dtype(dtype))
    blocks.to_npy(tmp_path / "out.npy")
    got = np.load(tmp_path / "out.npy")
    assert got.dtype == values.dtype
    np.testing.assert_array_equal(got, values)
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "in.npy").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npy", "out.npy"]


@settings(deadline=None, derandomize=True, max_examples=30)
@given(data=st.data())
def test_any_rows_of_any_layout(data, tmp_path_factory):
    """Fortran order, foreign byte order, both; any cut reads the same."""
    values = X.astype(data.draw(st.sampled_from([">f8", "<f8", ">f4", ">i4"])))
    order = data.draw(st.sampled_from("CF"))
    path = tmp_path_factory.mktemp("layout") / "x.npy"
    np.save(path, np.array(values, order=order))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PerformanceWarning)
        blocks = ooclearn.scan(path)
    assert blocks.dtype.isnative
    cut = data.draw(cuts(len(X)))
    np.testing.assert_array_equal(np.concatenate(list(blocks.recut(cut))), values)
    assert blocks.read(0).dtype == values.dtype.newbyteorder("=")


def test_fortran_order_is_told(tmp_path):
    np.save(tmp_path / "f.npy", np.asfortranarray(X))
    with pytest.warns(PerformanceWarning, match="Fortran order"):
        ooclearn.scan(tmp_path / "f.npy")


def test_parallel_writing_is_the_same_bytes(tmp_path):
    values = np.random.default_rng(1).normal(0, 1, (5000, 6))
    blocks = ooclearn.scan(values, block_rows=33)
    for workers in (1, 4):
        with ooclearn.config_context(workers=workers):
            blocks.to_npy(tmp_path / f"{workers}.npy")
    assert (tmp_path / "1.npy").read_bytes() == (tmp_path / "4.npy").read_bytes()


def test_a_mapped_result_of_other_width_and_dtype(tmp_path, backend):
    if not hasattr(backend.backend.blocks(backend.make(X)), "to_npy") or not backend.has("float64"):
        values = X.astype(np.float32)
    else:
        values = X
    scaler = StandardScaler().fit(values)
    blocks = backend.backend.blocks(backend.make(values)).map(scaler._row_map())
    blocks.to_npy(tmp_path / "out.npy")
    np.testing.assert_allclose(
        np.load(tmp_path / "out.npy"),
        scaler.transform(values),
        rtol=backend.within(64),
        atol=backend.within(64),
    )


def test_a_file_is_replaced_only_when_the_new_one_is_whole(tmp_path, leaves_nothing):
    path = tmp_path / "out.npy"
    np.save(path, X)
    bad = X.copy()
    bad[50, 1] = np.nan

    def fail(block):
        raise RuntimeError("in the middle")

    from ooclearn.rowmaps import Rowwise

    with pytest.raises(RuntimeError, match="in the middle"):
        ooclearn.scan(X, block_rows=10).map(Rowwise(fail)).to_npy(path)
    np.testing.assert_array_equal(np.load(path), X)
    assert [file.name for file in tmp_path.iterdir()] == ["out.npy"]


def test_a_result_may_take_the_place_of_its_source(tmp_path, leaves_nothing):
    path = tmp_path / "x.npy"
    np.save(path, X)
    blocks = ooclearn.scan(path, block_rows=10)
    scaler = MaxAbsScaler().fit(blocks)
    scaler.transform(blocks).to_npy(path)
    np.testing.assert_allclose(np.load(path), X / np.abs(X).max(axis=0), rtol=1e-15)
    with pytest.raises(SourceChangedError, match="not the one that was scanned"):
        blocks.to_numpy()


def test_a_full_disk_is_seen_before_anything_is_computed(tmp_path, monkeypatch, leaves_nothing):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 100))
    counted = CountingBlocks(X, [57])
    with pytest.raises(OSError, match="100 are free") as error:
        counted.to_npy(tmp_path / "out.npy")
    assert error.value.errno == 28
    assert counted.reads == []


def test_a_disk_that_fills_up_while_writing(tmp_path):
    """A limit of the process on the size of files stands for the full disk."""
    code = """
import os, resource, sys
import numpy as np, ooclearn
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    ooclearn.scan(np.ones((100_000, 2))).to_npy("out.npy")
except OSError as error:
    print(type(error).__name__, "out.npy" in str(error), os.listdir())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout == "OSError True []\n", done.stderr


@pytest.mark.parametrize(
    ("where", "said"),
    [("missing/out.npy", "there is no folder .*missing; make it first"), (".", "give the name of a file")],
)
def test_places_that_cannot_be_written(tmp_path, where, said):
    with nothing_left(tmp_path), pytest.raises(OSError, match=said):
        ooclearn.scan(X).to_npy(tmp_path / where)


def test_objects_are_not_pickled_into_files(tmp_path):
    with pytest.raises(DataError, match="pickling"):
        ooclearn.scan(np.array(["a", None], dtype=object)).to_npy(tmp_path / "o.npy")
    np.save(tmp_path / "o.npy", np.array(["a", None], dtype=object))
    with pytest.raises(DataError, match="Python objects"):
        ooclearn.scan(tmp_path / "o.npy")


def whole(tmp_path):
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy", (tmp_path / "x.npy").read_bytes()


@pytest.mark.parametrize("keep", [0, 3, 60, 127, 128, 200, -1])
def test_truncated_files_are_refused_by_name(tmp_path, keep):
    path, content = whole(tmp_path)
    path.write_bytes(content[:keep])
    with pytest.raises(DataError, match="not fully written") as error:
        ooclearn.scan(path)
    assert error.value.source == str(path)


def test_trailing_bytes_are_told(tmp_path):
    path, content = whole(tmp_path)
    path.write_bytes(content + b"more")
    with pytest.warns(DataWarning, match="4 bytes after the array"):
        blocks = ooclearn.scan(path)
    np.testing.assert_array_equal(blocks.to_numpy(), X)


def rewritten(path, content):
    path.write_bytes(content)


def shrunk(path, content):
    os.truncate(path, len(content) // 2)


def replaced(path, content):
    other = path.with_name("other")
    other.write_bytes(content)
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


def removed(path, content):
    path.unlink()


@pytest.mark.parametrize("change", [rewritten, shrunk, replaced, removed], ids=lambda one: one.__name__)
def test_a_file_that_has_changed_since_is_refused(tmp_path, change):
    path, content = whole(tmp_path)
    blocks = ooclearn.scan(path, block_rows=10)
    scaler = StandardScaler().fit(blocks)
    os.utime(path, ns=(1, 1)) if change is rewritten else change(path, content)
    before = scaler.mean_
    with nothing_left(tmp_path), pytest.raises(SourceChangedError) as error:
        scaler.fit(blocks)
    assert error.value.source == str(path)
    assert scaler.mean_ is before


def test_a_folder_of_files_is_one_table(tmp_path):
    for k, part in enumerate(np.split(X, [10, 10, 40])):
        np.save(tmp_path / f"part-{k}.npy", part)
    (tmp_path / "README.txt").write_text("not a table")
    blocks = ooclearn.scan(tmp_path)
    np.testing.assert_array_equal(blocks.to_numpy(), X)
    np.testing.assert_array_equal(np.concatenate(list(blocks.recut((9, 2, 46)))), X)


@pytest.mark.parametrize("make", [lambda p: p, str, lambda p: str(p.name)], ids=["path", "text", "relative"])
def test_paths(tmp_path, make, monkeypatch):
    path, _ = whole(tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = ooclearn.scan(make(path))
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(blocks.to_numpy(), X)


def test_what_cannot_be_scanned(tmp_path):
    with pytest.raises(FileNotFoundError):
        ooclearn.scan(tmp_path / "missing.npy")
    for missing in ("missing", "missing.csv"):  # not: files of this kind cannot be scanned
        with pytest.raises(FileNotFoundError, match=missing):
            ooclearn.scan(tmp_path / missing)
    with pytest.raises(DataError, match=r"no \.npy file"):
        ooclearn.scan(tmp_path)
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"\.csv cannot be scanned; expected \.npy\. Read it with dask\.dataframe"):
        ooclearn.scan(tmp_path / "x.csv")
    with pytest.raises(DataError, match=r"patterns are not looked up; pass the folder, or sorted\(glob"):
        ooclearn.scan(str(tmp_path / "*.npy"))
    with pytest.raises(DataError, match="read once"):
        ooclearn.scan(iter([X]))
    for wrong in (3, None, {"a": 1}, [1, 2]):
        with pytest.raises(DataError, match=r"cannot scan a|expected"):
            ooclearn.scan(wrong)
    with pytest.raises(DataError, match="cannot scan an empty list; expected"):
        ooclearn.scan([])


def test_a_path_where_targets_belong():
    with pytest.raises(DataError, match=r"no names of columns .*; to read a file pass ooclearn\.scan\('y\.npy'\)"):
        LinearRegression().fit(X, "y.npy")


def test_a_frame_in_memory_is_passed_as_it_is():
    pandas = pytest.importorskip("pandas", reason="in the group `test`")
    with pytest.raises(DataError, match="cannot scan a DataFrame, which is in memory: pass it to fit"):
        ooclearn.scan(pandas.DataFrame(X))


@pytest.mark.filterwarnings("ignore:Determining")  # scikit-learn asks for its columns
def test_a_query_for_a_frame_is_to_be_computed_first():
    polars = pytest.importorskip("polars", reason="in the group `test`")
    query = polars.DataFrame(X).lazy()
    for use in (ooclearn.scan, StandardScaler().fit):
        with pytest.raises(DataError, match=r"got a LazyFrame, which has no rows .* pass its collect\(\)"):
            use(query)
    StandardScaler().fit(query.collect())


def test_files_whose_numbers_are_not_in_the_order_of_their_names(tmp_path):
    for i in (1, 2, 10):
        np.save(tmp_path / f"part-{i}.npy", np.full((2, 1), i))
    with pytest.warns(DataWarning, match=r"by name, part-10\.npy before part-2\.npy; .* pass a list of the files"):
        blocks = ooclearn.scan(tmp_path)
    assert blocks.to_numpy()[::2, 0].tolist() == [1, 10, 2]
    (tmp_path / "part-10.npy").unlink()
    assert ooclearn.scan(tmp_path).to_numpy()[::2, 0].tolist() == [1, 2]


def test_more_than_the_system_takes_in_one_call_is_read_and_written_in_several(tmp_path, monkeypatch):
    """macOS refuses to read or to write 2 GiB and more at once."""

    def refusing(call):
        def refuse(fd, data, *others):
            if memoryview(data[0] if isinstance(data, list) else data).nbytes > 100:
                raise OSError(22, "Invalid argument")
            return call(fd, data, *others)

        return refuse

    monkeypatch.setattr("ooclearn.storage.npy._AT_ONCE", 100)
    for name in ("preadv", "pwrite"):
        if hasattr(os, name):
            monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    np.save(tmp_path / "in.npy", X)
    ooclearn.scan(tmp_path / "in.npy").to_npy(tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), X)


@pytest.mark.parametrize("name", ["n" * 251, "\N{LATIN SMALL LETTER E WITH ACUTE}" * 125])
def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path, name):
    path = tmp_path / f"{name}.npy"
    try:
        np.save(path, X)
    except OSError:
        pytest.skip("this file system does not take names of 255 bytes")
    ooclearn.scan(path).to_npy(path)
    np.testing.assert_array_equal(np.load(path), X)


def test_a_path_may_be_bytes(tmp_path):
    path = os.fsencode(tmp_path / "x.npy")
    ooclearn.scan(X).to_npy(path)
    np.testing.assert_array_equal(ooclearn.scan(path).to_numpy(), X)
    assert ooclearn.scan([path, path]).n_rows == 2 * len(X)


def test_an_empty_path_is_not_the_folder_we_are_in(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", X)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="the path is empty; expected a"):
        ooclearn.scan("")
    assert ooclearn.scan(".").n_rows == len(X)


def test_an_address_is_not_a_path():
    with pytest.raises(DataError, match=r"only files of this machine are read; .* \(in s3://bucket/x\.npy\)"):
        ooclearn.scan("s3://bucket/x.npy")


def test_a_block_that_cannot_be_read_is_not_taken_for_one_that_cannot_be_written(tmp_path):
    class Unread(CountingBlocks):
        def tiles(self, i, rows):
            raise ReadError("could not read", source="rows", block=i)

    with nothing_left(tmp_path), pytest.raises(ReadError, match=r"could not read \(in rows, block 0\)"):
        Unread(np.ones((5, 2))).to_npy(tmp_path / "out.npy")
