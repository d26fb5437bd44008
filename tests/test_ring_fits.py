"""Fits of rows that are streamed to a device, and what is fed instead, on a device that is late and forgets."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier

import ooclearn
from late_device import late_device, weighed
from ooclearn.backend import get_backend
from ooclearn.decomposition import PCA
from ooclearn.exceptions import BlockMemoryError, NonFiniteError
from ooclearn.incremental import Incremental
from ooclearn.linear_model import LogisticRegression, Ridge
from ooclearn.naive_bayes import CategoricalNB
from ooclearn.partial import takes_device_arrays
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler
from ooclearn.testing import CountingBlocks, nothing_left
from ooclearn.testing.device import register_fake
from ooclearn.testing.syncs import no_synchronisation, values_of

N = 3000


@pytest.fixture
def fake():
    """A device whose every step is late by up to a millisecond."""
    with late_device() as fake:
        yield fake


class TestFits:
    def pipeline(self):
        return make_pipeline(StandardScaler(), PCA(2, svd_solver="full"), Ridge())

    def data(self):
        X, _, w = weighed(d=5)
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
        X, y, _ = weighed()
        ledger = fake.device().ledger
        before = ledger.waits
        pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0)))
        with no_synchronisation():
            pipe.fit(ooclearn.scan(X).recut((250,) * 12).on("device"), ooclearn.scan(y))
        assert ledger.waits - before == 1

    def test_what_is_counted_on_the_host_is_not_sent(self, fake):
        X, y, w = weighed(dtype=np.int64)
        device = fake.device()
        before = (device.ledger.up, device.ledger.waits)
        rows = CountingBlocks(X, (250,) * 12)
        model = CategoricalNB().fit(rows.on("device"), ooclearn.scan(y), sample_weight=w)
        assert (device.ledger.up, device.ledger.waits) == before
        assert rows.passes == 1
        for got, expected in zip(
            model.category_count_, CategoricalNB().fit(X, y, sample_weight=w).category_count_, strict=True
        ):
            np.testing.assert_allclose(got, expected, rtol=1e-12)

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
        register_fake(memory=4000)
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
        X, y, _ = weighed()
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
        X, y, _ = weighed()
        scaler = StandardScaler().fit(X)
        X[1234, 2] = np.inf
        rows = ooclearn.scan(X).recut((250,) * 12).on("device")
        with nothing_left(), pytest.raises(NonFiniteError) as error:
            Ridge().fit(scaler.transform(rows), y)
        assert (error.value.rows, error.value.column, error.value.block) == ((1234, 1235), 2, 4)


class TestFeeds:
    def test_a_host_estimator_is_fed_where_the_rows_are_read(self, fake):
        X, y, _ = weighed()
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
        X, y, _ = weighed()
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
        X, y, _ = weighed()

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
