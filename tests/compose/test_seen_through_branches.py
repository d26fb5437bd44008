"""Statistics are seen through branches that are not fitted yet; what does not say what it reads is fitted in memory."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse
import sklearn.compose
import sklearn.decomposition
import sklearn.linear_model
import sklearn.pipeline
import sklearn.preprocessing
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, QuantileTransformer

import ooclearn
import ooclearn.compose
import ooclearn.decomposition
import ooclearn.linear_model
import ooclearn.pipeline
import ooclearn.preprocessing
from branches import N, both, counted, rows
from ooclearn import Incremental, make_column_transformer, make_pipeline, make_union
from ooclearn.exceptions import PerformanceWarning
from ooclearn.preprocessing import MaxAbsScaler, MinMaxScaler, Normalizer, StandardScaler

# Of what is made in the conftest beside this, all that has something to fit.
NAMES = (
    "halves",
    "mask, passthrough, drop",
    "remainder",
    "remainder passes, weights",
    "selector",
    "pipelines in it",
    "union",
    "union with axes",
)


def ridge_behind(parallel):
    return lambda of: of.pipeline.make_pipeline(parallel(of), of.linear_model.Ridge())


class TestSeenThrough:
    """Statistics of what comes below are seen through branches that are not fitted yet."""

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("offset", [0.0, 1e4])
    def test_one_reading(self, name, offset, assert_learned_alike, parallel):
        X, y = rows(offset)
        source, target = counted(X), counted(y)
        ours, theirs = both(ridge_behind(parallel[name]))
        plan = ours.explain(source, target)
        assert not source.reads
        ours.fit(source, target)
        assert source.passes == plan.n_passes == 1
        # Axes beside the columns that they are made of: a regression that magnifies scikit-learn's roundings.
        assert_learned_alike(ours, theirs.fit(X, y), rtol=1e-7 if "axes" in name and offset else 1e-9)
        assert_allclose(ours.predict(source).to_numpy(), theirs.predict(X), rtol=1e-8, atol=1e-8)

    def test_two_scalers_on_halves_and_ridge_on_every_container(self, backend, parallel):
        if backend.rounding > 1e-10:
            pytest.skip("compared with float64")
        X, y = rows(1e3)
        ours, theirs = both(
            lambda of: of.pipeline.make_pipeline(
                parallel["halves"](of), of.linear_model.RidgeCV(alphas=(0.1, 1.0, 10.0), cv=5)
            )
        )
        given = backend.make(X)
        ours.fit(given, y)
        theirs.fit(X, y)
        assert ours.explain(given, y).n_passes == 1
        assert ours[-1].alpha_ == theirs[-1].alpha_
        assert_allclose(ours[-1].coef_, theirs[-1].coef_, rtol=1e-8)
        assert_allclose(backend.back(ours.predict(given)), theirs.predict(X), rtol=1e-8)

    def test_axes_behind_scalers(self, assert_learned_alike, parallel):
        source = counted(rows()[0])
        ours, theirs = both(
            lambda of: of.pipeline.make_pipeline(
                parallel["halves"](of), of.decomposition.PCA(3, svd_solver="covariance_eigh")
            )
        )
        assert ours.explain(source).n_passes == 1
        ours.fit(source)
        assert source.passes == 1
        assert_learned_alike(ours, theirs.fit(rows()[0]), rtol=1e-8)

    def test_a_scaler_above_and_one_below(self, assert_learned_alike, parallel):
        X, y = rows()
        source = counted(X)
        ours, theirs = both(
            lambda of: of.pipeline.make_pipeline(
                of.preprocessing.MaxAbsScaler(),
                parallel["mask, passthrough, drop"](of),
                of.preprocessing.StandardScaler(),
                of.linear_model.Ridge(),
            )
        )
        ours.fit(source, y)
        assert source.passes == 1
        assert_learned_alike(ours, theirs.fit(X, y))

    def test_missing_values_pass_where_they_may(self, assert_learned_alike):
        """Moments are not asked as a scatter of all columns, which would refuse what the scaler takes."""
        X, _ = rows()
        X[5, 4] = np.nan
        ours, theirs = both(
            lambda of: of.pipeline.make_pipeline(
                of.compose.ColumnTransformer(
                    [
                        ("axes", of.decomposition.PCA(2, svd_solver="covariance_eigh"), [0, 1, 2]),
                        ("std", of.preprocessing.StandardScaler(), [3, 4]),
                    ]
                ),
                of.preprocessing.StandardScaler(),
            )
        )
        source = counted(X)
        assert ours.explain(source).n_passes == 2
        ours.fit(source)
        assert source.passes == 2
        assert_learned_alike(ours, theirs.fit(X), rtol=1e-8)
        assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-8)

    def test_values_of_columns_that_are_dropped_do_no_harm(self, parallel):
        X, y = rows()
        X[3, 2] = np.inf
        X[4, 2] = np.nan
        ours = make_pipeline(parallel["mask, passthrough, drop"](ooclearn), ooclearn.linear_model.Ridge())
        assert np.isfinite(ours.fit(counted(X), y).predict(X)).all()

    @pytest.mark.parametrize(
        ("first", "passes"),
        [
            (lambda: make_union(StandardScaler(), MinMaxScaler()), 2),
            (lambda: make_column_transformer((Normalizer(), [0, 1]), (StandardScaler(), [2, 3])), 2),
            (lambda: make_column_transformer((make_pipeline(Normalizer(), StandardScaler()), [0, 1])), 2),
            (lambda: make_column_transformer((FunctionTransformer(np.abs), [0, 1]), remainder="passthrough"), 1),
            (lambda: make_column_transformer((MinMaxScaler(clip=True), [0]), (StandardScaler(), [1])), 2),
        ],
        ids=["scalers", "rows and a scaler", "a pipeline", "a function", "clipped"],
    )
    def test_a_feed_below(self, first, passes):
        X, _ = rows()
        y = (X[:, 0] > X[:, 0].mean()).astype(int)
        source = counted(X)
        pipe = make_pipeline(first(), Incremental(SGDClassifier(shuffle=False)))
        plan = pipe.explain(source, y)
        assert not source.reads
        pipe.fit(source, y)
        assert source.passes == plan.n_passes == passes
        alone = first().fit(X)
        fed = Incremental(SGDClassifier(shuffle=False)).fit(alone.transform(X), y)
        assert_allclose(pipe[-1].coef_, fed.coef_, rtol=1e-9)

    def test_a_barrier_is_named(self):
        pipe = make_pipeline(
            make_column_transformer((MinMaxScaler(clip=True), [0]), (StandardScaler(), [1])), MaxAbsScaler()
        )
        text = str(pipe.explain(counted(rows()[0])))
        assert "maxabsscaler gets its rows through columntransformer (there columntransformer__minmaxscaler" in text
        assert "through which Extrema cannot be seen" in text


class TestForeign:
    """What does not say what it reads is fitted in memory, on its own columns."""

    def test_a_step_of_another_library(self, backend, assert_learned_alike):
        if backend.rounding > 1e-10:
            pytest.skip("quantiles of float32 are others")
        X, y = rows()
        given = backend.make(X)
        ours, theirs = both(
            lambda of: of.compose.make_column_transformer(
                (QuantileTransformer(n_quantiles=20), [1]), (of.preprocessing.StandardScaler(), [0, 2])
            )
        )
        if backend.lazy:
            with pytest.warns(PerformanceWarning, match="'quantiletransformer'"):
                ours.fit(given)
        else:
            ours.fit(given)
        expected = theirs.fit_transform(X)
        assert_allclose(backend.back(ours.transform(given)), expected, rtol=1e-9, atol=1e-12)
        assert_learned_alike(ours, theirs)
        plan = ours.explain(given)
        assert plan.note.startswith("fitted one by one, since 'quantiletransformer' (QuantileTransformer) does not say")
        assert plan.passes[0].answers == (("quantiletransformer", "QuantileTransformer.fit, all rows in memory"),)
        pipe = make_pipeline(clone(ours), ooclearn.linear_model.Ridge())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PerformanceWarning)
            pipe.fit(given, y)
        assert_allclose(pipe[-1].coef_, sklearn.linear_model.Ridge().fit(expected, y).coef_, rtol=1e-8)

    def test_a_union_with_one(self):
        X, _ = rows()
        ours, theirs = both(
            lambda of: of.pipeline.make_union(QuantileTransformer(n_quantiles=20), of.preprocessing.StandardScaler())
        )
        source = counted(X)
        with pytest.warns(PerformanceWarning):
            ours.fit(source)
        assert_allclose(ours.transform(source).to_numpy(), theirs.fit_transform(X), rtol=1e-9)
        assert isinstance(ours.transformer_list[0][1], QuantileTransformer)

    def test_fitted_already_costs_nothing(self):
        X, y = rows()
        source = counted(X)
        scaler = FrozenEstimator(StandardScaler().fit(X[:, :2]))
        pipe = make_pipeline(
            make_column_transformer((scaler, [0, 1]), (StandardScaler(), [2])), ooclearn.linear_model.Ridge()
        )
        assert pipe.explain(source, y).n_passes == 1
        pipe.fit(source, y)
        assert source.passes == 1

    def test_columns_behind_a_step_whose_columns_are_not_known(self):
        X, y = rows()
        ours, theirs = both(
            lambda of: of.pipeline.make_pipeline(
                of.decomposition.PCA(0.99, svd_solver="covariance_eigh"),
                of.compose.make_column_transformer((of.preprocessing.StandardScaler(), [0]), remainder="passthrough"),
                of.linear_model.Ridge(),
            )
        )
        source = counted(X)
        plan = ours.explain(source, y)
        assert "known only after a step above" in plan.note
        assert source.passes == 0
        assert [name for one in plan.passes for name, _ in one.answers] == ["pca", "columntransformer", "ridge"]
        assert_allclose(ours.fit(source, y).predict(X), theirs.fit(X, y).predict(X), rtol=1e-8)

    def test_sparse_results(self):
        X = np.random.default_rng(0).integers(0, 30, (N, 3)).astype(float)
        ours, theirs = both(
            lambda of: of.compose.make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore"), [0, 1]), (of.preprocessing.MaxAbsScaler(), [2])
            )
        )
        source = counted(X)
        with pytest.warns(PerformanceWarning):
            ours.fit(source)
        expected = theirs.fit_transform(X)
        assert ours.sparse_output_ is theirs.sparse_output_ is True
        got = scipy.sparse.vstack(list(ours.transform(source)))
        assert_allclose(got.toarray(), expected.toarray())
        dense = clone(ours).set_params(sparse_threshold=0)
        with pytest.warns(PerformanceWarning):
            dense.fit(source)
        assert_allclose(dense.transform(source).to_numpy(), expected.toarray())


@pytest.mark.filterwarnings("ignore::ooclearn.exceptions.PerformanceWarning")
@pytest.mark.parametrize("foreign", [1, 2])
def test_branches_of_another_library_read_what_the_plan_says(foreign):
    branches = [(QuantileTransformer(n_quantiles=20), [1]), (QuantileTransformer(n_quantiles=9), [3])][:foreign]
    source = counted(rows()[0])
    made = make_column_transformer(*branches, (StandardScaler(), [0, 2]), (MaxAbsScaler(), [4]))
    plan = made.explain(source)
    assert source.passes == 0
    made.fit(source)
    assert source.passes == plan.n_passes == foreign + 1
