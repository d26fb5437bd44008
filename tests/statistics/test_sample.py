"""Sample: every row as likely as every other, one sample for one cut, never more than n rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import ooclearn
from ooclearn.events import Work
from ooclearn.rowmaps import Affine
from ooclearn.statistics import Sample, merge_all
from ooclearn.table import Rows, Table
from ooclearn.testing.tables import part_of, uneven_cut


def numbered(n):
    return Rows(np.arange(n, dtype=float).reshape(-1, 1), np.arange(n), np.arange(n) + 0.5)


def drawn(sample, rows, lengths, *, known=False):
    """Return the sample of blocks of these lengths; `known` is whether they know where they begin."""
    starts = np.cumsum([0, *lengths])
    parts = (part_of(rows, int(a), int(a) + length) for a, length in zip(starts, lengths, strict=False))
    return merge_all(
        sample,
        [sample.of(replace(part, start=int(a)) if known else part) for a, part in zip(starts, parts, strict=False)],
    )


def assert_uniform(counts):
    """Each of the rows was drawn as often as the others, but for chance."""
    expected = counts.mean()
    # Draws without replacement vary a little less than chi2 says.
    assert stats.chi2.sf(((counts - expected) ** 2 / expected).sum(), len(counts) - 1) > 1e-4, counts


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("lengths", [(40,), (1,) * 40, (3, 0, 20, 17), (20, 20)])
def test_each_row_is_as_likely_as_each_other(lengths, known):
    rows = numbered(40)
    counts, first = np.zeros(40), np.zeros(40)
    for seed in range(600):
        state = drawn(Sample(8, seed), rows, lengths, known=known)
        assert len(np.unique(state.y)) == 8
        counts[state.y] += 1
        first[state.y[0]] += 1
    assert_uniform(counts)
    assert_uniform(first)


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("length", [1, 5, 30])
def test_blocks_that_hold_the_same(length, known):
    """Every row is as likely; and where it is known where a block begins, drawn whatever was drawn of its twins."""
    blocks, block = 6, numbered(length)
    cells = np.zeros((blocks, length))
    twins = 0
    for seed in range(600):
        sample = Sample(4, seed)
        states = [sample.of(replace(block, start=k * length if known else None)) for k in range(blocks)]
        # Told apart by a weight that was not there when the keys were drawn.
        states = [replace(state, w=np.full(len(state.keys), float(k))) for k, state in enumerate(states)]
        state = merge_all(sample, states)
        np.add.at(cells, (state.w.astype(int), state.y), 1)
        twins += len(state.y) - len(np.unique(state.y))
    assert_uniform(cells.sum(axis=1))
    assert_uniform(cells.ravel())
    if known and length == 30:
        pairs = 600 * 6 * (blocks - 1) / (blocks * length - 1)
        assert abs(twins - pairs) < 4 * np.sqrt(pairs)


@pytest.mark.parametrize("workers", [1, 3])
def test_one_sample_for_every_cut_and_every_number_of_workers(workers):
    rows = numbered(500)
    found = []
    for seed in range(3):
        table = Table(*(ooclearn.scan(part).recut(uneven_cut(500, seed)) for part in (rows.X, rows.y, rows.w)))
        with ooclearn.config_context(workers=workers):
            state = table.backend.fold(table, Sample(20, seed=1), work=Work("fold", "sample"))
        found.append((state.keys.tolist(), state.y.tolist()))
        np.testing.assert_array_equal(state.X[:, 0], state.y)
        np.testing.assert_array_equal(state.w, state.y + 0.5)
    assert found[0] == found[1] == found[2]
    whole = Sample(20, seed=1).of(replace(rows, start=0))
    assert found[0] == (whole.keys.tolist(), whole.y.tolist())
    assert Sample(20, seed=2).of(replace(rows, start=0)).y.tolist() != found[0][1]


def test_a_table_of_fewer_rows_is_kept():
    state = drawn(Sample(100), numbered(30), (10, 20))
    assert sorted(state.y) == list(range(30))
    assert repr(state) == "Sample: rows=30 | kept=30 | columns=1"


def test_labels_of_any_kind_and_missing_values_are_kept():
    rows = Rows(np.array([[np.nan], [1.0], [np.inf]]), np.array(["a", "bb", None], dtype=object))
    state = drawn(Sample(2), rows, (1, 1, 1))
    assert len(state.y) == len(state.X) == 2
    assert state.w is None


def test_rows_behind_a_map():
    state = Sample(5).of(numbered(50))
    behind = Sample(5).after(state, Affine(np.array([2.0]), center=np.array([1.0])))
    np.testing.assert_array_equal(behind.X[:, 0], 2 * (state.y - 1.0))


@pytest.mark.parametrize(("given", "message"), [({"n": 0}, "at least 1 row"), ({"n": 1, "seed": -1}, "seed must be")])
def test_bad_parameters(given, message):
    with pytest.raises(ValueError, match=message):
        Sample(**given)
