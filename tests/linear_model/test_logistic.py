"""Logistic regression: scikit-learn's optimum in few passes, on every container, and what a careless one gets wrong."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import sklearn.linear_model as theirs
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning

from ooclearn import Pipeline
from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.linear_model import LogisticRegression
from ooclearn.linear_model._loss_sums import LossSums, LossSumsState
from ooclearn.linear_model._losses import Binomial, Multinomial
from ooclearn.preprocessing import StandardScaler
from ooclearn.table import Rows
from ooclearn.testing import CountingBlocks, check_statistic

CUT = [100, 0, 1, 299, 200]


def table(k, n=600, d=5, seed=0, strength=1.0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ (np.eye(d) + 0.3)
    scores = strength * X @ rng.normal(size=(d, k)) + rng.gumbel(size=(n, k)) + np.linspace(0, 1, k)
    return X, scores.argmax(axis=1)


def reference(X, y, w=None, **parameters):
    model = theirs.LogisticRegression(solver="newton-cholesky", tol=1e-13, max_iter=300, **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, y, w)


def objective(model, X, y, C, w=None):
    """scikit-learn's, in its own words: C times the weighted sum of losses, and half the squares of the coefficients."""
    scores = np.asarray(X @ model.coef_.T + model.intercept_)
    if scores.shape[1] == 1:
        scores = np.column_stack([np.zeros(len(X)), scores])
    losses = np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1)) + scores.max(1)
    losses -= scores[np.arange(len(X)), np.searchsorted(model.classes_, y)]
    total = (np.ones(len(X)) if w is None else w) @ losses
    return total if np.isinf(C) else C * total + 0.5 * (model.coef_**2).sum()


@pytest.mark.parametrize("solver", ["newton-cholesky", "lbfgs"])
@pytest.mark.parametrize("k", [2, 4])
def test_attributes_and_results_are_scikit_learns(backend, k, solver):
    X, y = table(k)
    y = y.astype(np.int64 if backend.has(np.int64) else np.int32)
    expected = reference(X, y)
    model = LogisticRegression(solver=solver, tol=max(1e-9, backend.within(100))).fit(backend.make(X), backend.make(y))
    # L-BFGS stops where rounding hides what the loss still gains.
    room = max(1e-4 if solver == "lbfgs" else 1e-9, backend.within(3e4 if solver == "lbfgs" else 3000))
    for name in ("coef_", "intercept_", "classes_", "n_iter_"):
        got = getattr(model, name)
        assert isinstance(got, np.ndarray)
        assert got.shape == getattr(expected, name).shape
        assert got.dtype == getattr(expected, name).dtype
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=room, atol=room)
    np.testing.assert_allclose(model.intercept_, expected.intercept_, rtol=room, atol=room)
    assert np.array_equal(model.classes_, expected.classes_)
    for method in ("decision_function", "predict_proba", "predict_log_proba", "predict"):
        got = backend.back(getattr(model, method)(backend.make(X)))
        np.testing.assert_allclose(got, getattr(expected, method)(X), rtol=10 * room, atol=10 * room, err_msg=method)
    assert model.score(backend.make(X), backend.make(y)) == pytest.approx(expected.score(X, y))


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("C", [1e-3, 1.0, np.inf])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0}])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_optimum_for_all_parameters(k, C, fit_intercept, class_weight, weighted):
    X, y = table(k, seed=k)
    w = np.random.default_rng(1).integers(0, 4, len(y)).astype(float) if weighted else None
    parameters = {"C": C, "fit_intercept": fit_intercept, "class_weight": class_weight}
    expected = reference(X, y, w, **parameters)
    counted = CountingBlocks(X, CUT)
    model = LogisticRegression(**parameters, tol=1e-6).fit(counted, y, w)
    assert counted.passes <= 8
    factors = np.ones(k)
    if class_weight == "balanced":
        found = np.bincount(y, weights=w)
        factors = found.sum() / (k * found)
    elif class_weight:
        factors[0] = 3.0
    row_weights = factors[y] * (1.0 if w is None else w)
    best = objective(expected, X, y, C, row_weights)
    assert objective(model, X, y, C, row_weights) <= best * (1 + 1e-10)
    room = 1e-3 if np.isinf(C) else 1e-6  # its own stops early without a penalty
    np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(X), atol=room)
    if k > 2:
        np.testing.assert_allclose(model.intercept_.sum(), 0, atol=1e-12)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("strength", [0.1, 1.0, 4.0])
