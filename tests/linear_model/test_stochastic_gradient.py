"""Linear models trained by mini-batches: the update, scikit-learn's where they meet, and blocks that leave no trace."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.linear_model as theirs
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.preprocessing import scale
from sklearn.utils.estimator_checks import check_class_weight_classifiers

from learnable import table
from ooclearn import make_pipeline
from ooclearn.demo.table import Recipe
from ooclearn.linear_model import SGDClassifier, SGDRegressor
from ooclearn.linear_model._minibatch import Batch, Descent, Penalty, Schedule, begun, descended
from ooclearn.linear_model._sgd_losses import CLASSIFICATION, REGRESSION, sgd_loss
from ooclearn.preprocessing import StandardScaler
from ooclearn.table import Rows
from ooclearn.testing import CountingBlocks
from ooclearn.validation import as_table

LOSSES = [*CLASSIFICATION, *REGRESSION]
CORNERS = {"hinge", "perceptron", "epsilon_insensitive"}


def plain_slope(loss, p, y, epsilon=0.1):
    """Say the derivative of a loss for one row, in scikit-learn's words."""
    z, r = p * y, p - y
    beyond = 0.0 if abs(r) <= epsilon else np.sign(r)
    return {
        "hinge": -y if z <= 1 else 0.0,
        "perceptron": -y if z <= 0 else 0.0,
        "log_loss": -y / (1 + np.exp(z)),
        "squared_hinge": -2 * y * (1 - z) if z < 1 else 0.0,
        "modified_huber": 0.0 if z >= 1 else -2 * y * (1 - z) if z >= -1 else -4 * y,
        "squared_error": r,
        "huber": epsilon * beyond if beyond else r,
        "epsilon_insensitive": beyond,
        "squared_epsilon_insensitive": 2 * beyond * (abs(r) - epsilon),
    }[loss]


def plain_fit(X, y, *, loss, batch_rows, alpha, share, steps, average=0, weights=None, epochs=1):
    """Train one model by loops over rows, in scikit-learn's words; `y` holds signs or numbers."""
    n, d = X.shape
    A = np.column_stack([X, np.ones(n)])
    w, mean, owed, paid = np.zeros(d + 1), np.zeros(d + 1), 0.0, np.zeros(d)
    s = np.ones(n) if weights is None else weights
    bend = {"log_loss": 0.25}.get(loss, 2.0 if "squared_" in loss and loss != "squared_error" else 1.0)
    bend = 2.0 if loss == "modified_huber" else bend
    top = np.random.default_rng(0).standard_normal(d + 1)
    top /= np.linalg.norm(top)
    seen, first = 0, True
    for start in list(range(0, n, batch_rows)) * epochs:
        rows = range(start, min(start + batch_rows, n))
        B = len(rows)
        H = sum(s[i] * np.outer(A[i], A[i]) for i in rows) / B
        for _ in range(8 * first):
            top = H @ top / np.linalg.norm(H @ top)
        first = False
        curve = np.linalg.norm(H @ top)
        top = H @ top / curve
        longest = max(s[i] * A[i] @ A[i] for i in rows)
        corners = np.sqrt(1 + seen / batch_rows / 16) if loss in CORNERS else 1.0
        stable = 1 / (corners * bend * (longest + (B - 1) * curve) / B + alpha * (1 - share))
        step = min(sum(steps(seen + 1 + i) for i in range(B)), stable)
        gradient = sum(s[i] * plain_slope(loss, A[i] @ w, y[i]) * A[i] for i in rows) / B
        w = w * np.append(np.full(d, 1 - step * alpha * (1 - share)), 1.0) - step * gradient
        owed += step * alpha * share
        for j in range(d):
            before = w[j]
            if before > 0:
                w[j] = max(0.0, before - (owed + paid[j]))
            elif before < 0:
                w[j] = min(0.0, before + (owed - paid[j]))
            paid[j] += w[j] - before
        seen += B
        if average and seen >= average:
            counted = seen + 1 - average
            mean += min(B, counted) / counted * (w - mean)
    return mean if average and seen >= average else w


