"""Methods of fitted estimators as row maps: linear ones collapse, others are called block by block."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    ElasticNet,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.multioutput import MultiOutputClassifier
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.svm import LinearSVC, LinearSVR

import ooclearn
from ooclearn import Incremental, ParallelPostFit, make_pipeline
from ooclearn.exceptions import NonFiniteError
from ooclearn.methods import method_map
from ooclearn.preprocessing import MinMaxScaler, StandardScaler
from ooclearn.rowmaps import Affine, Chain
from ooclearn.testing import CountingBlocks

F8 = np.dtype(np.float64)


def rows(n=400, columns=4, seed=0):
    X = np.random.default_rng(seed).standard_normal((n, columns))
    return X, np.digitize(X[:, 0] + X[:, 1], [-0.7, 0.7])


def mapped(estimator, method, X, **given):
    return method_map(estimator, method, n_columns=X.shape[1], dtype=X.dtype, **given)(X)


class TestLinear:
    CLASSIFIERS = (LogisticRegression(), LinearSVC(), Perceptron(), SGDClassifier(), RidgeClassifier())

    @pytest.mark.parametrize("estimator", CLASSIFIERS, ids=lambda one: type(one).__name__)
    @pytest.mark.parametrize(
        ("classes", "labels"), [(2, "text"), (3, "text"), (2, "numbers"), (3, "numbers"), (2, "booleans")]
    )
    def test_classifiers(self, estimator, classes, labels, backend):
        X, y = rows()
        y = y if classes == 3 else (y > 0).astype(int)
        y = {"text": np.array(["a", "bb", "ccc"])[y], "numbers": y * 10 - 10, "booleans": y > 0}[labels]
        estimator.fit(X, y)
        model = ParallelPostFit(estimator)
        container = backend.make(X)
        decision = model.decision_function(container)
        expected = estimator.decision_function(X)
        assert tuple(decision.shape) == expected.shape
        tolerance = max(1e-10, backend.within(1000))
        assert_allclose(backend.back(decision), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
        predicted = model.predict(container)
        assert tuple(predicted.shape) == (len(X),)
        # Where the device rounds more coarsely, rows at the boundary may fall to either side.
        sure = np.abs(expected if expected.ndim == 1 else np.ptp(np.sort(expected)[:, -2:], axis=1)) > 1e-4
        values = np.asarray(predicted) if labels == "text" and not backend.lazy else backend.back(predicted)
        assert_array_equal(values[sure], estimator.predict(X)[sure])
        if backend.name in ("numpy", "memmap", "scan", "dask"):
            assert predicted.dtype == estimator.predict(X).dtype

    @pytest.mark.parametrize(
        ("estimator", "targets"),
        [
            *((one, targets) for one in (LinearRegression(), Ridge(), ElasticNet(0.01)) for targets in (None, 1, 3)),
            (SGDRegressor(), None),
            (LinearSVR(), None),
        ],
        ids=lambda one: type(one).__name__ if hasattr(one, "fit") else str(one),
    )
    @pytest.mark.parametrize("intercept", [True, False])
    def test_regressors(self, estimator, targets, intercept, host_backend):
        X, _ = rows()
        y = X[:, 0] * 2 + 5 if targets is None else X[:, :targets] * 2 + 5
        estimator.set_params(fit_intercept=intercept).fit(X, y)
        result = ParallelPostFit(estimator).predict(host_backend.make(X))
        expected = estimator.predict(X)
        assert tuple(result.shape) == expected.shape
        assert_allclose(host_backend.back(result), expected, rtol=1e-10, atol=1e-12)

    def test_own_methods_of_a_subclass_are_kept(self):
        X, y = rows()

        class Doubled(LinearRegression):
            def predict(self, X):
                return 2 * super().predict(X)

        class Turned(LogisticRegression):
            def decision_function(self, X):
                return -super().decision_function(X)

        for estimator, method in ((Doubled(), "predict"), (Turned(), "decision_function"), (Turned(), "predict")):
            estimator.fit(X, y)
            assert_array_equal(mapped(estimator, method, X), getattr(estimator, method)(X))

    def test_sparse_coefficients(self):
        X, y = rows()
        estimator = LogisticRegression().fit(X, y).sparsify()
        assert_array_equal(mapped(estimator, "predict", X), estimator.predict(X))


class TestCollapse:
    def test_scaling_and_decision_are_one_product(self):
        X, y = rows()
        pipe = make_pipeline(StandardScaler(), MinMaxScaler(), Incremental(SGDClassifier())).fit(X, y)
        row_map = pipe._method_map("decision_function", n_columns=4, dtype=F8)
        assert isinstance(row_map, Chain)
        affine, check = row_map.maps
        assert isinstance(affine, Affine)
        assert affine.center is None
        assert not isinstance(check, Affine)

    @pytest.mark.parametrize("ratio", [0.0, 1.0, 1e2, 1e4, 1e6, 1e8])
    def test_no_digits_are_lost(self, ratio):
        """However far the columns lie from 0, measured in extended precision with the fitted numbers."""
        rng = np.random.default_rng(0)
        deviation = np.array([1.0, 1e-3, 1e3, 7.0])
        X = rng.standard_normal((500, 4)) * deviation + ratio * deviation
        y = (X[:, 0] > np.median(X[:, 0])).astype(int)
        pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(X, y)
        scaler, linear = pipe[0], pipe[-1]
        wide = [
            np.asarray(part, dtype=np.longdouble)
            for part in (X, scaler.mean_, scaler.scale_, linear.coef_[0], linear.intercept_)
        ]
        exact = ((wide[0] - wide[1]) / wide[2]) @ wide[3] + wide[4]
        size = np.abs((wide[0] - wide[1]) / wide[2]) @ np.abs(wide[3]) + np.abs(wide[4])
        ours = np.abs(pipe.decision_function(X) - exact) / size
        stepwise = np.abs(linear.estimator_.decision_function(scaler.transform(X)) - exact) / size
        # Less than what half a rounding of each cell of X would change, and never much worse than two steps.
        assert ours.max() < 4e-13
        assert ours.max() < max(4 * stepwise.max(), 4e-13)


class TestCalledByBlocks:
    @pytest.mark.parametrize(
        ("make", "method"),
        [
            (lambda: RandomForestClassifier(5, random_state=0), "predict"),
            (lambda: RandomForestClassifier(5, random_state=0), "predict_proba"),
            (lambda: RandomForestRegressor(5, random_state=0), "predict"),
            (lambda: PCA(2), "transform"),
            (lambda: PCA(2), "score_samples"),
            (lambda: FunctionTransformer(np.log1p), "transform"),
            (lambda: LogisticRegression(), "predict_log_proba"),
            (lambda: MultiOutputClassifier(LogisticRegression()), "predict_proba"),
        ],
        ids=lambda one: one if isinstance(one, str) else type(one()).__name__,
    )
    @pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
    def test_declared_as_computed(self, make, method, dtype, host_backend):
        X, y = rows()
        X = np.abs(5 * X).astype(dtype)
        estimator = make()
        estimator.fit(X, np.stack([y, y > 0], axis=1) if isinstance(estimator, MultiOutputClassifier) else y)
        result = getattr(ParallelPostFit(estimator), method)(host_backend.make(X))
        expected = getattr(estimator, method)(X)
        expected = np.concatenate(expected, axis=1) if isinstance(expected, list) else expected
        assert tuple(result.shape) == expected.shape
        assert result.dtype == expected.dtype
        got = host_backend.back(result)
        assert got.dtype == expected.dtype
        tolerance = 1e-4 if expected.dtype == np.float32 else 1e-9
        assert_allclose(got, expected, rtol=tolerance, atol=tolerance)

    def test_nothing_is_read_until_it_is_asked_for(self):
        X, y = rows()
        source = CountingBlocks(X, (100, 0, 300))
        model = ParallelPostFit(RandomForestClassifier(5, random_state=0).fit(X, y))
        results = [model.predict(source), model.predict_proba(source)]
        assert not source.reads
        assert_array_equal(results[0].to_numpy(), model.estimator.predict(X))
        assert source.passes == 1
        pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier())).fit(X, y)
        lazy = pipe.predict(source)
        assert source.passes == 1
        lazy.to_numpy()
        assert source.passes == 2

    def test_no_rows(self):
        X, y = rows()
        for estimator in (RandomForestClassifier(3).fit(X, y), LogisticRegression().fit(X, y)):
            for method in ("predict", "predict_proba"):
                result = mapped(estimator, method, X[:0])
                assert result.shape == (0, *getattr(estimator, method)(X).shape[1:])
                assert result.dtype == getattr(estimator, method)(X).dtype

    def test_texts_and_other_things(self):
        texts = np.array(["a b", "b c d", "e"], dtype=object)
        hasher = HashingVectorizer(n_features=16)
        row_map = method_map(hasher, "transform", n_columns=None, dtype=texts.dtype)
        assert row_map.columns(None) == 16
        assert_array_equal(row_map(texts).toarray(), hasher.transform(texts).toarray())
        assert row_map(texts[:0]).shape == (0, 16)
        words = np.empty(2, dtype=object)
        words[:] = [{"a": 1.0}, {"b": 2.0}]
        row_map = method_map(FeatureHasher(8), "transform", n_columns=None, dtype=words.dtype)
        assert row_map(words).shape == (2, 8)

    def test_sparse_results(self, host_backend):
        X = np.random.default_rng(0).integers(0, 3, (90, 2)).astype(float)
        encoder = OneHotEncoder().fit(X)
        result = ParallelPostFit(encoder).transform(host_backend.make(X))
        assert tuple(result.shape) == (90, 6)
        if host_backend.name == "numpy":
            got = result.toarray()
        elif host_backend.name == "dask":
            got = result.compute().toarray()
        else:
            got = np.concatenate([block.toarray() for block in result])
        assert_array_equal(got, encoder.transform(X).toarray())

    def test_an_estimator_that_takes_no_made_up_row(self):
        X, y = rows()

        class Picky(LogisticRegression):
            def predict(self, X):
                if len(X) < 2:
                    raise ValueError("too few")
                return super().predict(X)

        class Odd(PCA):
            def transform(self, X):
                if len(X) < 2:
                    raise ValueError("too few")
                return super().transform(X)

        estimator = Picky().fit(X, np.array(["a", "b", "c"])[y])
        row_map = method_map(estimator, "predict", n_columns=4, dtype=F8)
        assert row_map.dtype(F8) == "<U1"
        assert_array_equal(row_map(X), estimator.predict(X))
        row_map = method_map(Odd(2).fit(X), "transform", n_columns=4, dtype=F8)
        assert row_map.columns(4) == 2

    def test_asking_warns_of_nothing(self):
        """What is asked of a made-up row may divide by zero; that is nobody's concern."""
        method_map(FunctionTransformer(np.log), "transform", n_columns=3, dtype=F8)

    def test_an_estimator_fitted_on_a_data_frame_gets_data_frames(self):
        pd = pytest.importorskip("pandas", reason="pandas is not installed")
        from sklearn.compose import make_column_transformer

        X, y = rows()
        frame = pd.DataFrame(X, columns=list("abcd"))
        forest = RandomForestClassifier(3, random_state=0).fit(frame, y)
        assert_array_equal(mapped(forest, "predict", X), forest.predict(frame))
        by_name = make_column_transformer((PCA(1), ["c", "a"]), ("passthrough", ["d"])).fit(frame)
        assert_array_equal(mapped(by_name, "transform", X), by_name.transform(frame))

    def test_data_frames_that_an_estimator_gives_become_arrays(self):
        pytest.importorskip("pandas", reason="pandas is not installed")
        X, _ = rows()
        pca = PCA(2).set_output(transform="pandas").fit(X)
        got = mapped(pca, "transform", X)
        assert type(got) is np.ndarray
        assert_array_equal(got, pca.transform(X).to_numpy())

    def test_frozen(self):
        X, y = rows()
        linear = LogisticRegression().fit(X, y)
        row_map = method_map(FrozenEstimator(linear), "decision_function", n_columns=4, dtype=F8)
        assert isinstance(row_map.maps[0], Affine)
        scaler = StandardScaler().fit(X)
        assert_array_equal(mapped(FrozenEstimator(scaler), "transform", X), scaler.transform(X))

    def test_row_maps_can_be_sent_elsewhere(self):
        X, y = rows()
        for estimator in (LogisticRegression().fit(X, y), RandomForestClassifier(3).fit(X, y)):
            row_map = method_map(estimator, "predict", n_columns=4, dtype=F8)
            assert_array_equal(pickle.loads(pickle.dumps(row_map))(X), estimator.predict(X))


