"""The ring of buffers and what is built on it, on a device without hardware whose streams are late and forget."""

from __future__ import annotations

import pickle
import threading
import time

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier

import ooclearn
from ooclearn.backend import get_backend
from ooclearn.decomposition import PCA
from ooclearn.events import Work
from ooclearn.exceptions import BlockMemoryError, DataError, NonFiniteError, ReadError, SourceChangedError
from ooclearn.incremental import Incremental
from ooclearn.linear_model import LogisticRegression, Ridge
from ooclearn.partial import takes_device_arrays
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler
from ooclearn.ring import Residents, Ring
from ooclearn.statistics import Join, Moments, merge_all
from ooclearn.table import Rows, Table
from ooclearn.testing import CountingBlocks, nothing_left
from ooclearn.testing.device import FakeDevice, FakeStream, register_fake
from ooclearn.testing.syncs import no_synchronisation, values_of
from ooclearn.testing.tables import uneven_cut

N = 3000
WORK = Work("fold", "test")


@pytest.fixture
def fake():
    """A device whose every step is late by up to a millisecond."""
    yield register_fake(delay=0.001)
    register_fake()


def numbers(n=N, d=3, dtype=np.float64):
    rng = np.random.default_rng(0)
    X = rng.normal(100, 2, (n, d)).astype(dtype)
    X[:, 0] = np.arange(n)
    return X, rng.integers(0, 3, n), rng.random(n)


def table(X, y=None, w=None, cut=None):
    rows = ooclearn.scan(X).recut(cut or uneven_cut(len(X)))
    return Table(rows, *(None if part is None else ooclearn.scan(part) for part in (y, w)))


def delivered(ring):
    """Return what a ring delivers, brought to the host by the work that it is given."""
    got = []

    def take(first, rows):
        got.append((first, *(part if part is None else values(part) for part in (rows.X, rows.y, rows.w, rows.labels))))

    def values(part):
        return part.copy() if isinstance(part, np.ndarray) else values_of(part)

    assert ring.deliver(take, lambda: "end", work=WORK) == "end"
    return got


