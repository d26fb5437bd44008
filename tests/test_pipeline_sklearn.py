"""What scikit-learn's pipelines can do, ours can: steps, parameters, columns, memory, data frames, checks."""

from __future__ import annotations

import pickle
from typing import ClassVar

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, TransformerMixin, clone, is_classifier, is_regressor
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.pipeline import FeatureUnion
from sklearn.pipeline import make_pipeline as make_sklearn_pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, QuantileTransformer
from sklearn.preprocessing import Normalizer as SklearnNormalizer
from sklearn.preprocessing import StandardScaler as SklearnScaler
from threadpoolctl import threadpool_limits

import ooclearn
from ooclearn import Incremental, ParallelPostFit, Pipeline, make_pipeline
from ooclearn.exceptions import DataError, PerformanceWarning
from ooclearn.linear_model import Ridge
from ooclearn.preprocessing import MinMaxScaler, StandardScaler
from ooclearn.testing import check_estimator
from ooclearn.testing.turned import CONTAINERS
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


class CountedScaler(SklearnScaler):
    fits: ClassVar = []

    def fit(self, X, y=None, sample_weight=None):
        self.fits.append(len(X))
        return super().fit(X, y, sample_weight)


class TestOfScikitLearn:
    """What scikit-learn's pipelines can do, ours can."""

    def test_steps(self):
        X, y = rows()
        pipe = Pipeline([("scale", StandardScaler()), ("learn", classifier())])
        pipe.fit(X, y)
        assert pipe["scale"] is pipe.named_steps.scale is pipe[0]
        assert isinstance(pipe[:-1], Pipeline)
        assert_allclose(pipe[:-1].transform(X), SklearnScaler().fit_transform(X), atol=1e-12)
        pipe.set_params(scale=None).fit(X, y)
        assert_array_equal(pipe[-1].coef_, classifier().fit(X, y).coef_)
        assert len(pipe) == 2

    def test_steps_that_are_none(self):
        X, y = rows()
        with pytest.raises(TypeError, match="implement fit and transform"):
            Pipeline([("a", classifier()), ("b", classifier())]).fit(X, y)
        with pytest.raises(ValueError, match="not unique"):
            Pipeline([("a", StandardScaler()), ("a", classifier())]).fit(X, y)
        with pytest.raises(ValueError, match="The 'memory' parameter of Pipeline must be"):
            make_pipeline(StandardScaler(), memory=3).fit(X, y)
        with pytest.raises(ValueError, match="The 'with_mean' parameter of StandardScaler must be"):
            make_pipeline(StandardScaler(with_mean="yes"), classifier()).fit(X, y)

    def test_steps_are_fitted_in_place(self):
        X, y = rows()
        scaler, inner = StandardScaler(), SGDClassifier()
        pipe = make_pipeline(scaler, Incremental(inner)).fit(X, y)
        assert pipe[0] is scaler
        assert hasattr(scaler, "mean_")
        assert pipe[-1].estimator is inner
        staged = make_pipeline(scaler, PolynomialFeatures(), Incremental(inner))
        assert staged.fit(X, y)[0] is scaler

    def test_parameters_of_fit(self):
        X, y = rows()
        w = np.random.default_rng(0).uniform(0.1, 3, 300)
        pipe = make_pipeline(StandardScaler(), in_order())
        pipe.fit(X, y, incremental__sample_weight=w)
        scaled = SklearnScaler().fit_transform(X)
        alone = SGDClassifier(shuffle=False, max_iter=1, tol=None)
        assert_allclose(pipe[-1].coef_, alone.fit(scaled, y, sample_weight=w).coef_, rtol=1e-9)
        pipe.fit(X, y, standardscaler__sample_weight=w)
        weighted = SklearnScaler().fit(X, sample_weight=w).transform(X)
        assert_allclose(pipe[-1].coef_, alone.fit(weighted, y).coef_, rtol=1e-9)
        pipe.fit(X, y, standardscaler__sample_weight=w, incremental__sample_weight=w)
        assert_allclose(pipe[-1].coef_, alone.fit(weighted, y, sample_weight=w).coef_, rtol=1e-9)
        pipe.fit(X, y, standardscaler__sample_weight=w, incremental__sample_weight=3 * w)
        assert_allclose(pipe[-1].coef_, alone.fit(weighted, y, sample_weight=3 * w).coef_, rtol=1e-9)
        nested = Pipeline([("first", StandardScaler()), ("rest", make_pipeline(in_order()))])
        nested.fit(X, y, rest__incremental__sample_weight=w)
        assert_allclose(nested[-1][-1].coef_, alone.fit(scaled, y, sample_weight=w).coef_, rtol=1e-9)
        for name, error, match in (
            ("sample_weight", ValueError, "Pipeline.fit does not accept the sample_weight parameter"),
            ("nobody__sample_weight", ValueError, "does not accept the nobody__sample_weight parameter"),
            ("standardscaler__gamma", TypeError, "gamma"),
            ("incremental__gamma", TypeError, "SGDClassifier.partial_fit takes no 'gamma'"),
        ):
            with pytest.raises(error, match=match):
                pipe.fit(X, y, **{name: w})
        frozen = make_pipeline(FunctionTransformer(), classifier())
        with pytest.raises(TypeError, match="step 'functiontransformer' is not fitted and takes no parameters"):
            frozen.fit(X, y, functiontransformer__sample_weight=w)

    def test_different_weights_on_blocks(self, host_backend):
        X, y = rows()
        w = np.random.default_rng(0).uniform(0.1, 3, 300)
        given = {"standardscaler__sample_weight": w, "incremental__sample_weight": w**2}
        expected = make_sklearn_pipeline(StandardScaler(), in_order()).fit(X, y, **given)
        pipe = make_pipeline(StandardScaler(), in_order())
        pipe.fit(
            host_backend.make(X), host_backend.make(y), **{name: host_backend.make(v) for name, v in given.items()}
        )
        assert_allclose(pipe[-1].coef_, expected[-1].coef_, rtol=1e-9)

    def test_memory(self, tmp_path):
        X, y = rows()
        CountedScaler.fits.clear()
        pipe = make_pipeline(CountedScaler(), classifier(), memory=str(tmp_path))
        for _ in range(2):
            pipe.fit(X, y)
        assert CountedScaler.fits == [300]
        assert_allclose(pipe[-1].coef_, make_pipeline(StandardScaler(), classifier()).fit(X, y)[-1].coef_, rtol=1e-9)

    def test_verbose(self, capsys):
        X, y = rows()
        make_pipeline(StandardScaler(), classifier(), verbose=True).fit(X, y)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2
        assert "pass 1: " in lines[0]
        assert "pass 2: SGDClassifier.partial_fit, shuffled" in lines[1]
        make_pipeline(PolynomialFeatures(), classifier(), verbose=True).fit(X, y)
        assert "Processing polynomialfeatures" in capsys.readouterr().out

    def test_names_of_columns(self):
        pd = pytest.importorskip("pandas", reason="pandas is not installed")
        X, y = rows()
        frame = pd.DataFrame(X, columns=list("abcd"))
        pipe = make_pipeline(StandardScaler(), MinMaxScaler(), classifier()).fit(frame, y)
        assert_array_equal(pipe.feature_names_in_, list("abcd"))
        assert pipe.n_features_in_ == 4
        assert_array_equal(pipe[:-1].get_feature_names_out(), list("abcd"))
        assert pipe.score(frame, y) == pipe.score(frame.assign(y=y), "y")
        with pytest.raises(ValueError, match="same order as they were in fit"):
            pipe.predict(frame[list("bacd")])
        alone = make_pipeline(classifier()).fit(frame, y)
        assert alone.score(frame, y) == classifier().fit(X, y).score(X, y)

    def test_data_frames_out(self):
        pd = pytest.importorskip("pandas", reason="pandas is not installed")
        X, y = rows()
        frame = pd.DataFrame(X, columns=list("abcd"), index=np.arange(300) + 7)
        pipe = make_pipeline(StandardScaler(), MinMaxScaler()).set_output(transform="pandas")
        out = pipe.fit(frame).transform(frame)
        assert list(out.columns) == list("abcd")
        assert_array_equal(out.index, frame.index)
        assert isinstance(pipe.fit_transform(frame), pd.DataFrame)
        with pytest.raises(DataError, match="the result is lazy"):
            pipe.transform(ooclearn.scan(X))
        whole = make_pipeline(StandardScaler(), classifier()).set_output(transform="pandas").fit(frame, y)
        assert_array_equal(whole.predict(frame), make_pipeline(StandardScaler(), classifier()).fit(X, y).predict(X))

    def test_column_transformer_of_our_scalers(self):
        pd = pytest.importorskip("pandas", reason="pandas is not installed")
        X, y = rows()
        frame = pd.DataFrame(X, columns=list("abcd"))
        ours = make_column_transformer((StandardScaler(), ["a", "b"]), (MinMaxScaler(), ["c"]), remainder="passthrough")
        theirs = make_column_transformer(
            (SklearnScaler(), ["a", "b"]), (MinMaxScaler(), ["c"]), remainder="passthrough"
        )
        assert_allclose(ours.fit_transform(frame), theirs.fit_transform(frame), atol=1e-12)
        pipe = make_pipeline(clone(ours), classifier()).fit(frame, y)
        assert pipe.score(frame, y) > 0.8
        assert_array_equal(pipe.predict(frame), pipe[-1].predict(pipe[0].transform(frame)))

    def test_feature_union_of_our_scalers(self):
        X, _ = rows()
        ours = FeatureUnion([("a", StandardScaler()), ("b", MinMaxScaler())]).fit(X)
        assert_allclose(ours.transform(X)[:, :4], SklearnScaler().fit_transform(X), atol=1e-12)

    def test_methods_are_there_where_the_last_step_has_them(self):
        X, y = rows()
        pipe = make_pipeline(StandardScaler(), classifier())
        own = make_sklearn_pipeline(StandardScaler(), classifier())
        scaling = make_pipeline(StandardScaler()), make_sklearn_pipeline(StandardScaler())
        nothing = make_pipeline(StandardScaler(), "passthrough"), make_sklearn_pipeline(StandardScaler(), "passthrough")
        for ours, theirs in ((pipe, own), scaling, nothing):
            for method in (
                "predict",
                "predict_proba",
                "decision_function",
                "transform",
                "inverse_transform",
                "score",
                "fit_transform",
                "fit_predict",
                "score_samples",
                "set_output",
            ):
                assert hasattr(ours, method) == hasattr(theirs, method), method
        assert is_classifier(pipe)
        assert is_regressor(make_pipeline(StandardScaler(), Incremental(SGDRegressor())))
        assert_array_equal(pipe.fit(X, y).classes_, [0, 1])

    def test_before_it_is_fitted(self):
        X, y = rows()
        pipe = make_pipeline(StandardScaler(), classifier())
        for call in (
            lambda: pipe.predict(X),
            lambda: pipe.score(X, y),
            lambda: pipe.predict(ooclearn.scan(X)),
            lambda: pipe.score(ooclearn.scan(X), y),
            lambda: pipe[:-1].transform(ooclearn.scan(X)),
            lambda: pipe[:-1].inverse_transform(ooclearn.scan(X)),
        ):
            with pytest.raises(NotFittedError):
                call()

    def test_a_weighted_score_is_routed(self):
        X, y = rows()
        with sklearn.config_context(enable_metadata_routing=True):
            pipe = make_pipeline(StandardScaler(), Ridge()).fit(X, y)
            for data in (X, ooclearn.scan(X)):
                with pytest.raises(UnsetMetadataPassedError):
                    pipe.score(data, y, sample_weight=np.ones(len(X)))
            pipe[-1].set_score_request(sample_weight=True)
            weights = np.arange(len(X), dtype=float)
            got = [pipe.score(data, y, sample_weight=weights) for data in (X, ooclearn.scan(X))]
            assert got == pytest.approx([pipe[-1].score(pipe[:-1].transform(X), y, sample_weight=weights)] * 2)

    def test_clone_and_pickle(self):
        X, y = rows()
        pipe = make_pipeline(StandardScaler(), classifier()).fit(X, y)
        assert not hasattr(clone(pipe)[0], "mean_")
        other = pickle.loads(pickle.dumps(pipe))
        assert_array_equal(other.predict(X), pipe.predict(X))
        assert "Incremental" in pipe._repr_html_inner()

    def test_refitting(self):
        X, y = rows()
        pipe = make_pipeline(StandardScaler(), classifier()).fit(X, y)
        first = state(pipe)
        pipe.fit(X[:, :2], y)
        assert pipe.n_features_in_ == 2
        assert state(pipe.fit(X, y)) == first

    def test_transformers_that_want_the_target(self):
        """Foreign steps get y, and the weights that are theirs."""
        X, y = rows()
        seen = []

        class Watched(TransformerMixin, BaseEstimator):
            def fit(self, X, y=None, flag=None):
                seen.append((type(X), type(y), flag))
                self.fitted_ = True
                return self

            def transform(self, X):
                return X

        pipe = make_pipeline(StandardScaler(), Watched(), classifier())
        pipe.fit(X, y, watched__flag=1)
        with pytest.warns(PerformanceWarning):
            pipe.fit(ooclearn.scan(X), ooclearn.scan(y), watched__flag=2)
        assert seen == [(np.ndarray, np.ndarray, 1), (np.ndarray, np.ndarray, 2)]


