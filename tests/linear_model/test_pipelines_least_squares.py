"""Scalers, components and linear regressions in one reading, as exact as fits one after the other."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.decomposition
import sklearn.linear_model
import sklearn.pipeline
import sklearn.preprocessing
from sklearn.base import clone

import ooclearn.decomposition
import ooclearn.linear_model
import ooclearn.preprocessing
from ooclearn.exceptions import DataError
from ooclearn.linear_model import Ridge
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler
from ooclearn.rowmaps import Chain
from ooclearn.testing import CountingBlocks
from ooclearn.testing.tables import uneven_cut

PIPELINES = {
    "StandardScaler, Ridge": [("StandardScaler", {}), ("Ridge", {})],
    "MinMaxScaler, LinearRegression": [("MinMaxScaler", {}), ("LinearRegression", {})],
    "StandardScaler, PCA, Ridge": [("StandardScaler", {}), ("PCA", {"n_components": 4}), ("Ridge", {})],
    "StandardScaler, RidgeCV of folds": [("StandardScaler", {}), ("RidgeCV", {"alphas": [0.1, 10.0, 1e3], "cv": 4})],
    "StandardScaler, Lasso": [("StandardScaler", {}), ("Lasso", {"alpha": 0.1})],
    "StandardScaler, LinearRegression without intercept": [
        ("StandardScaler", {"with_mean": False}),
        ("LinearRegression", {"fit_intercept": False}),
    ],
}
READINGS = {**dict.fromkeys(PIPELINES, 1), "StandardScaler, RidgeCV": 2}
ALL = {**PIPELINES, "StandardScaler, RidgeCV": [("StandardScaler", {}), ("RidgeCV", {"alphas": [0.1, 10.0, 1e3]})]}


def made(name, library):
    modules = {
        "ooclearn": (ooclearn.preprocessing, ooclearn.decomposition, ooclearn.linear_model),
        "sklearn": (sklearn.preprocessing, sklearn.decomposition, sklearn.linear_model),
    }[library]
    steps = [
        next(getattr(module, step) for module in modules if hasattr(module, step))(**params)
        for step, params in ALL[name]
    ]
    return (make_pipeline if library == "ooclearn" else sklearn.pipeline.make_pipeline)(*steps)


def table(offset, n=3000, seed=1):
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, 6)) @ rng.standard_normal((6, 6))
    X = (Z + offset) * [1.0, 2.0, 0.5, 10.0, 1.0, 3.0]
    # An intercept has the roundings of the means that were taken off the columns; it is compared with that of y.
    return X, Z @ rng.standard_normal(6) + rng.standard_normal(n) + 100.0


def fitted_alike(mine, reference, rtol, offset):
    for (name, step), (_, theirs) in zip(mine.steps, reference.steps, strict=True):
        for attribute, expected in vars(theirs).items():
            if not attribute.endswith("_") or attribute.startswith("_") or attribute in {"solver_", "dual_gap_"}:
                continue
            got = getattr(step, attribute)
            if isinstance(expected, (float, np.ndarray)):
                room = rtol * float(np.max(np.abs(expected), initial=0.0))
                if name == "pca" and attribute == "mean_":
                    # 0 but for what the scaler's own mean was rounded by.
                    room = 1e-14 * max(1.0, offset)
                np.testing.assert_allclose(got, expected, rtol=rtol, atol=room, err_msg=f"{name}.{attribute}")
            else:
                assert got == expected, f"{name}.{attribute}"


# Without an intercept, columns far from 0 nearly depend on each other, in scikit-learn as here.
FAR = [(name, offset) for name in ALL for offset in (0.0, 1e3, 1e6) if offset < 1e6 or "without" not in name]


@pytest.mark.parametrize(("name", "offset"), FAR)
def test_one_reading_and_scikit_learns_attributes(name, offset):
    X, y = table(offset)
    blocks = CountingBlocks(X, uneven_cut(len(X)))
    mine = made(name, "ooclearn")
    plan = mine.explain(blocks, y)
    mine.fit(blocks, y)
    assert blocks.passes == plan.n_passes == READINGS[name]
    reference = made(name, "sklearn").fit(X, y)
    fitted_alike(mine, reference, 1e-10, offset)
    np.testing.assert_allclose(mine.predict(X), reference.predict(X), rtol=1e-8, atol=1e-8)


def staged(X, y):
    """StandardScaler, then Ridge(1), in extended precision."""
    X, y = X.astype(np.longdouble), y.astype(np.longdouble)
    Z = X - X.mean(axis=0)
    Z = Z / np.sqrt((Z * Z).mean(axis=0))
    A, b = Z.T @ Z + np.eye(Z.shape[1]), Z.T @ (y - y.mean())
    d = len(b)
    for i in range(d):
        for j in range(i + 1, d):
            factor = A[j, i] / A[i, i]
            A[j] -= factor * A[i]
            b[j] -= factor * b[i]
    coef = np.zeros(d, dtype=np.longdouble)
    for i in reversed(range(d)):
        coef[i] = (b[i] - A[i, i + 1 :] @ coef[i + 1 :]) / A[i, i]
    return coef


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no extended precision on this machine to compare with")
def test_closer_to_extended_precision_than_fits_one_after_the_other():
    X, y = table(1e8)
    exact = staged(X, y)
    mine = made("StandardScaler, Ridge", "ooclearn").fit(CountingBlocks(X, uneven_cut(len(X))), y)[-1].coef_
    reference = made("StandardScaler, Ridge", "sklearn").fit(X, y)[-1].coef_
    assert np.max(np.abs(mine - exact)) < np.max(np.abs(reference - exact))
    np.testing.assert_allclose(mine, exact.astype(np.float64), rtol=1e-12)


def test_every_container(backend):
    X, y = table(3.0)
    X = X if backend.has("float64") else X.astype(np.float32)
    mine = made("StandardScaler, PCA, Ridge", "ooclearn").fit(backend.make(X), backend.make(y))
    reference = made("StandardScaler, PCA, Ridge", "sklearn").fit(X.astype(np.float64), y)
    room = max(backend.within(1e5), 1e-3 if X.dtype == np.float32 else 0.0)
    np.testing.assert_allclose(mine[-1].coef_, reference[-1].coef_, rtol=room, atol=room)
    np.testing.assert_allclose(
        backend.back(mine.predict(backend.make(X))), reference.predict(X.astype(np.float64)), rtol=room, atol=10 * room
    )


def test_predictions_are_one_product():
    X, y = table(3.0)
    pipe = made("StandardScaler, PCA, Ridge", "ooclearn").fit(X, y)
    composed = pipe._method_map("predict", n_columns=6, dtype=np.dtype(np.float64))
    assert isinstance(composed, Chain)
    scaled = made("StandardScaler, Ridge", "ooclearn").fit(X, y)
    kinds = [type(one).__name__ for one in scaled._method_map("predict", n_columns=6, dtype=np.dtype(np.float64)).maps]
    assert kinds == ["Affine", "Rowwise"], "a scaling collapses with the coefficients; the other looks for NaN"


def test_targets_that_are_python_objects():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 3)), rng.standard_normal(60)
    pipe = make_pipeline(StandardScaler(), Ridge())
    np.testing.assert_array_equal(pipe.fit(X, y.astype(object))[-1].coef_, clone(pipe).fit(X, y)[-1].coef_)
    with pytest.raises(DataError, match="not all that is in it are numbers"):
        pipe.fit(X, np.array(["a", *y[1:]], dtype=object))