def test_few_passes_reach_the_optimum_to_1e_8(k, strength):
    X, y = table(k, n=4000, d=20, seed=7, strength=strength)
    X = (X - X.mean(0)) / X.std(0)
    counted = CountingBlocks(X, [1000, 3000])
    model = LogisticRegression()
    plan = model.explain(CountingBlocks(X), y)
    model.fit(counted, y)
    best = objective(reference(X, y), X, y, 1.0)
    assert objective(model, X, y, 1.0) <= best * (1 + 1e-8)
    assert plan.n_certain <= counted.passes <= min(8, plan.n_passes)
    assert counted.passes == 1 + model.n_iter_[0]
    assert "LossSums until it converges" in str(plan)
    assert "2 to 202 readings" in str(plan)


@pytest.mark.parametrize(("k", "least"), [(2, 3), (3, 4), (5, 3)])
def test_the_first_step_is_a_discriminant_analysis(k, least):
    """It comes close for normal classes of one covariance and different sizes, if its intercept is right."""
    rng = np.random.default_rng(0)
    y = rng.choice(k, 3000, p=[0.7] + [0.3 / (k - 1)] * (k - 1))
    X = rng.normal(size=(3000, 4)) + rng.normal(size=(k, 4))[y]
    assert LogisticRegression().fit(X, y).n_iter_[0] <= least


def test_lbfgs_takes_few_passes_too_and_no_hessian():
    X, y = table(3, n=4000, d=20, seed=7)
    counted = CountingBlocks(X, [1000, 3000])
    model = LogisticRegression(solver="lbfgs").fit(counted, y)
    assert counted.passes <= 30
    assert objective(model, X, y, 1.0) <= objective(reference(X, y), X, y, 1.0) * (1 + 1e-4)


def test_behind_a_scaler_the_first_pass_is_shared():
    X, y = table(2, n=2000, d=6)
    X = X * [1, 10, 1e-3, 1, 5, 2] + [0, 1e4, 3, 0, 0, -7]
    counted, alone = CountingBlocks(X, [500, 1500]), CountingBlocks(StandardScaler().fit_transform(X), [500, 1500])
    pipe = Pipeline([("scale", StandardScaler()), ("fit", LogisticRegression())])
    plan = pipe.explain(CountingBlocks(X), y)
    assert (plan.n_certain, plan.n_passes) == (2, 202)
    pipe.fit(counted, y)
    model = LogisticRegression().fit(alone, y)
    assert counted.passes == alone.passes
    np.testing.assert_allclose(pipe[-1].coef_, model.coef_, rtol=1e-9)
    np.testing.assert_allclose(pipe[-1].intercept_, model.intercept_, rtol=1e-9)
    np.testing.assert_allclose(pipe.predict_proba(X), model.predict_proba(alone.source.values), rtol=1e-9)


def test_bits_do_not_depend_on_the_number_of_workers():
    import ooclearn

    X, y = table(3, n=3000)
    models = []
    for workers in (1, 3):
        with ooclearn.config_context(workers=workers):
            models.append(LogisticRegression().fit(CountingBlocks(X, [700, 0, 1, 2299]), y))
    assert np.array_equal(models[0].coef_, models[1].coef_)


