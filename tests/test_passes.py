"""The driver: as few readings as there can be, answers to the right fits, and a plan that keeps its word."""

from __future__ import annotations

import numpy as np
import pytest

import ooclearn
from ooclearn.exceptions import NonFiniteError
from ooclearn.feeds import Feed, Order
from ooclearn.passes import Stage, run
from ooclearn.plan import planned
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
