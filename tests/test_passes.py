"""The driver: as few readings as there can be, answers to the right fits, and a plan that keeps its word."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import SGDClassifier

import ooclearn
from ooclearn import Incremental, make_pipeline
from ooclearn.exceptions import BlockMemoryError, NonFiniteError
from ooclearn.feeds import Feed, Order
from ooclearn.folding import room_to_fold
from ooclearn.passes import Stage, run
from ooclearn.plan import planned
from ooclearn.preprocessing import StandardScaler
from ooclearn.rowmaps import Affine
from ooclearn.statistics import Distinct, Extrema, Moments
from ooclearn.table import Table
from ooclearn.testing import CountingBlocks, nothing_left

N = 41
X = np.random.default_rng(0).normal(3, 2, (N, 3))
Y = np.arange(N) % 4


def table(**kwargs):
    return Table(CountingBlocks(X, (10, 0, 1, 30), name="X"), CountingBlocks(Y, name="y", **kwargs))


class Toy:
    """A fit that asks for one thing after the other and keeps the answers."""

    def __init__(self, *requests, name="toy", above=None, row_map=None):
        self.requests = requests
        self.answers = []
        self.stage = Stage(name, self.fit(), lambda: row_map, above.stage if above else None)
        self.closed = False

    def fit(self):
        try:
            for request in self.requests:
                self.answers.append((yield request))
        finally:
            self.closed = True

    def again(self):
        return Toy(*self.requests, name=self.stage.name)


def drive(*toys, on=None):
    on = table() if on is None else on
    passes = run([toy.stage for toy in toys], on)
    assert all(toy.closed for toy in toys)
    return passes, on


def test_one_fit_one_pass():
    toy = Toy(Moments())
    passes, read = drive(toy)
    assert passes == 1
    assert read.X.passes == 1
    np.testing.assert_allclose(toy.answers[0].mean, X.mean(axis=0), rtol=1e-13)


def test_a_fit_that_asks_for_nothing_reads_nothing():
    passes, read = drive(Toy())
    assert passes == 0
    assert read.X.reads == read.y.reads == []


def test_what_rides_waits_for_a_feed():
    rider = Toy(Moments(), name="rider")
    rider.stage.rides = True
    fed = Toy(Extrema(), Feed(lambda _: None), name="fed")
    plan = str(planned([rider.stage, fed.stage], table()))
    assert plan.index("fed: Extrema") < plan.index("pass 2") < plan.index("rider: Moments")
    alone = Toy(Moments())
    alone.stage.rides = True
    assert drive(alone)[0] == 1


def test_independent_fits_share_their_passes():
    toys = [Toy(Moments()), Toy(Extrema(), Moments()), Toy(Moments(), Extrema(), Distinct())]
    passes, read = drive(*toys)
    assert passes == 3
    assert read.X.passes == 2, "the third pass asks for the targets alone"
    assert read.y.passes == 1
    np.testing.assert_array_equal(toys[1].answers[0].low, X.min(axis=0))
    assert toys[2].answers[2].columns[0].counts.tolist() == [11, 10, 10, 10]


def test_equal_questions_are_asked_once(monkeypatch):
    calls = []
    of = Moments.of
    monkeypatch.setattr(Moments, "of", lambda self, rows: (calls.append(rows.n), of(self, rows))[1])
    toys = [Toy(Moments()) for _ in range(5)]
    drive(*toys)
    assert sum(calls) == N
    assert all(toy.answers[0] is toys[0].answers[0] for toy in toys)


def test_different_questions_of_one_kind_are_not_mixed_up():
    toys = [Toy(Distinct(limit=10)), Toy(Distinct(limit=20))]
    drive(*toys)
    assert toys[0].answers[0] is not toys[1].answers[0]


def test_rows_come_through_the_stages_above():
    doubled = Affine(np.full(3, 2.0))
    shifted = Affine(offset=np.full(3, 1.0))
    first = Toy(Moments(), name="first", row_map=doubled)
    second = Toy(Moments(), name="second", above=first, row_map=shifted)
    third = Toy(Moments(), name="third", above=second)
    passes, read = drive(first, second, third)
    assert passes == read.X.passes == 3
    np.testing.assert_allclose(second.answers[0].mean, 2 * X.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(third.answers[0].mean, 2 * X.mean(axis=0) + 1, rtol=1e-13)


def test_what_is_asked_of_the_targets_waits_for_nobody():
    """The classes are found in the pass of the stage above."""
    scaler = Toy(Moments(), name="scaler", row_map=Affine(np.full(3, 2.0)))
    fed = []
    model = Toy(Distinct(), Feed(lambda rows: fed.append(rows.n)), name="model", above=scaler)
    passes, read = drive(scaler, model)
    assert passes == read.X.passes == read.y.passes == 2
    assert sum(fed) == N
    assert model.answers[0].rows == N


def test_only_what_is_asked_for_is_read():
    passes, read = drive(Toy(Distinct()))
    assert (passes, read.X.reads) == (1, [])
    passes, read = drive(Toy(Extrema()))
    assert (passes, read.y.reads) == (1, [])


def test_an_error_closes_every_fit_and_leaves_nothing():
    bad = X.copy()
    bad[7, 1] = np.inf
    toys = [Toy(Moments()), Toy(Extrema(), Moments())]
    with nothing_left(), pytest.raises(NonFiniteError) as error:
        run([toy.stage for toy in toys], Table(CountingBlocks(bad, (10, 31), name="X")))
    assert all(toy.closed for toy in toys)
    assert (error.value.rows, error.value.column, error.value.block) == ((7, 8), 1, 0)


def test_an_error_of_a_fit_comes_out_and_closes_the_others():
    def fails():
        yield Moments()
        raise ZeroDivisionError

    other = Toy(Moments(), Extrema())
    with nothing_left(), pytest.raises(ZeroDivisionError):
        run([Stage("fails", fails()), other.stage], table())
    assert other.closed


CHAINS = {
    "nothing": lambda: [Toy()],
    "one": lambda: [Toy(Moments(), name="a")],
    "two in a row": lambda: [Toy(Moments(), Extrema(), name="a")],
    "side by side": lambda: [Toy(Moments(), name="a"), Toy(Extrema(), Moments(), name="b")],
    "one above the other": lambda: under(Toy(Moments(), name="a", row_map=Affine()), Moments()),
    "classes and a feed": lambda: under(Toy(Moments(), name="a", row_map=Affine()), Distinct(), Feed(lambda _: None)),
    "two orders": lambda: [
        Toy(Feed(lambda _: None, order=Order(5)), name="a"),
        Toy(Feed(lambda _: None, order=Order(6, shuffle=True)), name="b"),
    ],
    "targets alone": lambda: [Toy(Distinct(), name="a")],
}


def under(above, *requests):
    return [above, Toy(*requests, name="b", above=above)]


@pytest.mark.parametrize("chain", CHAINS)
def test_the_plan_is_what_is_read(chain):
    read = table()
    plan = planned([toy.stage for toy in CHAINS[chain]()], read)
    assert read.X.reads == read.y.reads == [], "a plan reads nothing"
    passes, read = drive(*CHAINS[chain](), on=read)
    assert len(plan.passes) == passes
    assert plan.n_passes == read.X.passes
    assert sum("y" in one.parts for one in plan.passes) == read.y.passes
    assert all(one.memory > 0 for one in plan.passes)


def test_a_plan_says_why():
    plan = planned([toy.stage for toy in CHAINS["classes and a feed"]()], table())
    text = str(plan)
    assert text.startswith("2 readings of X")
    assert "reads X, y: 1.31e-06 GB, 4 blocks" in text
    assert "a: Moments; b: Distinct" in text
    assert "its own pass, since b gets its rows through a, which is fitted only then" in text
    assert "<table>" in plan._repr_html_()
    two = str(planned([toy.stage for toy in CHAINS["two orders"]()], table()))
    assert "b wants the rows in another order" in two
    assert "a asks for it after the answer before" in str(planned([Toy(Moments(), Extrema(), name="a").stage], table()))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_do_not_change_a_bit(workers):
    def state(n):
        toy = Toy(Moments())
        with ooclearn.config_context(workers=n):
            drive(toy)
        return toy.answers[0]

    one, several = state(1), state(workers)
    assert one.mean.tobytes() == several.mean.tobytes()
    assert one.m2.tobytes() == several.m2.tobytes()


class Uncuttable(CountingBlocks):
    cuttable = False


class TestMemoryLimit:
    """What cannot be done within ``memory_limit`` is refused before any data is read; the rest keeps to it."""

    @pytest.mark.parametrize("limit", [48 * 2**20, 10**6, 40_000, 400])
    def test_blocks_that_can_be_cut_are_folded_in_smaller_tiles(self, limit):
        X = np.random.default_rng(0).normal(size=(3000, 4))
        with ooclearn.config_context(memory_limit=limit, workers=2):
            plan = StandardScaler().explain(ooclearn.scan(X))
            assert plan.memory <= limit
            room = room_to_fold(Table(ooclearn.scan(X)))
            assert room.memory <= limit
            assert room.workers * 6 * room.tile * 32 <= limit
            fitted = StandardScaler().fit(ooclearn.scan(X))
        np.testing.assert_allclose(fitted.mean_, X.mean(axis=0), rtol=1e-12, atol=1e-14)

    def test_a_limit_below_one_row_is_refused(self):
        source = Uncuttable(np.ones((30, 4)), (10, 20))
        with (
            ooclearn.config_context(memory_limit=100),
            pytest.raises(BlockMemoryError, match="memory_limit is 100; cut the rows into smaller blocks"),
        ):
            StandardScaler().fit(source)
        assert source.passes == 0

    def test_whole_blocks_take_as_few_workers_as_must_be(self):
        table = Table(Uncuttable(np.ones((30, 4)), (10, 20)))
        with ooclearn.config_context(workers=4, memory_limit=20 * 32 * 2):
            assert room_to_fold(table).workers == 1
        with ooclearn.config_context(workers=4, memory_limit=20 * 32 * 3):
            assert room_to_fold(table).workers == 2

    def test_the_plan_refuses_what_the_fit_would(self):
        X, y = np.ones((3000, 4)), np.arange(3000) % 2
        pipe = make_pipeline(StandardScaler(), Incremental(SGDClassifier(), block_rows=3000))
        with ooclearn.config_context(memory_limit=100_000):
            for call in (pipe.explain, pipe.fit):
                with pytest.raises(BlockMemoryError, match="set block_rows to"):
                    call(ooclearn.scan(X), y)