class TestWhatACarelessOneGetsWrong:
    def test_the_intercept_is_not_penalised(self):
        X, y = table(2)
        parameters = {"C": 1e-4}
        model = LogisticRegression(**parameters).fit(X, y)
        far = LogisticRegression(**parameters).fit(X + 1e6, y)
        np.testing.assert_allclose(far.coef_, model.coef_, rtol=1e-7)
        np.testing.assert_allclose(far.intercept_, model.intercept_ - 1e6 * model.coef_.sum(), rtol=1e-7)
        shares = LogisticRegression(C=1e-12).fit(X, y).predict_proba(X[:1])[0]
        np.testing.assert_allclose(shares, np.bincount(y) / len(y), rtol=1e-6)

    def test_the_penalty_does_not_change_with_the_cut_nor_is_it_divided_by_the_rows(self):
        X, y = table(2)
        whole = LogisticRegression(C=0.01).fit(X, y)
        cut = LogisticRegression(C=0.01).fit(CountingBlocks(X, CUT), y)
        np.testing.assert_allclose(cut.coef_, whole.coef_, rtol=1e-10)
        twice = LogisticRegression(C=0.005).fit(np.concatenate([X, X]), np.concatenate([y, y]))
        np.testing.assert_allclose(twice.coef_, whole.coef_, rtol=1e-7)

    def test_the_penalty_is_that_of_the_columns_as_they_are(self):
        X, y = table(3)
        X = X * [1e-3, 1, 10, 1e3, 1]
        np.testing.assert_allclose(LogisticRegression().fit(X, y).coef_, reference(X, y).coef_, rtol=1e-5, atol=1e-9)

    @pytest.mark.parametrize(
        "labels",
        [
            np.array([-1, 1]),
            np.array([False, True]),
            np.array(["no", "yes"]),
            np.array(["no", "yes"], dtype=object),
            np.array([2.0, 5.0]),
        ],
        ids=repr,
    )
    def test_labels_of_any_type_come_back(self, labels):
        X, y = table(2)
        model = LogisticRegression().fit(CountingBlocks(X, CUT), labels[y])
        assert model.classes_.dtype == labels.dtype
        assert np.array_equal(model.classes_, labels)
        predicted = model.predict(X)
        assert predicted.dtype == labels.dtype
        assert np.mean(predicted == labels[y]) > 0.8
        np.testing.assert_allclose(model.coef_, LogisticRegression().fit(X, y).coef_, rtol=1e-9)

    def test_three_classes_are_not_two_and_a_block_may_lack_one(self):
        X, y = table(3)
        order = np.argsort(y)
        counted = CountingBlocks(X[order], CUT)
        model = LogisticRegression(tol=1e-7).fit(counted, np.array(["a", "b", "c"])[y[order]])
        assert model.coef_.shape == (3, 5)
        np.testing.assert_allclose(model.coef_, reference(X, y).coef_, rtol=1e-7)
        np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0)

    def test_it_is_a_classifier(self):
        assert is_classifier(LogisticRegression())


class TestNumerics:
    def test_probabilities_too_small_for_a_number_have_a_logarithm(self):
        X, y = table(2)
        model = LogisticRegression().fit(X, y)
        for k in (2, 3):
            model = LogisticRegression().fit(*table(k))
            logs = model.predict_log_proba(X * 1e4)
            assert np.isfinite(logs).all()
            assert np.array_equal(model.classes_[logs.argmax(axis=1)], model.predict(X * 1e4))

    @pytest.mark.parametrize("k", [2, 3])
    def test_columns_that_depend_on_one_another_and_constant_ones(self, k):
        X, y = table(k)
        wide = np.column_stack([X, X[:, 0] - X[:, 1], np.full(len(X), 3.7), np.zeros(len(X))])
        plain = LogisticRegression(C=np.inf).fit(X, y)
        model = LogisticRegression(C=np.inf).fit(wide, y)
        np.testing.assert_allclose(model.predict_proba(wide), plain.predict_proba(X), atol=1e-7)
        assert np.abs(model.coef_).max() < 10
        np.testing.assert_allclose(LogisticRegression().fit(wide, y).coef_, reference(wide, y).coef_, atol=1e-7)

    def test_rows_of_no_weight_may_be_anywhere(self):
        X, y = table(2)
        w = np.arange(len(y)) % 3.0
        far = np.where(w[:, None] == 0, 1e300, X)
        model = LogisticRegression(tol=1e-7).fit(CountingBlocks(far, CUT), y, w)
        np.testing.assert_allclose(model.coef_, reference(X, y, w).coef_, rtol=1e-6)

    def test_more_columns_than_rows(self):
        X, y = table(2, n=30, d=50)
        np.testing.assert_allclose(LogisticRegression(tol=1e-7).fit(X, y).coef_, reference(X, y).coef_, atol=1e-7)

    def test_float32_is_summed_in_float64(self):
        X, y = table(3)
        X = X.astype(np.float32)
        model = LogisticRegression(tol=1e-10).fit(X, y)
        np.testing.assert_allclose(model.coef_, reference(X.astype(np.float64), y).coef_, rtol=1e-9)


