"""Faults of the catalogue that lie in labels, and in the order of rows: 6 to 11."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier
from sklearn.naive_bayes import GaussianNB

import ooclearn
from ooclearn import Incremental
from ooclearn.exceptions import DataWarning
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler
from scalers import host


@pytest.mark.parametrize("labels", [[0, 1], [1, 2], [-3, 0, 7], ["no", "yes"], [False, True], [2.0, 4.0]], ids=str)
def test_06_no_classes_given_and_10_labels_of_any_kind(container, labels, X):
    y = np.asarray(labels)[np.digitize(X[:, 0], [0.5, 1.2][: len(labels) - 1])]
    data, target = container(X), container(y, "y")
    for model in (
        Incremental(SGDClassifier(random_state=0)),
        make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))),
    ):
        model.fit(data, target)
        np.testing.assert_array_equal(model.classes_, labels)
        predicted = host(model.predict(data))
        assert set(predicted.tolist()) == set(labels)
        assert model.score(data, target) == pytest.approx((predicted == y).mean())
        assert (predicted == y).mean() > 0.7


@pytest.mark.parametrize(
    "of", [lambda: GaussianNB(), lambda: SGDClassifier(random_state=0, shuffle=False)], ids=["GaussianNB", "SGD"]
)
def test_06_classes_found_are_those_that_scikit_learn_is_given(container, of, X, y):
    found = Incremental(of()).fit(container(X), container(y, "y"))
    given = of().partial_fit(X, y, classes=[0, 1])
    np.testing.assert_allclose(
        getattr(found, "coef_", None) if hasattr(given, "coef_") else found.theta_,
        getattr(given, "coef_", None) if hasattr(given, "coef_") else given.theta_,
        rtol=1e-12,
    )


def test_06_partial_fit_cannot_know_them(container, refused, X, y):
    model = Incremental(SGDClassifier())
    data = container(X)
    with refused(model, "classes must be passed on the first call to partial_fit", error=ValueError):
        model.partial_fit(data, y)


@pytest.mark.parametrize("shuffle", [False, True])
def test_07_an_unseen_label_in_a_late_block(container, refused, shuffle, X, y):
    spoilt = np.array(y)
    spoilt[823] = 7
    data, target = container(X), container(spoilt, "y")
    where = ("label 7", f"block {container.block_of(data, 823)}", "row 823", container.inside("y"))
    model = Incremental(SGDClassifier(random_state=0), classes=[0, 1], shuffle=shuffle)
    with refused(model, *where):
        model.fit(data, target)
    model.fit(X, y)
    for call in (model.fit, model.partial_fit):
        with refused(model, *where):
            call(data, target)
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(), classes=[0, 1], shuffle=shuffle))
    with refused(pipe, *where):
        pipe.fit(data, target)


def test_07_an_unseen_label_among_texts(container, refused, X, y):
    names = np.array(["no", "yes"])[y]
    model = Incremental(SGDClassifier(), classes=["no", "yes"]).fit(X, names)
    spoilt = names.astype("<U5")
    spoilt[823] = "maybe"
    data, target = container(X), container(spoilt, "y")
    with refused(model, "'maybe'", f"block {container.block_of(data, 823)}", "row 823"):
        model.partial_fit(data, target)


def test_07_counts_of_a_class_that_came_too_late(refused, X, y):
    model = Incremental(GaussianNB(), classes=[0, 1])
    with refused(model, "label 2", "row 823", "block 8"):
        model.fit(ooclearn.scan(np.array(X), block_rows=100), np.where(np.arange(1000) == 823, 2, y))


@pytest.mark.parametrize("of", [lambda: GaussianNB(), lambda: SGDClassifier(random_state=0)], ids=["GaussianNB", "SGD"])
def test_08_a_class_that_was_given_and_never_occurs(container, of, X, y):
    data, target = container(X), container(y, "y")
    model = Incremental(of(), classes=[0, 1, 5])
    with pytest.warns(DataWarning, match="5") as caught:
        model.fit(data, target)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predicted = host(model.predict(data))
    assert set(predicted.tolist()) <= {0, 1}


def test_08_several_classes_in_a_pipeline_of_several_epochs(container, X, y):
    data, target = container(X), container(y, "y")
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0), classes=[0, 1, 5, 6], epochs=3))
    with pytest.warns(DataWarning, match="5, 6") as caught:
        pipe.fit(data, target)
    assert len(caught) == 1


@pytest.fixture
def in_order(X, y):
    """Rows sorted by class."""
    order = np.argsort(y, kind="stable")
    return X[order], y[order]


def test_09_rows_sorted_by_class(container, in_order):
    data, target = container(in_order[0]), container(in_order[1], "y")
    poor = Incremental(SGDClassifier(random_state=0, shuffle=False))
    with pytest.warns(DataWarning, match=r"sorted by class.*shuffle=True") as caught:
        poor.fit(data, target)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0), shuffle=False, epochs=2))
    with pytest.warns(DataWarning, match=r"sorted by class.*shuffle=True") as caught:
        pipe.fit(data, target)
    assert len(caught) == 1


def test_09_the_cure_and_the_default_shuffle_rows_that_are_sorted(container, in_order):
    data, target = container(in_order[0], rows=20), container(in_order[1], "y", rows=20)
    for pipe in (
        make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))),
        make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0, shuffle=False), shuffle=True)),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pipe.fit(data, target)
        assert pipe.score(*in_order) > 0.9


def test_11_run_twice(container, trained, same, X, y):
    from sklearn.base import clone

    data, target = container(X), container(y, "y")
    with ooclearn.config_context(workers=4):
        first = trained.fit(data, target)
    again = clone(trained).fit(data, target)
    same(first, again)


def test_11_a_generator_that_is_given_is_not_used_up(refused, same, X, y):
    state = np.random.RandomState(7)
    before = state.get_state()[1].tobytes()
    model = Incremental(SGDClassifier(random_state=0), random_state=state)
    first = model.fit(X, y).estimator_
    assert state.get_state()[1].tobytes() == before
    model.explain(X, y)
    same(model.fit(X, y).estimator_, first)
    other = Incremental(SGDClassifier(random_state=0), random_state=8).fit(X, y).estimator_
    assert not np.array_equal(first.coef_, other.coef_)
