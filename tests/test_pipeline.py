"""Pipelines: planned as a whole where they can be, fitted step by step where they must."""

from __future__ import annotations

from contextlib import nullcontext
from html import escape

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.model_selection import KFold
from sklearn.pipeline import FeatureUnion
from sklearn.pipeline import Pipeline as SklearnPipeline
from sklearn.pipeline import make_pipeline as make_sklearn_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    PolynomialFeatures,
    QuantileTransformer,
    RobustScaler,
    TargetEncoder,
)
from sklearn.preprocessing import Normalizer as SklearnNormalizer
from sklearn.preprocessing import StandardScaler as SklearnScaler
from threadpoolctl import threadpool_limits

import ooclearn
from ooclearn import Incremental, Pipeline, make_pipeline
from ooclearn.exceptions import BlockMemoryError, BusyError, DataError, NonFiniteError, PerformanceWarning
from ooclearn.linear_model import Ridge
from ooclearn.preprocessing import Binarizer, MaxAbsScaler, MinMaxScaler, Normalizer, StandardScaler
from ooclearn.testing import CountingBlocks
from pipelines import rows, spelled, state


@pytest.fixture(autouse=True)
def _one_thread_for_k_means():
    """Threads of OpenMP that wait for one another spin: where tests share the cores, most of their time."""
    with threadpool_limits(1, user_api="openmp"):
        yield


def classifier(**settings):
    return Incremental(SGDClassifier(random_state=0), **settings)


def in_order(**settings):
    return Incremental(SGDClassifier(shuffle=False), **settings)


def counted(values, lengths=(100, 0, 200)):
    return CountingBlocks(values, lengths)


