"""``ParallelPostFit``: fitted in memory, used on tables of any size."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest, RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import get_scorer
from sklearn.mixture import GaussianMixture
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline as make_sklearn_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PowerTransformer, QuantileTransformer
from sklearn.preprocessing import StandardScaler as SklearnScaler
from threadpoolctl import threadpool_limits

import ooclearn
from ooclearn import ParallelPostFit, make_pipeline
from ooclearn.exceptions import BlockMemoryError, PerformanceWarning
from ooclearn.preprocessing import StandardScaler
from ooclearn.testing import CountingBlocks, check_estimator
from ooclearn.testing.turned import CONTAINERS, FRAMES


@pytest.fixture(autouse=True)
def _one_thread_for_k_means():
    """Threads of OpenMP that wait for one another spin: where tests share the cores, most of their time."""
    with threadpool_limits(1, user_api="openmp"):
        yield


def rows(n=300, seed=0):
    X = np.random.default_rng(seed).standard_normal((n, 4))
    return X, np.digitize(X[:, 0] + 0.3 * X[:, 1], [0.0])


ESTIMATORS = [
    RandomForestClassifier(5, random_state=0),
    RandomForestRegressor(5, random_state=0),
    KMeans(3, n_init=1, random_state=0),
    PCA(2),
    QuantileTransformer(n_quantiles=20),
    PowerTransformer(),
    IsolationForest(n_estimators=5, random_state=0),
    GaussianMixture(2, random_state=0),
    make_sklearn_pipeline(SklearnScaler(), LogisticRegression()),
]
METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "transform")


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("given", ["fitted", "to be fitted"])
def test_answers_as_the_estimator_does(estimator, given, backend):
    X, y = rows()
    fitted = clone(estimator).fit(X, y)
    model = ParallelPostFit(fitted) if given == "fitted" else ParallelPostFit(estimator).fit(X, y)
    asked = [method for method in METHODS if hasattr(fitted, method)]
    assert asked
    rounding = max(1e-9, backend.within(1e4))
    for method in asked:
        result = getattr(model, method)(backend.make(X))
        with np.errstate(divide="ignore"):  # a tree may be sure of a class: the logarithm of 0
            expected = getattr(fitted, method)(X)
        got = backend.back(result)
        assert got.shape == tuple(result.shape) == expected.shape
        if got.dtype.kind == "f":
            # In coarser numbers a row may cross a threshold of a tree.
            off = ~np.isclose(got, expected, rtol=rounding, atol=rounding)
            assert off.mean() <= (0.05 if backend.rounding > 1e-10 else 0)
        else:
            assert np.mean(got != expected) <= (0.05 if backend.rounding > 1e-10 else 0)
    for method in METHODS:
        assert hasattr(model, method) == hasattr(fitted, method)


def test_the_estimator_given_is_not_changed():
    X, y = rows()
    given = RandomForestClassifier(5, random_state=0)
    model = ParallelPostFit(given).fit(X, y)
    assert not hasattr(given, "estimators_")
    assert model.estimator_ is not given
    assert_array_equal(model.classes_, [0, 1])
    assert model.n_features_in_ == 4


def test_fitted_or_not():
    X, _ = rows()
    with pytest.raises(NotFittedError, match="This ParallelPostFit instance is not fitted yet"):
        ParallelPostFit(PCA()).transform(X)
    fitted = ParallelPostFit(PCA().fit(X))
    assert_allclose(fitted.mean_, X.mean(axis=0))
    # What needs no fit needs none.
    assert_array_equal(ParallelPostFit(FunctionTransformer(np.abs)).transform(X), np.abs(X))
    with pytest.raises(AttributeError, match="its PCA has none"):
        fitted.predict(X)
    # A fit comes before what came fitted.
    half = ParallelPostFit(PCA().fit(X)).fit(X[:100] + 5)
    assert_allclose(half.mean_, X[:100].mean(axis=0) + 5)


def test_lazy_containers_are_read_when_they_must_be(host_backend):
    X, y = rows()
    model = ParallelPostFit(RandomForestClassifier(5, random_state=0)).fit(host_backend.make(X), host_backend.make(y))
    expected = RandomForestClassifier(5, random_state=0).fit(X, y)
    assert_array_equal(np.asarray(model.predict(host_backend.make(X))), expected.predict(X))
    assert_allclose(model.score(host_backend.make(X), host_backend.make(y)), expected.score(X, y))
    weights = np.random.default_rng(0).uniform(0, 3, 300)
    model = ParallelPostFit(LogisticRegression()).fit(host_backend.make(X), y, sample_weight=host_backend.make(weights))
    assert_array_equal(model.coef_, LogisticRegression().fit(X, y, sample_weight=weights).coef_)


def test_reads():
    X, y = rows()
    source = CountingBlocks(X, (100, 200))
    model = ParallelPostFit(RandomForestClassifier(5, random_state=0))
    with ooclearn.config_context(memory_limit=1000), pytest.raises(BlockMemoryError):
        model.fit(source, y)
    assert not source.reads
    model.fit(source, y)
    assert source.passes == 1
    lazy = model.predict(source)
    assert source.passes == 1
    lazy.to_numpy()
    assert source.passes == 2
    model.score(source, y)
    assert source.passes == 3


@pytest.mark.parametrize(
    "scoring", ["accuracy", "f1", "roc_auc", "neg_log_loss", "average_precision", "balanced_accuracy"]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_scorers_of_classifiers(scoring, weighted, host_backend):
    X, y = rows()
    forest = RandomForestClassifier(5, max_depth=2, random_state=0).fit(X, y)
    weights = np.random.default_rng(0).uniform(0.1, 3, 300) if weighted else None
    extra = {"sample_weight": weights} if weighted else {}
    expected = get_scorer(scoring)(forest, X, y, **extra)
    model = ParallelPostFit(forest, scoring=scoring)
    extra = {"sample_weight": host_backend.make(weights)} if weighted else {}
    assert_allclose(model.score(host_backend.make(X), host_backend.make(y), **extra), expected, rtol=1e-12)


@pytest.mark.parametrize("scoring", ["r2", "neg_mean_squared_error", "neg_max_error", "neg_median_absolute_error"])
def test_scorers_of_regressors(scoring, host_backend):
    X, _ = rows()
    y = X[:, 0] + X[:, 1] ** 2
    forest = RandomForestRegressor(5, max_depth=2, random_state=0).fit(X, y)
    model = ParallelPostFit(forest, scoring=scoring)
    assert_allclose(
        model.score(host_backend.make(X), host_backend.make(y)), get_scorer(scoring)(forest, X, y), rtol=1e-10
    )


def test_a_scorer_reads_once():
    X, y = rows()
    model = ParallelPostFit(RandomForestClassifier(5, random_state=0).fit(X, y), scoring="roc_auc")
    source = CountingBlocks(X, (100, 200))
    model.score(source, y)
    assert source.passes == 1


def test_a_scorer_without_targets():
    X, _ = rows()
    model = ParallelPostFit(
        KMeans(3, n_init=1, random_state=0).fit(X), scoring=lambda estimator, X, y=None: len(set(estimator.predict(X)))
    )
    assert model.score(ooclearn.scan(X, block_rows=50)) == 3


def test_scores_of_its_own(host_backend):
    X, _ = rows()
    for estimator in (KMeans(3, n_init=1, random_state=0), PCA(2), GaussianMixture(2, random_state=0)):
        estimator.fit(X)
        assert_allclose(ParallelPostFit(estimator).score(host_backend.make(X)), estimator.score(X), rtol=1e-10)


def test_several_targets(host_backend):
    X, y = rows()
    both = np.stack([y, X[:, 2] > 0], axis=1).astype(int)
    forest = RandomForestClassifier(5, random_state=0).fit(X, both)
    model = ParallelPostFit(forest)
    assert_array_equal(np.asarray(model.predict(host_backend.make(X))), forest.predict(X))
    expected = np.concatenate(forest.predict_proba(X), axis=1)
    assert_allclose(np.asarray(model.predict_proba(host_backend.make(X))), expected)
    values = RandomForestRegressor(5, random_state=0).fit(X, X[:, :2])
    assert_allclose(
        ParallelPostFit(values).score(host_backend.make(X), host_backend.make(X[:, :2])),
        values.score(X, X[:, :2]),
        rtol=1e-12,
    )


class TestDataFrames:
    @pytest.fixture
    def frame(self):
        pd = pytest.importorskip("pandas", reason="pandas is not installed")
        X, _ = rows()
        return pd.DataFrame(X, columns=list("abcd")).assign(kind=np.where(X[:, 0] > 0.5, "x", "y"))

    def test_columns_by_name(self, frame):
        _, y = rows()
        by_name = make_column_transformer((OneHotEncoder(), ["kind"]), (SklearnScaler(), ["b", "a"]))
        model = ParallelPostFit(make_sklearn_pipeline(by_name, LogisticRegression())).fit(frame, y)
        expected = make_sklearn_pipeline(clone(by_name), LogisticRegression()).fit(frame, y)
        assert_array_equal(model.predict(frame), expected.predict(frame))
        assert model.score(frame, y) == expected.score(frame, y)
        assert_array_equal(model.feature_names_in_, frame.columns)
        scored = ParallelPostFit(model.estimator_, scoring="f1").score(frame, y)
        assert scored == get_scorer("f1")(expected, frame, y)

    def test_fitted_on_names_used_on_blocks(self, frame):
        _, y = rows()
        numbers = frame.drop(columns="kind")
        by_name = make_column_transformer((SklearnScaler(), ["d", "a"]), ("passthrough", ["b"]))
        fitted = make_sklearn_pipeline(by_name, RandomForestClassifier(5, random_state=0)).fit(numbers, y)
        blocks = ooclearn.scan(numbers.to_numpy(), block_rows=70)
        with pytest.warns(
            UserWarning, match="X does not have valid feature names, but ParallelPostFit was fitted with"
        ) as caught:
            result = ParallelPostFit(fitted).predict(blocks)
        assert len(caught) == 1
        assert_array_equal(result.to_numpy(), fitted.predict(numbers))

    def test_lazy_frames_keep_their_names(self, frame):
        dd = pytest.importorskip("dask.dataframe", reason="the extra `dask` is not installed")
        _, y = rows()
        numbers = frame.drop(columns="kind")
        by_name = make_column_transformer((SklearnScaler(), ["d", "a"]), ("passthrough", ["b"]))
        model = ParallelPostFit(make_sklearn_pipeline(by_name, LogisticRegression()))
        lazy = dd.from_pandas(numbers, npartitions=3)
        expected = clone(model.estimator).fit(numbers, y)
        assert_array_equal(model.fit(lazy, y).predict(lazy).compute(), expected.predict(numbers))
        assert_array_equal(model.feature_names_in_, list("abcd"))
        with pytest.warns(PerformanceWarning, match="chunk sizes of X are not known"):
            assert model.score(lazy, y) == expected.score(numbers, y)
        with pytest.raises(ValueError, match="same order as they were in fit"):
            model.predict(lazy[list("bacd")])

    def test_set_output(self, frame):
        pd = pytest.importorskip("pandas", reason="pandas is not installed")
        numbers = frame.drop(columns="kind")
        model = ParallelPostFit(PCA(2)).set_output(transform="pandas").fit(numbers)
        assert isinstance(model.transform(numbers), pd.DataFrame)
        assert list(model.transform(numbers).columns) == ["pca0", "pca1"]


def test_inverse(host_backend):
    X, _ = rows()
    model = ParallelPostFit(PCA().fit(X))
    turned = model.transform(host_backend.make(X))
    assert_allclose(host_backend.back(model.inverse_transform(turned)), X, atol=1e-12)
    assert_allclose(model.inverse_transform(np.zeros((2, 4)).tolist()), np.tile(X.mean(axis=0), (2, 1)))


def test_fit_and_then():
    X, _ = rows()
    assert_allclose(ParallelPostFit(PCA(2)).fit_transform(X), PCA(2).fit(X).transform(X))
    model = ParallelPostFit(KMeans(3, n_init=1, random_state=0))
    assert_array_equal(model.fit_predict(X), KMeans(3, n_init=1, random_state=0).fit_predict(X))


def test_no_target():
    with pytest.raises(ValueError, match="y"):
        ParallelPostFit(LogisticRegression()).fit(rows()[0])


def test_what_it_is():
    assert is_classifier(ParallelPostFit(LogisticRegression()))
    assert is_regressor(ParallelPostFit(RandomForestRegressor()))


def test_metadata():
    X, y = rows()
    weights = np.random.default_rng(0).uniform(0, 3, 300)
    with sklearn.config_context(enable_metadata_routing=True):
        inner = LogisticRegression().set_fit_request(sample_weight="importance")
        model = ParallelPostFit(inner).fit(X, y, importance=weights)
        assert_array_equal(model.coef_, LogisticRegression().fit(X, y, sample_weight=weights).coef_)
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError):
            ParallelPostFit(LogisticRegression()).fit(X, y, sample_weight=weights)


def test_pickle_clone_and_picture():
    X, y = rows()
    model = ParallelPostFit(LogisticRegression()).fit(X, y)
    assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))
    assert not hasattr(clone(model), "coef_")
    assert "LogisticRegression" in model._repr_html_inner()


def test_in_a_pipeline(host_backend):
    """A step that is fitted in memory, behind one that is not."""
    X, y = rows()
    pca = PCA(2).fit(SklearnScaler().fit_transform(X))
    for make in (make_pipeline, make_sklearn_pipeline):
        pipe = make(StandardScaler(), ParallelPostFit(RandomForestClassifier(5, random_state=0)))
        with pytest.warns(PerformanceWarning) if host_backend.lazy and make is make_pipeline else _nothing():
            pipe.fit(host_backend.make(X), host_backend.make(y))
        expected = make_sklearn_pipeline(SklearnScaler(), RandomForestClassifier(5, random_state=0)).fit(X, y)
        assert np.mean(np.asarray(pipe.predict(host_backend.make(X))) == expected.predict(X)) > 0.99
        pipe = make(StandardScaler(), ParallelPostFit(pca)).fit(X)
        assert_allclose(
            host_backend.back(pipe.transform(host_backend.make(X))),
            pca.transform(SklearnScaler().fit_transform(X)),
            atol=1e-10,
        )


def _nothing():
    from contextlib import nullcontext

    return nullcontext()


MAPS = {"check_classifiers_train": "a memory map is answered lazily, by Blocks, and the check wants an array"}


@pytest.mark.parametrize(
    ("estimator", "container", "known"),
    [
        *((GaussianNB(), container, {}) for container in ("numpy", *CONTAINERS)),
        (RidgeClassifier(), "numpy", MAPS),
        (PCA(), "numpy", {}),
        (PCA(), "dask", FRAMES),
        (RandomForestRegressor(5, random_state=0), "numpy", {}),
    ],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__ if hasattr(one, "fit") else "",
)
def test_all_of_scikit_learns_checks(estimator, container, known):
    results = check_estimator(ParallelPostFit(estimator), on=container, expected_failed_checks=known)
    assert sum(one["status"] == "passed" for one in results) >= 40


@pytest.mark.parametrize("container", ["array_api_strict", "array_api_strict:device1"])
def test_sparse_results_stay_on_the_host(container):
    X = np.arange(12.0).reshape(6, 2) % 5
    made = ParallelPostFit(OneHotEncoder()).fit(X).transform(CONTAINERS[container](X))
    assert_array_equal(made.toarray(), OneHotEncoder(sparse_output=False).fit_transform(X))