class TestColumns:
    """One column too few is never spread over the others."""

    @pytest.mark.parametrize(
        "first",
        [
            StandardScaler(),
            SklearnNormalizer(),
            FunctionTransformer(np.abs),
            FrozenEstimator(SklearnScaler().fit(rows()[0])),
            QuantileTransformer(n_quantiles=9),
        ],
        ids=lambda step: type(step).__name__,
    )
    def test_how_many(self, first, host_backend):
        X, y = rows()
        pipe = make_pipeline(first, StandardScaler(), classifier()).fit(X, y)
        assert pipe.n_features_in_ == 4
        for narrow in (X[:, :1], X[:, :3]):
            for method in ("predict", "decision_function"):
                with pytest.raises(
                    ValueError, match=f"X has {narrow.shape[1]} features, but .* is expecting 4 features"
                ):
                    getattr(pipe, method)(host_backend.make(narrow))
            with pytest.raises(ValueError, match="is expecting 4 features"):
                pipe.score(host_backend.make(narrow), y)
            with pytest.raises(ValueError, match="is expecting 4 features"):
                pipe[:2].transform(host_backend.make(narrow))

    def test_their_names(self):
        pd = pytest.importorskip("pandas", reason="pandas is not installed")
        X, y = rows()
        frame = pd.DataFrame(X, columns=list("abcd"))
        pipe = make_pipeline(SklearnNormalizer(), classifier()).fit(frame, y)
        assert_array_equal(pipe.feature_names_in_, list("abcd"))
        with pytest.raises(ValueError, match="same order as they were in fit"):
            pipe.predict(frame[list("bacd")])


