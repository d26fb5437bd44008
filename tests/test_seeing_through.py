"""Pipelines whose steps are seen through: one reading, and what each step learns is as if fitted alone."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import sklearn.compose
import sklearn.decomposition
import sklearn.discriminant_analysis
import sklearn.feature_selection
import sklearn.linear_model
import sklearn.naive_bayes
import sklearn.pipeline
import sklearn.preprocessing
from hypothesis import given, settings
from hypothesis import strategies as st

import ooclearn
import ooclearn.compose
import ooclearn.decomposition
import ooclearn.discriminant_analysis
import ooclearn.exceptions
import ooclearn.feature_selection
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
    "MinMaxScaler, MultinomialNB": (
        lambda of: [of.preprocessing.MinMaxScaler(), of.naive_bayes.MultinomialNB()],
        True,
    ),
    "MaxAbsScaler, MinMaxScaler, ComplementNB": (
        lambda of: [
            of.preprocessing.MaxAbsScaler(),
            of.preprocessing.MinMaxScaler((0.5, 2.0)),
            of.naive_bayes.ComplementNB(),
        ],
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
    if not any(isinstance(step, ooclearn.preprocessing.StandardScaler) for step in make(ooclearn)):
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


def counts_behind(model):
    return ooclearn.pipeline.make_pipeline(ooclearn.preprocessing.MinMaxScaler(), model)


class TestCounts:
    """Sums by class behind a map of each column follow from means by class; extrema tell whether they are of counts."""

    @pytest.mark.parametrize("offset", [0.0, 1e4])
    def test_scores_of_counts(self, offset):
        X, y = table(offset, classes=True)
        X[:, 2] = 7.3
        source = CountingBlocks(X, [300, 0, 700, 1, 999])
        pipe = counts_behind(ooclearn.feature_selection.SelectKBest(ooclearn.feature_selection.chi2, k=2))
        assert pipe.explain(source, y).n_passes == 1
        pipe.fit(source, y)
        assert source.passes == 1
        theirs = sklearn.pipeline.make_pipeline(
            sklearn.preprocessing.MinMaxScaler(),
            sklearn.feature_selection.SelectKBest(sklearn.feature_selection.chi2, k=2),
        )
        with np.errstate(invalid="ignore"):
            theirs.fit(X, y)
        np.testing.assert_allclose(pipe[-1].scores_, theirs[-1].scores_, rtol=1e-9)
        assert np.isnan(pipe[-1].scores_[2])  # a constant column is one of zeros, to the last bit
        np.testing.assert_allclose(pipe.transform(source).to_numpy(), theirs.transform(X), rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("offset", [1e6, 1e8])
    def test_far_from_zero(self, offset):
        X, y = table(offset, classes=True)
        wide = X.astype(np.longdouble)
        Z = (wide - wide.min(axis=0)) / (wide.max(axis=0) - wide.min(axis=0))
        truth = np.stack([Z[y == label].sum(axis=0) for label in np.unique(y)]).astype(float)
        blocks = ooclearn.scan(X).recut([300, 0, 700, 1, 999])
        ours = counts_behind(ooclearn.naive_bayes.MultinomialNB()).fit(blocks, y)
        np.testing.assert_allclose(ours[-1].feature_count_, truth, rtol=1e-13)

    @given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, -3.3, 1e5, 1e9]), st.booleans())
    @settings(max_examples=60, deadline=None)
    def test_no_rounding_is_left_where_there_is_nothing(self, seed, offset, weighted):
        """A class that has the least value of a column alone has the sum 0, as where each row is scaled."""
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 200))
        X = rng.integers(0, 3, (n, 4)) * rng.choice([1.0, 0.1, 1e-3], 4) + offset
        y = rng.integers(0, 3, n)
        X[y == 1] = X.min(axis=0)
        w = rng.random(n) + 0.1 if weighted else None
        params = {} if w is None else {"multinomialnb__sample_weight": w}
        model = ooclearn.naive_bayes.MultinomialNB()
        blocks = ooclearn.scan(X).recut([n // 3, n - n // 3])
        pipe = counts_behind(model).fit(blocks, y, **params)
        scaled = pipe[0].transform(X)
        alone = ooclearn.naive_bayes.MultinomialNB().fit(scaled, y, w)
        assert (pipe[-1].feature_count_ >= 0).all()
        np.testing.assert_array_equal(pipe[-1].feature_count_ == 0, alone.feature_count_ == 0)
        np.testing.assert_allclose(pipe[-1].feature_count_, alone.feature_count_, rtol=1e-9)

    def test_what_is_no_count_is_refused_with_the_column(self):
        X, y = table(1.0, classes=True)
        X[:, :2] = 1.0
        scaled = ooclearn.pipeline.make_pipeline(
            ooclearn.preprocessing.StandardScaler(), ooclearn.naive_bayes.MultinomialNB()
        )
        with pytest.raises(ooclearn.exceptions.DataError, match="in 3 of its 5 columns, behind the steps") as caught:
            scaled.fit(X, y)
        assert caught.value.column == 2
        assert not hasattr(scaled[0], "mean_")
        X[7, 3] = np.nan
        with pytest.raises(ooclearn.exceptions.NonFiniteError) as caught:
            counts_behind(ooclearn.naive_bayes.MultinomialNB()).fit(X, y)
        assert (caught.value.rows, caught.value.column) == ((7, 8), 3)

    @pytest.mark.parametrize(
        ("scaler", "model"),
        [
            (ooclearn.preprocessing.MinMaxScaler(clip=True), ooclearn.naive_bayes.MultinomialNB()),
            (ooclearn.preprocessing.MinMaxScaler(), ooclearn.naive_bayes.BernoulliNB(binarize=0.5)),
        ],
        ids=["clipped", "above a threshold"],
    )
    def test_barriers(self, scaler, model):
        X, y = table(1.0, classes=True)
        source = CountingBlocks(X, [1000, 1000])
        pipe = ooclearn.pipeline.make_pipeline(scaler, model)
        assert pipe.explain(source, y).n_passes == 2
        pipe.fit(source, y)
        assert source.passes == 2

    def test_sparse_rows(self):
        X = scipy.sparse.random(200, 6, 0.2, format="csr", random_state=np.random.default_rng(0))
        y = np.arange(200) % 3
        ours, theirs = (
            of.pipeline.make_pipeline(of.preprocessing.MaxAbsScaler(), of.naive_bayes.MultinomialNB())
            for of in (ooclearn, sklearn)
        )
        assert ours.explain(X, y).n_passes == 1
        np.testing.assert_allclose(ours.fit(X, y)[-1].feature_count_, theirs.fit(X, y)[-1].feature_count_, rtol=1e-12)

    def test_behind_branches(self):
        X, y = table(1.0, classes=True)
        source = CountingBlocks(X, [1000, 1000])
        ours, theirs = (
            of.pipeline.make_pipeline(
                of.compose.make_column_transformer(
                    (of.preprocessing.MinMaxScaler(), [3, 0]), (of.preprocessing.MinMaxScaler((1, 2)), [1])
                ),
                of.naive_bayes.MultinomialNB(),
            )
            for of in (ooclearn, sklearn)
        )
        assert ours.explain(source, y).n_passes == 1
        ours.fit(source, y)
        assert source.passes == 1
        np.testing.assert_allclose(ours[-1].feature_count_, theirs.fit(X, y)[-1].feature_count_, rtol=1e-10)
