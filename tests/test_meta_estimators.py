"""scikit-learn's meta-estimators and searches with an estimator of this library inside."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import sklearn
import sklearn.discriminant_analysis
import sklearn.linear_model
import sklearn.naive_bayes
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.compose import make_column_transformer as sklearn_column_transformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import RFE, SelectFromModel, SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    GroupKFold,
    KFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor
from sklearn.pipeline import make_pipeline as sklearn_pipeline
from sklearn.semi_supervised import SelfTrainingClassifier

import ooclearn
import ooclearn.discriminant_analysis
import ooclearn.linear_model
import ooclearn.naive_bayes
import ooclearn.pipeline
import ooclearn.preprocessing
from ooclearn import ParallelPostFit

N = 240
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 5)) * [1, 2, 3, 1, 2] + np.arange(5)
LINE = X @ [1.0, 2.0, 0.0, 0.0, 0.5] + RNG.normal(size=N)
LABELS = np.array(["a", "b", "c"])[np.digitize(X[:, 0] + X[:, 1] / 2 + RNG.normal(size=N), [-0.4, 1.2])]
YES = (X[:, 0] + RNG.normal(size=N) > 0).astype(int)
TWO = np.stack([YES, 1 - YES], axis=1)
WEIGHTS = RNG.uniform(0.2, 3.0, N)
GROUPS = np.repeat(np.arange(24), 10)


def of(library):
    return SimpleNamespace(
        scaler=library.preprocessing.StandardScaler,
        ridge=library.linear_model.Ridge,
        bayes=library.naive_bayes.GaussianNB,
        lda=library.discriminant_analysis.LinearDiscriminantAnalysis,
        pipeline=library.pipeline.make_pipeline,
    )


OURS, THEIRS = of(ooclearn), of(sklearn)

# A meta-estimator, its target, and what it is asked for.
FITTED = {
    "search": (lambda of: GridSearchCV(of.pipeline(of.scaler(), of.ridge()), {"ridge__alpha": [0.1, 10]}), LINE),
    "calibrated": (lambda of: CalibratedClassifierCV(of.bayes(), cv=3), LABELS),
    "calibrated, frozen": (
        lambda of: CalibratedClassifierCV(FrozenEstimator(of.bayes().fit(X, LABELS)), method="isotonic"),
        LABELS,
    ),
    "voting": (lambda of: VotingClassifier([("a", of.lda()), ("b", of.bayes())], voting="soft"), LABELS),
    "voting, values": (lambda of: VotingRegressor([("a", of.ridge()), ("b", of.ridge(alpha=9))]), LINE),
    "stacking": (lambda of: StackingClassifier([("a", of.lda()), ("b", of.bayes())], of.lda(), cv=3), LABELS),
    "stacking, values": (lambda of: StackingRegressor([("a", of.ridge()), ("b", of.ridge(alpha=9))], of.ridge()), LINE),
    "bagging": (lambda of: BaggingClassifier(of.bayes(), 4, random_state=0), LABELS),
    "boosting": (lambda of: AdaBoostClassifier(of.bayes(), n_estimators=4, random_state=0), LABELS),
    "one against the rest": (lambda of: OneVsRestClassifier(of.lda()), LABELS),
    "one against one": (lambda of: OneVsOneClassifier(of.lda()), LABELS),
    "codes": (lambda of: OutputCodeClassifier(of.lda(), random_state=0), LABELS),
    "several classes": (lambda of: MultiOutputClassifier(of.lda()), TWO),
    "several values": (lambda of: MultiOutputRegressor(of.ridge()), X[:, :2] + LINE[:, None]),
    "chain": (lambda of: ClassifierChain(of.lda(), cv=3), TWO),
    "scaled target": (lambda of: TransformedTargetRegressor(of.ridge(), transformer=of.scaler()), LINE),
    "half of the labels": (lambda of: SelfTrainingClassifier(of.bayes()), np.where(np.arange(N) % 2, YES, -1)),
    "selected": (lambda of: sklearn_pipeline(of.scaler(), SelectFromModel(of.ridge()), of.ridge()), LINE),
    "eliminated": (lambda of: RFE(of.lda(), n_features_to_select=2), LABELS),
    "one by one": (
        lambda of: sklearn_pipeline(SequentialFeatureSelector(of.ridge(), n_features_to_select=2), of.ridge()),
        LINE,
    ),
    "fixed threshold": (lambda of: FixedThresholdClassifier(of.lda(), threshold=0.3), YES),
    "tuned threshold": (lambda of: TunedThresholdClassifierCV(of.lda(), cv=3), YES),
    "columns": (
        lambda of: sklearn_pipeline(
            sklearn_column_transformer((of.scaler(), [0, 1]), remainder="passthrough"), of.ridge()
        ),
        LINE,
    ),
}


def same(ours, theirs):
    if np.asarray(theirs).dtype.kind == "f":
        assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)
    else:
        assert_array_equal(ours, theirs)


@pytest.fixture(scope="module", params=FITTED)
def fitted(request):
    make, y = FITTED[request.param]
    return make(OURS).fit(X, y), make(THEIRS).fit(X, y), y


@pytest.mark.parametrize("framed", [False, True])
def test_as_with_an_estimator_of_scikit_learn(fitted, framed):
    ours, theirs, y = fitted
    rows = pytest.importorskip("pandas").DataFrame(X) if framed else X
    for method in ("predict", "predict_proba", "decision_function", "transform"):
        if hasattr(theirs, method):
            assert hasattr(ours, method)
            same(getattr(ours, method)(rows), getattr(theirs, method)(rows))
    assert_allclose(ours.score(rows, y), theirs.score(rows, y), rtol=1e-9)


@pytest.mark.parametrize("lazy", ["memmap", "scan", "dask"])
def test_by_blocks(fitted, lazy, tmp_path):
    """What is fitted predicts by blocks; asked directly it is right, or says how to."""
    np.save(tmp_path / "X.npy", X)
    if lazy == "dask":
        rows = pytest.importorskip("dask.array").from_array(X, chunks=(70, 5))
    else:
        rows = ooclearn.scan(tmp_path / "X.npy", block_rows=70)
        rows = np.load(tmp_path / "X.npy", mmap_mode="r") if lazy == "memmap" else rows
    ours, theirs, y = fitted
    model = ParallelPostFit(ours)
    same(np.asarray(model.predict(rows)), theirs.predict(X))
    assert_allclose(model.score(rows, y), theirs.score(X, y), rtol=1e-9)
    if lazy == "dask":
        return
    try:
        got = ours.predict(rows)
    except AttributeError as error:
        assert "ooclearn.ParallelPostFit(estimator)" in str(error)
    else:
        same(np.asarray(got), theirs.predict(X))


def scores(of):
    pipe = of.pipeline(of.scaler(), of.ridge())
    values = cross_validate(pipe, X, LINE, cv=KFold(3), scoring=("r2", "neg_max_error"), return_train_score=True)
    classes = cross_validate(
        of.bayes(), X, LABELS, groups=GROUPS, cv=GroupKFold(4), scoring=("f1_macro", "neg_log_loss")
    )
    yield from (values["test_r2"], values["test_neg_max_error"], values["train_r2"])
    yield from (classes["test_f1_macro"], classes["test_neg_log_loss"])
    yield cross_val_predict(of.lda(), X, LABELS, method="predict_proba")
    yield from learning_curve(of.bayes(), X, LABELS, exploit_incremental_learning=True, shuffle=True, random_state=0)
    model = of.ridge().fit(X, LINE)
    yield permutation_importance(model, X, LINE, n_repeats=2, random_state=0, sample_weight=WEIGHTS).importances
    yield partial_dependence(model, X, [0, 1], grid_resolution=3)["average"]


def test_scores():
    for ours, theirs in zip(scores(OURS), scores(THEIRS), strict=True):
        same(ours, theirs)


def routed(of):
    ridge = of.ridge().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    pipe = of.pipeline(of.scaler().set_fit_request(sample_weight=True), ridge)
    search = GridSearchCV(pipe, {"ridge__alpha": [0.1, 10]}, cv=GroupKFold(3))
    stack = StackingRegressor([("a", ridge)], final_estimator=ridge, cv=3)
    return [
        pipe.fit(X, LINE, sample_weight=WEIGHTS).predict(X),
        cross_validate(pipe, X, LINE, cv=3, params={"sample_weight": WEIGHTS})["test_score"],
        search.fit(X, LINE, sample_weight=WEIGHTS, groups=GROUPS).cv_results_["mean_test_score"],
        stack.fit(X, LINE, sample_weight=WEIGHTS).predict(X),
    ]


def test_weights_and_groups_are_routed():
    with sklearn.config_context(enable_metadata_routing=True):
        for ours, theirs in zip(routed(OURS), routed(THEIRS), strict=True):
            same(ours, theirs)
