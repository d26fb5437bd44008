"""Models fitted from scatter matrices against scikit-learn's, on every container."""

from __future__ import annotations

import pickle
import warnings
from itertools import pairwise

import numpy as np
import pytest
import sklearn.linear_model as theirs
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

import ooclearn
import ooclearn.linear_model as ours
from ooclearn.exceptions import DataError, DataWarning
from ooclearn.linear_model._folds import FoldScatter
from ooclearn.linear_model._least_squares import problem_of
from ooclearn.linear_model._left_out import LeftOut
from ooclearn.linear_model.ridge_cv import _model
from ooclearn.rowmaps import Affine
from ooclearn.statistics import Scatter, merge_all
from ooclearn.statistics.triangle import Triangle
from ooclearn.table import Rows
from ooclearn.testing import CountingBlocks, check_statistic
from ooclearn.testing.tables import Column, made_rows, uneven_cut

MODELS = [
    ("LinearRegression", {}),
    ("LinearRegression", {"fit_intercept": False}),
    ("LinearRegression", {"positive": True}),
    ("Ridge", {}),
    ("Ridge", {"alpha": 100.0, "fit_intercept": False}),
    ("RidgeCV", {}),
    ("RidgeCV", {"alphas": [1e-3, 1.0, 10.0, 1e3, 1e5], "alpha_per_target": True}),
    ("RidgeCV", {"alphas": [1e-3, 1.0, 10.0, 1e3], "cv": 5}),
    ("Lasso", {"alpha": 0.05}),
    ("Lasso", {"alpha": 0.05, "positive": True}),
    ("ElasticNet", {"alpha": 0.05, "tol": 1e-9}),
    ("ElasticNet", {"alpha": 0.05, "selection": "random", "random_state": 7, "fit_intercept": False}),
]
GROWING = ["LinearRegression", "Ridge", "Lasso", "ElasticNet"]


def named(model):
    name, params = model
    return f"{name}({', '.join(f'{key}={value}' for key, value in params.items())})"


def table(n=200, targets=None, seed=0, offset=3.0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 5)) * [1.0, 2.0, 0.1, 30.0, 1.0] + offset
    X[:, 1] += X[:, 0] - offset
    noise = rng.standard_normal((n, targets or 1))
    Y = (X - offset) @ rng.standard_normal((5, targets or 1)) + noise + 2.0
    return X, Y[:, 0] if targets is None else Y, rng.integers(0, 3, n).astype(float)


def fitted_alike(mine, reference, rtol=1e-10):
    """Compare all attributes that scikit-learn's has; a gap is a difference, so it has the rounding of its terms."""
    for name, expected in vars(reference).items():
        if not name.endswith("_") or name == "solver_":
            continue
        got = getattr(mine, name)
        assert np.shape(got) == np.shape(expected), name
        if expected is None:
            assert got is None, name
        elif name == "dual_gap_":
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-10, err_msg=name)
        elif isinstance(expected, (np.ndarray, float)):
            size = float(np.max(np.abs(expected), initial=0.0))
            np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol * size, err_msg=name)
            assert np.asarray(got).dtype == np.asarray(expected).dtype, name
        else:
            np.testing.assert_array_equal(got, expected, err_msg=name)