class TestTheUpdate:
    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("share", [0.0, 0.3])
    def test_it_is_that_of_a_loop_over_rows(self, backend, loss, share):
        X, y = table(n=90)
        target = np.where(y == 1, 1.0, -1.0) if loss in CLASSIFICATION else X @ [1.0, 2.0, 0.0, -1.0] + 0.5
        weights = np.random.default_rng(1).integers(0, 3, len(y)).astype(float)
        kind = SGDClassifier if loss in CLASSIFICATION else SGDRegressor
        penalty = {0.0: "l2", 1.0: "l1"}.get(share, "elasticnet")
        model = kind(
            loss,
            penalty=penalty,
            alpha=0.02,
            l1_ratio=share,
            learning_rate="invscaling",
            eta0=0.05,
            power_t=0.25,
            batch_rows=40,
            shuffle=False,
            epochs=2,
            average=100,
        )
        given = y if kind is SGDClassifier else target
        model.fit(backend.make(X), backend.make(given), sample_weight=backend.make(weights))
        expected = plain_fit(
            X,
            target,
            loss=loss,
            batch_rows=40,
            alpha=0.02,
            share=share,
            steps=lambda t: 0.05 / t**0.25,
            average=100,
            weights=weights,
            epochs=2,
        )
        got = np.append(np.ravel(model.coef_), model.intercept_)
        room = max(1e-9, backend.within(1e4))
        np.testing.assert_allclose(got, expected, rtol=room, atol=room)
        assert model.t_ == 181
        assert model.n_iter_ == 2

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize(
        ("penalty", "average"), [("l2", False), ("l2", True), (None, 300), ("l1", False), ("elasticnet", False)]
    )
    @pytest.mark.parametrize("k", [2, 3])
    def test_batches_of_one_row_with_stable_steps_are_scikit_learns(self, loss, penalty, average, k):
        X, y = table(k, n=200)
        settings = {
            "loss": loss,
            "penalty": penalty,
            "alpha": 0.01,
            "learning_rate": "constant",
            "eta0": 0.01,
            "average": average,
            "shuffle": False,
        }
        name = "SGDClassifier" if loss in CLASSIFICATION else "SGDRegressor"
        expected = getattr(theirs, name)(max_iter=2, tol=None, **settings).fit(X, y)
        model = {"SGDClassifier": SGDClassifier, "SGDRegressor": SGDRegressor}[name](
            epochs=2, batch_rows=1, **settings
        ).fit(X, y)
        for attribute in ("coef_", "intercept_"):
            got, wanted = getattr(model, attribute), getattr(expected, attribute)
            assert got.shape == wanted.shape
            assert got.dtype == wanted.dtype
            np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-12)
        assert model.t_ == expected.t_

    @pytest.mark.parametrize("kind", ["constant", "optimal", "invscaling"])
    def test_steps_of_a_schedule_add_up(self, kind):
        schedule = Schedule(kind, 0.1, 0.25, 0.01)
        assert schedule.total(5, 7) == pytest.approx(sum(schedule.total(t, 1) for t in range(5, 12)))

    def test_the_schedule_optimal_begins_as_scikit_learns(self):
        assert Schedule("optimal", 0.01, 0.5, 1e-4).total(1, 1) == pytest.approx(10.0)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_several_models_by_one_product_are_as_each_alone(self, weighted):
        X, y = table(3, n=64)
        signs = np.where(y == np.arange(3)[:, None], 1.0, -1.0)
        factors = np.random.default_rng(2).random(signs.shape) if weighted else None
        batch = Batch(X, signs, factors)
        penalties = [Penalty(0.1, 0.0), Penalty(0.0, 0.05), Penalty(0.01, 0.01)]
        schedules = [Schedule("constant", eta0, 0.5, 0.1) for eta0 in (1e-3, 1e-4, 1.0)]
        together = Descent([sgd_loss("log_loss")] * 3, penalties, schedules, average=1)
        held = begun(together, batch)
        for t in (1, 65, 129):
            held = descended(held, together, batch, t)
        for i, (penalty, schedule) in enumerate(zip(penalties, schedules, strict=True)):
            alone = Descent([sgd_loss("log_loss")], [penalty], [schedule], average=1)
            one = begun(alone, batch)
            for t in (1, 65, 129):
                one = descended(one, alone, batch, t)
            for name in ("coef", "constant", "mean_coef"):
                np.testing.assert_allclose(held[name][3 * i : 3 * i + 3], one[name], rtol=1e-12, err_msg=name)

    def test_columns_that_are_not_scaled_do_not_make_it_diverge(self):
        X, y = table()
        X = X * [1.0, 1e3, 1e5, 1e-3] + [0.0, 1e4, 0.0, 1.0]
        for loss in REGRESSION:
            assert np.isfinite(SGDRegressor(loss, epochs=3).fit(X, y).coef_).all()


