"""Scores: one pass, bounded memory, scikit-learn's numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.pipeline import make_pipeline as make_sklearn_pipeline
from sklearn.preprocessing import StandardScaler as SklearnScaler

import ooclearn
import ooclearn.linear_model
from ooclearn import Incremental, ParallelPostFit, make_pipeline
from ooclearn.discriminant_analysis import LinearDiscriminantAnalysis
from ooclearn.exceptions import BlockMemoryError, DataError, NonFiniteError
from ooclearn.preprocessing import StandardScaler
from ooclearn.rowmaps import Rowwise
from ooclearn.scoring import Accuracy, Residuals
from ooclearn.table import Rows
from ooclearn.testing import CountingBlocks
from ooclearn.testing.strategies import cuts


def rows(n=300, seed=0):
    X = np.random.default_rng(seed).standard_normal((n, 3))
    return X, np.digitize(X[:, 0] + X[:, 1] / 2, [-0.5, 0.5])


class First(BaseEstimator):
    """Predicts its columns."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X):
        return X[:, 0] if self.n_features_in_ == 1 else X


class FirstClass(ClassifierMixin, First):
    def fit(self, X, y=None):
        self.classes_ = np.arange(3)
        return super().fit(X, y)


class FirstValue(RegressorMixin, First):
    pass


def cut(values, lengths):
    return ooclearn.scan(values).recut(lengths)


values = st.integers(-3, 3).map(float)


class TestCuts:
    """However the rows are cut, the score is scikit-learn's of all of them."""

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(data=st.data(), n=st.integers(1, 40), columns=st.integers(1, 3), weighted=st.booleans())
    def test_accuracy(self, data, n, columns, weighted):
        draw = np.random.default_rng(data.draw(st.integers(0, 1000)))
        X, y = draw.integers(0, 3, (2, n, columns)).astype(float)
        w = draw.integers(0, 3, n).astype(float) if weighted else None
        model = ParallelPostFit(FirstClass().fit(X))
        y = y[:, 0] if columns == 1 else y
        right = y == X[:, 0] if columns == 1 else (y == X).all(axis=1)
        got = model.score(cut(X, data.draw(cuts(n))), cut(y, data.draw(cuts(n))), w)
        if weighted and not w.any():
            assert np.isnan(got)
        else:
            assert_allclose(got, np.average(right, weights=w), rtol=1e-12)

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(
        data=st.data(),
        n=st.integers(2, 40),
        columns=st.integers(1, 3),
        weighted=st.booleans(),
        offset=st.sampled_from([0.0, 1e4, 1e8]),
    )
    def test_r2(self, data, n, columns, weighted, offset):
        draw = np.random.default_rng(data.draw(st.integers(0, 1000)))
        y = draw.standard_normal((n, columns)) + offset
        X = y + 0.3 * draw.standard_normal((n, columns))
        w = draw.uniform(0.1, 2, n) if weighted else None
        model = ParallelPostFit(FirstValue().fit(X))
        expected = r2_score(y, X, sample_weight=w)
        got = model.score(cut(X, data.draw(cuts(n))), cut(y if columns > 1 else y[:, 0], data.draw(cuts(n))), w)
        # A mean of 1e8 is known to half a rounding of it, 1e-8: its square is what the score may be off by.
        assert_allclose(got, expected, rtol=1e-11, atol=1e-11 + 1e-7 * (offset > 1e6) / n)

    def test_constant_targets(self):
        X = np.array([[0.0], [1.0], [0.0], [1.0]])
        model = ParallelPostFit(FirstValue().fit(X))
        for y, expected in ((np.zeros(4), 0.0), (np.full(4, 0.5), 0.0)):
            assert model.score(cut(X, (3, 1)), y) == r2_score(y, X[:, 0]) == expected
        assert model.score(cut(np.full((4, 1), 0.1), (3, 1)), np.full(4, 0.1)) == 1.0

    def test_merging_leaves_states_alone(self):
        row_map = Rowwise(np.ravel, n_columns=None)
        a, b = (Rows(np.full((2, 1), value), np.array([1.0, 2.0])) for value in (1.0, 5.0))
        for statistic in (Accuracy(row_map), Residuals(row_map)):
            first, second = statistic.of(a), statistic.of(b)
            before = repr(first), repr(second)
            statistic.merge(first, second)
            assert (repr(first), repr(second)) == before
            nothing = statistic.of(Rows(np.empty((0, 1)), np.empty(0)))
            assert repr(statistic.merge(nothing, first)) == repr(first) == repr(statistic.merge(first, nothing))