@pytest.mark.parametrize("targets", [None, 1, 3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("model", MODELS, ids=named)
def test_attributes_and_predictions_are_scikit_learns(model, weighted, targets):
    name, params = model
    X, y, w = table(targets=targets)
    weights = w if weighted else None
    reference = getattr(theirs, name)(**params).fit(X, y, sample_weight=weights)
    mine = getattr(ours, name)(**params).fit(ooclearn.scan(X).recut(uneven_cut(len(X))), y, sample_weight=weights)
    fitted_alike(mine, reference)
    got, expected = mine.predict(X), reference.predict(X)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)
    assert mine.score(X, y) == pytest.approx(reference.score(X, y), rel=1e-10)


@pytest.mark.parametrize("model", [MODELS[0], MODELS[3], MODELS[6], MODELS[7], MODELS[10]], ids=named)
def test_every_container(backend, model):
    name, params = model
    X, y, w = table(targets=2)
    if not backend.has("float64"):
        X = X.astype(np.float32)
    mine = getattr(ours, name)(**params).fit(backend.make(X), backend.make(y), backend.make(w))
    reference = getattr(theirs, name)(**params).fit(X.astype(np.float64), y, w)
    room = max(backend.within(1e4), 1e-6 if X.dtype == np.float32 else 0.0)
    np.testing.assert_allclose(mine.coef_, reference.coef_, rtol=room, atol=room * 30)
    np.testing.assert_allclose(mine.intercept_, reference.intercept_, rtol=room, atol=room * 30)
    np.testing.assert_allclose(
        backend.back(mine.predict(backend.make(X))),
        reference.predict(X.astype(np.float64)),
        rtol=10 * room,
        atol=100 * room,
    )


@pytest.mark.parametrize("name", ["LinearRegression", "Ridge", "RidgeCV", "Lasso", "ElasticNet"])
def test_float32_gives_float32_as_in_scikit_learn(name):
    X, y, _ = table()
    narrow = X.astype(np.float32)
    mine, reference = getattr(ours, name)().fit(narrow, y), getattr(theirs, name)().fit(narrow, y)
    assert mine.coef_.dtype == reference.coef_.dtype == np.float32
    wide = getattr(theirs, name)().fit(narrow.astype(np.float64), y)
    np.testing.assert_allclose(mine.coef_, wide.coef_, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("alpha", [[1.0, 10.0, 0.0], 0.0])
def test_a_penalty_for_each_target(alpha):
    X, y, _ = table(targets=3)
    fitted_alike(ours.Ridge(alpha).fit(X, y), theirs.Ridge(alpha).fit(X, y))
    if isinstance(alpha, list):
        with pytest.raises(ValueError, match="Number of targets and number of penalties do not correspond"):
            ours.Ridge(alpha).fit(X, y[:, :2])
    with pytest.raises(ValueError, match="alpha has negative"):
        ours.Ridge([-1.0]).fit(X, y)


def test_positive_ridge_is_at_least_as_good():
    """scikit-learn's stops by a tolerance, so objectives are compared."""
    X, y, _ = table()
    mine, reference = ours.Ridge(positive=True).fit(X, y), theirs.Ridge(positive=True, tol=1e-12).fit(X, y)

    def loss(model):
        return np.sum((y - model.predict(X)) ** 2) + model.coef_ @ model.coef_

    assert mine.coef_.min() >= 0
    assert loss(mine) <= loss(reference) * (1 + 1e-12)
    np.testing.assert_allclose(mine.coef_, reference.coef_, rtol=1e-4, atol=1e-5)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 5), st.sampled_from([0.0, 1e3]), st.integers(0, 3), st.booleans())
