"""Labels that classifiers refuse: complex numbers, bytes, a continuous target."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier as TheirSGDClassifier
from sklearn.naive_bayes import GaussianNB as TheirGaussianNB

import ooclearn
from ooclearn import Incremental, make_pipeline
from ooclearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from ooclearn.exceptions import DataError
from ooclearn.feature_selection import SelectKBest
from ooclearn.linear_model import LogisticRegression, SGDClassifier
from ooclearn.naive_bayes import CategoricalNB, GaussianNB, MultinomialNB
from ooclearn.preprocessing import StandardScaler

Y = np.arange(60) % 2
X = np.random.default_rng(0).integers(0, 5, size=(60, 3)) + Y[:, None]
LABELS = {
    "complex": (Y + 0j, "Complex data not supported"),
    "bytes": (np.array([b"a", b"b"])[Y], "labels represented as bytes is not supported"),
    "objects that are bytes": (
        np.array([b"a", b"b"], dtype=object)[Y],
        "labels represented as bytes is not supported",
    ),
}
CLASSIFIERS = {
    "logistic": LogisticRegression,
    "SGD": SGDClassifier,
    "Gaussian": GaussianNB,
    "multinomial": MultinomialNB,
    "categorical": CategoricalNB,
    "linear": LinearDiscriminantAnalysis,
    "quadratic": QuadraticDiscriminantAnalysis,
    "behind a scaler": lambda: make_pipeline(StandardScaler(), GaussianNB()),
}
CONTAINERS = {
    "numpy": lambda x: x,
    "blocks": lambda x: ooclearn.scan(x, block_rows=20),
    "dask": lambda x: pytest.importorskip("dask.array").from_array(x, chunks=(20, *x.shape[1:])),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_classifiers(classifier, labels, container):
    y, words = LABELS[labels]
    with pytest.raises(DataError, match=words):
        CLASSIFIERS[classifier]().fit(CONTAINERS[container](X), CONTAINERS[container](y))


@pytest.mark.parametrize("theirs", [TheirSGDClassifier, TheirGaussianNB])
@pytest.mark.parametrize("labels", LABELS)
def test_incremental_refuses_what_its_estimator_does(labels, theirs):
    y, words = LABELS[labels]
    for model in (theirs(), Incremental(theirs())):
        with pytest.raises((TypeError, ValueError), match=words):
            model.fit(X, y)


@pytest.mark.parametrize("classifier", [GaussianNB, MultinomialNB, LogisticRegression, LinearDiscriminantAnalysis])
def test_too_many_values_are_those_of_the_target(classifier, tmp_path):
    np.save(tmp_path / "X.npy", X.repeat(20, axis=0))
    np.save(tmp_path / "target.npy", np.random.default_rng(0).random(20 * len(X)))
    with pytest.raises(DataError, match=r"more than .* distinct values.*target\.npy") as caught:
        classifier().fit(ooclearn.scan(tmp_path / "X.npy"), ooclearn.scan(tmp_path / "target.npy"))
    assert "X.npy" not in str(caught.value)


def test_scores_of_columns():
    with pytest.raises(DataError, match="Complex data not supported"):
        SelectKBest(k=1).fit(X, Y + 0j)


@pytest.mark.parametrize("labels", [np.array(["a", "b"]), np.array(["a", "b"], dtype=object), np.array([False, True])])
def test_others_are_taken(labels):
    y = labels[Y]
    model = GaussianNB().fit(X, y)
    reference = TheirGaussianNB().fit(X, y)
    np.testing.assert_array_equal(model.predict(X), reference.predict(X))
    np.testing.assert_array_equal(model.classes_, reference.classes_)