class TestEveryContainer:
    @pytest.mark.parametrize("weighted", [False, True])
    def test_classes(self, weighted, backend):
        X, y = rows()
        model = Incremental(SGDClassifier(random_state=0)).fit(X, y)
        w = np.random.default_rng(0).uniform(0, 2, 300) if weighted else None
        got = model.score(backend.make(X), backend.make(y), None if w is None else backend.make(w))
        # Rows at a boundary may change sides where numbers are coarser.
        assert_allclose(got, model.estimator_.score(X, y, w), rtol=1e-12 if backend.rounding < 1e-10 else 0.01)
        if weighted:
            assert_allclose(model.score(backend.make(X), y, w), got, rtol=1e-12)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_values(self, weighted, backend):
        X, _ = rows()
        y = X @ [1.0, 2.0, 3.0] + 7
        model = Incremental(SGDRegressor()).fit(X, y)
        w = np.random.default_rng(0).uniform(0, 2, 300) if weighted else None
        got = model.score(backend.make(X), backend.make(y), None if w is None else backend.make(w))
        assert_allclose(got, model.estimator_.score(X, y, w), rtol=1e-10 if backend.rounding < 1e-10 else 1e-4)

    def test_weights_that_are_true_or_false(self, backend):
        X, y = rows()
        w = np.arange(300) % 3 > 0
        model = LinearDiscriminantAnalysis().fit(X, y)
        assert_allclose(model.score(backend.make(X), y, backend.make(w)), model.score(X[w], y[w]), atol=0.01)

    def test_several_targets(self, host_backend):
        X, y = rows()
        both = np.stack([y, y[::-1]], axis=1)
        model = Incremental(MultiOutputClassifier(SGDClassifier(random_state=0))).fit(X, both)
        assert model.score(host_backend.make(X), host_backend.make(both)) == model.estimator_.score(X, both)
        model = Incremental(MultiOutputRegressor(SGDRegressor(random_state=0))).fit(X, X[:, :2])
        expected = model.estimator_.score(X, X[:, :2])
        assert_allclose(model.score(host_backend.make(X), host_backend.make(X[:, :2])), expected, rtol=1e-12)

    def test_clusters(self, host_backend):
        X, _ = rows()
        w = np.random.default_rng(0).uniform(0, 2, 300)
        model = Incremental(MiniBatchKMeans(3, random_state=0)).fit(X)
        assert_allclose(model.score(host_backend.make(X)), model.estimator_.score(X), rtol=1e-12)
        weighted = model.score(host_backend.make(X), None, host_backend.make(w))
        assert_allclose(weighted, model.estimator_.score(X, sample_weight=w), rtol=1e-12)


class TestReads:
    def test_one_pass(self):
        X, y = rows()
        for make, target in (
            (lambda: Incremental(SGDClassifier()), y),
            (lambda: Incremental(SGDRegressor()), y * 1.0),
            (lambda: Incremental(MiniBatchKMeans(3)), y),
            (lambda: Incremental(SGDClassifier(), scoring="f1_macro"), y),
            (lambda: make_pipeline(StandardScaler(), Incremental(SGDClassifier())), y),
            (lambda: make_pipeline(StandardScaler(), Incremental(SGDClassifier(), scoring="f1_macro")), y),
        ):
            model = make().fit(X, target)
            source, labels = CountingBlocks(X, (100, 0, 200)), CountingBlocks(target)
            model.score(source, labels)
            assert source.passes == 1
            assert labels.passes <= 1

    def test_any_other_score_keeps_to_the_memory_limit(self):
        X, _ = rows()
        model = Incremental(LatentDirichletAllocation(2, random_state=0)).fit(np.abs(X))
        source = CountingBlocks(np.abs(X))
        assert_allclose(model.score(source), model.estimator_.score(np.abs(X)))
        with ooclearn.config_context(memory_limit=1000), pytest.raises(BlockMemoryError):
            model.score(source)


