"""All of scikit-learn's checks, with the data turned into each container. A new estimator is one line."""

from __future__ import annotations

import pytest

import ooclearn.preprocessing
from ooclearn.preprocessing import Binarizer, MaxAbsScaler, MinMaxScaler, Normalizer, StandardScaler
from ooclearn.testing import check_estimator
from ooclearn.testing.turned import CONTAINERS, FRAMES, LAZY
from whole import assert_all_ran

ESTIMATORS = [StandardScaler(), MinMaxScaler(clip=True), MaxAbsScaler(), Normalizer(), Binarizer()]

READS_NOTHING = {"check_estimators_nan_inf": "fit reads nothing; transform refuses what is not finite, with the place"}


def expected_failures(estimator, container):
    if container not in LAZY:
        return {}
    return FRAMES | (READS_NOTHING if isinstance(estimator, (Normalizer, Binarizer)) else {})


def test_every_estimator_is_listed():
    assert {type(one).__name__ for one in ESTIMATORS} == set(ooclearn.preprocessing.__all__)


@pytest.mark.parametrize("container", ["numpy", *CONTAINERS])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
def test_all_of_scikit_learns_checks(estimator, container):
    results = check_estimator(estimator, on=container, expected_failed_checks=expected_failures(estimator, container))
    passed = [one for one in results if one["status"] == "passed"]
    assert len(passed) >= 50
    # Needs SCIPY_ARRAY_API=1 in the environment, before anything is imported.
    assert_all_ran(results)
