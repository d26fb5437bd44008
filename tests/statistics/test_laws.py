"""Every statistic under every law. A new statistic is one line in STATISTICS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

import ooclearn
import ooclearn.statistics
from ooclearn.events import Work
from ooclearn.exceptions import DataError
from ooclearn.rowmaps import Columns, Rowwise
from ooclearn.statistics import (
    ClassMoments,
    ClassMomentsState,
    ClassScatter,
    ClassScatterState,
    CrossScatter,
    CrossScatterState,
    Distinct,
    Extrema,
    FourthMoments,
    FourthMomentsState,
    Join,
    Moments,
    Sample,
    SampleState,
    Scatter,
    ScatterState,
    Through,
    Triangle,
    TriangleState,
    merge_all,
)
from ooclearn.statistics.class_sums import ClassCategories, ClassSums
from ooclearn.statistics.protocol import contained
from ooclearn.table import Rows, Table
from ooclearn.testing import check_contained, check_naturality, check_statistic
from ooclearn.testing.comparing import CELL_ROUNDINGS, assert_close, assert_identical, leaves, sway
from ooclearn.testing.strategies import tables
from ooclearn.testing.tables import KINDS, LABELS, TARGETS, Column, hostile_tables, made_rows, part_of

FINITE = tuple(kind for kind in KINDS if "missing" not in kind)


def halved(block):
    return block * 0.5


def as_it_is(rows):
    return rows


def categories(rows):
    """Make few categories of the cells, each by half above a whole number: no rounding makes another of it."""
    X = np.abs(rows.X.astype(np.float64)) % 5 // 1 + 0.5
    return replace(rows, X=X.astype(np.float32) if rows.X.dtype == np.float32 else X)


@dataclass(frozen=True)
class Listed:
    """A statistic under law.

    Attributes
    ----------
    statistic : Statistic
        How to make it.
    exact : bool
        Its answer must not depend on the cut by one bit.
    kinds, labels : tuple of str
        What it takes in X and in y.
    natural : bool
        It can be seen through row maps.
    made : callable
        What is done to a table so that it takes it.
    """

    statistic: Any
    exact: bool = False
    kinds: tuple[str, ...] = KINDS
    labels: tuple[str, ...] = LABELS
    natural: bool = True
    made: Callable[[Rows], Rows] = as_it_is

    @property
    def drawn(self):
        """The tables that hypothesis draws."""
        return tables(kinds=self.kinds, labels=self.labels).map(self.made)

    @property
    def law(self) -> dict[str, Any]:
        """What the checks are told."""
        return {"answer": answer, "allowance": allowance, "roundings": 0 if self.exact else CELL_ROUNDINGS}

    def slack(self, rows, roundings=CELL_ROUNDINGS):
        return sway(lambda moved: answer(self.statistic.of(moved)), rows, roundings, allowance=allowance)

    def columns(self, *columns):
        """Return the columns that it takes, of these."""
        return [column for column in columns if column.kind in self.kinds]


def answer(state):
    """Return what of a state must not depend on the cut.

    The rest of a mean is what rounding has left, so it has no bound of its own. Of a triangular factor R, the trailing
    rows may be turned where columns are dependent; R'R may not. Which rows a sample holds is a matter of the cut.
    """
    if isinstance(state, dict):
        return {name: answer(part) for name, part in state.items()}
    if isinstance(state, SampleState):
        return {"rows": state.rows, "kept": len(state.keys), "X": state.X.shape[1], "y": state.y is None}
    if not is_dataclass(state):
        return state
    found = {field.name: getattr(state, field.name) for field in fields(state)}
    parts = {name: answer(value) for name, value in found.items() if is_dataclass(value)}
    if "rest" in found:
        parts["rest"] = np.zeros_like(found["rest"])
    if "factor" in found:
        parts["factor"] = found["factor"].T @ found["factor"]
    return replace(state, **parts)


def allowance(state):
    """Return how far each number of an answer may be off for one rounding, besides what moving the cells does.

    A mean, by the spread of its column; a sum of products of two columns, by the product of their spreads. The
    rounding unit that a state tells, by all of it: of no rows it is 0, of a device without float64 another.
    """
    if isinstance(state, dict):
        return {name: allowance(part) for name, part in state.items()}
    room = ROOM.get(type(state))
    return _none(state, **({} if room is None else room(state)))


def _fourth_room(state):
    squares, fourth = np.diagonal(state.scatter.scatter), np.diagonal(state.fourth)
    third = np.sqrt(fourth[:, None] * squares)
    return {"scatter": allowance(state.scatter), "third": third, "fourth": np.sqrt(fourth[:, None] * fourth)}


def _products_room(state):
    name = "scatter" if isinstance(state, ScatterState) else "factor"
    spread = np.sqrt(np.diagonal(getattr(state, name)))
    return {"mean": spread / np.sqrt(state.weight or 1.0), name: spread[:, None] * spread}


def _cross_room(state):
    spread, d = np.sqrt(state.m2), state.n_columns
    mean = spread / np.sqrt(state.weight or 1.0)
    return {"mean": mean, "m2": state.m2, "xy": spread[:d, None] * spread[d:]}


def _class_moments_room(state):
    return {"mean": np.sqrt(state.m2 / np.where(state.weight > 0, state.weight, 1.0)[:, None])}


def _class_scatter_room(state):
    spread = np.sqrt(np.diagonal(state.scatter, axis1=-2, axis2=-1))
    weight = np.where(state.weight > 0, state.weight, 1.0)[:, None]
    return {"mean": spread / np.sqrt(weight), "scatter": spread[..., :, None] * spread[..., None, :]}


ROOM = {
    FourthMomentsState: _fourth_room,
    ScatterState: _products_room,
    TriangleState: _products_room,
    CrossScatterState: _cross_room,
    ClassMomentsState: _class_moments_room,
    ClassScatterState: _class_scatter_room,
}


def _none(state, **room):
    """Return a state of zeros but for `room`."""
    if not is_dataclass(state):
        return np.zeros(np.shape(state))
    found = {field.name: getattr(state, field.name) for field in fields(state)}
    rounding = {"rounding": 1.0} if "rounding" in found else {}
    zeros = {name: np.zeros(value.shape) for name, value in found.items() if isinstance(value, np.ndarray)}
    return replace(
        state, **{name: 0.0 for name, value in found.items() if isinstance(value, float)} | zeros | rounding | room
    )


# A new statistic is one line here.
STATISTICS = {
    "Moments": Listed(Moments()),
    "Extrema": Listed(Extrema(), exact=True),
    "Scatter": Listed(Scatter(), kinds=FINITE),
    "Scatter with targets": Listed(Scatter(target=True), kinds=FINITE, labels=TARGETS),
    "Triangle": Listed(Triangle(), kinds=FINITE),
    "Triangle with targets": Listed(Triangle(target=True), kinds=FINITE, labels=TARGETS),
    "FourthMoments": Listed(FourthMoments(), kinds=FINITE),
    "CrossScatter": Listed(CrossScatter(), kinds=FINITE, labels=TARGETS),
    "ClassMoments": Listed(ClassMoments(), kinds=FINITE),
    "ClassScatter": Listed(ClassScatter(), kinds=FINITE),
    "ClassScatter, pooled": Listed(ClassScatter(pooled=True), kinds=FINITE),
    "ClassSums": Listed(ClassSums(), kinds=FINITE, made=categories),
    "ClassSums above": Listed(ClassSums(threshold=2.0), kinds=FINITE, made=categories),
    "ClassCategories": Listed(ClassCategories(), kinds=FINITE, made=categories),
    "Distinct": Listed(Distinct(), natural=False),
    "Sample": Listed(Sample(7, seed=3)),
    "Join": Listed(Join(moments=Moments(), extrema=Extrema(), classes=Distinct())),
    "Through": Listed(Through(Join(moments=Moments(), extrema=Extrema()), Columns((0, 0))), natural=False),
    "Through a function": Listed(
        Through(Extrema(), Rowwise(halved, out_dtype="float", host=True)), exact=True, natural=False
    ),
}
PRODUCTS = (Scatter, Triangle, FourthMoments, CrossScatter, ClassMoments, ClassScatter)
CONTAINED = {
    "moments in the scatter": ("Scatter", "Moments"),
    "moments in the scatter with targets": ("Scatter with targets", "Moments"),
    "the scatter of X in that with targets": ("Scatter with targets", "Scatter"),
    "the factor of X in that with targets": ("Triangle with targets", "Triangle"),
    "the scatter in the fourth moments": ("FourthMoments", "Scatter"),
    "moments in the fourth moments": ("FourthMoments", "Moments"),
    "moments in products with targets": ("CrossScatter", "Moments"),
    "products with targets in the scatter with targets": ("Scatter with targets", "CrossScatter"),
    "moments in those by class": ("ClassMoments", "Moments"),
    "classes in moments by class": ("ClassMoments", "Distinct"),
    "moments in the scatter by class": ("ClassScatter", "Moments"),
    "the scatter in that by class": ("ClassScatter", "Scatter"),
    "the scatter in the pooled one": ("ClassScatter, pooled", "Scatter"),
    "moments by class in the scatter by class": ("ClassScatter", "ClassMoments"),
    "the pooled scatter in that by class": ("ClassScatter", "ClassScatter, pooled"),
}


@pytest.fixture(params=STATISTICS.values(), ids=STATISTICS)
def listed(request):
    return request.param


def test_every_statistic_is_listed():
    exported = (getattr(ooclearn.statistics, name) for name in ooclearn.statistics.__all__)
    found = {one.__name__ for one in exported if isinstance(one, type) and hasattr(one, "of") and hasattr(one, "merge")}
    assert found - {"Statistic"} <= {type(one.statistic).__name__ for one in STATISTICS.values()}


def test_drawn_tables(listed):
    check_statistic(listed.statistic, rows=listed.drawn, examples=40, **listed.law)


def test_hostile_tables(listed):
    rows = hostile_tables(kinds=listed.kinds, labels=listed.labels)
    check_statistic(listed.statistic, rows=map(listed.made, rows), **listed.law)


@pytest.mark.parametrize("name", [name for name, one in STATISTICS.items() if one.natural])
def test_seen_through_row_maps(name):
    """Law 4."""
    listed = STATISTICS[name]
    check_naturality(listed.statistic, rows=listed.drawn, examples=60, **listed.law)


def test_only_what_cannot_be_seen_through_is_left_out():
    # A question about the targets alone is the same behind any map; `Through` stands for a map that is known.
    assert {name for name, one in STATISTICS.items() if not one.natural} == {
        "Distinct",
        "Through",
        "Through a function",
    }


@pytest.mark.parametrize("name", CONTAINED)
def test_what_is_contained_is_what_is_asked(name):
    one, other = (STATISTICS[key] for key in CONTAINED[name])
    check_contained(one.statistic, other.statistic, rows=one.drawn, examples=20, **other.law)


def test_what_is_not_contained_is_asked():
    assert contained(Scatter(), CrossScatter()) is contained(Scatter(), Scatter(target=True)) is None
    assert contained(Triangle(), Triangle(target=True)) is None
    assert contained(Through(Moments(), Columns((0, 1))), Through(Moments(), Columns((1, 2)))) is None


@pytest.mark.parametrize(
    "one",
    [Join(other=Extrema(), moments=Moments()), Moments(), Through(Scatter(), Columns((0, 2, 1)))],
    ids=lambda one: type(one).__name__,
)
def test_what_is_contained_in_a_join_or_in_other_columns_is_not_asked(one):
    rows = made_rows(30, [Column("normal", 3.0), Column("normal"), Column("integers")])
    asked = Moments() if isinstance(one, Join) else Through(Moments(), Columns((1, 2)))
    got, expected = contained(one, asked)(one.of(rows)), asked.of(rows)
    np.testing.assert_allclose(got.means(), expected.means(), rtol=1e-12)
    np.testing.assert_allclose(got.variance(), expected.variance(), rtol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_many_blocks(listed, offset):
    """The tree is deep, and errors that grow with the number of blocks would show."""
    statistic = listed.statistic
    rows = made_rows(20_000, [Column("normal", offset), Column("constant", offset)], weights="some zero", seed=5)
    rows = listed.made(rows)
    states = [statistic.of(part_of(rows, i, i + 5)) for i in range(0, rows.n, 5)]
    assert_close(answer(merge_all(statistic, states)), answer(statistic.of(rows)), "4,000 blocks", listed.slack(rows))


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int8", "bool"])
@pytest.mark.parametrize("weights", [None, "some zero"])
def test_every_library_gives_the_answer_of_numpy(listed, backend, dtype, weights):
    statistic = listed.statistic
    labels = [label for label in listed.labels if label != "text"]  # numbers, as libraries have them
    label = labels[["float64", "float32", "int64", "int8", "bool"].index(dtype) % len(labels)]
    if not backend.has(dtype):
        dtype = "float32"
    columns = listed.columns(
        Column("normal", 100.0), Column("some missing"), Column("missing"), Column("constant", -3.0)
    )
    rows = listed.made(made_rows(60, columns, dtype=dtype, weights=weights, labels=label))
    made = [None if part is None else backend.make(part) for part in (rows.X, rows.y, rows.w)]
    blocks = [None if part is None else backend.backend.blocks(part) for part in made]
    lengths = blocks[0].lengths
    parts = [None if part is None else part if part.lengths == lengths else part.recut(lengths) for part in blocks]
    states = [
        statistic.of(Rows(*(None if part is None else part.read(i) for part in parts))) for i in range(len(lengths))
    ]
    got = merge_all(statistic, states)
    slack = listed.slack(rows, CELL_ROUNDINGS * backend.rounding / np.finfo(np.float64).eps)
    assert_close(answer(got), answer(statistic.of(rows)), backend.name, slack)
    assert all(isinstance(leaf, (np.ndarray, int, float, str, type(None))) for _, leaf in leaves(got))


@pytest.mark.parametrize("label", TARGETS)
@pytest.mark.parametrize("name", ["Scatter with targets", "Triangle with targets"])
def test_targets_and_weights_of_the_host_follow_x_to_its_device(backend, name, label):
    """y and w may be NumPy arrays beside an X of any library."""
    listed = STATISTICS[name]
    rows = made_rows(
        60, [Column("normal", 3.0), Column("constant")], weights="some zero", labels=label, dtype="float32"
    )
    X = backend.backend.blocks(backend.make(rows.X))
    table = Table(X, *(ooclearn.scan(np.array(part)) for part in (rows.y, rows.w)))
    got = table.backend.fold(table, listed.statistic, work=Work("fold", "beside"))
    slack = listed.slack(rows, CELL_ROUNDINGS * backend.rounding / np.finfo(np.float64).eps)
    assert_close(answer(got), answer(listed.statistic.of(rows)), backend.name, slack)


@pytest.mark.parametrize("workers", [1, 3])
def test_one_cut_gives_the_same_bits_on_every_backend_of_the_host(listed, host_backend, workers):
    """Law 3: on NumPy and in a Dask graph, with any number of workers."""
    statistic = listed.statistic
    columns = listed.columns(Column("normal", 1e4), Column("some missing"), Column("integers"))
    rows = listed.made(made_rows(60, columns, weights="some zero", labels=listed.labels[0]))
    blocks = [host_backend.backend.blocks(host_backend.make(part)) for part in (rows.X, rows.y, rows.w)]
    table = Table(*blocks)
    host = Table(*(ooclearn.scan(part).recut(table.X.lengths) for part in (rows.X, rows.y, rows.w)))
    with ooclearn.config_context(workers=workers):
        got = table.backend.fold(table, statistic, work=Work("fold", "bits"))
    with ooclearn.config_context(workers=1):
        expected = host.backend.fold(host, statistic, work=Work("fold", "bits"))
    assert_identical(got, expected, host_backend.name)


@pytest.mark.parametrize("size", [1e200, 1e308, -1e308])
@pytest.mark.parametrize("name", [name for name, one in STATISTICS.items() if isinstance(one.statistic, PRODUCTS)])
def test_what_overflows_is_refused_and_no_warning_is_given(name, size):
    """Sums, squares and products of deviations, of cells of either sign or of one."""
    rng = np.random.default_rng(0)
    X = rng.uniform(0.5, 1.7, (50, 2)) * size * np.where(rng.random((50, 2)) < 0.5, -1 if size > 0 else 1, 1)
    rows = Rows(X, np.arange(50) % 2)
    if size == 1e200 and name.startswith("Triangle"):  # it squares nothing
        assert np.isfinite(STATISTICS[name].statistic.of(rows).factor).all()
        return
    with pytest.raises(DataError, match="overflow float64; scale"):
        STATISTICS[name].statistic.of(rows)
