"""check_backend: every backend passes, and each duty left undone is found."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from ooclearn.backend import get_backend, register
from ooclearn.folding import ThreadedReading
from ooclearn.sources import SourceBlocks
from ooclearn.statistics import merge_all
from ooclearn.storage.arrays import ArraySource
from ooclearn.testing import check_backend


def test_every_backend_passes(backend):
    check_backend(backend.backend, backend.make)


def test_arrays_in_fortran_order_and_of_few_digits():
    check_backend(get_backend("numpy"), np.asfortranarray)
    check_backend(get_backend("numpy"), lambda values: values.astype(np.float32))


class Pile:
    """A container of its own: rows in a list."""

    def __init__(self, values):
        self.values = np.asarray(values)


class Rows(ArraySource):
    def __init__(self, pile, name):
        super().__init__(pile.values, name=name)
        self.pile = pile


class PileBlocks(SourceBlocks):
    pass


class PileBackend(ThreadedReading):
    """A right adapter of piles, for others to break. Its blocks are NumPy's."""

    name = "pile"
    generic = False

    def owns(self, x):
        return isinstance(x, Pile) or (isinstance(x, SourceBlocks) and x.backend_name == self.name) or is_mapped(x)

    def blocks(self, x, /, *, name=None):
        return SourceBlocks(Rows(x, name or "pile"), backend_name=self.name) if isinstance(x, Pile) else x

    def adopt(self, blocks, /):
        raise ValueError("a pile is in memory; make one of the rows")

    def map(self, row_map, x, /):
        return Pile(row_map(x.values))

    def to_host(self, block, /):
        return np.asarray(block)

    def from_host(self, values, /, *, like=None):
        return values


def is_mapped(x):
    return getattr(x, "backend_name", None) == "pile"


class OwnsAll(PileBackend):
    def owns(self, x):
        return True


class OtherName(PileBackend):
    @property
    def name(self):
        return "heap"


class OtherOrder(PileBackend):
    def fold(self, table, statistic, /, *, work):
        return merge_all(statistic, [statistic.of(table.gather([i])) for i in reversed(range(table.n_blocks))])


class OtherTree(PileBackend):
    def fold(self, table, statistic, /, *, work):
        state = None
        for i in range(table.n_blocks):
            seen = statistic.of(table.gather([i]))
            state = seen if state is None else statistic.merge(state, seen)
        return state


class NoPlace(PileBackend):
    def fold(self, table, statistic, /, *, work):
        return merge_all(statistic, [statistic.of(table.gather([i])) for i in range(table.n_blocks)])


class HoldsAll(PileBackend):
    def stream(self, table, groups, function, /, *, ahead, work):
        yield from [function(i, table.gather(group)) for i, group in enumerate(groups)]


class AnyOrder(PileBackend):
    def stream(self, table, groups, function, /, *, ahead, work):
        for i in range(len(groups)):
            k = i ^ 1 if (i ^ 1) < len(groups) else i
            yield function(k, table.gather(groups[k]))


class LeavesThreads(PileBackend):
    def stream(self, table, groups, function, /, *, ahead, work):
        done = threading.Event()
        for i, group in enumerate(groups):
            threading.Thread(target=done.wait, args=(20,), daemon=True, name=f"forgotten-{i}").start()
            yield function(i, table.gather(group))
        done.set()


class HidesErrors(PileBackend):
    def stream(self, table, groups, function, /, *, ahead, work):
        for i, group in enumerate(groups):
            try:
                item = function(i, table.gather(group))
            except Exception as error:
                raise RuntimeError("something went wrong") from error
            yield item


class GivesArrays(PileBackend):
    def map(self, row_map, x, /):
        return row_map(x.values)


class Writes(PileBackend):
    def map(self, row_map, x, /):
        out = Pile(row_map(x.values))
        x.values *= 2
        return out


class OtherHost(PileBackend):
    def from_host(self, values, /, *, like=None):
        return values.astype(np.float16)[::-1]


BROKEN = {
    OwnsAll: "which is no array",
    OtherName: "get_backend\\('heap'\\)",
    OtherOrder: "merge blocks in order",
    OtherTree: "fixed tree",
    NoPlace: "said to be in",
    HoldsAll: "before it was asked for",
    AnyOrder: "where 0 is next",
    LeavesThreads: "forgotten",
    HidesErrors: "comes out of stream as RuntimeError",
    GivesArrays: "makes a ndarray of a Pile",
    Writes: "written into|rows that went in|other values",
    OtherHost: "after from_host",
}


@pytest.fixture
def registered(monkeypatch):
    import ooclearn.backend as registry

    monkeypatch.setattr(registry, "_registered", dict(registry.backends()))

    def add(backend, name="pile"):
        found = dict(registry.backends())
        registry._registered = {name: backend, **{k: v for k, v in found.items() if k != name}}
        return backend

    return add


def test_the_right_one_passes(registered):
    check_backend(registered(PileBackend()), Pile)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda one: one.__name__)
def test_each_duty_left_undone_is_found(broken, registered, monkeypatch):
    monkeypatch.setattr("ooclearn.testing.leftovers._PATIENCE", 0.2)
    with pytest.raises(AssertionError, match=BROKEN[broken]):
        check_backend(registered(broken()), Pile)


def test_a_backend_may_be_registered_for_this_process(registered):
    register(PileBackend())
    assert get_backend("pile").owns(Pile([1]))