class TestPasses:
    """A source that counts its reads shows what ``explain`` promised."""

    PIPES = pytest.mark.parametrize(
        ("make", "passes"),
        [
            (lambda: make_pipeline(StandardScaler()), 1),
            (lambda: make_pipeline(classifier()), 1),
            (lambda: make_pipeline(None, classifier(epochs=3)), 3),
            (lambda: make_pipeline(StandardScaler(), classifier()), 2),
            (lambda: make_pipeline("passthrough", StandardScaler(), classifier(classes=[0, 1])), 2),
            (lambda: make_pipeline(StandardScaler(), MaxAbsScaler(), classifier(epochs=2)), 3),
            (lambda: make_pipeline(Normalizer(), StandardScaler(), classifier()), 2),
            (lambda: make_pipeline(StandardScaler(), Normalizer(), classifier()), 2),
            (lambda: make_pipeline(SklearnNormalizer(), StandardScaler(), classifier()), 2),
            (lambda: make_pipeline(StandardScaler(), None, "passthrough", MinMaxScaler()), 1),
            (lambda: make_pipeline(StandardScaler(), MinMaxScaler(clip=True), MaxAbsScaler()), 2),
            (lambda: make_pipeline(StandardScaler(), Normalizer(), MaxAbsScaler()), 2),
            (lambda: make_pipeline(StandardScaler(), SklearnNormalizer(), MaxAbsScaler()), 2),
            (lambda: make_pipeline(SklearnNormalizer(), StandardScaler(), MaxAbsScaler()), 1),
            (lambda: Pipeline([("scale", StandardScaler()), ("rest", make_pipeline(MaxAbsScaler(), classifier()))]), 2),
            (lambda: Pipeline([("first", make_pipeline(StandardScaler())), ("rest", make_pipeline(classifier()))]), 2),
            (lambda: make_pipeline(Binarizer(), Incremental(SGDRegressor())), 1),
            (lambda: make_pipeline(StandardScaler(), Incremental(MiniBatchKMeans(3, random_state=0))), 2),
            (lambda: make_pipeline(Incremental(IncrementalPCA(2)), classifier()), 2),
            (lambda: make_pipeline("passthrough", StandardScaler(), "passthrough"), 1),
        ],
        ids=spelled,
    )

    @PIPES
    def test_as_promised(self, make, passes):
        X, y = rows()
        source, target = counted(X), counted(y, (300,))
        pipe = make()
        plan = pipe.explain(source, target)
        assert not source.reads
        assert not target.reads
        pipe.fit(source, target)
        assert source.passes == plan.n_passes == passes
        assert f"{passes} reading" in str(plan)
        assert "<table>" in plan._repr_html_()

    @PIPES
    def test_as_fitted_step_by_step(self, make, passes):
        """Bit for bit what scikit-learn's own pipeline makes of the same steps."""
        X, y = rows()
        planned = make().fit(X, y)
        own = SklearnPipeline(_flat(make().steps)).fit(X, y)
        ours = SklearnPipeline(_flat(planned.steps))
        if sum(isinstance(step, (StandardScaler, MaxAbsScaler)) for _, step in own.steps) < 2:
            assert state(ours) == state(own)
            return
        # Two scalings in a row become one, with roundings of its own.
        fitted = [
            [getattr(step, "estimator_", step) for _, step in pipe.steps if step not in (None, "passthrough")]
            for pipe in (ours, own)
        ]
        for mine, other in zip(*fitted, strict=True):
            for name, value in vars(other).items():
                if isinstance(value, np.ndarray):
                    assert_allclose(getattr(mine, name), value, rtol=1e-12, atol=1e-14)

    def test_what_scikit_learns_pipeline_reads(self):
        X, y = rows()
        source = counted(X)
        make_sklearn_pipeline(StandardScaler(), classifier()).fit(source, y)
        assert source.passes == 2

    def test_memory_is_told(self):
        X, y = rows(2000)
        pipe = make_pipeline(StandardScaler(), classifier(block_rows=100))
        small, large = pipe.explain(X, y).memory, pipe.set_params(incremental__block_rows=2000).explain(X, y).memory
        assert 0 < small <= large

    def test_a_fit_step_by_step(self, tmp_path):
        X, y = rows()
        w = np.ones(300)
        for pipe, why, params in (
            (
                make_pipeline(PolynomialFeatures(), classifier()),
                "'polynomialfeatures' (PolynomialFeatures) does not",
                {},
            ),
            (make_pipeline(SimpleImputer(), RobustScaler(), classifier()), "'robustscaler' (RobustScaler) do not", {}),
            (make_pipeline(StandardScaler(), classifier(), memory=str(tmp_path)), "memory is set", {}),
            (make_pipeline(make_pipeline(PCA()), classifier()), "'pipeline' (Pipeline)", {}),
            (
                make_pipeline(StandardScaler(), classifier()),
                "different sample weights",
                {"standardscaler__sample_weight": w, "incremental__sample_weight": 2 * w},
            ),
        ):
            plan = pipe.explain(X, y, **params)
            assert why in plan.note
            assert plan.note in str(plan)
            assert escape(plan.note) in plan._repr_html_()
            assert {name for one in plan.passes for name, _ in one.answers} == {name for name, _ in pipe.steps}
            assert [one.reason == "" for one in plan.passes].count(True) == 1

    @pytest.mark.filterwarnings("ignore:step:ooclearn.exceptions.PerformanceWarning")
    @pytest.mark.parametrize(
        "steps",
        [
            [SimpleImputer(), StandardScaler(), classifier()],
            [StandardScaler(), RobustScaler(), classifier()],
            [StandardScaler(), MaxAbsScaler(), SimpleImputer(), Ridge()],
            [StandardScaler(), FunctionTransformer(), RobustScaler()],
        ],
        ids=lambda steps: "-".join(type(one).__name__ for one in steps),
    )
    def test_a_fit_step_by_step_reads_what_the_plan_says(self, steps):
        X, y = rows()
        source = counted(X)
        pipe = make_pipeline(*map(clone, steps))
        plan = pipe.explain(source, y)
        assert source.passes == 0
        pipe.fit(source, y)
        assert source.passes == plan.n_passes