class TestMissingValues:
    """Never a label for a row that has none: an error with the place."""

    ESTIMATORS = (LogisticRegression(), LinearRegression(), SGDClassifier(), PCA(2))

    @pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_where(self, estimator, bad, host_backend):
        X, y = rows()
        estimator.fit(X, y)
        X[311, 2] = bad
        method = "transform" if isinstance(estimator, PCA) else "predict"
        with pytest.raises(NonFiniteError, match="row 311"):
            host_backend.back(getattr(ParallelPostFit(estimator), method)(host_backend.make(X)))

    def test_in_a_pipeline(self, host_backend):
        X, y = rows()
        pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier())).fit(X, y)
        X[311, 2] = np.nan
        with pytest.raises(NonFiniteError, match="row 311"):
            host_backend.back(pipe.predict(host_backend.make(X)))
        with pytest.raises(NonFiniteError, match="row 311"):
            pipe.score(host_backend.make(X), y)

    def test_estimators_that_take_them_are_given_them(self):
        from sklearn.ensemble import HistGradientBoostingClassifier

        X, y = rows()
        X[311, 2] = np.nan
        model = HistGradientBoostingClassifier(max_iter=2).fit(X, y)
        assert_array_equal(
            ParallelPostFit(model).predict(ooclearn.scan(X, block_rows=100)).to_numpy(), model.predict(X)
        )