class TestCuts:
    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.integers(1, 80), st.integers(1, 50))
    def test_blocks_leave_no_trace(self, lengths, batch_rows, block_rows):
        X, y = table(3, n=sum(lengths) + 6, seed=1)
        y[:3] = [0, 1, 2]
        model = SGDClassifier(shuffle=False, batch_rows=batch_rows, epochs=2)
        whole = clone(model).fit(X, y)
        cut = clone(model).set_params(block_rows=block_rows)
        cut.fit(CountingBlocks(X, [*lengths, 6]), y)
        assert np.array_equal(cut.coef_, whole.coef_)
        assert np.array_equal(cut.intercept_, whole.intercept_)

    def test_blocks_of_any_container_leave_no_trace(self, backend):
        X, y = table(3, n=500)
        model = SGDClassifier("log_loss", shuffle=False, batch_rows=64).fit(backend.make(X), backend.make(y))
        expected = SGDClassifier("log_loss", shuffle=False, batch_rows=64).fit(X, y)
        np.testing.assert_allclose(model.coef_, expected.coef_, rtol=max(1e-9, backend.within(1e4)))

    def test_rows_that_are_left_over_are_copied(self):
        X, y = table(n=100)
        block, labels = X[:60].copy(), y[:60].copy()
        model = SGDClassifier(shuffle=False, batch_rows=100)
        trainer = trainer_of(model, classes=2)
        trainer.consume(Rows(block, labels))
        block[...], labels[...] = np.nan, 7
        trainer.consume(Rows(X[60:], y[60:]))
        trainer.end_epoch()
        expected = model.fit(X, y)
        assert np.array_equal(trainer.brought()["coef"], expected.coef_)

    def test_the_same_order_every_time_and_another_for_another_seed(self, backend):
        X, y = table(n=400)
        models = [SGDClassifier(random_state=seed).fit(backend.make(X), backend.make(y)) for seed in (0, 0, 1)]
        assert np.array_equal(models[0].coef_, models[1].coef_)
        assert not np.array_equal(models[0].coef_, models[2].coef_)
        state = np.random.RandomState(3)
        first, second = (SGDClassifier(random_state=state).fit(X, y).coef_ for _ in range(2))
        assert np.array_equal(first, second)


def trainer_of(model, classes):
    from ooclearn.linear_model._sgd_training import ClassTargets, Trainer

    schema = as_table(np.zeros((1, 4))).schema
    return Trainer(model._descent(schema), ClassTargets(np.arange(classes)), None, 1)


