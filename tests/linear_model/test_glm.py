"""Poisson, gamma and Tweedie regression: scikit-learn's optimum in few passes, on every container."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.linear_model as theirs
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import mean_tweedie_deviance

import ooclearn.linear_model as ours
from ooclearn import Pipeline
from ooclearn.exceptions import DataError, NonFiniteError
from ooclearn.linear_model import GammaRegressor, PoissonRegressor, TweedieRegressor
from ooclearn.linear_model._deviance import Deviance
from ooclearn.linear_model._loss_sums import LossSums, LossSumsState
from ooclearn.linear_model._losses import Tweedie
from ooclearn.linear_model.glm import GAMMA, POISSON
from ooclearn.preprocessing import StandardScaler
from ooclearn.table import Rows
from ooclearn.testing import CountingBlocks, check_statistic

CUT = [100, 0, 1, 299, 200]

MODELS = {
    "poisson": ("PoissonRegressor", {}),
    "gamma": ("GammaRegressor", {}),
    "normal": ("TweedieRegressor", {}),
    "compound": ("TweedieRegressor", {"power": 1.5}),
    "inverse": ("TweedieRegressor", {"power": 3}),
    "poisson, identity": ("TweedieRegressor", {"power": 1, "link": "identity"}),
    "gamma, identity": ("TweedieRegressor", {"power": 2, "link": "identity"}),
    "1.5, identity": ("TweedieRegressor", {"power": 1.5, "link": "identity"}),
    "normal, log": ("TweedieRegressor", {"power": 0, "link": "log"}),
    "0.5, log": ("TweedieRegressor", {"power": 0.5, "link": "log"}),
    "-1": ("TweedieRegressor", {"power": -1}),
}
# No mean below 0: without an intercept that takes an X of its own.
ABOVE = {"poisson, identity", "gamma, identity", "1.5, identity", "-1"}
CONVEX = {"poisson", "gamma", "normal", "compound", "poisson, identity"}


def table(kind, n=600, d=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ (np.eye(d) + 0.3)
    if kind in ABOVE:
        X = np.abs(X)
    scores = X @ np.array([0.3, -0.2, 0.1, 0.2])[:d] + 0.5
    if kind == "poisson":
        return X, rng.poisson(np.exp(scores)).astype(float)
    if kind == "normal":
        return X, scores + rng.normal(size=n)
    if kind in ABOVE:
        mean = X @ np.array([0.5, 1.0, 0.2, 2.0])[:d] + 3
        return X, mean * rng.gamma(4, 0.25, size=n)
    return X, rng.gamma(2, np.exp(scores) / 2)


def pair(kind, **parameters):
    name, own = MODELS[kind]
    expected = getattr(theirs, name)(**own, **parameters, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    return getattr(ours, name)(**own, **parameters), expected


def fitted(model, X, y, w=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, y, w)


@pytest.mark.parametrize("solver", ["newton-cholesky", "lbfgs"])
@pytest.mark.parametrize("kind", ["poisson", "gamma", "compound", "normal"])
def test_attributes_and_results_are_scikit_learns(backend, kind, solver):
    X, y = table(kind)
    model, expected = pair(kind, alpha=0.1)
    fitted(expected, X, y)
    model.set_params(solver=solver, tol=max(1e-9, backend.within(100))).fit(backend.make(X), backend.make(y))
    # L-BFGS stops where rounding hides what the loss still gains.
    room = max(1e-7, backend.within(3e4 if solver == "lbfgs" else 3000))
    assert model.coef_.shape == expected.coef_.shape
    assert isinstance(model.intercept_, float)
    assert isinstance(model.n_iter_, int)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=room, atol=room)
    np.testing.assert_allclose(model.intercept_, expected.intercept_, rtol=room, atol=room)
    got = backend.back(model.predict(backend.make(X)))
    np.testing.assert_allclose(got, expected.predict(X), rtol=10 * room, atol=10 * room)
    assert model.score(backend.make(X), backend.make(y)) == pytest.approx(expected.score(X, y), rel=10 * room)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_optimum_for_all_parameters(kind, alpha, weighted):
    X, y = table(kind)
    w = np.random.default_rng(1).integers(0, 4, len(y)).astype(float) if weighted else None
    model, expected = pair(kind, alpha=alpha)
    fitted(expected, X, y, w)
    counted = CountingBlocks(X, CUT)
    model.set_params(tol=1e-7).fit(counted, y, w)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(model.intercept_, expected.intercept_, rtol=1e-6, atol=1e-7)
    assert model.score(counted, y, w) == pytest.approx(expected.score(X, y, w), rel=1e-7, abs=1e-9)
    if kind in CONVEX:
        assert counted.passes <= 9  # that of the score among them


@pytest.mark.parametrize("kind", ["poisson", "gamma", "normal", "inverse", "gamma, identity"])
def test_without_an_intercept(kind):
    X, y = table(kind)
    model, expected = pair(kind, alpha=0.01, fit_intercept=False)
    fitted(expected, X, y)
    model.set_params(tol=1e-8).fit(CountingBlocks(X, CUT), y)
    assert model.intercept_ == 0.0
    if kind not in ABOVE:  # scikit-learn starts from a mean of 0 there, and finds nothing
        np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-6, atol=1e-7)
    lower = ours.TweedieRegressor().fit(X, y)
    assert model.score(X, y) > (0.0 if lower.score(X, y) > 0.2 else -5.0)


@pytest.mark.parametrize("kind", sorted(CONVEX))
def test_explain_says_the_first_pass_and_a_bound(kind):
    X, y = table(kind, n=3000)
    counted = CountingBlocks(X, [1000, 2000])
    model, _ = pair(kind, alpha=0.1)
    plan = model.explain(CountingBlocks(X), y)
    model.fit(counted, y)
    assert counted.passes == 1 + model.n_iter_
    assert plan.n_certain <= counted.passes <= min(8, plan.n_passes)


def test_least_squares_take_one_step():
    X, y = table("normal")
    counted = CountingBlocks(X, CUT)
    model = TweedieRegressor(alpha=0.0).fit(counted, y)
    assert counted.passes == 2
    plain = theirs.LinearRegression().fit(X, y)
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-10)
    assert model.score(X, y) == pytest.approx(plain.score(X, y), rel=1e-10)


def test_behind_a_scaler_the_first_pass_is_shared():
    X, y = table("poisson", n=2000)
    X = X * [1, 10, 1e-3, 1] + [0, 1e4, 3, 0]
    counted, alone = CountingBlocks(X, [500, 1500]), CountingBlocks(StandardScaler().fit_transform(X), [500, 1500])
    pipe = Pipeline([("scale", StandardScaler()), ("fit", PoissonRegressor())]).fit(counted, y)
    model = PoissonRegressor().fit(alone, y)
    assert counted.passes == alone.passes
    np.testing.assert_allclose(pipe[-1].coef_, model.coef_, rtol=1e-9)
    before = counted.passes
    assert pipe.score(counted, y) == pytest.approx(model.score(alone, y), rel=1e-9)
    assert counted.passes == before + 1


def test_columns_far_from_zero_and_the_intercept_without_penalty():
    X, y = table("poisson")
    near, far = PoissonRegressor(alpha=10.0).fit(X, y), PoissonRegressor(alpha=10.0).fit(X + 1e6, y)
    np.testing.assert_allclose(far.coef_, near.coef_, rtol=1e-7)
    np.testing.assert_allclose(far.predict(X + 1e6), near.predict(X), rtol=1e-7)


class TestRefused:
    @pytest.mark.parametrize(
        ("model", "value", "name"),
        [
            (PoissonRegressor(), -1.0, "HalfPoissonLoss"),
            (GammaRegressor(), 0.0, "HalfGammaLoss"),
            (TweedieRegressor(power=1.5), -1.0, "HalfTweedieLoss"),
            (TweedieRegressor(power=3, link="identity"), 0.0, "HalfTweedieLossIdentity"),
        ],
        ids=repr,
    )
    def test_targets_out_of_the_domain_with_their_row(self, model, value, name):
        X, y = table("gamma")
        y[350] = value
        message = f"Some value\\(s\\) of y are out of the valid range of the loss '{name}'.*row 350"
        counted = CountingBlocks(X, CUT)
        with pytest.raises(DataError, match=message):
            model.fit(counted, CountingBlocks(y, CUT))
        y[350] = 1.0
        model.fit(counted, y)
        y[350] = value
        with pytest.raises(DataError, match=message):
            model.score(counted, CountingBlocks(y, CUT))

    def test_what_is_not_finite_with_its_place(self):
        X, y = table("poisson")
        y[120] = np.nan
        with pytest.raises(NonFiniteError, match=r"Input y contains NaN.*row 120"):
            PoissonRegressor().fit(CountingBlocks(X, CUT), y)
        X[350, 2], y[120] = np.inf, 0.0
        with pytest.raises(NonFiniteError, match=r"Input X contains infinity.*row 350, column 2"):
            PoissonRegressor().fit(CountingBlocks(X, CUT), y)

    def test_a_mean_that_cannot_be_predicted(self):
        X, _ = table("poisson")
        with pytest.raises(DataError, match="the mean of y is not above 0"):
            PoissonRegressor().fit(X, np.zeros(len(X)))
        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(50, 2)), rng.gamma(2, size=50)
        with pytest.raises(DataError, match="the loss is infinite where the search starts"):
            TweedieRegressor(power=1, link="identity", fit_intercept=False).fit(X, y)

    def test_weights_that_are_all_zero(self):
        X, y = table("poisson")
        with pytest.raises(DataError, match="sample weights are zero"):
            PoissonRegressor().fit(X, y, np.zeros(len(y)))


def test_too_few_iterations_warn():
    X, y = table("gamma")
    for solver in ("newton-cholesky", "lbfgs"):
        with pytest.warns(ConvergenceWarning, match="did not converge after 1 iterations"):
            GammaRegressor(max_iter=1, solver=solver, tol=1e-9).fit(X, y)


def test_a_warm_start_goes_on_from_the_last_solution():
    X, y = table("gamma")
    counted = CountingBlocks(X, CUT)
    model = GammaRegressor(warm_start=True).fit(counted, y)
    first, coef = counted.passes, model.coef_
    model.fit(counted, y)
    assert counted.passes - first <= 3 < first
    np.testing.assert_allclose(model.coef_, coef, rtol=1e-6)
    with pytest.raises(ValueError, match="Initialization coef is of shape"):
        model.fit(X[:, :3], y)


LOSSES = {
    "poisson": POISSON,
    "gamma": GAMMA,
    "compound": Tweedie(1.5, log=True, name=""),
    "inverse": Tweedie(3.0, log=True, name=""),
    "normal, log": Tweedie(0.0, log=True, name=""),
    **{f"{p}, identity": Tweedie(p, log=False, name="") for p in (0.0, 1.0, 2.0, 1.5, -1.0)},
}


@pytest.mark.parametrize("name", LOSSES)
def test_derivatives_are_those_of_the_loss(name):
    """Against differences of the loss."""
    loss = LOSSES[name]
    rng = np.random.default_rng(3)
    X, y = table("gamma", n=60, d=3)
    rows = Rows(X, y, rng.uniform(size=60))
    v = rng.normal(size=(1, 4)) * 0.05 + [[0.0, 0.0, 0.0, 2.0]]
    state = LossSums(loss, np.zeros(3), (v,)).of(rows)
    steps = 1e-5 * np.eye(4)[:, None]
    beside = LossSums(loss, np.zeros(3), tuple(v + s for s in steps) + tuple(v - s for s in steps), hessian=False)
    moved = beside.of(rows)
    np.testing.assert_allclose(state.gradient[0, 0], (moved.loss[:4] - moved.loss[4:]) / 2e-5, rtol=1e-5, atol=1e-5)
    curves = (moved.gradient[:4, 0] - moved.gradient[4:, 0]) / 2e-5
    np.testing.assert_allclose(state.hessian[0, :, 0, :], curves, rtol=1e-5, atol=1e-5)


def _sizes(state):
    """How far each sum may be off for one rounding: its terms may cancel, so go by the largest of their kind."""
    if not isinstance(state, LossSumsState):
        return state
    return LossSumsState(
        np.full_like(state.loss, np.abs(state.loss).max(initial=0.0)),
        np.full_like(state.gradient, np.abs(state.gradient).max(initial=0.0)),
        None if state.hessian is None else np.full_like(state.hessian, np.abs(state.hessian).max(initial=0.0)),
    )


@pytest.mark.parametrize("name", ["poisson", "gamma", "inverse", "1.5, identity"])
def test_the_laws_of_the_sums(name):
    rng = np.random.default_rng(3)
    X, y = table("gamma", n=60, d=3)
    v = rng.normal(size=(1, 4)) * 0.05 + [[0.0, 0.0, 0.0, 2.0]]
    for w in (None, rng.integers(0, 3, 60).astype(float)):
        sums = LossSums(LOSSES[name], X.mean(axis=0), (v, 0.5 * v))
        check_statistic(sums, rows=[Rows(X, y, w)], allowance=_sizes)
        predict = PoissonRegressor().fit(X, y)._row_map()
        score = Deviance(predict, LOSSES[name])
        check_statistic(score, rows=[Rows(X, y, w)], answer=lambda state: state.score())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("power", [0.0, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("made", ["nearly twice the same", "decaying"])
def test_columns_that_depend_on_one_another_almost(made, power, seed):
    """The curvature in some direction is as small as its rounding, and the objective falls along it still."""
    rng = np.random.default_rng(seed)
    n, d = 400, 5
    U = rng.normal(size=(n, d))
    if made == "decaying":
        X = (
            np.linalg.qr(U)[0]
            * n**0.5
            * np.logspace(0, -rng.uniform(6, 8), d)
            @ np.linalg.qr(rng.normal(size=(d, d)))[0]
        )
    else:
        X = U.copy()
        X[:, -1] = X[:, 0] + 10 ** -rng.uniform(6, 7) * rng.normal(size=n)
    raw = 0.4 * U @ rng.normal(size=d)
    y = rng.normal(raw) if power == 0 else rng.poisson(np.exp(raw)) if power < 2 else rng.gamma(2.0, np.exp(raw)) + 1e-3
    options = {"power": power, "alpha": 0.0, "solver": "newton-cholesky", "tol": 1e-8, "max_iter": 200}
    model = TweedieRegressor(**options).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may find the Hessian singular, and go on by gradients
        reference = theirs.TweedieRegressor(**options).fit(X, y)
    deviances = [mean_tweedie_deviance(y, one.predict(X), power=power) for one in (model, reference)]
    assert deviances[0] <= deviances[1] * (1 + 1e-6)
    assert model.n_iter_ <= 12


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_columns_that_depend_on_one_another_get_the_shortest_step(offset):
    """Slopes that are rounding lead nowhere."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    y = rng.poisson(np.exp(0.3 * X[:, 0]))
    X = np.column_stack([X, X[:, 0], X.sum(axis=1)]) + offset
    model = PoissonRegressor(alpha=0.0).fit(X, y)
    assert np.abs(model.coef_).max() < 1.0
    assert model.n_iter_ <= 6
