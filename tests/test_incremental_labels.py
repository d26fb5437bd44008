"""``Incremental`` and the labels: which are found, which were given, which must not be there."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import Perceptron, SGDClassifier, SGDRegressor
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier
from sklearn.utils.class_weight import compute_class_weight

import ooclearn
from ooclearn import Incremental
from ooclearn.exceptions import DataError, DataWarning, NonFiniteError
from ooclearn.testing import CountingBlocks


def rows(n=300, seed=0):
    X = np.random.default_rng(seed).standard_normal((n, 3))
    return X, np.digitize(X[:, 0], [-0.5, 0.5])


KINDS = {
    "text": np.array(["a", "bb", "ccc"]),
    "objects": np.array(["a", "bb", "ccc"], dtype=object),
    "integers": np.array([-3, 0, 7]),
    "small integers": np.array([1, 2, 3], dtype=np.int8),
    "large integers": np.array([2**40, 2**41, 2**42]),
    "unsigned": np.array([1, 2, 2**63], dtype=np.uint64),
    "floats": np.array([0.0, 1.0, 5.0]),
    "float32": np.array([0.0, 1.0, 5.0], dtype=np.float32),
    "booleans": np.array([False, True, True]),
}


class TestFound:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("given", [False, True])
    def test_kinds(self, kind, given, host_backend):
        if kind == "objects" and host_backend.name in ("memmap", "scan"):
            pytest.skip("objects are not stored in .npy files: reading them back would run code")
        X, codes = rows()
        y = KINDS[kind][codes]
        model = Incremental(
            SGDClassifier(shuffle=False), block_rows=70, classes=np.unique(KINDS[kind])[::-1] if given else None
        )
        model.fit(host_backend.make(X), host_backend.make(y))
        expected = SGDClassifier(shuffle=False, max_iter=1, tol=None).fit(X, y)
        assert_array_equal(model.classes_, expected.classes_)
        assert model.classes_.dtype == expected.classes_.dtype
        assert_allclose(model.coef_, expected.coef_, rtol=1e-12)
        predicted = model.predict(host_backend.make(X))
        assert predicted.dtype == expected.predict(X).dtype
        assert_array_equal(np.asarray(predicted), expected.predict(X))
        assert model.score(host_backend.make(X), host_backend.make(y)) == expected.score(X, y)

    def test_a_label_that_comes_late(self, host_backend):
        X, y = rows()
        y[:] = 0
        y[-1] = 9
        model = Incremental(SGDClassifier(shuffle=False), block_rows=40).fit(host_backend.make(X), host_backend.make(y))
        assert_array_equal(model.classes_, [0, 9])

    def test_a_column(self):
        X, y = rows()
        with pytest.warns(UserWarning, match="column-vector y was passed"):
            model = Incremental(SGDClassifier(shuffle=False)).fit(X, y[:, None])
        assert_array_equal(model.coef_, Incremental(SGDClassifier(shuffle=False)).fit(X, y).coef_)
        assert model.score(X, y[:, None]) == model.score(X, y)

    def test_one_class_alone(self):
        X, _ = rows()
        with pytest.raises(ValueError, match="number of classes has to be greater than one"):
            Incremental(SGDClassifier()).fit(X, np.zeros(300))
        assert_array_equal(Incremental(GaussianNB()).fit(X, np.zeros(300)).classes_, [0])

    def test_a_continuous_target(self, host_backend):
        X, _ = rows()
        with pytest.raises(ValueError, match="Unknown label type: continuous.*regression target"):
            Incremental(SGDClassifier()).fit(host_backend.make(X), host_backend.make(X[:, 0] * 3))

    def test_a_missing_label(self, host_backend):
        X, codes = rows()
        y = codes.astype(float)
        y[123] = np.nan
        with pytest.raises(NonFiniteError, match=r"Input y contains NaN.*row 123\)"):
            Incremental(SGDClassifier(), block_rows=40).fit(host_backend.make(X), host_backend.make(y))
        with pytest.raises(NonFiniteError, match=r"Input y contains NaN.*row 123\)"):
            Incremental(SGDClassifier(), block_rows=40, classes=[0, 1, 2]).fit(
                host_backend.make(X), host_backend.make(y)
            )

    def test_labels_that_cannot_be_ordered(self):
        X, _ = rows(4)
        with pytest.raises(DataError, match="cannot be put in order"):
            Incremental(SGDClassifier()).fit(X, np.array(["a", 1, "b", 2], dtype=object))


class TestGiven:
    def test_y_is_read_once(self):
        X, y = rows()
        target = CountingBlocks(y)
        Incremental(SGDClassifier(), classes=[0, 1, 2]).fit(X, target)
        assert target.passes == 1

    def test_to_fit_in_the_place_of_the_parameter(self):
        X, y = rows()
        model = Incremental(SGDClassifier(), classes=[5]).fit(X, y, classes=[0, 1, 2])
        assert_array_equal(model.classes_, [0, 1, 2])
        assert model.classes == [5]

    def test_one_that_never_comes(self):
        X, y = rows()
        for epochs in (1, 3):
            model = Incremental(SGDClassifier(), classes=[0, 1, 2, 8], epochs=epochs, block_rows=100)
            with pytest.warns(DataWarning, match=r"classes 8 were given and do not occur") as caught:
                model.fit(X, y)
            assert len(caught) == 1
            assert caught[0].filename == __file__
            assert_array_equal(model.classes_, [0, 1, 2, 8])

    def test_partial_fit_does_not_expect_all_of_them(self):
        X, y = rows()
        model = Incremental(SGDClassifier()).partial_fit(X[:10], y[:10], classes=[0, 1, 2, 8])
        model.partial_fit(X[10:20], y[10:20])
        assert_array_equal(model.classes_, [0, 1, 2, 8])

    @pytest.mark.parametrize(
        "make", [SGDClassifier, MultinomialNB, GaussianNB, MLPClassifier], ids=lambda m: m.__name__
    )
    def test_one_that_was_not_given(self, make, host_backend):
        """scikit-learn's MultinomialNB counts such rows as of another class, without a word."""
        X, y = rows()
        X = np.abs(X)
        y[y == 2] = 0
        model = Incremental(make(), classes=[0, 1], block_rows=50).fit(host_backend.make(X), host_backend.make(y))
        before = dict(vars(model))
        y[261] = 7
        for train in (model.fit, model.partial_fit):
            with pytest.raises(DataError, match=r"label 7 is not among the 2 classes.*row 261\)") as caught:
                train(host_backend.make(X), host_backend.make(y))
            assert caught.value.rows == (261, 262)
            assert caught.value.block is not None
            assert vars(model) == before

    def test_one_of_another_kind(self):
        X, y = rows()
        for given, target in (([0, 1, 2], y.astype(str)), (["0", "1", "2"], y)):
            with pytest.raises(DataError, match=r"label '?\d'? is not among the 3 classes.*row 0\)"):
                Incremental(SGDClassifier(), classes=given).fit(X, target)

    def test_needed_at_the_first_call_of_partial_fit(self):
        X, y = rows()
        model = Incremental(SGDClassifier())
        with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
            model.partial_fit(X, y)
        model.partial_fit(X, y, classes=[2, 1, 0]).partial_fit(X, y).partial_fit(X, y, classes=[0, 1, 2])
        assert_array_equal(model.classes_, [0, 1, 2])
        with pytest.raises(ValueError, match="not the same as on"):
            model.partial_fit(X, y, classes=[0, 1, 2, 3])
        model.fit(X, y).partial_fit(X, y)
        Incremental(SGDClassifier(), classes=[0, 1, 2]).partial_fit(X, y)
        Incremental(SGDRegressor()).partial_fit(X, y)

    def test_an_estimator_that_takes_none(self):
        X, y = rows()
        model = Incremental(SGDRegressor(), classes=[0, 1])
        with pytest.raises(TypeError, match=r"SGDRegressor.partial_fit takes no 'classes'"):
            model.fit(X, y)


