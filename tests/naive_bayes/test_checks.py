"""All of scikit-learn's checks, with the data turned into each container. A new estimator is one line."""

from __future__ import annotations

import pytest

import ooclearn.naive_bayes
from ooclearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB
from ooclearn.testing import check_estimator
from ooclearn.testing.turned import CONTAINERS
from whole import assert_all_ran

ESTIMATORS = [GaussianNB(), MultinomialNB(), ComplementNB(), BernoulliNB(), CategoricalNB()]


def test_every_estimator_is_listed():
    assert {type(one).__name__ for one in ESTIMATORS} == set(ooclearn.naive_bayes.__all__)


@pytest.mark.parametrize("container", ["numpy", *CONTAINERS])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
def test_all_of_scikit_learns_checks(estimator, container):
    results = check_estimator(estimator, on=container)
    passed = [one for one in results if one["status"] == "passed"]
    assert len(passed) >= 50
    # Needs SCIPY_ARRAY_API=1 in the environment, before anything is imported.
    assert_all_ran(results)
