"""Every estimator of scikit-learn that has ``partial_fit``, fed from every container: as a loop written by hand."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.naive_bayes import CategoricalNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils import all_estimators
from threadpoolctl import threadpool_limits

import ooclearn
from ooclearn import Incremental

ROWS = 240
BLOCK_ROWS = 64

# The methods whose answer for a row is that row's alone. The other rows of a block come in where they are drawn
# (BernoulliRBM.score_samples flips bits at random) or solved for together until they settle (MiniBatchNMF).
METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "transform")
NOT_ROW_BY_ROW = {("BernoulliRBM", "score_samples"), ("MiniBatchNMF", "transform")}
# Of the last block alone, so not computed while blocks are fed.
OF_ONE_BLOCK = {"labels_", "inertia_"}


@pytest.fixture(autouse=True)
def _one_thread_for_k_means():
    """Threads of OpenMP that wait for one another spin: where tests share the cores, most of their time."""
    with threadpool_limits(1, user_api="openmp"):
        yield


@pytest.fixture(autouse=True)
def _deprecated_in_scikit_learn():
    """The passive-aggressive estimators are there until 1.10, and so are these tests of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Class PassiveAggressive", FutureWarning)
        yield


def made(kind):
    """Return X and y: every X is whole numbers from 0 to 8, which any estimator takes."""
    rng = np.random.default_rng(20240611)
    X = rng.integers(0, 9, (ROWS, 6)).astype(np.float64)
    classes = np.array(["low", "mid", "high"])[np.digitize(X[:, 0] + rng.standard_normal(ROWS), [3, 6])]
    values = X @ rng.standard_normal(6) / 10 + rng.standard_normal(ROWS)
    return {
        "classes": (X, classes),
        "numbered classes": (X, np.unique(classes, return_inverse=True)[1]),
        "values": (X, values),
        "several classes": (X, np.stack([classes == "low", X[:, 1] > 4], axis=1).astype(np.int64) + 5),
        "several labels": (X, np.stack([classes == "low", X[:, 1] > 4, X[:, 2] > 6], axis=1).astype(np.int64)),
        "several values": (X, np.stack([values, X[:, 1] - values], axis=1)),
        "rows alone": (X, None),
        "texts": (np.array([" ".join(f"w{int(cell)}" for cell in row) for row in X]), None),
    }[kind]


@dataclass(frozen=True)
class Case:
    """An estimator and what it is trained on."""

    name: str
    make: Callable[[], Any]
    kind: str

    def __str__(self):
        return f"{self.name}-{self.kind}"

    def estimator(self):
        made = self.make()
        small = {"random_state": 0, "n_components": 4, "hidden_layer_sizes": (5,), "n_clusters": 3, "n_features": 64}
        known = made.get_params(deep=False)
        return made.set_params(**{name: value for name, value in small.items() if name in known})


def has_partial_fit():
    return {name: cls for name, cls in all_estimators() if hasattr(cls, "partial_fit")}


# What a class cannot be made without, or needs for this data.
WITH = {
    "CategoricalNB": lambda: CategoricalNB(min_categories=9),
    "MultiOutputClassifier": lambda: MultiOutputClassifier(SGDClassifier(random_state=0)),
    "MultiOutputRegressor": lambda: MultiOutputRegressor(SGDRegressor(random_state=0)),
    "OneVsOneClassifier": lambda: OneVsOneClassifier(SGDClassifier(random_state=0)),
    "OneVsRestClassifier": lambda: OneVsRestClassifier(SGDClassifier(random_state=0)),
    "SelectFromModel": lambda: SelectFromModel(SGDClassifier(random_state=0)),
}
CLASSIFIERS = (
    *("BernoulliNB", "CategoricalNB", "ComplementNB", "GaussianNB", "MLPClassifier", "MultinomialNB"),
    *("OneVsOneClassifier", "OneVsRestClassifier", "PassiveAggressiveClassifier", "Perceptron", "SGDClassifier"),
    "SelectFromModel",
)
# Its `partial_fit` makes zeros like y, and so of texts an empty text that is no class.
OF_NUMBERS = {"OneVsOneClassifier": "numbered classes"}
REGRESSORS = ("MLPRegressor", "PassiveAggressiveRegressor", "SGDRegressor")
OTHERS = (
    *("BernoulliRBM", "Birch", "IncrementalPCA", "LatentDirichletAllocation", "MaxAbsScaler", "MinMaxScaler"),
    *("MiniBatchDictionaryLearning", "MiniBatchKMeans", "MiniBatchNMF", "SGDOneClassSVM", "StandardScaler"),
)
KINDS = {
    **dict.fromkeys(CLASSIFIERS, "classes"),
    **OF_NUMBERS,
    **dict.fromkeys(REGRESSORS, "values"),
    **dict.fromkeys(OTHERS, "rows alone"),
    "MultiOutputClassifier": "several classes",
    "MultiOutputRegressor": "several values",
    "HashingVectorizer": "texts",
}
CASES = [
    *(Case(name, WITH.get(name, cls), KINDS.get(name, "?")) for name, cls in has_partial_fit().items()),
    Case("MLPClassifier", MLPClassifier, "several labels"),
    Case("MLPRegressor", MLPRegressor, "several values"),
]


