"""check_naturality catches what is wrong: each fault is made once, and found."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from ooclearn.rowmaps import Affine, Columns
from ooclearn.statistics import Extrema, Moments, MomentsState, Scatter
from ooclearn.testing import check_contained, check_naturality
from ooclearn.testing.strategies import tables
from ooclearn.testing.tables import Column, hostile_tables, made_rows

FINITE = ("normal", "constant", "integers", "outlier")


# Not drawn: hypothesis would look for the smallest table for each fault, which takes long.
TABLES = [
    made_rows(n, [Column("normal", offset), Column("some missing"), Column("missing")], weights=weights, seed=n)
    for n in (1, 20, 40)
    for offset in (0.0, 1e8)
    for weights in (None, "some zero")
]


def without_rest(state):
    return replace(state, rest=np.zeros_like(state.rest))


@dataclass(frozen=True)
class Faulty(Moments):
    """Moments whose way through maps has one fault."""

    fault: str = ""

    def before(self, kind):
        if self.fault == "offers what it has not" and kind == "affine":
            return self
        return None if kind in ("affine", "mixed") else self

    def after(self, state, row_map):
        if isinstance(row_map, Columns):
            if self.fault == "keeps the order":
                row_map = Columns(tuple(sorted(row_map.positions)))
            return super().after(state, row_map)
        if self.fault == "forgets the offset":
            row_map = replace(row_map, offset=None)
        if self.fault == "multiplies":
            row_map = replace(row_map, divide=False)
        if self.fault == "forgets the rest":
            state = without_rest(state)
        out = super().after(state, row_map)
        if self.fault == "does not square":
            return replace(out, m2=state.m2 * np.abs(row_map.factor() if row_map.scale is not None else 1.0))
        if self.fault == "maps the mean of nothing":
            return replace(out, mean=row_map(state.mean[None, :])[0])
        if self.fault == "loses digits":
            return replace(out, m2=out.m2 * (1 + 1e-11))
        return out


FAULTS = {
    "keeps the order": "differs",
    "forgets the offset": "mean differs",
    "multiplies": "differs",
    "forgets the rest": "mean differs",
    "does not square": "m2 differs",
    "maps the mean of nothing": "mean differs",
    "loses digits": "m2 differs",
    "offers what it has not": None,
}


def test_the_right_ones_pass():
    check_naturality(Faulty(), answer=without_rest)
    check_naturality(Extrema(), rows=hostile_tables(), roundings=0)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault):
    with pytest.raises((AssertionError, ValueError), match=FAULTS[fault]):
        check_naturality(Faulty(fault=fault), rows=TABLES, answer=without_rest)


def test_raw_sums_are_found_where_a_centre_takes_the_offset_away():
    """The bound is that of the centred rows, not of their distance from 0."""

    @dataclass(frozen=True)
    class Raw(Moments):
        def after(self, state, row_map):
            out = super().after(state, row_map)
            n = np.maximum(state.n, 1.0)
            squares = state.m2 + n * state.mean**2
            factor = 1.0 if row_map.scale is None else row_map.factor()
            return replace(out, m2=np.maximum(squares - n * state.mean**2, 0.0) * factor**2)

        def before(self, kind):
            return self if kind == "diagonal" else None

    with pytest.raises(AssertionError, match="m2 differs"):
        check_naturality(
            Raw(), answer=without_rest, rows=[made_rows(40, [Column("normal", 1e8)], seed=k) for k in range(9)]
        )


def test_a_statistic_that_was_not_tried_is_told():
    missing = made_rows(5, [Column("missing")])
    with pytest.raises(AssertionError, match="was not tried behind"):
        check_naturality(Scatter(), rows=missing)
    with pytest.raises(AssertionError, match="refused every table"):
        check_contained(Scatter(), Moments(), rows=missing)


def test_what_is_not_contained_is_found():
    @dataclass(frozen=True)
    class Wrong(Scatter):
        def contains(self, other):
            return lambda state: MomentsState(
                state.rows, state.weight, np.full(2, state.weight), state.mean, state.rest, state.scatter[0], 0.0
            )

    rows = tables(kinds=FINITE)
    check_contained(Scatter(), Moments(), rows=rows, answer=without_rest, roundings=64)
    two = [made_rows(9, [Column(), Column()], seed=k) for k in range(3)]
    with pytest.raises(AssertionError, match="m2 differs"):
        check_contained(Wrong(), Moments(), rows=two, answer=without_rest)
    with pytest.raises(AssertionError, match="does not contain"):
        check_contained(Moments(), Scatter(), rows=rows)


def test_one_map_may_do_less_than_its_kind():
    """A full map may turn out to be one by column, or to do nothing, once it is fitted."""
    asked = Moments().before("affine")
    rows = made_rows(9, [Column(offset=1e4)])
    for row_map in (Affine(), Affine(np.array([2.0]))):
        got = Moments().after(asked.of(rows), row_map)
        np.testing.assert_allclose(got.m2, Moments().of(replace(rows, X=row_map(rows.X))).m2, rtol=1e-13)