class TestWrappers:
    """The score of a pipeline or a search of scikit-learn's is that of what is inside, and is summed up as well."""

    @pytest.mark.parametrize(
        "make",
        [
            lambda: make_sklearn_pipeline(SklearnScaler(), LogisticRegression()),
            lambda: GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
            lambda: GridSearchCV(make_sklearn_pipeline(SklearnScaler(), LogisticRegression()), {}, cv=2),
            lambda: GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2, scoring="f1_macro"),
            lambda: make_sklearn_pipeline(SklearnScaler(), KMeans(3, n_init=1, random_state=0)),
        ],
        ids=["pipeline", "search", "search over pipelines", "search by another score", "clusters"],
    )
    def test_scores(self, make):
        X, y = rows()
        fitted = make().fit(X, y)
        source = CountingBlocks(X, (100, 0, 200))
        model = ParallelPostFit(FrozenEstimator(fitted))
        assert_allclose(model.score(source, y), fitted.score(X, y), rtol=1e-10)
        assert source.passes == 1
        if getattr(fitted, "scoring", None) is None:
            with ooclearn.config_context(memory_limit=1000):
                model.score(source, y)


class TestScoring:
    def test_names_and_functions(self):
        X, y = rows()
        fitted = LogisticRegression().fit(X, y)
        source = ooclearn.scan(X, block_rows=70)
        assert ParallelPostFit(fitted, scoring="accuracy").score(source, y) == fitted.score(X, y)
        model = ParallelPostFit(fitted, scoring=lambda estimator, X, y: float(np.sum(estimator.predict(X) == y)))
        assert model.score(source, y) == accuracy_score(y, fitted.predict(X), normalize=False)
        assert ParallelPostFit(fitted, scoring=lambda estimator, X, y: float(y is None)).score(source) == 1

    def test_of_an_estimator_without_a_score(self):
        from sklearn.cluster import Birch

        X, y = rows()
        model = Incremental(Birch(n_clusters=3)).fit(X)
        assert not hasattr(model, "score")
        with pytest.raises(AttributeError, match="its Birch has none, and `scoring` is not set"):
            model.score(X)
        model.set_params(scoring="adjusted_rand_score")
        assert -1 <= model.score(ooclearn.scan(X, block_rows=50), y) <= 1

    def test_unknown(self):
        X, y = rows()
        model = Incremental(SGDClassifier(), scoring="cleverness").fit(X, y)
        with pytest.raises(ValueError, match="cleverness"):
            model.score(X, y)


