"""All of scikit-learn's checks, with the data turned into each container. A new selector is one line."""

from __future__ import annotations

import re

import pytest
from sklearn.base import BaseEstimator

import ooclearn.feature_selection
from ooclearn.feature_selection import SelectKBest, SelectPercentile, VarianceThreshold, f_regression
from ooclearn.testing import check_estimator
from ooclearn.testing.turned import CONTAINERS, FRAMES, LAZY
from whole import assert_all_ran

ESTIMATORS = [
    VarianceThreshold(),
    SelectKBest(k=1),
    SelectKBest(f_regression, k="all"),
    SelectPercentile(percentile=50),
]


def test_every_estimator_is_listed():
    exported = (getattr(ooclearn.feature_selection, name) for name in ooclearn.feature_selection.__all__)
    found = {one for one in exported if isinstance(one, type) and issubclass(one, BaseEstimator)}
    assert found == {type(one) for one in ESTIMATORS}


def named(estimator):
    return re.sub(r"<function (\w+) at [^>]*>", r"\1", repr(estimator))


@pytest.mark.parametrize("container", ["numpy", *CONTAINERS])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=named)
def test_all_of_scikit_learns_checks(estimator, container):
    expected = FRAMES if container in LAZY else {}
    results = check_estimator(estimator, on=container, expected_failed_checks=expected)
    passed = [one for one in results if one["status"] == "passed"]
    assert len(passed) >= 50
    # Needs SCIPY_ARRAY_API=1 in the environment, before anything is imported.
    assert_all_ran(results)
