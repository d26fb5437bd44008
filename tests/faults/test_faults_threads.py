"""Faults of the catalogue that lie in threads: 54 and 55."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import SGDClassifier

import ooclearn
from ooclearn import Incremental
from ooclearn.exceptions import BusyError
from ooclearn.pipeline import make_pipeline
from ooclearn.preprocessing import StandardScaler
from ooclearn.testing import FaultySource

LENGTHS = [200] * 5


def test_54_an_estimator_that_was_taken_stays_as_it_was(container, bits, X, y):
    data, target = container(X), container(y, "y")
    model = Incremental(SGDClassifier(random_state=0), classes=[0, 1]).partial_fit(data, target)
    kept = model.estimator_
    before = bits(kept)
    model.partial_fit(data, target)
    assert bits(kept) == before
    assert kept.t_ == 1001
    assert model.estimator_ is not kept
    assert model.estimator_.t_ == 2001
    model.fit(data, target)
    assert bits(kept) == before
    assert bits(model.estimator) == bits(SGDClassifier(random_state=0))


def test_54_merging_leaves_the_other_as_it_was(scaler, bits, X):
    other = type(scaler)().fit(X[500:])
    before = bits(other)
    scaler.fit(X[:500]).merge(other)
    assert bits(other) == before
    np.testing.assert_allclose(scaler.scale_, type(scaler)().fit(X).scale_, rtol=1e-12)


def held_up(X, entered, go_on):
    """Return rows whose third read waits."""

    def wait(rows):
        entered.set()
        assert go_on.wait(20)
        return rows

    return FaultySource(X, 2, wait, times=1).blocks(LENGTHS)


def test_55_a_second_thread_is_refused(scaler, trained, bits, same, X, y):
    for estimator, target in ((scaler, ()), (trained, (y,))):
        expected = clone(estimator).fit(X, *target)
        estimator.fit(X[:500], *(part[:500] for part in target))
        entered, go_on = threading.Event(), threading.Event()
        errors = []

        def first(estimator=estimator, target=target, entered=entered, go_on=go_on, errors=errors):
            try:
                estimator.fit(held_up(X, entered, go_on), *target)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=first)
        thread.start()
        try:
            assert entered.wait(20)
            before = bits(estimator)
            parts = [estimator, *(step for _, step in getattr(estimator, "steps", []))]
            for one in parts:
                for call in ("fit", "partial_fit", "merge"):
                    if hasattr(one, call):
                        with pytest.raises(BusyError, match="is being fitted by another thread"):
                            getattr(one, call)(*((X, *target) if call != "merge" else (type(one)().fit(X),)))
            assert bits(estimator) == before
        finally:
            go_on.set()
            thread.join(20)
        assert errors == []
        assert bits(estimator) != before
        same(estimator.fit(X, *target), expected)  # and is free again


def test_55_no_update_is_lost(scaler, X):
    rows, refusals = [0] * 4, [0] * 4
    barrier = threading.Barrier(4)
    switch = sys.getswitchinterval()

    def work(k):
        barrier.wait()
        for _ in range(30):
            try:
                scaler.partial_fit(X[:50])
            except BusyError:
                refusals[k] += 1
                time.sleep(0.0005)
            else:
                rows[k] += 50

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert sum(rows) + 50 * sum(refusals) == 4 * 30 * 50
    assert np.max(scaler.n_samples_seen_) == sum(rows) > 0


def test_55_a_fit_that_failed_frees_the_estimator(scaler, X):
    with pytest.raises(RuntimeError):
        scaler.fit(FaultySource(X, 2, RuntimeError()).blocks(LENGTHS))
    done = []
    thread = threading.Thread(target=lambda: done.append(scaler.fit(X)))
    thread.start()
    thread.join()
    assert done == [scaler]


@pytest.mark.parametrize("kind", ["scan", "callable", "dask"])
def test_55_two_threads_may_share_a_source(kind, containers, same, X, y):
    if kind == "callable":
        data = ooclearn.scan(lambda: (X[i : i + 100] for i in range(0, 1000, 100)))
    else:
        data = containers(kind)(X)
    alone = make_pipeline(StandardScaler(), Incremental(SGDClassifier(random_state=0))).fit(data, y)
    both = [clone(alone), clone(alone)]
    threads = [threading.Thread(target=pipe.fit, args=(data, y)) for pipe in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for pipe in both:
        same(pipe, alone)


def test_55_a_worker_may_be_fitted_beside_another(same, scaler, X):
    """Different estimators in different threads never stand in each other's way."""
    scalers = [clone(scaler) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda one=one: [one.partial_fit(X[:100]) for _ in range(10)]) for one in scalers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in scalers:
        assert np.max(one.n_samples_seen_) == 1000
