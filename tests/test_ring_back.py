"""Results that come back from a device: through a ring as well, on a device without hardware, late and forgetful."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest
from sklearn.tree import DecisionTreeRegressor

import ooclearn
from ooclearn import returning
from ooclearn.cluster import KMeans
from ooclearn.decomposition import PCA
from ooclearn.events import Observer, Work, observe
from ooclearn.exceptions import BackendError, BlockMemoryError, DataError, NonFiniteError, ReadError, SourceChangedError
from ooclearn.feature_selection import VarianceThreshold
from ooclearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from ooclearn.naive_bayes import GaussianNB
from ooclearn.parallel_post_fit import ParallelPostFit
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import Normalizer, StandardScaler
from ooclearn.returning import ReturnedBlocks, WayBack
from ooclearn.rowmaps import Affine, Rowwise, compose
from ooclearn.testing import nothing_left
from ooclearn.testing.device import FakeDevice, FakeEvent, FakeStream, register_fake
from ooclearn.testing.syncs import no_synchronisation
from ooclearn.testing.tables import uneven_cut

N = 2400
CUT = (40,) * (N // 40)
WORK = Work("map", "test")
SCALED = Affine(np.array([2.0, 0.5, 1.0]), center=np.array([1.0, 100.0, 0.0]))
PRODUCT = Affine(np.array([[1.0], [2.0], [-1.0]]), squeeze=True)


@pytest.fixture
def fake():
    """A device whose every step is late by up to a millisecond, behind small blocks."""
    with ooclearn.config_context(block_bytes=2000, workers=2):
        yield register_fake(delay=0.001)
    register_fake()


def numbers(n=N, d=3, dtype=np.float64):
    X = np.random.default_rng(0).normal(100, 2, (n, d)).astype(dtype)
    X[:, 0] = np.arange(n) % 100
    return X


def sent(X, cut=CUT):
    return ooclearn.scan(X).recut(cut).on("device")


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


class TestLedger:
    """Nothing is asked for, nothing is waited for, and only results come back."""

    X = numbers(d=4)
    y = np.arange(N) % 3
    names = np.array(["a", "bb", "ccc"])[y]

    def models(self):
        X, y, names = self.X, self.y, self.names
        yield StandardScaler().fit(X), "transform"
        yield Normalizer().fit(X), "transform"
        yield VarianceThreshold().fit(X), "transform"
        yield make_pipeline(StandardScaler(), PCA(2, svd_solver="full"), Ridge()).fit(X, y), "predict"
        yield PoissonRegressor().fit(X, y), "predict"
        for method in ("predict", "predict_proba", "decision_function"):
            yield make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y), method
            yield LogisticRegression().fit(X, names), method
        yield GaussianNB().fit(X, names), "predict"
        yield GaussianNB().fit(X, y), "predict_proba"
        yield KMeans(3, random_state=0).fit(X), "predict"
        yield KMeans(3, random_state=0).fit(X), "transform"

    def test_one_way_up_and_one_way_back(self, fake, tmp_path):
        ledger = fake.device().ledger
        rows = sent(self.X, (300,) * 8)
        for model, method in self.models():
            expected = getattr(model, method)(self.X)
            before = (ledger.up, ledger.down, ledger.waits)
            with no_synchronisation():
                getattr(model, method)(rows).to_npy(tmp_path / "out.npy")
            up, down, waits = (
                now - then for now, then in zip((ledger.up, ledger.down, ledger.waits), before, strict=True)
            )
            out = np.load(tmp_path / "out.npy")
            assert out.dtype == expected.dtype
            if out.dtype.kind == "f":
                np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-9)
            else:
                np.testing.assert_array_equal(out, expected)
            sent_back = N * 8 if out.dtype.kind == "U" else out.nbytes
            assert self.X.nbytes <= up <= 1.1 * self.X.nbytes, (model, method)
            assert sent_back <= down <= 1.1 * sent_back + 8 * 264, (model, method)
            assert waits == 0, (model, method)

    def test_into_memory(self, fake):
        model = make_pipeline(StandardScaler(), Ridge()).fit(self.X, self.y)
        before = fake.device().ledger.waits
        with no_synchronisation():
            out = np.asarray(model.predict(sent(self.X)))
        assert fake.device().ledger.waits == before
        np.testing.assert_allclose(out, model.predict(self.X), rtol=1e-9)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_scores(self, fake, weighted):
        X, y, names = self.X, self.y, self.names
        w = np.random.default_rng(1).random(N) if weighted else None
        models = [
            (make_pipeline(StandardScaler(), Ridge()), y),
            (make_pipeline(StandardScaler(), LogisticRegression()), y),
            (LogisticRegression(), names),
            (PoissonRegressor(), y),
        ]
        for model, target in models:
            model.fit(X, target)
            ledger = fake.device().ledger
            before = (ledger.up, ledger.waits)
            rows = sent(X)
            with no_synchronisation():
                score = model.score(rows, ooclearn.scan(target), sample_weight=w)
            assert score == pytest.approx(model.score(X, target, sample_weight=w), rel=1e-12)
            assert ledger.up - before[0] <= 1.1 * (X.nbytes + 16 * N)

    def test_what_is_computed_on_the_host_is_not_sent(self, fake):
        X, y = self.X, self.y.astype(float)
        model = ParallelPostFit(DecisionTreeRegressor(max_depth=3, random_state=0)).fit(X, y)
        before = fake.device().ledger.up
        rows = sent(X)
        np.testing.assert_array_equal(model.predict(rows).to_numpy(), model.predict(X))
        assert model.score(rows, y) == pytest.approx(model.score(X, y))
        np.testing.assert_array_equal(np.asarray(rows), X)
        assert fake.device().ledger.up == before


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


class TestByTheConfiguration:
    """``backend="device"``: rows of the host are mapped on the device, and answered on the host."""

    X = numbers(d=5)
    y = np.array(["no", "yes"])[np.arange(N) % 2]

    def model(self):
        return make_pipeline(StandardScaler(), LogisticRegression()).fit(self.X, self.y)

    def containers(self, folder):
        np.save(folder / "X.npy", self.X)
        yield ooclearn.scan(folder / "X.npy").recut(uneven_cut(N))
        yield np.load(folder / "X.npy", mmap_mode="r")
        yield ooclearn.scan(self.X).recut((400,) * 6)

    @pytest.mark.parametrize("method", ["predict", "predict_proba"])
    def test_lazy_containers(self, fake, tmp_path, method):
        model = self.model()
        expected = getattr(model, method)(self.X)
        for X in self.containers(tmp_path):
            ledger = fake.device().ledger
            before = (ledger.up, ledger.waits)
            with ooclearn.config_context(backend="device"):
                out = getattr(model, method)(X)
            assert ledger.up == before[0], "nothing is read until it is asked for"
            assert isinstance(out, ReturnedBlocks)
            assert out.backend_name == "numpy"
            assert (out.shape, out.dtype) == (expected.shape, expected.dtype)
            with no_synchronisation():
                out.to_npy(tmp_path / "out.npy")
            assert self.X.nbytes <= ledger.up - before[0] <= 1.1 * self.X.nbytes
            assert ledger.waits == before[1]
            same = np.testing.assert_allclose if expected.dtype.kind == "f" else np.testing.assert_array_equal
            same(np.load(tmp_path / "out.npy"), expected)
            same(np.concatenate(list(out)), expected)
            same(out.recut((N // 2, N - N // 2)).read(1), expected[N // 2 :])

    def test_arrays_in_memory(self, fake, monkeypatch):
        model = self.model()
        ledger = fake.device().ledger
        before = ledger.up
        with ooclearn.config_context(backend="device"):
            few = model.predict(self.X)
            assert ledger.up == before, "so few are not worth the way"
            monkeypatch.setattr("ooclearn.sending.SMALL", 1000)
            out = model.predict(self.X)
            scaled = model[0].transform(self.X)
        assert ledger.up >= before + 2 * self.X.nbytes
        assert type(out) is type(scaled) is np.ndarray
        np.testing.assert_array_equal(out, few)
        np.testing.assert_allclose(scaled, model[0].transform(self.X))

    def test_score_and_fit_and_further_maps(self, fake):
        model, X = self.model(), ooclearn.scan(self.X).recut((400,) * 6)
        ledger = fake.device().ledger
        with ooclearn.config_context(backend="device"):
            before = ledger.up
            with no_synchronisation():
                score = model.score(X, self.y)
            assert ledger.up - before <= 1.1 * self.X.nbytes
            scaled = model[0].transform(X)
            assert isinstance(scaled, ReturnedBlocks)
            twice = model[0].transform(scaled)
            again = LogisticRegression().fit(scaled, self.y)
        assert score == model.score(self.X, self.y)
        expected = model[0].transform(self.X)
        np.testing.assert_allclose(twice.to_numpy(), model[0].transform(expected))
        np.testing.assert_allclose(again.coef_, model[1].coef_, rtol=1e-6)
        outside = LogisticRegression().fit(scaled, self.y)
        np.testing.assert_allclose(outside.coef_, model[1].coef_, rtol=1e-6)

    def test_what_no_device_works_on_stays(self, fake):
        from scipy.sparse import csr_array

        model = ParallelPostFit(DecisionTreeRegressor(max_depth=3)).fit(self.X, self.X[:, 0])
        before = fake.device().ledger.up
        with ooclearn.config_context(backend="device"):
            lazy = model.predict(ooclearn.scan(self.X))
            assert not isinstance(lazy, ReturnedBlocks)
            lazy.to_numpy()
            StandardScaler(with_mean=False).fit(self.X)
            before = fake.device().ledger.up
            out = Normalizer().fit(self.X).transform(csr_array(self.X))
        assert hasattr(out, "tocsr")
        assert fake.device().ledger.up == before

    def test_faults_are_named(self, fake, monkeypatch):
        X = self.X.copy()
        X[1234, 2] = np.inf
        model = self.model()
        monkeypatch.setattr("ooclearn.sending.SMALL", 0)
        with ooclearn.config_context(backend="device"):
            with pytest.raises(NonFiniteError) as error:
                model.predict(X)
            assert (error.value.rows, error.value.column, error.value.source) == ((1234, 1235), 2, "X")
            with pytest.raises(NonFiniteError, match="row 1234, column 2"):
                model.predict(ooclearn.scan(X)).to_numpy()

    def test_another_backend_than_a_device_changes_nothing(self):
        pytest.importorskip("dask", reason="the extra `dask` is not installed")
        with ooclearn.config_context(backend="dask"):
            assert self.model().predict(ooclearn.scan(self.X)).backend_name == "numpy"