def _flat(steps):
    flat = []
    for name, step in steps:
        flat += [(f"{name}_{a}", b) for a, b in _flat(step.steps)] if isinstance(step, Pipeline) else [(name, step)]
    return flat


class TestEveryContainer:
    @pytest.mark.parametrize("make", [make_pipeline, make_sklearn_pipeline], ids=["ours", "scikit-learn's"])
    def test_the_articles_pipeline(self, make, backend):
        X, y = rows()
        expected = make_sklearn_pipeline(StandardScaler(), in_order()).fit(X, y)
        pipe = make(StandardScaler(), in_order()).fit(backend.make(X), backend.make(y))
        tolerance = 1e-9 if backend.rounding < 1e-10 else 1e-2
        assert_allclose(pipe[-1].coef_, expected[-1].coef_, rtol=tolerance, atol=tolerance)
        predicted = pipe.predict(backend.make(X))
        assert np.mean(backend.back(predicted) == expected.predict(X)) > 0.99
        assert_allclose(pipe.score(backend.make(X), backend.make(y)), expected.score(X, y), atol=0.01)
        decision = backend.back(pipe.decision_function(backend.make(X)))
        assert_allclose(decision, expected.decision_function(X), rtol=10 * tolerance, atol=10 * tolerance)

    @pytest.mark.parametrize("make", [make_pipeline, make_sklearn_pipeline], ids=["ours", "scikit-learn's"])
    def test_transformers(self, make, backend):
        X, _ = rows()
        pipe = make(StandardScaler(), MinMaxScaler()).fit(backend.make(X))
        out = pipe.transform(backend.make(X))
        expected = make_sklearn_pipeline(StandardScaler(), MinMaxScaler()).fit_transform(X)
        tolerance = backend.within(100)
        assert_allclose(backend.back(out), expected, atol=tolerance)
        assert_allclose(backend.back(pipe.inverse_transform(out)), X, atol=100 * tolerance)
        assert_allclose(
            backend.back(make(StandardScaler(), MinMaxScaler()).fit_transform(backend.make(X))),
            expected,
            atol=tolerance,
        )

    def test_nothing_is_read_until_it_is_asked_for(self):
        X, y = rows()
        source = counted(X)
        pipe = make_pipeline(StandardScaler(), PolynomialFeatures(), LogisticRegression())
        pipe.fit(X, y)
        expected = pipe.predict(X), pipe.predict_proba(X)
        results = pipe.predict(source), pipe.predict_proba(source)
        assert not source.reads
        for got, wanted in zip(results, expected, strict=True):
            assert_allclose(got.to_numpy(), wanted, rtol=1e-9)
        assert source.passes == 2