class TestFaults:
    def test_no_target(self):
        X, y = rows()
        for model in (Incremental(SGDClassifier()).fit(X, y), Incremental(SGDRegressor()).fit(X, y)):
            with pytest.raises(ValueError, match="score requires y to be passed"):
                model.score(X)

    def test_another_length(self, host_backend):
        X, y = rows()
        model = Incremental(SGDClassifier()).fit(X, y)
        with pytest.raises(DataError, match="X has 300 rows and y has 299"):
            model.score(host_backend.make(X), y[:-1])

    def test_missing_values(self, host_backend):
        X, y = rows()
        model = Incremental(SGDClassifier()).fit(X, y)
        X[211, 1] = np.nan
        with pytest.raises(NonFiniteError, match="row 211"):
            model.score(host_backend.make(X), y)

    @pytest.mark.parametrize(
        "make", [Incremental(SGDClassifier()), Incremental(SGDRegressor())], ids=["accuracy", "r2"]
    )
    def test_missing_targets(self, make, backend):
        """R2 would be 1.0, and NaN is no wrong label."""
        X, y = rows()
        model = make.fit(X, y)
        y = y.astype(np.float64)
        y[211] = np.nan
        with pytest.raises(NonFiniteError, match=r"Input y contains NaN.*row 211\)"):
            model.score(backend.make(X), backend.make(y))

    def test_labels_of_another_kind(self):
        X, y = rows()
        text = y.astype(str)
        for fitted, asked in ((y, text), (text, y), (y, text.astype(object))):
            model = Incremental(SGDClassifier()).fit(X, fitted)
            with pytest.raises(DataError, match=r"Mix of label input types \(string and number\): y has dtype"):
                model.score(X, asked)
        model = Incremental(SGDClassifier()).fit(X, text)
        assert model.score(X, text.astype(object)) == model.score(X, text)

    def test_targets_that_are_no_numbers(self):
        X, y = rows()
        model = Incremental(SGDRegressor()).fit(X, y)
        for asked in (y.astype(str), np.array(["yes", 1.0] * 150, dtype=object)):
            with pytest.raises(
                DataError, match="y has dtype .*, and not all that is in it are numbers; expected"
            ) as caught:
                model.score(X, asked)
            assert "yes" not in str(caught.value)

    def test_negative_weights(self):
        X, y = rows()
        w = np.ones(300)
        w[5] = -1
        for model in (Incremental(SGDClassifier()).fit(X, y), Incremental(SGDRegressor()).fit(X, y)):
            with pytest.raises(DataError, match="sample_weight has negative.*row 5"):
                model.score(X, y, w)

    def test_too_few_rows_for_r2(self):
        X, _ = rows()
        model = ParallelPostFit(LinearRegression().fit(X, X[:, 0]))
        with pytest.warns(UserWarning, match="not well-defined with less than two samples"):
            assert np.isnan(model.score(X[:1], X[:1, 0]))

    @pytest.mark.parametrize("kind", ["array", "blocks", "unknown chunks", "callable"])
    @pytest.mark.parametrize("make", [LinearRegression, ooclearn.linear_model.LinearRegression], ids=["theirs", "ours"])
    def test_too_few_rows_for_r2_where_only_reading_tells(self, make, kind):
        X, _ = rows()
        y = X[:, 0] + X[:, 1]
        model = make().fit(X, y)
        model = model if make is not LinearRegression else ParallelPostFit(model)

        def cut_off(n):
            if kind == "array":
                return X[:n], y[:n]
            if kind == "blocks":
                return CountingBlocks(X[:n], [0, n]), y[:n]
            if kind == "callable":
                return ooclearn.scan(lambda: iter([X[:0], X[:n]])), y[:n]
            da = pytest.importorskip("dask.array")
            kept = da.from_array(np.arange(300) < n, chunks=100)
            return da.from_array(X, chunks=(100, 3))[kept], da.from_array(y, chunks=100)[kept]

        with pytest.warns(UndefinedMetricWarning, match="not well-defined with less than two samples") as caught:
            assert np.isnan(model.score(*cut_off(1)))
        assert [one.category for one in caught] == [UndefinedMetricWarning]
        assert_allclose(model.score(*cut_off(2)), 1.0)

    def test_no_weight_for_r2(self):
        """Nothing is told of rows without weight: scikit-learn raises."""
        X, _ = rows()
        model = ooclearn.linear_model.LinearRegression().fit(X, X[:, 0])
        with pytest.raises(ValueError, match="at least one non-zero"):
            r2_score(X[:, 0], X[:, 0], sample_weight=np.zeros(300))
        assert np.isnan(model.score(X, X[:, 0], np.zeros(300)))
        with pytest.warns(UndefinedMetricWarning):
            assert np.isnan(model.score(X[:1], X[:1, 0], np.zeros(1)))
        w = np.arange(300) == 7  # one row with a weight, and others: as scikit-learn has it
        assert model.score(X, X[:, 1], w.astype(float)) == r2_score(X[:, 1], X[:, 0], sample_weight=w) == 0.0

    def test_k_means_of_any_kind_and_nothing_else(self):
        """A score that is a mean must not be summed up: only those known to be sums are."""
        X, _ = rows()

        class Mean(KMeans):
            def score(self, X, y=None, sample_weight=None):
                return super().score(X) / len(X)

        fitted = Mean(3, n_init=1, random_state=0).fit(X)
        assert_allclose(ParallelPostFit(fitted).score(ooclearn.scan(X, block_rows=50)), fitted.score(X))
