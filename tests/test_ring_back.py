"""Results that come back from a device: through a ring as well, on a device without hardware, late and forgetful."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

import ooclearn
from late_device import CUT, SCALED, N, late_device, numbers, sent
from ooclearn import returning
from ooclearn.events import Observer, Work, observe
from ooclearn.exceptions import BackendError, BlockMemoryError, DataError, NonFiniteError, ReadError, SourceChangedError
from ooclearn.linear_model import Ridge
from ooclearn.naive_bayes import CategoricalNB
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler
from ooclearn.returning import WayBack
from ooclearn.rowmaps import Affine, Rowwise, compose
from ooclearn.testing import nothing_left
from ooclearn.testing.device import FakeDevice, FakeEvent, FakeStream, register_fake
from ooclearn.testing.tables import uneven_cut

WORK = Work("map", "test")
PRODUCT = Affine(np.array([[1.0], [2.0], [-1.0]]), squeeze=True)


@pytest.fixture
def fake():
    """A device whose every step is late by up to a millisecond, behind small blocks."""
    with late_device(block_bytes=2000, workers=2) as fake:
        yield fake


def brought(device, X, row_map, *, cut=CUT, put=None):
    """Return what comes back of rows that are mapped on a device."""
    given = sent(X, cut)
    mapped = given.map(row_map)
    way = WayBack(device, given.on_host(), row_map, mapped)
    out = np.full(mapped.shape, -1, dtype=mapped.dtype)

    def place(blocks, start, rows):
        out[start : start + len(rows)] = rows

    way.bring(put or place, work=WORK)
    return out


class TestWayBack:
    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
    @pytest.mark.parametrize("row_map", [SCALED, PRODUCT, compose(SCALED, PRODUCT)], ids=["by column", "one", "both"])
    def test_every_row_at_its_place(self, fake, seed, dtype, row_map):
        X = numbers(dtype=dtype)
        with ooclearn.config_context(workers=1 + seed % 3), nothing_left():
            out = brought(FakeDevice(delay=0.001, seed=seed), X, row_map, cut=uneven_cut(N))
        np.testing.assert_allclose(out, row_map(X), rtol=1e-6 if dtype == np.float32 else 1e-12)

    def test_results_wider_than_the_rows(self, fake):
        X = numbers(d=2)
        wide = Affine(np.arange(80.0).reshape(2, 40))
        device = FakeDevice(delay=0.001)
        with ooclearn.config_context(memory_limit=40_000):
            np.testing.assert_allclose(brought(device, X, wide), wide(X))
            given = sent(X)
            assert WayBack(device, given.on_host(), wide, given.map(wide)).memory()[0] < 3 * 40_000

    def test_no_rows(self, fake):
        assert brought(FakeDevice(), numbers(0), SCALED, cut=(0, 0)).shape == (0, 3)

    @pytest.mark.parametrize("workers", [1, 3])
    def test_memory_is_bounded_and_as_stated(self, fake, monkeypatch, workers):
        X = numbers()
        made = {"pinned": 0, "room": 0}
        for name in made:
            real = getattr(FakeDevice, name)

            def counted(self, nbytes, *, name=name, real=real):
                made[name] += nbytes
                return real(self, nbytes)

            monkeypatch.setattr(FakeDevice, name, counted)
        with ooclearn.config_context(workers=workers, block_bytes=250):
            given = sent(X, (10,) * (N // 10))
            way = WayBack(FakeDevice(), given.on_host(), SCALED, given.map(SCALED))
            way.bring(lambda *_: time.sleep(0.002), work=WORK)
        assert (made["pinned"], made["room"]) == way.memory()
        assert made["pinned"] < X.nbytes

    def test_rows_are_counted_once(self, fake):
        class Counting(Observer):
            rows = ends = 0

            def span(self, work, span):
                self.rows += span.rows

            def end(self, work, error=None):
                self.ends += 1

        with observe(Counting()) as seen:
            sent(numbers()).map(SCALED).to_numpy()
        assert (seen.rows, seen.ends) == (N, 1)


class TestWhatAMissingWaitDoes:
    """What the tests above rely on: with one of the waits left out, rows are wrong, or found to be missing."""

    def shows(self, device=None):
        X = numbers()
        try:
            out = brought(device or FakeDevice(delay=0.002), X, SCALED)
        except BackendError as error:
            assert "did not fill" in str(error)
            return True
        return not np.allclose(out, SCALED(X))

    def test_none_is_missing(self, fake):
        assert not self.shows()
        device = FakeDevice(delay=0.002)
        device.fetching = FakeStream("fetch", 0, 0.03)
        assert not self.shows(device)

    def test_the_copy_back_for_the_map(self, fake, monkeypatch):
        device = FakeDevice(delay=0.002)
        real = FakeStream.wait
        monkeypatch.setattr(
            FakeStream, "wait", lambda self, event: None if self is device.fetching else real(self, event)
        )
        assert self.shows(device)

    def test_the_map_for_the_copy_back_of_what_was_there(self, fake, monkeypatch):
        rooms = []
        real, made = FakeStream.wait, returning._ResultRoom
        monkeypatch.setattr(returning, "_ResultRoom", lambda *given: rooms.append(made(*given)) or rooms[-1])

        def ignored(event):
            return any(event is room.free for room in rooms)

        monkeypatch.setattr(FakeStream, "wait", lambda self, event: None if ignored(event) else real(self, event))
        device = FakeDevice(delay=0.002)
        device.fetching = FakeStream("fetch", 0, 0.03)
        assert self.shows(device)
        assert rooms

    def test_the_writer_for_the_copy_back(self, fake, monkeypatch):
        real = FakeEvent.synchronize

        def wait(self):
            if not threading.current_thread().name.startswith("writer"):
                real(self)

        monkeypatch.setattr(FakeEvent, "synchronize", wait)
        assert self.shows()

    def test_the_slot_for_the_writer(self, fake, monkeypatch):
        """A slot that is given back before its rows are where they belong."""
        real = WayBack._write

        def write(self, put, work, given):
            def late(blocks, start, rows):
                crew[0]._free.put(given.slot)
                time.sleep(0.01)
                put(blocks, start, rows)

            real(self, late, work, given)

        crew = []
        made = returning._Writers.__init__

        def noted(self, *args):
            crew.append(self)
            made(self, *args)

        monkeypatch.setattr(returning._Writers, "__init__", noted)
        monkeypatch.setattr(WayBack, "_write", write)
        assert self.shows()


class TestFaults:
    def rows(self, *places):
        X = numbers()
        for row, column in places:
            X[row, column] = np.inf
        return sent(X)

    @pytest.mark.parametrize("into", ["file", "memory", "score"])
    def test_refused_cells_are_named_as_by_each_block(self, fake, tmp_path, into):
        X = numbers()
        model = make_pipeline(StandardScaler(), Ridge()).fit(X, X[:, 0])
        rows = self.rows((1234, 2), (2000, 1), (1235, 0))
        calls = {
            "file": lambda: model.predict(rows).to_npy(tmp_path / "out.npy"),
            "memory": lambda: model.predict(rows).to_numpy(),
            "score": lambda: model.score(rows, X[:, 0]),
        }
        with nothing_left(tmp_path), pytest.raises(NonFiniteError) as error:
            calls[into]()
        with pytest.raises(NonFiniteError) as expected:
            model.predict(rows).read(30)
        assert str(error.value) == str(expected.value)
        assert (error.value.rows, error.value.column, error.value.block) == ((1234, 1235), 2, 30)
        assert list(tmp_path.iterdir()) == []

    def test_of_a_map_that_looks_at_values(self, fake):
        rows = self.rows((1234, 2))
        with nothing_left(), pytest.raises(DataError) as error:
            rows.map(Rowwise(_looking)).to_numpy()
        assert (error.value.rows, error.value.block) == ((1234, 1235), 30)

    @pytest.mark.parametrize("cell", [-1.0, 1e3, np.nan, -np.inf, 1e300])
    def test_of_a_cell_that_is_no_category(self, fake, cell):
        X = np.arange(3.0 * N).reshape(N, 3) % 5
        model = CategoricalNB().fit(X, np.arange(N) % 2)
        X[1234, 2] = cell
        with nothing_left(), pytest.raises(DataError) as error:
            model.predict(sent(X)).to_numpy()
        with pytest.raises(DataError) as expected:
            model.predict(X)
        assert str(error.value)[:30] == str(expected.value)[:30]
        assert (error.value.rows, error.value.column, error.value.block) == ((1234, 1235), 2, 30)

    def test_of_a_map_of_another_shape(self, fake):
        with nothing_left(), pytest.raises(DataError, match="were declared"):
            sent(numbers()).map(Rowwise(_first_column)).to_numpy()

    def test_of_the_work(self, fake, tmp_path):
        with nothing_left(tmp_path), pytest.raises(ZeroDivisionError):
            sent(numbers()).map(Rowwise(_failing)).to_npy(tmp_path / "out.npy")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("error", [OSError(28, "no space left"), KeyboardInterrupt(), ZeroDivisionError()])
    def test_of_who_takes_the_rows(self, fake, error):
        def put(blocks, start, rows):
            if start >= 1000:
                raise error

        with nothing_left(), pytest.raises(type(error)):
            brought(FakeDevice(delay=0.001), numbers(), SCALED, put=put)

    def test_of_a_wait_for_the_device(self, fake, monkeypatch):
        real = FakeEvent.synchronize

        def lost(self):
            if threading.current_thread().name.startswith("writer"):
                raise OSError("the device is lost")
            real(self)

        lazy = sent(numbers()).map(SCALED)
        monkeypatch.setattr(FakeEvent, "synchronize", lost)
        with nothing_left(), pytest.raises(OSError, match="is lost"):
            lazy.to_numpy()

    @pytest.mark.parametrize("verb", ["fetch", "copy", "launch", "room", "pinned"])
    @pytest.mark.parametrize("call", [0, 3])
    def test_interrupted(self, fake, tmp_path, monkeypatch, verb, call):
        real = getattr(FakeDevice, verb)
        left = [call]

        def interrupted(self, *args):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return real(self, *args)

        lazy = sent(numbers()).map(SCALED)
        monkeypatch.setattr(FakeDevice, verb, interrupted)
        with nothing_left(tmp_path), pytest.raises(KeyboardInterrupt):
            lazy.to_npy(tmp_path / "out.npy")
        assert list(tmp_path.iterdir()) == []

    def test_too_little_memory_says_what_to_set(self, tmp_path):
        register_fake(memory=2000)
        try:
            lazy = sent(numbers()).map(SCALED)
            with nothing_left(tmp_path), pytest.raises(BlockMemoryError, match="Set block_bytes to"):
                lazy.to_npy(tmp_path / "out.npy")
        finally:
            register_fake()

    def test_a_file_that_shrinks(self, fake, tmp_path):
        np.save(tmp_path / "X.npy", numbers())
        lazy = ooclearn.scan(tmp_path / "X.npy", block_rows=100).on("device").map(SCALED)
        os.truncate(tmp_path / "X.npy", 5000)
        with nothing_left(tmp_path), pytest.raises((SourceChangedError, ReadError), match=r"X\.npy"):
            lazy.to_npy(tmp_path / "out.npy")

    def test_a_source_that_changes_between_its_readings(self, fake):
        X = numbers()
        X[70, 1] = np.inf

        self_ = sent(X).map(StandardScaler().fit(numbers())._transform_map())
        read = type(self_).read
        self_.read = lambda i: X.__setitem__((70, 1), 0.0) or read(self_, i)
        with pytest.raises(DataError, match="has the source changed"):
            self_.to_numpy()


def _looking(block):
    import array_api_strict as xp

    bad = xp.isinf(block[:, 2])
    if bool(xp.any(bad)):
        row = int(xp.argmax(xp.astype(bad, xp.int64)))
        raise NonFiniteError("looked at", rows=(row, row + 1))
    return block


def _first_column(block):
    return block[:, 0]


def _failing(block):
    raise ZeroDivisionError
