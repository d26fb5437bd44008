"""Fits of linear models trained by mini-batches: passes, calls that go on where the last ended, and what is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone

import ooclearn
import ooclearn.passes
from learnable import table
from ooclearn import Incremental, fit_all, make_pipeline
from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.linear_model import SGDClassifier, SGDRegressor
from ooclearn.linear_model._sgd_losses import CLASSIFICATION, REGRESSION
from ooclearn.preprocessing import StandardScaler
from ooclearn.testing import CountingBlocks
from ooclearn.testing.syncs import no_synchronisation

LOSSES = [*CLASSIFICATION, *REGRESSION]


class TestPasses:
    def test_a_scaler_and_the_classes_share_a_pass(self):
        X, y = table(3)
        rows = CountingBlocks(X, [100, 500])
        pipe = make_pipeline(StandardScaler(), SGDClassifier(epochs=2))
        assert pipe.explain(rows, y).n_passes == 3
        pipe.fit(rows, y)
        assert rows.passes == 3
        np.testing.assert_allclose(pipe.decision_function(X), pipe[-1].decision_function(pipe[0].transform(X)))

    def test_a_regressor_asks_for_no_classes(self):
        X, y = table()
        rows = CountingBlocks(X, [100, 500])
        model = SGDRegressor(epochs=3)
        assert model.explain(rows, y).n_passes == 3
        model.fit(rows, y)
        assert rows.passes == 3

    def test_several_models_are_trained_from_one_reading_an_epoch(self):
        X, y = table(3)
        rows, labels = CountingBlocks(X, [100, 500]), CountingBlocks(y, [100, 500])
        models = [SGDClassifier(alpha=alpha, epochs=2) for alpha in (1e-4, 1e-2, 1.0)]
        assert ooclearn.explain_all(models, rows, labels).n_passes == 2
        fit_all(models, rows, labels)
        assert rows.passes == 2
        assert labels.passes == 3
        for model in models:
            np.testing.assert_allclose(model.coef_, clone(model).fit(X, y).coef_, rtol=1e-9, atol=1e-12)

    def test_nothing_is_waited_for_on_a_device(self, monkeypatch):
        xp = pytest.importorskip("array_api_strict")
        device = xp.Device("device1")
        X, y = table(3, n=500)
        weights = np.random.default_rng(0).random(500)
        at = [xp.asarray(part, device=device) for part in (X, y, weights)]
        fed = ooclearn.passes._fed

        def watched(*args):
            with no_synchronisation():
                return fed(*args)

        monkeypatch.setattr(ooclearn.passes, "_fed", watched)
        for more in ({}, {"penalty": "elasticnet", "class_weight": {0: 2.0}, "average": True}):
            for shuffle in (False, True):
                model = SGDClassifier("log_loss", shuffle=shuffle, epochs=2, **more)
                model.fit(at[0], at[1], sample_weight=at[2])
                model.partial_fit(at[0], at[1])
                expected = SGDClassifier("log_loss", shuffle=shuffle, epochs=3, **more)
                expected = clone(expected).set_params(epochs=2).fit(X, y, sample_weight=weights).partial_fit(X, y)
                np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-9)
        # Labels of text stay on the host.
        SGDClassifier().fit(at[0], np.array(["a", "b", "c"])[y])
        for loss in REGRESSION:
            SGDRegressor(loss).fit(at[0], at[2], sample_weight=at[2])

    def test_fed_by_incremental(self, backend):
        X, y = table()
        model = Incremental(SGDClassifier(), block_rows=200).fit(backend.make(X), backend.make(y))
        assert model.score(X, y) > 0.8

    def test_pickles(self, backend):
        X, y = table()
        model = SGDClassifier().fit(backend.make(X), backend.make(y))
        again = pickle.loads(pickle.dumps(model))
        assert np.array_equal(again.partial_fit(X, y).coef_, model.partial_fit(X, y).coef_)


class TestTrainingOn:
    def test_calls_are_epochs(self, backend):
        X, y = table(3)
        whole = SGDClassifier(epochs=3, average=True).fit(backend.make(X), backend.make(y))
        calls = SGDClassifier(average=True)
        for _ in range(3):
            calls.partial_fit(backend.make(X), backend.make(y), classes=[0, 1, 2])
        assert np.array_equal(calls.coef_, whole.coef_)
        assert calls.n_iter_ == whole.n_iter_ == 3
        assert calls.t_ == whole.t_ == 1801

    def test_it_goes_on_in_another_library(self, backend):
        X, y = table(3)
        model = SGDClassifier(shuffle=False).fit(X, y).partial_fit(backend.make(X), backend.make(y)).partial_fit(X, y)
        expected = SGDClassifier(shuffle=False, epochs=3).fit(X, y)
        np.testing.assert_allclose(model.coef_, expected.coef_, rtol=max(1e-9, backend.within(1e5)))

    def test_classes_come_with_the_first_call(self):
        X, y = table(3)
        with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
            SGDClassifier().partial_fit(X, y)
        model = SGDClassifier().partial_fit(X[:50], y[:50], classes=[0, 1, 2, 3])
        assert model.coef_.shape == (4, 4)
        with pytest.raises(ValueError, match="is not the same as on the first call"):
            model.partial_fit(X, y, classes=[0, 1])
        with pytest.raises(ValueError, match="'balanced' is not supported for partial_fit"):
            SGDClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])

    def test_an_unknown_label_is_refused_with_its_place(self, backend):
        X, y = table(n=400)
        model = SGDClassifier(batch_rows=32).partial_fit(backend.make(X), backend.make(y), classes=[0, 1])
        before = model.coef_.copy()
        y[333] = 2
        with pytest.raises(DataError, match=r"label 2 is not among the 2 classes") as caught:
            model.partial_fit(backend.make(X), backend.make(y))
        assert caught.value.rows == (333, 334)
        assert np.array_equal(model.coef_, before)

    def test_an_unknown_text_is_refused(self):
        X, y = table(n=400)
        names = np.array(["a", "b"])[y]
        model = SGDClassifier().fit(X, names)
        names[7] = "c"
        with pytest.raises(DataError, match="label 'c' is not among the 2 classes"):
            model.partial_fit(X, names)


class TestWhatIsRefused:
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_cells_that_are_no_numbers_are_named(self, backend, bad):
        X, y = table(n=400)
        X[222, 3] = bad
        with pytest.raises(NonFiniteError, match="Input X contains") as caught:
            SGDClassifier(batch_rows=32).fit(backend.make(X), backend.make(y))
        assert (caught.value.rows, caught.value.column) == ((222, 223), 3)

    @pytest.mark.parametrize("loss", REGRESSION)
    def test_targets_that_are_no_numbers_are_named(self, backend, loss):
        X, y = table(n=400)
        y = y.astype(float)
        y[222] = np.nan
        with pytest.raises(NonFiniteError, match="Input y contains NaN") as caught:
            SGDRegressor(loss).fit(backend.make(X), backend.make(y))
        assert caught.value.rows == (222, 223)

    def test_wrong_weights_are_named(self, backend):
        X, y = table(n=400)
        for bad, message in ((-1.0, "negative entries"), (np.nan, "Input sample_weight contains NaN")):
            w = np.ones(400)
            w[222] = bad
            model = SGDClassifier()
            with pytest.raises(DataError, match=message) as caught:
                model.fit(backend.make(X), backend.make(y), sample_weight=backend.make(w))
            assert caught.value.rows == (222, 223)
            assert not hasattr(model, "coef_")
        with pytest.raises(DataError, match="weights are zero"):
            SGDClassifier().fit(backend.make(X), backend.make(y), sample_weight=backend.make(np.zeros(400)))

    def test_rows_too_long_for_their_square_are_no_model(self, backend):
        X, y = table(n=400)
        huge = 1e30 if backend.rounding > 1e-10 else 1e200
        for model in (SGDClassifier(), SGDRegressor()):
            with pytest.raises(DataError, match="Scale the columns first"):
                model.fit(backend.make(X * huge), backend.make(y))
            assert not hasattr(model, "coef_")

    def test_one_class(self):
        X, y = table()
        with pytest.raises(ValueError, match="greater than one; got 1 class"):
            SGDClassifier().fit(X, np.zeros_like(y))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"alpha": 0.0}, "alpha must be > 0 since learning_rate is 'optimal'"),
            ({"penalty": "elasticnet", "l1_ratio": None}, "l1_ratio must be set"),
            ({"learning_rate": "adaptive"}, "learning_rate"),
            ({"loss": "squared_error"}, "loss"),
            ({"batch_rows": 0}, "batch_rows"),
            ({"epochs": 0}, "epochs"),
        ],
    )
    def test_parameters(self, settings, message):
        with pytest.raises(ValueError, match=message):
            SGDClassifier(**settings).fit(*table())