class TestDelivery:
    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, np.bool_])
    def test_every_row_once_in_order_with_its_own(self, seed, dtype):
        X, y, w = numbers(dtype=dtype)
        with ooclearn.config_context(block_bytes=1500, workers=1 + seed % 3), nothing_left():
            got = delivered(Ring(FakeDevice(delay=0.001, seed=seed), table(X, y, w)))
        assert len(got) > 1
        np.testing.assert_array_equal(np.concatenate([one[1] for one in got]), X)
        np.testing.assert_array_equal(np.concatenate([one[2] for one in got]), y)
        np.testing.assert_array_equal(np.concatenate([one[3] for one in got]), w)
        np.testing.assert_array_equal(np.concatenate([one[4] for one in got]), y)

    def test_labels_that_are_no_numbers_stay_on_the_host(self):
        X, y, _ = numbers()
        names = np.array(["a", "b", "c"])[y]
        with ooclearn.config_context(block_bytes=1500):
            got = delivered(Ring(FakeDevice(), table(X, names)))
        np.testing.assert_array_equal(np.concatenate([one[2] for one in got]), names)

    def test_targets_with_fractions_are_not_read_twice(self):
        X, _, w = numbers()
        with ooclearn.config_context(block_bytes=1500):
            got = delivered(Ring(FakeDevice(), table(X, w)))
        assert all(one[4] is None for one in got)
        np.testing.assert_array_equal(np.concatenate([one[2] for one in got]), w)

    def test_a_block_longer_than_a_slot_is_copied_whole(self):
        X, _, _ = numbers()
        with ooclearn.config_context(block_bytes=100):
            got = delivered(Ring(FakeDevice(), table(X, cut=(2000, 0, 1000))))
        assert [len(one[1]) for one in got] == [2000, 1000]

    @pytest.mark.parametrize("stream", ["copying", "computing"])
    def test_a_missing_wait_shows(self, stream, monkeypatch):
        """What the tests above rely on: without one of the two waits rows are wrong."""
        X, _, _ = numbers()
        device = FakeDevice(delay=0.002)
        ignoring = getattr(device, stream)
        real = FakeStream.wait
        monkeypatch.setattr(FakeStream, "wait", lambda self, event: None if self is ignoring else real(self, event))
        with ooclearn.config_context(block_bytes=500):
            got = delivered(Ring(device, table(X, cut=(50,) * 60)))
        assert not np.array_equal(np.concatenate([one[1] for one in got]), X)

    def test_a_reader_that_does_not_wait_shows(self, monkeypatch):
        X, _, _ = numbers()
        device = FakeDevice(delay=0.002)
        monkeypatch.setattr("ooclearn.testing.device.FakeEvent.synchronize", lambda self: None)
        with ooclearn.config_context(block_bytes=500):
            got = delivered(Ring(device, table(X, cut=(50,) * 60)))
        assert not np.array_equal(np.concatenate([one[1] for one in got]), X)

    def test_memory_is_bounded_whoever_is_slow(self, monkeypatch):
        X, _, _ = numbers()
        made = {"pinned": 0, "room": 0}
        for name in made:
            real = getattr(FakeDevice, name)

            def counted(self, nbytes, *, name=name, real=real):
                made[name] += nbytes
                return real(self, nbytes)

            monkeypatch.setattr(FakeDevice, name, counted)
        with ooclearn.config_context(block_bytes=300, workers=2):
            ring = Ring(FakeDevice(), table(X, cut=(50,) * 60))
            ring.deliver(lambda *_: time.sleep(0.001), lambda: None, work=WORK)
        assert (made["pinned"], made["room"]) == ring.memory()
        assert made["pinned"] < X.nbytes / 4

    @pytest.mark.parametrize("fails", [0, 7, 59])
    def test_errors_come_out_and_leave_nothing(self, fails):
        X, _, _ = numbers()

        def take(first, rows):
            if first == fails:
                raise ZeroDivisionError("of the work")

        with ooclearn.config_context(block_bytes=100), nothing_left(), pytest.raises(ZeroDivisionError, match="work"):
            Ring(FakeDevice(delay=0.001), table(X, cut=(50,) * 60)).deliver(take, lambda: None, work=WORK)

    def test_blocks_that_are_not_as_long_as_they_say_are_named(self):
        """One row where many were declared would be copied to all of their places."""

        class Short(CountingBlocks):
            def gather(self, group, buffered=None):
                return super().gather(group)[:1]

        rows = Short(numbers()[0])
        with nothing_left(), pytest.raises(DataError, match=r"shape \(1, 3\) where .* was declared") as error:
            Ring(FakeDevice(), Table(rows)).deliver(lambda *_: None, lambda: None, work=WORK)
        assert (error.value.source, error.value.block) == (rows.name, 0)

    def test_a_file_that_shrinks_is_named(self, tmp_path, fake):
        X, _, _ = numbers()
        np.save(tmp_path / "X.npy", X)
        rows = ooclearn.scan(tmp_path / "X.npy", block_rows=100).on("device")
        with open(tmp_path / "X.npy", "r+b") as file:
            file.truncate(5000)
        scaler = StandardScaler()
        with nothing_left(), pytest.raises((SourceChangedError, ReadError), match=r"X\.npy"):
            scaler.fit(rows)
        assert not hasattr(scaler, "mean_")


