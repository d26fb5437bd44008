"""All of scikit-learn's checks, with the data turned into each container. A new estimator is one line."""

from __future__ import annotations

import pytest

import ooclearn.decomposition
from ooclearn.decomposition import PCA, IncrementalPCA, TruncatedSVD
from ooclearn.testing import check_estimator
from ooclearn.testing.turned import CONTAINERS, FRAMES, LAZY
from whole import assert_all_ran

ESTIMATORS = [PCA(), IncrementalPCA(), TruncatedSVD()]


def test_every_estimator_is_listed():
    assert {type(one).__name__ for one in ESTIMATORS} == set(ooclearn.decomposition.__all__)


@pytest.mark.parametrize("container", ["numpy", *CONTAINERS])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
def test_all_of_scikit_learns_checks(estimator, container):
    results = check_estimator(estimator, on=container, expected_failed_checks=FRAMES if container in LAZY else {})
    assert sum(one["status"] == "passed" for one in results) >= 50
    # Needs SCIPY_ARRAY_API=1 in the environment, before anything is imported.
    assert_all_ran(results)