def test_every_estimator_is_listed():
    """A new one of scikit-learn's shows here: give it a kind of data in KINDS."""
    assert set(has_partial_fit()) == set(KINDS)
    assert len(KINDS) == 29


class Recorder:
    """Has ``partial_fit`` and nothing else of scikit-learn's: keeps what it is fed."""

    def __init__(self):
        self.blocks = []

    def partial_fit(self, X, y=None):
        self.blocks.append((X.copy(), None if y is None else y.copy()))


class TextRecorder(Recorder, BaseEstimator):
    """The same for texts."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags


def blocks_fed(X, y):
    """Return the blocks that X and y are fed in."""
    recorder = Recorder() if len(X.shape) == 2 else TextRecorder()
    fed = Incremental(recorder, shuffle=False, block_rows=BLOCK_ROWS).fit(X, y)
    return fed.estimator_.blocks


def by_hand(estimator, blocks, y):
    """Train as a careful user would, in a loop."""
    wants_classes = KINDS[type(estimator).__name__] in ("classes", "numbered classes", "several classes")
    first = {}
    if wants_classes or type(estimator) is MLPClassifier:
        columns = y.ndim == 2
        first["classes"] = [np.unique(column) for column in y.T] if columns else np.unique(y)
        if type(estimator) is MLPClassifier and columns:
            first["classes"] = np.arange(y.shape[1])
    for number, (X_block, y_block) in enumerate(blocks):
        args = [X_block] if y_block is None else [X_block, y_block]
        estimator.partial_fit(*args, **(first if number == 0 else {}))
    return estimator


def assert_same_state(got, expected, place=""):
    """Compare everything that a fit has set, estimators inside included."""
    assert type(got) is type(expected), place
    if isinstance(expected, BaseEstimator):
        assert str(got.get_params()) == str(expected.get_params()), place
        names = {name for name in vars(expected) if name.endswith("_")} - OF_ONE_BLOCK
        assert names <= set(vars(got)), place
        for name in sorted(names):
            assert_same_state(getattr(got, name), getattr(expected, name), f"{place}.{name}")
    elif isinstance(expected, (list, tuple)):
        assert len(got) == len(expected), place
        for number, (a, b) in enumerate(zip(got, expected, strict=True)):
            assert_same_state(a, b, f"{place}[{number}]")
    elif isinstance(expected, (np.ndarray, float, np.floating)):
        assert_same_numbers(got, expected, place)
    elif isinstance(expected, (int, str, np.integer)):
        assert got == expected, place


def assert_same_numbers(got, expected, place=""):
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.dtype == expected.dtype, place
    if expected.dtype.kind != "f":
        assert_array_equal(got, expected, err_msg=place)
    else:
        scale = np.abs(expected).max(initial=0)
        assert_allclose(got, expected, rtol=1e-12, atol=1e-12 * scale, err_msg=place)


def dense(result):
    result = np.concatenate(result, axis=1) if isinstance(result, list) else result
    return result.toarray() if sparse.issparse(result) else np.asarray(result)


def read_back(container, result):
    if not container.lazy:
        return dense(result)
    if hasattr(result, "compute"):
        return dense(result.compute())
    return np.concatenate([dense(block) for block in result])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_as_a_loop_by_hand(case, host_backend):
    X, y = made(case.kind)
    container = host_backend.make(X)
    target = None if y is None else host_backend.make(y)
    estimator = case.estimator()
    model = Incremental(estimator, shuffle=False, block_rows=BLOCK_ROWS).fit(container, target)
    blocks = blocks_fed(container, target)
    assert_array_equal(np.concatenate([block for block, _ in blocks]), X)
    assert len(blocks) > 2
    assert_same_state(model.estimator_, by_hand(clone(estimator), blocks, y))
    assert not [name for name in vars(estimator) if name.endswith("_")], "the estimator given is not trained"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_methods_answer_as_the_estimator_does(case, host_backend):
    X, y = made(case.kind)
    container = host_backend.make(X)
    model = Incremental(case.estimator(), shuffle=False, block_rows=BLOCK_ROWS)
    model.fit(container, None if y is None else host_backend.make(y))
    asked = [method for method in METHODS if hasattr(model.estimator_, method)]
    assert asked or case.name == "SelectFromModel"
    for method in asked:
        result = getattr(model, method)(container)
        got = read_back(host_backend, result)
        assert got.shape == tuple(result.shape), "declared as computed"
        assert got.dtype == result.dtype, "declared as computed"
        if (case.name, method) in NOT_ROW_BY_ROW:
            continue
        expected = dense(getattr(model.estimator_, method)(X))
        assert got.shape == expected.shape
        assert_allclose(got, expected, rtol=1e-9, atol=1e-12) if got.dtype.kind == "f" else assert_array_equal(
            got, expected
        )
    for method in METHODS:
        assert hasattr(model, method) == hasattr(model.estimator_, method)
    if hasattr(model.estimator_, "score"):
        expected = model.estimator_.score(X, y)
        assert_allclose(model.score(container, None if y is None else host_backend.make(y)), expected, rtol=1e-9)
    else:
        assert not hasattr(model, "score")


# Their `partial_fit` does not, whatever the tags of some say.
NOT_SPARSE = {
    *("CategoricalNB", "GaussianNB", "HashingVectorizer", "IncrementalPCA", "MiniBatchDictionaryLearning"),
    *("MinMaxScaler", "StandardScaler"),
}
SPARSE = [case for case in CASES if case.name not in NOT_SPARSE]


@pytest.mark.parametrize("case", [case for case in CASES if case.name in NOT_SPARSE - {"HashingVectorizer"}], ids=str)
def test_sparse_rows_are_refused_where_the_estimator_does(case):
    X, y = made(case.kind)
    with pytest.raises((TypeError, ValueError), match="[Ss]parse"):
        Incremental(case.estimator(), block_rows=BLOCK_ROWS).fit(sparse.csr_array(X), y)


@pytest.mark.parametrize("form", ["in memory", "blocks"])
@pytest.mark.parametrize("case", SPARSE, ids=str)
def test_sparse_rows(case, form):
    X, y = made(case.kind)
    rows = sparse.csr_array(X)
    container = rows if form == "in memory" else ooclearn.scan(rows, block_rows=50)
    estimator = case.estimator()
    model = Incremental(estimator, shuffle=False, block_rows=BLOCK_ROWS).fit(container, y)
    parts = [slice(start, start + BLOCK_ROWS) for start in range(0, ROWS, BLOCK_ROWS)]
    blocks = [(rows[part], None if y is None else y[part]) for part in parts]
    assert_same_state(model.estimator_, by_hand(clone(estimator), blocks, y))
    for method in METHODS:
        if hasattr(model.estimator_, method) and (case.name, method) not in NOT_ROW_BY_ROW:
            result = getattr(model, method)(container)
            got = dense(result) if form == "in memory" else np.concatenate([dense(block) for block in result])
            expected = dense(getattr(model.estimator_, method)(rows))
            assert_allclose(got, expected, rtol=1e-9, atol=1e-12) if got.dtype.kind == "f" else assert_array_equal(
                got, expected
            )
    if hasattr(model.estimator_, "score") and y is not None:
        assert_allclose(model.score(container, y), model.estimator_.score(rows, y), rtol=1e-9)


@pytest.mark.parametrize("shuffle", [False, True])
def test_text_pipeline_from_blocks(shuffle):
    """Texts are hashed on the way: sparse blocks reach the classifier, and are never put together."""
    from sklearn.feature_extraction.text import HashingVectorizer

    from ooclearn import make_pipeline

    texts, _ = made("texts")
    _, y = made("classes")
    hashed = HashingVectorizer(n_features=2**10)
    pipe = make_pipeline(hashed, Incremental(SGDClassifier(random_state=0), shuffle=shuffle, block_rows=BLOCK_ROWS))
    blocks = ooclearn.scan(texts, block_rows=50)
    assert pipe.explain(blocks, y).n_passes == 1
    pipe.fit(blocks, y)
    predicted = pipe.predict(blocks)
    assert predicted.shape == (ROWS,)
    assert_array_equal(predicted.to_numpy(), pipe[-1].estimator_.predict(hashed.transform(texts)))
    assert pipe.score(blocks, y) == np.mean(predicted.to_numpy() == y)
    assert_array_equal(pipe.predict(list(texts)), predicted.to_numpy())
    if not shuffle:
        expected = SGDClassifier(random_state=0)
        for start in range(0, ROWS, BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            expected.partial_fit(hashed.transform(texts[part]), y[part], classes=np.unique(y))
        assert_allclose(pipe[-1].coef_, expected.coef_, rtol=1e-12)
