"""Pipelines whose steps are seen through: one reading, and what each step learns is as if fitted alone."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.decomposition
import sklearn.discriminant_analysis
import sklearn.linear_model
import sklearn.naive_bayes
import sklearn.pipeline
import sklearn.preprocessing

import ooclearn
import ooclearn.decomposition
import ooclearn.discriminant_analysis
import ooclearn.linear_model
import ooclearn.naive_bayes
import ooclearn.pipeline
import ooclearn.preprocessing
from ooclearn.testing import CountingBlocks

# How to make the steps from either library, and whether y holds classes.
PIPES = {
    "StandardScaler, PCA, Ridge": (
        lambda of: [of.preprocessing.StandardScaler(), of.decomposition.PCA(3), of.linear_model.Ridge()],
        False,
    ),
    "MinMaxScaler, LinearRegression": (
        lambda of: [of.preprocessing.MinMaxScaler(), of.linear_model.LinearRegression()],
        False,
    ),
    "MaxAbsScaler, StandardScaler, Ridge": (
        lambda of: [of.preprocessing.MaxAbsScaler(), of.preprocessing.StandardScaler(), of.linear_model.Ridge()],
        False,
    ),
    "StandardScaler, LinearDiscriminantAnalysis": (
        lambda of: [
            of.preprocessing.StandardScaler(),
            of.discriminant_analysis.LinearDiscriminantAnalysis(),
        ],
        True,
    ),
    "StandardScaler, GaussianNB": (
        lambda of: [of.preprocessing.StandardScaler(), of.naive_bayes.GaussianNB()],
        True,
    ),
}


def table(offset, *, classes, n=2000, d=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    X = X / X.std(axis=0) * np.geomspace(0.1, 100, d)
    y = X @ (rng.normal(size=d) / np.geomspace(0.1, 100, d)) + rng.normal(scale=0.5, size=n)
    X = X + offset * np.geomspace(0.1, 100, d)
    return X, np.digitize(y, [-0.5, 0.7]) if classes else y


@pytest.fixture(params=PIPES.values(), ids=PIPES)
def listed(request):
    return request.param


def test_one_reading_as_promised(listed):
    make, classes = listed
    X, y = table(10.0, classes=classes)
    source, target = CountingBlocks(X, [300, 0, 700, 1, 999]), CountingBlocks(y, [1000, 1000])
    pipe = ooclearn.pipeline.make_pipeline(*make(ooclearn))
    plan = pipe.explain(source, target)
    assert not source.reads
    pipe.fit(source, target)
    assert source.passes == plan.n_passes == 1


def learned(step, like):
    """Return the fitted attributes that are numbers, named as those of `like`."""
    names = [name for name in vars(like) if name.endswith("_") and not name.startswith("_")]
    return {
        name: np.asarray(getattr(step, name), dtype=float)
        for name in names
        if getattr(like, name) is not None and not isinstance(getattr(like, name), str)
    }


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4])
def test_as_fitted_step_by_step(listed, offset):
    make, classes = listed
    X, y = table(offset, classes=classes)
    ours = ooclearn.pipeline.make_pipeline(*make(ooclearn)).fit(ooclearn.scan(X).recut([700, 1, 1299]), y)
    theirs = sklearn.pipeline.make_pipeline(*make(sklearn)).fit(X, y)
    for step, expected in zip(ours, theirs, strict=True):
        for name, value in learned(expected, expected).items():
            # A column of mean 0 after scaling has no digits of its own; its scale is 1.
            got = learned(step, expected)[name]
            np.testing.assert_allclose(got, value, rtol=1e-10, atol=1e-10, err_msg=f"{type(step).__name__}.{name}")
    np.testing.assert_array_equal(ours.predict(X).shape, theirs.predict(X).shape)


def test_predictions_on_every_backend(listed, backend):
    make, classes = listed
    X, y = table(3.0, classes=classes)
    X = X.astype("float64" if backend.has("float64") else "float32")
    theirs = sklearn.pipeline.make_pipeline(*make(sklearn)).fit(X.astype(float), y)
    data = backend.make(X)
    ours = ooclearn.pipeline.make_pipeline(*make(ooclearn)).fit(data, y)
    got = backend.backend.blocks(ours.predict(data)).to_numpy()
    expected = theirs.predict(X.astype(float))
    if classes:
        assert np.mean(got == expected) > 0.999
    else:
        np.testing.assert_allclose(got, expected, atol=1e-9 if backend.has("float64") else 1e-3)


@pytest.mark.parametrize("offset", [1e6, 1e8])
def test_closer_to_the_truth_than_stage_by_stage_far_from_zero(listed, offset):
    """scikit-learn loses digits to the offset at the first stage; the truth is its last steps on exactly scaled rows."""
    make, classes = listed
    if isinstance(make(ooclearn)[0], ooclearn.preprocessing.MinMaxScaler):
        pytest.skip("extrema are exact in either library")
    X, y = table(offset, classes=classes)
    wide = X.astype(np.longdouble)
    Z = ((wide - wide.mean(axis=0)) / wide.std(axis=0)).astype(float)
    ours = ooclearn.pipeline.make_pipeline(*make(ooclearn)).fit(X, y)
    theirs = sklearn.pipeline.make_pipeline(*make(sklearn)).fit(X, y)
    first = [isinstance(step, sklearn.preprocessing.StandardScaler) for step in theirs].index(True) + 1
    truth = sklearn.pipeline.make_pipeline(*make(sklearn)[first:]).fit(Z, y)
    for step, other, exact in zip(ours[first:], theirs[first:], truth, strict=True):
        for name, value in learned(exact, exact).items():
            error, its = (np.abs(learned(one, exact)[name] - value).max() for one in (step, other))
            room = 1e-12 * max(1.0, np.abs(value).max())
            assert error <= max(its, room), f"{type(step).__name__}.{name}: {error:.1e}, scikit-learn {its:.1e}"


class TestBarriers:
    def test_explained(self):
        X, y = table(1.0, classes=False)
        pipe = ooclearn.pipeline.make_pipeline(
            ooclearn.preprocessing.StandardScaler(),
            ooclearn.preprocessing.Normalizer(),
            ooclearn.linear_model.Ridge(),
        )
        plan = pipe.explain(X, y)
        assert plan.n_passes == 2
        assert "ridge gets its rows through" in str(plan)
        assert "cannot be seen" in str(plan)

    def test_extrema_behind_a_rotation(self):
        X, _ = table(1.0, classes=False)
        pipe = ooclearn.pipeline.make_pipeline(
            ooclearn.preprocessing.StandardScaler(),
            ooclearn.decomposition.PCA(2),
            ooclearn.preprocessing.MinMaxScaler(),
        )
        source = CountingBlocks(X, [1000, 1000])
        assert pipe.explain(source).n_passes == 2
        pipe.fit(source)
        assert source.passes == 2
        np.testing.assert_allclose(pipe.transform(X).min(axis=0), 0.0, atol=1e-12)

    def test_moments_behind_a_rotation_take_a_scatter(self):
        X, _ = table(1.0, classes=False)
        pipe = ooclearn.pipeline.make_pipeline(
            ooclearn.preprocessing.StandardScaler(),
            ooclearn.decomposition.PCA(2),
            ooclearn.preprocessing.StandardScaler(),
        )
        source = CountingBlocks(X, [1000, 1000])
        pipe.fit(source)
        assert source.passes == 1
        np.testing.assert_allclose(pipe.transform(X).std(axis=0), 1.0)