class TestPinned:
    """An array that lies in page-locked memory is sent from where it is."""

    @pytest.mark.parametrize("locked", ["X", "Xy", "Xyw"])
    def test_it_is_not_copied_first(self, locked, monkeypatch):
        X, _, w = numbers()
        y = w * 2.0
        device = FakeDevice(delay=0.001)
        for role, values in {"X": X, "y": y, "w": w}.items():
            if role in locked:
                device.page_lock(values)
        before = [values.copy() for values in (X, y, w)]
        made = []
        real = FakeDevice.pinned
        monkeypatch.setattr(FakeDevice, "pinned", lambda self, nbytes: made.append(nbytes) or real(self, nbytes))
        with ooclearn.config_context(block_bytes=1500), nothing_left():
            ring = Ring(device, table(X, y, w))
            got = delivered(ring)
        for k, values in enumerate((X, y, w)):
            np.testing.assert_array_equal(np.concatenate([one[k + 1] for one in got]), before[k])
            np.testing.assert_array_equal(values, before[k], err_msg="what was given is as it was")
        assert sum(made) == ring.memory()[0]
        assert ring.slot_bytes <= ring.room_bytes * (3 - len(locked)) / 5 + 512
        assert device.ledger.up <= 1.1 * (X.nbytes + y.nbytes + w.nbytes)

    def test_another_dtype_or_order_is(self):
        X, _, _ = numbers()
        device = FakeDevice()
        turned = device.page_lock(np.asfortranarray(X))
        weights = device.page_lock(np.arange(N, dtype=np.float32))
        with ooclearn.config_context(block_bytes=1500):
            got = delivered(Ring(device, table(turned, None, weights)))
        np.testing.assert_array_equal(np.concatenate([one[1] for one in got]), X)
        np.testing.assert_array_equal(np.concatenate([one[3] for one in got]), weights)

    def test_what_stays(self, fake):
        X, y, _ = numbers()
        X[:, 0] = y
        host = LogisticRegression().fit(X, y)
        fake.device().page_lock(X)
        with ooclearn.config_context(block_bytes=4096, resident_bytes=X.nbytes // 2):
            model = LogisticRegression().fit(ooclearn.scan(X).recut((100,) * 30).on("device"), ooclearn.scan(y))
        np.testing.assert_allclose(model.coef_, host.coef_, rtol=1e-6)

    def test_the_room_is_waited_for(self, monkeypatch):
        X, _, _ = numbers()
        device = FakeDevice(delay=0.002)
        device.page_lock(X)
        real = FakeStream.wait
        ignoring = device.copying
        monkeypatch.setattr(FakeStream, "wait", lambda self, event: None if self is ignoring else real(self, event))
        with ooclearn.config_context(block_bytes=500):
            got = delivered(Ring(device, table(X, cut=(50,) * 60)))
        assert not np.array_equal(np.concatenate([one[1] for one in got]), X)


def moments(X, w=None):
    return merge_all(Moments(), [Moments().of(Rows(X, None, w))])


class TestLedger:
    def fold(self, backend, given):
        ledger = backend.device().ledger
        before = (ledger.up, ledger.down, ledger.waits)
        with no_synchronisation():
            state = backend.fold(given, Join(m=Moments()), work=WORK)["m"]
        return state, [after - one for after, one in zip((ledger.up, ledger.down, ledger.waits), before, strict=True)]

    def test_each_byte_goes_up_once_and_one_small_copy_comes_back(self, fake):
        X, _, w = numbers(d=32)
        with ooclearn.config_context(block_bytes=8192):
            given = Table(ooclearn.scan(X).recut((500,) * 6).on("device"), None, ooclearn.scan(w))
            state, (up, down, waits) = self.fold(fake, given)
        np.testing.assert_allclose(state.m2, moments(X, w).m2, rtol=1e-12)
        assert X.nbytes + w.nbytes <= up <= (X.nbytes + w.nbytes) * 1.02
        assert down <= 10 * 8 * X.shape[1]
        assert waits == 1

    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0, 2.0])
    def test_what_stays_is_not_copied_again(self, fake, share):
        X, _, w = numbers(d=32)
        row_bytes = 8 * 33
        with ooclearn.config_context(block_bytes=2048, resident_bytes=int(share * N * row_bytes)):
            rows = ooclearn.scan(X).recut((30,) * 100).on("device")
            with rows.held(row_bytes):
                for weights in (None, w, w):
                    given = Table(rows, None, self.kept(weights))
                    state, (up, _, waits) = self.fold(fake, given)
                    np.testing.assert_allclose(state.m2, moments(X, weights).m2, rtol=1e-12)
                    assert waits == 1
                again = up
            _, (up, _, _) = self.fold(fake, Table(rows))
        left = max(0.0, 1 - share) * N * row_bytes
        assert 0.98 * left <= again <= 1.1 * left + 2048
        assert X.nbytes <= up <= 1.1 * X.nbytes, "after the fit nothing stays"

    def kept(self, weights):
        if weights is None:
            return None
        if not hasattr(self, "_weights"):
            self._weights = ooclearn.scan(weights).recut((30,) * 100)
        return self._weights

    def test_a_fit_of_several_passes_streams_once(self, fake):
        X, y, _ = numbers()
        X[:, 0] = y + np.random.default_rng(1).normal(0, 2, N)
        with ooclearn.config_context(block_bytes=4096):
            ledger = fake.device().ledger
            before = ledger.up
            model = LogisticRegression().fit(ooclearn.scan(X).recut((100,) * 30).on("device"), ooclearn.scan(y))
        assert model.n_iter_ > 1
        assert ledger.up - before < 1.6 * (X.nbytes + y.nbytes)
        np.testing.assert_allclose(model.coef_, LogisticRegression().fit(X, y).coef_, rtol=1e-6)


