"""Runs of rows that lie all over a file are asked for before they are read, where they are not in memory yet."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

import ooclearn
from ooclearn import Incremental
from ooclearn.exceptions import SourceChangedError
from ooclearn.rowmaps import Affine
from ooclearn.sources import SourceBlocks
from ooclearn.storage import npy
from ooclearn.table import Table

advises = pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no advice")


@pytest.fixture
def asked(monkeypatch):
    """The places of files that were asked for."""
    places = []
    if hasattr(os, "posix_fadvise"):
        advise = os.posix_fadvise

        def remember(fd, at, n, what):
            places.append((at, n))
            advise(fd, at, n, what)

        monkeypatch.setattr(os, "posix_fadvise", remember)
    return places


@pytest.fixture
def source(tmp_path):
    np.save(tmp_path / "X.npy", np.arange(40_000.0).reshape(-1, 4))
    return npy.open_npy(tmp_path / "X.npy")


@advises
class TestOneFile:
    def test_what_is_in_memory_is_not_asked_for(self, source, asked):
        source.expect([(0, 10), (500, 600)])
        assert not asked

    def test_what_is_not_is(self, source, asked, monkeypatch):
        monkeypatch.setattr(npy, "_is_there", lambda fd, at: False)
        source.expect([(0, 10), (20, 20), (500, 600)])
        assert asked == [(source.offset, 320), (source.offset + 500 * 32, 3200)]

    def test_one_place_that_is_not_is_enough(self, source, asked, monkeypatch):
        monkeypatch.setattr(npy, "_is_there", lambda fd, at: at != source.offset + 9_000 * 32)
        source.expect([(0, 10), (5_000, 5_010), (9_000, 9_010)])
        assert len(asked) == 3

    def test_it_comes(self, tmp_path):
        path = tmp_path / "X.npy"
        np.save(path, np.zeros((200_000, 20)))
        source = npy.open_npy(path)
        end = source.offset + 199_999 * 160
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if npy._is_there(file.fileno(), end):
                pytest.skip("the file system does not let go of what it holds")
            source.expect([(0, 100), (199_000, 200_000)])
            late = time.monotonic() + 20
            while not npy._is_there(file.fileno(), end):
                assert time.monotonic() < late
                time.sleep(0.01)

    def test_what_is_wrong_is_for_the_reading_to_tell(self, source):
        os.unlink(source.path)
        source.expect([(0, 10), (20, 30)])
        with pytest.raises(SourceChangedError, match="gone"):
            source.read(0, 10)


class Recording:
    """A source that remembers what was asked for and what was read, in turn."""

    in_memory = False

    def __init__(self, values):
        self.values, self.name, self.shape, self.dtype = values, "recording", values.shape, values.dtype
        self.asked, self.read_after, self.lock = set(), [], threading.Lock()

    def expect(self, runs):
        with self.lock:
            assert not self.asked & set(runs), "once is enough"
            self.asked |= set(runs)

    def read(self, start, stop, /, out=None):
        with self.lock:
            self.read_after.append((start, stop) in self.asked)
        rows = self.values[start:stop]
        if out is None:
            return rows.copy()
        out[...] = rows
        return out


class Idle:
    """Has nothing to learn."""

    def get_params(self, deep=True):
        return {}

    def partial_fit(self, X, y=None):
        return self


class TestWhoAsks:
    @pytest.mark.parametrize("workers", [1, 2, 3])
    def test_a_feed_of_mixed_rows_once_for_each_before_it_is_read(self, workers):
        source = Recording(np.random.default_rng(0).normal(size=(20_000, 3)))
        with ooclearn.config_context(workers=workers):
            Incremental(Idle(), shuffle=True, block_rows=1_000).fit(SourceBlocks(source))
        assert source.asked
        assert all(source.read_after)

    def test_rows_in_order_are_seen_by_the_system_itself(self):
        source = Recording(np.random.default_rng(0).normal(size=(20_000, 3)))
        Incremental(Idle(), shuffle=False, block_rows=1_000).fit(SourceBlocks(source))
        assert not source.asked
        assert source.read_after

    def test_through_maps_and_tables(self):
        X, y = Recording(np.zeros((100, 3))), Recording(np.zeros(100))
        table = Table(SourceBlocks(X, [10] * 10).map(Affine(center=np.ones(3))), SourceBlocks(y, [10] * 10))
        table.expect([1, 2, 7])
        assert X.asked == y.asked == {(10, 30), (70, 80)}

    def test_each_file_of_a_folder_for_its_rows(self, tmp_path, monkeypatch):
        for k in range(3):
            np.save(tmp_path / f"{k}.npy", np.zeros((100, 2)))
        told = []
        monkeypatch.setattr(
            npy.FileSource, "expect", lambda self, runs: told.append((os.path.basename(self.name), runs))
        )
        ooclearn.scan(tmp_path).recut([50] * 6).expect([1, 2, 5])
        assert told == [("0.npy", [(50, 100)]), ("1.npy", [(0, 50)]), ("2.npy", [(50, 100)])]
