"""All of scikit-learn's checks of models that need several passes, with the data turned into each container."""

from __future__ import annotations

import pytest

from ooclearn.linear_model import (
    GammaRegressor,
    LogisticRegression,
    PoissonRegressor,
    SGDClassifier,
    SGDRegressor,
    TweedieRegressor,
)
from ooclearn.testing import check_estimator
from ooclearn.testing.turned import CONTAINERS
from whole import assert_all_ran

ESTIMATORS = [
    LogisticRegression(),
    PoissonRegressor(),
    GammaRegressor(),
    TweedieRegressor(power=1.5),
    SGDClassifier(),
    SGDRegressor(),
]

MAPS = {"check_classifiers_train": "a memory map is answered lazily, by Blocks, and the check wants an array"}
ROW_BY_ROW = {
    "check_sample_weight_equivalence_on_dense_data": (
        "a row of weight 2 is not two rows, whose batches are others; as in scikit-learn's SGD"
    )
}
EPOCHS = {
    "check_class_weight_classifiers": (
        "columns are not scaled, and take the check's 1000 iterations, which scikit-learn's parameter max_iter is set to"
    )
}


def expected_failures(estimator, container):
    maps = MAPS if container == "numpy" and isinstance(estimator, (LogisticRegression, SGDClassifier)) else {}
    by_batches = ROW_BY_ROW if isinstance(estimator, (SGDClassifier, SGDRegressor)) else {}
    return {**maps, **by_batches, **(EPOCHS if isinstance(estimator, SGDClassifier) else {})}


@pytest.mark.parametrize("container", ["numpy", *CONTAINERS])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
def test_all_of_scikit_learns_checks(estimator, container):
    results = check_estimator(estimator, on=container, expected_failed_checks=expected_failures(estimator, container))
    assert len([one for one in results if one["status"] == "passed"]) >= 45
    # Needs SCIPY_ARRAY_API=1 in the environment, before anything is imported.
    assert_all_ran(results)