class TestResults:
    def test_accuracy_of_tumours_is_scikit_learns(self, backend):
        X, y = load_breast_cancer(return_X_y=True)
        X = scale(X)
        train, test = slice(0, 400), slice(400, None)
        for loss in ("hinge", "log_loss", "squared_hinge"):
            model = SGDClassifier(loss, epochs=5).fit(backend.make(X[train]), backend.make(y[train]))
            expected = theirs.SGDClassifier(loss=loss, random_state=0).fit(X[train], y[train])
            assert model.score(X[test], y[test]) >= expected.score(X[test], y[test]) - 0.01

    @pytest.mark.parametrize("loss", ["hinge", "log_loss"])
    def test_accuracy_of_digits_is_scikit_learns(self, loss):
        X, y = load_digits(return_X_y=True)
        X = scale(X)
        train, test = slice(0, 1200), slice(1200, None)
        model = SGDClassifier(loss, epochs=10).fit(X[train], y[train])
        expected = theirs.SGDClassifier(loss=loss, random_state=0).fit(X[train], y[train])
        assert model.coef_.shape == expected.coef_.shape == (10, 64)
        # Of 597 rows, 6 either way are what another order makes.
        assert model.score(X[test], y[test]) >= expected.score(X[test], y[test]) - 0.02

    @pytest.mark.parametrize("loss", REGRESSION)
    def test_regression_is_scikit_learns(self, loss):
        X, y = load_diabetes(return_X_y=True)
        X, y = scale(X), scale(y)
        model = SGDRegressor(loss, epochs=20).fit(X, y)
        expected = theirs.SGDRegressor(loss=loss, random_state=0).fit(X, y)
        assert model.score(X, y) >= expected.score(X, y) - 0.02

    def test_accuracy_on_the_table_of_the_article(self):
        (X, y), (held_out, labels) = Recipe(100_000).generated()
        model = make_pipeline(StandardScaler(), SGDClassifier()).fit(X, y)
        assert model.score(held_out, labels) > 0.928

    def test_methods_answer_in_the_container_of_the_rows(self, backend):
        for k in (2, 3):
            X, y = table(k)
            for loss in ("log_loss", "modified_huber"):
                model = SGDClassifier(loss, learning_rate="constant", eta0=0.01, batch_rows=1, shuffle=False).fit(X, y)
                expected = theirs.SGDClassifier(
                    loss=loss, learning_rate="constant", eta0=0.01, shuffle=False, max_iter=1, tol=None
                ).fit(X, y)
                room = max(1e-9, backend.within(1000))
                rows = backend.make(X)
                for method in ("decision_function", "predict_proba"):
                    got = backend.back(getattr(model, method)(rows))
                    np.testing.assert_allclose(got, getattr(expected, method)(X), rtol=room, atol=room)
                with np.errstate(divide="ignore"):
                    logarithms = np.log(expected.predict_proba(X))
                got = backend.back(model.predict_log_proba(rows))
                np.testing.assert_allclose(got, logarithms, rtol=max(1e-6, 100 * room), atol=room)
                assert np.mean(backend.back(model.predict(rows)) == expected.predict(X)) > 0.99
                assert model.score(rows, backend.make(y)) == pytest.approx(expected.score(X, y), abs=0.01)

    def test_rows_of_no_class_are_as_much_of_one_as_of_the_other(self):
        X, y = table(3)
        model = SGDClassifier("modified_huber").fit(X, y)
        model.intercept_ = np.full(3, -1e6)
        np.testing.assert_allclose(model.predict_proba(X), 1 / 3)

    @pytest.mark.parametrize("loss", ["hinge", "squared_hinge", "perceptron"])
    def test_no_probabilities_for_losses_that_have_none(self, loss):
        assert not hasattr(SGDClassifier(loss), "predict_proba")
        with pytest.raises(AttributeError, match="has no attribute"):
            SGDClassifier(loss).predict_log_proba  # noqa: B018  (asking is the test)

    def test_float32_stays_float32_and_labels_may_be_text(self, backend):
        X, y = table(3)
        names = np.array(["low", "mid", "top"])[y]
        model = SGDClassifier(epochs=3).fit(backend.make(X.astype(np.float32)), names)
        assert model.coef_.dtype == np.float32
        assert model.classes_.tolist() == ["low", "mid", "top"]
        predicted = model.predict(X)
        assert np.mean(predicted == names) > 0.7
        same = SGDClassifier(epochs=3).fit(X.astype(np.float32), y)
        np.testing.assert_allclose(model.coef_, same.coef_, rtol=1e-3, atol=1e-5)

    def test_whole_numbers_and_truth_values(self, backend):
        rng = np.random.default_rng(0)
        X = rng.integers(0, 5, (300, 3))
        y = X[:, 0] > X[:, 1]
        model = SGDClassifier(epochs=5).fit(backend.make(X), backend.make(y))
        expected = SGDClassifier(epochs=5).fit(X.astype(float), y)
        np.testing.assert_allclose(model.coef_, expected.coef_, rtol=max(1e-9, backend.within(1e5)))
        assert model.classes_.dtype == bool

    @pytest.mark.parametrize("k", [2, 3])
    def test_weights_of_classes_are_weights_of_their_rows(self, backend, k):
        X, y = table(k)
        factors = np.array([1.0, 3.0, 0.5])[:k]
        weighted = SGDClassifier(class_weight=dict(enumerate(factors)), shuffle=False)
        weighted.fit(backend.make(X), backend.make(y))
        if k == 2:
            expected = SGDClassifier(shuffle=False).fit(X, y, sample_weight=factors[y])
            np.testing.assert_allclose(weighted.coef_, expected.coef_, rtol=max(1e-9, backend.within(1e5)))
        for one, factor in enumerate(factors):
            if k == 3:
                w = np.where(y == one, factor, 1.0)
                expected = SGDClassifier(shuffle=False).fit(X, y == one, sample_weight=w)
                np.testing.assert_allclose(weighted.coef_[one], expected.coef_[0], rtol=max(1e-9, backend.within(1e5)))

    def test_balanced_weights_are_scikit_learns(self):
        X, y = table(3)
        y[y == 2] = np.where(np.arange((y == 2).sum()) % 5, 0, 2)
        given = dict(enumerate(len(y) / (3 * np.bincount(y))))
        balanced = SGDClassifier(class_weight="balanced").fit(X, y)
        assert np.array_equal(balanced.coef_, SGDClassifier(class_weight=given).fit(X, y).coef_)

    def test_scikit_learns_check_of_class_weights_passes_with_epochs(self):
        check_class_weight_classifiers("SGDClassifier", SGDClassifier("log_loss", epochs=100, batch_rows=4))

    def test_sparse_coefficients_from_absolute_values(self):
        X, y = table(d=20)
        coef = SGDClassifier(penalty="l1", alpha=0.05, epochs=5).fit(X, y).coef_
        expected = theirs.SGDClassifier(penalty="l1", alpha=0.05, random_state=0, max_iter=5, tol=None).fit(X, y).coef_
        assert 0 < np.count_nonzero(coef) <= np.count_nonzero(expected) + 3 < 20

    def test_no_intercept(self):
        X, y = table()
        model = SGDClassifier(fit_intercept=False).fit(X + 1.0, y)
        assert model.intercept_.tolist() == [0.0]
