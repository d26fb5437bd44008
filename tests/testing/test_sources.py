"""Sources for tests: reads counted, faults on demand; and what is looked for when a test is over."""

from __future__ import annotations

import gc
import pickle
import threading

import numpy as np
import pytest

from ooclearn.testing import CountingBlocks, CountingSource, FaultySource, nothing_left
from ooclearn.testing.strategies import cuts, tables
from ooclearn.testing.tables import Column, hostile_tables, made_rows, uneven_cut

X = np.arange(20.0).reshape(10, 2)


def test_reads_are_counted_however_the_blocks_are_cut_again():
    blocks = CountingBlocks(X, [4, 6])
    assert blocks.passes == 0
    list(blocks)
    assert blocks.reads == [(0, 4), (4, 10)]
    assert blocks.passes == 1
    again = blocks.recut((1, 9))
    list(again)
    assert again.passes == blocks.passes == 2
    blocks.read(0)
    with pytest.raises(AssertionError, match="rows of counted were read between 2 and 3 times"):
        _ = blocks.passes
    assert CountingBlocks(X[:0]).passes == 0


def test_what_is_read_is_a_copy():
    source = CountingSource(X)
    source.read(0, 2)[:] = -1
    out = np.empty((2, 2))
    assert source.read(0, 2, out) is out
    np.testing.assert_array_equal(out, X[:2])


@pytest.mark.parametrize("times", [1, 2, None])
def test_the_nth_read_fails(times):
    source = FaultySource(X, 2, OSError("no"), times=times)
    failed = []
    for n in range(6):
        try:
            source.read(0, 5)
        except OSError:
            failed.append(n)
    assert failed == list(range(2, 6 if times is None else 2 + times))


def test_other_faults():
    assert FaultySource(X, 0, "short").read(0, 5).shape == (4, 2)
    assert FaultySource(X, 0, "narrow").read(0, 5).shape == (5, 1)
    assert (FaultySource(X, 0, lambda rows: rows + 1).read(0, 5) == X[:5] + 1).all()
    assert FaultySource(X, None, "short").read(0, 5).shape == (5, 2)
    again = pickle.loads(pickle.dumps(FaultySource(X, 1, "short")))
    assert [again.read(0, 5).shape for _ in range(2)] == [(5, 2), (4, 2)]


def test_a_thread_left_behind_is_found(monkeypatch):
    monkeypatch.setattr("ooclearn.testing.leftovers._PATIENCE", 0.1)
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait, args=(10,), name="forgotten")
    with pytest.raises(AssertionError, match="thread 'forgotten'"), nothing_left():
        thread.start()
    with nothing_left(pools=("pool-",)):
        pooled = threading.Thread(target=go_on.wait, args=(10,), name="pool-1")
        pooled.start()
    go_on.set()
    thread.join()
    pooled.join()


def test_a_file_left_open_or_half_written_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("ooclearn.testing.leftovers._PATIENCE", 0.1)
    path = tmp_path / "x.npy"
    np.save(path, X)
    held = []
    with pytest.raises(AssertionError, match=r"open file .*x\.npy"), nothing_left():
        held.append(path.open("rb"))
    held.pop().close()
    gc.collect()
    with pytest.raises(AssertionError, match=r"temporary file \.x\.tmp"), nothing_left(tmp_path):
        (tmp_path / ".x.tmp").touch()


def test_an_error_inside_is_still_seen(tmp_path):
    with pytest.raises(ZeroDivisionError), nothing_left(tmp_path):
        raise ZeroDivisionError


def test_a_thread_that_is_about_to_end_is_waited_for():
    with nothing_left():
        threading.Timer(0.05, lambda: None).start()


def test_hostile_tables_hold_what_they_promise():
    found = list(hostile_tables())
    assert {rows.n for rows in found} >= {0, 1, 2}
    assert {rows.X.dtype.name for rows in found} == {"float64", "float32", "int64", "int8", "bool"}
    floating = [rows.X for rows in found if rows.X.dtype == np.float64 and rows.n > 2]
    assert all(np.isnan(X).all(axis=0).any() for X in floating), "a missing column"
    assert all((np.ptp(X, axis=0) == 0).any() for X in floating), "a constant column"
    assert all(np.nanmax(np.abs(X)) >= 1e8 for X in floating)
    assert any(rows.w is not None and not rows.w.any() for rows in found)
    assert not any(part.flags.writeable for rows in found for part in (rows.X, rows.y, rows.w) if part is not None)


def test_a_seed_makes_the_same_rows():
    columns = [Column("normal", 3.0), Column("some missing")]
    a, b = (made_rows(9, columns, weights="counts", labels="text", seed=1) for _ in range(2))
    for left, right in zip((a.X, a.y, a.w), (b.X, b.y, b.w), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("n", [0, 1, 2, 50, 1000])
def test_uneven_cuts(n):
    lengths = uneven_cut(n)
    assert sum(lengths) == n
    assert lengths
    if n >= 50:
        assert {0, 1} < set(lengths)
        assert max(lengths) > 1


def test_strategies_draw_what_they_promise():
    from hypothesis import find

    assert find(tables(), lambda rows: rows.n == 0).n == 0
    assert find(tables(), lambda rows: rows.n > 0 and rows.w is not None and not rows.w.any())
    assert find(cuts(5), lambda cut: 0 in cut and 5 in cut)
    assert sum(find(cuts(7), lambda cut: len(cut) > 3)) == 7
