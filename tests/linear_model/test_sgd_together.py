"""Models trained by mini-batches, several as one: as each alone, by one product, from rows that are prepared once."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

import ooclearn.linear_model._minibatch as minibatch
import ooclearn.linear_model._sgd_training as training
import ooclearn.passes
from learnable import table
from ooclearn import explain_all, fit_all, make_pipeline
from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.linear_model import SGDClassifier, SGDRegressor
from ooclearn.linear_model._sgd_losses import CLASSIFICATION, REGRESSION
from ooclearn.preprocessing import MinMaxScaler, StandardScaler
from ooclearn.testing import CountingBlocks
from ooclearn.testing.syncs import no_synchronisation

ALPHAS = (1e-4, 1e-3, 1e-2, 1e-1)


def assert_same(model, alone, room=1e-9):
    """Products of another shape may be added up in another order, no more."""
    np.testing.assert_allclose(model.coef_, alone.coef_, rtol=room, atol=room)
    np.testing.assert_allclose(model.intercept_, alone.intercept_, rtol=room, atol=room)
    assert (model.t_, model.n_iter_, model.coef_.dtype) == (alone.t_, alone.n_iter_, alone.coef_.dtype)
    assert {name: value.shape for name, value in model._trained_.items()} == {
        name: value.shape for name, value in alone._trained_.items()
    }


@pytest.fixture
def steps(monkeypatch):
    """Return a list that gets, for each step of a descent, how many models make it."""
    seen = []
    descended = training.descended

    def counted(held, descent, batch, t):
        seen.append(descent.models)
        return descended(held, descent, batch, t)

    monkeypatch.setattr(training, "descended", counted)
    return seen


@st.composite
def parameters(draw, losses):
    penalty = draw(st.sampled_from(["l2", "l1", "elasticnet", None]))
    return {
        "loss": draw(st.sampled_from(sorted(losses))),
        "penalty": penalty,
        "alpha": draw(st.sampled_from(ALPHAS)),
        "l1_ratio": draw(st.sampled_from([0.0, 0.15, 1.0])),
        "learning_rate": draw(st.sampled_from(["optimal", "constant", "invscaling"])),
        "eta0": draw(st.sampled_from([1e-3, 0.01, 0.5])),
        "power_t": draw(st.sampled_from([0.25, 0.5])),
        "epochs": draw(st.integers(1, 3)),
        "average": draw(st.sampled_from([False, False, True, 700])),
        "fit_intercept": draw(st.sampled_from([True, True, False])),
        "batch_rows": draw(st.sampled_from([None, None, 50])),
        "shuffle": draw(st.sampled_from([True, True, False])),
    }


class TestAsEachAlone:
    @settings(max_examples=20, deadline=None)
    @given(st.data())
    def test_whatever_the_settings(self, data):
        k = data.draw(st.sampled_from([2, 3, 0]))
        kind, losses = (SGDClassifier, CLASSIFICATION) if k else (SGDRegressor, REGRESSION)
        X, y = table(k or 2, n=410)
        y = y if k else X @ [1.0, 2.0, 0.0, -1.0] + 0.1 * y
        weights = data.draw(st.sampled_from([None, np.random.default_rng(1).integers(0, 3, len(y)).astype(float)]))
        models = [kind(**one) for one in data.draw(st.lists(parameters(losses), min_size=2, max_size=6))]
        given = {} if weights is None else {"sample_weight": weights}
        fit_all(models, X, y, fit_params=[given] * len(models))
        for model in models:
            alone = clone(model).fit(X, y, **given)
            assert_same(model, alone)
            # They go on as if they had been alone, too.
            assert_same(model.partial_fit(X, y), alone.partial_fit(X, y))

    @pytest.mark.parametrize("k", [2, 3])
    @pytest.mark.parametrize("scaled", [False, True])
    def test_in_every_container(self, backend, k, scaled, steps):
        X, y = table(k, n=300)
        made = [SGDClassifier("log_loss", alpha=alpha, epochs=2, batch_rows=64) for alpha in ALPHAS]
        made[1].set_params(penalty="l1", loss="squared_hinge", epochs=1)
        given, labels = backend.make(X), backend.make(y)
        models = [make_pipeline(StandardScaler(), one) for one in made] if scaled else made
        fit_all(models, given, labels)
        assert set(steps) == {4, 3}
        assert len(steps) == 2 * 5
        for model, one in zip(models, made, strict=True):
            alone = clone(model).fit(given, labels)
            assert_same(one, alone[-1] if scaled else alone, max(1e-9, backend.within(1e5)))

    def test_rows_of_float32(self):
        X, y = table(n=2000)
        models = [SGDClassifier("log_loss", alpha=alpha) for alpha in ALPHAS]
        fit_all(models, X.astype(np.float32), y)
        for model in models:
            assert_same(model, clone(model).fit(X.astype(np.float32), y), 1e-4)

    def test_labels_of_text_and_weights_of_classes(self, backend):
        X, y = table(3, n=300)
        names = np.array(["low", "mid", "top"])[y]
        models = [SGDClassifier(alpha=alpha, class_weight={"mid": 3.0}, batch_rows=64) for alpha in ALPHAS]
        models += [SGDClassifier(alpha=alpha, class_weight="balanced", batch_rows=64) for alpha in ALPHAS]
        fit_all(models, backend.make(X), names)
        for model in models:
            assert_same(model, clone(model).fit(backend.make(X), names), max(1e-9, backend.within(1e5)))
            assert model.classes_.tolist() == ["low", "mid", "top"]

    def test_none_holds_arrays_of_another(self):
        X, y = table()
        models = fit_all([SGDClassifier(alpha=alpha) for alpha in ALPHAS], X, y)
        held = [value for model in models for value in model._trained_.values()]
        assert all(value.base is None for value in held)
        alone = clone(models[0]).fit(X, y)
        assert len(pickle.dumps(models[0])) == len(pickle.dumps(alone))


class TestOneProduct:
    def test_as_many_steps_as_one_model_makes(self, steps):
        X, y = table(n=640)
        models = [SGDClassifier(alpha=alpha, batch_rows=64) for alpha in ALPHAS]
        fit_all(models, CountingBlocks(X, [100, 0, 540]), y)
        assert steps == [4] * 10

    def test_a_model_that_has_made_its_epochs_leaves_the_others(self, steps):
        X, y = table(n=640)
        models = [SGDClassifier(alpha=alpha, batch_rows=64, epochs=k + 1) for k, alpha in enumerate(ALPHAS)]
        fit_all(models, X, y)
        assert steps == [4] * 10 + [3] * 10 + [2] * 10 + [1] * 10
        for model in models:
            assert_same(model, clone(model).fit(X, y))

    def test_losses_are_columns_of_one_matrix(self, steps):
        X, y = table(3, n=640)
        fit_all([SGDClassifier(loss, batch_rows=64) for loss in [*CLASSIFICATION, "hinge"]], X, y)
        assert steps == [6] * 10

    @pytest.mark.parametrize(
        "other",
        [
            {"batch_rows": 32},
            {"fit_intercept": False},
            {"average": True},
            {"class_weight": {0: 2.0}},
        ],
    )
    def test_what_keeps_models_apart(self, steps, other):
        X, y = table(n=640)
        models = [SGDClassifier(batch_rows=64), SGDClassifier(**{"batch_rows": 64, **other})]
        assert "trained as one" not in str(explain_all(models, X, y))
        fit_all(models, X, y)
        assert set(steps) == {1}

    def test_models_behind_different_scalers_are_apart(self, steps):
        X, y = table(n=640)
        scalers = [StandardScaler(), StandardScaler(), MinMaxScaler(), StandardScaler(with_mean=False)]
        models = [make_pipeline(scaler, SGDClassifier(batch_rows=64)) for scaler in scalers]
        alone = [clone(model).fit(X, y) for model in models]
        steps.clear()
        plan = explain_all(models, X, y)
        assert "pipeline-1__sgdclassifier, pipeline-2__sgdclassifier: mini-batches, shuffled, 2 trained as one" in str(
            plan
        )
        fit_all(models, X, y)
        assert sorted(steps) == [1] * 20 + [2] * 10
        for model, one in zip(models, alone, strict=True):
            assert_same(model[-1], one[-1])

    def test_more_than_fit_are_trained_in_runs(self, steps, monkeypatch):
        X, y = table(3, n=640)
        monkeypatch.setattr(training, "_AT_ONCE", 8 * 64 * 3 * 2)
        models = [SGDClassifier(alpha=10.0**-k, batch_rows=64) for k in range(1, 6)]
        fit_all(models, X, y)
        assert sorted(steps) == [1] * 10 + [2] * 20
        for model in models:
            assert_same(model, clone(model).fit(X, y))

    def test_a_device_is_waited_for_as_often_as_for_one(self, monkeypatch):
        xp = pytest.importorskip("array_api_strict", reason="in the group `test`")
        X, y = table(3, n=500)
        at = [xp.asarray(part, device=xp.Device("device1")) for part in (X, y)]
        fed, back, like = ooclearn.passes._fed, training.brought_back, minibatch.like
        copies, sent = [], []

        def watched(*args):
            with no_synchronisation():
                return fed(*args)

        monkeypatch.setattr(ooclearn.passes, "_fed", watched)
        monkeypatch.setattr(training, "brought_back", lambda *args: (copies.append(1), back(*args))[1])
        monkeypatch.setattr(minibatch, "like", lambda *args: (sent.append(1), like(*args))[1])
        models = [SGDClassifier(alpha=alpha, epochs=3) for alpha in ALPHAS]
        models[0].set_params(penalty="elasticnet", loss="log_loss", epochs=2)
        fit_all(models, *at)
        assert len(copies) == 3, "one an epoch"
        # Sending something may be waiting, too.
        assert len(sent) <= 12
        for model in models:
            assert_same(model, clone(model).fit(X, y))


class TestThePlan:
    def test_it_says_what_is_trained_as_one(self):
        X, y = table()
        plan = explain_all([SGDClassifier(alpha=alpha, epochs=2) for alpha in ALPHAS] + [SGDRegressor()], X, y)
        names = ", ".join(f"sgdclassifier-{k}" for k in (1, 2, 3, 4))
        # The regressor need not wait for the classes.
        assert [one.answers for one in plan.passes[1:]] == [
            ((names, f"mini-batches, epoch {k} of 2, shuffled, 4 trained as one"),) for k in (1, 2)
        ]

    def test_rows_are_prepared_once_and_the_memory_is_that_of_one(self, monkeypatch):
        X, y = table(n=5000)
        ways = []
        prepare = ooclearn.passes.Prepare
        monkeypatch.setattr(ooclearn.passes, "Prepare", lambda *args: (ways.append(len(args[3])), prepare(*args))[1])

        def pipelines(*scalers):
            return [make_pipeline(clone(scaler), SGDClassifier(alpha=a)) for scaler in scalers for a in ALPHAS]

        same, apart = pipelines(StandardScaler()), pipelines(StandardScaler(), MinMaxScaler())
        alone = same[0].explain(X, y)
        assert alone.passes[-1].memory == explain_all(same, X, y).passes[-1].memory
        # As read, and as prepared in two ways.
        assert 2 * explain_all(apart, X, y).passes[-1].memory == 3 * alone.passes[-1].memory
        for models, count in ((same, 1), (apart, 2)):
            fit_all(models, X, y)
            assert ways.pop() == count

    def test_it_reads_as_often_as_it_says(self):
        X, y = table(3)
        rows = CountingBlocks(X, [100, 500])
        models = [make_pipeline(StandardScaler(), SGDClassifier(alpha=alpha, epochs=2)) for alpha in ALPHAS]
        assert explain_all(models, rows, y).n_passes == 3
        fit_all(models, rows, y)
        assert rows.passes == 3


class TestWhatIsRefused:
    def test_cells_that_are_no_numbers_are_named(self, backend):
        X, y = table(n=400)
        X[222, 3] = np.nan
        models = [SGDClassifier(alpha=alpha, batch_rows=32) for alpha in ALPHAS]
        with pytest.raises(NonFiniteError, match="Input X contains") as caught:
            fit_all(models, backend.make(X), backend.make(y))
        assert (caught.value.rows, caught.value.column) == ((222, 223), 3)
        assert not any(hasattr(model, "coef_") for model in models)

    def test_weights_that_are_zero(self):
        X, y = table(n=400)
        models = [SGDClassifier(alpha=alpha) for alpha in ALPHAS]
        with pytest.raises(DataError, match="weights are zero"):
            fit_all(models, X, y, fit_params=[{"sample_weight": np.zeros(400)}] * 4)
        with pytest.raises(DataError, match="no row"):
            fit_all([SGDRegressor(), SGDRegressor(alpha=1.0)], np.empty((0, 2)), np.empty(0))
