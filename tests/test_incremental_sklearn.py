"""``Incremental`` among scikit-learn's tools: checks, parameters, metadata, pickles, searches, pictures."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone, is_classifier, is_clusterer, is_regressor
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import IncrementalPCA
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.metrics import accuracy_score, log_loss, make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline as make_sklearn_pipeline
from sklearn.preprocessing import StandardScaler as SklearnScaler
from sklearn.utils import get_tags
from threadpoolctl import threadpool_limits

import ooclearn
from ooclearn import Incremental, make_pipeline
from ooclearn.preprocessing import StandardScaler
from ooclearn.testing import check_estimator
from ooclearn.testing.turned import CONTAINERS, FRAMES


@pytest.fixture(autouse=True)
def _one_thread_for_k_means():
    """Threads of OpenMP that wait for one another spin: where tests share the cores, most of their time."""
    with threadpool_limits(1, user_api="openmp"):
        yield


def rows(n=300, seed=0):
    X = np.random.default_rng(seed).standard_normal((n, 3))
    return X, (X[:, 0] > 0).astype(int)


ORDER = dict.fromkeys(
    ("check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"),
    "what is learned depends on the order of the rows and on the blocks, as scikit-learn says of its own",
)
MAPS = {
    "check_classifiers_train": "a memory map is answered lazily, by Blocks, and the check wants an array",
}


class TestChecksOfScikitLearn:
    # A transformer, a clusterer and a regressor take the way of the classifier, so not all of them take it everywhere.
    @pytest.mark.parametrize(
        ("estimator", "container", "known"),
        [
            (SGDClassifier(random_state=0), "numpy", ORDER | MAPS),
            *((SGDClassifier(random_state=0), container, ORDER) for container in CONTAINERS),
            (SGDRegressor(random_state=0), "numpy", ORDER),
            (SGDRegressor(random_state=0), "dask", ORDER),
            (GaussianNB(), "numpy", {}),
            (GaussianNB(), "dask", {}),
            (MiniBatchKMeans(3, random_state=0), "numpy", ORDER),
            (MiniBatchKMeans(3, random_state=0), "blocks", ORDER | FRAMES),
            (SklearnScaler(), "numpy", {}),
            (SklearnScaler(), "dask", FRAMES),
            (SklearnScaler(), "array_api_strict:device1", {}),
        ],
        ids=lambda one: one if isinstance(one, str) else type(one).__name__ if hasattr(one, "fit") else "",
    )
    def test_all(self, estimator, container, known):
        model = Incremental(estimator)
        results = check_estimator(model, on=container, expected_failed_checks=known)
        assert sum(one["status"] == "passed" for one in results) >= 45


class TestParameters:
    def test_paths(self):
        pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier()))
        pipe.set_params(incremental__estimator__alpha=0.5, incremental__epochs=2, incremental__classes=[0, 1])
        assert pipe[-1].estimator.alpha == 0.5
        assert pipe.get_params()["incremental__epochs"] == 2
        X, y = rows()
        assert pipe.fit(X, y)[-1].estimator_.alpha == 0.5
        assert pipe[-1].coef_.shape == (1, 3)
        pipe.fit(X, y, incremental__classes=[1, 0])
        assert_array_equal(pipe[-1].classes_, [0, 1])

    def test_clone(self):
        X, y = rows()
        model = Incremental(SGDClassifier(alpha=0.3), epochs=2, classes=[0, 1], shuffle=True, block_rows=50).fit(X, y)
        copied = clone(model)
        assert str(copied.get_params()) == str(model.get_params())
        assert copied.estimator is not model.estimator
        assert not [name for name in vars(copied) if name.endswith("_")]
        # An object that is none of scikit-learn's is copied.
        assert clone(Incremental(_Plain())).estimator.told == []

    def test_the_estimator_that_was_given_is_left_alone(self):
        X, y = rows()
        given = SGDClassifier()
        before = copy.deepcopy(vars(given))
        Incremental(given).fit(X, y)
        assert vars(given) == before

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("epochs", 0),
            ("epochs", 1.5),
            ("shuffle", "yes"),
            ("block_rows", 0),
            ("scoring", 3),
            ("random_state", "a"),
            ("scoring", ["accuracy"]),
        ],
    )
    def test_nonsense(self, setting, value):
        X, y = rows()
        with pytest.raises(ValueError, match=f"The '{setting}' parameter of Incremental must be"):
            Incremental(SGDClassifier(), **{setting: value}).fit(X, y)

    def test_an_estimator_without_partial_fit(self):
        from sklearn.linear_model import LinearRegression

        with pytest.raises(
            ValueError, match="'estimator' parameter of Incremental must be an object implementing 'partial_fit'"
        ):
            Incremental(LinearRegression()).fit(*rows())


class _Plain:
    def __init__(self):
        self.told = []

    def partial_fit(self, X, y=None):
        self.told.append(len(X))


class TestAttributes:
    def test_of_the_estimator_inside(self):
        X, y = rows()
        model = Incremental(SGDClassifier())
        for name in ("coef_", "classes_", "n_features_in_", "t_"):
            assert not hasattr(model, name)
        model.fit(X, y)
        assert model.coef_ is model.estimator_.coef_
        assert_array_equal(model.classes_, [0, 1])
        assert model.n_features_in_ == 3
        with pytest.raises(AttributeError, match="'SGDClassifier' object has no attribute 'nothing_'"):
            model.nothing_  # noqa: B018  (asking is the point)
        with pytest.raises(AttributeError, match="'Incremental' object has no attribute 'alpha'"):
            model.alpha  # noqa: B018  (asking is the point)

    def test_what_it_is(self):
        assert is_classifier(Incremental(SGDClassifier()))
        assert is_regressor(Incremental(SGDRegressor()))
        assert is_clusterer(Incremental(MiniBatchKMeans()))
        assert not is_classifier(Incremental(_Plain()))
        for estimator in (
            SGDClassifier(),
            SGDRegressor(),
            MiniBatchKMeans(),
            IncrementalPCA(),
            SklearnScaler(),
            GaussianNB(),
        ):
            ours, theirs = get_tags(Incremental(estimator)), get_tags(estimator)
            for name in (
                "estimator_type",
                "target_tags",
                "classifier_tags",
                "regressor_tags",
                "transformer_tags",
                "input_tags",
            ):
                assert getattr(ours, name) == getattr(theirs, name)

    def test_before_it_is_fitted(self):
        X, y = rows()
        model = Incremental(SGDClassifier())
        for call in (lambda: model.predict(X), lambda: model.score(X, y), lambda: model.decision_function(X)):
            with pytest.raises(sklearn.exceptions.NotFittedError, match="This Incremental instance is not fitted yet"):
                call()

    def test_probabilities_only_where_there_are_some(self):
        assert not hasattr(Incremental(SGDClassifier()), "predict_proba")
        assert hasattr(Incremental(SGDClassifier(loss="log_loss")), "predict_proba")
        assert not hasattr(Incremental(SGDClassifier()), "transform")
        assert not hasattr(Incremental(SGDClassifier()), "fit_transform")
        assert not hasattr(Incremental(IncrementalPCA()), "score")
        assert hasattr(Incremental(IncrementalPCA(), scoring="r2"), "score")

    def test_names_of_columns(self):
        pd = pytest.importorskip("pandas", reason="pandas is not installed")
        X, y = rows()
        frame = pd.DataFrame(X, columns=["a", "b", "c"])
        model = Incremental(IncrementalPCA(2)).fit(frame)
        assert_array_equal(model.feature_names_in_, ["a", "b", "c"])
        assert_array_equal(model.get_feature_names_out(), ["incrementalpca0", "incrementalpca1"])
        assert_array_equal(Incremental(SklearnScaler()).fit(frame).get_feature_names_out(), ["a", "b", "c"])
        with pytest.raises(ValueError, match="same order as they were in fit"):
            model.transform(frame[["b", "a", "c"]])
        with pytest.warns(UserWarning, match="X does not have valid feature names, but Incremental was fitted with"):
            model.transform(X)
        classifier = Incremental(SGDClassifier()).fit(frame.assign(y=y), "y")
        assert_array_equal(classifier.predict(frame), classifier.estimator_.predict(X))

    def test_data_frames_out(self):
        pd = pytest.importorskip("pandas", reason="pandas is not installed")
        X, _ = rows()
        frame = pd.DataFrame(X, columns=["a", "b", "c"], index=np.arange(300) + 1000)
        model = Incremental(SklearnScaler()).set_output(transform="pandas").fit(frame)
        out = model.transform(frame)
        assert list(out.columns) == ["a", "b", "c"]
        assert_array_equal(out.index, frame.index)
        assert_allclose(out.to_numpy(), model.estimator_.transform(X))
        assert_array_equal(clone(model).fit_transform(frame).to_numpy(), out.to_numpy())
        with sklearn.config_context(transform_output="pandas"):
            assert isinstance(Incremental(IncrementalPCA(2)).fit_transform(X), pd.DataFrame)
        with pytest.raises(ValueError, match="the result is lazy"):
            model.transform(ooclearn.scan(X))
        # Within a pipeline of scikit-learn's.
        pipe = make_sklearn_pipeline(Incremental(SklearnScaler()), Incremental(IncrementalPCA(2))).set_output(
            transform="pandas"
        )
        assert list(pipe.fit(frame).transform(frame).columns) == ["incrementalpca0", "incrementalpca1"]


class TestPickle:
    @pytest.mark.parametrize(
        "copied",
        [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy, copy.copy],
        ids=["pickle", "deepcopy", "copy"],
    )
    def test_goes_on_where_it_was(self, copied):
        X, y = rows()
        model = Incremental(SGDClassifier(), epochs=2).fit(X, y)
        other = copied(model)
        assert_array_equal(other.predict(X), model.predict(X))
        assert_array_equal(other.partial_fit(X, y).coef_, model.partial_fit(X, y).coef_)

    def test_holds_no_data(self):
        X, y = rows(20_000)
        model = Incremental(SGDClassifier()).fit(X, y, np.ones(20_000))
        assert len(pickle.dumps(model)) < 5_000
        assert len(pickle.dumps(model.partial_fit(X, y, classes=[0, 1], sample_weight=np.ones(20_000)))) < 5_000
        pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier()))
        assert len(pickle.dumps(pipe.fit(X, y, incremental__sample_weight=np.ones(20_000)))) < 10_000
        assert set(vars(model)) == {
            *model.get_params(deep=False),
            *("estimator_", "n_epochs_", "n_features_in_", "_dtype_", "_classes_"),
        }


class TestTools:
    def test_search(self):
        X, y = rows()
        search = GridSearchCV(
            make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))),
            {"incremental__estimator__alpha": [1e-4, 10.0], "incremental__epochs": [1, 3]},
            cv=3,
        ).fit(X, y)
        assert search.best_params_["incremental__estimator__alpha"] == 1e-4
        assert search.best_score_ > 0.9
        assert_array_equal(search.predict(X), search.best_estimator_.predict(X))

    def test_cross_validation(self):
        X, y = rows()
        ours = cross_val_score(Incremental(SGDClassifier(shuffle=False)), X, y)
        theirs = cross_val_score(SGDClassifier(shuffle=False, max_iter=1, tol=None), X, y)
        assert_array_equal(ours, theirs)
        for scoring in ("roc_auc", "f1", "neg_log_loss"):
            model = SGDClassifier(loss="log_loss", shuffle=False)
            ours = cross_val_score(Incremental(model), X, y, scoring=scoring)
            theirs = cross_val_score(clone(model).set_params(max_iter=1, tol=None), X, y, scoring=scoring)
            assert_allclose(ours, theirs, rtol=1e-12)

    def test_a_picture_in_a_notebook(self):
        X, y = rows()
        model = Incremental(SGDClassifier())
        assert "SGDClassifier" in model._repr_html_inner()
        html = model.fit(X, y)._repr_html_inner()
        assert "Incremental" in html
        assert "SGDClassifier" in html
        assert "Incremental(estimator=SGDClassifier())" in repr(model)


class TestMetadata:
    """With ``enable_metadata_routing``, each estimator says what it wants; without, names of steps do."""

    @pytest.fixture
    def routing(self):
        with sklearn.config_context(enable_metadata_routing=True):
            yield

    @pytest.fixture
    def weights(self):
        return np.random.default_rng(3).uniform(0.1, 3, 300)

    @staticmethod
    def weighted(X, y, w):
        return SGDClassifier(shuffle=False, max_iter=1, tol=None).fit(X, y, sample_weight=w).coef_

    def test_off(self, weights):
        X, y = rows()
        assert_allclose(
            Incremental(SGDClassifier(shuffle=False)).fit(X, y, sample_weight=weights).coef_,
            self.weighted(X, y, weights),
            rtol=1e-12,
        )

    def test_alone(self, routing, weights):
        X, y = rows()
        inner = SGDClassifier(shuffle=False).set_partial_fit_request(sample_weight=True)
        assert_allclose(
            Incremental(inner).fit(X, y, sample_weight=weights).coef_, self.weighted(X, y, weights), rtol=1e-12
        )
        model = Incremental(inner).partial_fit(X, y, classes=[0, 1], sample_weight=weights)
        assert_allclose(model.coef_, self.weighted(X, y, weights), rtol=1e-12)
        assert_array_equal(Incremental(inner).fit(X, y, classes=[0, 1, 1]).classes_, [0, 1])

    def test_not_asked_for(self, routing, weights):
        X, y = rows()
        inner = SGDClassifier(shuffle=False).set_partial_fit_request(sample_weight=False)
        with pytest.raises(TypeError, match="sample_weight"):
            Incremental(inner).fit(X, y, sample_weight=weights)
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="sample_weight.*not explicitly set"):
            Incremental(SGDClassifier()).fit(X, y, sample_weight=weights)

    def test_under_another_name(self, routing, weights):
        X, y = rows()
        inner = SGDClassifier(shuffle=False).set_partial_fit_request(sample_weight="importance")
        model = Incremental(inner)
        assert_allclose(model.fit(X, y, importance=weights).coef_, self.weighted(X, y, weights), rtol=1e-12)

    @pytest.mark.parametrize("make", [make_pipeline, make_sklearn_pipeline], ids=["ours", "scikit-learn's"])
    def test_through_a_pipeline(self, routing, weights, make, host_backend):
        X, y = rows()
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        inner = SGDClassifier(shuffle=False).set_partial_fit_request(sample_weight=True, classes=True)
        pipe = make(scaler, Incremental(inner))
        pipe.fit(host_backend.make(X), host_backend.make(y), sample_weight=host_backend.make(weights), classes=[0, 1])
        scaled = SklearnScaler().fit(X, sample_weight=weights)
        assert_allclose(pipe[0].mean_, scaled.mean_, rtol=1e-12, atol=1e-14)
        assert_allclose(pipe[-1].coef_, self.weighted(scaled.transform(X), y, weights), rtol=1e-9)
        assert_array_equal(pipe[-1].classes_, [0, 1])

    @pytest.mark.parametrize("make", [make_pipeline, make_sklearn_pipeline], ids=["ours", "scikit-learn's"])
    def test_to_one_step_alone(self, routing, weights, make):
        X, y = rows()
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        inner = SGDClassifier(shuffle=False).set_partial_fit_request(sample_weight=True)
        pipe = make(scaler, Incremental(inner)).fit(X, y, sample_weight=weights)
        scaled = SklearnScaler().fit(X)
        assert_allclose(pipe[0].mean_, scaled.mean_, rtol=1e-12, atol=1e-14)
        assert_allclose(pipe[-1].coef_, self.weighted(scaled.transform(X), y, weights), rtol=1e-9)

    def test_scores(self, routing, weights):
        X, y = rows()
        inner = (
            SGDClassifier(shuffle=False)
            .set_score_request(sample_weight=True)
            .set_partial_fit_request(sample_weight=False)
        )
        model = Incremental(inner).fit(X, y)
        expected = accuracy_score(y, model.predict(X), sample_weight=weights)
        assert_allclose(model.score(X, y, sample_weight=weights), expected)
        pipe = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), Incremental(inner)).fit(X, y)
        expected = accuracy_score(y, pipe.predict(X), sample_weight=weights)
        assert_allclose(pipe.score(X, y, sample_weight=weights), expected)

    def test_cross_validation(self, routing, weights):
        X, y = rows()
        inner = (
            SGDClassifier(shuffle=False)
            .set_partial_fit_request(sample_weight=True)
            .set_score_request(sample_weight=True)
        )
        ours = cross_val_score(Incremental(inner), X, y, params={"sample_weight": weights})
        plain = (
            SGDClassifier(shuffle=False, max_iter=1, tol=None)
            .set_fit_request(sample_weight=True)
            .set_score_request(sample_weight=True)
        )
        theirs = cross_val_score(plain, X, y, params={"sample_weight": weights})
        assert_allclose(ours, theirs, rtol=1e-12)

    def test_a_scorer_that_wants_weights(self, weights):
        X, y = rows()
        scorer = make_scorer(log_loss, response_method="predict_proba", greater_is_better=False)
        model = Incremental(SGDClassifier(loss="log_loss"), scoring=scorer).fit(X, y)
        expected = -log_loss(y, model.predict_proba(X), sample_weight=weights)
        assert_allclose(model.score(X, y, sample_weight=weights), expected)