class TestForeignSteps:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: [StandardScaler(), PolynomialFeatures(2), in_order()],
            lambda: [QuantileTransformer(n_quantiles=20), in_order()],
            lambda: [StandardScaler(), PCA(2), MinMaxScaler(), LogisticRegression()],
            lambda: [StandardScaler(), LogisticRegression()],
            lambda: [SklearnScaler(), MaxAbsScaler(), RandomForestClassifier(5, random_state=0)],
            lambda: [make_pipeline(StandardScaler(), PCA(2)), in_order()],
            lambda: ["passthrough", make_sklearn_pipeline(StandardScaler(), PCA(2)), in_order()],
            lambda: [FeatureUnion([("a", StandardScaler()), ("b", PCA(1))]), LogisticRegression()],
        ],
        ids=spelled,
    )
    def test_fitted_in_memory(self, make, host_backend):
        X, y = rows()
        expected = make_sklearn_pipeline(*make()).fit(X, y)
        pipe = make_pipeline(*make())
        warned = (
            pytest.warns(PerformanceWarning, match="is not of this library and is fitted in memory")
            if host_backend.lazy
            else nullcontext()
        )
        with warned:
            pipe.fit(host_backend.make(X), host_backend.make(y))
        result = pipe.predict(host_backend.make(X))
        assert np.mean(host_backend.back(result) == expected.predict(X)) >= 0.99
        assert_allclose(pipe.score(host_backend.make(X), host_backend.make(y)), expected.score(X, y), atol=0.01)

    def test_up_to_the_first_of_them_it_is_lazy(self):
        X, y = rows()
        source = counted(X)
        with pytest.warns(PerformanceWarning) as caught:
            make_pipeline(StandardScaler(), PolynomialFeatures(), QuantileTransformer(n_quantiles=9), classifier()).fit(
                source, y
            )
        assert len(caught) == 1
        assert caught[0].filename == __file__
        # Once for the scaler, once to be read into memory.
        assert source.passes == 2

    def test_they_keep_to_the_memory_limit(self):
        X, y = rows()
        pipe = make_pipeline(StandardScaler(), LogisticRegression())
        with (
            ooclearn.config_context(memory_limit=5_000),
            pytest.warns(PerformanceWarning),
            pytest.raises(BlockMemoryError),
        ):
            pipe.fit(counted(X), y)
        assert not hasattr(pipe[0], "mean_"), "nothing half done"

    def test_frozen_and_stateless_ones_are_planned(self, host_backend):
        X, y = rows()
        pca = PCA(3).fit(SklearnScaler().fit_transform(X))
        steps = [StandardScaler(), FrozenEstimator(pca), FunctionTransformer(np.arcsinh), in_order()]
        pipe = make_pipeline(*steps)
        source = counted(X)
        assert pipe.explain(source, y).n_passes == 2
        pipe.fit(source, y)
        assert source.passes == 2
        expected = make_sklearn_pipeline(*[clone(step) for step in steps]).fit(X, y)
        assert_allclose(pipe[-1].coef_, expected[-1].coef_, rtol=1e-9)
        pipe.fit(host_backend.make(X), host_backend.make(y))
        assert_allclose(pipe[-1].coef_, expected[-1].coef_, rtol=1e-9)
        assert_array_equal(host_backend.back(pipe.predict(host_backend.make(X))), expected.predict(X))
        assert pipe[1].estimator is pca

    def test_frozen_ones_of_ours_are_not_fitted_again(self):
        X, y = rows()
        scaler = StandardScaler().fit(X + 100)
        mean = scaler.mean_.copy()
        pipe = make_pipeline(FrozenEstimator(scaler), classifier())
        assert pipe.explain(X, y).n_passes == 1
        pipe.fit(X, y)
        assert_array_equal(scaler.mean_, mean)
        assert_array_equal(pipe[0].mean_, mean)

    def test_a_frozen_classifier_at_the_end(self):
        X, y = rows()
        forest = RandomForestClassifier(5, random_state=0).fit(SklearnScaler().fit_transform(X), y)
        source = counted(X)
        pipe = make_pipeline(StandardScaler(), FrozenEstimator(forest)).fit(source, y)
        assert source.passes == 1
        assert_array_equal(pipe.predict(source).to_numpy(), forest.predict(SklearnScaler().fit_transform(X)))
        assert pipe.score(source, y) == forest.score(SklearnScaler().fit_transform(X), y)

    def test_those_whose_fit_transform_is_more_than_both(self):
        """A TargetEncoder encodes the rows it is fitted on across folds."""
        rng = np.random.default_rng(0)
        X, y = rng.integers(0, 5, (200, 2)).astype(float), rng.integers(0, 2, 200)

        def make(kind):
            folds = KFold(3, shuffle=True, random_state=0)
            return kind([("encode", TargetEncoder(cv=folds)), ("scale", MinMaxScaler())])

        expected = make(SklearnPipeline).fit_transform(X, y)
        assert_allclose(make(Pipeline).fit_transform(X, y), expected, atol=1e-12)
        with pytest.warns(PerformanceWarning):
            staged = make(Pipeline).fit(counted(X, (200,)), y)
        assert_allclose(staged[1].data_min_, make(SklearnPipeline).fit(X, y)[1].data_min_)

    def test_the_last_may_have_no_transform(self):
        X, _ = rows()
        pipe = make_pipeline(StandardScaler(), KMeans(3, n_init=1, random_state=0))
        expected = make_sklearn_pipeline(StandardScaler(), KMeans(3, n_init=1, random_state=0))
        assert_array_equal(pipe.fit_predict(X), expected.fit_predict(X))
        with pytest.warns(PerformanceWarning):
            assert_array_equal(pipe.fit_predict(ooclearn.scan(X, block_rows=90)).to_numpy(), expected.fit_predict(X))


