"""All of scikit-learn's checks of the models fitted from scatter matrices, on each container."""

from __future__ import annotations

import pytest

from ooclearn.linear_model import ElasticNet, Lasso, LinearRegression, Ridge, RidgeCV
from ooclearn.testing import check_estimator
from ooclearn.testing.turned import CONTAINERS
from whole import assert_all_ran

ESTIMATORS = [LinearRegression(), Ridge(), RidgeCV(), RidgeCV(cv=2), Lasso(alpha=0.1), ElasticNet(alpha=0.1)]


WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": (
        "leaving out a row of weight 2 is not leaving out one of two equal rows, in scikit-learn as here"
    )
}


def expected_failures(estimator):
    return WEIGHTS if isinstance(estimator, RidgeCV) else {}


@pytest.mark.parametrize("container", ["numpy", *CONTAINERS])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_all_of_scikit_learns_checks(estimator, container):
    results = check_estimator(estimator, on=container, expected_failed_checks=expected_failures(estimator))
    passed = [one for one in results if one["status"] == "passed"]
    assert len(passed) >= 50
    # Needs SCIPY_ARRAY_API=1 in the environment, before anything is imported.
    assert_all_ran(results)
