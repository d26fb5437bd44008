"""Feeds of one pass: the same rows for those that want them alike, and consumers that are fed as one."""

from __future__ import annotations

import pickle
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.decomposition import IncrementalPCA
from sklearn.linear_model import SGDClassifier
from sklearn.naive_bayes import GaussianNB

import ooclearn
import ooclearn.passes
from ooclearn import Incremental, explain_all, fit_all, make_pipeline
from ooclearn.feeds import Feed, Joint, Order
from ooclearn.partial import leaves_rows
from ooclearn.passes import Stage, run
from ooclearn.plan import planned
from ooclearn.preprocessing import StandardScaler
from ooclearn.rowmaps import Affine, Rowwise
from ooclearn.sharing import sharing
from ooclearn.table import Table
from ooclearn.testing import CountingBlocks, nothing_left

N = 41
X = np.arange(3.0 * N).reshape(N, 3)
Y = np.arange(N) % 4


def table():
    return Table(CountingBlocks(X, (10, 0, 1, 30), name="X"), CountingBlocks(Y, name="y"))


class Adder:
    """Adds up what it is fed; several do so as one, which notes how many it stands for."""

    def __init__(self, key="adders", times=1, **settings):
        self.total, self.calls, self.times, self.ended = 0.0, 0, times, False
        joint = None if key is None else Joint(key, self, self.as_one)
        self.feed = Feed(self.consume, joint=joint, **{"reads_only": True, "title": "adding", **settings})

    def consume(self, rows):
        self.calls += 1
        self.total += self.times * rows.X.sum()

    @staticmethod
    @contextmanager
    def as_one(members):
        sums = []
        yield lambda rows: sums.append(rows.X.sum())
        for one in members:
            one.total, one.ended = one.times * sum(sums), True

    def fit(self):
        yield self.feed

    def stage(self, row_map=None):
        above = Stage("above", iter_nothing(), lambda: row_map)
        return [above, Stage("adder", self.fit(), above=above)]


def iter_nothing():
    yield from ()


def fed(*adders, maps=None):
    maps = [None] * len(adders) if maps is None else maps
    run([stage for adder, row_map in zip(adders, maps, strict=True) for stage in adder.stage(row_map)], table())
    for adder, row_map in zip(adders, maps, strict=True):
        rows = X if row_map is None else row_map(X)
        np.testing.assert_allclose(adder.total, adder.times * rows.sum())
    return [adder.calls for adder in adders]


def test_consumers_with_equal_keys_are_fed_as_one():
    adders = [Adder(times=times) for times in (1, 2, 3)]
    assert fed(*adders) == [0, 0, 0]
    assert all(adder.ended for adder in adders)


def test_one_that_is_alone_is_fed_as_always():
    assert fed(Adder())[0] > 0
    assert all(fed(Adder(), Adder("others"), Adder(None), Adder(None)))


@pytest.mark.parametrize("setting", [{"finite": True}, {"host": True}, {"reads_only": False}])
def test_rows_that_are_not_the_same_keep_consumers_apart(setting):
    calls = fed(Adder(), Adder(), Adder(**setting))
    assert calls[:2] == [0, 0]
    assert calls[2] > 0


def test_maps_are_compared_by_what_they_do():
    def doubled(by=2.0):
        return Affine(np.full(3, by), center=np.ones(3))

    assert fed(*[Adder() for _ in range(3)], maps=[doubled(), doubled(), doubled(3.0)])[:2] == [0, 0]
    # A map that cannot be pickled is like no other.
    assert all(fed(Adder(), Adder(), maps=[Rowwise(lambda rows: rows + 1.0), Rowwise(lambda rows: rows + 1.0)]))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans(), st.booleans()), max_size=8))