class TestTexts:
    def test_first_step(self, host_backend):
        texts = np.array([f"w{i % 7} v{i % 3}" for i in range(120)])
        y = (np.arange(120) % 7 > 3).astype(int)

        def make(kind):
            return kind(HashingVectorizer(n_features=64), in_order(epochs=5))

        expected = make(make_sklearn_pipeline).fit(list(texts), y)
        pipe = make(make_pipeline).fit(host_backend.make(texts), host_backend.make(y))
        assert_allclose(pipe[-1].coef_, expected[-1].coef_, rtol=1e-9)
        result = pipe.predict(host_backend.make(texts))
        assert_array_equal(np.asarray(result), expected.predict(list(texts)))
        assert pipe.score(host_backend.make(texts), host_backend.make(y)) == expected.score(list(texts), y)

    def test_sparse_rows_cannot_be_centred(self):
        pipe = make_pipeline(HashingVectorizer(n_features=8), StandardScaler(), classifier())
        with pytest.raises((DataError, TypeError, ValueError), match="[Ss]parse"):
            pipe.fit(["a b", "c d"] * 20, [0, 1] * 20)


class TestNothingHalfDone:
    @pytest.mark.parametrize("kind", ["planned", "staged", "by steps"])
    @pytest.mark.parametrize("before", ["unfitted", "fitted"])
    def test_a_fit_that_fails_late(self, kind, before, leaves_nothing):
        X, y = rows()
        steps = [StandardScaler(), classifier(block_rows=50)]
        if kind != "planned":
            steps.insert(1, PolynomialFeatures())
        pipe = make_pipeline(*steps)
        if before == "fitted":
            pipe.fit(X, y)
        kept = state(pipe)
        bad = y.astype(float)
        bad[-1] = np.inf
        container = ooclearn.scan(X, block_rows=70) if kind == "staged" else X
        with (
            pytest.warns(PerformanceWarning) if kind == "staged" else nullcontext(),
            pytest.raises(NonFiniteError, match="row 299"),
        ):
            pipe.fit(container, bad)
        assert state(pipe) == kept

    def test_missing_values_behind_a_scaler(self, host_backend):
        X, y = rows()
        X[123, 2] = np.nan
        with pytest.raises(NonFiniteError, match="X contains NaN.*row 123, column 2"):
            make_pipeline(StandardScaler(), classifier()).fit(host_backend.make(X), y)

    def test_two_threads(self):
        import threading

        X, y = rows()
        entered, leave = threading.Event(), threading.Event()

        class Slow:
            def partial_fit(self, X, y=None):
                entered.set()
                assert leave.wait(30)

            def __deepcopy__(self, memo):
                return self

        pipe = make_pipeline(StandardScaler(), Incremental(Slow()))
        thread = threading.Thread(target=pipe.fit, args=(X, y))
        thread.start()
        assert entered.wait(30)
        try:
            with pytest.raises(BusyError):
                pipe.fit(X, y)
            with pytest.raises(BusyError):
                pipe[0].fit(X)
        finally:
            leave.set()
            thread.join()
