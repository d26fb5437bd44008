"""All of scikit-learn's checks of the clusterers, with the data turned into each container."""

from __future__ import annotations

import pytest

import ooclearn.cluster
from ooclearn.cluster import KMeans
from ooclearn.testing import check_estimator
from ooclearn.testing.turned import CONTAINERS, FRAMES, LAZY
from whole import assert_all_ran

ESTIMATORS = [KMeans(3, random_state=0), KMeans(2, init="random", n_init=2, max_iter=5, random_state=0)]

WEIGHTS = {
    "check_sample_weight_equivalence_on_dense_data": "the start draws rows by their number, and a repeated row is another "
    "than a row of twice the weight; scikit-learn's KMeans fails it too"
}


def test_every_estimator_is_listed():
    assert {type(one).__name__ for one in ESTIMATORS} == set(ooclearn.cluster.__all__)


@pytest.mark.parametrize(
    ("estimator", "container"),
    [(ESTIMATORS[0], container) for container in ("numpy", *CONTAINERS)] + [(ESTIMATORS[1], "numpy")],
    ids=lambda one: getattr(one, "init", one),
)
def test_all_of_scikit_learns_checks(estimator, container):
    expected = WEIGHTS | (FRAMES if container in LAZY else {})
    results = check_estimator(estimator, on=container, expected_failed_checks=expected)
    assert len([one for one in results if one["status"] == "passed"]) >= 50
    assert_all_ran(results)
