"""check_estimator: turns the data, looks at what comes back, and finds what is wrong."""

from __future__ import annotations

import pickle
from unittest import SkipTest

import numpy as np
import pytest
import sklearn.preprocessing
from sklearn.base import clone
from sklearn.utils import estimator_checks
from sklearn.utils.metaestimators import available_if

import ooclearn.preprocessing
from ooclearn.blocks import Blocks
from ooclearn.testing import check_estimator
from ooclearn.testing.turned import CONTAINERS, FRAMES, turned

X = np.random.default_rng(0).normal(3, 2, (30, 3))


class Looking(ooclearn.preprocessing.StandardScaler):
    """Notes what it is given."""

    def fit(self, X, y=None, sample_weight=None):
        self.given = type(X).__name__, type(sample_weight).__name__
        return super().fit(X, sample_weight=sample_weight)


class GivesArrays(ooclearn.preprocessing.MaxAbsScaler):
    """Answers in NumPy arrays, whatever it is given."""

    def transform(self, X):
        return np.asarray(super().transform(X))


class Forgets(ooclearn.preprocessing.MaxAbsScaler):
    """Looks at the first block only."""

    def fit(self, X, y=None):
        return super().fit(X.recut((2, len(X) - 2)).read(0) if isinstance(X, Blocks) and len(X) == 60 else X)


class Choosy(ooclearn.preprocessing.MaxAbsScaler):
    """Has a method only sometimes."""

    @available_if(lambda self: self.clip)
    def predict(self, X):
        return X


@pytest.mark.parametrize(
    ("name", "kind"), [("blocks", "CountingBlocks"), ("dask", "Array"), ("array_api_strict", "Array")]
)
def test_data_are_turned_and_results_turned_back(name, kind):
    estimator = turned(Looking(), CONTAINERS[name])
    assert estimator.fit(X, sample_weight=np.ones(30)) is estimator
    assert estimator.given == (kind, kind)
    out = estimator.transform(X)
    assert type(out) is np.ndarray
    np.testing.assert_allclose(out, sklearn.preprocessing.StandardScaler().fit_transform(X), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(estimator.fit_transform(X), out, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(estimator.inverse_transform(out), X, rtol=1e-12)


def test_what_is_turned_is_the_estimator_all_the_same():
    estimator = turned(ooclearn.preprocessing.MinMaxScaler(clip=True), CONTAINERS["blocks"])
    assert repr(estimator) == "MinMaxScaler(clip=True)"
    assert isinstance(estimator, ooclearn.preprocessing.MinMaxScaler)
    assert type(clone(estimator)) is type(estimator)
    again = pickle.loads(pickle.dumps(estimator.fit(X)))
    np.testing.assert_array_equal(again.transform(X), estimator.transform(X))


def test_methods_are_there_when_they_are_there():
    assert not hasattr(turned(Choosy(), CONTAINERS["blocks"]), "predict")
    np.testing.assert_array_equal(turned(Choosy(clip=True), CONTAINERS["blocks"]).predict(X), X)


def test_an_estimator_of_arrays_in_memory_passes_on_numpy():
    results = check_estimator(sklearn.preprocessing.MaxAbsScaler())
    assert {one["status"] for one in results} <= {"passed", "skipped"}
    names = {one["check_name"] for one in results}
    assert {"check_fit_idempotent", "check_param_validation", "check_set_output_transform_polars"} <= names


def test_an_answer_in_another_container_is_found():
    with pytest.raises(AssertionError, match="data of the backend dask are answered by a ndarray of numpy"):
        check_estimator(GivesArrays(), on="dask", expected_failed_checks=FRAMES)


def test_a_wrong_answer_is_found():
    with pytest.raises(AssertionError, match="check_answers_of_numpy"):
        check_estimator(Forgets(), on="blocks", expected_failed_checks=FRAMES)


def test_all_failures_are_named_at_once():
    with pytest.raises(AssertionError) as error:
        check_estimator(GivesArrays(), on="array_api_strict")
    assert len(str(error.value).splitlines()) > 3


def test_a_check_expected_to_fail_must_fail():
    with pytest.raises(AssertionError, match="check_fit_idempotent: expected to fail \\(no reason\\), and does not"):
        check_estimator(
            ooclearn.preprocessing.MaxAbsScaler(),
            expected_failed_checks={"check_fit_idempotent": "no reason"},
        )


def test_a_check_whose_library_is_not_installed_tells_nothing(monkeypatch):
    def skip(*_):
        raise SkipTest("polars is not installed")

    monkeypatch.setattr(estimator_checks, "check_set_output_transform_polars", skip)
    results = check_estimator(ooclearn.preprocessing.MaxAbsScaler(), on="blocks", expected_failed_checks=FRAMES)
    assert "check_set_output_transform_polars" in {one["check_name"] for one in results if one["status"] == "skipped"}


def test_containers_by_name_or_by_what_makes_them():
    with pytest.raises(ValueError, match="on must be 'numpy', a callable, or one of 'blocks', 'dask'"):
        check_estimator(ooclearn.preprocessing.MaxAbsScaler(), on="cupy")
    seen = []

    def make(values):
        seen.append(values.shape)
        return np.asfortranarray(values)

    check_estimator(ooclearn.preprocessing.MaxAbsScaler(), on=make)
    assert seen