class TestSeveralTargets:
    @pytest.fixture
    def y(self):
        _, codes = rows()
        return np.stack([codes, codes[::-1] + 5], axis=1)

    @pytest.mark.parametrize("given", [False, True])
    def test_each_has_its_classes(self, y, given, host_backend):
        X, _ = rows()
        classes = [[0, 1, 2], [5, 6, 7]] if given else None
        model = Incremental(MultiOutputClassifier(SGDClassifier(shuffle=False)), classes=classes, block_rows=70)
        model.fit(host_backend.make(X), host_backend.make(y))
        assert [list(one.classes_) for one in model.estimators_] == [[0, 1, 2], [5, 6, 7]]
        expected = MultiOutputClassifier(SGDClassifier(shuffle=False, max_iter=1, tol=None)).fit(X, y)
        assert_array_equal(np.asarray(model.predict(host_backend.make(X))), expected.predict(X))
        assert model.score(host_backend.make(X), host_backend.make(y)) == expected.score(X, y)

    def test_one_that_was_not_given(self, y):
        X, _ = rows()
        model = Incremental(MultiOutputClassifier(SGDClassifier()), classes=[[0, 1, 2], [5, 6]])
        with pytest.raises(DataError, match="label 7 is not among the 2 classes.*column 1"):
            model.fit(X, y)

    def test_one_that_never_comes(self, y):
        X, _ = rows()
        model = Incremental(MultiOutputClassifier(SGDClassifier()), classes=[[0, 1, 2], [5, 6, 7, 8]])
        with pytest.warns(DataWarning, match="classes 8 were given"):
            model.fit(X, y)
        model.partial_fit(X, y).partial_fit(X, y, classes=[[0, 1, 2], [5, 6, 7, 8]])
        with pytest.raises(ValueError, match="not the same as on"):
            model.partial_fit(X, y, classes=[[0, 1, 2], [5, 6, 7]])

    def test_one_target_in_a_column(self, y):
        X, _ = rows()
        model = Incremental(MultiOutputClassifier(SGDClassifier(shuffle=False))).fit(X, y[:, :1])
        expected = MultiOutputClassifier(SGDClassifier(shuffle=False, max_iter=1, tol=None)).fit(X, y[:, :1])
        assert_array_equal(model.predict(X), expected.predict(X))
        assert model.predict(X).shape == (300, 1)
        assert model.score(X, y[:, :1]) == expected.score(X, y[:, :1])

    def test_probabilities_side_by_side(self, y, host_backend):
        X, _ = rows()
        model = Incremental(MultiOutputClassifier(GaussianNB())).fit(X, y)
        got = model.predict_proba(host_backend.make(X))
        assert got.shape == (300, 6)
        expected = model.estimator_.predict_proba(X)
        assert_allclose(np.asarray(got), np.concatenate(expected, axis=1), rtol=1e-12)

    def test_labels_of_an_indicator_matrix(self, host_backend):
        X, codes = rows()
        y = (codes[:, None] >= [1, 2]).astype(int)
        model = Incremental(MLPClassifier((4,), random_state=0), block_rows=70)
        model.fit(host_backend.make(X), host_backend.make(y))
        assert model.predict(host_backend.make(X)).shape == (300, 2)
        assert_array_equal(np.asarray(model.predict(host_backend.make(X))), model.estimator_.predict(X))
        assert model.score(host_backend.make(X), host_backend.make(y)) == model.estimator_.score(X, y)


