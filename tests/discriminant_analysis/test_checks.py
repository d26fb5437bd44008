"""All of scikit-learn's checks, with the data turned into each container. A new estimator is one line."""

from __future__ import annotations

import pytest

import ooclearn.discriminant_analysis
from ooclearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from ooclearn.testing import check_estimator
from ooclearn.testing.turned import CONTAINERS, FRAMES, LAZY
from whole import assert_all_ran

# The checks of sample weights, which scikit-learn's have none of, come with fewer rows of a class than columns: without
# regularisation the quadratic model refuses them, weights or not.
ESTIMATORS = [LinearDiscriminantAnalysis(), QuadraticDiscriminantAnalysis(reg_param=0.1)]
FEW = {
    "check_sample_weight_equivalence_on_dense_data": "15 rows of 30 columns are refused, weights or not, as in scikit-learn"
}

MAPS = {"check_classifiers_train": "a memory map is answered lazily, by Blocks, and the check wants an array"}


def expected_failures(estimator, container):
    few = FEW if isinstance(estimator, QuadraticDiscriminantAnalysis) else {}
    if container == "numpy":
        return MAPS | few
    return (FRAMES if container in LAZY and hasattr(estimator, "transform") else {}) | few


def test_every_estimator_is_listed():
    assert {type(one).__name__ for one in ESTIMATORS} == set(ooclearn.discriminant_analysis.__all__)


@pytest.mark.parametrize("container", ["numpy", *CONTAINERS])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
def test_all_of_scikit_learns_checks(estimator, container):
    results = check_estimator(estimator, on=container, expected_failed_checks=expected_failures(estimator, container))
    passed = [one for one in results if one["status"] == "passed"]
    assert len(passed) >= 50
    # Needs SCIPY_ARRAY_API=1 in the environment, before anything is imported.
    assert_all_ran(results)
