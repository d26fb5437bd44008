"""Faults of the catalogue that lie in weights: 33 and 34."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import preprocessing as sk
from sklearn.linear_model import SGDClassifier, SGDRegressor

from ooclearn import Incremental
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler

HOST = ("numpy", "memmap", "scan", "dask")


@pytest.mark.parametrize("of_w", [*HOST, "list"])
def test_33_weights_are_cut_with_the_rows(any_container, containers, of_w, X):
    w = np.random.default_rng(1).integers(0, 4, 1000)
    weights = w.tolist() if of_w == "list" else containers(of_w)(w, "w", rows=130)
    scaler = StandardScaler().fit(any_container(X), sample_weight=weights)
    copies = sk.StandardScaler().fit(np.repeat(X, w, axis=0))
    np.testing.assert_allclose(scaler.mean_, copies.mean_, rtol=1e-12)
    np.testing.assert_allclose(scaler.var_, copies.var_, rtol=1e-12)


def test_33_weights_are_fed_with_the_rows(container, X, y):
    w = np.random.default_rng(1).uniform(0.0, 2.0, 1000)
    fed = Incremental(SGDRegressor(shuffle=False)).fit(
        container(X), container(y, "y", rows=170), container(w, "w", rows=130)
    )
    whole = SGDRegressor(shuffle=False).partial_fit(X, y, sample_weight=w)
    np.testing.assert_allclose(fed.coef_, whole.coef_, rtol=1e-12)
    for model in (fed, Incremental(SGDRegressor(random_state=0)).fit(container(X), y, w)):
        assert model.score(container(X), y, w) == pytest.approx(model.estimator_.score(X, y, w), rel=1e-12)


def test_33_rows_of_no_weight_are_as_if_they_were_not_there(container, X, y):
    w = (np.arange(1000) % 3 > 0).astype(np.float64)
    w[200:400] = 0.0
    fed = Incremental(SGDClassifier(random_state=0), shuffle=False).fit(container(X), y, container(w, "w"))
    # Each row counts as a step of the learning rate, with weight or without; blocks that have none are left out.
    assert fed.estimator_.t_ <= 1001
    kept = w > 0
    scaler = StandardScaler().fit(container(X), sample_weight=w)
    np.testing.assert_allclose(scaler.mean_, X[kept].mean(axis=0), rtol=1e-12)


BAD_WEIGHTS = {"negative": -0.625, "missing": np.nan, "infinite": np.inf}


@pytest.mark.parametrize("kind", BAD_WEIGHTS)
def test_34_bad_weights(any_container, refused, kind, X):
    w = np.ones(1000)
    w[[437, 438]] = BAD_WEIGHTS[kind]
    data, weights = any_container(X), any_container(w, "w")
    scaler = StandardScaler().fit(X)
    where = (f"block {any_container.block_of(data, 437)}", "row 437", "sample_weight", any_container.weights())
    for call in (scaler.fit, scaler.partial_fit):
        with refused(scaler, *where, "2", never=("0.625",)):
            call(data, sample_weight=weights)


@pytest.mark.parametrize("kind", BAD_WEIGHTS)
def test_34_bad_weights_to_train_on(container, refused, kind, X, y):
    w = np.ones(1000)
    w[[437, 438]] = BAD_WEIGHTS[kind]
    data, weights = container(X), container(w, "w")
    where = (f"block {container.block_of(data, 437)}", "row 437", "sample_weight")
    for model in (Incremental(SGDClassifier(random_state=0)), Incremental(SGDClassifier(shuffle=False))):
        with refused(model, *where, never=("0.625",)):
            model.fit(data, y, weights)
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier()))
    with refused(pipe, *where):
        pipe.fit(data, y, standardscaler__sample_weight=weights)
    with refused(pipe, *where):
        pipe.fit(data, y, incremental__sample_weight=weights)
    fitted = Incremental(SGDClassifier(random_state=0)).fit(X, y)
    with refused(fitted, *where):
        fitted.score(data, y, weights)


def test_34_weights_that_are_all_zero(any_container, refused, X, y):
    data, nothing = any_container(X), any_container(np.zeros(1000), "w")
    scaler = StandardScaler()
    with refused(scaler, "sample weights are zero"):
        scaler.fit(data, sample_weight=nothing)
    model = Incremental(SGDClassifier())
    with refused(model, "sample weights are zero"):
        model.fit(data, y, nothing)


def test_34_weights_that_are_no_numbers(any_container, refused, X):
    scaler = StandardScaler()
    data, column = any_container(X), any_container(np.ones((1000, 1)), "w")
    with refused(scaler, "sample_weight", "expected numbers", never=("secret",)):
        scaler.fit(data, sample_weight=["secret"] * 1000)
    with refused(scaler, "Sample weights must be 1D array or scalar", "(1000, 1)"):
        scaler.fit(data, sample_weight=column)