class TestRefused:
    def test_a_missing_value_with_its_place(self):
        X, y = table(2)
        X[350, 2] = np.nan
        with pytest.raises(NonFiniteError, match=r"contains NaN.*row 350, column 2"):
            LogisticRegression().fit(CountingBlocks(X, CUT), y)

    def test_one_class(self):
        X, _ = table(2)
        with pytest.raises(ValueError, match="needs samples of at least 2 classes in the data"):
            LogisticRegression().fit(X, np.ones(len(X)))

    def test_a_continuous_target(self):
        X, _ = table(2)
        with pytest.raises(ValueError, match="Unknown label type"):
            LogisticRegression().fit(X, X[:, 0])

    @pytest.mark.parametrize("l1_ratio", [0.5, 1.0])
    def test_an_l1_penalty(self, l1_ratio):
        X, y = table(2)
        with pytest.raises(ValueError, match=f"supports only 'l2' or None penalties, got l1_ratio={l1_ratio}"):
            LogisticRegression(l1_ratio=l1_ratio).fit(X, y)

    def test_weights_that_are_all_zero(self):
        X, y = table(2)
        with pytest.raises(DataError, match="sample weights are zero"):
            LogisticRegression().fit(X, y, np.zeros(len(y)))

    def test_a_class_weight_for_no_class(self):
        X, y = table(2)
        with pytest.raises(ValueError, match="not in class_weight"):
            LogisticRegression(class_weight={"a": 2.0, "b": 1.0}).fit(X, y)

    def test_a_failed_fit_leaves_the_model_as_it_was(self):
        X, y = table(2)
        model = LogisticRegression().fit(X, y)
        before = pickle.dumps(model)
        with pytest.raises(ValueError, match="at least 2 classes"):
            model.fit(X, np.ones(len(y)))
        assert pickle.dumps(model) == before


def test_too_few_iterations_warn():
    X, y = table(2, strength=4.0)
    for solver in ("newton-cholesky", "lbfgs"):
        model = LogisticRegression(C=100.0, max_iter=1, solver=solver)
        with pytest.warns(ConvergenceWarning, match="did not converge after 1 iterations"):
            model.fit(X, y)
        assert model.n_iter_.tolist() == [1]


def test_separable_classes_without_a_penalty_end():
    X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=np.inf).fit(X, [0, 0, 1, 1])
    assert model.predict(X).tolist() == [0, 0, 1, 1]
    assert np.isfinite(model.coef_).all()


@pytest.mark.parametrize("solver", ["newton-cholesky", "lbfgs"])
@pytest.mark.parametrize("k", [2, 3])
def test_a_warm_start_goes_on_from_the_last_solution(k, solver):
    X, y = table(k, n=2000)
    counted = CountingBlocks(X, [500, 1500])
    model = LogisticRegression(warm_start=True, solver=solver, tol=1e-7).fit(counted, y)
    first, coef = counted.passes, model.coef_
    model.fit(counted, y)
    assert counted.passes - first <= 4 < first
    np.testing.assert_allclose(model.coef_, coef, rtol=1e-5)
    assert not hasattr(model, "_learned")
    with pytest.raises(ValueError, match="Initialization coef is of shape"):
        model.fit(X[:, :3], y)
    cold = clone(model).fit(X, y)
    np.testing.assert_allclose(cold.coef_, coef, rtol=1e-5)


def _sizes(state):
    """How far each sum may be off for one rounding: its terms may cancel, so go by the largest of their kind."""
    return LossSumsState(
        np.full_like(state.loss, np.abs(state.loss).max(initial=0.0)),
        np.full_like(state.gradient, np.abs(state.gradient).max(initial=0.0)),
        None if state.hessian is None else np.full_like(state.hessian, np.abs(state.hessian).max(initial=0.0)),
    )


