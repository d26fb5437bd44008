"""What a device is asked for by estimators' methods: one way there and one back, and answers where they were asked."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.tree import DecisionTreeRegressor

import ooclearn
from late_device import N, late_device, numbers, sent
from ooclearn.cluster import KMeans
from ooclearn.decomposition import PCA
from ooclearn.exceptions import NonFiniteError
from ooclearn.feature_selection import VarianceThreshold
from ooclearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from ooclearn.naive_bayes import BernoulliNB, CategoricalNB, GaussianNB, MultinomialNB
from ooclearn.parallel_post_fit import ParallelPostFit
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import Normalizer, StandardScaler
from ooclearn.returning import ReturnedBlocks
from ooclearn.testing.syncs import no_synchronisation
from ooclearn.testing.tables import uneven_cut


@pytest.fixture
def fake():
    """A device whose every step is late by up to a millisecond, behind small blocks."""
    with late_device(block_bytes=2000, workers=2) as fake:
        yield fake


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
        counts = X * np.where((np.arange(4) == 0) & (y == 0)[:, None], 0, 1)
        for method in ("predict", "predict_proba"):
            yield BernoulliNB(binarize=100.0).fit(X, y), method
            yield CategoricalNB().fit(X, y), method
            with np.errstate(divide="ignore"):  # a column that a class never has
                yield MultinomialNB(alpha=0.0).fit(counts, y), method
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
