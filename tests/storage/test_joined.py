"""Files and arrays of several dtypes as one table: no number is altered without a word."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ooclearn
from ooclearn.exceptions import DataError, SourceChangedError
from ooclearn.preprocessing import StandardScaler
from ooclearn.storage.arrays import converted

FLOATS = np.full((3, 2), 0.5)


def whole(*values, dtype=np.int64):
    return np.array([[1, value] for value in values], dtype=dtype)


def of_files(tmp_path, *parts):
    files = [tmp_path / f"{k}.npy" for k in range(len(parts))]
    for file, part in zip(files, parts, strict=True):
        np.save(file, part)
    return files


@pytest.mark.parametrize("value", [2**53, -(2**53), 2**60, -(2**63)])
def test_whole_numbers_that_floats_hold_become_floats(tmp_path, value):
    blocks = ooclearn.scan(of_files(tmp_path, FLOATS, whole(value)))
    assert blocks.dtype == np.float64
    assert blocks.to_numpy()[3].tolist() == [1.0, float(value)]


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, 2**63 - 1])
def test_others_are_refused_with_the_place(tmp_path, value):
    files = of_files(tmp_path, FLOATS, whole(7, value))
    blocks = ooclearn.scan(files)
    for read in (blocks.to_numpy, lambda: StandardScaler().fit(blocks), lambda: blocks.to_npy(tmp_path / "out.npy")):
        with pytest.raises(DataError, match="whole numbers of dtype int64 would be altered") as caught:
            read()
        error = caught.value
        assert str(files[1]) in str(error)
        assert (error.rows, error.column) == ((4, 5), 1)
        assert str(value) not in str(error)


def test_the_greatest_of_64_bits_without_a_sign():
    with pytest.raises(DataError, match="uint64"):
        ooclearn.scan([FLOATS, whole(2**64 - 1, dtype=np.uint64)]).to_numpy()
    # Nothing but whole numbers, and yet NumPy has no dtype that holds all of both.
    assert ooclearn.scan([whole(3), whole(2**60, dtype=np.uint64)]).dtype == np.float64


def test_the_file_of_a_row_is_named(tmp_path):
    first, second = files = of_files(tmp_path, FLOATS, FLOATS[:2])
    named = [ooclearn.scan(files).name_at(row) for row in (0, 2, 3, 4)]
    places = [(first, 0), (first, 2), (second, 0), (second, 1)]
    assert named == [f"{file} (row {row} there)" for file, row in places]
    # Where what is wrong is seen behind the last row, in a block without rows.
    assert ooclearn.scan(files).name_at(5).startswith(str(second))


def test_a_file_that_is_gone_is_named(tmp_path):
    files = of_files(tmp_path, FLOATS, FLOATS)
    blocks = ooclearn.scan(files)
    files[1].unlink()
    with pytest.raises(SourceChangedError, match=r"gone since it was scanned.*1\.npy"):
        blocks.to_numpy()


def test_blocks_of_a_callable():
    blocks = ooclearn.scan(lambda: [FLOATS, whole(5), whole(2**53 + 1)])
    with pytest.raises(DataError, match="would be altered") as caught:
        blocks.to_numpy()
    assert (caught.value.block, caught.value.rows, caught.value.column) == (2, (4, 5), 1)


def test_chunks_of_another_dtype_than_declared():
    da = pytest.importorskip("dask.array", reason="the extra `dask` is not installed")
    chunks = [FLOATS, whole(2**53 + 1)]
    x = da.map_blocks(
        lambda block_id: chunks[block_id[0]], chunks=((3, 1), (2,)), dtype=float, meta=np.empty((0, 0)), name="mixed"
    )
    with pytest.raises(DataError, match="would be altered") as caught:
        StandardScaler().fit(x)
    assert (caught.value.block, caught.value.rows, caught.value.column) == (1, (3, 4), 1)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5))
def test_what_is_converted_is_the_same_number(values):
    rows = np.array(values, dtype=np.int64)[:, None]
    if all(int(float(value)) == value for value in values):
        assert [int(value) for value in converted(rows, np.dtype(float))[:, 0]] == values
    else:
        with pytest.raises(DataError):
            converted(rows, np.dtype(float))