def test_each_feed_is_in_one_group_with_those_like_it(drawn):
    feeds = [
        Feed(lambda _: None, reads_only=reads, joint=Joint(key, None, None) if key else None)
        for key, _, reads, _ in drawn
    ]
    maps = [Affine(np.full(3, float(which))) if which else None for _, which, _, _ in drawn]
    found = sharing(feeds, maps, [weighted for *_, weighted in drawn])
    assert sorted(k for _, members in found.fed for k in members) == list(range(len(drawn)))
    assert {way for way, _ in found.fed} == set(range(len(found.prepared)))
    for way, members in found.fed:
        assert len({drawn[k] for k in members}) == 1
        assert drawn[found.prepared[way]][1:3] == drawn[members[0]][1:3]
    joinable = {one for one in drawn if one[0] and one[2]}
    assert sum(drawn[members[0]] in joinable for _, members in found.fed) == len(joinable)


def test_an_error_ends_what_is_fed_as_one():
    class Failing(Adder):
        @staticmethod
        @contextmanager
        def as_one(_):
            def fail(rows):
                raise ZeroDivisionError

            yield fail
            raise AssertionError("the end of a pass that was not made")

    with nothing_left(), pytest.raises(ZeroDivisionError) as caught:
        fed(Failing(), Failing())
    assert "while feeding block 0 of X to adding" in caught.value.__notes__


def test_the_plan_says_so():
    stages = [Stage(f"adder-{k}", Adder(key).fit()) for k, key in enumerate(["a", "a", None, "b"])]
    (one,) = planned(stages, table()).passes
    assert one.answers == (
        ("adder-0, adder-1", "adding, 2 trained as one"),
        ("adder-2", "adding"),
        ("adder-3", "adding"),
    )


def test_blocks_fit_the_memory_limit_in_however_many_ways_they_are_prepared():
    n = 4000
    rows = np.random.default_rng(0).normal(size=(n, 50))
    models = [make_pipeline(StandardScaler(with_mean=mean), Incremental(SGDClassifier())) for mean in (True, False)]
    limit = rows.nbytes // 2
    with ooclearn.config_context(memory_limit=limit):
        feeding = explain_all(models, rows, np.arange(n) % 2).passes[-1]
        assert limit / 2 < feeding.memory <= limit
        fit_all(models, rows, np.arange(n) % 2)


class Writing(BaseEstimator):
    """A stranger that writes to the rows it is given."""

    def __init__(self, by=1.0):
        self.by = by

    def partial_fit(self, X, y=None):
        X += self.by
        self.total_ = getattr(self, "total_", 0.0) + X.sum()
        return self


def test_one_that_writes_to_its_rows_writes_to_those_of_no_other():
    models = [Incremental(Writing(by)) for by in (1.0, 10.0)] + [Incremental(GaussianNB())]
    fit_all(models, X, Y)
    assert [model.estimator_.total_ for model in models[:2]] == [(X + by).sum() for by in (1.0, 10.0)]
    np.testing.assert_array_equal(models[2].theta_, GaussianNB().fit(X, Y).theta_)


def test_who_is_known_to_leave_rows_as_they_are():
    assert leaves_rows(SGDClassifier())
    assert not leaves_rows(Writing())
    assert not leaves_rows(IncrementalPCA(copy=False))


@pytest.mark.parametrize("ways", [1, 2])
def test_rows_for_several_of_scikit_learns_are_prepared_once(monkeypatch, ways):
    prepared = []
    prepare = ooclearn.passes.Prepare
    monkeypatch.setattr(ooclearn.passes, "Prepare", lambda *args: (prepared.append(len(args[3])), prepare(*args))[1])
    scalers = [StandardScaler(), StandardScaler(), StandardScaler(with_mean=ways == 1)]
    models = [make_pipeline(scaler, Incremental(SGDClassifier())) for scaler in scalers]
    fit_all(models, X, Y)
    assert prepared == [ways]
    for model in models:
        alone = pickle.loads(pickle.dumps(model)).fit(X, Y)
        np.testing.assert_array_equal(model[-1].coef_, alone[-1].coef_)


def test_orders_are_not_mixed():
    adders = [Adder(order=Order(5)), Adder(order=Order(7)), Adder(order=Order(5))]
    calls = fed(*adders)
    assert calls[0] == calls[2] == 0
    assert calls[1] > 0