class TestBalancedWeights:
    @pytest.mark.parametrize("make", [SGDClassifier, Perceptron], ids=lambda m: m.__name__)
    @pytest.mark.parametrize("labels", ["numbers", "text"])
    def test_as_over_all_rows(self, make, labels, host_backend):
        X, y = rows()
        y = y if labels == "numbers" else np.array(["a", "b", "c"])[y]
        model = Incremental(make(class_weight="balanced", shuffle=False), block_rows=70)
        model.fit(host_backend.make(X), host_backend.make(y))
        expected = make(class_weight="balanced", shuffle=False, max_iter=1, tol=None).fit(X, y)
        assert_allclose(model.coef_, expected.coef_, rtol=1e-12)
        weights = compute_class_weight("balanced", classes=np.unique(y), y=y)
        assert_array_equal(list(model.estimator_.class_weight.values()), weights)
        assert model.estimator.class_weight == "balanced"

    def test_with_classes_given(self):
        X, y = rows()
        balanced = SGDClassifier(class_weight="balanced", shuffle=False)
        model = Incremental(balanced, classes=[0, 1, 2]).fit(X, y)
        assert_array_equal(model.coef_, Incremental(balanced).fit(X, y).coef_)
        with pytest.warns(DataWarning, match="classes 5"):
            Incremental(balanced, classes=[0, 1, 2, 5]).fit(X, y)

    def test_by_hand_there_are_no_rows_to_go_by(self):
        X, y = rows()
        model = Incremental(SGDClassifier(class_weight="balanced"))
        with pytest.raises(ValueError, match="class_weight 'balanced' is not supported for partial_fit"):
            model.partial_fit(X, y, classes=[0, 1, 2])
        weights = model.fit(X, y).estimator_.class_weight
        assert model.partial_fit(X[:50], y[:50]).estimator_.class_weight == weights