def test_few_rows_and_dependent_columns_have_the_solution_of_smallest_norm(n, d, offset, copies, intercept):
    rng = np.random.default_rng([n, d, copies])
    X = rng.standard_normal((n, d)) + offset
    X = np.hstack([X, X[:, :copies], np.full((n, 1), 7.0)])
    y = rng.standard_normal((n, 2))
    mine = ours.LinearRegression(fit_intercept=intercept).fit(X, y)
    reference = theirs.LinearRegression(fit_intercept=intercept).fit(X, y)
    assert mine.rank_ == reference.rank_
    assert mine.singular_.shape == reference.singular_.shape
    largest = max(1.0, float(reference.singular_[0]))
    np.testing.assert_allclose(mine.singular_, reference.singular_, rtol=1e-9, atol=1e-7 * largest)
    np.testing.assert_allclose(mine.predict(X), reference.predict(X), rtol=1e-6, atol=1e-6)
    if not intercept or n > 3:
        np.testing.assert_allclose(mine.coef_, reference.coef_, rtol=1e-5, atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(
            ours.Ridge(fit_intercept=intercept).fit(X, y).coef_,
            theirs.Ridge(fit_intercept=intercept, solver="svd").fit(X, y).coef_,
            rtol=1e-7,
            atol=1e-7,
        )


# How often the table is read.


@pytest.mark.parametrize("name", GROWING)
def test_one_reading(name):
    X, y, _ = table(offset=1e6)
    blocks = CountingBlocks(X, uneven_cut(len(X)))
    plan = getattr(ours, name)().explain(blocks, y)
    assert blocks.passes == 0
    getattr(ours, name)().fit(blocks, y)
    assert blocks.passes == plan.n_passes == 1


def test_leaving_out_a_row_takes_two_readings_whatever_the_number_of_penalties():
    X, y, _ = table()
    blocks = CountingBlocks(X, uneven_cut(len(X)))
    model = ours.RidgeCV(alphas=np.logspace(-3, 3, 50))
    plan = model.explain(blocks, y)
    model.fit(blocks, y)
    assert blocks.passes == plan.n_passes == 2
    assert model.alpha_ == theirs.RidgeCV(alphas=np.logspace(-3, 3, 50)).fit(X, y).alpha_


def test_folds_take_one_reading_whatever_the_number_of_penalties():
    X, y, _ = table(offset=1e4)
    alphas = np.logspace(-3, 3, 20)
    blocks = CountingBlocks(X, uneven_cut(len(X)))
    assert ours.RidgeCV(alphas=alphas, cv=3).fit(X, np.ones(len(X))).best_score_ == 1.0
    model = ours.RidgeCV(alphas=alphas, cv=7)
    plan = model.explain(blocks, y)
    model.fit(blocks, y)
    assert blocks.passes == plan.n_passes == 1
    fitted_alike(model, theirs.RidgeCV(alphas=alphas, cv=7).fit(X, y))


def test_folds_that_cannot_be():
    X, y, _ = table(n=9)
    with pytest.raises(DataError, match="5 folds of at least 2 rows, which .* need 10 rows, got n_samples = 9"):
        ours.RidgeCV(cv=5).fit(X, y)
    with pytest.raises(ValueError, match="incompatible"):
        ours.RidgeCV(cv=2, alpha_per_target=True).fit(X, y)
    da = pytest.importorskip("dask.array", reason="the extra `dask` is not installed")
    rows = da.from_array(np.hstack([X, y[:, None]]), chunks=(3, 6))
    rows = rows[rows[:, 0] > -np.inf]
    with pytest.raises(DataError, match="how many rows there are is not known"):
        ours.RidgeCV(cv=2).fit(rows[:, :5], rows[:, 5])


def nearly_dependent(n=400, apart=1e-6):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((n, 4)) + 5.0
    X[:, 3] = X[:, 0] + X[:, 1] + apart * X[:, 3]
    return X, X @ np.array([1.0, -2.0, 3.0, 0.5]) + 0.1 * rng.standard_normal(n)


@pytest.mark.parametrize(("name", "params"), [("LinearRegression", {"tol": 1e-9}), ("Ridge", {"alpha": 1e-11})])
def test_nearly_dependent_columns_are_read_a_second_time(name, params):
    """Products of columns would leave a few digits; the factor leaves half of them."""
    X, y = nearly_dependent()
    blocks = CountingBlocks(X, uneven_cut(len(X)))
    mine = getattr(ours, name)(**params).fit(blocks, y)
    assert blocks.passes == 2
    assert mine.condition_number_ > 1e10
    solver = {"solver": "svd"} if name == "Ridge" else {}
    reference = getattr(theirs, name)(**params, **solver).fit(X, y)
    np.testing.assert_allclose(mine.coef_, reference.coef_, rtol=1e-6)


def test_columns_that_depend_on_each_other_altogether_are_not():
    X, y, _ = table()
    X = np.hstack([X, X[:, :2], np.full((len(X), 2), 1e8)])
    blocks = CountingBlocks(X, uneven_cut(len(X)))
    mine = ours.LinearRegression().fit(blocks, y)
    assert blocks.passes == 1
    assert mine.condition_number_ == np.inf
    reference = theirs.LinearRegression().fit(X, y)
    assert mine.rank_ == reference.rank_ == 5
    np.testing.assert_allclose(mine.coef_, reference.coef_, rtol=1e-9, atol=1e-9)


def test_what_cannot_be_read_again_warns():
    X, y = nearly_dependent()
    with pytest.warns(DataWarning, match="nearly depend on each other"):
        ours.LinearRegression(tol=1e-9).partial_fit(X, y)


# partial_fit and merge.


def assert_same_fit(a, b, rtol=1e-10):
    np.testing.assert_allclose(a.coef_, b.coef_, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(a.intercept_, b.intercept_, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", GROWING)
def test_parts_one_after_the_other_and_merged(name):
    X, y, w = table(targets=2, offset=1e5)
    make = getattr(ours, name)
    at_once = make().fit(X, y, w)
    grown = make()
    for part in (slice(0, 1), slice(1, 90), slice(90, None)):
        assert grown.partial_fit(X[part], y[part], sample_weight=w[part]) is grown
    assert_same_fit(grown, at_once)
    left, right = make().fit(X[:70], y[:70], w[:70]), make().fit(X[70:], y[70:], w[70:])
    before = pickle.dumps(right)
    assert left.merge(right) is left
    assert pickle.dumps(right) == before, "the other is as it was"
    assert_same_fit(pickle.loads(pickle.dumps(left)), at_once)
    assert_same_fit(left.fit(X[:50], y[:50]), make().fit(X[:50], y[:50]))


@pytest.mark.parametrize("name", GROWING)
def test_targets_of_another_shape_are_refused_and_nothing_is_changed(name):
    X, y, _ = table(targets=2)
    model = getattr(ours, name)().fit(X, y)
    before = pickle.dumps(model)
    with pytest.raises(DataError, match="y has one dimension, but .* was fitted to 2 columns"):
        model.partial_fit(X, y[:, 0])
    with pytest.raises(DataError, match="y has one dimension in the other and 2 columns here"):
        model.merge(getattr(ours, name)().fit(X, y[:, 0]))
    with pytest.raises(ValueError, match="X has 4 features"):
        model.partial_fit(X[:, :4], y)
    assert pickle.dumps(model) == before


# Numerics: far from 0.


def extended(X, y, alpha):
    """Ridge in extended precision, by elimination."""
    X, y = X.astype(np.longdouble), y.astype(np.longdouble)
    x_mean, y_mean = X.mean(axis=0), y.mean()
    Z = X - x_mean
    A, b = Z.T @ Z + alpha * np.eye(X.shape[1]), Z.T @ (y - y_mean)
    d = len(b)
    for i in range(d):
        for j in range(i + 1, d):
            factor = A[j, i] / A[i, i]
            A[j] -= factor * A[i]
            b[j] -= factor * b[i]
    coef = np.zeros(d, dtype=np.longdouble)
    for i in reversed(range(d)):
        coef[i] = (b[i] - A[i, i + 1 :] @ coef[i + 1 :]) / A[i, i]
    return coef, y_mean - x_mean @ coef


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no extended precision on this machine to compare with")
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(("name", "alpha"), [("LinearRegression", 0.0), ("Ridge", 1.0)])
def test_closer_to_extended_precision_than_scikit_learn(name, alpha, cut):
    X, y, _ = table(n=2000, offset=1e8)
    coef, intercept = extended(X, y, alpha)
    mine = getattr(ours, name)().fit(ooclearn.scan(X).recut(uneven_cut(len(X))) if cut else X, y)
    reference = getattr(theirs, name)().fit(X, y)

    def error(model):
        return float(np.max(np.abs(model.coef_ - coef)) / np.max(np.abs(coef)))

    room = 8 * np.finfo(np.float64).eps
    assert error(mine) <= error(reference) + room
    # A product of y with the narrowest column has the rounding of both, whatever sums it up.
    size = np.std(y) / (np.min(np.std(X - 1e8, axis=0)) * float(np.max(np.abs(coef))))
    assert error(mine) < room * size
    assert abs(mine.intercept_ - intercept) <= abs(reference.intercept_ - intercept) + room * abs(intercept)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("model", MODELS, ids=named)
def test_far_from_zero(model, offset):
    name, params = model
    if params.get("fit_intercept") is False and offset == 1e6:
        params = {**params, "alpha": 1e9} if name == "Ridge" else params
    X, y, _ = table(offset=offset)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mine = getattr(ours, name)(**params).fit(X, y)
        solver = {"solver": "svd"} if name == "Ridge" else {}
        reference = getattr(theirs, name)(**params, **solver).fit(X, y)
    rtol = 1e-10 if params.get("fit_intercept", True) else 1e-9
    size = float(np.max(np.abs(reference.coef_), initial=1e-300))
    np.testing.assert_allclose(mine.coef_, reference.coef_, rtol=rtol, atol=rtol * size)


# Bad input.


@pytest.mark.parametrize("name", [*GROWING, "RidgeCV"])
class TestBadInput:
    def test_not_a_number(self, name):
        X, y, _ = table()
        X[17, 2] = np.nan
        with pytest.raises(DataError, match=r"Input X contains NaN.*row 17, column 2"):
            getattr(ours, name)().fit(ooclearn.scan(X).recut((10, 190)), y)
        X, y, _ = table()
        y[55] = np.inf
        with pytest.raises(DataError, match=r"Input y contains infinity.*row 55"):
            getattr(ours, name)().fit(ooclearn.scan(X).recut((10, 190)), y)

    def test_lengths(self, name):
        X, y, _ = table()
        with pytest.raises(DataError, match="X has 200 rows and y has 199"):
            getattr(ours, name)().fit(X, y[:-1])
        with pytest.raises(ValueError, match="requires y"):
            getattr(ours, name)().fit(X, None)
        with pytest.raises(ValueError, match="y should be a 1d array or a table"):
            getattr(ours, name)().fit(X, y.reshape(20, 5, 2)[:, :1].repeat(10, 0))

    def test_weights(self, name):
        X, y, _ = table()
        with pytest.raises(ValueError, match="all of the 200 sample weights are zero"):
            getattr(ours, name)().fit(X, y, np.zeros(200))
        with pytest.raises(DataError, match="negative"):
            getattr(ours, name)().fit(X, y, np.full(200, -1.0))

    def test_one_row(self, name):
        X, y, _ = table(n=1)
        if name == "RidgeCV":
            with pytest.raises(DataError, match="n_samples = 1"):
                ours.RidgeCV().fit(X, y)
            return
        model = getattr(ours, name)().fit(X, y)
        np.testing.assert_array_equal(model.coef_, 0.0)
        assert model.intercept_ == y[0]

    def test_constant_columns(self, name):
        X, y, _ = table()
        full = np.hstack([X[:, :1], np.full((len(X), 1), 0.1), X[:, 1:], np.full((len(X), 1), -1e9)])
        mine = getattr(ours, name)().fit(ooclearn.scan(full).recut(uneven_cut(len(X))), y)
        expected = getattr(theirs, name)().fit(X, y).coef_
        np.testing.assert_allclose(np.delete(mine.coef_, [1, 6]), expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(mine.coef_[[1, 6]], 0.0, atol=1e-12)

    def test_text(self, name):
        X, _, _ = table(n=3)
        with pytest.raises(DataError, match="y has dtype object"):
            getattr(ours, name)().fit(X, np.array(["a", 1, 2], dtype=object))


@pytest.mark.parametrize("alphas", [[], [0.0], [1.0, -1.0], [np.nan]])
def test_penalties_that_cannot_be_tried(alphas):
    X, y, _ = table()
    with pytest.raises(ValueError, match="alphas"):
        ours.RidgeCV(alphas=alphas).fit(X, y)


def test_a_penalty_too_small_to_leave_rows_out_is_refused():
    """With as many columns as rows, what is left of the leverage has no digits: a score of them would mean nothing."""
    X, y = np.random.default_rng(0).standard_normal((5, 8)), np.arange(5.0)
    np.testing.assert_allclose(
        ours.RidgeCV([1e-6]).fit(X, y).best_score_, ours.RidgeCV([1e-8]).fit(X, y).best_score_, 1e-3
    )
    with pytest.raises(DataError, match="Raise the smallest of the alphas"):
        ours.RidgeCV([1e-13, 1.0]).fit(X, y)


def test_lasso_says_when_it_has_not_converged():
    X, y, _ = table()
    with pytest.warns(ConvergenceWarning):
        ours.Lasso(alpha=1e-4, max_iter=1).fit(X, y)
    with pytest.warns(UserWarning, match="With alpha=0"):
        ours.Lasso(alpha=0.0).fit(X, y)
    np.testing.assert_array_equal(ours.Lasso().fit(X, y).sparse_coef_.toarray()[0], ours.Lasso().fit(X, y).coef_)


def test_errors_of_rows_left_out_keep_the_laws_of_a_statistic():
    X, y, _ = table(n=60)
    problem = problem_of(Scatter(target=True).of(Rows(X, y)), centred=True)
    statistic = LeftOut(_model(problem, np.array([0.1, 10.0]), centred=True))
    tables = [made_rows(n, [Column("normal", 3.0)] * 5, weights=w) for n in (0, 1, 30) for w in (None, "some zero")]
    check_statistic(statistic, rows=tables)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(2, 40), st.integers(2, 5), st.lists(st.integers(0, 40), max_size=4))
def test_folds_of_any_cut_and_behind_a_map(n, k, cuts):
    if n < 2 * k:
        k = 1
    rng = np.random.default_rng(n)
    X, y, w = rng.standard_normal((n, 3)) + 1e3, rng.standard_normal(n), rng.uniform(0, 2, n)
    statistic = FoldScatter.of_rows(n, k)
    edges = sorted({0, n, *(cut for cut in cuts if cut < n)})
    states = [statistic.of(Rows(X[i:j], y[i:j], w[i:j], i)) for i, j in pairwise(edges)]
    row_map = Affine(np.array([2.0, 3.0, 4.0]), center=np.full(3, 1e3), divide=True)
    merged = statistic.after(merge_all(statistic, states), row_map)
    scatter = Scatter(target=True)
    for (i, j), got in zip(pairwise(statistic.bounds), merged.folds, strict=True):
        expected = scatter.of(Rows(row_map(X[i:j]), y[i:j], w[i:j]))
        np.testing.assert_allclose(got.scatter, expected.scatter, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-9, atol=1e-9)
        assert got.rows == expected.rows
    np.testing.assert_allclose(merged.all().scatter, scatter.of(Rows(row_map(X), y, w)).scatter, rtol=1e-9, atol=1e-9)
    with pytest.raises(DataError, match="which fold rows belong to"):
        statistic.of(Rows(X, y))


def test_both_statistics_stand_for_the_same_problem():
    X, y, w = table(targets=2)
    rows = Rows(X, y, w)
    for centred in (True, False):
        a = problem_of(Scatter(target=True).of(rows), centred=centred)
        b = problem_of(Triangle(target=True).of(rows), centred=centred)
        for left, right in ((a, a), (a, b)):
            np.testing.assert_allclose(left.A.T @ left.A, right.A.T @ right.A, rtol=1e-10, atol=1e-9)
            np.testing.assert_allclose(left.A.T @ left.b, right.A.T @ right.b, rtol=1e-10, atol=1e-9)
        np.testing.assert_allclose(a.residual, b.residual, rtol=1e-9)