class TestFits:
    def pipeline(self):
        return make_pipeline(StandardScaler(), PCA(2, svd_solver="full"), Ridge())

    def data(self):
        X, _, w = numbers(d=5)
        return X, X @ np.arange(5.0) + w

    def test_one_reading_and_one_copy_back(self, fake):
        X, y = self.data()
        host = self.pipeline().fit(X, y)
        rows = ooclearn.scan(X).recut((250,) * 12).on("device")
        ledger = fake.device().ledger
        before = (ledger.up, ledger.waits)
        with ooclearn.config_context(block_bytes=4000):
            plan = self.pipeline().explain(rows, ooclearn.scan(y))
            assert ledger.up == before[0], "explaining reads nothing"
            assert plan.n_passes == 1
            assert plan.passes[0].device_memory < X.nbytes
            assert "of the device" in str(plan)
            model = self.pipeline().fit(rows, ooclearn.scan(y))
        assert ledger.waits - before[1] == 1
        assert ledger.up - before[0] <= 1.1 * (X.nbytes + y.nbytes)
        np.testing.assert_allclose(model[-1].coef_, host[-1].coef_, rtol=1e-9)
        np.testing.assert_allclose(model.predict(X), host.predict(X), rtol=1e-9)
        assert model[1].components_.__class__ is np.ndarray

    def test_classes_are_found_where_they_are_read(self, fake):
        X, y, _ = numbers()
        ledger = fake.device().ledger
        before = ledger.waits
        pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0)))
        with no_synchronisation():
            pipe.fit(ooclearn.scan(X).recut((250,) * 12).on("device"), ooclearn.scan(y))
        assert ledger.waits - before == 1

    def test_by_the_configuration(self, fake):
        X, y = self.data()
        before = fake.device().ledger.up
        with ooclearn.config_context(backend="device"):
            model = self.pipeline().fit(X, y)
        assert fake.device().ledger.up > before
        np.testing.assert_allclose(model[-1].coef_, self.pipeline().fit(X, y)[-1].coef_, rtol=1e-9)

    def test_swapped_after_the_fit(self, fake, tmp_path):
        X, y = self.data()
        rows = ooclearn.scan(X).recut((250,) * 12).on("device")
        model = pickle.loads(pickle.dumps(self.pipeline().fit(rows, ooclearn.scan(y))))
        host = self.pipeline().fit(X, y)
        model.predict(rows).to_npy(tmp_path / "p.npy")
        np.testing.assert_allclose(np.load(tmp_path / "p.npy"), host.predict(X), rtol=1e-9)
        np.testing.assert_allclose(host.predict(rows).to_numpy(), model.predict(X), rtol=1e-9)
        array = fake.from_host(X)
        predicted = model.predict(array)
        assert get_backend("device").owns(predicted), "the answer lies where the rows do"
        np.testing.assert_allclose(values_of(predicted), host.predict(X), rtol=1e-9)

    def test_what_is_wrong_is_named_as_on_the_host(self, fake):
        X, y = self.data()
        X[1234, 3] = np.nan
        model = self.pipeline()
        with nothing_left(), pytest.raises(NonFiniteError) as error:
            model.fit(ooclearn.scan(X).recut((250,) * 12).on("device"), ooclearn.scan(y))
        assert (error.value.rows, error.value.column, error.value.block) == ((1234, 1235), 3, 4)
        assert not hasattr(model[0], "mean_")

    def test_too_little_memory_says_what_to_set(self):
        X, y = self.data()
        register_fake(memory=2000)
        try:
            model = self.pipeline()
            with nothing_left(), pytest.raises(BlockMemoryError, match="Set block_bytes to"):
                model.fit(ooclearn.scan(X).on("device"), ooclearn.scan(y))
            assert not hasattr(model[0], "mean_")
            with ooclearn.config_context(block_bytes=200, resident_bytes=0):
                model.fit(ooclearn.scan(X).recut((5,) * (N // 5)).on("device"), ooclearn.scan(y))
        finally:
            register_fake()


class TestMappedRows:
    """Statistics of rows that are mapped on the device, step by step, as scikit-learn's own pipeline does."""

    def test_they_are_streamed_too(self, fake):
        X, y, _ = numbers()
        X[:, 0] = y + np.random.default_rng(1).normal(0, 2, N)
        rows = ooclearn.scan(X).recut((100,) * 30).on("device")
        scaler = StandardScaler().fit(rows)
        ledger = fake.device().ledger
        before = (ledger.up, ledger.waits)
        with ooclearn.config_context(block_bytes=4096), no_synchronisation():
            scaled = scaler.transform(rows)
            plan = Ridge().explain(scaled, ooclearn.scan(y))
            assert plan.passes[0].device_memory < X.nbytes
            Ridge().fit(scaled, y.astype(float))
        assert ledger.waits - before[1] == 1
        assert ledger.up - before[0] <= 1.1 * (X.nbytes + y.nbytes)
        before = ledger.up
        with ooclearn.config_context(block_bytes=4096):
            model = LogisticRegression().fit(scaler.transform(rows), ooclearn.scan(y))
        assert model.n_iter_ > 1
        assert ledger.up - before < 1.6 * (X.nbytes + y.nbytes), "they stay on the device"
        host = LogisticRegression().fit(scaler.transform(X), y)
        np.testing.assert_allclose(model.coef_, host.coef_, rtol=1e-6)

    def test_what_is_wrong_is_named(self, fake):
        X, y, _ = numbers()
        scaler = StandardScaler().fit(X)
        X[1234, 2] = np.inf
        rows = ooclearn.scan(X).recut((250,) * 12).on("device")
        with nothing_left(), pytest.raises(NonFiniteError) as error:
            Ridge().fit(scaler.transform(rows), y)
        assert (error.value.rows, error.value.column, error.value.block) == ((1234, 1235), 2, 4)


class TestFeeds:
    def test_a_host_estimator_is_fed_where_the_rows_are_read(self, fake):
        X, y, _ = numbers()
        rows = ooclearn.scan(X).on("device")
        pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0)))
        assert "(is fed host arrays)" in str(pipe.explain(rows, ooclearn.scan(y)))
        before = fake.device().ledger.up
        pipe.fit(rows, ooclearn.scan(y))
        # The scaler's moments are the device's work; the rows for SGD never go there.
        assert fake.device().ledger.up - before < 1.2 * (X.nbytes + y.nbytes)
        np.testing.assert_allclose(
            pipe[-1].estimator_.coef_,
            make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(X, y)[-1].estimator_.coef_,
            rtol=1e-9,
        )

    def test_rows_in_the_memory_of_a_device_are_copied_ahead_of_the_estimator(self, fake):
        X, y, _ = numbers()
        threads = set()
        real = fake.to_host

        def noted(block):
            threads.add(threading.current_thread().name)
            return real(block)

        fake.to_host = noted
        model = Incremental(SGDClassifier(random_state=0), classes=[0, 1, 2], block_rows=500)
        model.fit(fake.from_host(X), y)
        assert any(name.startswith("reader") for name in threads)

    def test_an_estimator_that_takes_arrays_of_a_device_gets_them(self, fake):
        X, y, _ = numbers()

        class Taking:
            takes_device_arrays = True
            seen = 0

            def partial_fit(self, X, y=None):
                assert fake.owns(X)
                self.seen += X.shape[0]
                return self

            def get_params(self, deep=True):
                return {}

        model = Incremental(Taking())
        rows = ooclearn.scan(X).recut((500,) * 6).on("device")
        assert "(is fed arrays of device)" in str(model.explain(rows, ooclearn.scan(y)))
        model.fit(rows, ooclearn.scan(y))
        assert model.estimator_.seen == N

    def test_classes_of_cuml_are_known_by_their_module(self):
        theirs = type("MBSGDClassifier", (), {"__module__": "cuml.linear_model.mbsgd_classifier"})
        own = type("Own", (theirs,), {"takes_device_arrays": False})
        assert [takes_device_arrays(one()) for one in (theirs, type("Mine", (theirs,), {}), own)] == [True, True, False]
        assert not takes_device_arrays(SGDClassifier())


def test_residents_are_what_a_pass_has_brought():
    residents = Residents(1000, 10)
    part = object()
    assert residents.rows == 100
    assert not residents.has("X", part)
    residents.note("X", part)
    assert residents.has("X", part)
    assert not residents.has("X", object())
