"""Every statistic under every law. A new statistic is one line in STATISTICS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ooclearn
import ooclearn.statistics
from ooclearn.events import Work
from ooclearn.rowmaps import Columns, Rowwise
from ooclearn.statistics import (
    Distinct,
    Extrema,
    Join,
    Moments,
    MomentsState,
    Scatter,
    ScatterState,
    Through,
    merge_all,
)
from ooclearn.table import Rows, Table
from ooclearn.testing import check_statistic
from ooclearn.testing.comparing import CELL_ROUNDINGS, assert_close, assert_identical, leaves, sway
from ooclearn.testing.tables import Column, hostile_tables, made_rows, part_of


def halved(block):
    return block * 0.5


def rounded(state):
    """Leave out the rest of the mean: it is what rounding has left, so it has no bound of its own."""
    if isinstance(state, (MomentsState, ScatterState)):
        return replace(state, rest=np.zeros_like(state.rest))
    return {name: rounded(part) for name, part in state.items()} if isinstance(state, dict) else state


# Name of a statistic, how to make it, and whether its answer must not depend on the cut by one bit.
STATISTICS = {
    "Moments": (Moments(), False),
    "Extrema": (Extrema(), True),
    "Scatter": (Scatter(), False),
    "Scatter with targets": (Scatter(target=True), False),
    "Distinct": (Distinct(), False),
    "Join": (Join(moments=Moments(), extrema=Extrema(), classes=Distinct()), False),
    "Through": (Through(Join(moments=Moments(), extrema=Extrema()), Columns((0, 0))), False),
    "Through a function": (Through(Extrema(), Rowwise(halved, out_dtype="float", host=True)), True),
}


@pytest.fixture(params=STATISTICS.values(), ids=STATISTICS)
def listed(request):
    return request.param


def test_every_statistic_is_listed():
    exported = (getattr(ooclearn.statistics, name) for name in ooclearn.statistics.__all__)
    found = {one.__name__ for one in exported if isinstance(one, type) and hasattr(one, "of") and hasattr(one, "merge")}
    assert found - {"Statistic"} == {type(statistic).__name__ for statistic, _ in STATISTICS.values()}


def test_drawn_tables(listed):
    statistic, exact = listed
    check_statistic(statistic, answer=rounded, roundings=0 if exact else CELL_ROUNDINGS)


def test_hostile_tables(listed):
    statistic, exact = listed
    check_statistic(statistic, rows=hostile_tables(), answer=rounded, roundings=0 if exact else CELL_ROUNDINGS)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_many_blocks(listed, offset):
    """The tree is deep, and errors that grow with the number of blocks would show."""
    statistic, _ = listed
    rows = made_rows(20_000, [Column("normal", offset), Column("constant", offset)], weights="some zero", seed=5)
    states = [statistic.of(part_of(rows, i, i + 5)) for i in range(0, rows.n, 5)]
    slack = sway(lambda moved: rounded(statistic.of(moved)), rows)
    assert_close(rounded(merge_all(statistic, states)), rounded(statistic.of(rows)), "4,000 blocks", slack)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int8", "bool"])
@pytest.mark.parametrize("weights", [None, "some zero"])
def test_every_library_gives_the_answer_of_numpy(listed, backend, dtype, weights):
    statistic, _ = listed
    if not backend.has(dtype):
        dtype = "float32"
    columns = [Column("normal", 100.0), Column("some missing"), Column("missing"), Column("constant", -3.0)]
    rows = made_rows(60, columns, dtype=dtype, weights=weights)
    made = [None if part is None else backend.make(part) for part in (rows.X, rows.y, rows.w)]
    blocks = [None if part is None else backend.backend.blocks(part) for part in made]
    lengths = blocks[0].lengths
    parts = [None if part is None else part if part.lengths == lengths else part.recut(lengths) for part in blocks]
    states = [
        statistic.of(Rows(*(None if part is None else part.read(i) for part in parts))) for i in range(len(lengths))
    ]
    got = merge_all(statistic, states)
    ratio = backend.rounding / np.finfo(np.float64).eps
    slack = sway(lambda moved: rounded(statistic.of(moved)), rows, CELL_ROUNDINGS * ratio)
    slack = {path: room + (backend.rounding if path.endswith(".rounding") else 0.0) for path, room in slack.items()}
    assert_close(rounded(got), rounded(statistic.of(rows)), backend.name, slack)
    assert all(isinstance(leaf, (np.ndarray, int, float, str)) for _, leaf in leaves(got))


@pytest.mark.parametrize("workers", [1, 3])
def test_one_cut_gives_the_same_bits_on_every_backend_of_the_host(listed, host_backend, workers):
    """Law 3: on NumPy and in a Dask graph, with any number of workers."""
    statistic, _ = listed
    rows = made_rows(60, [Column("normal", 1e4), Column("some missing")], weights="some zero")
    blocks = [host_backend.backend.blocks(host_backend.make(part)) for part in (rows.X, rows.y, rows.w)]
    table = Table(*blocks)
    host = Table(*(ooclearn.scan(part).recut(table.X.lengths) for part in (rows.X, rows.y, rows.w)))
    with ooclearn.config_context(workers=workers):
        got = table.backend.fold(table, statistic, work=Work("fold", "bits"))
    with ooclearn.config_context(workers=1):
        expected = host.backend.fold(host, statistic, work=Work("fold", "bits"))
    assert_identical(got, expected, host_backend.name)