class TestRefusedBeforeAnythingIsRead:
    @pytest.mark.parametrize(
        "estimator",
        [
            SGDClassifier(average=True),
            SGDClassifier(average=10),
            OneVsRestClassifier(SGDClassifier(average=True)),
            MultiOutputClassifier(SGDClassifier(average=5)),
        ],
        ids=str,
    )
    def test_averages_that_lose_their_intercept(self, estimator):
        X, y = rows()
        source = CountingBlocks(X)
        for train in (Incremental(estimator).fit, Incremental(estimator).explain):
            with pytest.raises(ValueError, match=r"SGDClassifier\(average=.*loses its intercept.*fit_intercept=False"):
                train(source, y)
        assert not source.reads

    def test_averages_without_an_intercept(self):
        X, y = rows()
        settings = {"average": True, "fit_intercept": False, "shuffle": False}
        expected = SGDClassifier(max_iter=1, tol=None, **settings).fit(X, y)
        model = Incremental(SGDClassifier(**settings), block_rows=40).fit(X, y)
        assert_allclose(model.coef_, expected.coef_, rtol=1e-10)

    @pytest.mark.parametrize(
        "estimator",
        [
            SGDClassifier(early_stopping=True),
            MLPClassifier(early_stopping=True),
            OneVsRestClassifier(SGDClassifier(early_stopping=True)),
        ],
        ids=str,
    )
    def test_early_stopping(self, estimator):
        X, y = rows()
        source = CountingBlocks(X)
        with pytest.raises(ValueError, match="early_stopping should be False with partial_fit"):
            Incremental(estimator).fit(source, y)
        assert not source.reads

    def test_a_solver_without_partial_fit(self):
        X, y = rows()
        with pytest.raises(
            ValueError, match="The 'estimator' parameter of Incremental must be an object implementing 'partial_fit'"
        ):
            Incremental(MLPClassifier(solver="lbfgs")).fit(X, y)


@pytest.mark.parametrize("make", [GaussianNB, MultinomialNB], ids=lambda make: make.__name__)
def test_a_source_that_changes_its_mind(make):
    """A second reading that gives other labels than the first is not trained on."""
    X, y = rows()
    runs = []

    def labels():
        runs.append(None)
        # The first run counts the rows, the second finds the classes, the third feeds.
        yield y if len(runs) < 3 else y + 1

    with pytest.raises(DataError, match="label 3 is not among the 3 classes"):
        Incremental(make()).fit(np.abs(X), ooclearn.scan(labels))
