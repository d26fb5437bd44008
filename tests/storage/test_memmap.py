"""Memory maps: read as files where that is the same, copied out of the mapping where it is not."""

from __future__ import annotations

import os
import tempfile
import warnings

import numpy as np
import pytest

import ooclearn
from ooclearn.exceptions import DataError, PerformanceWarning
from ooclearn.preprocessing import StandardScaler
from ooclearn.storage import arrays
from ooclearn.storage.arrays import MapSource
from ooclearn.storage.npy import FileSource

X = np.random.default_rng(0).normal(0, 10, (57, 3))


def saved(tmp_path, values):
    np.save(tmp_path / "x.npy", values)
    return tmp_path / "x.npy"


VIEWS = {
    "whole": lambda m: m,
    "some rows": lambda m: m[10:40],
    "every other row": lambda m: m[::2],
    "backwards": lambda m: m[::-1],
    "some columns": lambda m: m[:, 1:],
    "turned": lambda m: m.T,
    "reshaped": lambda m: m.reshape(-1, 9),
    "one column": lambda m: m[:, 1],
    "picked": lambda m: m[[5, 3, 5]],
    "no rows": lambda m: m[:0],
    "no rows at the end": lambda m: m[57:],
    "no columns": lambda m: m[:, 3:],
    "one row again and again": lambda m: np.broadcast_to(m[7], (40, 3), subok=True),
}


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_of_a_map_gives_its_own_rows(tmp_path, view, mode):
    mapping = np.load(saved(tmp_path, X), mmap_mode=mode)
    expected = VIEWS[view](X)
    blocks = ooclearn.scan(VIEWS[view](mapping))
    np.testing.assert_array_equal(blocks.to_numpy(), expected)
    if len(expected):
        np.testing.assert_array_equal(blocks.recut((1, len(expected) - 1)).read(1), expected[1:])


@pytest.mark.parametrize("values", [np.asfortranarray(X), X.astype(">f8"), X.astype("f4"), X > 0])
def test_every_layout(tmp_path, values):
    mapping = np.load(saved(tmp_path, values), mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PerformanceWarning)
        blocks = ooclearn.scan(mapping)
    assert blocks.dtype.isnative
    np.testing.assert_array_equal(blocks.to_numpy(), values)


def test_a_plain_map_is_read_as_a_file(tmp_path):
    assert isinstance(ooclearn.scan(np.load(saved(tmp_path, X), mmap_mode="r")).source, FileSource)


def test_changes_that_only_the_map_has_are_seen(tmp_path):
    mapping = np.load(saved(tmp_path, X), mmap_mode="c")
    mapping[20, 1] = 1e6
    assert isinstance(ooclearn.scan(mapping).source, MapSource)
    assert ooclearn.scan(mapping).to_numpy()[20, 1] == 1e6


def test_a_file_replaced_under_its_name_is_not_taken_for_the_map(tmp_path):
    path = saved(tmp_path, X)
    mapping = np.load(path, mmap_mode="r")
    (tmp_path / "other").mkdir()
    saved(tmp_path / "other", X + 1).replace(path)
    np.testing.assert_array_equal(ooclearn.scan(mapping).to_numpy(), X)


def test_a_map_of_a_file_without_a_name_is_not_looked_for(tmp_path, monkeypatch):
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        file.write(X.tobytes())
        file.flush()
        mapping = np.memmap(file, dtype=X.dtype, mode="r", shape=X.shape)
        monkeypatch.setattr(arrays, "FileSource", None)
        np.testing.assert_array_equal(ooclearn.scan(mapping).to_numpy(), X)


@pytest.mark.parametrize("mode", ["r", "c"])
def test_a_file_that_has_shrunk_is_refused_at_once(tmp_path, mode):
    mapping = np.load(saved(tmp_path, X), mmap_mode=mode)
    os.truncate(tmp_path / "x.npy", 500)
    with pytest.raises(DataError, match="shrunk to 500 bytes|truncated|500"):
        ooclearn.scan(mapping)


def test_results_are_lazy(tmp_path, leaves_nothing):
    mapping = np.load(saved(tmp_path, X), mmap_mode="r")
    out = StandardScaler().fit(mapping).transform(mapping)
    assert isinstance(out, ooclearn.Blocks)
    np.testing.assert_allclose(out.to_numpy(), StandardScaler().fit_transform(X), rtol=1e-12, atol=1e-14)
    del mapping, out