@pytest.mark.parametrize("hessian", [True, False])
@pytest.mark.parametrize("k", [2, 3])
def test_the_laws_of_the_sums(k, hessian):
    rng = np.random.default_rng(3)
    loss = (Binomial if k == 2 else Multinomial)(np.arange(k), np.linspace(1, 2, k))
    vectors = tuple(rng.normal(size=(loss.n_raw, 4)) for _ in range(3))
    X, y = table(k, n=60, d=3)
    rows = [Rows(X + offset, y, w) for offset in (0.0, 1e4) for w in (None, rng.integers(0, 3, 60).astype(float))]
    for one in rows:
        check_statistic(LossSums(loss, one.X.mean(axis=0), vectors, hessian), rows=[one], allowance=_sizes)


def test_many_raw_predictions_are_held_in_runs(monkeypatch):
    X, y = table(3)
    vectors = (np.ones((3, 6)), np.zeros((3, 6)))
    sums = LossSums(Multinomial(np.arange(3)), np.zeros(5), vectors)
    whole = sums.of(Rows(X, y))
    monkeypatch.setattr("ooclearn.linear_model._loss_sums._RAW", 6 * 70)
    runs = sums.of(Rows(X, y))
    np.testing.assert_allclose(runs.loss, whole.loss, rtol=1e-12)
    np.testing.assert_allclose(runs.hessian, whole.hessian, rtol=1e-9, atol=1e-9)
    X[350, 1] = np.nan
    with pytest.raises(NonFiniteError, match="row 350, column 1"):
        sums.of(Rows(X, y))


@pytest.mark.parametrize("k", [2, 3])
def test_derivatives_are_those_of_the_loss(k):
    """Against differences of the loss."""
    rng = np.random.default_rng(3)
    loss = (Binomial if k == 2 else Multinomial)(np.arange(k))
    X, y = table(k, n=60, d=3)
    rows = Rows(X, y, rng.uniform(size=60))
    v = rng.normal(size=(loss.n_raw, 4))
    state = LossSums(loss, np.zeros(3), (v,)).of(rows)
    steps = 1e-5 * np.eye(v.size).reshape(v.size, *v.shape)
    beside = LossSums(loss, np.zeros(3), tuple(v + s for s in steps) + tuple(v - s for s in steps), hessian=False)
    moved = beside.of(rows)
    slopes = (moved.loss[: v.size] - moved.loss[v.size :]) / 2e-5
    np.testing.assert_allclose(state.gradient.reshape(-1), slopes, rtol=1e-6, atol=1e-6)
    curves = (moved.gradient[: v.size] - moved.gradient[v.size :]).reshape(v.size, v.size) / 2e-5
    np.testing.assert_allclose(state.hessian.reshape(v.size, v.size), curves, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("C", [1e-3, 1.0, 100.0])
def test_columns_that_jump(C):
    """Two clusters far apart, and few wrong labels: the first step overshoots to where nothing is curved."""
    rng = np.random.default_rng(43)
    X = rng.standard_normal((3000, 7)) * [1.0, 9.0, 0.02, 0.01, 80.0, 1.0, 3.0]
    X[1500:] += 1000.0
    y = (np.arange(3000) >= 1500) ^ (rng.random(3000) < 0.002)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        mine = LogisticRegression(C=C, tol=1e-9).fit(X, y)
    expected = theirs.LogisticRegression(C=C, tol=1e-10, max_iter=5000, solver="newton-cholesky").fit(X, y)
    assert objective(mine, X, y, C) <= objective(expected, X, y, C) * (1 + 1e-9)


def test_from_where_nothing_is_curved():
    """Newton steps lead nowhere there; the search goes on by gradients."""
    X = np.random.default_rng(0).standard_normal((500, 3))
    y = X[:, 0] + np.random.default_rng(1).standard_normal(500) > 0
    expected = LogisticRegression(tol=1e-9).fit(X, y)
    model = LogisticRegression(tol=1e-9, warm_start=True).fit(X, y)
    model.coef_ = np.array([[-900.0, 700.0, 800.0]])
    np.testing.assert_allclose(model.fit(X, y).coef_, expected.coef_, rtol=1e-6)
