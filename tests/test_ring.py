"""The ring of buffers, on a device without hardware whose streams are late and forget."""

from __future__ import annotations

import time

import numpy as np
import pytest

import ooclearn
from late_device import late_device, weighed
from ooclearn.events import Work
from ooclearn.exceptions import DataError, ReadError, SourceChangedError
from ooclearn.linear_model import LogisticRegression
from ooclearn.preprocessing import StandardScaler
from ooclearn.ring import Residents, Ring
from ooclearn.statistics import Join, Moments, merge_all
from ooclearn.table import Rows, Table
from ooclearn.testing import CountingBlocks, nothing_left
from ooclearn.testing.device import FakeDevice, FakeStream
from ooclearn.testing.syncs import no_synchronisation, values_of
from ooclearn.testing.tables import uneven_cut

N = 3000
WORK = Work("fold", "test")


@pytest.fixture
def fake():
    """A device whose every step is late by up to a millisecond."""
    with late_device() as fake:
        yield fake


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
        X, y, w = weighed(dtype=dtype)
        with ooclearn.config_context(block_bytes=1500, workers=1 + seed % 3), nothing_left():
            got = delivered(Ring(FakeDevice(delay=0.001, seed=seed), table(X, y, w)))
        assert len(got) > 1
        np.testing.assert_array_equal(np.concatenate([one[1] for one in got]), X)
        np.testing.assert_array_equal(np.concatenate([one[2] for one in got]), y)
        np.testing.assert_array_equal(np.concatenate([one[3] for one in got]), w)
        np.testing.assert_array_equal(np.concatenate([one[4] for one in got]), y)

    def test_labels_that_are_no_numbers_stay_on_the_host(self):
        X, y, _ = weighed()
        names = np.array(["a", "b", "c"])[y]
        with ooclearn.config_context(block_bytes=1500):
            got = delivered(Ring(FakeDevice(), table(X, names)))
        np.testing.assert_array_equal(np.concatenate([one[2] for one in got]), names)

    def test_targets_with_fractions_are_not_read_twice(self):
        X, _, w = weighed()
        with ooclearn.config_context(block_bytes=1500):
            got = delivered(Ring(FakeDevice(), table(X, w)))
        assert all(one[4] is None for one in got)
        np.testing.assert_array_equal(np.concatenate([one[2] for one in got]), w)

    def test_a_block_longer_than_a_slot_is_copied_whole(self):
        X, _, _ = weighed()
        with ooclearn.config_context(block_bytes=100):
            got = delivered(Ring(FakeDevice(), table(X, cut=(2000, 0, 1000))))
        assert [len(one[1]) for one in got] == [2000, 1000]

    @pytest.mark.parametrize("stream", ["copying", "computing"])
    def test_a_missing_wait_shows(self, stream, monkeypatch):
        """What the tests above rely on: without one of the two waits rows are wrong."""
        X, _, _ = weighed()
        device = FakeDevice(delay=0.002)
        ignoring = getattr(device, stream)
        real = FakeStream.wait
        monkeypatch.setattr(FakeStream, "wait", lambda self, event: None if self is ignoring else real(self, event))
        with ooclearn.config_context(block_bytes=500):
            got = delivered(Ring(device, table(X, cut=(50,) * 60)))
        assert not np.array_equal(np.concatenate([one[1] for one in got]), X)

    def test_a_reader_that_does_not_wait_shows(self, monkeypatch):
        X, _, _ = weighed()
        device = FakeDevice(delay=0.002)
        monkeypatch.setattr("ooclearn.testing.device.FakeEvent.synchronize", lambda self: None)
        with ooclearn.config_context(block_bytes=500):
            got = delivered(Ring(device, table(X, cut=(50,) * 60)))
        assert not np.array_equal(np.concatenate([one[1] for one in got]), X)

    def test_memory_is_bounded_whoever_is_slow(self, monkeypatch):
        X, _, _ = weighed()
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

    @pytest.mark.parametrize("limit", [None, 20_000])
    def test_targets_and_weights_count(self, limit):
        """Beside one narrow column they take most of a slot."""
        X = np.zeros((N, 1), dtype=np.float32)
        with ooclearn.config_context(block_bytes=2000, workers=2, memory_limit=limit):
            ring = Ring(FakeDevice(), table(X, np.zeros(N, dtype=np.int8), np.ones(N), cut=(50,) * 60))
            pinned, on_device = ring.memory()
        slot = 4 * 2000 if limit is None else limit // ring.slots
        assert slot / 2 < ring.slot_bytes <= slot + 3 * 256, "parts begin at multiples of 256"
        assert (pinned, on_device) == (ring.slots * ring.slot_bytes, 3 * ring.room_bytes)

    @pytest.mark.parametrize("fails", [0, 7, 59])
    def test_errors_come_out_and_leave_nothing(self, fails):
        X, _, _ = weighed()

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

        rows = Short(weighed()[0])
        with nothing_left(), pytest.raises(DataError, match=r"shape \(1, 3\) where .* was declared") as error:
            Ring(FakeDevice(), Table(rows)).deliver(lambda *_: None, lambda: None, work=WORK)
        assert (error.value.source, error.value.block) == (rows.name, 0)

    def test_a_file_that_shrinks_is_named(self, tmp_path, fake):
        X, _, _ = weighed()
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
        X, _, w = weighed()
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
        X, _, _ = weighed()
        device = FakeDevice()
        turned = device.page_lock(np.asfortranarray(X))
        weights = device.page_lock(np.arange(N, dtype=np.float32))
        with ooclearn.config_context(block_bytes=1500):
            got = delivered(Ring(device, table(turned, None, weights)))
        np.testing.assert_array_equal(np.concatenate([one[1] for one in got]), X)
        np.testing.assert_array_equal(np.concatenate([one[3] for one in got]), weights)

    def test_what_stays(self, fake):
        X, y, _ = weighed()
        X[:, 0] = y
        host = LogisticRegression().fit(X, y)
        fake.device().page_lock(X)
        with ooclearn.config_context(block_bytes=4096, resident_bytes=X.nbytes // 2):
            model = LogisticRegression().fit(ooclearn.scan(X).recut((100,) * 30).on("device"), ooclearn.scan(y))
        np.testing.assert_allclose(model.coef_, host.coef_, rtol=1e-6)

    def test_the_room_is_waited_for(self, monkeypatch):
        X, _, _ = weighed()
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
        X, _, w = weighed(d=32)
        with ooclearn.config_context(block_bytes=8192):
            given = Table(ooclearn.scan(X).recut((500,) * 6).on("device"), None, ooclearn.scan(w))
            state, (up, down, waits) = self.fold(fake, given)
        np.testing.assert_allclose(state.m2, moments(X, w).m2, rtol=1e-12)
        assert X.nbytes + w.nbytes <= up <= (X.nbytes + w.nbytes) * 1.02
        assert down <= 10 * 8 * X.shape[1]
        assert waits == 1

    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0, 2.0])
    def test_what_stays_is_not_copied_again(self, fake, share):
        X, _, w = weighed(d=32)
        row_bytes = 8 * 33
        with ooclearn.config_context(block_bytes=2048, resident_bytes=int(share * N * row_bytes)):
            rows = ooclearn.scan(X).recut((30,) * 100).on("device")
            with rows.held([self.kept(w)]):
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

    @pytest.mark.parametrize("budget", [0, 20_000, 50_000, 10**9])
    @pytest.mark.parametrize("labels", [np.int8, np.bool_, np.float32, "<U20"])
    def test_what_stays_takes_no_more_than_it_may(self, fake, labels, budget):
        """What lies on the device may take more than where it was read: labels of a byte have eight there, text none."""
        X, y, w = weighed(dtype=np.int16)
        device = fake.device()
        with ooclearn.config_context(block_bytes=300, workers=1, resident_bytes=budget):
            rows = ooclearn.scan(X).recut((50,) * 60).on("device")
            given = Table(rows, ooclearn.scan(y.astype(labels)), ooclearn.scan(w.astype(np.float32)))
            _, ring = fake.ring_memory(given)
            with rows.held(given.parts[1:]):
                for _ in range(2):
                    self.fold(fake, given)
                stay = device.taken
            assert device.taken == 0
        row_bytes = 3 * 2 + {"i": 8, "b": 1, "f": 8, "U": 0}[np.dtype(labels).kind] + 8
        assert 0 <= min(budget, N * row_bytes) - stay < 50 * row_bytes
        assert device.most_taken <= budget + ring

    def kept(self, weights):
        if weights is None:
            return None
        if not hasattr(self, "_weights"):
            self._weights = ooclearn.scan(weights).recut((30,) * 100)
        return self._weights

    def test_a_fit_of_several_passes_streams_once(self, fake):
        X, y, _ = weighed()
        X[:, 0] = y + np.random.default_rng(1).normal(0, 2, N)
        with ooclearn.config_context(block_bytes=4096):
            ledger = fake.device().ledger
            before = ledger.up
            model = LogisticRegression().fit(ooclearn.scan(X).recut((100,) * 30).on("device"), ooclearn.scan(y))
        assert model.n_iter_ > 1
        assert ledger.up - before < 1.6 * (X.nbytes + y.nbytes)
        np.testing.assert_allclose(model.coef_, LogisticRegression().fit(X, y).coef_, rtol=1e-6)


def test_residents_are_what_a_pass_has_brought():
    residents = Residents(1000, 10)
    part = object()
    assert residents.rows == 100
    assert not residents.has("X", part)
    residents.note("X", part)
    assert residents.has("X", part)
    assert not residents.has("X", object())