# scikit-learn's own pipeline fails these too, and says so in its suite.
OVERWRITES = {"check_estimators_overwrite_params": "a pipeline fits its steps in place, and they are a parameter"}
REPLACES = {"check_dont_overwrite_parameters": "scikit-learn's pipeline replaces the list of its steps"}
MAPS = {"check_classifiers_train": "a memory map is answered lazily, by Blocks, and the check wants an array"}


@pytest.mark.parametrize(
    ("make", "container", "known"),
    [
        (lambda: make_pipeline(StandardScaler(), classifier()), "numpy", MAPS),
        *((lambda: make_pipeline(StandardScaler(), classifier()), container, {}) for container in CONTAINERS),
        (lambda: make_sklearn_pipeline(StandardScaler(), "passthrough", classifier()), "blocks", REPLACES),
        (lambda: make_sklearn_pipeline(StandardScaler(), "passthrough", classifier()), "dask", REPLACES),
        (lambda: make_pipeline(StandardScaler(), Incremental(SGDRegressor(random_state=0))), "numpy", {}),
        (lambda: make_pipeline(StandardScaler(), PolynomialFeatures(), classifier()), "blocks", {}),
        (lambda: make_pipeline(StandardScaler(), ParallelPostFit(PCA())), "numpy", {}),
    ],
    ids=spelled,
)
def test_all_of_scikit_learns_checks(make, container, known):
    results = check_estimator(make(), on=container, expected_failed_checks=OVERWRITES | known)
    assert sum(one["status"] == "passed" for one in results) >= 40
